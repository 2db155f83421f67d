"""The PROXY protocol's header, versions 1 and 2 (haproxy.org/download/2.9/doc/proxy-protocol.txt), as Envoy takes it.

A load balancer in front of us sends it before the connection's own bytes, to say who the client is. A header is required
where it is configured: what does not begin with one is refused.
"""

import ipaddress
import socket
from typing import NamedTuple

from mosn_xds.spec.common import Address

MAX_HEADER_BYTES = 16 + 65535

_V1_START = b"PROXY "
_V1_MAX_BYTES = 107
_V2_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_V2_HEAD_BYTES = 16
_LOCAL, _PROXY = 0x20, 0x21
_STREAM, _DGRAM = 1, 2


class ProxyHeader(NamedTuple):
    """`size` bytes of the stream, and the addresses that they name: None keeps the connection's own. `tlvs` (type, value) are
    version 2's."""

    size: int
    source: Address | None
    destination: Address | None
    tlvs: tuple[tuple[int, bytes], ...] = ()


def proxy_version(data: bytes) -> int | None:
    """The version of the header that `data` begins, 0 if it begins none; None if that cannot be said yet."""
    for version, start in ((1, _V1_START), (2, _V2_SIGNATURE)):
        if start.startswith(data[: len(start)]):
            return version if len(data) >= len(start) else None
    return 0


def parse_proxy_header(data: bytes) -> ProxyHeader | None:
    """The header at the start of `data`; None if it is not complete yet. Raises ValueError if there is none."""
    if _V2_SIGNATURE.startswith(data[:12]):
        return _parse_v2(data) if len(data) >= _V2_HEAD_BYTES else None
    if _V1_START.startswith(data[:6]):
        return _parse_v1(data)
    raise ValueError("no PROXY protocol header")


def _parse_v1(data: bytes) -> ProxyHeader | None:
    end = data.find(b"\r\n", 0, _V1_MAX_BYTES)
    if end < 0:
        if len(data) >= _V1_MAX_BYTES:
            raise ValueError("PROXY protocol line is too long")
        return None
    size = end + 2
    words = data[:end].decode("ascii").split(" ")
    if words[1] == "UNKNOWN":
        return ProxyHeader(size, None, None)
    if len(words) != 6 or words[1] not in ("TCP4", "TCP6"):
        raise ValueError("malformed PROXY protocol line")
    kind = ipaddress.IPv4Address if words[1] == "TCP4" else ipaddress.IPv6Address
    source = Address(str(kind(words[2])), _port(words[4]))
    destination = Address(str(kind(words[3])), _port(words[5]))
    return ProxyHeader(size, source, destination)


def _port(word: str) -> int:
    if not word.isdigit() or int(word) > 65535:
        raise ValueError("malformed port in a PROXY protocol line")
    return int(word)


def _parse_v2(data: bytes) -> ProxyHeader | None:
    command, kind = data[12], data[13]
    size = _V2_HEAD_BYTES + int.from_bytes(data[14:16], "big")
    if command not in (_LOCAL, _PROXY):
        raise ValueError("unknown PROXY protocol command")
    if len(data) < size:
        return None
    if command == _LOCAL:
        return ProxyHeader(size, None, None)
    family, transport = kind >> 4, kind & 15
    if transport not in (_STREAM, _DGRAM) or family not in (1, 2):
        raise ValueError("unsupported PROXY protocol address")
    width = 4 if family == 1 else 16
    block = data[_V2_HEAD_BYTES:size]
    if len(block) < 2 * width + 4:
        raise ValueError("PROXY protocol addresses are cut")
    ip_family = socket.AF_INET if family == 1 else socket.AF_INET6
    hosts = [socket.inet_ntop(ip_family, block[at : at + width]) for at in (0, width)]
    ports = [int.from_bytes(block[at : at + 2], "big") for at in (2 * width, 2 * width + 2)]
    tlvs = _parse_tlvs(block[2 * width + 4 :])
    return ProxyHeader(size, Address(hosts[0], ports[0]), Address(hosts[1], ports[1]), tlvs)


def _parse_tlvs(data: bytes) -> tuple[tuple[int, bytes], ...]:
    found = []
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at + 1 : at + 3], "big")
        value = data[at + 3 : at + 3 + size]
        if at + 3 > len(data) or len(value) < size:
            raise ValueError("PROXY protocol TLV is cut")
        found.append((data[at], value))
        at += 3 + size
    return tuple(found)
