"""Clusters (envoy.config.cluster.v3.Cluster)."""

from dataclasses import dataclass

from mosn_xds.control.translate.common import (
    read_socket_address,
    take_keepalive,
    take_metadata,
    take_source,
)
from mosn_xds.control.translate.configured import is_left_out, is_skipped, take_configured
from mosn_xds.control.translate.context import Context
from mosn_xds.control.translate.endpoint import string_pairs, take_dns_localities, take_endpoints
from mosn_xds.control.translate.load_balancing import take_balancing
from mosn_xds.control.translate.model import DnsDiscovery, DnsFamily, Need
from mosn_xds.control.translate.registry import Category
from mosn_xds.control.translate.take import Take
from mosn_xds.control.translate.transport import take_transport
from mosn_xds.control.translate.upstream_options import take_upstream_options
from mosn_xds.spec.cluster import (
    Breakers,
    Cluster,
    ClusterProvided,
    Discovery,
    Endpoints,
    OriginalDst,
    TransportMatch,
    UpstreamProtocol,
)
from mosn_xds.spec.common import Address
from mosn_xds.spec.listener import MetadataExchange
from mosn_xds.xds.messages import TYPE_PREFIX

ENDPOINTS_URL = f"{TYPE_PREFIX}envoy.config.endpoint.v3.ClusterLoadAssignment"

_UNLIMITED = (1 << 32) - 1
_TLS = "tls"
_BY_NAME = {
    "envoy.cluster.static": Discovery.STATIC,
    "envoy.cluster.strict_dns": Discovery.STRICT_DNS,
    "envoy.cluster.logical_dns": Discovery.LOGICAL_DNS,
    "envoy.cluster.eds": Discovery.EDS,
    "envoy.cluster.original_dst": Discovery.ORIGINAL_DST,
}


@dataclass(frozen=True, slots=True)
class ClusterParts:
    """A cluster and what came inside it."""

    cluster: Cluster
    endpoints: Endpoints | None
    dns: DnsDiscovery | None


def take_cluster(take: Take, context: Context) -> ClusterParts:
    """cluster.Cluster. What it waits for is in the report."""
    name = take.text("name")
    discovery = _take_discovery(take)
    common = take.child("common_lb_config")
    balancing, weighted = take_balancing(take, context, common)
    provided = isinstance(balancing, ClusterProvided)
    if provided and discovery is not Discovery.ORIGINAL_DST:
        raise take.error("lb_policy", f"cluster manager: cluster provided LB specified but cluster '{name}' did not provide "
                         "one. Check cluster documentation.")  # fmt: skip
    if discovery is Discovery.ORIGINAL_DST and not provided:
        policy = take.message.LbPolicy.Name(take.message.lb_policy)
        kind = discovery.name
        raise take.error("lb_policy", f"cluster: LB policy {policy} is not valid for Cluster type {kind}. Only "
                         f"'CLUSTER_PROVIDED' is allowed with cluster type 'ORIGINAL_DST'")  # fmt: skip
    timeout_s = take.duration("connect_timeout")
    buffer = take.wrapped_integer("per_connection_buffer_limit_bytes")
    breakers, high_breakers = _take_breakers(take)
    options = take_upstream_options(take, context)
    source, extra_sources = _take_bind(take.child("upstream_bind_config"))
    connection = take.child("upstream_connection_options")
    panic = None if common is None else common.wrapped_number("healthy_panic_threshold")
    eds_name = _take_eds(take, name, discovery)
    endpoints, dns = _take_members(take, name, discovery, context)
    exchange = _take_filters(take, context)
    take.ignore_given(
        ignore_health_on_host_removal="there are no active health checks",
        close_connections_on_host_health_failure="there are no active health checks",
    )
    if take.wrapped_flag("wait_for_warm_on_init") is False:
        take.ignore("wait_for_warm_on_init", "every cluster warms before it serves")
    transport = take_transport(take, "transport_socket", Category.UPSTREAM_TRANSPORT, context)
    matches = _take_transport_matches(take, context)
    if options.protocol is UpstreamProtocol.AUTO:
        _require_alpn(take, name, transport.kind, matches)
    cluster = Cluster(
        name=name,
        discovery=discovery,
        balancing=balancing,
        connect_timeout_s=5.0 if timeout_s is None else timeout_s,
        buffer_limit_bytes=1 << 20 if buffer is None else buffer,
        breakers=breakers,
        high_breakers=high_breakers,
        protocol=options.protocol,
        http1=options.http1,
        http2=options.http2,
        idle_timeout_s=options.idle_timeout_s,
        max_connection_duration_s=options.max_connection_duration_s,
        max_stream_duration_s=options.max_stream_duration_s,
        max_requests_per_connection=options.max_requests_per_connection,
        max_headers_count=options.max_headers_count,
        max_response_headers_bytes=options.max_response_headers_bytes,
        auto_sni=options.auto_sni,
        auto_san_validation=options.auto_san_validation,
        override_auto_sni_header=options.override_auto_sni_header,
        panic_threshold_percent=50.0 if panic is None else panic,
        locality_weighted=weighted,
        source_address=source,
        extra_source_addresses=extra_sources,
        keepalive=take_keepalive(None if connection is None else connection.child("tcp_keepalive")),
        original_dst=_take_original_dst(take, discovery),
        transport=transport.kind,
        tls=transport.upstream,
        proxy_protocol=transport.proxy_protocol,
        transport_matches=matches,
        metadata=take_metadata(take.child("metadata")),
        alt_stat_name=take.text("alt_stat_name"),
        eds_name=eds_name,
        added_via_api=not context.options.static,
        metadata_exchange=exchange,
    )
    return ClusterParts(cluster, endpoints, dns)


