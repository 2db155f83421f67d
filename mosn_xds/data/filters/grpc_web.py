"""envoy.filters.http.grpc_web: gRPC calls of browsers, which cannot see trailers, for servers that speak gRPC proper.

A request of content type ``application/grpc-web`` (or ``-text``, in base64) becomes ``application/grpc``; in the response the
trailers become a last frame of the body (flag 0x80, length, ``name:value`` lines), in base64 again where the client accepts
``application/grpc-web-text``. The format is gRPC's PROTOCOL-WEB.md, the header rules are Envoy's (grpc_web_filter.cc). Other
requests pass untouched.

An answer that is no gRPC (an HTTP error) gets a status that stands for its own, and its body as the message, in such a last
frame: the body need not be held back for that.
"""

import base64
import binascii

from mosn_xds.data.codec.grpc import grpc_status_of, is_grpc, percent_encode
from mosn_xds.data.codec.head import Fields, ResponseHead
from mosn_xds.data.filters.api import DataVerdict, FilterStream, Reply, StreamFilter

_TEXT = frozenset((b"application/grpc-web-text", b"application/grpc-web-text+proto"))
_WEB = frozenset((b"application/grpc-web", b"application/grpc-web+proto")) | _TEXT
_CONTENT_TYPE = b"content-type"
_TRAILER_FLAG = b"\x80"
_GROUP = 4
"""Base64 characters that stand for whole bytes."""
_MOST_MESSAGE_BYTES = 4096
_STATUS = b"grpc-status"
_BAD_BASE64 = b"Bad gRPC-web request, invalid base64 data."


class _WebCall:
    """One gRPC-web call: what is left over of base64, either way."""

    __slots__ = ("message", "status", "text_request", "text_response", "unread", "unsent")

    def __init__(self, *, text_request: bool, text_response: bool) -> None:
        self.text_request = text_request
        self.text_response = text_response
        self.unread = b""
        self.unsent = b""
        self.status: int | None = None
        """What stands for the status of an answer that is no gRPC; its body becomes `message`."""
        self.message = b""

    def last_frame(self, fields: Fields) -> bytes:
        """Trailers as the end of the body."""
        lines = b"".join(name + b":" + value + b"\r\n" for name, value in fields)
        frame = _TRAILER_FLAG + len(lines).to_bytes(4, "big") + lines
        return base64.b64encode(self.unsent + frame) if self.text_response else frame

    def outcome(self) -> Fields:
        """The trailers of an answer that is no gRPC."""
        fields = [(_STATUS, b"%d" % (self.status or 0))]
        if self.message:
            fields.append((b"grpc-message", percent_encode(self.message)))
        return fields


class GrpcWebFilter(StreamFilter):
    """One grpc_web filter of a chain."""

    def __init__(self) -> None:
        """It has no options."""

    def on_request(self, stream: FilterStream, end: bool) -> None:
        head = stream.request
        kind = head.get(_CONTENT_TYPE)
        if kind not in _WEB:
            return
        head.remove(b"content-length")
        head.set(_CONTENT_TYPE, b"application/grpc")
        head.set(b"te", b"trailers")
        head.set(b"grpc-accept-encoding", b"identity")
        stream.state[self] = _WebCall(text_request=kind in _TEXT, text_response=head.get(b"accept") in _TEXT)

    def on_request_data(self, stream: FilterStream, data: bytes, end: bool) -> DataVerdict:
        call: _WebCall | None = stream.state.get(self)
        if call is None or not call.text_request:
            return None
        data = call.unread + data
        whole = len(data) // _GROUP * _GROUP
        if end and whole != len(data):
            return Reply(400, _BAD_BASE64, details="grpc_base_64_decode_failed_bad_size")
        call.unread = data[whole:]
        try:
            return base64.b64decode(data[:whole], validate=True)
        except binascii.Error:
            return Reply(400, _BAD_BASE64, details="grpc_base_64_decode_failed")

    def on_response(self, stream: FilterStream, head: ResponseHead, end: bool) -> None:
        call: _WebCall | None = stream.state.get(self)
        if call is None:
            return
        if not end:
            head.remove(b"content-length")
        if head.get(_STATUS) is None and not (head.status == 200 and is_grpc(head.get(_CONTENT_TYPE))):
            call.status = grpc_status_of(head.status)
        head.set(
            _CONTENT_TYPE, b"application/grpc-web-text+proto" if call.text_response else b"application/grpc-web+proto"
        )

    def on_response_data(self, stream: FilterStream, data: bytes, end: bool) -> bytes | None:
        call: _WebCall | None = stream.state.get(self)
        if call is None:
            return None
        if call.status is not None:
            call.message = (call.message + data)[:_MOST_MESSAGE_BYTES]
            return call.last_frame(call.outcome()) if end else b""
        if not call.text_response:
            return None
        data = call.unsent + data
        whole = len(data) if end else len(data) // 3 * 3  # without padding, so that parts may be put together
        call.unsent = data[whole:]
        return base64.b64encode(data[:whole])

    def on_response_trailers(self, stream: FilterStream, fields: Fields) -> bytes | None:
        call: _WebCall | None = stream.state.get(self)
        if call is None:
            return None
        return call.last_frame(fields if call.status is None else call.outcome())

    def __repr__(self) -> str:
        return f"<GrpcWebFilter {self.name}>"
