"""A Thrift response: an RPC response that knows how its call ended. (As a msgspec.Struct, see `RpcResponse`.)"""

from typing import Final

from mosn_xds.data.codec.rpc.messages import RpcResponse

RESULT: Final = b"result"
EXCEPTION: Final = b"exception"


class ThriftResponse(RpcResponse, gc=False):
    """`get(b"result")` says how the call ended: ``value``, ``void``, or ``exception``, whether declared or not.

    Thrift has no other properties.
    """

    result: bytes = b""

    @property
    def failed(self) -> bool:
        return self.result == EXCEPTION

    def get(self, name: bytes) -> bytes | None:
        return self.result if name == RESULT else super().get(name)

    def get_all(self, name: bytes) -> list[bytes]:
        return [self.result] if name == RESULT else super().get_all(name)
