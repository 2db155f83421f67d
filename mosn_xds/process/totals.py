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

from mosn_xds.base.stats import HISTOGRAM_BOUNDS, HistogramChange, StatChange, StatKind, StatRegistry

AGENT = -1
"""The source that is the agent itself; workers are numbered from 0."""


class Figure(NamedTuple):
    """A counter or a gauge."""

    name: str
    value: int
    used: bool


class Distribution(NamedTuple):
    """A histogram; `bounds` are the upper bounds of its buckets but the last."""

    name: str
    cell: HistogramChange
    used: bool
    bounds: tuple[float, ...] = HISTOGRAM_BOUNDS


class _Group:
    """One group's totals. What its kind has and these do not hold is zero: most clusters of a mesh are idle."""

    __slots__ = ("counters", "gauges", "histograms", "kind", "own", "shares", "sources", "touched", "used", "verdicts")

    def __init__(self, kind: StatKind) -> None:
        self.kind = kind
        self.counters: dict[str, int] = {}
        self.gauges: dict[str, int] = {}
        self.histograms: dict[str, HistogramChange] = {}
        self.shares: dict[int, dict[str, int]] = {}
        """Gauges, and what is alike in all workers, by source."""
        self.used: set[str] = set()
        """Gauges that were something else than 0."""
        self.touched = False
        """Something was counted."""
        self.own = False
        """The agent's: it sets each of its gauges."""
        self.sources: set[int] = set()
        """Who has the group: workers that are alive, or the agent."""
        self.verdicts: dict[str, bool] = {}
        """Of `stats_matcher`, by name."""


class StatTotals:
    """See the module. `allows` is `stats_matcher`'s verdict on a name, asked once for each; None allows everything. `bounds`
    are the upper bounds of the buckets of a histogram of that name, everywhere."""

    def __init__(
        self,
        own: StatRegistry,
        allows: Callable[[str], bool] | None = None,
        bounds: Callable[[str], tuple[float, ...]] = lambda name: HISTOGRAM_BOUNDS,
    ) -> None:
        self._own = own
        self._own.use_bounds(bounds)
        self._allows = allows
        self._bounds = bounds
        self._groups: dict[str, _Group] = {}
        self._kinds: dict[str, StatKind] = {}
        self._texts: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"<StatTotals {len(self._groups)} groups>"

    # --- what comes in ----------------------------------------------------------------------------------------------

    def apply(self, source: int, changes: Iterable[StatChange], kinds: Iterable[StatKind] = ()) -> None:
        """Add what worker `source` reported."""
        for kind in kinds:
            self._kinds.setdefault(kind.name, kind)
        for change in changes:
            group = self._groups.get(change.prefix)
            if change.gone:
                if group is not None:
                    _leave(group, source)
                    if not group.sources:
                        del self._groups[change.prefix]
                continue
            if group is None:
                group = self._groups[change.prefix] = _Group(self._kinds[change.kind])
            group.sources.add(source)
            _add(group, source, change)

    def forget(self, source: int) -> None:
        """A worker is gone: take its share out of the gauges. Its counts stay, for its successor to go on with."""
        for group in self._groups.values():
            _leave(group, source)

    def drop_left_behind(self) -> None:
        """All workers have told of every group that they have: what none of them has was a dead one's, and goes."""
        self._groups = {prefix: group for prefix, group in self._groups.items() if group.sources}

    def set_text(self, name: str, value: str) -> None:
        """A text readout of the agent's."""
        self._texts[name] = value

    def reset_counters(self) -> None:
        """`/reset_counters`: workers report differences and need not be told."""
        self.refresh()
        for group in self._groups.values():
            group.counters = dict.fromkeys(group.counters, 0)
            for share in group.shares.values():
                share.update((name, 0) for name in group.kind.shared if name in group.counters and name in share)

    def refresh(self) -> None:
        """Take in what the agent itself has counted until now."""
        changes = self._own.take_changes()
        self.apply(AGENT, changes, self._own.take_kinds())

    # --- what is asked ----------------------------------------------------------------------------------------------

    def counters(self) -> Iterator[Figure]:
        """All of them, in no order."""
        self.refresh()
        for prefix, group in self._groups.items():
            for name in _names(group.kind.counters, group.counters):
                if not self._hides(group, prefix + name):
                    value = group.counters.get(name, 0)
                    yield Figure(prefix + name, value, value > 0)

    def gauges(self) -> Iterator[Figure]:
        """All of them, in no order."""
        self.refresh()
        for prefix, group in self._groups.items():
            all_used = group.touched or group.own
            for name in group.kind.gauges:
                if not self._hides(group, prefix + name):
                    yield Figure(prefix + name, group.gauges.get(name, 0), all_used or name in group.used)

    def histograms(self) -> Iterator[Distribution]:
        """All of them, in no order."""
        self.refresh()
        for prefix, group in self._groups.items():
            for name in group.kind.histograms:
                if not self._hides(group, prefix + name):
                    cell = group.histograms.get(name)
                    bounds = self._bounds(prefix + name)
                    yield Distribution(prefix + name, cell or _no_values(len(bounds)), cell is not None, bounds)

    def text_readouts(self) -> Iterator[tuple[str, str]]:
        allows = self._allows
        return ((name, text) for name, text in self._texts.items() if allows is None or allows(name))

    def value(self, name: str) -> int | None:
        """A counter or gauge by its full name, None if there is none."""
        self.refresh()
        cut = len(name)
        while (cut := name.rfind(".", 0, cut)) >= 0:
            group = self._groups.get(name[: cut + 1])
            if group is not None:
                rest = name[cut + 1 :]
                found = group.counters.get(rest, group.gauges.get(rest))
                if found is None and rest in (*group.kind.counters, *group.kind.gauges):
                    found = 0
                if found is not None:
                    return None if self._hides(group, name) else found
        return None

    def sum_of(self, root: str, name: str) -> int:
        """A gauge summed over the groups under `root`, as last reported; those of single workers are in theirs already."""
        return sum(
            group.gauges.get(name, 0)
            for prefix, group in self._groups.items()
            if prefix.startswith(root) and ".worker_" not in prefix
        )

    def _hides(self, group: _Group, name: str) -> bool:
        if self._allows is None:
            return False
        allowed = group.verdicts.get(name)
        if allowed is None:
            allowed = group.verdicts[name] = self._allows(name)
        return not allowed


