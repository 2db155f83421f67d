"""Waiting between attempts: exponential back-off with full jitter (Envoy's `JitteredExponentialBackOffStrategy`).

The wait is uniform in [0, ceiling); the ceiling doubles with each attempt up to a maximum. Full jitter spreads the
reconnects of a mesh whose Pilot restarts over the whole interval.
"""

from mosn_xds.base.chance import Random


class BackOff:
    """Seconds to wait before each next attempt."""

    def __init__(self, random: Random, base_s: float = 0.5, max_s: float = 30.0) -> None:
        self._random = random
        self._base_s = base_s
        self._max_s = max_s
        self._ceiling_s = base_s

    def __repr__(self) -> str:
        return f"<BackOff up to {self._ceiling_s:g} s>"

    def next_s(self) -> float:
        wait_s = self._random.random() * self._ceiling_s
        self._ceiling_s = min(self._ceiling_s * 2, self._max_s)
        return wait_s

    def reset(self) -> None:
        self._ceiling_s = self._base_s
