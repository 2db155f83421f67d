"""Mutants for test_generic_proxy_frames.py."""

from tests.mutation.mutant import Fixed, Returns, Swap, mutant

CANARY = "test_empty_strings"

_DUBBO = "data.codec.rpc.dubbo.protocol:Dubbo"
_STRINGS = "data.codec.rpc.dubbo.hessian2"
_CONNECTION = "data.proxy.rpc.connection:RpcServerConnection"

MUTANTS = [
    mutant(
        "what is no frame is passed over",
        Returns(f"{_CONNECTION}.on_bad_frame", "None"),
        "test_bad_frames",
        "test_before_a_bad_frame",
        "test_counted",
        "test_bad_text",
    ),
    mutant(
        "frames that are none are not counted",
        Swap(f"{_CONNECTION}.on_bad_frame", "stats.downstream_rq_decoding_error += 1", "pass"),
        "test_counted",
    ),
    mutant(
        "a beginning may be anything",
        Swap(f"{_DUBBO}.frame_bytes", "head != MAGIC[:len(head)]", "False"),
        "test_bad_magic_early",
    ),
    mutant(
        "what came first of a frame is lost",
        Swap("data.codec.rpc.framer:Framer.receive", "self._pieces.append(data)", "self._pieces = [data]"),
        "test_parts",
    ),
    mutant("frames are short", Fixed("data.codec.rpc.options:RpcOptions.max_frame_bytes", "1 << 20"), "test_largest"),
    mutant(
        "requests have services",
        Swap("data.match.rpc_routes:_compile_matcher", "matcher.no_match is not None", "False"),
        "test_empty_strings",
        "test_long_strings",
        spares="test_heartbeats",
    ),
    mutant(
        "a null is no string",
        Swap(f"{_STRINGS}:read_string", "tag == 78", "False"),
        "test_null_version",
    ),
    mutant(
        "the status of a request is cleared",
        Swap(f"{_DUBBO}.with_id", "frame[:4]", "frame[:3] + b'\\0'"),
        "test_request_status",
    ),
    mutant(
        "nobody answers heartbeats",
        Returns(f"{_DUBBO}.heartbeat_reply", "b''"),
        "test_heartbeats",
        "test_foreign_heartbeat",
        "test_heartbeat_under_way",
        "test_heartbeats_are_not_requests",
    ),
    mutant(
        "an answer to a heartbeat is one",
        Swap(f"{_DUBBO}._event", "not flag & _REQUEST", "False"),
        "test_unasked_heartbeat_reply",
    ),
    mutant(
        "nobody is read-only",
        Swap(f"{_DUBBO}._event", "frame[HEAD_BYTES:] == _READONLY", "False"),
        "test_read_only_client",
    ),
]
