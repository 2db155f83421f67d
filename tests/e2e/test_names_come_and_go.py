"""Clusters and listeners whose names are new each time: nothing of them is left when they are gone."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mosn_xds.pilot.resources import CLUSTER, ENDPOINTS, LISTENER
from tests.e2e.load_clients import Callers, CounterWatch
from tests.e2e.load_mesh import ChangeKind, unused_clusters, unused_listeners
from tests.e2e.load_tools import print_table, private_kib, wait_until
from tests.e2e.load_world import LoadWorld, settle, workers
from tests.support.proxies import Proxy


@pytest.fixture
def world(tmp_path: Path) -> Iterator[LoadWorld]:
    with LoadWorld(tmp_path) as made:
        yield made


def push_names(world: LoadWorld, proxy: Proxy, name: str, clusters: int, listeners: int) -> None:
    """These, and no others but the mesh's own, until they serve."""
    world.mesh.extra = {**unused_clusters(clusters, prefix=name), **unused_listeners(listeners, prefix=name)}
    world.change(ChangeKind.ROUTE)
    if clusters:
        world.wait_acked(CLUSTER, ENDPOINTS, LISTENER)
        wait_until(lambda: _has(proxy, f"cluster[.]{name}-{clusters - 1}[.]"), 30)
    settle(proxy)


def _has(proxy: Proxy, pattern: str) -> bool:
    return bool(proxy.stats(pattern))


def test_statistics_of_what_is_removed_vanish_and_those_of_what_stays_never_fall(world: LoadWorld) -> None:
    proxy = world.start("--drain-strategy", "immediate", "--drain-time-s", "1")
    with Callers(world.mesh.port, 4) as callers, CounterWatch(proxy) as counters:
        push_names(world, proxy, "first", 50, 10)
        for pattern in ("cluster[.]first-7[.]upstream_rq_total", "http[.]first-7[.]downstream_rq_total"):
            wait_until(lambda pattern=pattern: _has(proxy, pattern), 10)
        wait_until(lambda: _has(proxy, "listener[.]first-7[.]downstream_cx_total"), 10)
        push_names(world, proxy, "second", 50, 10)
        wait_until(lambda: not _has(proxy, "first-"), 10, step_s=0.2)
        assert _has(proxy, "cluster[.]second-7[.]upstream_rq_total")
        wait_until(lambda: callers.answers > 300, 30)
        total = "http.load.downstream_rq_total"
        wait_until(lambda: proxy.stats(total)[total] >= 300, 10)  # workers report each second
    assert callers.failures == []
    assert counters.failures == []


def test_statistics_of_a_listener_that_goes_stay_until_its_last_connection_has_gone(world: LoadWorld) -> None:
    proxy = world.start("--drain-strategy", "immediate", "--drain-time-s", "1")
    name = "http.load.downstream_cx_active"
    with Callers(world.mesh.port, 2):
        wait_until(lambda: proxy.stats(name).get(name) == 2, 10)
    wait_until(lambda: proxy.stats(name).get(name) == 0, 10)
    total = proxy.stats("load.downstream_rq_total")["http.load.downstream_rq_total"]
    world.change(ChangeKind.NAME)  # another listener with the same address and HTTP prefix: they go on counting
    settle(proxy)
    with Callers(world.mesh.port, 1) as callers:
        wait_until(lambda: callers.answers > 20, 10)
    wait_until(lambda: proxy.stats("load.downstream_rq_total")["http.load.downstream_rq_total"] > total + 20, 10)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_twenty_thousand_names_leave_memory_flat(world: LoadWorld) -> None:
    proxy = world.start("--drain-strategy", "immediate", "--drain-time-s", "1")
    pids = [proxy.process.pid, *workers(proxy)]
    rows: list[tuple[object, ...]] = []
    with Callers(world.mesh.port, 2, pause_s=0.02) as callers:
        for turn in range(40):
            push_names(world, proxy, f"turn-{turn}", 450, 50)
            if turn % 5 == 4:
                rows.append((500 * (turn + 1), *(private_kib(pid) for pid in pids)))
        push_names(world, proxy, "none", 0, 0)
        wait_until(lambda: not _has(proxy, "turn-"), 20, step_s=0.5)
    print_table("private KiB", ("names", "agent", "worker 0", "worker 1"), rows)
    assert callers.failures == []
    # 12 KiB for each of 15,000 names would be 180,000; the agent's memory of parts that it has translated has a bound.
    for first, last, allowed in zip(rows[1][1:], rows[-1][1:], (16_000, 3_000, 3_000), strict=True):
        assert isinstance(first, int)
        assert isinstance(last, int)
        assert last - first < allowed
