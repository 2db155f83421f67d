"""The server's side of an HTTP/1 connection: bytes of a client in, events out; responses in, bytes out.

llhttp (httptools) finds the structure; the rules on top of it are in `rules`. What is particular:

One exchange at a time. `receive` gives the events of the current exchange alone. A client may pipeline: llhttp cannot be
stopped in the middle of a buffer, so what it finds behind the current request is held back, and whatever comes later stays
unparsed, until `next_exchange`. Large buffers are parsed in slices, so that little can be found ahead of its time;
`wants_pause` tells the caller to stop reading, which bounds the rest.

Upgrades. llhttp leaves HTTP at each request to upgrade and at CONNECT. The bytes behind such a request are kept unparsed
until the connection manager grants it (`accept_upgrade`; from then on they are `Data`), or for ever: a request that is not
granted is answered and its connection closed, so what was meant for another protocol is never read as a request.
``Upgrade: h2c`` is the exception, as in Envoy: the header is dropped and the request served. Since llhttp has left, it is
fed a synthetic head with nothing but the framing, which brings it back to where the body begins.

Bounded memory. llhttp collects an unfinished head or trailer section without limit. The bytes fed since the last sign of
progress are counted (`_stalled`), and a head that took more than one read is measured exactly when it is complete.

Nothing here knows sockets, routes or filters, and nothing that a client sends raises.
"""

from types import SimpleNamespace
from typing import Any, Final

import httptools

from mosn_xds.base.errors import ResetReason
from mosn_xds.data.codec.events import BadRequest, ConnectionClosed, Data, Event, RequestStarted, StreamReset, Trailers
from mosn_xds.data.codec.head import Fields, RequestHead, Version
from mosn_xds.data.codec.http1 import rules, wire
from mosn_xds.data.codec.http1.options import HeaderKeyFormat, Http1Options, UnderscoreAction
from mosn_xds.data.codec.http1.phase import Reading
from mosn_xds.data.codec.http1.request_head import HopFields, particular_head
from mosn_xds.data.codec.http1.response_writer import ResponseWriter
from mosn_xds.data.codec.http1.rules import Refused

_HTTP10: Final[Version] = Version.HTTP10
_HTTP11: Final[Version] = Version.HTTP11
_NAMES: Final = rules.CANONICAL_NAMES
_METHODS: Final = rules.METHODS
_GET: Final = _METHODS[b"GET"]
_SLASH: Final = 0x2F

_MESSAGES, _AWAITING, _RAW, _OVER = Reading.MESSAGES, Reading.AWAITING, Reading.RAW, Reading.OVER

_STOPS: Final = (httptools.HttpParserUpgrade, httptools.HttpParserError)
_SLICE_BYTES: Final = 16 * 1024
_BODY_SLICE_BYTES: Final = 64 * 1024


