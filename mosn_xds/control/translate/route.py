"""Route tables (envoy.config.route.v3.RouteConfiguration): virtual hosts, routes and their matches.

A virtual host is a part: translated once for its bytes, encoded once, and compared by its digest ever after.
"""

from typing import Any

import msgspec

from mosn_xds.control.translate.common import raw_of, take_metadata, take_runtime_percent
from mosn_xds.control.translate.context import Context
from mosn_xds.control.translate.header_ops import take_header_ops
from mosn_xds.control.translate.matchers import take_header_matches, take_query_match, take_regex
from mosn_xds.control.translate.per_filter import take_per_filter
from mosn_xds.control.translate.retry import take_retry_policy
from mosn_xds.control.translate.route_action import (
    take_direct,
    take_mirrors,
    take_redirect,
    take_route_action,
)
from mosn_xds.control.translate.take import Report, Take
from mosn_xds.spec.common import Fraction
from mosn_xds.spec.route import (
    DirectAction,
    NonForwardingAction,
    PathKind,
    RedirectAction,
    Route,
    RouteAction,
    RouteMatch,
    RouteTable,
    TlsRequirement,
    VirtualHost,
    VirtualHostRef,
)
from mosn_xds.spec.snapshot import digest, encode

_BODY_LIMIT_BYTES = 4096
_NEVER = Fraction(0)
_Action = RouteAction | RedirectAction | DirectAction | NonForwardingAction


def take_route_table(take: Take, context: Context) -> RouteTable:
    """route.RouteConfiguration. The clusters that it names are in the report, too."""
    name = take.text("name")
    limit = take.wrapped_integer("max_direct_response_body_size_bytes")
    known = context.options.known_clusters
    validate = take.wrapped_flag("validate_clusters")
    if validate and known is None:
        take.ignore("validate_clusters", "a route to an absent cluster answers 503")
    if take.has("vhds"):
        take.ignore("vhds", "virtual hosts come with the table only")
    if take.has("cluster_specifier_plugins"):
        take.ignore("cluster_specifier_plugins", "no route may use one")
    outside = dict(take.report.clusters)
    take.report.clusters.clear()
    hosts = _take_virtual_hosts(take, name, _BODY_LIMIT_BYTES if limit is None else limit, context)
    mirrors = take_mirrors(take, context)
    if known is not None and validate is not False:
        for cluster, noun in take.report.clusters.items():
            if cluster not in known:
                raise take.error("virtual_hosts", f"route: unknown {noun} '{cluster}'", "validate_clusters: false")
    clusters = tuple(take.report.clusters)
    take.report.clusters = {**outside, **take.report.clusters}
    return RouteTable(
        name,
        hosts,
        take_header_ops(take),
        tuple([header.lower() for header in take.texts("internal_only_headers")]),
        take.flag("most_specific_header_mutations_wins"),
        take.flag("ignore_port_in_host_matching"),
        take.flag("ignore_path_parameters_in_path_matching"),
        take.text("vhost_header").lower(),
        take_per_filter(take, context),
        mirrors,
        take_metadata(take.child("metadata")),
        clusters,
    )


def _take_virtual_hosts(take: Take, table: str, body_limit_bytes: int, context: Context) -> tuple[VirtualHostRef, ...]:
    found = []
    seen: set[str] = set()
    for number, message in enumerate(take.messages("virtual_hosts")):
        key = f"virtual_hosts[{number}]"

        def make(report: Report, message: Any = message, number: int = number) -> VirtualHostRef:
            above = f"RouteConfigurationValidationError.VirtualHosts[{number}]"
            context.validator.validate(message, above=above)
            host = _take_virtual_host(Take(message, report), body_limit_bytes, context)
            raw = encode(host)
            return VirtualHostRef(digest(raw), host.domains, msgspec.Raw(raw))

        host = context.part(take, key, raw_of(message), ("virtual host", body_limit_bytes), make)
        for domain in host.domains:
            if domain in seen:
                if domain == "*":
                    raise take.error(key, f"Only a single wildcard domain is permitted in route {table}")
                raise take.error(
                    f"{key}.domains",
                    "Only unique values for domains are permitted. Duplicate entry of domain "
                    f"{domain} in route {table}",
                )
            seen.add(domain)
        found.append(host)
    return tuple(found)


