"""Retries: what is tried again, how often, where, after how long, and what is left when nothing helps."""

import time

import pytest

from tests.differential.bed import Bed, Config, cluster, endpoint, http_listener, vhost
from tests.differential.pair import case
from tests.differential.world import World
from tests.support.upstream import Upstream, drop, raw, respond

CONDITIONS = [
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "envoy-ratelimited",
    "retriable-4xx",
    "refused-stream",
]


def retrying(name: str, target: str = "a", **policy: object) -> Config:
    """A route on `/NAME` with this retry policy."""
    return {"name": name, "match": {"path": f"/{name}"}, "route": {"cluster": target, "retry_policy": policy}}


EXCEPT_TRIED = [
    {
        "name": "envoy.retry_host_predicates.previous_hosts",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
        },
    }
]

ROUTES = [
    *(retrying(condition, retry_on=condition, num_retries=1) for condition in CONDITIONS),
    *(retrying(f"dead-{name}", "dead", retry_on=name, num_retries=1) for name in CONDITIONS),
    retrying("default-number", retry_on="5xx"),
    retrying("three", retry_on="5xx", num_retries=3),
    retrying("zero", retry_on="5xx", num_retries=0),
    retrying("codes", retry_on="retriable-status-codes", retriable_status_codes=[404, 418]),
    retrying(
        "headers",
        retry_on="retriable-headers",
        retriable_headers=[{"name": "x-again", "string_match": {"exact": "yes"}}],
    ),
    retrying(
        "request-headers",
        retry_on="5xx",
        retriable_request_headers=[{"name": "x-may-retry", "present_match": True}],
    ),
    retrying("grpc", retry_on="cancelled,unavailable,deadline-exceeded,internal,resource-exhausted"),
    retrying("several", retry_on="connect-failure,retriable-4xx , nonsense"),
    retrying(
        "back-off", retry_on="5xx", num_retries=4, retry_back_off={"base_interval": "0.2s", "max_interval": "0.2s"}
    ),
    retrying(
        "rate-limited",
        retry_on="retriable-status-codes",
        retriable_status_codes=[429],
        rate_limited_retry_back_off={"reset_headers": [{"name": "retry-after", "format": "SECONDS"}]},
    ),
    retrying(
        "elsewhere",
        "half-dead",
        retry_on="connect-failure",
        num_retries=1,
        retry_host_predicate=EXCEPT_TRIED,
        host_selection_retry_max_attempts=30,
    ),
    retrying("no-retries-left", "no-retries", retry_on="5xx"),
    {"name": "none", "match": {"prefix": "/none"}, "route": {"cluster": "a"}},
]

BED = Bed(
    listeners=[
        http_listener(
            "http",
            vhost("all", ["*"], ROUTES),
            vhost(
                "by-host",
                ["by-host"],
                [
                    {"match": {"path": "/own"}, "route": {"cluster": "a", "retry_policy": {"retry_on": "reset"}}},
                    {"match": {"prefix": "/"}, "route": {"cluster": "a"}},
                ],
                retry_policy={"retry_on": "5xx", "num_retries": 2},
            ),
            vhost(
                "counting",
                ["counting"],
                [retrying("count", retry_on="5xx")],
                include_request_attempt_count=True,
                include_attempt_count_in_response=True,
            ),
            internal_address_config={"cidr_ranges": [{"address_prefix": "10.0.0.0", "prefix_len": 8}]},
        ),
        http_listener(
            "small-buffer",
            vhost("all", ["*"], [retrying("post", retry_on="5xx")]),
            listener_fields={"per_connection_buffer_limit_bytes": 4096},
        ),
    ],
    clusters=[
        cluster("a"),
        cluster("dead", endpoint("closed-port")),
        cluster("half-dead", endpoint("closed-port"), endpoint("a"), lb_policy="RANDOM"),
        cluster("no-retries", "a", circuit_breakers={"thresholds": [{"max_retries": 0}]}),
    ],
    upstreams={"a": Upstream},
)
AS_INTERNAL = {"x-forwarded-for": "10.0.0.1"}


@case("Retry conditions: which answer is tried again")
@pytest.mark.parametrize(
    ("condition", "status", "headers", "retried"),
    [
        ("5xx", 500, [], True),
        ("5xx", 503, [], True),
        ("5xx", 404, [], False),
        ("gateway-error", 500, [], False),
        ("gateway-error", 502, [], True),
        ("gateway-error", 503, [], True),
        ("gateway-error", 504, [], True),
        ("retriable-4xx", 409, [], True),
        ("retriable-4xx", 404, [], False),
        ("retriable-4xx", 503, [], False),
        ("reset", 503, [], False),
        ("connect-failure", 503, [], False),
        ("envoy-ratelimited", 429, [("x-envoy-ratelimited", "true")], True),
        ("envoy-ratelimited", 429, [], False),
        ("5xx", 503, [("x-envoy-ratelimited", "true")], False),
        ("codes", 404, [], True),
        ("codes", 418, [], True),
        ("codes", 503, [], False),
        ("headers", 200, [("x-again", "yes")], True),
        ("headers", 503, [("x-again", "no")], False),
        ("several", 409, [], True),
        ("none", 503, [], False),
    ],
)
def test_retry_on_an_answer(
    proxy: World, condition: str, status: int, headers: list[tuple[str, str]], retried: bool
) -> None:
    proxy.upstream("a").script(respond(status, headers=headers))
    reply = proxy.get(f"/{condition}")
    assert reply.status == (200 if retried else status)
    assert reply.log.attempts == ("2" if retried else "1")


