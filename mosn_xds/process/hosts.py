"""Figures of upstream hosts, summed over workers, for `/clusters`.

As with `mosn_xds.process.totals`, what a dead worker counted stays and what it had in use goes. Workers report the hosts
that changed; a report without counters says that the host is gone from that worker.
"""

from collections.abc import Iterable, Mapping

from mosn_xds.spec.feed import HostStat

HostKey = tuple[str, str]
"""Cluster and address."""

_GAUGE_SUFFIX = "_active"


class HostTotals:
    """See the module."""

    def __init__(self) -> None:
        self._by_source: dict[int, dict[HostKey, dict[str, int]]] = {}
        self._left: dict[HostKey, dict[str, int]] = {}
        """Counters of workers that are gone."""

    def __repr__(self) -> str:
        return f"<HostTotals of {len(self._by_source)} workers>"

    def apply(self, source: int, hosts: Iterable[HostStat]) -> None:
        figures = self._by_source.setdefault(source, {})
        for host in hosts:
            key = (host.cluster, host.address)
            if host.counters:
                figures[key] = host.counters
            else:
                figures.pop(key, None)
                self._left.pop(key, None)

    def forget(self, source: int) -> None:
        """A worker is gone."""
        for key, counters in self._by_source.pop(source, {}).items():
            left = self._left.setdefault(key, {})
            for name, value in counters.items():
                if not name.endswith(_GAUGE_SUFFIX):
                    left[name] = left.get(name, 0) + value

    def get(self, cluster: str, address: str) -> Mapping[str, int]:
        """The host's totals by name; empty if no worker has used it."""
        key = (cluster, address)
        total = dict(self._left.get(key, {}))
        for figures in list(self._by_source.values()):  # it may be asked from a thread
            for name, value in figures.get(key, {}).items():
                total[name] = total.get(name, 0) + value
        return total
