"""The statistics of one cluster, under Envoy's names.

`ClusterStats` holds what every cluster has; `BreakerStats` (one for each priority) and the two of the hash balancers are
groups of their own, as their prefixes are. Names of responses (``upstream_rq_503``) are known only at run time and go to
`ClusterStats.extra` by `count_response`.
"""

from enum import IntEnum
from typing import Final

from mosn_xds.base.stats import Histogram, StatGroup

_COUNTERS: Final = (
    "assignment_stale",
    "assignment_timeout_received",
    "bind_errors",
    "lb_healthy_panic",
    "lb_local_cluster_not_ok",
    "lb_recalculate_zone_structures",
    "lb_zone_cluster_too_small",
    "lb_zone_no_capacity_left",
    "lb_zone_routing_all_directly",
    "lb_zone_routing_cross_zone",
    "lb_zone_routing_sampled",
    "membership_change",
    "original_dst_host_invalid",
    "retry_or_shadow_abandoned",
    "upstream_cx_close_notify",
    "upstream_cx_connect_attempts_exceeded",
    "upstream_cx_connect_fail",
    "upstream_cx_connect_timeout",
    "upstream_cx_destroy",
    "upstream_cx_destroy_local",
    "upstream_cx_destroy_local_with_active_rq",
    "upstream_cx_destroy_remote",
    "upstream_cx_destroy_remote_with_active_rq",
    "upstream_cx_destroy_with_active_rq",
    "upstream_cx_http1_total",
    "upstream_cx_http2_total",
    "upstream_cx_idle_timeout",
    "upstream_cx_max_duration_reached",
    "upstream_cx_max_requests",
    "upstream_cx_none_healthy",
    "upstream_cx_overflow",
    "upstream_cx_pool_overflow",
    "upstream_cx_protocol_error",
    "upstream_cx_rx_bytes_total",
    "upstream_cx_total",
    "upstream_cx_tx_bytes_total",
    "upstream_flow_control_backed_up_total",
    "upstream_flow_control_drained_total",
    "upstream_flow_control_paused_reading_total",
    "upstream_flow_control_resumed_reading_total",
    "upstream_internal_redirect_failed_total",
    "upstream_internal_redirect_succeeded_total",
    "upstream_rq_active_overflow",
    "upstream_rq_cancelled",
    "upstream_rq_completed",
    "upstream_rq_maintenance_mode",
    "upstream_rq_max_duration_reached",
    "upstream_rq_pending_failure_eject",
    "upstream_rq_pending_overflow",
    "upstream_rq_pending_total",
    "upstream_rq_per_try_idle_timeout",
    "upstream_rq_per_try_timeout",
    "upstream_rq_retry",
    "upstream_rq_retry_backoff_exponential",
    "upstream_rq_retry_backoff_ratelimited",
    "upstream_rq_retry_limit_exceeded",
    "upstream_rq_retry_overflow",
    "upstream_rq_retry_success",
    "upstream_rq_rx_reset",
    "upstream_rq_timeout",
    "upstream_rq_total",
    "upstream_rq_tx_reset",
)
_GAUGES: Final = (
    "max_host_weight",
    "membership_degraded",
    "membership_excluded",
    "membership_healthy",
    "membership_total",
    "upstream_cx_active",
    "upstream_cx_rx_bytes_buffered",
    "upstream_cx_tx_bytes_buffered",
    "upstream_rq_active",
    "upstream_rq_pending_active",
)
_HISTOGRAMS: Final = ("upstream_cx_connect_ms", "upstream_cx_length_ms", "upstream_rq_per_cx", "upstream_rq_time")
_SHARED: Final = (
    "max_host_weight",
    "membership_change",
    "membership_degraded",
    "membership_excluded",
    "membership_healthy",
    "membership_total",
)


class ResponseKind(IntEnum):
    """Whose responses a counter counts; the value spaces the keys of `ClusterStats`."""

    EXTERNAL = 0
    INTERNAL = 1000
    RETRIED = 2000


_PREFIXES: Final = {
    ResponseKind.EXTERNAL: ("", "external."),
    ResponseKind.INTERNAL: ("", "internal."),
    ResponseKind.RETRIED: ("retry.",),
}


