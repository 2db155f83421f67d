"""Clusters over real sockets: a world with a reactor and a cluster manager, upstreams that a test plays, attempts that
write down what their pool tells them."""

import os
import random
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import trio
import trio.testing

from mosn_xds.base.clock import CachedClock
from mosn_xds.base.errors import ResetReason
from mosn_xds.base.limits import LimitProvider
from mosn_xds.base.stats import StatRegistry
from mosn_xds.data.codec.head import Fields, RequestHead, ResponseHead, Version
from mosn_xds.data.codec.http2 import ENGINES
from mosn_xds.data.net.reactor import Reactor
from mosn_xds.data.upstream.api import PendingStream, Stale, UpstreamStream
from mosn_xds.data.upstream.cluster import Cluster
from mosn_xds.data.upstream.host import Host
from mosn_xds.data.upstream.manager import ClusterManager
from mosn_xds.spec.cluster import Breakers, Discovery, Endpoint, Endpoints, Locality
from mosn_xds.spec.cluster import Cluster as ClusterSpec
from mosn_xds.spec.common import Address
from mosn_xds.spec.feed import Http2Library
from tests.support.wires import run_reactor

UNLIMITED = Breakers(max_connections=None, max_pending_requests=None, max_requests=None, max_retries=None)
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


def limited(**limits: int) -> Breakers:
    """Thresholds of which only these are finite."""
    fields = dict.fromkeys(("max_connections", "max_pending_requests", "max_requests", "max_retries"))
    return Breakers(**(fields | limits))


def endpoints(name: str, *members: Endpoint | int, **fields: Any) -> Endpoints:
    """Endpoints of one locality; a number is a port of this machine."""
    specs = tuple(Endpoint(Address("127.0.0.1", m)) if isinstance(m, int) else m for m in members)
    raw = msgspec.msgpack.encode(specs)
    return Endpoints(name, (Locality(uid=raw, endpoints=msgspec.Raw(raw), **fields),))


class Peer:
    """The upstream's end of one connection."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.received = b""

    async def read_request(self) -> bytes:
        """The next request head."""
        while b"\r\n\r\n" not in self.received:
            data = await self.stream.receive_some()
            assert data, f"closed after {self.received!r}"
            self.received += bytes(data)
        head, _, self.received = self.received.partition(b"\r\n\r\n")
        return head

    async def answer(self, response: bytes = OK) -> bytes:
        """Read a request, send a response; returns the request."""
        request = await self.read_request()
        await self.stream.send_all(response)
        return request

    async def closed(self) -> bytes:
        """Wait for the other side's end; returns what came before."""
        while data := await self.stream.receive_some():
            self.received += bytes(data)
        return self.received

    async def close(self) -> None:
        await self.stream.aclose()

    async def reset(self) -> None:
        self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await self.stream.aclose()


class Upstream:
    """A listening address of this machine."""

    def __init__(self, host: str = "127.0.0.1", backlog: int = 16) -> None:
        self._socket = trio.socket.from_stdlib_socket(socket.create_server((host, 0), backlog=backlog))
        self.address = Address(*self._socket.getsockname()[:2])
        self.port = self.address.port
        self.peers: list[Peer] = []
        """Held, lest a connection that a test does not look at is closed as garbage."""

    async def accept(self) -> Peer:
        accepted, _ = await self._socket.accept()
        peer = Peer(trio.SocketStream(accepted))
        self.peers.append(peer)
        return peer

    def close(self) -> None:
        self._socket.close()


