"""Every timer of a request and a connection: when it fires, what the client gets, and what the log says."""

import time

import pytest

from tests.differential.bed import Bed, cluster, http_listener, vhost
from tests.differential.pair import case
from tests.differential.world import World
from tests.support.upstream import Upstream, hang, respond

ROUTES = vhost(
    "all",
    ["*"],
    """
    - {name: short, match: {path: /short}, route: {cluster: a, timeout: 0.3s}}
    - {name: none, match: {path: /none}, route: {cluster: a, timeout: 0s}}
    - name: per-try
      match: {path: /per-try}
      route: {cluster: a, timeout: 5s, retry_policy: {retry_on: 5xx, num_retries: 1, per_try_timeout: 0.3s}}
    - name: per-try-only
      match: {path: /per-try-only}
      route: {cluster: a, timeout: 5s, retry_policy: {retry_on: connect-failure, per_try_timeout: 0.3s}}
    - name: per-try-idle
      match: {path: /per-try-idle}
      route: {cluster: a, timeout: 5s, retry_policy: {retry_on: connect-failure, per_try_idle_timeout: 0.3s}}
    - name: per-try-larger
      match: {path: /per-try-larger}
      route: {cluster: a, timeout: 0.3s, retry_policy: {retry_on: 5xx, num_retries: 3, per_try_timeout: 0.5s}}
    - name: with-retries
      match: {path: /with-retries}
      route: {cluster: a, timeout: 0.5s, retry_policy: {retry_on: 5xx, num_retries: 5}}
    - {name: idle, match: {path: /idle}, route: {cluster: a, timeout: 0s, idle_timeout: 0.3s}}
    - {name: no-idle, match: {path: /no-idle}, route: {cluster: a, timeout: 0s, idle_timeout: 0s}}
    - {name: duration, match: {path: /duration}, route: {cluster: a, max_stream_duration: {max_stream_duration: 0.3s}}}
    - name: grpc-timeout
      match: {path: /grpc-timeout}
      route: {cluster: a, max_stream_duration: {grpc_timeout_header_max: 5s}}
    - {name: default, match: {prefix: /}, route: {cluster: a}}
    """,
)
INTERNAL = {
    "cidr_ranges": [{"address_prefix": "127.0.0.0", "prefix_len": 8}, {"address_prefix": "10.0.0.0", "prefix_len": 8}]
}

BED = Bed(
    listeners=[
        http_listener("http", ROUTES, internal_address_config=INTERNAL),
        http_listener("stream-idle", ROUTES, stream_idle_timeout="0.3s"),
        http_listener("request", ROUTES, request_timeout="0.3s"),
        http_listener("headers", ROUTES, request_headers_timeout="0.3s"),
        http_listener(
            "connection-idle", ROUTES, drain_timeout="0.1s", common_http_protocol_options={"idle_timeout": "0.3s"}
        ),
        http_listener(
            "connection-age",
            ROUTES,
            drain_timeout="0.1s",
            common_http_protocol_options={"max_connection_duration": "0.4s"},
        ),
        http_listener("duration", ROUTES, common_http_protocol_options={"max_stream_duration": "0.3s"}),
        http_listener(
            "upstream-idle", vhost("all", ["*"], "[{name: idle, match: {prefix: /}, route: {cluster: idle}}]")
        ),
        http_listener("upstream-age", vhost("all", ["*"], "[{name: age, match: {prefix: /}, route: {cluster: age}}]")),
    ],
    clusters=[
        cluster("a"),
        cluster("idle", "a", http={"common_http_protocol_options": {"idle_timeout": "0.3s"}}),
        cluster("age", "a", http={"common_http_protocol_options": {"max_stream_duration": "0.3s"}}),
    ],
    upstreams={"a": Upstream},
)

BEFORE_DEFAULT_S = 5.0
"""What ends sooner did not wait for the route's default, 15 s. A busy machine needs more than the time-out."""
AS_INTERNAL = {"x-forwarded-for": "10.0.0.1"}


def seconds_of(began: float) -> float:
    """Time since `began`."""
    return time.monotonic() - began


