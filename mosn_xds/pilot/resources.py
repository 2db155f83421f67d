"""What a Pilot serves: resources by type and name, as the bytes that go into an Any, with a version for each type.

Changes are pushed to whoever listens; a change may name resources whose bytes are the same as before, as istiod's pushes
do. The set knows nothing of streams or of what the bytes mean.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from mosn_xds.xds.messages import type_label

PREFIX = "type.googleapis.com/"
CLUSTER = PREFIX + "envoy.config.cluster.v3.Cluster"
ENDPOINTS = PREFIX + "envoy.config.endpoint.v3.ClusterLoadAssignment"
LISTENER = PREFIX + "envoy.config.listener.v3.Listener"
ROUTES = PREFIX + "envoy.config.route.v3.RouteConfiguration"
SECRET = PREFIX + "envoy.extensions.transport_sockets.tls.v3.Secret"

PUSH_ORDER = (CLUSTER, ENDPOINTS, LISTENER, ROUTES, SECRET)
"""istiod's order within one push; other types follow."""

WILDCARD_TYPES = frozenset((CLUSTER, LISTENER))

NAME_FIELDS = MappingProxyType({ENDPOINTS: "cluster_name"})
"""Where a resource's name stands when it is not ``name``."""


@dataclass(frozen=True, slots=True)
class Change:
    """One push of one type. `upserts` are named with their new bytes, `version` replaces the type's version."""

    type_url: str
    version: str
    upserts: Mapping[str, bytes] = field(default_factory=dict)
    removed: frozenset[str] = frozenset()

    def __repr__(self) -> str:
        """Without the bytes, which may hold private keys."""
        kind = type_label(self.type_url)
        return f"<Change {kind} {self.version} {len(self.upserts)} upserts, {len(self.removed)} removed>"


Listener = Callable[[list[Change]], None]


class ResourceSet:
    """Thread-safe: streams read from gRPC's threads while the owner changes it from its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._resources: dict[str, dict[str, bytes]] = {}
        self._versions: dict[str, str] = {}
        self._listeners: list[Listener] = []
        self._generation = 0

    def __repr__(self) -> str:
        counts = " ".join(f"{type_label(url)}={len(found)}" for url, found in self._resources.items())
        return f"<ResourceSet {counts}>"

    def version(self, type_url: str) -> str:
        return self._versions.get(type_url, "0")

    def get(self, type_url: str, names: Iterable[str] | None = None) -> dict[str, bytes]:
        """Resources by name: all of the type, or those of `names` that exist."""
        with self._lock:
            found = self._resources.get(type_url, {})
            if names is None:
                return dict(found)
            return {name: found[name] for name in names if name in found}

    def apply(self, changes: list[Change]) -> None:
        """Make `changes`, all of them before anybody hears of them, and tell the streams in push order."""
        with self._lock:
            for change in changes:
                held = self._resources.setdefault(change.type_url, {})
                held.update(change.upserts)
                for name in change.removed:
                    held.pop(name, None)
                self._versions[change.type_url] = change.version
            listeners = list(self._listeners)
        ordered = sorted(changes, key=lambda change: _rank(change.type_url))
        for tell in listeners:
            tell(ordered)

    def replace(self, resources: Mapping[str, Mapping[str, bytes]]) -> list[Change]:
        """Serve exactly `resources`; only what differs is pushed. Returns the changes."""
        self._generation += 1
        version = str(self._generation)
        changes = []
        with self._lock:
            types = list(dict.fromkeys((*resources, *self._resources)))
            for type_url in types:
                new, old = resources.get(type_url, {}), self._resources.get(type_url, {})
                upserts = {name: raw for name, raw in new.items() if old.get(name) != raw}
                removed = frozenset(old.keys() - new.keys())
                if upserts or removed:
                    changes.append(Change(type_url, version, upserts, removed))
        if changes:
            self.apply(changes)
        return changes

    def listen(self, listener: Listener) -> None:
        with self._lock:
            self._listeners.append(listener)

    def forget(self, listener: Listener) -> None:
        with self._lock:
            if listener in self._listeners:
                self._listeners.remove(listener)


def _rank(type_url: str) -> int:
    return PUSH_ORDER.index(type_url) if type_url in PUSH_ORDER else len(PUSH_ORDER)
