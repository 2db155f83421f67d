"""Filter chain match: the order of criteria, the most specific wins, and nothing is tried again."""

import pytest

from mosn_xds.data.listener.chain_match import ChainMatcher
from mosn_xds.spec.common import Address, CidrRange
from mosn_xds.spec.listener import ChainMatch, SourceType


def cidr(text: str) -> CidrRange:
    prefix, _, length = text.partition("/")
    return CidrRange(prefix, int(length))


def match(**criteria) -> ChainMatch:
    for name in ("prefix_ranges", "direct_source_ranges", "source_ranges"):
        if name in criteria:
            criteria[name] = tuple(cidr(text) for text in criteria[name])
    return ChainMatch(**criteria)


def find(
    *chains: ChainMatch | None,
    to: str = "10.0.0.1",
    port: int = 80,
    sni: str = "",
    transport: str = "raw_buffer",
    alpns: tuple[str, ...] = (),
    direct: str = "192.0.2.1",
    source: str = "192.0.2.1",
    source_port: int = 5000,
) -> int | None:
    return ChainMatcher(chains).find(
        destination=Address(to, port),
        sni=sni,
        transport=transport,
        alpns=alpns,
        direct_source=Address(direct, source_port),
        source=Address(source, source_port),
    )


def test_a_chain_without_a_match_takes_everything() -> None:
    assert find(None) == 0
    assert find(ChainMatch()) == 0
    assert find(None, to="::1", source="::2", sni="x.y") == 0


def test_no_chain_at_all_matches_nothing() -> None:
    assert find() is None


# One criterion each: the exact one before the looser one before none.

PORT = (match(destination_port=80), match(destination_port=443), None)
IP = (match(prefix_ranges=["10.0.0.1/32"]), match(prefix_ranges=["10.0.0.0/8", "2001:db8::/32"]), None)
NAMES = (
    match(server_names=("www.example.com",)),
    match(server_names=("*.example.com",)),
    match(server_names=("*.com", "other.org")),
    None,
)
TRANSPORT = (match(transport_protocol="tls"), match(transport_protocol="raw_buffer"), None)
ALPN = (match(application_protocols=("h2", "istio-h2")), match(application_protocols=("http/1.1",)), None)
DIRECT = (match(direct_source_ranges=["192.0.2.0/24"]), match(direct_source_ranges=["192.0.2.128/25"]), None)
TYPE = (match(source_type=SourceType.SAME_IP_OR_LOOPBACK), match(source_type=SourceType.EXTERNAL), None)
SOURCE = (match(source_ranges=["198.51.100.0/24"]), match(source_ranges=["198.51.100.7/32"]), None)
SOURCE_PORT = (match(source_ports=(1000, 1001)), match(source_ports=(2000,)), None)


@pytest.mark.parametrize(
    ("chains", "facts", "chosen"),
    [
        (PORT, {"port": 80}, 0),
        (PORT, {"port": 443}, 1),
        (PORT, {"port": 8080}, 2),
        (PORT[:2], {"port": 8080}, None),
        (IP, {"to": "10.0.0.1"}, 0),
        (IP, {"to": "10.0.0.2"}, 1),
        (IP, {"to": "2001:db8::5"}, 1),
        (IP, {"to": "11.0.0.1"}, 2),
        (IP, {"to": "::ffff:10.0.0.1"}, 0),
        (IP[:2], {"to": "11.0.0.1"}, None),
        (NAMES, {"sni": "www.example.com"}, 0),
        (NAMES, {"sni": "api.example.com"}, 1),
        (NAMES, {"sni": "a.b.example.com"}, 1),
        (NAMES, {"sni": "example.com"}, 2),
        (NAMES, {"sni": "other.org"}, 2),
        (NAMES, {"sni": "sub.other.org"}, 3),
        (NAMES, {"sni": "com"}, 3),
        (NAMES, {"sni": ""}, 3),
        (NAMES[:3], {"sni": ""}, None),
        (TRANSPORT, {"transport": "tls"}, 0),
        (TRANSPORT, {"transport": "raw_buffer"}, 1),
        (TRANSPORT[:1] + TRANSPORT[2:], {"transport": "raw_buffer"}, 1),
        (TRANSPORT[:1], {"transport": "raw_buffer"}, None),
        (ALPN, {"alpns": ("h2",)}, 0),
        (ALPN, {"alpns": ("http/1.1", "h2")}, 1),
        (ALPN, {"alpns": ("spdy", "istio-h2", "http/1.1")}, 0),
        (ALPN, {"alpns": ("spdy",)}, 2),
        (ALPN, {}, 2),
        (DIRECT, {"direct": "192.0.2.1"}, 0),
        (DIRECT, {"direct": "192.0.2.200"}, 1),
        (DIRECT, {"direct": "203.0.113.1", "source": "192.0.2.1"}, 2),
        (TYPE, {"source": "127.0.0.1"}, 0),
        (TYPE, {"source": "::1"}, 0),
        (TYPE, {"source": "10.0.0.1", "to": "10.0.0.1"}, 0),
        (TYPE, {"source": "127.0.0.6"}, 1),
        (TYPE, {"source": "10.0.0.2", "to": "10.0.0.1"}, 1),
        (TYPE[1:], {"source": "127.0.0.1"}, 1),
        (TYPE[:1], {"source": "10.0.0.2"}, None),
        (SOURCE, {"source": "198.51.100.9"}, 0),
        (SOURCE, {"source": "198.51.100.7"}, 1),
        (SOURCE, {"source": "203.0.113.1", "direct": "198.51.100.9"}, 2),
        (SOURCE_PORT, {"source_port": 1001}, 0),
        (SOURCE_PORT, {"source_port": 2000}, 1),
        (SOURCE_PORT, {"source_port": 3000}, 2),
    ],
)
def test_the_most_specific_chain_of_one_criterion_wins(chains, facts, chosen: int | None) -> None:
    assert find(*chains, **facts) == chosen


