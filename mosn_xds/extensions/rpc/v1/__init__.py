"""Package mosn_xds.extensions.rpc.v1."""
