"""The configurations that a bench compares, the same for both proxies: a bare HTTP chain, the recorded mesh's, TCP.

The mesh's chain is what a real istiod sent for the `loop` mesh (tests/recordings/loop): listener 8081 with its log, filters
and route table, its clusters with their breakers, the statistics of its bootstrap. Only what the bench cannot have is
changed: endpoints become the bench's upstream, routes come inline, mutual TLS is taken out, and for Envoy the filters that
only Istio's own build has. Time-outs, retries and statistics stay armed in every chain.
"""

import json
import re
from collections.abc import Callable
from functools import cache
from typing import Any

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as manager_pb2
from google.protobuf import json_format
from google.protobuf.message import Message

from mosn_xds.xds.messages import message_class
from tests.support import recordings
from tests.support.authority import Authority, Issued
from tests.support.proxies import ProxyKind

Config = dict[str, Any]

_TYPE = "type.googleapis.com/"
_LISTENER = f"{_TYPE}envoy.config.listener.v3.Listener"
_CLUSTER = f"{_TYPE}envoy.config.cluster.v3.Cluster"
_GENERIC = f"{_TYPE}envoy.extensions.filters.network.generic_proxy"
_ROUTES = f"{_TYPE}envoy.config.route.v3.RouteConfiguration"
_MESH_LISTENER = "127.0.0.1_8081"
_MESH_ROUTES = "8081"

MESH_HOST = "catalog"
"""A virtual host of fourteen routes; a plain `/` falls through to the last one, a weighted split."""


def bootstrap(admin_port: int, listeners: list[Config], clusters: list[Config], **more: Any) -> Config:
    """A static bootstrap."""
    return {
        "node": {"id": "bench", "cluster": "bench"},
        "admin": {"address": _address(admin_port)},
        "static_resources": {"listeners": listeners, "clusters": clusters},
        **more,
    }


def bare(_kind: ProxyKind, admin_port: int, port: int, upstream_port: int) -> Config:
    """A connection manager with a router and nothing else; a time-out and a retry policy."""
    route = {
        "cluster": "up",
        "timeout": "15s",
        "retry_policy": {"retry_on": "connect-failure,refused-stream", "num_retries": 2},
    }
    manager = {
        "@type": f"{_TYPE}envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "route_config": {
            "name": "all",
            "virtual_hosts": [
                {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": route}]}
            ],
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_TYPE}envoy.extensions.filters.http.router.v3.Router"},
            }
        ],
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    listener = {"name": "bench", "address": _address(port), "filter_chains": [{"filters": filters}]}
    return bootstrap(admin_port, [listener], [_cluster("up", upstream_port)])


def http2_upstream(kind: ProxyKind, admin_port: int, port: int, upstream_port: int) -> Config:
    """`bare`, and the upstream speaks HTTP/2."""
    config = bare(kind, admin_port, port, upstream_port)
    config["static_resources"]["clusters"][0]["typed_extension_protocol_options"] = {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": f"{_TYPE}envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}},
        }
    }
    return config


def grpc(kind: ProxyKind, admin_port: int, port: int, upstream_port: int) -> Config:
    """`http2_upstream` with the statistics that Istio puts into every chain."""
    config = http2_upstream(kind, admin_port, port, upstream_port)
    manager = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    statistics = {"@type": f"{_TYPE}envoy.extensions.filters.http.grpc_stats.v3.FilterConfig"}
    manager["http_filters"].insert(0, {"name": "envoy.filters.http.grpc_stats", "typed_config": statistics})
    return config


