"""The agent's totals: what all workers have counted, plus what the agent counts itself.

A worker reports differences, so a total only ever grows: a worker that died leaves its counts behind, its successor
starts at zero and adds. Gauges are values: a total is the sum over the workers that are alive, and a dead worker's share
is taken out. Histograms have the same buckets everywhere and add up. The admin API reads from here and never waits for a
worker.

Envoy tells stats that were *used* (`/stats?usedonly`). A counter is used when it has counted, a histogram when it has recorded; a
gauge when it was set or anything was counted beside it, for in Envoy a gauge that went up and down again has been used.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from mosn_xds.base.stats import HISTOGRAM_BOUNDS, HistogramChange, StatChange, StatRegistry

AGENT = -1
"""The source that is the agent itself; workers are numbered from 0."""


class Figure(NamedTuple):
    """A counter or a gauge."""

    name: str
    value: int
    used: bool


class Distribution(NamedTuple):
    """A histogram; bounds are `HISTOGRAM_BOUNDS`."""

    name: str
    cell: HistogramChange
    used: bool


class _Group:
    __slots__ = ("counters", "gauges", "histograms", "refused", "shares", "touched", "used")

    def __init__(self) -> None:
        self.counters: dict[str, int] = {}
        self.gauges: dict[str, int] = {}
        self.histograms: dict[str, HistogramChange] = {}
        self.shares: dict[int, dict[str, int]] = {}
        """Gauges by source."""
        self.used: set[str] = set()
        """Gauges that were set to something, or by the agent."""
        self.touched = False
        self.refused: set[str] = set()


def _never(name: str) -> bool:
    return False


class StatTotals:
    """See the module. `is_excluded` is `stats_matcher`'s verdict on a name, asked once for each."""

    def __init__(self, own: StatRegistry, is_excluded: Callable[[str], bool] = _never) -> None:
        self._own = own
        self._is_excluded = is_excluded
        self._groups: dict[str, _Group] = {}
        self._texts: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"<StatTotals {len(self._groups)} groups>"

    # --- what comes in ----------------------------------------------------------------------------------------------

    def apply(self, source: int, changes: Iterable[StatChange]) -> None:
        """Add what worker `source` reported."""
        for change in changes:
            group = self._groups.get(change.prefix)
            if group is None:
                group = self._groups[change.prefix] = _Group()
            self._apply(group, source, change)

    def _apply(self, group: _Group, source: int, change: StatChange) -> None:
        counters = group.counters
        for name, amount in change.counters.items():
            if name in counters:
                counters[name] += amount
            elif self._admits(group, change.prefix, name):
                counters[name] = amount
            group.touched |= amount > 0
        if change.gauges:
            shares = group.shares.setdefault(source, {})
            for name, value in change.gauges.items():
                if name not in group.gauges:
                    if not self._admits(group, change.prefix, name):
                        continue
                    group.gauges[name] = 0
                group.gauges[name] += value - shares.get(name, 0)
                shares[name] = value
                if value or source == AGENT:
                    group.used.add(name)
        for name, more in change.histograms.items():
            cell = group.histograms.get(name)
            if cell is None:
                if not self._admits(group, change.prefix, name):
                    continue
                cell = group.histograms[name] = HistogramChange([0] * (len(HISTOGRAM_BOUNDS) + 1), 0, 0.0)
            cell.buckets = [a + b for a, b in zip(cell.buckets, more.buckets, strict=True)]
            cell.count += more.count
            cell.total += more.total

    def _admits(self, group: _Group, prefix: str, name: str) -> bool:
        if name in group.refused:
            return False
        if self._is_excluded(prefix + name):
            group.refused.add(name)
            return False
        return True

    def forget(self, source: int) -> None:
        """A worker is gone: take its share out of the gauges."""
        for group in self._groups.values():
            for name, value in group.shares.pop(source, {}).items():
                group.gauges[name] -= value

    def set_text(self, name: str, value: str) -> None:
        """A text readout of the agent's."""
        if not self._is_excluded(name):
            self._texts[name] = value

    def reset_counters(self) -> None:
        """`/reset_counters`: workers report differences and need not be told."""
        self.refresh()
        for group in self._groups.values():
            group.counters = dict.fromkeys(group.counters, 0)

    def refresh(self) -> None:
        """Take in what the agent itself has counted until now."""
        self.apply(AGENT, self._own.take_changes())

    # --- what is asked ----------------------------------------------------------------------------------------------

    def counters(self) -> Iterator[Figure]:
        """All of them, in no order."""
        self.refresh()
        for prefix, group in self._groups.items():
            for name, value in group.counters.items():
                yield Figure(prefix + name, value, value > 0)

    def gauges(self) -> Iterator[Figure]:
        """All of them, in no order."""
        self.refresh()
        for prefix, group in self._groups.items():
            for name, value in group.gauges.items():
                yield Figure(prefix + name, value, group.touched or name in group.used)

    def histograms(self) -> Iterator[Distribution]:
        """All of them, in no order."""
        self.refresh()
        for prefix, group in self._groups.items():
            for name, cell in group.histograms.items():
                yield Distribution(prefix + name, cell, cell.count > 0)

    def text_readouts(self) -> Iterator[tuple[str, str]]:
        return iter(self._texts.items())

    def value(self, name: str) -> int | None:
        """A counter or gauge by its full name, None if there is none."""
        self.refresh()
        cut = len(name)
        while (cut := name.rfind(".", 0, cut)) >= 0:
            group = self._groups.get(name[: cut + 1])
            if group is not None:
                rest = name[cut + 1 :]
                found = group.counters.get(rest, group.gauges.get(rest))
                if found is not None:
                    return found
        return None

    def sum_of(self, root: str, name: str) -> int:
        """A gauge summed over the groups under `root`, as last reported; those of single workers are in theirs already."""
        return sum(
            group.gauges.get(name, 0)
            for prefix, group in self._groups.items()
            if prefix.startswith(root) and ".worker_" not in prefix
        )
