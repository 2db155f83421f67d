"""A connection to an upstream that carries many streams at once: all that does not depend on its protocol.

`MultiplexedConnection` adds to a `PooledConnection` the streams, the room for more of them, signs of life, back-pressure of
requests, and what becomes of streams when the connection ends. What the protocol adds is in a class below it: how a request
becomes bytes, what bytes mean, what has to be said before the connection closes.

The end of a connection. GOAWAY, a drain, `max_requests_per_connection` and the maximal duration let the streams that are
there finish. A stream that a peer which has said GOAWAY refuses, and one of which the peer's system has not acknowledged a
byte when the connection broke, have not been looked at: on a connection that had served before they are `Stale.UNREAD`, to
be sent again whatever the retry policy says. On a new connection they are not, for there would be no end to it.
"""

import errno
from typing import Generic, TypeVar

from mosn_xds.base.errors import ResetReason
from mosn_xds.data.codec.head import Fields, RequestHead, Version
from mosn_xds.data.net.keepalive import Keepalive
from mosn_xds.data.net.tls_facts import TlsFacts
from mosn_xds.data.upstream.api import Stale, StreamHandler
from mosn_xds.data.upstream.connection import Dialed, PooledConnection
from mosn_xds.data.upstream.host import Host
from mosn_xds.data.upstream.pool import ConnectionPool

UNLIMITED_STREAMS = 1 << 29
"""Envoy's default for the streams of a connection in its life."""
_RESETS = frozenset((errno.ECONNRESET, errno.EPIPE))
_TERMINATED = ResetReason.CONNECTION_TERMINATION
_TX_RESETS = frozenset((ResetReason.LOCAL_RESET, ResetReason.PROTOCOL_ERROR))


class MultiplexedStream:
    """What every stream of such a connection has. Until its request is sent, its `id` is negative: it has none of its own."""

    version: Version
    tls: TlsFacts | None = None

    # Defaults on the class: what an exchange does not need is not set for it.
    bytes_received = 0
    bytes_sent = 0
    id = 0
    began_at = 0
    backed_up = False

    def __init__(self, host: Host, local: str, connection_id: int, handler: StreamHandler, reused: bool) -> None:
        self.handler: StreamHandler | None = handler
        self.host = host
        self.local = local
        self.connection_id = connection_id
        self.reused = reused

    def send_head(self, head: RequestHead, end: bool) -> None:
        raise NotImplementedError

    def send_data(self, data: bytes, end: bool) -> None:
        raise NotImplementedError

    def send_trailers(self, fields: Fields) -> None:
        raise NotImplementedError

    def reset(self) -> None:
        raise NotImplementedError

    def pause_reading(self) -> None:
        raise NotImplementedError

    def resume_reading(self) -> None:
        raise NotImplementedError

    def unlink(self) -> None:
        """For the connection: this stream is over. Links are cut, for the handler may keep it."""
        raise NotImplementedError


S = TypeVar("S", bound=MultiplexedStream)


class MultiplexedConnection(PooledConnection, Generic[S]):
    """See the module's text."""

    __slots__ = ("_full_wire", "_going_away", "_keepalive", "_limit", "_streams", "_streams_left")

    def __init__(self, pool: ConnectionPool, id: int, expected_streams: int, dialed: Dialed | None = None) -> None:
        self._streams_left = pool.settings.spec.max_requests_per_connection or UNLIMITED_STREAMS
        self._limit = expected_streams  # until the peer says something else
        self._streams: dict[int, S] = {}
        self._full_wire = False
        self._going_away = False  # the peer has said GOAWAY
        self._keepalive: Keepalive | None = None
        super().__init__(pool, id, expected_streams, dialed)

    # What protocols do differently.

    def make_stream(self, handler: StreamHandler, reused: bool) -> S:
        raise NotImplementedError

    def make_keepalive(self) -> Keepalive | None:
        """How the connection, which has just been made, is asked for signs of life."""
        return None

    def before_close(self) -> None:
        """No stream is left: write what the protocol has still to say."""

    @property
    def active_streams(self) -> int:
        return len(self._streams)

    # For the pool.

    def open(self, handler: StreamHandler) -> S:
        meter = self._meter
        meter.streams += 1
        stream = self.make_stream(handler, meter.streams > 1)
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

    # For the wire.

    def on_connected(self) -> None:
        self._keepalive = self.make_keepalive()
        super().on_connected()

    def on_eof(self) -> None:
        self._meter.by_peer = True
        if not self._over:
            self._fail_all(_TERMINATED)
            self.wire.close()

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

    # Streams' ends.

    def _fail_all(self, reason: ResetReason) -> None:
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

    def _end(self, stream: S) -> None:
        """Cut the links of a stream that is over, and see what that leaves room for."""
        self._streams.pop(stream.id, None)
        stream.unlink()
        self._pool.on_stream_end()
        if self._over:
            return
        if not self._streams:
            self.idle_since_s = self.settings.reactor.clock.now
            if self._draining:
                # What the codec has still to say, the reset of this very stream perhaps, goes first.
                self._leave()
                self.before_close()
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
        if self._keepalive is not None:
            self._keepalive.close()
            self._keepalive = None
        super()._leave(active=active)

    def _go_away(self) -> None:
        """The peer takes no more streams."""
        self._going_away = True
        if not self._draining:
            self.settings.stats.upstream_cx_close_notify += 1
        self.drain()

    # Back-pressure of requests.

    def _back_up(self, stream: S) -> None:
        if stream.handler is not None:
            self.settings.stats.upstream_flow_control_backed_up_total += 1
            stream.handler.on_upstream_above_high_water()

    def _go_on(self, stream: S) -> None:
        if stream.handler is not None:
            self.settings.stats.upstream_flow_control_drained_total += 1
            stream.handler.on_upstream_below_low_water()

    # Time.

    def _on_silence(self) -> None:
        """A sign of life was asked for, and has not come."""
        if not self._over:
            self._fail_all(_TERMINATED)
            self.wire.close(flush=False)

    def __repr__(self) -> str:
        name = type(self).__name__
        state = "closed" if self._over else "ready" if self._connected else "connecting"
        return f"<{name} {self.id} to {self.host.text} {state}, {len(self._streams)} of {self._meter.streams} streams>"
