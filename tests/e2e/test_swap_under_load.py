"""A thousand changes to what carries the load, and nobody notices: no request fails, no connection is cut, nothing is kept.

The short forms run a hundred changes in a few seconds with clients of our own, which say exactly what failed; `make soak`
runs the thousand under wrk and prints latencies and memory.
"""

import contextlib
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.load_clients import REQUEST, Callers, Client, Dialer, IdlePool, WebSocketClient
from tests.e2e.load_mesh import ChangeKind, in_turn
from tests.e2e.load_tools import (
    Wrk,
    WrkResult,
    open_descriptors,
    percentile,
    print_table,
    private_kib,
    wait_until,
)
from tests.e2e.load_world import LoadWorld, generations, settle, workers
from tests.support.client import Connection
from tests.support.proxies import Proxy

NOTICED_BY_NOBODY = (
    ChangeKind.ROUTE,
    ChangeKind.CLUSTER,
    ChangeKind.ENDPOINTS,
    ChangeKind.FILTER_CHAIN,
    ChangeKind.LISTENER,
    ChangeKind.SOCKET,
    ChangeKind.NAME,
)

DRAIN_STRATEGIES = ("immediate", "gradual")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[LoadWorld]:
    with LoadWorld(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LoadWorld, Proxy]]:
    """A proxy that drains within a second, for tests that leave it as they found it."""
    with LoadWorld(tmp_path_factory.mktemp("served")) as made:
        yield made, made.start("--drain-strategy", "immediate", "--drain-time-s", "1")


def push_changes(world: LoadWorld, kinds: tuple[ChangeKind, ...], count: int, seconds: float) -> None:
    """So many changes, evenly over the time, the kinds in turn."""
    next_kind = in_turn(*kinds)
    start = time.monotonic()
    for number in range(count):
        world.change(next_kind())
        time.sleep(max(0.0, start + (number + 1) * seconds / count - time.monotonic()))


def push_until_served(
    world: LoadWorld, kinds: tuple[ChangeKind, ...], proxy: Proxy, count: int, since: list[int]
) -> None:
    """Push on until each worker has served so many generations: a busy machine takes several changes for one."""
    next_kind = in_turn(*kinds)
    deadline = time.monotonic() + 30
    while any(now - then < count for then, now in zip(since, generations(proxy), strict=True)):
        assert time.monotonic() < deadline, f"{generations(proxy)} since {since}"
        world.change(next_kind())
        time.sleep(0.05)


def failures(*clients: Client) -> list[str]:
    return [f"{client!r}: {failure.what}" for client in clients for failure in client.failures]


@pytest.mark.alone
@pytest.mark.parametrize("strategy", DRAIN_STRATEGIES)
def test_changes_of_all_kinds_cost_no_request_and_no_connection(world: LoadWorld, strategy: str) -> None:
    proxy = world.start("--drain-strategy", strategy, "--drain-time-s", "1")
    before = generations(proxy)
    port = world.mesh.port
    callers, dialer = Callers(port, 8), Dialer(port)
    idle, websocket = IdlePool(port), WebSocketClient(port)
    with callers, dialer, idle, websocket:
        push_changes(world, NOTICED_BY_NOBODY, 100, 3.0)
        push_until_served(world, NOTICED_BY_NOBODY, proxy, 51, before)
        settle(proxy)
        time.sleep(1.2)  # the last drain ends
    assert failures(callers, dialer, idle, websocket) == []
    assert callers.answers > 200
    assert websocket.answers > 20
    # Not only were the changes pushed: they were served, one after the other, by all workers.
    assert b"%d" % world.mesh.state.route in callers.generations
    assert len(callers.generations) > 10
    # What they drain does end: no client is left on an old chain but the one that may not be cut.
    assert callers.reconnects >= 8
    wait_until(lambda: sum(proxy.stats("total_listeners_draining").values()) == 0, 5)
    assert world.pilot is not None
    assert world.pilot.nacks == []
    assert sum(proxy.stats("worker_refusals|task_failures|reactor_failures").values()) == 0


