"""Mutants for test_generic_proxy.py."""

from tests.mutation.mutant import Fixed, Ignored, Returns, Swap, mutant

CANARY = "test_many_connections"

_DUBBO = "data.codec.rpc.dubbo.protocol:Dubbo"
_STREAM = "data.proxy.rpc.stream"

MUTANTS = [
    mutant(
        "failures have HTTP's words",
        Fixed(f"{_STREAM}:_REASONS", "{}"),
        "test_failures",
        "test_bad_responses",
        "test_one_attempt",
        "test_no_retry_of_an_overflow",
        "test_timeout_over_attempts",
        "test_late_answer",
        "test_half_an_answer",
        "test_half_an_answer_in_time",
        "test_unknown_id",
    ),
    mutant(
        "errors have no text",
        Swap(f"{_DUBBO}.reply", "hessian2.write_string(reason.encode())", "b'\\0'"),
        "test_error_text",
        "test_failures",
    ),
    mutant(
        "whatever the status, there is a result",
        Swap(f"{_DUBBO}.from_server", "code == OK", "True"),
        "test_statuses",
        "test_body_of_an_error",
        "test_unknown_statuses",
        "test_no_retry_of_a_status",
    ),
    mutant(
        "statuses are all the same to HTTP",
        Fixed("data.codec.rpc.dubbo.protocol:HTTP_STATUSES", "{}"),
        "test_response_code",
    ),
    mutant(
        "results are exceptions or values",
        Swap("data.codec.rpc.dubbo.protocol:_result_type", "2 * len(_RESULTS)", "2"),
        "test_results",
        "test_missing_content",
        "test_as_they_are",
    ),
    mutant(
        "nothing is tried again",
        Ignored("spec.route:RouteAction.retry"),
        "test_retry_of_a_connection_failure",
        "test_same_again",
        "test_attempts",
    ),
    mutant("all routes are in a hurry", Fixed("spec.route:RouteAction.timeout_s", "0.3"), "test_no_timeout"),
    mutant(
        "what came first of a frame is lost",
        Swap("data.codec.rpc.framer:Framer.receive", "self._pieces.append(data)", "self._pieces = [data]"),
        "test_answer_byte_by_byte",
        "test_request_byte_by_byte",
        "test_large",
    ),
    mutant(
        "a client's id is lost",
        Swap("data.codec.rpc.protocol:RpcProtocol.answer", "request.id", "1"),
        "test_ids",
        "test_same_id",
        "test_one_segment",
        "test_out_of_order",
        "test_second_answer",
    ),
    mutant(
        "nobody answers heartbeats",
        Returns(f"{_DUBBO}.heartbeat_reply", "b''"),
        "test_upstream_heartbeat",
    ),
    mutant(
        "an upstream that is read-only is broken",
        Swap("data.upstream.rpc:RpcConnection._on_other", "self._go_away()", "self.on_bad_frame('')"),
        "test_upstream_read_only",
    ),
    mutant(
        "every request has an answer",
        Swap(f"{_DUBBO}.from_client", "Kind.REQUEST if flag & _TWO_WAY else Kind.ONEWAY", "Kind.REQUEST"),
        "test_one_way",
        "test_one_way_and_end",
        "test_one_way_failure",
    ),
    mutant("frames are short", Fixed("data.codec.rpc.options:RpcOptions.max_frame_bytes", "1 << 20"), "test_larger"),
    mutant(
        "a client that goes leaves its requests",
        Returns("data.proxy.rpc.connection:RpcServerConnection._lose", "None"),
        "test_client_leaves",
    ),
    mutant(
        "a request is a connection, and there may be many",
        (
            Swap(
                "data.codec.rpc.protocol:RpcProtocol",
                "pool: ClassVar[PoolMode] = PoolMode.MULTIPLEX",
                "pool: ClassVar[PoolMode] = PoolMode.PING_PONG",
            ),
            Ignored("spec.cluster:Breakers.max_connections"),
        ),
        "test_one_connection",
    ),
    mutant("calls are not counted", Returns("data.proxy.rpc.calls:CallStats.ended", "None"), "test_statistics"),
    mutant(
        "no request is active",
        Swap("data.proxy.stream:Stream._begin", "stats.downstream_rq_active += 1", "pass"),
        "test_active",
    ),
    mutant(
        "the service is unknown",
        Swap("data.match.rpc_routes:_compile_input", "head.authority or b''", "b''"),
        "test_many_connections",
        spares="test_one_way_failure",
    ),
]
