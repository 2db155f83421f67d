"""What a route does with a request: forward, redirect, answer (envoy.config.route.v3)."""

from mosn_xds.control.translate.common import take_runtime_percent
from mosn_xds.control.translate.context import Context
from mosn_xds.control.translate.formats import read_data_source
from mosn_xds.control.translate.header_ops import take_header_ops
from mosn_xds.control.translate.matchers import take_regex_rewrite
from mosn_xds.control.translate.per_filter import take_per_filter
from mosn_xds.control.translate.retry import take_retry_policy
from mosn_xds.control.translate.take import Take
from mosn_xds.spec.route import (
    CookieHash,
    DirectAction,
    HashPolicy,
    HeaderHash,
    Mirror,
    QueryHash,
    RedirectAction,
    RouteAction,
    SourceIpHash,
    UpgradePolicy,
    WeightedCluster,
)

_NOT_FOUND_STATUS = (503, 404, 500)
_REDIRECT_STATUS = (301, 302, 303, 307, 308)
_WEIGHT_LIMIT = (1 << 32) - 1


def take_route_action(take: Take, context: Context) -> RouteAction:
    """route.RouteAction."""
    cluster = take.text("cluster")
    cluster_header = take.text("cluster_header").lower()
    weighted: tuple[WeightedCluster, ...] = ()
    weighted_header = ""
    weights = take.child("weighted_clusters")
    if weights is not None:
        weighted, weighted_header = take_weighted_clusters(weights, context)
    elif not cluster and not cluster_header:
        raise take.error(take.one_of("cluster_specifier_plugin", "inline_cluster_specifier_plugin") or "",
                         "this way to name a cluster is not supported")  # fmt: skip
    if cluster:
        take.report.clusters.setdefault(cluster, "cluster")
    timeout_s = take.duration("timeout")
    stream_s, grpc_max_s, grpc_offset_s, caps_stream = _take_stream_durations(take)
    auto_host = take.wrapped_flag("auto_host_rewrite")
    if len([name for name in ("prefix_rewrite", "regex_rewrite", "path_rewrite_policy") if take.has(name)]) > 1:
        raise take.error("regex_rewrite", "Specify only one of prefix_rewrite, regex_rewrite or path_rewrite_policy")
    if take.has("early_data_policy"):
        take.ignore("early_data_policy", "there is no early data")
    return RouteAction(
        cluster=cluster,
        cluster_header=cluster_header,
        weighted=weighted,
        weighted_header=weighted_header,
        cluster_not_found_status=take.choice("cluster_not_found_response_code", _NOT_FOUND_STATUS),
        metadata_match=_take_metadata_match(take),
        timeout_s=15.0 if timeout_s is None else timeout_s,
        idle_timeout_s=take.duration("idle_timeout"),
        max_stream_duration_s=stream_s,
        grpc_timeout_max_s=grpc_max_s,
        grpc_timeout_offset_s=grpc_offset_s,
        retry=take_retry_policy(take, context),
        prefix_rewrite=take.text("prefix_rewrite"),
        regex_rewrite=take_regex_rewrite(take, "regex_rewrite", context),
        host_rewrite=take.text("host_rewrite_literal"),
        host_rewrite_header=take.text("host_rewrite_header").lower(),
        host_rewrite_path_regex=take_regex_rewrite(take, "host_rewrite_path_regex", context),
        auto_host_rewrite=bool(auto_host),
        append_x_forwarded_host=take.flag("append_x_forwarded_host"),
        hash_policy=take_hash_policies(take, context),
        mirrors=take_mirrors(take, context),
        upgrades=_take_upgrades(take),
        high_priority=take.integer("priority") == 1,
        grpc_timeout_caps_stream=caps_stream,
    )


def _take_stream_durations(take: Take) -> tuple[float | None, float | None, float, bool]:
    """max_stream_duration, what bounds grpc-timeout, its offset, and whether that bounds the stream or the route's
    time-out. The deprecated max_grpc_timeout counts only without the newer message, as in Envoy."""
    grpc_max_s = take.duration("max_grpc_timeout")
    grpc_offset_s = take.duration("grpc_timeout_offset") or 0.0
    durations = take.child("max_stream_duration")
    if durations is None:
        return None, grpc_max_s, grpc_offset_s, False
    stream_s = durations.duration("max_stream_duration")
    header_max_s = durations.duration("grpc_timeout_header_max")
    offset_s = durations.duration("grpc_timeout_header_offset") or 0.0
    return stream_s, header_max_s, offset_s, True


