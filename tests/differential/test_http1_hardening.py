"""Requests and responses that must not get through: smuggling, limits, malformed heads; and what refusing them costs."""

import pytest

from tests.differential.bed import Bed, cluster, http_listener, vhost
from tests.differential.pair import case
from tests.differential.world import World
from tests.support.proxies import ProxyKind
from tests.support.upstream import Upstream, raw, respond

ALL = vhost("all", ["*"], "[{name: all, match: {prefix: /}, route: {cluster: a}}]")

BED = Bed(
    listeners=[
        http_listener("http", ALL),
        http_listener(
            "underscore-reject", ALL, common_http_protocol_options={"headers_with_underscores_action": "REJECT_REQUEST"}
        ),
        http_listener(
            "underscore-drop", ALL, common_http_protocol_options={"headers_with_underscores_action": "DROP_HEADER"}
        ),
        http_listener("small", ALL, max_request_headers_kb=2),
        http_listener("few", ALL, common_http_protocol_options={"max_headers_count": 10}),
        http_listener("lenient-length", ALL, http_protocol_options={"allow_chunked_length": True}),
        http_listener("open-after-error", ALL, stream_error_on_invalid_http_message=True),
    ],
    clusters=[cluster("a"), cluster("small-response", "a")],
    upstreams={"a": Upstream},
)

TRAILING = b"GET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n"


@case("Framing: ambiguous or malformed message framing is refused and the connection closed")
@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", 400),
        (b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", 400),
        (b"Content-Length: 5\r\nContent-Length: 6\r\n", 400),
        (b"Content-Length: 5\r\nContent-Length: 5\r\n", 400),
        (b"Content-Length: 5, 5\r\n", 400),
        (b"Content-Length: -5\r\n", 400),
        (b"Content-Length: +5\r\n", 400),
        (b"Content-Length: 0x5\r\n", 400),
        (b"Content-Length: 5 5\r\n", 400),
        (b"Content-Length:\r\n", 400),
        (b"Content-Length: 99999999999999999999\r\n", 400),
        (b"Transfer-Encoding: gzip\r\n", 501),
        (b"Transfer-Encoding: identity\r\n", 501),
        (b"Transfer-Encoding: gzip, chunked\r\n", 501),
        (b"Transfer-Encoding: chunked, gzip\r\n", 501),
        (b"Transfer-Encoding: chunked, chunked\r\n", 501),
        (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 501),
        (b"Transfer-Encoding: xchunked\r\n", 501),
        (b"Transfer-Encoding: \x0bchunked\r\n", 400),
        (b"Transfer-Encoding : chunked\r\n", 400),
        (b"Content-Length : 5\r\n", 400),
        (b"X-H: a\x00b\r\n", 400),
        (b"X H: a\r\n", 400),
        (b"X-\xe9: a\r\n", 400),
        (b": a\r\n", 400),
        (b"no colon\r\n", 400),
        (b"X(H): a\r\n", 400),
    ],
)
def test_bad_framing_is_refused(proxy: World, head: bytes, status: int) -> None:
    reply = proxy.send(b"POST / HTTP/1.1\r\nHost: test\r\n" + head + b"\r\n" + TRAILING, "POST", final=True)
    assert (reply.status, reply.closed) == (status, True)
    assert proxy.upstream("a").requests == []


@case("Framing: TE values that name chunked in another case are chunked")
def test_chunked_in_capitals(proxy: World) -> None:
    reply = proxy.request("POST", "/", {"Transfer-Encoding": "Chunked"}, b"3\r\nabc\r\n0\r\n\r\n")
    assert (reply.status, reply.seen.body) == (200, b"abc")


@case("Framing: allow_chunked_length drops the length")
def test_length_beside_chunked_is_dropped_where_allowed(proxy: World) -> None:
    headers = {"content-length": "5", "transfer-encoding": "chunked"}
    reply = proxy.request("POST", "/", headers, b"3\r\nabc\r\n0\r\n\r\n", listener="lenient-length")
    assert (reply.status, reply.seen.body, reply.seen.get("content-length")) == (200, b"abc", None)


