"""HTTP/2 to an upstream: many streams on a connection, each with windows of its own.

`Http2Connection` stands between a wire and the codec; `Http2Stream` is what the proxy holds of one exchange. What streams
say during a batch leaves in one write at its end, so the connection is flushed by the reactor, before its wire.

Flow control. What a response brings is given back to the peer's window at once, but for a stream whose reader has paused:
that one's window stays taken, so its peer stops after a window's worth while the others go on; the wire itself is never
paused. Outward, each stream may have so much waiting in the codec before its handler is told to stop, and a socket that
takes nothing stops all of them.

The end of a connection. GOAWAY, a drain, `max_requests_per_connection` and the maximal duration let the streams that are
there finish. A stream that a peer which has said GOAWAY refuses, and one of which the peer's system has not acknowledged a
byte when the connection broke, have not been looked at: on a connection that had served before they are `Stale.UNREAD`, to
be sent again whatever the retry policy says. On a new connection they are not, for there would be no end to it.
"""

import errno
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
from mosn_xds.data.net.consumer import CloseReason
from mosn_xds.data.net.dial import dial
from mosn_xds.data.net.keepalive import Keepalive
from mosn_xds.data.net.timers import Timer
from mosn_xds.data.upstream.api import Stale, StreamHandler
from mosn_xds.data.upstream.connect_failure import connect_failure, is_bind_error
from mosn_xds.data.upstream.host import Host
from mosn_xds.data.upstream.http2_parts import UNLIMITED_STREAMS, Http2Parts, streams_of_a_new_connection
from mosn_xds.data.upstream.http2_stream import Http2Stream
from mosn_xds.data.upstream.meter import ConnectionMeter
from mosn_xds.data.upstream.pool import ConnectionPool, Dialed, PoolSettings

_RESETS = frozenset((errno.ECONNRESET, errno.EPIPE))
_REFUSED = ResetReason.REMOTE_REFUSED
_TERMINATED = ResetReason.CONNECTION_TERMINATION
_TX_RESETS = frozenset((ResetReason.LOCAL_RESET, ResetReason.PROTOCOL_ERROR))
_CANCEL = ErrorCode.INTERNAL_ERROR
"""What a stream is reset with that is no longer wanted; Envoy says the same since 1.36."""


