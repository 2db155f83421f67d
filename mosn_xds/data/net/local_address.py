"""The machine's own address, which Envoy puts in x-forwarded-for in place of a loopback peer (`Utility::getLocalAddress`)."""

import fcntl
import ipaddress
import socket
import struct
from pathlib import Path

_SIOCGIFADDR = 0x8915
_ADDRESSES = Path("/proc/net/if_inet6")


def local_address(*, v6: bool) -> str:
    """The first address that is not loopback; the loopback address if there is none."""
    return _ipv6() if v6 else _ipv4()


def _ipv4() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
            except OSError:
                continue  # An interface without an IPv4 address.
            address = socket.inet_ntoa(answer[20:24])
            if not address.startswith("127."):
                return address
    return "127.0.0.1"


def _ipv6() -> str:
    """The kernel lists addresses by interface, on each the wider scopes first; its file has them in the order of a hash."""
    try:
        lines = [line.split() for line in _ADDRESSES.read_text().splitlines()]
    except OSError:  # IPv6 is switched off
        return "::1"
    found = [
        (int(index, 16), int(scope, 16), ipaddress.ip_address(bytes.fromhex(raw))) for raw, index, _, scope, *_ in lines
    ]
    return next((str(address) for _, _, address in sorted(found, key=_place) if not address.is_loopback), "::1")


def _place(entry: tuple[int, int, object]) -> tuple[int, int]:
    return entry[:2]
