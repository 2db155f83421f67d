"""What translators make of single settings: defaults, what zero means, and what fails closed."""

from typing import Any

import msgspec
import pytest
import yaml
from google.protobuf import json_format

from mosn_xds.base.errors import ConfigError
from mosn_xds.control.bootstrap.reading import prepare
from mosn_xds.control.translate import ADS, DnsFamily, Need, NodeContext, Options, SourceKind, Translated, Translator
from mosn_xds.control.translate.hcm import ROUTES_URL
from mosn_xds.control.translate.registry import Registry
from mosn_xds.control.translate.translator import CLUSTERS_URL, ENDPOINTS_URL, LISTENERS_URL
from mosn_xds.spec import cluster as cluster_spec
from mosn_xds.spec.cluster import Breakers, Cluster, Endpoint, Health, LeastRequest, RingHash
from mosn_xds.spec.common import Address
from mosn_xds.spec.filters import (
    FaultFilter,
    FilterDisabled,
    HttpFilter,
    RbacFilter,
    RbacNode,
    RouterFilter,
    UnknownFilter,
)
from mosn_xds.spec.listener import CloseConnection, HttpConnectionManager, Listener, TcpProxy
from mosn_xds.spec.route import Route, RouteAction, RouteTable, VirtualHost
from mosn_xds.xds.messages import message_class

EXTENSIONS = "type.googleapis.com/envoy.extensions"
MANAGER = "filters.network.http_connection_manager.v3.HttpConnectionManager"


def typed(kind: str, **fields: Any) -> dict[str, Any]:
    return {"@type": f"{EXTENSIONS}.{kind}", **fields}


ROUTER = {"name": "router", "typed_config": typed("filters.http.router.v3.Router")}
UNHEARD = {
    "@type": "type.googleapis.com/xds.type.v3.TypedStruct",
    "type_url": "type.googleapis.com/acme.Unheard",
    "value": {"greeting": "hello"},
}


def translate(
    type_url: str, fields: str | dict[str, Any], *, translator: Translator | None = None, **options: Any
) -> Translated:
    found = message_class(type_url)
    assert found is not None
    given = yaml.safe_load(fields) if isinstance(fields, str) else fields
    message = json_format.ParseDict(prepare(given), found())
    chosen = translator or Translator(
        NodeContext(**options.pop("node", {})), Options(**options), Registry([], frozenset())
    )
    return chosen.translate(type_url, None, message.SerializeToString())


def cluster(fields: str | dict[str, Any], **options: Any) -> Cluster:
    spec = translate(CLUSTERS_URL, fields, **options).spec
    assert isinstance(spec, Cluster)
    return spec


def listener(*, translator: Translator | None = None, node: dict[str, Any] | None = None, **fields: Any) -> Translated:
    base = {
        "name": "l",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 80}},
        "filter_chains": [{"filters": [{"name": "tcp", "typed_config": typed("filters.network.tcp_proxy.v3.TcpProxy",
                                                                            stat_prefix="t", cluster="c")}]}],
    }  # fmt: skip
    return translate(LISTENERS_URL, {**base, **fields}, translator=translator, node=node or {})


def manager(*, translator: Translator | None = None, node: dict[str, Any] | None = None, **fields: Any) -> Translated:
    config = typed(MANAGER, **{"stat_prefix": "m", "route_config": {}, "http_filters": [ROUTER], **fields})
    return listener(
        translator=translator, node=node, filter_chains=[{"filters": [{"name": "hcm", "typed_config": config}]}]
    )


def manager_spec(translated: Translated) -> HttpConnectionManager:
    assert isinstance(translated.spec, Listener)
    found = translated.spec.chains[0].filters[0]
    assert isinstance(found, HttpConnectionManager)
    return found


def http_filters(*filters: dict[str, Any], **options: Any) -> tuple[list[HttpFilter], Translated]:
    translated = manager(http_filters=[*filters, ROUTER], **options)
    return list(manager_spec(translated).filters), translated


