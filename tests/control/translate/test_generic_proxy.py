"""generic_proxy: codecs, matcher trees, actions, filters, and route tables, inline or on their own."""

from importlib.metadata import EntryPoint
from typing import Any

import pytest

from mosn_xds.base.errors import ConfigError
from mosn_xds.control.translate import ADS, Need, NodeContext, Options, Translated, Translator
from mosn_xds.control.translate.generic_routes import GENERIC_ROUTES_URL
from mosn_xds.control.translate.registry import Registry
from mosn_xds.control.translate.translator import LISTENERS_URL
from mosn_xds.data.codec.rpc import RpcOptions, RpcProtocol
from mosn_xds.spec.common import StringMatch, StringMatchKind
from mosn_xds.spec.extensions import PROTOCOLS
from mosn_xds.spec.filters import FaultFilter, FilterDisabled, HttpFilter, RbacFilter, UnknownFilter
from mosn_xds.spec.listener import Listener
from mosn_xds.spec.route import RetryBackOff, RetryPolicy, Route, RouteAction, WeightedCluster
from mosn_xds.spec.rpc import (
    AllOf,
    AnyOf,
    Not,
    ProtocolUse,
    RpcInput,
    RpcInputKind,
    RpcMatcher,
    RpcMatchList,
    RpcMatchMap,
    RpcProxy,
    RpcRouteTable,
    ValueTest,
)
from tests.control.translate.test_translation import translate, typed

GENERIC = "filters.network.generic_proxy"
ROUTER = {"name": "router", "typed_config": typed(f"{GENERIC}.router.v3.Router")}
DUBBO = {"name": "dubbo codec", "typed_config": typed(f"{GENERIC}.codecs.dubbo.v3.DubboCodecConfig")}


class Lines(RpcProtocol):
    """A protocol of another package."""

    class Options(RpcOptions, frozen=True):
        separator: str = "\n"

        def __post_init__(self) -> None:
            super().__post_init__()
            if len(self.separator) != 1:
                raise ValueError("separator must be one character")


def to(cluster: str = "there", **action: Any) -> dict[str, Any]:
    fields = {**({"cluster": cluster} if cluster else {}), **action}
    return {"action": {"name": "route", "typed_config": typed(f"{GENERIC}.action.v3.RouteAction", **fields)}}


def an_input(kind: str, **fields: Any) -> dict[str, Any]:
    return {"name": "input", "typed_config": typed(f"{GENERIC}.matcher.v3.{kind}MatchInput", **fields)}


def by(kind: str, ways: dict[str, Any], how: str = "exact", **fields: Any) -> dict[str, Any]:
    return {"matcher_tree": {"input": an_input(kind, **fields), f"{how}_match_map": {"map": ways}}}


def single(kind: str, match: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"single_predicate": {"input": an_input(kind, **fields), "value_match": match}}


def listed(*predicates: dict[str, Any]) -> dict[str, Any]:
    entries = [{"predicate": one, "on_match": to(f"c{number}")} for number, one in enumerate(predicates)]
    return {"matcher_list": {"matchers": entries}}


def table(routes: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    return {"name": "table", **({} if routes is None else {"routes": routes}), **fields}


def proxied(node: dict[str, Any] | None = None, translator: Translator | None = None, **fields: Any) -> Translated:
    """A listener with a generic_proxy; None takes a field out."""
    config = {
        "stat_prefix": "rpc",
        "codec_config": DUBBO,
        "filters": [ROUTER],
        "route_config": table(by("Service", {"shop": to()})),
        **fields,
    }
    given = {key: value for key, value in config.items() if value is not None}
    terminal = {"name": "generic", "typed_config": typed(f"{GENERIC}.v3.GenericProxy", **given)}
    listener = {
        "name": "listener",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 80}},
        "filter_chains": [{"filters": [terminal]}],
    }
    return translate(LISTENERS_URL, listener, translator=translator, node=node or {})


def proxy(translated: Translated | None = None, **fields: Any) -> RpcProxy:
    found = translated or proxied(**fields)
    assert isinstance(found.spec, Listener)
    terminal = found.spec.chains[0].filters[0]
    assert isinstance(terminal, RpcProxy), terminal
    return terminal


def matcher(routes: dict[str, Any]) -> RpcMatcher:
    found = translate(GENERIC_ROUTES_URL, table(routes)).spec
    assert isinstance(found, RpcRouteTable)
    return found.virtual_hosts[0].matcher


def leaf(**action: Any) -> Route:
    found = matcher({"on_no_match": to(**action)}).no_match
    assert found is not None
    assert found.route is not None
    return found.route


