"""What the agent is told of hosts for `/clusters`: absolute figures of those that changed since the last time.

Only a host that was ever connected to has figures, so only those are looked at.
"""

from mosn_xds.data.upstream.host import Host
from mosn_xds.spec.feed import HostStat


class HostReport:
    """The hosts of a worker that were used."""

    __slots__ = ("_gone", "_last")

    def __init__(self) -> None:
        self._last: dict[Host, tuple[str, dict[str, int]]] = {}
        self._gone: list[tuple[str, Host]] = []

    def note_used(self, cluster: str, host: Host) -> None:
        """`host` is about to be connected to."""
        self._last.setdefault(host, (cluster, {}))

    def note_removed(self, cluster: str, host: Host) -> None:
        """`host` is no longer one of the cluster's."""
        if self._last.pop(host, None) is not None:
            self._gone.append((cluster, host))

    def take(self) -> list[HostStat]:
        """Hosts that changed since the last call; one without counters is gone."""
        report = [HostStat(cluster, host.text, {}) for cluster, host in self._gone]
        self._gone.clear()
        for host, (cluster, last) in self._last.items():
            counters = host.counters()
            if counters != last:
                self._last[host] = (cluster, counters)
                report.append(HostStat(cluster, host.text, counters))
        return report

    def __repr__(self) -> str:
        return f"<HostReport of {len(self._last)} hosts>"
