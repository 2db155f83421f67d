"""Mutants for test_header_mutation.py."""

from tests.mutation.mutant import Ignored, Returns, Swap, mutant

CANARY = "test_names_are_lower_cased"

_VALUE = "spec.common:HeaderValue"
_OPS = "spec.common:HeaderOps"
_EDITS = "data.proxy.header_ops:HeaderEdits"

MUTANTS = [
    mutant(
        "append_action has no effect",
        Ignored(f"{_VALUE}.action"),
        "test_request_header_actions",
        "test_response_header_actions",
        "test_overwriting_replaces_all_values",
        "test_the_least_specific_level_is_applied_last",
        "test_the_route_is_applied_last_where_asked",
    ),
    mutant(
        "overwriting leaves what is there",
        Swap(f"{_EDITS}.apply", "head.remove(addition.name)", "None"),
        "test_overwriting_replaces_all_values",
    ),
    mutant(
        "request headers are not removed",
        Ignored(f"{_OPS}.request_remove"),
        "test_headers_are_removed",
        "test_every_level_removes_headers",
    ),
    mutant(
        "response headers are not removed",
        Ignored(f"{_OPS}.response_remove"),
        "test_headers_are_removed",
        "test_every_level_removes_headers",
    ),
    mutant(
        "keep_empty_value has no effect",
        Ignored(f"{_VALUE}.keep_empty"),
        "test_empty_values_are_dropped_unless_kept",
    ),
    mutant(
        "of two entries of one name the last counts",
        Swap(
            f"{_EDITS}.__init__",
            "[(addition.name, addition.constant or b'') for addition in self._additions]",
            "list({addition.name: addition.constant or b'' for addition in self._additions}.items())",
        ),
        "test_two_entries_of_one_name",
    ),
    mutant(
        "names keep their case",
        (
            Swap("control.translate.header_ops:_take_header_value", "given.lower()", "given"),
            Swap("control.translate.header_ops:_take_removals", "header.lower()", "header"),
        ),
        "test_names_are_lower_cased",
        "test_headers_are_removed",
        spares="test_two_entries_of_one_name",
    ),
    mutant(
        "a length behind an operator has no effect",
        Ignored("spec.common:FormatOperator.max_length"),
        "test_request_formatters",
    ),
    mutant(
        "request header operators find nothing",
        Returns("data.observe.header_operators:_request_header", "lambda info: None"),
        "test_request_formatters",
        "test_response_formatters",
    ),
    mutant(
        "response header operators find nothing",
        Returns("data.observe.header_operators:_response_header", "lambda info: None"),
        "test_response_formatters",
    ),
    mutant(
        "most_specific_header_mutations_wins has the opposite effect",
        Swap("data.proxy.header_ops:HeaderOperations.__init__", "most_specific_wins", "not most_specific_wins"),
        "test_the_least_specific_level_is_applied_last",
        "test_the_route_is_applied_last_where_asked",
    ),
    mutant(
        "local replies are not edited",
        Returns("data.proxy.route_plan:RoutePlan.edit_answer"),
        "test_local_replies_carry_the_levels_headers",
    ),
]
