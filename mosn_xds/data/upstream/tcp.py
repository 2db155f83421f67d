"""Raw connections to an upstream, for the TCP proxy: one for each downstream connection, with the cluster's limits.

While the connection is being made, `TcpConnection` is its wire's consumer. Then it hands the wire to the handler, which
becomes the consumer itself, so that bytes pass no further object, and calls `TcpConnection.closed` when the wire has ended.
"""

from typing import Protocol

from mosn_xds.base.errors import ResetReason
from mosn_xds.data.net.consumer import CloseReason
from mosn_xds.data.net.dial import Preamble, dial
from mosn_xds.data.net.secure_wire import Securing
from mosn_xds.data.upstream.connect_failure import connect_failure, is_bind_error
from mosn_xds.data.upstream.host import Host
from mosn_xds.data.upstream.meter import ConnectionMeter
from mosn_xds.data.upstream.pool import PoolSettings


class TcpHandler(Protocol):
    """Who asked for a connection; answered once."""

    def on_upstream_ready(self, connection: "TcpConnection", host: Host) -> None:
        """Take `connection.wire` over: set its `consumer`."""
        ...

    def on_upstream_failure(self, reason: ResetReason, detail: str, host: Host) -> None:
        """No connection. OVERFLOW: a circuit breaker; else `detail` is the transport failure, or empty."""
        ...


class TcpConnection:
    """One connection, from the attempt to its end. `local` is its local address (``ip:port``) once it is connected."""

    __slots__ = ("_connected", "_dial", "_handler", "_meter", "_settings", "host", "id", "local", "wire")

    def __init__(
        self,
        host: Host,
        settings: PoolSettings,
        handler: TcpHandler,
        id: int,
        secure: Securing | Preamble | None = None,
    ) -> None:
        self.host = host
        self.id = id
        self.local = ""
        self._settings = settings
        self._handler: TcpHandler | None = handler
        self._connected = False
        stats = settings.stats
        stats.upstream_rq_pending_total += 1
        stats.upstream_rq_pending_active += 1
        host.rq_pending_active += 1
        if settings.breaker.pending is not None:
            settings.breaker.pending.add(1)
        self._meter = ConnectionMeter(host, stats, settings.breaker.connections, settings.reactor.clock.now)
        self._dial = settings.dial_options(host.address)
        self.wire = dial(settings.reactor, host.address, self, self._dial, secure)

    def cancel(self) -> None:
        """Give up while connecting: the handler is not called. Later it does nothing."""
        if not self._connected and self._handler is not None:
            self._handler = None
            self._settings.stats.upstream_rq_cancelled += 1
            self.wire.close(flush=False)

    def count_bytes(self) -> None:
        """Bring the cluster's byte counters up to date; `closed` does that, too."""
        self._meter.count_bytes(self.wire)

    def closed(self, reason: CloseReason) -> None:
        """The handler's wire has ended."""
        settings = self._settings
        stats = settings.stats
        stats.upstream_rq_active -= 1
        self.host.active_requests -= 1
        self._meter.closed(self.wire, reason, active=True, now_s=settings.reactor.clock.now)

    # The wire's consumer while connecting.

    def on_connected(self) -> None:
        settings = self._settings
        handler, self._handler = self._handler, None
        self._connected = True
        self._end_pending()
        stats, host = settings.stats, self.host
        self._meter.connected(settings.reactor.clock.now)
        self._meter.streams += 1
        stats.upstream_rq_total += 1
        stats.upstream_rq_active += 1
        host.rq_total += 1
        host.active_requests += 1
        self.local = str(self.wire.local_address or "")
        if handler is not None:
            handler.on_upstream_ready(self, host)

    def on_closed(self, reason: CloseReason) -> None:
        settings = self._settings
        if self._connected:
            self.closed(reason)
            return
        handler, self._handler = self._handler, None
        self._end_pending()
        self._meter.connect_failed(reason)
        if is_bind_error(self.wire, self._dial):
            settings.stats.bind_errors += 1
        self._meter.closed(self.wire, reason, active=False, now_s=settings.reactor.clock.now)
        if handler is not None:
            settings.stats.upstream_rq_pending_failure_eject += 1
            failure, detail = connect_failure(self.wire, reason, self.host.address, self._dial)
            handler.on_upstream_failure(failure, detail, self.host)

    def on_data(self, data: bytes) -> None:
        """Comes only if the handler took the connection and not the wire: nobody wants it."""
        self.wire.close(flush=False)

    def on_eof(self) -> None:
        """As `on_data`."""
        self.wire.close(flush=False)

    def on_above_high_water(self) -> None:
        """Nothing is written while connecting."""

    def on_below_low_water(self) -> None:
        """Nothing is written while connecting."""

    def _end_pending(self) -> None:
        self._settings.stats.upstream_rq_pending_active -= 1
        self.host.rq_pending_active -= 1
        if self._settings.breaker.pending is not None:
            self._settings.breaker.pending.add(-1)

    def __repr__(self) -> str:
        return f"<TcpConnection {self.id} to {self.host.text} {'connected' if self._connected else 'connecting'}>"
