"""The ADS conversation as a state machine: bytes of responses in, events out, bytes of requests to send.

One machine speaks for one stream and outlives its reconnects. It knows nonces, versions, subscriptions and what may be
said when; it knows neither sockets nor time, and nothing about the inside of a resource but its name: whether a
response is good is for its owner to say, with `accept` or `reject`. Two dialects share the interface:

- **State of the world**: a request carries the whole truth of its type (all names, last accepted version, last nonce),
  so a newer one supersedes an older one. While a response waits for its verdict its type says nothing: a changed
  subscription then travels with the ACK. A version belongs to the type and survives the stream, a nonce does not.
- **Delta**: a request either answers (nonce, no names) or changes the subscription (names, no nonce), never both:
  istiod logs the mixture as an error. Versions belong to resources. A new stream is told everything again: names in
  `resource_names_subscribe` (istiod reads an empty list as a wildcard, for every type) and what is held in
  `initial_resource_versions`.

In both, subscriptions that a response caused leave before its ACK, and each response is answered as soon as it is
judged: nothing here waits for warming. (Envoy holds delta ACKs of clusters while they warm, and loses a CDS
subscription when the stream ends meanwhile. That is a defect, not the protocol.)

Sources: xds_protocol (Envoy's docs), `NewGrpcMuxImpl`/`GrpcMuxImpl`, istiod's `ShouldRespond` and `delta.go`.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import any_pb2, message

from mosn_xds.control.ads.events import Event, Ignored, ProtocolError, Rejected, Resource, Response, Variant
from mosn_xds.control.ads.resource_types import RESOURCE_TYPES, TYPE_PREFIX, ResourceType, resource_name

NACK_CODE = 13  # google.rpc INTERNAL, as Envoy
NACK_LIMIT_BYTES = 4096  # gRPC peers limit what they log and echo; Envoy cuts here
_WRAPPER_URL = TYPE_PREFIX + "envoy.service.discovery.v3.Resource"


@dataclass(slots=True)
class TypeState:
    """What the machine holds about one subscribed type; read-only to others."""

    type: ResourceType
    names: dict[str, None] = field(default_factory=dict)
    version: str = ""
    """Last accepted version (delta: the debugging version of the whole)."""
    nonce: str = ""
    """Of the last response on this stream."""
    error: str = ""
    """Of the last NACK, empty again after the next ACK."""
    held: dict[str, str] = field(default_factory=dict)
    """Delta: versions of the accepted resources, by name."""
    judging: int = 0
    """Responses handed out that still wait for their verdict."""
    introduced: bool = False
    """Something was sent about this type on this stream."""
    to_subscribe: dict[str, None] = field(default_factory=dict)
    to_unsubscribe: dict[str, None] = field(default_factory=dict)

    def __repr__(self) -> str:
        names = "*" if self.type.wildcard else f"{len(self.names)} names"
        return f"<TypeState {self.type.short} {names} version {self.version or '-'}{' NACKed' if self.error else ''}>"


class _Findings:
    """The resources of one response, sorted: usable, nameless, not asked for."""

    def __init__(self, state: TypeState) -> None:
        self._state = state
        self._resources: list[Resource] = []
        self._faults: list[str] = []
        self._unrequested: list[str] = []

    def unwrap(self, index: int, found: any_pb2.Any) -> discovery_pb2.Resource | None:
        try:
            return discovery_pb2.Resource.FromString(found.value)
        except message.DecodeError as error:
            self._faults.append(f"resources[{index}]: Unable to unpack as {_message_name(found.type_url)}: {error}")
            return None

    def add(self, index: int, found: any_pb2.Any, version: str) -> None:
        """Put one resource where it belongs. Its name is the payload's, whatever a wrapper says, as in Envoy."""
        kind = self._state.type
        raw = found.value
        try:
            name = resource_name(raw)
        except ValueError as error:
            self._faults.append(f"resources[{index}]: Unable to unpack as {_message_name(found.type_url)}: {error}")
            return
        if not name:
            self._faults.append(f"resources[{index}]: {kind.noun} without a name")
        elif kind.wildcard or name in self._state.names:
            self._resources.append(Resource(name, version, raw, found.type_url))
        else:
            self._unrequested.append(name)

    def response(self, version: str, nonce: str, stream: int, removed: tuple[str, ...] | None = None) -> Response:
        """`removed` is None in the state of the world, where absence may say it."""
        kind = self._state.type
        return Response(
            kind,
            version,
            nonce,
            tuple(self._resources),
            removed or (),
            complete=removed is None and kind.complete and not self._faults,
            faults=tuple(self._faults),
            unrequested=tuple(self._unrequested),
            stream=stream,
        )


