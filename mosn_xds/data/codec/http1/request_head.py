"""Request heads with something about them: not HTTP/1.1, not origin-form, Connection, Upgrade, Transfer-Encoding.

The common request has none of that, and the server codec makes its head itself. Here are the rules for the rest, as one
pure function of what llhttp has found.
"""

from typing import Final, Protocol

from mosn_xds.data.codec.head import Fields, RequestHead, Version
from mosn_xds.data.codec.http1 import rules
from mosn_xds.data.codec.http1.options import Http1Options
from mosn_xds.data.codec.http1.rules import Refused

_SLASH: Final = 0x2F
_CONTENT_LENGTH: Final = b"content-length"
_ONLY_CONTENT_LENGTH: Final = frozenset((_CONTENT_LENGTH,))
_CONNECTION_FIELDS: Final = frozenset((b"connection", b"upgrade"))
_H2C_FIELDS: Final = frozenset((b"upgrade", b"http2-settings"))


class HopFields:
    """The values of the fields that are about this hop; repeated ones are joined."""

    __slots__ = ("connection", "transfer_encoding", "upgrade")

    def __init__(self) -> None:
        self.connection: bytes | None = None
        self.transfer_encoding: bytes | None = None
        self.upgrade: bytes | None = None

    def note(self, name: bytes, value: bytes) -> None:
        if name == b"connection":
            self.connection = _joined(self.connection, value)
        elif name == b"upgrade":
            self.upgrade = _joined(self.upgrade, value)
        elif name == b"transfer-encoding":
            self.transfer_encoding = _joined(self.transfer_encoding, value)


class ParserState(Protocol):
    """What httptools tells while a head is complete."""

    def get_http_version(self) -> str: ...

    def should_keep_alive(self) -> bool: ...

    def should_upgrade(self) -> bool: ...


def particular_head(
    parser: ParserState,
    options: Http1Options,
    method: bytes,
    url: bytes,
    host: bytes | None,
    fields: Fields,
    hop: HopFields | None,
) -> tuple[RequestHead, bytes | None]:
    """The head, and the framing lines with which llhttp must be brought back if it leaves at an upgrade to h2c.

    `fields` holds Connection and Upgrade as they came, but neither host nor Transfer-Encoding. Raises `Refused`.
    """
    version = _version(parser, options)
    connect = method == b"CONNECT"
    coding = hop.transfer_encoding if hop is not None else None
    if coding is not None:
        if coding.lower() != b"chunked" or connect:
            raise Refused(rules.INVALID_TRANSFER_ENCODING, rules.NOT_IMPLEMENTED)
        if version is Version.HTTP10:
            raise Refused(rules.TRANSFER_ENCODING_NOT_ALLOWED)
        if options.allow_chunked_length:
            fields = rules.without(fields, _ONLY_CONTENT_LENGTH)
    if host is None and version is Version.HTTP10 and options.default_host_for_http_10:
        host = options.default_host_for_http_10
    scheme = b""
    if connect:
        host, url = _connect_target(url, fields), b""
        fields = rules.without(fields, _ONLY_CONTENT_LENGTH)
    elif url == b"*":
        if method != b"OPTIONS":
            raise Refused(rules.INVALID_URL)
    elif url[0] != _SLASH and options.allow_absolute_url:
        scheme, host, url = rules.split_absolute_form(url)
    token = replay = None
    if hop is not None:
        nominated = rules.nominated_fields(hop.connection) if hop.connection is not None else frozenset()
        if b"host" in nominated:
            host = None
        if not connect and parser.should_upgrade():
            token = (hop.upgrade or b"").lower()
        if token == b"h2c":
            token = None
            nominated |= _H2C_FIELDS
            replay = _framing(coding, fields)
        if token is None:
            nominated |= _CONNECTION_FIELDS
        fields = rules.without(fields, nominated)
    keep_alive = parser.should_keep_alive() or connect or token is not None
    return RequestHead(method, scheme, host, url, version, fields, token, keep_alive), replay


def _version(parser: ParserState, options: Http1Options) -> Version:
    version = parser.get_http_version()
    if version == "1.1":
        return Version.HTTP11
    if version != "1.0" or not options.accept_http_10:
        raise Refused(rules.LOW_VERSION, rules.UPGRADE_REQUIRED)
    return Version.HTTP10


def _connect_target(url: bytes, fields: Fields) -> bytes:
    rules.check_authority_form(url)
    for name, value in fields:
        if name == _CONTENT_LENGTH and value.strip(b"0"):
            raise Refused(rules.BODY_DISALLOWED)
    return url


def _framing(coding: bytes | None, fields: Fields) -> bytes | None:
    if coding is not None:
        return b"transfer-encoding: chunked\r\n"
    for name, value in fields:
        if name == _CONTENT_LENGTH and value.strip(b"0"):
            return b"content-length: %b\r\n" % value
    return None


def _joined(before: bytes | None, value: bytes) -> bytes:
    return value if before is None else before + b"," + value
