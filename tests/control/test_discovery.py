"""The control half whole: a real gRPC stream, the real translation, Snapshots out. Pilot replays what istiod sent."""

import random
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.config.core.v3 import base_pb2, config_source_pb2
from envoy.service.discovery.v3 import discovery_pb2

from mosn_xds.base.clock import SystemClock
from mosn_xds.base.stats import StatRegistry
from mosn_xds.control.ads.events import Variant
from mosn_xds.control.ads.resource_types import CDS, EDS, LDS, RDS
from mosn_xds.control.ads.transport import GrpcTarget
from mosn_xds.control.bootstrap import Bootstrap, DynamicRoot, XdsServer
from mosn_xds.control.discovery import Discovery
from mosn_xds.control.resolve import Address
from mosn_xds.control.stats import ControlPlaneStats, SubscriptionStats
from mosn_xds.control.store import ResourceKey, Status
from mosn_xds.control.translate import ADS, DnsFamily, NodeContext, Source, SourceKind, Translator
from mosn_xds.pilot.recording import Replay, read_recording
from mosn_xds.pilot.resources import ResourceSet
from mosn_xds.pilot.server import Pilot
from mosn_xds.spec.snapshot import Kind, Snapshot
from tests.support.any_secrets import AnySecrets
from tests.support.recordings import sessions

NODE = base_pb2.Node(id="sidecar~127.0.11.1~front-v1-0.shop~shop.svc.cluster.local")


def recorded(*, broken: bool) -> list[Path]:
    """The sessions in which Pilot sends nothing that must be refused, or those where it does."""
    return [path for path in [*sessions("delta"), *sessions("sotw")] if (path.parent.name == "broken") is broken]


class NoSuchName:
    """DNS that knows nothing, at once."""

    async def resolve(self, name: str, family: DnsFamily) -> Sequence[Address]:
        return []


