"""Mutants for test_http1_hardening.py."""

from tests.mutation.mutant import Fixed, Ignored, Returns, Swap, mutant

CANARY = "test_unusual_responses"

_HCM = "spec.listener:HttpConnectionManager"
_SERVER = "data.codec.http1.server:Http1ServerCodec"
_PARTICULAR = "data.codec.http1.request_head:particular_head"
_RULES = "data.codec.http1.rules"


def _fed(expression: str) -> Swap:
    """What llhttp gets instead of `data`."""
    return Swap(f"{_SERVER}.receive", "self._parser.feed_data(data)", f"self._parser.feed_data({expression})")


MUTANTS = [
    mutant(
        "unknown transfer codings are malformed",
        (
            Returns(f"{_RULES}:refusal_of", "(CODEC_ERROR, BAD_REQUEST)"),
            Swap(_PARTICULAR, "rules.NOT_IMPLEMENTED", "rules.BAD_REQUEST"),
        ),
        "test_bad_framing_is_refused",
    ),
    mutant(
        "transfer codings are told by their case",
        Swap(_PARTICULAR, "coding.lower() != b'chunked'", "coding != b'chunked'"),
        "test_chunked_in_capitals",
    ),
    mutant(
        "allow_chunked_length has no effect",
        Ignored("spec.listener:Http1Settings.allow_chunked_length"),
        "test_length_beside_chunked_is_dropped_where_allowed",
    ),
    mutant(
        "a bad chunk is the end of the body",
        Swap(
            f"{_SERVER}._on_stop",
            "self._refuse(rules.CODEC_ERROR, rules.BAD_REQUEST)",
            "self._events.append(Data(self._parsing, b'', True))",
        ),
        "test_bad_chunks_are_refused",
        "test_a_chunk_that_is_longer_than_its_size",
    ),
    mutant(
        "what is malformed is taken for another version",
        Returns(f"{_RULES}:refusal_of", "(LOW_VERSION, UPGRADE_REQUIRED)"),
        "test_bad_request_lines_are_refused",
    ),
    mutant(
        "another version is taken for malformed",
        (
            Returns(f"{_RULES}:refusal_of", "(CODEC_ERROR, BAD_REQUEST)"),
            Swap("data.codec.http1.request_head:_version", "rules.UPGRADE_REQUIRED", "rules.BAD_REQUEST"),
        ),
        "test_a_request_line_without_a_version",
    ),
    mutant(
        "blanks in a request line are not repeated",
        _fed("data.replace(b'  ', b' \\t')"),
        "test_repeated_blanks_in_a_request_line",
    ),
    mutant(
        "blanks in a request line are of any kind",
        _fed("data.replace(b'\\t', b' ').replace(b' HTTP/1.1 \\r', b' HTTP/1.1\\r')"),
        "test_other_blanks_in_a_request_line",
    ),
    mutant("any bytes are a host", Returns(f"{_RULES}:valid_authority", "True"), "test_hosts"),
    mutant(
        "a host may be missing",
        Swap("data.proxy.request_headers:RequestHeaders.prepare", "authority is None", "False"),
        "test_hosts",
        "test_a_missing_host",
        "test_an_invalid_message_may_leave_the_connection_open",
    ),
    mutant(
        "of two hosts the second counts",
        Swap(f"{_SERVER}._on_special_header", "self._host + b',' + value", "value"),
        "test_two_hosts",
    ),
    mutant("folded lines are joined", _fed("data.replace(b'\\r\\n ', b' ')"), "test_a_folded_header"),
    mutant(
        "LF ends a line",
        _fed("data.replace(b'\\r\\n', b'\\n').replace(b'\\n', b'\\r\\n')"),
        "test_a_bare_line_feed",
    ),
    mutant("CR without LF is dropped", _fed("data.replace(b'a\\rb', b'ab')"), "test_a_bare_carriage_return"),
    mutant(
        "max_request_headers_kb has no effect",
        Ignored(f"{_HCM}.max_request_headers_bytes"),
        "test_a_head_that_is_too_large",
        "test_a_long_path",
    ),
    mutant(
        "heads are not limited",
        Fixed(f"{_HCM}.max_request_headers_bytes", "1 << 20"),
        "test_the_default_head_limit",
    ),
    mutant("max_headers_count has no effect", Ignored(f"{_HCM}.max_headers_count"), "test_too_many_headers"),
    mutant(
        "headers are not counted",
        Fixed(f"{_HCM}.max_headers_count", "10_000"),
        "test_the_default_header_count",
    ),
    mutant(
        "headers of responses are not counted",
        Fixed("spec.cluster:Cluster.max_headers_count", "10_000"),
        "test_a_response_with_too_many_headers",
    ),
    mutant(
        "heads of responses are not limited",
        Fixed("data.upstream.http1:_MAX_HEADERS_BYTES", "1 << 20"),
        "test_a_response_with_a_large_head",
    ),
    mutant(
        "headers_with_underscores_action has no effect",
        Ignored(f"{_HCM}.underscores"),
        "test_underscores_in_names",
    ),
    mutant(
        "stream_error_on_invalid_http_message has no effect",
        Ignored(f"{_HCM}.stream_error_on_invalid_message"),
        "test_an_invalid_message_may_leave_the_connection_open",
    ),
    mutant(
        "a broken response is a broken connection",
        Swap(
            "data.upstream.http1:Http1Connection._deliver",
            "ResetReason.PROTOCOL_ERROR",
            "ResetReason.CONNECTION_TERMINATION",
        ),
        "test_invalid_responses",
        "test_a_status_of_two_digits",
        "test_a_response_with_too_many_headers",
        "test_a_response_with_a_large_head",
        "test_a_response_cut_short",
    ),
    mutant(
        "transfer codings of responses are told by their case",
        Swap(
            "data.codec.http1.client:Http1ClientCodec._particular_head",
            "te.lower() != b'chunked'",
            "te != b'chunked'",
        ),
        "test_unusual_responses",
        spares="test_hosts",
    ),
]
