"""A TCP proxy among whose connections there may be some that speak RPC protocols: those are served as RPCs, call by call.

A connection's first bytes decide, and only they: it has no upstream yet when they come, and what they are not, no byte of
them missing, goes through the TCP proxy as ever. Where both sides are silent nothing can be told, and a server that speaks
first must not wait: after the detection's time-out an upstream is connected to, as for any TCP connection. If that one
speaks first, it is TCP. If the client does after all (Dubbo's clients connect long before their first call), its bytes are
looked at still, and the upstream that has not heard a word is let go where they are RPC.

Behind TLS what is looked at is behind the handshake, and behind Istio's metadata exchange, where there is one.

RPCs go to the same clusters with the same weights and hash policy. They have the time that their clients give them, and are
tried again where no server has seen them.
"""

from mosn_xds.data.codec.rpc import RpcProtocol, Sniff
from mosn_xds.data.net.consumer import CloseReason
from mosn_xds.data.net.peer_exchange import begin_exchange
from mosn_xds.data.net.timers import Timer
from mosn_xds.data.proxy.context import WorkerContext
from mosn_xds.data.proxy.downstream import Downstream, DrainState, Owner
from mosn_xds.data.proxy.rpc.connection import RpcServerConnection
from mosn_xds.data.proxy.rpc.detect import Detection
from mosn_xds.data.proxy.rpc.manager import RpcManager
from mosn_xds.data.proxy.tcp_proxy import TcpProxy, TcpSession
from mosn_xds.data.upstream.host import Host
from mosn_xds.data.upstream.tcp import TcpConnection
from mosn_xds.spec.listener import MetadataExchange
from mosn_xds.spec.listener import TcpProxy as TcpProxySpec
from mosn_xds.spec.route import PathKind, RetryPolicy, Route, RouteAction, RouteMatch, WeightedCluster
from mosn_xds.spec.rpc import RpcMatcher, RpcOnMatch, RpcProxy, RpcRouteTable, RpcVirtualHost

_RETRY = RetryPolicy(retry_on=("connect-failure", "refused-stream"), num_retries=2, previous_hosts=True)


class DetectingTcpProxy(TcpProxy):
    """A `Terminal`; see the module's text. Raises ConfigError."""

    def __init__(self, spec: TcpProxySpec, context: WorkerContext, exchange: MetadataExchange | None) -> None:
        super().__init__(spec, context, exchange)
        self.rpc = RpcManager(rpc_proxy(spec), context)

    def serve(self, downstream: Downstream) -> "DetectingSession":
        return DetectingSession(self, downstream)

    def close(self) -> None:
        super().close()
        self.rpc.close()


def rpc_proxy(spec: TcpProxySpec) -> RpcProxy:
    """What serves those of a TCP proxy's connections that speak one of its protocols."""
    clusters = spec.clusters
    if len(clusters) == 1:
        action = RouteAction(cluster=clusters[0].name, timeout_s=0, retry=_RETRY, hash_policy=spec.hash_policy)
    else:
        weighted = tuple(WeightedCluster(one.name, one.weight) for one in clusters)
        action = RouteAction(weighted=weighted, timeout_s=0, retry=_RETRY, hash_policy=spec.hash_policy)
    to_all = RpcOnMatch(Route(RouteMatch(PathKind.PREFIX, ""), action))
    host = RpcVirtualHost("all", ("*",), RpcMatcher(no_match=to_all))
    return RpcProxy(
        f"rpc.{spec.stat_prefix}.",
        spec.protocols,
        routes=RpcRouteTable(spec.stat_prefix, (host,), tuple(one.name for one in clusters)),
        access_logs=spec.access_logs,
        idle_timeout_s=spec.idle_timeout_s,
        max_connection_duration_s=spec.max_downstream_connection_duration_s,
    )


