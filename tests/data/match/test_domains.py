"""Which virtual host a name belongs to."""

import pytest

from mosn_xds.base.errors import ConfigError
from mosn_xds.data.match.domains import DomainTable, without_port

DOMAINS = [
    ("exact.foo.com",),
    ("*.foo.com",),
    ("*-bar.foo.com", "*.b.foo.com"),
    ("foo.*", "exact.*"),
    ("foo.b*",),
    ("*",),
    ("host:8080", "[::1]:80"),
]


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("exact.foo.com", 0),
        ("EXACT.Foo.com", 0),
        ("a.foo.com", 1),
        ("a-bar.foo.com", 2),
        ("a.b.foo.com", 2),
        (".foo.com", 5),
        ("-bar.foo.com", 1),
        ("foo.com", 3),
        ("foo.bar", 4),
        ("foo.b", 3),
        ("foo.", 5),
        ("exact.x", 3),
        ("host:8080", 6),
        ("host", 5),
        ("[::1]:80", 6),
        ("", 5),
    ],
)
def test_exact_then_longest_suffix_then_longest_prefix_then_star(host, expected):
    assert DomainTable(DOMAINS).find(host.encode()) == expected


def test_a_short_suffix_wildcard_beats_a_longer_prefix_wildcard():
    assert DomainTable([("long.name.*",), ("*.x",)]).find(b"long.name.x") == 1


def test_a_name_that_nobody_has_is_nobodys():
    assert DomainTable([("a",)]).find(b"b") == -1


def test_duplicates_are_refused_in_envoys_words():
    with pytest.raises(ConfigError, match="Duplicate entry of domain A"):
        DomainTable([("a",), ("A",)])
    with pytest.raises(ConfigError, match="Only a single wildcard domain is permitted"):
        DomainTable([("*",), ("*",)])


@pytest.mark.parametrize(
    ("authority", "host"),
    [("h:80", "h"), ("h", "h"), ("[::1]:80", "[::1]"), ("[::1]", "[::1]"), ("h:", "h"), ("", "")],
)
def test_the_port_of_an_authority_can_be_left_out(authority, host):
    assert without_port(authority.encode()) == host.encode()
