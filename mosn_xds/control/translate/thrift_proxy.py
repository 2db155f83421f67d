"""envoy.extensions.filters.network.thrift_proxy.v3: served like a generic_proxy that speaks Thrift.

Its routes become a list of predicates, tried in order as in Envoy. They look at the name of a call, which is its path: a
method, or ``service:method`` where several services share a port. Requests have no time-out, and are tried once.
"""

from mosn_xds.control.translate.access_log import take_access_logs
from mosn_xds.control.translate.common import take_runtime_percent
from mosn_xds.control.translate.context import Context
from mosn_xds.control.translate.generic_action import ANY_REQUEST
from mosn_xds.control.translate.generic_routes import naming_clusters, take_rds
from mosn_xds.control.translate.matchers import take_header_matches
from mosn_xds.control.translate.rpc_codecs import checked_use
from mosn_xds.control.translate.rpc_filters import take_routed_filters
from mosn_xds.control.translate.take import Take
from mosn_xds.spec.common import RegexRewrite, StringMatch, StringMatchKind
from mosn_xds.spec.listener import CloseConnection
from mosn_xds.spec.route import Mirror, Route, RouteAction, WeightedCluster
from mosn_xds.spec.rpc import (
    AllOf,
    Not,
    PropertyTest,
    ProtocolUse,
    RpcInput,
    RpcInputKind,
    RpcMatchEntry,
    RpcMatcher,
    RpcMatchList,
    RpcOnMatch,
    RpcPredicate,
    RpcProxy,
    RpcRouteTable,
    RpcVirtualHost,
    ValueTest,
)
from mosn_xds.xds.messages import TYPE_PREFIX

THRIFT_ROUTES_URL = f"{TYPE_PREFIX}envoy.extensions.filters.network.thrift_proxy.v3.RouteConfiguration"

_TRANSPORTS = ("AUTO_TRANSPORT", "FRAMED")
_PROTOCOLS = ("AUTO_PROTOCOL", "BINARY", "COMPACT")
_ANYTHING = AllOf(())
_NAME = RpcInput(RpcInputKind.PATH)
_WITHOUT_SERVICE = RegexRewrite("^[^:]*:", "")


def translate(take: Take, context: Context, name: str) -> RpcProxy | CloseConnection:
    """A proxy for a transport or protocol that is not spoken here closes its connections. The route table that it asks for
    is in the report's needs."""
    trds, inline = take.child("trds"), take.child("route_config")
    if trds is not None and inline is not None:
        raise take.error("trds", "both trds and route_config is present in ThriftProxy")
    routes = None
    if trds is None:
        routes = RpcRouteTable(table_name("")) if inline is None else take_thrift_route_table(inline, context)
    # bodies are always passed through, and keys always keep their case
    take.skip("payload_passthrough", "header_keys_preserve_case")
    proxy = RpcProxy(
        stat_prefix=f"thrift.{take.text('stat_prefix')}.",
        protocols=(checked_use(take, "", context, ProtocolUse(name, "thrift")),),
        routes=routes,
        rds="" if trds is None else table_name(take_rds(trds, THRIFT_ROUTES_URL)),
        filters=take_routed_filters(take, context, "thrift_filters", "typed_config"),
        access_logs=take_access_logs(take, context),
        max_requests_per_connection=take.wrapped_integer("max_requests_per_connection") or None,
    )
    for field, spoken in (("transport", _TRANSPORTS), ("protocol", _PROTOCOLS)):
        wanted = take.message.DESCRIPTOR.fields_by_name[field].enum_type.values_by_number[take.integer(field)].name
        if wanted not in spoken:
            take.ignore(field, f"{wanted} is not supported: connections are closed")
            return CloseConnection(name, f"Thrift's {wanted} is not supported")
    return proxy


def table_name(name: str) -> str:
    """How a worker knows the table: the names of Thrift's route tables are their own."""
    return f"thrift/{name}"


def take_thrift_route_table(take: Take, context: Context) -> RpcRouteTable:
    """thrift_proxy.v3.RouteConfiguration. The clusters that it names are in the report, too."""
    name = take.text("name")
    validate = take.wrapped_flag("validate_clusters")
    known = context.options.known_clusters
    if validate and known is None:
        take.ignore("validate_clusters", "a route to an absent cluster is answered with an error")
    entries, clusters = naming_clusters(
        take, lambda: tuple([_take_route(one, context) for one in take.children("routes")])
    )
    if known is not None and validate is not False:
        for cluster, noun in clusters.items():
            if cluster not in known:
                raise take.error("routes", f"route: unknown thrift {noun} '{cluster}'", "validate_clusters: false")
    host = RpcVirtualHost(name, ("*",), RpcMatcher(RpcMatchList(entries)))
    return RpcRouteTable(table_name(name), (host,), tuple(clusters))


def _take_route(take: Take, context: Context) -> RpcMatchEntry:
    match, action = take.child("match"), take.child("route")
    if match is None or action is None:
        raise take.error("", "a match and a route are required")
    return RpcMatchEntry(_take_match(match, context), RpcOnMatch(_take_action(action, context)))


def _take_match(take: Take, context: Context) -> RpcPredicate:
    """`invert` concerns the name, not the headers."""
    noun = "method" if take.has("method_name") else "service"
    name = take.text(f"{noun}_name")
    invert = take.flag("invert")
    if invert and not name:
        raise take.error("invert", f"Cannot have an empty {noun} name with inversion enabled")
    named: RpcPredicate = _ANYTHING
    if name and noun == "method":
        named = ValueTest(_NAME, StringMatch(StringMatchKind.EXACT, name))
    elif name:
        named = ValueTest(_NAME, StringMatch(StringMatchKind.PREFIX, name if name.endswith(":") else f"{name}:"))
    headers = [PropertyTest(header) for header in take_header_matches(take, "headers", context)]
    return AllOf((Not(named) if invert else named, *headers))


def _take_action(take: Take, context: Context) -> Route:
    cluster, weights = take.text("cluster"), take.child("weighted_clusters")
    if cluster:
        take.report.clusters.setdefault(cluster, "cluster")
    take.ignore_given(
        metadata_match="subsets are not supported yet",
        rate_limits="there is no rate limit",
    )
    mirrors = []
    for one in take.children("request_mirror_policies"):
        target = one.text("cluster")
        one.report.clusters.setdefault(target, "shadow cluster")
        mirrors.append(Mirror(target, fraction=take_runtime_percent(one.child("runtime_fraction"), context)))
    action = RouteAction(
        cluster=cluster,
        cluster_header=take.text("cluster_header").lower(),
        weighted=() if weights is None else _take_weighted(weights),
        timeout_s=0.0,
        mirrors=tuple(mirrors),
        regex_rewrite=_WITHOUT_SERVICE if take.flag("strip_service_name") else None,
    )
    return Route(ANY_REQUEST, action)


def _take_weighted(take: Take) -> tuple[WeightedCluster, ...]:
    found = []
    for one in take.children("clusters"):
        name, weight = one.text("name"), one.wrapped_integer("weight")
        if weight is None:
            raise one.error("weight", f"Field 'weight' is missing in: name: \"{name}\"")
        one.ignore_given(metadata_match="subsets are not supported yet")
        one.report.clusters.setdefault(name, "weighted cluster")
        found.append(WeightedCluster(name, weight))
    return tuple(found)
