"""Mutants for test_filter_chains.py."""

from tests.mutation.mutant import Ignored, Returns, Swap, mutant

CANARY = "test_the_chains_name"

_MATCH = "data.listener.chain_match"
_INSPECT = "data.listener.inspect:Inspection"
_SNIFF = "data.listener.sniff"

MUTANTS = [
    mutant(
        "every peer is 127.0.0.1",
        Returns(f"{_MATCH}:_by_direct_source", "prefixes.find('127.0.0.1')"),
        "test_direct_source",
    ),
    mutant(
        "every source is 127.0.0.1",
        Returns(f"{_MATCH}:_by_source", "prefixes.find('127.0.0.1')"),
        "test_source",
        "test_there_is_no_way_back",
    ),
    mutant(
        "every source is external",
        Swap(f"{_MATCH}:_by_source_type", "SourceType.SAME_IP_OR_LOOPBACK", "SourceType.EXTERNAL"),
        "test_source_type",
    ),
    mutant(
        "every destination is 127.0.0.2",
        Returns(f"{_MATCH}:_by_destination", "prefixes.find('127.0.0.2')"),
        "test_destination",
    ),
    mutant(
        "the destination port has no effect",
        Returns(f"{_MATCH}:_by_port", "next(iter(branches.values()))"),
        "test_destination_port",
    ),
    mutant(
        "where no chain matches, the last one serves",
        (
            Swap(f"{_MATCH}:ChainMatcher.find", "return None", "return self._count - 1"),
            Swap(
                f"{_MATCH}:ChainMatcher.find",
                "return position",
                "return self._count - 1 if position is None else position",
            ),
        ),
        "test_there_is_no_way_back",
        "test_no_chain",
        "test_the_default_chain",
        "test_destination_port",
    ),
    mutant(
        "default_filter_chain has no effect",
        Ignored("spec.listener:Listener.default_chain"),
        "test_the_default_chain",
        "test_there_is_no_way_back",
    ),
    mutant(
        "server names have no effect",
        Returns(f"{_MATCH}:_by_server_name", "branches.get(None)"),
        "test_server_names",
        "test_a_hello_in_pieces",
    ),
    mutant(
        "everything is TLS",
        Returns(f"{_MATCH}:_by_transport", "branches.get('tls')"),
        "test_plaintext_on_a_tls_listener",
    ),
    mutant(
        "inspectors take what they look at",
        Swap(f"{_INSPECT}._peek", "socket.MSG_PEEK", "0"),
        "test_the_hello_reaches_the_upstream",
    ),
    mutant(
        "a ClientHello comes in one piece",
        Swap(f"{_INSPECT}._inspect_tls", "found is Sniff.MORE", "False"),
        "test_a_hello_in_pieces",
    ),
    mutant(
        "application protocols have no effect",
        Returns(f"{_MATCH}:_by_application", "branches.get(None)"),
        "test_application_protocols",
        "test_http_is_recognised",
        "test_http2_is_recognised",
    ),
    mutant(
        "nothing is HTTP",
        Returns(f"{_SNIFF}:sniff_http", "Sniff.NO"),
        "test_http_is_recognised",
        "test_an_unknown_method_is_http",
        "test_http2_is_recognised",
        "test_a_request_line_in_pieces",
    ),
    mutant(
        "known methods alone are HTTP",
        Swap(f"{_SNIFF}:sniff_http", "len(words) == 2", "True"),
        "test_an_unknown_method_is_http",
    ),
    mutant(
        "everything is HTTP",
        Returns(f"{_SNIFF}:sniff_http", "'http/1.1'"),
        "test_other_protocols_are_no_http",
        "test_http2_is_recognised",
    ),
    mutant(
        "a request line comes in one piece",
        Swap(f"{_INSPECT}._inspect_http", "found is Sniff.MORE", "False"),
        "test_a_request_line_in_pieces",
    ),
    mutant(
        "continue_on_listener_filters_timeout has no effect",
        Ignored("spec.listener:Listener.continue_on_listener_filters_timeout"),
        "test_a_silent_client",
    ),
    mutant(
        "chains have no names",
        Returns("data.listener.chain:Chain.name", "''"),
        "test_the_chains_name",
        spares="test_the_default_chain",
    ),
]
