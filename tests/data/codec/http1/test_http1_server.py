"""Requests as a client may put them on the wire, whole, byte by byte and with garbage behind."""

import pytest

from mosn_xds.base.errors import ResetReason
from mosn_xds.data.codec.events import (
    BadRequest,
    ConnectionClosed,
    Data,
    Event,
    RequestStarted,
    StreamReset,
    Trailers,
)
from mosn_xds.data.codec.head import RequestHead, ResponseHead, Version
from mosn_xds.data.codec.http1 import HeaderKeyFormat, Http1Options, Http1ServerCodec, UnderscoreAction

OK = ResponseHead(200, [(b"content-length", b"2")])


def pieces(raw: bytes, size: int) -> list[bytes]:
    return [raw[at : at + size] for at in range(0, len(raw), size)]


def receive(codec: Http1ServerCodec, raw: bytes, size: int = 1 << 20) -> list[Event]:
    """All events of `raw` fed in pieces of `size`, neighbouring parts of a body joined."""
    joined: list[Event] = []
    for piece in pieces(raw, size):
        for event in codec.receive(piece):
            last = joined[-1] if joined else None
            if isinstance(event, Data) and isinstance(last, Data):
                joined[-1] = Data(last.stream_id, last.data + event.data, event.end_stream)
            else:
                joined.append(event)
    return joined


def answer(codec: Http1ServerCodec, stream_id: int) -> list[Event]:
    """Answer the current exchange with `ok` and ask for the next."""
    codec.send_head(stream_id, OK, False)
    codec.send_data(stream_id, b"ok", True)
    return codec.next_exchange()


def head(codec: Http1ServerCodec, raw: bytes) -> RequestHead:
    started = codec.receive(raw)[0]
    assert isinstance(started, RequestStarted), started
    return started.head


def request(*lines: str, body: bytes = b"") -> bytes:
    return "".join(line + "\r\n" for line in lines).encode("latin-1") + b"\r\n" + body


GET = request("GET /p?q HTTP/1.1", "Host: a.b", "User-Agent: x", "X-Custom: 1 \t", "x-custom:2", "Empty:")

