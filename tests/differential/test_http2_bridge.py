"""HTTP/2 on both sides: trailers, resets, windows and tunnels from end to end."""

import pytest
from h2.errors import ErrorCodes

from tests.differential.bed import Bed, cluster, http_listener, vhost
from tests.differential.http2_link import Http2Link
from tests.differential.pair import case
from tests.differential.test_http2_upstream import HTTP2, MIRRORED, http2
from tests.differential.world import World
from tests.support.http2_upstream import Http2Exchange, Http2Upstream, answer, refuse, trailers_only

SMALL = {"initial_stream_window_size": 65535, "initial_connection_window_size": 65535}
ROUTES = vhost(
    "all",
    ["*"],
    """
    - match: {prefix: /mirrored}
      route: {cluster: mirrored}
    - match: {prefix: /small}
      route: {cluster: small}
    - match: {prefix: /slow}
      route: {cluster: slow}
    - match: {prefix: /retry}
      route: {cluster: a, retry_policy: {retry_on: "refused-stream,unavailable", num_retries: 2}}
    - match: {prefix: /short}
      route: {cluster: a, timeout: 0.2s}
    - match: {prefix: /}
      route: {cluster: a}
    """,
)
MIRRORED_HERE = {**MIRRORED, "load_assignment": cluster("mirrored", "a")["load_assignment"]}

BED = Bed(
    listeners=[
        http_listener("http", ROUTES),
        http_listener("continue", ROUTES, proxy_100_continue=True),
        http_listener(
            "ws",
            ROUTES,
            upgrade_configs=[{"upgrade_type": "websocket"}],
            http2_protocol_options={"allow_connect": True},
        ),
    ],
    clusters=[
        cluster("a", http=HTTP2),
        cluster("slow", http=HTTP2),
        cluster("small", "a", http={"explicit_http_config": {"http2_protocol_options": SMALL}}),
        MIRRORED_HERE,
    ],
    upstreams={"a": Http2Upstream, "slow": lambda name: Http2Upstream(name, hold_credit=True)},
)


@case("HTTP/2 to HTTP/2: a request, its body and its trailers; the response and its trailers")
@pytest.mark.parametrize("path", ["/", "/mirrored"])
def test_everything(proxy: World, path: str) -> None:
    http2(proxy).script(answer(201, b"there", [("x-a", "b")], trailers=[("x-sum", "5")]))
    with Http2Link(proxy) as link:
        reply = link.request("POST", path, {"te": "trailers"}, b"here", trailers=[("x-req-sum", "4")])
    assert (reply.status, reply.body, reply.trailers) == (201, b"there", [("x-sum", "5")])
    assert (reply.seen.version, reply.seen.body, reply.seen.trailers) == ("HTTP/2", b"here", [("x-req-sum", "4")])
    assert (reply.seen.get("te"), reply.seen.get(":scheme")) == ("trailers", "http")


@case("HTTP/2 to HTTP/2: trailers alone, in either direction")
def test_trailers_alone(proxy: World) -> None:
    http2(proxy).script(answer(200, b"", trailers=[("x-sum", "0")]))
    with Http2Link(proxy) as link:
        reply = link.request("POST", "/", {}, b"", trailers=[("x-req", "1")])
    assert (reply.status, reply.body, reply.trailers, reply.seen.trailers) == (
        200,
        b"",
        [("x-sum", "0")],
        [("x-req", "1")],
    )


@case("HTTP/2 to HTTP/2: a response that ends with its head")
def test_headers_only(proxy: World) -> None:
    http2(proxy).script(trailers_only(("grpc-status", "5"), ("grpc-message", "no%20such")))
    with Http2Link(proxy) as link:
        reply = link.request(
            "POST", "/", {"content-type": "application/grpc", "te": "trailers"}, b"\x00\x00\x00\x00\x00"
        )
    assert (reply.status, reply.get("grpc-status"), reply.trailers) == (200, "5", [])


