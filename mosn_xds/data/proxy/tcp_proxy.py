"""The TCP proxy: a terminal network filter that joins a downstream connection to an upstream one.

Bytes pass in bulk: what one socket delivers goes from the reactor's scratch memory straight into the other; only what that
does not take is copied, and then reading stops until it has drained. Each direction ends on its own, and a reset on one
side is a reset on the other, as in Envoy. Nothing is read from the client before there is somewhere to send it.

A session ends with its downstream connection: then it is logged and counted. What has not reached the upstream by then is
still flushed, for as long as the idle time-out allows.
"""

from mosn_xds.base.errors import ResetReason, ResponseFlag
from mosn_xds.data.net.consumer import CloseReason
from mosn_xds.data.net.peer_exchange import ExchangeSink, begin_exchange
from mosn_xds.data.net.timers import Timer
from mosn_xds.data.net.wire import Wire
from mosn_xds.data.observe.access_log import AccessLog
from mosn_xds.data.observe.info import ConnectionInfo, StreamInfo
from mosn_xds.data.proxy.context import WorkerContext
from mosn_xds.data.proxy.downstream import Downstream
from mosn_xds.data.proxy.hash_policy import HashPolicies
from mosn_xds.data.proxy.tcp_stats import TcpStats
from mosn_xds.data.upstream.api import LbContext
from mosn_xds.data.upstream.cluster import Cluster
from mosn_xds.data.upstream.host import Host
from mosn_xds.data.upstream.tcp import TcpConnection
from mosn_xds.spec.listener import MetadataExchange
from mosn_xds.spec.listener import TcpProxy as TcpProxySpec

_QUIET_S = 1.0
"""A session that has moved nothing for so long has nothing going on that a close would cut."""
_COUNT_INTERVAL_S = 1.0

_NO_CLUSTER = int(ResponseFlag.NC)
_NO_HOST = int(ResponseFlag.UH)
_OVERFLOW = int(ResponseFlag.UO)
_CONNECT_FAILED = int(ResponseFlag.UF)
_ATTEMPTS_EXCEEDED = int(ResponseFlag.URX)
_UPSTREAM_RESET = int(ResponseFlag.UR)
_DURATION = int(ResponseFlag.DT)

_REMOTE_FAILURES = (ResetReason.REMOTE_CONNECTION_FAILURE, ResetReason.CONNECTION_TIMEOUT)

# Envoy's StreamInfo::LocalCloseReasons, with the numbers of its UpstreamFailureReason.
_CLOSED_CONNECT_FAILED = "tcp_initializion_failure:0"
_CLOSED_NO_HOST = "tcp_initializion_failure:1"
_CLOSED_OVERFLOW = "tcp_initializion_failure:2"
_CLOSED_NO_CLUSTER = "tcp_initializion_failure:3"
_CLOSED_IDLE = "tcp_session_idle_timeout"
_CLOSED_DURATION = "max_connection_duration_reached"


class TcpProxy:
    """envoy.filters.network.tcp_proxy at work; a `Terminal`. Raises ConfigError for what cannot be built. `exchange` is the
    chain's metadata exchange."""

    def __init__(self, spec: TcpProxySpec, context: WorkerContext, exchange: MetadataExchange | None = None) -> None:
        self.spec = spec
        self.exchange = exchange
        self.context = context
        self.stats = context.stats.group(TcpStats, f"tcp.{spec.stat_prefix}.")
        self.hashes = HashPolicies(spec.hash_policy)
        self._total_weight = sum(cluster.weight for cluster in spec.clusters)
        self.access_logs = tuple(AccessLog(log, context.environment, context.log_files) for log in spec.access_logs)

    def serve(self, downstream: Downstream) -> "TcpSession":
        return TcpSession(self, downstream)

    def close(self) -> None:
        """The chain is gone."""
        for log in self.access_logs:
            log.close()

    def pick_cluster(self) -> str:
        """The one cluster, or one by weight; empty for none."""
        clusters = self.spec.clusters
        if len(clusters) == 1:
            return clusters[0].name
        if not self._total_weight:
            return ""
        point = self.context.random.randrange(self._total_weight)
        for cluster in clusters:
            point -= cluster.weight
            if point < 0:
                return cluster.name
        return ""

    def __repr__(self) -> str:
        return f"<TcpProxy {self.spec.stat_prefix} to {', '.join(cluster.name for cluster in self.spec.clusters)}>"


