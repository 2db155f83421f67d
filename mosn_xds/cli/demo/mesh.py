"""The bookshop: what the demo's Pilot serves, as the YAML that a user would write, and the proxy's bootstrap."""

from dataclasses import dataclass
from typing import Any

import yaml

_HTTP = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_TCP = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"
_PREFIX = "type.googleapis.com/envoy.extensions.filters.http."


@dataclass(frozen=True, slots=True)
class Ports:
    """Where everything listens on 127.0.0.1; services are lists of their instances."""

    pilot: int
    admin: int
    shop: int
    ticker: int
    services: dict[str, list[int]]


def bootstrap(ports: Ports) -> str:
    """Envoy's bootstrap: who Pilot is, and that listeners and clusters come from there."""
    return yaml.safe_dump(
        {
            "node": {"id": "sidecar~127.0.0.1~shop.demo~demo.svc.cluster.local", "cluster": "shop.demo"},
            "admin": {"address": _address(ports.admin)},
            "dynamic_resources": {
                "ads_config": {
                    "api_type": "DELTA_GRPC",
                    "set_node_on_first_message_only": True,
                    "grpc_services": [{"envoy_grpc": {"cluster_name": "pilot"}}],
                },
                "lds_config": {"ads": {}, "resource_api_version": "V3"},
                "cds_config": {"ads": {}, "resource_api_version": "V3"},
            },
            "static_resources": {
                "clusters": [
                    {
                        "name": "pilot",
                        "connect_timeout": "1s",
                        "load_assignment": _assignment("pilot", [ports.pilot]),
                        "typed_extension_protocol_options": {
                            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                                "explicit_http_config": {"http2_protocol_options": {}},
                            }
                        },
                    }
                ]
            },
        },
        sort_keys=False,
    )


def files(ports: Ports, *, weight_v2: int = 10) -> dict[str, str]:
    """File name to YAML: clusters and endpoints, listeners, routes."""
    return {
        "clusters.yaml": _dump(_clusters(ports)),
        "listeners.yaml": _dump(_listeners(ports)),
        "routes.yaml": _dump([routes(weight_v2)]),
    }


def routes(weight_v2: int) -> dict[str, Any]:
    """The bookshop's routes: a canary by weight and by header, a redirect, a fault."""
    books = {
        "weighted_clusters": {
            "clusters": [
                {"name": "books-v1", "weight": 100 - weight_v2},
                {"name": "books-v2", "weight": weight_v2},
            ]
        },
        "timeout": "5s",
        "retry_policy": {"retry_on": "connect-failure,refused-stream", "num_retries": 2},
    }
    tester = {"name": "x-tester", "string_match": {"exact": "yes"}}
    return {
        "@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        "name": "shop",
        "virtual_hosts": [
            {
                "name": "shop",
                "domains": ["*"],
                "routes": [
                    {"name": "old-books", "match": {"path": "/old"}, "redirect": {"path_redirect": "/books"}},
                    {
                        "name": "testers",
                        "match": {"prefix": "/books", "headers": [tester]},
                        "route": {"cluster": "books-v2"},
                    },
                    {"name": "books", "match": {"prefix": "/books"}, "route": books},
                    {
                        "name": "reviews",
                        "match": {"prefix": "/reviews"},
                        "route": {"cluster": "reviews"},
                        "typed_per_filter_config": {
                            "envoy.filters.http.fault": {
                                "@type": _PREFIX + "fault.v3.HTTPFault",
                                "abort": {"http_status": 503, "percentage": {"numerator": 30}},
                            }
                        },
                    },
                ],
            }
        ],
    }


def broken_cluster() -> str:
    """A cluster that no proxy can use: its ring would have to be larger than it may be."""
    return _dump(
        [
            {
                "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
                "name": "orders",
                "type": "EDS",
                "eds_cluster_config": {"eds_config": {"ads": {}, "resource_api_version": "V3"}},
                "lb_policy": "RING_HASH",
                "ring_hash_lb_config": {"minimum_ring_size": 4096, "maximum_ring_size": 16},
            }
        ]
    )


def _clusters(ports: Ports) -> list[dict[str, Any]]:
    found = []
    for name, instances in ports.services.items():
        found.append(
            {
                "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
                "name": name,
                "type": "EDS",
                "connect_timeout": "1s",
                "eds_cluster_config": {"eds_config": {"ads": {}, "resource_api_version": "V3"}},
            }
        )
        found.append(
            {
                "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
                **_assignment(name, instances),
            }
        )
    return found


def _listeners(ports: Ports) -> list[dict[str, Any]]:
    http = {
        "@type": _HTTP,
        "stat_prefix": "shop",
        "rds": {"route_config_name": "shop", "config_source": {"ads": {}, "resource_api_version": "V3"}},
        "http_filters": [
            {"name": "envoy.filters.http.fault", "typed_config": {"@type": _PREFIX + "fault.v3.HTTPFault"}},
            {"name": "envoy.filters.http.router", "typed_config": {"@type": _PREFIX + "router.v3.Router"}},
        ],
    }
    tcp = {"@type": _TCP, "stat_prefix": "ticker", "cluster": "ticker"}
    return [
        _listener("shop", ports.shop, "envoy.filters.network.http_connection_manager", http),
        _listener("ticker", ports.ticker, "envoy.filters.network.tcp_proxy", tcp),
    ]


def _listener(name: str, port: int, filter_name: str, config: dict[str, Any]) -> dict[str, Any]:
    return {
        "@type": "type.googleapis.com/envoy.config.listener.v3.Listener",
        "name": name,
        "address": _address(port),
        "filter_chains": [{"filters": [{"name": filter_name, "typed_config": config}]}],
    }


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _assignment(name: str, ports: list[int]) -> dict[str, Any]:
    endpoints = [{"endpoint": {"address": _address(port)}} for port in ports]
    return {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]}


def _dump(resources: list[dict[str, Any]]) -> str:
    return yaml.safe_dump(resources, sort_keys=False)
