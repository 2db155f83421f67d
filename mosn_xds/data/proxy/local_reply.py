"""Answers that the proxy makes itself, in the form that the client's protocol expects.

Plain HTTP gets the status with a ``text/plain`` body; a gRPC request gets 200 with ``grpc-status`` and ``grpc-message``
(Envoy's `Utility::sendLocalReply`). `local_reply_config` may change status, headers and body for either.
"""

from mosn_xds.data.codec.head import Fields, ResponseHead
from mosn_xds.data.filters.api import Reply

_GRPC_OF_HTTP = {400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 502: 14, 503: 14, 504: 14}
_GRPC_UNKNOWN = 2
_GRPC_RESOURCE_EXHAUSTED = 8

_SAFE = frozenset(range(0x20, 0x7F)) - {0x25}


def is_grpc(content_type: bytes | None) -> bool:
    """``application/grpc`` or ``application/grpc+...``; grpc-web is something else."""
    if content_type is None or not content_type.startswith(b"application/grpc"):
        return False
    return len(content_type) == 16 or content_type[16] == 0x2B


def grpc_status_of(http_status: int) -> int:
    """The gRPC status that stands for an HTTP one (gRPC's http-grpc-status-mapping)."""
    return _GRPC_OF_HTTP.get(http_status, _GRPC_UNKNOWN)


def percent_encode(text: bytes) -> bytes:
    """``grpc-message`` encoding (gRPC over HTTP/2, "Responses")."""
    return b"".join(b"%c" % c if c in _SAFE else b"%%%02X" % c for c in text)


def reply_head(reply: Reply, *, grpc: bool, body: bytes, content_type: bytes = b"text/plain") -> tuple[ResponseHead, bytes]:
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
