"""What dies takes only its own with it: workers, the agent, Pilot, and pushes that make no sense or are far too large.

The short forms assert what nobody may notice; `make soak` adds wrk and prints latencies before, during and after.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mosn_xds.pilot.resources import CLUSTER, ENDPOINTS, LISTENER, ROUTES
from tests.e2e.load_clients import REQUEST, Callers, Client, CounterWatch, Dialer, ReadinessWatch, WebSocketClient
from tests.e2e.load_mesh import ChangeKind, LoadMesh, unused_clusters
from tests.e2e.load_tools import (
    Wrk,
    WrkResult,
    answers,
    is_alive,
    kill_9,
    percentile,
    print_table,
    private_kib,
    process_name,
    run_s,
    voluntary_switches,
    wait_until,
)
from tests.e2e.load_world import ROOT, LoadWorld, settle, workers
from tests.support.client import Connection
from tests.support.proxies import Proxy

NEW_CONNECTION_LIMIT_S = 1.0


@pytest.fixture
def world(tmp_path: Path) -> Iterator[LoadWorld]:
    with LoadWorld(tmp_path) as made:
        yield made


def failures(*clients: Client) -> list[str]:
    return [f"{client!r}: {failure.what}" for client in clients for failure in client.failures]


def slowest_s(*clients: Client) -> float:
    return max(took for client in clients for _, took in client.times)


def listening_inodes(proxy: Proxy, port: int) -> set[str]:
    """The sockets that listen on the port, by inode: the same ones have the same numbers."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    del proxy
    return {row[9] for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "0A"}


# --- workers ------------------------------------------------------------------------------------------------------------


@pytest.mark.alone
def test_killed_worker_is_replaced_within_a_second_on_the_same_sockets(world: LoadWorld) -> None:
    proxy = world.start()
    port = world.mesh.port
    sockets = listening_inodes(proxy, port)
    assert len(sockets) == 2
    callers, dialer, counters = Callers(port, 12), Dialer(port), CounterWatch(proxy)
    websockets = [WebSocketClient(port) for _ in range(6)]
    with contextlib.ExitStack() as stack:
        for client in (callers, dialer, counters, *websockets):
            stack.enter_context(client)
        wait_until(lambda: callers.answers > 200 and all(client.answers for client in websockets), 10)
        dead, survivor = workers(proxy)
        kill_9(dead)
        wait_until(lambda: len(set(workers(proxy)) - {dead}) == 2, NEW_CONNECTION_LIMIT_S, step_s=0.005)
        settle(proxy)
        answered = callers.answers
        wait_until(lambda: callers.answers > answered + 200, 10)
    assert survivor in workers(proxy)
    assert listening_inodes(proxy, port) == sockets
    # Each connection of the dead worker failed once, and no other did.
    assert len(callers.failures) <= 12
    assert len(dialer.failures) <= 1
    assert sum(bool(client.failures) for client in websockets) < 6
    assert slowest_s(callers, dialer) < NEW_CONNECTION_LIMIT_S
    assert failures(counters) == []


@pytest.mark.alone
def test_all_workers_at_once_are_replaced_and_no_counter_falls(world: LoadWorld) -> None:
    proxy = world.start()
    callers, counters = Callers(world.mesh.port, 8), CounterWatch(proxy)
    with callers, counters:
        wait_until(lambda: callers.answers > 100, 10)
        for pid in workers(proxy):
            kill_9(pid)
        killed_s = time.monotonic()
        wait_until(lambda: any(at > killed_s + 0.5 for at, _ in callers.times), 10)
        time.sleep(1.2)  # a report of each
    assert failures(counters) == []
    # Nobody was there for a moment: the queues of the sockets were, and their clients waited.
    assert len(callers.failures) <= 8
    assert slowest_s(callers) < NEW_CONNECTION_LIMIT_S
    assert proxy.stats("^server.worker_restarts$") == {"server.worker_restarts": 2}


