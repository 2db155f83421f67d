"""The TCP proxy: bytes both ways, ends of streams, failures, limits of time, weights."""

import contextlib
import re
import time

import pytest

from tests.differential.bed import Bed, Config, cluster, endpoint, listener, tcp_proxy
from tests.differential.pair import case
from tests.differential.world import World
from tests.support.server import DeafUpstream
from tests.support.tcp_upstream import TcpExchange, TcpUpstream, answer_after_end, echo


def greet_and_close(exchange: TcpExchange) -> None:
    """Say something, send FIN, read what still comes."""
    exchange.send(b"bye")
    exchange.half_close()
    while exchange.read():
        pass


def greet_and_reset(exchange: TcpExchange) -> None:
    """Close with RST once something came."""
    exchange.read()
    exchange.reset()


def echo_server(name: str) -> TcpUpstream:
    return TcpUpstream(name, behaviour=echo)


def counting_server(name: str) -> TcpUpstream:
    return TcpUpstream(name, behaviour=answer_after_end)


def closing_server(name: str) -> TcpUpstream:
    return TcpUpstream(name, behaviour=greet_and_close)


def resetting_server(name: str) -> TcpUpstream:
    return TcpUpstream(name, behaviour=greet_and_reset)


def tcp(name: str, target: str | None = None, **fields: object) -> Config:
    """A listener with a TCP proxy."""
    return listener(name, tcp_proxy(name, target, **fields))


BED = Bed(
    listeners=[
        tcp("echo", "echo"),
        tcp("counting", "counting"),
        tcp("closing", "closing"),
        tcp("resetting", "resetting"),
        tcp("named", "named"),
        tcp("dead", "dead"),
        tcp("dead-three", "dead-too", max_connect_attempts=3),
        tcp("half-dead", "half-dead", max_connect_attempts=20),
        tcp("deaf", "deaf"),
        tcp("gone", "gone"),
        tcp("unhealthy", "unhealthy"),
        tcp("idle", "echo", idle_timeout="0.5s"),
        tcp("aged", "echo", max_downstream_connection_duration="0.4s"),
        tcp(
            "weights", weighted_clusters={"clusters": [{"name": "named", "weight": 1}, {"name": "other", "weight": 3}]}
        ),
        tcp("all-other", weighted_clusters={"clusters": [{"name": "other", "weight": 7}]}),
        tcp("one-connection", "one-connection"),
    ],
    clusters=[
        cluster("echo"),
        cluster("counting"),
        cluster("closing"),
        cluster("resetting"),
        cluster("named"),
        cluster("other"),
        cluster("dead", endpoint("closed-port")),
        cluster("dead-too", endpoint("closed-port")),
        cluster("half-dead", endpoint("closed-port"), endpoint("named"), lb_policy="RANDOM"),
        cluster("deaf", connect_timeout="0.3s"),
        cluster(
            "unhealthy",
            endpoint("named", health_status="UNHEALTHY"),
            common_lb_config={"healthy_panic_threshold": {"value": 0}},
        ),
        cluster("one-connection", "echo", circuit_breakers={"thresholds": [{"max_connections": 1}]}),
    ],
    upstreams={
        "echo": echo_server,
        "counting": counting_server,
        "closing": closing_server,
        "resetting": resetting_server,
        "named": TcpUpstream,
        "other": TcpUpstream,
        "deaf": DeafUpstream,
    },
)


@case("TCP proxy: bytes flow both ways and are counted")
def test_bytes_flow(proxy: World) -> None:
    with proxy.connect("echo") as link:
        for data in (b"one", b"\x00\xff" * 1000, b"GET / HTTP/1.1\r\n\r\n"):
            link.send(data)
            assert link.raw.read_exactly(len(data)) == data
    proxy.await_log("echo")
    line = proxy.logs("echo")[0]
    assert (line.received, line.sent, line.cluster, line.flags) == ("2021", "2021", "echo", "-")


@case("TCP proxy: the upstream may speak first")
def test_the_upstream_speaks_first(proxy: World) -> None:
    with proxy.connect("named") as link:
        assert link.raw.read_exactly(6) == b"named\n"
    proxy.await_log("named")


@case("TCP proxy: bulk both ways at once")
def test_bulk(proxy: World) -> None:
    data = bytes(range(256)) * 8192
    with proxy.connect("counting") as link:
        link.send(data)
        link.raw.half_close()
        assert link.raw.read_to_end() == str(len(data)).encode()
    proxy.await_log("counting")


@case("TCP proxy: the client's FIN is passed on, and the answer behind it comes back")
def test_half_close_of_the_client(proxy: World) -> None:
    with proxy.connect("counting") as link:
        link.send(b"12345")
        link.raw.half_close()
        assert link.raw.read_to_end() == b"5"
    session = proxy.tcp_upstream("counting").sessions[-1]
    assert session.ended == "fin"
    proxy.await_log("counting")


@case("TCP proxy: the upstream's FIN is passed on, and the client may still send")
def test_half_close_of_the_upstream(proxy: World) -> None:
    with proxy.connect("closing") as link:
        assert link.raw.read_to_end() == b"bye"
        link.send(b"still talking")
        server = proxy.tcp_upstream("closing")
        assert server.wait_until(lambda: bytes(server.sessions[-1].received) == b"still talking")
        link.raw.half_close()
        assert server.wait_until(lambda: server.sessions[-1].ended == "fin")
    proxy.await_log("closing")


