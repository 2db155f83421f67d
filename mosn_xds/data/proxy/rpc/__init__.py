"""The RPC proxy: what serves connections of RPC protocols, request by request."""
