"""What a real istiod sent, through the machine, the intake and the store: nothing refused, little translated twice."""

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import base_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.service.discovery.v3 import discovery_pb2

from mosn_xds.base.clock import SystemClock
from mosn_xds.base.stats import StatRegistry
from mosn_xds.control.ads.events import Response, Variant
from mosn_xds.control.ads.protocol import AdsProtocol
from mosn_xds.control.ads.resource_types import CDS, EDS, LDS, RDS, ResourceType
from mosn_xds.control.intake import Intake
from mosn_xds.control.store import ResourceKey, ResourceStore, Status
from mosn_xds.control.translate.model import Need
from tests.support.recordings import lines, sessions


@dataclass(frozen=True)
class Product:
    needs: tuple[Need, ...]
    warnings: tuple[str, ...] = ()


def read(type_url: str, name: str, raw: bytes) -> Product:
    """A translator that takes everything and knows only what refers to what."""
    needs: list[Need] = []
    if type_url == CDS.url:
        cluster = cluster_pb2.Cluster.FromString(raw)
        if cluster.type == cluster_pb2.Cluster.EDS:
            needs.append(Need(EDS.url, cluster.eds_cluster_config.service_name or cluster.name))
    elif type_url == LDS.url:
        listener = listener_pb2.Listener.FromString(raw)
        for chain in (*listener.filter_chains, listener.default_filter_chain):
            for filter_ in chain.filters:
                manager = http_connection_manager_pb2.HttpConnectionManager()
                if filter_.typed_config.Unpack(manager) and manager.rds.route_config_name:
                    needs.append(Need(RDS.url, manager.rds.route_config_name))
    return Product(tuple(needs))


class Replay:
    """Answers a recorded session as an agent would."""

    def __init__(self, variant: Variant) -> None:
        self.machine = AdsProtocol(variant, base_pb2.Node(id="n"))
        self.store: ResourceStore[Product] = ResourceStore(SystemClock())
        self.offered = 0
        self.translated = 0
        self.intake = Intake(self.store, self._translate, SystemClock(), StatRegistry())
        self.intake.attach("ads", self)
        self.machine.subscribe(CDS)
        self.machine.subscribe(LDS)
        self.machine.connected()
        self.refused: list[str] = []

    def _translate(self, type_url: str, name: str, raw: bytes) -> Product:
        self.translated += 1
        return read(type_url, name, raw)

    def subscribe(self, kind: ResourceType) -> None:
        self.machine.subscribe(kind)

    def change(self, kind: ResourceType, add: Iterable[str], remove: Iterable[str]) -> None:
        self.machine.subscribe(kind, add)
        self.machine.unsubscribe(kind, remove)

    def ask_again(self, kind: ResourceType) -> None:
        self.machine.ask_again(kind)

    async def play(self, path: Path) -> None:
        for line in lines(path):
            if line.get("dir") != "received":
                continue
            for event in self.machine.received(base64.b64decode(line["b64"])):
                assert isinstance(event, Response), event
                self.offered += len(event.resources)
                verdict = await self.intake.judge("ads", event)
                if verdict.reason is None:
                    self.machine.accept(event)
                else:
                    self.refused.append(verdict.reason)
                    self.machine.reject(event, verdict.reason, verdict.refused)
            self.machine.data_to_send()

    def names(self, kind: ResourceType) -> set[str]:
        return {name for name, record in self.store.records("ads", kind.url).items() if record.good}


def played(path: Path) -> Replay:
    replay = Replay(Variant.SOTW if "sotw" in path.name else Variant.DELTA)
    trio.run(replay.play, path)
    return replay


def wanted_by_the_recorder(path: Path) -> dict[str, set[str]]:
    """The names that the recording client asked for and never gave up."""
    names: dict[str, set[str]] = {}
    for line in lines(path):
        if line.get("dir") != "sent":
            continue
        raw = base64.b64decode(line["b64"])
        if line["message"] == "DiscoveryRequest":
            sotw = discovery_pb2.DiscoveryRequest.FromString(raw)
            names[sotw.type_url] = set(sotw.resource_names)
        else:
            delta = discovery_pb2.DeltaDiscoveryRequest.FromString(raw)
            names.setdefault(delta.type_url, set()).update(delta.resource_names_subscribe)
            names[delta.type_url].difference_update(delta.resource_names_unsubscribe)
    return names


@pytest.mark.parametrize("path", [*sessions("delta"), *sessions("sotw")], ids=lambda p: f"{p.parent.name}-{p.name}")
def test_recorded_session_is_taken_whole(path: Path) -> None:
    replay = played(path)
    assert replay.refused == []
    assert replay.names(CDS)
    assert replay.names(LDS)
    wanted = wanted_by_the_recorder(path)
    for kind in (EDS, RDS):
        asked = set(replay.store.records("ads", kind.url))
        # The recorder never asked for less than it needed, and gave names up late.
        assert asked <= wanted.get(kind.url, set())
        assert {name for name in asked if name not in replay.names(kind)} == set()


def test_one_scenario_ends_the_same_in_both_dialects() -> None:
    by_scenario: dict[str, list[Replay]] = {}
    for path in [*sessions("delta"), *sessions("sotw")]:
        if path.parent.name in ("loop", "churn", "bookinfo"):
            key = path.name.replace("delta", "").replace("sotw", "") + path.parent.name
            by_scenario.setdefault(key, []).append(played(path))
    assert len(by_scenario) == 5
    for delta, sotw in by_scenario.values():
        for kind in (CDS, LDS, EDS, RDS):
            assert delta.names(kind) == sotw.names(kind)


def test_churn_translates_only_what_changed() -> None:
    """Of 351 resources that are sent again 325 have the same bytes; two of those had been removed in between."""
    (path,) = [path for path in sessions("delta") if path.parent.name == "churn"]
    replay = played(path)
    assert replay.offered - replay.translated == 323
    assert all(record.status in (Status.ACKED, Status.ABSENT) for record in replay.store)


def test_churn_drops_what_its_listeners_and_clusters_no_longer_name() -> None:
    (path,) = [path for path in sessions("delta") if path.parent.name == "churn"]
    replay = played(path)
    needed = set()
    for kind in (CDS, LDS):
        for record in replay.store.records("ads", kind.url).values():
            assert record.good is not None
            needed |= {ResourceKey("ads", need.type_url, need.name) for need in record.good.product.needs}
    assert needed == {record.key for record in replay.store if record.key.type_url in (EDS.url, RDS.url)}
