"""Bolt's messages: heads whose properties are the header block, read when somebody asks for one; that it is a right one was
seen when the message came. (Structs, as every head: msgspec.Struct.)"""

from mosn_xds.data.codec.head import Fields
from mosn_xds.data.codec.rpc.bolt import wire
from mosn_xds.data.codec.rpc.lazy import LazyRequest, LazyResponse

CLASS = b":class"


class BoltRequest(LazyRequest, gc=False):
    """`get(b":class")` is the name of the class of the request's content, as of a pseudo header.

    So it can be matched and logged like a property. It is none: it has no place in `fields`, nor ever in the header block,
    and cannot be set, for it says how to read the content. It is read from the frame when somebody asks.
    """

    def _properties(self) -> Fields:
        return wire.fields_of(self.frame)

    def _pseudo(self, name: bytes) -> bytes | None:
        return wire.class_name(self.frame) or None if name == CLASS else super()._pseudo(name)

    def _set_pseudo(self, name: bytes, value: bytes) -> bool:
        return name == CLASS or super()._set_pseudo(name, value)


class BoltResponse(LazyResponse, gc=False):
    """A response."""

    def _properties(self) -> Fields:
        return wire.fields_of(self.frame)
