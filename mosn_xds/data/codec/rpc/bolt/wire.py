"""Bolt's frames: where their parts are, and how one part is replaced. Knows no meaning beyond that.

Version 1 and 2 differ by two bytes in the fixed part: the version of the protocol (`ver1`) behind the protocol byte, and the
switch behind the codec byte. Behind the fixed part come the name of a class, the header block, the content. A CRC-32 of all
of it ends the frame iff ``ver1 == 2`` and bit 0 of the switch is set. That is the rule of SOFABolt in Java, whose clients set
the bit even where ver1 is 1, and then send none; sofa-bolt-node looks at the bit alone, and so agrees where ver1 is 2.

The header block repeats: length of a name in 4 bytes, name, length of a value, value. A length of 0xFFFFFFFF stands for
null, which is read as empty, and stays null when the block is written again.

`measure` reads what no-one has checked. All others ask for a whole frame, of the very length that `measure` says.
"""

from struct import Struct
from typing import Final
from zlib import crc32

from mosn_xds.data.codec.head import Fields
from mosn_xds.data.codec.rpc.messages import BadFrame

V1: Final = 1
V2: Final = 2

RESPONSE: Final = 0
REQUEST: Final = 1
ONEWAY: Final = 2

HEARTBEAT: Final = 0
RPC_REQUEST: Final = 1
RPC_RESPONSE: Final = 2
GOAWAY: Final = 100

NULL: Final = 0xFFFFFFFF
HEADER_LIMIT_BYTES: Final = 0xFFFF
_SLICED_BYTES: Final = 65536
"""Up to here a slice is copied in less time than a view of it is made."""

_SERVICE: Final = b"service"
_TARGET: Final = b"sofa_head_target_service"
_METHOD: Final = b"sofa_head_method_name"

# Request, version 1: proto, type, command, ver2, id, codec, timeout in ms, lengths of class, header block and content.
REQUEST_1: Final = Struct(">BBHBIBiHHI")
REQUEST_2: Final = Struct(">BBBHBIBBiHHI")
# A response has its status in place of the timeout.
RESPONSE_1: Final = Struct(">BBHBIBHHHI")
RESPONSE_2: Final = Struct(">BBBHBIBBHHHI")

_LENGTHS: Final = Struct(">HHI").unpack_from
_U16: Final = Struct(">H")
_U32: Final = Struct(">I")
_u32: Final = _U32.unpack_from
_pack_u32: Final = _U32.pack


def measure(data: bytes, at: int) -> int:
    """The length of the frame that begins at `at`; 0 if too little is there to know. Raises BadFrame."""
    left = len(data) - at
    if left < 3:
        if left > 0 and data[at] != V1 and data[at] != V2:
            raise BadFrame("unknown_protocol_byte")
        return 0
    proto = data[at]
    if proto == V1:
        kind = data[at + 1]
        fixed = 20
    elif proto == V2:
        kind = data[at + 2]
        fixed = 22
    else:
        raise BadFrame("unknown_protocol_byte")
    if kind in (REQUEST, ONEWAY):
        fixed += 2
    elif kind != RESPONSE:
        raise BadFrame("unknown_type")
    if left < fixed:
        return 0
    name, block, content = _LENGTHS(data, at + fixed - 8)
    total: int = fixed + name + block + content
    if proto == V2 and data[at + 1] == 2 and data[at + 11] & 1:
        total += 4
    return total


def fixed_bytes(frame: bytes) -> int:
    """The size of the fixed part."""
    if frame[0] == V1:
        return 20 if frame[1] == RESPONSE else 22
    return 22 if frame[2] == RESPONSE else 24


def class_name(frame: bytes) -> bytes:
    """The class of the content."""
    fixed = fixed_bytes(frame)
    return frame[fixed : fixed + int.from_bytes(frame[fixed - 8 : fixed - 6], "big")]


def has_crc(frame: bytes) -> bool:
    """Whether the frame ends in a CRC."""
    return frame[0] == V2 and frame[1] == 2 and frame[11] & 1 == 1


def check_crc(frame: bytes) -> None:
    """Raises BadFrame where the CRC, which is there, is wrong."""
    if crc32(memoryview(frame)[:-4]) != _u32(frame, len(frame) - 4)[0]:
        raise BadFrame("wrong_crc")


def with_crc(frame: bytes) -> bytes:
    """The frame, which has none yet, with its CRC, if it is to have one."""
    return frame + _pack_u32(crc32(frame)) if has_crc(frame) else frame


def patched(frame: bytes, at: int, part: bytes) -> bytes:
    """The frame with other bytes in the place of those at `at`, and the CRC for them."""
    after = at + len(part)
    if frame[0] == V2 and has_crc(frame):
        return with_crc(b"".join((frame[:at], part, memoryview(frame)[after:-4])))
    if len(frame) <= _SLICED_BYTES:
        return b"".join((frame[:at], part, frame[after:]))
    return b"".join((frame[:at], part, memoryview(frame)[after:]))


