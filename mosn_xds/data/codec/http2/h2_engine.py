"""`Http2Engine` on h2, in plain Python: for who cannot have a native library, and to check the other engine against.

h2 is thirty times slower than nghttp2. What it lacks is added here: bodies are queued until there is window for them, its
GOAWAY would close it for good, so those of either side never pass through it, and what comes is fed frame by frame, for an
exception would take the events of the frames before it along.

What it cannot do, and why:

* A malformed message ends the connection, whatever `Http2Options.stream_errors` say: h2 tells of it by an exception, after
  which its state machine is closed. That includes a ``host`` unlike ``:authority`` and a body of another length than its
  head says.
* A stream's window that overflows ends the connection, as anything else that h2 raises.
* More than 64 CONTINUATION frames end the connection (a constant of h2).
* There is no bound on RST_STREAM by rate (`FloodLimits.stream_reset_burst`): the connection manager's count of streams
  that were reset early is the only one.
"""

import re
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, cast

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings

from mosn_xds.data.codec.head import Field
from mosn_xds.data.codec.http1 import rules
from mosn_xds.data.codec.http2.codes import LAST_STREAM_ID, PREFACE, ErrorCode, FrameType, goaway_frame
from mosn_xds.data.codec.http2.engine import EngineHandler
from mosn_xds.data.codec.http2.ngh2_engine import initial_settings
from mosn_xds.data.codec.http2.options import Http2Options

_FRAME_HEADER_BYTES = 9
_MAX_FRAME_BYTES = 16384
_DEFAULT_WINDOW_BYTES = 65535
_LOCAL_LIMITS_FACTOR = 4
_PROTOCOL = b":protocol"
_CONTENT_LENGTH = b"content-length"
_NAME = re.compile(rb":?[!#$%&'*+.^_`|~0-9a-z-]+")
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")


def _well_formed(fields: Sequence[Field], *, end: bool, connect: bool) -> bool:
    """What h2 does not look at: characters, the form of the target, a length without a body, what was not offered."""
    index = dict(fields)
    length = index.get(_CONTENT_LENGTH)
    if (_PROTOCOL in index and not connect) or (end and length is not None and length.strip(b"0")):
        return False
    if not all(_NAME.fullmatch(name) and _VALUE.fullmatch(value) for name, value in fields):
        return False
    method = index.get(b":method", b"")
    path = index.get(b":path", b"/")
    authority = index.get(b":authority", b"")
    if not _TOKEN.fullmatch(method) or not rules.valid_authority(authority) or b"@" in authority:
        return False
    return path.startswith(b"/") or (path == b"*" and method == b"OPTIONS")


class _Sending:
    """What is to be sent on one stream: `parts` of a body, then perhaps `trailers`, then the end."""

    __slots__ = ("end", "ended", "heard_end", "parts", "size", "trailers")

    def __init__(self) -> None:
        self.parts: deque[memoryview] = deque()
        self.size = 0
        self.trailers: list[Field] | None = None
        self.end = False
        self.ended = False
        self.heard_end = False


