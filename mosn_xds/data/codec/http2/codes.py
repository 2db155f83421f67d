"""HTTP/2's numbers: error codes (RFC 9113 section 7), settings (6.5.2) and frame types (6), and Envoy's words for them."""

from enum import IntEnum

from mosn_xds.base.errors import ResetReason


class ErrorCode(IntEnum):
    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


class SettingId(IntEnum):
    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6
    ENABLE_CONNECT_PROTOCOL = 8


class FrameType(IntEnum):
    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
LAST_STREAM_ID = (1 << 31) - 1

REMOTE_RESET = "http2.remote_reset"
REMOTE_REFUSED = "http2.remote_refuse"
MESSAGING_VIOLATION = "http2.violation.of.messaging.rule"
TOO_MANY_HEADERS = "http2.too_many_headers"
HEADERS_TOO_LARGE = "http2.header_list_size_too_large"
UNEXPECTED_UNDERSCORE = "http2.unexpected_underscore"
EMPTY_FRAMES_FLOOD = "http2.inbound_empty_frames_flood"
PRIORITY_FLOOD = "http2.inbound_priority_frames_flood"
WINDOW_UPDATE_FLOOD = "http2.inbound_window_update_frames_flood"
OUTBOUND_FLOOD = "http2.outbound_frames_flood"
OUTBOUND_CONTROL_FLOOD = "http2.outbound_control_frames_flood"


def remote_reset(code: int) -> tuple[ResetReason, str]:
    """What a peer's RST_STREAM with this code means to a stream, and the details that say so."""
    if code == ErrorCode.REFUSED_STREAM:
        return ResetReason.REMOTE_REFUSED, REMOTE_REFUSED
    if code == ErrorCode.CONNECT_ERROR:
        return ResetReason.CONNECT_ERROR, REMOTE_RESET
    if code == ErrorCode.PROTOCOL_ERROR:
        return ResetReason.PROTOCOL_ERROR, REMOTE_RESET
    return ResetReason.REMOTE_RESET, REMOTE_RESET


def codec_error(cause: str) -> str:
    """The details of streams whose connection has failed."""
    return "codec_error:" + cause.replace(" ", "_")


def goaway_frame(last_stream_id: int, code: int) -> bytes:
    """A GOAWAY frame, for when the library that should have written it has given up."""
    head = b"\x00\x00\x08\x07\x00\x00\x00\x00\x00"
    return head + last_stream_id.to_bytes(4, "big") + code.to_bytes(4, "big")