@case("Framing: bad chunks end the request")
@pytest.mark.parametrize(
    "chunks",
    [
        b"g\r\nabc\r\n0\r\n\r\n",
        b"-3\r\nabc\r\n0\r\n\r\n",
        b"0x3\r\nabc\r\n0\r\n\r\n",
        b"fffffffffffffffff\r\nabc\r\n",
        b"\r\nabc\r\n",
        b" 3\r\nabc\r\n0\r\n\r\n",
    ],
)
def test_bad_chunks_are_refused(proxy: World, chunks: bytes) -> None:
    with proxy.connect() as link:
        link.send(b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n")
        seen = proxy.upstream("a").wait_for(1)[0]
        link.send(chunks)
        reply = link.reply("POST", final=True)
        assert (reply.status, reply.closed, seen.complete) == (400, True, False)


@case("Request line: malformed ones are refused")
@pytest.mark.parametrize(
    "line",
    [
        b"GET / HTTP/1.1 x",
        b"GET / HTTP/1",
        b"GET / http/1.1",
        b"GET / HTTP/11.1",
        b"GET / XTTP/1.1",
        b"G@T / HTTP/1.1",
        b" GET / HTTP/1.1",
        b"GET /a b HTTP/1.1",
        b"GET /\x00 HTTP/1.1",
        b"\x16\x03\x01\x00\x05hello",
    ],
)
def test_bad_request_lines_are_refused(proxy: World, line: bytes) -> None:
    reply = proxy.send(line + b"\r\nHost: test\r\n\r\n", final=True)
    assert (reply.status, reply.closed) == (400, True)
    assert proxy.upstream("a").requests == []


@case("Request line: one without a version is HTTP/0.9")
def test_a_request_line_without_a_version(proxy: World) -> None:
    assert proxy.send(b"GET /\r\nHost: test\r\n\r\n", final=True).status == 426


@case("Request line: repeated blanks between its parts")
@pytest.mark.parametrize("line", [b"GET  / HTTP/1.1", b"GET /  HTTP/1.1"])
def test_repeated_blanks_in_a_request_line(proxy: World, line: bytes) -> None:
    assert proxy.send(line + b"\r\nHost: test\r\n\r\n").status == 200


@case("Request line: a tab, or a blank behind the version", difference="request-line-blanks")
@pytest.mark.parametrize("line", [b"GET\t/ HTTP/1.1", b"GET / HTTP/1.1 "])
def test_other_blanks_in_a_request_line(proxy: World, line: bytes) -> None:
    reply = proxy.send(line + b"\r\nHost: test\r\n\r\n", final=proxy.kind is ProxyKind.OURS)
    expected = (200, False) if proxy.kind is ProxyKind.ENVOY else (400, True)
    assert (reply.status, reply.closed) == expected


@case("Framing: a chunk that does not end where its size says", difference="chunk-end")
def test_a_chunk_that_is_longer_than_its_size(proxy: World) -> None:
    data = b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n"
    reply = proxy.send(data, "POST", final=proxy.kind is ProxyKind.OURS)
    expected = (200, False) if proxy.kind is ProxyKind.ENVOY else (400, True)
    assert (reply.status, reply.closed) == expected


@case("Host: missing, empty, repeated, malformed")
@pytest.mark.parametrize(
    ("host", "status"),
    [
        (b"", 400),
        (b"Host:\r\n", 200),
        (b"Host: a b\r\n", 400),
        (b"Host: a/b\r\n", 400),
        (b"Host: user@a\r\n", 200),
        (b"Host: [::1]:80\r\n", 200),
        (b"Host: a:b\r\n", 200),
    ],
)
def test_hosts(proxy: World, host: bytes, status: int) -> None:
    assert proxy.send(b"GET / HTTP/1.1\r\n" + host + b"\r\n").status == status


@case("Host: a missing one is refused with details")
def test_a_missing_host(proxy: World) -> None:
    reply = proxy.request(host=None)
    assert (reply.status, reply.log.details) == (400, "missing_host_header")


@case("Host: two of them are joined")
def test_two_hosts(proxy: World) -> None:
    reply = proxy.send(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
    assert (reply.status, proxy.upstream("a").requests[0].all("host")) == (200, ["a,b"])


@case("Malformed head: obs-fold", difference="obs-fold")
def test_a_folded_header(proxy: World) -> None:
    reply = proxy.send(b"GET / HTTP/1.1\r\nHost: test\r\nX-H: one\r\n two\r\n\r\n", final=proxy.kind is ProxyKind.OURS)
    if proxy.kind is ProxyKind.ENVOY:
        assert (reply.status, proxy.upstream("a").requests[0].get("x-h")) == (200, "one two")
    else:
        assert (reply.status, reply.closed, proxy.upstream("a").requests) == (400, True, [])


@case("Malformed head: LF without CR", difference="bare-lf")
@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\nHost: test\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: test\nX-H: 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: test\r\n\n",
    ],
)
def test_a_bare_line_feed(proxy: World, head: bytes) -> None:
    reply = proxy.send(head, final=proxy.kind is ProxyKind.OURS)
    if proxy.kind is ProxyKind.ENVOY:
        assert (reply.status, reply.closed) == (200, False)
    else:
        assert (reply.status, reply.closed, proxy.upstream("a").requests) == (400, True, [])


