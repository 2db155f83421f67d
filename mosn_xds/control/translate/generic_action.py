"""What a route of an RPC proxy does with a request (generic_proxy.action.v3.RouteAction): an HTTP route's action.

Envoy reads the conditions of a retry policy here, and weighted clusters, and heeds neither; here they mean what they mean
for HTTP.
"""

import msgspec

from mosn_xds.control.translate.common import take_metadata
from mosn_xds.control.translate.context import Context
from mosn_xds.control.translate.header_ops import take_header_ops
from mosn_xds.control.translate.per_filter import take_per_filter
from mosn_xds.control.translate.retry import take_previous_hosts
from mosn_xds.control.translate.route_action import take_mirrors, take_weighted_clusters
from mosn_xds.control.translate.take import Take
from mosn_xds.spec.route import (
    HashPolicy,
    HeaderHash,
    PathKind,
    RetryBackOff,
    RetryPolicy,
    Route,
    RouteAction,
    RouteMatch,
    SourceIpHash,
    WeightedCluster,
)

ANY_REQUEST = RouteMatch(PathKind.PREFIX)
"""The match of a route that a matcher has found."""

_TIMEOUT_S = 15.0
_RETRY_ON = ("connect-failure", "refused-stream", "reset")
"""What Envoy's generic router tries again: whatever failed before an answer came."""


def route_action(take: Take, context: Context, name: str) -> Route:
    """generic_proxy.action.v3.RouteAction"""
    weights = take.child("weighted_clusters")
    weighted: tuple[WeightedCluster, ...] = ()
    header = ""
    if weights is not None:
        weighted, header = take_weighted_clusters(weights, context, of_rpc=True)
    cluster = take.text("cluster")
    if cluster:
        take.report.clusters.setdefault(cluster, "cluster")
    timeout_s = take.duration("timeout")
    action = RouteAction(
        cluster=cluster,
        weighted=weighted,
        weighted_header=header,
        timeout_s=_TIMEOUT_S if timeout_s is None else timeout_s,
        retry=take_core_retry_policy(take.child("retry_policy"), context),
    )
    return Route(
        ANY_REQUEST,
        action,
        take.text("name"),
        per_filter=take_per_filter(take, context, "per_filter_config"),
        metadata=take_metadata(take.child("metadata")),
    )


def take_core_retry_policy(take: Take | None, context: Context) -> RetryPolicy | None:
    """core.RetryPolicy; None when absent."""
    if take is None:
        return None
    retries = take.wrapped_integer("num_retries")
    if take.has("retry_priority"):
        take.ignore("retry_priority", "retries go by the cluster's own priorities")
    return RetryPolicy(
        retry_on=tuple([token.strip() for token in take.text("retry_on").split(",") if token.strip()]) or _RETRY_ON,
        num_retries=1 if retries is None else retries,
        back_off=_take_back_off(take.child("retry_back_off")),
        previous_hosts=take_previous_hosts(take, context),
        host_selection_max_attempts=take.integer("host_selection_retry_max_attempts") or 1,
    )


def _take_back_off(take: Take | None) -> RetryBackOff:
    """core.BackoffStrategy."""
    if take is None:
        return RetryBackOff()
    base_s, max_s = take.duration("base_interval"), take.duration("max_interval")
    base_s = RetryBackOff().base_s if base_s is None else base_s
    return RetryBackOff(base_s, None if max_s is None else max(base_s, max_s))


def rpc_route_action(take: Take, context: Context, name: str) -> Route:
    """mosn_xds.extensions.rpc.v1.RouteAction: Envoy's, and what it has no fields for."""
    inner = take.child("route")
    if inner is None:
        raise take.error("route", "a route is required")
    route = route_action(inner, context, name)
    if not isinstance(route.action, RouteAction):
        return route
    per_try_s = take.duration("per_try_timeout")
    retry = route.action.retry
    if per_try_s:
        retry = msgspec.structs.replace(retry or RetryPolicy(num_retries=0), per_try_timeout_s=per_try_s)
    take.ignore_given(subset_properties="subsets are not supported yet")
    action = msgspec.structs.replace(
        route.action,
        retry=retry,
        hash_policy=tuple([_take_hash_policy(one) for one in take.children("hash_policy")]),
        mirrors=take_mirrors(take, context),
    )
    return msgspec.structs.replace(route, action=action, headers=take_header_ops(take, keep_case=True))


def _take_hash_policy(take: Take) -> HashPolicy:
    terminal = take.flag("terminal")
    if take.flag("source_ip"):
        return SourceIpHash(terminal)
    return HeaderHash(take.text("property_name"), terminal=terminal)
