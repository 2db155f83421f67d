"""What gRPC over HTTP/2 says about content types, statuses and messages (PROTOCOL-HTTP2.md), for those who answer in its way."""

from typing import Final

_GRPC: Final = b"application/grpc"
_PLUS: Final = 0x2B
_OF_HTTP: Final = {400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 502: 14, 503: 14, 504: 14}
_UNKNOWN: Final = 2
_SAFE: Final = frozenset(range(0x20, 0x7F)) - {0x25}


def is_grpc(content_type: bytes | None) -> bool:
    """``application/grpc`` or ``application/grpc+...``; grpc-web is something else."""
    if content_type is None or not content_type.startswith(_GRPC):
        return False
    return len(content_type) == len(_GRPC) or content_type[len(_GRPC)] == _PLUS


def grpc_status_of(http_status: int) -> int:
    """The gRPC status that stands for an HTTP one (gRPC's http-grpc-status-mapping)."""
    return _OF_HTTP.get(http_status, _UNKNOWN)


def percent_encode(text: bytes) -> bytes:
    """``grpc-message`` encoding (gRPC over HTTP/2, "Responses")."""
    return b"".join(b"%c" % c if c in _SAFE else b"%%%02X" % c for c in text)
