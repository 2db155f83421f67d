"""Answers that the proxy makes itself, in the form that the client's protocol expects.

Plain HTTP gets the status with a ``text/plain`` body; a gRPC request gets 200 with ``grpc-status`` and ``grpc-message``
(Envoy's `Utility::sendLocalReply`). `local_reply_config` may change status, headers and body for either.
"""

from typing import TYPE_CHECKING, Final

from mosn_xds.data.codec.grpc import grpc_status_of, percent_encode
from mosn_xds.data.codec.head import Fields, ResponseHead
from mosn_xds.data.filters.api import Reply
from mosn_xds.data.observe.formatter import Formatter, JsonFormatter
from mosn_xds.data.observe.getters import FormatEnvironment
from mosn_xds.data.observe.log_filter import LogPredicate, compile_log_filter
from mosn_xds.data.proxy.header_ops import HeaderEdits
from mosn_xds.spec.listener import HttpConnectionManager, LocalReplyMapper, ReplyFormat

if TYPE_CHECKING:
    from mosn_xds.data.proxy.stream import Stream

_GRPC_RESOURCE_EXHAUSTED: Final = 8


def reply_head(
    reply: Reply, *, grpc: bool, body: bytes, content_type: bytes = b"text/plain"
) -> tuple[ResponseHead, bytes]:
    """Head and body of `reply`; `body` is the reply's or what local_reply_config made of it."""
    fields: Fields = []
    if grpc:
        status = reply.grpc_status if reply.grpc_status is not None else grpc_status_of(reply.status)
        fields.append((b"content-type", b"application/grpc"))
        fields.append((b"grpc-status", b"%d" % status))
        if body:
            fields.append((b"grpc-message", percent_encode(body)))
        if reply.fields:
            fields += reply.fields
        return ResponseHead(200, fields), b""
    if body:
        fields.append((b"content-length", b"%d" % len(body)))
        fields.append((b"content-type", content_type))
    if reply.fields:
        fields += reply.fields
    return ResponseHead(reply.status, fields), body


class LocalReplies:
    """`local_reply_config` of a connection manager, compiled. Raises ConfigError."""

    __slots__ = ("_format", "_mappers")

    def __init__(self, spec: HttpConnectionManager, environment: FormatEnvironment) -> None:
        self._mappers = tuple(_Mapper(mapper, environment) for mapper in spec.local_reply_mappers)
        self._format = _Body(spec.local_reply_format, environment)

    @classmethod
    def of(cls, spec: HttpConnectionManager, environment: FormatEnvironment) -> "LocalReplies | None":
        """None when nothing is configured."""
        if spec.local_reply_mappers or spec.local_reply_format is not None:
            return cls(spec, environment)
        return None

    def apply(self, stream: "Stream", reply: Reply) -> tuple[Reply, bytes, bytes]:
        """The reply as it is to be sent, its body, and the body's content type."""
        stream.response_code = reply.status
        stream.local_reply_body = reply.body
        for mapper in self._mappers:
            if mapper.matches(stream):
                return mapper.apply(stream, reply, self._format)
        return (reply, *self._format.render(stream, reply.body))


class _Body:
    """A SubstitutionFormatString for bodies; without one the body stays."""

    __slots__ = ("_content_type", "_json", "_text")

    def __init__(self, spec: ReplyFormat | None, environment: FormatEnvironment) -> None:
        self._text: Formatter | None = None
        self._json: JsonFormatter | None = None
        self._content_type = b"text/plain"
        if spec is None:
            return
        if spec.text is not None:
            self._text = Formatter(spec.text, environment)
        elif spec.json is not None:
            self._json = JsonFormatter(spec.json, environment)
            self._content_type = b"application/json"
        if spec.content_type:
            self._content_type = spec.content_type.encode()

    def render(self, stream: "Stream", body: bytes) -> tuple[bytes, bytes]:
        if self._text is not None:
            body = self._text.render(stream)
        elif self._json is not None:
            body = self._json.render(stream) + b"\n"
        return body, self._content_type


class _Mapper:
    __slots__ = ("_body", "_edits", "_format", "_status", "matches")

    def __init__(self, spec: LocalReplyMapper, environment: FormatEnvironment) -> None:
        self.matches: LogPredicate = compile_log_filter(spec.filter, environment)
        self._status = spec.status
        self._body = spec.body.encode() if spec.body is not None else None
        self._format = _Body(spec.body_format, environment) if spec.body_format is not None else None
        self._edits = HeaderEdits(spec.headers, (), environment)

    def apply(self, stream: "Stream", reply: Reply, default: _Body) -> tuple[Reply, bytes, bytes]:
        body = self._body if self._body is not None else reply.body
        stream.local_reply_body = body
        status = self._status if self._status is not None else reply.status
        stream.response_code = status
        head = ResponseHead(status, list(reply.fields or ()))
        self._edits.apply(head, stream)
        changed = Reply(
            status, body, details=reply.details, flags=reply.flags, fields=head.fields, grpc_status=reply.grpc_status
        )
        return (changed, *(self._format or default).render(stream, body))
