"""The timer wheel: every deadline of a worker, armed and cancelled for about a microsecond.

Nearly all timers of a proxy are cancelled (a request's 15 s time-out, an idle time-out), so the structure is built for
that. Time is cut into ticks of 1 ms. A tick that somebody waits for has a slot, an insertion-ordered set of its timers;
a heap holds the ticks that have slots. Cancelling takes the timer out of its slot and drops its callback at once: what
stays behind is an empty slot, not a timer.

Long delays are rounded up to coarser ticks, within 1 % of the delay (1 ms below 256 ms, 64 ms at 15 s). So 100,000
time-outs of 15 s share some 240 slots whatever happens to them. A timer never fires early by the wheel's clock; if that
clock is read once per batch, it is early or late by as much as a batch lasts. An empty wheel sleeps: it has no deadline.

The wheel knows neither the event loop nor real time: `advance` is told the time.
"""

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Final

from mosn_xds.base.clock import Clock

Callback = Callable[[], None]

_TICKS_PER_S: Final = 1000
_ROUNDING: Final = 0.001
"""In ticks: a deadline in seconds, times 1000, may come out just below its tick."""
_PRECISION_BITS: Final = 8
"""A delay is kept to its first so many bits."""


class Timer:
    """One armed deadline. Hold it to `cancel` it; a timer that has fired or was cancelled refers to nothing."""

    __slots__ = ("_callback", "_slot")

    def __init__(self, callback: Callback, slot: "dict[Timer, None]") -> None:
        self._callback: Callback | None = callback
        self._slot: dict[Timer, None] | None = slot

    @property
    def armed(self) -> bool:
        return self._callback is not None

    def cancel(self) -> None:
        """The callback will not be called. Harmless on a timer that has fired."""
        slot = self._slot
        if slot is not None:
            del slot[self]
            self._slot = None
        self._callback = None

    def __repr__(self) -> str:
        return f"<Timer {self._callback!r}>"


def _call(callback: Callback) -> None:
    callback()


class TimerWheel:
    """Deadlines of one thread, after `clock`.

    `call` runs each due callback and may catch what it raises. `on_earlier` is called when a timer is armed for a tick
    before all others, so that who sleeps until `next_deadline` can sleep less.
    """

    __slots__ = ("_call", "_clock", "_heap", "_on_earlier", "_passed", "_slots")

    def __init__(
        self, clock: Clock, call: Callable[[Callback], None] = _call, on_earlier: Callback | None = None
    ) -> None:
        self._clock = clock
        self._call = call
        self._on_earlier = on_earlier
        self._slots: dict[int, dict[Timer, None]] = {}
        self._heap: list[int] = []
        self._passed = int(clock.monotonic() * _TICKS_PER_S) - 1

    def arm(self, delay_s: float, callback: Callback) -> Timer:
        """Call `callback` once, `delay_s` seconds from now at the earliest; never inside this call."""
        now = self._clock.monotonic() * _TICKS_PER_S
        tick = int(now + delay_s * _TICKS_PER_S) + 1
        coarse = int(delay_s * _TICKS_PER_S).bit_length() - _PRECISION_BITS
        if coarse > 0:
            tick = ((tick >> coarse) + 1) << coarse
        if tick <= self._passed:
            tick = self._passed + 1
        slot = self._slots.get(tick)
        if slot is None:
            slot = self._slots[tick] = {}
            heappush(self._heap, tick)
            if self._on_earlier is not None and self._heap[0] == tick:
                self._on_earlier()
        timer = Timer(callback, slot)
        slot[timer] = None
        return timer

    def next_deadline(self) -> float | None:
        """When the next timer is due (seconds of the wheel's clock), or None if nobody waits."""
        heap, slots = self._heap, self._slots
        while heap:
            tick = heap[0]
            if slots[tick]:
                return tick / _TICKS_PER_S
            del slots[heappop(heap)]
        return None

    def advance(self, now: float) -> int:
        """Call what is due at `now`, in order of deadline, and return how many were called.

        A callback may arm and cancel at will; what it arms is not due before the next call.
        """
        tick = int(now * _TICKS_PER_S + _ROUNDING)
        heap = self._heap
        self._passed = max(self._passed, tick)
        if not heap or heap[0] > tick:
            return 0
        due = []
        while heap and heap[0] <= tick:
            due.append(self._slots.pop(heappop(heap)))
        called = 0
        for slot in due:
            for timer in tuple(slot):
                callback = timer._callback
                if callback is None:  # cancelled by one of those before it
                    continue
                timer._callback = timer._slot = None
                called += 1
                self._call(callback)
        return called

    def __len__(self) -> int:
        return sum(map(len, self._slots.values()))

    def __repr__(self) -> str:
        return f"<TimerWheel {len(self)} timers in {len(self._slots)} slots>"
