"""Statistics of a listener, under Envoy's names (``listener.ADDRESS.``)."""

from mosn_xds.base.stats import Histogram, StatGroup


class ListenerStats(StatGroup):
    """``listener.ADDRESS.`` or ``listener.STAT_PREFIX.``; `closed_listener` counts what a refused listener closed."""

    COUNTERS = (
        "downstream_cx_total",
        "downstream_cx_destroy",
        "downstream_cx_overflow",
        "downstream_cx_overload_reject",
        "downstream_cx_transport_socket_connect_timeout",
        "downstream_global_cx_overflow",
        "downstream_listener_filter_error",
        "downstream_listener_filter_remote_close",
        "downstream_pre_cx_timeout",
        "extension_config_missing",
        "network_extension_config_missing",
        "no_filter_chain_match",
        "closed_listener",
        "closed_by_unknown_filter",
    )
    GAUGES = ("downstream_cx_active", "downstream_pre_cx_active")
    HISTOGRAMS = ("downstream_cx_length_ms",)
    __slots__ = (*COUNTERS, *GAUGES, *HISTOGRAMS)

    downstream_cx_total: int
    downstream_cx_destroy: int
    downstream_cx_overflow: int
    downstream_cx_overload_reject: int
    downstream_cx_transport_socket_connect_timeout: int
    downstream_global_cx_overflow: int
    downstream_listener_filter_error: int
    downstream_listener_filter_remote_close: int
    downstream_pre_cx_timeout: int
    extension_config_missing: int
    network_extension_config_missing: int
    no_filter_chain_match: int
    closed_listener: int
    closed_by_unknown_filter: int
    downstream_cx_active: int
    downstream_pre_cx_active: int
    downstream_cx_length_ms: Histogram


class WorkerListenerStats(StatGroup):
    """``listener.ADDRESS.worker_N.``"""

    COUNTERS = ("downstream_cx_total",)
    GAUGES = ("downstream_cx_active",)
    __slots__ = (*COUNTERS, *GAUGES)

    downstream_cx_total: int
    downstream_cx_active: int
