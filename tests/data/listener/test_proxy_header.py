"""PROXY protocol headers of both versions."""

import socket
import struct

import pytest

from mosn_xds.data.listener.proxy_header import ProxyHeader, parse_proxy_header, proxy_version
from mosn_xds.spec.common import Address

V2 = b"\r\n\r\n\0\r\nQUIT\n"


def v2(command: int, kind: int, block: bytes) -> bytes:
    return V2 + bytes([command, kind]) + struct.pack(">H", len(block)) + block


V4_BLOCK = socket.inet_aton("1.2.3.4") + socket.inet_aton("5.6.7.8") + struct.pack(">HH", 1111, 80)
V6_BLOCK = socket.inet_pton(socket.AF_INET6, "2001:db8::1") + socket.inet_pton(socket.AF_INET6, "::2") + b"\4\x57\1\xbb"


@pytest.mark.parametrize(
    ("header", "source", "destination"),
    [
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 1111 80\r\n", Address("1.2.3.4", 1111), Address("5.6.7.8", 80)),
        (b"PROXY TCP6 2001:db8::1 ::2 1111 443\r\n", Address("2001:db8::1", 1111), Address("::2", 443)),
        (b"PROXY UNKNOWN\r\n", None, None),
        (b"PROXY UNKNOWN ffff:f...f:ffff 65535\r\n", None, None),
        (v2(0x21, 0x11, V4_BLOCK), Address("1.2.3.4", 1111), Address("5.6.7.8", 80)),
        (v2(0x21, 0x21, V6_BLOCK), Address("2001:db8::1", 1111), Address("::2", 443)),
        (v2(0x20, 0x00, b""), None, None),
    ],
)
def test_a_header_names_both_ends_and_its_own_length(header: bytes, source: object, destination: object) -> None:
    assert parse_proxy_header(header + b"GET /") == ProxyHeader(len(header), source, destination)
    for size in range(len(header)):
        assert parse_proxy_header(header[:size]) is None


def test_further_facts_of_version_2() -> None:
    header = v2(0x21, 0x11, V4_BLOCK + b"\x04\0\3tlv" + b"\xea\0\0")
    parsed = parse_proxy_header(header + b"GET /")
    assert parsed is not None
    assert (parsed.size, parsed.tlvs) == (len(header), ((4, b"tlv"), (0xEA, b"")))


@pytest.mark.parametrize(("start", "version"), [(b"PROXY ", 1), (V2, 2), (b"PRO", None), (V2[:5], None), (b"GET ", 0)])
def test_the_version_is_known_as_soon_as_it_can_be(start: bytes, version: int | None) -> None:
    assert proxy_version(start) == version


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1111\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1111 99999\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 x 80\r\n",
        b"PROXY TCP4 ::1 ::2 1111 80\r\n",
        b"PROXY TCP4 1.2.3 5.6.7.8 1111 80\r\n",
        b"PROXY UDP4 1.2.3.4 5.6.7.8 1111 80\r\n",
        b"PROXY TCP4 \xff 5.6.7.8 1111 80\r\n",
        b"PROXY \r\n",
        b"PROXY TCP4 " + b"1" * 100,
        v2(0x22, 0x11, V4_BLOCK),
        v2(0x11, 0x11, V4_BLOCK),
        v2(0x21, 0x31, b"\0" * 216),
        v2(0x21, 0x10, V4_BLOCK),
        v2(0x21, 0x11, V4_BLOCK[:-1]),
        v2(0x21, 0x11, V4_BLOCK + b"\x04\0\4tlv"),
        v2(0x21, 0x11, V4_BLOCK + b"\x04\0"),
    ],
)
def test_what_is_no_header_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"PROXY|codec|address|IP|octet"):
        parse_proxy_header(data)
