"""Listeners (envoy.config.listener.v3.Listener): addresses, socket, listener filters, chains."""

from typing import Any

import msgspec

from mosn_xds.control.translate.access_log import take_access_logs
from mosn_xds.control.translate.chain_match import refuse_overlap
from mosn_xds.control.translate.common import raw_of, take_address, take_socket_options
from mosn_xds.control.translate.context import Context
from mosn_xds.control.translate.listener_filters import take_listener_filters
from mosn_xds.control.translate.network_filters import take_filter_chain
from mosn_xds.control.translate.take import Report, Take
from mosn_xds.spec.common import Address
from mosn_xds.spec.listener import FilterChain, HttpConnectionManager, Listener, TrafficDirection
from mosn_xds.spec.snapshot import digest, encode

_BUFFER_LIMIT_BYTES = 1 << 20
_FILTERS_TIMEOUT_S = 15.0


def take_listener(take: Take, context: Context) -> Listener:
    """What its chains wait for is in the report's needs."""
    name = take.text("name")
    _refuse_kinds(take)
    if not take.has("address"):
        raise take.error("address", f"error adding listener named '{name}': address is necessary")
    addresses, ipv4_compat = _take_addresses(take)
    shown = ",".join([str(address) for address in addresses])
    name = name or shown
    chains = tuple(
        [
            _take_chain(take, f"filter_chains[{number}]", message, context, shown)
            for number, message in enumerate(take.messages("filter_chains"))
        ]
    )
    refuse_overlap(chains, shown)
    default_message = take.message_of("default_filter_chain")
    default = (
        None if default_message is None else _take_chain(take, "default_filter_chain", default_message, context, shown)
    )
    if not chains and default is None:
        raise take.error("filter_chains", f"error adding listener '{shown}': no filter chains specified")
    buffer = take.wrapped_integer("per_connection_buffer_limit_bytes")
    timeout_s = take.duration("listener_filters_timeout")
    limit = context.options.runtime.get(f"envoy.resource_limits.listener.{name}.connection_limit")
    take.ignore_given(
        bypass_overload_manager="there is no overload manager",
        ignore_global_conn_limit="there is no global limit",
    )
    listener = Listener(
        name=name,
        addresses=addresses,
        chains=chains,
        default_chain=default,
        listener_filters=take_listener_filters(take, context),
        listener_filters_timeout_s=_FILTERS_TIMEOUT_S if timeout_s is None else timeout_s or None,
        continue_on_listener_filters_timeout=take.flag("continue_on_listener_filters_timeout"),
        bind_to_port=_take_bind_to_port(take),
        use_original_dst=bool(take.wrapped_flag("use_original_dst")),
        transparent=bool(take.wrapped_flag("transparent")),
        freebind=bool(take.wrapped_flag("freebind")),
        reuse_port=take.wrapped_flag("enable_reuse_port") is not False,
        ipv4_compat=ipv4_compat,
        tcp_backlog=take.wrapped_integer("tcp_backlog_size"),
        buffer_limit_bytes=_BUFFER_LIMIT_BYTES if buffer is None else buffer,
        socket_options=take_socket_options(take, "socket_options"),
        access_logs=take_access_logs(take, context),
        direction=take.enum("traffic_direction", TrafficDirection),
        stat_prefix=take.text("stat_prefix"),
        connection_limit=limit if isinstance(limit, int) else None,
        drain_modify_only=take.integer("drain_type") == 1,
        max_accepts_per_event=take.wrapped_integer("max_connections_to_accept_per_socket_event"),
        route_tables=_route_tables(chains, default),
    )
    return _with_uids(listener)


def _refuse_kinds(take: Take) -> None:
    for name in ("internal_listener", "api_listener", "udp_listener_config", "filter_chain_matcher"):
        if take.has(name):
            raise take.error(name, f"{name} is not supported")


def _take_addresses(take: Take) -> tuple[tuple[Address, ...], bool]:
    message: Any = take.message
    compat = message.address.socket_address.ipv4_compat
    addresses = [take_address(take, "address")]
    addresses += [take_address(one, "address") for one in take.children("additional_addresses")]
    return tuple(addresses), compat


def _take_bind_to_port(take: Take) -> bool:
    old = take.child("deprecated_v1")
    given = take.wrapped_flag("bind_to_port")
    if given is None and old is not None:
        given = old.wrapped_flag("bind_to_port")
    return given is not False


def _take_chain(take: Take, key: str, message: Any, context: Context, listener: str) -> FilterChain:
    raw = raw_of(message)

    def make(report: Report) -> FilterChain:
        camel = "FilterChains" + key[key.index("[") :] if "[" in key else "DefaultFilterChain"
        context.validator.validate(message, above=f"ListenerValidationError.{camel}")
        return take_filter_chain(Take(message, report), context, digest(raw), listener)

    return context.part(take, key, raw, "filter chain", make)


def _route_tables(chains: tuple[FilterChain, ...], default: FilterChain | None) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for chain in chains if default is None else (*chains, default):
        for one in chain.filters:
            if isinstance(one, HttpConnectionManager) and one.rds:
                found[one.rds] = None
    return tuple(found)


def _with_uids(listener: Listener) -> Listener:
    socket = (
        listener.addresses,
        listener.bind_to_port,
        listener.transparent,
        listener.freebind,
        listener.reuse_port,
        listener.ipv4_compat,
        listener.tcp_backlog,
        listener.socket_options,
        listener.keepalive,
    )
    base = msgspec.structs.replace(listener, chains=(), default_chain=None, route_tables=())
    return msgspec.structs.replace(listener, socket_uid=digest(encode(socket)), base_uid=digest(encode(base)))
