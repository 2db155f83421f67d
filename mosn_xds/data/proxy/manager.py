"""The connection manager of one filter chain, whatever it speaks: what its connections and streams have in common.

That is the compiled filter chain, the access logs, statistics, time-outs and limits, and what they need of the worker. Codecs,
route tables, and all that only one family of protocols has, are in the class below: `HttpConnectionManager`, `RpcManager`.
Connections and streams refer to their manager, it does not refer to them.
"""

from typing import TYPE_CHECKING

from mosn_xds.data.filters.api import FilterChain
from mosn_xds.data.filters.build import build_filters
from mosn_xds.data.observe.access_log import AccessLog
from mosn_xds.data.proxy.context import WorkerContext
from mosn_xds.data.proxy.deadlines import NEVER
from mosn_xds.data.proxy.stats import HttpStats
from mosn_xds.spec.filters import RouterFilter
from mosn_xds.spec.listener import HttpConnectionManager
from mosn_xds.spec.rpc import RpcProxy

if TYPE_CHECKING:
    from mosn_xds.data.proxy.connection import ServerConnection
    from mosn_xds.data.proxy.downstream import Downstream
    from mosn_xds.data.proxy.stream import Stream


class FilterStats:
    """The `FilterContext` of one chain: counters beside the connection manager's own, gauges too."""

    __slots__ = ("_stats", "stat_prefix")

    def __init__(self, stats: HttpStats) -> None:
        self._stats = stats
        self.stat_prefix = stats.prefix

    def count(self, name: str, amount: int = 1) -> None:
        self._stats.count(name, amount)

    def gauge(self, name: str, amount: int) -> None:
        self._stats.count(name, amount)


class ConnectionManager:
    """A `Terminal` whose connections carry streams. Times are seconds; None, or `NEVER` for those that are added up: no limit."""

    # Defaults on the class: not everything has these.
    stream_idle_timeout_s: float | None = None
    request_timeout_s: float | None = None
    max_stream_duration_s: float | None = None
    delayed_close_timeout_s = 1.0
    """How long a client may take to close after us, lest it lose what it has not read."""
    knows_internal = False
    """Whether statistics tell requests that come from inside the mesh."""

    def __init__(
        self, spec: HttpConnectionManager | RpcProxy, context: WorkerContext, stats: HttpStats, router: RouterFilter
    ) -> None:
        """`stats` is where connections and streams are counted. Raises ConfigError."""
        self.stat_prefix = spec.stat_prefix
        self.context = context
        self.clusters = context.clusters
        self.random = context.random
        self.spawn = context.spawn
        self.clock = context.reactor.clock
        self.stats = stats
        self.chain = FilterChain(build_filters(spec.filters, FilterStats(stats), context))
        self.router = router
        self.alpn_overrides: dict[int, tuple[bytes, ...]] = {}
        """What ``istio.alpn`` offers to upstreams, by their protocol."""
        self.disabled_filters = frozenset(f.name for f in spec.filters if f.disabled)
        self.access_logs = tuple(AccessLog(log, context.environment, context.log_files) for log in spec.access_logs)
        self.idle_timeout_s = spec.idle_timeout_s if spec.idle_timeout_s is not None else NEVER
        self.max_connection_duration_s = (
            spec.max_connection_duration_s if spec.max_connection_duration_s is not None else NEVER
        )
        self.max_requests_per_connection = spec.max_requests_per_connection

    def serve(self, downstream: "Downstream") -> "ServerConnection":
        raise NotImplementedError

    def request_ended(self, stream: "Stream") -> None:
        """Count a stream's end."""
        raise NotImplementedError

    def close(self) -> None:
        """The chain is gone."""
        for log in self.access_logs:
            log.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.stat_prefix} {self.chain!r}>"
