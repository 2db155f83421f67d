"""The HTTP connection manager: the terminal network filter for HTTP, built once per filter chain from its Spec.

It adds to a `ConnectionManager` what only HTTP has: codec options, the treatment of heads, the slot of its route table, upgrades,
local reply mapping, the counters of its listener.
"""

from typing import TYPE_CHECKING

from mosn_xds.data.codec.http1 import HeaderKeyFormat, Http1Options, UnderscoreAction
from mosn_xds.data.codec.http2 import ENGINES, FloodLimits, Http2Options, Http2Stats
from mosn_xds.data.match.routes import RouteTable
from mosn_xds.data.proxy.connection import ServerConnection
from mosn_xds.data.proxy.context import RouteSlot, WorkerContext
from mosn_xds.data.proxy.decorator import Decorator
from mosn_xds.data.proxy.downstream import Downstream
from mosn_xds.data.proxy.http1_connection import Http1Connection
from mosn_xds.data.proxy.http2_connection import Http2Connection
from mosn_xds.data.proxy.local_reply import LocalReplies
from mosn_xds.data.proxy.manager import ConnectionManager
from mosn_xds.data.proxy.request_headers import RequestHeaders
from mosn_xds.data.proxy.response_headers import ResponseHeaders
from mosn_xds.data.proxy.route_plan import planner
from mosn_xds.data.proxy.stats import HttpStats, ListenerHttpStats
from mosn_xds.spec.filters import AlpnFilter, RouterFilter
from mosn_xds.spec.listener import CodecType, HeaderCase, TrafficDirection, UnderscoresAction
from mosn_xds.spec.listener import HttpConnectionManager as HcmSpec

if TYPE_CHECKING:
    from mosn_xds.data.proxy.stream import Stream

_CLASSES = ("", "downstream_rq_1xx", "downstream_rq_2xx", "downstream_rq_3xx", "downstream_rq_4xx", "downstream_rq_5xx")


class HttpConnectionManager(ConnectionManager):
    """envoy.filters.network.http_connection_manager at work. Raises ConfigError."""

    def __init__(
        self, spec: HcmSpec, context: WorkerContext, listener_stat_prefix: str, direction: TrafficDirection
    ) -> None:
        name = f"http.{spec.stat_prefix}."
        router = next((f.config for f in spec.filters if isinstance(f.config, RouterFilter)), RouterFilter())
        super().__init__(spec, context, context.stats.group(HttpStats, name), router)
        self.spec = spec
        self.listener_stats = context.stats.group(ListenerHttpStats, f"{listener_stat_prefix}{name}")
        self.http1_options = http1_options(spec)
        self.http2_engines = ENGINES[context.settings.http2]
        self._http2_options: Http2Options | None = None
        self._http2_stats: Http2Stats | None = None
        settings = context.settings
        self.request_headers = RequestHeaders(
            spec,
            node_id=settings.node_id,
            service_cluster=settings.node_cluster,
            local_ip=context.local_ip,
            random=context.random,
        )
        self.response_headers = ResponseHeaders(spec, self.clock)
        self.local_replies = LocalReplies.of(spec, context.environment)
        alpn = next((f.config for f in spec.filters if isinstance(f.config, AlpnFilter)), AlpnFilter())
        self.alpn_overrides = {
            one.upstream_protocol: tuple(name.encode() for name in one.alpn) for one in alpn.overrides
        }
        self.upgrades = {u.upgrade_type.encode(): u.enabled for u in spec.upgrades}
        self.stream_idle_timeout_s = spec.stream_idle_timeout_s
        self.request_timeout_s = spec.request_timeout_s
        self.request_headers_timeout_s = spec.request_headers_timeout_s
        self.max_stream_duration_s = spec.max_stream_duration_s
        self.delayed_close_timeout_s = spec.delayed_close_timeout_s
        self.proxy_100_continue = spec.proxy_100_continue
        self.decorator = Decorator(direction is TrafficDirection.OUTBOUND) if spec.traced else None
        self.knows_internal = bool(spec.internal_cidrs or spec.internal_unix_sockets)
        if spec.routes is not None:
            self.routes = RouteSlot(RouteTable.build(spec.routes, planner(context.environment)))
        else:
            self.routes = context.route_slot(spec.rds)

    def serve(self, downstream: Downstream) -> ServerConnection:
        if self.spec.codec is CodecType.HTTP2:
            return Http2Connection(self, downstream)
        return Http1Connection(self, downstream)

    @property
    def http2_stats(self) -> Http2Stats:
        """Those of all downstream codecs; they exist, as in Envoy, when somebody has spoken HTTP/2."""
        stats = self._http2_stats
        if stats is None:
            stats = self._http2_stats = self.context.stats.group(Http2Stats, "http2.")
        return stats

    def http2_options(self, buffer_limit_bytes: int) -> Http2Options:
        """The codec's options; all connections of a chain have the same buffer limit."""
        options = self._http2_options
        if options is None or options.high_water_bytes != buffer_limit_bytes:
            options = self._http2_options = http2_options(self.spec, buffer_limit_bytes)
        return options

    def request_ended(self, stream: "Stream") -> None:
        stats = self.stats
        stats.downstream_rq_active -= 1
        status = stream.response_code
        if status:
            listener = self.listener_stats
            stats.downstream_rq_completed += 1
            listener.downstream_rq_completed += 1
            kind = status // 100
            if kind == 2:
                stats.downstream_rq_2xx += 1
                listener.downstream_rq_2xx += 1
            elif 1 <= kind <= 5:
                name = _CLASSES[kind]
                setattr(stats, name, getattr(stats, name) + 1)
                setattr(listener, name, getattr(listener, name) + 1)
        stats.downstream_rq_time.record((stream.duration_s or 0.0) * 1000)


