"""Slow start: a host that has just joined gets a growing share of its weight (SlowStartConfig of the proto)."""

from collections.abc import Callable

from mosn_xds.base.clock import Clock
from mosn_xds.data.balance.api import LbHost

_LEAST_FACTOR = 1e-6
"""Schedules need positive weights; `min_weight_percent` may be 0."""


class SlowStart:
    """Scales a weight by the time since the host became healthy: ``max(min_weight, (t / window) ** (1 / aggression))``.

    `window_s` None turns it off. t counts from 1 ms.
    """

    __slots__ = ("_clock", "_exponent", "_min_factor", "window_s")

    def __init__(
        self, clock: Clock, window_s: float | None, aggression: float = 1.0, min_weight_percent: float = 10.0
    ) -> None:
        self._clock = clock
        self._exponent = 1.0 / aggression if aggression > 0.0 else 1.0
        self._min_factor = min_weight_percent / 100.0
        self.window_s = window_s

    def includes(self, host: LbHost) -> bool:
        """Whether the host is still in its window."""
        return self.window_s is not None and self._clock.monotonic() - host.healthy_since_s <= self.window_s

    def factor(self, host: LbHost) -> float:
        """What to multiply the host's weight with, above 0 and at most 1."""
        window_s = self.window_s
        if window_s is None:
            return 1.0
        age_s = self._clock.monotonic() - host.healthy_since_s
        if age_s >= window_s:
            return 1.0
        grown: float = (max(age_s, 0.001) / window_s) ** self._exponent
        return max(grown, self._min_factor, _LEAST_FACTOR)

    def weight_of(self, weight: Callable[[LbHost], float]) -> Callable[[LbHost], float]:
        """`weight` scaled; `weight` itself when slow start is off."""
        if self.window_s is None:
            return weight
        return lambda host: weight(host) * self.factor(host)

    def __repr__(self) -> str:
        return f"<SlowStart over {self.window_s} s>"
