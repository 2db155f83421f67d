"""Filter chains: network filters in order, and the transport below them.

A chain is a part, and its uid is the digest of its bytes: an equal chain keeps its connections across updates.
"""

from mosn_xds.control.translate.chain_match import take_chain_match
from mosn_xds.control.translate.configured import is_left_out, is_skipped, take_configured
from mosn_xds.control.translate.context import Context
from mosn_xds.control.translate.registry import Category, factory_name
from mosn_xds.control.translate.rpc_effects import without_effect
from mosn_xds.control.translate.take import Take
from mosn_xds.control.translate.transport import take_transport
from mosn_xds.spec.listener import CloseConnection, FilterChain, HttpConnectionManager, NetworkFilter, TcpProxy
from mosn_xds.spec.rpc import RpcProxy
from mosn_xds.spec.snapshot import digest, encode

_TERMINAL = (HttpConnectionManager, TcpProxy, RpcProxy)


def take_filter_chain(take: Take, context: Context, uid: bytes, listener: str) -> FilterChain:
    """listener.FilterChain; `listener` are the addresses that errors name."""
    name = take.text("name")
    if take.wrapped_flag("use_proxy_proto"):
        raise take.error(
            "use_proxy_proto", "use_proxy_proto is not supported", "use the proxy_protocol listener filter"
        )
    match = take_chain_match(take.child("filter_chain_match"), listener, name)
    transport = take_transport(take, "transport_socket", Category.DOWNSTREAM_TRANSPORT, context)
    filters = _take_filters(take, context)
    timeout_s = take.duration("transport_socket_connect_timeout") or None
    if take.report.files:  # what they hold is part of the chain
        uid = digest(uid + encode(transport.downstream))
    return FilterChain(uid, name, match, filters, transport.kind, timeout_s, transport.downstream)


def _take_filters(parent: Take, context: Context) -> tuple[NetworkFilter, ...]:
    takes = parent.children("filters")
    found: list[NetworkFilter] = []
    last = len(takes) - 1
    for number, take in enumerate(takes):
        network_filter = _take_filter(take, context)
        said = f"filter named {take.message.name} of type {factory_name(take.message.typed_config.type_url)}"
        terminal = isinstance(network_filter, _TERMINAL)
        if terminal and number != last:
            raise take.error("", f"Error: terminal {said} must be the last filter in a network filter chain.")
        if number == last and not terminal and not isinstance(network_filter, CloseConnection):
            raise take.error("", f"Error: non-terminal {said} is the last filter in a network filter chain.")
        if network_filter is not None:
            found.append(network_filter)
    return tuple(found)


def _take_filter(take: Take, context: Context) -> NetworkFilter | None:
    name = take.text("name")
    if is_skipped(take, context, name):
        return None
    found = take_configured(take, context, Category.NETWORK_FILTER, name)
    if found.value is not None:
        network_filter: NetworkFilter = found.value
        if isinstance(network_filter, RpcProxy) and network_filter.routes is not None:
            for text in without_effect(network_filter, network_filter.routes, context.registry):
                take.warn(found.key, text)
        return network_filter
    if is_left_out(take, found):
        return None
    reason = f"unknown network filter {found.shown}"
    take.warn("", f"{reason}: connections of its chain are closed")
    return CloseConnection(name, reason)
