"""The supervisor: so many workers, all serving the newest Snapshot, whatever happens to any of them.

A worker that dies is replaced at once, on the same sockets. One that dies soon after its start, again and again, is in a
crash loop: the wait before its next start doubles up to 30 s, and the slot shows it. While a worker that has
served is missing, a sibling accepts from its sockets too (see `mosn_xds.process.sockets`), from the moment that its feed
ends until its successor serves.

What the workers are to hold is worked out by `mosn_xds.process.attainable`: refused Items replaced by good ones, listeners
left out whose address cannot be bound, which is tried again twice a second.
"""

import itertools
import logging
import signal
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

import msgspec
import trio

from mosn_xds.base.limits import LimitTable
from mosn_xds.process.attainable import Attainable, Stopped
from mosn_xds.process.feed import WorkerFeed
from mosn_xds.process.hosts import HostTotals
from mosn_xds.process.limit_rows import TABLE_ROWS, LimitRows
from mosn_xds.process.sockets import ListenerSockets, SocketKey
from mosn_xds.process.spawner_link import SpawnerLink
from mosn_xds.process.totals import StatTotals
from mosn_xds.process.wire import FeedWire
from mosn_xds.spec import feed
from mosn_xds.spec.snapshot import EMPTY, Item, Snapshot

STABLE_S = 10.0
"""Who lived this long did not die of its start."""
FIRST_DELAY_S = 0.1
MAX_DELAY_S = 30.0
OBEY_LIMIT_S = 2.0
"""Who asked for something is not kept longer than this by a worker that is stuck."""
REFUSE_BEYOND_S = 1.0
"""Without any worker, clients wait no longer than this in a queue."""
BIND_RETRY_S = 0.5

_log = logging.getLogger("mosn_xds.supervise")


class WorkerState(Enum):
    """What a slot's worker does; the value is how it is shown."""

    STARTING = "starting"
    SERVING = "serving"
    BACKING_OFF = "backing off"
    DRAINED = "drained"


@dataclass(eq=False)
class WorkerSlot:
    """The place of one worker. Times are trio's clock."""

    number: int
    state: WorkerState = WorkerState.STARTING
    feed: WorkerFeed | None = None
    started_at: float = 0.0
    has_served: bool = False
    has_told: bool = False
    """Its worker has reported all its statistics once."""
    starts: int = 0
    quick_deaths: int = 0
    """How many in a row died within STABLE_S."""
    retry_at: float = 0.0
    """When a worker that is backing off starts."""
    last_exit: str = ""
    """How the last one ended."""
    draining: Mapping[str, int] = field(default_factory=dict)
    """Draining connections by listener."""

    @property
    def pid(self) -> int:
        """0 while there is no worker."""
        return self.feed.pid if self.feed is not None else 0

    def __repr__(self) -> str:
        return f"<WorkerSlot {self.number} {self.state.value} pid {self.pid} starts={self.starts}>"


def restart_delay_s(quick_deaths: int) -> float:
    """How long to wait before the next start: not at all the first time."""
    if quick_deaths <= 1:
        return 0.0
    return min(MAX_DELAY_S, FIRST_DELAY_S * 2.0 ** min(quick_deaths - 2, 20))


