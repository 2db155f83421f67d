"""Statistics of a listener, under Envoy's names (``listener.ADDRESS.``)."""

from mosn_xds.base.stats import Histogram, StatGroup, StatRegistry


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


class TlsInspectorStats(StatGroup):
    """``tls_inspector.``; `bytes_processed` is how much of a connection it took to tell."""

    COUNTERS = (
        "client_hello_too_large",
        "tls_found",
        "tls_not_found",
        "alpn_found",
        "alpn_not_found",
        "sni_found",
        "sni_not_found",
    )
    HISTOGRAMS = ("bytes_processed",)
    __slots__ = (*COUNTERS, *HISTOGRAMS)

    client_hello_too_large: int
    tls_found: int
    tls_not_found: int
    alpn_found: int
    alpn_not_found: int
    sni_found: int
    sni_not_found: int
    bytes_processed: Histogram


class HttpInspectorStats(StatGroup):
    """``http_inspector.``."""

    COUNTERS = ("read_error", "http10_found", "http11_found", "http2_found", "http_not_found")
    __slots__ = COUNTERS

    read_error: int
    http10_found: int
    http11_found: int
    http2_found: int
    http_not_found: int


class ProtocolInspectorStats(StatGroup):
    """``protocol_inspector.``; beside these each protocol has its ``NAME_found``."""

    COUNTERS = ("protocol_not_found",)
    __slots__ = COUNTERS

    protocol_not_found: int

    def count_found(self, name: str) -> None:
        """A connection speaks the protocol of this name."""
        key = f"{name}_found"
        self.extra[key] = self.extra.get(key, 0) + 1


class InspectorStats:
    """What all inspections of a worker count in."""

    __slots__ = ("_registry", "http", "rpc", "tls")

    def __init__(self, stats: StatRegistry) -> None:
        self.tls = stats.group(TlsInspectorStats, "tls_inspector.")
        self.http = stats.group(HttpInspectorStats, "http_inspector.")
        self._registry = stats
        self.rpc: ProtocolInspectorStats | None = None

    def for_rpc(self) -> ProtocolInspectorStats:
        """Those of RPC protocols, which are there once somebody looks for one."""
        if self.rpc is None:
            self.rpc = self._registry.group(ProtocolInspectorStats, "protocol_inspector.")
        return self.rpc


class WorkerListenerStats(StatGroup):
    """``listener.ADDRESS.worker_N.``"""

    COUNTERS = ("downstream_cx_total",)
    GAUGES = ("downstream_cx_active",)
    __slots__ = (*COUNTERS, *GAUGES)

    downstream_cx_total: int
    downstream_cx_active: int
