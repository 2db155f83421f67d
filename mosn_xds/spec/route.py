"""Route tables: virtual hosts, routes, their matches and actions (envoy.config.route.v3), as frozen values."""

from enum import IntEnum

import msgspec

from mosn_xds.spec.common import (
    Fraction,
    HeaderMatch,
    HeaderOps,
    QueryMatch,
    RegexRewrite,
    Spec,
)
from mosn_xds.spec.filters import PerFilter


class PathKind(IntEnum):
    PREFIX = 0
    EXACT = 1
    REGEX = 2
    SEPARATED_PREFIX = 3
    """Equal, or followed by ``/``."""
    CONNECT = 4
    """`connect_matcher`: only CONNECT requests."""


class RouteMatch(Spec, frozen=True):
    """All conditions of one route; they all must hold. PREFIX compares the path with its query, the others without."""

    path_kind: PathKind
    path: str = ""
    case_sensitive: bool = True
    headers: tuple[HeaderMatch, ...] = ()
    query: tuple[QueryMatch, ...] = ()
    grpc_only: bool = False
    runtime_fraction: Fraction | None = None
    peer_presented: bool | None = None
    """`tls_context`: whether the client must have shown a certificate, or must not; `peer_validated` likewise."""
    peer_validated: bool | None = None


class RetryBackOff(Spec, frozen=True):
    base_s: float = 0.025
    max_s: float | None = None
    """None: ten times `base_s`."""


class RateLimitedBackOff(Spec, frozen=True):
    """`rate_limited_retry_back_off`: reset_headers as (name, is_unix_timestamp)."""

    reset_headers: tuple[tuple[str, bool], ...]
    max_s: float = 300.0


class RetryPolicy(Spec, frozen=True):
    """envoy.config.route.v3.RetryPolicy. `retry_on` and `grpc_on` are the split tokens, unknown ones included."""

    retry_on: tuple[str, ...] = ()
    num_retries: int = 1
    per_try_timeout_s: float | None = None
    per_try_idle_timeout_s: float | None = None
    back_off: RetryBackOff = RetryBackOff()
    rate_limited_back_off: RateLimitedBackOff | None = None
    retriable_status_codes: tuple[int, ...] = ()
    retriable_headers: tuple[HeaderMatch, ...] = ()
    retriable_request_headers: tuple[HeaderMatch, ...] = ()
    previous_hosts: bool = False
    host_selection_max_attempts: int = 1


class HeaderHash(Spec, frozen=True, tag="header"):
    name: str
    regex_rewrite: RegexRewrite | None = None
    terminal: bool = False


class CookieHash(Spec, frozen=True, tag="cookie"):
    name: str
    ttl_s: float | None = None
    """None: no cookie is made."""
    path: str = ""
    attributes: tuple[tuple[str, str], ...] = ()
    terminal: bool = False


class SourceIpHash(Spec, frozen=True, tag="source_ip"):
    terminal: bool = False


class QueryHash(Spec, frozen=True, tag="query"):
    name: str
    terminal: bool = False


HashPolicy = HeaderHash | CookieHash | SourceIpHash | QueryHash


class Mirror(Spec, frozen=True):
    """One request_mirror_policies entry: a `cluster`, or the header that names it."""

    cluster: str = ""
    cluster_header: str = ""
    fraction: Fraction | None = None
    """None: all requests."""
    append_shadow_suffix: bool = True


class WeightedCluster(Spec, frozen=True):
    name: str
    weight: int
    cluster_header: str = ""
    headers: HeaderOps = HeaderOps()
    host_rewrite: str = ""
    per_filter: tuple[tuple[str, PerFilter], ...] = ()
    metadata_match: bytes = b""
    """JSON of the ``envoy.lb`` criteria, empty for none."""


class UpgradePolicy(Spec, frozen=True):
    """Per-route override of one HCM upgrade type."""

    upgrade_type: str
    enabled: bool = True