@case("HTTP/2 to HTTP/2: interim responses")
@pytest.mark.parametrize("listener", ["http", "continue"])
def test_informational(proxy: World, listener: str) -> None:
    http2(proxy).script(answer(informational=[103]))
    with Http2Link(proxy, listener) as link:
        reply = link.request("GET", "/")
    assert reply.status == 200


@case("HTTP/2 to HTTP/2: a reset of the upstream before it answers is an answer")
@pytest.mark.parametrize("code", [ErrorCodes.INTERNAL_ERROR, ErrorCodes.REFUSED_STREAM, ErrorCodes.CANCEL])
def test_upstream_resets_before(proxy: World, code: ErrorCodes) -> None:
    http2(proxy).script(refuse(code))
    with Http2Link(proxy) as link:
        reply = link.request("GET", "/")
    assert reply.status == 503


@case("HTTP/2 to HTTP/2: a reset of the upstream within its answer is a reset")
@pytest.mark.parametrize("code", [ErrorCodes.NO_ERROR, ErrorCodes.INTERNAL_ERROR, ErrorCodes.CANCEL])
def test_upstream_resets_within(proxy: World, code: ErrorCodes) -> None:
    def step(exchange: Http2Exchange) -> None:
        exchange.headers(200)
        exchange.data(b"part")
        exchange.upstream.pause(0.1)
        exchange.reset(code)

    http2(proxy).script(step)
    with Http2Link(proxy) as link:
        reply = link.request("GET", "/")
        assert (reply.status, reply.body) == (200, b"part")
        assert reply.reset is not None
        assert link.request("GET", "/").status == 200


@case("HTTP/2 to HTTP/2: the client's reset goes up, and its neighbours go on")
@pytest.mark.parametrize("answered", [False, True])
def test_client_resets(proxy: World, answered: bool) -> None:
    codes: list[int] = []

    def step(exchange: Http2Exchange) -> None:
        if answered:
            exchange.headers(200)
        codes.append(exchange.wait_reset())

    upstream = http2(proxy)
    upstream.script(step)
    with Http2Link(proxy) as link:
        first = link.send("GET", "/")
        upstream.wait_for(1)
        if answered:
            assert link.raw.read_until(lambda: link.raw.seen(first).status == 200)
        link.raw.reset(first)
        assert upstream.wait_until(lambda: bool(codes))
        reply = link.request("GET", "/")
    assert reply.status == 200
    assert len({request.connection for request in upstream.requests}) == 1
    proxy.await_log("http")
    proxy.note("code", codes)


@case("HTTP/2 to HTTP/2: a time-out resets the stream upstream and answers the client")
def test_timeout(proxy: World) -> None:
    codes: list[int] = []
    upstream = http2(proxy)
    upstream.script(lambda exchange: codes.append(exchange.wait_reset()))
    with Http2Link(proxy) as link:
        assert link.request("GET", "/short").status == 504
    assert upstream.wait_until(lambda: bool(codes))
    proxy.note("code", codes)


@case("HTTP/2 to HTTP/2: retries of a request with a body")
@pytest.mark.parametrize("step", [refuse(read_body=True), trailers_only(("grpc-status", "14"))])
def test_retries(proxy: World, step: object) -> None:
    http2(proxy).script(step, answer())
    with Http2Link(proxy) as link:
        reply = link.request("POST", "/retry", {"content-type": "application/grpc"}, b"\x00\x00\x00\x00\x02hi")
    assert (reply.status, reply.seen.body, reply.log.attempts) == (200, b"\x00\x00\x00\x00\x02hi", "2")


@case("HTTP/2 to HTTP/2: an answer before the request is complete")
def test_early_answer(proxy: World) -> None:
    codes: list[int] = []

    def step(exchange: Http2Exchange) -> None:
        exchange.wait_body(4)
        answer(413, b"enough", early=True)(exchange)
        codes.append(exchange.wait_reset())

    upstream = http2(proxy)
    upstream.script(step)
    with Http2Link(proxy) as link:
        reply = link.reply(link.send("POST", "/", {}, b"more", end=False))
    assert (reply.status, reply.body) == (413, b"enough")
    assert upstream.wait_until(lambda: bool(codes))
    proxy.note("code", codes)


