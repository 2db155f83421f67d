"""A worker's main program: one reactor, one engine, and the worker's end of the feed.

The feed is ordinary trio beside the reactor's task. What the agent sends is obeyed in order; building a generation is cut
into slices of a millisecond, between which the reactor serves traffic, and pauses while there is any: a push of any size
delays a request by little more than a slice. What cannot be built is answered `Refused` and what was there goes on
serving: the agent has judged everything before, so a refusal is a defect, but never an outage.

When the feed ends the agent is gone: the worker lets go of its listeners, so that a new agent can have the addresses,
gives its streams a few seconds, and exits. Signals are the agent's business; a worker ignores them.

Nothing here, or below, imports grpc or protobuf.
"""

import faulthandler
import gc
import logging
import math
import os
import random
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Protocol

import msgspec
import trio

from mosn_xds.base.chance import Random
from mosn_xds.base.clock import CachedClock
from mosn_xds.base.errors import ConfigError
from mosn_xds.base.limits import LimitProvider, LimitTable
from mosn_xds.base.log import Level, LogControl
from mosn_xds.base.stats import StatChange, StatGroup, StatRegistry
from mosn_xds.data.net.reactor import Reactor
from mosn_xds.process.wire import FeedWire
from mosn_xds.spec import feed
from mosn_xds.spec.feed import HostStat
from mosn_xds.spec.histogram_buckets import HistogramBuckets

SLICE_S = 0.001
"""The longest that the feed holds the reactor up at once (one item excepted)."""
PAUSE_S = 0.004
"""How long it then keeps away while there is traffic: a process that always computes is late when a request comes."""
REPORT_INTERVAL_S = 1.0
ORPHAN_LIMIT_S = 5.0
"""How long streams may go on when the agent is gone."""

ORPHAN_IDLE_S = 0.2
YOUNG_OBJECTS = 10_000
"""So many new containers set off the collector of cycles. Requests leave none behind, but hundreds of them under way hold more
than the interpreter's 700 objects: it looked at those again and again, 3 % of the time that HTTP/2 takes."""

_log = logging.getLogger("mosn_xds.worker")


class ServingEngine(Protocol):
    """What a worker runs: `mosn_xds.data.engine.Engine`, or a test's own."""

    def give_sockets(self, listener: str, socket_uid: bytes, fds: list[int]) -> None:
        """Sockets of a listener, see `feed.Sockets`; the engine's to close."""
        ...

    def stage(self, message: feed.Put | feed.Drop) -> None:
        """Build one item of the next generation. Raises ConfigError."""
        ...

    def build(self) -> Iterator[None]:
        """Make, in steps, what `stage` has put off."""
        ...

    def publish(self, generation: int) -> None: ...

    def drain_listeners(self, *, inbound_only: bool, graceful: bool) -> None: ...

    def set_health_failed(self, failed: bool) -> None: ...

    def begin_shutdown(self, limit_s: float, idle_s: float, on_drained: Callable[[], None]) -> None:
        """Call `on_drained` when no stream has been active for `idle_s`, at latest after `limit_s`; the last call counts."""
        ...

    def host_stats(self) -> list[HostStat]:
        """Hosts whose figures changed since the last call."""
        ...

    def draining(self) -> dict[str, int]: ...

    def reopen_logs(self) -> None: ...

    def close(self) -> None: ...


class Task(Protocol):
    """What `Spawn` started."""

    def cancel(self) -> None: ...


Spawn = Callable[[Callable[[], Awaitable[None]]], Task]
"""Runs an async function beside the reactor, until it returns or is cancelled."""

EngineFactory = Callable[[Reactor, feed.Configure, StatRegistry, LimitProvider, Random, Spawn], ServingEngine]


class WorkerStats(StatGroup):
    """``server.worker_N.``: the reactor's border, under Envoy's names for what is late (`watchdog_miss`: over 50 ms)."""

    __slots__ = ("reactor_failures", "refused_items", "task_failures", "watchdog_miss")
    COUNTERS = ("watchdog_miss", "reactor_failures", "task_failures", "refused_items")
    watchdog_miss: int
    reactor_failures: int
    task_failures: int
    refused_items: int


