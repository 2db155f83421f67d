"""dubbo_proxy and thrift_proxy: their routes, as lists of predicates, and what Envoy refuses of them."""

import json
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from mosn_xds.base.errors import ConfigError
from mosn_xds.control.bootstrap import load_bootstrap
from mosn_xds.control.translate import ADS, Need, NodeContext, Options, Translated, Translator
from mosn_xds.control.translate.dubbo_proxy import DUBBO_ROUTES_URL
from mosn_xds.control.translate.registry import Registry
from mosn_xds.control.translate.thrift_proxy import THRIFT_ROUTES_URL
from mosn_xds.control.translate.translator import LISTENERS_URL
from mosn_xds.data.codec.head import Version
from mosn_xds.data.codec.rpc.messages import RpcRequest
from mosn_xds.data.match.rpc_routes import RpcTable
from mosn_xds.spec.common import Fraction, RegexRewrite
from mosn_xds.spec.extensions import PROTOCOLS
from mosn_xds.spec.filters import HttpFilter, UnknownFilter
from mosn_xds.spec.listener import CloseConnection, Listener
from mosn_xds.spec.route import Mirror, Route, RouteAction, WeightedCluster
from mosn_xds.spec.rpc import ProtocolUse, RpcProxy, RpcRouteTable
from tests.control.translate.test_envoy_texts import envoy_complaint, one_line
from tests.control.translate.test_translation import translate, typed

DUBBO = "filters.network.dubbo_proxy"
THRIFT = "filters.network.thrift_proxy"
VERSION = Version("test")
REGISTRY = Registry(
    [],
    [],
    [
        EntryPoint(name.lower(), f"mosn_xds.data.codec.rpc.{name.lower()}:{name}", PROTOCOLS)
        for name in ("Dubbo", "Thrift")
    ],
)


def proxied(terminal: dict[str, Any]) -> Translated:
    listener = {
        "name": "listener",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 80}},
        "filter_chains": [{"filters": [{"name": "terminal", "typed_config": terminal}]}],
    }
    return translate(LISTENERS_URL, listener, translator=Translator(NodeContext(), Options(), REGISTRY))


def terminal(config: dict[str, Any]) -> RpcProxy | CloseConnection:
    found = proxied(config).spec
    assert isinstance(found, Listener)
    last = found.chains[0].filters[-1]
    assert isinstance(last, RpcProxy | CloseConnection)
    return last


def proxy(config: dict[str, Any]) -> RpcProxy:
    found = terminal(config)
    assert isinstance(found, RpcProxy), found
    return found


def dubbo(*routes: dict[str, Any], interface: str = "shop", **more: Any) -> dict[str, Any]:
    return {"name": "r", "interface": interface, "routes": list(routes), **more}


def method(cluster: str, name: str = "", headers: list[Any] | None = None, **fields: Any) -> dict[str, Any]:
    how = {"exact": name} if name else {"safe_regex": {"regex": ".*"}}
    return {"match": {"method": {"name": how, **fields}, "headers": headers or []}, "route": {"cluster": cluster}}


def of_dubbo(*configs: dict[str, Any], **fields: Any) -> dict[str, Any]:
    given = {"multiple_route_config": {"name": "table", "route_config": list(configs)}, **fields}
    return typed(f"{DUBBO}.v3.DubboProxy", **{"stat_prefix": "d", **{k: v for k, v in given.items() if v is not None}})


def thrift(route: dict[str, Any] | None = None, **match: Any) -> dict[str, Any]:
    return {"match": match, "route": route or {"cluster": "there"}}


def of_thrift(*routes: dict[str, Any], **fields: Any) -> dict[str, Any]:
    given = {"route_config": {"name": "table", "routes": list(routes)}, **fields}
    return typed(
        f"{THRIFT}.v3.ThriftProxy", **{"stat_prefix": "t", **{k: v for k, v in given.items() if v is not None}}
    )


def matched(table: RpcRouteTable | None, service: str, name: str, **properties: str) -> str | None:
    assert table is not None
    built = RpcTable.build(table, lambda table, host, route: None)
    fields = [(key.encode(), value.encode()) for key, value in properties.items()]
    path = f"{service}:{name}" if service else name  # as Thrift has it
    head = RpcRequest.of(
        VERSION, b"", 1, service=service.encode(), method=name.encode(), path=path.encode(), properties=fields
    )
    host = built.virtual_host(head)
    route = host.match(head, 0) if host is not None else None
    if route is None:
        return None
    assert isinstance(route.spec.action, RouteAction)
    return route.spec.action.cluster


# --- dubbo_proxy ----------------------------------------------------------------------------------------------------


