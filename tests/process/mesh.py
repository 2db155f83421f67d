"""A supervisor with real workers that run the echo engine, and hand-made Snapshots for them."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from mosn_xds.base.log import Level, LogSettings
from mosn_xds.base.stats import StatRegistry
from mosn_xds.process.hosts import HostTotals
from mosn_xds.process.spawner_link import SpawnerLink
from mosn_xds.process.supervise import Supervisor
from mosn_xds.process.totals import StatTotals
from mosn_xds.spec.cluster import Cluster, Discovery, Endpoints, Locality
from mosn_xds.spec.common import Address
from mosn_xds.spec.feed import Configure
from mosn_xds.spec.listener import Listener
from mosn_xds.spec.snapshot import Kind, Snapshot, make_item

ROOT = Path(__file__).resolve().parents[2]
os.environ["PYTHONPATH"] = str(ROOT)

Spec = Listener | Cluster | Endpoints
KINDS = {Listener: Kind.LISTENER, Cluster: Kind.CLUSTER, Endpoints: Kind.ENDPOINTS}


def snapshot(*specs: Spec, generation: int = 1) -> Snapshot:
    items = [make_item(KINDS[type(spec)], spec.name, spec) for spec in specs]
    return Snapshot(generation, {(item.kind, item.name): item for item in items})


def listener(port: int, *, name: str = "echo", uid: bytes = b"s1", reuse_port: bool = True) -> Listener:
    return Listener(name, (Address("127.0.0.1", port),), socket_uid=uid, reuse_port=reuse_port)


def endpoints(name: str, region: str = "") -> Endpoints:
    return Endpoints(name, (Locality(b"", region=region),))


def cluster(name: str) -> Cluster:
    return Cluster(name, Discovery.STATIC)


@asynccontextmanager
async def supervisor(concurrency: int = 2, *, level: Level = Level.OFF) -> AsyncIterator[Supervisor]:
    """A running supervisor; at the end everything that it started is gone."""
    totals = StatTotals(StatRegistry())
    spawner = SpawnerLink("tests.process.echo_engine:Engine", LogSettings(level=level))
    spawner.start()
    found = Supervisor(Configure(0, concurrency), spawner, totals, HostTotals())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(spawner.run)
        nursery.start_soon(found.run)
        try:
            yield found
        finally:
            found.kill()
            nursery.cancel_scope.cancel()


async def until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    """Wait for what the supervisor will notice; raises trio.TooSlowError."""
    with trio.fail_after(timeout_s):
        while not condition():  # noqa: ASYNC110 - what it waits for is another process's doing
            await trio.sleep(0.005)


async def serving(found: Supervisor, snapshot: Snapshot) -> None:
    number = found.publish(snapshot)
    await until(lambda: found.applied(number))


async def ask(port: int, line: str = "hello", timeout_s: float = 20.0) -> str:
    """The answer to one line on a connection of its own; empty if the connection ends without. Raises OSError."""
    with trio.fail_after(timeout_s):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(line.encode() + b"\n")
            try:
                return (await stream.receive_some()).decode().strip()
            except trio.BrokenResourceError:
                return ""


async def pids_that_answer(port: int, tries: int = 40) -> set[int]:
    """Which workers connections reach."""
    return {int((await ask(port)).split()[0]) for _ in range(tries)}


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def mapped_files(pid: int) -> str:
    return Path(f"/proc/{pid}/maps").read_text()
