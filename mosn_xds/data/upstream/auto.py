"""`auto_config`: the protocol of an upstream connection is what both sides agree on by ALPN.

A connection begins as an `UndecidedConnection`, which offers HTTP/2 and HTTP/1.1, and is expected to carry as many streams
as HTTP/2 would: as in Envoy (HttpConnPoolImplMixed), who waits does so for one connection. Once its handshake is complete
it hands its wire and its figures to a connection of the protocol that was chosen, HTTP/1.1 if none was, and is forgotten.
"""

from collections.abc import Iterator

from mosn_xds.base.errors import ResetReason
from mosn_xds.data.codec.http1 import Http1Options
from mosn_xds.data.upstream.api import StreamHandler, UpstreamStream
from mosn_xds.data.upstream.connection import Dialed, PooledConnection
from mosn_xds.data.upstream.host import Host
from mosn_xds.data.upstream.http1 import Http1Connection
from mosn_xds.data.upstream.http2 import Http2Connection
from mosn_xds.data.upstream.http2_parts import Http2Parts, streams_of_a_new_connection
from mosn_xds.data.upstream.pool import ConnectionPool, PoolSettings

_HTTP2 = b"h2"


class UndecidedConnection(PooledConnection):
    """See the module's text. It never has room for a stream."""

    __slots__ = ("_http1", "_http2")

    def __init__(self, pool: ConnectionPool, http1: Http1Options, http2: Http2Parts, id: int) -> None:
        self._http1 = http1
        self._http2 = http2
        super().__init__(pool, id, streams_of_a_new_connection(pool.settings.spec, http2.options))

    @property
    def active_streams(self) -> int:
        return 0

    # For the pool.

    def open(self, handler: StreamHandler) -> UpstreamStream:
        raise RuntimeError(f"{self!r} is not connected")

    def drain(self) -> None:
        self.close()

    def close(self) -> None:
        if not self._over:
            self._leave()
            self.wire.close(flush=False)

    # For the wire.

    def on_connected(self) -> None:
        dialed = Dialed(self.wire, self._meter, self._dial)
        successor: Http1Connection | Http2Connection
        if self.wire.alpn == _HTTP2:
            successor = Http2Connection(self._pool, self._http2, self.id, dialed)
        else:
            successor = Http1Connection(self._pool, self._http1, self.id, dialed)
        self.wire.consumer = successor
        self._pool.on_negotiated(self, successor)
        successor.on_connected()

    def _fail_all(self, reason: ResetReason) -> None:
        del reason
        self._leave()

    def on_data(self, data: bytes) -> None:
        """Nothing comes before `on_connected`, and then it is the successor's."""

    def on_eof(self) -> None:
        """As `on_data`."""

    def on_above_high_water(self) -> None:
        """Nothing is written while connecting."""

    def on_below_low_water(self) -> None:
        """As above."""

    def __repr__(self) -> str:
        return f"<UndecidedConnection {self.id} to {self.host.text}>"


def auto_pool(
    host: Host, settings: PoolSettings, http1: Http1Options, http2: Http2Parts, ids: Iterator[int]
) -> ConnectionPool:
    """A pool whose connections speak what their peers choose; `ids` numbers connections."""
    return ConnectionPool(host, settings, lambda pool: UndecidedConnection(pool, http1, http2, next(ids)))
