"""The control half in one piece: streams, intake, store and assembler, wired as the bootstrap says.

`Discovery.run` keeps a stream to Pilot (and one for each type of each other gRPC service that a resource names as its
configuration source), asks for clusters, then for listeners once the first clusters serve, and publishes Snapshots. The
parts stay visible for whoever shows them.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

import trio
from envoy.config.core.v3 import base_pb2

from mosn_xds.base.chance import Random
from mosn_xds.base.clock import Clock
from mosn_xds.base.errors import ConfigError
from mosn_xds.base.stats import StatRegistry
from mosn_xds.control.addresses import AddressBook
from mosn_xds.control.ads.client import AdsClient, Judge
from mosn_xds.control.ads.events import Variant
from mosn_xds.control.ads.protocol import AdsProtocol
from mosn_xds.control.ads.resource_types import CDS, LDS, SDS, ResourceType
from mosn_xds.control.ads.transport import GrpcTransport
from mosn_xds.control.assemble import HOLD_S, Assembler, Root
from mosn_xds.control.backoff import BackOff
from mosn_xds.control.bootstrap import Bootstrap, XdsServer
from mosn_xds.control.files import FileSource
from mosn_xds.control.intake import Admit, Changed, Intake, Translate
from mosn_xds.control.needs import Subscriber
from mosn_xds.control.resolve import Lookup
from mosn_xds.control.secret_files import SecretFiles
from mosn_xds.control.secret_streams import SecretStreams
from mosn_xds.control.stats import ControlPlaneStats
from mosn_xds.control.store import ResourceKey, ResourceStore
from mosn_xds.control.translate.model import ADS, Source, SourceKind, Translated
from mosn_xds.spec.listener import Listener
from mosn_xds.spec.snapshot import Snapshot

RETRY_S = 2.0


WORKLOAD_SECRETS = "sds-grpc"
"""The cluster from which Istio's contexts want the workload's own certificate, and what to validate peers with."""


class OwnSecrets(Protocol):
    """Something inside this process that has the workload's secrets: `identity.Identity`."""

    def subscriber(self, source: str, judge: Judge) -> Subscriber:
        """Who takes names of `source` from now on, and hands what it has for them to `judge`."""
        ...

    async def run(self) -> None: ...


