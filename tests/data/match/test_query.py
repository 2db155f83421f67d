"""Query parameters. The table is what a real Envoy 1.40 answers."""

import pytest

from mosn_xds.data.match.query import compile_query, query_parameters
from mosn_xds.spec.common import QueryMatch, StringMatch, StringMatchKind

PATHS = ["/?x=a", "/", "/?x", "/?x=", "/?x=b&x=a", "/?x=a&x=b", "/?y=1&x=a", "/?x=%61", "/?&x=a", "/?x=a=b"]


@pytest.mark.parametrize(
    ("match", "matched"),
    [
        (
            QueryMatch("x", string=StringMatch(StringMatchKind.EXACT, "a")),
            ["/?x=a", "/?x=a&x=b", "/?y=1&x=a", "/?&x=a"],
        ),
        (QueryMatch("x", present=True), [path for path in PATHS if path != "/"]),
        (QueryMatch("x", present=False), ["/"]),
        (QueryMatch("x"), [path for path in PATHS if path != "/"]),
        (QueryMatch("x", string=StringMatch(StringMatchKind.REGEX, "a=.*")), ["/?x=a=b"]),
    ],
)
def test_query_matchers(match, matched):
    test = compile_query(match)
    assert [path for path in PATHS if test(query_parameters(path.encode()))] == matched


def test_a_fragment_is_no_part_of_the_query():
    assert query_parameters(b"/?a=1#b=2") == {b"a": b"1"}
