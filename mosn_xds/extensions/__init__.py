"""Messages of our own, compiled from `proto/` by `make proto`. Only the agent imports them."""
