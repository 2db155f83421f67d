"""Real RPC peers that are killed, frozen, idle, or hang up: what their calls come to through a proxy (rpc_world.py).

With MOSN_XDS_PEERS=java, which `make peers-java` sets, the peers are Java's.
"""

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.rpc_world import (
    FAMILIES,
    JAVA,
    PACKAGE,
    SERVERS,
    Family,
    Protocol,
    RpcWorld,
    Way,
    eventually,
    skip_without_runtimes,
)
from tests.support.rpc_peers import Calling, PeerClient

KILLED = [
    pytest.param(
        family,
        family.callers[0],
        id=family.name.lower(),
        marks=[pytest.mark.soak] if family in (Family.BOLT_PYTHON, Family.THRIFT_BINARY) else [],
    )
    for family in FAMILIES
]
GOLDEN = Path(__file__).parents[1] / "data/codec/rpc/golden"


@pytest.fixture(scope="module", autouse=True)
def runtimes() -> None:
    skip_without_runtimes()


def golden_oneway(family: Family) -> bytes:
    """A one-way call of `note`, as a client of the family sent it."""
    frames = json.loads((GOLDEN / f"{family.protocol.value}.json").read_text())
    wanted = ("a one-way call", "client", family.callers[0].name)
    return next(bytes.fromhex(one["hex"]) for one in frames if (one["about"], one["from"], one["client"]) == wanted)


def noted_by_both(client: PeerClient) -> int:
    """How many one-way calls the two servers have seen; calls of one client go to them in turn."""
    return sum(int(noted) * times for noted, times in client.call("noted", times=2).values.items())


@pytest.mark.parametrize("family", [Family.BOLT_NODE, Family.DUBBO_NODE])
@pytest.mark.skipif(JAVA, reason="said with Node's peers")
def test_one_way_calls_of_clients_that_hang_up_arrive_although_no_connection_is_there_yet(
    family: Family, tmp_path: Path
) -> None:
    frame = golden_oneway(family)
    with RpcWorld(Way(1), [family], tmp_path) as world:
        for _ in range(10):
            with socket.create_connection(("127.0.0.1", world.port(family))) as client:
                client.sendall(frame)
        client = world.client(family, family.callers[0])
        deadline = time.monotonic() + 5
        while noted_by_both(client) != 10:
            assert time.monotonic() < deadline, noted_by_both(client)


@pytest.mark.parametrize("family,calling", KILLED)
class TestAServerIsKilled:
    """One of two servers ends at once, with calls on their way to it; then it is there again."""

    @pytest.fixture
    def calm(self, family: Family, tmp_path: Path) -> Iterator[RpcWorld]:
        with RpcWorld(Way(1), [family], tmp_path, retries=2) as made:
            yield made

    @pytest.fixture
    def bare(self, family: Family, tmp_path: Path) -> Iterator[RpcWorld]:
        with RpcWorld(Way(1), [family], tmp_path) as made:
            yield made

    def test_with_retries_no_call_fails(self, calm: RpcWorld, family: Family, calling: Calling) -> None:
        if family.has_its_own_proxy:
            pytest.skip("thrift_proxy does not try again")
        client = calm.client(family, calling)
        assert client.call("who", times=10).ok == 10
        running = client.start("slow", 200, times=200, concurrency=50, timeout_ms=15_000)
        eventually(client, "busy", lambda count: int(count) >= 20, service=f"{PACKAGE}.First")
        calm.servers(family)[0].kill()
        report = client.finish(running)
        assert (report.ok, report.errors) == (200, {})
        assert client.call("who", times=10).value == "two"
        self._recovers(calm, family, calling)

    def test_without_retries_calls_on_their_way_fail_and_others_do_not(
        self, bare: RpcWorld, family: Family, calling: Calling
    ) -> None:
        client = bare.client(family, calling)
        client.call("who", times=10)
        running = client.start("slow", 2000, times=40, concurrency=40, timeout_ms=15_000)
        eventually(client, "busy", lambda count: int(count) >= 15, service=f"{PACKAGE}.First")
        bare.servers(family)[0].kill()
        report = client.finish(running)
        # About a half each: those of several connections are spread by several workers.
        assert (set(report.values), report.ok + report.failed) == ({"two"}, 40)
        assert 15 <= report.failed <= 25
        self._recovers(bare, family, calling)

    def _recovers(self, world: RpcWorld, family: Family, calling: Calling) -> None:
        world.restart(family, 0)
        report = world.client(family, calling).call("who", times=20)
        assert (set(report.values), report.errors) == (set(SERVERS), {})


