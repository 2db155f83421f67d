"""The RPC proxy of one filter chain (Envoy's generic_proxy): built from its Spec, shared by its connections and streams.

To its streams it is a connection manager like HTTP's: the same filters, routes with the same actions, access logs, statistics.
Its own are the protocols, the route table's matcher trees, and how connections are served.
"""

from mosn_xds.base.errors import ConfigError
from mosn_xds.base.stats import StatRegistry
from mosn_xds.data.codec.rpc import RpcProtocol
from mosn_xds.data.codec.rpc.failures import FailureLog
from mosn_xds.data.match.rpc_routes import RpcTable
from mosn_xds.data.proxy.connection import ServerConnection
from mosn_xds.data.proxy.context import RpcRouteSlot, WorkerContext
from mosn_xds.data.proxy.downstream import Downstream
from mosn_xds.data.proxy.hcm import HttpConnectionManager
from mosn_xds.data.proxy.rpc.calls import CallStats
from mosn_xds.data.proxy.rpc.connection import RpcServerConnection
from mosn_xds.data.proxy.rpc.detect import DetectingConnection
from mosn_xds.data.proxy.rpc.plan import rpc_planner
from mosn_xds.data.proxy.rpc.stats import RpcStats
from mosn_xds.data.proxy.rpc.stream import RpcStream
from mosn_xds.data.proxy.stats import HttpStats, ListenerHttpStats
from mosn_xds.data.proxy.stream import Stream
from mosn_xds.spec.filters import HttpFilter, RouterFilter
from mosn_xds.spec.listener import HttpConnectionManager as HcmSpec
from mosn_xds.spec.listener import MetadataExchange, TrafficDirection
from mosn_xds.spec.rpc import RpcProxy

_ROUTER = HttpFilter("envoy.filters.generic.router", RouterFilter(suppress_envoy_headers=True))


class RpcManager(HttpConnectionManager):
    """envoy.filters.network.generic_proxy at work; a `Terminal`. Raises ConfigError. `exchange` is the chain's, of metadata."""

    def __init__(
        self,
        spec: RpcProxy,
        context: WorkerContext,
        listener_prefix: str,
        direction: TrafficDirection,
        exchange: MetadataExchange | None = None,
    ) -> None:
        if not spec.protocols:
            raise ConfigError("no protocol")
        filters = tuple(one for one in spec.filters if not isinstance(one.config, RouterFilter))
        common = HcmSpec(
            spec.stat_prefix,
            (*filters, _ROUTER),
            access_logs=spec.access_logs,
            idle_timeout_s=spec.idle_timeout_s,
            max_requests_per_connection=spec.max_requests_per_connection,
            max_connection_duration_s=spec.max_connection_duration_s,
            stream_idle_timeout_s=None,
        )
        self.protocols: tuple[RpcProtocol, ...] = context.protocols.build(spec.protocols)
        super().__init__(common, context, listener_prefix, direction)
        self.rpc = spec
        self.exchange = exchange
        self.rpc_stats = context.stats.group(RpcStats, spec.stat_prefix)
        self.failures = FailureLog()
        self.live = 0
        """Streams under way; some may have outlived the chain, as their connections go on elsewhere."""
        self._closed = False
        self.calls = CallStats(self.rpc_stats, context.stats)
        if spec.routes is not None:
            self.table = RpcRouteSlot(RpcTable.build(spec.routes, rpc_planner(context.environment)))
        else:
            self.table = context.rpc_route_slot(spec.rds)

    def stat_groups(self, stats: StatRegistry, listener_prefix: str) -> tuple[HttpStats, ListenerHttpStats]:
        del listener_prefix
        return stats.group(RpcStats, self.spec.stat_prefix), ListenerHttpStats("")

    def request_ended(self, stream: Stream, connection: ServerConnection) -> None:
        super().request_ended(stream, connection)
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
        return f"<RpcManager {self.spec.stat_prefix} {names} {self.chain!r}>"
