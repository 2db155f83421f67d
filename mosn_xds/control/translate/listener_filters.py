"""Listener filters: what looks at a connection before its chain is chosen. An unknown one refuses the listener."""

from msgspec.structs import replace

from mosn_xds.control.translate.configured import is_skipped
from mosn_xds.control.translate.context import Context
from mosn_xds.control.translate.registry import Category
from mosn_xds.control.translate.rpc_codecs import named
from mosn_xds.control.translate.take import Take
from mosn_xds.control.translate.transport import take_passed_tlvs
from mosn_xds.spec.listener import ListenerFilter, ListenerFilterKind, PortPredicate, ProxyProtocolRules

_PROXY_NAMESPACE = "envoy.filters.listener.proxy_protocol"


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
        found += [replace(made, name=name, disabled=disabled) for made in extension.value]
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


_Made = tuple[ListenerFilter, ...]


def _of(kind: ListenerFilterKind, rules: ProxyProtocolRules | None = None) -> _Made:
    return (ListenerFilter(kind, "", proxy_protocol=rules or ProxyProtocolRules()),)


def original_dst(take: Take, context: Context, name: str) -> _Made:
    """envoy.filters.listener.original_dst."""
    return _of(ListenerFilterKind.ORIGINAL_DST)


def tls_inspector(take: Take, context: Context, name: str) -> _Made:
    """envoy.filters.listener.tls_inspector."""
    return _of(ListenerFilterKind.TLS_INSPECTOR)


def http_inspector(take: Take, context: Context, name: str) -> _Made:
    """envoy.filters.listener.http_inspector."""
    return _of(ListenerFilterKind.HTTP_INSPECTOR)


def proxy_protocol(take: Take, context: Context, name: str) -> _Made:
    """envoy.filters.listener.proxy_protocol."""
    rules = []
    for one in take.children("rules"):
        target = one.child("on_tlv_present")
        if target is not None:
            namespace = target.text("metadata_namespace") or _PROXY_NAMESPACE
            rules.append((one.integer("tlv_type"), namespace, target.text("key")))
    passes_all, passed = take_passed_tlvs(take)
    versions = [number + 1 for number in take.integers("disallowed_versions")]
    return _of(
        ListenerFilterKind.PROXY_PROTOCOL,
        ProxyProtocolRules(
            tuple(rules), take.flag("allow_requests_without_proxy_protocol"), passes_all, passed, tuple(versions)
        ),
    )


def protocol_inspector(take: Take, context: Context, name: str) -> _Made:
    """mosn_xds.extensions.rpc.v1.ProtocolInspector."""
    uses = tuple([use for one in take.children("protocols") for use in named(one, context, name)])
    return (ListenerFilter(ListenerFilterKind.PROTOCOL_INSPECTOR, "", protocols=uses),)


def original_src(take: Take, context: Context, name: str) -> _Made:
    """envoy.filters.listener.original_src: upstreams see this machine's address, not the client's."""
    why = "connections to upstreams come from this machine's own address"
    take.left.clear()
    take.ignore("", why)
    take.warn("", f"{name} has no effect: {why}")
    return ()
