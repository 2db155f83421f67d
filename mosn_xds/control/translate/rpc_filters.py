"""The stream filters of an RPC proxy: Envoy's generic router, those HTTP filters that mean the same for any request, and
those of other packages.

As for HTTP, what is not known fails closed.
"""

from dataclasses import dataclass

from mosn_xds.control.translate.configured import Configured, is_left_out, is_skipped
from mosn_xds.control.translate.context import Context
from mosn_xds.control.translate.extension_filter import checked, take_extension_filter
from mosn_xds.control.translate.registry import Category
from mosn_xds.control.translate.take import Take
from mosn_xds.spec.filters import ExtensionFilter, HttpFilter, UnknownFilter


@dataclass(frozen=True, slots=True)
class GenericRouter:
    """`bind_upstream`: each downstream connection has an upstream connection of its own."""

    bind_upstream: bool


@dataclass(frozen=True, slots=True)
class RpcFilters:
    """The filters before the router, and the router."""

    filters: tuple[HttpFilter, ...]
    router: GenericRouter


def take_rpc_filters(parent: Take, context: Context, name: str = "filters") -> RpcFilters:
    """Repeated core.TypedExtensionConfig. Raises ConfigError unless the router is the last, and only the last."""
    found: list[HttpFilter] = []
    router: GenericRouter | None = None
    router_name = ""
    for take in parent.children(name):
        if router is not None:
            raise take.error("", f"Terminal filter: {router_name} must be the last generic L7 filter")
        one = _take_filter(take, context)
        if isinstance(one, GenericRouter):
            router, router_name = one, take.message.name
        elif one is not None:
            found.append(one)
    if router is None:
        if found and isinstance(found[-1].config, UnknownFilter):
            return RpcFilters(tuple(found), GenericRouter(False))
        raise parent.error(name, "A terminal L7 filter is necessary for generic proxy")
    return RpcFilters(tuple(found), router)


def _take_filter(take: Take, context: Context) -> HttpFilter | GenericRouter | None:
    name = take.text("name")
    if is_skipped(take, context, name):
        return None
    config = take.message_of("typed_config")
    if config is None:
        raise take.error("typed_config", "a filter needs its configuration")
    found = context.extension_of(take, "typed_config", config, Category.RPC_FILTER, name)
    if isinstance(found.value, GenericRouter):
        return found.value
    if isinstance(found.value, ExtensionFilter):
        return HttpFilter(name, checked(take, context, "typed_config", found.value))
    if found.value is not None:
        return HttpFilter(name, found.value)
    entry = context.registry.stream_filter(found.type_name, name)
    if entry is not None:
        return HttpFilter(name, take_extension_filter(take, context, "typed_config", config, entry))
    shown = f"{name} of type {found.type_name}"
    return _unknown(take, Configured(name, found.type_name, None, config, "typed_config", shown))


def _unknown(take: Take, found: Configured) -> HttpFilter | None:
    if is_left_out(take, found):
        return None
    reason = f"unknown RPC filter {found.shown}"
    take.warn("", f"{reason}: requests of its chain are answered with an error")
    return HttpFilter(found.name, UnknownFilter(found.type_name, reason))


def generic_router(take: Take, context: Context, name: str) -> GenericRouter:
    """generic_proxy.router.v3.Router"""
    return GenericRouter(take.flag("bind_upstream_connection"))
