"""IP prefixes: is an address in one of them, and what does the longest one say.

Addresses are compared as integers. An IPv4 address that arrived on an IPv6 socket (``::ffff:1.2.3.4``) is an IPv4 address,
as in Envoy.
"""

import ipaddress
from collections.abc import Iterable
from typing import Generic, TypeVar

from mosn_xds.base.errors import ConfigError
from mosn_xds.spec.common import CidrRange

V = TypeVar("V")

IpValue = tuple[int, int]
"""(32 or 128, the address as an integer)."""


def parse_ip(text: str) -> IpValue | None:
    """The address that a literal stands for; None for what is no IP literal (a unix path, say)."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.max_prefixlen, int(address)


class CidrTable(Generic[V]):
    """Values by IP prefix; the longest prefix that holds an address wins, the first of equal ones."""

    __slots__ = ("_by_length", "_count")

    def __init__(self, entries: Iterable[tuple[CidrRange, V]]) -> None:
        tables: dict[tuple[int, int], dict[int, V]] = {}
        self._count = 0
        for cidr, value in entries:
            address = parse_ip(cidr.prefix)
            if address is None:
                raise ConfigError(f"malformed IP address: {cidr.prefix}")
            bits, number = address
            length = min(cidr.length, bits)
            tables.setdefault((bits, length), {}).setdefault(number >> (bits - length), value)
            self._count += 1
        self._by_length: dict[int, list[tuple[int, dict[int, V]]]] = {}
        for (bits, length), table in sorted(tables.items(), key=lambda item: -item[0][1]):
            self._by_length.setdefault(bits, []).append((bits - length, table))

    def __repr__(self) -> str:
        return f"<CidrTable {self._count} prefixes>"

    def find(self, address: IpValue | None) -> V | None:
        """The value of the longest prefix that holds the address; None when none does."""
        if address is None:
            return None
        bits, number = address
        for shift, table in self._by_length.get(bits, ()):
            value = table.get(number >> shift)
            if value is not None:
                return value
        return None


class CidrSet:
    """Whether an address is in one of some prefixes."""

    __slots__ = ("_table",)

    def __init__(self, ranges: Iterable[CidrRange]) -> None:
        self._table = CidrTable((cidr, True) for cidr in ranges)

    def __repr__(self) -> str:
        return f"<CidrSet of {self._table!r}>"

    def contains(self, host: str) -> bool:
        """Whether the IP literal is in one of the prefixes; False for what is no IP literal."""
        return self._table.find(parse_ip(host)) is not None
