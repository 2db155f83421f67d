"""Hessian 2.0 as far as a proxy needs it: where a value ends, what a string says, how a map of strings is written.

Values are skipped by their tags alone, none is built. Nesting is kept in a list, not on the interpreter's stack, and has a
limit, as has the number of values: a body of 16 MiB may hold as many values as it has bytes. Strings and binaries, which
are what makes bodies big, are passed over by their lengths. Those of strings count UTF-16 units, whose number of bytes the
first byte of each tells (https://hessian.caucho.com/doc/hessian-serialization.html, sections 4.12 and 6).

A reference (``Q``) may mean whatever came before, and is a value of its own size here. Definitions of classes are values'
prefixes: they say how many fields the objects after them have, in all of one body.

It knows nothing of Dubbo. What cannot be right raises BadFrame; positions are indexes into the bytes that were given.
"""

import re
from typing import Final

from mosn_xds.data.codec.rpc.messages import BadFrame

NULL: Final = b"N"
MAX_DEPTH: Final = 1024
"""So deep may values be nested."""
MAX_VALUES: Final = 1 << 18
"""So many values are skipped in one body."""
MAX_CHUNKS: Final = 1024
"""In so many chunks may a string be that is read."""

_UNTIL_END: Final = -1  # a list or a map that ends with Z, in place of the number of its values


class Body:
    """What is known of one body while its values are passed over, in one go or in several.

    `classes` says how many fields the objects of each class have, in the order in which the body defines them; `values_left`,
    how many values may still be skipped.
    """

    __slots__ = ("classes", "values_left")

    def __init__(self) -> None:
        self.classes: list[int] = []
        self.values_left = MAX_VALUES

    def __repr__(self) -> str:
        return f"<Body {len(self.classes)} classes, {MAX_VALUES - self.values_left} values skipped>"


def _sizes() -> bytes:
    """For each tag the size of a value that has always the same, tag included; else 0."""
    sizes = bytearray(256)
    for first, last, size in (
        (0x00, 0x00, 1),  # the empty string
        (0x38, 0x3F, 3),  # long
        (0x44, 0x44, 9),  # D double
        (0x46, 0x46, 1),  # F
        (0x49, 0x49, 5),  # I int
        (0x4A, 0x4A, 9),  # J date
        (0x4B, 0x4B, 5),  # K date in minutes
        (0x4C, 0x4C, 9),  # L long
        (0x4E, 0x4E, 1),  # N
        (0x54, 0x54, 1),  # T
        (0x59, 0x59, 5),  # Y long
        (0x5B, 0x5C, 1),  # double 0, 1
        (0x5D, 0x5D, 2),  # double of a byte
        (0x5E, 0x5E, 3),  # double of two
        (0x5F, 0x5F, 5),  # double of four
        (0x80, 0xBF, 1),  # int
        (0xC0, 0xCF, 2),  # int
        (0xD0, 0xD7, 3),  # int
        (0xD8, 0xEF, 1),  # long
        (0xF0, 0xFF, 2),  # long
    ):
        sizes[first : last + 1] = bytes((size,)) * (last - first + 1)
    for length in range(16):
        sizes[0x20 + length] = 1 + length  # binary
    return bytes(sizes)


_SIZES: Final = _sizes()
_NOT_TWO: Final = bytes(byte for byte in range(256) if not 0xC0 <= byte < 0xE0)
_NOT_THREE: Final = bytes(byte for byte in range(256) if not 0xE0 <= byte < 0xF0)
_NOT_FOUR: Final = bytes(byte for byte in range(256) if byte < 0xF0)
_NOT_ASCII: Final = bytes(range(0x80, 256))


def is_string(data: bytes, at: int) -> bool:
    """Whether the value at `at` is a string (and not null)."""
    if at >= len(data):
        return False
    tag = data[at]
    return tag < 0x20 or 0x30 <= tag <= 0x33 or tag in (0x52, 0x53)


def is_int(data: bytes, at: int) -> bool:
    """Whether the value at `at` is an int."""
    return at < len(data) and (0x80 <= data[at] <= 0xD7 or data[at] == 0x49)


def after_type(data: bytes, at: int) -> int:
    """Where the type of a typed map or list, whose tag stands before `at`, ends."""
    try:
        return _after_type(data, at)
    except IndexError:
        raise BadFrame("hessian_truncated") from None