GOOD: dict[str, tuple[bytes, list[Event]]] = {
    "get": (
        GET,
        [
            RequestStarted(
                1,
                RequestHead(
                    b"GET", b"", b"a.b", b"/p?q", Version.HTTP11,
                    [(b"user-agent", b"x"), (b"x-custom", b"1"), (b"x-custom", b"2"), (b"empty", b"")],
                ),
                True,
            )
        ],
    ),
    "post with length": (
        request("POST / HTTP/1.1", "Host: a", "Content-Length: 5", body=b"hello"),
        [
            RequestStarted(
                1, RequestHead(b"POST", b"", b"a", b"/", Version.HTTP11, [(b"content-length", b"5")]), False
            ),
            Data(1, b"hello", True),
        ],
    ),
    "post with length zero": (
        request("POST / HTTP/1.1", "Host: a", "Content-Length: 0"),
        [RequestStarted(1, RequestHead(b"POST", b"", b"a", b"/", Version.HTTP11, [(b"content-length", b"0")]), True)],
    ),
    "post without length": (
        request("POST / HTTP/1.1", "Host: a"),
        [RequestStarted(1, RequestHead(b"POST", b"", b"a", b"/", Version.HTTP11, []), True)],
    ),
    "get with body": (
        request("GET / HTTP/1.1", "Host: a", "Content-Length: 2", body=b"hi"),
        [
            RequestStarted(1, RequestHead(b"GET", b"", b"a", b"/", Version.HTTP11, [(b"content-length", b"2")]), False),
            Data(1, b"hi", True),
        ],
    ),
    "chunked": (
        request("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: Chunked", body=b"3\r\nfoo\r\n2;x=y\r\nba\r\n0\r\n\r\n"),
        [RequestStarted(1, RequestHead(b"POST", b"", b"a", b"/", Version.HTTP11, []), False), Data(1, b"fooba", True)],
    ),
    "chunked and empty": (
        request("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
        [RequestStarted(1, RequestHead(b"POST", b"", b"a", b"/", Version.HTTP11, []), False), Data(1, b"", True)],
    ),
    "chunked with trailers, which are dropped": (
        request("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked", body=b"1\r\nx\r\n0\r\nX-T: 1\r\n\r\n"),
        [RequestStarted(1, RequestHead(b"POST", b"", b"a", b"/", Version.HTTP11, []), False), Data(1, b"x", True)],
    ),
    "absolute form": (
        request("GET http://user@Host.x:81/p?q HTTP/1.1", "Host: other"),
        [RequestStarted(1, RequestHead(b"GET", b"http", b"Host.x:81", b"/p?q", Version.HTTP11, []), True)],
    ),
    "absolute form without path": (
        request("GET HTTPS://[::1] HTTP/1.1"),
        [RequestStarted(1, RequestHead(b"GET", b"https", b"[::1]", b"/", Version.HTTP11, []), True)],
    ),
    "asterisk form": (
        request("OPTIONS * HTTP/1.1", "Host: a"),
        [RequestStarted(1, RequestHead(b"OPTIONS", b"", b"a", b"*", Version.HTTP11, []), True)],
    ),
    "no host": (
        request("GET / HTTP/1.1"),
        [RequestStarted(1, RequestHead(b"GET", b"", None, b"/", Version.HTTP11, []), True)],
    ),
    "empty host": (
        request("GET / HTTP/1.1", "Host:"),
        [RequestStarted(1, RequestHead(b"GET", b"", b"", b"/", Version.HTTP11, []), True)],
    ),
    "two hosts are joined": (
        request("GET / HTTP/1.1", "Host: a", "host: b"),
        [RequestStarted(1, RequestHead(b"GET", b"", b"a,b", b"/", Version.HTTP11, []), True)],
    ),
    "hop-by-hop fields are taken out": (
        request("GET / HTTP/1.1", "Host: a", "Connection: keep-alive, X-Mine", "Keep-Alive: 5", "Proxy-Connection: x",
                "x-mine: 1", "x-yours: 2"),
        [RequestStarted(1, RequestHead(b"GET", b"", b"a", b"/", Version.HTTP11, [(b"x-yours", b"2")]), True)],
    ),
    "te keeps trailers only": (
        request("GET / HTTP/1.1", "Host: a", "TE: deflate, trailers"),
        [RequestStarted(1, RequestHead(b"GET", b"", b"a", b"/", Version.HTTP11, [(b"te", b"trailers")]), True)],
    ),
    "upgrade without connection is no upgrade": (
        request("GET / HTTP/1.1", "Host: a", "Upgrade: websocket"),
        [RequestStarted(1, RequestHead(b"GET", b"", b"a", b"/", Version.HTTP11, []), True)],
    ),
    "blank lines before": (
        b"\r\n\r\n" + request("GET / HTTP/1.1", "Host: a"),
        [RequestStarted(1, RequestHead(b"GET", b"", b"a", b"/", Version.HTTP11, []), True)],
    ),
    "h2c is declined, the body is served": (
        request("POST / HTTP/1.1", "Host: a", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c",
                "HTTP2-Settings: AAMA", "Content-Length: 2", body=b"hi"),
        [
            RequestStarted(
                1, RequestHead(b"POST", b"", b"a", b"/", Version.HTTP11, [(b"content-length", b"2")]), False
            ),
            Data(1, b"hi", True),
        ],
    ),
    "h2c is declined, chunked": (
        request("POST / HTTP/1.1", "Host: a", "Connection: Upgrade", "Upgrade: H2C", "Transfer-Encoding: chunked",
                body=b"2\r\nhi\r\n0\r\n\r\n"),
        [RequestStarted(1, RequestHead(b"POST", b"", b"a", b"/", Version.HTTP11, []), False), Data(1, b"hi", True)],
    ),
    "h2c is declined, no body": (
        request("GET / HTTP/1.1", "Host: a", "Connection: Upgrade", "Upgrade: h2c"),
        [RequestStarted(1, RequestHead(b"GET", b"", b"a", b"/", Version.HTTP11, []), True)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", GOOD)
@pytest.mark.parametrize("size", [1 << 20, 7, 1])
def test_request_is_understood_however_it_is_cut(case: str, size: int) -> None:
    raw, expected = GOOD[case]
    codec = Http1ServerCodec(Http1Options())
    assert receive(codec, raw, size) == expected
    assert not codec.wants_pause


@pytest.mark.parametrize("case", GOOD)
def test_garbage_behind_a_request_waits_for_its_answer(case: str) -> None:
    raw, expected = GOOD[case]
    codec = Http1ServerCodec(Http1Options())
    assert receive(codec, raw + b"\x00garbage\r\n\r\n") == expected
    assert codec.wants_pause
    assert answer(codec, 1) == [BadRequest(2, 400, "http1.codec_error", b"Bad Request", Version.HTTP11)]
    assert b"connection: close" in codec.send_head(2, ResponseHead(400, []), True)
    assert codec.receive(b"GET / HTTP/1.1\r\n\r\n") == []


@pytest.mark.parametrize("case", GOOD)
def test_the_next_request_follows(case: str) -> None:
    raw, _ = GOOD[case]
    codec = Http1ServerCodec(Http1Options())
    receive(codec, raw + GET[:30])
    assert answer(codec, 1) == []
    started = codec.receive(GET[30:])[0]
    assert isinstance(started, RequestStarted)
    assert (started.stream_id, started.head.path) == (2, b"/p?q")


HOST = "Host: a"
CHUNKED = "Transfer-Encoding: chunked"
BAD: dict[str, tuple[bytes, int, str]] = {
    "method unknown": (request("FOO / HTTP/1.1", HOST), 400, "http1.codec_error"),
    "method in lower case": (request("get / HTTP/1.1", HOST), 400, "http1.codec_error"),
    "method of RTSP": (request("PLAY / RTSP/1.0", HOST), 400, "http1.codec_error"),
    "method of an HTTP/2 preface": (request("PRI / HTTP/1.1", HOST), 400, "http1.codec_error"),
    "version 1.0": (request("GET / HTTP/1.0", HOST), 426, "low_version"),
    "version 1.0 keep-alive": (request("GET / HTTP/1.0", HOST, "Connection: keep-alive"), 426, "low_version"),
    "version 0.9": (request("GET / HTTP/0.9", HOST), 426, "low_version"),
    "version missing": (b"GET /\r\n\r\n", 426, "low_version"),
    "version 1.2": (request("GET / HTTP/1.2", HOST), 426, "low_version"),
    "version 2.0": (request("GET / HTTP/2.0", HOST), 426, "low_version"),
    "version 1.10": (request("GET / HTTP/1.10", HOST), 400, "http1.codec_error"),
    "version in lower case": (request("GET / http/1.1", HOST), 400, "http1.codec_error"),
    "target with blank": (request("GET /a b HTTP/1.1", HOST), 400, "http1.codec_error"),
    "target with DEL": (request("GET /\x7f HTTP/1.1", HOST), 400, "http1.invalid_characters"),
    "target with NUL": (request("GET /\0 HTTP/1.1", HOST), 400, "http1.invalid_characters"),
    "target not ASCII": (request("GET /\xe9 HTTP/1.1", HOST), 400, "http1.codec_error"),
    "target without slash": (request("GET p HTTP/1.1", HOST), 400, "http1.codec_error"),
    "target *": (request("GET * HTTP/1.1", HOST), 400, "http1.invalid_url"),
    "target of another scheme": (request("GET ftp://h/p HTTP/1.1", HOST), 400, "http1.invalid_scheme"),
    "target without host": (request("GET http:///p HTTP/1.1", HOST), 400, "http1.invalid_url"),
    "target with bad port": (request("GET http://h:99999/p HTTP/1.1", HOST), 400, "http1.invalid_url"),
    "CONNECT with path": (request("CONNECT /p HTTP/1.1", HOST), 400, "http1.invalid_url"),
    "CONNECT without port": (request("CONNECT h HTTP/1.1", HOST), 400, "http1.invalid_url"),
    "CONNECT with user": (request("CONNECT u@h:80 HTTP/1.1", HOST), 400, "http1.invalid_url"),
    "CONNECT with length": (request("CONNECT h:80 HTTP/1.1", HOST, "Content-Length: 1"), 400, "http1.body_disallowed"),
    "CONNECT chunked": (request("CONNECT h:80 HTTP/1.1", HOST, CHUNKED), 501, "http1.invalid_transfer_encoding"),
    "host with blank": (request("GET / HTTP/1.1", "Host: a b"), 400, "http.invalid_authority"),
    "host with slash": (request("GET / HTTP/1.1", "Host: a/b"), 400, "http.invalid_authority"),
    "host not ASCII": (request("GET / HTTP/1.1", "Host: \xe9"), 400, "http.invalid_authority"),
    "length and chunked": (
        request("POST / HTTP/1.1", HOST, "Content-Length: 3", CHUNKED, body=b"0\r\n\r\n"),
        400, "http1.content_length_and_chunked_not_allowed",
    ),
    "chunked and length": (
        request("POST / HTTP/1.1", HOST, CHUNKED, "Content-Length: 3", body=b"0\r\n\r\n"),
        400, "http1.content_length_and_chunked_not_allowed",
    ),
    "two equal lengths": (
        request("POST / HTTP/1.1", HOST, "Content-Length: 2", "Content-Length: 2"), 400, "http1.codec_error",
    ),
    "list of lengths": (request("POST / HTTP/1.1", HOST, "Content-Length: 2, 2"), 400, "http1.codec_error"),
    "signed length": (request("POST / HTTP/1.1", HOST, "Content-Length: +2"), 400, "http1.codec_error"),
    "hexadecimal length": (request("POST / HTTP/1.1", HOST, "Content-Length: 0x2"), 400, "http1.codec_error"),
    "empty length": (request("POST / HTTP/1.1", HOST, "Content-Length:"), 400, "http1.codec_error"),
    "endless length": (request("POST / HTTP/1.1", HOST, "Content-Length: " + "9" * 30), 400, "http1.codec_error"),
    "coding and chunked": (
        request("POST / HTTP/1.1", HOST, "Transfer-Encoding: gzip, chunked"), 501, "http1.invalid_transfer_encoding",
    ),
    "codings in two fields": (
        request("POST / HTTP/1.1", HOST, "Transfer-Encoding: gzip", CHUNKED), 501, "http1.invalid_transfer_encoding",
    ),
    "chunked twice": (
        request("POST / HTTP/1.1", HOST, CHUNKED, CHUNKED), 501, "http1.invalid_transfer_encoding",
    ),
    "comma before chunked": (
        request("POST / HTTP/1.1", HOST, "Transfer-Encoding: ,chunked"), 501, "http1.invalid_transfer_encoding",
    ),
    "chunked is not last": (
        request("POST / HTTP/1.1", HOST, "Transfer-Encoding: chunked, gzip"), 501, "http1.invalid_transfer_encoding",
    ),
    "coding unknown": (
        request("POST / HTTP/1.1", HOST, "Transfer-Encoding: identity"), 501, "http1.invalid_transfer_encoding",
    ),
    "coding empty": (request("POST / HTTP/1.1", HOST, "Transfer-Encoding:"), 501, "http1.invalid_transfer_encoding"),
    "blank before colon": (request("GET / HTTP/1.1", HOST, "X : 1"), 400, "http1.codec_error"),
    "no colon": (request("GET / HTTP/1.1", HOST, "abc"), 400, "http1.codec_error"),
    "no name": (request("GET / HTTP/1.1", HOST, ": 1"), 400, "http1.codec_error"),
    "NUL in name": (request("GET / HTTP/1.1", HOST, "x\0: 1"), 400, "http1.codec_error"),
    "NUL in value": (request("GET / HTTP/1.1", HOST, "x: a\0"), 400, "http1.invalid_characters"),
    "control in value": (request("GET / HTTP/1.1", HOST, "x: a\x01"), 400, "http1.invalid_characters"),
    "DEL in value": (request("GET / HTTP/1.1", HOST, "x: a\x7f"), 400, "http1.invalid_characters"),
    "folded line": (request("GET / HTTP/1.1", HOST, "x: a", " b"), 400, "http1.codec_error"),
    "bare LF": (b"GET / HTTP/1.1\nHost: a\n\n", 400, "http1.codec_error"),
    "bare LF between fields": (b"GET / HTTP/1.1\r\nHost: a\nx: 1\r\n\r\n", 400, "http1.codec_error"),
    "bare CR in value": (b"GET / HTTP/1.1\r\nHost: a\r\nx: a\rb\r\n\r\n", 400, "http1.codec_error"),
    "nominates x-forwarded-for": (
        request("GET / HTTP/1.1", HOST, "Connection: X-Forwarded-For"), 400, "http1.connection_header_rejected",
    ),
    "nominates ten": (
        request("GET / HTTP/1.1", HOST, "Connection: a,b,c,d,e,f,g,h,i,j"), 400, "http1.connection_header_rejected",
    ),
    "head too large": (
        request("GET / HTTP/1.1", HOST, "x: " + "v" * 62000), 431, "http1.headers_too_large",
    ),
    "target too large": (request("GET /" + "v" * 62000 + " HTTP/1.1", HOST), 431, "http1.headers_too_large"),
    "too many fields": (request("GET / HTTP/1.1", HOST, *["x: 1"] * 100), 431, "http1.too_many_headers"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("size", [1 << 20, 4096, 13])
def test_bad_request_is_refused_and_nothing_behind_it_is_read(case: str, size: int) -> None:
    raw, status, details = BAD[case]
    codec = Http1ServerCodec(Http1Options())
    events = receive(codec, raw + GET, size)
    assert [type(event) for event in events] == [BadRequest]
    refused = events[0]
    assert isinstance(refused, BadRequest)
    assert (refused.stream_id, refused.status, refused.details) == (1, status, details)
    assert codec.send_head(1, ResponseHead(status, []), True).startswith(b"HTTP/1.1 %d %b\r\n" % (status, refused.body))
    assert not codec.keep_alive
    assert codec.receive(GET) == []
    assert codec.next_exchange() == []
    assert not codec.wants_pause


BAD_BODIES = {
    "size missing": b"\r\n",
    "size not a number": b"g\r\n",
    "size signed": b"+2\r\nhi\r\n",
    "size with blank": b"2 \r\nhi\r\n",
    "size with underscore": b"1_0\r\n",
    "size with 0x": b"0x2\r\nhi\r\n",
    "size endless": b"f" * 17 + b"\r\n",
    "LF after size": b"2\nhi\r\n",
    "LF after data": b"2\r\nhi\n",
    "data longer than its size": b"2\r\nhiX\r\n",
    "bad trailer": b"0\r\nx y: 1\r\n\r\n",
    "length in trailers": b"0\r\ncontent-length: 1\r\n\r\n",
    "coding in trailers": b"0\r\ntransfer-encoding: chunked\r\n\r\n",
    "connection in trailers": b"0\r\nconnection: close\r\n\r\n",
    "upgrade in trailers": b"0\r\nupgrade: websocket\r\n\r\n",
}


@pytest.mark.parametrize("case", BAD_BODIES)
@pytest.mark.parametrize("size", [1 << 20, 1])
def test_bad_chunked_body_breaks_its_stream(case: str, size: int) -> None:
    codec = Http1ServerCodec(Http1Options())
    events = receive(codec, request("POST / HTTP/1.1", HOST, CHUNKED) + BAD_BODIES[case], size)
    assert isinstance(events[0], RequestStarted)
    assert not events[0].end_stream
    refused = events[-1]
    assert isinstance(refused, BadRequest)
    assert (refused.stream_id, refused.status) == (1, 400)


def test_trailers_are_passed_on_where_enabled_without_those_that_frame_or_route() -> None:
    codec = Http1ServerCodec(Http1Options(enable_trailers=True))
    raw = request(
        "POST / HTTP/1.1", HOST, CHUNKED, body=b"1\r\nx\r\n0\r\nX-T: 1\r\nHost: evil\r\nKeep-Alive: 1\r\n\r\n"
    )
    assert receive(codec, raw)[1:] == [Data(1, b"x", False), Trailers(1, [(b"x-t", b"1")])]
    answer(codec, 1)
    assert codec.keep_alive
    assert head(codec, GET).authority == b"a.b"


@pytest.mark.parametrize("size", [1 << 20, 1000])
def test_trailer_section_has_the_limits_of_a_head(size: int) -> None:
    raw = request("POST / HTTP/1.1", HOST, CHUNKED, body=b"1\r\nx\r\n0\r\nx: " + b"v" * 70_000 + b"\r\n\r\n")
    refused = receive(Http1ServerCodec(Http1Options()), raw, size)[-1]
    assert isinstance(refused, BadRequest)
    assert (refused.status, refused.details) == (431, "http1.headers_too_large")


@pytest.mark.parametrize("limit", [60 * 1024, 1024])
@pytest.mark.parametrize("size", [1 << 20, 5000, 100])
def test_head_of_exactly_the_limit_passes_and_one_byte_more_does_not(limit: int, size: int) -> None:
    frame = request("GET / HTTP/1.1", HOST, "x: ")
    for length, verdict in ((limit, RequestStarted), (limit + 1, BadRequest)):
        raw = request("GET / HTTP/1.1", HOST, "x: " + "v" * (length - len(frame)))
        assert len(raw) == length
        codec = Http1ServerCodec(Http1Options(max_headers_bytes=limit))
        assert isinstance(receive(codec, raw, size)[0], verdict)


def test_a_hundred_fields_pass_host_among_them() -> None:
    raw = request("GET / HTTP/1.1", HOST, *["x: 1"] * 99)
    assert len(head(Http1ServerCodec(Http1Options()), raw).fields) == 99


def test_unfinished_value_is_not_collected_for_ever() -> None:
    codec = Http1ServerCodec(Http1Options())
    codec.receive(b"GET / HTTP/1.1\r\nx: ")
    fed = 0
    while not codec.receive(b"v" * 1000):
        fed += 1000
        assert fed < 64 * 1024


def test_version_10_where_accepted() -> None:
    codec = Http1ServerCodec(Http1Options(accept_http_10=True, default_host_for_http_10=b"standard"))
    first = head(codec, request("GET / HTTP/1.0", "Connection: keep-alive"))
    assert (first.version, first.authority) == (Version.HTTP10, b"standard")
    assert codec.send_head(1, OK, False) == (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\nconnection: keep-alive\r\n\r\n")
    codec.send_data(1, b"ok", True)
    assert codec.keep_alive
    codec.next_exchange()
    second = head(codec, request("GET / HTTP/1.0", "Host: a"))
    assert (second.authority, second.keep_alive) == (b"a", False)
    assert codec.send_head(2, ResponseHead(200, []), False) == b"HTTP/1.0 200 OK\r\nconnection: close\r\n\r\n"
    assert codec.send_data(2, b"until the end", True) == b"until the end"
    assert not codec.keep_alive


def test_chunked_request_of_version_10_is_refused() -> None:
    codec = Http1ServerCodec(Http1Options(accept_http_10=True))
    refused = codec.receive(request("POST / HTTP/1.0", HOST, CHUNKED))[0]
    assert isinstance(refused, BadRequest)
    assert refused.status == 400


def test_absolute_form_stays_a_path_where_it_is_not_allowed() -> None:
    codec = Http1ServerCodec(Http1Options(allow_absolute_url=False))
    assert head(codec, request("GET http://h/p HTTP/1.1", HOST)).path == b"http://h/p"


def test_allowed_chunked_length_drops_the_length() -> None:
    codec = Http1ServerCodec(Http1Options(allow_chunked_length=True))
    raw = request("POST / HTTP/1.1", HOST, "Content-Length: 9", CHUNKED, body=b"2\r\nhi\r\n0\r\n\r\n")
    started, data = receive(codec, raw)
    assert isinstance(started, RequestStarted)
    assert started.head.fields == []
    assert data == Data(1, b"hi", True)


def test_underscores() -> None:
    raw = request("GET / HTTP/1.1", HOST, "x_y: 1", "x-z: 2")
    assert head(Http1ServerCodec(Http1Options()), raw).fields == [(b"x_y", b"1"), (b"x-z", b"2")]
    dropping = Http1ServerCodec(Http1Options(underscores=UnderscoreAction.DROP_HEADER))
    assert head(dropping, raw).fields == [(b"x-z", b"2")]
    refused = Http1ServerCodec(Http1Options(underscores=UnderscoreAction.REJECT_REQUEST)).receive(raw)[0]
    assert isinstance(refused, BadRequest)
    assert (refused.status, refused.details) == (400, "http1.unexpected_underscore")


def test_received_case_is_kept_for_the_next_hop() -> None:
    codec = Http1ServerCodec(Http1Options(header_key_format=HeaderKeyFormat.PRESERVE))
    first = head(codec, request("GET / HTTP/1.1", "HOST: a", "x-FOO: 1", "X-foo: 2"))
    assert first.names == {b"host": b"HOST", b"x-foo": b"x-FOO"}
    assert first.fields == [(b"x-foo", b"1"), (b"x-foo", b"2")]
    answer(codec, 1)
    assert head(codec, request("GET / HTTP/1.1", "Host: a")).names == {b"host": b"Host"}


def test_pipelined_requests_come_one_by_one() -> None:
    codec = Http1ServerCodec(Http1Options())
    many = b"".join(request(f"POST /{n} HTTP/1.1", HOST, "Content-Length: 1", body=b"%d" % n) for n in range(1, 6))
    events = codec.receive(many)
    for n in range(1, 6):
        assert [event.stream_id for event in events] == [n, n]  # type: ignore[union-attr]
        started = events[0]
        assert isinstance(started, RequestStarted)
        assert started.head.path == b"/%d" % n
        assert events[1] == Data(n, b"%d" % n, True)
        assert codec.wants_pause == (n < 5)
        events = answer(codec, n)
    assert events == []


def test_bytes_that_come_during_an_exchange_are_parsed_after_it() -> None:
    codec = Http1ServerCodec(Http1Options())
    codec.receive(GET)
    assert codec.receive(GET[:10]) == []
    assert codec.receive(GET[10:] + GET[:5]) == []
    assert codec.wants_pause
    second = answer(codec, 1)
    assert [event.stream_id for event in second] == [2]  # type: ignore[union-attr]
    assert answer(codec, 2) == []
    assert not codec.wants_pause
    assert isinstance(codec.receive(GET[5:])[0], RequestStarted)


def test_pipelined_request_whose_body_is_still_coming() -> None:
    codec = Http1ServerCodec(Http1Options())
    post = request("POST / HTTP/1.1", HOST, "Content-Length: 4", body=b"ab")
    codec.receive(GET + post)
    assert codec.receive(b"cd" + GET) == []
    events = answer(codec, 1)
    assert events[1:] == [Data(2, b"ab", False), Data(2, b"cd", True)]
    assert isinstance(answer(codec, 2)[0], RequestStarted)


def test_a_read_full_of_pipelined_requests_is_not_parsed_ahead_of_its_time() -> None:
    codec = Http1ServerCodec(Http1Options())
    codec.receive(b"GET / HTTP/1.1\r\n\r\n" * 14_000)
    assert len(codec._held) < 1000
    for n in range(1, 14_000):
        assert isinstance(answer(codec, n)[0], RequestStarted)
    assert not codec.wants_pause


def test_nothing_is_released_before_the_answer_is_complete() -> None:
    codec = Http1ServerCodec(Http1Options())
    codec.receive(GET + GET)
    assert codec.next_exchange() == []
    codec.send_head(1, OK, False)
    assert codec.next_exchange() == []
    codec.send_data(1, b"ok", True)
    assert len(codec.next_exchange()) == 1


def test_connection_close_makes_the_request_the_last() -> None:
    codec = Http1ServerCodec(Http1Options())
    raw = request("GET / HTTP/1.1", HOST, "Connection: close")
    assert not head(codec, raw + GET).keep_alive
    assert codec.send_head(1, OK, False).endswith(b"connection: close\r\n\r\n")
    codec.send_data(1, b"ok", True)
    assert not codec.keep_alive
    assert codec.next_exchange() == []
    assert codec.receive(GET) == []


def test_answer_before_the_request_is_complete_closes() -> None:
    codec = Http1ServerCodec(Http1Options())
    codec.receive(request("POST / HTTP/1.1", HOST, "Content-Length: 10", body=b"hello"))
    assert b"connection: close" in codec.send_head(1, OK, False)
    codec.send_data(1, b"ok", True)
    assert codec.receive(b"world") == [Data(1, b"world", True)]
    assert not codec.keep_alive
    assert codec.next_exchange() == []


UPGRADE = request("GET /ws HTTP/1.1", HOST, "Connection: keep-alive, Upgrade", "Upgrade: WebSocket")
SWITCHING = ResponseHead(101, [(b"connection", b"Upgrade"), (b"upgrade", b"websocket")])


@pytest.mark.parametrize("size", [1 << 20, 1])
def test_granted_upgrade_passes_bytes_on(size: int) -> None:
    codec = Http1ServerCodec(Http1Options())
    events = receive(codec, UPGRADE + b"GET /early", size)
    (started,) = events
    assert isinstance(started, RequestStarted)
    assert not started.end_stream
    assert started.head.upgrade == b"websocket"
    assert started.head.fields == [(b"connection", b"keep-alive, Upgrade"), (b"upgrade", b"WebSocket")]
    assert codec.wants_pause
    assert codec.accept_upgrade(1) == [Data(1, b"GET /early", False)]
    assert codec.send_head(1, SWITCHING, False) == (
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n"
    )
    assert codec.receive(b"\x00raw") == [Data(1, b"\x00raw", False)]
    assert codec.send_data(1, b"\xff", False) == b"\xff"
    assert not codec.wants_pause
    assert codec.receive_eof() == [Data(1, b"", True)]


def test_bytes_behind_an_upgrade_that_is_not_granted_are_never_parsed() -> None:
    codec = Http1ServerCodec(Http1Options())
    codec.receive(UPGRADE + GET)
    assert codec.receive(GET) == []
    assert codec.send_head(1, ResponseHead(403, []), True) == (
        b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    )
    assert codec.receive(GET) == []
    assert codec.next_exchange() == []
    assert not codec.keep_alive


def test_upgrade_with_a_body_is_still_an_upgrade() -> None:
    codec = Http1ServerCodec(Http1Options())
    codec.receive(UPGRADE.replace(b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\n") + b"hello")
    assert codec.accept_upgrade(1) == [Data(1, b"hello", False)]


def test_empty_upgrade_token_asks_for_nothing() -> None:
    raw = request("GET / HTTP/1.1", HOST, "Connection: upgrade", "Upgrade:")
    codec = Http1ServerCodec(Http1Options())
    assert codec.receive(raw) == [RequestStarted(1, RequestHead(b"GET", b"", b"a", b"/", Version.HTTP11, []), True)]


def test_connect() -> None:
    codec = Http1ServerCodec(Http1Options())
    connect = head(codec, request("CONNECT h:443 HTTP/1.1", "Host: other", "Content-Length: 0", body=b"early"))
    assert (connect.method, connect.authority, connect.path, connect.fields) == (b"CONNECT", b"h:443", b"", [])
    assert codec.accept_upgrade(1) == [Data(1, b"early", False)]
    assert codec.send_head(1, ResponseHead(200, []), False) == b"HTTP/1.1 200 OK\r\n\r\n"
    assert codec.send_data(1, b"raw", False) == b"raw"


def test_connect_that_is_refused_is_answered_like_any_request() -> None:
    codec = Http1ServerCodec(Http1Options())
    codec.receive(request("CONNECT h:443 HTTP/1.1", HOST))
    assert b"connection: close" in codec.send_head(1, ResponseHead(404, []), True)


def test_end_of_connection_within_a_body_resets_the_stream() -> None:
    codec = Http1ServerCodec(Http1Options())
    codec.receive(request("POST / HTTP/1.1", HOST, "Content-Length: 10", body=b"hello"))
    assert codec.receive_eof() == [StreamReset(1, ResetReason.CONNECTION_TERMINATION), ConnectionClosed()]


@pytest.mark.parametrize("raw", [b"", b"GET / HT", GET])
def test_end_of_connection_elsewhere(raw: bytes) -> None:
    codec = Http1ServerCodec(Http1Options())
    if raw:
        codec.receive(raw)
    assert codec.receive_eof() == [ConnectionClosed()]


def test_closed_codec_leaves_no_cycle() -> None:
    import gc
    import weakref

    class Watched(Http1ServerCodec):
        __slots__ = ("__weakref__",)

    gc.disable()
    try:
        codec = Watched(Http1Options())
        codec.receive(GET)
        gone = weakref.ref(codec)
        codec.close()
        del codec
        assert gone() is None
    finally:
        gc.enable()
