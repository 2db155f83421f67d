"""What HTTP filters and their per-route overrides are configured with.

Every chain entry keeps its Envoy name, which is the key of `typed_per_filter_config`. A filter that this proxy does not
know is an `UnknownFilter`: it answers 503 for its chain, visibly, because leaving out a policy is worse than failing.
"""

from enum import IntEnum

from mosn_xds.spec.common import CidrRange, Fraction, HeaderMatch, Spec, StringMatch


class RouterFilter(Spec, frozen=True, tag="router"):
    """envoy.extensions.filters.http.router.v3.Router."""

    suppress_envoy_headers: bool = False
    respect_expected_rq_timeout: bool = False


class FaultDelay(Spec, frozen=True):
    """Either `fixed_s`, or by header ``x-envoy-fault-delay-request`` when None."""

    percentage: Fraction
    fixed_s: float | None = None


class FaultAbort(Spec, frozen=True):
    """One of `http_status`, `grpc_status`; neither: by the ``x-envoy-fault-abort-*`` headers."""

    percentage: Fraction
    http_status: int | None = None
    grpc_status: int | None = None


class FaultFilter(Spec, frozen=True, tag="fault"):
    """envoy.extensions.filters.http.fault.v3.HTTPFault; also its own per-route form."""

    delay: FaultDelay | None = None
    abort: FaultAbort | None = None
    upstream_cluster: str = ""
    downstream_nodes: tuple[str, ...] = ()
    headers: tuple[HeaderMatch, ...] = ()
    max_active_faults: int | None = None


class CorsFilter(Spec, frozen=True, tag="cors"):
    """The HTTP filter; its policy comes from the route."""


class CorsPolicy(Spec, frozen=True, tag="cors_policy"):
    """envoy.extensions.filters.http.cors.v3.CorsPolicy. `allow_credentials` None: header not sent."""

    allow_origins: tuple[StringMatch, ...] = ()
    allow_methods: str = ""
    allow_headers: str = ""
    expose_headers: str = ""
    max_age: str = ""
    allow_credentials: bool | None = None
    allow_private_network: bool | None = None
    filter_enabled: Fraction | None = None
    shadow_enabled: Fraction | None = None
    forward_not_matching_preflights: bool = True


class RbacAction(IntEnum):
    ALLOW = 0
    DENY = 1
    LOG = 2


class RbacNode(Spec, frozen=True):
    """Permission or principal tree: `kind` says which field holds.

    ``any`` · ``and`` / ``or`` / ``not`` (`children`) · ``header`` · ``path`` (`string`) · ``destination_ip``,
    ``direct_remote_ip``, ``remote_ip``, ``source_ip`` (`cidr`) · ``destination_port`` (`port`) · ``destination_port_range``
    (`port` .. `port_end`, end exclusive) · ``sni`` (`string`) · ``authenticated`` (`string` None: any authenticated peer) ·
    ``metadata``, ``filter_state`` (`key_path` + `string`), ``metadata_list`` (one element of a list there) · ``never`` (what
    cannot hold here, e.g. a matcher not known).
    """

    kind: str
    children: tuple["RbacNode", ...] = ()
    header: HeaderMatch | None = None
    string: StringMatch | None = None
    cidr: CidrRange | None = None
    port: int = 0
    port_end: int = 0
    key_path: tuple[str, ...] = ()
    invert: bool = False


class RbacPolicy(Spec, frozen=True):
    """A request matches when one permission and one principal do."""

    name: str
    permissions: tuple[RbacNode, ...]
    principals: tuple[RbacNode, ...]


class RbacRules(Spec, frozen=True):
    """Policies in lexical order of name."""

    action: RbacAction
    policies: tuple[RbacPolicy, ...] = ()


class RbacFilter(Spec, frozen=True, tag="rbac"):
    """envoy.extensions.filters.http.rbac.v3.RBAC. `rules` None: no enforcement."""

    rules: RbacRules | None = None
    shadow_rules: RbacRules | None = None
    shadow_stat_prefix: str = ""
    stat_prefix: str = ""


class RbacPerRoute(Spec, frozen=True, tag="rbac_route"):
    """`rbac` None disables the filter for the route."""

    rbac: RbacFilter | None = None


class GrpcStatsFilter(Spec, frozen=True, tag="grpc_stats"):
    """envoy.extensions.filters.http.grpc_stats.v3.FilterConfig. `methods`: service and those of its methods that have
    names of their own."""

    stats_for_all_methods: bool = False
    methods: tuple[tuple[str, tuple[str, ...]], ...] = ()
    upstream_stats: bool = False
    replace_dots: bool = False


class GrpcWebFilter(Spec, frozen=True, tag="grpc_web"):
    """envoy.extensions.filters.http.grpc_web.v3.GrpcWeb, which has no fields."""


class PeerMetadataFilter(Spec, frozen=True, tag="peer_metadata"):
    """Istio's HTTP metadata exchange (io.istio.http.peer_metadata): the headers ``x-envoy-peer-metadata`` and ``-id``.

    `from_downstream` / `from_upstream`: what the peer on that side tells is taken out of its messages. `to_upstream`: who
    we are is told with each request, but not outside of the mesh if `skip_external`; `to_downstream`: to whoever told.
    `metadata` and `node_id` are the values of the headers.
    """

    from_downstream: bool = True
    from_upstream: bool = True
    to_downstream: bool = False
    to_upstream: bool = False
    skip_external: bool = False
    metadata: str = ""
    node_id: str = ""


class AlpnOverride(Spec, frozen=True):
    """`upstream_protocol` as in the proto: 0 HTTP/1.0, 1 HTTP/1.1, 2 HTTP/2."""

    upstream_protocol: int
    alpn: tuple[str, ...]


class AlpnFilter(Spec, frozen=True, tag="alpn"):
    """istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig."""

    overrides: tuple[AlpnOverride, ...] = ()


class IstioStatsFilter(Spec, frozen=True, tag="istio_stats"):
    """stats.PluginConfig."""

    reporter_gateway: bool = False


class ExtensionFilter(Spec, frozen=True, tag="extension"):
    """A filter of somebody else's, found by entry point `entry`; `config` is its JSON."""

    entry: str
    config: bytes = b"{}"


class UnknownFilter(Spec, frozen=True, tag="unknown"):
    """Answers 503 with `reason` (response details) for each request of its chain: fail closed, visibly."""

    type_url: str
    reason: str


FilterConfig = (
    RouterFilter
    | FaultFilter
    | CorsFilter
    | RbacFilter
    | GrpcStatsFilter
    | GrpcWebFilter
    | PeerMetadataFilter
    | AlpnFilter
    | IstioStatsFilter
    | ExtensionFilter
    | UnknownFilter
)


class HttpFilter(Spec, frozen=True):
    """One entry of HttpConnectionManager.http_filters."""

    name: str
    config: FilterConfig
    disabled: bool = False


class FilterDisabled(Spec, frozen=True, tag="disabled"):
    """`FilterConfig.disabled` for one route."""


class FilterEnabled(Spec, frozen=True, tag="enabled"):
    """An empty per-route `FilterConfig`: the filter runs with its chain's configuration, even where disabled there."""


PerFilter = FaultFilter | CorsPolicy | RbacPerRoute | ExtensionFilter | FilterDisabled | FilterEnabled
