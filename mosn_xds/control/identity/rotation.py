"""When to ask for the next certificate, without I/O and with chance as a parameter.

A certificate is replaced when its grace period begins: `grace_ratio` of its life before its end, shifted by a jitter so
that the workloads of a mesh that started together do not ask together (istio's `rotateTime`). A failure is tried again
after a back-off, for ever: the certificate in use is good for hours yet.
"""

from mosn_xds.base.chance import Random
from mosn_xds.control.backoff import BackOff

RETRY_BASE_S = 0.5
RETRY_MAX_S = 60.0
MIN_WAIT_S = 0.5
"""Even a certificate that is over already is not asked for in a busy loop."""


class Rotation:
    """See the module."""

    def __init__(self, random: Random, grace_ratio: float = 0.5, grace_jitter: float = 0.01) -> None:
        self._random = random
        self._grace_ratio = grace_ratio
        self._grace_jitter = grace_jitter
        self._back_off = BackOff(random, RETRY_BASE_S, RETRY_MAX_S)

    def __repr__(self) -> str:
        return f"<Rotation at {1 - self._grace_ratio:.0%} of the life>"

    def after_success(self, life_s: float) -> float:
        """Seconds until the next request, after a certificate that is good for `life_s` from now."""
        self._back_off.reset()
        jitter = (self._random.random() * 2 - 1) * self._grace_jitter
        ratio = min(1.0, max(0.0, self._grace_ratio + jitter))
        return max(MIN_WAIT_S, life_s * (1 - ratio))

    def after_failure(self) -> float:
        """Seconds until the next attempt."""
        return max(MIN_WAIT_S, self._back_off.next_s())
