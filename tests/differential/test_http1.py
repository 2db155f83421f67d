"""HTTP/1.x on the wire: framing, persistence, pipelines, versions, interim responses, trailers, bodiless answers."""

import threading
import time

import pytest

from tests.differential.bed import Bed, cluster, http_listener, vhost
from tests.differential.pair import case
from tests.differential.world import World
from tests.support.proxies import ProxyKind
from tests.support.upstream import Exchange, Upstream, head, raw, respond

ALL = vhost("all", ["*"], "[{name: all, match: {prefix: /}, route: {cluster: a}}]")

BED = Bed(
    listeners=[
        http_listener("http", ALL),
        http_listener(
            "http10", ALL, http_protocol_options={"accept_http_10": True, "default_host_for_http_10": "old.example"}
        ),
        http_listener("continue", ALL, proxy_100_continue=True),
        http_listener(
            "trailers",
            vhost("all", ["*"], "[{name: all, match: {prefix: /}, route: {cluster: trailers}}]"),
            http_protocol_options={"enable_trailers": True},
        ),
        http_listener("delayed", ALL, delayed_close_timeout="1.2s"),
        http_listener("few", ALL, common_http_protocol_options={"max_requests_per_connection": 2}),
    ],
    clusters=[
        cluster("a"),
        cluster("trailers", "a", http={"explicit_http_config": {"http_protocol_options": {"enable_trailers": True}}}),
    ],
    upstreams={"a": Upstream},
)


@case("Bodies: content-length both ways")
@pytest.mark.parametrize("size", [0, 1, 1000, 300_000])
def test_bodies_with_a_length(proxy: World, size: int) -> None:
    body = b"x" * size
    proxy.upstream("a").script(respond(body=body[::-1]))
    reply = proxy.request("POST", "/", body=body)
    assert (reply.seen.body, reply.body) == (body, body)
    assert (reply.response.framing, reply.seen.get("content-length")) == ("length", str(size))
    assert (reply.log.received, reply.log.sent) == (str(size), str(size))


@case("Bodies: chunked both ways stays chunked")
def test_chunked_bodies(proxy: World) -> None:
    proxy.upstream("a").script(respond(chunks=[b"one", b"two"]))
    reply = proxy.request("POST", "/", {"transfer-encoding": "chunked"}, b"3\r\nabc\r\n4;ext=1\r\ndefg\r\n0\r\n\r\n")
    assert (reply.seen.body, reply.seen.get("transfer-encoding"), reply.seen.get("content-length")) == (
        b"abcdefg",
        "chunked",
        None,
    )
    assert (reply.body, reply.response.framing) == (b"onetwo", "chunked")
    assert (reply.log.received, reply.log.sent) == ("7", "6")


@case("Bodies: a response that ends with its connection is sent chunked")
def test_a_body_until_close_becomes_chunked(proxy: World) -> None:
    proxy.upstream("a").script(respond(body=b"until the end", until_close=True))
    with proxy.connect() as link:
        reply = link.request()
        assert (reply.body, reply.response.framing, reply.closed) == (b"until the end", "chunked", False)
        assert link.request().status == 200


@case("Bodies: data is handed on as it comes")
def test_a_response_streams(proxy: World) -> None:
    has_come = threading.Event()

    def step(exchange: Exchange) -> bool:
        exchange.read_body()
        exchange.send(head(200, [("transfer-encoding", "chunked")]) + b"5\r\nfirst\r\n")
        has_come.wait(10)
        exchange.send(b"6\r\nsecond\r\n0\r\n\r\n")
        return True

    proxy.upstream("a").script(step)
    with proxy.connect() as link:
        link.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        received = b""
        while b"first" not in received:
            received += link.raw.read_some()
        assert b"second" not in received
        has_come.set()
        while b"0\r\n\r\n" not in received:
            received += link.raw.read_some()
        assert b"second" in received
    proxy.await_log("http")