class H2Engine:
    """One h2 connection; see `mosn_xds.data.codec.http2.engine.Http2Engine`."""

    __slots__ = (
        "_allow_connect", "_begun", "_buffer", "_connection", "_extra", "_farewell", "_going", "_handler", "_in_preface",
        "_is_server", "_last", "_over", "_preface_left", "_streams", "_unconsumed",
    )  # fmt: skip

    def __init__(self, handler: EngineHandler, options: Http2Options, *, server: bool) -> None:
        self._handler: EngineHandler | None = handler
        self._is_server = server
        self._allow_connect = options.allow_connect
        self._buffer = b""
        self._preface_left = len(PREFACE) if server else 0
        self._in_preface = server
        self._begun = False
        self._extra = b""
        self._farewell = b""
        self._going = False
        self._over = False
        self._last = 0
        self._streams: dict[int, _Sending] = {}
        self._unconsumed: dict[int, int] = {}
        config = h2.config.H2Configuration(
            client_side=not server,
            header_encoding=None,
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
        self._connection = connection = h2.connection.H2Connection(config)
        values = cast("dict[Any, int]", initial_settings(options, server=server))
        connection.local_settings = h2.settings.Settings(client=not server, initial_values=values)
        room = options.max_headers_bytes + 32 * options.max_headers_count
        connection.decoder.max_header_list_size = _LOCAL_LIMITS_FACTOR * room
        connection.initiate_connection()
        more = options.initial_connection_window_bytes - _DEFAULT_WINDOW_BYTES
        if more > 0:
            connection.increment_flow_control_window(more)

    @property
    def peer_max_concurrent_streams(self) -> int:
        return min(self._connection.remote_settings.max_concurrent_streams, LAST_STREAM_ID)

    # Input.

    def receive(self, data: bytes) -> None:
        data = self._buffer + data
        at = 0
        while not self._over:
            size = self._next_size(data, at)
            if size is None:
                break
            piece = data[at : at + size]
            at += size
            if self._in_preface:
                self._in_preface = self._preface_left > 0
                self._feed(piece)
            elif size == _FRAME_HEADER_BYTES and int.from_bytes(piece[:3], "big") > _MAX_FRAME_BYTES:
                # h2 would wait for all of it first.
                self._farewell = goaway_frame(0, ErrorCode.FRAME_SIZE_ERROR)
                self._finish(ErrorCode.FRAME_SIZE_ERROR, "frame too large")
            elif not self._begun and piece[3] != FrameType.SETTINGS:
                self._farewell = goaway_frame(0, ErrorCode.PROTOCOL_ERROR)
                self._finish(ErrorCode.PROTOCOL_ERROR, "SETTINGS expected")
            elif piece[3] == FrameType.GOAWAY and not any(piece[5:9]) and size >= 17:
                self._on_goaway(piece)
            else:
                self._begun = True
                self._feed(piece)
        self._buffer = data[at:]

    def _next_size(self, data: bytes, at: int) -> int | None:
        """How many bytes from `at` on belong together; None if there are not enough yet."""
        left = len(data) - at
        if self._preface_left:
            # As much of it as there is: h2 compares what it is given.
            if not left:
                return None
            size = min(left, self._preface_left)
            self._preface_left -= size
            return size
        if left < _FRAME_HEADER_BYTES:
            return None
        size = int.from_bytes(data[at : at + 3], "big")
        if size > _MAX_FRAME_BYTES:
            return _FRAME_HEADER_BYTES  # enough to refuse it
        size += _FRAME_HEADER_BYTES
        return size if left >= size else None

    def _feed(self, piece: bytes) -> None:
        try:
            events = self._connection.receive_data(piece)
        except h2.exceptions.ProtocolError as error:
            self._farewell = self._connection.data_to_send()
            self._finish(int(error.error_code), str(error))
            return
        for event in events:
            self._on_event(event)

    def _on_event(self, event: h2.events.Event) -> None:
        handler = self._handler
        if handler is None:
            return
        if isinstance(event, h2.events.RequestReceived):
            self._on_request(event.stream_id, event.headers, event.stream_ended is not None)
        elif isinstance(event, h2.events.ResponseReceived):
            handler.on_headers(event.stream_id, event.headers, event.stream_ended is not None)
        elif isinstance(event, h2.events.DataReceived):
            self._on_data(event)
        elif isinstance(event, h2.events.TrailersReceived):
            handler.on_trailers(event.stream_id, event.headers)
        elif isinstance(event, h2.events.InformationalResponseReceived):
            handler.on_informational(event.stream_id, event.headers)
        elif isinstance(event, h2.events.StreamEnded):
            self._note_end(event.stream_id, heard=True)
        elif isinstance(event, h2.events.StreamReset):
            self._drop(event.stream_id)
            if event.remote_reset:
                handler.on_reset(event.stream_id, int(event.error_code or 0))
            else:
                handler.on_stream_error(event.stream_id, int(event.error_code or 0))
        elif isinstance(event, h2.events.RemoteSettingsChanged):
            handler.on_settings({int(key): changed.new_value for key, changed in event.changed_settings.items()})
        elif isinstance(event, h2.events.PingAckReceived):
            handler.on_ping_ack(event.ping_data)

    def _on_request(self, stream_id: int, fields: Sequence[Field], end: bool) -> None:
        self._last = stream_id
        self._streams[stream_id] = _Sending()
        if not _well_formed(fields, end=end, connect=self._allow_connect):
            self.reset(stream_id, ErrorCode.PROTOCOL_ERROR)
            if self._handler is not None:
                self._handler.on_stream_error(stream_id, ErrorCode.PROTOCOL_ERROR)
        elif self._handler is not None:
            self._handler.on_headers(stream_id, fields, end)

    def _on_data(self, event: h2.events.DataReceived) -> None:
        stream_id, data = event.stream_id, event.data
        padding = event.flow_controlled_length - len(data)
        self._unconsumed[stream_id] = self._unconsumed.get(stream_id, 0) + event.flow_controlled_length
        if padding:
            self.consume(stream_id, padding)
        if self._handler is not None:
            self._handler.on_data(stream_id, data, event.stream_ended is not None)

    def _on_goaway(self, piece: bytes) -> None:
        last = int.from_bytes(piece[9:13], "big") & LAST_STREAM_ID
        handler = self._handler
        if handler is None:
            return
        handler.on_goaway(last, int.from_bytes(piece[13:17], "big"), piece[17:])
        if not self._is_server:
            for stream_id in [s for s in self._streams if s > last]:
                self._drop(stream_id)
                handler.on_stream_error(stream_id, ErrorCode.REFUSED_STREAM)
        self._going = True
        self._finish_when_done()

    def _note_end(self, stream_id: int, *, heard: bool) -> None:
        sending = self._streams.get(stream_id)
        if sending is None:
            return
        if heard:
            sending.heard_end = True
        else:
            sending.ended = True
        if sending.ended and sending.heard_end:
            del self._streams[stream_id]
            if self._handler is not None:
                self._handler.on_stream_closed(stream_id)
            self._finish_when_done()

    def _drop(self, stream_id: int) -> None:
        self._streams.pop(stream_id, None)
        self.consume(stream_id, self._unconsumed.get(stream_id, 0))
        self._finish_when_done()

    def _finish_when_done(self) -> None:
        if self._going and not self._streams:
            self._finish(ErrorCode.NO_ERROR, "")

    def _finish(self, code: int, text: str) -> None:
        if not self._over:
            self._over = True
            if self._handler is not None:
                self._handler.on_closed(code, text)

    # Output.

    def flush(self) -> bytes:
        if not self._over:
            for stream_id, sending in list(self._streams.items()):
                if not sending.ended and (sending.parts or sending.end):
                    self._send(stream_id, sending)
        out = self._connection.data_to_send() + self._extra + self._farewell
        self._extra = self._farewell = b""
        return out

    def _send(self, stream_id: int, sending: _Sending) -> None:
        connection = self._connection
        try:
            while sending.parts:
                room = min(connection.local_flow_control_window(stream_id), connection.max_outbound_frame_size)
                if room <= 0:
                    return
                part = sending.parts[0]
                if len(part) > room:
                    sending.parts[0] = part[room:]
                    part = part[:room]
                else:
                    sending.parts.popleft()
                sending.size -= len(part)
                last = sending.end and not sending.parts and sending.trailers is None
                connection.send_data(stream_id, bytes(part), end_stream=last)
                if last:
                    self._note_end(stream_id, heard=False)
                    return
            if not sending.end:
                return
            if sending.trailers is not None:
                connection.send_headers(stream_id, sending.trailers, end_stream=True)
            else:
                connection.end_stream(stream_id)
            self._note_end(stream_id, heard=False)
        except h2.exceptions.ProtocolError:
            return  # the stream is gone

    def request(self, fields: Iterable[Field], end: bool) -> int:
        stream_id = self._connection.get_next_available_stream_id()
        sending = self._streams[stream_id] = _Sending()
        self._connection.send_headers(stream_id, list(fields), end_stream=end)
        sending.ended = end
        return stream_id

    def informational(self, stream_id: int, fields: Iterable[Field]) -> None:
        self._headers(stream_id, fields, False)

    def response(self, stream_id: int, fields: Iterable[Field], end: bool) -> None:
        self._headers(stream_id, fields, end)

    def _headers(self, stream_id: int, fields: Iterable[Field], end: bool) -> None:
        if stream_id not in self._streams or self._over:
            return
        try:
            self._connection.send_headers(stream_id, list(fields), end_stream=end)
        except h2.exceptions.ProtocolError:
            return  # gone
        if end:
            self._note_end(stream_id, heard=False)

    def data(self, stream_id: int, data: bytes, end: bool) -> None:
        sending = self._streams.get(stream_id)
        if sending is None or sending.end:
            return
        if data:
            sending.parts.append(memoryview(data))
            sending.size += len(data)
        sending.end = end

    def trailers(self, stream_id: int, fields: Iterable[Field]) -> None:
        sending = self._streams.get(stream_id)
        if sending is not None and not sending.end:
            sending.trailers = list(fields)
            sending.end = True

    def queued_bytes(self, stream_id: int) -> int:
        sending = self._streams.get(stream_id)
        return 0 if sending is None else sending.size

    def consume(self, stream_id: int, amount_bytes: int) -> None:
        held = self._unconsumed.get(stream_id, 0)
        amount_bytes = min(amount_bytes, held)
        if not amount_bytes:
            return
        if amount_bytes == held:
            del self._unconsumed[stream_id]
        else:
            self._unconsumed[stream_id] = held - amount_bytes
        if not self._over:
            self._connection.acknowledge_received_data(amount_bytes, stream_id)

    def reset(self, stream_id: int, code: int) -> None:
        if self._over or stream_id not in self._streams:
            return
        try:
            self._connection.reset_stream(stream_id, code)
        except h2.exceptions.ProtocolError:
            pass  # it is closed already
        self._drop(stream_id)

    def ping(self, payload: bytes) -> None:
        if not self._over:
            self._connection.ping(payload)

    def shutdown_notice(self) -> None:
        self._extra += goaway_frame(LAST_STREAM_ID, ErrorCode.NO_ERROR)

    def goaway(self, code: int) -> None:
        self._extra += goaway_frame(self._last if self._is_server else 0, code)
        self._going = True
        self._finish_when_done()

    def close(self) -> None:
        self._over = True
        self._handler = None
        self._streams.clear()

    def __repr__(self) -> str:
        return f"<H2Engine {'server' if self._is_server else 'client'} {len(self._streams)} streams>"
