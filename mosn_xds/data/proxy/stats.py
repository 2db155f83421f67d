"""Statistics of the HTTP connection manager and of its listener, under Envoy's names."""

from typing import ClassVar

from mosn_xds.base.stats import Histogram, StatGroup

_COUNTERS = (
    "downstream_cx_total",
    "downstream_cx_http1_total",
    "downstream_cx_http2_total",
    "downstream_cx_http3_total",
    "downstream_cx_ssl_total",
    "downstream_cx_upgrades_total",
    "downstream_cx_destroy",
    "downstream_cx_destroy_remote",
    "downstream_cx_destroy_local",
    "downstream_cx_destroy_active_rq",
    "downstream_cx_destroy_local_active_rq",
    "downstream_cx_destroy_remote_active_rq",
    "downstream_cx_protocol_error",
    "downstream_cx_rx_bytes_total",
    "downstream_cx_tx_bytes_total",
    "downstream_cx_drain_close",
    "downstream_cx_idle_timeout",
    "downstream_cx_max_duration_reached",
    "downstream_cx_max_requests_reached",
    "downstream_cx_overload_disable_keepalive",
    "downstream_flow_control_paused_reading_total",
    "downstream_flow_control_resumed_reading_total",
    "downstream_rq_total",
    "downstream_rq_http1_total",
    "downstream_rq_http2_total",
    "downstream_rq_http3_total",
    "downstream_rq_rejected_via_ip_detection",
    "downstream_rq_response_before_rq_complete",
    "downstream_rq_rx_reset",
    "downstream_rq_tx_reset",
    "downstream_rq_non_relative_path",
    "downstream_rq_too_large",
    "downstream_rq_too_many_premature_resets",
    "downstream_rq_completed",
    "downstream_rq_failed_path_normalization",
    "downstream_rq_redirected_with_normalized_path",
    "downstream_rq_1xx",
    "downstream_rq_2xx",
    "downstream_rq_3xx",
    "downstream_rq_4xx",
    "downstream_rq_5xx",
    "downstream_rq_ws_on_non_ws_route",
    "downstream_rq_idle_timeout",
    "downstream_rq_max_duration_reached",
    "downstream_rq_timeout",
    "downstream_rq_header_timeout",
    "downstream_rq_overload_close",
    "rs_too_large",
    "no_route",
    "no_cluster",
    "rq_redirect",
    "rq_direct_response",
    "rq_total",
    "rq_reset_after_downstream_response_started",
    "rq_retry_skipped_request_not_complete",
    "rq_overload_local_reply",
)
_GAUGES = (
    "downstream_cx_active",
    "downstream_cx_http1_active",
    "downstream_cx_http2_active",
    "downstream_cx_http3_active",
    "downstream_cx_http1_soft_drain",
    "downstream_cx_rx_bytes_buffered",
    "downstream_cx_ssl_active",
    "downstream_cx_tx_bytes_buffered",
    "downstream_cx_upgrades_active",
    "downstream_rq_active",
)


class HttpStats(StatGroup):
    """``http.STAT_PREFIX.``"""

    COUNTERS: ClassVar[tuple[str, ...]] = _COUNTERS
    GAUGES: ClassVar[tuple[str, ...]] = _GAUGES
    HISTOGRAMS: ClassVar[tuple[str, ...]] = ("downstream_cx_length_ms", "downstream_rq_time")
    __slots__ = (*_COUNTERS, *_GAUGES, "downstream_cx_length_ms", "downstream_rq_time")

    downstream_cx_total: int
    downstream_cx_http1_total: int
    downstream_cx_http2_total: int
    downstream_cx_http3_total: int
    downstream_cx_ssl_total: int
    downstream_cx_upgrades_total: int
    downstream_cx_destroy: int
    downstream_cx_destroy_remote: int
    downstream_cx_destroy_local: int
    downstream_cx_destroy_active_rq: int
    downstream_cx_destroy_local_active_rq: int
    downstream_cx_destroy_remote_active_rq: int
    downstream_cx_protocol_error: int
    downstream_cx_rx_bytes_total: int
    downstream_cx_tx_bytes_total: int
    downstream_cx_drain_close: int
    downstream_cx_idle_timeout: int
    downstream_cx_max_duration_reached: int
    downstream_cx_max_requests_reached: int
    downstream_cx_overload_disable_keepalive: int
    downstream_flow_control_paused_reading_total: int
    downstream_flow_control_resumed_reading_total: int
    downstream_rq_total: int
    downstream_rq_http1_total: int
    downstream_rq_http2_total: int
    downstream_rq_http3_total: int
    downstream_rq_rejected_via_ip_detection: int
    downstream_rq_response_before_rq_complete: int
    downstream_rq_rx_reset: int
    downstream_rq_tx_reset: int
    downstream_rq_non_relative_path: int
    downstream_rq_too_large: int
    downstream_rq_too_many_premature_resets: int
    downstream_rq_completed: int
    downstream_rq_failed_path_normalization: int
    downstream_rq_redirected_with_normalized_path: int
    downstream_rq_1xx: int
    downstream_rq_2xx: int
    downstream_rq_3xx: int
    downstream_rq_4xx: int
    downstream_rq_5xx: int
    downstream_rq_ws_on_non_ws_route: int
    downstream_rq_idle_timeout: int
    downstream_rq_max_duration_reached: int
    downstream_rq_timeout: int
    downstream_rq_header_timeout: int
    downstream_rq_overload_close: int
    rs_too_large: int
    no_route: int
    no_cluster: int
    rq_redirect: int
    rq_direct_response: int
    rq_total: int
    rq_reset_after_downstream_response_started: int
    rq_retry_skipped_request_not_complete: int
    rq_overload_local_reply: int
    downstream_cx_active: int
    downstream_cx_http1_active: int
    downstream_cx_http2_active: int
    downstream_cx_http3_active: int
    downstream_cx_http1_soft_drain: int
    downstream_cx_rx_bytes_buffered: int
    downstream_cx_ssl_active: int
    downstream_cx_tx_bytes_buffered: int
    downstream_cx_upgrades_active: int
    downstream_rq_active: int
    downstream_cx_length_ms: Histogram
    downstream_rq_time: Histogram


class ListenerHttpStats(StatGroup):
    """``listener.ADDRESS.http.STAT_PREFIX.``"""

    COUNTERS = (
        "downstream_rq_completed",
        "downstream_rq_1xx",
        "downstream_rq_2xx",
        "downstream_rq_3xx",
        "downstream_rq_4xx",
        "downstream_rq_5xx",
    )
    __slots__ = COUNTERS

    downstream_rq_completed: int
    downstream_rq_1xx: int
    downstream_rq_2xx: int
    downstream_rq_3xx: int
    downstream_rq_4xx: int
    downstream_rq_5xx: int
