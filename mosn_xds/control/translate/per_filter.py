"""`typed_per_filter_config`: what HTTP filters are told for one route table, virtual host, route or cluster weight."""

from typing import Any

from mosn_xds.control.translate.context import Context
from mosn_xds.control.translate.extension_filter import checked, take_extension_filter
from mosn_xds.control.translate.registry import Category
from mosn_xds.control.translate.take import Take
from mosn_xds.spec.filters import ExtensionFilter, FilterDisabled, FilterEnabled, PerFilter
from mosn_xds.xds.messages import short_type, unpack

_WRAPPER = "envoy.config.route.v3.FilterConfig"


def take_per_filter(
    take: Take, context: Context, field: str = "typed_per_filter_config"
) -> tuple[tuple[str, PerFilter], ...]:
    """Sorted by filter name. A filter that this proxy does not know fails its chain as it is; what a route says about it
    is reported."""
    configs = take.mapping(field)
    if not configs:
        return ()
    found = []
    for name in sorted(configs):
        value = _translate(take, f"{field}.{name}", name, configs[name], context)
        if value is not None:
            found.append((name, value))
    return tuple(found)


def _translate(take: Take, key: str, name: str, config: Any, context: Context) -> PerFilter | None:
    if short_type(config.type_url) == _WRAPPER:
        wrapper = context.open(unpack(config), config.value, take.report, take, key)
        wrapper.skip("is_optional")  # what is unknown is left out either way
        if wrapper.flag("disabled"):
            wrapper.skip("config")
            return FilterDisabled()
        inner = wrapper.message_of("config")
        if inner is None or not inner.type_url:
            return FilterEnabled()
        config, key = inner, f"{key}.config"
    found = context.extension_of(take, key, config, Category.ROUTE_CONFIG, name)
    if isinstance(found.value, ExtensionFilter):
        return checked(take, context, key, found.value, of_route=True)
    if found.value is None:
        entry = context.registry.stream_filter(found.type_name, name)
        if entry is not None:
            return take_extension_filter(take, context, key, config, entry, of_route=True)
        take.ignore(key, f"no per-route configuration of type {found.type_name} is known")
        return None
    value: PerFilter = found.value
    return value
