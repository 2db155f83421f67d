"""Mutants for test_dubbo_proxy.py."""

from tests.mutation.mutant import Ignored, Returns, Swap, mutant

CANARY = "test_route_config"

_DUBBO = "data.codec.rpc.dubbo.protocol:Dubbo"
_TRANSLATION = "control.translate.dubbo_proxy"
_CONNECTION = "data.proxy.rpc.connection:RpcServerConnection"

MUTANTS = [
    mutant(
        "methods of a route have no effect",
        Swap(
            f"{_TRANSLATION}:_take_match", "[*above, ValueTest(_METHOD, take_string_match(name, context))]", "[*above]"
        ),
        "test_method",
    ),
    mutant(
        "an asterisk may stand for nothing",
        Swap(
            f"{_TRANSLATION}:_interface_test",
            "AllOf((_is(_SERVICE, rest, kind), Not(_is(_SERVICE, rest))))",
            "_is(_SERVICE, rest, kind)",
        ),
        "test_interface",
    ),
    mutant(
        "group and version have no effect",
        Swap(f"{_TRANSLATION}:_take_routes", "('group', 'version')", "()"),
        "test_version_and_group",
    ),
    mutant(
        "headers of a route have no effect",
        Swap(f"{_TRANSLATION}:_take_match", "take_header_matches(take, 'headers', context)", "()"),
        "test_headers",
    ),
    mutant(
        "arguments are unknown",
        Returns("data.codec.rpc.dubbo.attachments:argument", "None"),
        "test_parameters",
    ),
    mutant("weights have no effect", Ignored("spec.route:RouteAction.weighted"), "test_weighted"),
    mutant(
        "routes are only in the newer field",
        Swap(f"{_TRANSLATION}:translate", "_take_table(take, '', context)", "RpcRouteTable('')"),
        "test_route_config",
        spares="test_heartbeat",
    ),
    mutant(
        "errors have no text",
        Swap(f"{_DUBBO}.reply", "hessian2.write_string(reason.encode())", "b'\\0'"),
        "test_failures",
    ),
    mutant(
        "whatever the status, there is a result",
        Swap(f"{_DUBBO}.from_server", "code == OK", "True"),
        "test_statuses",
    ),
    mutant(
        "results are exceptions or values",
        Swap("data.codec.rpc.dubbo.protocol:_result_type", "2 * len(_RESULTS)", "2"),
        "test_results",
    ),
    mutant(
        "errors are answered like anything else",
        Swap(
            f"{_DUBBO}.reply",
            "_frame(HESSIAN2, code, request.id, b'%bH\\x06reason%bZ' % (text, text))",
            "request.frame",
        ),
        "test_bad_response",
    ),
    mutant(
        "a client's id is lost",
        Swap("data.codec.rpc.protocol:RpcProtocol.answer", "request.id", "1"),
        "test_request",
        "test_out_of_order",
    ),
    mutant("nobody answers heartbeats", Returns(f"{_DUBBO}.heartbeat_reply", "b''"), "test_heartbeat"),
    mutant(
        "every request has an answer",
        Swap(f"{_CONNECTION}.send_head", "stream.rpc.kind is Kind.ONEWAY", "False"),
        "test_one_way",
    ),
    mutant("what is no frame is passed over", Returns(f"{_CONNECTION}.on_bad_frame", "None"), "test_bad_frames"),
    mutant("calls are not counted", Returns("data.proxy.rpc.calls:CallStats.ended", "None"), "test_statistics"),
    mutant(
        "a client that goes leaves its requests",
        Returns(f"{_CONNECTION}.on_eof", "None"),
        "test_client_leaves",
    ),
]