class Half:
    """A Discovery and what it published."""

    def __init__(
        self,
        port: int,
        variant: Variant = Variant.DELTA,
        *,
        cds: Source = ADS,
        targets: dict[str, GrpcTarget] | None = None,
    ) -> None:
        self.stats = StatRegistry()
        self.published: list[Snapshot] = []
        self.news = trio.Event()
        context = NodeContext(id=NODE.id)
        bootstrap = Bootstrap(
            context,
            NODE,
            bootstrap_pb2.Bootstrap(),
            ads=XdsServer(GrpcTarget(f"127.0.0.1:{port}"), variant is Variant.DELTA, True),
            cds=DynamicRoot(cds, 0.0),
            lds=DynamicRoot(ADS, 0.0),
            targets=targets or {"sds-grpc": GrpcTarget(f"127.0.0.1:{port}")},
        )
        self.discovery = Discovery(
            bootstrap,
            Translator(context).translate,
            self._publish,
            NoSuchName(),
            SystemClock(),
            random.Random(7),
            self.stats,
        )

    def _publish(self, snapshot: Snapshot) -> None:
        self.published.append(snapshot)
        self.news.set()
        self.news = trio.Event()

    def names(self, kind: Kind) -> set[str]:
        return {name for item_kind, name in self.discovery.assembler.snapshot.items if item_kind is kind}

    def run(self, story: Callable[[], Awaitable[None]], limit_s: float = 60) -> None:
        async def main() -> None:
            with trio.fail_after(limit_s):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self.discovery.run)
                    await story()
                    nursery.cancel_scope.cancel()

        trio.run(main)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Ask again after each Snapshot, and now and then."""
        while not condition():
            with trio.move_on_after(0.05):
                await self.news.wait()


@pytest.fixture
def replay() -> Any:
    started: list[Pilot] = []

    def start(path: Path) -> tuple[Pilot, Replay]:
        resources = AnySecrets()
        pilot = Pilot(resources)
        started.append(pilot)
        return pilot, Replay(read_recording(path), resources)

    yield start
    for pilot in started:
        pilot.stop()


def held(pilot: Pilot, url: str) -> set[str]:
    return set(pilot.resources.get(url))


@pytest.mark.parametrize("path", recorded(broken=False), ids=lambda p: f"{p.parent.name}-{p.name}")
def test_recorded_session_goes_live_and_ends_as_pilot_has_it(path: Path, replay: Any) -> None:
    pilot, steps = replay(path)
    steps.advance()
    half = Half(pilot.port, Variant.SOTW if "sotw" in path.name else Variant.DELTA)

    async def story() -> None:
        await half.discovery.assembler.live.wait()
        while not steps.done:
            steps.advance()
        await half.until(
            lambda: (
                half.names(Kind.CLUSTER) == held(pilot, CDS.url) and half.names(Kind.LISTENER) == held(pilot, LDS.url)
            )
        )

    half.run(story)
    if path.parent.name != "churn":  # one of its steps is broken
        assert pilot.nacks == []
        assert all(record.status is Status.ACKED for record in half.discovery.store)


@pytest.mark.parametrize("path", recorded(broken=True), ids=lambda p: f"{p.parent.name}-{p.name}")
def test_broken_session_goes_live_with_what_is_good(path: Path, replay: Any) -> None:
    pilot, steps = replay(path)
    steps.advance()
    half = Half(pilot.port, Variant.SOTW if "sotw" in path.name else Variant.DELTA)

    async def story() -> None:
        await half.discovery.assembler.live.wait()
        await half.until(lambda: len(pilot.nacks) >= 3)

    half.run(story)
    refused = {r.key.name: r.refusal for r in half.discovery.store if r.refusal is not None}
    assert set(refused) == {"outbound|8090||ledger.shop.svc.cluster.local", "127.0.0.1_8082", "8081"}
    by_type = {nack.type_url: nack.message for nack in pilot.nacks}
    assert by_type[CDS.url] == (
        "Error adding/updating cluster(s) outbound|8090||ledger.shop.svc.cluster.local: "
        "ring_hash_lb_config.minimum_ring_size: ring hash: minimum_ring_size (4096) > maximum_ring_size (16)"
    )
    assert by_type[LDS.url].startswith("Error adding/updating listener(s) 127.0.0.1_8082: additional_addresses[0]")
    assert "malformed IP address: not-an-ip" in by_type[LDS.url]
    assert by_type[RDS.url].startswith("8081: virtual_hosts[")
    assert "missing ): (unclosed" in by_type[RDS.url]
    assert half.names(Kind.CLUSTER) == held(pilot, CDS.url) - set(refused)
    assert half.names(Kind.LISTENER) == held(pilot, LDS.url) - set(refused)


def test_pilot_lost_and_found_again(replay: Any) -> None:
    (path,) = [path for path in sessions("delta") if path.parent.name == "loop"]
    pilot, steps = replay(path)
    steps.advance()
    half = Half(pilot.port)
    plane = half.stats.group(ControlPlaneStats, "control_plane.")
    clusters = half.stats.group(SubscriptionStats, "cluster_manager.cds.")

    async def story() -> None:
        await half.discovery.assembler.live.wait()
        assert plane.connected_state == 1
        before = half.discovery.assembler.snapshot
        await trio.to_thread.run_sync(pilot.stop)
        await half.until(lambda: plane.connected_state == 0)
        assert half.discovery.assembler.snapshot is before
        resources = pilot.resources
        resources.apply([change for step in read_recording(path) for change in step.changes])
        again = await trio.to_thread.run_sync(start_again, resources, pilot.port)
        try:
            await half.until(lambda: plane.connected_state == 1)
            succeeded = clusters.update_success
            await half.until(lambda: clusters.update_success >= max(succeeded, 2))
            await trio.sleep(0.1)
        finally:
            await trio.to_thread.run_sync(again.stop)
        assert half.discovery.assembler.snapshot is before  # the same bytes again change nothing

    half.run(story)
    assert clusters.update_failure >= 1


def start_again(resources: ResourceSet, port: int) -> Pilot:
    for _ in range(100):
        try:
            return Pilot(resources, f"127.0.0.1:{port}")
        except OSError:
            trio.run(trio.sleep, 0.02)
    return Pilot(resources, f"127.0.0.1:{port}")


def test_listeners_are_asked_for_once_the_clusters_serve(start_pilot: Any) -> None:
    pilot = start_pilot()
    half = Half(pilot.port)

    async def hear(end: Any) -> discovery_pb2.DeltaDiscoveryRequest:
        raw = await trio.to_thread.run_sync(end.hear, abandon_on_cancel=True)
        return discovery_pb2.DeltaDiscoveryRequest.FromString(raw)

    async def story() -> None:
        end = await trio.to_thread.run_sync(pilot.accept, abandon_on_cancel=True)
        assert (await hear(end)).type_url == CDS.url
        response = discovery_pb2.DeltaDiscoveryResponse(nonce="n1", type_url=CDS.url)
        end.say(response.SerializeToString())
        assert (await hear(end)).response_nonce == "n1"
        assert (await hear(end)).type_url == LDS.url

    half.run(story)


def test_a_service_of_its_own_is_a_source_like_any_other(start_pilot: Any) -> None:
    """Endpoints that a cluster wants from another server come over that server's own method."""
    from envoy.config.cluster.v3 import cluster_pb2
    from envoy.config.endpoint.v3 import endpoint_pb2

    ads, service = start_pilot(), start_pilot()
    half = Half(ads.port, targets={"eds-server": GrpcTarget(f"127.0.0.1:{service.port}")})
    cluster = cluster_pb2.Cluster(name="c", type=cluster_pb2.Cluster.EDS)
    config = cluster.eds_cluster_config.eds_config
    config.resource_api_version = config_source_pb2.V3
    config.api_config_source.api_type = config_source_pb2.ApiConfigSource.GRPC
    config.api_config_source.transport_api_version = config_source_pb2.V3
    config.api_config_source.grpc_services.add().envoy_grpc.cluster_name = "eds-server"

    async def story() -> None:
        end = await trio.to_thread.run_sync(ads.accept, abandon_on_cancel=True)
        push = discovery_pb2.DeltaDiscoveryResponse(nonce="n1", type_url=CDS.url)
        push.resources.add(name="c").resource.Pack(cluster)
        end.say(push.SerializeToString())
        other = await trio.to_thread.run_sync(service.accept, abandon_on_cancel=True)
        raw = await trio.to_thread.run_sync(other.hear, abandon_on_cancel=True)
        asked = discovery_pb2.DiscoveryRequest.FromString(raw)
        assert (asked.type_url, list(asked.resource_names)) == (EDS.url, ["c"])
        answer = discovery_pb2.DiscoveryResponse(version_info="1", nonce="m1", type_url=EDS.url)
        answer.resources.add().Pack(endpoint_pb2.ClusterLoadAssignment(cluster_name="c"))
        other.say(answer.SerializeToString())
        await half.until(lambda: half.names(Kind.CLUSTER) == {"c"})

    half.run(story)
    source = Source(SourceKind.GRPC, "eds-server")
    assert half.discovery.store.get(ResourceKey(str(source), EDS.url, "c")) is not None


