"""What a listener or a cluster may choose about its HTTP/2."""

from dataclasses import dataclass

from mosn_xds.data.codec.http1.options import UnderscoreAction


@dataclass(frozen=True, slots=True)
class FloodLimits:
    """Bounds on what is legal but serves only to wear a peer down, with Envoy's names and defaults.

    `max_outbound_frames` and `max_outbound_control_frames` count what waits for a peer that does not read. The numbers of
    PRIORITY and WINDOW_UPDATE frames are allowed per stream and per DATA frame sent (Envoy: `protocol_constraints.cc`).
    """

    max_outbound_frames: int = 10_000
    max_outbound_control_frames: int = 1_000
    max_consecutive_inbound_frames_with_empty_payload: int = 1
    max_inbound_priority_frames_per_stream: int = 100
    max_inbound_window_update_frames_per_data_frame_sent: int = 10
    stream_reset_burst: int = 1_000
    stream_reset_rate_per_s: int = 33


@dataclass(frozen=True, slots=True)
class Http2Options:
    """`Http2ProtocolOptions`, and the limits of `HttpConnectionManager` and `HttpProtocolOptions` that hold in the codec.

    `max_headers_bytes` counts names and values of a header section, pseudo headers included, `max_headers_count` its
    fields. `high_water_bytes` is how much of one stream's body may wait in the codec before `send_data` says so.
    `stream_errors` keeps a connection on which a malformed message came: only the stream is reset.
    `custom_settings` are parameters of the first SETTINGS frame, by identifier; they stand before those of the other fields.
    """

    max_concurrent_streams: int = 1024
    initial_stream_window_bytes: int = 16 << 20
    initial_connection_window_bytes: int = 24 << 20
    hpack_table_bytes: int = 4096
    allow_connect: bool = False
    custom_settings: tuple[tuple[int, int], ...] = ()
    stream_errors: bool = False
    max_headers_bytes: int = 60 * 1024
    max_headers_count: int = 100
    underscores: UnderscoreAction = UnderscoreAction.ALLOW
    high_water_bytes: int = 1 << 20
    floods: FloodLimits = FloodLimits()
