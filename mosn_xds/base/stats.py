"""Statistics as the hot path wants them and as Envoy names them.

A `StatGroup` is one object of plain integers, a slot for each counter and gauge of one kind of thing (a cluster, a
listener, an HTTP connection manager): ``group.upstream_rq_total += 1`` is all that counting costs. The group's prefix
(``cluster.NAME.``) joined with the slot's name is Envoy's stat name. Names that cannot be known beforehand
(``upstream_rq_503``) live in the group's `extra` counters. Histograms are fixed buckets, which add up over workers.

A `StatRegistry` holds the groups of one process. A worker calls `take_changes` every second and sends the result to the
agent, which keeps the totals (see `mosn_xds.process`): counters travel as differences, gauges as values.
"""

from bisect import bisect_left
from collections.abc import Iterator
from typing import ClassVar, TypeVar

import msgspec

HISTOGRAM_BOUNDS = (
    0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000,
)  # fmt: skip
"""Upper bounds of the default buckets (Envoy's, for milliseconds and bytes alike); one more bucket holds the rest."""


class Histogram:
    """Fixed-bucket distribution: `record` costs one bisection."""

    __slots__ = ("buckets", "count", "total")

    def __init__(self) -> None:
        self.buckets = [0] * (len(HISTOGRAM_BOUNDS) + 1)
        self.count = 0
        self.total = 0.0

    def record(self, value: float) -> None:
        self.buckets[bisect_left(HISTOGRAM_BOUNDS, value)] += 1
        self.count += 1
        self.total += value


class StatGroup:
    """Base of the groups. Subclasses name their stats in `COUNTERS`, `GAUGES`, `HISTOGRAMS` and set `__slots__` alike.

    Instances come from `StatRegistry.group`.
    """

    __slots__ = ("extra", "prefix")
    COUNTERS: ClassVar[tuple[str, ...]] = ()
    GAUGES: ClassVar[tuple[str, ...]] = ()
    HISTOGRAMS: ClassVar[tuple[str, ...]] = ()

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.extra: dict[str, int] = {}
        for name in self.COUNTERS:
            setattr(self, name, 0)
        for name in self.GAUGES:
            setattr(self, name, 0)
        for name in self.HISTOGRAMS:
            setattr(self, name, Histogram())

    def count(self, name: str, amount: int = 1) -> None:
        """Add to a counter whose name is known only at run time."""
        self.extra[name] = self.extra.get(name, 0) + amount

    def settle(self) -> None:
        """Bring up to date what the group keeps in a cheaper form; called before each report."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.prefix}>"


class HistogramChange(msgspec.Struct, array_like=True, gc=False):
    buckets: list[int]
    count: int
    total: float


class StatChange(msgspec.Struct, array_like=True, gc=False):
    """What happened to one group since the last report: counter differences, gauge values, histogram differences."""

    prefix: str
    counters: dict[str, int]
    gauges: dict[str, int]
    histograms: dict[str, HistogramChange]


G = TypeVar("G", bound=StatGroup)


class StatRegistry:
    """All groups of a process, by prefix. Asking again for a prefix gives the same group: stats survive updates."""

    def __init__(self) -> None:
        self._groups: dict[str, StatGroup] = {}
        self._sent: dict[str, StatChange] = {}

    def group(self, kind: type[G], prefix: str) -> G:
        found = self._groups.get(prefix)
        if found is None:
            found = self._groups[prefix] = kind(prefix)
        if not isinstance(found, kind):
            raise TypeError(f"stat prefix {prefix!r} is held by {found!r}, not a {kind.__name__}")
        return found

    def __iter__(self) -> Iterator[StatGroup]:
        return iter(self._groups.values())

    def take_changes(self) -> list[StatChange]:
        """Every group that changed since the last call. The first report of a group names all of its stats, zeros too."""
        changes = []
        for prefix, group in self._groups.items():
            last = self._sent.get(prefix)
            now = _snapshot(group)
            if last is None:
                changes.append(now)
            else:
                change = _difference(last, now)
                if change is None:
                    continue
                changes.append(change)
            self._sent[prefix] = now
        return changes


def _snapshot(group: StatGroup) -> StatChange:
    group.settle()
    counters = {name: getattr(group, name) for name in group.COUNTERS}
    counters.update(group.extra)
    gauges = {name: getattr(group, name) for name in group.GAUGES}
    histograms = {}
    for name in group.HISTOGRAMS:
        cell: Histogram = getattr(group, name)
        histograms[name] = HistogramChange(list(cell.buckets), cell.count, cell.total)
    return StatChange(group.prefix, counters, gauges, histograms)


def _difference(last: StatChange, now: StatChange) -> StatChange | None:
    counters = {n: v - last.counters.get(n, 0) for n, v in now.counters.items() if v != last.counters.get(n)}
    gauges = {n: v for n, v in now.gauges.items() if v != last.gauges.get(n)}
    histograms = {}
    for name, cell in now.histograms.items():
        before = last.histograms[name]
        if cell.count != before.count:
            buckets = [a - b for a, b in zip(cell.buckets, before.buckets, strict=True)]
            histograms[name] = HistogramChange(buckets, cell.count - before.count, cell.total - before.total)
    if not (counters or gauges or histograms):
        return None
    return StatChange(now.prefix, counters, gauges, histograms)