class RouteAction(Spec, frozen=True, tag="route"):
    """Forward to a cluster: exactly one of `cluster`, `cluster_header`, `weighted`."""

    cluster: str = ""
    cluster_header: str = ""
    weighted: tuple[WeightedCluster, ...] = ()
    weighted_header: str = ""
    """`WeightedCluster.header_name`: the request header that holds the pick's value."""
    cluster_not_found_status: int = 503
    metadata_match: bytes = b""
    timeout_s: float = 15.0
    """0: none."""
    idle_timeout_s: float | None = None
    max_stream_duration_s: float | None = None
    grpc_timeout_max_s: float | None = None
    """`grpc_timeout_header_max`: None ignores grpc-timeout, 0 honours it without a cap."""
    grpc_timeout_offset_s: float = 0.0
    retry: RetryPolicy | None = None
    prefix_rewrite: str = ""
    regex_rewrite: RegexRewrite | None = None
    host_rewrite: str = ""
    host_rewrite_header: str = ""
    host_rewrite_path_regex: RegexRewrite | None = None
    auto_host_rewrite: bool = False
    append_x_forwarded_host: bool = False
    hash_policy: tuple[HashPolicy, ...] = ()
    mirrors: tuple[Mirror, ...] = ()
    upgrades: tuple[UpgradePolicy, ...] = ()
    high_priority: bool = False
    grpc_timeout_caps_stream: bool = False
    """grpc-timeout bounds the whole stream (`max_stream_duration.grpc_timeout_header_max`), not the route's time-out."""


class RedirectAction(Spec, frozen=True, tag="redirect"):
    """envoy.config.route.v3.RedirectAction; at most one of the path fields is set."""

    status: int = 301
    https: bool = False
    scheme: str = ""
    host: str = ""
    port: int = 0
    path: str = ""
    prefix_rewrite: str = ""
    regex_rewrite: RegexRewrite | None = None
    strip_query: bool = False


class DirectAction(Spec, frozen=True, tag="direct"):
    """Answer without an upstream."""

    status: int
    body: bytes = b""


class NonForwardingAction(Spec, frozen=True, tag="none"):
    """`non_forwarding_action`: a route that this proxy cannot serve; answered 404 as Envoy's router does."""


class Route(Spec, frozen=True):
    """One entry of the first-match-wins list."""

    match: RouteMatch
    action: RouteAction | RedirectAction | DirectAction | NonForwardingAction
    name: str = ""
    headers: HeaderOps = HeaderOps()
    per_filter: tuple[tuple[str, PerFilter], ...] = ()
    decorator: str = ""
    """`decorator.operation`."""
    decorator_propagate: bool = True
    metadata: bytes = b""
    """JSON of filter_metadata, empty for none."""
    body_buffer_limit_bytes: int | None = None


class TlsRequirement(IntEnum):
    NONE = 0
    EXTERNAL_ONLY = 1
    ALL = 2


class VirtualHost(Spec, frozen=True):
    """Routes for a set of domains; domains are lower-case, in the order given."""

    name: str
    domains: tuple[str, ...]
    routes: tuple[Route, ...] = ()
    headers: HeaderOps = HeaderOps()
    require_tls: TlsRequirement = TlsRequirement.NONE
    retry: RetryPolicy | None = None
    hash_policy: tuple[HashPolicy, ...] = ()
    mirrors: tuple[Mirror, ...] = ()
    per_filter: tuple[tuple[str, PerFilter], ...] = ()
    include_attempt_count: bool = False
    include_attempt_count_in_response: bool = False
    body_buffer_limit_bytes: int | None = None
    metadata: bytes = b""


class VirtualHostRef(Spec, frozen=True):
    """A virtual host inside a table, encoded once: who holds `uid` already need not decode `raw` again."""

    uid: bytes
    domains: tuple[str, ...]
    raw: msgspec.Raw
    """A `VirtualHost` as msgpack."""


class RouteTable(Spec, frozen=True):
    """envoy.config.route.v3.RouteConfiguration."""

    name: str
    virtual_hosts: tuple[VirtualHostRef, ...] = ()
    headers: HeaderOps = HeaderOps()
    internal_only_headers: tuple[str, ...] = ()
    most_specific_wins: bool = False
    ignore_port_in_host: bool = False
    ignore_path_parameters: bool = False
    vhost_header: str = ""
    per_filter: tuple[tuple[str, PerFilter], ...] = ()
    mirrors: tuple[Mirror, ...] = ()
    metadata: bytes = b""
    clusters: tuple[str, ...] = ()
    """Every cluster named by a route, a weight or a mirror; `assemble` holds an update back while one of them warms."""
