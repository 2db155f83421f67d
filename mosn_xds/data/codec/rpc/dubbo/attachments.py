"""Attachments: the map of strings at the end of a body, behind the arguments or the result, and how it is edited.

To find it everything before it has to be skipped, so it is read when somebody asks for it. Entries that are no strings are
no properties, but stay; so does, byte for byte, each entry that nobody has changed, and all that stands before the map.
"""

import re
from typing import Final

from mosn_xds.data.codec.head import Field, Fields
from mosn_xds.data.codec.rpc.dubbo import hessian2
from mosn_xds.data.codec.rpc.messages import BadFrame

_MAP: Final = 0x48  # H
_TYPED_MAP: Final = 0x4D  # M
_END: Final = 0x5A  # Z

NULL: Final = b"null"
"""The name of a result without a value."""
_MAX_ENTRIES: Final = 1024
_LONGEST_DESCRIPTOR_BYTES: Final = 0xFFFF
"""Java has none that is longer."""

_ARGUMENT: Final = re.compile(rb"\[*(?:[ZBCSIJFDV]|L[^;]*;)")
_ARGUMENTS: Final = re.compile(rb"(?:\[*(?:[ZBCSIJFDV]|L[^;]*;))*+")


def after_arguments(frame: bytes, at: int, body: hessian2.Body) -> int:
    """Where the attachments of a request begin, whose types of arguments stand at `at`.

    The types are a descriptor as Java has them (``Ljava/lang/String;[I``). A number in its place says how many arguments
    there are, and -1 that the descriptor comes behind it (as for Envoy). `body` is that of `hessian2.skip`. Raises BadFrame.
    """
    if hessian2.is_int(frame, at):
        count, at = hessian2.read_int(frame, at)
        if count >= 0:
            return hessian2.skip(frame, at, count, body)
    types, at = hessian2.read_string(frame, at)
    return hessian2.skip(frame, at, argument_count(types), body)


def argument(frame: bytes, at: int, index: int) -> bytes | None:
    """The argument of that number (from 0) behind the types at `at`, if it is a string. Raises BadFrame."""
    types, at = hessian2.read_string(frame, at)
    if index >= argument_count(types):
        return None
    at = hessian2.skip(frame, at, index, hessian2.Body())
    return hessian2.read_string(frame, at)[0] if hessian2.is_string(frame, at) else None


def after_value(frame: bytes, at: int, result: bytes, body: hessian2.Body) -> int:
    """Where the attachments of a response begin, whose result stands at `at`. Raises BadFrame."""
    return at if result == NULL else hessian2.skip(frame, at, 1, body)


def argument_count(types: bytes) -> int:
    """How many arguments a descriptor names. Raises BadFrame if it is none."""
    if len(types) > _LONGEST_DESCRIPTOR_BYTES or _ARGUMENTS.fullmatch(types) is None:
        raise BadFrame("dubbo_bad_descriptor")
    return len(_ARGUMENT.findall(types))


def read(frame: bytes, at: int, body: hessian2.Body) -> Fields:
    """The attachments that are strings, of the map at `at`; none if there is something else. Raises BadFrame."""
    return [field for field, _ in _entries(frame, at, body)[1]]


def edited(frame: bytes, at: int, body: hessian2.Body, fields: Fields) -> bytes:
    """The map at `at` with `fields` in place of its entries that are strings. Raises BadFrame.

    It has the type that it had, and values in the order that they had, for numbers in the body may mean those.
    """
    opening, entries, others = _entries(frame, at, body)
    known = dict(entries)
    written = [known.get(field) or b"".join(map(hessian2.write_string, field)) for field in fields]
    return b"".join([opening, *written, *others, b"Z"])


def _entries(frame: bytes, at: int, body: hessian2.Body) -> tuple[bytes, list[tuple[Field, bytes]], list[bytes]]:
    """How the map begins, its strings, each with its bytes, and the bytes of its other entries."""
    strings: list[tuple[Field, bytes]] = []
    others: list[bytes] = []
    size = len(frame)
    if at >= size or frame[at] not in (_MAP, _TYPED_MAP):
        return b"H", strings, others
    begin = at
    at = hessian2.after_type(frame, at + 1) if frame[at] == _TYPED_MAP else at + 1
    opening = frame[begin:at]
    while at < size and frame[at] != _END:
        begin = at
        if len(strings) + len(others) == _MAX_ENTRIES:
            raise BadFrame("dubbo_too_many_attachments")
        if hessian2.is_string(frame, at):
            name, at = hessian2.read_string(frame, at)
            if hessian2.is_string(frame, at):
                value, at = hessian2.read_string(frame, at)
                strings.append(((name, value), frame[begin:at]))
                continue
            at = hessian2.skip(frame, at, 1, body)
        else:
            at = hessian2.skip(frame, at, 2, body)
        others.append(frame[begin:at])
    if at >= size:
        raise BadFrame("hessian_truncated")
    return opening, strings, others