@case("Route timeout: 504, UT")
def test_route_timeout(proxy: World) -> None:
    proxy.upstream("a").script(hang())
    began = time.monotonic()
    with proxy.connect() as link:
        reply = link.request(path="/short")
        assert 0.25 < seconds_of(began) < BEFORE_DEFAULT_S
        assert (reply.status, reply.body, reply.closed) == (504, b"upstream request timeout", False)
        assert (reply.log.flags, reply.log.details) == ("UT", "response_timeout")
        assert link.request().status == 200


@case("Route timeout: the upstream request is given up with its connection")
def test_a_timed_out_request_closes_its_upstream_connection(proxy: World) -> None:
    proxy.upstream("a").script(hang())
    with proxy.connect() as link:
        assert link.request(path="/short").status == 504
        assert link.request(path="/short").status == 200
    first, second = proxy.upstream("a").wait_for(2)
    assert first.connection != second.connection


@case("Route timeout: starts when the request is complete")
def test_the_route_timeout_waits_for_the_request(proxy: World) -> None:
    proxy.upstream("a").script(respond())
    with proxy.connect() as link:
        link.send(b"POST /short HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\nab")
        assert not link.raw.closes_within(0.5)
        link.send(b"c")
        assert link.reply("POST").status == 200


@case("Route timeout: also while the response body is awaited")
def test_the_route_timeout_cuts_a_slow_body(proxy: World) -> None:
    proxy.upstream("a").script(respond(chunks=[b"first", b"second"], gap_s=0.8))
    with proxy.connect() as link:
        reply = link.request(path="/short")
        assert (reply.status, reply.body, reply.response.complete) == (200, b"first", False)
        assert reply.log.flags == "UT"


@case("Route timeout: 0 switches it off")
def test_no_route_timeout(proxy: World) -> None:
    proxy.upstream("a").script(respond(delay_s=0.5))
    reply = proxy.get("/none")
    assert (reply.status, reply.seen.get("x-envoy-expected-rq-timeout-ms")) == (200, None)


@case("Route timeout: x-envoy-expected-rq-timeout-ms tells the upstream")
@pytest.mark.parametrize(
    ("path", "expected_ms"), [("/short", 300), ("/", 15000), ("/per-try", 300), ("/per-try-larger", 300)]
)
def test_the_upstream_is_told_the_timeout(proxy: World, path: str, expected_ms: int) -> None:
    assert int(proxy.get(path).seen.get("x-envoy-expected-rq-timeout-ms") or 0) == pytest.approx(expected_ms, abs=50)


@case("Route timeout: x-envoy-upstream-rq-timeout-ms of an internal client overrides it")
def test_an_internal_client_sets_the_timeout(proxy: World) -> None:
    proxy.upstream("a").script(hang())
    headers = {**AS_INTERNAL, "x-envoy-upstream-rq-timeout-ms": "200"}
    began = time.monotonic()
    reply = proxy.get(headers=headers)
    assert (reply.status, seconds_of(began) < BEFORE_DEFAULT_S) == (504, True)
    assert reply.seen.get("x-envoy-upstream-rq-timeout-ms") is None


@case("Route timeout: x-envoy-upstream-rq-timeout-alt-response makes it a 204")
def test_the_alternative_response_to_a_timeout(proxy: World) -> None:
    proxy.upstream("a").script(hang())
    reply = proxy.get("/short", {**AS_INTERNAL, "x-envoy-upstream-rq-timeout-alt-response": "1"})
    assert (reply.status, reply.body, reply.log.flags) == (204, b"", "UT")


@case("Route timeout: includes retries")
def test_the_route_timeout_includes_retries(proxy: World) -> None:
    proxy.upstream("a").script(*[respond(503, delay_s=0.3) for _ in range(4)], hang())
    began = time.monotonic()
    reply = proxy.get("/with-retries")
    # The second attempt is under way when the time is over. Were it each attempt's, only the fifth would be too late.
    assert (reply.status, reply.log.flags, reply.log.attempts) == (504, "UT", "2")
    assert seconds_of(began) > 0.4