def route(fields: str) -> Route:
    table = {"name": "t", "virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [yaml.safe_load(fields)]}]}
    spec = translate(ROUTES_URL, table).spec
    assert isinstance(spec, RouteTable)
    return msgspec.msgpack.decode(spec.virtual_hosts[0].raw, type=VirtualHost).routes[0]


def action(fields: str) -> RouteAction:
    found = route(f"match: {{prefix: /}}\nroute: {{cluster: c, {fields}}}").action
    assert isinstance(found, RouteAction)
    return found


# --- defaults, and what zero means -----------------------------------------------------------------------------------


def test_a_bare_cluster_has_the_documented_defaults() -> None:
    assert cluster("{name: a, type: STATIC}") == Cluster("a", cluster_spec.Discovery.STATIC, added_via_api=True)


def test_a_bare_manager_has_the_documented_defaults() -> None:
    spec = manager_spec(manager())
    assert spec == HttpConnectionManager("m", (HttpFilter("router", RouterFilter()),), routes=RouteTable(""))


@pytest.mark.parametrize(
    ("fields", "name", "value"),
    [
        ({"stream_idle_timeout": "0s"}, "stream_idle_timeout_s", None),
        ({"common_http_protocol_options": {"idle_timeout": "0s"}}, "idle_timeout_s", None),
        ({"request_timeout": "0s"}, "request_timeout_s", None),
        ({"delayed_close_timeout": "0s"}, "delayed_close_timeout_s", 0.0),
        ({"common_http_protocol_options": {"max_requests_per_connection": 0}}, "max_requests_per_connection", None),
        ({"stream_error_on_invalid_http_message": True}, "stream_error_on_invalid_message", True),
    ],
)
def test_zero_means_what_the_protos_say(fields: dict[str, Any], name: str, value: Any) -> None:
    assert getattr(manager_spec(manager(**fields)), name) == value


@pytest.mark.parametrize(
    ("fields", "name", "value"),
    [
        ("timeout: 0s", "timeout_s", 0.0),
        ("max_grpc_timeout: 0s", "grpc_timeout_max_s", 0.0),
        ("idle_timeout: 0s", "idle_timeout_s", 0.0),
        ("max_stream_duration: {grpc_timeout_header_max: 3s}", "grpc_timeout_caps_stream", True),
        ("retry_policy: {retry_on: ' 5xx , reset,,'}", "retry.retry_on", ("5xx", "reset")),
        ("retry_policy: {num_retries: 0}", "retry.num_retries", 0),
        ("retry_policy: {}", "retry.num_retries", 1),
        ("retry_policy: {retry_back_off: {base_interval: 0.0001s}}", "retry.back_off.base_s", 0.001),
        ("hash_policy: [{cookie: {name: c, ttl: 0s}}]", "hash_policy.0.ttl_s", 0.0),
        ("cluster_not_found_response_code: NOT_FOUND", "cluster_not_found_status", 404),
    ],
)
def test_route_actions(fields: str, name: str, value: Any) -> None:
    found: Any = action(fields)
    for step in name.split("."):
        found = found[int(step)] if step.isdigit() else getattr(found, step)
    assert found == value


def test_thresholds_without_a_limit_are_unlimited() -> None:
    found = cluster(
        """
        name: a
        type: STATIC
        circuit_breakers:
          thresholds:
          - {max_connections: 4294967295, max_requests: 7, retry_budget: {}}
          - {priority: HIGH, max_retries: 1}
        """
    )
    assert found.breakers == Breakers(None, 1024, 7, 3, False, 20.0, 3)
    assert found.high_breakers == Breakers(1024, 1024, 1024, 1)


def test_balancing_comes_from_either_field() -> None:
    old = cluster("{name: a, type: STATIC, lb_policy: RING_HASH, ring_hash_lb_config: {minimum_ring_size: 5}}")
    config = typed("load_balancing_policies.ring_hash.v3.RingHash", minimum_ring_size=5)
    policy = {"typed_extension_config": {"name": "ring", "typed_config": config}}
    new = cluster({"name": "a", "type": "STATIC", "load_balancing_policy": {"policies": [policy]}})
    assert old.balancing == new.balancing == RingHash(5)
    assert cluster("{name: a, type: STATIC, lb_policy: LEAST_REQUEST}").balancing == LeastRequest()


def test_an_eds_cluster_says_what_it_waits_for() -> None:
    found = translate(
        CLUSTERS_URL,
        "{name: a, type: EDS, eds_cluster_config: {service_name: s, eds_config: {ads: {}, initial_fetch_timeout: 0s}}}",
    )
    assert found.needs == (Need(ENDPOINTS_URL, "s", ADS, 0.0),)
    assert isinstance(found.spec, Cluster) and found.spec.eds_name == "s"


def test_a_listener_says_what_it_waits_for() -> None:
    source = {"api_config_source": {"api_type": "GRPC", "grpc_services": [{"envoy_grpc": {"cluster_name": "rds"}}]}}
    config = typed(
        MANAGER, stat_prefix="m", http_filters=[ROUTER], rds={"route_config_name": "r", "config_source": source}
    )
    found = listener(filter_chains=[{"filters": [{"name": "hcm", "typed_config": config}]}])
    (need,) = found.needs
    assert (need.type_url, need.name, need.source.kind, need.source.cluster) == (
        ROUTES_URL,
        "r",
        SourceKind.GRPC,
        "rds",
    )
    assert need.initial_fetch_timeout_s == 15
    assert isinstance(found.spec, Listener) and found.spec.route_tables == ("r",)


def test_names_to_resolve_come_with_their_template() -> None:
    found = translate(
        CLUSTERS_URL,
        """
        name: a
        type: STRICT_DNS
        dns_refresh_rate: 60s
        respect_dns_ttl: true
        dns_lookup_family: V4_ONLY
        load_assignment:
          cluster_name: a
          endpoints:
          - locality: {region: r}
            priority: 1
            lb_endpoints:
            - load_balancing_weight: 3
              endpoint: {address: {socket_address: {address: host.test, port_value: 81}}}
        """,
    )
    assert found.extra == () and found.dns is not None
    (locality,) = found.dns.localities
    (host,) = locality.hosts
    assert (host.hostname, host.port, host.template.weight, host.template.hostname) == ("host.test", 81, 3, "host.test")
    assert (found.dns.refresh_s, found.dns.respect_ttl, found.dns.family) == (60.0, True, DnsFamily.V4_ONLY)
    resolved = locality.resolved([host.template])
    assert (resolved.region, resolved.priority) == ("r", 1)


def test_inline_endpoints_carry_the_clusters_name() -> None:
    found = translate(
        CLUSTERS_URL,
        """
        name: a
        type: STATIC
        load_assignment:
          cluster_name: other
          endpoints:
          - lb_endpoints:
            - endpoint: {address: {socket_address: {address: "2001:DB8::0:1", port_value: 80}}, hostname: h}
              health_status: DRAINING
              metadata: {filter_metadata: {envoy.lb: {hash_key: k}, envoy.transport_socket_match: {tlsMode: istio}}}
        """,
    )
    (endpoints,) = found.extra
    assert endpoints.name == "a"
    (one,) = msgspec.msgpack.decode(endpoints.localities[0].endpoints, type=tuple[Endpoint, ...])
    assert one.address == Address("2001:db8::1", 80)
    assert (one.health, one.hash_key, one.transport_metadata) == (Health.DRAINING, "k", (("tlsMode", "istio"),))
    assert msgspec.json.decode(one.metadata)["envoy.lb"] == {"hash_key": "k"}


# --- what is not known -----------------------------------------------------------------------------------------------


def test_an_unknown_http_filter_fails_its_chain() -> None:
    found, translated = http_filters({"name": "acme", "typed_config": UNHEARD})
    assert found[0].config == UnknownFilter("acme.Unheard", "unknown HTTP filter acme of type acme.Unheard")
    assert "requests of its chain are answered 503" in translated.warnings[0]


@pytest.mark.parametrize(
    ("http_filter", "node"),
    [
        ({"name": "acme", "typed_config": UNHEARD, "is_optional": True}, {}),
        (
            {
                "name": "zip",
                "typed_config": typed(
                    "filters.http.decompressor.v3.Decompressor",
                    decompressor_library={"name": "gzip", "typed_config": UNHEARD},
                ),
            },
            {},
        ),
        ({"name": "acme", "typed_config": UNHEARD}, {"metadata": {"MOSN_XDS_SKIP_FILTERS": "other, acme"}}),
        ({"name": "acme", "typed_config": UNHEARD}, {"metadata": {"MOSN_XDS_SKIP_FILTERS": ["acme"]}}),
    ],
)
def test_what_may_be_left_out_is_left_out_with_a_warning(http_filter: dict[str, Any], node: dict[str, Any]) -> None:
    found, translated = http_filters(http_filter, node=node)
    assert [one.name for one in found] == ["router"]
    assert "left out" in translated.warnings[0]


def test_an_unknown_network_filter_closes_its_chain() -> None:
    tcp = {"name": "tcp", "typed_config": typed("filters.network.tcp_proxy.v3.TcpProxy", stat_prefix="t", cluster="c")}
    found = listener(filter_chains=[{"filters": [{"name": "acme", "typed_config": UNHEARD}, tcp]}])
    assert isinstance(found.spec, Listener)
    assert found.spec.chains[0].filters[0] == CloseConnection(
        "acme", "unknown network filter acme of type acme.Unheard"
    )


def test_a_proxy_that_cannot_tunnel_closes() -> None:
    config = typed(
        "filters.network.tcp_proxy.v3.TcpProxy", stat_prefix="t", cluster="c", tunneling_config={"hostname": "h:1"}
    )
    found = listener(filter_chains=[{"filters": [{"name": "tcp", "typed_config": config}]}])
    assert isinstance(found.spec, Listener)
    assert isinstance(found.spec.chains[0].filters[0], CloseConnection)


def test_the_original_source_filter_is_left_out_and_says_so() -> None:
    config = typed("filters.listener.original_src.v3.OriginalSrc", mark=7)
    found = listener(listener_filters=[{"name": "source", "typed_config": config}])
    assert isinstance(found.spec, Listener)
    why = "connections to upstreams come from this machine's own address"
    assert found.spec.listener_filters == ()
    assert found.unread == (f"listener_filters[0].typed_config ({why})",)
    assert found.warnings == (f"listener_filters[0].typed_config: source has no effect: {why}",)


def test_unknown_fields_are_refused_where_that_is_asked() -> None:
    found = message_class(CLUSTERS_URL)
    assert found is not None
    raw = json_format.ParseDict({"name": "a", "type": "STATIC"}, found()).SerializeToString() + b"\xca\x3e\x01z"
    tolerant = Translator(NodeContext(), Options(), Registry([], frozenset()))
    assert tolerant.translate(CLUSTERS_URL, None, raw).unread == ("1001 (unknown field)",)
    strict = Translator(NodeContext(), Options(reject_unknown_fields=True), Registry([], frozenset()))
    with pytest.raises(ConfigError, match="has unknown fields"):
        strict.translate(CLUSTERS_URL, None, raw)


def test_conditions_that_cannot_be_evaluated_never_match() -> None:
    found = route(
        """
        match: {prefix: /, dynamic_metadata: [{filter: f, path: [{key: k}], value: {present_match: true}}]}
        route: {cluster: c}
        """
    )
    assert found.match.runtime_fraction is not None and found.match.runtime_fraction.numerator == 0


# --- security --------------------------------------------------------------------------------------------------------


def rbac(action: str, *, shadow: bool = False) -> RbacFilter:
    policy = {
        "permissions": [{"any": True}],
        "principals": [{"any": True}],
        "condition": {"const_expr": {"bool_value": True}},
    }
    rules = {"shadow_rules" if shadow else "rules": {"action": action, "policies": {"p": policy}}}
    found, translated = http_filters({"name": "rbac", "typed_config": typed("filters.http.rbac.v3.RBAC", **rules)})
    assert any("condition" in path for path in translated.unread)
    config = found[0].config
    assert isinstance(config, RbacFilter)
    return config


def test_a_policy_that_cannot_be_judged_lets_nobody_in() -> None:
    allow, deny = rbac("ALLOW").rules, rbac("DENY").rules
    assert allow is not None and allow.policies[0].permissions == (RbacNode("never"),)
    assert deny is not None and deny.policies[0].permissions == deny.policies[0].principals == (RbacNode("any"),)


def test_a_shadow_policy_that_cannot_be_judged_counts_nothing() -> None:
    deny = rbac("DENY", shadow=True).shadow_rules
    assert deny is not None and deny.policies[0].permissions == (RbacNode("never"),)


def test_rules_as_a_matcher_tree_fail_closed() -> None:
    tree = {"on_no_match": {"action": {"name": "allow", "typed_config": UNHEARD}}}
    found, translated = http_filters({"name": "rbac", "typed_config": typed("filters.http.rbac.v3.RBAC", matcher=tree)})
    assert isinstance(found[0].config, UnknownFilter)
    assert any("matcher trees are not supported" in path for path in translated.unread)


def test_policies_come_in_order_of_their_names() -> None:
    policy = {"permissions": [{"any": True}], "principals": [{"any": True}]}
    config = typed("filters.http.rbac.v3.RBAC", rules={"policies": {"b": policy, "a": policy, "c": policy}})
    found, _ = http_filters({"name": "rbac", "typed_config": config})
    assert isinstance(found[0].config, RbacFilter) and found[0].config.rules is not None
    assert [one.name for one in found[0].config.rules.policies] == ["a", "b", "c"]


def test_metadata_conditions_keep_their_shape() -> None:
    matcher = {
        "filter": "jwt",
        "path": [{"key": "payload"}, {"key": "groups"}],
        "value": {"or_match": {"value_matchers": [{"string_match": {"exact": "a"}},
                                                  {"list_match": {"one_of": {"string_match": {"exact": "a"}}}}]}},
        "invert": True,
    }  # fmt: skip
    policy = {"permissions": [{"any": True}], "principals": [{"metadata": matcher}]}
    config = typed("filters.http.rbac.v3.RBAC", rules={"policies": {"p": policy}})
    found, _ = http_filters({"name": "rbac", "typed_config": config})
    assert isinstance(found[0].config, RbacFilter) and found[0].config.rules is not None
    (principal,) = found[0].config.rules.policies[0].principals
    assert principal.kind == "not" and principal.children[0].kind == "or"
    assert [one.kind for one in principal.children[0].children] == ["metadata", "metadata_list"]
    assert principal.children[0].children[0].key_path == ("jwt", "payload", "groups")


# --- per route, runtime, identity ------------------------------------------------------------------------------------


def test_a_route_may_silence_a_filter_or_override_it() -> None:
    found = route(
        f"""
        match: {{prefix: /}}
        route: {{cluster: c}}
        typed_per_filter_config:
          quiet: {{"@type": type.googleapis.com/envoy.config.route.v3.FilterConfig, disabled: true}}
          fault:
            "@type": type.googleapis.com/envoy.config.route.v3.FilterConfig
            config: {{"@type": {EXTENSIONS}.filters.http.fault.v3.HTTPFault, upstream_cluster: x}}
        """
    )
    assert found.per_filter == (("fault", FaultFilter(upstream_cluster="x")), ("quiet", FilterDisabled()))


def test_the_static_runtime_overrides_a_fraction() -> None:
    fields = {"name": "t", "virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [
        {"match": {"prefix": "/", "runtime_fraction": {"runtime_key": "k", "default_value": {"numerator": 1}}},
         "route": {"cluster": "c"}}]}]}  # fmt: skip
    for override, expected in (
        (None, (1, 100)),
        (30, (30, 100)),
        ({"numerator": 5, "denominator": "MILLION"}, (5, 10**6)),
    ):
        spec = translate(ROUTES_URL, fields, runtime={} if override is None else {"k": override}).spec
        assert isinstance(spec, RouteTable)
        match = msgspec.msgpack.decode(spec.virtual_hosts[0].raw, type=VirtualHost).routes[0].match
        assert match.runtime_fraction is not None
        assert (match.runtime_fraction.numerator, match.runtime_fraction.denominator) == expected


