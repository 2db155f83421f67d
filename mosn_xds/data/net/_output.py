"""The sending half of a Wire: what was written and is not sent yet. See `mosn_xds.data.net.wire` for the whole.

`_blocked` means that the socket takes nothing until epoll says so, or that there is no connection yet. `_broken` means that
sending has failed: output is dropped, what the peer sent before can still be read, then the connection is lost. `_ended`
means that we take no more output: our side has ended, or will when what is pending is sent.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from enum import Enum
from typing import Final

from mosn_xds.data.net.consumer import WireConsumer
from mosn_xds.data.net.reactor import Reactor
from mosn_xds.data.net.transport import Bytes, SecureTransport, Transport, send_parts


class State(Enum):
    CONNECTING = "connecting"
    HANDSHAKING = "handshaking"
    OPEN = "open"
    CLOSING = "closing"
    """We have closed: output is flushed, then the peer's FIN awaited; input is dropped."""
    CLOSED = "closed"


_CLOSED: Final[State] = State.CLOSED


class Output(ABC):
    """Queue, buffer limit and flush of one connection."""

    __slots__ = (
        "_above", "_blocked", "_broken", "_dirty", "_ended", "_high", "_low", "_out", "_secure", "_state", "_transport",
        "bytes_sent", "consumer", "error", "pending_bytes", "reactor",
    )  # fmt: skip

    def __init__(
        self,
        reactor: Reactor,
        transport: Transport,
        consumer: WireConsumer,
        secure: SecureTransport | None,
        buffer_limit_bytes: int,
    ) -> None:
        self.reactor = reactor
        self.consumer = consumer
        self.bytes_sent = 0
        self.pending_bytes = 0
        self.error: OSError | None = None
        self._transport = transport
        self._secure = secure
        self._state = State.OPEN
        self._high = buffer_limit_bytes
        self._low = buffer_limit_bytes // 2
        self._above = False
        self._out: list[Bytes] = []
        self._dirty = False
        self._blocked = False
        self._broken = False
        self._ended = False

    def write(self, data: Bytes) -> None:
        """Send `data` at the end of the batch, or when the socket takes it. It is dropped after the end of our side."""
        if self._ended:
            return
        self._out.append(data)
        self.pending_bytes += len(data)
        if not self._dirty:
            self._dirty = True
            self.reactor.dirty(self)

    def write_many(self, parts: Sequence[Bytes]) -> None:
        """As `write`, of each part in order."""
        if self._ended:
            return
        self._out.extend(parts)
        self.pending_bytes += sum(map(len, parts))
        self._mark_dirty()

    def write_through(self, data: memoryview) -> None:
        """Send `data` now. What the socket does not take is copied: the memory may be used again afterwards."""
        if self._ended:
            return
        if not self._out and not self._blocked:
            try:
                sent = self._transport.send(data)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                self._break(error)
                return
            self.bytes_sent += sent
            if self._secure is not None:
                self._drain()
            if sent == len(data):
                return
            self._blocked = True
            data = data[sent:]
        self._out.append(bytes(data))
        self.pending_bytes += len(data)
        self._check_marks()

    def shutdown_write(self) -> None:
        """End our side once everything written is sent."""
        if not self._ended:
            self._ended = True
            self._mark_dirty()

    def flush(self) -> None:
        """For the reactor: send what the socket takes, and end our side if it is time to."""
        self._dirty = False
        if self._state is _CLOSED:
            return
        if not self._blocked:
            if self._out:
                try:
                    sent = send_parts(self._transport, self._out, self.pending_bytes)
                except OSError as error:
                    self._break(error)
                else:
                    self.bytes_sent += sent
                    self.pending_bytes = left = self.pending_bytes - sent
                    if left:
                        self._blocked = True
            if self._secure is not None:
                if self._ended and not self.pending_bytes and not self._broken:
                    self._secure.finish()  # in the same segment as the last bytes
                self._drain()
            if self._broken:
                self._read_rest()
                return
        if self._above or self.pending_bytes:
            self._check_marks()
        if self._ended and not self._blocked:
            self._finish_output()

    def _drain(self) -> None:
        if self._secure is not None and not self._broken:
            try:
                if not self._secure.drain():
                    self._blocked = True
            except OSError as error:
                self._break(error)

    def _check_marks(self) -> None:
        if self._above:
            if self.pending_bytes <= self._low:
                self._above = False
                self.consumer.on_below_low_water()
        elif self.pending_bytes > self._high:
            self._above = True
            self.consumer.on_above_high_water()

    def _mark_dirty(self) -> None:
        if not self._dirty:
            self._dirty = True
            self.reactor.dirty(self)

    def _break(self, error: OSError) -> None:
        """Sending failed. What the peer sent before it went may still be read; the flush sees to that."""
        self.error = error.with_traceback(None)  # whose frames hold this wire: a cycle
        self._broken = self._ended = True
        self._blocked = False
        self._out.clear()
        self.pending_bytes = 0
        self._mark_dirty()

    @abstractmethod
    def _finish_output(self) -> None:
        """Our side has ended and everything is sent."""

    @abstractmethod
    def _read_rest(self) -> None:
        """Sending has failed: deliver what the peer sent before that, and end the connection."""

    @abstractmethod
    def on_failure(self, error: Exception) -> None:
        """For the reactor, see `mosn_xds.data.net.reactor.Flushable`."""