@case("Per-try timeout: tried again, then served")
def test_a_timed_out_try_is_retried(proxy: World) -> None:
    proxy.upstream("a").script(hang(), respond())
    reply = proxy.get("/per-try")
    assert (reply.status, reply.log.attempts) == (200, "2")


@case("Per-try timeout: 504 when no retry is left, or none is allowed")
@pytest.mark.parametrize(("path", "attempts", "flags"), [("/per-try", "2", "UT,URX"), ("/per-try-only", "1", "UT")])
def test_the_last_try_times_out(proxy: World, path: str, attempts: str, flags: str) -> None:
    proxy.upstream("a").script(hang(), hang())
    reply = proxy.get(path)
    assert (reply.status, reply.text, reply.log.attempts) == (504, "upstream request timeout", attempts)
    assert reply.log.details == "upstream_per_try_timeout"
    assert set(reply.log.flags.split(",")) == set(flags.split(","))


@case("Per-try idle timeout: 504")
def test_per_try_idle_timeout(proxy: World) -> None:
    proxy.upstream("a").script(hang())
    reply = proxy.get("/per-try-idle")
    assert (reply.status, reply.log.details) == (504, "upstream_per_try_idle_timeout")


@case("Per-try timeout: ignored when it is not less than the route's")
def test_a_per_try_timeout_above_the_routes_is_ignored(proxy: World) -> None:
    proxy.upstream("a").script(hang())
    reply = proxy.get("/per-try-larger")
    assert (reply.status, reply.log.attempts, reply.log.details) == (504, "1", "response_timeout")
    assert reply.seen.get("x-envoy-expected-rq-timeout-ms") == "300"


@case("Stream idle timeout: 504 while the response is awaited")
@pytest.mark.parametrize(("listener", "path"), [("http", "/idle"), ("stream-idle", "/none")])
def test_stream_idle_before_a_response(proxy: World, listener: str, path: str) -> None:
    proxy.upstream("a").script(hang())
    reply = proxy.get(path, listener=listener)
    assert (reply.status, reply.text) == (504, "stream timeout")
    assert (reply.log.flags, reply.log.details) == ("SI", "stream_idle_timeout")


@case("Stream idle timeout: 408 while the request is incomplete")
@pytest.mark.parametrize(("listener", "path"), [("http", "/idle"), ("stream-idle", "/none")])
def test_stream_idle_within_a_request(proxy: World, listener: str, path: str) -> None:
    with proxy.connect(listener) as link:
        link.send(b"POST %s HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\nab" % path.encode())
        reply = link.reply("POST", final=True)
        assert (reply.status, reply.text, reply.closed) == (408, "stream timeout", True)
        line = proxy.logs(listener)[0]
        assert (line.flags, line.details) == ("SI", "stream_idle_timeout")


@case("Stream idle timeout: data in either direction rearms it")
def test_data_rearms_the_idle_timer(proxy: World) -> None:
    proxy.upstream("a").script(respond(chunks=[b"1", b"2", b"3", b"4", b"5", b"6"], gap_s=0.1))
    reply = proxy.get("/idle")
    assert (reply.body, reply.response.complete) == (b"123456", True)


@case("Stream idle timeout: a response that stalls is cut")
def test_a_stalled_response_is_cut(proxy: World) -> None:
    proxy.upstream("a").script(respond(chunks=[b"1", b"2"], gap_s=1.0))
    reply = proxy.get("/idle")
    assert (reply.body, reply.response.complete, reply.log.flags) == (b"1", False, "SI")


@case("Stream idle timeout: the route's 0 switches the manager's off")
def test_the_route_switches_idle_off(proxy: World) -> None:
    proxy.upstream("a").script(respond(delay_s=0.6))
    assert proxy.get("/no-idle", listener="stream-idle").status == 200