@case("Retry conditions: gRPC statuses in the head of the answer")
@pytest.mark.parametrize(
    ("status", "retried"), [("1", True), ("14", True), ("4", True), ("13", True), ("8", True), ("5", False)]
)
def test_retry_on_a_grpc_status(proxy: World, status: str, retried: bool) -> None:
    proxy.upstream("a").script(
        respond(headers=[("grpc-status", status), ("content-type", "application/grpc")], body=b"")
    )
    reply = proxy.request("POST", "/grpc", {"content-type": "application/grpc", "te": "trailers"})
    assert reply.log.attempts == ("2" if retried else "1")


@case("Retry conditions: which reset is tried again")
@pytest.mark.parametrize(
    ("condition", "retried"),
    [
        ("5xx", True),
        ("gateway-error", True),
        ("reset", True),
        ("reset-before-request", False),
        ("connect-failure", False),
        ("refused-stream", False),
        ("retriable-4xx", False),
    ],
)
def test_retry_on_a_reset(proxy: World, condition: str, retried: bool) -> None:
    proxy.upstream("a").script(drop())
    reply = proxy.get(f"/{condition}")
    if retried:
        assert (reply.status, reply.log.attempts, reply.log.flags) == (200, "2", "-")
    else:
        assert (reply.status, reply.log.attempts, reply.log.flags) == (503, "1", "UC")
        assert reply.text == (
            "upstream connect error or disconnect/reset before headers. reset reason: connection termination"
        )


@case("Retry conditions: which connect failure is tried again")
@pytest.mark.parametrize(
    ("condition", "retried"),
    [
        ("5xx", True),
        ("gateway-error", True),
        ("reset", True),
        ("connect-failure", True),
        ("reset-before-request", True),
        ("refused-stream", False),
        ("retriable-4xx", False),
    ],
)
def test_retry_on_a_connect_failure(proxy: World, condition: str, retried: bool) -> None:
    reply = proxy.get(f"/dead-{condition}")
    assert (reply.status, reply.log.attempts) == (503, "2" if retried else "1")
    reason = "retried and the latest reset reason" if retried else "reset reason"
    start = f"upstream connect error or disconnect/reset before headers. {reason}: remote connection failure"
    assert reply.text.startswith(start)
    assert set(reply.log.flags.split(",")) == ({"UF", "URX"} if retried else {"UF"})


@case("Retry number: num_retries, 1 by default")
@pytest.mark.parametrize(("path", "attempts"), [("/default-number", 2), ("/three", 4), ("/zero", 1)])
def test_the_number_of_retries(proxy: World, path: str, attempts: int) -> None:
    proxy.upstream("a").script(*[respond(503, b"no") for _ in range(6)])
    reply = proxy.get(path)
    assert (reply.status, reply.body, reply.log.attempts) == (503, b"no", str(attempts))
    assert len(proxy.upstream("a").requests) == attempts
    assert reply.log.flags == "URX"


@case("Retry policy: the virtual host's serves routes without one of their own")
def test_the_virtual_hosts_policy(proxy: World) -> None:
    proxy.upstream("a").script(respond(503), respond(503))
    assert proxy.get("/x", host="by-host").log.attempts == "3"
    proxy.upstream("a").script(respond(503))
    assert proxy.get("/own", host="by-host").status == 503


@case("Retry policy: retriable_request_headers")
def test_only_requests_that_ask_for_it_are_retried(proxy: World) -> None:
    proxy.upstream("a").script(respond(503), respond(503))
    reply = proxy.get("/request-headers")
    assert (reply.status, reply.log.attempts) == (503, "1")
    reply = proxy.get("/request-headers", {"x-may-retry": "1"})
    assert (reply.status, reply.log.attempts) == (200, "2")


@case("Retry headers: x-envoy-retry-on and x-envoy-max-retries of an internal client")
def test_an_internal_client_asks_for_retries(proxy: World) -> None:
    proxy.upstream("a").script(respond(503), respond(503))
    headers = {"x-envoy-retry-on": "5xx", "x-envoy-max-retries": "2"}
    reply = proxy.get("/none", {**AS_INTERNAL, **headers})
    assert (reply.status, reply.log.attempts) == (200, "3")
    assert [reply.seen.get(name) for name in headers] == [None, None]


@case("Retry headers: those of an external client are ignored")
def test_an_external_client_cannot_ask_for_retries(proxy: World) -> None:
    proxy.upstream("a").script(respond(503))
    assert proxy.get("/none", {"x-envoy-retry-on": "5xx"}).status == 503