def test_the_order_of_chains_does_not_matter() -> None:
    assert find(*reversed(NAMES), sni="www.example.com") == 3
    assert find(*reversed(IP), to="10.0.0.1") == 2


# Earlier criteria rule out before later ones are asked.


@pytest.mark.parametrize(
    ("tight", "loose", "facts"),
    [
        (match(destination_port=80, server_names=("a.b",)), match(server_names=("c.d",)), {"sni": "c.d"}),
        (match(destination_port=80, source_ports=(1,)), None, {}),
        (
            match(prefix_ranges=["10.0.0.1/32"], transport_protocol="tls"),
            match(prefix_ranges=["10.0.0.0/8"], transport_protocol="raw_buffer"),
            {},
        ),
        (
            match(server_names=("a.example.com",), transport_protocol="tls"),
            match(server_names=("*.example.com",), transport_protocol="raw_buffer"),
            {"sni": "a.example.com"},
        ),
        (
            match(server_names=("a.b",), transport_protocol="tls"),
            match(transport_protocol="raw_buffer"),
            {"sni": "a.b"},
        ),
        (match(transport_protocol="raw_buffer", application_protocols=("h2",)), None, {}),
        (match(application_protocols=("h2",), source_ports=(1,)), None, {"alpns": ("h2",)}),
        (
            match(application_protocols=("h2",), source_ports=(1,)),
            match(application_protocols=("x",)),
            {"alpns": ("h2", "x")},
        ),
        (match(direct_source_ranges=["192.0.2.0/24"], source_ports=(1,)), None, {}),
        (match(source_type=SourceType.EXTERNAL, source_ports=(1,)), None, {}),
        (match(source_ranges=["192.0.2.1/32"], source_ports=(1,)), match(source_ranges=["192.0.2.0/24"]), {}),
    ],
)
def test_a_chain_that_matches_tightly_and_fails_later_leaves_no_way_back(tight, loose, facts) -> None:
    assert find(tight, loose, **facts) is None
    assert find(loose, tight, **facts) is None


def test_chains_of_one_branch_share_it() -> None:
    """Two chains for one port differ by what comes after: both stay in the race."""
    chains = (
        match(destination_port=80, server_names=("a.b",)),
        match(destination_port=80, transport_protocol="tls"),
        match(destination_port=80),
        None,
    )
    assert find(*chains, sni="a.b", transport="tls") == 0
    assert find(*chains, sni="x.y", transport="tls") == 1
    assert find(*chains, sni="x.y") == 2
    assert find(*chains, port=81) == 3


def test_every_combination_of_a_chains_alternatives_leads_to_it() -> None:
    chain = match(
        prefix_ranges=["10.0.0.0/8", "fd00::/8"],
        server_names=("a.b", "*.c.d"),
        application_protocols=("h2", "http/1.1"),
    )
    for to in ("10.9.9.9", "fd12::1"):
        for sni in ("a.b", "x.c.d"):
            for alpn in ("h2", "http/1.1"):
                assert find(chain, to=to, sni=sni, alpns=(alpn,)) == 0
    assert find(chain, to="10.9.9.9", sni="a.b", alpns=("spdy",)) is None


def test_unix_peers_are_local_and_have_no_address_to_match() -> None:
    chains = (match(source_type=SourceType.SAME_IP_OR_LOOPBACK), match(source_ranges=["10.0.0.0/8"]))
    matcher = ChainMatcher(chains)
    facts = {"sni": "", "transport": "raw_buffer", "alpns": ()}
    peer = Address("/run/app.sock")
    assert matcher.find(destination=Address("/run/in.sock"), direct_source=peer, source=peer, **facts) == 0
    assert (
        matcher.find(destination=Address("/run/in.sock"), direct_source=Address(""), source=Address(""), **facts) == 0
    )


def test_an_operator_sees_what_a_matcher_asks() -> None:
    assert repr(ChainMatcher(NAMES)) == "<ChainMatcher 4 chains by server_name>"
