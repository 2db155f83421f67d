"""A Wire whose transport is TLS, and the share of time that handshakes may take.

A handshake costs a worker 0.5 to 1.2 ms, as much as ten requests, and cannot be cut. `Handshakes` lets them have a
millisecond of each batch of the reactor; who comes later waits in a queue, in the order in which they came. So a thousand
new connections at once are served one by one, while every batch serves the established ones, too.

What a SecureWire does otherwise than a Wire: it reads whole records, says `alpn`, tells its `HandshakeWatcher` how the
handshake went before its consumer hears of it, and ends with close_notify. A Wire without TLS pays nothing for any of it.
"""

import socket
from collections.abc import Callable
from typing import NamedTuple, Protocol

from mosn_xds.data.net._input import BULK_BUDGET_BYTES, READ_BUDGET_BYTES, READ_BYTES
from mosn_xds.data.net._output import State
from mosn_xds.data.net.consumer import CloseReason, WireConsumer
from mosn_xds.data.net.reactor import Reactor
from mosn_xds.data.net.tls import TlsTransport
from mosn_xds.data.net.tls_facts import TlsFacts
from mosn_xds.data.net.wire import Wire
from mosn_xds.spec.common import Address

_BUDGET_S = 0.001

_OPEN = State.OPEN
_HANDSHAKING = State.HANDSHAKING
_CLOSED = State.CLOSED


class HandshakeWatcher(Protocol):
    """Who counts handshakes and explains those that fail."""

    def complete(self) -> None: ...

    def failed(self, error: OSError) -> OSError:
        """Returns what shall be told as the reason."""
        ...

    def lost(self, error: OSError) -> OSError:
        """As `failed`, for an error after the handshake."""
        ...

    def timed_out(self) -> None:
        """The handshake took too long."""
        ...


class Handshakes:
    """See the module; one for each reactor."""

    def __init__(self, reactor: Reactor, read_time: Callable[[], float]) -> None:
        self._reactor = reactor
        self._read_time = read_time
        self._queue: dict[SecureWire, int] = {}
        self._batch_s = 0.0
        self._left_s = _BUDGET_S
        self._at_work: SecureWire | None = None
        self.delayed = 0
        """How many have had to wait for a later batch."""

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def step(self, wire: "SecureWire", events: int) -> None:
        """Let `wire` go on with its handshake, now or in a later batch."""
        if self._queue or not self._may_go_on():
            if not self._queue:
                self._reactor.again(self)
            elif wire in self._queue:
                events |= self._queue[wire]
            self.delayed += 1
            self._queue[wire] = events
            return
        self._run(wire, events)

    def on_ready(self, events: int) -> None:
        """For the reactor: another batch."""
        queue = self._queue
        while queue and self._may_go_on():
            wire = next(iter(queue))
            self._run(wire, queue.pop(wire))
        if queue:
            self._reactor.again(self)

    def on_failure(self, error: Exception) -> None:
        """For the reactor: the wire at work has failed."""
        if self._at_work is not None:
            self._at_work.on_failure(error)
        if self._queue:
            self._reactor.again(self)

    def _may_go_on(self) -> bool:
        batch_s = self._reactor.clock.now
        if batch_s != self._batch_s:
            self._batch_s, self._left_s = batch_s, _BUDGET_S
        return self._left_s > 0

    def _run(self, wire: "SecureWire", events: int) -> None:
        before = self._read_time()
        self._at_work = wire
        wire.go_on(events)
        self._at_work = None
        self._left_s -= self._read_time() - before

    def __repr__(self) -> str:
        return f"<Handshakes {len(self._queue)} waiting>"


class _Nobody:
    """Who watches a connection that has ended: it breaks the circle of those who know each other."""

    def complete(self) -> None: ...

    def failed(self, error: OSError) -> OSError:
        return error

    def lost(self, error: OSError) -> OSError:
        return error

    def timed_out(self) -> None: ...


