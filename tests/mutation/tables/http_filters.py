"""Mutants for test_http_filters.py."""

from tests.mutation.mutant import Fixed, Ignored, Returns, Swap, mutant

CANARY = "test_no_rules"

_FAULT = "spec.filters:FaultFilter"
_CORS = "data.filters.cors:CorsFilter"
_CORS_POLICY = "spec.filters:CorsPolicy"
_RBAC = "spec.filters:RbacFilter"
_ENGINE = "data.filters.rbac_engine"

MUTANTS = [
    mutant(
        "nothing is aborted",
        Ignored(f"{_FAULT}.abort"),
        "test_abort",
        "test_the_listeners_own_fault",
        "test_a_fault_behind_a_header",
        "test_delay_then_abort",
        "test_grpc_abort",
        "test_faults_by_header",
    ),
    mutant(
        "shares of faults have no effect",
        Returns("data.filters.fault:_hits", "True"),
        "test_abort",
        "test_faults_by_header",
    ),
    mutant("upstream_cluster of a fault has no effect", Ignored(f"{_FAULT}.upstream_cluster"), "test_abort"),
    mutant("headers of a fault have no effect", Ignored(f"{_FAULT}.headers"), "test_a_fault_behind_a_header"),
    mutant(
        "nothing is delayed",
        Ignored(f"{_FAULT}.delay"),
        "test_delay",
        "test_delay_then_abort",
        "test_faults_by_header",
        "test_a_delayed_request_with_a_body",
    ),
    mutant(
        "a body that is held back is lost",
        Returns("data.proxy.stream:Stream._hold"),
        "test_a_delayed_request_with_a_body",
    ),
    mutant("grpc_status of an abort has no effect", Ignored("spec.filters:FaultAbort.grpc_status"), "test_grpc_abort"),
    mutant(
        "CORS looks at no request",
        Returns(f"{_CORS}.on_request"),
        "test_a_preflight",
        "test_a_preflight_from_elsewhere",
        "test_answers_carry_cors_headers",
    ),
    mutant(
        "CORS looks at no response",
        Returns(f"{_CORS}.on_response"),
        "test_answers_carry_cors_headers",
    ),
    mutant(
        "forward_not_matching_preflights has no effect",
        Ignored(f"{_CORS_POLICY}.forward_not_matching_preflights"),
        "test_a_preflight_from_elsewhere",
    ),
    mutant(
        "OPTIONS with an origin is a preflight",
        Swap(f"{_CORS}.on_request", "head.get(_REQUEST_METHOD)", "True"),
        "test_options_that_is_no_preflight",
    ),
    mutant("filter_enabled of CORS has no effect", Ignored(f"{_CORS_POLICY}.filter_enabled"), "test_cors_is_off"),
    mutant(
        "RBAC denies nothing",
        Ignored(f"{_RBAC}.rules"),
        "test_rbac",
        "test_the_denying_policy_is_named",
        "test_rbac_on_the_method",
        "test_rbac_on_the_peer",
        "test_enforced_rules_are_counted",
        "test_per_route_rbac",
    ),
    mutant(
        "RBAC denies everything",
        Fixed(f"{_RBAC}.rules", "RbacRules(RbacAction.ALLOW)"),
        "test_no_rules",
        "test_rbac",
        "test_shadow_rules_are_counted",
        spares="test_cors_is_off",
    ),
    mutant("RBAC knows no not", Returns(f"{_ENGINE}:_not", "predicate"), "test_rbac"),
    mutant("RBAC knows no and", Returns(f"{_ENGINE}:_all", "_any(predicates)"), "test_rbac"),
    mutant("RBAC knows no or", Returns(f"{_ENGINE}:_any", "predicates[0]"), "test_rbac"),
    mutant(
        "RBAC does not say which policy denied",
        Returns(f"{_ENGINE}:denial_details", "'rbac_access_denied_matched_policy[]'"),
        "test_the_denying_policy_is_named",
    ),
    mutant(
        "RBAC takes the wrong end for the peer",
        Swap(f"{_ENGINE}:_positive", "subject.connection.direct_remote.host", "subject.connection.local.host"),
        "test_rbac_on_the_peer",
    ),
    mutant("shadow rules have no effect", Ignored(f"{_RBAC}.shadow_rules"), "test_shadow_rules_are_counted"),
    mutant(
        "denials are not counted",
        Swap("data.filters.rbac:RbacFilter.on_request", "rules.stats.denied += 1", "pass"),
        "test_enforced_rules_are_counted",
    ),
    mutant(
        "RBAC of a route lets everything pass",
        Ignored("spec.filters:RbacPerRoute.rbac"),
        "test_per_route_rbac",
    ),
    mutant(
        "no filter is switched off for a route",
        Returns("data.proxy.stream:Stream._filters_may_be_off", "False"),
        "test_per_route_rbac",
    ),
    mutant(
        "network RBAC denies nothing",
        Ignored("spec.listener:NetworkRbac.rules"),
        "test_network_rbac_before_tcp_proxy",
        "test_network_rbac_before_http",
    ),
]
