"""Long work in the agent's event loop, cut into slices: whoever asks `/ready` meanwhile waits for one of them, not for all.

What is interrupted so must stand that others look at it half done.
"""

import trio

from mosn_xds.base.clock import Clock

SLICE_S = 0.004


class Pace:
    """`await pace.rest()` every so often: it lets others run when a slice is over."""

    __slots__ = ("_clock", "_until")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until = clock.monotonic() + SLICE_S

    async def rest(self) -> None:
        if self._clock.monotonic() >= self._until:
            await trio.lowlevel.checkpoint()
            self._until = self._clock.monotonic() + SLICE_S
