"""envoy.extensions.filters.network.dubbo_proxy.v3: served like a generic_proxy that speaks Dubbo.

Its routes become a list of predicates, tried in order as in Envoy: interface, group and version of a RouteConfiguration,
then method, parameters and headers of its routes. A parameter is an argument that is a string; others match nothing.
Requests have no time-out but their clients' own, and are tried once.
"""

from functools import partial

from google.protobuf.message import Message

from mosn_xds.control.translate.context import Context
from mosn_xds.control.translate.listed_routes import ListedProxy, take_cluster, take_entry
from mosn_xds.control.translate.matchers import take_header_matches, take_string_match
from mosn_xds.control.translate.route_action import take_weighted_clusters
from mosn_xds.control.translate.take import Take
from mosn_xds.spec.common import HeaderMatch, StringMatch, StringMatchKind
from mosn_xds.spec.route import RouteAction, WeightedCluster
from mosn_xds.spec.rpc import (
    AllOf,
    Not,
    PropertyTest,
    RpcInput,
    RpcInputKind,
    RpcMatchEntry,
    RpcPredicate,
    RpcProxy,
    RpcRouteTable,
    ValueTest,
)
from mosn_xds.xds.messages import TYPE_PREFIX

DUBBO_ROUTES_URL = f"{TYPE_PREFIX}envoy.extensions.filters.network.dubbo_proxy.v3.MultipleRouteConfiguration"
_AS_ENVOY = b'{"no_route_status": 60, "timeout_status": 80}'  # SERVICE_NOT_FOUND, SERVER_ERROR
_DUBBO = ListedProxy("dubbo", DUBBO_ROUTES_URL, "config", _AS_ENVOY)

_SERVICE = RpcInput(RpcInputKind.SERVICE)
_METHOD = RpcInput(RpcInputKind.METHOD)


def translate(take: Take, context: Context, name: str) -> RpcProxy:
    """The route table that it asks for is in the report's needs."""
    drds, many = take.child("drds"), take.child("multiple_route_config")
    if many is not None and take.has("route_config"):
        raise take.error("route_config", "both mutiple_route_config and route_config is present in DubboProxy")
    routes = None
    if drds is None:
        routes = _take_table(take, "", context) if many is None else take_dubbo_route_table(many, context)
    return _DUBBO.take(take, context, name, routes, drds)


def take_dubbo_route_table(take: Take, context: Context) -> RpcRouteTable:
    """dubbo_proxy.v3.MultipleRouteConfiguration. The clusters that it names are in the report, too."""
    return _take_table(take, take.text("name"), context)


def _take_table(take: Take, name: str, context: Context) -> RpcRouteTable:
    """Of whatever has RouteConfigurations in `route_config`."""
    return _DUBBO.take_table(take, name, lambda: _take_routes(take, context))[0]


def _take_routes(take: Take, context: Context) -> tuple[RpcMatchEntry, ...]:
    found: list[RpcMatchEntry] = []
    for one in take.children("route_config"):
        one.skip("name")  # for people
        above = [_interface_test(one.text("interface"))]
        for property_name in ("group", "version"):
            wanted = one.text(property_name)
            if wanted:
                above.append(_is(RpcInput(RpcInputKind.PROPERTY, property_name), wanted))
        found += [
            take_entry(
                route, partial(_take_match, context=context, above=above), partial(_take_action, context=context)
            )
            for route in one.children("routes")
        ]
    return tuple(found)


def _is(what: RpcInput, value: str, kind: StringMatchKind = StringMatchKind.EXACT) -> RpcPredicate:
    return ValueTest(what, StringMatch(kind, value))


def _interface_test(pattern: str) -> RpcPredicate:
    """Envoy's InterfaceMatcher: an asterisk stands for at least one character, at the beginning or else at the end."""
    if pattern == "*":
        return Not(_is(_SERVICE, ""))
    for kind, rest, given in (
        (StringMatchKind.SUFFIX, pattern[1:], pattern.startswith("*")),
        (StringMatchKind.PREFIX, pattern[:-1], pattern.endswith("*")),
    ):
        if given:
            return AllOf((_is(_SERVICE, rest, kind), Not(_is(_SERVICE, rest))))
    return _is(_SERVICE, pattern)


def _take_match(take: Take, context: Context, above: list[RpcPredicate]) -> RpcPredicate:
    """`above` is what the routes around have to say."""
    method = take.child("method")
    name = None if method is None else method.child("name")
    if method is None or name is None:
        raise take.error("method", "Configuration must define a matcher")
    found: list[RpcPredicate] = [*above, ValueTest(_METHOD, take_string_match(name, context))]
    found += [_take_parameter(method, number, each) for number, each in sorted(method.mapping("params_match").items())]
    found += [PropertyTest(header) for header in take_header_matches(take, "headers", context)]
    return AllOf(tuple(found))


def _take_parameter(take: Take, number: object, message: Message) -> RpcPredicate:
    one = take.inner(message, f"params_match[{number}]")
    name = f":argument.{number}"
    span = one.child("range_match")
    if span is not None:
        return PropertyTest(HeaderMatch(name, range=(span.integer("start"), span.integer("end"))))
    value = one.text("exact_match")
    if not value:
        return PropertyTest(HeaderMatch(name, present=True))
    return PropertyTest(HeaderMatch(name, StringMatch(StringMatchKind.EXACT, value)))


def _take_action(take: Take, context: Context) -> RouteAction:
    weights = take.child("weighted_clusters")
    weighted: tuple[WeightedCluster, ...] = ()
    header = ""
    if weights is not None:
        weighted, header = take_weighted_clusters(weights, context, of_rpc=True)
    return RouteAction(cluster=take_cluster(take), weighted=weighted, weighted_header=header, timeout_s=0.0)
