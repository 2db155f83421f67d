"""Compiled substitution formats: text for access-log lines, header values and local replies, values for JSON.

A `Formatter` renders one parsed format for a stream. In text a missing value is ``-``, or nothing where a format omits
empty values (header values always do). In JSON a format that is one lone operator keeps its value's type and is ``null``
when missing; any other is a string. Keys are sorted once; the object of a line is built of plain values and encoded by
msgspec in one go (half the price of putting the text together in Python). Strings that are not UTF-8 are written as Envoy
does, each byte above 127 as ``\\u00XX``.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from mosn_xds.data.observe.getters import FormatEnvironment, Getter, Value
from mosn_xds.data.observe.info import StreamInfo
from mosn_xds.data.observe.operators import compile_operator
from mosn_xds.spec.access_log import JsonConstant, JsonFormat, JsonNode, JsonObject, JsonText
from mosn_xds.spec.common import Format, FormatOperator, FormatText

_encode_json = msgspec.json.Encoder().encode
_EXACT_INTEGERS: Final = 1e17
"""Below it a whole number is printed without an exponent or a fraction."""
_NEVER_ESCAPED: Final = frozenset(range(0x20, 0x7F)) - frozenset(b'"\\')
_STRUCTURED: Final = frozenset({"DYNAMIC_METADATA"})
"""Operators whose values may be objects, lists and floats."""


class Formatter:
    """One compiled format. `constant` is its text when it has no operators."""

    __slots__ = ("_getters", "_missing", "_template", "constant")

    def __init__(self, format: Format, environment: FormatEnvironment, *, omit_empty: bool = False) -> None:
        self._missing = b"" if omit_empty else b"-"
        self._getters = tuple(_text_getter(part, environment) for part in format if isinstance(part, FormatOperator))
        pieces = [part.text.encode().replace(b"%", b"%%") if isinstance(part, FormatText) else b"%b" for part in format]
        self._template = b"".join(pieces)
        self.constant: bytes | None = None if self._getters else self._template % ()

    def __repr__(self) -> str:
        return f"<Formatter {self._template!r}>"

    def render(self, info: StreamInfo) -> bytes:
        """The text for this stream."""
        missing = self._missing
        values = []
        for get in self._getters:
            value = get(info)
            if type(value) is bytes:
                values.append(value)
            elif value is None:
                values.append(missing)
            elif type(value) is int:
                values.append(b"%d" % value)
            else:
                values.append(_as_text(value))
        return self._template % tuple(values)


def _text_getter(operator: FormatOperator, environment: FormatEnvironment) -> Getter:
    get = compile_operator(operator, environment)
    limit = operator.max_length
    if limit is None:
        return get

    def shortened(info: StreamInfo) -> Value:
        value = get(info)
        return _as_text(value)[:limit] if value is not None else None

    return shortened


def _typed_getter(operator: FormatOperator, environment: FormatEnvironment) -> Getter:
    get = compile_operator(operator, environment)
    limit = operator.max_length
    if limit is None:
        return get

    def shortened(info: StreamInfo) -> Value:
        value = get(info)
        return value[:limit] if isinstance(value, bytes) else value

    return shortened


def _as_text(value: Value) -> bytes:
    return value if isinstance(value, bytes) else _encode_json(_json_value(value))


def json_string(text: bytes) -> bytes:
    """The bytes as a JSON string; in one that is not UTF-8 each byte that is special or above 126 becomes ``\\u00XX``."""
    try:
        return _encode_json(text.decode())
    except UnicodeDecodeError:
        return b'"%b"' % b"".join(b"%c" % byte if byte in _NEVER_ESCAPED else b"\\u%04x" % byte for byte in text)


_Leaf = Callable[[StreamInfo], object]


class JsonFormatter:
    """A JSON object compiled from its format; `render` gives it on one line without the newline."""

    __slots__ = ("_omit_empty", "_root")

    def __init__(self, format: JsonFormat, environment: FormatEnvironment) -> None:
        self._omit_empty = format.omit_empty_values
        self._root = _compile_object(format.root, environment, omit_empty=self._omit_empty)

    def __repr__(self) -> str:
        return f"<JsonFormatter{' omitting empty values' if self._omit_empty else ''}>"

    def render(self, info: StreamInfo) -> bytes:
        """The object for this stream."""
        return _encode_json(self._root(info) or {})


def _json_value(value: object) -> object:
    """What the encoder turns into `value`'s JSON."""
    kind = type(value)
    if kind is int or kind is str or value is None:
        return value
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return msgspec.Raw(json_string(value))
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT_INTEGERS:
        return int(value)
    if isinstance(value, dict):
        return {key: _json_value(item) for key, item in sorted(value.items())}
    if isinstance(value, list):
        return [_json_value(item) for item in value]
    return value


def _compile_object(node: JsonObject, environment: FormatEnvironment, *, omit_empty: bool) -> _Leaf:
    fields = tuple(
        (key, _compile_node(item, environment, omit_empty=omit_empty))
        for key, item in sorted(node.fields, key=lambda field: field[0].encode())
    )

    def build(info: StreamInfo) -> object:
        members: dict[str, object] = {}
        for key, get in fields:
            value = get(info)
            if type(value) is bytes:
                try:
                    members[key] = value.decode()
                except UnicodeDecodeError:
                    members[key] = msgspec.Raw(json_string(value))
            elif value is not None or not omit_empty:
                members[key] = value
        return members if members or not omit_empty else None

    return build


def _compile_node(node: JsonNode, environment: FormatEnvironment, *, omit_empty: bool) -> _Leaf:
    if isinstance(node, JsonObject):
        return _compile_object(node, environment, omit_empty=omit_empty)
    if isinstance(node, JsonConstant):
        constant = _json_value(node.value)
        return lambda info: constant
    if isinstance(node, JsonText):
        return _compile_text(node, environment, omit_empty=omit_empty)
    items = [_compile_node(item, environment, omit_empty=omit_empty) for item in node.items]

    def build(info: StreamInfo) -> object:
        values = [_json_value(item(info)) for item in items]
        return [value for value in values if value is not None] if omit_empty else values

    return build


def _compile_text(node: JsonText, environment: FormatEnvironment, *, omit_empty: bool) -> _Leaf:
    if len(node.format) == 1 and isinstance(operator := node.format[0], FormatOperator):
        if operator.name in _STRUCTURED:
            get = _typed_getter(operator, environment)
            return lambda info: _json_value(get(info))
        return _typed_getter(operator, environment)
    formatter = Formatter(node.format, environment, omit_empty=omit_empty)
    if formatter.constant is not None:
        constant = formatter.constant
        return lambda info: constant
    return formatter.render