def in_form_of(response: bytes, request: bytes) -> bytes:
    """The response in the version of the request. From 1 to 2 it takes over how far that goes: `ver1` and the switch."""
    if response[0] == request[0]:
        return response
    if response[0] == V1:
        head = (b"\2", request[1:2], response[1:10], request[11:12])
        return with_crc(b"".join((*head, memoryview(response)[10:])))
    end = len(response) - 4 if has_crc(response) else len(response)
    return b"".join((b"\1", response[2:11], memoryview(response)[12:end]))


def routing_in(frame: bytes, at: int, size: int) -> tuple[bytes, bytes, bytes]:
    """Service, target's service and method of the header block of `size` bytes at `at`, empty where it says nothing of them;
    of doubles the last counts. The whole block is checked, for nobody else may ever read it. Raises BadFrame."""
    # Most blocks are right and without nulls. A wrong length leads beyond the block's end, of which this loop takes note when
    # it is over; it cannot come back, nor read what is not the frame's. No length is above 65,535, so two of its bytes are
    # enough: compiled, this is five times as fast as to unpack it.
    start = at
    end = at + size
    service = target = method = b""
    try:
        while at < end:
            name = at + 4
            if frame[at] or frame[at + 1]:
                break
            length = frame[at + 2] * 256 + frame[at + 3]
            at = name + length
            value = at + 4
            if frame[at] or frame[at + 1]:
                at = -1
                break
            after = value + frame[at + 2] * 256 + frame[at + 3]
            if length in (7, 21, 24):  # half the time of cutting out each name
                field = frame[name:at]
                if field == _SERVICE:
                    service = frame[value:after]
                elif field == _METHOD:
                    method = frame[value:after]
                elif field == _TARGET:
                    target = frame[value:after]
            at = after
    except IndexError:
        at = -1
    if at == end:
        return service, target, method
    _cuts(frame, start, end)
    fields = dict(_fields_in(frame, start, end))
    return fields.get(_SERVICE, b""), fields.get(_TARGET, b""), fields.get(_METHOD, b"")


def fields_of(frame: bytes) -> Fields:
    """What the header block says, which has been checked."""
    return _fields_in(frame, *_block(frame))


def _fields_in(frame: bytes, at: int, end: int) -> Fields:
    fields: Fields = []
    while at < end:
        name = at + 4
        size: int = _u32(frame, at)[0]
        at = name if size == NULL else name + size
        value = at + 4
        size = _u32(frame, at)[0]
        after = value if size == NULL else value + size
        fields.append((frame[name:at], frame[value:after]))
        at = after
    return fields


def _block(frame: bytes) -> tuple[int, int]:
    """Where the header block begins and ends."""
    fixed = fixed_bytes(frame)
    name_size, block_size, _ = _LENGTHS(frame, fixed - 8)
    start: int = fixed + name_size
    return start, start + block_size


def _cuts(frame: bytes, at: int, end: int) -> list[tuple[int, int, int]]:
    """Of each pair of a header block where its name's and its value's length stand, and where it ends."""
    marks = [at]
    while at < end:
        if end - at < 4:
            raise BadFrame("header_block")
        length: int = _u32(frame, at)[0]
        at += 4 if length == NULL else 4 + length
        if at > end:
            raise BadFrame("header_block")
        marks.append(at)
    if len(marks) % 2 == 0:
        raise BadFrame("header_block_odd")
    return list(zip(marks[0::2], marks[1::2], marks[2::2], strict=False))


def with_fields(frame: bytes, fields: Fields) -> bytes:
    """The frame with `fields` for its header block. Raises BadFrame if they are too long for one.

    A field that was there, with this value, is written as it was: null, if it was null.
    """
    fixed = fixed_bytes(frame)
    start, end = _block(frame)
    nulls: dict[tuple[bytes, bytes], list[bytes]] = {}
    if frame.find(b"\xff\xff\xff\xff", start, end) >= 0:
        for name, value, after in _cuts(frame, start, end):
            nulls.setdefault((frame[name + 4 : value], frame[value + 4 : after]), []).append(frame[name:after])
    parts: list[bytes] = []
    for field in fields:
        if nulls and nulls.get(field):
            parts.append(nulls[field].pop(0))
        else:
            parts += (_pack_u32(len(field[0])), field[0], _pack_u32(len(field[1])), field[1])
    block = b"".join(parts)
    if len(block) > HEADER_LIMIT_BYTES:
        raise BadFrame("header_block_too_large")
    rest = memoryview(frame)[end : len(frame) - 4 if has_crc(frame) else len(frame)]
    return with_crc(b"".join((frame[: fixed - 6], _U16.pack(len(block)), frame[fixed - 4 : start], block, rest)))
