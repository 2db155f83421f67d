"""A connection of a `ConnectionPool`, whatever it speaks: how it is made, what is told of it, and how it ends.

`PooledConnection` is the consumer of its wire and calls its pool's `on_*` methods. Here are the attempt to connect and its
failure, the maximal duration, and the figures. How streams share the connection, and their bytes, are in the classes below it:
`Http1Connection` has one stream at a time, a `MultiplexedConnection` many, an `UndecidedConnection` none yet.
"""

from typing import TYPE_CHECKING, NamedTuple

from mosn_xds.base.errors import ResetReason
from mosn_xds.data.net.consumer import CloseReason
from mosn_xds.data.net.dial import DialOptions, dial
from mosn_xds.data.net.timers import Timer
from mosn_xds.data.net.wire import Wire
from mosn_xds.data.upstream.connect_failure import connect_failure, is_bind_error
from mosn_xds.data.upstream.meter import ConnectionMeter

if TYPE_CHECKING:
    from mosn_xds.data.upstream.api import StreamHandler, UpstreamStream
    from mosn_xds.data.upstream.host import Host
    from mosn_xds.data.upstream.pool import ConnectionPool, PoolSettings


class Dialed(NamedTuple):
    """What a connection takes over from the one that was made before its protocol was known."""

    wire: Wire
    meter: ConnectionMeter
    options: DialOptions


class PooledConnection:
    """See the module's text.

    `free_streams` is how many more streams it takes at once, 0 while connecting and when it takes no more; `expected_streams`
    how many it will probably take, for as long as it connects; `idle_since_s` when its last stream ended, meaningful while it
    has none; `local` its local address (``ip:port``) once it is connected.
    """

    __slots__ = (
        "_connected",
        "_dial",
        "_draining",
        "_duration_timer",
        "_meter",
        "_over",
        "_pool",
        "_was_active",
        "expected_streams",
        "free_streams",
        "host",
        "id",
        "idle_since_s",
        "local",
        "settings",
        "wire",
    )

    def __init__(self, pool: "ConnectionPool", id: int, expected_streams: int, dialed: Dialed | None = None) -> None:
        settings = pool.settings
        self._pool = pool
        self.settings: PoolSettings = settings
        self.host: Host = pool.host
        self.id = id
        self.local = ""
        self.expected_streams = expected_streams
        self.free_streams = 0
        self.idle_since_s = 0.0
        self._connected = False
        self._draining = False
        self._over = False  # it takes no more streams, and will close
        self._was_active = False
        self._duration_timer: Timer | None = None
        if dialed is not None:
            self.wire, self._meter, self._dial = dialed
            return
        self._meter = ConnectionMeter(
            pool.host, settings.stats, settings.breaker.connections, settings.reactor.clock.now
        )
        self._dial = settings.dial_options(pool.host.address)
        self.wire = dial(settings.reactor, pool.host.address, self, self._dial, pool.secure)

    # What protocols do differently.

    @property
    def active_streams(self) -> int:
        raise NotImplementedError

    def open(self, handler: "StreamHandler") -> "UpstreamStream":
        """Begin a stream; there is room."""
        raise NotImplementedError

    def drain(self) -> None:
        """Close when the last stream ends, now if there is none."""
        raise NotImplementedError

    def close(self) -> None:
        """Close now; streams are reset."""
        raise NotImplementedError

    def on_data(self, data: bytes) -> None:
        raise NotImplementedError

    def on_eof(self) -> None:
        raise NotImplementedError

    def on_above_high_water(self) -> None:
        raise NotImplementedError

    def on_below_low_water(self) -> None:
        raise NotImplementedError

    def release(self) -> None:
        """The connection is over: let go of the codec."""

    def _fail_all(self, reason: ResetReason) -> None:
        """The connection is lost, and every stream with it."""
        raise NotImplementedError

    # For the wire.

    def on_connected(self) -> None:
        self._connected = True
        settings = self.settings
        now = settings.reactor.clock.now
        self._meter.connected(now)
        self.local = str(self.wire.local_address or "")
        self.idle_since_s = now
        self.free_streams = self.expected_streams
        duration_s = settings.spec.max_connection_duration_s
        if duration_s:
            self._duration_timer = settings.reactor.timers.arm(duration_s, self._on_max_duration)
        self._pool.on_connected(self)

    def on_closed(self, reason: CloseReason) -> None:
        if not self._over:
            by_us = reason is CloseReason.HANDLER_FAILED
            self._fail_all(ResetReason.LOCAL_RESET if by_us else ResetReason.CONNECTION_TERMINATION)
        settings = self.settings
        wire = self.wire
        if not self._connected:
            self._meter.connect_failed(reason)
            if is_bind_error(wire, self._dial):
                settings.stats.bind_errors += 1
        self._meter.closed(wire, reason, active=self._was_active, now_s=settings.reactor.clock.now)
        self.release()
        if not self._connected:
            failure, detail = connect_failure(wire, reason, self.host.address, self._dial)
            self._pool.on_connect_failure(self, failure, detail)

    # Inside.

    def _leave(self, *, active: bool = False) -> None:
        """This connection takes no more streams and will close; `active`: with a stream that is not complete."""
        self._over = True
        self._was_active = active
        self.free_streams = 0
        if self._duration_timer is not None:
            self._duration_timer.cancel()
            self._duration_timer = None
        self._pool.on_closed(self)

    def _on_max_duration(self) -> None:
        self._duration_timer = None
        self.settings.stats.upstream_cx_max_duration_reached += 1
        self.drain()
