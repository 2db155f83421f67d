"""A Bolt request: an RPC request that knows the class of what it carries. (As a msgspec.Struct, see `RpcRequest`.)"""

from copy import copy

from mosn_xds.data.codec.rpc.bolt.wire import class_name
from mosn_xds.data.codec.rpc.messages import RpcRequest

CLASS = b":class"


class BoltRequest(RpcRequest, gc=False):
    """`get(b":class")` is the name of the class of the request's content, as of a pseudo header.

    So it can be matched and logged like a property. It is none: it has no place in `fields`, nor ever in the header block,
    and cannot be set, for it says how to read the content. It is read from the frame when somebody asks.
    """

    def copy(self) -> "BoltRequest":
        """A head of its own with the same content and the same frame."""
        twin = copy(self)
        twin.fields = list(self.fields)
        return twin

    def _pseudo(self, name: bytes) -> bytes | None:
        return class_name(self.frame) or None if name == CLASS else super()._pseudo(name)

    def _set_pseudo(self, name: bytes, value: bytes) -> bool:
        return name == CLASS or super()._set_pseudo(name, value)
