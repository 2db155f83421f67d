"""Mutants for test_route_matching.py."""

from tests.mutation.mutant import Fixed, Ignored, Returns, Swap, mutant

CANARY = "test_a_routed_request_reaches_its_cluster"

_HCM = "spec.listener:HttpConnectionManager"
_TABLE = "spec.route:RouteTable"
_MATCH = "spec.route:RouteMatch"
_ACTION = "spec.route:RouteAction"
_HEADER = "spec.common:HeaderMatch"
_ROUTE = "data.match.routes:Route.__init__"

MUTANTS = [
    mutant(
        "domains have no wildcards",
        Swap("data.match.domains:DomainTable.find", "self._suffixes or self._prefixes", "False"),
        "test_domain_choice",
    ),
    mutant(
        "domains are told by their case",
        Swap("data.match.domains:DomainTable.find", "host.lower()", "host"),
        "test_domain_choice",
    ),
    mutant(
        "shorter wildcards go first",
        (
            Swap(
                "data.match.domains:DomainTable.__init__",
                "sorted(suffixes.items(), reverse=True)",
                "sorted(suffixes.items())",
            ),
            Swap(
                "data.match.domains:DomainTable.__init__",
                "sorted(prefixes.items(), reverse=True)",
                "sorted(prefixes.items())",
            ),
        ),
        "test_domain_choice",
    ),
    mutant(
        "the star takes nothing",
        Swap("data.match.domains:DomainTable.find", "self._default", "-1"),
        "test_star_domain",
    ),
    mutant(
        "ignore_port_in_host_matching has no effect",
        Ignored(f"{_TABLE}.ignore_port_in_host"),
        "test_port_is_ignored_in_the_host_where_asked",
    ),
    mutant(
        "strip_any_host_port has no effect",
        Ignored(f"{_HCM}.strip_any_host_port"),
        "test_any_port_is_stripped_from_the_host",
    ),
    mutant(
        "strip_trailing_host_dot has no effect",
        Ignored(f"{_HCM}.strip_trailing_host_dot"),
        "test_the_trailing_dot_is_stripped_from_the_host",
    ),
    mutant(
        "exact paths take what is below them",
        Swap("data.match.routes:_compile_literal", "kind is PathKind.EXACT", "False"),
        "test_path_matchers",
    ),
    mutant("case_sensitive has no effect", Ignored(f"{_MATCH}.case_sensitive"), "test_path_matchers"),
    mutant(
        "any path is the expression's",
        Returns("data.match.strings:compile_regex", "lambda text: True"),
        "test_path_matchers",
        "test_header_matchers",
        "test_query_matchers",
    ),
    mutant(
        "paths are matched with their query",
        Returns("data.match.routes:VirtualHost._path", "head.path"),
        "test_path_matchers",
        "test_path_parameters_are_ignored_where_asked",
        spares="test_a_runtime_fraction_of_nothing_skips_the_route",
    ),
    mutant(
        "ignore_path_parameters_in_path_matching has no effect",
        Ignored(f"{_TABLE}.ignore_path_parameters"),
        "test_path_parameters_are_ignored_where_asked",
    ),
    mutant("invert_match has no effect", Ignored(f"{_HEADER}.invert"), "test_header_matchers"),
    mutant("range_match has no effect", Ignored(f"{_HEADER}.range"), "test_header_matchers"),
    mutant("present_match has no effect", Ignored(f"{_HEADER}.present"), "test_header_matchers"),
    mutant(
        "treat_missing_header_as_empty has no effect",
        Ignored(f"{_HEADER}.treat_missing_as_empty"),
        "test_header_matchers",
    ),
    mutant("ignore_case has no effect", Ignored("spec.common:StringMatch.ignore_case"), "test_header_matchers"),
    mutant(
        "all strings are matched exactly",
        Fixed("spec.common:StringMatch.kind", "StringMatchKind.EXACT"),
        "test_header_matchers",
        "test_query_matchers",
        "test_pseudo_headers_are_matched",
    ),
    mutant(
        "of a repeated header the first value counts",
        Swap("data.match.headers:compile_header.matches", "missing = False", "return invert"),
        "test_a_repeated_header_matches_by_any_value",
    ),
    mutant(
        "a route has one header matcher",
        Swap(_ROUTE, "match.headers", "match.headers[:1]"),
        "test_header_matchers_are_joined_by_and",
    ),
    mutant(
        "pseudo-headers are headers like others",
        Returns("data.match.headers:_is_pseudo", "False"),
        "test_pseudo_headers_are_matched",
    ),
    mutant("query matchers have no effect", Swap(_ROUTE, "match.query", "()"), "test_query_matchers"),
    mutant(
        "grpc has no effect",
        Ignored(f"{_MATCH}.grpc_only"),
        "test_grpc_requests_are_told_by_their_content_type",
    ),
    mutant(
        "runtime_fraction has no effect",
        Ignored(f"{_MATCH}.runtime_fraction"),
        "test_a_runtime_fraction_of_nothing_skips_the_route",
    ),
    mutant(
        "of weighted clusters the first is picked",
        Returns("data.match.weights:WeightedClusters.pick", "0"),
        "test_weighted_clusters_keep_to_their_weights",
        "test_a_weighted_pick_may_be_missing",
    ),
    mutant(
        "cluster_header has no effect",
        Ignored(f"{_ACTION}.cluster_header"),
        "test_the_cluster_is_named_by_a_header",
    ),
    mutant(
        "cluster_not_found_response_code has no effect",
        Ignored(f"{_ACTION}.cluster_not_found_status"),
        "test_a_missing_cluster_answers_as_configured",
    ),
    mutant(
        "routes have no names",
        Ignored("spec.route:Route.name"),
        "test_a_routed_request_reaches_its_cluster",
        "test_path_matchers",
        spares="test_star_domain",
    ),
]
