"""generic_proxy's upstream side: connections bound to their clients, connections that end, hosts, figures; route tables by RDS."""

import contextlib
import json
import time

import pytest

from tests.differential.bed import Bed, Config, cluster, endpoint
from tests.differential.pair import case
from tests.differential.rpc_bed import GENERIC, generic_listener, to, tree
from tests.differential.rpc_link import DubboLink, call, dubbo_upstream, reason, tagged
from tests.differential.world import World
from tests.support import dubbo_peer, hessian
from tests.support.dubbo_peer import DubboClient, DubboUpstream, answer
from tests.support.frame_upstream import FrameExchange, close, hang
from tests.support.proxies import ProxyKind
from tests.support.server import PeerGone

ROUTES = tree(
    "Service",
    {
        "shop.Cart": to("a"),
        "shop.Order": to("b"),
        "shop.Dead": to("dead"),
        "shop.Gone": to("gone"),
        "shop.Quick": to("a", timeout="0.3s"),
        "shop.Both": to("both"),
        "shop.Counted": to("counted"),
        "shop.CountedDead": to("counted-dead"),
        "shop.CountedFull": to("counted-full"),
        "shop.Weighted": to("weighted"),
        "shop.OneRequest": to("one-request"),
        "shop.NoRetry": to("no-retry", retry_policy={"num_retries": 2}),
        "shop.OneWaits": to("one-waits"),
        "shop.TwoConnections": to("two-connections"),
        "shop.TwoEach": to("two-each"),
    },
)


def table(version: int, target: str) -> str:
    """The route table that is discovered, as a file."""
    kind = f"type.googleapis.com/{GENERIC}.v3.RouteConfiguration"
    resource = {"@type": kind, "name": "shop", "routes": tree("Service", {"shop.Cart": to(target)})}
    return json.dumps({"version_info": str(version), "resources": [resource]})


def thresholds(**limits: int) -> Config:
    """Circuit breakers of a cluster."""
    return {"thresholds": [limits]}


def from_file(name: str) -> Config:
    """A source of resources: a file in the world's folder."""
    return {"resource_api_version": "V3", "path_config_source": {"path": f"${{log}}/{name}.json"}}


BED = Bed(
    listeners=[
        generic_listener("dubbo", ROUTES),
        generic_listener("bound", ROUTES, router={"bind_upstream_connection": True}),
        generic_listener("discovered", generic_rds={"route_config_name": "shop", "config_source": from_file("rds")}),
    ],
    clusters=[
        cluster("a"),
        cluster("b"),
        cluster("dead", endpoint("closed-port")),
        {**cluster("gone"), "load_assignment": {"cluster_name": "gone", "endpoints": []}},
        cluster("both", "a", "b"),
        cluster(
            "weighted",
            {**endpoint("a"), "load_balancing_weight": 1},
            {**endpoint("b"), "load_balancing_weight": 3},
        ),
        cluster("one-request", "a", circuit_breakers=thresholds(max_requests=1)),
        cluster("no-retry", "a", circuit_breakers=thresholds(max_retries=0)),
        cluster("one-waits", "a", circuit_breakers=thresholds(max_connections=1, max_pending_requests=1)),
        cluster("two-connections", "a", circuit_breakers=thresholds(max_connections=2)),
        cluster("two-each", "a", max_requests_per_connection=2),
        cluster("counted", "c"),
        cluster("counted-dead", endpoint("closed-port")),
        cluster("counted-full", "c", circuit_breakers=thresholds(max_connections=1, max_pending_requests=0)),
    ],
    upstreams={"a": DubboUpstream, "b": DubboUpstream, "c": DubboUpstream},
    files={"rds.json": table(1, "a")},
)


def by_chance(journal: list[str]) -> list[str]:
    """Which host it was is not the same in two runs; the case's own assertions say what must be."""
    del journal
    return []


def by_delay(exchange: FrameExchange) -> None:
    """Answer late to what is called slow."""
    slow = dubbo_peer.parse(exchange.data).method == "slow"
    answer(delay_s=0.2 if slow and exchange.upstream.wait_frames(2) else 0.0)(exchange)


@case("Bound: a client has an upstream connection of its own, for as long as it stays")
def test_bound(proxy: World) -> None:
    links = [DubboLink(proxy, "bound") for _ in range(6)]
    for _ in range(3):
        for link in links:
            assert link.call().value == "a"
    connections = [seen.connection for seen in dubbo_upstream(proxy).frames]
    assert sorted(connections.count(number) for number in set(connections)) == [3] * 6
    for link in links:
        link.raw.close()


@case("Bound: the upstream connection ends with its client")
def test_bound_end(proxy: World) -> None:
    exchanges: list[FrameExchange] = []

    def keep(exchange: FrameExchange) -> None:
        exchanges.append(exchange)
        answer()(exchange)

    dubbo_upstream(proxy).script(keep)
    with DubboLink(proxy, "bound") as link:
        assert link.call().value == "a"
        assert not exchanges[0].wait_gone(0.1)
    assert exchanges[0].wait_gone(3.0)