@pytest.mark.parametrize("shared", [False, True], ids=["socket per worker", "one socket"])
def test_changed_socket_options_cost_no_connection(world: LoadWorld, shared: bool) -> None:
    world.mesh.shared_socket = shared
    world.mesh.push(world.resources)
    proxy = world.start("--drain-strategy", "immediate", "--drain-time-s", "1")
    port = world.mesh.port
    clients = [Callers(port, 8), *(Dialer(port, pause_s=0.0) for _ in range(3)), WebSocketClient(port)]
    before = generations(proxy)
    with contextlib.ExitStack() as stack:
        for client in clients:
            stack.enter_context(client)
        push_changes(world, (ChangeKind.SOCKET,), 40, 2.0)
        push_until_served(world, (ChangeKind.SOCKET,), proxy, 20, before)
        settle(proxy)
    assert failures(*clients) == []
    assert all(client.answers > 20 for client in clients)
    assert world.pilot is not None
    assert world.pilot.nacks == []


@pytest.mark.parametrize("kind", [ChangeKind.FILTER_CHAIN, ChangeKind.LISTENER, ChangeKind.SOCKET, ChangeKind.NAME])
def test_connections_that_nobody_has_accepted_yet_survive_a_change(
    served: tuple[LoadWorld, Proxy], kind: ChangeKind
) -> None:
    world, proxy = served
    frozen = workers(proxy)
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    try:
        with contextlib.ExitStack() as stack:
            waiting = [stack.enter_context(Connection(world.mesh.port)) for _ in range(24)]
            for connection in waiting:
                connection.send(REQUEST)
            world.change(kind)
            time.sleep(0.3)  # the change is on its way to workers that cannot have seen it
            for pid in frozen:
                os.kill(pid, signal.SIGCONT)
            assert [connection.read_response().status for connection in waiting] == [200] * 24
            assert not any(connection.was_reset for connection in waiting)
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)


def test_connection_whose_first_bytes_are_awaited_survives_a_change(served: tuple[LoadWorld, Proxy]) -> None:
    world, proxy = served
    with Connection(world.mesh.port) as connection:
        wait_until(lambda: sum(proxy.stats("downstream_pre_cx_active").values()) == 1, 5)
        for kind in (ChangeKind.FILTER_CHAIN, ChangeKind.LISTENER, ChangeKind.SOCKET):
            world.change_served(kind, proxy)
        connection.send(REQUEST)
        response = connection.read_response()
        assert (response.status, response.get("connection")) == (200, None)


def test_connection_whose_first_bytes_are_awaited_survives_its_listener(served: tuple[LoadWorld, Proxy]) -> None:
    world, proxy = served
    with Connection(world.mesh.port) as connection:
        wait_until(lambda: sum(proxy.stats("downstream_pre_cx_active").values()) == 1, 5)
        world.change_served(ChangeKind.NAME, proxy)  # one listener goes, another one has its address
        connection.send(REQUEST)
        response = connection.read_response()
        assert (response.status, response.get("connection")) == (200, "close")


@pytest.mark.parametrize("kind", [ChangeKind.FILTER_CHAIN, ChangeKind.LISTENER])
def test_drained_connections_end_behind_an_answer_or_idle_at_the_end_of_the_drain(
    served: tuple[LoadWorld, Proxy], kind: ChangeKind
) -> None:
    world, proxy = served
    with Connection(world.mesh.port) as asking, Connection(world.mesh.port) as idle:
        for connection in (asking, idle):
            connection.send(REQUEST)
            assert connection.read_response().get("connection") is None
        changed_s = time.monotonic()
        world.change_served(kind, proxy)
        asking.send(REQUEST)
        response = asking.read_response()
        assert (response.status, response.get("connection")) == (200, "close")
        assert asking.closes_within(1)
        assert idle.closes_within(3)
        assert time.monotonic() - changed_s >= 1
        assert not idle.was_reset


def test_drained_connections_keep_the_routes_that_their_listener_has_left(world: LoadWorld) -> None:
    proxy = world.start("--drain-strategy", "gradual", "--drain-time-s", "600")
    with Connection(world.mesh.port) as connection:
        connection.send(REQUEST)
        assert connection.read_response().status == 200
        world.mesh.table = "another"
        world.mesh.push(world.resources)
        settle(proxy)
        for _ in range(3):
            connection.send(REQUEST)
            assert connection.read_response().status == 200
        assert "another" in proxy.admin("/config_dump")[1]


