"""Mutants for test_grpc.py. Its tables of values are in the comparison with Envoy."""

from tests.mutation.mutant import Fixed, Ignored, Returns, Swap, mutant

CANARY = "test_http_status"

_ACTION = "spec.route:RouteAction"
_RETRY = "data.upstream.retry"

MUTANTS = [
    mutant(
        "max_grpc_timeout and grpc_timeout_header_max have no effect",
        Ignored(f"{_ACTION}.grpc_timeout_max_s"),
        "test_grpc_timeout",
        beside_envoy=True,
    ),
    mutant(
        "offsets have no effect",
        Ignored(f"{_ACTION}.grpc_timeout_offset_s"),
        "test_grpc_timeout",
        beside_envoy=True,
    ),
    mutant(
        "gRPC is answered as others are",
        Swap("data.proxy.local_reply:reply_head", "grpc", "False"),
        "test_grpc_timeout_over",
        "test_resets",
    ),
    mutant(
        "own answers to gRPC are like others",
        Swap("data.proxy.local_reply:reply_head", "grpc", "False"),
        "test_local_replies",
        beside_envoy=True,
    ),
    mutant(
        "everything is answered as gRPC is",
        Swap("data.proxy.local_reply:reply_head", "grpc", "True"),
        "test_local_replies",
        beside_envoy=True,
    ),
    mutant(
        "grpc-timeout is heeded of any request",
        Swap("data.proxy.timeouts:TimeoutRules.apply", "is_grpc(index.get(_CONTENT_TYPE))", "True"),
        "test_grpc_timeout_without_grpc",
        beside_envoy=True,
    ),
    mutant(
        "an HTTP status is not told to gRPC",
        Swap(
            "data.proxy.router:Router.on_response_head",
            "stream.respond(head, end)",
            "(setattr(head, 'status', 200), stream.respond(head, end))",
        ),
        "test_http_status",
        spares="test_resets",
    ),
    mutant(
        "gRPC statuses are no reason for a retry",
        Fixed(f"{_RETRY}:_GRPC_STATUSES", "{}"),
        "test_retries",
        beside_envoy=True,
    ),
    mutant(
        "gRPC statuses cause no retries",
        Fixed(f"{_RETRY}:_GRPC_STATUSES", "{}"),
        "test_retries_exhausted",
        "test_retries_by_header",
    ),
    mutant(
        "every answer is one to retry after",
        Returns(f"{_RETRY}:RetryRules.wants_response", "True"),
        "test_no_retry_by_trailers",
        spares="test_resets",
    ),
    mutant(
        "grpc_stats counts nothing",
        Swap("data.filters.build:_build", "GrpcStatsFilter(config, worker.stats)", "None"),
        "test_grpc_stats",
    ),
    mutant(
        "a call's status is not its host's",
        Returns("data.upstream.cluster:Cluster.charge_grpc"),
        "test_host_figures",
    ),
]
