"""Which host serves a request, and what pools and breakers allow: balancing, health, priorities, limits, reuse."""

import threading
import time
from typing import Any

import pytest

from tests.differential.bed import Bed, Config, cluster, endpoint, http_listener, vhost
from tests.differential.pair import case
from tests.differential.world import Reply, World
from tests.support.server import DeafUpstream
from tests.support.upstream import Upstream, drop, respond


def to(name: str, **route: object) -> Config:
    """A route on `/NAME` to the cluster of that name."""
    return {"name": name, "match": {"path_separated_prefix": f"/{name}"}, "route": {"cluster": name, **route}}


def hashed(name: str, *policies: Config) -> Config:
    """A route with a hash policy."""
    return to(name, hash_policy=list(policies))


HOSTS = ("h1", "h2", "h3", "h4", "h5")


def ring(name: str, **fields: Any) -> Config:
    """A ring-hash cluster of five hosts with keys of their own, as their ports differ between the worlds."""
    keyed = [
        endpoint(host, metadata={"filter_metadata": {"envoy.lb": {"hash_key": f"{host}.example"}}}) for host in HOSTS
    ]
    return cluster(name, *keyed, lb_policy="RING_HASH", **fields)


def weighted(*pairs: tuple[str, int]) -> list[Config]:
    """Endpoints with weights."""
    return [endpoint(host, load_balancing_weight=weight) for host, weight in pairs]


def levels(name: str, *groups: list[Config], **fields: Any) -> Config:
    """A cluster with one group of endpoints per priority."""
    made = cluster(name, **fields)
    made["load_assignment"] = {
        "cluster_name": name,
        "endpoints": [{"priority": number, "lb_endpoints": group} for number, group in enumerate(groups)],
    }
    return made


NO_PANIC: Config = {"common_lb_config": {"healthy_panic_threshold": {"value": 0}}}
ONE_REQUEST: Config = {"circuit_breakers": {"thresholds": [{"max_requests": 1}]}}

BY_HEADER: Config = {"header": {"header_name": "x-key"}}

BED = Bed(
    listeners=[
        http_listener(
            "http",
            vhost(
                "all",
                ["*"],
                [
                    to("round-robin"),
                    to("weights"),
                    to("some-healthy"),
                    to("second-level"),
                    to("third-level"),
                    to("one-request"),
                    to("no-pending"),
                    to("one-connection"),
                    to("high-priority", priority="HIGH"),
                    to("few-per-connection"),
                    to("reuse"),
                    to("slow-connect"),
                    to("dead"),
                    hashed("ring", BY_HEADER),
                    hashed("ring-large", BY_HEADER),
                    hashed("ring-two", BY_HEADER, {"header": {"header_name": "x-more"}}),
                    hashed("ring-terminal", {**BY_HEADER, "terminal": True}, {"header": {"header_name": "x-more"}}),
                    hashed("ring-query", {"query_parameter": {"name": "key"}}),
                    hashed("ring-cookie", {"cookie": {"name": "session"}}),
                    hashed("ring-made-cookie", {"cookie": {"name": "made", "ttl": "60s", "path": "/p"}}),
                    hashed("ring-source", {"connection_properties": {"source_ip": True}}),
                    to("mirrored", request_mirror_policies=[{"cluster": "shadow"}]),
                    to(
                        "mirrored-never",
                        request_mirror_policies=[
                            {
                                "cluster": "shadow",
                                "runtime_fraction": {"default_value": {"numerator": 0, "denominator": "HUNDRED"}},
                            }
                        ],
                    ),
                    to(
                        "mirrored-plain",
                        request_mirror_policies=[{"cluster": "shadow", "disable_shadow_host_suffix_append": True}],
                    ),
                ],
            ),
        )
    ],
    clusters=[
        cluster("round-robin", "h1", "h2", "h3"),
        cluster("weights", *weighted(("h1", 3), ("h2", 1))),
        cluster(
            "some-healthy",
            endpoint("h1", health_status="UNHEALTHY"),
            endpoint("h2", health_status="DRAINING"),
            endpoint("h3", health_status="TIMEOUT"),
            endpoint("h4", health_status="HEALTHY"),
            endpoint("h5", health_status="UNKNOWN"),
            **NO_PANIC,
        ),
        levels("second-level", [endpoint("h1", health_status="UNHEALTHY")], [endpoint("h2")], **NO_PANIC),
        levels(
            "third-level",
            [endpoint("h1", health_status="UNHEALTHY")],
            [endpoint("h2", health_status="DRAINING")],
            [endpoint("h3")],
            **NO_PANIC,
        ),
        cluster("one-request", "h1", **ONE_REQUEST),
        cluster(
            "no-pending", "h1", circuit_breakers={"thresholds": [{"max_connections": 1, "max_pending_requests": 0}]}
        ),
        cluster(
            "one-connection", "h1", circuit_breakers={"thresholds": [{"max_connections": 1, "max_pending_requests": 5}]}
        ),
        cluster("high-priority", "h1", **ONE_REQUEST),
        cluster("few-per-connection", "h1", http={"common_http_protocol_options": {"max_requests_per_connection": 2}}),
        cluster("reuse", "h1"),
        cluster("slow-connect", endpoint("deaf"), connect_timeout="0.3s"),
        cluster("dead", endpoint("closed-port")),
        ring("ring"),
        ring("ring-large", ring_hash_lb_config={"minimum_ring_size": 5000, "maximum_ring_size": 5000}),
        ring("ring-two"),
        ring("ring-terminal"),
        ring("ring-query"),
        ring("ring-cookie"),
        ring("ring-made-cookie"),
        ring("ring-source"),
        cluster("mirrored", "h1"),
        cluster("mirrored-never", "h1"),
        cluster("mirrored-plain", "h1"),
        cluster("shadow", "h5"),
    ],
    upstreams={**dict.fromkeys(HOSTS, Upstream), "deaf": DeafUpstream},
)


