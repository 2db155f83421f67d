"""The HTTP filters of a connection manager, in order.

What is not known fails closed: leaving out a policy would be worse than an error that everybody sees. Left out are filters
that say that they are optional, types known to decide nothing, and names that the operator lists in the node's metadata
(``MOSN_XDS_SKIP_FILTERS``).
"""

from mosn_xds.control.translate.configured import is_left_out, is_skipped, take_configured
from mosn_xds.control.translate.context import Context
from mosn_xds.control.translate.extension_filter import checked, take_extension_filter
from mosn_xds.control.translate.registry import Category, factory_name
from mosn_xds.control.translate.take import Take
from mosn_xds.spec.filters import ExtensionFilter, HttpFilter, RouterFilter, UnknownFilter


def take_http_filters(parent: Take, context: Context, name: str = "http_filters") -> tuple[HttpFilter, ...]:
    """Repeated HttpFilter. Raises ConfigError unless the terminal filter is the last, and only the last."""
    takes = parent.children(name)
    found = []
    last = len(takes) - 1
    for number, take in enumerate(takes):
        http_filter = _take_filter(take, context)
        terminal = http_filter is not None and isinstance(http_filter.config, RouterFilter)
        said = f"filter named {take.message.name} of type {factory_name(take.message.typed_config.type_url)}"
        if terminal and number != last:
            raise take.error("", f"Error: terminal {said} must be the last filter in a http filter chain.")
        if number == last and not terminal and not isinstance(http_filter and http_filter.config, UnknownFilter):
            raise take.error("", f"Error: non-terminal {said} is the last filter in a http filter chain.")
        if http_filter is not None:
            if terminal and http_filter.disabled:
                name = take.message.name
                raise take.error(
                    "disabled",
                    f"Error: the last (terminal) filter ({name}) in the chain cannot be disabled by default.",
                )
            found.append(http_filter)
    return tuple(found)


def _take_filter(take: Take, context: Context) -> HttpFilter | None:
    name = take.text("name")
    optional = take.flag("is_optional")
    disabled = take.flag("disabled")
    if is_skipped(take, context, name):
        return None
    found = take_configured(take, context, Category.HTTP_FILTER, name)
    if isinstance(found.value, ExtensionFilter):
        return HttpFilter(name, checked(take, context, found.key, found.value), disabled)
    if found.value is not None:
        return HttpFilter(name, found.value, disabled)
    entry = context.registry.stream_filter(found.type_name, name)
    if entry is not None and found.any_message is not None:
        return HttpFilter(name, take_extension_filter(take, context, found.key, found.any_message, entry), disabled)
    if is_left_out(take, found, optional=optional):
        return None
    reason = f"unknown HTTP filter {found.shown}"
    take.warn("", f"{reason}: requests of its chain are answered 503")
    return HttpFilter(name, UnknownFilter(found.type_name, reason), disabled)
