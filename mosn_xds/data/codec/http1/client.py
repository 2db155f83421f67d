"""The client's side of an HTTP/1 connection: requests in, bytes out; bytes of an upstream in, events out.

One request at a time; the pool asks `reusable` before it sends the next. What is particular:

llhttp cannot be told that a response answers HEAD, so it would wait for a body: after such a head it is started anew. A
2xx answer to CONNECT is treated alike, and what follows is `Data` as it comes; so it is after 101.

An upstream that says more than it was asked for is not to be trusted with the next request: an answer to no request
stops the parser. Each request puts a token into `_asked` and llhttp's ``on_message_begin`` is that list's ``pop``, which
raises when nothing was asked (a method of our own would cost a Python call per response). The response that is complete
stays good; `reusable` is False.

The end of the connection ends a response without a length, and breaks any other. Envoy's distinction is kept: nothing of
a response means `StreamReset` with CONNECTION_TERMINATION (503, UC), a broken one is a protocol error (502, UPE).
"""

from types import SimpleNamespace
from typing import Any, Final

import httptools

from mosn_xds.base.errors import ResetReason
from mosn_xds.data.codec.events import (
    BadResponse,
    ConnectionClosed,
    Data,
    Event,
    Informational,
    ResponseStarted,
    StreamReset,
    Trailers,
)
from mosn_xds.data.codec.head import Fields, RequestHead, ResponseHead, Version
from mosn_xds.data.codec.http1 import rules, wire
from mosn_xds.data.codec.http1.options import HeaderKeyFormat, Http1Options
from mosn_xds.data.codec.http1.phase import Framing, Reading
from mosn_xds.data.codec.http1.rules import Refused

_HTTP10: Final[Version] = Version.HTTP10
_HTTP11: Final[Version] = Version.HTTP11
_NAMES: Final = rules.CANONICAL_NAMES
_CONTENT_LENGTH: Final = b"content-length"
CRLF: Final = wire.CRLF
COLON: Final = wire.COLON

_MESSAGES, _RAW, _OVER = Reading.MESSAGES, Reading.RAW, Reading.OVER
_NONE, _PLAIN, _CHUNKED = Framing.NONE, Framing.PLAIN, Framing.CHUNKED

_SWITCHING_PROTOCOLS: Final = 101


