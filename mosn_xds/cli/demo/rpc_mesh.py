"""Two sidecars for RPCs: what the demo's Pilot serves to each.

The caller's has a listener for each protocol, whose routes send a canary's calls to version 2 by a header; a call that fails
is tried again on another host. The services' has one listener for each instance, that demands a certificate of the mesh and
lets nobody call but the front.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mosn_xds.cli.demo.secure_mesh import (
    FRONT,
    TRUST_DOMAIN,
    address,
    assignment,
    common_tls,
    listener,
    transport_socket,
)

TILL = f"spiffe://{TRUST_DOMAIN}/ns/shop/sa/till"
CANARY = "x-canary"
PROTOCOLS = ("bolt", "dubbo")
INSTANCES = ("v1-a", "v1-b", "v2")
SERVICES = {"bolt": ("com.shop.Till:1.0", "sell"), "dubbo": ("com.shop.Stock", "take")}

_EXTENSIONS = "type.googleapis.com/envoy.extensions"
_GENERIC = f"{_EXTENSIONS}.filters.network.generic_proxy"
_TLS = f"{_EXTENSIONS}.transport_sockets.tls.v3"


@dataclass(frozen=True, slots=True)
class Ports:
    """`outbound` by protocol; `inbound` by instance and protocol; `services` by instance."""

    outbound: Mapping[str, int]
    inbound: Mapping[tuple[str, str], int]
    services: Mapping[str, int]


def caller(ports: Ports) -> list[dict[str, Any]]:
    """The front's sidecar."""
    found: list[dict[str, Any]] = []
    for protocol, port in ports.outbound.items():
        clusters = {name: f"{protocol}-{name}" for name in ("v1", "v2")}
        for name, cluster in clusters.items():
            hosts = [port for (instance, used), port in ports.inbound.items() if used == protocol and name in instance]
            found.append(_mesh_cluster(cluster, hosts))
        canary = {
            "predicate": {
                "single_predicate": {
                    "input": _input("Property", property_name=CANARY),
                    "value_match": {"exact": "yes"},
                }
            },
            "on_match": _route(clusters["v2"]),
        }
        versions = {"matcher_list": {"matchers": [canary]}, "on_no_match": _route(clusters["v1"])}
        services = {"exact_match_map": {"map": {SERVICES[protocol][0]: {"matcher": versions}}}}
        routes = {"matcher_tree": {"input": _input("Service"), **services}}
        chain = {"filters": [_generic_proxy("front", protocol, routes)]}
        found.append(listener(f"outbound-{protocol}", port, [chain]))
    return found


def callee(ports: Ports, log: str) -> list[dict[str, Any]]:
    """The services' sidecar; `log` is where it writes who called what."""
    tls = {
        "@type": f"{_TLS}.DownstreamTlsContext",
        "require_client_certificate": True,
        "common_tls_context": common_tls({"prefix": f"spiffe://{TRUST_DOMAIN}/"}, []),
    }
    found = [_cluster(instance, assignment(instance, port)) for instance, port in ports.services.items()]
    for (instance, protocol), port in ports.inbound.items():
        proxy = _generic_proxy("till", protocol, {"on_no_match": _route(instance)}, _only(FRONT), log=log)
        chain = {"transport_socket": transport_socket("tls", tls), "filters": [proxy]}
        found.append(listener(f"inbound-{instance}-{protocol}", port, [chain]))
    return found


def _generic_proxy(
    name: str, protocol: str, routes: dict[str, Any], *filters: dict[str, Any], log: str = ""
) -> dict[str, Any]:
    codec = {"@type": "type.googleapis.com/xds.type.v3.TypedStruct", "type_url": protocol, "value": {}}
    router = {"name": "envoy.filters.generic.router", "typed_config": {"@type": f"{_GENERIC}.router.v3.Router"}}
    config = {
        "@type": f"{_GENERIC}.v3.GenericProxy",
        "stat_prefix": name,
        "codec_config": {"name": protocol, "typed_config": codec},
        "filters": [*filters, router],
        "access_log": [_access_log(log)] if log else [],
        "route_config": {"name": f"{name}-{protocol}", "routes": routes},
    }
    return {"name": "envoy.filters.network.generic_proxy", "typed_config": config}


def _access_log(path: str) -> dict[str, Any]:
    line = "%PROTOCOL% %HOST%.%METHOD% %GENERIC_RESPONSE_CODE% %DOWNSTREAM_PEER_URI_SAN%\n"
    kind = f"{_EXTENSIONS}.access_loggers.file.v3.FileAccessLog"
    config = {"@type": kind, "path": path, "log_format": {"text_format_source": {"inline_string": line}}}
    return {"name": "envoy.access_loggers.file", "typed_config": config}


def _only(identity: str) -> dict[str, Any]:
    """The RBAC filter that lets one identity in."""
    policy = {
        "permissions": [{"any": True}],
        "principals": [{"authenticated": {"principal_name": {"exact": identity}}}],
    }
    kind = f"{_EXTENSIONS}.filters.http.rbac.v3.RBAC"
    rules = {"action": "ALLOW", "policies": {"front": policy}}
    return {"name": "envoy.filters.http.rbac", "typed_config": {"@type": kind, "rules": rules}}


def _input(kind: str, **fields: str) -> dict[str, Any]:
    return {"name": kind, "typed_config": {"@type": f"{_GENERIC}.matcher.v3.{kind}MatchInput", **fields}}


def _route(cluster: str) -> dict[str, Any]:
    previous = f"{_EXTENSIONS}.retry.host.previous_hosts.v3.PreviousHostsPredicate"
    retry = {
        "retry_on": "5xx",
        "num_retries": 3,
        "retry_host_predicate": [{"name": "previous_hosts", "typed_config": {"@type": previous}}],
        "host_selection_retry_max_attempts": 3,
    }
    action: dict[str, Any] = {"@type": f"{_GENERIC}.action.v3.RouteAction", "cluster": cluster, "timeout": "2s"}
    if not cluster.startswith("v"):  # an instance has no other host to try
        action["retry_policy"] = retry
    return {"action": {"name": cluster, "typed_config": action}}


def _cluster(name: str, load_assignment: dict[str, Any]) -> dict[str, Any]:
    return {
        "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": load_assignment,
    }


def _mesh_cluster(name: str, ports: list[int]) -> dict[str, Any]:
    """A cluster of the services' sidecar's listeners."""
    endpoints = [{"endpoint": {"address": address(port)}} for port in ports]
    tls = {"@type": f"{_TLS}.UpstreamTlsContext", "common_tls_context": common_tls({"exact": TILL}, [])}
    assigned = {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]}
    return {
        **_cluster(name, assigned),
        "circuit_breakers": {"thresholds": [{"max_retries": 0xFFFFFFFF}]},  # istiod's default; Envoy's is 3
        "transport_socket": transport_socket("tls", tls),
    }
