"""The whole proxy as it is started: ready, draining, workers and agents that die, with HTTP through it."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mosn_xds.pilot import Pilot
from mosn_xds.pilot.recording import Replay, read_recording
from tests.e2e.load_tools import process_name
from tests.support.any_secrets import AnySecrets
from tests.support.client import BadResponse, Connection
from tests.support.ports import PortAllocator
from tests.support.proxies import Proxy, ProxyKind
from tests.support.upstream import Exchange, Upstream, respond

PORTS = PortAllocator()
HOST = b"host: a\r\n\r\n"


def socket_address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def bootstrap(port: int, upstream: Upstream, *, admin_port: int) -> dict[str, Any]:
    """A listener that sends everything to the upstream."""
    extensions = "type.googleapis.com/envoy.extensions.filters"
    route = {"match": {"prefix": "/"}, "route": {"cluster": "c"}}
    manager = {
        "@type": f"{extensions}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "route_config": {"virtual_hosts": [{"name": "a", "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{extensions}.http.router.v3.Router"}}
        ],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    hosts = [{"endpoint": {"address": socket_address(upstream.port)}}]
    cluster = {
        "name": "c",
        "type": "STATIC",
        "load_assignment": {"cluster_name": "c", "endpoints": [{"lb_endpoints": hosts}]},
    }
    return {
        "admin": {"address": socket_address(admin_port)},
        "static_resources": {
            "listeners": [{"name": "l", "address": socket_address(port), "filter_chains": [chain]}],
            "clusters": [cluster],
        },
    }


class World:
    """A proxy of two workers, its upstream, and how to talk to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = PORTS.take()
        self.upstream = Upstream("up")
        self.proxies: list[Proxy] = []

    def start(self, *options: str) -> Proxy:
        config = bootstrap(self.port, self.upstream, admin_port=PORTS.take())
        folder = self.folder / str(len(self.proxies))
        # The last option of a kind wins: the drain time of the product, not the tests' short one.
        proxy = Proxy.start(ProxyKind.OURS, config, folder, options=("--drain-time-s", "600", *options))
        self.proxies.append(proxy)
        return proxy

    def connect(self) -> Connection:
        return Connection(self.port)

    def status(self) -> int:
        with self.connect() as connection:
            connection.send(b"GET / HTTP/1.1\r\n" + HOST)
            return connection.read_response().status

    def answers(self) -> bool:
        with contextlib.suppress(OSError):
            return self.status() == 200
        return False

    def close(self) -> None:
        for proxy in self.proxies:
            proxy.stop()
        self.upstream.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def workers(proxy: Proxy) -> list[int]:
    return [pid for pid in proxy.pids() if process_name(pid).startswith("mosn-xds-w")]


def wait_for(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.01)


class Load:
    """Connections that ask again and again, each in a thread; what went wrong on them is written down with its worker."""

    def __init__(self, world: World, connections: int) -> None:
        self.failures: list[str] = []
        self.answers = 0
        self.slowest_s = 0.0
        self._world = world
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(connections)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        while not self._stop.is_set():
            with contextlib.ExitStack() as stack:
                try:
                    start = time.monotonic()
                    connection = stack.enter_context(self._world.connect())
                    while not self._stop.is_set():
                        connection.send(b"GET / HTTP/1.1\r\n" + HOST)
                        response = connection.read_response()
                        self.slowest_s = max(self.slowest_s, time.monotonic() - start)
                        if response.status != 200:
                            self.failures.append(str(response.status))
                        self.answers += 1
                        time.sleep(0.002)
                        start = time.monotonic()
                except (OSError, BadResponse) as error:
                    self.failures.append(repr(error))


@pytest.mark.alone
def test_killed_worker_costs_its_own_connections_only(world: World) -> None:
    proxy = world.start()
    dead, other = workers(proxy)
    with Load(world, 8) as load:
        wait_for(lambda: load.answers > 200)
        os.kill(dead, signal.SIGKILL)
        wait_for(lambda: len(set(workers(proxy)) - {dead}) == 2, 2)
        answers = load.answers
        wait_for(lambda: load.answers > answers + 200)
    assert len(load.failures) <= 8
    assert load.slowest_s < 1.0
    assert other in workers(proxy)
    assert proxy.stats("^server.worker_restarts$") == {"server.worker_restarts": 1}


def test_workers_come_before_the_agent_when_the_cores_are_busy(world: World) -> None:
    proxy = world.start()
    niceness = [os.getpriority(os.PRIO_PROCESS, pid) for pid in workers(proxy)]
    assert max(niceness) < os.getpriority(os.PRIO_PROCESS, proxy.process.pid)


def test_counters_of_the_admin_api_never_fall_when_a_worker_dies(world: World) -> None:
    proxy = world.start()
    for _ in range(20):
        assert world.status() == 200
    name = "http.in.downstream_rq_total"
    wait_for(lambda: proxy.stats("downstream_rq_total").get(name) == 20)
    dead = workers(proxy)
    for pid in dead:
        os.kill(pid, signal.SIGKILL)
    assert proxy.stats("downstream_rq_total").get(name) == 20
    wait_for(lambda: len(set(workers(proxy)) - set(dead)) == 2)
    assert world.status() == 200
    wait_for(lambda: proxy.stats("downstream_rq_total").get(name) == 21)


