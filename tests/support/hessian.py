"""Hessian 2.0 values as bytes, as far as Dubbo's frames need it: what a test writes, it can vary byte by byte.

It knows nothing of the product's own reader, which it is there to feed. The serialization draft at hessian.caucho.com is the
source; a value has several forms, of which these are the ones that Java's writer chooses.
"""

import struct
from collections.abc import Mapping

NULL = b"N"
TRUE = b"T"
FALSE = b"F"


def text(value: str) -> bytes:
    """A string; its length counts characters, not bytes."""
    data, size = value.encode(), len(value)
    if size < 32:
        return bytes([size]) + data
    if size < 1024:
        return bytes([0x30 + (size >> 8), size & 0xFF]) + data
    if size < 0x8000:
        return b"S" + size.to_bytes(2, "big") + data
    return b"R\x80\x00" + value[:0x8000].encode() + text(value[0x8000:])


def integer(value: int) -> bytes:
    """An int of 32 bits in its shortest form."""
    if -16 <= value <= 47:
        return bytes([0x90 + value])
    if -2048 <= value <= 2047:
        return bytes([0xC8 + (value >> 8), value & 0xFF])
    if -262144 <= value <= 262143:
        return bytes([0xD4 + (value >> 16), (value >> 8) & 0xFF, value & 0xFF])
    return b"I" + value.to_bytes(4, "big", signed=True)


def long(value: int) -> bytes:
    """A long, in its long form."""
    return b"L" + value.to_bytes(8, "big", signed=True)


def double(value: float) -> bytes:
    """A double, in its long form."""
    return b"D" + struct.pack(">d", value)


def binary(value: bytes) -> bytes:
    """Bytes, in chunks of at most 64 KiB."""
    chunks = [value[at : at + 0xFFFF] for at in range(0, len(value), 0xFFFF)] or [b""]
    middle = b"".join(b"A" + len(chunk).to_bytes(2, "big") + chunk for chunk in chunks[:-1])
    return middle + b"B" + len(chunks[-1]).to_bytes(2, "big") + chunks[-1]


def mapping(pairs: Mapping[str, str | bytes]) -> bytes:
    """An untyped map of strings; a value that is bytes is written as it is."""
    items = b"".join(text(name) + (text(value) if isinstance(value, str) else value) for name, value in pairs.items())
    return b"H" + items + b"Z"


def typed_map(kind: str, pairs: Mapping[str, str]) -> bytes:
    """A map that names its class."""
    return b"M" + text(kind) + mapping(pairs)[1:]


def listing(values: list[bytes]) -> bytes:
    """An untyped list of values that are written already."""
    return b"\x58" + integer(len(values)) + b"".join(values)


def read_text(data: bytes, at: int = 0) -> tuple[str, int]:
    """The string at an offset (of less than 1024 characters), and where it ends. Raises ValueError."""
    mark = data[at]
    if mark < 32:
        size, at = mark, at + 1
    elif 0x30 <= mark <= 0x33:
        size, at = ((mark - 0x30) << 8) + data[at + 1], at + 2
    elif mark == ord("S"):
        size, at = int.from_bytes(data[at + 1 : at + 3], "big"), at + 3
    else:
        raise ValueError(f"no string: {data[at : at + 8]!r}")
    value = data[at:].decode("utf-8", "surrogateescape")[:size]
    return value, at + len(value.encode("utf-8", "surrogateescape"))
