"""String matchers and substitution, as Envoy and RE2 have them."""

import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st

from mosn_xds.base.errors import ConfigError
from mosn_xds.data.match.strings import Substitution, compile_regex, compile_string
from mosn_xds.spec.common import RegexRewrite, StringMatch, StringMatchKind

EXACT, PREFIX, SUFFIX, REGEX, CONTAINS = StringMatchKind


@pytest.mark.parametrize(
    ("kind", "value", "ignore_case", "yes", "no"),
    [
        (EXACT, "Abc", False, ["Abc"], ["abc", "Abcd", ""]),
        (EXACT, "Abc", True, ["abc", "ABC"], ["ab"]),
        (EXACT, "", False, [""], ["a"]),
        (PREFIX, "Ab", False, ["Ab", "Abc"], ["aB", "xAb"]),
        (PREFIX, "Ab", True, ["aBx"], ["xab"]),
        (SUFFIX, "bC", False, ["bC", "abC"], ["bc", "bCx"]),
        (SUFFIX, "bC", True, ["aBc"], ["bcx"]),
        (CONTAINS, "bC", False, ["abCd", "bC"], ["abcd", "b"]),
        (CONTAINS, "bC", True, ["aBcd"], ["b"]),
        (REGEX, "a+", False, ["a", "aaa"], ["", "ab", "ba"]),
        (REGEX, "a.*", False, ["a", "a/b?c"], ["ba", "", "a\n"]),
        (REGEX, ".*", False, ["", "anything"], ["two\nlines"]),
        (REGEX, "a.*b", False, ["ab", "a-b"], ["a", "abc"]),
        (REGEX, r"/api\.v1/.*", False, ["/api.v1/x"], ["/apixv1/x"]),
        (REGEX, r"\d+", False, ["12"], ["d", ""]),
        (REGEX, "a|b", False, ["a", "b"], ["ab", "a|b"]),
        (REGEX, "(?i)abc", False, ["ABC"], ["abd"]),
    ],
)
def test_string_matchers(kind, value, ignore_case, yes, no):
    test = compile_string(StringMatch(kind, value, ignore_case))
    for text in yes:
        assert test(text.encode()), text
    for text in no:
        assert not test(text.encode()), text


def test_a_dot_is_one_utf8_character_as_in_re2():
    test = compile_regex("a.*")
    assert test("aé".encode())
    assert not test(b"a\xff")


@given(st.text("ab.*/\\+\n-é", max_size=8), st.text("ab./+\n-é", max_size=6))
def test_the_short_cut_for_plain_expressions_never_disagrees_with_re2(pattern: str, text: str):
    options = re2.Options()
    options.log_errors = False
    try:
        oracle = re2.compile(pattern, options)
    except re2.error:
        with pytest.raises(ConfigError):
            compile_regex(pattern)
        return
    assert compile_regex(pattern)(text.encode()) == (oracle.fullmatch(text.encode()) is not None)


def test_a_bad_expression_is_refused_in_re2s_words():
    with pytest.raises(ConfigError) as refused:
        compile_regex("(unclosed")
    assert refused.value.reason == "missing ): (unclosed"


@pytest.mark.parametrize(
    ("pattern", "substitution", "text", "expected"),
    [
        ("b", "X", "abcb", "aXcX"),
        ("^/(.+)/(.*)$", r"/\2/\1", "/one/two/three", "/three/one/two"),
        ("a(.)", r"[\0\1\1]", "-ab-ac", "-[abbb]-[accc]"),
        ("(a)|(b)", r"<\2>", "ab", "<><b>"),
        ("b*", "-", "abba", "-a-a-"),
        ("x", r"a\\b", "x", r"a\b"),
        ("$", "!", "end", "end!"),
        ("nothing", "X", "text", "text"),
        (".", "", "abc", ""),
    ],
)
def test_substitution_replaces_every_match_as_re2_global_replace_does(pattern, substitution, text, expected):
    assert Substitution(RegexRewrite(pattern, substitution)).apply(text.encode()) == expected.encode()


@pytest.mark.parametrize("substitution", [r"\2", r"a\x", "a\\"])
def test_a_substitution_that_refers_to_nothing_is_refused(substitution):
    with pytest.raises(ConfigError, match="Rewrite schema"):
        Substitution(RegexRewrite("(a)", substitution))
