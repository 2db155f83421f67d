"""Network filters beside the terminal ones: RBAC, and those of Istio's own proxy."""

from mosn_xds.control.translate.context import Context
from mosn_xds.control.translate.rbac_rules import take_rules
from mosn_xds.control.translate.take import Take
from mosn_xds.spec.listener import CloseConnection, NetworkRbac, PassNetworkFilter

_CONTINUOUS = 1


def rbac(take: Take, context: Context, name: str) -> NetworkRbac | CloseConnection:
    """envoy.extensions.filters.network.rbac.v3.RBAC. Rules given as a matcher tree let nothing pass."""
    if take.has("matcher"):
        take.ignore("matcher", "matcher trees are not supported: connections are closed")
        return CloseConnection(name, f"the matcher tree of {name} is not supported")
    if take.integer("enforcement_type") == _CONTINUOUS:
        take.ignore("enforcement_type", "a connection is judged once, at its first byte")
    return NetworkRbac(
        take.text("stat_prefix"),
        take_rules(take.child("rules"), context, enforced=True),
        take_rules(take.child("shadow_rules"), context, enforced=False),
        take.text("shadow_rules_stat_prefix"),
    )


def istio_stats(take: Take, context: Context, name: str) -> PassNetworkFilter:
    """stats.PluginConfig."""
    take.left.clear()
    take.ignore("", "Istio's metrics are not produced yet")
    return PassNetworkFilter(name)
