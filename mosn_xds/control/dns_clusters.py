"""The endpoints of clusters that name hosts: `watch_name` for each of their names, gathered into one `Endpoints`.

STRICT_DNS takes every address of every name; LOGICAL_DNS the first address of its one name, and keeps the last that it
had when an answer is empty. A name whose servers fail keeps what it had. Addresses are sorted, so that a server that
rotates its answers changes nothing.
"""

import logging
from collections.abc import Callable, Sequence

import msgspec
import trio

from mosn_xds.base.chance import Random
from mosn_xds.control.resolve import Address, Lookup, ResolutionError, watch_name
from mosn_xds.control.translate.model import DnsDiscovery, DnsHost
from mosn_xds.spec.cluster import Endpoint, Endpoints
from mosn_xds.spec.common import Address as SocketAddress
from mosn_xds.spec.snapshot import Item, Kind, make_item

_log = logging.getLogger("mosn_xds.dns")


class DnsCluster:
    """The names of one cluster; `changed` is called when its endpoints are other ones, or known for the first time."""

    def __init__(
        self, name: str, discovery: DnsDiscovery, lookup: Lookup, random: Random, changed: Callable[[], None]
    ) -> None:
        self.name = name
        self.discovery = discovery
        self._lookup = lookup
        self._random = random
        self._changed = changed
        self._hosts = [host for locality in discovery.localities for host in locality.hosts]
        self._found: dict[DnsHost, tuple[str, ...]] = {}
        self._item = self._make_item()
        self.scope = trio.CancelScope()
        """Cancelled when the cluster is gone."""

    def __repr__(self) -> str:
        return f"<DnsCluster {self.name} {len(self._found)}/{len(self._hosts)} names resolved>"

    @property
    def waits_for(self) -> list[str]:
        """The names that have not been answered yet; a failure is an answer, or one dead name would hold up the rest."""
        return [host.hostname for host in self._hosts if host not in self._found]

    @property
    def item(self) -> Item:
        """The endpoints as known now."""
        return self._item

    async def run(self) -> None:
        """Resolve until `scope` is cancelled."""
        with self.scope:
            async with trio.open_nursery() as nursery:
                for host in dict.fromkeys(self._hosts):
                    report = self._reporter(host)
                    nursery.start_soon(watch_name, host.hostname, self.discovery, self._lookup, self._random, report)

    def _reporter(self, host: DnsHost) -> Callable[[Sequence[Address] | ResolutionError], None]:
        def report(outcome: Sequence[Address] | ResolutionError) -> None:
            known = self._found.get(host)
            if isinstance(outcome, ResolutionError):
                _log.warning("cluster %s: %s", self.name, outcome)
                found = known or ()
            elif not self.discovery.logical:
                found = tuple(sorted({address.host for address in outcome}))
            else:
                found = (outcome[0].host,) if outcome else known or ()
            if found != known:
                self._found[host] = found
                self._item = self._make_item()
                self._changed()

        return report

    def _make_item(self) -> Item:
        seen: set[SocketAddress] = set()
        localities = []
        for locality in self.discovery.localities:
            endpoints: list[Endpoint] = []
            for host in locality.hosts:
                for literal in self._found.get(host, ()):
                    address = SocketAddress(literal, host.port)
                    if address not in seen:
                        seen.add(address)
                        endpoints.append(msgspec.structs.replace(host.template, address=address))
            localities.append(locality.resolved(endpoints))
        spec = Endpoints(self.name, tuple(localities), self.discovery.overprovisioning_factor)
        return make_item(Kind.ENDPOINTS, self.name, spec)