@case("Bodies: a request streams to the upstream before its end")
def test_a_request_streams(proxy: World) -> None:
    with proxy.connect() as link:
        link.send(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n12345")
        seen = proxy.upstream("a").wait_for(1)[0]
        assert not seen.complete
        link.send(b"67890")
        reply = link.reply("POST")
        assert (reply.status, seen.body) == (200, b"1234567890")


@case("Bodies: GET with a body, POST without a length")
def test_unusual_bodies(proxy: World) -> None:
    assert proxy.request("GET", "/", {"content-length": "3"}, b"abc").seen.body == b"abc"
    reply = proxy.send(b"POST / HTTP/1.1\r\nHost: test\r\nx-case: unusual_bodies-2\r\n\r\n", "POST")
    assert reply.status == 200
    seen = proxy.requests_tagged("unusual_bodies-2")[0]
    assert (seen.get("content-length"), seen.get("transfer-encoding")) == ("0", None)


@case("Responses without a body: HEAD, 204, 304")
@pytest.mark.parametrize(
    ("method", "status", "headers", "length", "coding"),
    [
        ("HEAD", 200, [("content-length", "5")], "5", None),
        ("HEAD", 200, [], None, "chunked"),
        ("GET", 204, [], None, None),
        ("GET", 304, [("content-length", "5")], "5", None),
        ("GET", 304, [], None, None),
    ],
)
def test_responses_without_a_body(
    proxy: World, method: str, status: int, headers: list[tuple[str, str]], length: str | None, coding: str | None
) -> None:
    head = f"HTTP/1.1 {status} Fine\r\n" + "".join(f"{n}: {v}\r\n" for n, v in headers) + "\r\n"
    proxy.upstream("a").script(raw(head.encode()))
    with proxy.connect() as link:
        reply = link.request(method)
        assert (reply.status, reply.body, reply.closed) == (status, b"", False)
        assert (reply.get("content-length"), reply.get("transfer-encoding")) == (length, coding)
        assert link.request().status == 200


@case("Responses without a body: HEAD to a chunked answer")
def test_head_to_a_chunked_answer(proxy: World) -> None:
    proxy.upstream("a").script(raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"))
    with proxy.connect() as link:
        reply = link.request("HEAD")
        assert (reply.status, reply.body, reply.get("transfer-encoding")) == (200, b"", "chunked")
        assert link.request().status == 200


@case("Responses without a body: bytes behind one close the upstream connection, not the client's")
def test_bytes_behind_a_bodiless_response(proxy: World) -> None:
    proxy.upstream("a").script(raw(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"))
    with proxy.connect() as link:
        assert link.request("HEAD").status == 200
        assert link.request().status == 200
    first, second = proxy.upstream("a").wait_for(2)
    assert first.connection != second.connection


@case("Reason phrase: the proxy's own for the status")
def test_the_reason_phrase_is_not_forwarded(proxy: World) -> None:
    proxy.upstream("a").script(raw(b"HTTP/1.1 200 Splendid\r\ncontent-length: 0\r\n\r\n"))
    assert proxy.get().response.reason == "OK"


@case("Reason phrase: of a status that has none")
@pytest.mark.parametrize("status", [218, 299, 499, 599, 600, 999])
def test_odd_statuses_pass(proxy: World, status: int) -> None:
    proxy.upstream("a").script(respond(status))
    assert proxy.get().status == status


@case("Persistence: requests follow one another on a connection")
def test_keep_alive(proxy: World) -> None:
    with proxy.connect() as link:
        replies = [link.request(path=f"/{number}") for number in range(5)]
        assert [reply.seen.path for reply in replies] == [f"/{number}" for number in range(5)]
        assert not any(reply.closed for reply in replies)
        assert len({reply.seen.connection for reply in replies}) == 1


@case("Persistence: connection: close of a client is answered and done")
@pytest.mark.parametrize("value", ["close", "Close", "x, close"])
def test_a_client_may_close(proxy: World, value: str) -> None:
    reply = proxy.get(headers={"connection": value})
    assert (reply.status, reply.closed) == (200, True)


@case("Persistence: connection: close of an upstream is not the client's affair")
def test_an_upstream_may_close(proxy: World) -> None:
    proxy.upstream("a").script(respond(headers=[("connection", "close")], close=True))
    with proxy.connect() as link:
        reply = link.request()
        assert (reply.status, reply.get("connection"), reply.closed) == (200, None, False)
        assert link.request().status == 200


@case("Persistence: max_requests_per_connection of the listener")
def test_a_connection_ends_after_its_requests(proxy: World) -> None:
    with proxy.connect("few") as link:
        assert not link.request().closed
        reply = link.request()
        assert (reply.get("connection"), reply.closed) == ("close", True)


@case(
    "Persistence: delayed_close_timeout keeps a reset from the client after a request that went wrong",
    difference="close-at-once",
)
def test_the_close_is_delayed(proxy: World) -> None:
    with proxy.connect("delayed") as link:
        link.send(b"GET / HTTP/1.1\r\n\r\n")
        began = time.monotonic()
        reply = link.reply()
        assert (reply.status, reply.closed) == (400, True)
        if proxy.kind is ProxyKind.ENVOY:
            assert time.monotonic() - began > 1.0
        else:
            assert time.monotonic() - began < 1.0
            for _ in range(3):
                # Were the socket closed already, the first of these would be answered with a reset.
                link.send(b"more that nobody wants")
                assert link.raw.closes_within(0.05)
                assert not link.raw.was_reset


@case("Persistence: a connection whose request was complete is closed at once")
def test_the_close_is_not_delayed_behind_a_complete_request(proxy: World) -> None:
    with proxy.connect("delayed") as link:
        link.send(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
        began = time.monotonic()
        assert link.reply().closed
        assert time.monotonic() - began < 1.0


@case("Pipelining: answered in order, one after the other")
def test_pipelined_requests(proxy: World) -> None:
    proxy.upstream("a").script(respond(body=b"1", delay_s=0.2), respond(body=b"2"), respond(body=b"3"))
    requests = [
        proxy.compose(
            proxy.next_tag(),
            "POST" if n == 2 else "GET",
            f"/{n}",
            {},
            b"body" if n == 2 else b"",
            host="h",
            version="HTTP/1.1",
        )
        for n in (1, 2, 3)
    ]
    with proxy.connect() as link:
        link.send(b"".join(requests))
        assert [link.reply().body for _ in requests] == [b"1", b"2", b"3"]
    assert [request.path for request in proxy.upstream("a").requests] == ["/1", "/2", "/3"]


@case("Pipelining: a request behind connection: close is not served")
def test_nothing_is_served_behind_close(proxy: World) -> None:
    with proxy.connect() as link:
        link.send(b"GET /1 HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\nGET /2 HTTP/1.1\r\nHost: test\r\n\r\n")
        assert link.reply().closed
    assert [request.path for request in proxy.upstream("a").requests] == ["/1"]


@case("Parsing: requests in single bytes")
def test_a_request_byte_by_byte(proxy: World) -> None:
    with proxy.connect() as link:
        for byte in b"POST /x HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\nabc":
            link.send(bytes([byte]))
            assert not link.raw.closes_within(0.003)  # so that most of them are read one by one
        assert link.reply("POST").status == 200
    assert proxy.upstream("a").requests[0].body == b"abc"


@case("Parsing: empty lines before a request")
def test_empty_lines_before_a_request(proxy: World) -> None:
    assert proxy.send(b"\r\n\r\nGET / HTTP/1.1\r\nHost: test\r\n\r\n").status == 200


@case("Parsing: values are trimmed")
def test_values_are_trimmed(proxy: World) -> None:
    seen = proxy.get(headers=[("x-h", " \t padded \t ")]).seen
    assert ("x-h", "padded") in seen.headers
    # The upstream trims as well; a log does not.
    proxy.send(b"GET / HTTP/1.1\r\nHost: test\r\nx-case: \t values_are_trimmed-2 \t \r\n\r\n")
    assert proxy.log_tagged("values_are_trimmed-2").status == "200"


@case("Parsing: an empty value is a value")
def test_an_empty_value_is_kept(proxy: World) -> None:
    assert ("x-h", "") in proxy.get(headers=[("x-h", "")]).seen.headers


@case("Parsing: bytes above 127 in a value")
def test_bytes_above_ascii_pass(proxy: World) -> None:
    assert proxy.get(headers=[("x-h", "caf\xe9")]).seen.get("x-h") == "caf\xe9"


@case("Methods: registered ones pass, unknown and lower-case ones are refused")
@pytest.mark.parametrize(
    ("method", "status"),
    [
        *((name, 200) for name in ("DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "PURGE", "REPORT")),
        *((name, 400) for name in ("FOO", "get", "M-SEARCH", "QUERY")),
    ],
)
def test_methods(proxy: World, method: str, status: int) -> None:
    reply = proxy.request(method)
    assert reply.status == status
    if status == 200:
        assert reply.seen.method == method


@case("HTTP/1.0: refused with 426 unless accept_http_10, and so are other versions")
@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/0.9", "HTTP/1.2", "HTTP/2.0"])
def test_other_versions_are_refused(proxy: World, version: str) -> None:
    reply = proxy.request(version=version)
    assert (reply.status, reply.text, reply.closed) == (426, "Upgrade Required", True)
    line = proxy.logs()[0]
    assert (line.flags, line.details) == ("DPE", "low_version")


@case("HTTP/1.0: closes by default where accepted")
def test_http10_closes(proxy: World) -> None:
    reply = proxy.request(version="HTTP/1.0", listener="http10")
    assert (reply.status, reply.closed) == (200, True)
    assert (reply.response.version, reply.seen.version) == ("HTTP/1.0", "HTTP/1.1")


@case("HTTP/1.0: connection: keep-alive")
def test_http10_keep_alive(proxy: World) -> None:
    with proxy.connect("http10") as link:
        reply = link.request(headers={"connection": "keep-alive"}, version="HTTP/1.0")
        assert (reply.status, reply.closed) == (200, False)
        assert link.request(version="HTTP/1.0").closed


@case("HTTP/1.0: default_host_for_http_10")
def test_http10_default_host(proxy: World) -> None:
    reply = proxy.request(host=None, version="HTTP/1.0", listener="http10")
    assert reply.seen.get("host") == "old.example"


@case("HTTP/1.0: a body of unknown length ends with the connection")
def test_http10_gets_no_chunks(proxy: World) -> None:
    proxy.upstream("a").script(respond(chunks=[b"one", b"two"]))
    reply = proxy.request(version="HTTP/1.0", listener="http10")
    assert (reply.body, reply.response.framing, reply.closed) == (b"onetwo", "close", True)


@case("HTTP/1.0: an upstream that speaks it")
def test_an_http10_upstream(proxy: World) -> None:
    proxy.upstream("a").script(respond(version="HTTP/1.0", close=True))
    with proxy.connect() as link:
        reply = link.request()
        assert (reply.status, reply.response.version, reply.closed) == (200, "HTTP/1.1", False)
        assert link.request().status == 200


@case("Expect: 100-continue is answered by the proxy and not forwarded")
def test_the_proxy_answers_100_continue(proxy: World) -> None:
    with proxy.connect() as link:
        link.send(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert link.raw.read_exactly(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        link.send(b"abc")
        assert link.reply("POST").status == 200
    seen = proxy.upstream("a").requests[0]
    assert (seen.get("expect"), seen.body) == (None, b"abc")


@case("Expect: proxy_100_continue lets the upstream decide")
def test_100_continue_is_proxied_where_asked(proxy: World) -> None:
    proxy.upstream("a").script(respond(informational=[100]))
    with proxy.connect("continue") as link:
        link.send(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        seen = proxy.upstream("a").wait_for(1)[0]
        assert seen.get("expect") == "100-continue"
        link.send(b"abc")
        reply = link.reply("POST")
        assert ([status for status, _ in reply.response.informational], reply.status) == ([100], 200)


@case("Interim responses: swallowed unless proxy_100_continue")
@pytest.mark.parametrize("code", [100, 102, 103])
def test_interim_responses(proxy: World, code: int) -> None:
    proxy.upstream("a").script(respond(informational=[code]), respond(informational=[code]))
    assert proxy.get().response.informational == []
    assert proxy.get(listener="continue").response.informational == [(code, [("x-interim", str(code))])]


@case("Trailers: dropped unless enable_trailers")
def test_trailers_are_dropped_by_default(proxy: World) -> None:
    proxy.upstream("a").script(respond(chunks=[b"x"], trailers=[("x-sum", "1")]))
    reply = proxy.request("POST", "/", {"transfer-encoding": "chunked"}, b"1\r\nx\r\n0\r\nx-t: 1\r\n\r\n")
    assert (reply.body, reply.response.trailers, reply.seen.trailers) == (b"x", [], [])


@case("Trailers: passed both ways with enable_trailers on both sides")
def test_trailers_pass_where_enabled(proxy: World) -> None:
    proxy.upstream("a").script(respond(chunks=[b"x"], trailers=[("X-Sum", "1")]))
    body = b"1\r\nx\r\n0\r\nX-T: 1\r\n\r\n"
    reply = proxy.request("POST", "/", {"transfer-encoding": "chunked"}, body, listener="trailers")
    assert (reply.response.trailers, reply.seen.trailers) == ([("x-sum", "1")], [("x-t", "1")])


@case("Early response: the rest of the request is not waited for")
def test_an_early_response_ends_the_exchange(proxy: World) -> None:
    proxy.upstream("a").script(respond(413, early=True, close=True))
    with proxy.connect() as link:
        link.send(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n12345")
        reply = link.reply("POST", final=True)
        assert (reply.status, reply.get("connection"), reply.closed) == (413, "close", True)


@case("Downstream reset: a client that leaves cancels its request")
def test_a_client_that_leaves(proxy: World) -> None:
    proxy.upstream("a").script(respond(delay_s=0.3))
    with proxy.connect() as link:
        link.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        proxy.upstream("a").wait_for(1)
    proxy.await_log("http")
    line = proxy.logs()[0]
    assert (line.status, line.flags, line.details) == ("0", "DC", "downstream_remote_disconnect")


@case("Downstream half-close: a client that has sent everything still gets no answer")
def test_a_client_that_half_closes(proxy: World) -> None:
    proxy.upstream("a").script(respond(delay_s=0.3))
    with proxy.connect() as link:
        link.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        proxy.upstream("a").wait_for(1)
        link.raw.half_close()
        assert link.closes()
    proxy.await_log("http")
    assert proxy.logs()[0].flags == "DC"