def served_by(proxy: World, path: str, count: int, headers: dict[str, str] | None = None) -> list[str]:
    """The hosts that served `count` requests on one connection, so by one worker; not journalled, as starts are random."""
    hosts = []
    with proxy.connect() as link:
        for _ in range(count):
            link.send(proxy.compose("uncounted", "GET", path, headers or {}, b"", host="test", version="HTTP/1.1"))
            hosts.append(link.raw.read_response().body.decode().strip())
    for name in HOSTS:
        proxy.upstream(name).forget()
    return hosts


def concurrently(proxy: World, path: str, count: int) -> list[Reply]:
    """That many requests at the same time, each on a connection of its own; the replies in order of their status."""
    replies: list[Reply] = []

    def run() -> None:
        with proxy.connect() as link:
            link.send(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
            replies.append(Reply(proxy, "", link.raw.read_response()))

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(replies, key=lambda reply: reply.status)


@case("Round robin: hosts in turn")
def test_round_robin(proxy: World) -> None:
    hosts = served_by(proxy, "/round-robin", 9)
    assert sorted(hosts[:3]) == ["h1", "h2", "h3"]
    assert hosts[3:6] == hosts[:3] == hosts[6:]


@case("Round robin: by weight")
def test_weighted_round_robin(proxy: World) -> None:
    hosts = served_by(proxy, "/weights", 40)
    assert (hosts.count("h1"), hosts.count("h2")) == (30, 10)
    assert "h2 h2" not in " ".join(hosts)


@case("Health: hosts that EDS calls unhealthy, draining or timed out get nothing")
def test_only_healthy_hosts_serve(proxy: World) -> None:
    assert set(served_by(proxy, "/some-healthy", 12)) == {"h4", "h5"}


@case("Priorities: the next level serves when one has no healthy host")
@pytest.mark.parametrize(("path", "host"), [("/second-level", "h2"), ("/third-level", "h3")])
def test_the_next_priority_serves(proxy: World, path: str, host: str) -> None:
    assert set(served_by(proxy, path, 8)) == {host}


@case("Ring hash on a header: the same host for each of 100 keys")
@pytest.mark.parametrize("path", ["/ring", "/ring-large"])
def test_ring_hash_on_a_header(proxy: World, path: str) -> None:
    picks = []
    with proxy.connect() as link:
        for number in (*range(100), *range(10)):
            headers = {"x-key": f"key-{number}"}
            link.send(proxy.compose("uncounted", "GET", path, headers, b"", host="test", version="HTTP/1.1"))
            picks.append(link.raw.read_response().body.decode().strip())
    for name in HOSTS:
        proxy.upstream(name).forget()
    assert set(picks) == set(HOSTS)
    assert picks[100:] == picks[:10]
    proxy.note("picks", picks)


@case("Hash policy: several are combined, a terminal one ends them, a missing one is left out")
@pytest.mark.parametrize(
    ("path", "hosts"),
    [("/ring-two", ["h5", "h4", "h2", "h1", "h4", "h2"]), ("/ring-terminal", ["h2", "h2", "h2", "h1", "h4", "h2"])],
)
def test_hash_policies_combine(proxy: World, path: str, hosts: list[str]) -> None:
    keys = [("a", "1"), ("a", "2"), ("b", "1"), (None, "1"), (None, "2"), ("c", None)]
    picks = []
    for first, second in keys:
        headers = {k: v for k, v in (("x-key", first), ("x-more", second)) if v is not None}
        picks.append(proxy.get(path, headers).text.strip())
    assert picks == hosts


@case("Hash policy: a repeated header hashes its values in order of their text")
def test_hash_of_a_repeated_header(proxy: World) -> None:
    def pick(first: str, second: str) -> str:
        return proxy.get("/ring", [("x-key", first), ("x-key", second)]).text

    for first, second in [("a", "b"), ("c", "d"), ("e", "f"), ("g", "h")]:
        assert pick(first, second) == pick(second, first)


@case("Hash policy: query parameter")
def test_hash_of_a_query_parameter(proxy: World) -> None:
    picks = [proxy.get(f"/ring-query?key={number}&x={number}").text for number in range(12)]
    assert len(set(picks)) > 1
    assert proxy.get("/ring-query?key=3&x=other").text == picks[3]


@case("Hash policy: cookie")
def test_hash_of_a_cookie(proxy: World) -> None:
    picks = [proxy.get("/ring-cookie", {"cookie": f"a=b; session={number}"}).text for number in range(12)]
    assert len(set(picks)) > 1
    assert proxy.get("/ring-cookie", {"cookie": "session=3"}).text == picks[3]


@case("Hash policy: a cookie with a ttl is made where absent")
def test_a_cookie_is_made(proxy: World) -> None:
    with proxy.connect() as link:
        link.send(b"GET /ring-made-cookie HTTP/1.1\r\nHost: test\r\n\r\n")
        response = link.raw.read_response()
    proxy.await_log("http")
    for host in HOSTS:
        proxy.upstream(host).forget()
    cookie = response.get("set-cookie") or ""
    name, _, rest = cookie.partition("=")
    value, _, attributes = rest.partition(";")
    assert (name, attributes.strip()) == ("made", "Max-Age=60; Path=/p; HttpOnly")
    assert len(value.strip('"')) == 16
    assert proxy.get("/ring-made-cookie", {"cookie": "made=0123456789abcdef"}).get("set-cookie") is None


@case("Hash policy: source address")
def test_hash_of_the_source_address(proxy: World) -> None:
    picks = [proxy.request(path="/ring-source", source=f"127.0.2.{number}").text for number in range(1, 13)]
    assert len(set(picks)) > 1
    assert proxy.request(path="/ring-source", source="127.0.2.3").text == picks[2]


@case("Circuit breaker: max_requests answers 503 with x-envoy-overloaded")
def test_max_requests(proxy: World) -> None:
    proxy.upstream("h1").script(respond(delay_s=0.5))
    with proxy.connect() as first, proxy.connect() as second:
        first.send(b"GET /one-request HTTP/1.1\r\nHost: test\r\n\r\n")
        proxy.upstream("h1").wait_for(1)
        refused = second.request(path="/one-request")
        assert (refused.status, refused.get("x-envoy-overloaded")) == (503, "true")
        assert refused.text == "upstream connect error or disconnect/reset before headers. reset reason: overflow"
        assert (refused.log.flags, refused.log.details) == ("UO", "upstream_reset_before_response_started{overflow}")
        assert first.reply().status == 200
        assert second.request(path="/one-request").status == 200


@case("Circuit breaker: max_requests holds for one priority alone")
def test_breakers_are_per_priority(proxy: World) -> None:
    proxy.upstream("h1").script(respond(delay_s=0.4), respond(delay_s=0.4))
    assert [reply.status for reply in concurrently(proxy, "/high-priority", 2)] == [200, 200]
    proxy.await_log("http", 2)


@case("Circuit breaker: a request that would have to wait is refused with max_pending_requests 0")
def test_max_pending(proxy: World) -> None:
    reply = proxy.get("/no-pending")
    assert (reply.status, reply.log.flags) == (503, "UO")


@case("Circuit breaker: max_connections makes requests wait for the one connection")
def test_max_connections(proxy: World) -> None:
    proxy.upstream("h1").script(respond(delay_s=0.2), respond(delay_s=0.2), respond(delay_s=0.2))
    replies = concurrently(proxy, "/one-connection", 3)
    assert [reply.status for reply in replies] == [200, 200, 200]
    # A worker always may have one connection to a host, so two workers have two at most.
    assert len({request.connection for request in proxy.upstream("h1").requests}) <= 2
    proxy.await_log("http", 3)


@case("Pools: connections are used again")
def test_upstream_connections_are_reused(proxy: World) -> None:
    with proxy.connect() as link:
        connections = {link.request(path="/reuse").seen.connection for _ in range(5)}
    assert len(connections) == 1


@case("Pools: not after connection: close of the upstream")
def test_a_closed_upstream_connection_is_not_reused(proxy: World) -> None:
    proxy.upstream("h1").script(respond(headers=[("connection", "close")]))
    with proxy.connect() as link:
        first = link.request(path="/reuse").seen
        second = link.request(path="/reuse").seen
    assert first.connection != second.connection


@case("Pools: max_requests_per_connection")
def test_an_upstream_connection_serves_so_many_requests(proxy: World) -> None:
    with proxy.connect() as link:
        numbers = [link.request(path="/few-per-connection").seen.connection for _ in range(6)]
    assert [numbers.count(number) for number in sorted(set(numbers))] == [2, 2, 2]


@case("Pools: a kept connection that the upstream closes meanwhile costs nothing")
def test_an_idle_connection_that_was_closed(proxy: World) -> None:
    with proxy.connect() as link:
        assert link.request(path="/reuse").status == 200
        proxy.upstream("h1").close_connections()
        assert proxy.upstream("h1").wait_until(lambda: proxy.upstream("h1").open_connections == 0)
        assert not link.raw.closes_within(0.1)
        assert link.request(path="/reuse").status == 200


@case("Pools: a kept connection that is closed as the request comes is a 503 without a retry policy")
def test_a_connection_closed_under_a_request(proxy: World) -> None:
    proxy.upstream("h1").script(respond(), drop())
    with proxy.connect() as link:
        assert link.request(path="/reuse").status == 200
        reply = link.request(path="/reuse")
        assert (reply.status, reply.log.flags) == (503, "UC")


@case("Connect timeout: 503, UF")
def test_connect_timeout(proxy: World) -> None:
    began = time.monotonic()
    reply = proxy.get("/slow-connect")
    assert 0.25 < time.monotonic() - began < 4  # the default is 5 s
    assert reply.status == 503
    assert reply.text == "upstream connect error or disconnect/reset before headers. reset reason: connection timeout"
    assert reply.log.flags == "UF"


@case("Mirroring: the shadow gets the request with its host marked, its answer goes nowhere")
@pytest.mark.parametrize(("host", "marked"), [("shop", "shop-shadow"), ("shop:81", "shop-shadow:81")])
def test_mirroring(proxy: World, host: str, marked: str) -> None:
    proxy.upstream("h5").script(respond(500))
    reply = proxy.request("POST", "/mirrored?q=1", {"x-h": "1"}, b"body", host=host)
    assert (reply.status, reply.text) == (200, "h1\n")
    shadow = proxy.upstream("h5").wait_for(1)[0]
    assert proxy.upstream("h5").wait_until(lambda: shadow.complete)
    assert (shadow.method, shadow.path, shadow.get("host"), shadow.get("x-h")) == ("POST", "/mirrored?q=1", marked, "1")
    assert shadow.body == b"body"


@case("Mirroring: runtime_fraction of nothing")
def test_no_mirroring(proxy: World) -> None:
    assert proxy.get("/mirrored-never").status == 200
    assert proxy.get("/mirrored").status == 200
    assert [request.path for request in proxy.upstream("h5").wait_for(1)] == ["/mirrored"]


@case("Mirroring: disable_shadow_host_suffix_append")
def test_the_shadow_host_may_stay(proxy: World) -> None:
    assert proxy.get("/mirrored-plain", host="shop").status == 200
    assert proxy.upstream("h5").wait_for(1)[0].get("host") == "shop"
