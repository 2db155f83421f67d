"""`local_reply_config`: how the connection manager rewrites answers that the proxy gives by itself."""

from mosn_xds.control.translate.access_log import take_log_filter
from mosn_xds.control.translate.context import Context
from mosn_xds.control.translate.formats import read_data_source, take_format_string
from mosn_xds.control.translate.header_ops import take_header_values
from mosn_xds.control.translate.take import Take
from mosn_xds.spec.access_log import JsonFormat
from mosn_xds.spec.listener import LocalReplyMapper, ReplyFormat


def take_local_reply(hcm: Take, context: Context) -> tuple[tuple[LocalReplyMapper, ...], ReplyFormat | None]:
    """The mappers in order, and the format for all replies."""
    take = hcm.child("local_reply_config")
    if take is None:
        return (), None
    mappers = tuple([_take_mapper(one, context) for one in take.children("mappers")])
    return mappers, _take_format(take.child("body_format"), context)


def _take_mapper(take: Take, context: Context) -> LocalReplyMapper:
    condition = take.child("filter")
    if condition is None:
        raise take.error("filter", "a filter is required")
    body = take.child("body")
    return LocalReplyMapper(
        take_log_filter(condition, context),
        take.wrapped_integer("status_code"),
        None if body is None else read_data_source(body).decode("utf-8", "replace"),
        _take_format(take.child("body_format_override"), context),
        take_header_values(take, "headers_to_add"),
    )


def _take_format(take: Take | None, context: Context) -> ReplyFormat | None:
    if take is None:
        return None
    content_type = take.text("content_type")
    found = take_format_string(take, context)
    if isinstance(found, JsonFormat):
        return ReplyFormat(None, found, content_type)
    return ReplyFormat(found, None, content_type)