class Discovery:
    """See the module. `identity` answers in place of the cluster `WORKLOAD_SECRETS`.

    `admit` has the last word on each translated resource (bind a listener's address, raise ConfigError if that fails);
    what it refused is tried again every `RETRY_S`. `observe` hears what changed in the store, after the assembler did.
    """

    def __init__(
        self,
        bootstrap: Bootstrap,
        translate: Translate[Translated],
        publish: Callable[[Snapshot], None],
        lookup: Lookup,
        clock: Clock,
        random: Random,
        stats: StatRegistry,
        *,
        admit: Admit[Translated] | None = None,
        observe: Changed | None = None,
        identity: OwnSecrets | None = None,
    ) -> None:
        self._bootstrap = bootstrap
        self._identity = identity
        self._node = base_pb2.Node()
        self._node.MergeFromString(bootstrap.node_message.SerializeToString())
        self._clock = clock
        self._random = random
        self._observe = observe
        self._admit_more = admit
        self._plane = stats.group(ControlPlaneStats, "control_plane.")
        self._nursery: trio.Nursery | None = None
        self._scopes: dict[AdsClient, trio.CancelScope] = {}
        self.clients: list[AdsClient] = []
        self.files: list[FileSource] = []
        self.store: ResourceStore[Translated] = ResourceStore(clock)
        self.intake = Intake(
            self.store, translate, clock, stats, connect=self._connect, admit=self._admit, changed=self._changed
        )
        self._secret_files = SecretFiles(self.store, self.intake)
        given = ((CDS, bootstrap.cds), (LDS, bootstrap.lds))
        self._roots = [Root(kind, r.source, r.initial_fetch_timeout_s) for kind, r in given if r is not None]
        self._servers = {r.source: r.server for _, r in given if r is not None and r.server is not None}
        self._static = [one.translated for one in (*bootstrap.clusters, *bootstrap.listeners)]
        self._addresses = AddressBook(self.store, self._static)
        self.assembler = Assembler(
            self.store,
            self.intake,
            publish,
            lookup,
            clock,
            random,
            stats,
            static=self._static,
            secrets=bootstrap.secrets,
            roots=self._roots,
        )

    def __repr__(self) -> str:
        return f"<Discovery {self.assembler!r} {', '.join(map(repr, self.clients))}>"

    async def run(self) -> None:
        """Until cancelled. Raises ConfigError if a static resource or a root names a source that cannot be had."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for source in [root.source for root in self._roots]:
                self.intake.reach(source)
            for product in self._static:
                for need in product.needs:
                    self.intake.reach(need.source)
            nursery.start_soon(self.assembler.run)
            nursery.start_soon(self._retry)
            nursery.start_soon(self._secret_files.run)
            if self._identity is not None:
                nursery.start_soon(self._identity.run)
            self._subscribe(CDS)
            # Envoy's order. A server with no cluster to name may never answer, so there is an end to it.
            with trio.move_on_after(HOLD_S):
                await self.assembler.clusters_ready.wait()
            self._subscribe(LDS)

    async def _retry(self) -> None:
        while True:
            await trio.sleep(RETRY_S)
            self.intake.retry()

    def _subscribe(self, kind: ResourceType) -> None:
        for root in self._roots:
            if root.type is kind:
                self.intake.subscribe(root.key, kind)

    def _admit(self, key: ResourceKey, product: Translated) -> None:
        """See `intake.Admit`."""
        if isinstance(product.spec, Listener):
            self._addresses.admit(key, product.spec)
        if self._admit_more is not None:
            self._admit_more(key, product)

    def _changed(self, keys: Iterable[ResourceKey]) -> None:
        keys = list(keys)
        self.assembler.changed(keys)
        if any(key.type_url == SDS.url for key in keys):
            self._secret_files.wake()
        if self._observe is not None:
            self._observe(keys)

    def _connect(self, source: Source) -> Subscriber:
        """See `intake.Connect`."""
        if source.kind is SourceKind.PATH:
            files = FileSource(str(source), source.path, self.intake.judge)
            self.files.append(files)
            self._start(files.run)
            return files
        if source.kind is SourceKind.ADS:
            if self._bootstrap.ads is None:
                raise ConfigError("ADS is not configured", hint="add dynamic_resources.ads_config to the bootstrap")
            return self._open(source, self._bootstrap.ads, None)
        if source.cluster == WORKLOAD_SECRETS and self._identity is not None:
            return self._identity.subscriber(str(source), self.intake.judge)
        server = self._servers.get(source)
        if server is None:
            target = self._bootstrap.targets.get(source.cluster)
            if target is None:
                raise ConfigError(f"Unknown gRPC client cluster '{source.cluster}'", hint="it must be a static cluster")
            delta = source.kind is SourceKind.DELTA_GRPC
            server = XdsServer(target, delta, source.node_on_first_message_only, source.cluster)
        return _Service(lambda kind: self._open(source, server, kind), self._close)

    def _start(self, task: Callable[[], Awaitable[None]]) -> None:
        if self._nursery is not None:
            self._nursery.start_soon(task)

    def _open(self, source: Source, server: XdsServer, kind: ResourceType | None) -> AdsClient:
        """A stream of its own: aggregated, or for one type."""
        variant = Variant.DELTA if server.delta else Variant.SOTW
        method = None
        if kind is not None:
            method = kind.delta_method if server.delta else kind.sotw_method
        client = AdsClient(
            str(source),
            AdsProtocol(variant, self._node, node_on_first_message_only=server.node_on_first_message_only),
            GrpcTransport(server.target),
            self.intake.judge,
            clock=self._clock,
            back_off=BackOff(self._random, server.retry_base_s, server.retry_max_s),
            method=method,
            state_changed=self._state_changed,
        )
        self.clients.append(client)
        scope = self._scopes[client] = trio.CancelScope()

        async def keep() -> None:
            with scope:
                await client.run()

        self._start(keep)
        return client

    def _close(self, client: AdsClient) -> None:
        self.clients.remove(client)
        self._scopes.pop(client).cancel()

    def _state_changed(self, source: str, connected: bool) -> None:
        if source == str(ADS):
            self._plane.connected_state = int(connected)
            if not connected:
                self.intake.lost(source)


class _Service:
    """A source that is no aggregate: each type has its own method, hence its own stream, opened when first used; secrets
    have one each."""

    def __init__(
        self, open_stream: Callable[[ResourceType], AdsClient], close_stream: Callable[[AdsClient], None]
    ) -> None:
        self._open_stream = open_stream
        self._by_kind: dict[ResourceType, Subscriber] = {SDS: SecretStreams(open_stream, close_stream)}

    def subscribe(self, kind: ResourceType) -> None:
        self._subscriber(kind).subscribe(kind)

    def change(self, kind: ResourceType, add: Iterable[str], remove: Iterable[str]) -> None:
        self._subscriber(kind).change(kind, add, remove)

    def ask_again(self, kind: ResourceType) -> None:
        if kind in self._by_kind:
            self._by_kind[kind].ask_again(kind)

    def _subscriber(self, kind: ResourceType) -> Subscriber:
        found = self._by_kind.get(kind)
        if found is None:
            found = self._by_kind[kind] = self._open_stream(kind)
        return found
