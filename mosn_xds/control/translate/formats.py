"""Substitution formats: header values, log lines, bodies of local replies (core.SubstitutionFormatString)."""

import os
from pathlib import Path
from typing import Any

from mosn_xds.base.errors import ConfigError
from mosn_xds.control.translate.common import struct_dict
from mosn_xds.control.translate.context import Context
from mosn_xds.control.translate.format_arguments import check_operator
from mosn_xds.control.translate.registry import Category
from mosn_xds.control.translate.take import Take
from mosn_xds.spec.access_log import JsonConstant, JsonFormat, JsonList, JsonNode, JsonObject, JsonText
from mosn_xds.spec.common import Format, FormatOperator
from mosn_xds.spec.format import INERT_OPERATORS, OPERATORS, parse_format

_KNOWN = OPERATORS | INERT_OPERATORS


def read_format(text: str, take: Take, name: str) -> Format:
    """Parse `text`, which stands in the field `name` of `take`. Raises ConfigError; operators without a value here are
    reported."""
    try:
        parts = parse_format(text, _KNOWN)
        for part in parts:
            if isinstance(part, FormatOperator):
                check_operator(part)
    except ConfigError as error:
        raise take.error(name, error.reason, error.hint) from None
    for part in parts:
        if isinstance(part, FormatOperator) and part.name in INERT_OPERATORS:
            take.ignore(name, f"%{part.name}% has no value here")
    return parts


def read_data_source(take: Take) -> bytes:
    """core.DataSource: inline, from a file or from the environment. Raises ConfigError for what cannot be read."""
    if take.has("watched_directory"):
        take.ignore("watched_directory", "files are read once")
    if take.has("filename"):
        path = take.text("filename")
        try:
            return Path(path).read_bytes()
        except OSError as error:
            raise take.error("filename", f"unable to read file: {path}", error.strerror or "") from None
    if take.has("environment_variable"):
        variable = take.text("environment_variable")
        value = os.environ.get(variable)
        if value is None:
            raise take.error("environment_variable", f"Environment variable doesn't exist: {variable}")
        return value.encode()
    if take.has("inline_string"):
        return take.text("inline_string").encode()
    return take.raw("inline_bytes")


def take_format_string(take: Take, context: Context) -> Format | JsonFormat:
    """core.SubstitutionFormatString but its content_type, which the caller takes. A text may lack its line's end."""
    for formatter in take.children("formatters"):
        name = formatter.text("name")
        found = context.extension(formatter, "typed_config", Category.FORMATTER, name)
        if found.value is None:
            formatter.ignore("", "its operators have no value here")
    omit_empty = take.flag("omit_empty_values")
    if take.has("json_format"):
        options = take.child("json_format_options")
        if options is not None:
            options.skip("sort_properties")  # they always are sorted
        return read_json_format(take.message_of("json_format"), take, "json_format", omit_empty)
    if take.has("json_format_options"):
        take.ignore("json_format_options", "not a JSON format")
    if omit_empty:
        take.ignore("omit_empty_values", "not a JSON format")
    if take.has("text_format"):
        return read_format(take.text("text_format"), take, "text_format")
    source = take.child("text_format_source")
    if source is None:
        raise take.error("", 'Proto constraint validation failed (field: "format", reason: is required)')
    return read_format(read_data_source(source).decode("utf-8", "replace"), take, "text_format_source")


def read_json_format(struct: Any, take: Take, name: str, omit_empty: bool = False) -> JsonFormat:
    """A Struct of formats, which stands in the field `name` of `take`."""
    return JsonFormat(_json_object(struct_dict(struct), take, name), omit_empty)


def _json_object(fields: dict[str, Any], take: Take, name: str) -> JsonObject:
    return JsonObject(tuple([(key, _json_node(fields[key], take, name)) for key in sorted(fields)]))


def _json_node(value: Any, take: Take, name: str) -> JsonNode:
    if isinstance(value, str):
        return JsonText(read_format(value, take, name))
    if isinstance(value, dict):
        return _json_object(value, take, name)
    if isinstance(value, list):
        return JsonList(tuple([_json_node(item, take, name) for item in value]))
    return JsonConstant(value)


def req_without_query(take: Take, context: Context, name: str) -> bool:
    """envoy.formatter.req_without_query: its operator is one of ours."""
    return True