def test_a_source_that_cannot_be_had_refuses_the_resource(start_pilot: Any) -> None:
    from envoy.config.cluster.v3 import cluster_pb2

    pilot = start_pilot()
    half = Half(pilot.port)
    cluster = cluster_pb2.Cluster(name="c", type=cluster_pb2.Cluster.EDS)
    config = cluster.eds_cluster_config.eds_config
    config.resource_api_version = config_source_pb2.V3
    config.api_config_source.api_type = config_source_pb2.ApiConfigSource.GRPC
    config.api_config_source.transport_api_version = config_source_pb2.V3
    config.api_config_source.grpc_services.add().envoy_grpc.cluster_name = "nobody"

    async def story() -> None:
        end = await trio.to_thread.run_sync(pilot.accept, abandon_on_cancel=True)
        push = discovery_pb2.DeltaDiscoveryResponse(nonce="n1", type_url=CDS.url)
        push.resources.add(name="c").resource.Pack(cluster)
        end.say(push.SerializeToString())
        await trio.to_thread.run_sync(end.hear, abandon_on_cancel=True)
        raw = await trio.to_thread.run_sync(end.hear, abandon_on_cancel=True)
        nack = discovery_pb2.DeltaDiscoveryRequest.FromString(raw).error_detail.message
        assert nack.startswith("Error adding/updating cluster(s) c: Unknown gRPC client cluster 'nobody'")

    half.run(story)


CLUSTERS = """
version_info: "{version}"
resources:
- "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: from-file
  type: EDS
  eds_cluster_config: {{eds_config: {{resource_api_version: V3, path_config_source: {{path: "{endpoints}"}}}}}}
"""

ENDPOINTS = """
resources:
- "@type": type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment
  cluster_name: from-file
  endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: {address}, port_value: 80}}}}}}}}]}}]
- "@type": type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment
  cluster_name: not-asked-for
"""


def test_watched_files_are_sources_too(tmp_path: Path, closed_port: int) -> None:
    clusters, endpoints = tmp_path / "clusters.yaml", tmp_path / "endpoints.yaml"
    clusters.write_text(CLUSTERS.format(version="1", endpoints=endpoints))
    half = Half(closed_port, cds=Source(SourceKind.PATH, path=str(clusters)))

    async def story() -> None:
        await trio.sleep(0.1)
        assert half.names(Kind.CLUSTER) == set()
        endpoints.write_text(ENDPOINTS.format(address="10.0.0.1"))
        await half.until(lambda: half.names(Kind.CLUSTER) == {"from-file"})
        before = half.discovery.assembler.snapshot.items[Kind.ENDPOINTS, "from-file"]
        (tmp_path / "new").write_text(ENDPOINTS.format(address="10.0.0.2"))
        (tmp_path / "new").rename(endpoints)
        await half.until(lambda: half.discovery.assembler.snapshot.items[Kind.ENDPOINTS, "from-file"] != before)
        good = half.discovery.assembler.snapshot
        clusters.write_text("resources: [{'@type': nobody.knows}]")
        watched = half.discovery.files[0]
        await half.until(lambda: "resources of one known type are expected" in watched.last_error)
        assert half.discovery.assembler.snapshot is good

    half.run(story)
