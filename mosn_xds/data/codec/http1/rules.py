"""The rules of HTTP/1 heads that llhttp does not know: methods, targets, hosts, Connection, transfer codings.

llhttp (httptools) refuses most of what is malformed; these rules stand on top, and follow Envoy 1.40 in what is refused
and with which status and response code details. RFC 9112 sections 3.2 (targets and Host), 6.1 and 11 (smuggling).
Everything here is a pure function or a table.
"""

from typing import Final

from mosn_xds.data.codec.head import Fields

CODEC_ERROR: Final = "http1.codec_error"
INVALID_URL: Final = "http1.invalid_url"
INVALID_SCHEME: Final = "http1.invalid_scheme"
INVALID_AUTHORITY: Final = "http.invalid_authority"
INVALID_CHARACTERS: Final = "http1.invalid_characters"
INVALID_TRANSFER_ENCODING: Final = "http1.invalid_transfer_encoding"
TRANSFER_ENCODING_NOT_ALLOWED: Final = "http1.transfer_encoding_not_allowed"
CHUNKED_CONTENT_LENGTH: Final = "http1.content_length_and_chunked_not_allowed"
BODY_DISALLOWED: Final = "http1.body_disallowed"
CONNECTION_HEADER_REJECTED: Final = "http1.connection_header_rejected"
UNEXPECTED_UNDERSCORE: Final = "http1.unexpected_underscore"
HEADERS_TOO_LARGE: Final = "http1.headers_too_large"
TOO_MANY_HEADERS: Final = "http1.too_many_headers"
LOW_VERSION: Final = "low_version"
UNASKED_UPGRADE: Final = "http1.unasked_upgrade"
INVALID_STATUS: Final = "http1.invalid_status"
PREMATURE_END: Final = "http1.premature_end_of_response"

BAD_REQUEST: Final = 400
UPGRADE_REQUIRED: Final = 426
HEADERS_TOO_LARGE_STATUS: Final = 431
NOT_IMPLEMENTED: Final = 501


class Refused(Exception):
    """A message is refused; raised inside the parser's callbacks, turned into an event by the codec."""

    def __init__(self, details: str, status: int = BAD_REQUEST) -> None:
        super().__init__(details)
        self.details = details
        self.status = status


METHODS: Final = {
    name: name
    for name in (
        b"GET POST PUT DELETE HEAD OPTIONS PATCH CONNECT TRACE ACL BIND CHECKOUT COPY LINK LOCK MERGE MKACTIVITY "
        b"MKCALENDAR MKCOL MOVE NOTIFY PROPFIND PROPPATCH PURGE QUERY REBIND REPORT SEARCH SOURCE SUBSCRIBE "
        b"UNBIND UNLINK UNLOCK UNSUBSCRIBE"
    ).split()
}
"""What Envoy accepts: each method is its own canonical object."""

BODYLESS_METHODS: Final = frozenset((b"GET", b"HEAD", b"DELETE", b"TRACE", b"CONNECT"))
"""A request with one of these and without a body says nothing of a body; others say ``content-length: 0``."""

_AUTHORITY_BYTES: Final = b"!$%&'()*+,-.0123456789:;=@ABCDEFGHIJKLMNOPQRSTUVWXYZ[]_abcdefghijklmnopqrstuvwxyz~"

_COMMON_NAMES: Final = (
    b"accept accept-charset accept-encoding accept-language accept-ranges access-control-allow-origin "
    b"access-control-request-headers access-control-request-method age allow authorization baggage cache-control "
    b"content-disposition content-encoding content-language content-length content-range content-type cookie date dnt "
    b"etag expect expires forwarded from grpc-accept-encoding grpc-encoding grpc-message grpc-status grpc-timeout "
    b"if-match if-modified-since if-none-match if-range if-unmodified-since last-modified link location origin pragma "
    b"priority range referer retry-after sec-ch-ua sec-ch-ua-mobile sec-ch-ua-platform sec-fetch-dest sec-fetch-mode "
    b"sec-fetch-site sec-fetch-user sec-websocket-accept sec-websocket-extensions sec-websocket-key "
    b"sec-websocket-protocol sec-websocket-version server set-cookie strict-transport-security traceparent tracestate "
    b"upgrade-insecure-requests user-agent vary via www-authenticate x-b3-flags x-b3-parentspanid x-b3-sampled "
    b"x-b3-spanid x-b3-traceid x-content-type-options x-envoy-attempt-count x-envoy-decorator-operation "
    b"x-envoy-expected-rq-timeout-ms x-envoy-external-address x-envoy-internal x-envoy-original-path "
    b"x-envoy-peer-metadata x-envoy-peer-metadata-id x-envoy-upstream-service-time x-forwarded-client-cert "
    b"x-forwarded-for x-forwarded-host x-forwarded-port x-forwarded-proto x-frame-options x-ot-span-context x-powered-by "
    b"x-real-ip x-request-id x-requested-with"
).split()


_IRREGULAR_SPELLINGS: Final = (
    b"DNT ETag Sec-WebSocket-Accept Sec-WebSocket-Extensions Sec-WebSocket-Key Sec-WebSocket-Protocol "
    b"Sec-WebSocket-Version WWW-Authenticate X-B3-ParentSpanId X-B3-SpanId X-B3-TraceId X-Real-IP"
).split()


