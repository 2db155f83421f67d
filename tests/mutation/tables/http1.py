"""Mutants for test_http1.py."""

from tests.mutation.mutant import Fixed, Ignored, Returns, Swap, mutant

CANARY = "test_an_upstream_may_close"

_HCM = "spec.listener:HttpConnectionManager"
_HTTP1 = "spec.listener:Http1Settings"
_SERVER = "data.codec.http1.server:Http1ServerCodec"
_CLIENT = "data.codec.http1.client:Http1ClientCodec"
_WRITE_HEAD = "data.codec.http1.response_writer:ResponseWriter.send_head"
_PARTICULAR = "data.codec.http1.request_head:particular_head"

MUTANTS = [
    mutant(
        "a response's length is not seen",
        Swap(_WRITE_HEAD, "_CONTENT_LENGTH in dict(fields)", "False"),
        "test_bodies_with_a_length",
    ),
    mutant(
        "responses are framed as for HTTP/1.0",
        Swap(_WRITE_HEAD, "self._http10", "True"),
        "test_chunked_bodies",
        "test_a_body_until_close_becomes_chunked",
        "test_head_to_a_chunked_answer",
        "test_trailers_pass_where_enabled",
        spares="test_bodies_with_a_length",
    ),
    mutant(
        "responses wait for their end",
        Returns(
            "data.proxy.stream:Stream.respond_data",
            "(self.__dict__.setdefault('late', []).append(data), end and self._write_data(b''.join(self.late), True))",
        ),
        "test_a_response_streams",
    ),
    mutant(
        "requests wait for their end",
        Swap("data.proxy.http_stream:HttpStream.start", "self._forward()", "self.request_complete and self._forward()"),
        "test_a_request_streams",
    ),
    mutant(
        "a request without a body never says so",
        Fixed("data.codec.http1.rules:BODYLESS_METHODS", "frozenset(METHODS)"),
        "test_unusual_bodies",
    ),
    mutant(
        "answers to HEAD are framed as others are",
        Swap(_WRITE_HEAD, "self._head_only", "False"),
        "test_responses_without_a_body",
        "test_head_to_a_chunked_answer",
    ),
    mutant(
        "answers without content are framed as others are",
        Swap(_WRITE_HEAD, "status in (204, 304)", "False"),
        "test_responses_without_a_body",
    ),
    mutant(
        "a body where none may be is overlooked",
        Swap(f"{_CLIENT}._on_body", "self._close = True", "pass"),
        "test_bytes_behind_a_bodiless_response",
    ),
    mutant(
        "statuses have no phrases",
        Fixed("data.codec.http1.wire:PHRASES", "{}"),
        "test_the_reason_phrase_is_not_forwarded",
    ),
    mutant(
        "statuses end at 599",
        Swap(f"{_CLIENT}._on_headers_complete", "parser.get_status_code()", "min(parser.get_status_code(), 599)"),
        "test_odd_statuses_pass",
    ),
    mutant(
        "a connection serves one request",
        Fixed(f"{_HCM}.max_requests_per_connection", "1"),
        "test_keep_alive",
        "test_pipelined_requests",
        "test_http10_keep_alive",
        spares="test_values_are_trimmed",
    ),
    mutant(
        "a client cannot ask for the end of its connection",
        Swap(_PARTICULAR, "parser.should_keep_alive()", "True"),
        "test_a_client_may_close",
        "test_the_close_is_not_delayed_behind_a_complete_request",
        "test_nothing_is_served_behind_close",
        "test_http10_closes",
    ),
    mutant(
        "an upstream's close is the client's",
        Swap(
            "data.proxy.router:Router.on_response_head",
            "self._responding = True",
            "self._responding, stream.connection_closing = True, attempt.stream.connection.codec._close",
        ),
        "test_an_upstream_may_close",
        "test_an_http10_upstream",
        spares="test_keep_alive",
    ),
    mutant(
        "max_requests_per_connection has no effect",
        Ignored(f"{_HCM}.max_requests_per_connection"),
        "test_a_connection_ends_after_its_requests",
    ),
    mutant(
        "closing is never delayed",
        Fixed(f"{_HCM}.delayed_close_timeout_s", "0.0"),
        "test_the_close_is_delayed",
    ),
    mutant(
        "of a target in pieces the last one counts",
        Swap(f"{_SERVER}._on_url", "self._url += url", "self._url = url"),
        "test_a_request_byte_by_byte",
    ),
    mutant(
        "an empty line before a request is none",
        Swap(
            f"{_SERVER}.receive",
            "self._parser.feed_data(data)",
            "self._parser.feed_data(b'!' + data if data[:1] == b'\\r' else data)",
        ),
        "test_empty_lines_before_a_request",
    ),
    mutant(
        "values keep the blanks behind them",
        Swap(f"{_SERVER}._on_header", "value.rstrip()", "value"),
        "test_values_are_trimmed",
    ),
    mutant(
        "empty values are dropped",
        Swap(
            f"{_SERVER}._on_header",
            "self._fields.append((lower, value.rstrip()))",
            "value and self._fields.append((lower, value.rstrip()))",
        ),
        "test_an_empty_value_is_kept",
    ),
    mutant(
        "values are ASCII",
        Swap(
            f"{_SERVER}._on_header",
            "self._fields.append((lower, value.rstrip()))",
            "self._fields.append((lower, bytes(byte & 127 for byte in value.rstrip())))",
        ),
        "test_bytes_above_ascii_pass",
    ),
    mutant(
        "few methods are known",
        Fixed("data.codec.http1.rules:METHODS", "{name: name for name in b'GET POST PUT HEAD CONNECT'.split()}"),
        "test_methods",
    ),
    mutant(
        "HTTP/1.0 is always accepted",
        Fixed(f"{_HTTP1}.accept_http_10", "True"),
        "test_other_versions_are_refused",
    ),
    mutant(
        "HTTP/1.0 is never accepted",
        Ignored(f"{_HTTP1}.accept_http_10"),
        "test_http10_closes",
        "test_http10_keep_alive",
        "test_http10_default_host",
        "test_http10_gets_no_chunks",
    ),
    mutant(
        "HTTP/1.0 gets chunks",
        Swap(_WRITE_HEAD, "self._http10", "False"),
        "test_http10_gets_no_chunks",
    ),
    mutant(
        "default_host_for_http_10 has no effect",
        Ignored(f"{_HTTP1}.default_host_for_http_10"),
        "test_http10_default_host",
    ),
    mutant(
        "the client is answered in the upstream's version",
        Swap(
            _WRITE_HEAD,
            "wire.STATUS_LINES.get(status)",
            "wire.status_line(status, int(head.version is not _HTTP10))",
        ),
        "test_an_http10_upstream",
    ),
    mutant(
        "Expect is not answered",
        Returns("data.proxy.http_stream:HttpStream._answer_expect"),
        "test_the_proxy_answers_100_continue",
    ),
    mutant(
        "proxy_100_continue has no effect",
        Ignored(f"{_HCM}.proxy_100_continue"),
        "test_100_continue_is_proxied_where_asked",
        "test_interim_responses",
    ),
    mutant(
        "trailers always pass",
        Fixed(f"{_HTTP1}.enable_trailers", "True"),
        "test_trailers_are_dropped_by_default",
    ),
    mutant(
        "trailers never pass",
        Ignored(f"{_HTTP1}.enable_trailers"),
        "test_trailers_pass_where_enabled",
    ),
    mutant(
        "an early response does not end its connection",
        (
            Swap("data.proxy.http1_connection:Http1Connection._must_close", "not stream.request_complete", "False"),
            Swap(_WRITE_HEAD, "self._request_open", "False"),
        ),
        "test_an_early_response_ends_the_exchange",
    ),
    mutant(
        "a client that leaves has no flag",
        Fixed("data.proxy.stream:_DC", "0"),
        "test_a_client_that_leaves",
        "test_a_client_that_half_closes",
    ),
    mutant(
        "a client that half-closes is answered",
        (
            Returns("data.proxy.http1_connection:Http1Connection.on_eof"),
            Swap("data.proxy.connection:ServerConnection.__init__", "self.wire.early_close = True", "pass"),
        ),
        "test_a_client_that_half_closes",
    ),
]
