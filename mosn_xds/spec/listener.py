"""Listeners: addresses, filter chains and their matches, listener filters, network filters (envoy.config.listener.v3)."""

from enum import IntEnum

from mosn_xds.spec.access_log import AccessLog, JsonFormat, LogFilter
from mosn_xds.spec.common import Address, CidrRange, Format, HeaderValue, SocketOption, Spec, TcpKeepalive
from mosn_xds.spec.filters import HttpFilter, RbacRules
from mosn_xds.spec.route import HashPolicy, RouteTable
from mosn_xds.spec.rpc import ProtocolUse, RpcProxy
from mosn_xds.spec.tls import DownstreamTls


class SourceType(IntEnum):
    ANY = 0
    SAME_IP_OR_LOOPBACK = 1
    EXTERNAL = 2


class ChainMatch(Spec, frozen=True):
    """envoy.config.listener.v3.FilterChainMatch; empty means "not a criterion". Server names are lower-case."""

    destination_port: int | None = None
    prefix_ranges: tuple[CidrRange, ...] = ()
    server_names: tuple[str, ...] = ()
    transport_protocol: str = ""
    application_protocols: tuple[str, ...] = ()
    direct_source_ranges: tuple[CidrRange, ...] = ()
    source_type: SourceType = SourceType.ANY
    source_ranges: tuple[CidrRange, ...] = ()
    source_ports: tuple[int, ...] = ()


class PortPredicate(Spec, frozen=True):
    """ListenerFilterChainMatchPredicate: ``any`` · ``or`` / ``and`` / ``not`` (`children`) · ``port`` ([start, end))."""

    kind: str
    children: tuple["PortPredicate", ...] = ()
    start: int = 0
    end: int = 0


class ListenerFilterKind(IntEnum):
    ORIGINAL_DST = 0
    TLS_INSPECTOR = 1
    HTTP_INSPECTOR = 2
    PROXY_PROTOCOL = 3
    PROTOCOL_INSPECTOR = 4
    """Looks for RPC protocols (`ListenerFilter.protocols`); what it finds is the connection's application protocol."""


class ProxyProtocolRules(Spec, frozen=True):
    """envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol. `rules` put a TLV's value (by type) into the
    connection's dynamic metadata (namespace, key). `optional`: a connection may come without a header. `passes_all` and
    `passed_types` are the TLVs that clusters may hand on."""

    rules: tuple[tuple[int, str, str], ...] = ()
    optional: bool = False
    passes_all: bool = False
    passed_types: tuple[int, ...] = ()
    disallowed_versions: tuple[int, ...] = ()


class ListenerFilter(Spec, frozen=True):
    kind: ListenerFilterKind
    name: str
    disabled: PortPredicate | None = None
    proxy_protocol: ProxyProtocolRules = ProxyProtocolRules()
    protocols: tuple[ProtocolUse, ...] = ()


class CodecType(IntEnum):
    AUTO = 0
    HTTP1 = 1
    HTTP2 = 2


class HeaderCase(IntEnum):
    LOWER = 0
    PROPER_CASE = 1
    PRESERVE = 2


class UnderscoresAction(IntEnum):
    ALLOW = 0
    REJECT_REQUEST = 1
    DROP_HEADER = 2


class Http1Settings(Spec, frozen=True):
    """envoy.config.core.v3.Http1ProtocolOptions with what both sides share."""

    accept_http_10: bool = False
    default_host_for_http_10: str = ""
    enable_trailers: bool = False
    header_case: HeaderCase = HeaderCase.LOWER
    allow_chunked_length: bool = False
    allow_absolute_url: bool = True


class Http2Settings(Spec, frozen=True):
    """envoy.config.core.v3.Http2ProtocolOptions. `keepalive_jitter` is the fraction of the interval that may be added;
    `custom_settings` are identifiers and values, each identifier once and none that another field stands for."""

    max_concurrent_streams: int = 1024
    initial_stream_window_bytes: int = 16 << 20
    initial_connection_window_bytes: int = 24 << 20
    hpack_table_bytes: int = 4096
    allow_connect: bool = False
    custom_settings: tuple[tuple[int, int], ...] = ()
    stream_error_on_invalid_message: bool = False
    keepalive_interval_s: float | None = None
    keepalive_timeout_s: float | None = None
    keepalive_jitter: float = 0.15
    keepalive_idle_interval_s: float | None = None
    max_outbound_frames: int = 10_000
    max_outbound_control_frames: int = 1_000
    max_consecutive_inbound_frames_with_empty_payload: int = 1
    max_inbound_priority_frames_per_stream: int = 100
    max_inbound_window_update_frames_per_data_frame_sent: int = 10


