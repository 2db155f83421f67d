"""The contract between the two halves: frozen Specs, Snapshots, and the messages of the feed. No protobuf, no sockets."""
