"""Time as a parameter.

Code that needs the time takes a Clock; nothing in the package reads ``time`` on its own, so that hours are tests of
milliseconds. The worker's reactor reads the system clock once per batch and serves everybody from a `CachedClock`.
"""

import time
from typing import Protocol


class Clock(Protocol):
    """Two readings: `monotonic` (seconds, for durations) and `wall` (seconds since the epoch, for people)."""

    def monotonic(self) -> float: ...

    def wall(self) -> float: ...


class SystemClock:
    """The real time, read at each call."""

    def monotonic(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()


class CachedClock:
    """The real time as of the last `refresh`: one reading per reactor batch costs less than one per question."""

    __slots__ = ("now", "wall_now")

    def __init__(self) -> None:
        self.now = time.monotonic()
        self.wall_now = time.time()

    def refresh(self) -> None:
        self.now = time.monotonic()
        self.wall_now = time.time()

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.wall_now


class ManualClock:
    """A clock that moves only when told; for tests."""

    def __init__(self, monotonic: float = 1000.0, wall: float = 1_700_000_000.0) -> None:
        self._monotonic = monotonic
        self._wall = wall

    def monotonic(self) -> float:
        return self._monotonic

    def wall(self) -> float:
        return self._wall

    def advance(self, seconds: float) -> None:
        self._monotonic += seconds
        self._wall += seconds