class ServerHeader(IntEnum):
    OVERWRITE = 0
    APPEND_IF_ABSENT = 1
    PASS_THROUGH = 2


class ForwardClientCert(IntEnum):
    SANITIZE = 0
    FORWARD_ONLY = 1
    APPEND_FORWARD = 2
    SANITIZE_SET = 3
    ALWAYS_FORWARD_ONLY = 4


class ClientCertDetail(IntEnum):
    """SetCurrentClientCertDetails: what an element of x-forwarded-client-cert holds, in this order."""

    CERT = 0
    CHAIN = 1
    SUBJECT = 2
    URI = 3
    DNS = 4


class EscapedSlashes(IntEnum):
    KEEP_UNCHANGED = 0
    REJECT_REQUEST = 1
    UNESCAPE_AND_REDIRECT = 2
    UNESCAPE_AND_FORWARD = 3


class Upgrade(Spec, frozen=True):
    """One HCM upgrade_configs entry (``websocket``, ``CONNECT``); type is lower-case."""

    upgrade_type: str
    enabled: bool = True


class LocalReplyMapper(Spec, frozen=True):
    """One `local_reply_config` mapper."""

    filter: LogFilter
    status: int | None = None
    body: str | None = None
    """Replaces the reply's body, and is what ``%LOCAL_REPLY_BODY%`` then means."""
    body_format: "ReplyFormat | None" = None
    headers: tuple[HeaderValue, ...] = ()


class ReplyFormat(Spec, frozen=True):
    """SubstitutionFormatString of a local reply: text or JSON, and the content type it is sent with."""

    text: Format | None = None
    json: JsonFormat | None = None
    content_type: str = ""


class HttpConnectionManager(Spec, frozen=True, tag="hcm"):
    """envoy.extensions.filters.network.http_connection_manager.v3. Exactly one of `rds`, `routes` is set."""

    stat_prefix: str
    filters: tuple[HttpFilter, ...] = ()
    rds: str = ""
    routes: RouteTable | None = None
    codec: CodecType = CodecType.AUTO
    access_logs: tuple[AccessLog, ...] = ()
    http1: Http1Settings = Http1Settings()
    http2: Http2Settings = Http2Settings()
    server_name: str = "envoy"
    server_header: ServerHeader = ServerHeader.OVERWRITE
    max_request_headers_bytes: int = 60 * 1024
    max_headers_count: int = 100
    underscores: UnderscoresAction = UnderscoresAction.ALLOW
    idle_timeout_s: float | None = 3600.0
    """None: no idle time-out (0 in the proto)."""
    max_connection_duration_s: float | None = None
    max_requests_per_connection: int | None = None
    stream_idle_timeout_s: float | None = 300.0
    request_timeout_s: float | None = None
    request_headers_timeout_s: float | None = None
    max_stream_duration_s: float | None = None
    drain_timeout_s: float = 5.0
    delayed_close_timeout_s: float = 1.0
    use_remote_address: bool = False
    skip_xff_append: bool = False
    xff_num_trusted_hops: int = 0
    internal_cidrs: tuple[CidrRange, ...] = ()
    internal_unix_sockets: bool = False
    generate_request_id: bool = True
    preserve_external_request_id: bool = False
    always_set_request_id_in_response: bool = False
    add_user_agent: bool = False
    via: str = ""
    forward_client_cert: ForwardClientCert = ForwardClientCert.SANITIZE
    client_cert_details: tuple[ClientCertDetail, ...] = ()
    proxy_100_continue: bool = False
    normalize_path: bool = False
    merge_slashes: bool = False
    escaped_slashes: EscapedSlashes = EscapedSlashes.KEEP_UNCHANGED
    strip_matching_host_port: bool = False
    strip_any_host_port: bool = False
    strip_trailing_host_dot: bool = False
    append_x_forwarded_port: bool = False
    upgrades: tuple[Upgrade, ...] = ()
    stream_error_on_invalid_message: bool = False
    scheme_to_overwrite: str = ""
    local_reply_mappers: tuple[LocalReplyMapper, ...] = ()
    local_reply_format: ReplyFormat | None = None
    traced: bool = False
    """`tracing` is there: the decorators of routes go with the streams."""


