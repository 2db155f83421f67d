"""Pilot's stream: `protocol` is the conversation as a state machine, `transport` gRPC for trio, `client` keeps them going."""
