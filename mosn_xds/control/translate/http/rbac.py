"""envoy.extensions.filters.http.rbac.v3.RBAC, for the chain and for routes."""

from mosn_xds.control.translate.context import Context
from mosn_xds.control.translate.rbac_rules import take_rules
from mosn_xds.control.translate.take import Take
from mosn_xds.spec.filters import RbacFilter, RbacPerRoute, UnknownFilter


def translate(take: Take, context: Context, name: str) -> RbacFilter | UnknownFilter:
    """Rules given as a matcher tree cannot be evaluated: such a filter lets nothing pass."""
    if take.has("matcher"):
        take.ignore("matcher", "matcher trees are not supported: requests are answered 503")
        return UnknownFilter(take.message.DESCRIPTOR.full_name, f"the matcher tree of {name} is not supported")
    return _read(take, context)


def _read(take: Take, context: Context) -> RbacFilter:
    return RbacFilter(
        take_rules(take.child("rules"), context, enforced=True),
        take_rules(take.child("shadow_rules"), context, enforced=False),
        take.text("shadow_rules_stat_prefix"),
        take.text("rules_stat_prefix"),
    )


def per_route(take: Take, context: Context, name: str) -> RbacPerRoute:
    """RBACPerRoute. Raises ConfigError for a matcher tree: there is no 503 for one route."""
    inner = take.child("rbac")
    if inner is None:
        return RbacPerRoute()
    if inner.has("matcher"):
        raise inner.error("matcher", "matcher trees are not supported", "give rules")
    return RbacPerRoute(_read(inner, context))