def test_a_dubbo_proxy_is_an_rpc_proxy_that_speaks_dubbo() -> None:
    translated = proxied(of_dubbo(dubbo(method("there", "buy"))))
    found = proxy(of_dubbo(dubbo(method("there", "buy"))))
    codec = ProtocolUse("terminal", "dubbo", b'{"no_route_status": 60, "timeout_status": 80}')
    assert (found.stat_prefix, found.protocols, found.filters) == ("dubbo.d.", (codec,), ())
    assert found.routes is not None
    assert (found.routes.name, found.routes.clusters) == ("dubbo/table", ("there",))
    assert (translated.clusters, translated.unread, translated.warnings) == (("there",), (), ())


@pytest.mark.parametrize(
    ("interface", "yes", "no"),
    [
        ("com.Shop", ["com.Shop"], ["com.shop", "com.Shop2"]),
        ("*", ["x"], [""]),
        ("com.*", ["com.Shop"], ["com.", "org.Shop"]),
        ("*.Shop", ["com.Shop"], [".Shop", "com.Shops"]),
        ("*a*", ["ba*"], ["bab"]),
    ],
)
def test_an_interface_may_be_open_at_one_end(interface: str, yes: list[str], no: list[str]) -> None:
    table = proxy(of_dubbo(dubbo(method("found"), interface=interface))).routes
    assert [matched(table, service, "buy") for service in yes] == ["found"] * len(yes)
    assert [matched(table, service, "buy") for service in no] == [None] * len(no)


def test_routes_are_tried_in_order_and_across_configurations() -> None:
    table = proxy(
        of_dubbo(
            dubbo(method("canary", "buy", [{"name": "tag", "string_match": {"exact": "gray"}}]), method("buy", "buy")),
            dubbo(method("v2"), version="2", group="g"),
            dubbo(method("rest"), interface="*"),
        )
    ).routes
    assert matched(table, "shop", "buy") == "buy"
    assert matched(table, "shop", "buy", Tag="gray") == "canary"
    assert matched(table, "shop", "sell", version="2", group="g") == "v2"
    assert matched(table, "shop", "sell", version="2") == "rest"
    assert matched(table, "other", "buy") == "rest"


def test_a_dubbo_route_has_no_timeout_and_no_retries() -> None:
    table = proxy(of_dubbo(dubbo(method("there")))).routes
    assert table is not None
    leaf = table.virtual_hosts[0].matcher.tree.entries[0].on_match.route  # type: ignore[union-attr]
    assert isinstance(leaf, Route)
    assert leaf.action == RouteAction("there", timeout_s=0.0)


def test_a_route_that_looks_at_arguments() -> None:
    looked = {"1": {"exact_match": "x"}, "2": {"range_match": {"start": 5, "end": 7}}, "3": {"exact_match": ""}}
    config = of_dubbo(dubbo(method("looked", "buy", params_match=looked), method("rest")))
    assert not proxied(config).unread
    routes = proxy(config).routes
    good = {":argument.1": "x", ":argument.2": "5", ":argument.3": "any"}
    assert matched(routes, "shop", "buy", **good) == "looked"
    for name, value in ((":argument.1", "y"), (":argument.2", "7"), (":argument.2", "five")):
        assert matched(routes, "shop", "buy", **{**good, name: value}) == "rest"
    assert matched(routes, "shop", "buy", **{name: good[name] for name in sorted(good)[:2]}) == "rest"


def test_weighted_clusters_of_dubbo() -> None:
    weights = {"weighted_clusters": {"clusters": [{"name": "a", "weight": 1}, {"name": "b", "weight": 2}]}}
    table = proxy(of_dubbo(dubbo({**method("x"), "route": weights}))).routes
    assert table is not None
    assert table.clusters == ("a", "b")


def test_the_deprecated_list_of_routes() -> None:
    config = of_dubbo(multiple_route_config=None, route_config=[dubbo(method("found"))])
    assert matched(proxy(config).routes, "shop", "buy") == "found"


def test_a_dubbo_table_on_its_own() -> None:
    config = of_dubbo(multiple_route_config=None, drds={"config_source": {"ads": {}}, "route_config_name": "t"})
    assert proxied(config).needs == (Need(DUBBO_ROUTES_URL, "t", ADS),)
    assert (proxy(config).rds, proxy(config).routes) == ("dubbo/t", None)
    table = {"name": "t", "route_config": [dubbo(method("found"))]}
    found = translate(DUBBO_ROUTES_URL, table).spec
    assert isinstance(found, RpcRouteTable)
    assert (found.name, matched(found, "shop", "buy")) == ("dubbo/t", "found")


