"""The PROXY protocol's header as we send it (haproxy.org/download/2.9/doc/proxy-protocol.txt), versions 1 and 2.

It tells the upstream who the client is, before the connection's own bytes and before any TLS. Without a client (a mirrored
request, say) version 2 says LOCAL and version 1 UNKNOWN.
"""

import ipaddress

from mosn_xds.data.observe.info import ConnectionInfo
from mosn_xds.spec.cluster import UpstreamProxyProtocol
from mosn_xds.spec.common import Address

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_LOCAL, _PROXY = b"\x20", b"\x21"
_MOST_TLV_BYTES = 65535 - 36
"""The block's length has 16 bits, and two IPv6 addresses with ports stand in it, too."""
_STREAM_4, _STREAM_6, _UNSPECIFIED = b"\x11", b"\x21", b"\x00"


def proxy_header(spec: UpstreamProxyProtocol, connection: ConnectionInfo | None) -> bytes:
    """The header for an upstream connection that serves `connection`."""
    if connection is None:
        return _version_1(None, None) if spec.version == 1 else _version_2(None, None, b"")
    if spec.version == 1:
        return _version_1(connection.remote, connection.local)
    tlvs = [*spec.added_tlvs]
    tlvs += [one for one in connection.proxy_tlvs if spec.passes_all or one[0] in spec.passed_types]
    packed = b""
    for kind, value in tlvs:
        one = bytes((kind,)) + len(value).to_bytes(2, "big") + value
        if len(packed) + len(one) <= _MOST_TLV_BYTES:  # as in Envoy: what there is no room for is left out
            packed += one
    return _version_2(connection.remote, connection.local, packed)


def _version_1(source: Address | None, destination: Address | None) -> bytes:
    if source is None or destination is None or source.is_pipe or destination.is_pipe:
        return b"PROXY UNKNOWN\r\n"
    family = "TCP6" if ":" in source.host else "TCP4"
    return f"PROXY {family} {source.host} {destination.host} {source.port} {destination.port}\r\n".encode()


def _version_2(source: Address | None, destination: Address | None, tlvs: bytes) -> bytes:
    if source is None or destination is None or source.is_pipe or destination.is_pipe:
        return _SIGNATURE + _LOCAL + _UNSPECIFIED + b"\0\0"
    ends = [ipaddress.ip_address(one.host) for one in (source, destination)]
    family = _STREAM_4 if all(one.version == 4 for one in ends) else _STREAM_6
    hosts = [one.packed if family == _STREAM_4 else _as_ipv6(one) for one in ends]
    ports = [one.port.to_bytes(2, "big") for one in (source, destination)]
    block = b"".join((*hosts, *ports, tlvs))
    return b"".join((_SIGNATURE, _PROXY, family, len(block).to_bytes(2, "big"), block))


def _as_ipv6(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bytes:
    return address.packed if address.version == 6 else b"\0" * 10 + b"\xff\xff" + address.packed
