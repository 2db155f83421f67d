"""The control half in one piece: streams, intake, store and assembler, wired as the bootstrap says.

`Discovery.run` keeps a stream to Pilot (and one for each type of each other gRPC service that a resource names as its
configuration source), asks for clusters, then for listeners once the first clusters serve, and publishes Snapshots. The
parts stay visible for whoever shows them.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import trio
from envoy.config.core.v3 import base_pb2

from mosn_xds.base.chance import Random
from mosn_xds.base.clock import Clock
from mosn_xds.base.errors import ConfigError
from mosn_xds.base.stats import StatRegistry
from mosn_xds.control.ads.client import AdsClient
from mosn_xds.control.ads.events import Variant
from mosn_xds.control.ads.protocol import AdsProtocol
from mosn_xds.control.ads.resource_types import CDS, LDS, ResourceType
from mosn_xds.control.ads.transport import GrpcTarget, GrpcTransport
from mosn_xds.control.assemble import HOLD_S, Assembler, Root
from mosn_xds.control.intake import Admit, Changed, Intake, Translate
from mosn_xds.control.needs import Subscriber
from mosn_xds.control.resolve import Lookup
from mosn_xds.control.stats import ControlPlaneStats
from mosn_xds.control.store import ResourceKey, ResourceStore
from mosn_xds.control.translate.model import ADS, Source, SourceKind, Translated
from mosn_xds.spec.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """How to speak to one management server."""

    variant: Variant
    target: GrpcTarget
    node_on_first_message_only: bool = False


@dataclass(frozen=True, slots=True)
class Wiring:
    """What the bootstrap says about discovery. `services` finds the server behind a cluster that a resource names as its
    source (ConfigError if there is none); `ads` is None without an ADS stream."""

    node: base_pb2.Node
    ads: StreamSettings | None
    roots: Sequence[Root]
    static: Sequence[Translated]
    services: Callable[[Source], GrpcTarget]


class Discovery:
    """See the module. `observe` hears what changed in the store, after the assembler did."""

    def __init__(
        self,
        wiring: Wiring,
        translate: Translate[Translated],
        publish: Callable[[Snapshot], None],
        lookup: Lookup,
        clock: Clock,
        random: Random,
        stats: StatRegistry,
        *,
        admit: Admit[Translated] | None = None,
        observe: Changed | None = None,
    ) -> None:
        self._wiring = wiring
        self._clock = clock
        self._random = random
        self._observe = observe
        self._plane = stats.group(ControlPlaneStats, "control_plane.")
        self._nursery: trio.Nursery | None = None
        self.clients: list[AdsClient] = []
        self.store: ResourceStore[Translated] = ResourceStore(clock)
        self.intake = Intake(
            self.store, translate, clock, stats, connect=self._connect, admit=admit, changed=self._changed
        )
        self.assembler = Assembler(
            self.store, self.intake, publish, lookup, clock, random, stats, static=wiring.static, roots=wiring.roots
        )

    def __repr__(self) -> str:
        return f"<Discovery {self.assembler!r} {', '.join(map(repr, self.clients))}>"

    async def run(self) -> None:
        """Until cancelled. Raises ConfigError if a static resource or a root names a source that cannot be had."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for source in [root.source for root in self._wiring.roots]:
                self.intake.reach(source)
            for product in self._wiring.static:
                for need in product.needs:
                    self.intake.reach(need.source)
            nursery.start_soon(self.assembler.run)
            self._subscribe(CDS)
            # Envoy's order. A server with no cluster to name may never answer, so there is an end to it.
            with trio.move_on_after(HOLD_S):
                await self.assembler.clusters_ready.wait()
            self._subscribe(LDS)

    def _subscribe(self, kind: ResourceType) -> None:
        for root in self._wiring.roots:
            if root.type is kind:
                self.intake.subscribe(root.key, kind)

    def _changed(self, keys: Iterable[ResourceKey]) -> None:
        keys = list(keys)
        self.assembler.changed(keys)
        if self._observe is not None:
            self._observe(keys)

    def _connect(self, source: Source) -> Subscriber:
        """See `intake.Connect`."""
        if source.kind is SourceKind.ADS:
            settings = self._wiring.ads
            if settings is None:
                raise ConfigError("ADS is not configured in the bootstrap")
            return self._open(source, settings, None)
        if source.kind is SourceKind.PATH:
            raise ConfigError(f"configuration from a file is not supported: {source.path}")
        variant = Variant.DELTA if source.kind is SourceKind.DELTA_GRPC else Variant.SOTW
        settings = StreamSettings(variant, self._wiring.services(source), source.node_on_first_message_only)
        return _Service(lambda kind: self._open(source, settings, kind))

    def _open(self, source: Source, settings: StreamSettings, kind: ResourceType | None) -> AdsClient:
        """A stream of its own: aggregated, or for one type."""
        method = None
        if kind is not None:
            method = kind.delta_method if settings.variant is Variant.DELTA else kind.sotw_method
        client = AdsClient(
            str(source),
            AdsProtocol(
                settings.variant,
                self._wiring.node,
                node_on_first_message_only=settings.node_on_first_message_only,
            ),
            GrpcTransport(settings.target),
            self.intake.judge,
            clock=self._clock,
            random=self._random,
            method=method,
            state_changed=self._state_changed,
        )
        self.clients.append(client)
        if self._nursery is not None:
            self._nursery.start_soon(client.run)
        return client

    def _state_changed(self, source: str, connected: bool) -> None:
        if source == str(ADS):
            self._plane.connected_state = int(connected)
            if not connected:
                self.intake.lost(source)


class _Service:
    """A source that is no aggregate: each type has its own method, hence its own stream, opened when first used."""

    def __init__(self, open_stream: Callable[[ResourceType], AdsClient]) -> None:
        self._open_stream = open_stream
        self._clients: dict[ResourceType, AdsClient] = {}

    def subscribe(self, kind: ResourceType) -> None:
        self._client(kind).subscribe(kind)

    def change(self, kind: ResourceType, add: Iterable[str], remove: Iterable[str]) -> None:
        self._client(kind).change(kind, add, remove)

    def ask_again(self, kind: ResourceType) -> None:
        if kind in self._clients:
            self._clients[kind].ask_again(kind)

    def _client(self, kind: ResourceType) -> AdsClient:
        client = self._clients.get(kind)
        if client is None:
            client = self._clients[kind] = self._open_stream(kind)
        return client