@case("HTTP/2 to HTTP/2: an upstream that does not read gets no more than its window and what is buffered")
def test_slow_upstream(proxy: World) -> None:
    def step(exchange: Http2Exchange) -> None:
        exchange.wait_body(65535)
        exchange.upstream.pause(0.2)
        proxy.note("received before credit", len(exchange.request.body))
        exchange.take_body()
        answer()(exchange)

    http2(proxy, "slow").script(step)
    with Http2Link(proxy) as link:
        assert link.raw.synchronise()  # windows beyond the protocol's own hold from then on
        stream = link.send("POST", "/slow", {}, end=False)
        for number in range(30):
            link.raw.send_frame(0, number == 29, stream, b"u" * 10_000)
        reply = link.reply(stream)
    assert (reply.status, len(reply.seen.body)) == (200, 300_000)


@case("HTTP/2 to HTTP/2: a client that does not read holds back its own stream only")
def test_slow_client(proxy: World) -> None:
    upstream = http2(proxy)
    size = 400_000
    with Http2Link(proxy, refill=False) as link:
        upstream.script(answer(200, b"d" * size), answer())
        slow = link.send("GET", "/small")
        assert link.raw.read_until(lambda: len(link.raw.seen(slow).body) == 65535)
        assert not link.raw.read_until(lambda: len(link.raw.seen(slow).body) > 65535, 0.2)
        link.raw.give(0, 1 << 20)
        assert link.request("GET", "/small").status == 200
        link.raw.give(slow, 1 << 20)
        reply = link.reply(slow)
    assert (reply.status, len(reply.body)) == (200, size)


WEBSOCKET = [("sec-websocket-version", "13")]


@case("HTTP/2 to HTTP/2: a WebSocket")
@pytest.mark.parametrize("ending", ["upstream", "client"])
def test_websocket(proxy: World, ending: str) -> None:
    upstream = http2(proxy)

    def step(exchange: Http2Exchange) -> None:
        exchange.headers(200, [("x-upstream", "a")])
        exchange.wait_body(4)
        exchange.data(b"echo " + exchange.request.body, end=ending == "upstream")
        if ending == "client":
            exchange.read_body()
            exchange.data(b"", end=True)

    upstream.script(step)
    with Http2Link(proxy, "ws") as link:
        fields = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":authority", "test")]
        stream = link.section([*fields, (":path", "/chat"), *WEBSOCKET], end=False)
        assert link.raw.read_until(lambda: link.raw.seen(stream).status == 200)
        link.raw.send_frame(0, 0, stream, b"ping")
        assert link.raw.read_until(lambda: link.raw.seen(stream).body == b"echo ping")
        if ending == "client":
            link.raw.send_frame(0, 1, stream, b"")
        reply = link.reply(stream)
    assert (reply.status, reply.reset) == (200, "NO_ERROR" if ending == "upstream" else None)
    assert (reply.seen.method, reply.seen.get(":protocol")) == ("CONNECT", "websocket")


@case("HTTP/2 to HTTP/2: a WebSocket that the upstream does not want")
def test_websocket_refused(proxy: World) -> None:
    http2(proxy).script(answer(404, b"no socket here", early=True))
    with Http2Link(proxy, "ws") as link:
        fields = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":authority", "test")]
        stream = link.section([*fields, (":path", "/chat"), *WEBSOCKET], end=False)
        reply = link.reply(stream)
    assert reply.status == 404


@case("HTTP/2 to HTTP/2: the upstream's connection breaks, the client's does not")
def test_connection_breaks(proxy: World) -> None:
    upstream = http2(proxy)

    def step(exchange: Http2Exchange) -> None:
        exchange.headers(200)
        exchange.data(b"x")
        exchange.upstream.pause(0.1)
        exchange.link.close()

    upstream.script(step)
    with Http2Link(proxy) as link:
        reply = link.request("GET", "/")
        assert (reply.status, reply.body) == (200, b"x")
        assert reply.reset is not None
        assert link.request("GET", "/").status == 200
