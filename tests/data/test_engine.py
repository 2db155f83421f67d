"""The engine as the feed drives it: a generation's removals, however many, hold nobody up."""

import itertools
import random
from collections.abc import Awaitable, Callable

import pytest

from mosn_xds.base.clock import CachedClock
from mosn_xds.base.limits import LimitProvider
from mosn_xds.base.stats import StatRegistry
from mosn_xds.data.engine import Engine
from mosn_xds.data.net.reactor import Reactor
from mosn_xds.data.proxy.context import Task
from mosn_xds.spec.cluster import Cluster, Discovery, Endpoints
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
