"""Between the kernel's socket addresses and the `Address` that configuration, logs and headers use."""

from typing import Any

from mosn_xds.spec.common import Address

_V4_MAPPED = "::ffff:"


def address_of(socket_address: Any) -> Address:
    """From what `getsockname`, `getpeername` and `accept` give. IPv4 seen through an IPv6 socket becomes plain IPv4."""
    if isinstance(socket_address, tuple):
        host, port, *rest = socket_address
        if host.startswith(_V4_MAPPED) and "." in host:
            host = host[len(_V4_MAPPED) :]
        elif rest and rest[-1] and "%" not in host:
            host = f"{host}%{rest[-1]}"
        return Address(host, port)
    if isinstance(socket_address, bytes):
        return Address("@" + socket_address[1:].decode(errors="replace"))
    return Address(str(socket_address))
