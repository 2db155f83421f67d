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

_DUBBO_ROUTER = "envoy.filters.dubbo.router"


@dataclass(frozen=True, slots=True)
class GenericRouter:
    """`bind_upstream`: each downstream connection has an upstream connection of its own."""

    bind_upstream: bool = False


@dataclass(frozen=True, slots=True)
class RpcFilters:
    """The filters before the router, and the router."""

    filters: tuple[HttpFilter, ...]
    router: GenericRouter


def take_rpc_filters(parent: Take, context: Context) -> RpcFilters:
    """GenericProxy.filters. Raises ConfigError unless the router is the last, and only the last."""
    found: list[HttpFilter] = []
    router: GenericRouter | None = None
    router_name = ""
    for take in parent.children("filters"):
        if router is not None:
            raise take.error("", f"Terminal filter: {router_name} must be the last generic L7 filter")
        one = _take_filter(take, context, "typed_config")
        if isinstance(one, GenericRouter):
            router, router_name = one, take.message.name
        elif one is not None:
            found.append(one)
    if router is None and not (found and isinstance(found[-1].config, UnknownFilter)):
        raise parent.error("filters", "A terminal L7 filter is necessary for generic proxy")
    return RpcFilters(tuple(found), router or GenericRouter())


def take_routed_filters(parent: Take, context: Context, field: str, config: str) -> tuple[HttpFilter, ...]:
    """Repeated DubboFilter or ThriftFilter in `field`, with their configuration in `config`: those before the router, which
    need not be there."""
    found: list[HttpFilter] = []
    routed = False
    for take in parent.children(field):
        one = _take_filter(take, context, config)
        routed = routed or isinstance(one, GenericRouter)
        if isinstance(one, HttpFilter) and not routed:
            found.append(one)
    return tuple(found)


def _take_filter(take: Take, context: Context, field: str) -> HttpFilter | GenericRouter | None:
    name = take.text("name")
    if is_skipped(take, context, name):
        return None
    config = take.message_of(field)
    if config is None:
        if name == _DUBBO_ROUTER:  # which Envoy finds by its name
            return GenericRouter()
        return _unknown(take, Configured(name, "", None, None, "", f"{name} without a configuration"))
    found = context.extension_of(take, field, config, Category.RPC_FILTER, name)
    if isinstance(found.value, GenericRouter):
        return found.value
    if isinstance(found.value, ExtensionFilter):
        return HttpFilter(name, checked(take, context, field, found.value))
    if found.value is not None:
        return HttpFilter(name, found.value)
    entry = context.registry.stream_filter(found.type_name, name)
    if entry is not None:
        return HttpFilter(name, take_extension_filter(take, context, field, config, entry))
    shown = f"{name} of type {found.type_name}"
    return _unknown(take, Configured(name, found.type_name, None, config, field, shown))


def _unknown(take: Take, found: Configured) -> HttpFilter | None:
    if is_left_out(take, found):
        return None
    reason = f"unknown RPC filter {found.shown}"
    take.warn("", f"{reason}: requests of its chain are answered with an error")
    return HttpFilter(found.name, UnknownFilter(found.type_name, reason))


def generic_router(take: Take, context: Context, name: str) -> GenericRouter:
    """generic_proxy.router.v3.Router"""
    return GenericRouter(take.flag("bind_upstream_connection"))


def dubbo_router(take: Take, context: Context, name: str) -> GenericRouter:
    """dubbo_proxy.router.v3.Router, which has no fields."""
    return GenericRouter()


def thrift_router(take: Take, context: Context, name: str) -> GenericRouter:
    """thrift_proxy.router.v3.Router"""
    if take.wrapped_flag("close_downstream_on_upstream_error") is False:
        take.ignore("close_downstream_on_upstream_error", "clients keep their connections in any case")
    return GenericRouter()