def forward(**action: Any) -> RouteAction:
    found = leaf(**action).action
    assert isinstance(found, RouteAction)
    return found


def user_translator(name: str = "acme.Lines") -> Translator:
    entry = EntryPoint(name, f"{__name__}:Lines", PROTOCOLS)
    return Translator(NodeContext(), Options(), Registry([], [], [entry]))


def typed_struct(kind: str = "xds.type.v3", **value: Any) -> dict[str, Any]:
    return {
        "@type": f"type.googleapis.com/{kind}.TypedStruct",
        "type_url": "type.googleapis.com/acme.Lines",
        "value": value,
    }


# --- the proxy ------------------------------------------------------------------------------------------------------


def test_a_proxy_says_all_that_it_needs() -> None:
    translated = proxied(
        filters=[{**ROUTER, "typed_config": {**ROUTER["typed_config"], "bind_upstream_connection": True}}]
    )
    found = proxy(translated)
    assert (found.stat_prefix, found.bind_upstream, found.filters) == ("generic_proxy.rpc.", True, ())
    assert found.protocols == (ProtocolUse("dubbo codec", "dubbo", b'{"timeout_status": 80}'),)
    assert found.routes is not None
    assert (found.routes.name, found.routes.clusters, found.rds) == ("table", ("there",), "")
    assert (translated.clusters, translated.unread, translated.warnings) == (("there",), (), ())


def test_a_route_table_may_come_on_its_own() -> None:
    translated = proxied(
        route_config=None, generic_rds={"config_source": {"ads": {}}, "route_config_name": "elsewhere"}
    )
    found = proxy(translated)
    assert (found.rds, found.routes) == ("elsewhere", None)
    assert translated.needs == (Need(GENERIC_ROUTES_URL, "elsewhere", ADS),)
    assert GENERIC_ROUTES_URL.endswith("/envoy.extensions.filters.network.generic_proxy.v3.RouteConfiguration")


def test_what_a_proxy_logs_is_translated() -> None:
    log = {"name": "log", "typed_config": typed("access_loggers.stream.v3.StdoutAccessLog")}
    assert [log.path for log in proxy(access_log=[log]).access_logs] == ["/dev/stdout"]


def test_tracing_is_reported() -> None:
    translated = proxied(tracing={})
    assert [path.partition(" ")[0].rpartition(".")[2] for path in translated.unread] == ["tracing"]


# --- codecs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["xds.type.v3", "udpa.type.v1"])
def test_a_protocol_of_another_package_is_found_by_the_type_of_its_configuration(kind: str) -> None:
    codec = {"name": "ours", "typed_config": typed_struct(kind, separator=";", max_frame_bytes=4096)}
    found = proxy(translator=user_translator(), codec_config=codec)
    assert found.protocols == (ProtocolUse("ours", "acme.Lines", b'{"max_frame_bytes": 4096, "separator": ";"}'),)


def test_a_protocol_is_found_by_the_name_of_its_codec() -> None:
    codec = {"name": "lines", "typed_config": {"@type": "type.googleapis.com/google.protobuf.Struct", "value": {}}}
    found = proxy(translator=user_translator("lines"), codec_config=codec)
    assert found.protocols == (ProtocolUse("lines", "lines", b"{}"),)