def http2_over_mtls(kind: ProxyKind, admin_port: int, port: int, upstream_port: int) -> Config:
    """`http2_upstream` as a client's sidecar has it: mutual TLS to the upstream, whose name is checked."""
    config = http2_upstream(kind, admin_port, port, upstream_port)
    expected = {"san_type": "URI", "matcher": {"exact": "spiffe://bench/upstream"}}
    context = {
        "@type": f"{_TYPE}envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "common_tls_context": {
            "tls_certificates": [certificate("client").config()],
            "validation_context": {
                "trusted_ca": {"inline_string": authority().root},
                "match_typed_subject_alt_names": [expected],
            },
            "alpn_protocols": ["h2"],
        },
    }
    (cluster,) = config["static_resources"]["clusters"]
    cluster["transport_socket"] = {"name": "envoy.transport_sockets.tls", "typed_config": context}
    return config


@cache
def authority() -> Authority:
    """Who issues the certificates of a run."""
    return Authority("bench")


@cache
def certificate(name: str) -> Issued:
    """One certificate of a run, P-256 as Istio's."""
    return authority().issue(f"spiffe://bench/{name}", "127.0.0.1", common_name=name)


def tls(kind: ProxyKind, admin_port: int, port: int, upstream_port: int) -> Config:
    """`bare` over TLS, one way."""
    return _secured(bare(kind, admin_port, port, upstream_port), {})


def mutual_tls(kind: ProxyKind, admin_port: int, port: int, upstream_port: int) -> Config:
    """`bare` over mutual TLS; sessions are not resumed."""
    trusted = {"validation_context": {"trusted_ca": {"inline_string": authority().root}}}
    return _secured(
        bare(kind, admin_port, port, upstream_port),
        trusted,
        require_client_certificate=True,
        disable_stateless_session_resumption=True,
        disable_stateful_session_resumption=True,
    )


def _secured(config: Config, common: Config, **fields: Any) -> Config:
    context = {
        "@type": f"{_TYPE}envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": {"tls_certificates": [certificate("server").config()], **common},
        **fields,
    }
    (listener,) = config["static_resources"]["listeners"]
    (chain,) = listener["filter_chains"]
    chain["transport_socket"] = {"name": "envoy.transport_sockets.tls", "typed_config": context}
    return config


def tcp(_kind: ProxyKind, admin_port: int, port: int, upstream_port: int) -> Config:
    """A TCP proxy."""
    proxy = {
        "@type": f"{_TYPE}envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": "bench",
        "cluster": "up",
    }
    filters = [{"name": "envoy.filters.network.tcp_proxy", "typed_config": proxy}]
    listener = {"name": "bench", "address": _address(port), "filter_chains": [{"filters": filters}]}
    return bootstrap(admin_port, [listener], [_cluster("up", upstream_port)])


def mesh(kind: ProxyKind, admin_port: int, port: int, upstream_port: int) -> Config:
    """The recorded chain of listener 8081."""
    listener, clusters, table = _recorded(kind)
    listener["address"] = _address(port)
    for chain in listener["filter_chains"]:
        for network_filter in chain["filters"]:
            manager = network_filter["typed_config"]
            manager.pop("rds", None)
            manager["route_config"] = table
    named = json.dumps(table)
    static = [_static(cluster, upstream_port) for cluster in clusters if cluster["name"] in named]
    statistics = json.loads((recordings.ROOT / "bootstrap" / "sidecar-none.json").read_text())["stats_config"]
    return bootstrap(admin_port, [listener], static, stats_config=statistics)


def _recorded(kind: ProxyKind) -> tuple[Config, list[Config], Config]:
    """Listener, clusters and route table as JSON; the last version of each."""
    listener = listener_pb2.Listener()
    table = route_pb2.RouteConfiguration()
    clusters: dict[str, cluster_pb2.Cluster] = {}
    for resource in recordings.resources(recordings.ROOT / "loop" / "delta.jsonl.gz"):
        for type_url in re.findall(rb"type\.googleapis\.com/[\w.]+", resource.raw):
            # Known by name from here on, so that what is packed in an Any can be printed.
            message_class(type_url.decode())
        if resource.type_url == _LISTENER and resource.name == _MESH_LISTENER:
            listener = listener_pb2.Listener.FromString(resource.raw)
        elif resource.type_url == _CLUSTER:
            clusters[resource.name] = _plain_cluster(resource.raw)
        elif resource.type_url == _ROUTES and resource.name == _MESH_ROUTES:
            table = route_pb2.RouteConfiguration.FromString(resource.raw)
    if kind is ProxyKind.ENVOY:
        _drop_istio_filters(listener)
    return _as_json(listener), [_as_json(cluster) for cluster in clusters.values()], _as_json(table)