def specs(*fields: dict[str, Any]) -> list[Listener]:
    found = [listener(**one).spec for one in fields]
    return [spec for spec in found if isinstance(spec, Listener)]


def tcp_chain(cluster: str, port: int) -> dict[str, Any]:
    config = typed("filters.network.tcp_proxy.v3.TcpProxy", stat_prefix="t", cluster=cluster)
    return {"filter_chain_match": {"destination_port": port}, "filters": [{"name": "tcp", "typed_config": config}]}


def test_a_changed_chain_leaves_the_others_and_the_socket_alone() -> None:
    old, new = specs(
        {"filter_chains": [tcp_chain("a", 1), tcp_chain("b", 2)]},
        {"filter_chains": [tcp_chain("a", 1), tcp_chain("c", 2)]},
    )
    assert old.chains[0].uid == new.chains[0].uid
    assert old.chains[1].uid != new.chains[1].uid
    assert (old.base_uid, old.socket_uid) == (new.base_uid, new.socket_uid)


def test_another_setting_changes_the_base_and_another_option_the_socket() -> None:
    plain, limited, transparent = specs({}, {"per_connection_buffer_limit_bytes": 5}, {"transparent": True})
    assert plain.base_uid != limited.base_uid and plain.socket_uid == limited.socket_uid
    assert plain.socket_uid != transparent.socket_uid


