"""Where a connection was going before netfilter sent it to us.

REDIRECT rewrites the destination, and conntrack remembers it (SO_ORIGINAL_DST). TPROXY leaves it as it was: on a transparent
socket the local address is the original destination.
"""

import socket

from mosn_xds.spec.common import Address

_SO_ORIGINAL_DST = 80
"""From <linux/netfilter_ipv4.h>; IP6T_SO_ORIGINAL_DST in <linux/netfilter_ipv6/ip6_tables.h> is the same number."""
_IP_TRANSPARENT, _IPV6_TRANSPARENT = 19, 75


def original_destination(sock: socket.socket, local: Address) -> Address | None:
    """None if the connection was not redirected. `local` is the socket's own address, and says which family to ask for."""
    if local.is_pipe or not local.host:
        return None
    v6 = ":" in local.host
    level = socket.IPPROTO_IPV6 if v6 else socket.IPPROTO_IP
    try:
        raw = sock.getsockopt(level, _SO_ORIGINAL_DST, 28 if v6 else 16)
    except OSError:  # conntrack knows nothing of it, or is not there
        return local if _is_transparent(sock, level) else None
    port = int.from_bytes(raw[2:4], "big")
    if v6:
        return Address(socket.inet_ntop(socket.AF_INET6, raw[8:24]), port)
    return Address(socket.inet_ntop(socket.AF_INET, raw[4:8]), port)


def _is_transparent(sock: socket.socket, level: int) -> bool:
    try:
        return bool(sock.getsockopt(level, _IPV6_TRANSPARENT if level == socket.IPPROTO_IPV6 else _IP_TRANSPARENT))
    except OSError:
        return False