def _plain_cluster(raw: bytes) -> cluster_pb2.Cluster:
    cluster = cluster_pb2.Cluster.FromString(raw)
    for name in ("filters", "transport_socket_matches", "transport_socket", "typed_extension_protocol_options"):
        cluster.ClearField(name)
    return cluster


def _drop_istio_filters(listener: listener_pb2.Listener) -> None:
    for chain in listener.filter_chains:
        for network_filter in chain.filters:
            manager = manager_pb2.HttpConnectionManager()
            network_filter.typed_config.Unpack(manager)
            kept = [item for item in manager.http_filters if not item.name.startswith("istio.")]
            del manager.http_filters[:]
            manager.http_filters.extend(kept)
            network_filter.typed_config.Pack(manager)


def _as_json(message: Message) -> Config:
    made: Config = json.loads(json_format.MessageToJson(message, preserving_proto_field_name=True))
    return made


def _static(cluster: Config, upstream_port: int) -> Config:
    """The cluster with the bench's upstream as its one endpoint."""
    if cluster["type"] != "EDS":
        return cluster
    made = {key: value for key, value in cluster.items() if key not in ("eds_cluster_config", "type")}
    return {**made, "type": "STATIC", "load_assignment": _assignment(cluster["name"], upstream_port)}


def rpc(protocol: str) -> Callable[[ProxyKind, int, int, int], Config]:
    """A generic proxy that finds its route by service; a time-out and a retry policy. Envoy's speaks Dubbo."""
    codecs = {
        "dubbo": {
            "name": "envoy.generic_proxy.codecs.dubbo",
            "typed_config": {"@type": f"{_GENERIC}.codecs.dubbo.v3.DubboCodecConfig"},
        },
        "bolt": {
            "name": "bolt",
            "typed_config": {"@type": f"{_TYPE}xds.type.v3.TypedStruct", "type_url": f"{_TYPE}bolt", "value": {}},
        },
    }

    def config(kind: ProxyKind, admin_port: int, port: int, upstream_port: int) -> Config:
        action = {
            "@type": f"{_GENERIC}.action.v3.RouteAction",
            "cluster": "up",
            "timeout": "15s",
            "retry_policy": {"num_retries": 2},
        }
        leaf = {"action": {"name": "route", "typed_config": action}}
        service = {"@type": f"{_GENERIC}.matcher.v3.ServiceMatchInput"}
        services = {"com.example.Echo": leaf, "com.example.Echo:1.0": leaf}
        matcher = {"input": {"name": "service", "typed_config": service}, "exact_match_map": {"map": services}}
        router = {"@type": f"{_GENERIC}.router.v3.Router"}
        proxy = {
            "@type": f"{_GENERIC}.v3.GenericProxy",
            "stat_prefix": "bench",
            "codec_config": codecs["dubbo" if kind is ProxyKind.ENVOY else protocol],
            "filters": [{"name": "envoy.filters.generic.router", "typed_config": router}],
            "route_config": {"name": "all", "routes": {"matcher_tree": matcher}},
        }
        filters = [{"name": "envoy.filters.network.generic_proxy", "typed_config": proxy}]
        listener = {"name": "bench", "address": _address(port), "filter_chains": [{"filters": filters}]}
        return bootstrap(admin_port, [listener], [_cluster("up", upstream_port)])

    return config


def _cluster(name: str, port: int) -> Config:
    return {"name": name, "type": "STATIC", "connect_timeout": "1s", "load_assignment": _assignment(name, port)}


def _assignment(name: str, port: int) -> Config:
    return {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(port)}}]}]}


def _address(port: int) -> Config:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
