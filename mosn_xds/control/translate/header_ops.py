"""Headers to add and remove, with the formats of their values (core.HeaderValueOption)."""

from mosn_xds.control.translate.formats import read_format
from mosn_xds.control.translate.take import Take
from mosn_xds.spec.common import AppendAction, FormatText, HeaderOps, HeaderValue

NO_OPS = HeaderOps()

_FIELDS = (
    "request_headers_to_add",
    "request_headers_to_remove",
    "response_headers_to_add",
    "response_headers_to_remove",
)


def take_header_ops(take: Take, *, keep_case: bool = False) -> HeaderOps:
    """The four fields of one level (cluster weight, route, virtual host, route table). `keep_case`: of names, for properties
    of RPCs."""
    if take.one_of(*_FIELDS) is None:
        return NO_OPS
    return HeaderOps(
        take_header_values(take, "request_headers_to_add", keep_case=keep_case),
        _take_removals(take, "request_headers_to_remove", keep_case),
        take_header_values(take, "response_headers_to_add", keep_case=keep_case),
        _take_removals(take, "response_headers_to_remove", keep_case),
    )


def take_header_values(parent: Take, name: str, *, keep_case: bool = False) -> tuple[HeaderValue, ...]:
    """Repeated core.HeaderValueOption. Raises ConfigError for what Envoy would not change either."""
    return tuple([_take_header_value(take, keep_case) for take in parent.children(name)])


def _take_header_value(take: Take, keep_case: bool) -> HeaderValue:
    header = take.child("header")
    if header is None:
        raise take.error("header", "a header is required")
    given = header.text("key")
    name = given.lower()
    if name.startswith(":") or name == "host":
        raise header.error("key", ":-prefixed or host headers may not be modified")
    append = take.wrapped_flag("append")
    action = take.enum("append_action", AppendAction)
    if append is not None:
        if action is not AppendAction.APPEND_IF_EXISTS_OR_ADD:
            raise take.error("append", "Both append and append_action are set and it's not allowed")
        action = AppendAction.APPEND_IF_EXISTS_OR_ADD if append else AppendAction.OVERWRITE_IF_EXISTS_OR_ADD
    keep_empty = take.flag("keep_empty_value")
    name = given if keep_case else name
    if header.has("raw_value"):
        value = header.raw("raw_value").decode("latin-1")
        return HeaderValue(name, (FormatText(value),) if value else (), action, keep_empty)
    return HeaderValue(name, read_format(header.text("value"), header, "value"), action, keep_empty)


def _take_removals(take: Take, name: str, keep_case: bool) -> tuple[str, ...]:
    given = take.texts(name)
    names = tuple([header.lower() for header in given])
    for header in names:
        if header.startswith(":") or header == "host":
            raise take.error(name, ":-prefixed or host headers may not be removed")
    return given if keep_case else names
