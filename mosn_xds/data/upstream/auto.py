"""`auto_config`: the protocol of an upstream connection is what both sides agree on by ALPN.

A connection begins as an `UndecidedConnection`, which offers HTTP/2 and HTTP/1.1, and is expected to carry as many streams
as HTTP/2 would: as in Envoy (HttpConnPoolImplMixed), who waits does so for one connection. Once its handshake is complete
it hands its wire and its figures to a connection of the protocol that was chosen, HTTP/1.1 if none was, and is forgotten.
"""

from collections.abc import Iterator

from mosn_xds.data.codec.http1 import Http1Options
from mosn_xds.data.net.consumer import CloseReason
from mosn_xds.data.net.dial import dial
from mosn_xds.data.upstream.api import StreamHandler, UpstreamStream
from mosn_xds.data.upstream.connect_failure import connect_failure, is_bind_error
from mosn_xds.data.upstream.host import Host
from mosn_xds.data.upstream.http1 import Http1Connection
from mosn_xds.data.upstream.http2 import Http2Connection
from mosn_xds.data.upstream.http2_parts import Http2Parts, streams_of_a_new_connection
from mosn_xds.data.upstream.meter import ConnectionMeter
from mosn_xds.data.upstream.pool import ConnectionPool, Dialed, PoolSettings

_HTTP2 = b"h2"


class UndecidedConnection:
    """See the module: a `PooledConnection` that never has room, and the consumer of its wire until that is connected."""

    __slots__ = ("_dial", "_http1", "_http2", "_id", "_meter", "_over", "_pool", "expected_streams", "wire")

    free_streams = 0
    idle_since_s = 0.0
    active_streams = 0

    def __init__(self, pool: ConnectionPool, http1: Http1Options, http2: Http2Parts, id: int) -> None:
        settings = pool.settings
        self._pool = pool
        self._http1 = http1
        self._http2 = http2
        self._id = id
        self._over = False
        self.expected_streams = streams_of_a_new_connection(settings.spec, http2.options)
        self._meter = ConnectionMeter(
            pool.host, settings.stats, settings.breaker.connections, settings.reactor.clock.now
        )
        self._dial = settings.dial_options(pool.host.address)
        self.wire = dial(settings.reactor, pool.host.address, self, self._dial, pool.secure)

    # For the pool.

    def open(self, handler: StreamHandler) -> UpstreamStream:
        raise RuntimeError(f"{self!r} is not connected")

    def drain(self) -> None:
        self.close()

    def close(self) -> None:
        if not self._over:
            self._over = True
            self._pool.on_closed(self)
            self.wire.close(flush=False)

    # For the wire.

    def on_connected(self) -> None:
        dialed = Dialed(self.wire, self._meter, self._dial)
        successor: Http1Connection | Http2Connection
        if self.wire.alpn == _HTTP2:
            successor = Http2Connection(self._pool, self._http2, self._id, dialed)
        else:
            successor = Http1Connection(self._pool, self._http1, self._id, dialed)
        self.wire.consumer = successor
        self._pool.on_negotiated(self, successor)
        successor.on_connected()

    def on_closed(self, reason: CloseReason) -> None:
        settings = self._pool.settings
        wire = self.wire
        if not self._over:
            self._over = True
            self._pool.on_closed(self)
        self._meter.connect_failed(reason)
        if is_bind_error(wire, self._dial):
            settings.stats.bind_errors += 1
        self._meter.closed(wire, reason, active=False, now_s=settings.reactor.clock.now)
        failure, detail = connect_failure(wire, reason, self._pool.host.address, self._dial)
        self._pool.on_connect_failure(self, failure, detail)

    def on_data(self, data: bytes) -> None:
        """Nothing comes before `on_connected`, and then it is the successor's."""

    def on_eof(self) -> None:
        """As `on_data`."""

    def on_above_high_water(self) -> None:
        """Nothing is written while connecting."""

    def on_below_low_water(self) -> None:
        """As above."""

    def __repr__(self) -> str:
        return f"<UndecidedConnection {self._id} to {self._pool.host.text}>"


def auto_pool(
    host: Host, settings: PoolSettings, http1: Http1Options, http2: Http2Parts, ids: Iterator[int]
) -> ConnectionPool:
    """A pool whose connections speak what their peers choose; `ids` numbers connections."""
    return ConnectionPool(host, settings, lambda pool: UndecidedConnection(pool, http1, http2, next(ids)))