def test_one_changed_virtual_host_of_many_costs_one() -> None:
    def table(changed: str) -> dict[str, Any]:
        hosts = [
            {"name": f"v{number}", "domains": [f"h{number}.test"],
             "routes": [{"match": {"prefix": "/"}, "route": {"cluster": changed if number == 7 else "c"}}]}
            for number in range(50)
        ]  # fmt: skip
        return {"name": "t", "virtual_hosts": hosts}

    translator = Translator(NodeContext(), Options(), Registry([], frozenset()))
    old = translate(ROUTES_URL, table("a"), translator=translator)
    new = translate(ROUTES_URL, table("b"), translator=translator)
    assert isinstance(old.spec, RouteTable) and isinstance(new.spec, RouteTable)
    pairs = list(zip(old.spec.virtual_hosts, new.spec.virtual_hosts, strict=True))
    assert [number for number, (before, after) in enumerate(pairs) if before is not after] == [7]
    assert (old.clusters, new.clusters) == (("c", "a"), ("c", "b"))


def test_what_a_remembered_part_reports_is_reported_where_it_stands() -> None:
    translator = Translator(NodeContext(), Options(), Registry([], frozenset()))
    host = {"domains": ["a.test"], "virtual_clusters": [{"name": "x", "headers": [{"name": "h"}]}]}
    first = translate(ROUTES_URL, {"name": "t", "virtual_hosts": [{"name": "v", **host}]}, translator=translator)
    other = {"name": "w", "domains": ["b.test"]}
    second = translate(
        ROUTES_URL, {"name": "t", "virtual_hosts": [other, {"name": "v", **host}]}, translator=translator
    )
    assert first.unread == ("virtual_hosts[0].virtual_clusters",)
    assert second.unread == ("virtual_hosts[1].virtual_clusters",)


def test_tcp_weights() -> None:
    config = typed(
        "filters.network.tcp_proxy.v3.TcpProxy",
        stat_prefix="t",
        idle_timeout="0s",
        weighted_clusters={"clusters": [{"name": "a", "weight": 1}, {"name": "b", "weight": 3}]},
    )
    found = listener(filter_chains=[{"filters": [{"name": "tcp", "typed_config": config}]}])
    assert isinstance(found.spec, Listener)
    proxy = found.spec.chains[0].filters[0]
    assert isinstance(proxy, TcpProxy) and proxy.idle_timeout_s is None
    assert [(one.name, one.weight) for one in proxy.clusters] == [("a", 1), ("b", 3)]
    assert found.clusters == ("a", "b")
