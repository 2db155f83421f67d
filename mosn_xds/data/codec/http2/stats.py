"""Statistics of an HTTP/2 codec under Envoy's names: ``http2.`` downstream, ``cluster.NAME.http2.`` upstream.

Envoy's gauges of what waits for a peer are not among them: frames and bytes wait in nghttp2 and the socket's queue, which say
so when a limit asks, and following them would cost every write.
"""

from mosn_xds.base.stats import StatGroup

_COUNTERS = (
    "cookies_total_bytes_too_large",
    "dropped_headers_with_underscores",
    "goaway_sent",
    "header_list_size_too_large",
    "header_overflow",
    "headers_cb_no_stream",
    "inbound_empty_frames_flood",
    "inbound_priority_frames_flood",
    "inbound_window_update_frames_flood",
    "keepalive_timeout",
    "metadata_empty_frames",
    "outbound_control_flood",
    "outbound_flood",
    "requests_rejected_with_underscores_in_headers",
    "rx_messaging_error",
    "rx_reset",
    "stream_refused_errors",
    "trailers",
    "tx_flush_timeout",
    "tx_reset",
)
_GAUGES = ("streams_active",)


class Http2Stats(StatGroup):
    """What the connections of one side have seen."""

    COUNTERS = _COUNTERS
    GAUGES = _GAUGES
    __slots__ = (*_COUNTERS, *_GAUGES)

    cookies_total_bytes_too_large: int
    dropped_headers_with_underscores: int
    goaway_sent: int
    header_list_size_too_large: int
    header_overflow: int
    headers_cb_no_stream: int
    inbound_empty_frames_flood: int
    inbound_priority_frames_flood: int
    inbound_window_update_frames_flood: int
    keepalive_timeout: int
    metadata_empty_frames: int
    outbound_control_flood: int
    outbound_flood: int
    requests_rejected_with_underscores_in_headers: int
    rx_messaging_error: int
    rx_reset: int
    stream_refused_errors: int
    trailers: int
    tx_flush_timeout: int
    tx_reset: int
    streams_active: int