def _canonical_names() -> dict[bytes, bytes]:
    table: dict[bytes, bytes] = {}
    for name in _COMMON_NAMES:
        table[name] = table[name.title()] = name
    for spelling in _IRREGULAR_SPELLINGS:
        table[spelling] = table[spelling.lower()]
    return table


CANONICAL_NAMES: Final = _canonical_names()
"""Spelling on the wire -> the one lower-case object, for names that are common and need no treatment.

One probe replaces lower-casing and the question whether a name is special; and names that are the same object compare
at once wherever they are looked up later.
"""


def valid_authority(authority: bytes) -> bool:
    """Whether every byte may stand in a Host field (RFC 3986 reg-name with port and userinfo; nghttp2's table)."""
    return not authority.translate(None, _AUTHORITY_BYTES)


def split_absolute_form(target: bytes) -> tuple[bytes, bytes, bytes]:
    """``http://host:port/path?query`` as (scheme, authority, path); userinfo is dropped. Raises `Refused`."""
    scheme, separator, rest = target.partition(b"://")
    if not separator:
        raise Refused(CODEC_ERROR)
    scheme = scheme.lower()
    if scheme not in (b"http", b"https"):
        raise Refused(INVALID_SCHEME)
    end = min((at for at in map(rest.find, (b"/", b"?", b"#")) if at >= 0), default=len(rest))
    authority = rest[:end].rpartition(b"@")[2]
    if not _is_host_port(authority, port_required=False):
        raise Refused(INVALID_URL)
    return scheme, authority, rest[end:] or b"/"


def check_authority_form(target: bytes) -> None:
    """CONNECT's target is ``host:port`` and nothing else. Raises `Refused`."""
    if b"@" in target or not _is_host_port(target, port_required=True):
        raise Refused(INVALID_URL)


def _is_host_port(authority: bytes, *, port_required: bool) -> bool:
    host, colon, port = authority.rpartition(b":")
    if authority.endswith(b"]") or not colon:
        host, port = authority, b""
        if port_required:
            return False
    elif not (port.isdigit() and len(port) <= 5 and int(port) <= 0xFFFF):
        return False
    if not host or not valid_authority(host):
        return False
    return host.startswith(b"[") == host.endswith(b"]") and (b":" not in host or host.startswith(b"["))


CONTROLS: Final = bytes([*range(0x09), *range(0x0A, 0x20), 0x7F])

_NOT_NOMINATIONS: Final = frozenset((b"close", b"keep-alive", b"upgrade", b"http2-settings", b"connection", b"te"))
_MAY_NOT_BE_NOMINATED: Final = frozenset((b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"))
_MAX_NOMINATIONS: Final = 10


def nominated_fields(connection: bytes) -> frozenset[bytes]:
    """The fields that a request's Connection value takes out of the message. Raises `Refused`.

    Some may not be nominated, lest a client hide where it comes from; ten tokens are too many (Envoy's
    `sanitizeConnectionHeader`). TE is not among them: what is left of it is decided by its own value.
    """
    tokens = connection_tokens(connection)
    if len(tokens) >= _MAX_NOMINATIONS:
        raise Refused(CONNECTION_HEADER_REJECTED)
    names = frozenset(tokens) - _NOT_NOMINATIONS
    if names & _MAY_NOT_BE_NOMINATED or any(name.startswith(b":") for name in names):
        raise Refused(CONNECTION_HEADER_REJECTED)
    return names


def connection_tokens(connection: bytes) -> list[bytes]:
    return [token.strip().lower() for token in connection.split(b",") if token]


def accepts_trailers(te: bytes) -> bool:
    """Whether a TE value names ``trailers``, the one thing of it that is passed on."""
    return any(token.strip() == b"trailers" for token in te.split(b","))


def without(fields: Fields, names: frozenset[bytes]) -> Fields:
    return [field for field in fields if field[0] not in names]


def check_section(fields: Fields, max_bytes: int, max_count: int) -> None:
    """The limits of a head that came in more than one read, and of a trailer section. Raises `Refused`."""
    if len(fields) > max_count:
        raise Refused(TOO_MANY_HEADERS, HEADERS_TOO_LARGE_STATUS)
    if sum([len(name) + len(value) + 4 for name, value in fields]) > max_bytes:
        raise Refused(HEADERS_TOO_LARGE, HEADERS_TOO_LARGE_STATUS)


def refusal_of(error: str, data: bytes) -> tuple[str, int]:
    """Details and status for what llhttp refused, from the text of its error and the bytes that it was fed."""
    if "ransfer-Encoding" in error:
        if "Content-Length" in error:
            return CHUNKED_CONTENT_LENGTH, BAD_REQUEST
        return INVALID_TRANSFER_ENCODING, NOT_IMPLEMENTED
    if error == "Invalid HTTP version":
        return LOW_VERSION, UPGRADE_REQUIRED
    if error == "Invalid header value char":
        return INVALID_CHARACTERS, BAD_REQUEST
    if " url" in error:
        line = data.partition(b"\r")[0]
        if line.translate(None, CONTROLS) != line:
            return INVALID_CHARACTERS, BAD_REQUEST
    return CODEC_ERROR, BAD_REQUEST