@case("Request timeout: 408 when the request takes longer")
def test_request_timeout(proxy: World) -> None:
    with proxy.connect("request") as link:
        link.send(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\nab")
        reply = link.reply("POST", final=True)
        assert (reply.status, reply.text, reply.closed) == (408, "request timeout", True)
        line = proxy.logs("request")[0]
        assert line.details == "request_overall_timeout"


@case("Request timeout: disarmed by the end of the request")
def test_the_request_timeout_ends_with_the_request(proxy: World) -> None:
    proxy.upstream("a").script(respond(delay_s=0.6), respond(delay_s=0.6))
    assert proxy.get(listener="request").status == 200
    with proxy.connect("request") as link:
        link.send(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\nab")
        proxy.upstream("a").wait_for(2)
        link.send(b"c")
        assert link.reply("POST").status == 200


@case("Request headers timeout: 408 when the head takes longer")
def test_request_headers_timeout(proxy: World) -> None:
    with proxy.connect("headers") as link:
        link.send(b"POST / HTTP/1.1\r\nHost: te")
        reply = link.reply("POST", final=True)
        assert (reply.status, reply.text, reply.closed) == (408, "request header timeout", True)
        line = proxy.logs("headers")[0]
        assert line.details == "request_header_timeout"


@case("Request headers timeout: a body may take longer")
def test_the_headers_timeout_ends_with_the_head(proxy: World) -> None:
    with proxy.connect("headers") as link:
        link.send(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\nab")
        assert not link.raw.closes_within(0.6)
        link.send(b"c")
        assert link.reply("POST").status == 200


@case("Connection idle timeout: an idle connection is closed without a word, a busy one is not")
def test_connection_idle_timeout(proxy: World) -> None:
    with proxy.connect("connection-idle") as link:
        assert link.closes()
    proxy.upstream("a").script(respond(delay_s=0.7))
    with proxy.connect("connection-idle") as link:
        assert link.request().status == 200
        assert link.closes()


@case("max_connection_duration: the connection is closed when it is old")
def test_an_old_connection_is_closed(proxy: World) -> None:
    with proxy.connect("connection-age") as link:
        assert link.request().status == 200
        assert link.closes()


@case("max_connection_duration: a request in flight is finished with connection: close")
def test_an_old_connection_finishes_its_request(proxy: World) -> None:
    proxy.upstream("a").script(respond(delay_s=0.7))
    with proxy.connect("connection-age") as link:
        reply = link.request()
        assert (reply.status, reply.get("connection"), reply.closed) == (200, "close", True)


@case("max_stream_duration: 504, of the manager and of the route")
@pytest.mark.parametrize(("listener", "path"), [("duration", "/none"), ("http", "/duration")])
def test_max_stream_duration(proxy: World, listener: str, path: str) -> None:
    proxy.upstream("a").script(hang())
    reply = proxy.get(path, listener=listener)
    assert (reply.status, reply.text) == (504, "downstream duration timeout")
    assert (reply.log.flags, reply.log.details) == ("-", "max_duration_timeout")


@case("gRPC timeout: grpc-timeout within grpc_timeout_header_max")
def test_grpc_timeout(proxy: World) -> None:
    proxy.upstream("a").script(hang())
    headers = {"content-type": "application/grpc", "te": "trailers", "grpc-timeout": "200m"}
    began = time.monotonic()
    reply = proxy.request("POST", "/grpc-timeout", headers)
    assert seconds_of(began) < 2
    assert (reply.status, reply.get("grpc-status")) == (200, "4")


@case("Upstream max_stream_duration: 504, UMSDR")
def test_upstream_max_stream_duration(proxy: World) -> None:
    proxy.upstream("a").script(hang())
    reply = proxy.get(listener="upstream-age")
    assert (reply.status, reply.text) == (504, "upstream max stream duration reached")
    assert (reply.log.flags, reply.log.details) == ("UMSDR", "upstream_max_stream_duration_reached")


@case("Upstream idle timeout: an idle pooled connection is closed")
def test_upstream_idle_timeout(proxy: World) -> None:
    before = proxy.upstream("a").open_connections
    assert proxy.get(listener="upstream-idle").status == 200
    assert proxy.upstream("a").wait_until(lambda: proxy.upstream("a").open_connections <= before, 2)
