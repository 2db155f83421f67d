"""Bootstraps: what pilot-agent writes, what people write, and how a bad one is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from mosn_xds.base.errors import ConfigError
from mosn_xds.control.bootstrap import Bootstrap, NodeOverrides, load_bootstrap
from mosn_xds.control.translate import SourceKind
from mosn_xds.spec.common import Address
from mosn_xds.spec.listener import HttpConnectionManager, Listener
from mosn_xds.spec.stats_matcher import StatsMatcher
from tests.support.authority import Authority
from tests.support.recordings import ROOT

PILOT_AGENT = sorted((ROOT / "bootstrap").glob("*.json"))
TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"


def load(config: Any, **options: Any) -> Bootstrap:
    return load_bootstrap(None, config if isinstance(config, str) else yaml.safe_dump(config), **options)


def xds_cluster(address: dict[str, Any], **fields: Any) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": address}}
    return {
        "name": "xds",
        "type": "STRICT_DNS",
        "load_assignment": {"cluster_name": "xds", "endpoints": [{"lb_endpoints": [endpoint]}]},
        **fields,
    }


def dynamic(cluster: dict[str, Any], **ads: Any) -> dict[str, Any]:
    config = {"api_type": "GRPC", "transport_api_version": "V3",
              "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}], **ads}  # fmt: skip
    return {
        "node": {"id": "n", "cluster": "c"},
        "static_resources": {"clusters": [cluster]},
        "dynamic_resources": {
            "ads_config": config,
            "cds_config": {"ads": {}},
            "lds_config": {"ads": {}, "initial_fetch_timeout": "3s"},
        },
    }


SOCKET = {"socket_address": {"address": "pilot.test", "port_value": 15010}}


@pytest.mark.parametrize("path", PILOT_AGENT, ids=lambda path: path.stem)
def test_what_pilot_agent_writes_is_understood(path: Path) -> None:
    bootstrap = load_bootstrap(path)
    assert bootstrap.ads is not None
    assert bootstrap.ads.target.target == "unix:./etc/istio/proxy/XDS"
    assert bootstrap.ads.delta == ("sotw" not in path.name)
    assert bootstrap.ads.node_on_first_message_only
    assert bootstrap.lds is not None and bootstrap.lds.source.kind is SourceKind.ADS
    assert bootstrap.lds.initial_fetch_timeout_s == 0
    assert bootstrap.admin.address == Address("127.0.0.1", 15000)
    assert bootstrap.node.cluster
    assert bootstrap.node.metadata["ISTIO_VERSION"] == "1.29.6"
    assert bootstrap.targets["sds-grpc"].target == "unix:./var/run/secrets/workload-spiffe-uds/socket"
    assert bootstrap.runtime["re2.max_program_size.error_level"] == "32768"
    assert "envoy.cluster_name" not in {tag.name for tag in bootstrap.stats.tags}


def test_the_two_static_listeners_of_a_sidecar_serve() -> None:
    bootstrap = load_bootstrap(ROOT / "bootstrap" / "sidecar.json")
    found = {}
    for resource in bootstrap.listeners:
        spec = resource.translated.spec
        assert isinstance(spec, Listener)
        manager = spec.chains[0].filters[0]
        assert isinstance(manager, HttpConnectionManager) and manager.routes is not None
        found[spec.name] = (str(spec.addresses[0]), manager.routes.clusters, [one.name for one in manager.filters])
    assert found == {
        "0.0.0.0_15090": ("0.0.0.0:15090", ("prometheus_stats",), ["envoy.filters.http.router"]),
        "0.0.0.0_15021": ("0.0.0.0:15021", ("agent",), ["envoy.filters.http.router"]),
    }
    assert any("compressor" in warning for warning in bootstrap.warnings)
    assert "overload_manager (there is no overload manager)" in bootstrap.unread


def test_stats_outside_the_inclusion_list_do_not_exist() -> None:
    matcher = StatsMatcher(load_bootstrap(ROOT / "bootstrap" / "sidecar.json").stats.patterns)
    assert matcher.allows("cluster_manager.cds.update_success")
    assert matcher.allows("cluster.xds-grpc.upstream_rq_total")
    assert matcher.allows("http.in.rbac.allowed")
    assert matcher.allows("vhost.a.route.b.upstream_rq_total")
    assert not matcher.allows("cluster.other.upstream_rq_total")


@pytest.mark.parametrize(
    ("matcher", "allowed"),
    [
        (None, {"a.b", "c"}),
        ({"reject_all": True}, set()),
        ({"reject_all": False}, {"a.b", "c"}),
        ({"exclusion_list": {"patterns": [{"prefix": "a."}]}}, {"c"}),
        ({"inclusion_list": {"patterns": [{"exact": "A.B", "ignore_case": True}]}}, {"a.b"}),
        ({"inclusion_list": {"patterns": [{"contains": "."}]}}, {"a.b"}),
        ({"inclusion_list": {"patterns": [{"safe_regex": {"regex": "[a-z]"}}]}}, {"c"}),
    ],
)
def test_the_stats_matcher_decides_which_stats_exist(matcher: Any, allowed: set[str]) -> None:
    patterns = load({"stats_config": {"stats_matcher": matcher} if matcher else {}}).stats.patterns
    assert {name for name in ("a.b", "c") if StatsMatcher(patterns).allows(name)} == allowed


def test_yaml_given_on_the_command_line_is_merged_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "bootstrap.yaml"
    file.write_text("node: {id: a, cluster: one}\nstatic_resources: {clusters: [{name: x, type: STATIC}]}")
    merged = load_bootstrap(file, "node: {id: b}\nstatic_resources: {clusters: [{name: y, type: STATIC}]}")
    assert (merged.node.id, merged.node.cluster) == ("b", "one")
    assert [resource.translated.name for resource in merged.clusters] == ["x", "y"]


def test_the_command_line_names_the_node() -> None:
    node = load({"node": {"id": "a", "cluster": "b"}}, overrides=NodeOverrides(id="x", zone="z")).node
    assert (node.id, node.cluster, node.zone) == ("x", "b", "z")


@pytest.mark.parametrize(
    ("text", "value"),
    [("on", "on"), ("yes", "yes"), ("12:30", "12:30"), ("'5'", "5"), ("2020-01-01", "2020-01-01"), ("1_000", "1_000")],
)
def test_yaml_scalars_are_those_of_yaml_1_2(text: str, value: str) -> None:
    assert load(f"node: {{id: {text}}}").node.id == value


@pytest.mark.parametrize(
    ("address", "target"),
    [
        (SOCKET, "pilot.test:15010"),
        ({"socket_address": {"address": "::1", "port_value": 1}}, "[::1]:1"),
        ({"pipe": {"path": "./etc/XDS"}}, "unix:./etc/XDS"),
        ({"pipe": {"path": "etc/XDS"}}, "unix:etc/XDS"),
        ({"pipe": {"path": "/run/XDS"}}, "unix:///run/XDS"),
    ],
)
def test_the_server_is_found_by_its_cluster(address: dict[str, Any], target: str) -> None:
    kind = {"type": "STATIC"} if "pipe" in address or address["socket_address"]["address"] == "::1" else {}
    bootstrap = load(dynamic(xds_cluster(address, **kind)))
    assert bootstrap.ads is not None and bootstrap.ads.target.target == target
    assert (bootstrap.ads.delta, bootstrap.ads.target.tls) == (False, False)


def test_the_servers_tls_and_metadata_come_along(tmp_path: Path) -> None:
    authority = Authority()
    root = tmp_path / "root.pem"
    root.write_text(authority.root)
    chain, key = authority.issue("spiffe://a/ns/b/sa/c").write(tmp_path)
    tls = {
        "@type": TLS,
        "sni": "pilot.test",
        "common_tls_context": {
            "validation_context": {"trusted_ca": {"filename": str(root)}},
            "tls_certificates": [{"certificate_chain": {"filename": chain}, "private_key": {"filename": key}}],
        },
    }
    cluster = xds_cluster(SOCKET, transport_socket={"name": "tls", "typed_config": tls}, connect_timeout="2s")
    service = {"envoy_grpc": {"cluster_name": "xds", "authority": "other.test"},
               "initial_metadata": [{"key": "ClusterID", "value": "k"}]}  # fmt: skip
    bootstrap = load(dynamic(cluster, api_type="DELTA_GRPC", grpc_services=[service]))
    assert bootstrap.ads is not None and bootstrap.ads.delta
    target = bootstrap.ads.target
    assert (target.tls, target.server_name, target.authority) == (True, "pilot.test", "other.test")
    assert (target.tls_root_path, target.tls_certificate_path, target.tls_key_path) == (str(root), chain, key)
    assert (target.initial_metadata, target.connect_timeout_s) == ((("clusterid", "k"),), 2.0)


def test_a_token_from_a_file_is_call_credentials() -> None:
    plugin = {
        "name": "envoy.grpc_credentials.file_based_metadata",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.config.grpc_credential.v3.FileBasedMetadataConfig",
            "secret_data": {"filename": "/var/token"},
            "header_key": "Authorization",
            "header_prefix": "Bearer ",
        },
    }
    google = {
        "target_uri": "pilot.test:15012",
        "stat_prefix": "xds",
        "channel_credentials": {"ssl_credentials": {"root_certs": {"filename": "/root.pem"}}},
        "call_credentials": [{"from_plugin": plugin}],
    }
    bootstrap = load(dynamic(xds_cluster(SOCKET), grpc_services=[{"google_grpc": google}]))
    assert bootstrap.ads is not None
    target = bootstrap.ads.target
    assert (target.target, target.tls, target.tls_root_path) == ("pilot.test:15012", True, "/root.pem")
    assert (target.token_path, target.token_header, target.token_prefix) == ("/var/token", "authorization", "Bearer ")


def test_clusters_may_come_from_a_service_of_their_own() -> None:
    config = dynamic(xds_cluster(SOCKET))
    config["dynamic_resources"]["cds_config"] = {
        "api_config_source": {"api_type": "DELTA_GRPC", "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}]}
    }
    bootstrap = load(config)
    assert bootstrap.cds is not None and bootstrap.cds.server is not None
    assert (bootstrap.cds.source.kind, bootstrap.cds.server.delta) == (SourceKind.DELTA_GRPC, True)
    assert bootstrap.cds.initial_fetch_timeout_s == 15
    assert bootstrap.lds is not None and bootstrap.lds.initial_fetch_timeout_s == 3


def test_runtime_layers_override_one_another() -> None:
    layers = [
        {"name": "a", "static_layer": {"x": {"y": 1, "z": 2}, "f": {"numerator": 5, "denominator": "TEN_THOUSAND"}}},
        {"name": "b", "static_layer": {"x.y": 3}},
        {"name": "admin", "admin_layer": {}},
    ]
    assert dict(load({"layered_runtime": {"layers": layers}}).runtime) == {
        "x.y": 3,
        "x.z": 2,
        "f": {"numerator": 5, "denominator": "TEN_THOUSAND"},
    }


def test_private_keys_are_not_shown() -> None:
    issued = Authority().issue("a.test")
    bootstrap = load({"static_resources": {"secrets": [{"name": "s", "tls_certificate": issued.config()}]}})
    assert [secret.name for secret in bootstrap.secrets] == ["s"]
    shown = f"{bootstrap.message} {bootstrap!r} {bootstrap.secrets!r}"
    assert "PRIVATE" not in shown and "[redacted]" in shown and "BEGIN CERTIFICATE" in shown


def test_secrets_of_one_name_and_kind_are_refused() -> None:
    authority = Authority()
    certificate = {"name": "s", "tls_certificate": authority.issue("a.test").config()}
    validation = {"name": "s", "validation_context": {"trusted_ca": {"inline_string": authority.root}}}
    assert len(load({"static_resources": {"secrets": [certificate, validation]}}).secrets) == 2
    with pytest.raises(ConfigError, match="Duplicate static TlsCertificate secret name s"):
        load({"static_resources": {"secrets": [certificate, certificate]}})


REFUSED: dict[str, tuple[Any, str]] = {
    "no YAML": ("a: [", "--config-yaml:1: not YAML: "),
    "no mapping": ("[1]", "--config-yaml: a bootstrap is a mapping"),
    "a field that does not exist": (
        {"nodes": {}},
        "--config-yaml: nodes: no such field: nodes (--allow-unknown-static-fields to go on without it)",
    ),
    "a field that does not exist inside an extension": (
        {"bootstrap_extensions": [{"name": "x", "typed_config": {"@type": TLS, "nope": 1}}]},
        "--config-yaml: bootstrap_extensions[0].typed_config.nope: no such field",
    ),
    "a number for a string": (
        {"node": {"id": 5}},
        "--config-yaml: node.id: Unable to parse JSON as proto (INVALID_ARGUMENT: invalid JSON in "
        "envoy.config.bootstrap.v3.Bootstrap @ node.id: expected string or bytes-like object, got 'int') (a string is "
        "expected: quote it)",
    ),
    "an unknown server": (
        dynamic(xds_cluster(SOCKET), grpc_services=[{"envoy_grpc": {"cluster_name": "other"}}]),
        "--config-yaml: dynamic_resources.ads_config.grpc_services[0].envoy_grpc.cluster_name: Unknown gRPC client cluster "
        "'other' (it must be a static cluster)",
    ),
    "ADS without its server": (
        {"node": {"id": "n", "cluster": "c"}, "dynamic_resources": {"cds_config": {"ads": {}}}},
        "--config-yaml: dynamic_resources.cds_config: ads is asked for, and there is no ads_config",
    ),
    "REST": (
        dynamic(xds_cluster(SOCKET), api_type="REST"),
        "--config-yaml: dynamic_resources.ads_config.api_type: only GRPC and DELTA_GRPC are supported",
    ),
    "a bad static resource": (
        {"static_resources": {"clusters": [{"name": "a", "type": "EDS"}]}},
        "--config-yaml: static_resources.clusters[0].eds_cluster_config: cannot create an EDS cluster without an EDS config",
    ),
    "nobody": (
        {**dynamic(xds_cluster(SOCKET)), "node": {}},
        "--config-yaml: node: node 'id' and 'cluster' are required.",
    ),
}


@pytest.mark.parametrize(("config", "text"), REFUSED.values(), ids=REFUSED)
def test_a_bad_bootstrap_is_one_line_that_says_where(config: Any, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(config)
    assert str(caught.value).startswith(text)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_bootstrap(tmp_path / "nothing.yaml")
    assert str(caught.value) == f"{tmp_path}/nothing.yaml: unable to read file: No such file or directory"


def test_unknown_fields_may_be_tolerated() -> None:
    bootstrap = load({"node": {"id": "a", "nope": 1}}, allow_unknown_fields=True)
    assert bootstrap.node.id == "a"
    assert bootstrap.warnings == ("node.nope: no such field",)


def test_json_is_read_as_json(tmp_path: Path) -> None:
    file = tmp_path / "bootstrap.json"
    file.write_text(json.dumps({"node": {"id": "a"}}))
    assert load_bootstrap(file).node.id == "a"


def test_an_extension_of_unknown_type_does_not_end_the_start() -> None:
    bootstrap = load(
        {"bootstrap_extensions": [{"name": "x", "typed_config": {"@type": "acme.Unheard", "a": {"b": 1}}}]}
    )
    assert bootstrap.unread == ("bootstrap_extensions (no bootstrap extension is known)",)


def test_runtime_values_that_nothing_asks_for_are_known() -> None:
    layer = {"name": "l", "static_layer": {"re2": {"max_program_size.error_level": 5}, "no.such": True}}
    runtime = load({"layered_runtime": {"layers": [layer]}}).runtime
    assert runtime.get("re2.max_program_size.error_level") == 5
    assert runtime.unasked == ["no.such"]


@pytest.mark.parametrize(
    ("google", "path", "reason"),
    [
        (
            {"channel_credentials": {"google_default": {}}},
            "channel_credentials.google_default",
            "Google's default credentials are not supported",
        ),
        (
            {"credentials_factory_name": "acme"},
            "credentials_factory_name",
            "Unknown google grpc credentials factory name: acme",
        ),
    ],
)
def test_pilot_is_never_spoken_to_in_cleartext_where_more_was_asked_for(
    google: dict[str, Any], path: str, reason: str
) -> None:
    service = {"google_grpc": {"target_uri": "pilot:1", "stat_prefix": "p", **google}}
    config = {"api_type": "GRPC", "grpc_services": [service]}
    with pytest.raises(ConfigError) as caught:
        load({"node": {"id": "a", "cluster": "b"}, "dynamic_resources": {"ads_config": config}})
    place = "dynamic_resources.ads_config.grpc_services[0].google_grpc"
    assert (str(caught.value.path).endswith(f"{place}.{path}"), caught.value.reason) == (True, reason)


@pytest.mark.parametrize(
    ("admin", "unread"),
    [
        ({"access_log_path": "/dev/null"}, set()),
        ({"access_log_path": "/dev/stdout"}, {"admin.access_log_path (what is asked of the admin API is not logged)"}),
        ({"profile_path": "/p"}, {"admin.profile_path (nothing is profiled)"}),
    ],
)
def test_what_is_asked_of_the_admin_api_is_logged_nowhere_and_that_is_said(
    admin: dict[str, Any], unread: set[str]
) -> None:
    assert set(load({"admin": admin}).unread) == unread
