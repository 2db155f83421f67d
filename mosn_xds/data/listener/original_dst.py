"""Where a connection was going before netfilter redirected it to us (SO_ORIGINAL_DST)."""

import socket

from mosn_xds.spec.common import Address

_SO_ORIGINAL_DST = 80
"""From <linux/netfilter_ipv4.h>; IP6T_SO_ORIGINAL_DST in <linux/netfilter_ipv6/ip6_tables.h> is the same number."""


def original_destination(sock: socket.socket, local: Address) -> Address | None:
    """The destination that conntrack remembers; None if it knows none. `local` says which family to ask for."""
    v6 = ":" in local.host
    try:
        if v6:
            raw = sock.getsockopt(socket.IPPROTO_IPV6, _SO_ORIGINAL_DST, 28)
        else:
            raw = sock.getsockopt(socket.IPPROTO_IP, _SO_ORIGINAL_DST, 16)
    except OSError:  # not redirected, no conntrack, or no IP connection
        return None
    port = int.from_bytes(raw[2:4], "big")
    if v6:
        return Address(socket.inet_ntop(socket.AF_INET6, raw[8:24]), port)
    return Address(socket.inet_ntop(socket.AF_INET, raw[4:8]), port)