def _take_virtual_host(take: Take, body_limit_bytes: int, context: Context) -> VirtualHost:
    if take.has("matcher"):
        raise take.error("matcher", "matcher trees are not supported", "list the routes")
    if take.has("retry_policy_typed_config"):
        take.ignore("retry_policy_typed_config", "give retry_policy")
    return VirtualHost(
        name=take.text("name"),
        domains=tuple([domain.lower() for domain in take.texts("domains")]),
        routes=tuple([_take_route(one, body_limit_bytes, context) for one in take.children("routes")]),
        headers=take_header_ops(take),
        require_tls=take.enum("require_tls", TlsRequirement),
        retry=take_retry_policy(take, context),
        mirrors=take_mirrors(take, context),
        per_filter=take_per_filter(take, context),
        include_attempt_count=take.flag("include_request_attempt_count"),
        include_attempt_count_in_response=take.flag("include_attempt_count_in_response"),
        body_buffer_limit_bytes=_take_body_limit(take),
        metadata=take_metadata(take.child("metadata")),
    )


def _take_body_limit(take: Take) -> int | None:
    old = take.wrapped_integer("per_request_buffer_limit_bytes")
    new = take.wrapped_integer("request_body_buffer_limit")
    return old if new is None else new


def _take_route(take: Take, body_limit_bytes: int, context: Context) -> Route:
    match = take.child("match")
    if match is None:
        raise take.error("match", "a match is required")
    decorator = take.child("decorator")
    propagate = None if decorator is None else decorator.wrapped_flag("propagate")
    return Route(
        _take_match(match, context),
        _take_action(take, body_limit_bytes, context),
        take.text("name"),
        take_header_ops(take),
        take_per_filter(take, context),
        "" if decorator is None else decorator.text("operation"),
        propagate is not False,
        take_metadata(take.child("metadata")),
        _take_body_limit(take),
    )


def _take_action(take: Take, body_limit_bytes: int, context: Context) -> _Action:
    forward = take.child("route")
    if forward is not None:
        return take_route_action(forward, context)
    redirect = take.child("redirect")
    if redirect is not None:
        return take_redirect(redirect, context)
    direct = take.child("direct_response")
    if direct is not None:
        return take_direct(direct, body_limit_bytes)
    if take.has("filter_action"):
        take.ignore("filter_action", "no filter here takes over a route")
    take.skip("non_forwarding_action")
    return NonForwardingAction()


def _take_match(take: Take, context: Context) -> RouteMatch:
    kind, path = _take_path(take, context)
    case_sensitive = take.wrapped_flag("case_sensitive")
    fraction = take_runtime_percent(take.child("runtime_fraction"), context)
    if not _conditions_can_hold(take):
        fraction = _NEVER
    grpc = take.child("grpc")
    tls = take.child("tls_context")
    queries = take.children("query_parameters") if take.has("query_parameters") else ()
    return RouteMatch(
        kind,
        path,
        case_sensitive is not False,
        take_header_matches(take, "headers", context),
        tuple([take_query_match(one, context) for one in queries]),
        grpc is not None,
        fraction,
        None if tls is None else tls.wrapped_flag("presented"),
        None if tls is None else tls.wrapped_flag("validated"),
    )


def _take_path(take: Take, context: Context) -> tuple[PathKind, str]:
    if take.has("prefix"):
        return PathKind.PREFIX, take.text("prefix")
    if take.has("path"):
        return PathKind.EXACT, take.text("path")
    if take.has("path_separated_prefix"):
        return PathKind.SEPARATED_PREFIX, take.text("path_separated_prefix")
    regex = take.child("safe_regex")
    if regex is not None:
        return PathKind.REGEX, take_regex(regex, context)
    if take.has("connect_matcher"):
        take.skip("connect_matcher")
        return PathKind.CONNECT, ""
    raise take.error(take.one_of("path_match_policy") or "", "this kind of path matcher is not supported")


def _conditions_can_hold(take: Take) -> bool:
    """Conditions on what does not exist here: the route never matches, rather than always."""
    possible = True
    for name in ("dynamic_metadata", "filter_state"):
        if take.has(name):
            take.ignore(name, "it cannot be evaluated: the route never matches")
            possible = False
    return possible
