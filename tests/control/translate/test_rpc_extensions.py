"""Our own messages: codecs, and routes that do more than Envoy's; as themselves, and as TypedStructs."""

from typing import Any

import pytest

from mosn_xds.base.errors import ConfigError
from mosn_xds.control.translate import NodeContext, Options, Translator
from mosn_xds.control.translate.generic_routes import GENERIC_ROUTES_URL
from mosn_xds.control.translate.translator import LISTENERS_URL
from mosn_xds.spec.common import AppendAction, FormatOperator, FormatText, Fraction, HeaderOps, HeaderValue
from mosn_xds.spec.listener import Listener, ListenerFilter, ListenerFilterKind
from mosn_xds.spec.route import HeaderHash, Mirror, RetryPolicy, Route, RouteAction, SourceIpHash
from mosn_xds.spec.rpc import ProtocolUse, RpcRouteTable
from tests.control.translate.test_generic_proxy import GENERIC, by, listed, proxied, proxy, single, to
from tests.control.translate.test_translation import translate, typed

OURS = "type.googleapis.com/mosn_xds.extensions.rpc.v1."


def itself(kind: str, **fields: Any) -> dict[str, Any]:
    return {"@type": f"{OURS}{kind}", **fields}


def as_struct(kind: str, **fields: Any) -> dict[str, Any]:
    return {
        "@type": "type.googleapis.com/xds.type.v3.TypedStruct",
        "type_url": f"{OURS}{kind}",
        "value": fields,
    }


def as_old_struct(kind: str, **fields: Any) -> dict[str, Any]:
    return {**as_struct(kind, **fields), "@type": "type.googleapis.com/udpa.type.v1.TypedStruct"}


WAYS = pytest.mark.parametrize("way", [itself, as_struct, as_old_struct], ids=lambda way: way.__name__)


def translator() -> Translator:
    """With the protocols that we have."""
    return Translator(NodeContext(), Options())


def codec(config: dict[str, Any]) -> tuple[ProtocolUse, ...]:
    return proxy(translator=translator(), codec_config={"name": "codec", "typed_config": config}).protocols


def route(config: dict[str, Any]) -> Route:
    table = {"name": "table", "routes": {"on_no_match": {"action": {"name": "a", "typed_config": config}}}}
    found = translate(GENERIC_ROUTES_URL, table).spec
    assert isinstance(found, RpcRouteTable)
    on_match = found.virtual_hosts[0].matcher.no_match
    assert on_match is not None
    assert on_match.route is not None
    return on_match.route


# --- listener filters -----------------------------------------------------------------------------------------------


def inspected(config: dict[str, Any]) -> ListenerFilter:
    message = {
        "name": "listener",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 80}},
        "listener_filters": [{"name": "inspector", "typed_config": config}],
        "filter_chains": [
            {
                "filter_chain_match": {"application_protocols": ["bolt"]},
                "filters": [
                    {
                        "name": "tcp",
                        "typed_config": typed("filters.network.tcp_proxy.v3.TcpProxy", stat_prefix="t", cluster="c"),
                    }
                ],
            }
        ],
    }
    found = translate(LISTENERS_URL, message, translator=translator()).spec
    assert isinstance(found, Listener)
    (made,) = found.listener_filters
    return made


@WAYS
def test_a_listener_filter_that_looks_for_protocols(way: Any) -> None:
    config = way("ProtocolInspector", protocols=[{"name": "dubbo"}, {"name": "bolt", "options": {"goaway": True}}])
    assert inspected(config) == ListenerFilter(
        ListenerFilterKind.PROTOCOL_INSPECTOR,
        "inspector",
        protocols=(
            ProtocolUse("inspector", "dubbo"),
            ProtocolUse("inspector", "bolt", b'{"goaway":true}'),
        ),
    )


