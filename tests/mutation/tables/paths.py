"""Mutants for test_paths.py."""

from tests.mutation.mutant import Fixed, Ignored, Returns, Swap, mutant

CANARY = "test_escaped_slashes_in_the_query_are_not_refused"

_HCM = "spec.listener:HttpConnectionManager"

MUTANTS = [
    mutant(
        "paths are always normalised",
        Fixed(f"{_HCM}.normalize_path", "True"),
        "test_paths_are_left_alone_by_default",
    ),
    mutant(
        "normalize_path has no effect",
        Ignored(f"{_HCM}.normalize_path"),
        "test_dot_segments_and_escapes_are_normalised",
        "test_an_escaped_nul_is_refused",
        "test_normalisation_comes_before_merging",
        "test_unescaped_slashes_are_normalised",
    ),
    mutant("merge_slashes has no effect", Ignored(f"{_HCM}.merge_slashes"), "test_slashes_are_merged"),
    mutant(
        "escaped slashes are always unescaped",
        Fixed(f"{_HCM}.escaped_slashes", "EscapedSlashes.UNESCAPE_AND_FORWARD"),
        "test_escaped_slashes_are_kept",
    ),
    mutant(
        "path_with_escaped_slashes_action has no effect",
        Ignored(f"{_HCM}.escaped_slashes"),
        "test_escaped_slashes_are_refused",
        "test_escaped_slashes_are_redirected",
        "test_escaped_slashes_of_grpc_are_refused",
        "test_escaped_slashes_are_unescaped",
        "test_unescaped_slashes_are_normalised",
    ),
    mutant(
        "the query is taken for a part of the path",
        Returns("data.proxy.path:split_query", "(path, b'')"),
        "test_escaped_slashes_in_the_query_are_not_refused",
        spares="test_absolute_form_without_a_path",
    ),
    mutant(
        "gRPC is redirected as others are",
        Swap("data.proxy.path:PathPolicy.apply", "is_grpc(head.get(b'content-type'))", "False"),
        "test_escaped_slashes_of_grpc_are_refused",
    ),
    mutant(
        "fragments pass",
        Swap("data.proxy.path:PathPolicy.apply", "b'#' in path", "False"),
        "test_a_fragment_is_refused",
    ),
    mutant(
        "absolute form is never taken apart",
        Fixed("spec.listener:Http1Settings.allow_absolute_url", "False"),
        "test_absolute_form_is_taken_apart",
        "test_absolute_form_without_a_path",
    ),
    mutant(
        "absolute form is always taken apart",
        Ignored("spec.listener:Http1Settings.allow_absolute_url"),
        "test_absolute_form_is_refused_where_switched_off",
    ),
    mutant(
        "a target without a slash is taken for a path",
        (
            Swap("data.proxy.request_headers:RequestHeaders.prepare", "path[0] != 47", "False"),
            Swap("data.codec.http1.request_head:particular_head", "url[0] != _SLASH", "b'://' in url"),
        ),
        "test_a_target_without_a_slash_finds_nothing",
    ),
]