def read_int(data: bytes, at: int) -> tuple[int, int]:
    """The int at `at`, and where it ends."""
    try:
        tag = data[at]
        if 0x80 <= tag <= 0xBF:
            return tag - 0x90, at + 1
        if 0xC0 <= tag <= 0xCF:
            return ((tag - 0xC8) << 8) + data[at + 1], at + 2
        if 0xD0 <= tag <= 0xD7:
            return ((tag - 0xD4) << 16) + (data[at + 1] << 8) + data[at + 2], at + 3
    except IndexError:
        raise BadFrame("hessian_truncated") from None
    if tag != 0x49:
        raise BadFrame("hessian_int_expected")
    if at + 5 > len(data):
        raise BadFrame("hessian_truncated")
    return int.from_bytes(data[at + 1 : at + 5], "big", signed=True), at + 5


def read_string(data: bytes, at: int) -> tuple[bytes, int]:
    """The string at `at`, as UTF-8, and where it ends. Null is an empty one.

    What has no UTF-8, half of a surrogate pair, is left in three bytes.
    """
    try:
        tag = data[at]
        if tag < 0x20:
            end = at + 1 + tag
            value = data[at + 1 : end]
            if value.isascii() and len(value) == tag:
                return value, end
        elif tag == 0x4E:
            return b"", at + 1
        elif not (0x30 <= tag <= 0x33 or tag in (0x52, 0x53)):
            raise BadFrame("hessian_string_expected")
        pieces: list[bytes] = []
        while True:
            start, end = _chunk(data, at)
            pieces.append(data[start:end])
            last = data[at] != 0x52
            at = end
            if last:
                break
            if len(pieces) > MAX_CHUNKS:
                raise BadFrame("hessian_string_too_long")
    except IndexError:
        raise BadFrame("hessian_truncated") from None
    value = b"".join(pieces)
    return (value if value.isascii() else _joined_surrogates(value)), at


def read_strings(data: bytes, at: int, count: int) -> tuple[list[bytes], int]:
    """`count` strings from `at` on, as `read_string` reads them, and where the last one ends."""
    found: list[bytes] = []
    for _ in range(count):
        begin = at + 1
        # Most are short and plain, and this is for each message.
        if at < len(data) and data[at] < 0x20 and (value := data[begin : begin + data[at]]).isascii():
            at = begin + data[at]
        else:
            value, at = read_string(data, at)
        found.append(value)
    if at > len(data):
        raise BadFrame("hessian_truncated")
    return found, at


def skip(data: bytes, at: int, count: int, body: Body) -> int:
    """Where the last of `count` values from `at` on ends. What they define is added to what is known of the `body`."""
    try:
        end = _skip(data, at, count, body)
    except IndexError:
        raise BadFrame("hessian_truncated") from None
    if end > len(data):
        raise BadFrame("hessian_truncated")
    return end


def _skip(data: bytes, at: int, count: int, body: Body) -> int:
    classes = body.classes
    outer: list[int] = []
    left = count
    budget = body.values_left
    while True:
        while left == 0:
            if not outer:
                body.values_left = budget
                return at
            left = outer.pop()
        tag = data[at]
        if left > 0:
            left -= 1
        elif tag == 0x5A:
            at += 1
            left = outer.pop()
            continue
        budget -= 1
        if budget < 0:
            raise BadFrame("hessian_too_many_values")
        size = _SIZES[tag]
        if size:
            at += size
            continue
        if tag < 0x20 or 0x30 <= tag <= 0x33 or tag in (0x52, 0x53):
            _, at = _chunk(data, at)
            if tag == 0x52:  # R, the rest follows
                if not is_string(data, at):
                    raise BadFrame("hessian_string_expected")
                left += left >= 0
            continue
        if tag <= 0x37 or tag in (0x41, 0x42):
            at = _after_binary_chunk(data, at)
            if tag == 0x41:  # A, the rest follows
                if not (0x20 <= data[at] <= 0x2F or 0x34 <= data[at] <= 0x37 or data[at] in (0x41, 0x42)):
                    raise BadFrame("hessian_binary_expected")
                left += left >= 0
            continue
        if tag == 0x51:  # Q, a reference
            _, at = read_int(data, at + 1)
            continue
        if tag == 0x43:  # C, a class; an object follows
            fields, at = read_int(data, _after_name(data, at + 1))
            if fields < 0 or fields > budget:
                raise BadFrame("hessian_bad_length")
            budget -= fields
            for _ in range(fields):
                at = _after_name(data, at)
            classes.append(fields)
            left += left >= 0
            continue
        inner = _UNTIL_END
        if 0x60 <= tag <= 0x6F or tag == 0x4F:  # an object
            kind = tag - 0x60
            at += 1
            if tag == 0x4F:
                kind, at = read_int(data, at)
            if not 0 <= kind < len(classes):
                raise BadFrame("hessian_unknown_class")
            inner = classes[kind]
        elif 0x70 <= tag <= 0x77:  # a list with a type
            at = _after_type(data, at + 1)
            inner = tag - 0x70
        elif 0x78 <= tag <= 0x7F:
            at += 1
            inner = tag - 0x78
        elif tag in (0x48, 0x57):  # a map, a list
            at += 1
        elif tag in (0x4D, 0x55):  # the same, with a type
            at = _after_type(data, at + 1)
        elif tag in (0x56, 0x58):  # a list with a length
            at = _after_type(data, at + 1) if tag == 0x56 else at + 1
            inner, at = read_int(data, at)
            if not 0 <= inner <= len(data) - at:
                raise BadFrame("hessian_bad_length")
        else:
            raise BadFrame("hessian_unknown_tag")
        if len(outer) >= MAX_DEPTH:
            raise BadFrame("hessian_too_deep")
        outer.append(left)
        left = inner


