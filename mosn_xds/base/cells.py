"""The cells that are counted in: plain integers in groups, and histograms.

A `StatGroup` is one object with a slot for each counter and gauge of one kind of thing (a cluster, a listener, an HTTP
connection manager): ``group.upstream_rq_total += 1`` is all that counting costs. The group's prefix (``cluster.NAME.``)
joined with the slot's name is Envoy's stat name. Names that cannot be known beforehand (``upstream_rq_503``) live in the
group's `extra` counters. Histograms are fixed buckets, which add up over workers.

Who holds the groups and reports what happened to them is `mosn_xds.base.stats`.
"""

from bisect import bisect_left
from typing import ClassVar

from mypy_extensions import mypyc_attr

HISTOGRAM_BOUNDS = (
    0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000,
)  # fmt: skip
"""Upper bounds of the default buckets (Envoy's, for milliseconds and bytes alike); one more bucket holds the rest."""
_FIRST_BOUND = HISTOGRAM_BOUNDS[0]
_FLOAT_BOUNDS = tuple(map(float, HISTOGRAM_BOUNDS))


class Histogram:
    """Fixed-bucket distribution: `record` costs one bisection."""

    __slots__ = ("buckets", "count", "total")

    def __init__(self) -> None:
        self.buckets = [0] * (len(HISTOGRAM_BOUNDS) + 1)
        self.count = 0
        self.total = 0.0

    def record(self, value: float) -> None:
        # Most of what a busy proxy measures is in the first bucket (0.09 us instead of 0.17).
        self.buckets[0 if value <= _FIRST_BOUND else bisect_left(_FLOAT_BOUNDS, value)] += 1
        self.count += 1
        self.total += value


class BoundedHistogram(Histogram):
    """A distribution with buckets of its own (`stats_config.histogram_bucket_settings`)."""

    __slots__ = ("bounds",)

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.buckets = [0] * (len(bounds) + 1)
        self.count = 0
        self.total = 0.0

    def record(self, value: float) -> None:
        self.buckets[bisect_left(self.bounds, value)] += 1
        self.count += 1
        self.total += value


@mypyc_attr(allow_interpreted_subclasses=True)
class StatGroup:
    """Base of the groups. Subclasses name their stats in `COUNTERS`, `GAUGES`, `HISTOGRAMS` and set `__slots__` alike.

    Instances come from `StatRegistry.group`.
    """

    __slots__ = ("extra", "prefix")
    COUNTERS: ClassVar[tuple[str, ...]] = ()
    GAUGES: ClassVar[tuple[str, ...]] = ()
    HISTOGRAMS: ClassVar[tuple[str, ...]] = ()
    SHARED: ClassVar[tuple[str, ...]] = ()
    """Counters and gauges that every worker has alike (how many hosts a cluster has): not to be added up."""

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