def crash_loop(world: LoadWorld, folder: Path, *, serves_for_s: float, seconds: float) -> None:
    """Worker 0 crashes `serves_for_s` after each start, for so long; asserts that nobody else noticed."""
    folder.mkdir()
    proxy = world.start(engine=("CrashingEngine", folder))
    port = world.mesh.port
    _, survivor = workers(proxy)
    dialers = [Dialer(port) for _ in range(3)]
    with contextlib.ExitStack() as stack:
        for client in dialers:
            stack.enter_context(client)
        time.sleep(0.5)
        (folder / "crash").write_text(str(serves_for_s))
        first, _ = workers(proxy)
        kill_9(first)
        loop_s = time.monotonic()
        time.sleep(seconds)
        (folder / "crash").unlink()
        restarts = proxy.stats("worker_restarts")["server.worker_restarts"]
        wait_until(lambda: len(workers(proxy)) == 2, 40)
        settle(proxy)
        recovered_s = time.monotonic()
        time.sleep(1)
    assert survivor in workers(proxy)
    took = [t for client in dialers for t in client.latencies_ms(loop_s, recovered_s)]
    failed = failures(*dialers)
    rows = [
        (name, len(found), percentile(found, 0.5), percentile(found, 0.99), max(found, default=0.0))
        for name, found in (
            ("before", [t for client in dialers for t in client.latencies_ms(0, loop_s)]),
            (f"crash loop, {restarts} starts", took),
            ("after", [t for client in dialers for t in client.latencies_ms(recovered_s)]),
        )
    ]
    title = f"new connections, one worker of two crashes {serves_for_s:g} s after its start; {len(failed)} failed"
    print_table(title, ("", "connections", "p50 ms", "p99 ms", "max ms"), rows)
    assert max(took) < NEW_CONNECTION_LIMIT_S * 1000
    # One that the worker is serving while it dies cannot be saved: at most one for each client and start.
    assert len(failed) <= len(dialers) * (restarts + 1 if serves_for_s else 1), failed


@pytest.mark.alone
@pytest.mark.parametrize("serves_for_s", [0.0, 0.2])
def test_new_connections_do_not_notice_a_crash_loop(world: LoadWorld, tmp_path: Path, serves_for_s: float) -> None:
    crash_loop(world, tmp_path / "engine", serves_for_s=serves_for_s, seconds=2.0)


@pytest.mark.soak
@pytest.mark.timeout(180)
@pytest.mark.parametrize("serves_for_s", [0.0, 0.2, 1.0])
def test_new_connections_do_not_notice_a_long_crash_loop(world: LoadWorld, tmp_path: Path, serves_for_s: float) -> None:
    crash_loop(world, tmp_path / "engine", serves_for_s=serves_for_s, seconds=30.0)


# --- the agent ----------------------------------------------------------------------------------------------------------


@pytest.mark.alone
def test_orphaned_workers_drain_and_a_new_agent_serves_within_three_seconds(world: LoadWorld) -> None:
    began_s = time.monotonic()
    first = world.start()
    # On a machine that is busy with other things even the first start takes its time.
    limit_s = max(3.0, time.monotonic() - began_s + 1.5)
    port = world.mesh.port
    family = first.pids()
    callers, websocket = Callers(port, 8), WebSocketClient(port)
    with callers, websocket:
        wait_until(lambda: callers.answers > 100 and websocket.answers > 0, 10)
        kill_9(first.process.pid)
        killed_s = time.monotonic()
        second = world.start(wait_ready=False)
        wait_until(lambda: workers(second) and second_serves(second, port), limit_s)
        took_s = time.monotonic() - killed_s
        wait_until(lambda: not any(is_alive(pid) for pid in family), limit_s + 3.0 - took_s)
        gone_s = time.monotonic() - killed_s
        answered = callers.answers
        wait_until(lambda: callers.answers > answered + 100, 5)
    print(f"a new agent serves {took_s:.2f} s after the kill; the old workers are gone after {gone_s:.2f} s")
    # For a moment nobody listened, and where a connection idled its end may have crossed a request on the way, as HTTP allows
    # (RFC 9112, 9.5). But no answer that had begun was cut, and nothing was reset.
    crossed = [failure for failure in callers.failures if failure.what.startswith("closed 0 bytes into answer")]
    assert len(crossed) <= callers.connections
    assert {failure.what.partition(":")[0] for failure in callers.failures if failure not in crossed} <= {"connect"}
    assert failures(websocket) != []  # five seconds, and it was cut


def second_serves(proxy: Proxy, port: int) -> bool:
    """Whether a new connection is answered by this proxy's workers: only they listen."""
    with contextlib.suppress(OSError):
        if proxy.admin("/ready")[0] == 200 and answers(port):
            with Connection(port) as connection:
                connection.send(REQUEST)
                response = connection.read_response()
                return (response.status, response.get("connection")) == (200, None)
    return False