ASKED = [
    pytest.param(family, id=family.name.lower(), marks=[pytest.mark.soak] if family is Family.BOLT_PYTHON else [])
    for family in FAMILIES
    if family.protocol is not Protocol.THRIFT
]


@pytest.mark.parametrize("family", ASKED)
class TestHeartbeatsToServers:
    def test_idle_connections_are_asked_and_live_on(self, family: Family, tmp_path: Path) -> None:
        options = {"heartbeat_interval_s": 0.1, "heartbeat_timeout_s": 5}
        with RpcWorld(Way(1), [family], tmp_path, options=options) as world:
            client = world.client(family, family.callers[0])
            assert set(client.call("who", times=10).values) == set(SERVERS)
            cluster = f"cluster.{family.name.lower()}-all"
            world.await_stat(f"{cluster}.{family.protocol.value}.heartbeat_sent", 10)
            assert set(client.call("who", times=10).values) == set(SERVERS)
            assert world.stat(f"{cluster}.{family.protocol.value}.heartbeat_timeout") == 0
            assert (world.stat(f"{cluster}.upstream_cx_total"), world.stat(f"{cluster}.upstream_cx_destroy")) == (2, 0)

    def test_calls_to_a_server_that_is_frozen_fail_long_before_their_time_out(
        self, family: Family, tmp_path: Path
    ) -> None:
        options = {"heartbeat_interval_s": 0.2, "heartbeat_timeout_s": 0.6}
        with RpcWorld(Way(1), [family], tmp_path, options=options) as world:
            client = world.client(family, family.callers[0])
            assert set(client.call("who", times=10).values) == set(SERVERS)
            frozen = world.servers(family)[0]
            frozen.freeze()
            report = client.call("who", times=20, concurrency=20, timeout_ms=30_000)
            assert (report.values, report.failed) == ({"two": 10}, 10)
            assert report.elapsed_ms < 8000
            frozen.thaw()
            eventually(client, "who", lambda name: name == "one")


@pytest.mark.skipif(not JAVA, reason="what only Java's peers do")
class TestJava:
    @pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name.lower())
    def test_heartbeats_of_an_idle_client_keep_its_connection(self, family: Family, tmp_path: Path) -> None:
        quick = ("-Dbolt.tcp.heartbeat.interval=100", "-Dbolt.tcp.heartbeat.maxtimes=3")
        with RpcWorld(Way(1), [family], tmp_path) as world:
            client = world.new_client(family, family.callers[0], quick if family is Family.BOLT_JAVA else ())
            assert client.call("who", heartbeat_ms=1000).value in SERVERS
            front = f"generic_proxy.{family.name.lower()}"
            world.await_stat(f"{front}.downstream_heartbeat", 3 if family is Family.DUBBO_JAVA else 10, 20)
            assert client.call("who", heartbeat_ms=1000).value in SERVERS
            assert (world.stat(f"{front}.downstream_cx_total"), world.stat(f"{front}.downstream_cx_destroy")) == (1, 0)

    def test_a_dubbo_server_that_ends_says_so_and_no_call_fails(self, tmp_path: Path) -> None:
        family = Family.DUBBO_JAVA
        with RpcWorld(Way(1), [family], tmp_path, retries=2) as world:
            client = world.client(family, Calling.DUBBO_JAVA)
            client.call("who", times=10)
            running = client.start("slow", 100, times=300, concurrency=20, timeout_ms=20_000)
            world.servers(family)[0].terminate()
            report = client.finish(running)
            assert (report.ok, report.errors) == (300, {})
            world.await_stat("cluster.dubbo_java-all.dubbo.goaway_received", 1)
