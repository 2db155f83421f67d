"""What one upstream connection counts in its life, the same for every protocol: cluster, host and breaker."""

from mosn_xds.data.net.consumer import CloseReason
from mosn_xds.data.net.wire import Wire
from mosn_xds.data.upstream.breaker import Limit
from mosn_xds.data.upstream.host import Host
from mosn_xds.data.upstream.stats import ClusterStats

_BY_PEER = frozenset((CloseReason.REMOTE_CLOSE, CloseReason.REMOTE_RESET, CloseReason.CONNECT_FAILED))


class ConnectionMeter:
    """Counts one connection, from the attempt to make it (construction) to `closed`."""

    __slots__ = ("_began_s", "_bytes_received", "_bytes_sent", "_host", "_limit", "_stats", "by_peer", "streams")

    def __init__(self, host: Host, stats: ClusterStats, limit: Limit | None, now_s: float) -> None:
        self._host = host
        self._stats = stats
        self._limit = limit
        self._began_s = now_s
        self._bytes_received = 0
        self._bytes_sent = 0
        self.streams = 0
        """Streams begun on it."""
        self.by_peer = False
        """The peer has ended its side: a close that follows is its doing."""
        stats.upstream_cx_total += 1
        stats.upstream_cx_active += 1
        host.cx_total += 1
        host.cx_active += 1
        if limit is not None:
            limit.add(1)

    def connected(self, now_s: float) -> None:
        self._stats.upstream_cx_connect_ms.record((now_s - self._began_s) * 1000.0)

    def connect_failed(self, reason: CloseReason) -> None:
        """Comes before `closed`."""
        self._stats.upstream_cx_connect_fail += 1
        self._host.cx_connect_fail += 1
        if reason is CloseReason.CONNECT_TIMEOUT:
            self._stats.upstream_cx_connect_timeout += 1

    def count_bytes(self, wire: Wire) -> tuple[int, int]:
        """Count what has been received and sent since the last call, and return it."""
        stats = self._stats
        received = wire.bytes_received - self._bytes_received
        sent = wire.bytes_sent - self._bytes_sent
        self._bytes_received += received
        self._bytes_sent += sent
        stats.upstream_cx_rx_bytes_total += received
        stats.upstream_cx_tx_bytes_total += sent
        return received, sent

    def closed(self, wire: Wire, reason: CloseReason, *, active: bool, now_s: float) -> None:
        """The connection is gone; `active`: with a stream that was not complete."""
        stats = self._stats
        self.count_bytes(wire)
        stats.upstream_cx_active -= 1
        self._host.cx_active -= 1
        if self._limit is not None:
            self._limit.add(-1)
        stats.upstream_cx_destroy += 1
        if active:
            stats.upstream_cx_destroy_with_active_rq += 1
        if self.by_peer or reason in _BY_PEER:
            stats.upstream_cx_destroy_remote += 1
            if active:
                stats.upstream_cx_destroy_remote_with_active_rq += 1
        else:
            stats.upstream_cx_destroy_local += 1
            if active:
                stats.upstream_cx_destroy_local_with_active_rq += 1
        stats.upstream_cx_length_ms.record((now_s - self._began_s) * 1000.0)
        if self.streams:
            stats.upstream_rq_per_cx.record(self.streams)

    def __repr__(self) -> str:
        return f"<ConnectionMeter of {self._host.text}, {self.streams} streams>"
