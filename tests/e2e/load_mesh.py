"""A mesh that an embedded Pilot serves and that changes under load: one listener, route table and cluster carry everything.

`LoadMesh` knows the resources and how each kind of them changes in a way that matters: none of its changes may be noticed
by anybody who uses the listener. A change is pushed by real ADS.
"""

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

from mosn_xds.pilot import ResourceSet
from mosn_xds.pilot.directory import encode_resource

_TYPES = "type.googleapis.com/envoy."
_FILTERS = f"{_TYPES}extensions.filters."
_ROUTER = f"{_FILTERS}http.router.v3.Router"
_ADS = {"ads": {}, "resource_api_version": "V3"}


class ChangeKind(Enum):
    """What one push changes; the value is its name in tables."""

    ROUTE = "route"
    CLUSTER = "cluster"
    ENDPOINTS = "endpoints"
    FILTER_CHAIN = "filter chain"
    LISTENER = "listener"
    SOCKET = "listener's socket"
    NAME = "listener's name"


@dataclass(frozen=True)
class MeshState:
    """What differs between two snapshots: a counter for each kind that has been changed that often."""

    route: int = 0
    cluster: int = 0
    endpoints: int = 0
    chain: int = 0
    listener: int = 0
    socket: int = 0
    name: int = 0


_FIELD = {
    ChangeKind.ROUTE: "route",
    ChangeKind.CLUSTER: "cluster",
    ChangeKind.ENDPOINTS: "endpoints",
    ChangeKind.FILTER_CHAIN: "chain",
    ChangeKind.LISTENER: "listener",
    ChangeKind.SOCKET: "socket",
    ChangeKind.NAME: "name",
}

_SOCKETS: tuple[dict[str, Any], ...] = (
    {},
    {"socket_options": [{"level": 1, "name": 9, "int_value": 1, "state": "STATE_PREBIND"}]},  # SO_KEEPALIVE
    {"freebind": True},
    {"tcp_backlog_size": 2048},
    {"socket_options": [{"level": 1, "name": 8, "int_value": 300000, "state": "STATE_PREBIND"}]},  # SO_RCVBUF
    {"socket_options": [{"level": 6, "name": 4, "int_value": 100, "state": "STATE_PREBIND"}]},  # TCP_KEEPIDLE
)
"""What a listener's socket may be made of: nothing that a client could see."""


def socket_address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