class Http1ServerCodec(ResponseWriter):
    """One client connection.

    Measured with httptools 0.9 on CPython 3.11 (bench/codec_http1.py): `receive` of a GET with 7 fields costs 2.6 us, of
    which llhttp and empty callbacks are 0.9; `send_head` of a response with 5 fields 1.0 us.
    """

    __slots__ = (
        "_backlog",
        "_callbacks",
        "_chunked",
        "_current",
        "_dropped",
        "_dropped_bytes",
        "_events",
        "_fields",
        "_held",
        "_hop",
        "_host",
        "_in_body",
        "_last",
        "_max_fields",
        "_names",
        "_parser",
        "_parsing",
        "_reading",
        "_reading_replay",
        "_replay",
        "_slice_bytes",
        "_stalled",
        "_url",
        "_valid_host",
    )

    def __init__(self, options: Http1Options) -> None:
        super().__init__(options)
        self._max_fields = options.max_headers_count
        self._slice_bytes = min(_SLICE_BYTES, options.max_headers_bytes)
        preserve = options.header_key_format is HeaderKeyFormat.PRESERVE
        self._names: dict[bytes, bytes] | None = {} if preserve else None
        # What llhttp is in.
        self._reading = _MESSAGES
        self._parsing = 1
        self._in_body = False
        self._chunked = False
        self._last = False
        self._stalled = 0
        self._events: list[Event] = []
        self._held: list[Event] = []
        self._backlog = bytearray()
        self._replay: bytes | None = None
        self._reading_replay = False
        # The head that is being parsed.
        self._url = b""
        self._fields: Fields = []
        self._host: bytes | None = None
        self._valid_host: bytes | None = None
        self._hop: HopFields | None = None
        self._dropped = 0
        self._dropped_bytes = 0
        # The exchange that is being answered.
        self._current = 1
        plain = options.underscores is UnderscoreAction.ALLOW and self._names is None
        self._callbacks: SimpleNamespace | None = SimpleNamespace(
            on_url=self._on_url,
            on_header=self._on_header if plain else self._on_particular_header,
            on_headers_complete=self._on_headers_complete,
            on_body=self._on_body,
            on_message_complete=self._on_message_complete,
        )
        self._parser: Any = httptools.HttpRequestParser(self._callbacks)
        if options.allow_chunked_length:
            self._parser.set_dangerous_leniencies(lenient_chunked_length=True)

    # Receiving.

    def receive(self, data: bytes) -> list[Event]:
        """Take bytes of the client; returns what they mean for the current exchange."""
        current = self._current
        if self._parsing != current or self._reading is not _MESSAGES:
            return self._receive_aside(data)
        events: list[Event] = []
        self._events = events
        if len(data) > self._slice_bytes:
            self._feed_slices(data)
        else:
            try:
                self._parser.feed_data(data)
            except _STOPS as stopped:
                self._on_stop(stopped, data)
        if self._parsing == current and self._reading is _MESSAGES:
            self._bound(len(data), events)
        return events

    @property
    def wants_pause(self) -> bool:
        """Whether bytes or requests wait for the end of the current exchange: stop reading until `next_exchange`."""
        return bool(self._held) or bool(self._backlog)

    def next_exchange(self) -> list[Event]:
        """The current response is complete: give the events of the request behind it, if it has come.

        Does nothing while request or response is incomplete, or when the connection cannot be kept.
        """
        if not self._answered or self._parsing == self._current or not self.keep_alive:
            return []
        self._current = current = self._current + 1
        self._answered = False
        self._request_open = self._parsing == current
        events: list[Event] = []
        held = self._held
        if held:
            count = 0
            while count < len(held) and _stream_of(held[count]) == current:
                count += 1
            events = held[:count]
            del held[:count]
            for event in events:
                if type(event) is RequestStarted:
                    self._begin(event.head)
                elif type(event) is BadRequest:
                    self._begin(None)
        if self._backlog and self._parsing == current and self._reading is _MESSAGES:
            backlog = bytes(self._backlog)
            self._backlog.clear()
            events += self.receive(backlog)
        return events

    def receive_eof(self) -> list[Event]:
        """The client will send no more. In HTTP/1 that ends the connection, as in Envoy, and an open stream with it."""
        if self._reading is _RAW:
            return [Data(self._current, b"", True)]
        events: list[Event] = []
        if self._in_body and self._parsing == self._current and self._reading is not _OVER:
            events.append(StreamReset(self._current, ResetReason.CONNECTION_TERMINATION))
        self._reading = _OVER
        events.append(ConnectionClosed())
        return events

    def accept_upgrade(self, stream_id: int) -> list[Event]:
        """The request to upgrade (or CONNECT) was granted: from now on bytes are `Data` both ways.

        Returns those that came early.
        """
        self._reading = _RAW
        if not self._backlog:
            return []
        early = bytes(self._backlog)
        self._backlog.clear()
        return [Data(stream_id, early, False)]

    def refuse_upgrade(self) -> None:
        """The request to upgrade is answered otherwise: what comes behind it is dropped, the connection will close.

        Implied by sending such an answer.
        """
        self._reading = _OVER
        self._backlog.clear()
        self._closing = True

    def close(self) -> None:
        """Let go of the parser, which refers back to this object."""
        self._parser = self._callbacks = None
        self._reading = _OVER
        self._held.clear()
        self._backlog.clear()

    def _receive_aside(self, data: bytes) -> list[Event]:
        if self._reading is _RAW:
            return [Data(self._current, bytes(data), False)]
        if self._reading is not _OVER and not self._closing:
            self._backlog += data
        return []

    def _feed_slices(self, data: bytes) -> None:
        view = memoryview(data)
        at = 0
        while at < len(view) and self._reading is _MESSAGES and self._parsing == self._current:
            self._stalled += 1  # so that a head in here is measured
            size = _BODY_SLICE_BYTES if self._in_body else self._slice_bytes
            self._feed(view[at : at + size])
            at += size
        if self._reading is not _OVER:
            self._backlog += view[at:]

    def _feed(self, data: bytes | memoryview) -> None:
        try:
            self._parser.feed_data(data)
        except _STOPS as stopped:
            self._on_stop(stopped, data)

    def _on_stop(self, stopped: Exception, data: bytes | memoryview) -> None:
        if isinstance(stopped, httptools.HttpParserUpgrade):
            self._left_http(data[stopped.args[0] :])
        elif isinstance(stopped, httptools.HttpParserCallbackError):
            refused = stopped.__context__
            if not isinstance(refused, Refused):
                raise stopped
            self._refuse(refused.details, refused.status)
        elif self._in_body:
            self._refuse(rules.CODEC_ERROR, rules.BAD_REQUEST)
        elif self._reading is _MESSAGES:  # else: bytes behind the last request, which nobody reads
            self._refuse(*rules.refusal_of(str(stopped), bytes(data)))

    def _left_http(self, rest: bytes | memoryview) -> None:
        """llhttp stopped behind a request to upgrade."""
        if self._reading is _AWAITING:
            self._backlog += rest
            return
        replay, self._replay = self._replay, None
        if replay is not None:
            self._reading_replay = True
            self._parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n" % replay)
            self._reading_replay = False
        if rest:
            self._feed(rest)

    def _refuse(self, details: str, status: int) -> None:
        body = wire.PHRASES[status]
        version = _HTTP10 if self._http10 else _HTTP11
        target = self._events if self._parsing == self._current else self._held
        target.append(BadRequest(self._parsing, status, details, body, version))
        self._reading = _OVER
        self._backlog.clear()
        if self._parsing == self._current:
            self._closing = True
            if not self._in_body:
                self._begin(None)

    def _bound(self, size: int, events: list[Event]) -> None:
        """The current request is incomplete: see to it that llhttp does not collect for ever."""
        if self._in_body and events:
            self._stalled = 0
            return
        self._stalled += size
        if self._stalled > self._options.max_headers_bytes:
            self._refuse(rules.HEADERS_TOO_LARGE, rules.HEADERS_TOO_LARGE_STATUS)
        elif not self._in_body and self._url and self._parser.get_method() == b"PRI":
            self._refuse(rules.CODEC_ERROR, rules.BAD_REQUEST)  # llhttp waits for an HTTP/2 preface

    # llhttp's callbacks. They may raise `Refused`, nothing else.

    def _on_url(self, url: bytes) -> None:
        self._url += url

    def _on_header(self, name: bytes, value: bytes) -> None:
        known = _NAMES.get(name)
        if known is not None:
            self._fields.append((known, value.rstrip()))
            return
        if (name == b"Host" or name == b"host") and self._host is None and not self._in_body:  # noqa: PLR1714  # speed
            self._host = value.rstrip()
            return
        lower = name.lower()
        if lower not in _SPECIAL:
            self._fields.append((lower, value.rstrip()))
        elif not self._in_body:
            self._on_special_header(lower, value.rstrip())
        elif lower in _HOP and not self._reading_replay:
            raise Refused(rules.CODEC_ERROR)  # in trailers; llhttp would heed Connection even there

    def _on_particular_header(self, name: bytes, value: bytes) -> None:
        """`_on_header` with the rarer options."""
        if b"_" in name:
            action = self._options.underscores
            if action is UnderscoreAction.REJECT_REQUEST:
                raise Refused(rules.UNEXPECTED_UNDERSCORE)
            if action is UnderscoreAction.DROP_HEADER:
                self._dropped += 1
                self._dropped_bytes += len(name) + len(value)
                return
        if self._names is not None and not self._in_body:
            self._names.setdefault(name.lower(), name)
        self._on_header(name, value)

    def _on_special_header(self, name: bytes, value: bytes) -> None:
        """A field that is about the host, the connection or the framing."""
        if name == b"host":
            # Repeated ones are joined, as in Envoy. That matches no virtual host but the catch-all.
            self._host = value if self._host is None else self._host + b"," + value
            return
        if name == b"te":
            if rules.accepts_trailers(value):
                self._fields.append((name, b"trailers"))
                return
        elif name in _HOP:
            if self._hop is None:
                self._hop = HopFields()
            self._hop.note(name, value)
            if name != b"transfer-encoding":
                self._fields.append((name, value))
                return
        self._dropped += 1
        self._dropped_bytes += len(name) + len(value)

    def _on_headers_complete(self) -> None:
        fields, self._fields = self._fields, []
        if self._reading_replay:
            self._url = b""
            self._in_body = True
            return
        parser = self._parser
        method = _METHODS.get(parser.get_method())
        if method is None:
            raise Refused(rules.CODEC_ERROR)
        url, self._url = self._url, b""
        host, self._host = self._host, None
        if self._stalled:
            self._measure(method, url, host, fields)
        if len(fields) + self._dropped >= self._max_fields:
            self._count(fields, host)
        if self._dropped:
            self._dropped = self._dropped_bytes = 0
        if host != self._valid_host:
            if host is not None and not rules.valid_authority(host):
                raise Refused(rules.INVALID_AUTHORITY)
            self._valid_host = host
        if self._hop is not None or url[0] != _SLASH or not parser.should_keep_alive() or method == b"CONNECT":
            head = self._particular_head(method, url, host, fields)
        else:
            # Without a Connection field llhttp keeps nothing alive but HTTP/1.1; asking for the version costs 0.2 us.
            head = RequestHead(method, b"", host, url, _HTTP11, fields)
        if self._names is not None:
            head.names, self._names = self._names, {}
        parsing = self._parsing
        if parsing == self._current:
            self._events.append(RequestStarted(parsing, head, False))
            if head.version is _HTTP11 and method is _GET and head.keep_alive and not self._http10:
                self._closing = self._head_only = self._connect = False
            else:
                self._begin(head)
        else:
            self._held.append(RequestStarted(parsing, head, False))
        self._in_body = True

    def _particular_head(self, method: bytes, url: bytes, host: bytes | None, fields: Fields) -> RequestHead:
        hop, self._hop = self._hop, None
        head, self._replay = particular_head(self._parser, self._options, method, url, host, fields, hop)
        self._chunked = hop is not None and hop.transfer_encoding is not None
        self._last = not head.keep_alive
        if head.upgrade is not None or method == b"CONNECT":
            self._reading = _AWAITING
        return head

    def _measure(self, method: bytes, url: bytes, host: bytes | None, fields: Fields) -> None:
        """The exact size of a head that took more than one read, or was in a large one."""
        self._stalled = 0
        size = len(method) + len(url) + len("  HTTP/1.1\r\n\r\n")
        size += sum([len(name) + len(value) + 4 for name, value in fields])
        size += self._dropped_bytes + 4 * self._dropped
        if host is not None:
            size += len(host) + len("host: \r\n")
        if size > self._options.max_headers_bytes:
            raise Refused(rules.HEADERS_TOO_LARGE, rules.HEADERS_TOO_LARGE_STATUS)

    def _count(self, fields: Fields, host: bytes | None) -> None:
        if len(fields) + self._dropped + (host is not None) > self._max_fields:
            raise Refused(rules.TOO_MANY_HEADERS, rules.HEADERS_TOO_LARGE_STATUS)

    def _on_body(self, data: bytes) -> None:
        if self._parsing == self._current:
            self._events.append(Data(self._parsing, data, False))
        else:
            self._held.append(Data(self._parsing, data, False))

    def _on_message_complete(self) -> None:
        if self._replay is not None or self._reading is _AWAITING:
            return
        parsing = self._parsing
        events = self._events if parsing == self._current else self._held
        if self._chunked:
            self._chunked_complete(events)
        else:
            # What has a length ends with the bytes that llhttp has just told of.
            events[-1].end_stream = True  # type: ignore[union-attr]
        self._in_body = False
        self._stalled = 0
        if parsing == self._current:
            self._request_open = False
        self._parsing = parsing + 1
        if self._last:
            self._reading = _OVER

    def _chunked_complete(self, events: list[Event]) -> None:
        self._chunked = False
        fields = self._fields
        if fields:
            self._fields = []
            rules.check_section(fields, self._options.max_headers_bytes, self._options.max_headers_count)
            if self._options.enable_trailers:
                events.append(Trailers(self._parsing, fields))
                return
        last = events[-1] if events else None
        if type(last) is Data and last.stream_id == self._parsing:
            last.end_stream = True
        else:
            # Not the head: whether a body is announced as chunked must not depend on how the bytes were cut.
            events.append(Data(self._parsing, b"", True))

    def __repr__(self) -> str:
        state = f"{len(self._held)} events held" if self._held else self._reading.value
        return f"<Http1ServerCodec exchange {self._current}, {state}>"


def _stream_of(event: Event) -> int:
    return event.stream_id  # type: ignore[union-attr]  # no events without a stream are ever held


_HOP: Final = frozenset((b"connection", b"transfer-encoding", b"upgrade"))
_SPECIAL: Final = frozenset((
    b"connection", b"host", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade",
))  # fmt: skip