@pytest.mark.parametrize(
    ("options", "path", "reason"),
    [
        ({"separator": 7}, ".separator", "Expected `str`, got `int`"),
        ({"separator": ";;"}, "", "separator must be one character"),
        ({"colour": "red"}, ".colour", "Object contains unknown field `colour`"),
        ({"max_frame_bytes": 1}, "", "max_frame_bytes must be at least 64"),
    ],
)
def test_options_that_a_protocol_does_not_take_are_refused(options: dict[str, Any], path: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        proxied(translator=user_translator(), codec_config={"name": "ours", "typed_config": typed_struct(**options)})
    assert caught.value.path == f"filter_chains[0].filters[0].typed_config.codec_config.typed_config{path}"
    assert caught.value.reason.startswith(reason)


@pytest.mark.parametrize("config", [typed_struct(), typed(f"{GENERIC}.codecs.http1.v3.Http1CodecConfig")])
def test_an_unknown_codec_is_refused_with_what_is_known(config: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        proxied(translator=user_translator("lines"), codec_config={"name": "ours", "typed_config": config})
    assert caught.value.path == "filter_chains[0].filters[0].typed_config.codec_config"
    assert caught.value.reason.startswith("Didn't find a registered implementation for 'ours' with type URL: '")
    assert caught.value.hint == (
        "protocols that are installed: lines; any package that has an entry point mosn_xds.protocols: ours brings it"
    )


# --- filters --------------------------------------------------------------------------------------------------------


def test_http_filters_that_mean_the_same_serve_rpcs() -> None:
    fault = typed("filters.http.fault.v3.HTTPFault", abort={"http_status": 503, "percentage": {"numerator": 5}})
    rbac = typed("filters.http.rbac.v3.RBAC")
    found = proxy(
        filters=[{"name": "fault", "typed_config": fault}, {"name": "rbac", "typed_config": rbac}, ROUTER]
    ).filters
    assert [type(one.config) for one in found] == [FaultFilter, RbacFilter]
    assert [one.name for one in found] == ["fault", "rbac"]


def test_an_unknown_filter_fails_closed() -> None:
    config = typed("filters.http.cors.v3.Cors")
    translated = proxied(filters=[{"name": "cors", "typed_config": config}, ROUTER])
    name = "envoy.extensions.filters.http.cors.v3.Cors"
    assert proxy(translated).filters == (
        HttpFilter("cors", UnknownFilter(name, f"unknown RPC filter cors of type {name}")),
    )
    assert "requests of its chain are answered with an error" in translated.warnings[0]


def test_an_unknown_filter_may_stand_where_the_router_should() -> None:
    found = proxy(filters=[{"name": "zz", "typed_config": typed_struct()}]).filters
    assert [type(one.config) for one in found] == [UnknownFilter]


def test_the_operator_may_leave_a_filter_out() -> None:
    translated = proxied(
        node={"metadata": {"MOSN_XDS_SKIP_FILTERS": "zz"}},
        filters=[{"name": "zz", "typed_config": typed_struct()}, ROUTER],
    )
    assert proxy(translated).filters == ()
    assert "zz is left out" in translated.warnings[0]


# --- matchers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (an_input("Service"), RpcInput(RpcInputKind.SERVICE)),
        (an_input("Host"), RpcInput(RpcInputKind.HOST)),
        (an_input("Path"), RpcInput(RpcInputKind.PATH)),
        (an_input("Method"), RpcInput(RpcInputKind.METHOD)),
        (an_input("Property", property_name="targetApp"), RpcInput(RpcInputKind.PROPERTY, "targetApp")),
    ],
)
def test_inputs(given: dict[str, Any], expected: RpcInput) -> None:
    tree = matcher({"matcher_tree": {"input": given, "exact_match_map": {"map": {"a": to()}}}}).tree
    assert isinstance(tree, RpcMatchMap)
    assert tree.input == expected


def test_maps_and_nested_trees() -> None:
    inner = by("Method", {"buy": to("buy"), "sell": to("sell")})
    found = matcher({**by("Path", {"/b": to("b"), "/a": {"matcher": inner}}, "prefix"), "on_no_match": to("rest")})
    tree = found.tree
    assert isinstance(tree, RpcMatchMap)
    assert (tree.prefixes, [key for key, _ in tree.entries]) == (True, ["/a", "/b"])
    nested = tree.entries[0][1].matcher
    assert nested is not None
    assert isinstance(nested.tree, RpcMatchMap)
    assert (nested.tree.prefixes, [key for key, _ in nested.tree.entries]) == (False, ["buy", "sell"])
    assert found.no_match is not None


def test_predicates() -> None:
    a, b = single("Method", {"prefix": "a", "ignore_case": True}), single("Method", {"contains": "b"})
    found = matcher(
        listed(
            {"or_matcher": {"predicate": [a, b]}},
            {"and_matcher": {"predicate": [a, {"not_matcher": b}]}},
            single("Service", {"safe_regex": {"google_re2": {}, "regex": "x.*"}}),
        )
    )
    assert isinstance(found.tree, RpcMatchList)
    method = RpcInput(RpcInputKind.METHOD)
    is_a = ValueTest(method, StringMatch(StringMatchKind.PREFIX, "a", True))
    is_b = ValueTest(method, StringMatch(StringMatchKind.CONTAINS, "b"))
    is_x = ValueTest(RpcInput(RpcInputKind.SERVICE), StringMatch(StringMatchKind.REGEX, "x.*"))
    assert [entry.predicate for entry in found.tree.entries] == [AnyOf((is_a, is_b)), AllOf((is_a, Not(is_b))), is_x]