@case("Bound: the first request chooses the host for all", normalise=by_chance)
def test_bound_choice(proxy: World) -> None:
    with DubboLink(proxy, "bound") as link:
        assert [link.call(service).value for service in ("shop.Order", "shop.Cart", "shop.Order")] == ["b", "b", "b"]
    with DubboLink(proxy, "bound") as link:
        assert len({link.call("shop.Both").value for _ in range(6)}) == 1


@case("Bound: answers come as they are ready")
def test_bound_order(proxy: World) -> None:
    dubbo_upstream(proxy).script(by_delay, by_delay)
    with DubboLink(proxy, "bound") as link:
        link.send(tagged(proxy, 1, method="slow") + tagged(proxy, 2))
        assert [link.read().id, link.read().id] == [2, 1]
    assert len({seen.connection for seen in dubbo_upstream(proxy).frames}) == 1


@case("Bound: what has no route is answered, and nothing else happens")
def test_bound_without_route(proxy: World) -> None:
    with DubboLink(proxy, "bound") as link:
        assert reason(link.call("shop.Nobody")) == "route_not_found"
        assert link.call().value == "a"
        assert reason(link.call("shop.Nobody")) == "route_not_found"
        assert link.call().value == "a"


@case("Bound: one-way requests, too")
def test_bound_one_way(proxy: World) -> None:
    with DubboLink(proxy, "bound") as link:
        link.send(tagged(proxy, 1, one_way=True) + tagged(proxy, 2))
        assert link.read().id == 2
    assert len({seen.connection for seen in dubbo_upstream(proxy).frames}) == 1


@case("Bound: a connection that cannot be had", difference="rpc-bound-failure")
def test_bound_failure(proxy: World) -> None:
    with DubboLink(proxy, "bound") as link:
        assert reason(link.call("shop.Dead")) == "connection_failure"
        if proxy.kind is ProxyKind.ENVOY:
            assert link.closes()
        else:
            assert link.call().value == "a"


@case("Bound: without a host there is nothing to be bound to")
def test_bound_without_host(proxy: World) -> None:
    with DubboLink(proxy, "bound") as link:
        assert reason(link.call("shop.Gone")) == "no_healthy_upstream"
        assert link.call().value == "a"


@case("Bound: when the upstream ends, so does its client's connection", difference="rpc-bound-end")
def test_bound_upstream_ends(proxy: World) -> None:
    dubbo_upstream(proxy).script(answer(), close)
    with DubboLink(proxy, "bound") as link:
        assert link.call().value == "a"
        link.send(tagged(proxy, 2))
        if proxy.kind is not ProxyKind.ENVOY:
            frames = [link.read(), link.read()]  # its answer, and that it is to send no more
            assert {reason(frame) or frame.flag for frame in frames} == {"connection_termination", 0xA2}
        assert link.closes()


@case("Bound: when the upstream ends between requests, so does its client's connection", difference="rpc-bound-end")
def test_bound_upstream_ends_idle(proxy: World) -> None:
    exchanges: list[FrameExchange] = []

    def keep(exchange: FrameExchange) -> None:
        exchanges.append(exchange)
        answer()(exchange)

    dubbo_upstream(proxy).script(keep)
    with DubboLink(proxy, "bound") as link:
        assert link.call().value == "a"
        exchanges[0].close()
        if proxy.kind is not ProxyKind.ENVOY:
            assert link.read().flag == 0xA2
        assert link.closes()


@case("Hosts: the requests of one connection are spread", normalise=by_chance)
def test_spread(proxy: World) -> None:
    with DubboLink(proxy) as link:
        values = [link.call("shop.Both").value for _ in range(40)]
    assert 16 <= values.count("a") <= 24


@case("Hosts: by weight", normalise=by_chance)
def test_weight(proxy: World) -> None:
    with DubboLink(proxy) as link:
        values = [link.call("shop.Weighted").value for _ in range(40)]
    assert 26 <= values.count("b") <= 34


@case("Connections: one that the upstream ended between requests is not used again")
def test_ended_between_requests(proxy: World) -> None:
    upstream = dubbo_upstream(proxy)
    with DubboLink(proxy) as link:
        assert link.call().value == "a"
        upstream.close_connections()
        assert upstream.wait_until(lambda: upstream.open_connections == 0)
        time.sleep(0.05)
        assert link.call().value == "a"


@case("Connections: a request that is given up")
def test_given_up(proxy: World) -> None:
    upstream = dubbo_upstream(proxy)
    upstream.script(hang)
    with DubboLink(proxy) as link:
        assert reason(link.call("shop.Quick")) == "timeout"
        assert link.call().value == "a"
    upstream.close_connections()


