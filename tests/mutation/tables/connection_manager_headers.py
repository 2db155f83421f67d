"""Mutants for test_connection_manager_headers.py."""

from tests.mutation.mutant import Fixed, Ignored, Returns, Swap, mutant

CANARY = "test_header_order_is_kept"

_HCM = "spec.listener:HttpConnectionManager"
_REQUEST = "data.proxy.request_headers"
_FINALIZE = "data.proxy.response_headers:ResponseHeaders.finalize"

MUTANTS = [
    mutant(
        "no request id is made",
        Fixed(f"{_HCM}.generate_request_id", "False"),
        "test_a_plain_request_upstream",
        "test_a_request_id_is_made",
    ),
    mutant(
        "generate_request_id has no effect",
        Ignored(f"{_HCM}.generate_request_id"),
        "test_no_request_id_is_made_where_switched_off",
    ),
    mutant(
        "headers are sorted",
        Swap(
            "data.codec.http1.client:Http1ClientCodec.send_head",
            "CRLF.join(map(COLON.join, fields))",
            "CRLF.join(map(COLON.join, sorted(fields)))",
        ),
        "test_header_order_is_kept",
        spares="test_a_request_id_is_made",
    ),
    mutant(
        "every listener is an edge",
        Fixed(f"{_HCM}.use_remote_address", "True"),
        "test_forwarded_for_is_left_alone_by_default",
        "test_downstream_headers_are_stripped_at_the_edge",
        "test_forwarded_proto",
        "test_internal_requests_are_marked",
        "test_a_given_request_id",
    ),
    mutant(
        "use_remote_address has no effect",
        Ignored(f"{_HCM}.use_remote_address"),
        "test_the_peer_is_appended_at_the_edge",
        "test_the_peer_on_another_loopback_address",
        "test_a_trusted_hop_names_the_client",
        "test_downstream_headers_are_stripped_at_the_edge",
        "test_forwarded_proto",
        "test_a_given_request_id",
    ),
    mutant(
        "any loopback address is this host's",
        Swap(
            f"{_REQUEST}:RequestHeaders._forwarded_for",
            "peer in ('127.0.0.1', '::1')",
            "peer.startswith('127.')",
        ),
        "test_the_peer_on_another_loopback_address",
    ),
    mutant(
        "skip_xff_append has no effect",
        Ignored(f"{_HCM}.skip_xff_append"),
        "test_the_peer_is_not_appended_where_skipped",
    ),
    mutant(
        "xff_num_trusted_hops has no effect",
        Ignored(f"{_HCM}.xff_num_trusted_hops"),
        "test_a_trusted_hop_names_the_client",
        "test_forwarded_proto",
    ),
    mutant(
        "internal_address_config has no effect",
        Ignored(f"{_HCM}.internal_cidrs"),
        "test_internal_requests_are_marked",
    ),
    mutant(
        "external clients may say everything",
        Fixed(f"{_REQUEST}:EXTERNAL_FORBIDDEN", "frozenset()"),
        "test_control_headers_are_stripped_of_external_requests",
    ),
    mutant(
        "external clients may speak for the downstream",
        Fixed(f"{_REQUEST}:_EDGE_FORBIDDEN", "frozenset()"),
        "test_downstream_headers_are_stripped_at_the_edge",
    ),
    mutant(
        "internal_only_headers have no effect",
        Ignored("spec.route:RouteTable.internal_only_headers"),
        "test_internal_only_headers_are_stripped",
    ),
    mutant(
        "scheme_to_overwrite has no effect",
        Ignored(f"{_HCM}.scheme_to_overwrite"),
        "test_the_scheme_is_overwritten",
    ),
    mutant(
        "preserve_external_request_id has no effect",
        Ignored(f"{_HCM}.preserve_external_request_id"),
        "test_a_given_request_id",
    ),
    mutant(
        "always_set_request_id_in_response has no effect",
        Ignored(f"{_HCM}.always_set_request_id_in_response"),
        "test_the_request_id_is_returned_where_asked",
    ),
    mutant("server_header_transformation has no effect", Ignored(f"{_HCM}.server_header"), "test_server_header"),
    mutant("server_name has no effect", Ignored(f"{_HCM}.server_name"), "test_server_header"),
    mutant("via has no effect", Ignored(f"{_HCM}.via"), "test_via_is_appended"),
    mutant("add_user_agent has no effect", Ignored(f"{_HCM}.add_user_agent"), "test_user_agent_is_added"),
    mutant(
        "Connection names nothing",
        Returns("data.codec.http1.rules:nominated_fields", "frozenset()"),
        "test_hop_by_hop_headers_of_a_request",
    ),
    mutant(
        "TE never passes",
        Returns("data.codec.http1.rules:accepts_trailers", "False"),
        "test_hop_by_hop_headers_of_a_request",
    ),
    mutant(
        "responses keep hop-by-hop headers",
        (
            Fixed("data.codec.http1.client:_SPECIAL", "frozenset((b'connection', b'transfer-encoding', b'upgrade'))"),
            Fixed("data.proxy.response_headers:_HOP_BY_HOP", "frozenset()"),
        ),
        "test_hop_by_hop_headers_of_a_response",
    ),
    mutant(
        "the upstream's date does not count",
        Swap(_FINALIZE, "_DATE not in index", "True"),
        "test_date_and_service_time",
    ),
    mutant(
        "the service time is not set",
        Fixed("data.proxy.route_plan:_SERVICE_TIME", "b'x-other'"),
        "test_date_and_service_time",
    ),
    mutant("any referer is good", Returns(f"{_REQUEST}:_referer_is_good", "True"), "test_referer_is_checked"),
    mutant(
        "names of request headers keep their case",
        Swap("data.codec.http1.server:Http1ServerCodec._on_header", "name.lower()", "name"),
        "test_header_names_are_lower_cased",
    ),
    mutant(
        "header_key_format has no effect",
        Ignored("spec.listener:Http1Settings.header_case"),
        "test_header_names_are_in_proper_case_where_asked",
    ),
]