def test_filters_of_dubbo() -> None:
    router = {"name": "envoy.filters.dubbo.router"}
    typed_router = {"name": "r", "config": typed(f"{DUBBO}.router.v3.Router")}
    assert proxy(of_dubbo(dubbo_filters=[router])).filters == ()
    assert proxy(of_dubbo(dubbo_filters=[typed_router])).filters == ()
    reason = "unknown RPC filter x without a configuration"
    assert proxy(of_dubbo(dubbo_filters=[{"name": "x"}, router, {"name": "y"}])).filters == (
        HttpFilter("x", UnknownFilter("", reason)),
    )


# --- thrift_proxy ---------------------------------------------------------------------------------------------------


def test_a_thrift_proxy_is_an_rpc_proxy_that_speaks_thrift() -> None:
    config = of_thrift(thrift(method_name="add"), max_requests_per_connection=3, payload_passthrough=True)
    found = proxy(config)
    assert (found.stat_prefix, found.protocols) == ("thrift.t.", (ProtocolUse("terminal", "thrift"),))
    assert found.routes is not None
    assert (found.routes.name, found.routes.clusters, found.max_requests_per_connection) == (
        "thrift/table",
        ("there",),
        3,
    )
    assert (proxied(config).unread, proxied(config).warnings) == ((), ())


@pytest.mark.parametrize(
    ("match", "yes", "no"),
    [
        ({"method_name": ""}, [("", "add"), ("S", "add")], []),
        ({"method_name": "add"}, [("", "add")], [("S", "add"), ("", "added")]),
        ({"method_name": "S:add"}, [("S", "add")], [("", "add"), ("T", "add")]),
        ({"service_name": "S"}, [("S", "x")], [("", "x"), ("SS", "x")]),
        ({"service_name": "S:"}, [("S", "x")], [("", "x")]),
        ({"service_name": ""}, [("", "x"), ("S", "x")], []),
        ({"method_name": "add", "invert": True}, [("", "x"), ("S", "add")], [("", "add")]),
        ({"service_name": "S", "invert": True}, [("", "x")], [("S", "x")]),
    ],
)
def test_names_of_thrift(match: dict[str, Any], yes: list[Any], no: list[Any]) -> None:
    table = proxy(of_thrift(thrift({"cluster": "found"}, **match))).routes
    assert [matched(table, *names) for names in yes] == ["found"] * len(yes)
    assert [matched(table, *names) for names in no] == [None] * len(no)


def test_headers_of_thrift_are_not_inverted() -> None:
    header = {"name": "tenant", "string_match": {"exact": "a"}}
    table = proxy(of_thrift(thrift(method_name="add", invert=True, headers=[header]))).routes
    assert matched(table, "", "sub", tenant="a") == "there"
    assert matched(table, "", "sub", tenant="b") is None


def test_actions_of_thrift() -> None:
    mirror = {"cluster": "shadow", "runtime_fraction": {"default_value": {"numerator": 5}}}
    weights = {"clusters": [{"name": "a", "weight": 1}, {"name": "b", "weight": 2}]}
    table = proxy(
        of_thrift(
            thrift({"cluster_header": "X-Cluster", "request_mirror_policies": [mirror]}, method_name="a"),
            thrift({"weighted_clusters": weights}, method_name="b"),
        )
    ).routes
    assert table is not None
    assert table.clusters == ("shadow", "a", "b")
    actions = [entry.on_match.route.action for entry in table.virtual_hosts[0].matcher.tree.entries]  # type: ignore[union-attr]
    assert actions == [
        RouteAction(cluster_header="x-cluster", timeout_s=0.0, mirrors=(Mirror("shadow", fraction=Fraction(5)),)),
        RouteAction(weighted=(WeightedCluster("a", 1), WeightedCluster("b", 2)), timeout_s=0.0),
    ]


def test_what_thrift_asks_for_in_vain_is_reported() -> None:
    route = {"cluster": "c", "metadata_match": {}, "rate_limits": []}
    unread = proxied(of_thrift(thrift(route, method_name=""))).unread
    assert [path.partition(" ")[0].rpartition(".")[2] for path in unread] == ["metadata_match"]


def test_a_service_name_is_stripped_by_a_rewrite() -> None:
    table = proxy(of_thrift(thrift({"cluster": "c", "strip_service_name": True}, service_name="shop"))).routes
    assert table is not None
    leaf = table.virtual_hosts[0].matcher.tree.entries[0].on_match.route  # type: ignore[union-attr]
    assert isinstance(leaf, Route)
    assert isinstance(leaf.action, RouteAction)
    assert leaf.action.regex_rewrite == RegexRewrite("^[^:]*:", "")


@pytest.mark.parametrize("field", [{"transport": "HEADER"}, {"transport": "UNFRAMED"}, {"protocol": "TWITTER"}])
def test_connections_of_a_thrift_that_is_not_spoken_are_closed(field: dict[str, str]) -> None:
    assert isinstance(terminal(of_thrift(**field)), CloseConnection)
    assert len(proxied(of_thrift(**field)).unread) == 1