@case("Answers: of a client that does not read them", difference="rpc-unread-answers")
def test_unread(proxy: World) -> None:
    upstream = dubbo_upstream(proxy)
    sent: list[int] = []
    body = dubbo_peer.result(dubbo_peer.VALUE, hessian.text("x" * 900_000))

    def say_much(exchange: FrameExchange) -> None:
        answer(body=body)(exchange)
        sent.append(1)

    count = 100
    upstream.script(*[say_much] * count)
    with DubboClient(proxy.listener_port("dubbo")) as client, DubboLink(proxy) as other:
        client.send(b"".join(dubbo_peer.request(id) for id in range(1, count + 1)))
        assert upstream.wait_until(lambda: len(sent) == count, 20.0)
        assert other.call().value == "a"
        read = 0
        with contextlib.suppress(PeerGone):
            while read < count:
                client.read()
                read += 1
    assert (read == count) is (proxy.kind is ProxyKind.ENVOY)


def at_once(proxy: World, service: str, count: int) -> dict[int, str]:
    """What so many requests in one segment are answered with."""
    dubbo_upstream(proxy).script(*[answer(delay_s=0.2)] * count)
    with DubboLink(proxy) as link:
        link.send(b"".join(tagged(proxy, id, service) for id in range(1, count + 1)))
        frames = [link.raw.read() for _ in range(count)]
    return {frame.id: reason(frame) or frame.value for frame in sorted(frames, key=lambda frame: frame.id)}


@case("Breakers: of requests that wait, one may")
def test_pending(proxy: World) -> None:
    assert list(at_once(proxy, "shop.OneWaits", 4).values()) == ["a", "overflow", "overflow", "overflow"]


@case("Breakers: connections; requests wait for one")
def test_connections(proxy: World) -> None:
    assert set(at_once(proxy, "shop.TwoConnections", 5).values()) == {"a"}
    assert len({seen.connection for seen in dubbo_upstream(proxy).frames}) <= 2


@case("Breakers: requests and retries", difference="rpc-breakers")
def test_requests_and_retries(proxy: World) -> None:
    found = list(at_once(proxy, "shop.OneRequest", 3).values())
    assert found == (["a", "a", "a"] if proxy.kind is ProxyKind.ENVOY else ["a", "overflow", "overflow"])
    dubbo_upstream(proxy).forget()
    dubbo_upstream(proxy).script(close)
    reply = call(proxy, "shop.NoRetry")
    assert (reason(reply) or reply.value) == ("a" if proxy.kind is ProxyKind.ENVOY else "connection_termination")


@case("Connections: so many requests each, and no more")
def test_requests_per_connection(proxy: World) -> None:
    upstream = dubbo_upstream(proxy)
    with DubboLink(proxy) as link:
        for _ in range(5):
            assert link.call("shop.TwoEach").value == "a"
    numbers = [seen.connection for seen in upstream.frames]
    assert max(numbers.count(number) for number in numbers) == 2


@case("Statistics of clusters: requests, connections that fail, what does not fit")
def test_cluster_figures(proxy: World) -> None:
    with DubboLink(proxy) as link:
        for _ in range(5):
            link.call("shop.Counted")
        for _ in range(2):
            link.call("shop.CountedDead")
            link.call("shop.CountedFull")
    proxy.expect_stats(
        {
            "cluster.counted.upstream_rq_total": 5,
            "cluster.counted.upstream_rq_active": 0,
            "cluster.counted.upstream_rq_pending_active": 0,
            "cluster.counted-dead.upstream_cx_connect_fail": 2,
            "cluster.counted-dead.upstream_rq_total": 0,
            "cluster.counted-dead.upstream_rq_pending_failure_eject": 2,
            "cluster.counted-full.upstream_rq_pending_overflow": 2,
            "cluster.counted-full.upstream_cx_total": 0,
        }
    )


@case(
    "RDS: a table that comes, and one that replaces it under a connection",
    normalise=lambda journal: [line for line in journal if "saw" not in line],
)
def test_rds(proxy: World) -> None:
    def answered_by(target: str) -> None:
        deadline = time.monotonic() + 10
        while (reply := link.raw_call()).status != 20 or reply.value != target:
            assert time.monotonic() < deadline, str(reply)
            time.sleep(0.02)

    with DubboLink(proxy, "discovered") as link:
        answered_by("a")
        fresh = proxy.folder / "rds.fresh"
        fresh.write_text(table(2, "b"))
        fresh.rename(proxy.folder / "rds.json")
        answered_by("b")
        assert reason(link.call("shop.Order")) == "route_not_found"


@pytest.mark.parametrize("service", ["shop.Cart", "shop.Order"])
@case("Hosts: one cluster's failure is not another's")
def test_apart(proxy: World, service: str) -> None:
    with DubboLink(proxy) as link:
        assert reason(link.call("shop.Dead")) == "connection_failure"
        assert link.call(service).value == {"shop.Cart": "a", "shop.Order": "b"}[service]
    assert call(proxy, service).status == 20