def test_a_whole_request_is_matched_by_parts() -> None:
    request = typed(
        f"{GENERIC}.matcher.v3.RequestMatcher",
        host={"exact": "h"},
        path={"prefix": "/p"},
        method={"suffix": "m"},
        properties=[{"name": "Tag", "string_match": {"exact": "t"}}],
    )
    found = matcher(
        listed(
            {
                "single_predicate": {
                    "input": an_input("Request"),
                    "custom_match": {"name": "m", "typed_config": request},
                }
            }
        )
    )
    assert isinstance(found.tree, RpcMatchList)
    assert found.tree.entries[0].predicate == AllOf(
        (
            ValueTest(RpcInput(RpcInputKind.HOST), StringMatch(StringMatchKind.EXACT, "h")),
            ValueTest(RpcInput(RpcInputKind.PATH), StringMatch(StringMatchKind.PREFIX, "/p")),
            ValueTest(RpcInput(RpcInputKind.METHOD), StringMatch(StringMatchKind.SUFFIX, "m")),
            ValueTest(RpcInput(RpcInputKind.PROPERTY, "Tag"), StringMatch(StringMatchKind.EXACT, "t")),
        )
    )


# --- actions --------------------------------------------------------------------------------------------------------


def test_an_action_has_envoys_defaults() -> None:
    assert leaf() == Route(leaf().match, RouteAction("there", timeout_s=15.0))


@pytest.mark.parametrize(("given", "timeout_s"), [("0.25s", 0.25), ("0s", 0.0)])
def test_a_timeout(given: str, timeout_s: float) -> None:
    assert forward(timeout=given).timeout_s == timeout_s


def test_weighted_clusters() -> None:
    weights = {"clusters": [{"name": "a", "weight": 1}, {"name": "b", "weight": 3}]}
    found = translate(GENERIC_ROUTES_URL, table({"on_no_match": to("", weighted_clusters=weights)}))
    assert isinstance(found.spec, RpcRouteTable)
    assert found.spec.clusters == found.clusters == ("a", "b")
    on_match = found.spec.virtual_hosts[0].matcher.no_match
    assert on_match is not None
    assert on_match.route is not None
    assert isinstance(on_match.route.action, RouteAction)
    assert on_match.route.action.weighted == (WeightedCluster("a", 1), WeightedCluster("b", 3))


def test_a_retry_policy_tries_again_what_failed_before_an_answer() -> None:
    policy = RetryPolicy(("connect-failure", "refused-stream", "reset"), 1)
    assert forward(retry_policy={}).retry == policy
    assert forward().retry is None


def test_a_retry_policy_may_say_more() -> None:
    hosts = {"name": "p", "typed_config": typed("retry.host.previous_hosts.v3.PreviousHostsPredicate")}
    found = forward(
        retry_policy={
            "retry_on": "5xx, reset",
            "num_retries": 4,
            "retry_back_off": {"base_interval": "0.1s", "max_interval": "0.01s"},
            "retry_host_predicate": [hosts],
            "host_selection_retry_max_attempts": 7,
        }
    ).retry
    assert found == RetryPolicy(
        ("5xx", "reset"), 4, back_off=RetryBackOff(0.1, 0.1), previous_hosts=True, host_selection_max_attempts=7
    )


def test_a_route_has_its_name_its_metadata_and_what_it_tells_filters() -> None:
    disabled = {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "disabled": True}
    found = leaf(name="mine", metadata={"filter_metadata": {"a": {"b": 1}}}, per_filter_config={"fault": disabled})
    assert (found.name, found.metadata, found.per_filter) == (
        "mine",
        b'{"a":{"b":1}}',
        (("fault", FilterDisabled()),),
    )


# --- route tables ---------------------------------------------------------------------------------------------------


def test_routes_of_a_table_are_those_of_any_host_that_has_none() -> None:
    host = {"name": "shop", "hosts": ["com.Shop", "*.v1"], "routes": by("Method", {"buy": to("shop")})}
    translated = translate(GENERIC_ROUTES_URL, table(by("Service", {"x": to("rest")}), virtual_hosts=[host]))
    found = translated.spec
    assert isinstance(found, RpcRouteTable)
    assert [(one.name, one.domains) for one in found.virtual_hosts] == [
        ("shop", ("com.Shop", "*.v1")),
        ("default", ("*",)),
    ]
    assert found.clusters == ("shop", "rest")
    assert translated.name == "table"


def test_a_table_without_routes_matches_nothing() -> None:
    found = translate(GENERIC_ROUTES_URL, table()).spec
    assert isinstance(found, RpcRouteTable)
    assert found.virtual_hosts == ()


def test_equal_trees_are_equal_specs() -> None:
    """Maps have no order, and what does not differ is not built again."""
    ways = {name: to(name) for name in ("a", "b", "c", "d")}
    backwards = dict(reversed(ways.items()))
    assert matcher(by("Service", ways)) == matcher(by("Service", backwards))