def _leave(group: _Group, source: int) -> None:
    group.sources.discard(source)
    for name, value in group.shares.pop(source, {}).items():
        if name in group.kind.shared:
            _take_largest(group, name)
        elif name in group.gauges:
            group.gauges[name] -= value


def _add(group: _Group, source: int, change: StatChange) -> None:
    counters = group.counters
    shared = group.kind.shared
    for name, amount in change.counters.items():
        if name in shared:
            share = group.shares.setdefault(source, {})
            share[name] = share.get(name, 0) + amount
            counters[name] = max(counters.get(name, 0), share[name])
        else:
            counters[name] = counters.get(name, 0) + amount
        group.touched = True
    group.own |= source == AGENT
    if change.gauges:
        shares = group.shares.setdefault(source, {})
        for name, value in change.gauges.items():
            if name not in shared:
                group.gauges[name] = group.gauges.get(name, 0) + value - shares.get(name, 0)
            shares[name] = value
            group.used.add(name)
            if name in shared:
                _take_largest(group, name)
    for name, more in change.histograms.items():
        cell = group.histograms.setdefault(name, _no_values(len(more.buckets) - 1))
        cell.buckets = [a + b for a, b in zip(cell.buckets, more.buckets, strict=True)]
        cell.count += more.count
        cell.total += more.total
        group.touched = True


def _take_largest(group: _Group, name: str) -> None:
    """What all workers have alike is told by one that is up to date: none of them has more than there is."""
    if name in group.kind.gauges:
        group.gauges[name] = max((share.get(name, 0) for share in group.shares.values()), default=0)


def _names(known: tuple[str, ...], counted: dict[str, int]) -> Iterator[str]:
    """A kind's counters, then those that got their names at run time."""
    yield from known
    if not counted.keys() <= set(known):
        yield from (name for name in counted if name not in known)


def _no_values(bounds: int) -> HistogramChange:
    return HistogramChange([0] * (bounds + 1), 0, 0.0)