class Attempt:
    """A StreamHandler that sends a request when it may; `events` has what it was told, in order."""

    def __init__(self, head: RequestHead | None = None, *, body: bytes | None = None, end: bool = True) -> None:
        self.head = head or request()
        self.body = body
        self.end = end
        self.stream: UpstreamStream | None = None
        self.pending: PendingStream | None = None
        self.host: Host | None = None
        self.events: list[object] = []
        self.data = b""
        self.then: Callable[[], None] = lambda: None
        self._changed = trio.Event()

    def _note(self, event: object) -> None:
        self.events.append(event)
        self._changed.set()
        self._changed = trio.Event()

    async def until(self, condition: Callable[["Attempt"], object]) -> None:
        while not condition(self):
            await self._changed.wait()

    async def over(self) -> object:
        """Wait for the last event and return it."""
        await self.until(lambda a: a.events and (a.events[-1] == "end" or isinstance(a.events[-1], tuple)))
        return self.events[-1]

    async def ready(self) -> UpstreamStream:
        await self.until(lambda a: a.stream)
        assert self.stream is not None
        return self.stream

    @property
    def status(self) -> int | None:
        return next((event.status for event in self.events if isinstance(event, ResponseHead)), None)

    def on_upstream_ready(self, stream: UpstreamStream, host: Host) -> None:
        self.stream, self.host = stream, host
        stream.send_head(self.head, self.end and self.body is None)
        if self.body is not None:
            stream.send_data(self.body, self.end)
        self._note("ready")

    def on_upstream_failure(self, reason: ResetReason, detail: str, host: Host) -> None:
        self.host = host
        self._note((reason, detail))
        self.then()

    def on_informational(self, head: ResponseHead) -> None:
        self._note(head.status)

    def on_response_head(self, head: ResponseHead, end: bool) -> None:
        self._note(head)
        self._end(end)

    def on_response_data(self, data: bytes, end: bool) -> None:
        self.data += data
        self._note("data")
        self._end(end)

    def on_response_trailers(self, fields: Fields) -> None:
        self._note(fields)
        self._end(True)

    def on_upstream_reset(self, reason: ResetReason, detail: str, stale: Stale) -> None:
        self._note((reason, stale))
        self.then()

    def on_upstream_above_high_water(self) -> None:
        self._note("high")

    def on_upstream_below_low_water(self) -> None:
        self._note("low")

    def _end(self, end: bool) -> None:
        if end:
            self._note("end")
            self.then()


def request(method: bytes = b"GET", *, fields: Fields | None = None, upgrade: bytes | None = None) -> RequestHead:
    head = RequestHead(method, b"http", b"svc", b"/", Version.HTTP11, list(fields or ()))
    if upgrade is not None:
        head.upgrade = upgrade
        head.fields += [(b"connection", b"Upgrade"), (b"upgrade", upgrade)]
    return head


class World:
    """One worker's upstreams. HTTP/2 is by the library that the environment names."""

    def __init__(self, reactor: Reactor) -> None:
        self.reactor = reactor
        self.stats = StatRegistry()
        engine = ENGINES[Http2Library(os.environ.get("MOSN_XDS_HTTP2", "ngh2"))]
        self.manager = ClusterManager(reactor, self.stats, LimitProvider(), random.Random(1), http2_engine=engine)

    def cluster(self, *members: Endpoint | int, name: str = "svc", **fields: Any) -> Cluster:
        """Put a cluster of these hosts."""
        spec = ClusterSpec(name, fields.pop("discovery", Discovery.EDS), **fields)
        self.manager.put_cluster(spec)
        self.manager.put_endpoints(endpoints(name, *members))
        cluster = self.manager.get(name)
        assert cluster is not None
        return cluster

    def send(self, cluster: Cluster, attempt: Attempt | None = None, *, high_priority: bool = False) -> Attempt:
        """Choose a host and open a stream."""
        attempt = attempt or Attempt()
        host = cluster.choose_host(None)
        assert host is not None
        attempt.pending = cluster.open_stream(host, attempt, attempt.head.version, high_priority)
        return attempt

    def figures(self, prefix: str = "cluster.svc.") -> dict[str, int]:
        """Everything that is not zero in one group."""
        group = next(group for group in self.stats if group.prefix == prefix)
        group.settle()
        names = (*group.COUNTERS, *group.GAUGES)
        return {name: value for name in names if (value := getattr(group, name))} | group.extra


def run(story: Callable[[World], Awaitable[None]], clock: CachedClock | None = None) -> World:
    """Run `story` beside a reactor; all pools are closed behind it."""
    worlds: list[World] = []

    async def main(reactor: Reactor) -> None:
        world = World(reactor)
        worlds.append(world)
        await story(world)
        world.manager.close()

    run_reactor(main, clock=clock)
    return worlds[0]


async def settled(world: World) -> None:
    """Let the reactor end its batch, and everything that follows from it happen."""
    done = trio.Event()
    world.reactor.defer(done.set)
    await done.wait()
    await trio.testing.wait_all_tasks_blocked()


async def later(world: World, seconds: float) -> None:
    """Wait by the reactor's own timers: what was armed before for an earlier time has happened then."""
    done = trio.Event()
    world.reactor.timers.arm(seconds, done.set)
    await done.wait()
