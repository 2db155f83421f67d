"""A running reactor, and a consumer that writes down what its wire tells it."""

import contextlib
import gc
import os
import resource
import socket
from collections.abc import Awaitable, Callable, Iterator

import trio

from mosn_xds.base.clock import CachedClock
from mosn_xds.data.net.consumer import CloseReason
from mosn_xds.data.net.reactor import Reactor
from mosn_xds.data.net.wire import Wire


class Recorder:
    """A WireConsumer; `events` has what came, in order, with the pieces of data in `data`."""

    def __init__(self) -> None:
        self.wire: Wire
        self.events: list[object] = []
        self.data = b""
        self.on_event: Callable[[object], None] = lambda event: None
        self._changed = trio.Event()

    def _record(self, event: object) -> None:
        self.events.append(event)
        self._changed.set()
        self._changed = trio.Event()
        self.on_event(event)

    def on_connected(self) -> None:
        self._record("connected")

    def on_data(self, data: bytes) -> None:
        self.data += data
        self._record("data")

    def on_eof(self) -> None:
        self._record("eof")

    def on_closed(self, reason: CloseReason) -> None:
        self._record(reason)

    def on_above_high_water(self) -> None:
        self._record("high")

    def on_below_low_water(self) -> None:
        self._record("low")

    async def until(self, event: object, times: int = 1) -> None:
        """Wait until `event` has come so often; `event` may be a predicate of the recorder."""
        while not (event(self) if callable(event) else self.events.count(event) >= times):
            await self._changed.wait()

    @property
    def closed(self) -> CloseReason | None:
        reasons = [event for event in self.events if isinstance(event, CloseReason)]
        assert len(reasons) <= 1
        assert not reasons or self.events[-1] is reasons[0]
        return reasons[0] if reasons else None


def run_reactor(
    test: Callable[[Reactor], Awaitable[None]], *, timeout_s: float = 60, clock: CachedClock | None = None
) -> Reactor:
    """Run `test` beside a reactor; whatever the reactor's border caught is an error."""
    reactor = Reactor(clock or CachedClock())

    async def main() -> None:
        with trio.fail_after(timeout_s):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(reactor.run)
                await test(reactor)
                reactor.stop()

    try:
        trio.run(main)
    finally:
        reactor.close()
    return reactor


def tcp_pair(*, buffer_bytes: int | None = None) -> tuple[socket.socket, trio.SocketStream]:
    """A connected, non-blocking socket for a wire, and its peer for the test. Small buffers make back-pressure soon."""
    with socket.socket() as listener:
        if buffer_bytes is not None:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        near = socket.socket()
        if buffer_bytes is not None:
            near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
        near.connect(listener.getsockname())
        near.setblocking(False)
        far, _ = listener.accept()
    return near, trio.SocketStream(trio.socket.from_stdlib_socket(far))


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    """This process can open nothing more."""
    gc.collect()  # lest garbage frees a descriptor meanwhile
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
