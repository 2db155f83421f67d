"""envoy.filters.http.rbac: requests that the rules deny get 403; shadow rules are judged and counted, no more."""

from mosn_xds.base.stats import StatGroup, StatRegistry
from mosn_xds.data.filters.api import FilterStream, Reply, StreamFilter
from mosn_xds.data.filters.per_route import PerRoute
from mosn_xds.data.filters.rbac_engine import RbacEngine, denial_details
from mosn_xds.spec.filters import RbacFilter as RbacSpec
from mosn_xds.spec.filters import RbacPerRoute

_NAMESPACE = "envoy.filters.http.rbac"
_BODY = b"RBAC: access denied"


class RbacStats(StatGroup):
    """``rbac.`` of a connection manager or network filter; rules with a stat prefix have a group of their own."""

    COUNTERS = ("allowed", "denied", "shadow_allowed", "shadow_denied")
    __slots__ = COUNTERS

    allowed: int
    denied: int
    shadow_allowed: int
    shadow_denied: int


def rbac_stats(stats: StatRegistry, prefix: str, rules_prefix: str) -> RbacStats:
    """The group for rules with this prefix; Envoy puts a dot behind each part that does not end with one."""
    name = f"{_dotted(prefix)}rbac.{_dotted(rules_prefix)}"
    return stats.group(RbacStats, name)


def _dotted(prefix: str) -> str:
    return prefix if not prefix or prefix.endswith(".") else prefix + "."


class _Rules:
    """One configuration at work: of the chain, or of a route."""

    __slots__ = ("enforced", "shadow", "shadow_prefix", "shadow_stats", "stats")

    def __init__(self, spec: RbacSpec, stats: StatRegistry, prefix: str) -> None:
        self.enforced = None if spec.rules is None else RbacEngine(spec.rules)
        self.shadow = None if spec.shadow_rules is None else RbacEngine(spec.shadow_rules)
        self.shadow_prefix = spec.shadow_stat_prefix
        self.stats = rbac_stats(stats, prefix, spec.stat_prefix)
        self.shadow_stats = rbac_stats(stats, prefix, spec.shadow_stat_prefix)


class RbacFilter(StreamFilter):
    """One RBAC filter of a chain. Raises ConfigError for a bad expression."""

    def __init__(self, spec: RbacSpec, stats: StatRegistry, stat_prefix: str) -> None:
        self._rules: _Rules | None = _Rules(spec, stats, stat_prefix)
        self._per_route: PerRoute[RbacPerRoute, _Rules | None] = PerRoute(
            lambda route: None if route.rbac is None else _Rules(route.rbac, stats, stat_prefix)
        )

    def on_request(self, stream: FilterStream, end: bool) -> Reply | None:
        route = stream.filter_config(self.name)
        rules = self._per_route.of(route) if isinstance(route, RbacPerRoute) else self._rules
        if rules is None:
            return None
        if rules.shadow is not None:
            self._judge(rules, rules.shadow, stream)
        if rules.enforced is None:
            return None
        allowed, policy = rules.enforced.decide(stream)
        stream.set_metadata(_NAMESPACE, "enforced_effective_policy_id", policy)
        stream.set_metadata(_NAMESPACE, "enforced_engine_result", "allowed" if allowed else "denied")
        if allowed:
            rules.stats.allowed += 1
            return None
        rules.stats.denied += 1
        return Reply(403, _BODY, details=denial_details(policy))

    def _judge(self, rules: _Rules, shadow: RbacEngine, stream: FilterStream) -> None:
        allowed, policy = shadow.decide(stream)
        if allowed:
            rules.shadow_stats.shadow_allowed += 1
        else:
            rules.shadow_stats.shadow_denied += 1
        if policy:
            stream.set_metadata(_NAMESPACE, f"{rules.shadow_prefix}shadow_effective_policy_id", policy)
        stream.set_metadata(
            _NAMESPACE, f"{rules.shadow_prefix}shadow_engine_result", "allowed" if allowed else "denied"
        )

    def __repr__(self) -> str:
        return f"<RbacFilter {self.name}>"
