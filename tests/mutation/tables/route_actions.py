"""Mutants for test_route_actions.py."""

from tests.mutation.mutant import Ignored, Returns, Swap, mutant

CANARY = "test_a_regex_that_does_not_match_rewrites_nothing"

_REDIRECT = "spec.route:RedirectAction"
_ACTION = "spec.route:RouteAction"
_REPLY = "data.proxy.http_stream:HttpStream.reply"

MUTANTS = [
    *(
        mutant(f"{name} of a redirect has no effect", Ignored(f"{_REDIRECT}.{name}"), "test_redirect_location")
        for name in ("https", "scheme", "host", "port", "path", "prefix_rewrite", "regex_rewrite", "strip_query")
    ),
    mutant(
        "default ports stay in redirects",
        Swap("data.proxy.redirect:_host_without_default_port", "scheme != protocol and is_default", "False"),
        "test_the_default_port_is_dropped_with_its_scheme",
    ),
    mutant(
        "response_code of a redirect has no effect",
        Ignored(f"{_REDIRECT}.status"),
        "test_redirect_code",
    ),
    mutant(
        "local replies are not edited",
        Returns("data.proxy.route_plan:RoutePlan.edit_answer"),
        "test_a_redirect_carries_the_routes_headers",
        "test_direct_response",
    ),
    mutant(
        "require_tls has no effect",
        Ignored("spec.route:VirtualHost.require_tls"),
        "test_plaintext_is_redirected_where_tls_is_required",
    ),
    mutant(
        "direct responses have no body",
        Ignored("spec.route:DirectAction.body"),
        "test_direct_response",
        "test_direct_response_to_head",
    ),
    mutant(
        "HEAD gets no length",
        Swap(
            _REPLY,
            "reply_head(reply, grpc=grpc, body=body, content_type=content_type)",
            "reply_head(reply, grpc=grpc, body=b'' if self.request.method == b'HEAD' else body, content_type=content_type)",
        ),
        "test_direct_response_to_head",
    ),
    mutant(
        "paths are not rewritten",
        Returns("data.proxy.rewrite:rewrite_path"),
        "test_path_rewrite",
        "test_envoy_headers_are_suppressed_where_asked",
    ),
    mutant(
        "prefix_rewrite leaves the prefix",
        Swap("data.proxy.rewrite:compile_path_rewrite", "path[matched:]", "path"),
        "test_path_rewrite",
    ),
    mutant("regex_rewrite has no effect", Ignored(f"{_ACTION}.regex_rewrite"), "test_path_rewrite"),
    mutant(
        "a rewrite that finds nothing leaves nothing",
        Swap("data.match.strings:Substitution.apply", "return text", "return b'/nothing'"),
        "test_a_regex_that_does_not_match_rewrites_nothing",
        spares="test_redirect_code",
    ),
    *(
        mutant(f"{name} has no effect", Ignored(f"{_ACTION}.{name}"), "test_host_rewrite")
        for name in ("host_rewrite", "host_rewrite_header", "host_rewrite_path_regex", "auto_host_rewrite")
    ),
    mutant(
        "append_x_forwarded_host has no effect",
        Ignored(f"{_ACTION}.append_x_forwarded_host"),
        "test_the_old_host_is_appended_where_asked",
    ),
    mutant(
        "suppress_envoy_headers has no effect",
        Ignored("spec.filters:RouterFilter.suppress_envoy_headers"),
        "test_envoy_headers_are_suppressed_where_asked",
    ),
]
