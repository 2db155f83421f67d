"""The reactor: one edge-triggered epoll set that holds every data socket of a worker, awaited by one trio task.

A wake-up of a trio task costs as much as handling a request does, so sockets have no tasks. When the epoll set becomes
readable the reactor takes a *turn*: it calls the handlers of ready descriptors, in *batches* of at most 64, until nothing
is ready or 2 ms have passed, and then lets the other tasks of the process run. A batch ends so:

1. whoever said `dirty` is flushed, so that what a batch wrote to one connection leaves in one system call;
2. what was put off with `defer` runs: closes and resets that must not re-enter those who caused them;
3. descriptors given to `close_fd` are closed. No sooner: a number that is used again within a batch would receive an
   event meant for the closed socket.

Edge-triggered means that an event is told once. It is a hint, not a fact: a handler reads or writes until the socket would
block; one that stops earlier, for fairness, says `again` and is called in the next batch, behind what is ready by then.

The clock is read once per batch, the timer wheel once per turn; beside them one trio task sleeps until the next deadline.
All of this belongs to one thread; `call_soon_from_thread` is the only door from others. Calls from other trio tasks of the
same thread are fine, and wake the reactor if they leave it something to do.

This is where exceptions of connection handlers stop: they are counted and logged, and the handler is told to give up.
What holds the thread for over 50 ms is counted and logged, too. The reactor knows nothing of bytes, protocols or addresses.
"""

import logging
import os
import select
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

import trio

from mosn_xds.base.clock import CachedClock
from mosn_xds.data.net.timers import TimerWheel

READ_WRITE_EVENTS: Final = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
ACCEPT_EVENTS: Final = select.EPOLLIN | select.EPOLLET

_BATCH_EVENTS: Final = 64
_TURN_S: Final = 0.002
_HELD_S: Final = 0.050
_SCRATCH_BYTES: Final = 256 * 1024

_log = logging.getLogger("mosn_xds.reactor")


class Handler(Protocol):
    """Who answers for a descriptor."""

    def on_ready(self, events: int) -> None:
        """`events` are epoll's; after `Reactor.again` they are EPOLLIN alone."""
        ...

    def on_failure(self, error: Exception) -> None:
        """A method of this object raised `error` (already logged): let go of everything, at once."""
        ...


class Flushable(Protocol):
    """Who has output to send at the end of a batch."""

    def flush(self) -> None: ...

    def on_failure(self, error: Exception) -> None:
        """As `Handler.on_failure`."""
        ...