class LoadMesh:
    """Everything on `port` goes to the servers at `upstream_ports`, but `/ws`, which goes to `websocket_port`."""

    def __init__(self, port: int, upstream_ports: list[int], websocket_port: int, *, access_log: str = "") -> None:
        self.name = "load"
        """Of the listener, the route table and the cluster; also the prefix of statistics."""
        self.shared_socket = False
        """All workers accept from one socket."""
        self.table = ""
        """Of the route table, if it has another name."""
        self.port = port
        self.upstream_ports = upstream_ports
        self.websocket_port = websocket_port
        self.access_log = access_log
        self.state = MeshState()
        self.extra: dict[str, dict[str, bytes]] = {}
        """Resources by type and name that are served beside the mesh's own."""
        self._known: dict[int, tuple[Any, tuple[str, str, bytes]]] = {}

    def __repr__(self) -> str:
        return f"<LoadMesh :{self.port} {self.state}>"

    def change(self, kind: ChangeKind) -> None:
        """Make the next state of this kind."""
        name = _FIELD[kind]
        self.state = replace(self.state, **{name: getattr(self.state, name) + 1})

    def push(self, resources: ResourceSet) -> None:
        """Serve the current state."""
        found: dict[str, dict[str, bytes]] = {}
        for type_url, name, raw in self.encoded():
            found.setdefault(type_url, {})[name] = raw
        for type_url, more in self.extra.items():
            found.setdefault(type_url, {}).update(more)
        resources.replace(found)

    def encoded(self) -> list[tuple[str, str, bytes]]:
        """Type URL, name and bytes of each resource of the current state."""
        found = []
        for position, fields in enumerate(self._resources()):
            known = self._known.get(position)
            if known is None or known[0] != fields:
                known = self._known[position] = (fields, encode_resource(fields, "mesh"))
            found.append(known[1])
        return found

    def write(self, folder: Path) -> None:
        """The current state as a file for a Pilot that serves a folder."""
        new = folder / "mesh.new"
        new.write_text(json.dumps(self._resources()))
        new.replace(folder / "mesh.json")

    def bootstrap(self, admin_port: int, pilot_port: int, *, delta: bool = True) -> dict[str, Any]:
        """What the proxy starts with."""
        options = {"explicit_http_config": {"http2_protocol_options": {}}}
        protocol = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
        pilot = {
            "name": "pilot",
            "connect_timeout": "1s",
            "load_assignment": _assignment("pilot", [pilot_port]),
            "typed_extension_protocol_options": {protocol: {"@type": f"type.googleapis.com/{protocol}", **options}},
        }
        return {
            "node": {"id": "sidecar~127.0.0.1~load.test~test.svc.cluster.local", "cluster": "load.test"},
            "admin": {"address": socket_address(admin_port)},
            "dynamic_resources": {
                "ads_config": {
                    "api_type": "DELTA_GRPC" if delta else "GRPC",
                    "set_node_on_first_message_only": True,
                    "grpc_services": [{"envoy_grpc": {"cluster_name": "pilot"}}],
                },
                "lds_config": _ADS,
                "cds_config": _ADS,
            },
            "static_resources": {"clusters": [pilot]},
        }

    def _resources(self) -> list[dict[str, Any]]:
        state = self.state
        # A changed connect timeout makes the cluster a new one, with new pools.
        timeout = {"connect_timeout": f"1.{state.cluster % 5:03d}s"}
        # One of the two hosts that carry the load leaves, comes back, the other leaves ...
        present = [[0, 1], [0], [0, 1], [1]][state.endpoints % 4]
        ports = [self.upstream_ports[index % len(self.upstream_ports)] for index in present]
        return [
            {"@type": f"{_TYPES}config.cluster.v3.Cluster", **_eds_cluster(self.name), **timeout},
            {"@type": f"{_TYPES}config.cluster.v3.Cluster", **_eds_cluster(f"{self.name}-ws"), **timeout},
            {"@type": f"{_TYPES}config.endpoint.v3.ClusterLoadAssignment", **_assignment(self.name, ports)},
            {
                "@type": f"{_TYPES}config.endpoint.v3.ClusterLoadAssignment",
                **_assignment(f"{self.name}-ws", [self.websocket_port], weight=1 + state.endpoints % 2),
            },
            self._route_table(),
            self._listener(),
        ]

    def _route_table(self) -> dict[str, Any]:
        # The same number goes to the upstream and to the client: a request that saw two tables would show two.
        generation = {"header": {"key": "x-route-generation", "value": str(self.state.route)}}
        return {
            "@type": f"{_TYPES}config.route.v3.RouteConfiguration",
            "name": self.table or self.name,
            "request_headers_to_add": [generation],
            "response_headers_to_add": [generation],
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [
                        {
                            "match": {"prefix": "/ws"},
                            "route": {
                                "cluster": f"{self.name}-ws",
                                "timeout": "0s",
                                "upgrade_configs": [{"upgrade_type": "websocket"}],
                            },
                        },
                        {"match": {"prefix": "/"}, "route": {"cluster": self.name, "timeout": "15s"}},
                    ],
                }
            ],
        }

    def _listener(self) -> dict[str, Any]:
        state = self.state
        manager = {
            "@type": f"{_FILTERS}network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": self.name,
            # The chain's change: nothing that a client could see.
            "stream_idle_timeout": f"{300 + state.chain % 100}s",
            "rds": {"route_config_name": self.table or self.name, "config_source": _ADS},
            "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": _ROUTER}}],
        }
        if self.access_log:
            manager["access_log"] = [
                {
                    "name": "log",
                    "typed_config": {
                        "@type": f"{_TYPES}extensions.access_loggers.file.v3.FileAccessLog",
                        "path": self.access_log,
                    },
                }
            ]
        inspector = f"{_FILTERS}listener.http_inspector.v3.HttpInspector"
        listener = {
            "@type": f"{_TYPES}config.listener.v3.Listener",
            "name": self.name if state.name % 2 == 0 else f"{self.name} again",
            "address": socket_address(self.port),
            "per_connection_buffer_limit_bytes": 1048576 + state.listener % 1000,
            "listener_filters": [
                {"name": "envoy.filters.listener.http_inspector", "typed_config": {"@type": inspector}}
            ],
            "filter_chains": [
                {"name": "http", "filters": [{"name": "http", "typed_config": manager}]},
            ],
        }
        listener.update(_SOCKETS[state.socket % len(_SOCKETS)])
        if self.shared_socket:
            listener["enable_reuse_port"] = False
        return listener


def in_turn(*kinds: ChangeKind) -> Callable[[], ChangeKind]:
    """The kinds one after the other, again and again."""
    turns = itertools.cycle(kinds)
    return lambda: next(turns)


def unused_clusters(count: int, *, salt: int = 0, prefix: str = "unused") -> dict[str, dict[str, bytes]]:
    """So many EDS clusters with their endpoints, which nobody uses; another salt changes all of them."""
    found: dict[str, dict[str, bytes]] = {}
    for number in range(count):
        name = f"{prefix}-{number}"
        cluster = {"@type": f"{_TYPES}config.cluster.v3.Cluster", **_eds_cluster(name)}
        cluster["connect_timeout"] = f"{1 + salt}s"
        endpoints = {
            "@type": f"{_TYPES}config.endpoint.v3.ClusterLoadAssignment",
            **_assignment(name, [1024 + (number + salt) % 60000]),
        }
        _add(found, cluster)
        _add(found, endpoints)
    return found


def unused_listeners(count: int, *, prefix: str) -> dict[str, dict[str, bytes]]:
    """So many listeners that are only reached by their original destination, each with statistics of its own."""
    found: dict[str, dict[str, bytes]] = {}
    for number in range(count):
        name = f"{prefix}-{number}"
        manager = {
            "@type": f"{_FILTERS}network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": name,
            "route_config": {"virtual_hosts": []},
            "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": _ROUTER}}],
        }
        listener = {
            "@type": f"{_TYPES}config.listener.v3.Listener",
            "name": name,
            "stat_prefix": name,
            "address": socket_address(1024 + number),
            "bind_to_port": False,
            "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
        }
        _add(found, listener)
    return found


def _add(found: dict[str, dict[str, bytes]], fields: dict[str, Any]) -> None:
    type_url, name, raw = encode_resource(fields, "unused")
    found.setdefault(type_url, {})[name] = raw


def _eds_cluster(name: str) -> dict[str, Any]:
    return {"name": name, "type": "EDS", "eds_cluster_config": {"eds_config": _ADS}}


def _assignment(name: str, ports: list[int], weight: int = 1) -> dict[str, Any]:
    endpoints = [{"endpoint": {"address": socket_address(port)}, "load_balancing_weight": weight} for port in ports]
    return {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]}
