"""One direction of Istio's TCP metadata exchange: the peer's frame in front of the bytes, taken out.

A frame is a magic number and a length (32 bits each, big-endian) with so many bytes behind them: a `google.protobuf.Any` that
says who the peer is. A peer that begins with anything else told nothing, and all it sent belongs to the application.
"""

import struct
from collections.abc import Callable

from mosn_xds.data.net.wire import Wire
from mosn_xds.spec.listener import MetadataExchange

MAGIC = 0x3D230467
LIMIT_BYTES = 1 << 20
"""A longer frame than that is none."""

_HEADER = struct.Struct(">II")


class PeerExchange:
    """The state machine, without I/O. `told` is the peer's Any once it came; empty if it told nothing."""

    __slots__ = ("_buffer", "done", "told")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.done = False
        """Everything that follows belongs to the application."""
        self.told = b""

    def receive(self, data: bytes | memoryview) -> bytes:
        """Take bytes of the peer; returns what of all that came belongs to the application."""
        buffer = self._buffer
        buffer += data
        if len(buffer) < _HEADER.size:
            if _HEADER.pack(MAGIC, 0).startswith(bytes(buffer[:4])):
                return b""
            return self._end(0)
        magic, length = _HEADER.unpack_from(buffer)
        if magic != MAGIC or length > LIMIT_BYTES:
            return self._end(0)
        end = _HEADER.size + length
        if len(buffer) < end:
            return b""
        self.told = bytes(buffer[_HEADER.size : end])
        return self._end(end)

    def finish(self) -> bytes:
        """Nothing more comes; what had come, if the frame was not whole."""
        return self._end(0)

    def _end(self, at: int) -> bytes:
        rest = bytes(self._buffer[at:])
        self._buffer.clear()
        self.done = True
        return rest

    def __repr__(self) -> str:
        return f"<PeerExchange {'done' if self.done else f'{len(self._buffer)} bytes'}>"


class ExchangeSink:
    """Stands in a wire's bulk mode until the peer's frame is out; then `sink` takes its place."""

    __slots__ = ("_exchange", "_sink", "_wire")

    def __init__(self, wire: Wire, sink: Callable[[memoryview], None]) -> None:
        self._wire = wire
        self._sink = sink
        self._exchange = PeerExchange()

    @property
    def done(self) -> bool:
        return self._exchange.done

    def __call__(self, data: memoryview) -> None:
        if self._exchange.done:  # the wire is still in the read in which that happened
            self._sink(data)
        elif rest := self._take(data):
            self._sink(memoryview(rest))

    def _take(self, data: memoryview) -> bytes:
        rest = self._exchange.receive(data)
        if self._exchange.done:
            self._wire.set_bulk(self._sink)
        return rest

    def finish(self) -> None:
        """The peer sends no more."""
        if not self._exchange.done and (rest := self._exchange.finish()):
            self._sink(memoryview(rest))

    def __repr__(self) -> str:
        return f"<ExchangeSink {self._exchange!r}>"


def begin_exchange(
    spec: MetadataExchange | None, wire: Wire, sink: Callable[[memoryview], None]
) -> ExchangeSink | None:
    """Tell the peer at the other end of `wire` who we are, if ALPN chose so, and take out what it tells; None if not."""
    facts = wire.tls if spec is not None else None
    if spec is None or facts is None or facts.alpn != spec.protocol:
        return None
    wire.write_through(memoryview(spec.frame))
    found = ExchangeSink(wire, sink)
    wire.set_bulk(found)
    return found
