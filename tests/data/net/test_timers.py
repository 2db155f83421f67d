"""The timer wheel: order, punctuality, cancellation, and that cancelled timers cost nothing."""

import gc
import tracemalloc
import weakref

from hypothesis import given
from hypothesis import strategies as st

from mosn_xds.base.clock import ManualClock
from mosn_xds.data.net.timers import Timer, TimerWheel


def test_timers_fire_in_order_of_their_deadlines() -> None:
    clock = ManualClock()
    wheel = TimerWheel(clock)
    fired: list[str] = []
    wheel.arm(0.030, lambda: fired.append("late"))
    wheel.arm(0.010, lambda: fired.append("first"))
    wheel.arm(0.010, lambda: fired.append("second"))
    clock.advance(1)
    assert wheel.advance(clock.monotonic()) == 3
    assert fired == ["first", "second", "late"]


@given(st.floats(0, 4000), st.floats(0, 5000))
def test_a_timer_is_never_early_and_at_most_one_percent_late(start: float, delay_s: float) -> None:
    clock = ManualClock(monotonic=start)
    wheel = TimerWheel(clock)
    wheel.arm(delay_s, lambda: None)
    deadline = wheel.next_deadline()
    assert deadline is not None
    assert start + delay_s - 1e-6 <= deadline <= start + delay_s * 1.01 + 0.002
    assert wheel.advance(start + delay_s - 0.001) == 0
    assert wheel.advance(deadline) == 1
    assert wheel.next_deadline() is None


def test_a_cancelled_timer_neither_fires_nor_holds_its_callback() -> None:
    class Owner:
        def call(self) -> None:
            raise AssertionError("cancelled")

    clock = ManualClock()
    wheel = TimerWheel(clock)
    owner = Owner()
    gone = weakref.ref(owner)
    timer = wheel.arm(15, owner.call)
    assert timer.armed
    timer.cancel()
    timer.cancel()
    assert not timer.armed
    del owner
    assert gone() is None
    assert wheel.next_deadline() is None
    assert wheel.advance(clock.monotonic() + 100) == 0


def test_a_callback_may_cancel_a_timer_that_is_due_with_it() -> None:
    clock = ManualClock()
    wheel = TimerWheel(clock)
    fired: list[str] = []
    victims: list[Timer] = []

    def first() -> None:
        fired.append("first")
        for victim in victims:
            victim.cancel()

    wheel.arm(0.005, first)
    victims.append(wheel.arm(0.005, lambda: fired.append("same slot")))
    victims.append(wheel.arm(0.007, lambda: fired.append("later slot")))
    clock.advance(1)
    wheel.advance(clock.monotonic())
    assert fired == ["first"]
    assert len(wheel) == 0


def test_a_timer_that_arms_itself_again_does_not_hold_the_caller() -> None:
    clock = ManualClock()
    wheel = TimerWheel(clock)
    ticks: list[float] = []

    def tick() -> None:
        ticks.append(clock.monotonic())
        wheel.arm(0, tick)

    wheel.arm(0, tick)
    for _ in range(3):
        clock.advance(0.001)
        wheel.advance(clock.monotonic())
    assert 2 <= len(ticks) <= 3


def test_a_callback_that_fails_leaves_the_others_when_calls_are_guarded() -> None:
    clock = ManualClock()
    failures: list[Exception] = []
    fired: list[str] = []

    def guarded(callback: object) -> None:
        try:
            callback()
        except ZeroDivisionError as error:
            failures.append(error)

    wheel = TimerWheel(clock, guarded)
    wheel.arm(0, lambda: 1 // 0)
    wheel.arm(0, lambda: fired.append("next"))
    clock.advance(1)
    assert wheel.advance(clock.monotonic()) == 2
    assert len(failures) == 1
    assert fired == ["next"]


def test_an_hour_of_cancelled_time_outs_leaves_memory_flat() -> None:
    clock = ManualClock()
    wheel = TimerWheel(clock)

    def requests(count: int) -> None:
        for _ in range(count):
            wheel.arm(15, clock.monotonic).cancel()
            clock.advance(0.001)
            wheel.advance(clock.monotonic())

    tracemalloc.start()
    try:
        requests(20_000)
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        requests(100_000)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 20_000


def test_a_hundred_thousand_time_outs_at_once_share_a_few_slots() -> None:
    clock = ManualClock()
    wheel = TimerWheel(clock)
    timers = []
    for n in range(100_000):
        timers.append(wheel.arm(15, clock.monotonic))
        if n % 10 == 0:
            clock.advance(0.001)
    assert "100000 timers" in repr(wheel)
    assert int(repr(wheel).split(" in ")[1].split()[0]) < 300
    for timer in timers:
        timer.cancel()
    assert len(wheel) == 0
    assert wheel.next_deadline() is None
