"""Header matchers. The table is what a real Envoy 1.40 answers to these matchers and requests."""

import pytest

from mosn_xds.data.codec.head import Version
from mosn_xds.data.codec.rpc.messages import RpcRequest
from mosn_xds.data.match.headers import compile_header, first_value
from mosn_xds.spec.common import HeaderMatch, StringMatch, StringMatchKind
from tests.support.heads import request, response

A = StringMatch(StringMatchKind.EXACT, "a")
REQUESTS = {
    "none": [],
    "a": ["a"],
    "b": ["b"],
    "a+b": ["a", "b"],
    "b+c": ["b", "c"],
    "empty": [""],
    "a,b": ["a,b"],
}


@pytest.mark.parametrize(
    ("match", "matched"),
    [
        (HeaderMatch("x", string=A), "a a+b"),
        (HeaderMatch("x", string=A, invert=True), "b b+c empty a,b"),
        (HeaderMatch("x", string=StringMatch(StringMatchKind.EXACT, ""), treat_missing_as_empty=True), "none empty"),
        (HeaderMatch("x", string=A, treat_missing_as_empty=True, invert=True), "none b b+c empty a,b"),
        (HeaderMatch("x", string=StringMatch(StringMatchKind.EXACT, "a,b")), "a,b"),
        (HeaderMatch("x", string=StringMatch(StringMatchKind.REGEX, "a|b")), "a b a+b b+c"),
        (HeaderMatch("x", string=StringMatch(StringMatchKind.PREFIX, "A", ignore_case=True)), "a a+b a,b"),
        (HeaderMatch("x", present=True), "a b a+b b+c empty a,b"),
        (HeaderMatch("x", present=False), "none"),
        (HeaderMatch("x", present=True, invert=True), "none"),
        (HeaderMatch("x", present=False, invert=True), "a b a+b b+c empty a,b"),
        (HeaderMatch("x"), "a b a+b b+c empty a,b"),
        (HeaderMatch("x", invert=True), "none"),
        (HeaderMatch("x", present=True, treat_missing_as_empty=True), "none a b a+b b+c empty a,b"),
        (HeaderMatch("x", present=False, treat_missing_as_empty=True), ""),
        (HeaderMatch("x", present=True, invert=True, treat_missing_as_empty=True), ""),
    ],
)
def test_header_matchers(match, matched):
    test = compile_header(match)
    heads = {name: request("/", *(("x", value) for value in values)) for name, values in REQUESTS.items()}
    assert {name for name, head in heads.items() if test(head)} == set(matched.split())


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1", True),
        ("5", False),
        ("+4", True),
        ("00000004", True),
        ("-0", False),
        ("0x1", False),
        ("4.0", False),
        ("", False),
        ("1,2", False),
        ("99999999999999999999", False),
        ("1" * 5000, False),
    ],
)
def test_ranges_are_half_open_over_decimal_integers(value, expected):
    assert compile_header(HeaderMatch("x", range=(1, 5)))(request("/", ("x", value))) is expected


def test_names_are_compared_in_lower_case_and_pseudo_headers_are_attributes():
    head = request("/p?q", ("x-foo", "1"), host="Host.com", method="PUT")

    def matches(name: str, value: str) -> bool:
        return compile_header(HeaderMatch(name, string=StringMatch(StringMatchKind.EXACT, value)))(head)

    assert matches("X-Foo", "1")
    assert matches(":path", "/p?q")
    assert matches(":method", "PUT")
    assert matches(":authority", "Host.com")
    assert matches("host", "Host.com")
    assert not matches(":status", "200")
    assert compile_header(HeaderMatch(":scheme", present=True))(head)


def test_a_response_is_matched_by_its_status_and_headers():
    status = compile_header(HeaderMatch(":status", string=StringMatch(StringMatchKind.PREFIX, "50")))
    assert status(response(503))
    assert not status(response(404))


def test_the_first_of_repeated_values_is_the_value():
    head = request("/", ("x", "1"), ("x", "2"))
    assert first_value(head, b"x") == b"1"
    assert first_value(head, b"y") is None
    assert first_value(head, b":path") == b"/"


@pytest.mark.parametrize(
    ("name", "properties", "matched"),
    [
        ("targetApp", {"targetApp": "a"}, True),
        ("targetApp", {"targetapp": "a"}, True),
        ("targetapp", {"targetApp": "a"}, True),
        ("targetApp", {"targetapp": "a", "targetApp": "b"}, False),
        ("targetapp", {"targetapp": "a", "targetApp": "b"}, True),
        ("targetApp", {"targetApp": "b"}, False),
        ("targetApp", {}, False),
    ],
)
def test_properties_of_rpcs_are_found_in_their_own_case_first(name, properties, matched):
    fields = [(key.encode(), value.encode()) for key, value in properties.items()]
    head = RpcRequest.of(Version("test"), b"", 1, properties=fields)
    assert compile_header(HeaderMatch(name, string=A))(head) is matched
    assert compile_header(HeaderMatch(name, present=True))(head) is bool(properties)
