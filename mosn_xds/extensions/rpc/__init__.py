"""RPC protocols."""
