"""Chance as a parameter: `random.Random` behind the few draws that a proxy makes, so that weighted picks are tests."""

from typing import Protocol


class Random(Protocol):
    """The part of `random.Random` that the package uses; a seeded `random.Random` is one."""

    def random(self) -> float:
        """A float in [0, 1)."""
        ...

    def getrandbits(self, k: int, /) -> int:
        """An integer of `k` random bits."""
        ...

    def randrange(self, stop: int, /) -> int:
        """An integer in [0, stop)."""
        ...
