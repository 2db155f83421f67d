"""HTTP/2 to an upstream: many streams on a connection, each with windows of its own.

`Http2Connection` stands between a wire and the codec; `Http2Stream` is what the proxy holds of one exchange. What streams
say during a batch leaves in one write at its end, so the connection is flushed by the reactor, before its wire.

Flow control. What a response brings is given back to the peer's window at once, but for a stream whose reader has paused:
that one's window stays taken, so its peer stops after a window's worth while the others go on; the wire itself is never
paused. Outward, each stream may have so much waiting in the codec before its handler is told to stop, and a socket that
takes nothing stops all of them.
"""

from collections.abc import Iterator

from mosn_xds.base.errors import ResetReason
from mosn_xds.data.codec.events import (
    BadResponse,
    ConnectionClosed,
    Data,
    Event,
    GoAway,
    Informational,
    PeerSettings,
    PingAnswered,
    ResponseStarted,
    StreamReset,
    Trailers,
    Writable,
)
from mosn_xds.data.codec.head import RequestHead
from mosn_xds.data.codec.http2 import ErrorCode, Http2ClientCodec
from mosn_xds.data.net.keepalive import Keepalive
from mosn_xds.data.upstream.api import Stale, StreamHandler
from mosn_xds.data.upstream.connection import Dialed
from mosn_xds.data.upstream.host import Host
from mosn_xds.data.upstream.http2_parts import Http2Parts, streams_of_a_new_connection
from mosn_xds.data.upstream.http2_stream import Http2Stream
from mosn_xds.data.upstream.multiplexed import MultiplexedConnection
from mosn_xds.data.upstream.pool import ConnectionPool, PoolSettings

_REFUSED = ResetReason.REMOTE_REFUSED
_TERMINATED = ResetReason.CONNECTION_TERMINATION
_TX_RESETS = frozenset((ResetReason.LOCAL_RESET, ResetReason.PROTOCOL_ERROR))
_CANCEL = ErrorCode.INTERNAL_ERROR
"""What a stream is reset with that is no longer wanted; Envoy says the same since 1.36."""