def test_termination_lets_a_request_finish_and_closes_behind_it(world: World) -> None:
    may_answer = threading.Event()

    def late(exchange: Exchange) -> bool:
        may_answer.wait(20)
        return respond(body=b"late")(exchange)

    world.upstream.script(late)
    proxy = world.start()
    with world.connect() as connection:
        connection.send(b"GET /slow HTTP/1.1\r\n" + HOST)
        world.upstream.wait_for(1)
        proxy.process.terminate()
        wait_for(lambda: proxy.admin("/ready")[1].strip() == "DRAINING")
        # The application beside us may still ask for something; it is told to go elsewhere next time.
        with world.connect() as other:
            other.send(b"GET / HTTP/1.1\r\n" + HOST)
            answer = other.read_response()
            assert (answer.status, answer.get("connection")) == (200, "close")
        may_answer.set()
        response = connection.read_response()
        assert (response.status, response.body, response.get("connection")) == (200, b"late", "close")
    assert proxy.process.wait(10) == 0


@pytest.mark.alone
def test_killed_agent_is_succeeded_on_the_same_port_within_three_seconds(world: World) -> None:
    world.upstream.script(respond(), respond(body=b"late", delay_s=2.0))
    began = time.monotonic()
    first = world.start()
    usual_s = time.monotonic() - began
    orphans = workers(first)
    with world.connect() as connection:
        connection.send(b"GET / HTTP/1.1\r\n" + HOST)
        assert connection.read_response().status == 200
        connection.send(b"GET /slow HTTP/1.1\r\n" + HOST)
        world.upstream.wait_for(2)
        first.process.kill()
        start = time.monotonic()
        world.start()
        assert world.status() == 200
        # On a machine that is busy with other things even the first start takes its time.
        assert time.monotonic() - start < max(3.0, usual_s + 1.5)
        # What the old workers had begun they finish.
        assert connection.read_response().body == b"late"
    wait_for(lambda: not any(Path(f"/proc/{pid}/comm").exists() for pid in orphans), 8)


@contextlib.contextmanager
def spied(folder: Path, command_line: list[str], *prefix: str) -> Iterator[Path]:
    """A proxy whose workers say what they hold and have imported; yields the folder where they do."""
    told = folder / "told"
    told.mkdir()
    root = Path(__file__).resolve().parents[2]
    command = [*prefix, sys.executable, "-m", "tests.process.spying_engine", str(told), *command_line]
    process = subprocess.Popen(command, cwd=folder, env={**os.environ, "PYTHONPATH": str(root)})
    try:
        yield told
    finally:
        process.terminate()
        process.wait(10)


def assert_no_foreign_modules(told: Path) -> None:
    for path in told.glob("*.json"):
        modules = json.loads(path.read_text())["modules"]
        assert "mosn_xds.data.engine" in modules
        assert not {name for name in modules if name.split(".")[0] in ("grpc", "google", "envoy", "xds", "udpa")}


def test_worker_has_imported_neither_grpc_nor_protobuf(world: World, tmp_path: Path) -> None:
    config = tmp_path / "bootstrap.json"
    config.write_text(json.dumps(bootstrap(world.port, world.upstream, admin_port=PORTS.take())))
    with spied(tmp_path, ["-c", str(config), "--concurrency", "2"]) as told:
        wait_for(lambda: len(list(told.glob("*.json"))) == 2, 60)
        wait_for(world.answers, 60)
        assert_no_foreign_modules(told)


@pytest.mark.root
def test_worker_that_serves_what_istiod_sent_has_imported_neither_grpc_nor_protobuf() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root for a network namespace: the recorded ports are fixed")
    recordings = Path(__file__).resolve().parents[1] / "recordings"
    with tempfile.TemporaryDirectory(prefix="mx") as name:  # short: it is part of a unix socket's path
        folder = Path(name)
        proxy = folder / "etc/istio/proxy"
        proxy.mkdir(parents=True)
        shutil.copy(recordings / "bootstrap/sidecar.json", proxy / "envoy-rev.json")
        agent = folder / "var/run/secrets/workload-spiffe-uds"
        agent.mkdir(parents=True)
        pilot = Pilot(AnySecrets(), f"unix:{proxy / 'XDS'}")
        secrets = Pilot(pilot.resources, f"unix:{agent / 'socket'}")
        replay = Replay(read_recording(recordings / "loop/delta.jsonl.gz"), pilot.resources)
        while not replay.done:
            replay.advance()
        arguments = [*(recordings / "bootstrap/sidecar.args").read_text().split(), "--concurrency", "2"]
        namespace = ("unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")
        try:
            with spied(folder, arguments, *namespace) as told:

                def both_hold_the_mesh() -> bool:
                    found = [json.loads(path.read_text())["listeners"] for path in told.glob("*.json")]
                    return len(found) == 2 and all(len(one) == 8 for one in found)

                wait_for(both_hold_the_mesh, 60)
                assert_no_foreign_modules(told)
                assert not pilot.nacks and not secrets.nacks
        finally:
            secrets.stop()
            pilot.stop()


def test_init_only_exits_once_everything_could_serve(world: World) -> None:
    config = bootstrap(world.port, world.upstream, admin_port=PORTS.take())
    proxy = Proxy.start(
        ProxyKind.OURS, config, world.folder / "init", options=("--mode", "init_only"), wait_ready=False
    )
    world.proxies.append(proxy)
    assert proxy.process.wait(20) == 0
    assert "the agent is gone" not in proxy.log_path.read_text()
