"""Earliest deadline first: weighted round robin with real-valued weights that may change from pick to pick.

Each entry has a deadline 1/weight after it was last picked; the earliest is next, ties go in order of insertion. A pick
costs one heap replacement. Many proxies that start together must not walk in step, so a schedule starts as if a random
number of picks had been made (Envoy's `EdfScheduler::createWithPicks`).
"""

from collections.abc import Callable, Sequence
from heapq import heapify, heapreplace
from typing import Generic, TypeVar

T = TypeVar("T")

_MOST_PRE_PICKS = 429_496_729
_TIE_BREAK = 1e-13
"""Keeps rounded deadlines of weights that are multiples of each other in order."""


class EdfScheduler(Generic[T]):
    """Picks `entries`, at least one, in proportion to `weight_of` (positive), from the state after `pre_picks` picks."""

    __slots__ = ("_heap", "_order", "_weight_of")

    def __init__(self, entries: Sequence[T], weight_of: Callable[[T], float], pre_picks: int = 0) -> None:
        self._weight_of = weight_of
        pre_picks %= _MOST_PRE_PICKS
        weights = [weight_of(entry) + _TIE_BREAK for entry in entries]
        total = sum(weights)
        heap: list[tuple[float, int, T]] = []
        picked = 0
        for order, (entry, weight) in enumerate(zip(entries, weights, strict=True)):
            times = int(weight * pre_picks / total)
            if times and times / weight >= pre_picks / total:
                times -= 1
            heap.append(((times + 1) / weight, order, entry))
            picked += times
        heapify(heap)
        self._heap = heap
        self._order = len(heap)
        for _ in range(pre_picks - picked):
            self.pick()

    def pick(self) -> T:
        heap = self._heap
        deadline, _, entry = heap[0]
        self._order += 1
        heapreplace(heap, (deadline + 1.0 / self._weight_of(entry), self._order, entry))
        return entry

    def __repr__(self) -> str:
        return f"<EdfScheduler of {len(self._heap)}>"