class TcpSession:
    """One downstream connection with its upstream connection: the consumer of the one wire and, by way of `_UpstreamSide`,
    of the other, and the handler of the attempts to connect.
    """

    __slots__ = (
        "__weakref__", "_clock", "_cluster", "_connection", "_counted_s", "_downstream", "_duration_timer", "_flushing",
        "_from_downstream", "_from_upstream", "_holds_upstream", "_idle_timer", "_moved_s", "_opening", "_pending", "_proxy",
        "_reactor", "_sent_bytes", "_stats", "_stream", "_up", "info", "wire",
    )  # fmt: skip

    def __init__(self, proxy: TcpProxy, downstream: Downstream) -> None:
        self._proxy = proxy
        self._stats = proxy.stats
        self._downstream: Downstream | None = downstream
        self.wire = downstream.wire
        self.info: ConnectionInfo = downstream.info
        self._reactor = downstream.reactor
        self._clock = downstream.reactor.clock
        self._cluster: Cluster | None = None
        self._pending: TcpConnection | None = None
        self._connection: TcpConnection | None = None
        self._up: Wire | None = None
        self._opening = False
        self._flushing = False
        self._moved_s = self._counted_s = self._clock.now
        self._sent_bytes = 0
        self._idle_timer: Timer | None = None
        self._duration_timer: Timer | None = None
        stream = self._stream = StreamInfo(self.info)
        stream.metadata = self.info.metadata
        stream.start_s = self.info.start_s
        stream.start_wall_s = self.info.start_wall_s
        duration_s = proxy.spec.max_downstream_connection_duration_s
        if duration_s is not None:
            self._duration_timer = self._reactor.timers.arm(duration_s, self._on_max_duration)
        self._from_downstream: ExchangeSink | None = None
        self._from_upstream: ExchangeSink | None = None
        self._holds_upstream = False
        self._begin()

    def _begin(self) -> None:
        """There is a client: find it an upstream."""
        self._stats.downstream_cx_total += 1
        self.wire.set_bulk(self._to_upstream)
        self.wire.pause_reading()
        self._connect()

    # Connecting.

    def _connect(self) -> None:
        """Try hosts until one is being connected to, or there is a reason to give up."""
        proxy, stream = self._proxy, self._stream
        while self._downstream is not None and self.wire.is_open and self._pending is None:
            name = proxy.pick_cluster()
            cluster = self._cluster = proxy.context.clusters.get(name)
            if cluster is None:
                self._stats.downstream_cx_no_route += 1
                self._give_up(_NO_CLUSTER, _CLOSED_NO_CLUSTER)
                return
            stream.cluster_name = name
            stream.cluster_stat_name = cluster.spec.alt_stat_name
            if stream.attempts >= proxy.spec.max_connect_attempts:
                cluster.stats.upstream_cx_connect_attempts_exceeded += 1
                self._give_up(_ATTEMPTS_EXCEEDED, _CLOSED_CONNECT_FAILED)
                return
            host = cluster.choose_host(self._lb_context())
            if host is None:
                cluster.stats.upstream_cx_none_healthy += 1
                self._give_up(_NO_HOST, _CLOSED_NO_HOST)
                return
            stream.attempts += 1
            self._opening = True
            self._pending = cluster.open_tcp(host, self, connection=self.info)
            self._opening = False

    def _lb_context(self) -> LbContext:
        cookies: list[bytes] = []
        hash_value = self._proxy.hashes.compute(None, self.info, cookies) if self._proxy.hashes else None
        return LbContext(hash_value, attempt=self._stream.attempts + 1, original_dst=self.info.restored_local)

    def on_upstream_ready(self, connection: TcpConnection, host: Host) -> None:
        """There is a connection: let the bytes flow."""
        self._pending = None
        self._connection = connection
        up = self._up = connection.wire
        up.consumer = _UpstreamSide(self)
        exchange = self._cluster.spec.metadata_exchange if self._cluster is not None else None
        self._from_upstream = begin_exchange(exchange, up, self._to_downstream)
        if self._from_upstream is None:
            up.set_bulk(self._to_downstream)
        stream = self._stream
        stream.upstream_host = host
        stream.upstream_local = connection.local
        stream.upstream_tls = connection.wire.tls
        facts = self.wire.tls
        if self._proxy.exchange is not None and facts is not None and not facts.complete:
            self._holds_upstream = True  # we tell who we are before the upstream says anything
            up.pause_reading()
        self._moved_s = self._clock.now
        self._watch_idle()
        self.wire.resume_reading()

    def on_upstream_failure(self, reason: ResetReason, detail: str, host: Host) -> None:
        """No connection; try again, unless a circuit breaker says no."""
        self._pending = None
        stream = self._stream
        if reason is ResetReason.OVERFLOW:
            stream.attempts -= 1  # nothing was attempted
            self._give_up(_OVERFLOW, _CLOSED_OVERFLOW)
            return
        stream.upstream_host = host
        stream.transport_failure = detail
        if reason in _REMOTE_FAILURES:
            stream.flags |= _CONNECT_FAILED
        if not self._opening:
            self._connect()

    def _give_up(self, flag: int, why: str) -> None:
        self._stream.flags |= flag
        self._close(why)

    def _close(self, why: str) -> None:
        self.info.close_reason = why
        self.wire.close(flush=False)

    # Bytes.

    def _to_upstream(self, data: memoryview) -> None:
        self._moved_s = now = self._clock.now
        self._stats.downstream_cx_rx_bytes_total += len(data)
        if self._up is not None:
            self._up.write_through(data)
        if now - self._counted_s >= _COUNT_INTERVAL_S:
            self._count(now)

    def _to_downstream(self, data: memoryview) -> None:
        self._moved_s = now = self._clock.now
        self._stats.downstream_cx_tx_bytes_total += len(data)
        self.wire.write_through(data)
        if now - self._counted_s >= _COUNT_INTERVAL_S:
            self._count(now)

    def _count(self, now: float) -> None:
        """Long connections show in their cluster's figures while they last."""
        self._counted_s = now
        if self._connection is not None:
            self._connection.count_bytes()

    # The downstream wire's consumer.

    def on_connected(self) -> None:
        """A handshake is complete; the connection to the upstream does not wait for it."""
        self._from_downstream = begin_exchange(self._proxy.exchange, self.wire, self._to_upstream)
        if self._holds_upstream and self._up is not None:
            self._up.resume_reading()
        self._holds_upstream = False

    def on_data(self, data: bytes) -> None:
        """Comes only from a wire that is not in bulk mode."""
        self._to_upstream(memoryview(data))

    def on_eof(self) -> None:
        if self._from_downstream is not None:
            self._from_downstream.finish()
        if self._up is not None:
            self._up.shutdown_write()

    def on_above_high_water(self) -> None:
        if self._up is not None and self._cluster is not None:
            self._up.pause_reading()
            self._cluster.stats.upstream_flow_control_paused_reading_total += 1

    def on_below_low_water(self) -> None:
        if self._up is not None and self._cluster is not None:
            self._up.resume_reading()
            self._cluster.stats.upstream_flow_control_resumed_reading_total += 1

    def on_closed(self, reason: CloseReason) -> None:
        downstream, self._downstream = self._downstream, None
        if downstream is None:
            return
        if self._duration_timer is not None:
            self._duration_timer.cancel()
            self._duration_timer = None
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.cancel()
        up = self._up
        if up is not None:
            self._end_upstream(up, reason)
        self._log()
        downstream.done(self)

    def _end_upstream(self, up: Wire, reason: CloseReason) -> None:
        if reason is CloseReason.REMOTE_RESET:
            up.abort()
        elif reason is CloseReason.FINISHED:
            if up.pending_bytes:
                self._flushing = True
                self._stats.upstream_flush_total += 1
                self._stats.upstream_flush_active += 1
            up.close()
        else:
            up.close(flush=False)

    def _log(self) -> None:
        stream = self._stream
        stream.duration_s = self._clock.now - stream.start_s
        stream.bytes_received = self.wire.bytes_received
        stream.bytes_sent = self.wire.bytes_sent
        for log in self._proxy.access_logs:
            log.log(stream)

    # What the upstream side says.

    def on_upstream_eof(self) -> None:
        if self._from_upstream is not None:
            self._from_upstream.finish()
        self.wire.shutdown_write()

    def on_upstream_above_high_water(self) -> None:
        self.wire.pause_reading()
        self._stats.downstream_flow_control_paused_reading_total += 1

    def on_upstream_below_low_water(self) -> None:
        self.wire.resume_reading()
        self._stats.downstream_flow_control_resumed_reading_total += 1

    def on_upstream_closed(self, reason: CloseReason) -> None:
        connection, self._connection = self._connection, None
        self._up = None
        if connection is not None:
            connection.closed(reason)
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        if self._flushing:
            self._stats.upstream_flush_active -= 1
        elif reason is CloseReason.REMOTE_RESET:
            self._stream.flags |= _UPSTREAM_RESET
            self.wire.abort()
        elif reason is not CloseReason.FINISHED:
            self.wire.close()

    # Time.

    def _watch_idle(self) -> None:
        idle_s = self._proxy.spec.idle_timeout_s
        if idle_s is not None:
            self._idle_timer = self._reactor.timers.arm(self._moved_s + idle_s - self._clock.now, self._on_idle)

    def _on_idle(self) -> None:
        """Nobody has sent anything for so long, or not: the timer is not armed again for each byte."""
        self._idle_timer = None
        up = self._up
        pending = self.wire.pending_bytes + (up.pending_bytes if up is not None else 0)
        sent = self.wire.bytes_sent + (up.bytes_sent if up is not None else 0)
        if pending and sent != self._sent_bytes:
            self._moved_s = self._clock.now
        self._sent_bytes = sent
        if self._clock.now - self._moved_s < (self._proxy.spec.idle_timeout_s or 0):
            self._watch_idle()
            return
        self._stats.idle_timeout += 1
        if self._downstream is not None:
            self._close(_CLOSED_IDLE)
        elif up is not None:
            up.close(flush=False)

    def _on_max_duration(self) -> None:
        self._duration_timer = None
        self._stats.max_downstream_connection_duration += 1
        self._give_up(_DURATION, _CLOSED_DURATION)

    # Draining.

    @property
    def idle(self) -> bool:
        """Nothing has moved for a second."""
        return self._clock.now - self._moved_s >= _QUIET_S

    def close_if_idle(self) -> bool:
        """There is no end of a message to wait for: as in Envoy, the end of the drain time is the end."""
        self.wire.close()
        return True

    def __repr__(self) -> str:
        return f"<TcpSession {self.info!r} to {self._stream.cluster_name or 'nowhere'}>"


class _UpstreamSide:
    """The consumer of a session's upstream wire."""

    __slots__ = ("_session",)

    def __init__(self, session: TcpSession) -> None:
        self._session = session

    def on_connected(self) -> None:
        """Was so already when the session got the wire."""

    def on_data(self, data: bytes) -> None:
        """Comes only from a wire that is not in bulk mode."""
        self._session._to_downstream(memoryview(data))

    def on_eof(self) -> None:
        self._session.on_upstream_eof()

    def on_closed(self, reason: CloseReason) -> None:
        self._session.on_upstream_closed(reason)

    def on_above_high_water(self) -> None:
        self._session.on_upstream_above_high_water()

    def on_below_low_water(self) -> None:
        self._session.on_upstream_below_low_water()

    def __repr__(self) -> str:
        return f"<upstream side of {self._session!r}>"