class TcpCluster(Spec, frozen=True):
    name: str
    weight: int = 1


class TcpProxy(Spec, frozen=True, tag="tcp"):
    """envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy: one cluster, or several with weights.

    Connections that turn out to speak one of `protocols`, which are looked for in this order, are served as RPCs. A client
    that says nothing for `detection_timeout_s` gets its upstream: it may be the one to speak first.
    """

    stat_prefix: str
    clusters: tuple[TcpCluster, ...]
    idle_timeout_s: float | None = 3600.0
    max_connect_attempts: int = 1
    max_downstream_connection_duration_s: float | None = None
    access_logs: tuple[AccessLog, ...] = ()
    hash_policy: tuple[HashPolicy, ...] = ()
    protocols: tuple[ProtocolUse, ...] = ()
    detection_timeout_s: float = 1.0


class NetworkRbac(Spec, frozen=True, tag="rbac"):
    """envoy.extensions.filters.network.rbac.v3.RBAC."""

    stat_prefix: str
    rules: RbacRules | None = None
    shadow_rules: RbacRules | None = None
    shadow_stat_prefix: str = ""


class MetadataExchange(Spec, frozen=True, tag="mx"):
    """Istio's TCP metadata exchange (envoy.tcp.metadataexchange): where ALPN chose `protocol`, each side's first bytes are a
    frame of who it is, which the other takes out. `frame` is ours, whole."""

    protocol: str
    frame: bytes


class PassNetworkFilter(Spec, frozen=True, tag="pass"):
    """A known network filter without an effect on bytes here (istio.stats ...)."""

    name: str


class CloseConnection(Spec, frozen=True, tag="close"):
    """An unknown network filter: closes each connection of its chain with `reason`, visibly."""

    name: str
    reason: str


NetworkFilter = (
    HttpConnectionManager | TcpProxy | RpcProxy | NetworkRbac | MetadataExchange | PassNetworkFilter | CloseConnection
)


class FilterChain(Spec, frozen=True):
    """`uid` identifies the chain across updates: an equal chain keeps its connections. The last filter is terminal."""

    uid: bytes
    name: str
    match: ChainMatch | None
    filters: tuple[NetworkFilter, ...]
    transport: str = "raw_buffer"
    """``raw_buffer``, or ``tls`` with what `tls` says."""
    transport_connect_timeout_s: float | None = None
    tls: DownstreamTls | None = None


class TrafficDirection(IntEnum):
    UNSPECIFIED = 0
    INBOUND = 1
    OUTBOUND = 2


class Listener(Spec, frozen=True):
    """envoy.config.listener.v3.Listener.

    `socket_uid` digests what its sockets are made of (addresses, options): when it changes, they change. `base_uid`
    digests everything but the chains: when only chains changed, only the connections of changed chains drain.
    `closed_reason` is set for a listener that Pilot sent but that is refused or warming for the first time: it owns its
    address and closes each connection with this reason (never handed to a catch-all).
    """

    name: str
    addresses: tuple[Address, ...]
    chains: tuple[FilterChain, ...] = ()
    default_chain: FilterChain | None = None
    listener_filters: tuple[ListenerFilter, ...] = ()
    listener_filters_timeout_s: float | None = 15.0
    """None: no time-out (0 in the proto)."""
    continue_on_listener_filters_timeout: bool = False
    bind_to_port: bool = True
    use_original_dst: bool = False
    transparent: bool = False
    freebind: bool = False
    reuse_port: bool = True
    ipv4_compat: bool = False
    tcp_backlog: int | None = None
    buffer_limit_bytes: int = 1 << 20
    socket_options: tuple[SocketOption, ...] = ()
    keepalive: TcpKeepalive | None = None
    access_logs: tuple[AccessLog, ...] = ()
    direction: TrafficDirection = TrafficDirection.UNSPECIFIED
    stat_prefix: str = ""
    connection_limit: int | None = None
    drain_modify_only: bool = False
    """A failed health check (`/healthcheck/fail`) drains none of its connections."""
    max_accepts_per_event: int | None = None
    socket_uid: bytes = b""
    base_uid: bytes = b""
    closed_reason: str | None = None
    route_tables: tuple[str, ...] = ()
    """RDS names that its chains use: what it waits for when warming."""
