"""Which buckets a histogram has (envoy.config.metrics.v3.HistogramBucketSettings). The first rule that matches its name counts.

Both halves ask: a worker when it makes a cell, the agent when it adds cells up and shows them.
"""

from collections.abc import Sequence

from mosn_xds.base.stats import HISTOGRAM_BOUNDS
from mosn_xds.spec.common import Spec, StringMatch
from mosn_xds.spec.stats_matcher import StatsMatcher, StatsPatterns


class BucketRule(Spec, frozen=True):
    """Upper bounds, in rising order, for histograms whose full name matches."""

    match: StringMatch
    bounds: tuple[float, ...]


class HistogramBuckets:
    """Rules, compiled. Asked once per histogram, not per value."""

    def __init__(self, rules: Sequence[BucketRule] = ()) -> None:
        self._rules = [(StatsMatcher(StatsPatterns(include=True, patterns=(one.match,))), one.bounds) for one in rules]

    def __repr__(self) -> str:
        return f"<HistogramBuckets {len(self._rules)} rules>"

    def bounds(self, name: str) -> tuple[float, ...]:
        """Upper bounds of the histogram of this full name; one more bucket holds the rest."""
        return next((bounds for matcher, bounds in self._rules if matcher.allows(name)), HISTOGRAM_BOUNDS)
