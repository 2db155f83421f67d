"""What the control half counts, under Envoy's names (arch: `SubscriptionStats`, `ControlPlaneStats`)."""

from mosn_xds.base.stats import Histogram, StatGroup


class SubscriptionStats(StatGroup):
    """One per wildcard type: ``cluster_manager.cds.``, ``listener_manager.lds.``; and per secret: ``sds.NAME.``.

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


class ClusterManagerStats(StatGroup):
    """``cluster_manager.``"""

    COUNTERS = ("cluster_added", "cluster_modified", "cluster_removed", "cluster_updated")
    GAUGES = ("active_clusters", "warming_clusters")
    __slots__ = (*COUNTERS, *GAUGES)
    cluster_added: int
    cluster_modified: int
    cluster_removed: int
    cluster_updated: int
    active_clusters: int
    warming_clusters: int


class ListenerManagerStats(StatGroup):
    """``listener_manager.``; draining listeners and started workers are counted where workers are known."""

    COUNTERS = (
        "listener_added", "listener_create_failure", "listener_create_success", "listener_in_place_updated",
        "listener_modified", "listener_removed", "listener_stopped",
    )  # fmt: skip
    GAUGES = (
        "total_filter_chains_draining", "total_listeners_active", "total_listeners_draining",
        "total_listeners_warming", "workers_started",
    )  # fmt: skip
    __slots__ = (*COUNTERS, *GAUGES)
    listener_added: int
    listener_create_failure: int
    listener_create_success: int
    listener_in_place_updated: int
    listener_modified: int
    listener_removed: int
    listener_stopped: int
    total_filter_chains_draining: int
    total_listeners_active: int
    total_listeners_draining: int
    total_listeners_warming: int
    workers_started: int
