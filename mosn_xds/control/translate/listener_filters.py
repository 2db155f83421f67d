"""Listener filters: what looks at a connection before its chain is chosen. An unknown one refuses the listener."""

from mosn_xds.control.translate.configured import is_skipped
from mosn_xds.control.translate.context import Context
from mosn_xds.control.translate.registry import Category
from mosn_xds.control.translate.take import Take
from mosn_xds.spec.listener import ListenerFilter, ListenerFilterKind, PortPredicate


def take_listener_filters(parent: Take, context: Context) -> tuple[ListenerFilter, ...]:
    """Repeated listener.ListenerFilter."""
    found = []
    for take in parent.children("listener_filters"):
        name = take.text("name")
        if is_skipped(take, context, name):
            continue
        extension = context.extension(take, "typed_config", Category.LISTENER_FILTER, name)
        if extension.value is None:
            raise take.error(
                take.one_of("config_discovery") or "typed_config",
                f"Didn't find a registered implementation for '{name}' with type URL: '{extension.type_name}'",
            )
        predicate = take.child("filter_disabled")
        disabled = None if predicate is None else _take_predicate(predicate)
        found += [ListenerFilter(kind, name, disabled) for kind in extension.value]
    return tuple(found)


def _take_predicate(take: Take) -> PortPredicate:
    for name, kind in (("or_match", "or"), ("and_match", "and")):
        group = take.child(name)
        if group is not None:
            return PortPredicate(kind, tuple([_take_predicate(one) for one in group.children("rules")]))
    inverted = take.child("not_match")
    if inverted is not None:
        return PortPredicate("not", (_take_predicate(inverted),))
    span = take.child("destination_port_range")
    if span is not None:
        return PortPredicate("port", (), span.integer("start"), span.integer("end"))
    take.skip("any_match")
    return PortPredicate("any")


_Kinds = tuple[ListenerFilterKind, ...]


def original_dst(take: Take, context: Context, name: str) -> _Kinds:
    """envoy.filters.listener.original_dst."""
    return (ListenerFilterKind.ORIGINAL_DST,)


def tls_inspector(take: Take, context: Context, name: str) -> _Kinds:
    """envoy.filters.listener.tls_inspector."""
    return (ListenerFilterKind.TLS_INSPECTOR,)


def http_inspector(take: Take, context: Context, name: str) -> _Kinds:
    """envoy.filters.listener.http_inspector."""
    return (ListenerFilterKind.HTTP_INSPECTOR,)


def proxy_protocol(take: Take, context: Context, name: str) -> _Kinds:
    """envoy.filters.listener.proxy_protocol."""
    return (ListenerFilterKind.PROXY_PROTOCOL,)


def original_src(take: Take, context: Context, name: str) -> _Kinds:
    """envoy.filters.listener.original_src: upstreams see this machine's address, not the client's."""
    why = "connections to upstreams come from this machine's own address"
    take.left.clear()
    take.ignore("", why)
    take.warn("", f"{name} has no effect: {why}")
    return ()
