"""Dubbo's messages: heads whose properties are the attachments, read when somebody asks for one.

Attachments stand behind the arguments, so a message keeps where in its frame what is unread begins, and `fields` reads on
(`mosn_xds.data.codec.rpc.lazy`). Attachments that cannot be read are none, as for Envoy: it is too late then to refuse the
message, and its frame goes on as it came.

What stands in front of the arguments answers to names of its own, `VERSION` and others below, before any attachment of such
a name. Like Envoy's they cannot be set, which makes an attachment; Java's servers go by that.

(Structs, as every head: msgspec.Struct.)
"""

from typing import Final

from mosn_xds.data.codec.head import Fields
from mosn_xds.data.codec.rpc.dubbo import attachments, hessian2
from mosn_xds.data.codec.rpc.lazy import LazyRequest, LazyResponse
from mosn_xds.data.codec.rpc.messages import BadFrame

HEAD_BYTES: Final = 16
"""Before the body, in each frame."""

DUBBO: Final = b"dubbo"
VERSION: Final = b"version"
GENERIC_METHOD: Final = b"generic.method"
ARGUMENT: Final = b":argument."
"""With the number of an argument behind it, from 0: that, if it is a string."""
RESULT: Final = b"result"
EXCEPTION: Final = b"exception"
ERROR: Final = b"error"

GENERIC: Final = (b"$invoke", b"$invokeAsync")
"""What the methods of a generic service are called; the one that is meant is their first argument."""


class DubboRequest(LazyRequest, gc=False):
    """A request. `types_at` is where in `frame` the types of the arguments stand.

    `get` knows `VERSION`, of the service, `DUBBO`, the version of that, `ARGUMENT` with a number, and of calls of a generic
    service `GENERIC_METHOD`, besides attachments.
    """

    types_at: int = 0

    def get(self, name: bytes) -> bytes | None:
        own = self._own(name)
        return super().get(name) if own is None else own

    def get_all(self, name: bytes) -> list[bytes]:
        own = self._own(name)
        return super().get_all(name) if own is None else [own]

    def _own(self, name: bytes) -> bytes | None:
        frame = self.frame
        if name == VERSION:
            return hessian2.read_strings(frame, HEAD_BYTES, 3)[0][2]
        if name == DUBBO:
            return hessian2.read_string(frame, HEAD_BYTES)[0]
        if name == GENERIC_METHOD and self.method in GENERIC:
            name = ARGUMENT + b"0"
        if name.startswith(ARGUMENT) and name[len(ARGUMENT) :].isdigit():
            try:
                return attachments.argument(frame, self.types_at, int(name[len(ARGUMENT) :]))
            except BadFrame:
                return None
        return None

    def _properties(self) -> Fields:
        body = hessian2.Body()
        try:
            at = attachments.after_arguments(self.frame, self.types_at, body)
            return attachments.read(self.frame, at, body)
        except BadFrame:
            return []


class DubboResponse(LazyResponse, gc=False):
    """A response. `get` knows `RESULT`, which says what it brings, besides attachments.

    `result` is ``value``, ``null``, ``exception``, or ``error``: the text of a status that is not OK. `value_at` is where in
    `frame` it stands, or where the attachments do if it is null.
    """

    result: bytes = b""
    value_at: int = 0

    @property
    def failed(self) -> bool:
        return self.result in (EXCEPTION, ERROR)

    def get(self, name: bytes) -> bytes | None:
        return self.result if name == RESULT else super().get(name)

    def get_all(self, name: bytes) -> list[bytes]:
        return [self.result] if name == RESULT else super().get_all(name)

    def _properties(self) -> Fields:
        body = hessian2.Body()
        try:
            at = attachments.after_value(self.frame, self.value_at, self.result, body)
            return attachments.read(self.frame, at, body)
        except BadFrame:
            return []