class Http1ClientCodec:
    """One upstream connection.

    Measured with httptools 0.9 on CPython 3.11 (bench/codec_http1.py): `receive` of a response with 5 fields and a small
    body costs 2.3 us, of which llhttp and empty callbacks are 0.7; `send_head` of a GET with 7 fields 1.8 us.
    """

    __slots__ = (
        "_asked", "_body_until_eof", "_callbacks", "_case", "_chunked", "_close", "_complete", "_connect", "_count",
        "_dropped", "_events", "_fields", "_framing", "_head_only", "_hop", "_http11", "_in_body", "_informational", "_lines",
        "_names", "_options", "_parser", "_reading", "_sent", "_special", "_stalled", "_started", "_stream_id", "_te",
        "_upgrade_asked",
    )  # fmt: skip

    def __init__(self, options: Http1Options) -> None:
        self._options = options
        key_format = options.header_key_format
        self._case = None if key_format is None else wire.NameCase(key_format)
        self._lines = wire.framing_lines(key_format)
        self._names: dict[bytes, bytes] | None = {} if key_format is HeaderKeyFormat.PRESERVE else None
        self._reading = _MESSAGES
        self._count = 0
        # The request that was sent.
        self._stream_id = 0
        self._sent = True
        self._framing = _NONE
        self._head_only = False
        self._connect = False
        self._upgrade_asked = False
        # The response to it.
        self._asked: list[int] = []
        self._events: list[Event] = []
        self._started = False
        self._in_body = False
        self._chunked = False
        self._body_until_eof = False
        self._complete = True
        self._informational = False
        self._close = False
        self._stalled = 0
        # The head that is being parsed.
        self._fields: Fields = []
        self._http11 = False  # it began with the read that is being parsed, and with this version
        self._special = False
        self._te: bytes | None = None
        self._hop: Fields = []
        self._dropped = 0
        self._callbacks: SimpleNamespace | None = SimpleNamespace(
            on_message_begin=self._asked.pop,
            on_status=self._on_status,
            on_header=self._on_header if self._names is None else self._on_named_header,
            on_headers_complete=self._on_headers_complete,
            on_body=self._on_body,
            on_message_complete=self._on_message_complete,
        )
        self._parser: Any = httptools.HttpResponseParser(self._callbacks)

    # Sending.

    def next_stream_id(self) -> int:
        """The id for the next request on this connection."""
        self._count += 1
        return self._count

    @property
    def reusable(self) -> bool:
        """Whether another request may be sent: the exchange is complete on both sides and the connection stays."""
        return self._complete and self._sent and not self._close and self._reading is _MESSAGES

    def send_head(self, stream_id: int, head: RequestHead, end_stream: bool) -> bytes:
        """The head of a request, with the framing that Envoy would choose. The codec must be `reusable`."""
        self._stream_id = stream_id
        method = head.method
        self._head_only = method == b"HEAD"
        self._connect = connect = method == b"CONNECT"
        self._upgrade_asked = upgrade = head.upgrade is not None
        self._sent = end_stream
        self._complete = self._started = False
        self._asked.append(stream_id)
        if connect or upgrade:
            self._close = True  # behind it come raw bytes: where they are no tunnel, the peer takes them for requests
        lines = self._lines
        fields = head.fields
        added = b""
        framing = _PLAIN
        if not (connect or upgrade or (end_stream and method in rules.BODYLESS_METHODS)):
            for name, _ in fields:
                if name == _CONTENT_LENGTH:
                    break
            else:
                if not end_stream:
                    framing = _CHUNKED
                    added = lines.chunked
                else:
                    added = lines.empty
        self._framing = framing
        authority = head.authority or b""
        target = authority if connect else head.path
        if 0x20 in target or 0x0A in target or 0x0D in target:
            target = _quoted(target)
        case = self._case
        if case is None and head.names is None:
            # As `wire.field_lines`; written out, which saves 0.1 us.
            block = CRLF.join(map(COLON.join, fields))
            ended = CRLF if fields else b""
            return b"".join((method, b" ", target, b" HTTP/1.1\r\nhost: ", authority, CRLF, block, ended, added, CRLF))
        if case is None:
            case = self._case = wire.NameCase(None)
        block = case.lines(fields, head.names)
        return b"".join((method, b" ", target, b" HTTP/1.1\r\n", lines.host, authority, CRLF, block, added, CRLF))

    def send_data(self, stream_id: int, data: bytes, end_stream: bool) -> bytes | tuple[bytes, ...]:
        """A part of the request body, or of the raw bytes of an upgraded stream."""
        if end_stream:
            self._sent = True
        if self._framing is _CHUNKED:
            return wire.chunk(data, end_stream)
        return data

    def send_trailers(self, stream_id: int, fields: Fields) -> bytes:
        """The end of the request, with trailers if they are enabled and its framing has room for them."""
        self._sent = True
        if self._framing is not _CHUNKED:
            return b""
        return wire.trailer_section(fields) if self._options.enable_trailers else wire.LAST_CHUNK

    # Receiving.

    def receive(self, data: bytes) -> list[Event]:
        """Take bytes of the upstream; returns what they mean for the request that was sent."""
        if self._reading is not _MESSAGES:
            return [Data(self._stream_id, bytes(data), False)] if self._reading is _RAW else []
        idle = self._complete
        if idle:
            self._close = True  # nobody asked
            return []
        events: list[Event] = []
        self._events = events
        self._started = True
        self._http11 = data[:9] == b"HTTP/1.1 "
        if len(data) > self._options.max_headers_bytes:
            self._stalled += 1  # so that a head in here is measured
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            rest = bytes(data[upgrade.args[0] :])
            if rest:
                events.append(Data(self._stream_id, rest, False))
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__
            if isinstance(cause, Refused):
                self._fail(cause.details)
            elif not isinstance(cause, IndexError):
                raise
            elif self._complete:
                self._close = True  # bytes behind the response
            else:
                self._fail(rules.CODEC_ERROR)  # behind a 204 to CONNECT, say
        except httptools.HttpParserError:
            if self._complete:
                self._close = True
            else:
                self._fail(rules.CODEC_ERROR)
        if not self._complete:
            self._bound(len(data), events)
        elif self._head_only and not self._close:
            # llhttp may be waiting for the body that the head announced.
            self._chunked = False
            self._parser.__init__(self._callbacks)
        return events

    def receive_eof(self) -> list[Event]:
        """The upstream will send no more."""
        reading, self._reading = self._reading, _OVER
        self._close = True
        if reading is _RAW:
            return [Data(self._stream_id, b"", True), ConnectionClosed()]
        idle = self._complete
        if idle or reading is _OVER:
            return [ConnectionClosed()]
        if self._body_until_eof:
            self._complete = True
            return [Data(self._stream_id, b"", True), ConnectionClosed()]
        if self._started:
            return [BadResponse(self._stream_id, rules.PREMATURE_END), ConnectionClosed()]
        return [StreamReset(self._stream_id, ResetReason.CONNECTION_TERMINATION), ConnectionClosed()]

    def close(self) -> None:
        """Let go of the parser, which refers back to this object."""
        self._parser = self._callbacks = None
        self._reading = _OVER

    def _fail(self, details: str) -> None:
        self._events.append(BadResponse(self._stream_id, details))
        self._reading = _OVER
        self._close = True

    def _bound(self, size: int, events: list[Event]) -> None:
        """The response is incomplete: see to it that llhttp does not collect for ever."""
        if self._reading is not _MESSAGES or events:
            self._stalled = 0
            return
        self._stalled += size
        if self._stalled > self._options.max_headers_bytes:
            self._fail(rules.HEADERS_TOO_LARGE)

    # llhttp's callbacks. They may raise `Refused`, nothing else (but for the pop of `_asked`).

    def _on_status(self, reason: bytes) -> None:
        if reason not in _USUAL_PHRASES and reason.translate(None, rules.CONTROLS) != reason:
            raise Refused(rules.CODEC_ERROR)

    def _on_header(self, name: bytes, value: bytes) -> None:
        known = _NAMES.get(name)
        if known is not None:
            self._fields.append((known, value.rstrip()))
            return
        if self._http11 and value == b"keep-alive" and name in _CONNECTION and not self._in_body:
            self._dropped += 1  # it says nothing, in nearly every response of nginx: saves 1.1 us
            return
        lower = name.lower()
        if lower not in _SPECIAL:
            self._fields.append((lower, value.rstrip()))
        elif not self._in_body:
            self._on_special_header(lower, value.rstrip())
        else:
            self._close = True  # in trailers; llhttp would heed Connection even there

    def _on_named_header(self, name: bytes, value: bytes) -> None:
        if self._names is not None and not self._in_body:
            self._names.setdefault(name.lower(), name)
        self._on_header(name, value)

    def _on_special_header(self, name: bytes, value: bytes) -> None:
        self._special = True
        self._dropped += 1
        if name == b"transfer-encoding":
            self._te = value if self._te is None else self._te + b"," + value
        elif name in (b"connection", b"upgrade"):
            self._hop.append((name, value))

    def _on_headers_complete(self) -> None:
        parser = self._parser
        status: int = parser.get_status_code()
        fields, self._fields = self._fields, []
        options = self._options
        if len(fields) + self._dropped > options.max_headers_count:
            raise Refused(rules.TOO_MANY_HEADERS)
        self._dropped = 0
        if self._stalled:
            self._stalled = 0
            rules.check_section(fields, options.max_headers_bytes, options.max_headers_count)
        if status < 200 or status == 204 or self._special or not parser.should_keep_alive():
            head = self._particular_head(status, fields)
            if head is None:
                return
        else:
            head = ResponseHead(status, fields)
        if self._names is not None:
            head.names, self._names = self._names, {}
        if self._head_only:
            self._complete = True
        else:
            self._in_body = True
        self._events.append(ResponseStarted(self._stream_id, head, self._head_only))

    def _particular_head(self, status: int, fields: Fields) -> ResponseHead | None:
        """A head with something about it: a version, codings, an upgrade, no length. None for a 1xx, told already."""
        te, self._te = self._te, None
        hop, self._hop = self._hop, []
        self._special = False
        version = self._version()
        if te is not None:
            if te.lower() != b"chunked":
                raise Refused(rules.INVALID_TRANSFER_ENCODING)
            if status < 200 or status == 204:
                raise Refused(rules.TRANSFER_ENCODING_NOT_ALLOWED)
            self._chunked = status != 304
        if status == 204:
            _check_no_content(fields)
            fields = [field for field in fields if field[0] != _CONTENT_LENGTH]
        if status == _SWITCHING_PROTOCOLS:
            if not self._upgrade_asked or {name for name, _ in hop} != _UPGRADE_FIELDS:
                raise Refused(rules.UNASKED_UPGRADE)
            self._reading = _RAW
            self._close = True
            return ResponseHead(status, [*hop, *fields], version)
        if status < 200:
            self._one_hundred(status, fields, version)
            return None
        if self._connect and status < 300:
            if te is not None or any(name == _CONTENT_LENGTH for name, _ in fields):
                raise Refused(rules.BODY_DISALLOWED)
            self._reading = _RAW
            self._close = True
            return ResponseHead(status, fields, version)
        if self._head_only:
            # llhttp takes a head without length for the beginning of a body that ends with the connection.
            self._close |= not _keeps_alive(version, hop)
        elif not self._parser.should_keep_alive():
            self._close = True
            self._body_until_eof = not (self._chunked or status in (204, 304)) and not any(
                name == _CONTENT_LENGTH for name, _ in fields
            )
        return ResponseHead(status, fields, version)

    def _version(self) -> Version:
        version = self._parser.get_http_version()
        if version == "1.1":
            return _HTTP11
        if version != "1.0":
            raise Refused(rules.LOW_VERSION)
        return _HTTP10

    def _one_hundred(self, status: int, fields: Fields, version: Version) -> None:
        if status < 100:
            raise Refused(rules.INVALID_STATUS)
        self._events.append(Informational(self._stream_id, ResponseHead(status, fields, version)))
        if self._names:
            self._names = {}
        self._informational = True
        self._http11 = False

    def _on_body(self, data: bytes) -> None:
        if self._head_only:
            self._close = True  # a body where none may be
            return
        self._events.append(Data(self._stream_id, data, False))

    def _on_message_complete(self) -> None:
        if self._informational:
            self._informational = False
            self._asked.append(self._stream_id)
            return
        if self._reading is _RAW:
            return
        self._in_body = False
        if self._head_only:
            self._close |= self._chunked  # the last chunk of a body where none may be
            return
        events = self._events
        if self._chunked:
            self._chunked_complete(events)
        else:
            # What has a length ends with the bytes that llhttp has just told of.
            events[-1].end_stream = True  # type: ignore[union-attr]
        self._complete = True
        self._stalled = 0

    def _chunked_complete(self, events: list[Event]) -> None:
        self._chunked = False
        fields = self._fields
        if fields:
            self._fields = []
            rules.check_section(fields, self._options.max_headers_bytes, self._options.max_headers_count)
            if self._options.enable_trailers:
                events.append(Trailers(self._stream_id, fields))
                return
        last = events[-1] if events else None
        if type(last) is Data:
            last.end_stream = True
        else:
            # Not the head: whether a body is announced as chunked must not depend on how the bytes were cut.
            events.append(Data(self._stream_id, b"", True))

    def __repr__(self) -> str:
        state = "reusable" if self.reusable else self._reading.value
        return f"<Http1ClientCodec request {self._count}, {state}>"


def _check_no_content(fields: Fields) -> None:
    for name, value in fields:
        if name == _CONTENT_LENGTH and value.strip(b"0"):
            raise Refused(rules.BODY_DISALLOWED)


def _keeps_alive(version: Version, hop: Fields) -> bool:
    tokens = [token for name, value in hop if name == b"connection" for token in rules.connection_tokens(value)]
    return b"close" not in tokens and (version is _HTTP11 or b"keep-alive" in tokens)


def _quoted(target: bytes) -> bytes:
    """A target that cannot end its line early: something rewrote the path with what it should not hold."""
    return target.replace(b" ", b"%20").replace(b"\r", b"%0D").replace(b"\n", b"%0A")


_CONNECTION: Final = (b"Connection", b"connection")
_SPECIAL: Final = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"))
_UPGRADE_FIELDS: Final = {b"connection", b"upgrade"}
_USUAL_PHRASES: Final = frozenset(wire.PHRASES.values())
