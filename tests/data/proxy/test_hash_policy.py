"""The load-balancing hash, number for number as Envoy computes it."""

import pytest
import xxhash

from mosn_xds.data.codec.head import Version
from mosn_xds.data.codec.rpc.messages import RpcRequest
from mosn_xds.data.proxy.hash_policy import HashPolicies, cookie_value
from mosn_xds.spec.common import RegexRewrite
from mosn_xds.spec.route import CookieHash, HeaderHash, QueryHash, SourceIpHash
from tests.support.heads import connection, request

FOO = 3728699739546630719
"""XXH64 of ``foo``, the value in Envoy's own tests."""


def xx(text: str, seed: int = 0) -> int:
    return xxhash.xxh64_intdigest(text.encode(), seed)


def compute(head, *policies):
    return HashPolicies(policies).compute(head, connection(), [])


def test_each_kind_of_policy_hashes_its_value():
    head = request("/?q=foo&q=bar", ("x-user", "foo"), ("cookie", "a=b; sid=foo"))
    assert xx("foo") == FOO
    assert compute(head, HeaderHash("x-user")) == FOO
    assert compute(head, CookieHash("sid")) == FOO
    assert compute(head, QueryHash("q")) == FOO
    assert compute(head, SourceIpHash()) == xx("10.1.2.3")


def test_a_property_of_an_rpc_is_found_in_its_own_case_first():
    head = RpcRequest.of(Version("test"), b"", 1, properties=[(b"user", b"bar"), (b"User", b"foo")])
    assert compute(head, HeaderHash("User")) == FOO
    assert compute(head, HeaderHash("USER")) == xx("foo", xx("bar"))


def test_without_a_value_there_is_no_hash():
    assert compute(request("/"), HeaderHash("x"), CookieHash("c"), QueryHash("q")) is None
    assert compute(request("/")) is None


def test_several_hashes_are_combined_by_rotation_and_xor():
    head = request("/?q=b", ("x", "a"))
    first, second, third = xx("a"), xx("b"), xx("10.1.2.3")
    two = ((first << 1 | first >> 63) & (1 << 64) - 1) ^ second
    assert compute(head, HeaderHash("x"), QueryHash("q")) == two
    three = ((two << 1 | two >> 63) & (1 << 64) - 1) ^ third
    assert compute(head, HeaderHash("x"), HeaderHash("none"), QueryHash("q"), SourceIpHash()) == three


def test_a_terminal_policy_ends_the_list_once_there_is_a_hash():
    head = request("/?q=foo")
    assert compute(head, HeaderHash("x", terminal=True), QueryHash("q", terminal=True), SourceIpHash()) == FOO
    assert compute(head, QueryHash("q"), HeaderHash("x", terminal=True), SourceIpHash()) == FOO


def test_repeated_headers_are_sorted_and_chained():
    chained = xx("b", xx("a"))
    assert compute(request("/", ("x", "a"), ("x", "b")), HeaderHash("x")) == chained
    assert compute(request("/", ("x", "b"), ("x", "a")), HeaderHash("x")) == chained


def test_a_header_can_be_rewritten_first():
    policy = HeaderHash("x", RegexRewrite("^(.*)-.*$", r"\1"))
    assert compute(request("/", ("x", "foo-123")), policy) == FOO


@pytest.mark.parametrize(
    ("policy", "attributes"),
    [
        (
            CookieHash("sid", 3600.0, "/p", (("SameSite", "Lax"), ("Secure", ""))),
            "; Max-Age=3600; Path=/p; SameSite=Lax; Secure",
        ),
        (CookieHash("sid", 0.0), ""),
        (CookieHash("sid", 1.5), "; Max-Age=1"),
    ],
)
def test_a_missing_cookie_is_made_of_the_connections_addresses(policy, attributes):
    made: list[bytes] = []
    value = f"{xx('10.1.2.3:4000010.9.9.9:8080'):016x}"
    assert HashPolicies((policy,)).compute(request("/"), connection(), made) == xx(value)
    assert made == [f'sid="{value}"{attributes}; HttpOnly'.encode()]


def test_a_cookie_that_is_there_is_not_made_again():
    made: list[bytes] = []
    HashPolicies((CookieHash("sid", 0.0),)).compute(request("/", ("cookie", "sid=x")), connection(), made)
    assert made == []
    HashPolicies((CookieHash("sid", 0.0),)).compute(request("/", ("cookie", "sid=")), connection(), made)
    assert len(made) == 1


@pytest.mark.parametrize(
    ("cookie", "value"),
    [
        ("a=1; b=2", "2"),
        ('b="quoted"', "quoted"),
        ("a=1;b=2; b=3", "2"),
        ("b=x=y", "x=y"),
        ("bb=1", ""),
        ("b", ""),
        ("", ""),
    ],
)
def test_cookies_are_found_by_name(cookie, value):
    assert cookie_value(request("/", ("cookie", cookie)), b"b") == value.encode()


def test_a_tcp_connection_has_its_source_address_only():
    policies = HashPolicies((HeaderHash("x"), SourceIpHash()))
    assert policies.compute(None, connection(), []) == xx("10.1.2.3")