_NOBODY = _Nobody()


class Secured(NamedTuple):
    """What makes a wire secure."""

    transport: TlsTransport
    watcher: HandshakeWatcher
    handshakes: Handshakes
    facts: TlsFacts


Securing = Callable[[socket.socket], Secured]
"""Makes what a new connection needs. Raises OSError with the reason if it cannot be secured."""


class SecureWire(Wire):
    """See the module. `alpn` is what both sides agreed on; it holds after the end, too."""

    __slots__ = ("_alpn", "_handshakes", "_tls", "_watcher")

    def __init__(
        self,
        reactor: Reactor,
        sock: socket.socket,
        consumer: WireConsumer,
        secured: Secured,
        *,
        buffer_limit_bytes: int = 1 << 20,
        remote_address: Address | None = None,
    ) -> None:
        self._tls, self._watcher, self._handshakes, facts = secured
        self._alpn: bytes | None = None
        super().__init__(
            reactor,
            sock,
            consumer,
            buffer_limit_bytes=buffer_limit_bytes,
            remote_address=remote_address,
            secure=self._tls,
        )
        self.tls = facts

    @property
    def alpn(self) -> bytes | None:
        return self._alpn

    # Handshake.

    def _on_ready_unopened(self, events: int) -> None:
        if self._state is _HANDSHAKING:
            self._handshakes.step(self, events)
        else:
            super()._on_ready_unopened(events)

    def go_on(self, events: int) -> None:
        """For `Handshakes`: it is this wire's turn."""
        if self._state is _HANDSHAKING:
            super()._on_ready_unopened(events)

    def _handshake(self) -> bool:
        if not self._tls.handshake():
            return False
        self._alpn = self._tls.alpn
        self._watcher.complete()
        return True

    def _end(self, reason: CloseReason) -> None:
        if reason is CloseReason.HANDSHAKE_FAILED and self.error is not None:
            self.error = self._watcher.failed(self.error)
        elif reason is CloseReason.CONNECT_TIMEOUT and self._state is _HANDSHAKING:
            self._watcher.timed_out()
        super()._end(reason)

    def _lose(self, error: OSError) -> None:
        super()._lose(self._watcher.lost(error))

    def _release(self) -> None:
        if self._state is not _CLOSED:
            self._tls.close()
            self._watcher = _NOBODY
        super()._release()

    # Input.

    def _read(self) -> None:
        budget = READ_BUDGET_BYTES
        if self._unread:
            data, self._unread = self._unread, b""
            self.consumer.on_data(data)
        if self._paused or self._state is not _OPEN:
            self._readable = True
            return
        tls = self._tls
        while True:
            try:
                data = tls.recv(READ_BYTES)
            except BlockingIOError:
                self._drain()  # an answer to the peer's key update, say
                return
            except OSError as error:
                self._lose(error)
                return
            size = len(data)
            if not size:
                self._end_input()
                return
            self.bytes_received += size
            self.consumer.on_data(data)
            more = tls.more or self._hung_up
            if self._paused or self._state is not _OPEN:
                self._readable |= more
                return
            if not more:
                self._drain()
                return
            budget -= size
            if budget <= 0:
                self.reactor.again(self)
                return

    def _read_bulk(self, sink: Callable[[memoryview], None]) -> None:
        scratch = self.reactor.scratch
        budget = BULK_BUDGET_BYTES
        tls = self._tls
        if self._unread:
            data, self._unread = self._unread, b""
            sink(memoryview(data))
        while not self._paused and self._state is _OPEN:
            try:
                size = tls.recv_into(scratch)
            except BlockingIOError:
                self._drain()
                return
            except OSError as error:
                self._lose(error)
                return
            if not size:
                self._end_input()
                return
            self.bytes_received += size
            sink(scratch[:size])
            if not (tls.more or self._hung_up):
                self._drain()
                return
            budget -= size
            if budget <= 0:
                self.reactor.again(self)
                return
        self._readable = True
