"""Mutants for test_generic_proxy_routes.py."""

from tests.mutation.mutant import Fixed, Ignored, Swap, mutant

CANARY = "test_without_routes"

_MATCH = "data.match.rpc_routes"
_DUBBO = "data.codec.rpc.dubbo"

MUTANTS = [
    mutant(
        "the service is unknown",
        Swap(f"{_MATCH}:_compile_input", "head.authority or b''", "b''"),
        "test_service",
        "test_host",
        "test_prefix",
        "test_nested",
        "test_interface_attachment",
    ),
    mutant(
        "the path is unknown", Swap(f"{_MATCH}:_compile_input", "head.path", "b''"), "test_path", "test_whole_request"
    ),
    mutant(
        "the method is unknown", Swap(f"{_MATCH}:_compile_input", "head.method", "b''"), "test_method", "test_passed_on"
    ),
    mutant(
        "properties are unknown",
        Swap(f"{_MATCH}:_compile_input", "head.get(name)", "None"),
        "test_property",
        "test_property_case",
        "test_version",
        "test_behind_arguments",
        "test_odd_attachments",
    ),
    mutant(
        "names of properties have their case",
        Swap("data.codec.rpc.messages:RpcRequest.get", "found is None", "False"),
        "test_property_in_another_case",
    ),
    mutant(
        "`version` is an attachment like any other",
        Swap(f"{_DUBBO}.messages:DubboRequest._own", "name == VERSION", "False"),
        "test_version",
    ),
    mutant(
        "arguments are not passed over",
        Swap(f"{_DUBBO}.attachments:after_arguments", "argument_count(types)", "0"),
        "test_behind_arguments",
    ),
    mutant(
        "arguments that cannot be read are the client's fault",
        Swap(f"{_DUBBO}.messages:DubboRequest._properties", "return []", "raise"),
        "test_unreadable_arguments",
    ),
    mutant(
        "an attachment that is no string is the last",
        Swap(f"{_DUBBO}.attachments:_entries", "hessian2.skip(frame, at, 1, body)", "size"),
        "test_odd_attachments",
    ),
    mutant(
        "the shortest prefix comes first",
        Swap(f"{_MATCH}:_compile_prefixes", "-len(way[0])", "len(way[0])"),
        "test_prefix",
    ),
    mutant(
        "on_no_match has no effect",
        Swap(f"{_MATCH}:_compile_matcher", "matcher.no_match is not None", "False"),
        "test_path",
        "test_method",
        "test_nested",
        "test_hosts_and_star",
    ),
    mutant(
        "the first prefix that matches decides",
        Swap(f"{_MATCH}:_compile_prefixes", "(route := onward(head)) is not None", "[route := onward(head)]"),
        "test_nested_prefix",
    ),
    mutant(
        "the first predicate that holds decides",
        Swap(f"{_MATCH}:_compile_list", "(route := onward(head)) is not None", "[route := onward(head)]"),
        "test_passed_on",
    ),
    mutant(
        "predicates are tried from the last one",
        Swap(f"{_MATCH}:_compile_list", "tree.entries", "tree.entries[::-1]"),
        "test_list",
    ),
    mutant(
        "one of several tests is enough",
        Swap(f"{_MATCH}:compile_predicate", "all(part(head) for part in parts)", "any(part(head) for part in parts)"),
        "test_whole_request",
        "test_logic",
    ),
    mutant(
        "a negation is none",
        Swap(f"{_MATCH}:compile_predicate", "not negated(head)", "negated(head)"),
        "test_logic",
    ),
    mutant(
        "virtual hosts are those of nobody",
        Swap(f"{_MATCH}:RpcTable.virtual_host", "head.authority or b''", "b''"),
        "test_virtual_hosts",
        "test_hosts_and_routes",
    ),
    mutant(
        "weights have no effect",
        Ignored("spec.route:RouteAction.weighted"),
        "test_weighted_clusters",
    ),
    mutant(
        "what has no route is told something else",
        Fixed("data.proxy.rpc.stream:_NO_ROUTE", "Reply(404, details='nothing', flags=_NR)"),
        "test_without_routes",
        spares="test_version",
    ),
]