class Reactor:
    """The event loop of one worker; see the module's text.

    `failures` and `held` count what its border caught. `scratch` is memory that any handler may use while it is called.
    """

    __slots__ = (
        "_again",
        "_calm",
        "_closing",
        "_deferred",
        "_dirty",
        "_earlier",
        "_epoll",
        "_from_threads",
        "_handlers",
        "_in_batch",
        "_read_time",
        "_sleeper",
        "_stopping",
        "_wake_fd",
        "_woken",
        "clock",
        "failures",
        "held",
        "scratch",
        "timers",
    )

    def __init__(self, clock: CachedClock, *, read_time: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.timers = TimerWheel(clock, self._guard, self._on_earlier_deadline)
        self.failures = 0
        self.held = 0
        self.scratch = memoryview(bytearray(_SCRATCH_BYTES))
        self._read_time = read_time
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._again: list[Handler] = []
        self._dirty: list[Flushable] = []
        self._deferred: list[Callable[[], None]] = []
        self._closing: list[int] = []
        self._from_threads: deque[Callable[[], None]] = deque()
        self._earlier = False
        self._in_batch = False
        self._stopping = False
        self._woken = False
        self._sleeper: trio.CancelScope | None = None
        self._calm: trio.Event | None = None
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll.register(self._wake_fd, select.EPOLLIN)

    # What handlers call.

    def register(self, fd: int, handler: Handler, events: int = READ_WRITE_EVENTS) -> None:
        """Call `handler` when `fd` is ready, soon if it is ready now. A handler that `fd` had is replaced: the new one is
        told everything that holds for `fd` already. Raises OSError if epoll refuses `fd`.
        """
        if fd in self._handlers:
            self._epoll.modify(fd, events)
        else:
            self._epoll.register(fd, events)
        self._handlers[fd] = handler

    def unregister(self, fd: int) -> None:
        """No more calls for `fd`, not even for events that were already taken. It stays open."""
        del self._handlers[fd]
        self._epoll.unregister(fd)

    def close_fd(self, fd: int) -> None:
        """No more calls for `fd`, which need not be registered; it is closed at the end of the batch."""
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)
        self._closing.append(fd)
        if not self._in_batch:
            self._wake()

    def again(self, handler: Handler) -> None:
        """Call `handler.on_ready(EPOLLIN)` in the next batch: for one that stopped before its socket would block."""
        self._again.append(handler)
        if not self._in_batch:
            self._wake()

    def dirty(self, flushable: Flushable) -> None:
        """Call `flushable.flush()` at the end of this batch. Say it once per batch."""
        self._dirty.append(flushable)
        if not self._in_batch:
            self._wake()

    def defer(self, fn: Callable[[], None]) -> None:
        """Call `fn` at the end of this batch, when the callers on the stack have returned."""
        self._deferred.append(fn)
        if not self._in_batch:
            self._wake()

    def call_soon_from_thread(self, fn: Callable[[], None]) -> None:
        """Call `fn` in the reactor's thread, soon; from any thread."""
        self._from_threads.append(fn)
        os.eventfd_write(self._wake_fd, 1)

    # Life.

    async def run(self) -> None:
        """Serve until `stop`, or until cancelled. What was put off is done before it returns; sockets stay open."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._sleep_until_deadlines)
                while not self._stopping:
                    if self._again:
                        await trio.lowlevel.checkpoint()
                    else:
                        await trio.lowlevel.wait_readable(self._epoll)
                    self._turn()
                nursery.cancel_scope.cancel()
        finally:
            self._in_batch = True
            self._end_batch()
            self._in_batch = False

    def stop(self) -> None:
        """Let `run` return."""
        self._stopping = True
        self._wake()

    def close(self) -> None:
        """Free the reactor's own descriptors; nobody may call it afterwards."""
        self._epoll.close()
        os.close(self._wake_fd)

    async def wait_busy(self) -> None:
        """Until the reactor has something to do, or `disturb` is called: for work that only follows other work."""
        if self._calm is None:
            self._calm = trio.Event()
        await self._calm.wait()

    def disturb(self) -> None:
        """Wake who waits for work."""
        calm, self._calm = self._calm, None
        if calm is not None:
            calm.set()

    # Turns and batches.

    def _turn(self) -> None:
        if self._calm is not None:
            self.disturb()
        clock = self.clock
        clock.refresh()
        end = clock.now + _TURN_S
        self._in_batch = True
        try:
            self.timers.advance(clock.now)
            self._end_batch()
            while clock.now < end:
                events = self._epoll.poll(0, _BATCH_EVENTS)
                if not events and not self._again:
                    break
                again, self._again = self._again, []
                clock.refresh()
                self._batch(events)
                for handler in again:
                    self._visit(handler)
                self._end_batch()
        finally:
            self._in_batch = False
        if self._earlier:
            self._earlier = False
            self._shorten_sleep()

    def _batch(self, events: list[tuple[int, int]]) -> None:
        handlers = self._handlers
        read_time = self._read_time
        before = self.clock.now
        for fd, mask in events:
            handler = handlers.get(fd)
            if handler is None:
                if fd == self._wake_fd:
                    self._on_wake()
                continue
            try:
                handler.on_ready(mask)
            except Exception as error:
                self._fail(handler, error)
            # Measured for each call, so that the log can name the culprit: 0.06 us.
            after = read_time()
            if after - before > _HELD_S:
                self._report_held(handler, after - before)
            before = after

    def _end_batch(self) -> None:
        while True:
            if self._dirty:
                dirty, self._dirty = self._dirty, []
                for flushable in dirty:
                    try:
                        flushable.flush()
                    except Exception as error:
                        self._fail(flushable, error)
            elif self._deferred:
                deferred, self._deferred = self._deferred, []
                for fn in deferred:
                    self._guard(fn)
            else:
                break
        if self._closing:
            for fd in self._closing:
                os.close(fd)
            self._closing.clear()

    def _visit(self, handler: Handler) -> None:
        before = self._read_time()
        try:
            handler.on_ready(select.EPOLLIN)
        except Exception as error:
            self._fail(handler, error)
        held_s = self._read_time() - before
        if held_s > _HELD_S:
            self._report_held(handler, held_s)

    def _guard(self, fn: Callable[[], None]) -> None:
        """Run a timer's or a deferred call."""
        before = self._read_time()
        try:
            fn()
        except Exception:
            self.failures += 1
            _log.exception("%r failed", fn)
        held_s = self._read_time() - before
        if held_s > _HELD_S:
            self._report_held(fn, held_s)

    def _fail(self, culprit: Handler | Flushable, error: Exception) -> None:
        self.failures += 1
        _log.error("%r failed and is given up", culprit, exc_info=error)
        try:
            culprit.on_failure(error)
        except Exception:
            _log.exception("%r failed while being given up", culprit)

    def _report_held(self, culprit: object, held_s: float) -> None:
        self.held += 1
        _log.warning("%r held the reactor for %d ms", culprit, held_s * 1000)

    # Waking.

    def _wake(self) -> None:
        if not self._woken:
            self._woken = True
            os.eventfd_write(self._wake_fd, 1)

    def _on_wake(self) -> None:
        os.eventfd_read(self._wake_fd)
        self._woken = False
        calls = self._from_threads
        for _ in range(len(calls)):
            self._guard(calls.popleft())

    def _on_earlier_deadline(self) -> None:
        self._earlier = True
        if not self._in_batch:
            self._wake()

    def _shorten_sleep(self) -> None:
        """Let the sleeping task sleep no longer than until the next deadline."""
        sleeper = self._sleeper
        deadline = self.timers.next_deadline()
        if sleeper is not None and deadline is not None:
            sleeper.deadline = min(sleeper.deadline, trio.current_time() + deadline - self.clock.now)

    async def _sleep_until_deadlines(self) -> None:
        """Take a turn whenever a deadline has come and no socket has woken the reactor.

        The sleep is only ever shortened: a cancelled deadline costs one needless turn, not a re-armed sleep per request.
        """
        while True:
            with trio.CancelScope() as self._sleeper:
                self.clock.refresh()
                self._shorten_sleep()
                await trio.sleep_forever()
            self._sleeper = None
            self._turn()
            if self._again or self._stopping:
                self._wake()

    def __repr__(self) -> str:
        return f"<Reactor {len(self._handlers)} descriptors, {self.timers!r}>"