@case("TCP proxy: a reset of the upstream ends the client's connection")
def test_reset_of_the_upstream(proxy: World) -> None:
    with proxy.connect("resetting") as link:
        link.send(b"x")
        assert link.closes()
        assert link.raw.was_reset
    proxy.await_log("resetting")


@case("TCP proxy: a reset of the client ends the upstream's connection")
def test_reset_of_the_client(proxy: World) -> None:
    with proxy.connect("echo") as link:
        link.send(b"x")
        assert link.raw.read_exactly(1) == b"x"
        link.raw.reset()
        server = proxy.tcp_upstream("echo")
        assert server.wait_until(lambda: server.sessions[-1].ended is not None)
        assert server.sessions[-1].ended == "reset"
    proxy.await_log("echo")


@case("TCP proxy: connection refused")
def test_connection_refused(proxy: World) -> None:
    with proxy.connect("dead") as link:
        assert link.closes()
    proxy.await_log("dead")
    line = proxy.logs("dead")[0]
    assert (line.flags, line.cluster, line.attempts) == ("UF,URX", "dead", "1")


@case("TCP proxy: max_connect_attempts")
def test_connecting_is_tried_again(proxy: World) -> None:
    with proxy.connect("dead-three") as link:
        assert link.closes()
    proxy.await_log("dead-three")
    assert proxy.logs("dead-three")[0].attempts == "3"
    proxy.expect_stats({"cluster.dead-too.upstream_cx_connect_attempts_exceeded": 1})


@case("TCP proxy: another attempt may meet a host that lives")
def test_another_attempt_succeeds(proxy: World) -> None:
    for _ in range(10):  # with one attempt, each of them would fail by half
        with proxy.connect("half-dead") as link:
            assert link.raw.read_exactly(6) == b"named\n"


@case("TCP proxy: connect timeout")
def test_connect_timeout(proxy: World) -> None:
    began = time.monotonic()
    with proxy.connect("deaf") as link:
        assert link.closes()
    assert 0.25 < time.monotonic() - began < 4  # the default is 5 s
    proxy.await_log("deaf")
    assert proxy.logs("deaf")[0].flags == "UF,URX"


@case("TCP proxy: no such cluster")
def test_no_cluster(proxy: World) -> None:
    with proxy.connect("gone") as link:
        assert link.closes()
    proxy.await_log("gone")
    assert proxy.logs("gone")[0].flags == "NC"


@case("TCP proxy: no healthy upstream")
def test_no_healthy_upstream(proxy: World) -> None:
    with proxy.connect("unhealthy") as link:
        assert link.closes()
    proxy.await_log("unhealthy")
    assert proxy.logs("unhealthy")[0].flags == "UH"


@case("TCP proxy: idle timeout")
def test_idle_timeout(proxy: World) -> None:
    with proxy.connect("idle") as link:
        for _ in range(6):
            link.send(b"x")
            assert link.raw.read_exactly(1) == b"x"
            assert not link.raw.closes_within(0.1)
        assert link.closes()
    proxy.await_log("idle")


def without_sizes(journal: list[str]) -> list[str]:
    """How much is sent before the end is a matter of time."""
    return [re.sub(r"\t\d+\t\d+\t", "\t", line) for line in journal]


@case("TCP proxy: max_downstream_connection_duration", normalise=without_sizes)
def test_maximum_age(proxy: World) -> None:
    with proxy.connect("aged") as link:
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):  # what we sent just then is answered by a reset
            while time.monotonic() - began < 5:
                link.send(b"x")
                if link.raw.read_exactly(1) != b"x":
                    break
                time.sleep(0.05)
        assert 0.3 < time.monotonic() - began < 3
    proxy.await_log("aged")


@case("TCP proxy: weighted clusters")
def test_weighted_clusters(proxy: World) -> None:
    names = []
    for _ in range(60):
        with proxy.connect("weights") as link:
            names.append(link.raw.read_exactly(6))
    # Three quarters of sixty; five standard deviations to either side.
    assert 28 < names.count(b"other\n") < 60
    with proxy.connect("all-other") as link:
        assert link.raw.read_exactly(6) == b"other\n"


@case("TCP proxy: max_connections of the cluster")
def test_max_connections(proxy: World) -> None:
    with proxy.connect("one-connection") as first:
        first.send(b"x")
        assert first.raw.read_exactly(1) == b"x"
        with proxy.connect("one-connection") as second:
            assert second.closes()
    proxy.await_log("one-connection", 2)
    assert {line.flags for line in proxy.logs("one-connection", 2)} == {"-", "UO"}
    with proxy.connect("one-connection") as third:
        third.send(b"y")
        assert third.raw.read_exactly(1) == b"y"


@pytest.mark.parametrize("size", [1, 100_000])
@case("TCP proxy: what was sent before the client left still arrives")
def test_bytes_before_the_end_arrive(proxy: World, size: int) -> None:
    with proxy.connect("counting") as link:
        link.send(b"x" * size)
        link.raw.half_close()
        assert link.raw.read_to_end() == str(size).encode()
