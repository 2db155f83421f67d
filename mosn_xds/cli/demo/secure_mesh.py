"""Two sidecars with mutual TLS between them: what the demo's Pilot serves to each, in the shape in which Istio has it.

The caller's cluster carries auto-mTLS (`transport_socket_matches`: endpoints that say `tlsMode: istio` get TLS), the callee's
listener demands a client certificate (STRICT). Both name their secrets `default` and `ROOTCA` at the cluster `sds-grpc`,
which the bootstraps do not have: the proxy's own identity answers for it.
"""

from typing import Any

import yaml

TRUST_DOMAIN = "cluster.local"
FRONT = f"spiffe://{TRUST_DOMAIN}/ns/shop/sa/front"
CATALOG = f"spiffe://{TRUST_DOMAIN}/ns/shop/sa/catalog"

_EXTENSIONS = "type.googleapis.com/envoy.extensions"
_TLS = f"{_EXTENSIONS}.transport_sockets.tls.v3"
_ALPN = ["http/1.1"]


def bootstrap(name: str, pilot_port: int, admin_port: int) -> str:
    """Of the sidecar of `name`: who Pilot is, and that everything comes from there."""
    h2 = f"{_EXTENSIONS}.upstreams.http.v3.HttpProtocolOptions"
    pilot = {
        "name": "pilot",
        "connect_timeout": "1s",
        "load_assignment": assignment("pilot", pilot_port),
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": h2,
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
    }
    return yaml.safe_dump(
        {
            "node": {"id": f"sidecar~127.0.0.1~{name}.shop~shop.svc.cluster.local", "cluster": f"{name}.shop"},
            "admin": {"address": address(admin_port)},
            "dynamic_resources": {
                "ads_config": {
                    "api_type": "DELTA_GRPC",
                    "set_node_on_first_message_only": True,
                    "grpc_services": [{"envoy_grpc": {"cluster_name": "pilot"}}],
                },
                "lds_config": {"ads": {}, "resource_api_version": "V3"},
                "cds_config": {"ads": {}, "resource_api_version": "V3"},
            },
            "static_resources": {"clusters": [pilot]},
        },
        sort_keys=False,
    )


def caller(port: int, inbound_port: int) -> list[dict[str, Any]]:
    """The front's sidecar: plain HTTP on `port`, mutual TLS to the catalog's sidecar."""
    endpoint = {
        "endpoint": {"address": address(inbound_port)},
        "metadata": {"filter_metadata": {"envoy.transport_socket_match": {"tlsMode": "istio"}}},
    }
    tls = {
        "@type": f"{_TLS}.UpstreamTlsContext",
        "sni": "outbound_.8080_._.catalog.shop.svc.cluster.local",
        "common_tls_context": common_tls({"exact": CATALOG}, _ALPN),
    }
    cluster = {
        "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        "name": "catalog",
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": "catalog", "endpoints": [{"lb_endpoints": [endpoint]}]},
        "transport_socket_matches": [
            {"name": "tlsMode-istio", "match": {"tlsMode": "istio"}, "transport_socket": transport_socket("tls", tls)},
            {"name": "tlsMode-disabled", "match": {}, "transport_socket": _raw_buffer()},
        ],
    }
    return [cluster, listener("outbound", port, [{"filters": [_manager("catalog", {})]}])]


def callee(inbound_port: int, service_port: int) -> list[dict[str, Any]]:
    """The catalog's sidecar: only who has a certificate of the mesh gets through, and the service hears who it was."""
    tls = {
        "@type": f"{_TLS}.DownstreamTlsContext",
        "require_client_certificate": True,
        "common_tls_context": common_tls({"prefix": f"spiffe://{TRUST_DOMAIN}/"}, _ALPN),
    }
    says_who = {
        "forward_client_cert_details": "SANITIZE_SET",
        "set_current_client_cert_details": {"subject": True, "uri": True},
    }
    chain = {
        "filter_chain_match": {"transport_protocol": "tls"},
        "transport_socket": transport_socket("tls", tls),
        "filters": [_manager("service", says_who)],
    }
    inspector = {
        "name": "envoy.filters.listener.tls_inspector",
        "typed_config": {"@type": f"{_EXTENSIONS}.filters.listener.tls_inspector.v3.TlsInspector"},
    }
    service = {
        "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        "name": "service",
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": assignment("service", service_port),
    }
    return [service, {**listener("inbound", inbound_port, [chain]), "listener_filters": [inspector]}]


def common_tls(peer: dict[str, Any], alpn: list[str]) -> dict[str, Any]:
    """A common_tls_context of a sidecar: the peer's URI is as the StringMatcher `peer` says."""
    return {
        "alpn_protocols": alpn,
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"},
        "tls_certificate_sds_secret_configs": [_secret("default")],
        "combined_validation_context": {
            "default_validation_context": {"match_typed_subject_alt_names": [{"san_type": "URI", "matcher": peer}]},
            "validation_context_sds_secret_config": _secret("ROOTCA"),
        },
    }


def _secret(name: str) -> dict[str, Any]:
    source = {
        "api_type": "GRPC",
        "transport_api_version": "V3",
        "grpc_services": [{"envoy_grpc": {"cluster_name": "sds-grpc"}}],
    }
    config = {"api_config_source": source, "initial_fetch_timeout": "0s", "resource_api_version": "V3"}
    return {"name": name, "sds_config": config}


def _manager(cluster: str, more: dict[str, Any]) -> dict[str, Any]:
    route = {"match": {"prefix": "/"}, "route": {"cluster": cluster, "timeout": "5s"}}
    router = {"@type": f"{_EXTENSIONS}.filters.http.router.v3.Router"}
    config = {
        "@type": f"{_EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": cluster,
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
        **more,
    }
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": config}


def listener(name: str, port: int, chains: list[dict[str, Any]]) -> dict[str, Any]:
    """A listener on loopback."""
    return {
        "@type": "type.googleapis.com/envoy.config.listener.v3.Listener",
        "name": name,
        "address": address(port),
        "filter_chains": chains,
    }


def transport_socket(name: str, config: dict[str, Any]) -> dict[str, Any]:
    """A transport socket."""
    return {"name": f"envoy.transport_sockets.{name}", "typed_config": config}


def _raw_buffer() -> dict[str, Any]:
    return transport_socket("raw_buffer", {"@type": f"{_EXTENSIONS}.transport_sockets.raw_buffer.v3.RawBuffer"})


def address(port: int) -> dict[str, Any]:
    """An address on loopback."""
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def assignment(name: str, port: int) -> dict[str, Any]:
    """A cluster's only endpoint."""
    endpoint = {"endpoint": {"address": address(port)}}
    return {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]}
