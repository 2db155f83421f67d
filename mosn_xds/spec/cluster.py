"""Clusters and their endpoints (envoy.config.cluster.v3, envoy.config.endpoint.v3)."""

from enum import IntEnum

import msgspec

from mosn_xds.spec.common import Address, Spec, TcpKeepalive
from mosn_xds.spec.listener import Http1Settings, Http2Settings, MetadataExchange
from mosn_xds.spec.tls import UpstreamTls


class Discovery(IntEnum):
    """Where endpoints come from. For all but ORIGINAL_DST they reach the worker as `Endpoints` of the cluster's name."""

    STATIC = 0
    STRICT_DNS = 1
    LOGICAL_DNS = 2
    EDS = 3
    ORIGINAL_DST = 4


class RoundRobin(Spec, frozen=True, tag="rr"):
    slow_start_window_s: float | None = None
    slow_start_aggression: float = 1.0
    slow_start_min_weight_percent: float = 10.0


class LeastRequest(Spec, frozen=True, tag="lr"):
    choice_count: int = 2
    active_request_bias: float = 1.0
    full_scan: bool = False
    slow_start_window_s: float | None = None
    slow_start_aggression: float = 1.0
    slow_start_min_weight_percent: float = 10.0


class RandomChoice(Spec, frozen=True, tag="random"):
    pass


class RingHash(Spec, frozen=True, tag="ring"):
    minimum_ring_size: int = 1024
    maximum_ring_size: int = 8 << 20
    murmur: bool = False
    use_hostname: bool = False
    hash_balance_factor: int = 0


class Maglev(Spec, frozen=True, tag="maglev"):
    table_size: int = 65537
    use_hostname: bool = False
    hash_balance_factor: int = 0


class ClusterProvided(Spec, frozen=True, tag="provided"):
    """ORIGINAL_DST picks by itself."""


Balancing = RoundRobin | LeastRequest | RandomChoice | RingHash | Maglev | ClusterProvided


class Breakers(Spec, frozen=True):
    """Thresholds of one priority; None is unlimited (2^32-1 in the proto, Istio's default)."""

    max_connections: int | None = 1024
    max_pending_requests: int | None = 1024
    max_requests: int | None = 1024
    max_retries: int | None = 3
    track_remaining: bool = False
    retry_budget_percent: float | None = None
    retry_budget_min: int = 3


class UpstreamProtocol(IntEnum):
    HTTP1 = 0
    HTTP2 = 1
    USE_DOWNSTREAM = 2
    AUTO = 3
    """By ALPN."""


class OriginalDst(Spec, frozen=True):
    """`original_dst_lb_config`."""

    use_http_header: bool = False
    http_header_name: str = ""
    port_override: int | None = None


class UpstreamProxyProtocol(Spec, frozen=True):
    """envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport: the PROXY header that goes ahead of
    a connection; `version` is 1 or 2. TLVs (type, value) are version 2's: those added, and which of the client's pass."""

    version: int = 1
    added_tlvs: tuple[tuple[int, bytes], ...] = ()
    passes_all: bool = False
    passed_types: tuple[int, ...] = ()


class TransportMatch(Spec, frozen=True):
    """One transport_socket_matches entry: endpoint metadata `match` (all pairs must equal) picks `transport`."""

    name: str
    match: tuple[tuple[str, str], ...]
    transport: str
    tls: UpstreamTls | None = None
    proxy_protocol: UpstreamProxyProtocol | None = None


class Cluster(Spec, frozen=True):
    """envoy.config.cluster.v3.Cluster. Default and high-priority `breakers`.

    `transport` is ``raw_buffer``, or ``tls`` with what `tls` says.
    """

    name: str
    discovery: Discovery
    balancing: Balancing = RoundRobin()
    connect_timeout_s: float = 5.0
    buffer_limit_bytes: int = 1 << 20
    breakers: Breakers = Breakers()
    high_breakers: Breakers = Breakers()
    protocol: UpstreamProtocol = UpstreamProtocol.HTTP1
    http1: Http1Settings = Http1Settings()
    http2: Http2Settings = Http2Settings()
    idle_timeout_s: float | None = 3600.0
    max_connection_duration_s: float | None = None
    max_stream_duration_s: float | None = None
    max_requests_per_connection: int | None = None
    max_headers_count: int = 100
    max_response_headers_bytes: int | None = None
    panic_threshold_percent: float = 50.0
    locality_weighted: bool = False
    overprovisioning_factor: int = 140
    source_address: Address | None = None
    keepalive: TcpKeepalive | None = None
    original_dst: OriginalDst | None = None
    transport: str = "raw_buffer"
    tls: UpstreamTls | None = None
    proxy_protocol: UpstreamProxyProtocol | None = None
    auto_sni: bool = False
    auto_san_validation: bool = False
    """UpstreamHttpProtocolOptions: SNI, and the name that must be in the certificate, from the request's authority."""
    override_auto_sni_header: str = ""
    transport_matches: tuple[TransportMatch, ...] = ()
    metadata: bytes = b""
    alt_stat_name: str = ""
    eds_name: str = ""
    """For EDS: the name asked for (service_name, else the cluster's name)."""
    added_via_api: bool = False
    extra_source_addresses: tuple[Address, ...] = ()
    """Where `source_address` is of the other family than the destination, the first of these that fits is bound."""
    metadata_exchange: MetadataExchange | None = None
    """With peers that speak its protocol, on connections of the TCP proxy."""


class Health(IntEnum):
    """envoy.config.core.v3.HealthStatus, same numbers."""

    UNKNOWN = 0
    HEALTHY = 1
    UNHEALTHY = 2
    DRAINING = 3
    TIMEOUT = 4
    DEGRADED = 5


class Endpoint(Spec, frozen=True):
    """One host; its identity across updates is `address`."""

    address: Address
    weight: int = 1
    health: Health = Health.UNKNOWN
    hostname: str = ""
    hash_key: str = ""
    """Metadata ``envoy.lb``/``hash_key`` where it is a string."""
    transport_metadata: tuple[tuple[str, str], ...] = ()
    """Metadata ``envoy.transport_socket_match``, for `Cluster.transport_matches`."""
    metadata: bytes = b""


class Locality(Spec, frozen=True):
    """Hosts of one place; `uid` digests `endpoints` so that what did not change is not built again."""

    uid: bytes
    region: str = ""
    zone: str = ""
    sub_zone: str = ""
    priority: int = 0
    weight: int | None = None
    endpoints: msgspec.Raw = msgspec.Raw(b"\x90")
    """A tuple of `Endpoint` as msgpack."""


class Endpoints(Spec, frozen=True):
    """What a cluster of this `name` (of this `eds_name`, for EDS) may send to."""

    name: str
    localities: tuple[Locality, ...] = ()
    overprovisioning_factor: int | None = None