@case("Retry headers: x-envoy-retriable-status-codes, -retriable-header-names, -retry-grpc-on")
def test_an_internal_client_names_what_is_retriable(proxy: World) -> None:
    codes = {"x-envoy-retry-on": "retriable-status-codes", "x-envoy-retriable-status-codes": "418,404"}
    names = {"x-envoy-retry-on": "retriable-headers", "x-envoy-retriable-header-names": "x-again"}
    proxy.upstream("a").script(respond(404))
    assert proxy.get("/none", {**AS_INTERNAL, **codes}).log.attempts == "2"
    proxy.upstream("a").script(respond(headers=[("x-again", "1")]))
    assert proxy.get("/none", {**AS_INTERNAL, **names}).log.attempts == "2"
    proxy.upstream("a").script(respond(headers=[("grpc-status", "14")]))
    assert proxy.get("/none", {**AS_INTERNAL, "x-envoy-retry-grpc-on": "unavailable"}).log.attempts == "2"


@case("Retry back-off: a delay between attempts, random and at most the interval")
def test_retries_back_off(proxy: World) -> None:
    proxy.upstream("a").script(*[respond(503) for _ in range(4)])
    began = time.monotonic()
    reply = proxy.get("/back-off")
    assert (reply.status, reply.log.attempts) == (200, "5")
    # Four delays, each uniform below 0.2 s: all of them tiny or huge would be one in a thousand.
    assert 0.05 < time.monotonic() - began < 1.2


@case("Retry back-off: the upstream may say when (rate_limited_retry_back_off)")
def test_the_upstream_says_when_to_retry(proxy: World) -> None:
    proxy.upstream("a").script(respond(429, headers=[("retry-after", "1")]))
    began = time.monotonic()
    reply = proxy.get("/rate-limited")
    assert (reply.status, reply.log.attempts) == (200, "2")
    assert 0.9 < time.monotonic() - began < 5


@case("Retry host selection: previous_hosts goes elsewhere")
def test_a_retry_avoids_the_host_that_failed(proxy: World) -> None:
    with proxy.connect() as link:
        # Each pick is random, so half of the requests fail first; unless told, half of those would fail again.
        for _ in range(30):
            request = proxy.compose(proxy.next_tag(), "GET", "/elsewhere", {}, b"", host="test", version="HTTP/1.1")
            link.send(request)
            assert link.raw.read_response().status == 200


@case("Retry: the body is sent again")
@pytest.mark.parametrize("size", [10, 100_000])
def test_the_body_is_sent_again(proxy: World, size: int) -> None:
    proxy.upstream("a").script(respond(503))
    body = bytes(range(256)) * (size // 256 + 1)
    reply = proxy.request("POST", "/5xx", body=body)
    assert (reply.status, [seen.body == body for seen in proxy.upstream("a").requests]) == (200, [True, True])


@case("Retry: a chunked body is sent again")
def test_a_chunked_body_is_sent_again(proxy: World) -> None:
    proxy.upstream("a").script(respond(503))
    reply = proxy.request("POST", "/5xx", {"transfer-encoding": "chunked"}, b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
    assert (reply.status, [seen.body for seen in proxy.upstream("a").requests]) == (200, [b"abcde", b"abcde"])


@case("Retry: a body above the buffer limit is not tried again")
def test_a_large_body_is_not_sent_again(proxy: World) -> None:
    proxy.upstream("a").script(respond(503, b"no"))
    reply = proxy.request("POST", "/post", body=b"x" * 50_000, listener="small-buffer")
    assert (reply.status, reply.log.attempts) == (503, "1")
    proxy.upstream("a").script(respond(503, b"no"))
    reply = proxy.request("POST", "/post", body=b"x" * 100, listener="small-buffer")
    assert (reply.status, reply.log.attempts) == (200, "2")


@case("Retry: nothing once the answer has begun")
def test_no_retry_within_an_answer(proxy: World) -> None:
    proxy.upstream("a").script(raw(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello", close=True))
    with proxy.connect() as link:
        reply = link.request(path="/5xx")
        assert (reply.response.complete, reply.log.attempts) == (False, "1")


@case("Retry breaker: max_retries 0 stops retries")
def test_the_retry_breaker(proxy: World) -> None:
    proxy.upstream("a").script(respond(503))
    reply = proxy.get("/no-retries-left")
    assert (reply.status, reply.log.attempts, reply.log.flags) == (503, "1", "UO")


@case("Attempt count: x-envoy-attempt-count to the upstream and to the client")
def test_attempts_are_counted(proxy: World) -> None:
    proxy.upstream("a").script(respond(503))
    reply = proxy.get("/count", host="counting")
    assert reply.get("x-envoy-attempt-count") == "2"
    assert [seen.get("x-envoy-attempt-count") for seen in proxy.upstream("a").requests] == ["1", "2"]
    assert proxy.get("/none").seen.get("x-envoy-attempt-count") is None
