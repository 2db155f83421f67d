"""The reactor with real sockets: batches, fairness, deferred work, deadlines, threads, and the border for exceptions."""

import logging
import os
import re
import select
import socket
import threading
import time
from collections.abc import Callable

import pytest
import trio
import trio.testing

from mosn_xds.base.clock import CachedClock
from mosn_xds.data.net.reactor import Reactor


class Probe:
    """A handler that writes down what it is told and then does what the test wants."""

    def __init__(self, action: Callable[[int], None] = lambda events: None) -> None:
        self.action = action
        self.events: list[int] = []
        self.flushes = 0
        self.errors: list[Exception] = []

    def on_ready(self, events: int) -> None:
        self.events.append(events)
        self.action(events)

    def flush(self) -> None:
        self.flushes += 1

    def on_failure(self, error: Exception) -> None:
        self.errors.append(error)


def run(reactor: Reactor, *, timeout_s: float = 30) -> None:
    """Run until somebody says stop."""

    async def main() -> None:
        with trio.fail_after(timeout_s):
            await reactor.run()

    trio.run(main)


@pytest.fixture
def reactor():
    reactor = Reactor(CachedClock())
    yield reactor
    reactor.close()


def pair():
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    return near, far


def test_a_handler_is_told_what_happened_to_its_descriptor(reactor: Reactor) -> None:
    near, far = pair()
    probe = Probe()

    def action(events: int) -> None:
        if events & select.EPOLLIN:
            assert near.recv(100) == b"hello"
            reactor.stop()
        else:
            far.send(b"hello")

    probe.action = action
    reactor.register(near.fileno(), probe)
    run(reactor)
    assert probe.events[0] == select.EPOLLOUT
    assert probe.events[-1] & select.EPOLLIN


def test_a_closed_descriptor_outlives_the_batch_so_that_its_number_is_not_reused(reactor: Reactor) -> None:
    """Two sockets are ready in one batch; the first handler closes the second socket and opens another one."""
    first, first_far = pair()
    second, second_far = pair()
    late = Probe()
    opened: list[socket.socket] = []

    def action(events: int) -> None:
        reactor.close_fd(second.detach())
        opened.append(socket.socket())
        reactor.register(opened[0].fileno(), newcomer)
        reactor.timers.arm(0.01, reactor.stop)

    newcomer = Probe()
    number = second.fileno()
    reactor.register(first.fileno(), Probe(action), select.EPOLLIN | select.EPOLLET)
    reactor.register(number, late, select.EPOLLIN | select.EPOLLET)
    first_far.send(b"x")
    second_far.send(b"x")
    run(reactor)
    assert opened[0].fileno() != number
    assert late.events == []
    assert not any(events & select.EPOLLIN for events in newcomer.events)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


def test_a_dirty_object_is_flushed_once_after_the_whole_batch(reactor: Reactor) -> None:
    sockets = [pair() for _ in range(5)]
    out = Probe()
    flushes_seen = []

    def action(events: int) -> None:
        flushes_seen.append(out.flushes)
        if len(flushes_seen) == 1:
            reactor.dirty(out)
        reactor.timers.arm(0.005, reactor.stop)

    for near, far in sockets:
        reactor.register(near.fileno(), Probe(action), select.EPOLLIN | select.EPOLLET)
        far.send(b"x")
    run(reactor)
    assert flushes_seen == [0] * 5
    assert out.flushes == 1


def test_deferred_calls_run_after_their_callers_returned_and_may_defer_more(reactor: Reactor) -> None:
    near, far = pair()
    order: list[str] = []

    def action(events: int) -> None:
        reactor.defer(lambda: (order.append("deferred"), reactor.defer(last)))
        order.append("handler")

    def last() -> None:
        order.append("deferred by deferred")
        reactor.stop()

    reactor.register(near.fileno(), Probe(action), select.EPOLLIN | select.EPOLLET)
    far.send(b"x")
    run(reactor)
    assert order == ["handler", "deferred", "deferred by deferred"]


def test_one_busy_handler_does_not_keep_another_from_its_events(reactor: Reactor) -> None:
    busy_near, busy_far = pair()
    quiet_near, quiet_far = pair()
    order: list[str] = []

    def work(events: int) -> None:
        order.append("busy")
        if len(order) == 3:
            quiet_far.send(b"x")
        if len(order) < 100:
            reactor.again(busy)

    def answer(events: int) -> None:
        order.append("quiet")
        reactor.stop()

    busy = Probe(work)
    reactor.register(busy_near.fileno(), busy, select.EPOLLIN | select.EPOLLET)
    reactor.register(quiet_near.fileno(), Probe(answer), select.EPOLLIN | select.EPOLLET)
    busy_far.send(b"x")
    run(reactor)
    assert order.index("quiet") <= 4


def test_other_tasks_run_while_the_reactor_never_rests(reactor: Reactor) -> None:
    near, _far = pair()
    probe = Probe(lambda events: reactor.again(probe))
    reactor.register(near.fileno(), probe)
    steps = []

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reactor.run)
            for _ in range(20):
                await trio.sleep(0.001)
                steps.append(len(probe.events))
            reactor.stop()

    trio.run(main)
    assert len(set(steps)) > 10


def test_timers_fire_while_no_socket_is_ready(reactor: Reactor) -> None:
    fired: list[float] = []
    start = time.monotonic()
    reactor.timers.arm(0.05, lambda: (fired.append(time.monotonic() - start), reactor.stop()))
    reactor.timers.arm(0.02, lambda: fired.append(time.monotonic() - start))
    run(reactor)
    assert 0.019 <= fired[0] < fired[1] < 1
    assert fired[1] >= 0.049


