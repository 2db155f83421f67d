"""Messages whose properties are read when somebody asks for one.

To find properties costs more than all else that a proxy wants to know of a frame, and most messages pass without a look at
them. So such a message keeps its frame, and `fields` reads on; until then `original` is None. A protocol says in
`_properties` where they are.

(Structs, as every head: msgspec.Struct.)
"""

from copy import copy
from typing import TypeVar

from mosn_xds.data.codec.head import Fields, RequestHead, ResponseHead
from mosn_xds.data.codec.rpc.messages import RpcRequest, RpcResponse

# Where structs keep what the properties below stand before.
_request_fields = RequestHead.__dict__["fields"]
_response_fields = ResponseHead.__dict__["fields"]

R = TypeVar("R", bound="LazyRequest")


class LazyRequest(RpcRequest, gc=False):
    """A request; see the module."""

    @property  # type: ignore[misc]
    def fields(self) -> Fields:
        if self.original is None:
            self._read()
        fields: Fields = _request_fields.__get__(self)
        return fields

    @fields.setter
    def fields(self, fields: Fields) -> None:
        if self.original is None:
            self._read()
        _request_fields.__set__(self, fields)

    @property
    def edited(self) -> bool:
        return self.original is not None and self.fields != self.original

    def copy(self: R) -> R:
        """A head of its own with the same content and the same frame."""
        twin = copy(self)
        _request_fields.__set__(twin, list(_request_fields.__get__(self)))
        return twin

    def _properties(self) -> Fields:
        """The properties in the frame; none where they cannot be read: it is too late then to refuse it."""
        raise NotImplementedError

    def _read(self) -> None:
        self.original = found = self._properties()
        _request_fields.__set__(self, list(found))


class LazyResponse(RpcResponse, gc=False):
    """A response; see the module."""

    @property  # type: ignore[misc]
    def fields(self) -> Fields:
        if self.original is None:
            self._read()
        fields: Fields = _response_fields.__get__(self)
        return fields

    @fields.setter
    def fields(self, fields: Fields) -> None:
        if self.original is None:
            self._read()
        _response_fields.__set__(self, fields)

    @property
    def edited(self) -> bool:
        return self.original is not None and self.fields != self.original

    def _properties(self) -> Fields:
        """As `LazyRequest._properties`."""
        raise NotImplementedError

    def _read(self) -> None:
        self.original = found = self._properties()
        _response_fields.__set__(self, list(found))