def take_weighted_clusters(
    take: Take, context: Context, *, of_rpc: bool = False
) -> tuple[tuple[WeightedCluster, ...], str]:
    """route.WeightedCluster, and the header that may hold the pick's value. `of_rpc`: headers are properties of calls."""
    prefix = take.text("runtime_key_prefix")
    header = take.text("header_name").lower()
    if take.wrapped_flag("use_hash_policy"):
        take.ignore("use_hash_policy", "the pick is random")
    entries = []
    total = 0
    for one in take.children("clusters"):
        name = one.text("name")
        weight = one.wrapped_integer("weight")
        if weight is None:
            raise one.error("weight", f"Field 'weight' is missing in: name: \"{name}\"")
        override = context.options.runtime.get(f"{prefix}.{name}") if prefix else None
        if isinstance(override, int):
            weight = override
        cluster_header = one.text("cluster_header").lower()
        if name and cluster_header:
            raise one.error("name", "Only one of name or cluster_header can be specified")
        if not name and not cluster_header:
            raise one.error("name", "At least one of name or cluster_header need to be specified")
        if name:
            take.report.clusters.setdefault(name, "weighted cluster")
        if of_rpc:
            one.ignore_given(host_rewrite_literal="a call's host is its service")
        entries.append(
            WeightedCluster(
                name,
                weight,
                cluster_header,
                take_header_ops(one, keep_case=of_rpc),
                one.text("host_rewrite_literal"),
                take_per_filter(one, context),
                _take_metadata_match(one),
            )
        )
        total += weight
    if total > _WEIGHT_LIMIT:
        route = take.up.up.message.name if take.up is not None and take.up.up is not None else ""
        raise take.error(
            "clusters", f"The sum of weights of all weighted clusters of route {route} exceeds {_WEIGHT_LIMIT}"
        )
    expected = take.wrapped_integer("total_weight")
    if total == 0:
        raise take.error("clusters", "Sum of weights in the weighted_cluster must be greater than 0.")
    if expected is not None and expected != total:
        take.ignore("total_weight", f"the weights sum to {total}")
    return tuple(entries), header


def _take_metadata_match(take: Take) -> bytes:
    if take.has("metadata_match"):
        take.ignore("metadata_match", "subsets are not supported yet")
    return b""


def take_hash_policies(take: Take, context: Context) -> tuple[HashPolicy, ...]:
    """Repeated RouteAction.HashPolicy; kinds that do not exist here are reported and left out."""
    if not take.has("hash_policy"):
        return ()
    found: list[HashPolicy] = []
    for one in take.children("hash_policy"):
        policy = _take_hash_policy(one, context)
        if policy is not None:
            found.append(policy)
    return tuple(found)


def _take_hash_policy(take: Take, context: Context) -> HashPolicy | None:
    terminal = take.flag("terminal")
    header = take.child("header")
    if header is not None:
        name = header.text("header_name").lower()
        return HeaderHash(name, take_regex_rewrite(header, "regex_rewrite", context), terminal)
    cookie = take.child("cookie")
    if cookie is not None:
        attributes = tuple([(one.text("name"), one.text("value")) for one in cookie.children("attributes")])
        return CookieHash(cookie.text("name"), cookie.duration("ttl"), cookie.text("path"), attributes, terminal)
    query = take.child("query_parameter")
    if query is not None:
        return QueryHash(query.text("name"), terminal)
    properties = take.child("connection_properties")
    if properties is not None:
        return SourceIpHash(terminal) if properties.flag("source_ip") else None
    take.ignore(take.one_of("filter_state") or "", "this hash policy is not supported")
    return None


def take_mirrors(take: Take, context: Context) -> tuple[Mirror, ...]:
    """Repeated RouteAction.RequestMirrorPolicy."""
    if not take.has("request_mirror_policies"):
        return ()
    found = []
    for one in take.children("request_mirror_policies"):
        cluster, header = one.text("cluster"), one.text("cluster_header").lower()
        if not cluster and not header:
            raise one.error(
                "cluster", "Exactly one of cluster or cluster_header in request mirror policy need to be specified"
            )
        if cluster and header:
            raise one.error(
                "cluster",
                f"Only one of cluster '{cluster}' or cluster_header '{header}' in request mirror policy can be specified",
            )
        if cluster:
            take.report.clusters.setdefault(cluster, "shadow cluster")
        if one.has("trace_sampled"):
            one.ignore("trace_sampled", "there is no tracing yet")
        append = not one.flag("disable_shadow_host_suffix_append")
        found.append(Mirror(cluster, header, take_runtime_percent(one.child("runtime_fraction"), context), append))
    return tuple(found)


def _take_upgrades(take: Take) -> tuple[UpgradePolicy, ...]:
    found: list[UpgradePolicy] = []
    for one in take.children("upgrade_configs"):
        kind = one.text("upgrade_type")
        enabled = one.wrapped_flag("enabled")
        if one.has("connect_config"):
            if kind.lower() != "connect":
                raise one.error("connect_config", f"Non-CONNECT upgrade type {kind} has ConnectConfig")
            one.ignore("connect_config", "CONNECT is passed on, not terminated")
        if any(known.upgrade_type == kind.lower() for known in found):
            raise one.error("upgrade_type", f"Duplicate upgrade {kind}")
        found.append(UpgradePolicy(kind.lower(), enabled is not False))
    return tuple(found)


def take_redirect(take: Take, context: Context) -> RedirectAction:
    """route.RedirectAction."""
    return RedirectAction(
        take.choice("response_code", _REDIRECT_STATUS),
        take.flag("https_redirect"),
        take.text("scheme_redirect"),
        take.text("host_redirect"),
        take.integer("port_redirect"),
        take.text("path_redirect"),
        take.text("prefix_rewrite"),
        take_regex_rewrite(take, "regex_rewrite", context),
        take.flag("strip_query"),
    )


def take_direct(take: Take, body_limit_bytes: int) -> DirectAction:
    """route.DirectResponseAction. Raises ConfigError for a body above the route table's limit."""
    source = take.child("body")
    body = b"" if source is None else read_data_source(source)
    if len(body) > body_limit_bytes:
        raise take.error("body", f"response body size is {len(body)} bytes; maximum is {body_limit_bytes}")
    return DirectAction(take.integer("status"), body)