@case("Malformed head: CR without LF", difference="bare-cr")
def test_a_bare_carriage_return(proxy: World) -> None:
    reply = proxy.send(b"GET / HTTP/1.1\r\nHost: test\r\nX-H: a\rb\r\n\r\n", final=proxy.kind is ProxyKind.OURS)
    if proxy.kind is ProxyKind.ENVOY:
        assert (reply.status, proxy.upstream("a").requests[0].get("x-h")) == (200, "ab")
    else:
        assert (reply.status, reply.closed, proxy.upstream("a").requests) == (400, True, [])


@case("Limits: max_request_headers_kb")
def test_a_head_that_is_too_large(proxy: World) -> None:
    assert proxy.get(headers={"x-h": "v" * 1500}, listener="small").status == 200
    reply = proxy.get(headers={"x-h": "v" * 2100}, listener="small")
    assert (reply.status, reply.closed, reply.body) == (431, True, b"Request Header Fields Too Large")


@case("Limits: 60 KiB of head by default")
def test_the_default_head_limit(proxy: World) -> None:
    assert proxy.get(headers={"x-h": "v" * 59_000}).status == 200
    with proxy.connect() as link:
        link.send(b"GET / HTTP/1.1\r\nHost: test\r\nx-h: " + b"v" * 62_000)
        reply = link.reply(final=True)
        assert (reply.status, reply.closed) == (431, True)


@case("Limits: a long request line counts as head")
def test_a_long_path(proxy: World) -> None:
    assert proxy.get("/" + "p" * 1500, listener="small").status == 200
    with proxy.connect("small") as link:
        link.send(b"GET /" + b"p" * 3000 + b" HTTP/1.1\r\nHost: test\r\n\r\n")
        assert link.reply(final=True).status == 431


@case("Limits: max_headers_count")
def test_too_many_headers(proxy: World) -> None:
    assert proxy.get(headers=[(f"x-{n}", "1") for n in range(8)], listener="few").status == 200
    reply = proxy.get(headers=[(f"x-{n}", "1") for n in range(9)], listener="few")
    assert (reply.status, reply.closed) == (431, True)


@case("Limits: 100 headers by default")
def test_the_default_header_count(proxy: World) -> None:
    assert proxy.get(headers=[(f"x-{n}", "1") for n in range(98)]).status == 200
    assert proxy.get(headers=[(f"x-{n}", "1") for n in range(99)]).status == 431


