"""envoy.extensions.filters.network.thrift_proxy.v3: served like a generic_proxy that speaks Thrift.

Its routes become a list of predicates, tried in order as in Envoy. They look at the name of a call, which is its path: a
method, or ``service:method`` where several services share a port. Requests have no time-out, and are tried once.
"""

from functools import partial

import msgspec

from mosn_xds.control.translate.access_log import take_access_logs
from mosn_xds.control.translate.common import take_runtime_percent
from mosn_xds.control.translate.context import Context
from mosn_xds.control.translate.listed_routes import ListedProxy, take_cluster, take_entry
from mosn_xds.control.translate.matchers import take_header_matches
from mosn_xds.control.translate.take import Take
from mosn_xds.spec.common import RegexRewrite, StringMatch, StringMatchKind
from mosn_xds.spec.listener import CloseConnection
from mosn_xds.spec.route import Mirror, RouteAction, WeightedCluster
from mosn_xds.spec.rpc import (
    AllOf,
    Not,
    PropertyTest,
    RpcInput,
    RpcInputKind,
    RpcPredicate,
    RpcProxy,
    RpcRouteTable,
    ValueTest,
)
from mosn_xds.xds.messages import TYPE_PREFIX

THRIFT_ROUTES_URL = f"{TYPE_PREFIX}envoy.extensions.filters.network.thrift_proxy.v3.RouteConfiguration"

_THRIFT = ListedProxy("thrift", THRIFT_ROUTES_URL, "typed_config")
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
        routes = _THRIFT.empty_table() if inline is None else take_thrift_route_table(inline, context)
    # bodies are always passed through, and keys always keep their case
    take.skip("payload_passthrough", "header_keys_preserve_case")
    proxy = msgspec.structs.replace(
        _THRIFT.take(take, context, name, routes, trds),
        access_logs=take_access_logs(take, context),
        max_requests_per_connection=take.wrapped_integer("max_requests_per_connection") or None,
    )
    for field, spoken in (("transport", _TRANSPORTS), ("protocol", _PROTOCOLS)):
        wanted = take.message.DESCRIPTOR.fields_by_name[field].enum_type.values_by_number[take.integer(field)].name
        if wanted not in spoken:
            take.ignore(field, f"{wanted} is not supported: connections are closed")
            return CloseConnection(name, f"Thrift's {wanted} is not supported")
    return proxy


def take_thrift_route_table(take: Take, context: Context) -> RpcRouteTable:
    """thrift_proxy.v3.RouteConfiguration. The clusters that it names are in the report, too."""
    name = take.text("name")
    validate = take.wrapped_flag("validate_clusters")
    known = context.options.known_clusters
    if validate and known is None:
        take.ignore("validate_clusters", "a route to an absent cluster is answered with an error")
    take_match, take_action = partial(_take_match, context=context), partial(_take_action, context=context)
    table, clusters = _THRIFT.take_table(
        take, name, lambda: tuple([take_entry(one, take_match, take_action) for one in take.children("routes")])
    )
    if known is not None and validate is not False:
        for cluster, noun in clusters.items():
            if cluster not in known:
                raise take.error("routes", f"route: unknown thrift {noun} '{cluster}'", "validate_clusters: false")
    return table


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


def _take_action(take: Take, context: Context) -> RouteAction:
    cluster, weights = take_cluster(take), take.child("weighted_clusters")
    take.ignore_given(rate_limits="there is no rate limit")
    mirrors = []
    for one in take.children("request_mirror_policies"):
        target = one.text("cluster")
        one.report.clusters.setdefault(target, "shadow cluster")
        mirrors.append(Mirror(target, fraction=take_runtime_percent(one.child("runtime_fraction"), context)))
    return RouteAction(
        cluster=cluster,
        cluster_header=take.text("cluster_header").lower(),
        weighted=() if weights is None else _take_weighted(weights),
        timeout_s=0.0,
        mirrors=tuple(mirrors),
        regex_rewrite=_WITHOUT_SERVICE if take.flag("strip_service_name") else None,
    )


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
