"""What Bolt can be configured with. (As a msgspec.Struct, see `RpcOptions`.)"""

from mosn_xds.data.codec.rpc.options import RpcOptions


class BoltOptions(RpcOptions, frozen=True):
    """`goaway`: whether clients are told to leave by a GOAWAY frame, command code 100.

    That code is MOSN's own. Java's SOFABolt does not know it and may close the connection with its calls, sofa-bolt-node
    takes it for a call; so only where all clients are proxies. GOAWAYs of servers are heeded always.
    """

    goaway: bool = False
