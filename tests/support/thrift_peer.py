"""Thrift messages byte by byte (framed transport; binary and compact protocol), a client and an upstream that answer by script.

Nothing here uses the product's codec. A message is its head (type, name, sequence id) and a struct; the struct is bytes that
`binary_struct` or `compact_struct` makes, since a proxy has no business in it but for a reply's first field.
"""

import struct as packing
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from tests.support.frame_upstream import FrameClient, FrameExchange, FrameStep, FrameUpstream
from tests.support.server import Stream

CALL, REPLY, EXCEPTION, ONEWAY = 1, 2, 3, 4
UNKNOWN_METHOD, INTERNAL_ERROR, PROTOCOL_ERROR = 1, 6, 7


class Encoding(Enum):
    """How a message is written."""

    BINARY = "binary"
    COMPACT = "compact"


def varint(value: int) -> bytes:
    """Unsigned LEB128."""
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*data, value))


def zigzag(value: int) -> int:
    return value << 1 if value >= 0 else (-value << 1) - 1


def binary_struct(fields: Mapping[int, str | int]) -> bytes:
    """A struct of strings and i32s in the binary protocol."""
    data = b""
    for number, value in fields.items():
        if isinstance(value, str):
            data += b"\x0b" + number.to_bytes(2, "big") + packing.pack(">i", len(value)) + value.encode()
        else:
            data += b"\x08" + number.to_bytes(2, "big") + packing.pack(">i", value)
    return data + b"\0"


def compact_struct(fields: Mapping[int, str | int]) -> bytes:
    """The same in the compact protocol."""
    data, last = b"", 0
    for number, value in fields.items():
        kind = 8 if isinstance(value, str) else 5
        step = number - last
        data += bytes([step << 4 | kind]) if 1 <= step <= 15 else bytes([kind]) + varint(zigzag(number))
        data += varint(len(value)) + value.encode() if isinstance(value, str) else varint(zigzag(value))
        last = number
    return data + b"\0"


def message(
    kind: int,
    name: str,
    sequence: int,
    fields: Mapping[int, str | int] | None = None,
    *,
    encoding: Encoding = Encoding.BINARY,
    body: bytes | None = None,
) -> bytes:
    """A message without its transport; `body` is the struct as bytes."""
    if encoding is Encoding.BINARY:
        head = (
            b"\x80\x01\x00"
            + bytes([kind])
            + packing.pack(">i", len(name))
            + name.encode()
            + packing.pack(">i", sequence)
        )
        return head + (binary_struct(fields or {}) if body is None else body)
    head = b"\x82" + bytes([kind << 5 | 1]) + varint(sequence % 2**32) + varint(len(name)) + name.encode()
    return head + (compact_struct(fields or {}) if body is None else body)


def framed(data: bytes, *, size: int | None = None) -> bytes:
    """In a frame; `size` where it says another length than it has."""
    return packing.pack(">i", len(data) if size is None else size) + data


def call(name: str, sequence: int, fields: Mapping[int, str | int] | None = None, *, one_way: bool = False,
         encoding: Encoding = Encoding.BINARY) -> bytes:  # fmt: skip
    """A framed request."""
    return framed(message(ONEWAY if one_way else CALL, name, sequence, fields or {1: "x"}, encoding=encoding))


@dataclass(frozen=True)
class ThriftFrame:
    """A message as it was read."""

    encoding: Encoding
    kind: int
    name: str
    sequence: int
    body: bytes

    @property
    def value(self) -> str:
        """The string in the first field of the struct: a reply's result, or an exception's message."""
        if self.encoding is Encoding.BINARY:
            size = int.from_bytes(self.body[3:7], "big")
            return self.body[7 : 7 + size].decode("utf-8", "replace")
        at = 1 if self.body[0] >> 4 else _read_varint(self.body, 1)[1]
        size, at = _read_varint(self.body, at)
        return self.body[at : at + size].decode("utf-8", "replace")

    def __str__(self) -> str:
        """All but the sequence id."""
        return f"{self.encoding.value} kind {self.kind} {self.name!r} {self.body.decode('latin-1')!r}"


def parse(data: bytes) -> ThriftFrame:
    """A whole frame, with its length in front."""
    data = data[4:]
    if data[:1] == b"\x82":
        kind, at = data[1] >> 5, 2
        sequence, at = _read_varint(data, at)
        size, at = _read_varint(data, at)
        return ThriftFrame(
            Encoding.COMPACT, kind, data[at : at + size].decode("utf-8", "replace"), sequence, data[at + size :]
        )
    size = int.from_bytes(data[4:8], "big")
    at = 8 + size
    sequence = int.from_bytes(data[at : at + 4], "big", signed=True)
    return ThriftFrame(Encoding.BINARY, data[3], data[8:at].decode("utf-8", "replace"), sequence, data[at + 4 :])


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if byte < 0x80:
            return value, at


def answer(
    value: str | None = None,
    *,
    field: int = 0,
    kind: int = REPLY,
    body: bytes | None = None,
    delay_s: float = 0.0,
    name: str | None = None,
    skew: int = 0,
) -> FrameStep:
    """A reply whose struct has one string (the upstream's name, if None) in this field: 0 is success, others are declared
    exceptions. `skew` is added to the sequence id."""

    def step(exchange: FrameExchange) -> None:
        exchange.upstream.pause(delay_s)
        seen = parse(exchange.data)
        said = exchange.upstream.name if value is None else value
        data = message(
            kind,
            seen.name if name is None else name,
            seen.sequence + skew,
            {field: said},
            encoding=seen.encoding,
            body=body,
        )
        exchange.send(framed(data))

    return step


def read_frame(stream: Stream) -> bytes:
    """The next frame with its length in front. Raises PeerGone."""
    head = stream.exactly(4)
    return head + stream.exactly(int.from_bytes(head, "big"))


class ThriftUpstream(FrameUpstream):
    """A Thrift server; unless told otherwise it answers with its own name, and one-way calls not at all."""

    @property
    def requests(self) -> list[ThriftFrame]:
        """What came, in order of arrival."""
        return [parse(seen.data) for seen in list(self.frames)]

    def read_frame(self, stream: Stream) -> bytes:
        return read_frame(stream)

    def describe(self, data: bytes) -> str:
        return str(parse(data))

    def default(self, exchange: FrameExchange) -> None:
        if parse(exchange.data).kind != ONEWAY:
            answer()(exchange)


class ThriftClient(FrameClient):
    """A connection of a Thrift client."""

    def read(self) -> ThriftFrame:
        """The next frame. Raises PeerGone when the connection ends first."""
        return parse(read_frame(self.stream))