# --- Pilot --------------------------------------------------------------------------------------------------------------


class PilotProcess:
    """A Pilot of its own process, to be killed."""

    def __init__(self, port: int, folder: Path) -> None:
        self.port = port
        command = [sys.executable, "-m", "tests.e2e.load_pilot", str(port), str(folder)]
        self._process = subprocess.Popen(command, cwd=ROOT)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.mark.parametrize("delta", [True, False], ids=["delta", "sotw"])
def test_killed_pilot_costs_nothing_and_its_successor_is_heard(tmp_path: Path, delta: bool) -> None:
    folder = tmp_path / "resources"
    folder.mkdir()
    with LoadWorld(tmp_path, own_pilot=False) as world, contextlib.ExitStack() as stack:
        world.mesh.write(folder)
        pilot = PilotProcess(world.ports.take(), folder)
        stack.callback(pilot.kill)
        wait_until(lambda: answers(pilot.port), 10)
        proxy = world.start(pilot_port=pilot.port, delta=delta)
        callers, websocket = Callers(world.mesh.port, 8), WebSocketClient(world.mesh.port)
        with callers, websocket:
            wait_until(lambda: callers.answers > 100, 10)
            pilot.kill()
            wait_until(lambda: proxy.stats("connected_state")["control_plane.connected_state"] == 0, 5)
            answered = callers.answers
            wait_until(lambda: callers.answers > answered + 300, 10)
            world.mesh.change(ChangeKind.ROUTE)
            world.mesh.change(ChangeKind.LISTENER)
            world.mesh.write(folder)
            successor = PilotProcess(pilot.port, folder)
            stack.callback(successor.kill)
            wait_until(lambda: b"1" in callers.generations, 20)
        assert failures(callers, websocket) == []
        assert_no_defect(proxy)


# --- pushes -------------------------------------------------------------------------------------------------------------


def garbage(good: dict[str, dict[str, bytes]], seed: int) -> dict[str, dict[str, bytes]]:
    """Resources that are none: random bytes, cut and mutated ones, ones of another type."""
    chance = random.Random(seed)
    types = (CLUSTER, ENDPOINTS, LISTENER, ROUTES)
    found: dict[str, dict[str, bytes]] = {}
    samples = [raw for by_name in good.values() for raw in by_name.values()]
    for number in range(24):
        type_url = chance.choice(types)
        raw = chance.choice(samples)
        match number % 4:
            case 0:
                raw = chance.randbytes(chance.randrange(1, 400))
            case 1:
                raw = raw[: chance.randrange(len(raw))]
            case 2:
                mutated = bytearray(raw)
                for _ in range(chance.randrange(1, 20)):
                    mutated[chance.randrange(len(mutated))] = chance.randrange(256)
                raw = bytes(mutated)
        found.setdefault(type_url, {})[f"garbage-{seed}-{number}"] = raw
    return found


def push_garbage(world: LoadWorld, proxy: Proxy, pushes: int) -> list[str]:
    """Pushes garbage beside what is good; what failed meanwhile."""
    # Samples of another name and address: a mutated resource may be a good one, and would then serve.
    port = world.mesh.port
    other = LoadMesh(world.ports.take(), world.mesh.upstream_ports, world.mesh.websocket_port)
    other.name = "else"
    samples = unused_clusters(4)
    for type_url, name, raw in other.encoded():
        samples.setdefault(type_url, {})[name] = raw
    callers, websocket, counters = Callers(port, 8), WebSocketClient(port), CounterWatch(proxy)
    with callers, websocket, counters:
        wait_until(lambda: callers.answers > 50, 10)
        for seed in range(pushes):
            world.mesh.extra = garbage(samples, seed)
            world.change(ChangeKind.ROUTE)
            if seed % 4 == 3:
                wait_until(lambda: b"%d" % world.mesh.state.route in callers.generations, 10)
        world.mesh.extra = {}
        world.change(ChangeKind.ROUTE)
        wait_until(lambda: b"%d" % world.mesh.state.route in callers.generations, 10)
        settle(proxy)
    return failures(callers, websocket, counters)


