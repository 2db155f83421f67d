"""Mutants for test_thrift_proxy.py."""

from tests.mutation.mutant import Fixed, Ignored, Returns, Swap, mutant

CANARY = "test_encodings"

_THRIFT = "data.codec.rpc.thrift.protocol:Thrift"
_WIRE = "data.codec.rpc.thrift.wire"
_CONNECTION = "data.proxy.rpc.connection:RpcServerConnection"
_TRANSLATION = "control.translate.thrift_proxy"

MUTANTS = [
    mutant(
        "a method is a beginning",
        Swap(f"{_TRANSLATION}:_take_match", "StringMatchKind.EXACT", "StringMatchKind.PREFIX"),
        "test_method",
    ),
    mutant(
        "a service needs no colon",
        Swap(f"{_TRANSLATION}:_take_match", "name if name.endswith(':') else f'{name}:'", "name.rstrip(':')"),
        "test_service",
    ),
    mutant("names are not stripped", Ignored("spec.route:RouteAction.regex_rewrite"), "test_strip"),
    mutant(
        "invert has no effect",
        Swap(f"{_TRANSLATION}:_take_match", "Not(named) if invert else named", "named"),
        "test_rest",
    ),
    mutant(
        "headers of a route have no effect",
        Swap(f"{_TRANSLATION}:_take_match", "(Not(named) if invert else named, *headers)", "(named,)"),
        "test_headers",
    ),
    mutant(
        "the compact protocol is another one",
        Fixed(f"{_WIRE}:COMPACT", "0x83"),
        "test_encodings",
        "test_compact_failure",
        spares="test_sequences",
    ),
    mutant("weights have no effect", Ignored("spec.route:RouteAction.weighted"), "test_weighted"),
    mutant("nothing is mirrored", Ignored("spec.route:RouteAction.mirrors"), "test_mirror"),
    mutant(
        "a client's sequence id is lost",
        Returns(f"{_THRIFT}.with_id", "wire.with_id(frame, 7)"),
        "test_sequences",
        "test_skewed_reply",
        "test_many_connections",
        "test_second_reply",
        spares="test_bad_frames",
    ),
    mutant(
        "one call at a time, for all",
        Fixed("spec.cluster:Breakers.max_connections", "1"),
        "test_one_segment",
    ),
    mutant(
        "calls of the compact protocol are answered in the binary one",
        Swap(f"{_THRIFT}.reply", "wire.is_compact(frame)", "False"),
        "test_compact_failure",
    ),
    mutant(
        "what does not begin with a value is no reply",
        Swap(f"{_THRIFT}.from_server", "kind == wire.EXCEPTION", "False"),
        "test_replies",
    ),
    mutant(
        "frames are short",
        Fixed("data.codec.rpc.options:RpcOptions.max_frame_bytes", "1 << 20"),
        "test_large_call",
    ),
    mutant(
        "one-way calls are calls",
        Swap(f"{_THRIFT}.from_client", "Kind.REQUEST if kind == wire.CALL else Kind.ONEWAY", "Kind.REQUEST"),
        "test_one_way",
        "test_one_way_failure",
    ),
    mutant(
        "what came first of a frame is lost",
        Swap("data.codec.rpc.framer:Framer.receive", "self._pieces.append(data)", "self._pieces = [data]"),
        "test_byte_by_byte",
    ),
    mutant(
        "every failure is of a type that nobody knows",
        Swap(f"{_THRIFT}.reply", "_EXCEPTION_TYPES.get(status, INTERNAL_ERROR)", "0"),
        "test_failures",
    ),
    mutant(
        "answers of the proxy's own have no text",
        Swap(f"{_THRIFT}.reply", "reason.encode()", "b''"),
        "test_failures",
        "test_overflow",
    ),
    mutant(
        "what is no frame is passed over",
        Returns(f"{_CONNECTION}.on_bad_frame", "None"),
        "test_bad_frames",
        "test_long_name",
        "test_reply_from_client",
    ),
    mutant(
        "a client that goes leaves its calls",
        Returns(f"{_CONNECTION}._lose", "None"),
        "test_client_leaves",
    ),
    mutant(
        "exceptions are no errors",
        Returns("data.codec.rpc.thrift.messages:ThriftResponse.failed", "False"),
        "test_statistics",
    ),
    mutant(
        "what has no route is told something else",
        Fixed("data.proxy.rpc.stream:_NO_ROUTE", "Reply(404, details='nothing', flags=_NR)"),
        "test_log",
    ),
]
