"""What the control half counts, under Envoy's names (arch: `SubscriptionStats`, `ControlPlaneStats`)."""

from mosn_xds.base.stats import Histogram, StatGroup


class SubscriptionStats(StatGroup):
    """One per wildcard type: ``cluster_manager.cds.``, ``listener_manager.lds.``.

    `update_attempt` counts the subscription and every outcome; `version` is the xxHash64 of the version accepted last,
    `update_time` its wall-clock time in ms.
    """

    COUNTERS = ("init_fetch_timeout", "update_attempt", "update_failure", "update_rejected", "update_success")
    GAUGES = ("update_time", "version")
    HISTOGRAMS = ("update_duration",)
    __slots__ = (*COUNTERS, *GAUGES, *HISTOGRAMS)
    init_fetch_timeout: int
    update_attempt: int
    update_failure: int
    update_rejected: int
    update_success: int
    update_time: int
    version: int
    update_duration: Histogram


class ControlPlaneStats(StatGroup):
    """``control_plane.``: `connected_state` is 1 while Pilot's stream is up."""

    COUNTERS = ("rate_limit_enforced",)
    GAUGES = ("connected_state", "pending_requests")
    __slots__ = (*COUNTERS, *GAUGES)
    rate_limit_enforced: int
    connected_state: int
    pending_requests: int
