"""ORIGINAL_DST: a request goes where its connection was going before it was redirected to this proxy.

Hosts are made when they are first needed. One that was not chosen for a whole cleanup interval is forgotten, and its idle
connections are closed; connections in use live on. With `use_http_header` a request may name its destination itself.
"""

import ipaddress
from collections.abc import Callable

from mosn_xds.data.net.reactor import Reactor
from mosn_xds.data.net.timers import Timer
from mosn_xds.data.upstream.api import LbContext
from mosn_xds.data.upstream.host import Host
from mosn_xds.data.upstream.stats import ClusterStats
from mosn_xds.spec.cluster import Endpoint, OriginalDst
from mosn_xds.spec.common import Address

CLEANUP_INTERVAL_S = 5.0
_DEFAULT_HEADER = "x-envoy-original-dst-host"


class OriginalDstHosts:
    """Chooses, and makes, hosts by address; `on_change(added, removed)` hears of the membership."""

    __slots__ = ("_chosen", "_header", "_hosts", "_on_change", "_reactor", "_settings", "_stats", "_timer")

    def __init__(
        self,
        settings: OriginalDst,
        reactor: Reactor,
        stats: ClusterStats,
        on_change: Callable[[list[Host], list[Host]], None],
    ) -> None:
        self._settings = settings
        self._reactor = reactor
        self._stats = stats
        self._on_change = on_change
        self._header = (settings.http_header_name or _DEFAULT_HEADER).lower().encode()
        self._hosts: dict[Address, Host] = {}
        self._chosen: set[Address] = set()
        self._timer: Timer | None = None

    @property
    def hosts(self) -> list[Host]:
        return list(self._hosts.values())

    def choose(self, context: LbContext | None) -> Host | None:
        """None when the connection was not redirected and the request names no destination."""
        if context is None:
            return None
        address = None
        if self._settings.use_http_header and context.head is not None:
            value = context.head.get(self._header)
            if value is not None:
                address = parse_destination(value)
                if address is None:
                    self._stats.original_dst_host_invalid += 1
        if address is None:
            address = context.original_dst
        if address is None:
            return None
        if self._settings.port_override is not None:
            address = Address(address.host, self._settings.port_override)
        self._chosen.add(address)
        host = self._hosts.get(address)
        if host is None:
            host = self._hosts[address] = Host(Endpoint(address), self._reactor.clock.now)
            self._on_change([host], [])
            if self._timer is None:
                self._timer = self._reactor.timers.arm(CLEANUP_INTERVAL_S, self._clean_up)
        return host

    def close(self) -> None:
        """Forget all hosts."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        hosts, self._hosts = self._hosts, {}
        if hosts:
            self._on_change([], list(hosts.values()))

    def _clean_up(self) -> None:
        self._timer = None
        chosen, self._chosen = self._chosen, set()
        unused = [address for address in self._hosts if address not in chosen]
        if unused:
            self._on_change([], [self._hosts.pop(address) for address in unused])
        if self._hosts:
            self._timer = self._reactor.timers.arm(CLEANUP_INTERVAL_S, self._clean_up)

    def __repr__(self) -> str:
        return f"<OriginalDstHosts {len(self._hosts)}>"


def parse_destination(value: bytes) -> Address | None:
    """``10.0.0.1:80`` or ``[::1]:80``; None for anything else."""
    host, _, port = value.decode("latin-1").strip().rpartition(":")
    if not port.isdecimal() or not port.isascii() or int(port) > 65535:
        return None
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        ip = ipaddress.ip_address(host[1:-1] if bracketed else host)
    except ValueError:
        return None
    if bracketed != (ip.version == 6):
        return None
    return Address(str(ip), int(port))