def _chunk(data: bytes, at: int) -> tuple[int, int]:
    """Begin and end of the text in this chunk of a string."""
    tag = data[at]
    if tag < 0x20:
        length = tag
        at += 1
    elif 0x30 <= tag <= 0x33:
        length = ((tag - 0x30) << 8) + data[at + 1]
        at += 2
    elif tag in (0x52, 0x53):
        length = (data[at + 1] << 8) + data[at + 2]
        at += 3
    else:
        raise BadFrame("hessian_string_expected")
    return at, _after_text(data, at, length)


def _after_text(data: bytes, at: int, units: int) -> int:
    """Where `units` units of text end.

    Java and Node write, and count, surrogates in three bytes each; those who write four bytes for a pair, such as Envoy and
    Python's client, count it once.
    """
    while units > 0:
        piece = data[at : at + units]
        if len(piece) < units:
            raise BadFrame("hessian_truncated")
        if piece.isascii():
            return at + units
        ascii_ = len(piece.translate(None, _NOT_ASCII))
        two = len(piece.translate(None, _NOT_TWO))
        three = len(piece.translate(None, _NOT_THREE))
        four = len(piece.translate(None, _NOT_FOUR))
        size = ascii_ + 2 * two + 3 * three + 4 * four
        if size < len(piece):
            raise BadFrame("hessian_bad_utf8")
        at += size
        units -= ascii_ + two + three + four
    if at > len(data):
        raise BadFrame("hessian_truncated")
    return at


def _after_binary_chunk(data: bytes, at: int) -> int:
    tag = data[at]
    if tag <= 0x37:
        return at + 2 + ((tag - 0x34) << 8) + data[at + 1]
    return at + 3 + (data[at + 1] << 8) + data[at + 2]


def _after_name(data: bytes, at: int) -> int:
    """A name of a class or a field is a string of one chunk."""
    if data[at] == 0x52:
        raise BadFrame("hessian_name_too_long")
    return _chunk(data, at)[1]


def _after_type(data: bytes, at: int) -> int:
    """A type is its name, or the number of one that was named before."""
    return _after_name(data, at) if is_string(data, at) else read_int(data, at)[1]


def _joined_surrogates(value: bytes) -> bytes:
    """Java writes what is outside the basic plane as two surrogates of three bytes; UTF-8 has four bytes for both."""
    try:
        text = value.decode("utf-8", "surrogatepass")
    except UnicodeError:
        raise BadFrame("hessian_bad_utf8") from None
    if b"\xed" not in value:
        return value
    try:
        return text.encode("utf-16-be", "surrogatepass").decode("utf-16-be").encode()
    except UnicodeError:
        return value


def write_string(value: bytes) -> bytes:
    """UTF-8 as a string, in chunks if it is long. Bytes that are none become U+FFFD."""
    if value.isascii():
        size = len(value)
        if size < 0x20:
            return bytes((size,)) + value
        text = value.decode("ascii")
    else:
        try:
            text = value.decode("utf-8", "surrogatepass")
        except UnicodeError:
            text = value.decode("utf-8", "replace")
        text = _WIDE.sub(_surrogates, text)
    chunks: list[bytes] = []
    while len(text) > _CHUNK:
        chunks.append(b"R" + _CHUNK.to_bytes(2, "big") + text[:_CHUNK].encode("utf-8", "surrogatepass"))
        text = text[_CHUNK:]
    units = len(text)
    if units < 0x20:
        chunks.append(bytes((units,)))
    elif units < 0x400:
        chunks.append(bytes((0x30 + (units >> 8), units & 0xFF)))
    else:
        chunks.append(b"S" + units.to_bytes(2, "big"))
    chunks.append(text.encode("utf-8", "surrogatepass"))
    return b"".join(chunks)


def _surrogates(match: re.Match[str]) -> str:
    code = ord(match[0]) - 0x10000
    return chr(0xD800 + (code >> 10)) + chr(0xDC00 + (code & 0x3FF))


_WIDE: Final = re.compile("[\U00010000-\U0010ffff]")
_CHUNK: Final = 0x8000  # units, as many as Java's writer takes
