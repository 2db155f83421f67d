"""The pick among weighted clusters (Envoy's pickWeightedCluster)."""

import re
from bisect import bisect_right
from itertools import accumulate

from mosn_xds.data.match.head import RequestView
from mosn_xds.spec.route import WeightedCluster

_UINT64 = re.compile(rb"[ \t]*\+?0*[0-9]{1,20}[ \t]*")


class WeightedClusters:
    """Entries in the order given, each with its share of the sum of all weights.

    The value that decides is the stream's stable random number, or, with `header`, that request header's number where
    it is there once and is one. A pick may land on a cluster that does not exist: that is the router's 503.
    """

    __slots__ = ("_ends", "_header", "_total", "entries")

    def __init__(self, entries: tuple[WeightedCluster, ...], header: str = "") -> None:
        self.entries = entries
        self._ends = list(accumulate(entry.weight for entry in entries))
        self._total = self._ends[-1] if self._ends else 0
        self._header = header.lower().encode()

    def __repr__(self) -> str:
        return f"<WeightedClusters {' '.join(f'{entry.name}={entry.weight}' for entry in self.entries)}>"

    def pick(self, head: RequestView, stable_random: int) -> int:
        """The position of the entry that takes this request; -1 when all weights are 0."""
        if not self._total:
            return -1
        if self._header:
            values = head.get_all(self._header)
            if len(values) == 1 and _UINT64.fullmatch(values[0]):
                number = int(values[0])
                if number < 1 << 64:
                    stable_random = number
        return bisect_right(self._ends, stable_random % self._total)
