"""What the first bytes tell: TLS ClientHellos and HTTP requests, whole, byte by byte, and broken."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mosn_xds.data.listener.sniff import ClientHello, Sniff, sniff_http, sniff_tls
from tests.data.listener.hellos import client_hello, extension, handmade_hello, split_into_records

HELLO = client_hello("WWW.Example.com", ("h2", "http/1.1"))


def test_a_real_client_hello_tells_its_server_name_and_protocols() -> None:
    assert sniff_tls(HELLO) == ClientHello("www.example.com", ("h2", "http/1.1"))
    assert sniff_tls(client_hello(None)) == ClientHello("", ())


def test_every_prefix_of_a_hello_asks_for_more() -> None:
    for size in range(len(HELLO)):
        assert sniff_tls(HELLO[:size]) is Sniff.MORE, size


def test_bytes_behind_the_hello_do_not_matter() -> None:
    assert sniff_tls(HELLO + b"early data") == sniff_tls(HELLO)


@pytest.mark.parametrize("size", [1, 3, 4, 5, 100])
def test_a_hello_may_be_spread_over_records(size: int) -> None:
    spread = split_into_records(HELLO, size)
    assert sniff_tls(spread) == sniff_tls(HELLO)
    for cut in range(len(spread)):
        assert sniff_tls(spread[:cut]) is Sniff.MORE


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x16\x02\x01\0\5",
        b"\x17\x03\x03\0\5hello",
        b"\x16\x03\x01\0\0",  # an empty record
        b"\x16\x03\x01\xff\xff",  # a record that is too long
        b"\x16\x03\x01\0\4\2\0\0\0",  # a ServerHello
        b"\x16\x03\x01\0\4\1\1\0\0",  # a handshake message of 64 KiB
        handmade_hello(extension(0, b"\0\4\0\0\0\0")),  # an empty server name
        handmade_hello(extension(0, b"\0\6\0\0\3a\0b")),  # NUL in the server name
        handmade_hello(extension(0, b"\0\5\0\0\2\xc3\xa9")),  # not ASCII
        handmade_hello(extension(0, b"\0\x09\0\0\x05")),  # a vector that ends behind its end
        handmade_hello(extension(16, b"\0\x05\x09h2")),
        handmade_hello(b"\0"),
        handmade_hello(b"", size=20),
    ],
)
def test_what_is_no_hello_is_something_else(data: bytes) -> None:
    assert sniff_tls(data) is Sniff.NO


def test_a_hello_without_extensions_has_no_name() -> None:
    assert sniff_tls(handmade_hello(b"")) == ClientHello("", ())


@given(st.binary(max_size=60))
def test_garbage_never_raises(data: bytes) -> None:
    for prefix in (b"", b"\x16\x03\x01", HELLO[:9], b"PRI", b"GET "):
        sniff_tls(prefix + data)
        sniff_http(prefix + data)


@given(st.integers(0, len(HELLO) - 1), st.integers(0, 255))
def test_a_mutated_hello_never_raises(at: int, byte: int) -> None:
    sniff_tls(HELLO[:at] + bytes([byte]) + HELLO[at + 1 :])


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"GET / HTTP/1.1\r\n", "http/1.1"),
        (b"GET / HTTP/1.1\n", "http/1.1"),
        (b"\r\n\r\nPOST /x HTTP/1.1\r\nhost", "http/1.1"),
        (b"GET / HTTP/1.0\r\n", "http/1.0"),
        (b"GET /\r\n", "http/1.0"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "h2c"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nframes", "h2c"),
        (b"PRI * HTTP/2.0\r\n\r\nSM", Sniff.MORE),
        (b"P", Sniff.MORE),
        (b"", Sniff.MORE),
        (b"\r\n", Sniff.MORE),
        (b"GET /index", Sniff.MORE),
        (b"GET / HTTP/1.1", Sniff.MORE),
        (b"\x16\x03\x01", Sniff.NO),
        (b"*1\r\n$4\r\nPING\r\n", Sniff.NO),
        (b"HELLO world\r\n", Sniff.NO),
        (b"GET / FTP/1.1\r\n", Sniff.NO),
        (b"GET / HTTP/1.1 x\r\n", Sniff.NO),
        (b"get / HTTP/1.1\r\n", Sniff.NO),
        (b"GET\r\n", Sniff.NO),
    ],
)
def test_http_is_told_by_its_first_line(data: bytes, found: object) -> None:
    assert sniff_http(data) == found


def test_a_request_line_is_awaited_byte_by_byte() -> None:
    line = b"OPTIONS /a HTTP/1.1\r"
    for size in range(len(line)):
        assert sniff_http(line[:size]) is Sniff.MORE
    assert sniff_http(line) == "http/1.1"
