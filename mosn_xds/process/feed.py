"""The agent's end of one worker's feed.

It brings the worker from what it holds to the newest Snapshot, one generation at a time: what turns one into the other is
sent, then `Publish`, and nothing further until the worker has answered `Applied`. Snapshots that come meanwhile coalesce,
because the next difference is taken from what the worker holds then to what is newest then; so a slow worker costs the
agent no memory and no work. A listener's sockets and a limit's row travel before the Spec that needs them.

A worker reports every second while it has something to report, and answers a ping always. One that is silent for 10 s is
stuck: it is ended by SIGABRT, which leaves its stacks in the log, and `run` returns as it does for any worker that is gone.
"""

import contextlib
import logging
import os
import signal
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import msgspec
import trio

from mosn_xds.base.clock import SystemClock
from mosn_xds.control.pace import Pace
from mosn_xds.process.sockets import ListenerSockets, SocketKey
from mosn_xds.process.wire import FeedWire
from mosn_xds.spec import feed
from mosn_xds.spec.snapshot import EMPTY, Item, ItemKey, Kind, Snapshot, diff

PING_INTERVAL_S = 2.5
SILENCE_LIMIT_S = 10.0
_KILL_AFTER_S = 1.0
_ROWS_AT_ONCE = 500
_QUEUE_BYTES = 512 << 10
"""How far sending runs ahead of the worker."""

_log = logging.getLogger("mosn_xds.feed")


class FeedContext(Protocol):
    """What a feed asks its supervisor."""

    sockets: ListenerSockets

    def socket_key(self, item: Item) -> SocketKey | None:
        """Which sockets a listener's Item needs, if any."""
        ...

    def limit_rows(self, item: Item) -> Mapping[str, int]:
        """Rows of the limit table that an Item needs."""
        ...

    def on_message(self, slot: int, message: feed.FromWorker) -> None:
        """Everything that a worker says. `Applied` and `Refused` come with the feed's own state up to date."""
        ...