def _take_discovery(take: Take) -> Discovery:
    custom = take.child("cluster_type")
    if custom is None:
        return take.enum("type", Discovery)
    name = custom.text("name")
    found = _BY_NAME.get(name)
    if found is None:
        raise custom.error("name", f"Didn't find a registered cluster factory implementation for name: '{name}'")
    return found


def _take_breakers(take: Take) -> tuple[Breakers, Breakers]:
    """Those of the default and of the high priority; the first of each counts, as in Envoy."""
    found: dict[int, Breakers] = {}
    breakers = take.child("circuit_breakers")
    for one in breakers.children("thresholds") if breakers is not None else ():
        priority = one.integer("priority")
        if priority in found:
            one.left.clear()
            one.ignore("", "the first thresholds of this priority count")
            continue
        found[priority] = _take_thresholds(one)
    return found.get(0, Breakers()), found.get(1, Breakers())


def _take_thresholds(take: Take) -> Breakers:
    budget = take.child("retry_budget")
    percent = least = None
    if budget is not None:
        percent = budget.wrapped_number("budget_percent")
        percent = 20.0 if percent is None else percent
        least = budget.wrapped_integer("min_retry_concurrency")
    if take.has("max_connection_pools") and take.wrapped_integer("max_connection_pools") != _UNLIMITED:
        take.ignore("max_connection_pools", "pools are per host")
    return Breakers(
        _take_limit(take, "max_connections", 1024),
        _take_limit(take, "max_pending_requests", 1024),
        _take_limit(take, "max_requests", 1024),
        _take_limit(take, "max_retries", 3),
        take.flag("track_remaining"),
        percent,
        3 if least is None else least,
    )


def _take_limit(take: Take, name: str, default: int) -> int | None:
    limit = take.wrapped_integer(name)
    if limit is None:
        return default
    return None if limit == _UNLIMITED else limit


def _take_bind(take: Take | None) -> tuple[Address | None, tuple[Address, ...]]:
    if take is None:
        return None, ()
    main = take.child("source_address")
    source = None if main is None else read_socket_address(main)
    extra = []
    for one in take.children("extra_source_addresses"):
        address = one.child("address")
        if address is not None:
            extra.append(read_socket_address(address))
    extra += [read_socket_address(one) for one in take.children("additional_source_addresses")]
    return source, tuple(extra)


def _take_eds(take: Take, name: str, discovery: Discovery) -> str:
    if discovery is not Discovery.EDS:
        return ""
    config = take.child("eds_cluster_config")
    if config is None:
        raise take.error("eds_cluster_config", "cannot create an EDS cluster without an EDS config")
    asked = config.text("service_name") or name
    source, timeout_s = take_source(config.child("eds_config"))
    take.report.needs[Need(ENDPOINTS_URL, asked, source, timeout_s)] = None
    return asked