@case("Limits: a response with too many headers is a 502")
def test_a_response_with_too_many_headers(proxy: World) -> None:
    proxy.upstream("a").script(respond(headers=[(f"x-{n}", "1") for n in range(120)]))
    reply = proxy.get()
    assert (reply.status, reply.log.flags) == (502, "UPE")


@case("Limits: a response whose head is too large is a 502")
def test_a_response_with_a_large_head(proxy: World) -> None:
    proxy.upstream("a").script(respond(headers=[("x-h", "v" * 90_000)]))
    reply = proxy.get()
    assert (reply.status, reply.log.flags) == (502, "UPE")


@case("Underscores in header names: ALLOW, REJECT_REQUEST, DROP_HEADER")
@pytest.mark.parametrize(
    ("listener", "status", "value"),
    [("http", 200, "1"), ("underscore-reject", 400, None), ("underscore-drop", 200, None)],
)
def test_underscores_in_names(proxy: World, listener: str, status: int, value: str | None) -> None:
    reply = proxy.get(headers={"x_h": "1", "x-i": "2"}, listener=listener)
    assert reply.status == status
    if status == 200:
        assert (reply.seen.get("x_h"), reply.seen.get("x-i")) == (value, "2")


@case("Errors: stream_error_on_invalid_http_message keeps the connection where the message was whole")
def test_an_invalid_message_may_leave_the_connection_open(proxy: World) -> None:
    with proxy.connect("open-after-error") as link:
        link.send(b"GET / HTTP/1.1\r\nx-case: " + proxy.next_tag().encode() + b"\r\n\r\n")
        reply = link.reply()
        assert (reply.status, reply.closed) == (400, False)
        assert link.request().status == 200


@case("Invalid upstream responses: 502 and UPE")
@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\nhello",
        b"HTTP/1.1 2x0 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx h: 1\r\ncontent-length: 0\r\n\r\n",
        b"garbage that is no HTTP at all\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx-h: a\x00b\r\ncontent-length: 0\r\n\r\n",
    ],
)
def test_invalid_responses(proxy: World, response: bytes) -> None:
    proxy.upstream("a").script(raw(response, close=True))
    reply = proxy.get()
    assert (reply.status, reply.log.flags, reply.closed) == (502, "UPE", False)
    assert reply.text == "upstream connect error or disconnect/reset before headers. reset reason: protocol error"


@case("Invalid upstream responses: a status of two digits", difference="short-status")
def test_a_status_of_two_digits(proxy: World) -> None:
    proxy.upstream("a").script(raw(b"HTTP/1.1 20 OK\r\ncontent-length: 0\r\n\r\n", close=True))
    with proxy.connect() as link:
        link.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        expected = b"HTTP/1.1 20 Unknown\r\n" if proxy.kind is ProxyKind.ENVOY else b"HTTP/1.1 502 Bad Gateway\r\n"
        assert link.raw.read_exactly(len(expected)) == expected
    proxy.await_log("http")


@case("Unusual upstream responses: no phrase, another case, no blank")
@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length:2\r\n\r\nok",
    ],
)
def test_unusual_responses(proxy: World, response: bytes) -> None:
    proxy.upstream("a").script(raw(response))
    assert proxy.get().body == b"ok"


@case("A response cut short: the client sees it cut short")
@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ],
)
def test_a_response_cut_short(proxy: World, response: bytes) -> None:
    proxy.upstream("a").script(raw(response, close=True))
    with proxy.connect() as link:
        link.send(b"GET / HTTP/1.1\r\nHost: test\r\nx-case: " + proxy.next_tag().encode() + b"\r\n\r\n")
        reply = link.reply()
        assert (reply.status, reply.body, reply.response.complete) == (200, b"hello", False)
    line = proxy.logs()[0]
    assert (line.flags, line.details) == ("UPE", "upstream_reset_after_response_started{protocol_error}")