class ClusterStats(StatGroup):
    """``cluster.NAME.``

    A response counts under three names, with and without ``internal.`` or ``external.``: the six counters are one until
    the group is reported.
    """

    COUNTERS = _COUNTERS
    GAUGES = _GAUGES
    HISTOGRAMS = _HISTOGRAMS
    SHARED = _SHARED
    __slots__ = (*_COUNTERS, *_GAUGES, *_HISTOGRAMS, "_responses")

    assignment_stale: int
    assignment_timeout_received: int
    bind_errors: int
    lb_healthy_panic: int
    lb_local_cluster_not_ok: int
    lb_recalculate_zone_structures: int
    lb_zone_cluster_too_small: int
    lb_zone_no_capacity_left: int
    lb_zone_routing_all_directly: int
    lb_zone_routing_cross_zone: int
    lb_zone_routing_sampled: int
    membership_change: int
    original_dst_host_invalid: int
    retry_or_shadow_abandoned: int
    upstream_cx_close_notify: int
    upstream_cx_connect_attempts_exceeded: int
    upstream_cx_connect_fail: int
    upstream_cx_connect_timeout: int
    upstream_cx_destroy: int
    upstream_cx_destroy_local: int
    upstream_cx_destroy_local_with_active_rq: int
    upstream_cx_destroy_remote: int
    upstream_cx_destroy_remote_with_active_rq: int
    upstream_cx_destroy_with_active_rq: int
    upstream_cx_http1_total: int
    upstream_cx_http2_total: int
    upstream_cx_idle_timeout: int
    upstream_cx_max_duration_reached: int
    upstream_cx_max_requests: int
    upstream_cx_none_healthy: int
    upstream_cx_overflow: int
    upstream_cx_pool_overflow: int
    upstream_cx_protocol_error: int
    upstream_cx_rx_bytes_total: int
    upstream_cx_total: int
    upstream_cx_tx_bytes_total: int
    upstream_flow_control_backed_up_total: int
    upstream_flow_control_drained_total: int
    upstream_flow_control_paused_reading_total: int
    upstream_flow_control_resumed_reading_total: int
    upstream_internal_redirect_failed_total: int
    upstream_internal_redirect_succeeded_total: int
    upstream_rq_active_overflow: int
    upstream_rq_cancelled: int
    upstream_rq_completed: int
    upstream_rq_maintenance_mode: int
    upstream_rq_max_duration_reached: int
    upstream_rq_pending_failure_eject: int
    upstream_rq_pending_overflow: int
    upstream_rq_pending_total: int
    upstream_rq_per_try_idle_timeout: int
    upstream_rq_per_try_timeout: int
    upstream_rq_retry: int
    upstream_rq_retry_backoff_exponential: int
    upstream_rq_retry_backoff_ratelimited: int
    upstream_rq_retry_limit_exceeded: int
    upstream_rq_retry_overflow: int
    upstream_rq_retry_success: int
    upstream_rq_rx_reset: int
    upstream_rq_timeout: int
    upstream_rq_total: int
    upstream_rq_tx_reset: int
    max_host_weight: int
    membership_degraded: int
    membership_excluded: int
    membership_healthy: int
    membership_total: int
    upstream_cx_active: int
    upstream_cx_rx_bytes_buffered: int
    upstream_cx_tx_bytes_buffered: int
    upstream_rq_active: int
    upstream_rq_pending_active: int
    upstream_cx_connect_ms: Histogram
    upstream_cx_length_ms: Histogram
    upstream_rq_per_cx: Histogram
    upstream_rq_time: Histogram

    def __init__(self, prefix: str) -> None:
        super().__init__(prefix)
        self._responses: dict[int, int] = {}

    def count_response(self, status: int, kind: ResponseKind = ResponseKind.EXTERNAL) -> None:
        """A final response of this status went downstream; RETRIED: it did not, as the request was sent again."""
        key = status + kind
        responses = self._responses
        if key in responses:
            responses[key] += 1
        else:
            responses[key] = 1

    def settle(self) -> None:
        if not self._responses:
            return
        responses, self._responses = self._responses, {}
        for key, times in responses.items():
            kind = ResponseKind(key // 1000 * 1000)
            status = key % 1000
            for prefix in _PREFIXES[kind]:
                if prefix:
                    self.count(f"{prefix}upstream_rq_completed", times)
                else:
                    self.upstream_rq_completed += times
                self.count(f"{prefix}upstream_rq_{status // 100}xx", times)
                self.count(f"{prefix}upstream_rq_{status}", times)


class RingStats(StatGroup):
    """``cluster.NAME.ring_hash_lb.``"""

    GAUGES = ("max_hashes_per_host", "min_hashes_per_host", "size")
    SHARED = GAUGES
    __slots__ = GAUGES

    max_hashes_per_host: int
    min_hashes_per_host: int
    size: int


class MaglevStats(StatGroup):
    """``cluster.NAME.maglev_lb.``"""

    GAUGES = ("max_entries_per_host", "min_entries_per_host")
    SHARED = GAUGES
    __slots__ = GAUGES

    max_entries_per_host: int
    min_entries_per_host: int
