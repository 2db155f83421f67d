"""Mutants for test_http2_upstream.py."""

from tests.mutation.mutant import Fixed, Ignored, Returns, Swap, mutant

CANARY = "test_bridge"

_CLUSTER = "spec.cluster:Cluster"
_CONNECTION = "data.upstream.http2:Http2Connection"

MUTANTS = [
    mutant(
        "every upstream speaks HTTP/1",
        Fixed(f"{_CLUSTER}.protocol", "UpstreamProtocol.HTTP1"),
        "test_bridge",
        spares="test_mirrored",
    ),
    mutant(
        "every upstream speaks HTTP/2",
        Fixed(f"{_CLUSTER}.protocol", "UpstreamProtocol.HTTP2"),
        "test_mirrored",
    ),
    mutant(
        "answers without content are framed as others are",
        Swap("data.codec.http1.response_writer:ResponseWriter.send_head", "status in (204, 304)", "False"),
        "test_bodiless",
        beside_envoy=True,
    ),
    mutant(
        "what has been read leaves no room for more",
        (
            Fixed("spec.listener:Http2Settings.initial_stream_window_bytes", "65535"),
            Swap(f"{_CONNECTION}._on_data", "self.codec.consume(stream.id, size)", "None"),
        ),
        "test_bodies",
    ),
    mutant(
        "cookies are changed",
        Swap(
            "data.codec.http1.server:Http1ServerCodec._on_header",
            "self._fields.append((known, value.rstrip()))",
            "self._fields.append((known, value.rstrip().replace(b'; ', b';')))",
        ),
        "test_cookies",
        beside_envoy=True,
    ),
    mutant(
        "trailers never pass",
        Ignored("spec.listener:Http1Settings.enable_trailers"),
        "test_response_trailers",
        "test_request_trailers",
    ),
    mutant(
        "proxy_100_continue has no effect",
        Ignored("spec.listener:HttpConnectionManager.proxy_100_continue"),
        "test_informational",
        beside_envoy=True,
    ),
    mutant(
        "failures of upstreams have no flags",
        Fixed("data.proxy.upstream_failure:FLAG_OF_RESET", "dict.fromkeys(ResetReason, 0)"),
        "test_reset_before_response",
        "test_connection_ends",
        "test_protocol_error",
        "test_bad_response_head",
        "test_goaway_at_once",
    ),
    mutant(
        "no reset says that the request was at fault",
        Returns("data.codec.http2.codes:remote_reset", "(ResetReason.REMOTE_RESET, REMOTE_RESET)"),
        "test_protocol_error_reset",
        beside_envoy=True,
    ),
    mutant(
        "a reset is an end",
        Swap(
            f"{_CONNECTION}._on_event",
            "self._fail(stream, event.reason, event.details)",
            "self._on_data(stream, b'', True)",
        ),
        "test_reset_within_response",
    ),
    mutant(
        "streams that nobody needs are not reset",
        Returns(f"{_CONNECTION}._reset"),
        "test_early_answer",
        "test_client_goes_away",
        "test_timeouts",
    ),
    mutant(
        "a broken response is a broken connection",
        (
            Swap("data.codec.http2.codec:", "ResetReason.PROTOCOL_ERROR", "ResetReason.CONNECTION_TERMINATION"),
            Swap("data.codec.http2.client:", "ResetReason.PROTOCOL_ERROR", "ResetReason.CONNECTION_TERMINATION"),
        ),
        "test_bad_response_head",
        "test_wrong_length",
        beside_envoy=True,
    ),
    mutant(
        "a connection carries one stream",
        Fixed("spec.listener:Http2Settings.max_concurrent_streams", "1"),
        "test_shared_connection",
    ),
    mutant(
        "max_concurrent_streams has no effect",
        Ignored("spec.listener:Http2Settings.max_concurrent_streams"),
        "test_limited_concurrency",
    ),
    mutant(
        "the peer's limit of streams has no effect",
        Returns(
            "data.codec.http2.client:Http2ClientCodec.max_concurrent_streams", "self._options.max_concurrent_streams"
        ),
        "test_peer_concurrency",
    ),
    mutant("max_requests has no effect", Ignored("spec.cluster:Breakers.max_requests"), "test_max_requests"),
    mutant(
        "max_requests_per_connection has no effect",
        Ignored(f"{_CLUSTER}.max_requests_per_connection"),
        "test_requests_per_connection",
    ),
    mutant(
        "GOAWAY is overlooked",
        Returns("data.upstream.multiplexed:MultiplexedConnection._go_away"),
        "test_goaway",
        spares="test_mirrored",
    ),
    mutant(
        "refused-stream has no effect",
        Fixed("data.upstream.retry:_REFUSED_STREAM", "0"),
        "test_goaway_refuses",
    ),
    mutant(
        "what no policy speaks of is never sent again",
        Returns("data.proxy.router:Router._may_resend", "False"),
        "test_goaway_without_policy",
    ),
    mutant(
        "retry_policy has no effect",
        Ignored("spec.route:RouteAction.retry"),
        "test_retries",
        beside_envoy=True,
    ),
    mutant(
        "upgrade_configs have no effect",
        Ignored("spec.listener:HttpConnectionManager.upgrades"),
        "test_websocket",
    ),
    mutant(
        "resets are not counted",
        Swap(f"{_CONNECTION}._fail", "stats.upstream_rq_rx_reset += 1", "pass"),
        "test_stats",
        beside_envoy=True,
    ),
]