class DetectingSession(TcpSession):
    """A connection that may turn out to be another's; until then it is no session that TCP's figures would know."""

    __slots__ = ("_detecting", "_detection", "_early", "_ended", "_timer")

    def __init__(self, proxy: DetectingTcpProxy, downstream: Downstream) -> None:
        self._detecting = proxy
        self._detection: Detection | None = Detection(proxy.rpc.protocols)
        self._timer: Timer | None = None
        self._early = b""
        self._ended = False
        super().__init__(proxy, downstream)

    def _begin(self) -> None:
        facts = self.wire.tls
        if facts is None or facts.complete:
            self._wait()

    def move(self, proxy: DetectingTcpProxy, drain: DrainState, owner: Owner) -> bool:
        """Go on under another proxy, as RPC connections do, while nobody has said a word. False, and nothing is changed, if
        somebody has."""
        detection, downstream = self._detection, self._downstream
        if detection is None or detection.prefix or downstream is None:
            return False
        self._drop_upstream()
        self._proxy = self._detecting = proxy
        self._stats = proxy.stats
        self._stream.attempts = 0
        self._detection = Detection(proxy.rpc.protocols)
        downstream.drain, downstream.owner = drain, owner
        facts = self.wire.tls
        if self._timer is None and (facts is None or facts.complete):
            self._connect()
        return True

    def on_connected(self) -> None:
        self._from_downstream = begin_exchange(self._detecting.exchange, self.wire, self._look_behind)
        self._wait()

    # Looking.

    def on_data(self, data: bytes) -> None:
        detection = self._detection
        if detection is None:
            super().on_data(data)
            return
        found = detection.receive(data)
        if isinstance(found, RpcProtocol):
            self._hand_over(detection, found)
        elif found is Sniff.NO:
            self._be_tcp(detection)
        elif self._timer is None:
            self._wait()

    def _look_behind(self, data: memoryview) -> None:
        """Bulk input from behind the exchange of metadata."""
        consumer = self.wire.consumer
        if self._detection is None and consumer is self:
            self.wire.set_bulk(self._to_upstream)
            self._to_upstream(data)
        else:
            self.wire.set_bulk(None)
            consumer.on_data(bytes(data))

    def on_eof(self) -> None:
        if self._detection is not None:
            if self._from_downstream is not None:
                self._from_downstream.finish()
            if self._detection is not None:
                self._be_tcp(self._detection)
        consumer = self.wire.consumer
        if consumer is self:
            self._ended = True
            super().on_eof()
        else:
            consumer.on_eof()

    # Silence.

    def _wait(self) -> None:
        self._timer = self._reactor.timers.arm(self._detecting.spec.detection_timeout_s, self._on_silence)

    def _on_silence(self) -> None:
        self._timer = None
        detection = self._detection
        if detection is None:
            return
        if detection.prefix:
            self._detecting.rpc.stats.count("detection_timeout")
            self._be_tcp(detection)
        else:
            self._connect()

    def _end_detection(self) -> None:
        self._detection = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # TCP.

    def _be_tcp(self, detection: Detection) -> None:
        self._end_detection()
        self._stats.downstream_cx_total += 1
        exchange = self._from_downstream
        if exchange is None or exchange.done:
            self.wire.set_bulk(self._to_upstream)
        if self._up is not None:
            if detection.prefix:
                self._to_upstream(memoryview(detection.prefix))
            return
        self._early = detection.prefix
        self.wire.pause_reading()
        if self._pending is None:
            self._connect()

    def on_upstream_ready(self, connection: TcpConnection, host: Host) -> None:
        if self._detection is not None:
            self.wire.pause_reading()  # which is taken back
        super().on_upstream_ready(connection, host)
        early, self._early = self._early, b""
        if early:
            self._to_upstream(memoryview(early))
        if self._ended:
            connection.wire.shutdown_write()

    def _to_downstream(self, data: memoryview) -> None:
        if self._detection is not None:
            self._be_tcp(self._detection)
        super()._to_downstream(data)

    def on_upstream_eof(self) -> None:
        if self._detection is not None:
            self._be_tcp(self._detection)
        super().on_upstream_eof()

    def on_closed(self, reason: CloseReason) -> None:
        if self._detection is not None:
            self._end_detection()
            self._stats.downstream_cx_total += 1
        super().on_closed(reason)

    # RPC.

    def _hand_over(self, detection: Detection, protocol: RpcProtocol) -> None:
        self._end_detection()
        self._let_go()
        downstream, self._downstream = self._downstream, None
        if downstream is None:
            return
        rpc = self._detecting.rpc
        rpc.stats.count(f"downstream_cx_detected.{protocol.name}")
        heir = RpcServerConnection(rpc, protocol, downstream)
        self.wire.consumer = heir
        downstream.replace(self, heir)
        heir.on_data(detection.prefix)

    def _let_go(self) -> None:
        """Of all that a TCP session has."""
        if self._duration_timer is not None:
            self._duration_timer.cancel()
            self._duration_timer = None
        self._drop_upstream()

    def _drop_upstream(self) -> None:
        """It has not heard a word."""
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.cancel()
        self._from_upstream = None
        connection, self._connection = self._connection, None
        if connection is not None:
            self._up = None
            connection.wire.set_bulk(None)
            connection.wire.consumer = connection
            connection.wire.close(flush=False)
