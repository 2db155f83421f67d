"""Responses as an upstream may put them on the wire, whole, byte by byte and with garbage behind; requests to it."""

import pytest

from mosn_xds.base.errors import ResetReason
from mosn_xds.data.codec.events import (
    BadResponse,
    ConnectionClosed,
    Data,
    Event,
    Informational,
    ResponseStarted,
    StreamReset,
    Trailers,
)
from mosn_xds.data.codec.head import RequestHead, ResponseHead, Version
from mosn_xds.data.codec.http1 import HeaderKeyFormat, Http1ClientCodec, Http1Options


def request(method: bytes = b"GET", **other: object) -> RequestHead:
    return RequestHead(method, b"http", b"a", b"/p", Version.HTTP11, [], **other)  # type: ignore[arg-type]


def asked(method: bytes = b"GET", options: Http1Options | None = None) -> Http1ClientCodec:
    codec = Http1ClientCodec(options or Http1Options())
    codec.send_head(codec.next_stream_id(), request(method), True)
    return codec


def receive(codec: Http1ClientCodec, raw: bytes, size: int = 1 << 20) -> list[Event]:
    """All events of `raw` fed in pieces of `size`, neighbouring parts of a body joined."""
    joined: list[Event] = []
    for at in range(0, len(raw), size):
        for event in codec.receive(raw[at : at + size]):
            last = joined[-1] if joined else None
            if isinstance(event, Data) and isinstance(last, Data):
                joined[-1] = Data(last.stream_id, last.data + event.data, event.end_stream)
            else:
                joined.append(event)
    return joined


def response(*lines: str, body: bytes = b"") -> bytes:
    return "".join(line + "\r\n" for line in lines).encode("latin-1") + b"\r\n" + body


LENGTH = [(b"content-length", b"2")]
OK = response("HTTP/1.1 200 OK", "Content-Length: 2", body=b"hi")

