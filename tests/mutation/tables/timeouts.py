"""Mutants for test_timeouts.py."""

from tests.mutation.mutant import Fixed, Ignored, Returns, Swap, mutant

CANARY = "test_no_route_timeout"

_HCM = "spec.listener:HttpConnectionManager"
_ACTION = "spec.route:RouteAction"
_POLICY = "spec.route:RetryPolicy"
_CLUSTER = "spec.cluster:Cluster"
_ROUTER = "data.proxy.router:Router"
_RULES = "data.proxy.timeouts"

MUTANTS = [
    mutant(
        "a route's timeout has no effect",
        Ignored(f"{_ACTION}.timeout_s"),
        "test_route_timeout",
        "test_the_route_timeout_cuts_a_slow_body",
        "test_the_upstream_is_told_the_timeout",
        spares="test_the_route_switches_idle_off",
    ),
    mutant(
        "a request that is given up leaves its connection to the next one",
        Returns(
            "data.upstream.http1:Http1Connection.abandon",
            "(self._end(stream), setattr(self, 'free_streams', 1), self._pool.on_room(self))",
        ),
        "test_a_timed_out_request_closes_its_upstream_connection",
    ),
    mutant(
        "the route's timeout starts with the request",
        Swap(f"{_ROUTER}.start", "if end: self._request_complete(stream)", "self._request_complete(stream)"),
        "test_the_route_timeout_waits_for_the_request",
    ),
    mutant(
        "every route has a timeout",
        Fixed(f"{_ACTION}.timeout_s", "0.3"),
        "test_no_route_timeout",
        spares="test_request_timeout",
    ),
    mutant(
        "the upstream is not told the timeout",
        Fixed(f"{_RULES}:_EXPECTED", "b'x-other'"),
        "test_the_upstream_is_told_the_timeout",
        "test_a_per_try_timeout_above_the_routes_is_ignored",
    ),
    mutant(
        "clients cannot set timeouts",
        Fixed(f"{_RULES}:_TIMEOUT", "b'x-other'"),
        "test_an_internal_client_sets_the_timeout",
    ),
    mutant(
        "there is no alternative to 504",
        Fixed(f"{_RULES}:_ALTERNATIVE", "b'x-other'"),
        "test_the_alternative_response_to_a_timeout",
    ),
    mutant(
        "the route's timeout starts again with each try",
        Swap(
            f"{_ROUTER}._try_again",
            "self._try()",
            "(setattr(stream, 'route_deadline', stream.owner.clock.now + self._limits.whole_s), self._try())",
        ),
        "test_the_route_timeout_includes_retries",
    ),
    mutant(
        "per_try_timeout has no effect",
        Ignored(f"{_POLICY}.per_try_timeout_s"),
        "test_a_timed_out_try_is_retried",
        "test_the_last_try_times_out",
    ),
    mutant(
        "per_try_idle_timeout has no effect",
        Ignored(f"{_POLICY}.per_try_idle_timeout_s"),
        "test_per_try_idle_timeout",
    ),
    mutant(
        "per_try_timeout may be longer than the route's",
        Swap(f"{_RULES}:TimeoutRules._limit", "whole_s and try_s >= whole_s", "False"),
        "test_a_per_try_timeout_above_the_routes_is_ignored",
        "test_the_upstream_is_told_the_timeout",
    ),
    mutant(
        "a route's idle_timeout has no effect",
        Ignored(f"{_ACTION}.idle_timeout_s"),
        "test_stream_idle_before_a_response",
        "test_stream_idle_within_a_request",
        "test_a_stalled_response_is_cut",
        "test_the_route_switches_idle_off",
    ),
    mutant(
        "data does not rearm the idle timer",
        Swap("data.proxy.stream:Stream.respond_data", "self.idle_since = self.owner.clock.now", "pass"),
        "test_data_rearms_the_idle_timer",
    ),
    mutant("request_timeout has no effect", Ignored(f"{_HCM}.request_timeout_s"), "test_request_timeout"),
    mutant(
        "the end of a request does not disarm its timeout",
        Swap("data.proxy.stream:Stream._request_done", "self.request_deadline = NEVER", "pass"),
        "test_the_request_timeout_ends_with_the_request",
    ),
    mutant(
        "request_headers_timeout has no effect",
        Ignored(f"{_HCM}.request_headers_timeout_s"),
        "test_request_headers_timeout",
    ),
    mutant(
        "the head's timeout holds for the body",
        (
            Swap("data.proxy.http1_connection:Http1Connection._start", "self._head_deadline = NEVER", "pass"),
            Swap("data.proxy.http1_connection:Http1Connection._on_head_timeout", "self.streams", "False"),
        ),
        "test_the_headers_timeout_ends_with_the_head",
    ),
    mutant(
        "idle_timeout of a connection has no effect",
        Ignored(f"{_HCM}.idle_timeout_s"),
        "test_connection_idle_timeout",
    ),
    mutant(
        "max_connection_duration has no effect",
        Ignored(f"{_HCM}.max_connection_duration_s"),
        "test_an_old_connection_is_closed",
        "test_an_old_connection_finishes_its_request",
    ),
    mutant(
        "max_stream_duration has no effect",
        Ignored(f"{_HCM}.max_stream_duration_s"),
        "test_max_stream_duration",
    ),
    mutant(
        "grpc_timeout_header_max has no effect",
        Ignored(f"{_ACTION}.grpc_timeout_max_s"),
        "test_grpc_timeout",
    ),
    mutant(
        "max_stream_duration of a cluster has no effect",
        Ignored(f"{_CLUSTER}.max_stream_duration_s"),
        "test_upstream_max_stream_duration",
    ),
    mutant(
        "idle_timeout of a cluster has no effect",
        Ignored(f"{_CLUSTER}.idle_timeout_s"),
        "test_upstream_idle_timeout",
    ),
]
