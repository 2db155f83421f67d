"""Thrift's messages: calls whose name may be rewritten, and responses that know how their call ended.

(As msgspec.Struct, see `RpcResponse`.)
"""

from copy import copy
from typing import Final

from mosn_xds.data.codec.rpc.messages import RpcRequest, RpcResponse

RESULT: Final = b"result"
EXCEPTION: Final = b"exception"


class ThriftRequest(RpcRequest, gc=False):
    """A call. `name` is what it came under; who gives it another path gives it that name. There are no properties to edit."""

    name: bytes = b""

    @property
    def edited(self) -> bool:
        return self.path != self.name

    def copy(self) -> "ThriftRequest":
        """A head of its own with the same content and the same frame."""
        twin = copy(self)
        twin.fields = list(self.fields)
        return twin


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