GOOD: dict[str, tuple[bytes, bytes, list[Event]]] = {
    "length": (b"GET", OK, [ResponseStarted(1, ResponseHead(200, LENGTH), False), Data(1, b"hi", True)]),
    "length zero": (
        b"GET", response("HTTP/1.1 200 OK", "Content-Length: 0"),
        [ResponseStarted(1, ResponseHead(200, [(b"content-length", b"0")]), True)],
    ),
    "chunked": (
        b"GET", response("HTTP/1.1 200 OK", "Transfer-Encoding: Chunked", body=b"1\r\nh\r\n1;x\r\ni\r\n0\r\n\r\n"),
        [ResponseStarted(1, ResponseHead(200, []), False), Data(1, b"hi", True)],
    ),
    "chunked and empty": (
        b"GET", response("HTTP/1.1 200 OK", "Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
        [ResponseStarted(1, ResponseHead(200, []), False), Data(1, b"", True)],
    ),
    "chunked with trailers, which are dropped": (
        b"GET", response("HTTP/1.1 200 OK", "Transfer-Encoding: chunked", body=b"1\r\nh\r\n0\r\nx: 1\r\n\r\n"),
        [ResponseStarted(1, ResponseHead(200, []), False), Data(1, b"h", True)],
    ),
    "values are trimmed": (
        b"GET", response("HTTP/1.1 200 OK", "X-A: 1 \t", "x-b:", "content-length: 0"),
        [ResponseStarted(1, ResponseHead(200, [(b"x-a", b"1"), (b"x-b", b""), (b"content-length", b"0")]), True)],
    ),
    "204": (b"GET", response("HTTP/1.1 204 No Content"), [ResponseStarted(1, ResponseHead(204, []), True)]),
    "204 with length zero": (
        b"GET", response("HTTP/1.1 204 No Content", "Content-Length: 0"), [ResponseStarted(1, ResponseHead(204, []), True)],
    ),
    "304 with length": (
        b"GET", response("HTTP/1.1 304 Not Modified", "Content-Length: 2"),
        [ResponseStarted(1, ResponseHead(304, LENGTH), True)],
    ),
    "304 chunked": (
        b"GET", response("HTTP/1.1 304 Not Modified", "Transfer-Encoding: chunked"),
        [ResponseStarted(1, ResponseHead(304, []), True)],
    ),
    "HEAD with length": (
        b"HEAD", response("HTTP/1.1 200 OK", "Content-Length: 2"), [ResponseStarted(1, ResponseHead(200, LENGTH), True)],
    ),
    "HEAD chunked": (
        b"HEAD", response("HTTP/1.1 200 OK", "Transfer-Encoding: chunked"),
        [ResponseStarted(1, ResponseHead(200, []), True)],
    ),
    "HEAD without length": (b"HEAD", response("HTTP/1.1 200 OK"), [ResponseStarted(1, ResponseHead(200, []), True)]),
    "HEAD of 1.0 that keeps alive": (
        b"HEAD", response("HTTP/1.0 200 OK", "Connection: keep-alive"),
        [ResponseStarted(1, ResponseHead(200, [], Version.HTTP10), True)],
    ),
    "HEAD with length zero": (
        b"HEAD", response("HTTP/1.1 200 OK", "Content-Length: 0"),
        [ResponseStarted(1, ResponseHead(200, [(b"content-length", b"0")]), True)],
    ),
    "informational before": (
        b"GET",
        response("HTTP/1.1 100 Continue") + response("HTTP/1.1 103 Early Hints", "Link: x") + OK,
        [
            Informational(1, ResponseHead(100, [])),
            Informational(1, ResponseHead(103, [(b"link", b"x")])),
            ResponseStarted(1, ResponseHead(200, LENGTH), False),
            Data(1, b"hi", True),
        ],
    ),
    "hop-by-hop fields are taken out": (
        b"GET",
        response("HTTP/1.1 200 OK", "Connection: keep-alive", "Keep-Alive: 5", "Upgrade: h2c", "Proxy-Connection: x",
                 "Content-Length: 2", body=b"hi"),
        [ResponseStarted(1, ResponseHead(200, LENGTH), False), Data(1, b"hi", True)],
    ),
    "no phrase": (
        b"GET", response("HTTP/1.1 200", "Content-Length: 2", body=b"hi"),
        [ResponseStarted(1, ResponseHead(200, LENGTH), False), Data(1, b"hi", True)],
    ),
    "status 999": (
        b"GET", response("HTTP/1.1 999 What", "Content-Length: 2", body=b"hi"),
        [ResponseStarted(1, ResponseHead(999, LENGTH), False), Data(1, b"hi", True)],
    ),
    "1.0 that keeps alive": (
        b"GET", response("HTTP/1.0 200 OK", "Connection: keep-alive", "Content-Length: 2", body=b"hi"),
        [ResponseStarted(1, ResponseHead(200, LENGTH, Version.HTTP10), False), Data(1, b"hi", True)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", GOOD)
@pytest.mark.parametrize("size", [1 << 20, 5, 1])
def test_response_is_understood_however_it_is_cut(case: str, size: int) -> None:
    method, raw, expected = GOOD[case]
    codec = asked(method)
    assert receive(codec, raw, size) == expected
    assert codec.reusable


@pytest.mark.parametrize("case", GOOD)
def test_the_connection_serves_the_next_request(case: str) -> None:
    method, raw, _ = GOOD[case]
    codec = asked(method)
    receive(codec, raw)
    codec.send_head(codec.next_stream_id(), request(), True)
    assert not codec.reusable
    assert receive(codec, OK) == [ResponseStarted(2, ResponseHead(200, LENGTH), False), Data(2, b"hi", True)]
    assert codec.reusable


@pytest.mark.parametrize("case", GOOD)
@pytest.mark.parametrize("garbage", [b"x", b"garbage\r\n\r\n", OK])
def test_bytes_behind_a_response_spoil_the_connection_not_the_response(case: str, garbage: bytes) -> None:
    method, raw, expected = GOOD[case]
    codec = asked(method)
    assert receive(codec, raw + garbage) == expected
    assert not codec.reusable
    late = asked(method)
    assert receive(late, raw) == expected
    assert late.receive(garbage) == []
    assert not late.reusable


ENDED_BY_CLOSE: dict[str, tuple[bytes, list[Event]]] = {
    "no length": (
        response("HTTP/1.1 200 OK", body=b"hi"), [ResponseStarted(1, ResponseHead(200, []), False), Data(1, b"hi", False)],
    ),
    "no length, 1.0": (
        response("HTTP/1.0 200 OK", body=b"hi"),
        [ResponseStarted(1, ResponseHead(200, [], Version.HTTP10), False), Data(1, b"hi", False)],
    ),
    "no length, close": (
        response("HTTP/1.1 200 OK", "Connection: close", body=b"hi"),
        [ResponseStarted(1, ResponseHead(200, []), False), Data(1, b"hi", False)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ENDED_BY_CLOSE)
@pytest.mark.parametrize("size", [1 << 20, 1])
def test_end_of_connection_ends_a_response_without_length(case: str, size: int) -> None:
    raw, expected = ENDED_BY_CLOSE[case]
    codec = asked()
    assert receive(codec, raw, size) == expected
    assert codec.receive_eof() == [Data(1, b"", True), ConnectionClosed()]
    assert not codec.reusable


@pytest.mark.parametrize(
    "raw",
    [
        response("HTTP/1.1 200 OK", "Content-Length: 2", "Connection: close", body=b"hi"),
        response("HTTP/1.0 200 OK", "Content-Length: 2", body=b"hi"),
    ],
)
def test_upstream_that_will_close_is_not_used_again(raw: bytes) -> None:
    codec = asked()
    assert receive(codec, raw)[-1] == Data(1, b"hi", True)
    assert not codec.reusable
    assert codec.receive_eof() == [ConnectionClosed()]


BAD = {
    "not HTTP": b"hello\r\n\r\n",
    "ICY": response("ICY 200 OK"),
    "version 1.2": response("HTTP/1.2 200 OK"),
    "version 2.0": response("HTTP/2.0 200 OK", "Content-Length: 0"),
    "status 099": response("HTTP/1.1 099 X", "Content-Length: 0"),
    "status 000": response("HTTP/1.1 000 X", "Content-Length: 0"),
    "status of two digits": response("HTTP/1.1 20 X", "Content-Length: 0"),
    "status of four digits": response("HTTP/1.1 2000 X", "Content-Length: 0"),
    "status not a number": response("HTTP/1.1 abc X", "Content-Length: 0"),
    "control in the phrase": response("HTTP/1.1 200 \x01", "Content-Length: 0"),
    "NUL in the phrase": response("HTTP/1.1 200 O\0K", "Content-Length: 0"),
    "coding unknown": response("HTTP/1.1 200 OK", "Transfer-Encoding: gzip", body=b"hi"),
    "coding and chunked": response("HTTP/1.1 200 OK", "Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"),
    "chunked and coding": response("HTTP/1.1 200 OK", "Transfer-Encoding: chunked, gzip"),
    "chunked twice": response("HTTP/1.1 200 OK", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
    "length and chunked": response("HTTP/1.1 200 OK", "Content-Length: 2", "Transfer-Encoding: chunked"),
    "chunked and length": response("HTTP/1.1 200 OK", "Transfer-Encoding: chunked", "Content-Length: 2"),
    "two lengths": response("HTTP/1.1 200 OK", "Content-Length: 2", "Content-Length: 2", body=b"hi"),
    "list of lengths": response("HTTP/1.1 200 OK", "Content-Length: 2, 2", body=b"hi"),
    "204 with a length": response("HTTP/1.1 204 No Content", "Content-Length: 5"),
    "204 chunked": response("HTTP/1.1 204 No Content", "Transfer-Encoding: chunked"),
    "100 chunked": response("HTTP/1.1 100 Continue", "Transfer-Encoding: chunked"),
    "101 that nobody asked for": response("HTTP/1.1 101 X", "Connection: upgrade", "Upgrade: x"),
    "folded line": response("HTTP/1.1 200 OK", "x: a", " b", "Content-Length: 0"),
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "NUL in a value": response("HTTP/1.1 200 OK", "x: a\0", "Content-Length: 0"),
    "blank before colon": response("HTTP/1.1 200 OK", "x : a", "Content-Length: 0"),
    "too many fields": response("HTTP/1.1 200 OK", *["x: 1"] * 101),
    "head too large": response("HTTP/1.1 200 OK", "x: " + "v" * 62000, "Content-Length: 0"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("size", [1 << 20, 2048, 3])
def test_bad_response_is_one_event_and_the_end(case: str, size: int) -> None:
    codec = asked()
    events = receive(codec, BAD[case], size)
    assert [type(event) for event in events] == [BadResponse]
    assert not codec.reusable
    assert codec.receive(OK) == []
    assert codec.receive_eof() == [ConnectionClosed()]


@pytest.mark.parametrize("rest", [b"zz\r\n", b"1\r\nhX", b"0\r\ncontent-length: 1\r\n\r\n"])
def test_broken_body_after_a_good_head(rest: bytes) -> None:
    codec = asked()
    events = receive(codec, response("HTTP/1.1 200 OK", "Transfer-Encoding: chunked", body=b"2\r\nhi\r\n") + rest)
    assert isinstance(events[0], ResponseStarted)
    assert isinstance(events[-1], BadResponse)
    assert not codec.reusable


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 2",
        b"HTTP/1.1 200 OK\r\nx: ",
        response("HTTP/1.1 200 OK", "Content-Length: 5", body=b"hi"),
        response("HTTP/1.1 200 OK", "Transfer-Encoding: chunked", body=b"2\r\nhi\r\n"),
    ],
)
def test_end_of_connection_within_a_response_is_a_protocol_error(raw: bytes) -> None:
    codec = asked()
    codec.receive(raw)
    assert [type(event) for event in codec.receive_eof()] == [BadResponse, ConnectionClosed]


def test_end_of_connection_before_a_response_is_a_termination() -> None:
    codec = asked()
    assert codec.receive_eof() == [StreamReset(1, ResetReason.CONNECTION_TERMINATION), ConnectionClosed()]


def test_end_of_an_idle_connection() -> None:
    assert Http1ClientCodec(Http1Options()).receive_eof() == [ConnectionClosed()]


def test_bytes_that_nobody_asked_for() -> None:
    codec = Http1ClientCodec(Http1Options())
    assert codec.reusable
    assert codec.receive(response("HTTP/1.1 408 Request Timeout", "Content-Length: 0")) == []
    assert not codec.reusable


@pytest.mark.parametrize("lines", [("HTTP/1.1 200 OK", "Connection: close"), ("HTTP/1.0 200 OK",)])
def test_upstream_that_will_close_after_head(lines: tuple[str, ...]) -> None:
    codec = asked(b"HEAD")
    assert [event.end_stream for event in receive(codec, response(*lines))] == [True]  # type: ignore[union-attr]
    assert not codec.reusable


@pytest.mark.parametrize("body", [b"hi", b"2\r\nhi\r\n0\r\n\r\n", b"0\r\n\r\n"])
@pytest.mark.parametrize("framing", ["Content-Length: 2", "Transfer-Encoding: chunked"])
def test_body_in_answer_to_head_spoils_the_connection(framing: str, body: bytes) -> None:
    codec = asked(b"HEAD")
    events = receive(codec, response("HTTP/1.1 200 OK", framing, body=body))
    assert [(type(event), event.end_stream) for event in events] == [(ResponseStarted, True)]  # type: ignore[union-attr]
    assert not codec.reusable


def test_trailers_are_passed_on_where_enabled() -> None:
    codec = asked(options=Http1Options(enable_trailers=True))
    raw = response("HTTP/1.1 200 OK", "Transfer-Encoding: chunked", body=b"1\r\nh\r\n0\r\nGrpc-Status: 0\r\n\r\n")
    assert receive(codec, raw)[1:] == [Data(1, b"h", False), Trailers(1, [(b"grpc-status", b"0")])]
    assert codec.reusable


def test_connection_in_trailers_closes() -> None:
    codec = asked()
    raw = response("HTTP/1.1 200 OK", "Transfer-Encoding: chunked", body=b"0\r\nConnection: close\r\n\r\n")
    assert receive(codec, raw)[-1] == Data(1, b"", True)
    assert not codec.reusable


def test_unfinished_value_is_not_collected_for_ever() -> None:
    codec = asked()
    codec.receive(b"HTTP/1.1 200 OK\r\nx: ")
    fed = 0
    while not codec.receive(b"v" * 1000):
        fed += 1000
        assert fed < 64 * 1024


def test_head_in_one_read_with_a_large_body_may_fill_its_limit() -> None:
    raw = response("HTTP/1.1 200 OK", "x: " + "v" * 60_000, "Content-Length: 100000", body=b"b" * 100_000)
    assert isinstance(receive(asked(), raw)[0], ResponseStarted)
    assert isinstance(receive(asked(), raw.replace(b"vvv", b"v" * 1600, 1))[0], BadResponse)


@pytest.mark.parametrize("size", [1 << 20, 1])
def test_upgrade_passes_bytes_on(size: int) -> None:
    codec = Http1ClientCodec(Http1Options())
    head = request(upgrade=b"websocket")
    head.fields += [(b"connection", b"Upgrade"), (b"upgrade", b"websocket")]
    out = codec.send_head(codec.next_stream_id(), head, False)
    assert out == b"GET /p HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n"
    raw = response("HTTP/1.1 101 Switching Protocols", "Connection: Upgrade", "Upgrade: websocket", body=b"\x00raw")
    started, data = receive(codec, raw, size)
    assert isinstance(started, ResponseStarted)
    assert (started.head.status, started.end_stream) == (101, False)
    assert started.head.fields == [(b"connection", b"Upgrade"), (b"upgrade", b"websocket")]
    assert data == Data(1, b"\x00raw", False)
    assert codec.send_data(1, b"\xff", False) == b"\xff"
    assert codec.receive(b"more") == [Data(1, b"more", False)]
    assert codec.receive_eof() == [Data(1, b"", True), ConnectionClosed()]
    assert not codec.reusable


def test_upgrade_that_the_upstream_declines_is_a_response() -> None:
    codec = Http1ClientCodec(Http1Options())
    codec.send_head(codec.next_stream_id(), request(upgrade=b"websocket"), False)
    assert receive(codec, OK)[-1] == Data(1, b"hi", True)
    assert not codec.reusable  # the request has no end


@pytest.mark.parametrize("head", [
    request(upgrade=b"websocket"), RequestHead(b"CONNECT", b"", b"h:443", b"", Version.HTTP11, []),
])  # fmt: skip
def test_what_was_meant_for_a_tunnel_is_never_followed_by_a_request(head: RequestHead) -> None:
    codec = Http1ClientCodec(Http1Options())
    stream_id = codec.next_stream_id()
    codec.send_head(stream_id, head, False)
    codec.send_data(stream_id, b"GET /hidden HTTP/1.1\r\nhost: a\r\n\r\n", True)
    receive(codec, response("HTTP/1.1 403 Forbidden", "Content-Length: 0"))
    assert not codec.reusable  # the answer to what was hidden is still to come


def test_101_without_its_fields_is_bad() -> None:
    codec = Http1ClientCodec(Http1Options())
    codec.send_head(codec.next_stream_id(), request(upgrade=b"websocket"), False)
    assert [type(event) for event in receive(codec, response("HTTP/1.1 101 X", body=b"raw"))] == [BadResponse]


@pytest.mark.parametrize("size", [1 << 20, 1])
def test_connect(size: int) -> None:
    codec = Http1ClientCodec(Http1Options())
    head = RequestHead(b"CONNECT", b"", b"h:443", b"", Version.HTTP11, [])
    assert codec.send_head(codec.next_stream_id(), head, False) == b"CONNECT h:443 HTTP/1.1\r\nhost: h:443\r\n\r\n"
    started, data = receive(codec, response("HTTP/1.1 200 OK", body=b"HTTP/1.1 raw"), size)
    assert isinstance(started, ResponseStarted)
    assert not started.end_stream
    assert data == Data(1, b"HTTP/1.1 raw", False)
    assert codec.send_data(1, b"raw", False) == b"raw"


def test_connect_that_is_refused_has_a_body() -> None:
    codec = asked(b"CONNECT")
    raw = response("HTTP/1.1 403 Forbidden", "Content-Length: 2", body=b"no")
    assert receive(codec, raw)[-1] == Data(1, b"no", True)


FRAMING: dict[str, tuple[bytes, list[tuple[bytes, bytes]], list[bytes], bytes]] = {
    "get": (b"GET", [], [], b"\r\n"),
    "head": (b"HEAD", [], [], b"\r\n"),
    "delete": (b"DELETE", [], [], b"\r\n"),
    "post": (b"POST", [], [], b"content-length: 0\r\n\r\n"),
    "options": (b"OPTIONS", [], [], b"content-length: 0\r\n\r\n"),
    "get that says so": (b"GET", [(b"content-length", b"0")], [], b"content-length: 0\r\n\r\n"),
    "length known": (b"POST", LENGTH, [b"h", b"i"], b"content-length: 2\r\n\r\nhi"),
    "length unknown": (
        b"POST", [], [b"h", b"", b"i"], b"transfer-encoding: chunked\r\n\r\n1\r\nh\r\n1\r\ni\r\n0\r\n\r\n",
    ),
    "get with a body": (b"GET", [], [b"hi"], b"transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"),
}  # fmt: skip


@pytest.mark.parametrize("case", FRAMING)
def test_framing_of_requests(case: str) -> None:
    method, fields, body, expected = FRAMING[case]
    codec = Http1ClientCodec(Http1Options())
    head = request(method)
    head.fields += fields
    out = codec.send_head(codec.next_stream_id(), head, not body)
    for at, part in enumerate(body):
        sent = codec.send_data(1, part, at == len(body) - 1)
        assert isinstance(sent, bytes)
        out += sent
    assert out == method + b" /p HTTP/1.1\r\nhost: a\r\n" + expected
    assert not codec.reusable


def test_response_before_the_end_of_the_request() -> None:
    codec = Http1ClientCodec(Http1Options())
    codec.send_head(codec.next_stream_id(), request(b"POST"), False)
    assert receive(codec, OK)[-1] == Data(1, b"hi", True)
    assert not codec.reusable
    codec.send_data(1, b"late", True)
    assert codec.reusable


def test_trailers_of_requests() -> None:
    for enabled, expected in ((True, b"0\r\nx: 1\r\n\r\n"), (False, b"0\r\n\r\n")):
        codec = Http1ClientCodec(Http1Options(enable_trailers=enabled))
        codec.send_head(1, request(b"POST"), False)
        assert codec.send_trailers(1, [(b"x", b"1")]) == expected


def test_case_of_requests() -> None:
    proper = Http1ClientCodec(Http1Options(header_key_format=HeaderKeyFormat.PROPER_CASE))
    head = request(b"POST")
    head.fields.append((b"user-agent", b"x"))
    assert (
        proper.send_head(1, head, True) == b"POST /p HTTP/1.1\r\nHost: a\r\nUser-Agent: x\r\nContent-Length: 0\r\n\r\n"
    )
    head.names = {b"user-agent": b"usER-agent"}
    assert b"usER-agent: x" in Http1ClientCodec(Http1Options()).send_head(1, head, True)


def test_received_case_is_kept() -> None:
    codec = asked(options=Http1Options(header_key_format=HeaderKeyFormat.PRESERVE))
    started = receive(codec, response("HTTP/1.1 200 OK", "CONTENT-length: 0"))[0]
    assert isinstance(started, ResponseStarted)
    assert started.head.names == {b"content-length": b"CONTENT-length"}


def test_target_cannot_end_its_line() -> None:
    codec = Http1ClientCodec(Http1Options())
    head = request()
    head.path = b"/a b\r\nx: y"
    assert codec.send_head(1, head, True).startswith(b"GET /a%20b%0D%0Ax:%20y HTTP/1.1\r\nhost: a\r\n")
