"""A recorded istiod beside a proxy: the Pilot that replays a session, and the bootstrap that leads a proxy to it.

The Pilot has a secret for every name that the resources want, as pilot-agent and istiod would (they were not recorded).

The bootstrap is pilot-agent's (tests/recordings/bootstrap) reduced to what a session needs: the recorded node, ADS over the
cluster `xds-grpc`, and `sds-grpc`, on which the resources' TLS contexts ask for their secrets.
"""

import ipaddress
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2

from mosn_xds.pilot import Change, Pilot, ResourceSet
from mosn_xds.pilot.recording import Replay, Step, read_recording
from mosn_xds.pilot.resources import CLUSTER, LISTENER
from tests.support.any_secrets import AnySecrets
from tests.support.authority import Authority
from tests.support.proxies import Proxy, ProxyKind
from tests.support.recordings import at_home, sessions

ISTIO_ONLY_FILTERS = frozenset(("istio.metadata_exchange", "istio.alpn", "istio.stats"))
"""What only Istio's own build of Envoy has."""


@dataclass(frozen=True, slots=True)
class Session:
    """One recording. `variant` is ``sotw`` or ``delta``; `view` tells the nodes of one scenario apart, or is empty."""

    path: Path
    variant: str
    view: str

    def __str__(self) -> str:
        return "-".join(part for part in (self.path.parent.name, self.view, self.variant) if part)

    @property
    def scenario(self) -> str:
        return self.path.parent.name

    @property
    def node(self) -> dict[str, Any]:
        """The node that was sent, as proto JSON."""
        name = f"node-{self.view}.json" if self.view else "node.json"
        found: dict[str, Any] = json.loads((self.path.parent / name).read_text())
        return found

    @classmethod
    def all(cls) -> list["Session"]:
        found = []
        for variant in ("sotw", "delta"):
            suffix = f"{variant}.jsonl.gz"
            found += [cls(path, variant, path.name.removesuffix(suffix).rstrip("-")) for path in sessions(variant)]
        return sorted(found, key=str)

    @classmethod
    def get(cls, name: str) -> "Session":
        """By the text of it, such as ``loop-delta``."""
        return next(session for session in cls.all() if str(session) == name)


def bootstrap(session: Session, pilot: str | int, admin_port: int, **more: Any) -> dict[str, Any]:
    """A bootstrap for the session's node; `pilot` is the Pilot's port or the path of its socket. `more` fields join it."""
    served = {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"}
    return {
        "node": session.node,
        "admin": {"address": _address(admin_port)},
        "dynamic_resources": {
            "lds_config": served,
            "cds_config": served,
            "ads_config": {
                "api_type": "DELTA_GRPC" if session.variant == "delta" else "GRPC",
                "set_node_on_first_message_only": True,
                "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}],
            },
        },
        "static_resources": {"clusters": [_grpc_cluster(name, pilot) for name in ("xds-grpc", "sds-grpc")]},
        **more,
    }


def _address(where: str | int) -> dict[str, Any]:
    if isinstance(where, str):
        return {"pipe": {"path": where}}
    return {"socket_address": {"address": "127.0.0.1", "port_value": where}}


def _grpc_cluster(name: str, where: str | int) -> dict[str, Any]:
    options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    http2 = {"@type": f"type.googleapis.com/{options}", "explicit_http_config": {"http2_protocol_options": {}}}
    endpoint = {"endpoint": {"address": _address(where)}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {options: http2},
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


class Mesh:
    """A Pilot that replays one session. `change` may rewrite each push before it is served; `authority` is the mesh's."""

    def __init__(
        self,
        session: Session,
        change: Callable[[Change], Change] | None = None,
        authority: Authority | None = None,
    ) -> None:
        self.session = session
        self.resources: ResourceSet = AnySecrets(authority)
        steps = [Step(step.mark, [_at_home(one) for one in step.changes]) for step in read_recording(session.path)]
        if change is not None:
            steps = [Step(step.mark, [change(one) for one in step.changes]) for step in steps]
        self.steps = steps
        self.replay = Replay(steps, self.resources)
        self.pilot = Pilot(self.resources)

    def __repr__(self) -> str:
        return f"<Mesh {self.session} {self.replay!r} {self.pilot!r}>"

    def __enter__(self) -> "Mesh":
        return self

    def __exit__(self, *_: object) -> None:
        self.pilot.stop()

    def bound_addresses(self) -> list[tuple[str, int]]:
        """Where the listeners ask to be bound."""
        found = []
        for raw in self.resources.get(LISTENER).values():
            listener = listener_pb2.Listener.FromString(raw)
            if listener.HasField("bind_to_port") and not listener.bind_to_port.value:
                continue
            sockets = [listener.address.socket_address]
            sockets += [additional.address.socket_address for additional in listener.additional_addresses]
            found += [(one.address, one.port_value) for one in sockets if is_address(one.address)]
        return found

    def start(self, kind: ProxyKind, folder: Path, admin_port: int, **more: Any) -> Proxy:
        """A proxy that follows this Pilot; see `Proxy.start` for `concurrency`, `options` and the like.

        `bootstrap_fields` are further fields of the bootstrap.
        """
        fields: Mapping[str, Any] = more.pop("bootstrap_fields", {})
        return Proxy.start(kind, bootstrap(self.session, self.pilot.port, admin_port, **fields), folder, **more)


def is_address(text: str) -> bool:
    """Whether it is an IP address; one recording has a listener with something else."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _at_home(change: Change) -> Change:
    upserts = {name: at_home(raw) for name, raw in change.upserts.items()}
    return Change(change.type_url, change.version, upserts, change.removed)


def without_istio_filters(change: Change) -> Change:
    """The same push for a proxy that is not of Istio's build."""
    rewrite = {LISTENER: _listener_without, CLUSTER: _cluster_without}.get(change.type_url)
    if rewrite is None:
        return change
    upserts = {name: rewrite(raw) for name, raw in change.upserts.items()}
    return Change(change.type_url, change.version, upserts, change.removed)


def _listener_without(raw: bytes) -> bytes:
    listener = listener_pb2.Listener.FromString(raw)
    chains = list(listener.filter_chains)
    if listener.HasField("default_filter_chain"):
        chains.append(listener.default_filter_chain)
    for chain in chains:
        _keep_common(chain.filters)
        for network_filter in chain.filters:
            manager = http_connection_manager_pb2.HttpConnectionManager()
            if network_filter.typed_config.Unpack(manager):
                _keep_common(manager.http_filters)
                network_filter.typed_config.Pack(manager)
    return bytes(listener.SerializeToString(deterministic=True))


def _cluster_without(raw: bytes) -> bytes:
    cluster = cluster_pb2.Cluster.FromString(raw)
    _keep_common(cluster.filters)
    return bytes(cluster.SerializeToString(deterministic=True))


def _keep_common(filters: Any) -> None:
    for position in reversed(range(len(filters))):
        if filters[position].name in ISTIO_ONLY_FILTERS:
            del filters[position]