_KEY_FORMATS = {HeaderCase.PROPER_CASE: HeaderKeyFormat.PROPER_CASE, HeaderCase.PRESERVE: HeaderKeyFormat.PRESERVE}
_UNDERSCORES = {
    UnderscoresAction.ALLOW: UnderscoreAction.ALLOW,
    UnderscoresAction.REJECT_REQUEST: UnderscoreAction.REJECT_REQUEST,
    UnderscoresAction.DROP_HEADER: UnderscoreAction.DROP_HEADER,
}


def http1_options(spec: HcmSpec) -> Http1Options:
    """The codec's options of a connection manager."""
    settings = spec.http1
    return Http1Options(
        max_headers_bytes=spec.max_request_headers_bytes,
        max_headers_count=spec.max_headers_count,
        accept_http_10=settings.accept_http_10,
        default_host_for_http_10=settings.default_host_for_http_10.encode(),
        enable_trailers=settings.enable_trailers,
        header_key_format=_KEY_FORMATS.get(settings.header_case),
        allow_absolute_url=settings.allow_absolute_url,
        allow_chunked_length=settings.allow_chunked_length,
        underscores=_UNDERSCORES[spec.underscores],
    )


def http2_options(spec: HcmSpec, high_water_bytes: int) -> Http2Options:
    """The codec's options of a connection manager whose connections may buffer so much."""
    settings = spec.http2
    return Http2Options(
        max_concurrent_streams=settings.max_concurrent_streams,
        initial_stream_window_bytes=settings.initial_stream_window_bytes,
        initial_connection_window_bytes=settings.initial_connection_window_bytes,
        hpack_table_bytes=settings.hpack_table_bytes,
        custom_settings=settings.custom_settings,
        allow_connect=settings.allow_connect,
        stream_errors=settings.stream_error_on_invalid_message,
        max_headers_bytes=spec.max_request_headers_bytes,
        max_headers_count=spec.max_headers_count,
        underscores=_UNDERSCORES[spec.underscores],
        high_water_bytes=high_water_bytes,
        floods=FloodLimits(
            max_outbound_frames=settings.max_outbound_frames,
            max_outbound_control_frames=settings.max_outbound_control_frames,
            max_consecutive_inbound_frames_with_empty_payload=(
                settings.max_consecutive_inbound_frames_with_empty_payload
            ),
            max_inbound_priority_frames_per_stream=settings.max_inbound_priority_frames_per_stream,
            max_inbound_window_update_frames_per_data_frame_sent=(
                settings.max_inbound_window_update_frames_per_data_frame_sent
            ),
        ),
    )
