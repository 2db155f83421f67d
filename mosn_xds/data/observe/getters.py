"""The vocabulary that format operators are compiled in.

A getter is a function from `StreamInfo` to a value, ``None`` for "not there". Text is bytes as on the wire; numbers stay
numbers, for JSON. A factory compiles one operator's argument to a getter.
"""

from collections.abc import Callable
from typing import NamedTuple

from mosn_xds.base.chance import Random
from mosn_xds.base.clock import Clock
from mosn_xds.data.observe.info import StreamInfo

Value = bytes | int | float | bool | dict[str, "Value"] | list["Value"] | None
Getter = Callable[[StreamInfo], Value]


class FormatEnvironment(NamedTuple):
    """What formats need beside the stream: the time now, chance for ``%UNIQUE_ID%``, this machine's name."""

    clock: Clock
    random: Random
    hostname: str


Factory = Callable[[str | None, FormatEnvironment], Getter]


def nothing(info: StreamInfo) -> Value:
    """The getter of what has no value here."""
    return None


def plain(getter: Getter) -> Factory:
    """An operator without an argument."""
    return lambda arg, environment: getter


def either(first: Getter, second: Getter) -> Getter:
    """The first value that is there."""

    def get(info: StreamInfo) -> Value:
        value = first(info)
        return value if value is not None else second(info)

    return get


def text_value(value: str) -> bytes | None:
    """Text as a value; empty text is not there."""
    return value.encode() if value else None
