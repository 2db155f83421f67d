"""The engine as the feed drives it: a generation's removals, however many, hold nobody up."""

import itertools
import random
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from mosn_xds.base.clock import CachedClock
from mosn_xds.base.limits import LimitProvider
from mosn_xds.base.stats import StatRegistry
from mosn_xds.data.engine import Engine
from mosn_xds.data.net.reactor import Reactor
from mosn_xds.data.proxy.context import Task
from mosn_xds.data.upstream.api import LbContext
from mosn_xds.data.upstream.cluster import Cluster as UpstreamCluster
from mosn_xds.spec.cluster import Cluster, Discovery, Endpoint, Endpoints, Locality, Maglev, RingHash
from mosn_xds.spec.common import Address
from mosn_xds.spec.feed import Configure, Drop, Put
from mosn_xds.spec.snapshot import Kind, make_item


def no_tasks(run: Callable[[], Awaitable[None]]) -> Task:
    raise AssertionError("configuration needs no task")


class World:
    """An engine, and the turns of its reactor's timers."""

    def __init__(self) -> None:
        self.reactor = Reactor(CachedClock())
        self.engine = Engine(self.reactor, Configure(0, 1), StatRegistry(), LimitProvider(), random.Random(1), no_tasks)
        self.generation = 0

    def publish(self, *messages: Put | Drop) -> None:
        for message in messages:
            self.engine.stage(message)
        self.generation += 1
        self.engine.publish(self.generation)

    def turn(self) -> None:
        """One millisecond later."""
        clock = self.reactor.clock
        clock.now += 0.002
        self.reactor.timers.advance(clock.now)

    @property
    def clusters(self) -> int:
        return len(self.engine.context.clusters)


def cluster(name: str, timeout_s: float = 1.0) -> Put:
    return Put(make_item(Kind.CLUSTER, name, Cluster(name, Discovery.EDS, connect_timeout_s=timeout_s)))


def endpoints(name: str) -> Put:
    return Put(make_item(Kind.ENDPOINTS, name, Endpoints(name, ())))


@pytest.fixture
def world() -> World:
    return World()


def test_thousands_of_removals_are_spread_over_turns(world: World) -> None:
    names = [f"c{number}" for number in range(1000)]
    world.publish(*(put for name in names for put in (cluster(name), endpoints(name))))
    assert world.clusters == 1000
    world.publish(*(Drop(kind, name) for kind in (Kind.ENDPOINTS, Kind.CLUSTER) for name in names))
    left = [world.clusters]
    while world.clusters and len(left) < 100:
        world.turn()
        left.append(world.clusters)
    assert world.clusters == 0
    assert max(before - after for before, after in itertools.pairwise(left)) <= 100


def test_cluster_that_comes_back_before_it_is_gone_stays(world: World) -> None:
    world.publish(cluster("a"), cluster("b"))
    world.publish(Drop(Kind.CLUSTER, "a"), Drop(Kind.CLUSTER, "b"))
    world.publish(cluster("a", timeout_s=2.0))
    for _ in range(5):
        world.turn()
    found = world.engine.context.clusters.get("a")
    assert found is not None
    assert found.spec.connect_timeout_s == 2.0
    assert world.engine.context.clusters.get("b") is None


def hosts(name: str, *ports: int) -> Put:
    raw = msgspec.msgpack.encode(tuple(Endpoint(Address("127.0.0.1", port)) for port in ports))
    return Put(make_item(Kind.ENDPOINTS, name, Endpoints(name, (Locality(raw, endpoints=msgspec.Raw(raw)),))))


@pytest.mark.parametrize("policy", [Maglev(), RingHash(minimum_ring_size=60_000)], ids=["maglev", "ring"])
def test_large_tables_are_built_in_steps_while_the_old_ones_serve(world: World, policy: Maglev | RingHash) -> None:
    engine = world.engine
    world.engine.stage(Put(make_item(Kind.CLUSTER, "a", Cluster("a", Discovery.EDS, balancing=policy))))
    engine.stage(hosts("a", 1))
    assert sum(1 for _ in engine.build()) > 50
    engine.publish(1)
    found = engine.context.clusters.get("a")
    assert found is not None

    def ports(found: UpstreamCluster) -> set[int]:
        chosen = [found.choose_host(LbContext(hash << 55)) for hash in range(500)]
        return {host.address.port for host in chosen if host is not None}

    assert ports(found) == {1}
    engine.stage(hosts("a", 2, 3))
    steps = engine.build()
    for _ in range(20):
        next(steps)
        assert ports(found) == {1}
    engine.stage(hosts("a", 4, 5, 6))  # and what is being made for nobody any more is not finished
    assert sum(1 for _ in steps) < 300
    assert ports(found) == {4, 5, 6}
    engine.stage(hosts("a", 7, 8))
    engine.publish(2)
    world.publish(Drop(Kind.CLUSTER, "a"))
    while world.clusters:
        world.turn()
    assert list(engine.build()) == []