def assert_no_defect(proxy: Proxy) -> None:
    found = proxy.stats("worker_refusals|task_failures|reactor_failures|worker_restarts")
    assert {"server.agent_task_failures", "server.worker_refusals", "server.worker_restarts"} <= found.keys()
    assert set(found.values()) == {0}, found


@pytest.mark.parametrize("delta", [True, False], ids=["delta", "sotw"])
def test_garbage_is_refused_and_costs_the_others_nothing(world: LoadWorld, delta: bool) -> None:
    proxy = world.start(delta=delta)
    assert push_garbage(world, proxy, 12) == []
    assert world.pilot is not None
    assert world.pilot.nacks
    assert_no_defect(proxy)


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_much_garbage_is_refused_and_costs_the_others_nothing(world: LoadWorld) -> None:
    proxy = world.start()
    assert push_garbage(world, proxy, 1000) == []
    assert_no_defect(proxy)


def test_push_of_a_thousand_clusters_costs_no_request(world: LoadWorld) -> None:
    proxy = world.start()
    unused = unused_clusters(1000)
    callers, websocket = Callers(world.mesh.port, 8), WebSocketClient(world.mesh.port)
    with callers, websocket:
        wait_until(lambda: callers.answers > 50, 10)
        world.mesh.extra = unused
        world.change(ChangeKind.ROUTE)
        wait_until(lambda: b"1" in callers.generations, 20)
        wait_until(lambda: proxy.stats("active_clusters")["cluster_manager.active_clusters"] > 1000, 20)
        settle(proxy)
        world.mesh.extra = {}
        world.change(ChangeKind.ROUTE)
        wait_until(lambda: b"2" in callers.generations, 20)
        settle(proxy)
    assert failures(callers, websocket) == []
    assert_no_defect(proxy)


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.skipif(not Wrk.installed(), reason="needs wrk")
def test_push_of_ten_thousand_clusters_under_wrk(world: LoadWorld) -> None:
    proxy = world.start()
    port = world.mesh.port
    pushes = [unused_clusters(10_000), unused_clusters(10_000, salt=1)]
    rows: list[tuple[str, WrkResult]] = []
    more: list[tuple[object, ...]] = []
    processes = [proxy.process.pid, *workers(proxy)]
    websocket, readiness = WebSocketClient(port), ReadinessWatch(proxy)

    def note(name: str, load: Wrk, since_s: float) -> None:
        rows.append((name, load.result()))
        asked = readiness.latencies_ms(since_s)
        private_mib = [private_kib(pid) // 1024 for pid in processes]
        more.append((name, *private_mib, percentile(asked, 0.99), max(asked)))

    with websocket, readiness:
        note("before", Wrk(port, 8), 0.0)
        for name, extra in (("10,000 new", pushes[0]), ("10,000 changed", pushes[1]), ("10,000 removed", {})):
            load = Wrk(port, 10)
            time.sleep(0.5)
            world.mesh.extra = extra
            started_s = time.monotonic()
            world.change(ChangeKind.ROUTE)
            world.wait_acked(CLUSTER, ROUTES, *((ENDPOINTS,) if extra else ()))
            took_s = time.monotonic() - started_s
            note(f"{name}, acknowledged in {took_s:.1f} s", load, started_s)
        note("after", Wrk(port, 8), time.monotonic())
    print_latencies("a push of 10,000 clusters and their endpoints", rows)
    print_table("", ("", "agent MiB", "worker 0", "worker 1", "/ready p99 ms", "max"), more)
    assert failures(websocket, readiness) == []
    assert [result.failures for _, result in rows] == [0] * len(rows)
    assert_no_defect(proxy)


@pytest.mark.soak
@pytest.mark.timeout(180)
@pytest.mark.skipif(not Wrk.installed(), reason="needs wrk")
def test_latencies_around_the_death_of_a_worker(world: LoadWorld) -> None:
    proxy = world.start()
    port = world.mesh.port
    rows = [("before", Wrk(port, 8).result())]
    load = Wrk(port, 8)
    time.sleep(2)
    for _ in range(3):
        kill_9(workers(proxy)[0])
        time.sleep(1.5)
    rows += [("three times kill -9 of worker 0", load.result()), ("after", Wrk(port, 8).result())]
    print_latencies("kill -9 of a worker under wrk, 32 connections", rows)
    assert rows[0][1].failures == rows[2][1].failures == 0
    # wrk's connections to the dead: each is one error.
    assert rows[1][1].failures <= 3 * 32


def print_latencies(title: str, rows: list[tuple[str, WrkResult]]) -> None:
    cells: list[tuple[Any, ...]] = [
        (name, round(r.requests / r.seconds), r.p50_ms, r.p99_ms, r.max_ms, r.failures) for name, r in rows
    ]
    print_table(title, ("", "requests/s", "p50 ms", "p99 ms", "max ms", "failures"), cells)


# --- signals ------------------------------------------------------------------------------------------------------------


def test_termination_under_load_fails_no_request_and_exits_with_zero(world: LoadWorld) -> None:
    proxy = world.start()
    family = proxy.pids()
    callers = Callers(world.mesh.port, 8)
    callers.start()
    wait_until(lambda: callers.answers > 100, 10)
    proxy.process.terminate()
    wait_until(lambda: callers.reconnects >= 8, 10)  # each was told to go
    callers.stop()
    assert proxy.process.wait(10) == 0
    assert failures(callers) == []
    wait_until(lambda: not any(is_alive(pid) for pid in family), 3)


@pytest.mark.alone
def test_second_termination_ends_everything_at_once(world: LoadWorld) -> None:
    proxy = world.start()
    family = proxy.pids()
    with WebSocketClient(world.mesh.port) as websocket:
        wait_until(lambda: websocket.answers > 0, 5)
        proxy.process.terminate()
        wait_until(lambda: proxy.admin("/ready")[1].strip() == "DRAINING", 5)
        assert process_name(proxy.process.pid)
        asked_s = time.monotonic()
        proxy.process.send_signal(signal.SIGTERM)
        proxy.process.wait(3)
        wait_until(lambda: not any(is_alive(pid) for pid in family), 3)
    assert time.monotonic() - asked_s < 2


# --- what nobody reads, what nobody does ----------------------------------------------------------------------------------


def test_access_log_on_a_pipe_that_nobody_reads_costs_no_request(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    try:
        with LoadWorld(tmp_path, access_log="/dev/stdout") as world:
            proxy = world.start(stdout=writer)
            callers, websocket = Callers(world.mesh.port, 8, pause_s=0.0), WebSocketClient(world.mesh.port)
            with callers, websocket:
                wait_until(lambda: callers.answers > 3000, 30)  # a line is some 150 bytes, a pipe takes 64 KiB
            assert failures(callers, websocket) == []
            assert os.read(reader, 20).startswith(b"[")
            proxy.process.terminate()
            assert proxy.process.wait(10) == 0
    finally:
        os.close(reader)
        os.close(writer)


def test_idle_proxy_sleeps(world: LoadWorld) -> None:
    proxy = world.start()
    measure_idleness(world, proxy, seconds=4.0)


@pytest.mark.soak
@pytest.mark.timeout(180)
def test_idle_proxy_costs_less_than_a_fifth_of_a_percent_of_a_core(world: LoadWorld) -> None:
    proxy = world.start()
    assert measure_idleness(world, proxy, seconds=90.0, settling_s=15.0) < 0.2


def measure_idleness(world: LoadWorld, proxy: Proxy, *, seconds: float, settling_s: float = 4.0) -> float:
    """Percent of a core that all processes need together; asserts that nobody wakes up all the time."""
    with Callers(world.mesh.port, 8) as callers:
        wait_until(lambda: callers.answers > 200, 10)
    time.sleep(settling_s)  # figures settle
    pids = proxy.pids()
    before = [(run_s(pid), voluntary_switches(pid)) for pid in pids]
    time.sleep(seconds)
    after = [(run_s(pid), voluntary_switches(pid)) for pid in pids]
    rows = [
        (process_name(pid), 100 * (last[0] - first[0]) / seconds, (last[1] - first[1]) / seconds)
        for pid, first, last in zip(pids, before, after, strict=True)
    ]
    total = sum(share for _, share, _ in rows)
    print_table(f"idle: {total:.3f} % of a core", ("process", "% of a core", "wake-ups/s"), rows)
    wakes = {name: count for name, _, count in rows}
    assert wakes["mosn-xds-w0"] < 3
    assert wakes["mosn-xds-w1"] < 3
    assert wakes["mosn-xds-spawn"] < 1
    assert wakes["mosn-xds-proxy"] < 40  # most of them are gRPC's
    return total