class Supervisor:
    """See the module. `publish` may be called before `run`."""

    def __init__(
        self,
        configure: feed.Configure,
        spawner: SpawnerLink,
        totals: StatTotals,
        hosts: HostTotals,
    ) -> None:
        """`configure` is what each worker is told, with its own number."""
        self._configure = configure
        self.spawner = spawner
        self.totals = totals
        self.hosts = hosts
        self._changes = trio.Event()
        self.sockets = ListenerSockets(configure.concurrency)
        self.slots = [WorkerSlot(number) for number in range(configure.concurrency)]
        self._limits = LimitRows(LimitTable.create(TABLE_ROWS, configure.concurrency))
        self.attainable = Attainable(self.sockets)
        self.published = EMPTY
        """What the workers are to hold: what was wanted, as far as it can be had."""
        self.refusals_total = 0
        self._refused_since = False
        self._stopping = False
        self._shutdown: feed.Shutdown | None = None
        self._remembered: dict[str, feed.ToWorker] = {}
        self._wake = trio.Event()

    def __repr__(self) -> str:
        serving = sum(slot.state is WorkerState.SERVING for slot in self.slots)
        return f"<Supervisor {serving}/{len(self.slots)} workers serve {self.published!r}>"

    # --- what is to be served ---------------------------------------------------------------------------------------

    def publish(self, snapshot: Snapshot) -> int:
        """Bring all workers to `snapshot`, as soon as each can. Returns a number for `applied`.

        Generations are counted here: what the workers are to hold changes for other reasons, too.
        """
        self.attainable.wanted = snapshot
        self._republish()
        return self.published.generation

    def applied(self, number: int) -> bool:
        """Whether every worker serves what `publish` answered `number` for, or something later."""
        return all(slot.feed is not None and slot.feed.held.generation >= number for slot in self.slots)

    def is_settled(self) -> bool:
        """Whether every worker serves what was published last."""
        return self.applied(self.published.generation)

    async def wait_for_change(self) -> None:
        """Until a worker came, went, or applied something, or a Snapshot was published."""
        await self._changes.wait()

    def _note_change(self) -> None:
        self._changes.set()
        self._changes = trio.Event()

    def _republish(self) -> None:
        self.published = Snapshot(self.published.generation + 1, self.attainable.items())
        for slot in self.slots:
            if slot.feed is not None:
                slot.feed.offer(self.published)
        self._note_change()

    def stop_listeners(self, *, inbound_only: bool) -> None:
        """Stop accepting for good, on inbound listeners or on all; connections drain."""
        if self.attainable.stopped is not Stopped.ALL:
            self.attainable.stopped = Stopped.INBOUND if inbound_only else Stopped.ALL
            self._republish()

    def socket_key(self, item: Item) -> SocketKey | None:
        """See `FeedContext`."""
        return self.attainable.socket_key(item)

    def limit_rows(self, item: Item) -> Mapping[str, int]:
        """See `FeedContext`."""
        return self._limits.rows(item)

    def _forget_unused(self) -> None:
        feeds = [slot.feed for slot in self.slots if slot.feed is not None]
        in_flight = [one.in_flight for one in feeds if one.in_flight is not None]
        self.attainable.forget_unused(in_flight, [key for one in feeds for key in one.sockets_in_use()])
        if self._limits.cached > 2 * len(self.published.items) + 100:
            held = (self.published, *in_flight, *(one.held for one in feeds))
            self._limits.keep_only({item.uid for snapshot in held for item in snapshot.items.values()})

    # --- what all workers are told ----------------------------------------------------------------------------------

    def tell_all(self, message: feed.ToWorker, *, remember_as: str | None = None) -> None:
        """Say it to every worker. What is remembered is said to those that start later as well, the last under a name."""
        if remember_as is not None:
            self._remembered.pop(remember_as, None)
            self._remembered[remember_as] = message
        for slot in self.slots:
            if slot.feed is not None:
                slot.feed.send(message)

    async def obeyed(self) -> None:
        """Until every worker that serves has done what it was told and holds what was published; OBEY_LIMIT_S at most."""
        number = self.published.generation
        with trio.move_on_after(OBEY_LIMIT_S):
            while any(one.held.generation < number for one in self._serving().values()):
                await self.wait_for_change()
            async with trio.open_nursery() as nursery:
                for one in self._serving().values():
                    nursery.start_soon(one.obeyed)

    def begin_shutdown(self, limit_s: float, idle_s: float = 1.0) -> None:
        """Let every worker drain and go; `run` returns when all are gone, `limit_s` and a second from now at latest."""
        self._stopping = True
        self._shutdown = feed.Shutdown(limit_s, idle_s)
        self.tell_all(self._shutdown)
        self._stop_waiting()

    def kill(self) -> None:
        """End all workers at once."""
        for slot in self.slots:
            if slot.feed is not None:
                slot.feed.kill(signal.SIGKILL)

    # --- life -------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep the workers alive until `begin_shutdown` has done its work. Cancelled, it leaves them to end by themselves."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._retry_binding)
                async with trio.open_nursery() as workers:
                    for slot in self.slots:
                        workers.start_soon(self._keep, slot)
                    nursery.start_soon(self._enforce_shutdown, workers.cancel_scope)
                nursery.cancel_scope.cancel()
        finally:
            self.sockets.close()

    async def _enforce_shutdown(self, workers: trio.CancelScope) -> None:
        while self._shutdown is None:
            await self._wake.wait()
        await trio.sleep(self._shutdown.limit_s + 1.0)
        for slot in self.slots:
            if slot.feed is not None:
                _log.warning("worker %d (pid %d) is still there after its drain and is killed", slot.number, slot.pid)
                slot.feed.kill(signal.SIGKILL)
        await trio.sleep(1.0)
        workers.cancel()

    async def _keep(self, slot: WorkerSlot) -> None:
        while not self._stopping:
            await self._back_off(slot)
            if not self._stopping:
                await self._run_one(slot)
        slot.state = WorkerState.DRAINED

    async def _back_off(self, slot: WorkerSlot) -> None:
        delay_s = restart_delay_s(slot.quick_deaths)
        if delay_s == 0:
            return
        slot.state = WorkerState.BACKING_OFF
        slot.retry_at = trio.current_time() + delay_s
        self._changed()
        with trio.move_on_at(slot.retry_at):
            while not self._stopping:
                await self._wake.wait()

    async def _run_one(self, slot: WorkerSlot) -> None:
        slot.state = WorkerState.STARTING
        slot.started_at = trio.current_time()
        slot.starts += 1
        ours, theirs = socket.socketpair()
        wire = FeedWire(ours)
        worker = slot.feed = WorkerFeed(slot.number, wire, self)
        worker.send(
            msgspec.structs.replace(self._configure, worker=slot.number, limits_fd=True), [self._limits.table.fd]
        )
        for message in self._remembered.values():
            worker.send(message)
        if self._shutdown is not None:
            worker.send(self._shutdown)
        worker.offer(self.published)
        try:
            with theirs:
                await self.spawner.fork(slot.number, theirs)
            await worker.run()
        except ValueError as error:  # msgspec.DecodeError, too: what it says makes no sense
            _log.error("worker %d (pid %d) sends garbage: %s", slot.number, worker.pid, error)
            worker.kill(signal.SIGKILL)
        finally:
            wire.close()
        slot.feed = None
        slot.state = WorkerState.STARTING
        slot.draining = {}
        slot.has_told = False
        self.totals.forget(slot.number)
        self.hosts.forget(slot.number)
        self._limits.table.clear_column(slot.number)
        lived_s = trio.current_time() - slot.started_at
        slot.quick_deaths = 0 if lived_s >= STABLE_S else slot.quick_deaths + 1
        self._changed()
        await self._note_exit(slot, worker.pid, lived_s)

    async def _note_exit(self, slot: WorkerSlot, pid: int, lived_s: float) -> None:
        code = await self.spawner.exit_code(pid) if pid else None
        if code is None:
            slot.last_exit = "gone"
        elif code < 0:
            slot.last_exit = f"killed by {signal.Signals(-code).name}"
        else:
            slot.last_exit = f"exited with {code}"
        if not self._stopping:
            delay_s = restart_delay_s(slot.quick_deaths)
            when = f"in {delay_s:g} s" if delay_s else "now"
            _log.error(
                "worker %d (pid %d) %s after %.1f s; the next starts %s",
                slot.number,
                pid,
                slot.last_exit,
                lived_s,
                when,
            )

    def _serving(self) -> Mapping[int, WorkerFeed]:
        """By slot."""
        return {slot.number: slot.feed for slot in self.slots if slot.feed is not None and slot.feed.applied}

    def _changed(self) -> None:
        """Somebody came or went: settle who accepts for whom."""
        serving = self._serving()
        duties = {number: [number] for number in serving}
        missing = [slot.number for slot in self.slots if slot.has_served and slot.number not in serving]
        if serving:
            for number, stand_in in zip(missing, itertools.cycle(serving)):
                duties[stand_in].append(number)
        for number, one in serving.items():
            one.serve_for(duties[number])
        if not serving and missing:
            waits = [slot.retry_at for slot in self.slots if slot.state is WorkerState.BACKING_OFF]
            if len(waits) == len(self.slots) and min(waits) > trio.current_time() + REFUSE_BEYOND_S:
                self.sockets.refuse_connections()
        self._note_change()

    def _stop_waiting(self) -> None:
        self._wake.set()
        self._wake = trio.Event()

    async def _retry_binding(self) -> None:
        while True:
            while not self.attainable.unbound:
                await self.wait_for_change()
            await trio.sleep(BIND_RETRY_S)
            bound = self.attainable.can_bind_more()
            if bound:
                _log.info("addresses are bound now: %s", ", ".join(bound))
                self._republish()

    # --- what workers say -------------------------------------------------------------------------------------------

    def on_message(self, number: int, message: feed.FromWorker) -> None:
        slot = self.slots[number]
        match message:
            case feed.StatReport(changes, kinds, complete):
                self.totals.apply(number, changes, kinds)
                if complete:
                    slot.has_told = True
                    if all(one.has_told for one in self.slots):
                        self.totals.drop_left_behind()
            case feed.HostReport(hosts):
                self.hosts.apply(number, hosts)
            case feed.Draining(listeners):
                slot.draining = listeners
            case feed.Refused():
                self._note_refusal(message)
            case feed.Applied():
                self._note_applied(slot)
            case _:
                pass

    def _note_refusal(self, message: feed.Refused) -> None:
        _log.error("%s %s cannot be built by a worker: %s", message.kind.name.lower(), message.name, message.reason)
        self.refusals_total += 1
        self._refused_since |= self.attainable.refuse(message)

    def _note_applied(self, slot: WorkerSlot) -> None:
        if slot.feed is None:
            return
        self.attainable.note_good(slot.feed.held)
        if slot.state is WorkerState.STARTING:
            slot.state = WorkerState.SERVING
            slot.has_served = True
            for message in self._remembered.values():  # again: some speak of what only exists now
                slot.feed.send(message)
            self._changed()
        if self._refused_since:
            self._refused_since = False
            self._republish()
        self._forget_unused()
        self._note_change()
