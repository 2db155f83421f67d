"""The server's side of one ADS stream, without I/O: requests and changes in, responses out.

It answers as istiod does (xDS protocol, "How the client specifies what resources to return"): a first request subscribes;
a stale nonce is ignored; a NACK is noted and not answered; added names are answered with just those; after a push of
clusters the endpoints are pushed too, because a changed cluster warms until it hears of its endpoints again.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from envoy.service.discovery.v3 import discovery_pb2

from mosn_xds.pilot.resources import CLUSTER, ENDPOINTS, WILDCARD_TYPES, Change, ResourceSet


class Variant(Enum):
    """State of the world, or incremental."""

    SOTW = "sotw"
    DELTA = "delta"


@dataclass(frozen=True, slots=True)
class Nack:
    """A client refused a response."""

    node_id: str
    type_url: str
    version: str
    message: str


@dataclass(slots=True)
class _Subscription:
    wildcard: bool
    names: set[str] = field(default_factory=set)
    nonce: str = ""
    sent_version: str = ""
    acked_version: str = ""
    always_respond: bool = False

    def wants(self, name: str) -> bool:
        return self.wildcard or name in self.names


class Session:
    """One stream. `acked` tells the last version of each type that the client has accepted."""

    def __init__(self, variant: Variant, resources: ResourceSet, on_nack: Callable[[Nack], None]) -> None:
        self.variant = variant
        self.node_id = ""
        self._resources = resources
        self._on_nack = on_nack
        self._subscriptions: dict[str, _Subscription] = {}
        self._nonces = 0

    def __repr__(self) -> str:
        return f"<Session {self.variant.value} {self.node_id}>"

    @property
    def acked(self) -> dict[str, str]:
        return {type_url: held.acked_version for type_url, held in self._subscriptions.items()}

    def request(self, raw: bytes) -> list[bytes]:
        """A request has come; what to answer."""
        if self.variant is Variant.SOTW:
            return self._sotw_request(discovery_pb2.DiscoveryRequest.FromString(raw))
        return self._delta_request(discovery_pb2.DeltaDiscoveryRequest.FromString(raw))

    def changed(self, changes: list[Change]) -> list[bytes]:
        """The resources have changed; what to push."""
        responses = []
        clusters_pushed = False
        pushed = set()
        for change in changes:
            held = self._subscriptions.get(change.type_url)
            if held is None:
                continue
            response = self._sotw_push(held, change) if self.variant is Variant.SOTW else self._delta_push(held, change)
            if response is not None:
                responses.append(response)
                pushed.add(change.type_url)
                clusters_pushed |= change.type_url == CLUSTER
        endpoints = self._subscriptions.get(ENDPOINTS)
        if clusters_pushed and endpoints is not None:
            if self.variant is Variant.SOTW:
                endpoints.always_respond = True
            elif ENDPOINTS not in pushed and endpoints.names:
                responses.append(self._delta_response(ENDPOINTS, endpoints, endpoints.names, ()))
        return responses

    def _note(self, request: Any, held: _Subscription) -> bool:
        """Nonce and NACK, which both variants treat alike. Returns whether there is something to answer perhaps."""
        if request.HasField("error_detail"):
            nack = Nack(self.node_id, request.type_url, held.sent_version, request.error_detail.message)
            self._on_nack(nack)
            return False
        return True

    # State of the world.

    def _sotw_request(self, request: Any) -> list[bytes]:
        if request.HasField("node"):
            self.node_id = request.node.id
        type_url = request.type_url
        if not type_url:
            return []
        held = self._subscriptions.get(type_url)
        names = set(request.resource_names)
        if held is None or not request.response_nonce:
            held = self._subscriptions[type_url] = _Subscription(type_url in WILDCARD_TYPES, names)
            if not held.wildcard and not names:
                return []
            return [self._sotw_response(type_url, held, None if held.wildcard else names)]
        if request.response_nonce != held.nonce and held.nonce:
            return []
        if not self._note(request, held):
            return []
        held.acked_version = request.version_info
        added = names - held.names
        held.names = names
        if held.wildcard or not names:
            return []
        if held.always_respond:
            held.always_respond = False
            return [self._sotw_response(type_url, held, names)]
        return [self._sotw_response(type_url, held, added)] if added else []

    def _sotw_push(self, held: _Subscription, change: Change) -> bytes | None:
        if held.wildcard:
            return self._sotw_response(change.type_url, held, None)
        names = {name for name in change.upserts if name in held.names}
        return self._sotw_response(change.type_url, held, names) if names else None

    def _sotw_response(self, type_url: str, held: _Subscription, names: set[str] | None) -> bytes:
        version = self._resources.version(type_url)
        response = discovery_pb2.DiscoveryResponse(
            version_info=version, type_url=type_url, nonce=self._nonce(held, version)
        )
        for raw in self._resources.get(type_url, names).values():
            response.resources.add(type_url=type_url, value=raw)
        return bytes(response.SerializeToString())

    # Incremental.

    def _delta_request(self, request: Any) -> list[bytes]:
        if request.HasField("node"):
            self.node_id = request.node.id
        type_url = request.type_url
        if not type_url:
            return []
        subscribe = set(request.resource_names_subscribe)
        held = self._subscriptions.get(type_url)
        if held is None:
            wildcard = "*" in subscribe or (not subscribe and type_url in WILDCARD_TYPES)
            held = self._subscriptions[type_url] = _Subscription(wildcard, subscribe - {"*"})
            known = dict(request.initial_resource_versions)
            gone = [name for name in known if held.wants(name) and not self._resources.get(type_url, (name,))]
            if not wildcard and not held.names:
                return []
            return [self._delta_response(type_url, held, None if wildcard else held.names, gone)]
        if request.response_nonce and self._note(request, held) and request.response_nonce == held.nonce:
            held.acked_version = held.sent_version
        unsubscribe = set(request.resource_names_unsubscribe)
        held.names -= unsubscribe
        if not subscribe:
            return []
        held.names |= subscribe
        return [self._delta_response(type_url, held, subscribe, ())]

    def _delta_push(self, held: _Subscription, change: Change) -> bytes | None:
        names = {name for name in change.upserts if held.wants(name)}
        gone = [name for name in change.removed if held.wants(name)]
        return self._delta_response(change.type_url, held, names, gone) if names or gone else None

    def _delta_response(
        self, type_url: str, held: _Subscription, names: set[str] | None, gone: list[str] | tuple[str, ...]
    ) -> bytes:
        version = self._resources.version(type_url)
        response = discovery_pb2.DeltaDiscoveryResponse(
            system_version_info=version, type_url=type_url, nonce=self._nonce(held, version)
        )
        found = self._resources.get(type_url, names)
        for name, raw in found.items():
            resource = response.resources.add(name=name, version=version)
            resource.resource.type_url = type_url
            resource.resource.value = raw
        response.removed_resources.extend(gone)
        if names is not None:
            response.removed_resources.extend(sorted(names - found.keys() - set(gone)))
        return bytes(response.SerializeToString())

    def _nonce(self, held: _Subscription, version: str) -> str:
        self._nonces += 1
        held.nonce = f"{version}-{self._nonces}"
        held.sent_version = version
        return held.nonce
