"""envoy.filters.network.rbac: connections that the rules deny are closed before a byte of theirs is looked at."""

from mosn_xds.base.stats import StatRegistry
from mosn_xds.data.filters.rbac import rbac_stats
from mosn_xds.data.filters.rbac_engine import ConnectionSubject, RbacEngine, denial_details
from mosn_xds.data.observe.info import ConnectionInfo
from mosn_xds.spec.listener import NetworkRbac


class NetworkRbacFilter:
    """One RBAC filter of a filter chain. Raises ConfigError for a bad expression."""

    __slots__ = ("_enforced", "_shadow", "_shadow_stats", "_stats")

    def __init__(self, spec: NetworkRbac, stats: StatRegistry) -> None:
        self._enforced = None if spec.rules is None else RbacEngine(spec.rules)
        self._shadow = None if spec.shadow_rules is None else RbacEngine(spec.shadow_rules)
        self._stats = rbac_stats(stats, spec.stat_prefix, "")
        self._shadow_stats = rbac_stats(stats, spec.stat_prefix, spec.shadow_stat_prefix)

    def refuse(self, connection: ConnectionInfo) -> str | None:
        """Why the connection is to be closed (`%CONNECTION_TERMINATION_DETAILS%`); None if it may stay."""
        subject = ConnectionSubject(connection)
        if self._shadow is not None:
            if self._shadow.decide(subject)[0]:
                self._shadow_stats.shadow_allowed += 1
            else:
                self._shadow_stats.shadow_denied += 1
        if self._enforced is None:
            return None
        allowed, policy = self._enforced.decide(subject)
        if allowed:
            self._stats.allowed += 1
            return None
        self._stats.denied += 1
        return denial_details(policy)

    def __repr__(self) -> str:
        return f"<NetworkRbacFilter {self._enforced or 'no rules'}>"
