"""What the HTTP/2 connections of one cluster share: the options of their codecs, statistics, library, chance."""

from dataclasses import dataclass

from mosn_xds.base.chance import Random
from mosn_xds.data.codec.http2 import EngineFactory, Http2Options, Http2Stats
from mosn_xds.data.upstream.multiplexed import UNLIMITED_STREAMS
from mosn_xds.spec.cluster import Cluster

_MAX_HEADERS_BYTES = 60 * 1024


@dataclass(frozen=True, slots=True)
class Http2Parts:
    """What all HTTP/2 connections of a cluster share."""

    options: Http2Options
    stats: Http2Stats
    engines: EngineFactory
    random: Random


def streams_of_a_new_connection(spec: Cluster, options: Http2Options) -> int:
    """How many streams a connection takes at once until its peer has said something else."""
    return min(spec.max_requests_per_connection or UNLIMITED_STREAMS, options.max_concurrent_streams)


def http2_options(spec: Cluster) -> Http2Options:
    """What the cluster says about its codec."""
    settings = spec.http2
    return Http2Options(
        max_concurrent_streams=settings.max_concurrent_streams,
        initial_stream_window_bytes=settings.initial_stream_window_bytes,
        initial_connection_window_bytes=settings.initial_connection_window_bytes,
        hpack_table_bytes=settings.hpack_table_bytes,
        custom_settings=settings.custom_settings,
        stream_errors=settings.stream_error_on_invalid_message,
        max_headers_bytes=spec.max_response_headers_bytes or _MAX_HEADERS_BYTES,
        max_headers_count=spec.max_headers_count,
        high_water_bytes=spec.buffer_limit_bytes,
    )
