"""An engine for tests of processes: it accepts, and answers every line with the worker's pid and the generation.

It stands where `mosn_xds.data.engine.Engine` stands, in real workers, so that a test of supervision needs no proxy. A line
``die`` kills the worker, ``hang`` blocks it, ``modules`` lists what it has imported. Endpoints named ``bad`` are refused,
ones named ``poison`` kill the worker that publishes them if its number is in the locality's region.
"""

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator

import msgspec

from mosn_xds.base.chance import Random
from mosn_xds.base.errors import ConfigError
from mosn_xds.base.limits import LimitCell, LimitProvider
from mosn_xds.base.stats import StatGroup, StatRegistry
from mosn_xds.data.net.reactor import ACCEPT_EVENTS, Reactor
from mosn_xds.process.worker import Spawn
from mosn_xds.spec import feed
from mosn_xds.spec.cluster import Endpoints
from mosn_xds.spec.snapshot import Kind


class EchoStats(StatGroup):
    __slots__ = ("active", "lines", "ms")
    COUNTERS = ("lines",)
    GAUGES = ("active",)
    HISTOGRAMS = ("ms",)
    lines: int
    active: int


class Engine:
    def __init__(
        self,
        reactor: Reactor,
        settings: feed.Configure,
        stats: StatRegistry,
        limits: LimitProvider,
        random: Random,
        spawn: Spawn,
    ) -> None:
        self.reactor = reactor
        self.settings = settings
        self.stats = stats.group(EchoStats, "echo.")
        self.limits = limits
        self.generation = 0
        self.acceptors: dict[str, list[_Acceptor]] = {}
        self.given: dict[str, tuple[bytes, list[int]]] = {}
        self.uids: dict[str, bytes] = {}
        self.staged: list[feed.Put | feed.Drop] = []
        self.connections: set[_Connection] = set()
        self.greeting = ""
        self.cell: LimitCell | None = None

    def give_sockets(self, listener: str, socket_uid: bytes, fds: list[int]) -> None:
        if self.uids.get(listener) == socket_uid:
            self._listen(listener, fds)
        else:
            self.given[listener] = (socket_uid, fds)

    def stage(self, message: feed.Put | feed.Drop) -> None:
        if isinstance(message, feed.Put) and message.item.name == "bad":
            raise ConfigError("this cannot be built", path="name")
        self.staged.append(message)

    def build(self) -> Iterator[None]:
        return iter(())

    def publish(self, generation: int) -> None:
        for message in self.staged:
            if isinstance(message, feed.Drop):
                for acceptor in self.acceptors.pop(message.name, []):
                    acceptor.close()
            elif message.item.kind is Kind.LISTENER and message.item.name in self.given:
                uid, fds = self.given.pop(message.item.name)
                self.uids[message.item.name] = uid
                self._listen(message.item.name, fds)
            elif message.item.kind is Kind.ENDPOINTS:
                endpoints = msgspec.msgpack.decode(message.item.raw, type=Endpoints)
                regions = [locality.region for locality in endpoints.localities]
                if message.item.name == "poison" and str(self.settings.worker) in regions:
                    os.kill(os.getpid(), signal.SIGKILL)
        self.staged.clear()
        self.generation = generation

    def _listen(self, listener: str, fds: list[int]) -> None:
        old = self.acceptors.get(listener, [])
        self.acceptors[listener] = [_Acceptor(self, fd) for fd in fds]
        for acceptor in old:
            acceptor.close()

    def drain_listeners(self, *, inbound_only: bool, graceful: bool) -> None:
        if not graceful:
            self._close_acceptors()

    def _close_acceptors(self) -> None:
        for acceptors in self.acceptors.values():
            for acceptor in acceptors:
                acceptor.close()
        self.acceptors.clear()

    def set_health_failed(self, failed: bool) -> None:
        self.greeting = "failed " if failed else ""

    def begin_shutdown(self, limit_s: float, idle_s: float, on_drained: Callable[[], None]) -> None:
        deadline = self.reactor.clock.now + limit_s

        def look() -> None:
            if self.connections and self.reactor.clock.now < deadline:
                self.reactor.timers.arm(0.02, look)
            else:
                on_drained()

        self.reactor.timers.arm(idle_s, look)

    def host_stats(self) -> list[feed.HostStat]:
        return []

    def draining(self) -> dict[str, int]:
        return {}

    def reopen_logs(self) -> None:
        pass

    def close(self) -> None:
        self._close_acceptors()


class _Acceptor:
    def __init__(self, engine: Engine, fd: int) -> None:
        self.engine = engine
        self.sock = socket.socket(fileno=fd)
        self.sock.setblocking(False)
        self.sock.listen(128)
        engine.reactor.register(self.sock.fileno(), self, ACCEPT_EVENTS)

    def on_ready(self, events: int) -> None:
        while True:
            try:
                sock, _ = self.sock.accept()
            except BlockingIOError:
                return
            self.engine.connections.add(_Connection(self.engine, sock))
            self.engine.stats.active += 1

    def on_failure(self, error: Exception) -> None:
        raise error

    def close(self) -> None:
        self.engine.reactor.close_fd(self.sock.detach())


class _Connection:
    def __init__(self, engine: Engine, sock: socket.socket) -> None:
        self.engine = engine
        self.sock = sock
        sock.setblocking(False)
        engine.reactor.register(sock.fileno(), self)

    def on_ready(self, events: int) -> None:
        while True:
            try:
                data = self.sock.recv(4096)
            except BlockingIOError:
                return
            except ConnectionError:
                data = b""
            if not data:
                self.engine.connections.discard(self)
                self.engine.stats.active -= 1
                self.engine.reactor.close_fd(self.sock.detach())
                return
            self.engine.stats.lines += 1
            match data.strip():
                case b"die":
                    os.kill(os.getpid(), signal.SIGKILL)
                case b"hang":
                    time.sleep(3600)
                case b"modules":
                    answer = " ".join(sorted(sys.modules))
                case b"limits":
                    cell = self.engine.cell = self.engine.limits.cell("cluster|c|default|requests")
                    cell.add(1)
                    answer = str(cell.in_use())
                case _:
                    answer = f"{os.getpid()} {self.engine.generation}"
            self.sock.sendall(f"{self.engine.greeting}{answer}\n".encode())

    def on_failure(self, error: Exception) -> None:
        raise error
