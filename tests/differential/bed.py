"""The configuration that a module's cases run on: short builders over Envoy's own bootstrap, and the upstreams behind it.

Everything is Envoy's v3 configuration as plain dicts; a builder only saves what every listener or cluster repeats.
Ports are names until a proxy is started: wherever a `port_value` is a string, the world (world.py) puts the port of the
upstream or listener of that name, and `${port:NAME}` and `${log}` are replaced inside any string. So both proxies get
the same configuration but for their own ports.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from tests.support.server import DeafUpstream, Server

Config = dict[str, Any]

_FILTERS = "type.googleapis.com/envoy.extensions.filters"
HCM = f"{_FILTERS}.network.http_connection_manager.v3.HttpConnectionManager"
TCP_PROXY = f"{_FILTERS}.network.tcp_proxy.v3.TcpProxy"
ROUTER = f"{_FILTERS}.http.router.v3.Router"
FILE_LOG = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog"
HTTP_OPTIONS = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

LOG_OPERATORS = {
    "tag": "%REQ(X-CASE)%",
    "status": "%RESPONSE_CODE%",
    "flags": "%RESPONSE_FLAGS%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "route": "%ROUTE_NAME%",
    "cluster": "%UPSTREAM_CLUSTER_RAW%",
    "received": "%BYTES_RECEIVED%",
    "sent": "%BYTES_SENT%",
    "protocol": "%PROTOCOL%",
    "method": "%REQ(:METHOD)%",
    "path": "%REQ(:PATH)%",
    "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
}
"""What every case's access log line holds, in this order, separated by tabs."""


@dataclass(frozen=True)
class Bed:
    """Listeners and clusters of one bootstrap. `upstreams` makes the servers; a cluster's endpoints name them. `files` are
    texts by their names in the folder of each world (``${log}``), there when the proxy starts."""

    listeners: Sequence[Config]
    clusters: Sequence[Config]
    upstreams: Mapping[str, Callable[[str], Server | DeafUpstream]] = field(default_factory=dict)
    extra: Config = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)

    def bootstrap(self) -> Config:
        """The whole bootstrap with ports still names."""
        return {
            "node": {"id": "node-1", "cluster": "test-cluster"},
            "admin": {"address": address("admin")},
            "static_resources": {"listeners": list(self.listeners), "clusters": list(self.clusters)},
            **self.extra,
        }


def config(text: str) -> Any:
    """YAML as data: routes and odd fragments read better so."""
    return yaml.safe_load(text)


def address(port: str | int, host: str = "127.0.0.1") -> Config:
    """A socket address; a port's name stands for its number."""
    return {"socket_address": {"address": host, "port_value": port}}


def listener_port(name: str) -> str:
    """The name of a listener's port, so that a listener and an upstream may share theirs."""
    return f"listener {name}"


def file_log(name: str, **more: Any) -> Config:
    """The access log that the cases compare, in the file of that name."""
    line = "\t".join(LOG_OPERATORS.values()) + "\n"
    body = {"path": f"${{log}}/{name}.log", "log_format": {"text_format_source": {"inline_string": line}}}
    return {"name": "envoy.access_loggers.file", "typed_config": {"@type": FILE_LOG, **body}, **more}


def extension(name: str, type_url: str, **fields: Any) -> Config:
    """A named typed extension; `type_url` without its host part."""
    return {"name": name, "typed_config": {"@type": f"type.googleapis.com/{type_url}", **fields}}


def router(**fields: Any) -> Config:
    """The terminal HTTP filter."""
    return extension("envoy.filters.http.router", ROUTER.partition("/")[2], **fields)


def vhost(name: str, domains: Sequence[str], routes: Sequence[Config] | str, **fields: Any) -> Config:
    """A virtual host; routes may be YAML text."""
    return {
        "name": name,
        "domains": list(domains),
        "routes": config(routes) if isinstance(routes, str) else list(routes),
        **fields,
    }


def hcm(
    name: str,
    virtual_hosts: Sequence[Config],
    *,
    filters: Sequence[Config] = (),
    routes: Config | None = None,
    route_config: Config | None = None,
    **fields: Any,
) -> Config:
    """The HTTP connection manager with its router behind `filters`; `routes` are further RouteConfiguration fields."""
    table = route_config or {"name": f"{name}-routes", "virtual_hosts": list(virtual_hosts), **(routes or {})}
    return {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": HCM,
            "stat_prefix": name,
            "route_config": table,
            "http_filters": [*filters, router()],
            "access_log": [file_log(name)],
            # One second by default, for which every connection that is to be closed would keep its case waiting.
            "delayed_close_timeout": "0.05s",
            **fields,
        },
    }


def listener(name: str, *filters: Config, chains: Sequence[Config] | None = None, **fields: Any) -> Config:
    """A listener on 127.0.0.1 with one chain of `filters`, or `chains`."""
    return {
        "name": name,
        "address": address(listener_port(name)),
        "filter_chains": list(chains) if chains is not None else [{"filters": list(filters)}],
        **fields,
    }


def http_listener(name: str, *virtual_hosts: Config, listener_fields: Config | None = None, **fields: Any) -> Config:
    """A listener with one HTTP connection manager; further fields are the manager's (see `hcm`)."""
    return listener(name, hcm(name, virtual_hosts, **fields), **(listener_fields or {}))


def tcp_proxy(name: str, cluster: str | None = None, **fields: Any) -> Config:
    """The TCP proxy filter with the common access log."""
    target = {"cluster": cluster} if cluster else {}
    body = {"@type": TCP_PROXY, "stat_prefix": name, "access_log": [file_log(name)], **target, **fields}
    return {"name": "envoy.filters.network.tcp_proxy", "typed_config": body}


def cluster(name: str, *endpoints: str | Config, http: Config | None = None, **fields: Any) -> Config:
    """A STATIC cluster. An endpoint is an upstream's name or an LbEndpoint; without any, the upstream of its own name.

    `http` are fields of HttpProtocolOptions (explicit HTTP/1 unless it says otherwise).
    """
    targets = [_endpoint(item) for item in (endpoints or (name,))]
    made: Config = {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": targets}]},
        **fields,
    }
    if http is not None:
        options = {"explicit_http_config": {"http_protocol_options": {}}, **http}
        made["typed_extension_protocol_options"] = {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {"@type": HTTP_OPTIONS, **options}
        }
    return made


def endpoint(port: str, host: str = "127.0.0.1", **fields: Any) -> Config:
    """An LbEndpoint on the upstream's port."""
    return {"endpoint": {"address": address(port, host)}, **fields}


def _endpoint(item: str | Config) -> Config:
    return endpoint(item) if isinstance(item, str) else item
