"""IP prefixes."""

import pytest

from mosn_xds.base.errors import ConfigError
from mosn_xds.data.match.cidr import CidrSet, CidrTable, parse_ip
from mosn_xds.spec.common import CidrRange


def test_the_longest_prefix_wins():
    table = CidrTable(
        [
            (CidrRange("0.0.0.0", 0), "any"),
            (CidrRange("10.0.0.0", 8), "ten"),
            (CidrRange("10.1.2.99", 24), "net"),
            (CidrRange("10.1.2.3", 32), "host"),
            (CidrRange("fd00::", 8), "ula"),
        ]
    )
    expected = {"10.1.2.3": "host", "10.1.2.4": "net", "10.9.9.9": "ten", "11.0.0.1": "any", "fd00::1": "ula"}
    assert {text: table.find(parse_ip(text)) for text in expected} == expected
    assert table.find(parse_ip("fe80::1")) is None
    assert table.find(parse_ip("/a/unix/path")) is None


def test_an_ipv4_address_on_an_ipv6_socket_is_an_ipv4_address():
    assert CidrSet([CidrRange("10.0.0.0", 8)]).contains("::ffff:10.1.1.1")


def test_a_set_holds_what_is_in_one_of_its_prefixes():
    internal = CidrSet([CidrRange("10.0.0.0", 8), CidrRange("::1", 128)])
    assert internal.contains("10.255.0.1")
    assert internal.contains("::1")
    assert not internal.contains("11.0.0.1")
    assert not internal.contains("not an address")
    assert not CidrSet([]).contains("10.0.0.1")


def test_a_bad_prefix_is_refused_in_envoys_words():
    with pytest.raises(ConfigError, match="malformed IP address: not-an-ip"):
        CidrSet([CidrRange("not-an-ip", 8)])