class WorkerProcess:
    """See the module."""

    def __init__(self, wire: FeedWire, slot: int, make_engine: EngineFactory, log: LogControl) -> None:
        self._wire = wire
        self._slot = slot
        self._make_engine = make_engine
        self._log_control = log
        self._reactor = Reactor(CachedClock())
        self._stats = StatRegistry()
        self._own_stats = self._stats.group(WorkerStats, f"server.worker_{slot}.")
        self._limits = LimitProvider()
        self._engine: ServingEngine | None = None
        self._nursery: trio.Nursery | None = None
        self._draining: dict[str, int] = {}
        self._stopping = False
        self._has_served = False
        self._has_told = False
        """Every group of the first generation has been reported."""
        self._linger_s = 0.0
        """How long figures may still change when everything else is quiet: log lines are written by a thread."""
        self._drained = trio.Event()
        self._decoder = msgspec.msgpack.Decoder(feed.ToWorker)

    def __repr__(self) -> str:
        return f"<WorkerProcess {self._slot} pid {os.getpid()} {self._engine!r}>"

    async def run(self) -> None:
        """Serve until told to stop, or until the agent is gone."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._reactor.run)
            nursery.start_soon(self._wire.flush)
            self._wire.send(feed.Ready(os.getpid()))
            nursery.start_soon(self._report_regularly)
            nursery.start_soon(self._obey_until_orphaned)
            await self._drained.wait()
            await self._report(last=True)
            self._wire.send(feed.Drained())
            with trio.move_on_after(1):
                await self._wire.drained()
            nursery.cancel_scope.cancel()
        if self._engine is not None:
            self._engine.close()

    def _spawn(self, function: Callable[[], Awaitable[None]]) -> trio.CancelScope:
        if self._nursery is None:
            raise RuntimeError("the worker does not run")
        scope = trio.CancelScope()
        self._nursery.start_soon(self._run_guarded, function, scope)
        return scope

    async def _run_guarded(self, function: Callable[[], Awaitable[None]], scope: trio.CancelScope) -> None:
        """The border for tasks: an extension's exception is its stream's end, never the worker's."""
        with scope:
            try:
                await function()
            except Exception:
                self._own_stats.task_failures += 1
                _log.exception("%r fails", function)

    # --- what the agent says ----------------------------------------------------------------------------------------

    async def _obey_until_orphaned(self) -> None:
        read_time = time.monotonic
        clock = self._reactor.clock
        while (bodies := await self._wire.receive()) is not None:
            clock.refresh()  # it may have slept since it last looked
            pause_at = clock.now + SLICE_S
            for body in bodies:
                message = self._decoder.decode(body)
                if isinstance(message, feed.Publish) and self._engine is not None:
                    for _ in self._engine.build():
                        if read_time() > pause_at:
                            pause_at = await self._pause()
                self._obey(message)
                if read_time() > pause_at:
                    pause_at = await self._pause()
        if self._engine is None:
            self._drained.set()
            return
        if not self._stopping:
            _log.warning("the agent is gone: closing listeners, exiting in %g s at most", ORPHAN_LIMIT_S)
        self._engine.drain_listeners(inbound_only=False, graceful=False)
        self._engine.begin_shutdown(ORPHAN_LIMIT_S, ORPHAN_IDLE_S, self._drained.set)
        with trio.move_on_after(ORPHAN_LIMIT_S):
            await trio.sleep_forever()
        self._drained.set()

    async def _pause(self) -> float:
        """Let traffic have its turn, more of it if there is some; says when the next pause is due."""
        clock = self._reactor.clock
        looked_at = clock.now
        await trio.lowlevel.checkpoint()
        if clock.now != looked_at:
            await trio.sleep(PAUSE_S)
        clock.refresh()
        return clock.now + SLICE_S

    def _obey(self, message: feed.ToWorker) -> None:
        if isinstance(message, feed.Configure):
            self._configure(message)
            return
        engine = self._engine
        if engine is None:
            raise RuntimeError(f"{type(message).__name__} before Configure")
        if not isinstance(message, feed.Ping):
            self._reactor.disturb()
        match message:
            case feed.Put() | feed.Drop():
                self._stage(engine, message)
            case feed.Publish(generation):
                engine.publish(generation)
                self._wire.send(feed.Applied(generation))
                self._has_served = True
                # Specs and what is built from them live long and hold no cycles: the collector need not look again.
                gc.freeze()
                gc.enable()
            case feed.Sockets(listener, socket_uid):
                engine.give_sockets(listener, socket_uid, self._wire.take_fds())
            case feed.LimitRows(rows):
                self._limits.set_rows(rows)
            case feed.Ping(id):
                self._wire.send(feed.Pong(id))
            case feed.DrainListeners(inbound_only, graceful):
                engine.drain_listeners(inbound_only=inbound_only, graceful=graceful)
            case feed.SetHealthFailed(failed):
                engine.set_health_failed(failed)
            case feed.Shutdown(limit_s, idle_s):
                self._stopping = True
                engine.begin_shutdown(limit_s, idle_s, self._drained.set)
            case feed.ReopenLogs():
                self._reopen_logs(engine)
            case feed.SetLogLevel(logger, level):
                if logger:
                    self._log_control.set_component(logger, Level.parse(level))
                else:
                    self._log_control.set_all(Level.parse(level))

    def _configure(self, settings: feed.Configure) -> None:
        if settings.limits_fd:
            (fd,) = self._wire.take_fds()
            self._limits = LimitProvider(LimitTable.open(fd, settings.concurrency), settings.worker)
        self._linger_s = settings.log_flush_interval_s
        if settings.histogram_buckets:
            self._stats.use_bounds(HistogramBuckets(settings.histogram_buckets).bounds)
        self._engine = self._make_engine(
            self._reactor, settings, self._stats, self._limits, random.Random(), self._spawn
        )

    def _stage(self, engine: ServingEngine, message: feed.Put | feed.Drop) -> None:
        gc.disable()  # until the generation is published: a big one would be scanned over and over
        try:
            engine.stage(message)
        except ConfigError as error:
            self._refuse(message, str(error))
        except Exception as error:
            _log.exception("building %s fails", message)
            self._refuse(message, f"{type(error).__name__}: {error}")

    def _refuse(self, message: feed.Put | feed.Drop, reason: str) -> None:
        self._own_stats.refused_items += 1
        if isinstance(message, feed.Put):
            item = message.item
            self._wire.send(feed.Refused(item.kind, item.name, item.uid, reason))
        else:
            self._wire.send(feed.Refused(message.kind, message.name, b"", reason))

    def _reopen_logs(self, engine: ServingEngine) -> None:
        engine.reopen_logs()
        try:
            self._log_control.reopen()
        except OSError as error:
            _log.error("the log cannot be opened again: %s", error)

    # --- what the worker says ---------------------------------------------------------------------------------------

    async def _report_regularly(self) -> None:
        """Each second while something happens; a worker that idles sleeps (a wake-up costs it 0.3 ms with cold caches)."""
        # Workers report at different times of the second.
        next_at = trio.current_time() + REPORT_INTERVAL_S * (1 + math.modf(self._slot * 0.382)[0])
        clock = self._reactor.clock
        reads_left = 1
        while True:
            await trio.sleep_until(next_at)
            next_at += REPORT_INTERVAL_S * math.ceil((trio.current_time() - next_at) / REPORT_INTERVAL_S + 0.001)
            if self._wire.queued_bytes:
                continue  # the agent is slow: differences wait without loss
            looked_at = clock.now
            if await self._report() or clock.now != looked_at:
                reads_left = max(self._stats.reads_for_all, math.ceil(self._linger_s / REPORT_INTERVAL_S) + 1)
            elif reads_left:
                reads_left -= 1
            else:
                await self._reactor.wait_busy()

    async def _report(self, *, last: bool = False) -> bool:
        """Say what has changed; False if nothing has. In portions, for thousands of clusters take a while to look at."""
        tell_all = self._has_served and not self._has_told
        anything = await self._report_stats(last or tell_all)
        if tell_all:
            self._has_told = True
            self._wire.send(feed.StatReport([], [], complete=True))
        if self._engine is not None:
            if hosts := self._engine.host_stats():
                self._wire.send(feed.HostReport(hosts))
                anything = True
            if (draining := self._engine.draining()) != self._draining:
                self._draining = draining
                self._wire.send(feed.Draining(draining))
        return anything

    async def _report_stats(self, everything: bool) -> bool:
        anything = False
        self._own_stats.watchdog_miss = self._reactor.held
        self._own_stats.reactor_failures = self._reactor.failures
        read_time = time.monotonic
        clock = self._reactor.clock
        pause_at = read_time() + SLICE_S
        portion: list[StatChange] = []
        for change in self._stats.changes(everything=everything):
            if change is not None:
                portion.append(change)
                anything = True
            if read_time() > pause_at:
                self._send_portion(portion)
                portion = []
                looked_at = clock.now
                await trio.lowlevel.checkpoint()
                if clock.now != looked_at:
                    await trio.sleep(PAUSE_S)
                pause_at = read_time() + SLICE_S
        self._send_portion(portion)
        return anything

    def _send_portion(self, portion: list[StatChange]) -> None:
        if portion:
            self._wire.send(feed.StatReport(portion, self._stats.take_kinds()))


def work(sock: socket.socket, slot: int, make_engine: EngineFactory, log: LogControl) -> None:
    """A worker's life, in the process that has just been forked for it."""
    faulthandler.enable()  # SIGABRT from the agent leaves the stacks in the log
    gc.set_threshold(YOUNG_OBJECTS)
    wire = FeedWire(sock)
    try:
        trio.run(WorkerProcess(wire, slot, make_engine, log).run)
    finally:
        wire.close()
