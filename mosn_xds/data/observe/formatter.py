"""Compiled substitution formats: text for access-log lines, header values and local replies, values for JSON.

A `Formatter` renders one parsed format for a stream. In text a missing value is ``-``, or nothing where a format omits
empty values (header values always do). In JSON a format that is one lone operator keeps its value's type and is ``null``
when missing; any other is a string. A `JsonFormatter` knows its whole shape beforehand: constants and keys are encoded
once, only values are rendered per line. Strings that are not UTF-8 are written as Envoy does, each byte above 127 as
``\\u00XX``.
"""

import re
from collections.abc import Callable

import msgspec

from mosn_xds.data.observe.getters import FormatEnvironment, Getter, Value
from mosn_xds.data.observe.info import StreamInfo
from mosn_xds.data.observe.operators import compile_operator
from mosn_xds.spec.access_log import JsonConstant, JsonFormat, JsonList, JsonNode, JsonObject, JsonText
from mosn_xds.spec.common import Format, FormatOperator, FormatText

_encode_json = msgspec.json.Encoder(order="sorted").encode
_PLAIN_STRING = re.compile(rb"[ !#-\[\]-~]*")


class Formatter:
    """One compiled format. `constant` is its text when it has no operators."""

    __slots__ = ("_getters", "_missing", "_template", "constant")

    def __init__(self, format: Format, environment: FormatEnvironment, *, omit_empty: bool = False) -> None:
        self._missing = b"" if omit_empty else b"-"
        self._getters = tuple(_getter(part, environment) for part in format if isinstance(part, FormatOperator))
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


def _getter(operator: FormatOperator, environment: FormatEnvironment) -> Getter:
    get = compile_operator(operator, environment)
    limit = operator.max_length
    if limit is None:
        return get

    def shortened(info: StreamInfo) -> Value:
        value = get(info)
        return value[:limit] if isinstance(value, bytes) else value

    return shortened


def _as_text(value: Value) -> bytes:
    if isinstance(value, bytes):
        return value
    return _encode_json(_plain_value(value))


def _plain_value(value: Value) -> object:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, dict):
        return {key: _plain_value(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain_value(item) for item in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e17:
        return int(value)
    return value


def json_string(text: bytes) -> bytes:
    """The bytes as a JSON string."""
    if _PLAIN_STRING.fullmatch(text):
        return b'"%b"' % text
    try:
        return _encode_json(text.decode())
    except UnicodeDecodeError:
        return b"".join(b"\\u%04x" % byte if byte > 127 else _encode_json(chr(byte))[1:-1] for byte in text).join(
            (b'"', b'"')
        )


_Part = bytes | Callable[[StreamInfo], bytes]
_Node = Callable[[StreamInfo], bytes | None]


class JsonFormatter:
    """A JSON object compiled from its format; `render` gives it on one line without the newline."""

    __slots__ = ("_parts", "_root")

    def __init__(self, format: JsonFormat, environment: FormatEnvironment) -> None:
        self._root: _Node | None = None
        self._parts: list[_Part] = []
        if format.omit_empty_values:
            self._root = _omitting_node(format.root, environment)
        else:
            _add_parts(format.root, environment, self._parts)
            self._parts = _joined(self._parts)

    def __repr__(self) -> str:
        return f"<JsonFormatter {len(self._parts)} parts>"

    def render(self, info: StreamInfo) -> bytes:
        """The object for this stream."""
        if self._root is not None:
            return self._root(info) or b"{}"
        return b"".join([part if type(part) is bytes else part(info) for part in self._parts])  # type: ignore[operator]


def _value_of(node: JsonText, environment: FormatEnvironment, *, omit_empty: bool = False) -> bytes | _Node:
    """How to render a leaf: constant text, or a function whose None means "missing"."""
    if len(node.format) == 1 and isinstance(operator := node.format[0], FormatOperator):
        get = _getter(operator, environment)

        def typed(info: StreamInfo) -> bytes | None:
            value = get(info)
            if type(value) is bytes:
                return json_string(value)
            if value is None:
                return None
            return b"%d" % value if type(value) is int else _encode_json(_plain_value(value))

        return typed
    formatter = Formatter(node.format, environment, omit_empty=omit_empty)
    if formatter.constant is not None:
        return json_string(formatter.constant)
    return lambda info: json_string(formatter.render(info))


def _constant(node: JsonConstant) -> bytes:
    value = node.value
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e17:
        return b"%d" % value
    return repr(value).encode() if isinstance(value, float) else _encode_json(value)


def _sorted_fields(node: JsonObject) -> list[tuple[bytes, JsonNode]]:
    return [(_encode_json(key), value) for key, value in sorted(node.fields, key=lambda field: field[0].encode())]


def _add_parts(node: JsonNode, environment: FormatEnvironment, parts: list[_Part]) -> None:
    if isinstance(node, JsonConstant):
        parts.append(_constant(node))
    elif isinstance(node, JsonText):
        value = _value_of(node, environment)
        parts.append(value if isinstance(value, bytes) else _or_null(value))
    elif isinstance(node, JsonList):
        parts.append(b"[")
        for position, item in enumerate(node.items):
            if position:
                parts.append(b",")
            _add_parts(item, environment, parts)
        parts.append(b"]")
    else:
        parts.append(b"{")
        for position, (key, item) in enumerate(_sorted_fields(node)):
            parts.append(b"%b%b:" % (b"," if position else b"", key))
            _add_parts(item, environment, parts)
        parts.append(b"}")


def _or_null(render: _Node) -> Callable[[StreamInfo], bytes]:
    return lambda info: render(info) or b"null"


def _joined(parts: list[_Part]) -> list[_Part]:
    joined: list[_Part] = []
    for part in parts:
        if isinstance(part, bytes) and joined and isinstance(last := joined[-1], bytes):
            joined[-1] = last + part
        else:
            joined.append(part)
    return joined


def _omitting_node(node: JsonNode, environment: FormatEnvironment) -> _Node:
    """`omit_empty_values`: missing values, nulls and objects without members are left out wherever they are."""
    if isinstance(node, JsonConstant):
        constant = None if node.value is None else _constant(node)
        return lambda info: constant
    if isinstance(node, JsonText):
        value = _value_of(node, environment, omit_empty=True)
        return value if not isinstance(value, bytes) else lambda info: value
    if isinstance(node, JsonList):
        items = [_omitting_node(item, environment) for item in node.items]
        return lambda info: b"[%b]" % b",".join([text for item in items if (text := item(info)) is not None])
    fields = [(key, _omitting_node(item, environment)) for key, item in _sorted_fields(node)]

    def render(info: StreamInfo) -> bytes | None:
        members = [b"%b:%b" % (key, text) for key, item in fields if (text := item(info)) is not None]
        return b"{%b}" % b",".join(members) if members else None

    return render