@pytest.mark.parametrize("kind", [ChangeKind.ROUTE, ChangeKind.CLUSTER, ChangeKind.ENDPOINTS])
def test_changes_behind_the_listener_leave_its_connections_alone(
    served: tuple[LoadWorld, Proxy], kind: ChangeKind
) -> None:
    world, proxy = served
    with Connection(world.mesh.port) as connection:
        for _ in range(4):
            connection.send(REQUEST)
            response = connection.read_response()
            assert (response.status, response.get("connection")) == (200, None)
            world.change_served(kind, proxy)


# --- memory -------------------------------------------------------------------------------------------------------------


class CountedProxy:
    """A proxy whose workers run without a collector and tell how many objects they have."""

    def __init__(self, world: LoadWorld, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        engine = ("CountingEngine", folder)
        self.proxy = world.start("--drain-time-s", "1", "--drain-strategy", "immediate", engine=engine)
        self.objects()  # what telling itself leaves behind once

    def objects(self) -> list[Counter[str]]:
        """By type, worker by worker."""
        for path in self._folder.iterdir():
            path.unlink()
        self.proxy.process.send_signal(signal.SIGUSR1)
        pids = workers(self.proxy)
        wait_until(lambda: all((self._folder / f"{pid}.json").exists() for pid in pids), 10)
        return [Counter(json.loads((self._folder / f"{pid}.json").read_text())) for pid in pids]


def load_and_change(world: LoadWorld, proxy: Proxy, *, requests: int, changes: int) -> None:
    """At least so many requests while so many changes go by; returns when everything has drained."""
    callers = Callers(world.mesh.port, 8, pause_s=0.0)
    pushed = 0
    next_kind = in_turn(*NOTICED_BY_NOBODY)
    with callers, WebSocketClient(world.mesh.port):
        while callers.answers < requests or pushed < changes:
            if pushed < changes and callers.answers >= pushed * requests / changes:
                world.change(next_kind())
                pushed += 1
            time.sleep(0.005)
    world.change(ChangeKind.CLUSTER)  # pooled connections go, however many there were
    settle(proxy)
    time.sleep(1.2)  # the drain
    with contextlib.suppress(TimeoutError):
        wait_until(lambda: not _open_connections(proxy), 10)
    assert _open_connections(proxy) == {}


def _open_connections(proxy: Proxy) -> dict[str, int]:
    return {name: count for name, count in proxy.stats("(downstream|upstream)_cx_active$").items() if count}


def assert_nothing_was_kept(before: list[Counter[str]], after: list[Counter[str]], allowed: int) -> None:
    for first, last in zip(before, after, strict=True):
        grown = Counter(last)
        grown.subtract(first)
        assert sum(grown.values()) < allowed, grown.most_common(12)


def test_requests_and_changes_leave_no_object_behind(world: LoadWorld, tmp_path: Path) -> None:
    counted = CountedProxy(world, tmp_path / "objects")
    load_and_change(world, counted.proxy, requests=1000, changes=60)
    before = counted.objects()
    load_and_change(world, counted.proxy, requests=3000, changes=120)
    # One object per request or per change of any kind would be more.
    assert_nothing_was_kept(before, counted.objects(), 20)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_hundred_thousand_requests_and_a_thousand_changes_leave_memory_flat(world: LoadWorld, tmp_path: Path) -> None:
    counted = CountedProxy(world, tmp_path / "objects")
    load_and_change(world, counted.proxy, requests=5000, changes=200)
    before, before_kib = counted.objects(), [private_kib(pid) for pid in workers(counted.proxy)]
    load_and_change(world, counted.proxy, requests=100_000, changes=1000)
    after, after_kib = counted.objects(), [private_kib(pid) for pid in workers(counted.proxy)]
    rows = [
        (f"worker {slot}", sum(before[slot].values()), sum(after[slot].values()), before_kib[slot], after_kib[slot])
        for slot in range(2)
    ]
    title = "100,000 requests, 1,000 changes, collector off"
    print_table(title, ("", "objects before", "after", "private KiB before", "after"), rows)
    assert_nothing_was_kept(before, after, 60)
    assert all(last - first < 1024 for first, last in zip(before_kib, after_kib, strict=True))


# --- the thousand -------------------------------------------------------------------------------------------------------


@pytest.mark.soak
@pytest.mark.timeout(120)
@pytest.mark.skipif(not Wrk.installed(), reason="needs wrk")
@pytest.mark.parametrize("shared", [False, True], ids=["socket per worker", "one socket"])
@pytest.mark.parametrize("kind", [ChangeKind.SOCKET, ChangeKind.NAME])
def test_two_hundred_changes_of_who_listens_under_wrk(world: LoadWorld, kind: ChangeKind, shared: bool) -> None:
    world.mesh.shared_socket = shared
    world.mesh.push(world.resources)
    proxy = world.start("--drain-strategy", "immediate")
    port = world.mesh.port
    dialers = [Dialer(port, pause_s=0.0) for _ in range(3)]
    with contextlib.ExitStack() as stack:
        for dialer in dialers:
            stack.enter_context(dialer)
        load = Wrk(port, 15)
        try:
            push_changes(world, (kind,), 200, 14.5)
            busy = load.result()
        finally:
            load.kill()
    dialled = sum(dialer.answers for dialer in dialers)
    title = f"200 changes of the {kind.value} in 15 s; {dialled} new connections"
    print_table(title, ("wrk", "requests/s", "p50 ms", "p99 ms", "max ms", "failures"), [_row(busy)])
    assert failures(*dialers) == []
    assert busy.failures == 0, busy
    assert min(generations(proxy)) > 100


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.skipif(not Wrk.installed(), reason="needs wrk")
@pytest.mark.parametrize("strategy", DRAIN_STRATEGIES)
def test_a_thousand_changes_in_thirty_seconds_under_wrk(world: LoadWorld, strategy: str) -> None:
    proxy = world.start("--drain-strategy", strategy)
    port = world.mesh.port
    callers, idle, websocket = Callers(port, 4, pause_s=0.01), IdlePool(port), WebSocketClient(port)
    memory: list[list[int]] = []

    def note_memory() -> None:
        memory.append([private_kib(pid) for pid in workers(proxy)])

    with callers, idle, websocket:
        Wrk(port, 2).result()
        quiet = Wrk(port, 10).result()
        quiet_until_s = time.monotonic()
        push_changes(world, NOTICED_BY_NOBODY, 100, 3.0)  # warm: as many generations drain at once as will
        note_memory()
        load = Wrk(port, 30)
        try:
            started_s = time.monotonic()
            for part in range(10):
                push_changes(world, NOTICED_BY_NOBODY, 100, started_s + 3 * (part + 1) - time.monotonic())
            note_memory()
            busy = load.result()
        finally:
            load.kill()
        time.sleep(3)
        note_memory()
        descriptors = [open_descriptors(pid) for pid in workers(proxy)]
    served = [after for after in generations(proxy)]
    title = f"1,000 changes in 30 s, drain {strategy}; {served[0]} generations served"
    print_table(title, ("wrk", "requests/s", "p50 ms", "p99 ms", "max ms", "failures"), [_row(quiet), _row(busy)])
    names = ("callers", "idle pool", "WebSocket")
    rows = [
        (
            name,
            len(client.latencies_ms(quiet_until_s)),
            percentile(client.latencies_ms(0, quiet_until_s), 0.99),
            percentile(client.latencies_ms(quiet_until_s), 0.99),
            len(client.failures),
        )
        for name, client in zip(names, (callers, idle, websocket), strict=True)
    ]
    print_table("clients", ("", "answers", "p99 ms quiet", "p99 ms changing", "failures"), rows)
    print_table(
        "private KiB of the workers",
        ("", "warm", "after the changes", "drained", "descriptors"),
        [(f"worker {slot}", *(kib[slot] for kib in memory), descriptors[slot]) for slot in range(2)],
    )
    assert failures(callers, idle, websocket) == []
    assert busy.failures == 0, busy
    assert all(last - first < 1024 for first, last in zip(memory[0], memory[-1], strict=True))


def _row(result: WrkResult) -> tuple[object, ...]:
    return (
        f"{result.seconds:.0f} s",
        round(result.requests / result.seconds),
        result.p50_ms,
        result.p99_ms,
        result.max_ms,
        result.failures,
    )