class Http2Connection(MultiplexedConnection[Http2Stream]):
    """One connection of a `ConnectionPool`, the consumer of its wire, and flushed by the reactor before it."""

    __slots__ = ("_dirty", "_parts", "codec")

    def __init__(self, pool: ConnectionPool, parts: Http2Parts, id: int, dialed: Dialed | None = None) -> None:
        self._parts = parts
        self._dirty = False
        self.codec = Http2ClientCodec(parts.engines, parts.options, parts.stats)
        stats = pool.settings.stats
        stats.upstream_cx_http2_total += 1
        super().__init__(pool, id, streams_of_a_new_connection(pool.settings.spec, parts.options), dialed)

    def make_stream(self, handler: StreamHandler, reused: bool) -> Http2Stream:
        return Http2Stream(self, handler, reused)

    # For the pool.

    def open(self, handler: StreamHandler) -> Http2Stream:
        if self._keepalive is not None and not self._streams:
            self._probe(self._keepalive)
        return super().open(handler)

    # For the streams.

    def begin(self, stream: Http2Stream, head: RequestHead, end: bool) -> None:
        wire = self.wire
        del self._streams[stream.id]
        stream.began_at = wire.bytes_sent + wire.pending_bytes
        stream.id = stream_id = self.codec.send_head(head, end)
        self._streams[stream_id] = stream
        if not self._dirty:
            self.touch()

    def send_data(self, stream: Http2Stream, data: bytes, end: bool) -> None:
        if self.codec.send_data(stream.id, data, end) and not stream.backed_up:
            stream.backed_up = True
            if not self._full_wire:
                self._back_up(stream)
        if not self._dirty:
            self.touch()

    def abandon(self, stream: Http2Stream) -> None:
        """The handler gave up."""
        self.settings.stats.upstream_rq_tx_reset += 1
        self._reset(stream)
        self._end(stream)

    def give_back(self, stream: Http2Stream) -> None:
        """Let the peer send as much again as `stream` has received."""
        amount_bytes, stream.unread_bytes = stream.unread_bytes, 0
        if amount_bytes:
            self.codec.consume(stream.id, amount_bytes)
            self.touch()

    def touch(self) -> None:
        """There is something to send."""
        if not self._dirty:
            self._dirty = True
            self.settings.reactor.dirty(self)

    # For the reactor.

    def flush(self) -> None:
        self._dirty = False
        wire = self.wire
        if self._full_wire or wire.is_closed:
            return
        codec = self.codec
        if not wire.pending_bytes:
            codec.all_sent()
        out, events = codec.flush()
        if out:
            wire.write(out)
        if events:
            self._deliver(events)

    def on_failure(self, error: Exception) -> None:
        """A handler failed during the flush: nothing that this connection carries can be trusted."""
        self.wire.on_failure(error)

    # For the wire.

    def make_keepalive(self) -> Keepalive | None:
        spec = self.settings.spec.http2
        if not spec.keepalive_timeout_s:
            return None
        return Keepalive(
            self.settings.reactor.timers,
            self._parts.random,
            interval_s=spec.keepalive_interval_s,
            timeout_s=spec.keepalive_timeout_s,
            jitter=spec.keepalive_jitter,
            send=self._ping,
            lost=self._on_silence,
        )

    def on_connected(self) -> None:
        self.touch()
        super().on_connected()

    def on_data(self, data: bytes) -> None:
        if self._keepalive is not None:
            self._keepalive.heard()
        events = self.codec.receive(data)
        if events:
            self._deliver(events)
        self._meter.count_bytes(self.wire)
        if not self._dirty:
            self.touch()

    def on_below_low_water(self) -> None:
        super().on_below_low_water()
        self.touch()

    # Events.

    def _deliver(self, events: list[Event]) -> None:
        streams = self._streams
        if type(events[-1]) is ConnectionClosed:
            # Nobody who hears of his stream's end before that may begin another one here.
            self._limit = self.free_streams = 0
            self._pool.on_full(self)
        for event in events:
            if type(event) is Data:
                stream = streams.get(event.stream_id)
                if stream is not None:
                    self._on_data(stream, event.data, event.end_stream)
            elif type(event) is ResponseStarted:
                stream = streams.get(event.stream_id)
                handler = stream.handler if stream is not None else None
                if stream is not None and handler is not None:
                    if event.end_stream:
                        self._complete(stream)
                    handler.on_response_head(event.head, event.end_stream)
            elif isinstance(event, Trailers):
                stream = streams.get(event.stream_id)
                handler = stream.handler if stream is not None else None
                if stream is not None and handler is not None:
                    self._complete(stream)
                    handler.on_response_trailers(event.fields)
            else:
                self._on_event(event)

    def _on_data(self, stream: Http2Stream, data: bytes, end: bool) -> None:
        handler = stream.handler
        if handler is None:
            return
        size = len(data)
        stream.bytes_received += size
        if stream.paused:
            stream.unread_bytes += size
        elif size:
            self.codec.consume(stream.id, size)
        if end:
            self._complete(stream)
        handler.on_response_data(data, end)

    def _on_event(self, event: Event) -> None:
        """The rarer ones."""
        if isinstance(event, Informational | Writable | StreamReset | BadResponse):
            stream = self._streams.get(event.stream_id)
            if stream is None:
                return
            if isinstance(event, Informational):
                if stream.handler is not None:
                    stream.handler.on_informational(event.head)
            elif isinstance(event, Writable):
                stream.backed_up = False
                if not self._full_wire:
                    self._go_on(stream)
            elif isinstance(event, StreamReset):
                self._fail(stream, event.reason, event.details)
            else:
                # A head beyond the limits. Envoy's codec resets the stream and takes that for the peer's doing.
                self._fail(stream, ResetReason.REMOTE_RESET, event.details)
        elif isinstance(event, PeerSettings):
            self._limit = min(event.max_concurrent_streams, self.expected_streams)
            if self._connected and not self._draining and not self._over:
                self._count_room()
        elif isinstance(event, GoAway):
            self._go_away()
        elif isinstance(event, PingAnswered):
            if self._keepalive is not None:
                self._keepalive.answered()
        elif isinstance(event, ConnectionClosed):
            self._on_codec_end(event)

    def _on_codec_end(self, event: ConnectionClosed) -> None:
        """A connection error, or the peer's GOAWAY and no stream left. Streams have been told."""
        if event.code:
            self.settings.stats.upstream_cx_protocol_error += 1
        if self._over:
            return
        out, _ = self.codec.flush()
        if out and not event.abrupt:
            self.wire.write(out)
        self._fail_all(ResetReason.PROTOCOL_ERROR if event.code else _TERMINATED)
        self.wire.close(flush=not event.abrupt)

    # Streams' ends.

    def _complete(self, stream: Http2Stream) -> None:
        """The response is complete; the handler has not heard of it yet."""
        if not stream.request_complete or (stream.bytes_sent and self.codec.queued_bytes(stream.id)):
            # An early answer: nobody wants the rest of the request.
            self.settings.stats.upstream_rq_tx_reset += 1
            self._reset(stream)
        self._end(stream)

    def _reset(self, stream: Http2Stream) -> None:
        if stream.id > 0:
            self.codec.reset(stream.id, _CANCEL)
            self.touch()

    def _fail(self, stream: Http2Stream, reason: ResetReason, detail: str) -> None:
        """The peer, or the codec, ended the stream early."""
        del detail  # Envoy's words for its codec; logs show those of the reason
        stats = self.settings.stats
        if reason is ResetReason.REMOTE_RESET:
            stats.upstream_rq_rx_reset += 1
        elif reason in _TX_RESETS:
            stats.upstream_rq_tx_reset += 1
        handler = stream.handler
        stale = Stale.NO
        if reason is _REFUSED and self._going_away and stream.reused:
            stale = Stale.UNREAD
        self._end(stream)
        if handler is not None:
            handler.on_upstream_reset(reason, "", stale)

    def _end(self, stream: Http2Stream) -> None:
        if stream.unread_bytes:
            self.codec.consume(stream.id, stream.unread_bytes)
            self.touch()
        super()._end(stream)

    def before_close(self) -> None:
        self.flush()

    def release(self) -> None:
        self.codec.close()

    # Time.

    def _probe(self, keepalive: Keepalive) -> None:
        """A connection that has been idle for long is asked before it is used."""
        idle_s = self.settings.spec.http2.keepalive_idle_interval_s
        if idle_s is not None and self.settings.reactor.clock.now - self.idle_since_s >= idle_s:
            keepalive.probe()

    def _ping(self) -> None:
        self.codec.ping()
        self.touch()

    def _on_silence(self) -> None:
        self._parts.stats.keepalive_timeout += 1
        super()._on_silence()


def http2_pool(host: Host, settings: PoolSettings, parts: Http2Parts, ids: Iterator[int]) -> ConnectionPool:
    """A pool of HTTP/2 connections; `ids` numbers connections."""
    return ConnectionPool(host, settings, lambda pool: Http2Connection(pool, parts, next(ids)))
