"""The RPC proxy of one filter chain (Envoy's generic_proxy): built from its Spec, shared by its connections and streams.

A `ConnectionManager` like HTTP's: the same filters, routes with the same actions, access logs. Its own are the protocols, the
route table's matcher trees, how connections are served, and what is counted of a call.
"""

from mosn_xds.base.errors import ConfigError
from mosn_xds.data.codec.rpc import RpcProtocol
from mosn_xds.data.codec.rpc.failures import FailureLog
from mosn_xds.data.match.rpc_routes import RpcTable
from mosn_xds.data.proxy.connection import ServerConnection
from mosn_xds.data.proxy.context import RpcRouteSlot, WorkerContext
from mosn_xds.data.proxy.downstream import Downstream
from mosn_xds.data.proxy.manager import ConnectionManager
from mosn_xds.data.proxy.rpc.calls import CallStats
from mosn_xds.data.proxy.rpc.connection import RpcServerConnection
from mosn_xds.data.proxy.rpc.detect import DetectingConnection
from mosn_xds.data.proxy.rpc.plan import rpc_planner
from mosn_xds.data.proxy.rpc.stats import RpcStats
from mosn_xds.data.proxy.rpc.stream import RpcStream
from mosn_xds.data.proxy.stream import Stream
from mosn_xds.spec.filters import RouterFilter
from mosn_xds.spec.listener import MetadataExchange
from mosn_xds.spec.rpc import RpcProxy

_ROUTER = RouterFilter(suppress_envoy_headers=True)


class RpcManager(ConnectionManager):
    """envoy.filters.network.generic_proxy at work. Raises ConfigError. `exchange` is the chain's, of metadata."""

    def __init__(self, spec: RpcProxy, context: WorkerContext, exchange: MetadataExchange | None = None) -> None:
        if not spec.protocols:
            raise ConfigError("no protocol")
        self.protocols: tuple[RpcProtocol, ...] = context.protocols.build(spec.protocols)
        self.rpc_stats = context.stats.group(RpcStats, spec.stat_prefix)
        super().__init__(spec, context, self.rpc_stats, _ROUTER)
        self.spec = spec
        self.exchange = exchange
        self.failures = FailureLog()
        self.live = 0
        """Streams under way; some may have outlived the chain, as their connections go on elsewhere."""
        self._closed = False
        self.calls = CallStats(self.rpc_stats, context.stats)
        if spec.routes is not None:
            self.table = RpcRouteSlot(RpcTable.build(spec.routes, rpc_planner(context.environment)))
        else:
            self.table = context.rpc_route_slot(spec.rds)

    def request_ended(self, stream: Stream) -> None:
        stats = self.rpc_stats
        stats.downstream_rq_active -= 1
        kind = stream.response_code // 100
        if kind == 2:
            stats.downstream_rq_2xx += 1
        elif kind == 4:
            stats.downstream_rq_4xx += 1
        elif kind == 5:
            stats.downstream_rq_5xx += 1
        stats.downstream_rq_time.record((stream.duration_s or 0.0) * 1000)
        if isinstance(stream, RpcStream):
            self.calls.ended(stream)

    def serve(self, downstream: Downstream) -> ServerConnection:
        if len(self.protocols) > 1:
            return DetectingConnection(self, downstream)
        return RpcServerConnection(self, self.protocols[0], downstream)

    def stream_ended(self) -> None:
        """A stream of this manager has ended, and was logged."""
        self.live -= 1
        if self._closed and not self.live:
            super().close()

    def close(self) -> None:
        """The chain is gone. Logs stay open for streams that are still under way."""
        self._closed = True
        if not self.live:
            super().close()

    def __repr__(self) -> str:
        names = " ".join(protocol.name for protocol in self.protocols)
        return f"<RpcManager {self.stat_prefix} {names} {self.chain!r}>"
