"""Thrift's message heads and its application exceptions, in the binary and the compact protocol.

Binary (https://github.com/apache/thrift/blob/master/doc/specs/thrift-binary-protocol.md), strict::

    0x8001 | any byte | type | length of the name, 32 bits | name | id, 32 bits | a struct

Compact (thrift-compact-protocol.md), where ids and lengths are in groups of 7 bits, the least significant first::

    0x82 | type, 3 bits; version 1, 5 bits | id | length of the name | name | a struct

A frame is one of these behind its length, 32 bits. What cannot be right raises BadFrame.
"""

from typing import Final

from mosn_xds.data.codec.rpc.messages import BadFrame

CALL: Final = 1
REPLY: Final = 2
EXCEPTION: Final = 3
ONEWAY: Final = 4

LENGTH_BYTES: Final = 4
"""Before each message."""
COMPACT: Final = 0x82
_COMPACT_VERSION: Final = 1
_BINARY: Final = b"\x80\x01"

# Types of fields in structs: the end, a 32-bit number, a string.
_STOP: Final = 0
_BINARY_I32: Final = 8
_BINARY_STRING: Final = 11
_COMPACT_I32: Final = 5
_COMPACT_STRING: Final = 8

_MESSAGE: Final = 1  # the fields of an application exception
_TYPE: Final = 2
_MOST_FIELDS: Final = 16
"""Of an application exception, which has two; its type is not looked for beyond."""


def is_compact(frame: bytes) -> bool:
    """Whether a frame's message is in the compact protocol; in the binary one if not."""
    return frame[LENGTH_BYTES] == COMPACT


def read_head(frame: bytes) -> tuple[int, bytes, int, int]:
    """Type, name and id of the message in `frame`, and where its struct begins."""
    try:
        if frame[4] == COMPACT:
            kind = frame[5]
            if kind & 0x1F != _COMPACT_VERSION:
                raise BadFrame("thrift_unknown_protocol")
            id, at = _varint(frame, 6)
            size, at = _varint(frame, at)
            name = frame[at : at + size]
            if len(name) < size:
                raise BadFrame("thrift_truncated")
            return kind >> 5, name, id, at + size
        if frame[4:6] != _BINARY:
            raise BadFrame("thrift_unknown_protocol")
        at = 12 + int.from_bytes(frame[8:12], "big")
        if at + 4 > len(frame):
            raise BadFrame("thrift_truncated")
        return frame[7], frame[12:at], int.from_bytes(frame[at : at + 4], "big"), at + 4
    except IndexError:
        raise BadFrame("thrift_truncated") from None


def with_id(frame: bytes, id: int) -> bytes:
    """The same frame under another id."""
    if frame[4] != COMPACT:
        at = 12 + int.from_bytes(frame[8:12], "big")
        return frame[:at] + id.to_bytes(4, "big") + frame[at + 4 :]
    _, end = _varint(frame, 6)
    return framed(frame[4:6] + varint(id) + frame[end:])


def with_name(frame: bytes, name: bytes) -> bytes:
    """The same frame under another name."""
    if frame[4] != COMPACT:
        at = 12 + int.from_bytes(frame[8:12], "big")
        return framed(frame[4:8] + len(name).to_bytes(4, "big") + name + frame[at:])
    _, begin = _varint(frame, 6)
    size, at = _varint(frame, begin)
    return framed(frame[4:begin] + varint(len(name)) + name + frame[at + size :])


def framed(message: bytes) -> bytes:
    """A message as a frame."""
    return len(message).to_bytes(LENGTH_BYTES, "big") + message


def exception(name: bytes, id: int, kind: int, text: bytes, *, compact: bool) -> bytes:
    """A frame with a TApplicationException of type `kind` that says `text`."""
    if compact:
        head = bytes((COMPACT, EXCEPTION << 5 | _COMPACT_VERSION)) + varint(id) + varint(len(name)) + name
        message = bytes((_MESSAGE << 4 | _COMPACT_STRING,)) + varint(len(text)) + text
        number = bytes(((_TYPE - _MESSAGE) << 4 | _COMPACT_I32,)) + varint(kind << 1)
        return framed(head + message + number + b"\0")
    head = b"%b\0%c%b%b%b" % (_BINARY, EXCEPTION, len(name).to_bytes(4, "big"), name, id.to_bytes(4, "big"))
    message = b"%c\0%c%b%b" % (_BINARY_STRING, _MESSAGE, len(text).to_bytes(4, "big"), text)
    number = b"%c\0%c%b" % (_BINARY_I32, _TYPE, kind.to_bytes(4, "big"))
    return framed(head + message + number + b"\0")


def exception_type(frame: bytes, at: int) -> int:
    """The type of the TApplicationException at `at`; 0, which is UNKNOWN, if there is none to be found."""
    try:
        return _compact_type(frame, at) if is_compact(frame) else _binary_type(frame, at)
    except (IndexError, BadFrame):
        return 0


def first_field(frame: bytes, at: int) -> int | None:
    """The id of the first field in the struct at `at`, None if it has none: of a result 0 is the value, others exceptions."""
    try:
        if frame[at] == _STOP:
            return None
        if not is_compact(frame):
            return frame[at + 1] << 8 | frame[at + 2]
        return frame[at] >> 4 or _varint(frame, at + 1)[0] >> 1
    except IndexError:
        raise BadFrame("thrift_truncated") from None


def _binary_type(frame: bytes, at: int) -> int:
    for _ in range(_MOST_FIELDS):
        kind, number = frame[at], frame[at + 2]
        size = int.from_bytes(frame[at + 3 : at + 7], "big")
        if kind == _BINARY_I32 and number == _TYPE:
            return size
        if kind != _BINARY_STRING:
            return 0
        at += 7 + size
    return 0


def _compact_type(frame: bytes, at: int) -> int:
    number = 0
    for _ in range(_MOST_FIELDS):
        kind = frame[at] & 0x0F
        number += frame[at] >> 4
        value, at = _varint(frame, at + 1)
        if kind == _COMPACT_I32 and number == _TYPE:
            return value >> 1
        if kind != _COMPACT_STRING:
            return 0
        at += value
    return 0


def varint(number: int) -> bytes:
    """A number, not negative, in groups of 7 bits."""
    groups = bytearray()
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of up to 32 bits, and where it ends. One with more groups than it needs is refused: ids go back as they came."""
    byte = data[at]
    at += 1
    if byte < 0x80:
        return byte, at
    number = byte & 0x7F
    shift = 7
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
        if shift > 28:
            raise BadFrame("thrift_bad_varint")
    if byte == 0 or number > 0xFFFFFFFF:
        raise BadFrame("thrift_bad_varint")
    return number, at
