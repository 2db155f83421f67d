"""What dubbo_proxy and thrift_proxy have in common: each is served like a generic_proxy that speaks one protocol, and its
routes are a list that is tried in order, each with a predicate.

A `ListedProxy` is one of the two. It knows nothing of what their predicates look at, nor of their actions' own fields.
"""

from collections.abc import Callable
from dataclasses import dataclass

from mosn_xds.control.translate.context import Context
from mosn_xds.control.translate.generic_action import ANY_REQUEST
from mosn_xds.control.translate.generic_routes import naming_clusters, take_rds
from mosn_xds.control.translate.rpc_codecs import checked_use
from mosn_xds.control.translate.rpc_filters import take_routed_filters
from mosn_xds.control.translate.take import Take
from mosn_xds.spec.route import Route, RouteAction
from mosn_xds.spec.rpc import (
    ProtocolUse,
    RpcMatchEntry,
    RpcMatcher,
    RpcMatchList,
    RpcOnMatch,
    RpcPredicate,
    RpcProxy,
    RpcRouteTable,
    RpcVirtualHost,
)


@dataclass(frozen=True)
class ListedProxy:
    """`protocol` stands before the names of its route tables, for a worker knows them beside all others; `routes_url` is their
    type; `filter_config` is the field in which a filter has its configuration."""

    protocol: str
    routes_url: str
    filter_config: str
    options: bytes = b""

    def take(self, take: Take, context: Context, name: str, routes: RpcRouteTable | None, rds: Take | None) -> RpcProxy:
        """The proxy with its inline `routes`, or those that `rds` asks for: that need is in the report."""
        return RpcProxy(
            stat_prefix=f"{self.protocol}.{take.text('stat_prefix')}.",
            protocols=(checked_use(take, "", context, ProtocolUse(name, self.protocol, self.options)),),
            routes=routes,
            rds="" if rds is None else self._table_name(take_rds(rds, self.routes_url)),
            filters=take_routed_filters(take, context, f"{self.protocol}_filters", self.filter_config),
        )

    def take_table(
        self, take: Take, name: str, take_entries: Callable[[], tuple[RpcMatchEntry, ...]]
    ) -> tuple[RpcRouteTable, dict[str, str]]:
        """The table, and the clusters that it names with what they are called there; they are in the report, too."""
        entries, clusters = naming_clusters(take, take_entries)
        host = RpcVirtualHost(name, ("*",), RpcMatcher(RpcMatchList(entries)))
        return RpcRouteTable(self._table_name(name), (host,), tuple(clusters)), clusters

    def empty_table(self) -> RpcRouteTable:
        return RpcRouteTable(self._table_name(""))

    def _table_name(self, name: str) -> str:
        return f"{self.protocol}/{name}"


def take_entry(
    take: Take, take_match: Callable[[Take], RpcPredicate], take_action: Callable[[Take], RouteAction]
) -> RpcMatchEntry:
    """A route, with its `match` and `route`. Raises ConfigError without them."""
    match, action = take.child("match"), take.child("route")
    if match is None or action is None:
        raise take.error("", "a match and a route are required")
    return RpcMatchEntry(take_match(match), RpcOnMatch(Route(ANY_REQUEST, take_action(action))))


def take_cluster(take: Take) -> str:
    """An action's `cluster`, empty for none."""
    cluster = take.text("cluster")
    if cluster:
        take.report.clusters.setdefault(cluster, "cluster")
    take.ignore_given(metadata_match="subsets are not supported yet")
    return cluster