class Http2Connection:
    """One connection of a `ConnectionPool`, the consumer of its wire, and flushed by the reactor before it."""

    __slots__ = (
        "_connected",
        "_dial",
        "_dirty",
        "_draining",
        "_duration_timer",
        "_full_wire",
        "_going_away",
        "_keepalive",
        "_limit",
        "_meter",
        "_over",
        "_parts",
        "_pool",
        "_streams",
        "_streams_left",
        "_was_active",
        "codec",
        "expected_streams",
        "free_streams",
        "host",
        "id",
        "idle_since_s",
        "local",
        "settings",
        "wire",
    )

    def __init__(self, pool: ConnectionPool, parts: Http2Parts, id: int, dialed: Dialed | None = None) -> None:
        settings = pool.settings
        self._pool = pool
        self._parts = parts
        self.settings: PoolSettings = settings
        self.host: Host = pool.host
        self.id = id
        self.local = ""
        self.codec = Http2ClientCodec(parts.engines, parts.options, parts.stats)
        self._streams_left = settings.spec.max_requests_per_connection or UNLIMITED_STREAMS
        self.expected_streams = streams_of_a_new_connection(settings.spec, parts.options)
        self.free_streams = 0
        self.idle_since_s = 0.0
        self._limit = self.expected_streams  # until the peer says something else
        self._streams: dict[int, Http2Stream] = {}
        self._connected = False
        self._dirty = False
        self._draining = False
        self._full_wire = False
        self._going_away = False  # the peer has said GOAWAY
        self._over = False
        self._was_active = False
        self._duration_timer: Timer | None = None
        self._keepalive: Keepalive | None = None
        settings.stats.upstream_cx_http2_total += 1
        if dialed is not None:
            self.wire, self._meter, self._dial = dialed
            return
        self._meter = ConnectionMeter(
            pool.host, settings.stats, settings.breaker.connections, settings.reactor.clock.now
        )
        self._dial = settings.dial_options(pool.host.address)
        self.wire = dial(settings.reactor, pool.host.address, self, self._dial, pool.secure)

    @property
    def active_streams(self) -> int:
        return len(self._streams)

    # For the pool.

    def open(self, handler: StreamHandler) -> Http2Stream:
        if self._keepalive is not None and not self._streams:
            self._probe(self._keepalive)
        meter = self._meter
        meter.streams += 1
        stream = Http2Stream(self, handler, meter.streams > 1)
        stream.tls = self.wire.tls
        # Until its head is sent it has no id of its own.
        self._streams[-meter.streams] = stream
        stream.id = -meter.streams
        self.free_streams -= 1
        self._streams_left -= 1
        if not self._streams_left:
            self.settings.stats.upstream_cx_max_requests += 1
            self._draining = True
            self.free_streams = 0
        return stream

    def drain(self) -> None:
        self._draining = True
        if not self._streams:
            self.close()
        elif self.free_streams:
            self.free_streams = 0
            self._pool.on_full(self)

    def close(self) -> None:
        if self._over:
            return
        if self._streams:
            self._fail_all(ResetReason.LOCAL_RESET)
        else:
            self._leave()
        self.wire.close(flush=False)

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

    def on_connected(self) -> None:
        self._connected = True
        settings = self.settings
        now = settings.reactor.clock.now
        self._meter.connected(now)
        self.local = str(self.wire.local_address or "")
        self.idle_since_s = now
        self.free_streams = self.expected_streams
        spec = settings.spec
        if spec.max_connection_duration_s:
            self._duration_timer = settings.reactor.timers.arm(spec.max_connection_duration_s, self._on_max_duration)
        if spec.http2.keepalive_timeout_s:
            self._keepalive = Keepalive(
                settings.reactor.timers,
                self._parts.random,
                interval_s=spec.http2.keepalive_interval_s,
                timeout_s=spec.http2.keepalive_timeout_s,
                jitter=spec.http2.keepalive_jitter,
                send=self._ping,
                lost=self._on_keepalive_timeout,
            )
        self.touch()
        self._pool.on_connected(self)

    def on_data(self, data: bytes) -> None:
        if self._keepalive is not None:
            self._keepalive.heard()
        events = self.codec.receive(data)
        if events:
            self._deliver(events)
        self._meter.count_bytes(self.wire)
        if not self._dirty:
            self.touch()

    def on_eof(self) -> None:
        self._meter.by_peer = True
        if not self._over:
            self._fail_all(_TERMINATED)
            self.wire.close()

    def on_closed(self, reason: CloseReason) -> None:
        settings = self.settings
        if not self._over:
            self._fail_all(ResetReason.LOCAL_RESET if reason is CloseReason.HANDLER_FAILED else _TERMINATED)
        wire = self.wire
        if not self._connected:
            self._meter.connect_failed(reason)
            if is_bind_error(wire, self._dial):
                settings.stats.bind_errors += 1
        self._meter.closed(wire, reason, active=self._was_active, now_s=settings.reactor.clock.now)
        self.codec.close()
        if not self._connected:
            failure, detail = connect_failure(wire, reason, self.host.address, self._dial)
            self._pool.on_connect_failure(self, failure, detail)

    def on_above_high_water(self) -> None:
        self._full_wire = True
        for stream in tuple(self._streams.values()):
            if not stream.backed_up:
                self._back_up(stream)

    def on_below_low_water(self) -> None:
        self._full_wire = False
        for stream in tuple(self._streams.values()):
            if not stream.backed_up:
                self._go_on(stream)
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
            self._on_goaway(event)
        elif isinstance(event, PingAnswered):
            if self._keepalive is not None:
                self._keepalive.answered()
        elif isinstance(event, ConnectionClosed):
            self._on_codec_end(event)

    def _on_goaway(self, event: GoAway) -> None:
        self._going_away = True
        if not self._draining:
            self.settings.stats.upstream_cx_close_notify += 1
        self.drain()

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

    def _fail_all(self, reason: ResetReason) -> None:
        """The connection is lost, and every stream with it."""
        streams = tuple(self._streams.values())
        lost = reason is _TERMINATED
        wire = self.wire
        # What TLS has made of our bytes is acknowledged, not they: only what never left is known to be unread.
        acknowledged = wire.bytes_sent - (0 if self._pool.secure is not None else wire.unacknowledged_bytes)
        error = wire.error
        broken = error is not None and error.errno in _RESETS
        self._leave(active=bool(streams))
        for stream in streams:
            handler = stream.handler
            if handler is None:
                continue
            stale = Stale.NO
            if lost and stream.reused and not stream.bytes_received:
                unread = stream.id <= 0 or stream.began_at >= acknowledged
                stale = Stale.UNREAD if unread else Stale.MAYBE if broken else Stale.NO
            self._end(stream)
            if lost:
                self.settings.stats.upstream_rq_pending_failure_eject += 1
            elif reason in _TX_RESETS:
                self.settings.stats.upstream_rq_tx_reset += 1
            handler.on_upstream_reset(reason, "", stale)

    def _end(self, stream: Http2Stream) -> None:
        """Cut the links of a stream that is over, and see what that leaves room for."""
        self._streams.pop(stream.id, None)
        stream.connection = None
        stream.handler = None
        if stream.unread_bytes:
            self.codec.consume(stream.id, stream.unread_bytes)
            self.touch()
        self._pool.on_stream_end()
        if self._over:
            return
        if not self._streams:
            self.idle_since_s = self.settings.reactor.clock.now
            if self._draining:
                # What the codec has still to say, the reset of this very stream perhaps, goes first.
                self._leave()
                self.flush()
                self.wire.close()
                return
        if self._draining:
            return
        had_room = self.free_streams
        self._count_room()
        if had_room and not self._streams:
            self._pool.on_idle(self)

    def _count_room(self) -> None:
        """How many more streams there may be has changed."""
        had_room = self.free_streams
        room = self._limit - len(self._streams)
        room = min(room, self._streams_left)
        self.free_streams = room = room if room > 0 else 0
        if room and not had_room:
            self._pool.on_room(self)
        elif had_room and not room:
            self._pool.on_full(self)

    def _leave(self, *, active: bool = False) -> None:
        """This connection takes no more streams and will close."""
        self._over = True
        self._was_active = active
        self.free_streams = 0
        if self._duration_timer is not None:
            self._duration_timer.cancel()
            self._duration_timer = None
        if self._keepalive is not None:
            self._keepalive.close()
            self._keepalive = None
        self._pool.on_closed(self)

    # Back-pressure of requests.

    def _back_up(self, stream: Http2Stream) -> None:
        if stream.handler is not None:
            self.settings.stats.upstream_flow_control_backed_up_total += 1
            stream.handler.on_upstream_above_high_water()

    def _go_on(self, stream: Http2Stream) -> None:
        if stream.handler is not None:
            self.settings.stats.upstream_flow_control_drained_total += 1
            stream.handler.on_upstream_below_low_water()

    # Time.

    def _probe(self, keepalive: Keepalive) -> None:
        """A connection that has been idle for long is asked before it is used."""
        idle_s = self.settings.spec.http2.keepalive_idle_interval_s
        if idle_s is not None and self.settings.reactor.clock.now - self.idle_since_s >= idle_s:
            keepalive.probe()

    def _ping(self) -> None:
        self.codec.ping()
        self.touch()

    def _on_keepalive_timeout(self) -> None:
        self._parts.stats.keepalive_timeout += 1
        if not self._over:
            self._fail_all(_TERMINATED)
            self.wire.close(flush=False)

    def _on_max_duration(self) -> None:
        self._duration_timer = None
        self.settings.stats.upstream_cx_max_duration_reached += 1
        self.drain()

    def __repr__(self) -> str:
        state = "closed" if self._over else "ready" if self._connected else "connecting"
        return f"<Http2Connection {self.id} to {self.host.text} {state}, {len(self._streams)} of {self._meter.streams} streams>"


def http2_pool(host: Host, settings: PoolSettings, parts: Http2Parts, ids: Iterator[int]) -> ConnectionPool:
    """A pool of HTTP/2 connections; `ids` numbers connections."""
    return ConnectionPool(host, settings, lambda pool: Http2Connection(pool, parts, next(ids)))