@pytest.mark.parametrize(
    ("protocols", "reason"),
    [
        ([], "value must contain at least 1 item(s)"),
        ([{"name": "bolt"}, {"name": "acme"}], "no protocol acme is installed"),
        ([{"name": "bolt", "options": {"acme": 1}}], "acme"),
    ],
)
def test_a_listener_that_is_to_look_for_what_nobody_knows_is_refused(protocols: Any, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        inspected(itself("ProtocolInspector", protocols=protocols))
    assert reason in caught.value.reason


# --- codecs ---------------------------------------------------------------------------------------------------------


@WAYS
def test_bolt(way: Any) -> None:
    config = way("BoltCodecConfig", max_frame_bytes=4096, max_unread_bytes=9999, heartbeat_interval="0s", goaway=True)
    options = b'{"max_frame_bytes":4096,"max_unread_bytes":9999,"heartbeat_interval_s":0.0,"goaway":true}'
    assert codec(config) == (ProtocolUse("codec", "bolt", options),)
    assert codec(way("BoltCodecConfig")) == (ProtocolUse("codec", "bolt", b"{}"),)


@pytest.mark.parametrize(
    ("fields", "path", "reason"),
    [
        ({"max_unread_bytes": 0}, "max_unread_bytes", "value must be greater than 0"),
        ({"max_frame_bytes": 63}, "max_frame_bytes", "value must be greater than or equal to 64"),
        ({"heartbeat_timeout": "0s"}, "heartbeat_timeout", "value must be greater than 0"),
        ({"heartbeat_interval": "-1s"}, "heartbeat_interval", "Expected positive duration"),
    ],
)
def test_what_bolt_does_not_take_is_refused(fields: dict[str, Any], path: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        codec(itself("BoltCodecConfig", **fields))
    assert caught.value.path.endswith(f"codec_config.typed_config.{path}")
    assert reason in caught.value.reason


@WAYS
def test_a_protocol_by_its_name(way: Any) -> None:
    config = way("ProtocolCodecConfig", name="dubbo", options={"max_frame_bytes": 4096})
    assert codec(config) == (ProtocolUse("codec", "dubbo", b'{"max_frame_bytes":4096}'),)
    assert codec(way("ProtocolCodecConfig", name="dubbo")) == (ProtocolUse("codec", "dubbo"),)


def test_options_are_judged_where_they_stand() -> None:
    with pytest.raises(ConfigError) as caught:
        codec(itself("ProtocolCodecConfig", name="dubbo", options={"colour": 1}))
    assert caught.value.path.endswith("codec_config.typed_config.options.colour")


@WAYS
def test_several_protocols_on_one_port(way: Any) -> None:
    config = way("SniffingCodecConfig", protocols=[{"name": "dubbo"}, {"name": "bolt", "options": {"goaway": True}}])
    assert codec(config) == (ProtocolUse("codec", "dubbo"), ProtocolUse("codec", "bolt", b'{"goaway":true}'))


@pytest.mark.parametrize(
    ("config", "place"),
    [
        (itself("ProtocolCodecConfig", name="acme"), "name"),
        (itself("SniffingCodecConfig", protocols=[{"name": "dubbo"}, {"name": "acme"}]), "protocols[1].name"),
    ],
)
def test_a_protocol_that_is_not_installed_is_refused_by_name(config: dict[str, Any], place: str) -> None:
    with pytest.raises(ConfigError) as caught:
        proxied(translator=translator(), codec_config={"name": "codec", "typed_config": config})
    assert caught.value.path == f"filter_chains[0].filters[0].typed_config.codec_config.typed_config.{place}"
    assert caught.value.reason == "no protocol acme is installed"
    assert caught.value.hint == (
        "installed: bolt, dubbo, thrift; any package that has an entry point mosn_xds.protocols: acme brings it"
    )


# --- routes ---------------------------------------------------------------------------------------------------------

ROUTE = typed(f"{GENERIC}.action.v3.RouteAction", cluster="there", name="mine", timeout="2s")
PLAIN = {key: value for key, value in ROUTE.items() if key != "@type"}


@WAYS
def test_a_route_does_what_envoys_does(way: Any) -> None:
    assert route(way("RouteAction", route=PLAIN)) == route(ROUTE)


@WAYS
def test_a_route_does_more(way: Any) -> None:
    config = way(
        "RouteAction",
        route={**PLAIN, "retry_policy": {"num_retries": 2}},
        per_try_timeout="0.5s",
        hash_policy=[{"property_name": "Tenant", "terminal": True}, {"source_ip": True}],
        request_mirror_policies=[
            {"cluster": "shadow", "runtime_fraction": {"default_value": {"numerator": 5}}},
        ],
        request_headers_to_add=[
            {"header": {"key": "targetApp", "value": "shop"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
        ],
        request_headers_to_remove=["traceId"],
        response_headers_to_add=[{"header": {"key": "servedBy", "value": "%UPSTREAM_HOST%"}}],
        response_headers_to_remove=["Secret"],
    )
    found = route(config)
    action = found.action
    assert isinstance(action, RouteAction)
    assert action.retry == RetryPolicy(
        ("connect-failure", "refused-stream", "reset"), num_retries=2, per_try_timeout_s=0.5
    )
    assert action.hash_policy == (HeaderHash("Tenant", terminal=True), SourceIpHash())
    assert action.mirrors == (Mirror("shadow", fraction=Fraction(5)),)
    assert found.headers == HeaderOps(
        (HeaderValue("targetApp", (FormatText("shop"),), AppendAction.OVERWRITE_IF_EXISTS_OR_ADD),),
        ("traceId",),
        (HeaderValue("servedBy", (FormatOperator("UPSTREAM_HOST"),)),),
        ("Secret",),
    )


def test_the_clusters_of_a_route_are_those_of_its_table() -> None:
    config = itself("RouteAction", route=PLAIN, request_mirror_policies=[{"cluster": "shadow"}])
    table = {"name": "table", "routes": {"on_no_match": {"action": {"name": "a", "typed_config": config}}}}
    found = translate(GENERIC_ROUTES_URL, table).spec
    assert isinstance(found, RpcRouteTable)
    assert found.clusters == ("there", "shadow")


def test_a_time_out_for_each_try_needs_no_retry_policy() -> None:
    action = route(itself("RouteAction", route=PLAIN, per_try_timeout="0.5s")).action
    assert isinstance(action, RouteAction)
    assert action.retry == RetryPolicy(num_retries=0, per_try_timeout_s=0.5)


@pytest.mark.parametrize(
    "routed",
    [
        itself("RouteAction", route=PLAIN, request_headers_to_add=[{"header": {"key": "a", "value": "b"}}]),
        itself("RouteAction", route=PLAIN, response_headers_to_remove=["a"]),
        typed(
            f"{GENERIC}.action.v3.RouteAction",
            weighted_clusters={"clusters": [{"name": "c", "weight": 1, "request_headers_to_remove": ["a"]}]},
        ),
    ],
)
def test_who_changes_properties_where_there_are_none_is_told(routed: dict[str, Any]) -> None:
    action = {"action": {"name": "a", "typed_config": routed}}
    routes = {"on_no_match": {"matcher": by("Method", {"get": action})}}
    for protocol, told in (("thrift", 1), ("bolt", 0)):
        codec = {"name": protocol, "typed_config": itself("ProtocolCodecConfig", name=protocol)}
        table = {"name": "table", "routes": routes}
        found = proxied(translator=translator(), codec_config=codec, route_config=table)
        assert len(found.warnings) == told, found.warnings
        assert all("typed_config: thrift has no properties to change" in warning for warning in found.warnings)


HASHED = itself("RouteAction", route=PLAIN, hash_policy=[{"property_name": "Tenant"}])
BY_PROPERTY = single("Property", {"exact": "x"}, property_name="tenant")


@pytest.mark.parametrize(
    ("routes", "told"),
    [
        (by("Property", {"x": to()}, property_name="tenant"), True),
        (by("Service", {"x": {"matcher": by("Property", {"x": to()}, property_name="tenant")}}), True),
        (listed(BY_PROPERTY), True),
        (listed({"or_matcher": {"predicate": [single("Method", {"exact": "a"}), {"not_matcher": BY_PROPERTY}]}}), True),
        ({"on_no_match": {"action": {"name": "a", "typed_config": HASHED}}}, True),
        (by("Service", {"x": to()}), False),
        (listed(single("Method", {"exact": "a"})), False),
    ],
)
def test_who_looks_for_properties_where_there_are_none_is_told(routes: dict[str, Any], told: bool) -> None:
    for protocol, warned in (("thrift", told), ("dubbo", False)):
        codec = {"name": protocol, "typed_config": itself("ProtocolCodecConfig", name=protocol)}
        table = {"name": "table", "routes": routes}
        found = proxied(translator=translator(), codec_config=codec, route_config=table)
        text = "thrift has no properties: what routes match, hash or choose by one finds none"
        assert found.warnings == ((f"filter_chains[0].filters[0].typed_config: {text}",) if warned else ())


def test_headers_in_routes_of_thrift_proxy_are_such() -> None:
    def warned(name: str) -> tuple[str, ...]:
        headers = [{"name": name, "string_match": {"exact": "x"}}]
        route = {"match": {"method_name": "get", "headers": headers}, "route": {"cluster": "there"}}
        config = typed("filters.network.thrift_proxy.v3.ThriftProxy", stat_prefix="t", route_config={"routes": [route]})
        chain = {"filters": [{"name": "thrift", "typed_config": config}]}
        address = {"socket_address": {"address": "127.0.0.1", "port_value": 80}}
        listener = {"name": "listener", "address": address, "filter_chains": [chain]}
        return translate(LISTENERS_URL, listener, translator=translator()).warnings

    assert "thrift has no properties: " in warned("tenant")[0]
    assert warned(":authority") == ()


def test_weights_change_properties_in_their_own_case() -> None:
    one = {
        "name": "c",
        "weight": 1,
        "request_headers_to_add": [{"header": {"key": "targetApp", "value": "shop"}}],
        "host_rewrite_literal": "elsewhere",
    }
    routed = typed(f"{GENERIC}.action.v3.RouteAction", weighted_clusters={"clusters": [one]})
    action = route(routed).action
    assert isinstance(action, RouteAction)
    assert action.weighted[0].headers.request_add[0].name == "targetApp"
    table = {"name": "table", "routes": {"on_no_match": {"action": {"name": "a", "typed_config": routed}}}}
    assert "host_rewrite_literal (a call's host is its service)" in translate(GENERIC_ROUTES_URL, table).unread[0]


def test_subsets_are_reported() -> None:
    config = itself("RouteAction", route=PLAIN, subset_properties=["zone"])
    table = {"name": "table", "routes": {"on_no_match": {"action": {"name": "a", "typed_config": config}}}}
    assert translate(GENERIC_ROUTES_URL, table).unread == (
        "routes.on_no_match.action.typed_config.subset_properties (subsets are not supported yet)",
    )


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, "RouteActionValidationError.Route: value is required"),
        ({"route": {}}, 'field: "cluster_specifier", reason: is required'),
        ({"route": PLAIN, "hash_policy": [{}]}, 'field: "policy_specifier", reason: is required'),
        ({"route": PLAIN, "subset_properties": [""]}, "value length must be at least 1 characters"),
        (
            {"route": PLAIN, "request_headers_to_add": [{"header": {"key": ":path", "value": "x"}}]},
            ":-prefixed or host headers may not be modified",
        ),
    ],
)
def test_what_makes_no_route_is_refused(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        route(itself("RouteAction", **fields))
    assert reason in caught.value.reason
