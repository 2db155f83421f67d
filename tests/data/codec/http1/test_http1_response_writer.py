"""What goes to the client: framing, connection fields, case. The bytes are those that Envoy 1.40 was seen to write."""

import pytest

from mosn_xds.data.codec.head import Fields, ResponseHead
from mosn_xds.data.codec.http1 import HeaderKeyFormat, Http1Options, Http1ServerCodec


def asked(method: str = "GET", version: str = "1.1", options: Http1Options | None = None) -> Http1ServerCodec:
    codec = Http1ServerCodec(options or Http1Options(accept_http_10=True))
    codec.receive(f"{method} / HTTP/{version}\r\nHost: a\r\n\r\n".encode())
    return codec


def written(codec: Http1ServerCodec, status: int, fields: Fields, body: list[bytes]) -> bytes:
    """The response to the first request as one string of bytes; `body` empty means that the head ends it."""
    out = codec.send_head(1, ResponseHead(status, fields), not body)
    for at, part in enumerate(body):
        sent = codec.send_data(1, part, at == len(body) - 1)
        out += sent if isinstance(sent, bytes) else b"".join(sent)
    return out


LENGTH = (b"content-length", b"2")

FRAMING: dict[str, tuple[str, int, Fields, list[bytes], bytes]] = {
    "length known": ("GET", 200, [LENGTH], [b"h", b"i"], b"200 OK\r\ncontent-length: 2\r\n\r\nhi"),
    "length unknown": (
        "GET", 200, [], [b"h", b"", b"i"], b"200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nh\r\n1\r\ni\r\n0\r\n\r\n",
    ),
    "length unknown, end apart": (
        "GET", 200, [], [b"h", b""], b"200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nh\r\n0\r\n\r\n",
    ),
    "no body": ("GET", 200, [], [], b"200 OK\r\ncontent-length: 0\r\n\r\n"),
    "no body, and says so": (
        "GET", 404, [(b"content-length", b"0")], [], b"404 Not Found\r\ncontent-length: 0\r\n\r\n",
    ),
    "204": ("GET", 204, [], [], b"204 No Content\r\n\r\n"),
    "304": ("GET", 304, [], [], b"304 Not Modified\r\n\r\n"),
    "304 with length": ("GET", 304, [LENGTH], [], b"304 Not Modified\r\ncontent-length: 2\r\n\r\n"),
    "204 never has a body": ("GET", 204, [], [b"hi"], b"204 No Content\r\n\r\n"),
    "HEAD with length": ("HEAD", 200, [LENGTH], [], b"200 OK\r\ncontent-length: 2\r\n\r\n"),
    "HEAD without length": ("HEAD", 200, [], [], b"200 OK\r\ntransfer-encoding: chunked\r\n\r\n"),
    "HEAD 304": ("HEAD", 304, [], [], b"304 Not Modified\r\n\r\n"),
    "body to HEAD is left out": ("HEAD", 200, [LENGTH], [b"hi"], b"200 OK\r\ncontent-length: 2\r\n\r\n"),
    "chunked body to HEAD is left out": ("HEAD", 200, [], [b"hi"], b"200 OK\r\ntransfer-encoding: chunked\r\n\r\n"),
    "status without phrase": ("GET", 418, [LENGTH], [b"hi"], b"418 Unknown\r\ncontent-length: 2\r\n\r\nhi"),
    "duplicates stay": (
        "GET", 200, [(b"set-cookie", b"a"), (b"set-cookie", b"b"), LENGTH], [b"hi"],
        b"200 OK\r\nset-cookie: a\r\nset-cookie: b\r\ncontent-length: 2\r\n\r\nhi",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FRAMING)
def test_framing(case: str) -> None:
    method, status, fields, body, expected = FRAMING[case]
    codec = asked(method)
    assert written(codec, status, fields, body) == b"HTTP/1.1 " + expected
    assert codec.keep_alive


@pytest.mark.parametrize("case", FRAMING)
def test_last_response_of_a_connection_says_so(case: str) -> None:
    method, status, fields, body, expected = FRAMING[case]
    codec = asked(method)
    codec.close_after()
    head, _, rest = expected.partition(b"\r\n\r\n")
    assert written(codec, status, fields, body) == b"HTTP/1.1 " + head + b"\r\nconnection: close\r\n\r\n" + rest
    assert not codec.keep_alive


def test_large_chunk_is_not_copied() -> None:
    codec = asked()
    codec.send_head(1, ResponseHead(200, []), False)
    body = b"x" * 100_000
    sent = codec.send_data(1, body, True)
    assert isinstance(sent, tuple)
    assert sent[1] is body
    assert b"".join(sent) == b"186a0\r\n" + body + b"\r\n0\r\n\r\n"


def test_trailers_need_to_be_enabled_and_chunks() -> None:
    fields = [(b"grpc-status", b"0")]
    dropping = asked()
    dropping.send_head(1, ResponseHead(200, []), False)
    assert dropping.send_trailers(1, fields) == b"0\r\n\r\n"
    passing = asked(options=Http1Options(enable_trailers=True))
    passing.send_head(1, ResponseHead(200, []), False)
    assert passing.send_trailers(1, fields) == b"0\r\ngrpc-status: 0\r\n\r\n"
    sized = asked(options=Http1Options(enable_trailers=True))
    sized.send_head(1, ResponseHead(200, [LENGTH]), False)
    assert sized.send_trailers(1, fields) == b""


def test_version_10_gets_no_chunks_and_no_informational() -> None:
    codec = asked(version="1.0")
    assert codec.send_informational(1, ResponseHead(100, [])) == b""
    assert written(codec, 200, [], [b"hi"]) == b"HTTP/1.0 200 OK\r\nconnection: close\r\n\r\nhi"
    assert written(asked("HEAD", "1.0"), 200, [], []) == b"HTTP/1.0 200 OK\r\nconnection: close\r\n\r\n"


def test_informational() -> None:
    assert asked().send_informational(1, ResponseHead(100, [])) == b"HTTP/1.1 100 Continue\r\n\r\n"
    hints = ResponseHead(103, [(b"link", b"</x>")])
    assert asked().send_informational(1, hints) == b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"


def test_proper_case() -> None:
    codec = asked(options=Http1Options(header_key_format=HeaderKeyFormat.PROPER_CASE))
    codec.close_after()
    fields = [(b"foo-bar", b"a"), (b"x-b3_a9", b"1"), (b"foo$b#$are", b"1")]
    assert written(codec, 200, fields, [b"x"]) == (
        b"HTTP/1.1 200 OK\r\nFoo-Bar: a\r\nX-B3_A9: 1\r\nFoo$B#$Are: 1\r\n"
        b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n1\r\nx\r\n0\r\n\r\n"
    )


@pytest.mark.parametrize("key_format", [None, HeaderKeyFormat.PRESERVE, HeaderKeyFormat.PROPER_CASE])
def test_received_case_wins(key_format: HeaderKeyFormat | None) -> None:
    codec = asked(options=Http1Options(header_key_format=key_format))
    head = ResponseHead(200, [(b"x-foo", b"a"), (b"date", b"now"), LENGTH], names={b"x-foo": b"x-FOO"})
    assert b"\r\nx-FOO: a\r\ndate: now\r\n" in codec.send_head(1, head, False)
