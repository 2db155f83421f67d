"""A TCP proxy between clients that a test plays and real upstreams."""

import random
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

import pytest
import trio

from mosn_xds.base.limits import LimitProvider
from mosn_xds.data.net.wire import Wire
from mosn_xds.data.observe.info import ConnectionInfo, StreamInfo
from mosn_xds.data.observe.log_file import FileStats, LogFiles
from mosn_xds.data.proxy.context import WorkerContext
from mosn_xds.data.proxy.downstream import Downstream, DrainState, Served, Terminal
from mosn_xds.data.proxy.rpc.tcp_detection import DetectingTcpProxy
from mosn_xds.data.proxy.tcp_proxy import TcpProxy
from mosn_xds.spec.common import Address
from mosn_xds.spec.feed import Configure
from mosn_xds.spec.listener import TcpCluster
from mosn_xds.spec.listener import TcpProxy as TcpProxySpec
from tests.data.upstream.harness import Peer, Upstream, World, run
from tests.support.wires import tcp_pair


class Journal:
    """Stands in an access log's place: keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[StreamInfo] = []

    def log(self, info: StreamInfo) -> None:
        self.lines.append(info)

    def close(self) -> None: ...


class Client:
    """A client's end of one proxied connection."""

    def __init__(self, stream: trio.SocketStream, session: Served) -> None:
        self.stream = stream
        self.session = session

    async def read(self, size: int) -> bytes:
        """Exactly so many bytes."""
        found = b""
        while len(found) < size:
            data = await self.stream.receive_some(size - len(found))
            assert data, f"closed after {found!r}"
            found += bytes(data)
        return found

    async def read_all(self) -> bytes:
        return b"".join([bytes(chunk) async for chunk in self.stream])

    async def end(self) -> str:
        """How the proxy ended the connection."""
        try:
            while await self.stream.receive_some():
                pass
        except trio.BrokenResourceError:
            return "reset"
        return "fin"

    def reset(self) -> None:
        self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.stream.socket.close()


class Stage:
    """A TCP proxy with its world; the owner of its sessions. `default_fields` are of every proxy's Spec."""

    default_fields: ClassVar[dict[str, Any]] = {}

    def __init__(self, world: World, *clusters: TcpCluster | str, **fields: Any) -> None:
        self.world = world
        self.done = 0
        self.heirs: list[Served] = []
        targets = tuple(TcpCluster(c) if isinstance(c, str) else c for c in clusters or ("svc",))
        self.context = WorkerContext(
            reactor=world.reactor,
            settings=Configure(0, 1),
            stats=world.stats,
            limits=LimitProvider(),
            random=random.Random(7),
            clusters=world.manager,
            log_files=LogFiles(10.0, world.stats.group(FileStats, "filesystem.")),
            local_ip="127.0.0.1",
            spawn=lambda work: pytest.fail("nothing is spawned"),
        )
        spec = TcpProxySpec("test", targets, **(self.default_fields | fields))
        if spec.protocols:
            self.proxy: TcpProxy = DetectingTcpProxy(spec, self.context, None)
        else:
            self.proxy = TcpProxy(spec, self.context)
        self.journal = Journal()
        self.proxy.access_logs = (self.journal,)
        self._finished = trio.Event()

    def connection_done(self, connection: Served) -> None:
        self.done += 1
        self._finished.set()

    def connection_replaced(self, connection: Served, heir: Served) -> None:
        self.heirs.append(heir)

    async def finished(self) -> StreamInfo:
        """The log entry of the one session, once it is over."""
        await self._finished.wait()
        (line,) = self.journal.lines
        return line

    def client(
        self,
        *,
        remote: str = "192.0.2.1",
        restored: Address | None = None,
        terminal: Terminal | None = None,
        **pair: Any,
    ) -> Client:
        """Connect through the proxy, or another `terminal`, as a listener would."""
        near, far = tcp_pair(**pair)
        info = ConnectionInfo(
            id=1, remote=Address(remote, 5000), local=Address("10.0.0.1", 80), start_s=self.world.reactor.clock.now,
            start_wall_s=0.0,
        )  # fmt: skip
        info.restored_local = restored
        wire = Wire(self.world.reactor, near, _Idle(), buffer_limit_bytes=100_000)
        drain = DrainState(self.context.drain)
        session = (terminal or self.proxy).serve(Downstream(wire, info, self.world.reactor, drain, self, 100_000))
        wire.consumer = session
        wire.start()
        return Client(far, session)

    @property
    def figures(self) -> dict[str, int]:
        return self.world.figures("tcp.test.")


class _Idle:
    """The consumer of a wire that nobody serves yet."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        raise AssertionError(f"{name} before the session has the wire")


Story = Callable[[Stage, Upstream], Awaitable[None]]


def play(story: Story, *clusters: TcpCluster | str, cluster: dict[str, Any] | None = None, **fields: Any) -> World:
    """Run a story with one upstream behind the cluster ``svc``."""

    async def main(world: World) -> None:
        upstream = Upstream()
        world.cluster(upstream.port, **(cluster or {}))
        await story(Stage(world, *clusters, **fields), upstream)

    return run(main)


async def joined(stage: Stage, upstream: Upstream, **options: Any) -> tuple[Client, Peer]:
    client = stage.client(**options)
    return client, await upstream.accept()
