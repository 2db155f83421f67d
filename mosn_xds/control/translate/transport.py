"""Transport sockets: plaintext or TLS, for listeners and clusters."""

from dataclasses import dataclass, replace

from mosn_xds.control.translate.context import Context
from mosn_xds.control.translate.registry import Category
from mosn_xds.control.translate.take import Take
from mosn_xds.control.translate.tls import take_downstream_tls, take_upstream_tls
from mosn_xds.spec.cluster import UpstreamProxyProtocol
from mosn_xds.spec.tls import DownstreamTls, UpstreamTls

RAW, TLS = "raw_buffer", "tls"


@dataclass(frozen=True, slots=True)
class Transport:
    """A transport socket: its kind, and what it demands if that is TLS, on one side or the other."""

    kind: str = RAW
    downstream: DownstreamTls | None = None
    upstream: UpstreamTls | None = None
    proxy_protocol: UpstreamProxyProtocol | None = None


def take_transport(parent: Take, name: str, category: Category, context: Context) -> Transport:
    """The transport in the field `name`, plaintext when absent. Raises ConfigError for an unknown one: neither plaintext
    nor a guess may stand in for it."""
    take = parent.child(name)
    if take is None:
        return Transport()
    extension_name = take.text("name")
    found = context.extension(take, "typed_config", category, extension_name)
    if found.value is None:
        raise take.error(
            "typed_config",
            f"Didn't find a registered implementation for '{extension_name}' with type URL: '{found.type_name}'",
        )
    transport: Transport = found.value
    return transport


def raw_buffer(take: Take, context: Context, name: str) -> Transport:
    """envoy.transport_sockets.raw_buffer."""
    return Transport()


def downstream_tls(take: Take, context: Context, name: str) -> Transport:
    """envoy.transport_sockets.tls of a filter chain."""
    return Transport(TLS, downstream=take_downstream_tls(take, context))


def upstream_tls(take: Take, context: Context, name: str) -> Transport:
    """envoy.transport_sockets.tls of a cluster."""
    return Transport(TLS, upstream=take_upstream_tls(take, context))


def upstream_proxy_protocol(take: Take, context: Context, name: str) -> Transport:
    """envoy.transport_sockets.upstream_proxy_protocol: a PROXY header, then the transport socket that it wraps."""
    inner = take_transport(take, "transport_socket", Category.UPSTREAM_TRANSPORT, context)
    config = take.child("config")
    if config is None:
        return replace(inner, proxy_protocol=UpstreamProxyProtocol())
    passes_all, passed = take_passed_tlvs(config)
    added = [(one.integer("type"), one.raw("value")) for one in config.children("added_tlvs")]
    version = config.integer("version") + 1
    return replace(inner, proxy_protocol=UpstreamProxyProtocol(version, tuple(added), passes_all, passed))


def take_passed_tlvs(parent: Take) -> tuple[bool, tuple[int, ...]]:
    """core.ProxyProtocolPassThroughTLVs: whether all TLVs pass, and else which."""
    take = parent.child("pass_through_tlvs")
    if take is None:
        return False, ()
    everything = take.integer("match_type") == 0
    return everything, tuple(take.integers("tlv_type"))