def test_a_task_that_arms_an_earlier_deadline_shortens_the_sleep(reactor: Reactor) -> None:
    fired: list[float] = []

    async def main() -> None:
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                reactor.timers.arm(60, lambda: None)
                nursery.start_soon(reactor.run)
                await trio.testing.wait_all_tasks_blocked()
                start = time.monotonic()
                reactor.clock.refresh()
                reactor.timers.arm(0.01, lambda: (fired.append(time.monotonic() - start), reactor.stop()))

    trio.run(main)
    assert 0.009 <= fired[0] < 3


def test_what_a_task_leaves_to_do_wakes_the_reactor(reactor: Reactor) -> None:
    near, _far = pair()
    out, visited = Probe(), Probe(lambda events: done.append("again"))
    done: list[str] = []

    async def main() -> None:
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(reactor.run)
                for act in (
                    lambda: reactor.dirty(out),
                    lambda: reactor.again(visited),
                    lambda: reactor.close_fd(near.detach()),
                    lambda: reactor.defer(reactor.stop),
                ):
                    await trio.testing.wait_all_tasks_blocked(0.001)
                    act()

    number = near.fileno()
    trio.run(main)
    assert out.flushes == 1
    assert done == ["again"]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


def test_threads_may_call_in(reactor: Reactor) -> None:
    calls: list[int] = []
    here = threading.get_ident()

    def from_thread() -> None:
        for n in range(1000):
            reactor.call_soon_from_thread(lambda n=n: calls.append(n))
        reactor.call_soon_from_thread(lambda: (calls.append(threading.get_ident()), reactor.stop()))

    thread = threading.Thread(target=from_thread)
    thread.start()
    run(reactor)
    thread.join()
    assert calls == [*range(1000), here]


def test_a_failing_handler_is_logged_counted_and_given_up_and_others_go_on(reactor: Reactor, caplog) -> None:
    near, far = pair()
    other_near, other_far = pair()

    def fail(events: int) -> None:
        raise ValueError("broken filter")

    def go_on(events: int) -> None:
        reactor.timers.arm(0, reactor.stop)

    bad, good = Probe(fail), Probe(go_on)
    reactor.register(near.fileno(), bad, select.EPOLLIN | select.EPOLLET)
    reactor.register(other_near.fileno(), good, select.EPOLLIN | select.EPOLLET)
    far.send(b"x")
    other_far.send(b"x")
    with caplog.at_level(logging.ERROR):
        run(reactor)
    assert [str(error) for error in bad.errors] == ["broken filter"]
    assert len(good.events) == 1
    assert reactor.failures == 1
    assert "broken filter" in caplog.text


@pytest.mark.parametrize("where", ["flush", "deferred", "timer", "again"])
def test_every_kind_of_call_is_guarded(reactor: Reactor, where: str) -> None:
    def fail(events: int = 0) -> None:
        raise ValueError(where)

    probe = Probe(fail)
    probe.flush = fail
    near, _far = pair()
    reactor.register(near.fileno(), Probe())
    {
        "flush": lambda: reactor.dirty(probe),
        "deferred": lambda: reactor.defer(fail),
        "timer": lambda: reactor.timers.arm(0, fail),
        "again": lambda: reactor.again(probe),
    }[where]()
    reactor.timers.arm(0.01, reactor.stop)
    run(reactor)
    assert reactor.failures == 1
    assert len(probe.errors) == (1 if where in ("flush", "again") else 0)


def test_a_call_that_holds_the_reactor_is_reported_with_its_culprit(reactor: Reactor, caplog) -> None:
    near, far = pair()

    class Slow(Probe):
        def __repr__(self) -> str:
            return "<Slow filter>"

    reactor.register(
        near.fileno(), Slow(lambda events: (time.sleep(0.06), reactor.stop())), select.EPOLLIN | select.EPOLLET
    )
    far.send(b"x")
    with caplog.at_level(logging.WARNING):
        run(reactor)
    assert reactor.held == 1
    held = re.search(r"<Slow filter> held the reactor for (\d+)", caplog.text)
    assert held is not None and int(held[1]) >= 60


def test_a_handler_that_takes_over_learns_what_holds_already(reactor: Reactor) -> None:
    near, far = pair()
    second = Probe(lambda events: reactor.stop())
    reactor.register(near.fileno(), Probe(lambda events: reactor.register(near.fileno(), second)))
    far.send(b"x")
    far.shutdown(socket.SHUT_WR)
    run(reactor)
    assert second.events[0] & (select.EPOLLIN | select.EPOLLRDHUP) == select.EPOLLIN | select.EPOLLRDHUP


def test_an_unregistered_descriptor_stays_open_and_silent(reactor: Reactor) -> None:
    near, far = pair()
    probe = Probe()
    reactor.register(near.fileno(), probe, select.EPOLLIN | select.EPOLLET)
    reactor.unregister(near.fileno())
    far.send(b"x")
    reactor.timers.arm(0.01, reactor.stop)
    run(reactor)
    assert probe.events == []
    assert near.recv(10) == b"x"


def test_an_idle_reactor_sleeps(reactor: Reactor) -> None:
    near, _far = pair()
    reactor.register(near.fileno(), Probe())
    for _ in range(100):
        reactor.timers.arm(0.05, lambda: None).cancel()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reactor.run)
            await trio.sleep(0.1)
            before = time.process_time()
            await trio.sleep(0.3)
            spent.append(time.process_time() - before)
            reactor.stop()

    spent: list[float] = []
    trio.run(main)
    assert spent[0] < 0.01
