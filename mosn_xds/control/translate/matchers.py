"""Matchers of strings, headers and query parameters (envoy.type.matcher.v3, envoy.config.route.v3)."""

import re

from mosn_xds.control.translate.context import Context
from mosn_xds.control.translate.take import Take
from mosn_xds.spec.common import HeaderMatch, QueryMatch, RegexRewrite, StringMatch, StringMatchKind

_REFERENCE = re.compile(r"\\([0-9\\]?)")
_STRING_KINDS = {
    "exact": StringMatchKind.EXACT,
    "prefix": StringMatchKind.PREFIX,
    "suffix": StringMatchKind.SUFFIX,
    "contains": StringMatchKind.CONTAINS,
}
_DEPRECATED_KINDS = {
    "exact_match": StringMatchKind.EXACT,
    "prefix_match": StringMatchKind.PREFIX,
    "suffix_match": StringMatchKind.SUFFIX,
    "contains_match": StringMatchKind.CONTAINS,
}


def take_regex(take: Take, context: Context) -> str:
    """type.matcher.RegexMatcher: a pattern that RE2 accepts. Raises ConfigError."""
    engine = take.child("google_re2")
    if engine is not None and engine.left:  # xds.type.matcher.v3 has nothing in it
        engine.ignore("max_program_size", "the runtime key re2.max_program_size.error_level decides")
    return context.check_regex(take, "regex", take.text("regex"))


def take_string_match(take: Take, context: Context) -> StringMatch:
    """type.matcher.StringMatcher, and xds.type.matcher.v3.StringMatcher."""
    for name, kind in _STRING_KINDS.items():
        if take.has(name):
            return StringMatch(kind, take.text(name), take.flag("ignore_case"))
    regex = take.child("safe_regex")
    if regex is not None:
        if take.flag("ignore_case"):
            take.ignore("ignore_case", "a regex says it itself: (?i)")
        return StringMatch(StringMatchKind.REGEX, take_regex(regex, context))
    raise take.error(take.one_of("custom") or "", "this kind of string matcher is not supported")


def take_header_match(take: Take, context: Context) -> HeaderMatch:
    """route.HeaderMatcher, the deprecated forms included."""
    name = take.text("name")
    invert = take.flag("invert_match")
    as_empty = take.flag("treat_missing_header_as_empty")
    string = take.child("string_match")
    if string is not None:
        return HeaderMatch(name, take_string_match(string, context), None, None, invert, as_empty)
    for field, kind in _DEPRECATED_KINDS.items():
        if take.has(field):
            return HeaderMatch(name, StringMatch(kind, take.text(field)), None, None, invert, as_empty)
    regex = take.child("safe_regex_match")
    if regex is not None:
        match = StringMatch(StringMatchKind.REGEX, take_regex(regex, context))
        return HeaderMatch(name, match, None, None, invert, as_empty)
    span = take.child("range_match")
    if span is not None:
        return HeaderMatch(name, None, (span.integer("start"), span.integer("end")), None, invert, as_empty)
    present = take.flag("present_match") if take.has("present_match") else None
    return HeaderMatch(name, None, None, present, invert, as_empty)


def take_header_matches(parent: Take, name: str, context: Context) -> tuple[HeaderMatch, ...]:
    if not parent.has(name):
        return ()
    return tuple([take_header_match(take, context) for take in parent.children(name)])


def take_query_match(take: Take, context: Context) -> QueryMatch:
    """route.QueryParameterMatcher."""
    string = take.child("string_match")
    present = take.flag("present_match") if take.has("present_match") else None
    return QueryMatch(take.text("name"), None if string is None else take_string_match(string, context), present)


def take_regex_rewrite(parent: Take, name: str, context: Context) -> RegexRewrite | None:
    """type.matcher.RegexMatchAndSubstitute; None when absent.

    Raises ConfigError for a substitution that RE2 could not carry out. (Envoy takes it, and then rewrites nothing.)
    """
    take = parent.child(name)
    if take is None:
        return None
    pattern = take.child("pattern")
    if pattern is None:
        raise take.error("pattern", "a pattern is required")
    rewrite = RegexRewrite(take_regex(pattern, context), take.text("substitution"))
    groups = context.regex_groups(rewrite.pattern)
    for reference in _REFERENCE.findall(rewrite.substitution):
        if not reference:
            raise take.error("substitution", "Rewrite schema error: '\\' must be followed by a digit or '\\'.")
        if reference != "\\" and int(reference) > groups:
            raise take.error(
                "substitution",
                f"Rewrite schema requests {reference} matches, but the regexp only has {groups} parenthesized "
                "subexpressions.",
            )
    return rewrite
