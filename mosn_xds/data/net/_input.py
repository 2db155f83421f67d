"""The receiving half of a Wire: how input is read, and when it is not. See `mosn_xds.data.net.wire` for the whole.

Reading goes on until the socket is empty or the wire has had its share of the batch. `_paused` counts who wants no input.
`_readable` means that there may be input which no event will announce, `_hung_up` that none will announce any.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import Final

from mosn_xds.data.net._output import Output, State
from mosn_xds.data.net.consumer import CloseReason, WireConsumer
from mosn_xds.data.net.reactor import Reactor
from mosn_xds.data.net.transport import SecureTransport, Transport

READ_BYTES: Final = 65536
READ_BUDGET_BYTES: Final = 4 * READ_BYTES
BULK_BUDGET_BYTES: Final = 512 * 1024

_OPEN: Final[State] = State.OPEN


class Input(Output):
    """Reading, and what was read too early."""

    __slots__ = ("_eof", "_hung_up", "_paused", "_readable", "_recv", "_sink", "_unread", "bytes_received")

    def __init__(
        self,
        reactor: Reactor,
        transport: Transport,
        consumer: WireConsumer,
        secure: SecureTransport | None,
        buffer_limit_bytes: int,
    ) -> None:
        super().__init__(reactor, transport, consumer, secure, buffer_limit_bytes)
        self.bytes_received = 0
        self._recv = transport.recv
        self._paused = 0
        self._readable = False
        self._hung_up = False
        self._eof = False
        self._unread = b""
        self._sink: Callable[[memoryview], None] | None = None

    def pause_reading(self) -> None:
        """Deliver no more input until `resume_reading` was called as often."""
        self._paused += 1

    def resume_reading(self) -> None:
        """Take one reason not to read away; input comes again with the next batch."""
        assert self._paused > 0, "resume_reading without pause_reading"
        self._paused -= 1
        if not self._paused and self._readable:
            self._readable = False
            self.reactor.again(self)

    def set_bulk(self, sink: Callable[[memoryview], None] | None) -> None:
        """Hand input to `sink`, as memory that it may use only while it is called, instead of `on_data`; None ends that."""
        self._sink = sink

    def unread(self, data: bytes) -> None:
        """Give `data` back, while reading is paused: it comes before all further input, to who is the consumer then."""
        assert self._paused > 0, "unread without pause_reading"
        self._unread = data + self._unread
        self._readable = True

    def _read(self) -> None:
        budget = READ_BUDGET_BYTES
        if self._unread:
            data, self._unread = self._unread, b""
            self.consumer.on_data(data)
        recv = self._recv
        if self._paused or self._state is not _OPEN:
            self._readable = True
            return
        while True:
            try:
                data = recv(READ_BYTES)
            except BlockingIOError:
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
            more = size >= READ_BYTES or self._hung_up
            if self._paused or self._state is not _OPEN:
                self._readable |= more
                return
            if not more:
                return
            budget -= size
            if budget <= 0:
                self.reactor.again(self)
                return

    def _read_bulk(self, sink: Callable[[memoryview], None]) -> None:
        scratch = self.reactor.scratch
        budget = BULK_BUDGET_BYTES
        if self._unread:
            data, self._unread = self._unread, b""
            sink(memoryview(data))
        while not self._paused and self._state is _OPEN:
            try:
                size = self._transport.recv_into(scratch)
            except BlockingIOError:
                return
            except OSError as error:
                self._lose(error)
                return
            if not size:
                self._end_input()
                return
            self.bytes_received += size
            sink(scratch[:size])
            if size < len(scratch) and not self._hung_up:
                return
            budget -= size
            if budget <= 0:
                self.reactor.again(self)
                return
        self._readable = True

    def _read_rest(self) -> None:
        """Sending has failed: deliver what the peer sent before that, such as a response that explains it, and end."""
        while self._state is _OPEN and not self._paused and not self._eof:
            try:
                data = self._recv(READ_BYTES)
            except OSError:  # also if it would block: the error that counts is that of the sending
                break
            if not data:
                break
            self.bytes_received += len(data)
            if self._sink is None:
                self.consumer.on_data(data)
            else:
                self._sink(memoryview(data))
        self._end(CloseReason.REMOTE_RESET if self._state is _OPEN else CloseReason.LOCAL)

    @abstractmethod
    def on_ready(self, events: int) -> None:
        """For the reactor, see `mosn_xds.data.net.reactor.Handler`."""

    @abstractmethod
    def _end_input(self) -> None:
        """The peer has ended its side."""

    @abstractmethod
    def _lose(self, error: OSError) -> None:
        """Receiving has failed."""

    @abstractmethod
    def _end(self, reason: CloseReason) -> None:
        """End at once: only where no consumer is on the stack."""