class WorkerFeed:
    """See the module. Lives as long as its worker."""

    def __init__(self, slot: int, wire: FeedWire, context: FeedContext) -> None:
        self.slot = slot
        self.pid = 0
        """0 until the worker has said so."""
        self.held = EMPTY
        """What the worker serves, as far as it has said."""
        self.in_flight: Snapshot | None = None
        self.applied = False
        """It has taken a generation: it serves."""
        self._wire = wire
        self._context = context
        self._clock = SystemClock()
        self._newest: Snapshot | None = None
        self._sent: Snapshot | None = None
        self._news = trio.Event()
        self._refused: set[ItemKey] = set()
        self._given: dict[str, SocketKey] = {}
        self._rows_sent: dict[str, int] = {}
        self._serves_for: tuple[int, ...] = (slot,)
        self._heard_at = 0.0
        self._pings = 0
        self._pongs = 0
        self._heard = trio.Event()
        self._decoder = msgspec.msgpack.Decoder(feed.FromWorker)

    def __repr__(self) -> str:
        return f"<WorkerFeed {self.slot} pid {self.pid} holds #{self.held.generation}>"

    async def run(self) -> None:
        """Serve the worker; returns when it is gone."""
        self._heard_at = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._wire.flush)
            nursery.start_soon(self._bring_up_to_date)
            nursery.start_soon(self._watch)
            await self._listen()
            nursery.cancel_scope.cancel()

    # --- what the supervisor says -----------------------------------------------------------------------------------

    def offer(self, snapshot: Snapshot) -> None:
        """This is what the worker should hold."""
        self._newest = snapshot
        self._news.set()

    def send(self, message: feed.ToWorker, fds: Sequence[int] = ()) -> None:
        """Anything that is not part of a generation."""
        self._wire.send(message, fds)

    async def obeyed(self) -> None:
        """Until the worker has done what it was told so far. For ever if it is gone."""
        asked = self._ping()
        while self._pongs < asked:
            await self._heard.wait()

    def serve_for(self, slots: Sequence[int]) -> None:
        """Accept from the sockets of these slots, the worker's own first, from now on."""
        if tuple(slots) != self._serves_for:
            self._serves_for = tuple(slots)
            for key in self._given.values():
                self._send_sockets(key)

    def kill(self, number: signal.Signals) -> None:
        """Does nothing to a worker that is gone."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def sockets_in_use(self) -> Collection[SocketKey]:
        """What the worker was given last, listener by listener."""
        return self._given.values()

    # --- towards the worker -----------------------------------------------------------------------------------------

    async def _bring_up_to_date(self) -> None:
        while True:
            newest = self._newest
            if newest is None or newest is self._sent or self.in_flight is not None:
                await self._news.wait()
                self._news = trio.Event()
            else:
                self._sent = self.in_flight = newest
                await self._send_generation(newest)

    async def _send_generation(self, snapshot: Snapshot) -> None:
        delta = diff(self.held, snapshot)
        pace = Pace(self._clock)
        for item in delta.put:
            if item.kind is Kind.LISTENER:
                self._give_sockets(item)
            needed = self._context.limit_rows(item)
            rows = {key: row for key, row in needed.items() if self._rows_sent.get(key) != row}
            if rows:
                self._rows_sent.update(rows)
                self._wire.send(feed.LimitRows(dict(rows)))
            self._wire.send(feed.Put(item))
            await pace.rest()
            if self._wire.queued_bytes > _QUEUE_BYTES:
                await self._wire.drained()
        needless: dict[str, int | None] = {}
        for kind, name in delta.drop:
            if kind is Kind.LISTENER:
                self._given.pop(name, None)
            keys = self._context.limit_rows(self.held.items[kind, name])
            needless.update((key, None) for key in keys if self._rows_sent.pop(key, None) is not None)
            self._wire.send(feed.Drop(kind, name))
            await pace.rest()
            if len(needless) >= _ROWS_AT_ONCE:
                self._wire.send(feed.LimitRows(needless))
                needless = {}
        if needless:
            self._wire.send(feed.LimitRows(needless))
        self._wire.send(feed.Publish(snapshot.generation))

    def _give_sockets(self, item: Item) -> None:
        key = self._context.socket_key(item)
        if key is None:
            self._given.pop(item.name, None)
        elif self._given.get(item.name) != key:
            self._given[item.name] = key
            self._send_sockets(key)

    def _send_sockets(self, key: SocketKey) -> None:
        self._wire.send(feed.Sockets(*key), self._context.sockets.descriptors(key, self._serves_for))

    def _ping(self) -> int:
        self._pings += 1
        self._wire.send(feed.Ping(self._pings))
        return self._pings

    async def _watch(self) -> None:
        while True:
            slept_at = trio.current_time()
            await trio.sleep(PING_INTERVAL_S)
            # When we were held up ourselves, what the worker said meanwhile has not been read.
            self._heard_at += max(0.0, trio.current_time() - slept_at - PING_INTERVAL_S)
            silence_s = trio.current_time() - self._heard_at
            if silence_s > SILENCE_LIMIT_S:
                _log.error("worker %d (pid %d) is silent for %.0f s and is ended", self.slot, self.pid, silence_s)
                await self._end()
                return
            self._ping()

    async def _end(self) -> None:
        """The feed's end follows, and `run` returns."""
        self.kill(signal.SIGABRT)
        await trio.sleep(_KILL_AFTER_S)
        self.kill(signal.SIGKILL)

    # --- from the worker --------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        while (bodies := await self._wire.receive()) is not None:
            self._heard_at = trio.current_time()
            pace = Pace(self._clock)
            for body in bodies:
                self._take(self._decoder.decode(body))
                await pace.rest()

    def _take(self, message: feed.FromWorker) -> None:
        match message:
            case feed.Ready(pid):
                self.pid = pid
            case feed.Pong(id):
                self._pongs = id
                self._heard.set()
                self._heard = trio.Event()
            case feed.Refused(kind, name):
                self._refused.add((kind, name))
            case feed.Applied(generation) if self.in_flight is not None and generation == self.in_flight.generation:
                self.held = self._with_refusals(self.in_flight)
                self.in_flight = None
                self.applied = True
                self._news.set()
            case _:
                pass
        self._context.on_message(self.slot, message)

    def _with_refusals(self, snapshot: Snapshot) -> Snapshot:
        """What the worker holds after `snapshot`: of what it refused, what it held before."""
        if not self._refused:
            return snapshot
        items = dict(snapshot.items)
        for key in self._refused:
            before = self.held.items.get(key)
            if before is None:
                items.pop(key, None)
            else:
                items[key] = before
        self._refused.clear()
        return Snapshot(snapshot.generation, items)
