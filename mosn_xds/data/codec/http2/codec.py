"""What the client's and the server's side of an HTTP/2 connection have in common: an engine's handler with limits.

Bytes in, events out; calls in, bytes out when `flush` is called, so that one write carries what one batch has to say.
Three things are particular:

Order. An engine resets a stream at once, before what is queued for it; `reset` here waits for the next flush, so that
what was sent before leaves before, and for a body that is complete but waits for windows until that has left.

Back-pressure, by stream. Outward, `send_data` says when more than the high-water mark waits, and `Writable` follows.
Inward, each `Data` takes its size from the stream's window until `consume` gives it back: a reader that does not, stops
that one writer after a window's worth.

The end. A connection error is `ConnectionClosed`, after a `StreamReset` for each stream that was open; nothing follows.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from mosn_xds.base.errors import ResetReason
from mosn_xds.data.codec.events import (
    ConnectionClosed,
    Data,
    Event,
    GoAway,
    PingAnswered,
    StreamReset,
    Trailers,
    Writable,
)
from mosn_xds.data.codec.head import Field, Fields
from mosn_xds.data.codec.http2 import codes, heads
from mosn_xds.data.codec.http2.codes import ErrorCode
from mosn_xds.data.codec.http2.engine import Http2Engine
from mosn_xds.data.codec.http2.engines import EngineFactory
from mosn_xds.data.codec.http2.guard import FrameGuard
from mosn_xds.data.codec.http2.heads import Overflow
from mosn_xds.data.codec.http2.options import Http2Options
from mosn_xds.data.codec.http2.stats import Http2Stats

_FRAME_BYTES: Final = 16384
_PING_PAYLOAD: Final = b"mosn-xds"


class Http2Codec:
    """One end of a connection; see `Http2ServerCodec` and `Http2ClientCodec`."""

    __slots__ = (
        "_above", "_engine", "_events", "_guard", "_high_bytes", "_low_bytes", "_measured", "_open", "_options", "_over", "_resets",
        "frames", "stats",
    )  # fmt: skip

    def __init__(self, engines: EngineFactory, options: Http2Options, stats: Http2Stats, *, server: bool) -> None:
        self._options = options
        self.stats = stats
        self._events: list[Event] = []
        self._open: set[int] = set()
        self._above: set[int] = set()
        self._measured: set[int] = set()  # streams whose body has a content-length
        self._resets: dict[int, int] = {}
        self._high_bytes = options.high_water_bytes
        self._low_bytes = options.high_water_bytes // 2
        self._over = False
        self.frames = 0
        """Frames of streams that were sent, in the sense of Envoy's limit."""
        self._guard = FrameGuard(options.floods, stats, len(codes.PREFACE) if server else 0)
        self._engine: Http2Engine = engines(self, options, server=server)

    # Input and output.

    def receive(self, data: bytes) -> list[Event]:
        """Take bytes of the peer; returns what they mean. Call `flush` afterwards: there may be an answer."""
        if self._over:
            return []
        flood = self._guard.check(data)
        if flood is not None:
            self._end(ErrorCode.ENHANCE_YOUR_CALM, flood, abrupt=True)
        else:
            self._engine.receive(data)
        events, self._events = self._events, []
        return events

    def flush(self) -> tuple[bytes, list[Event]]:
        """What is to be sent now, and what happened while it was put together. Do not call it while the socket is full:
        what waits here is bounded by the high-water marks, and counted."""
        engine = self._engine
        out = engine.flush()
        if self._resets:
            out += self._flush_resets()
        if self._above:
            self._look_for_room()
        events = self._events
        if events:
            self._events = []
        return out, events

    def all_sent(self) -> None:
        """Everything that `flush` returned has left."""
        self._guard.control_owed = 0

    def close(self) -> None:
        """The connection is gone: let go of the engine. Nothing is said of streams that are still open."""
        self.stats.streams_active -= len(self._open)
        self._open.clear()
        self._over = True
        self._engine.close()

    # Streams.

    def send_data(self, stream_id: int, data: bytes, end_stream: bool) -> bool:
        """Queue a part of a body. Returns whether the stream is above its high-water mark now: send no more until
        `Writable`, which comes once for each time that this returned True."""
        engine = self._engine
        engine.data(stream_id, data, end_stream)
        frames = 1 + len(data) // _FRAME_BYTES
        self._guard.data_frames_sent += frames
        self.frames += frames
        if engine.queued_bytes(stream_id) > self._high_bytes:
            self._above.add(stream_id)
            return True
        return False

    def send_trailers(self, stream_id: int, fields: Fields) -> None:
        """End the stream with a trailer section."""
        self.frames += 1
        self._engine.trailers(stream_id, heads.ordinary(fields))

    def reset(self, stream_id: int, code: int) -> None:
        """End a stream early, behind what was sent on it already; nothing more is heard of it. `code` is an `ErrorCode`."""
        if stream_id in self._open:
            self._forget(stream_id)
            self._resets[stream_id] = code

    def give_up(self, stream_id: int) -> None:
        """Reset a stream whose last bytes the peer has not made room for in time."""
        if not self._forget(stream_id) and stream_id not in self._resets:
            return
        self._resets[stream_id] = ErrorCode.INTERNAL_ERROR
        self.stats.tx_flush_timeout += 1

    def consume(self, stream_id: int, amount_bytes: int) -> None:
        """Let the peer send that much more of a body: its `Data` has been dealt with. Also after the stream's end."""
        self._engine.consume(stream_id, amount_bytes)

    def queued_bytes(self, stream_id: int) -> int:
        """How much of a body waits for the peer's windows, or for `flush`."""
        return self._engine.queued_bytes(stream_id)

    @property
    def open_streams(self) -> int:
        """Streams of which either side has something left to say."""
        return len(self._open)

    @property
    def unfinished(self) -> int:
        """How many streams are open, or have something left to send."""
        return len(self._open) + len(self._resets)

    def unfinished_streams(self) -> set[int]:
        """Their ids."""
        return self._open.union(self._resets)

    @property
    def idle(self) -> bool:
        """No stream is open, and none has anything left to send."""
        return not self._open and not self._resets

    @property
    def max_outbound_frames(self) -> int:
        """How many may wait for a peer that does not read."""
        return self._options.floods.max_outbound_frames

    # The connection.

    def ping(self) -> None:
        """Ask whether the peer is there; `PingAnswered` follows."""
        self._engine.ping(_PING_PAYLOAD)

    def goaway(self, code: int = ErrorCode.NO_ERROR) -> None:
        """Take no more streams of the peer than have come; those that are open may finish."""
        self.stats.goaway_sent += 1
        self._engine.goaway(code)

    def _flush_resets(self) -> bytes:
        engine = self._engine
        for stream_id, code in list(self._resets.items()):
            if code == ErrorCode.NO_ERROR and engine.queued_bytes(stream_id):
                continue  # a complete answer to a request that was not: let it leave
            del self._resets[stream_id]
            self.stats.tx_reset += 1
            self._guard.control_owed += 1
            engine.reset(stream_id, code)
        return engine.flush()

    def _look_for_room(self) -> None:
        for stream_id in [s for s in self._above if self._engine.queued_bytes(s) <= self._low_bytes]:
            self._above.discard(stream_id)
            self._events.append(Writable(stream_id))

    def _opened(self, stream_id: int) -> None:
        self._open.add(stream_id)
        self.stats.streams_active += 1
        self._guard.streams += 1

    def _forget(self, stream_id: int) -> bool:
        """The stream has ended; says whether it was open."""
        if stream_id not in self._open:
            return False
        self._open.discard(stream_id)
        if self._above:
            self._above.discard(stream_id)
        if self._measured:
            self._measured.discard(stream_id)
        self.stats.streams_active -= 1
        return True

    def _end(self, code: int, details: str, *, abrupt: bool = False) -> None:
        if self._over:
            return
        self._over = True
        reason = ResetReason.PROTOCOL_ERROR if code else ResetReason.CONNECTION_TERMINATION
        for stream_id in sorted(self._open):
            self._events.append(StreamReset(stream_id, reason, details))
            self._forget(stream_id)
        self._events.append(ConnectionClosed(code, details, abrupt))

    def _violated(self, stream_id: int, details: str) -> None:
        """A malformed message: the connection's end as in Envoy, or that of its stream.

        Envoy's library tells it of malformed header sections only; a body of another length than its head said ends its
        stream. Here nobody says which it was: on a stream whose body is measured it is taken to be the body.
        """
        self.stats.rx_messaging_error += 1
        if self._options.stream_errors or stream_id in self._measured:
            if self._forget(stream_id):
                self._events.append(StreamReset(stream_id, ResetReason.PROTOCOL_ERROR, details))
            return
        if self._forget(stream_id):
            self._events.append(StreamReset(stream_id, ResetReason.PROTOCOL_ERROR, details))
        self._engine.goaway(ErrorCode.PROTOCOL_ERROR)
        self._end(ErrorCode.PROTOCOL_ERROR, codes.codec_error(details))

    def _overflowed(self, stream_id: int, details: str) -> None:
        """A header section beyond a limit: its stream is reset."""
        self._engine.reset(stream_id, ErrorCode.INTERNAL_ERROR)
        self.stats.tx_reset += 1
        if self._forget(stream_id):
            self._events.append(StreamReset(stream_id, ResetReason.LOCAL_RESET, details))

    # The engine's words.

    def on_headers(self, stream_id: int, fields: Sequence[Field], end: bool) -> None:
        raise NotImplementedError

    def on_informational(self, stream_id: int, fields: Sequence[Field]) -> None:
        raise NotImplementedError

    def on_data(self, stream_id: int, data: bytes, end: bool) -> None:
        if stream_id in self._open:
            self._events.append(Data(stream_id, data, end))
        else:
            self._engine.consume(stream_id, len(data))

    def on_trailers(self, stream_id: int, fields: Sequence[Field]) -> None:
        if stream_id not in self._open:
            return
        try:
            heads.check_limits(fields, self._options, self.stats)
        except Overflow as overflow:
            self._overflowed(stream_id, str(overflow))
            return
        self._events.append(Trailers(stream_id, list(fields)))

    def on_reset(self, stream_id: int, code: int) -> None:
        self.stats.rx_reset += 1
        self._resets.pop(stream_id, None)
        if self._forget(stream_id):
            self._events.append(StreamReset(stream_id, *codes.remote_reset(code), code == ErrorCode.NO_ERROR))

    def on_stream_error(self, stream_id: int, code: int) -> None:
        raise NotImplementedError

    def on_stream_closed(self, stream_id: int) -> None:
        self._forget(stream_id)

    def on_settings(self, settings: Mapping[int, int]) -> None:
        """Only the client's side wants to know."""

    def on_ping_ack(self, payload: bytes) -> None:
        if payload == _PING_PAYLOAD:
            self._events.append(PingAnswered())

    def on_goaway(self, last_stream_id: int, code: int, debug: bytes) -> None:
        self._events.append(GoAway(last_stream_id, code, debug))

    def on_closed(self, code: int, text: str) -> None:
        self._end(code, codes.codec_error(text) if code else text)