def test_a_thrift_table_on_its_own() -> None:
    config = of_thrift(route_config=None, trds={"config_source": {"ads": {}}, "route_config_name": "t"})
    assert proxied(config).needs == (Need(THRIFT_ROUTES_URL, "t", ADS),)
    assert proxy(config).rds == "thrift/t"
    found = translate(THRIFT_ROUTES_URL, {"name": "t", "routes": [thrift(method_name="add")]}).spec
    assert isinstance(found, RpcRouteTable)
    assert (found.name, matched(found, "", "add")) == ("thrift/t", "there")


# --- Envoy's words --------------------------------------------------------------------------------------------------

ROUTED = {"cluster": "there"}
CASES: dict[str, tuple[dict[str, Any], str]] = {
    "two lists of routes": (
        of_dubbo(route_config=[dubbo()]),
        "both mutiple_route_config and route_config is present in DubboProxy",
    ),
    "a route without a match": (of_dubbo(dubbo({"route": ROUTED})), "RouteValidationError.Match: value is required)"),
    "a route to nowhere": (
        of_dubbo(dubbo({"match": {}})),
        "RouteValidationError.Route: value is required)",
    ),
    "an action without a cluster": (
        of_dubbo(dubbo({"match": {}, "route": {}})),
        'field: "cluster_specifier", reason: is required)',
    ),
    "a method without a name": (
        of_dubbo(dubbo({"match": {"method": {}}, "route": ROUTED})),
        "Configuration must define a matcher",
    ),
    "no method": (of_dubbo(dubbo({"match": {}, "route": ROUTED})), "Configuration must define a matcher"),
    "a bad expression": (
        of_dubbo(dubbo(method("there", "a", [{"name": "x", "string_match": {"safe_regex": {"regex": "("}}}]))),
        "missing ): (",
    ),
    "two tables of thrift": (
        of_thrift(trds={"config_source": {"ads": {}}, "route_config_name": "t"}),
        "both trds and route_config is present in ThriftProxy",
    ),
    "no name": (of_thrift(thrift()), 'field: "match_specifier", reason: is required)'),
    "no cluster": (
        of_thrift({"match": {"method_name": "a"}, "route": {}}),
        'field: "cluster_specifier", reason: is required)',
    ),
    "an inverted method without a name": (
        of_thrift(thrift(method_name="", invert=True)),
        "Cannot have an empty method name with inversion enabled",
    ),
    "an inverted service without a name": (
        of_thrift(thrift(service_name="", invert=True)),
        "Cannot have an empty service name with inversion enabled",
    ),
    "an unknown cluster": (
        of_thrift(thrift({"cluster": "zz"}, method_name="")),
        "route: unknown thrift cluster 'zz'",
    ),
    "an unknown weighted cluster": (
        of_thrift(thrift({"weighted_clusters": {"clusters": [{"name": "zz", "weight": 1}]}}, method_name="")),
        "route: unknown thrift weighted cluster 'zz'",
    ),
    "an unknown mirror": (
        of_thrift(thrift({**ROUTED, "request_mirror_policies": [{"cluster": "zz"}]}, method_name="")),
        "route: unknown thrift shadow cluster 'zz'",
    ),
    "a weight that is missing": (
        of_thrift(thrift({"weighted_clusters": {"clusters": [{"name": "there"}]}}, method_name="")),
        "Field 'weight' is missing in: ",
    ),
    "a weight of nothing": (
        of_thrift(thrift({"weighted_clusters": {"clusters": [{"name": "there", "weight": 0}]}}, method_name="")),
        "ClusterWeightValidationError.Weight: value must be greater than or equal to 1)",
    ),
}


def bootstrap(config: dict[str, Any]) -> str:
    listener = {
        "name": "listener",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 10000}},
        "filter_chains": [{"filters": [{"name": "terminal", "typed_config": config}]}],
    }
    cluster = {"name": "there", "type": "STATIC", "load_assignment": {"cluster_name": "there"}}
    node = {"id": "n", "cluster": "c"}
    return json.dumps({"node": node, "static_resources": {"clusters": [cluster], "listeners": [listener]}})


@pytest.mark.parametrize(("config", "text"), CASES.values(), ids=CASES)
def test_we_refuse_it_in_these_words(config: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_bootstrap(None, bootstrap(config), registry=REGISTRY)
    assert text in caught.value.reason


@pytest.mark.envoy
@pytest.mark.parametrize(("config", "text"), CASES.values(), ids=CASES)
def test_envoy_refuses_it_in_these_words(config: dict[str, Any], text: str, tmp_path: Path) -> None:
    assert one_line(text) in one_line(envoy_complaint(bootstrap(config), tmp_path))