def _take_members(
    take: Take, name: str, discovery: Discovery, context: Context
) -> tuple[Endpoints | None, DnsDiscovery | None]:
    if discovery is Discovery.EDS:
        return None, None
    assignment = take.child("load_assignment")
    if discovery is Discovery.ORIGINAL_DST:
        if assignment is not None:
            raise take.error("load_assignment", "ORIGINAL_DST clusters must have no load assignment configured")
        return None, None
    if discovery is Discovery.STATIC:
        if assignment is None:
            return Endpoints(name), None
        found = take_endpoints(assignment, context)
        return Endpoints(name, found.localities, found.overprovisioning_factor), None
    return None, _take_dns(take, assignment, discovery is Discovery.LOGICAL_DNS, context)


def _take_dns(take: Take, assignment: Take | None, logical: bool, context: Context) -> DnsDiscovery:
    localities, factor = ((), None) if assignment is None else take_dns_localities(assignment, context)
    if logical and (len(localities) != 1 or len(localities[0].hosts) != 1):
        raise take.error(
            "load_assignment", "LOGICAL_DNS clusters must have a single locality_lb_endpoint and a single lb_endpoint"
        )
    refresh_s = take.duration("dns_refresh_rate")
    failure = take.child("dns_failure_refresh_rate")
    base_s = None if failure is None else failure.duration("base_interval")
    max_s = None if failure is None else failure.duration("max_interval")
    if base_s is not None and max_s is None:
        max_s = base_s * 10
    if base_s is not None and max_s is not None and max_s < base_s:
        raise take.error(
            "dns_failure_refresh_rate.max_interval",
            "dns_failure_refresh_rate must have max_interval greater than or equal to the base_interval",
        )
    if take.has("typed_dns_resolver_config"):
        take.ignore("typed_dns_resolver_config", "names are resolved by this proxy's own resolver")
    return DnsDiscovery(
        localities,
        logical,
        5.0 if refresh_s is None else refresh_s,
        take.flag("respect_dns_ttl"),
        base_s,
        max_s,
        take.duration("dns_jitter") or 0.0,
        take.enum("dns_lookup_family", DnsFamily),
        factor,
    )


def _take_original_dst(take: Take, discovery: Discovery) -> OriginalDst | None:
    if discovery is not Discovery.ORIGINAL_DST:
        return None
    config = take.child("original_dst_lb_config")
    if config is None:
        return OriginalDst()
    port = config.wrapped_integer("upstream_port_override")
    use_header, header = config.flag("use_http_header"), config.text("http_header_name")
    if header and not use_header:
        raise config.error(
            "http_header_name",
            f"ORIGINAL_DST cluster: invalid config http_header_name={header} and use_http_header is false. Set "
            "use_http_header to true if http_header_name is desired.",
        )
    return OriginalDst(use_header, header.lower(), port)


def _require_alpn(take: Take, name: str, transport: str, matches: tuple[TransportMatch, ...]) -> None:
    """`auto_config` asks the peer's TLS for the protocol, so there must be TLS wherever a connection may go."""
    if transport != _TLS:
        raise take.error(
            "transport_socket", f"ALPN configured for cluster {name} which has a non-ALPN transport socket"
        )
    if any(match.transport != _TLS for match in matches):
        raise take.error(
            "transport_socket_matches",
            f"ALPN configured for cluster {name} which has a non-ALPN transport socket matcher",
        )


def _take_transport_matches(take: Take, context: Context) -> tuple[TransportMatch, ...]:
    if not take.has("transport_socket_matches"):
        if take.has("transport_socket_matcher"):
            raise take.error("transport_socket_matcher", "matcher trees are not supported")
        return ()
    found = []
    for one in take.children("transport_socket_matches"):
        struct = one.message_of("match")
        pairs = () if struct is None else string_pairs(struct)
        transport = take_transport(one, "transport_socket", Category.UPSTREAM_TRANSPORT, context)
        found.append(
            TransportMatch(one.text("name"), pairs, transport.kind, transport.upstream, transport.proxy_protocol)
        )
    return tuple(found)


def _take_filters(take: Take, context: Context) -> MetadataExchange | None:
    """Upstream network filters: Istio's exchange of metadata is known, others refuse the cluster."""
    exchange: MetadataExchange | None = None
    for one in take.children("filters") if take.has("filters") else ():
        name = one.text("name")
        if is_skipped(one, context, name):
            continue
        found = take_configured(one, context, Category.UPSTREAM_FILTER, name)
        exchange = exchange or found.value
        if found.value is None and not is_left_out(one, found):
            raise one.error(
                "typed_config",
                f"Didn't find a registered implementation for '{name}' with type URL: '{found.type_name}'",
            )
    return exchange