class AdsProtocol:
    """See the module. Calls never fail for what the peer said, except `received` with ProtocolError."""

    def __init__(self, variant: Variant, node: base_pb2.Node, *, node_on_first_message_only: bool = True) -> None:
        self.variant = variant
        self._node = node
        self._node_on_first_message_only = node_on_first_message_only
        self._types: dict[str, TypeState] = {}
        self._stream = 0
        self._connected = False
        self._node_sent = False
        self._changed: dict[str, None] = {}
        self._outbox: list[bytes] = []

    def __repr__(self) -> str:
        state = f"stream {self._stream}" if self._connected else "not connected"
        return f"<AdsProtocol {self.variant.value} {state}: {', '.join(s.type.short for s in self._types.values()) or '-'}>"

    @property
    def types(self) -> Collection[TypeState]:
        """The subscribed types in the order of their first subscription."""
        return self._types.values()

    # --- the stream -------------------------------------------------------------------------------------------------

    def connected(self) -> None:
        """A new stream is there: say everything again, in the order of the first subscriptions."""
        self._forget_stream()
        self._connected = True
        self._stream += 1
        for url, state in self._types.items():
            if self.variant is Variant.SOTW or state.type.wildcard or state.names:
                self._changed[url] = None

    def disconnected(self) -> None:
        """The stream is gone. Verdicts that are still due keep their effect on versions, and are not sent."""
        self._forget_stream()

    def _forget_stream(self) -> None:
        self._connected = self._node_sent = False
        self._changed.clear()
        self._outbox.clear()
        for state in self._types.values():
            state.nonce = ""
            state.judging = 0
            state.introduced = False
            state.to_subscribe.clear()
            state.to_unsubscribe.clear()

    def data_to_send(self) -> list[bytes]:
        """The requests that are due, in order; each is handed out once."""
        self._flush()
        sent, self._outbox = self._outbox, []
        return sent

    # --- subscriptions ----------------------------------------------------------------------------------------------

    def subscribe(self, kind: ResourceType, names: Iterable[str] = ()) -> None:
        """Ask for `names` (all there is, if the type is a wildcard one). Names already asked for cost nothing."""
        state = self._types.get(kind.url)
        if kind.wildcard:
            if state is None:
                self._types[kind.url] = TypeState(kind)
                self._mark_changed(kind.url)
            return
        new = [name for name in dict.fromkeys(names) if state is None or name not in state.names]
        if not new:
            return
        if state is None:
            state = self._types[kind.url] = TypeState(kind)
        for name in new:
            state.names[name] = None
            state.to_unsubscribe.pop(name, None)
            state.to_subscribe[name] = None  # even if its removal was not sent yet: our copy is gone
        self._mark_changed(kind.url)

    def unsubscribe(self, kind: ResourceType, names: Iterable[str]) -> None:
        """Ask for `names` no longer. On a named type an empty list stays a subscription: to nothing."""
        state = self._types.get(kind.url)
        if state is None:
            return
        gone = [name for name in dict.fromkeys(names) if name in state.names]
        for name in gone:
            del state.names[name]
            state.held.pop(name, None)
            state.to_subscribe.pop(name, None)
            state.to_unsubscribe[name] = None  # even if its addition was not sent yet, as Envoy
        if gone:
            self._mark_changed(kind.url)

    def ask_again(self, kind: ResourceType) -> None:
        """State of the world: repeat the request of a named type unchanged. A changed cluster waits for an answer that
        the server must give although nothing changed. Delta servers push it by themselves, so there this is nothing.
        """
        state = self._types.get(kind.url)
        if self.variant is Variant.SOTW and state is not None and state.names:
            self._mark_changed(kind.url)

    def _mark_changed(self, url: str) -> None:
        if self._connected:
            self._changed[url] = None

    # --- responses --------------------------------------------------------------------------------------------------

    def received(self, raw: bytes) -> list[Event]:
        """Read one response message. Raises ProtocolError if it is none."""
        try:
            if self.variant is Variant.SOTW:
                return self._received_sotw(discovery_pb2.DiscoveryResponse.FromString(raw))
            return self._received_delta(discovery_pb2.DeltaDiscoveryResponse.FromString(raw))
        except message.DecodeError as error:
            raise ProtocolError(f"not a discovery response: {error}") from None

    def accept(self, response: Response) -> None:
        """ACK: everything in `response` is in use, or will be once it is warm."""
        self._judge(response, None, ())

    def reject(self, response: Response, reason: str, refused: Collection[str] = ()) -> None:
        """NACK with `reason`. Names not in `refused` are in use all the same."""
        self._judge(response, reason, refused)

    def _judge(self, response: Response, reason: str | None, refused: Collection[str]) -> None:
        state = self._types.get(response.type.url)
        if state is None:
            return
        state.error = reason or ""
        if reason is None:
            state.version = response.version
        if self.variant is Variant.DELTA:
            for name in response.removed:
                state.held.pop(name, None)
            for resource in response.resources:
                if resource.name not in refused and (state.type.wildcard or resource.name in state.names):
                    state.held[resource.name] = resource.version
        if response.stream != self._stream or not self._connected:
            return
        state.judging -= 1
        self._answer(state, response.nonce, reason)

    def _received_sotw(self, response: discovery_pb2.DiscoveryResponse) -> list[Event]:
        state = self._known(response.type_url)
        if isinstance(state, Ignored):
            return [state]
        kind = state.type
        found = _Findings(state)
        for index, wrapped in enumerate(response.resources):
            version = response.version_info
            any_ = wrapped
            if wrapped.type_url == _WRAPPER_URL:  # how a server attaches a time to live
                wrapper = found.unwrap(index, wrapped)
                if wrapper is None:
                    continue
                version = wrapper.version or version
                any_ = wrapper.resource
            if any_.type_url != kind.url:
                reason = (
                    f"{any_.type_url} does not match the message-wide type URL {kind.url} in DiscoveryResponse "
                    f"(resources[{index}])"
                )
                return [self._reject_whole(state, response.version_info, response.nonce, reason)]
            found.add(index, any_, version)
        return [self._hand_out(state, found.response(response.version_info, response.nonce, self._stream))]

    def _received_delta(self, response: discovery_pb2.DeltaDiscoveryResponse) -> list[Event]:
        state = self._known(response.type_url)
        if isinstance(state, Ignored):
            return [state]
        kind = state.type
        version = response.system_version_info
        removed = tuple(response.removed_resources)
        gone = set(removed)
        seen: set[str] = set()
        found = _Findings(state)
        for index, wrapper in enumerate(response.resources):
            name = wrapper.name
            reason = None
            if name in seen:
                reason = f"duplicate name {name} found among added/updated resources"
            elif name in gone:
                reason = f"duplicate name {name} found in the union of added+removed resources"
            elif wrapper.HasField("resource") and wrapper.resource.type_url != kind.url:
                reason = (
                    f"type URL {wrapper.resource.type_url} embedded in an individual Any does not match the "
                    f"message-wide type URL {kind.url} in DeltaDiscoveryResponse ({name})"
                )
            if reason is not None:
                return [self._reject_whole(state, version, response.nonce, reason)]
            seen.add(name)
            if wrapper.HasField("resource"):  # without one it is a heartbeat: still there, unchanged
                found.add(index, wrapper.resource, wrapper.version)
        if not kind.wildcard:
            removed = tuple(name for name in removed if name in state.names)
        return [self._hand_out(state, found.response(version, response.nonce, self._stream, removed))]

    def _known(self, url: str) -> TypeState | Ignored:
        state = self._types.get(url)
        if state is not None:
            return state
        if url in RESOURCE_TYPES:
            return Ignored(url, f"{RESOURCE_TYPES[url].short} response without a subscription")
        return Ignored(url, f"response of unknown type {url!r}")

    def _hand_out(self, state: TypeState, response: Response) -> Response:
        state.nonce = response.nonce
        state.judging += 1
        return response

    def _reject_whole(self, state: TypeState, version: str, nonce: str, reason: str) -> Rejected:
        state.nonce = nonce
        state.error = reason
        self._answer(state, nonce, reason)
        return Rejected(state.type, version, nonce, reason)

    # --- requests ---------------------------------------------------------------------------------------------------

    def _answer(self, state: TypeState, nonce: str, reason: str | None) -> None:
        if self.variant is Variant.SOTW:
            self._changed.pop(state.type.url, None)  # the answer itself carries all names
        self._flush()
        if self.variant is Variant.SOTW:
            request = self._sotw_request(state, nonce)
        else:
            request = discovery_pb2.DeltaDiscoveryRequest(type_url=state.type.url, response_nonce=nonce)
        if reason is not None:
            request.error_detail.code = NACK_CODE
            request.error_detail.message = _cut(reason)
        self._send(request)

    def _flush(self) -> None:
        waiting: dict[str, None] = {}
        for url in self._changed:
            state = self._types[url]
            if self.variant is Variant.DELTA:
                self._send_delta_change(state)
            elif state.judging:
                waiting[url] = None
            else:
                self._send(self._sotw_request(state, state.nonce))
        self._changed = waiting

    def _sotw_request(self, state: TypeState, nonce: str) -> discovery_pb2.DiscoveryRequest:
        return discovery_pb2.DiscoveryRequest(
            type_url=state.type.url, version_info=state.version, response_nonce=nonce, resource_names=list(state.names)
        )

    def _send_delta_change(self, state: TypeState) -> None:
        request = discovery_pb2.DeltaDiscoveryRequest(type_url=state.type.url)
        if not state.introduced:
            if not state.type.wildcard and not state.names:
                return  # subscribed and dropped before anything was said
            state.introduced = True
            request.resource_names_subscribe.extend(state.names)
            request.initial_resource_versions.update(state.held)
        else:
            request.resource_names_subscribe.extend(state.to_subscribe)
            request.resource_names_unsubscribe.extend(state.to_unsubscribe)
        state.to_subscribe.clear()
        state.to_unsubscribe.clear()
        self._send(request)

    def _send(self, request: discovery_pb2.DiscoveryRequest | discovery_pb2.DeltaDiscoveryRequest) -> None:
        if not (self._node_sent and self._node_on_first_message_only):
            request.node.CopyFrom(self._node)
            self._node_sent = True
        self._outbox.append(request.SerializeToString())


def _cut(reason: str) -> str:
    raw = reason.encode("utf-8", "replace")
    if len(raw) <= NACK_LIMIT_BYTES:
        return raw.decode()
    return raw[:NACK_LIMIT_BYTES].decode("utf-8", "ignore") + "...(truncated)"


def _message_name(type_url: str) -> str:
    return type_url.rpartition("/")[2]
