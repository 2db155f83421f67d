"""Which filter chain serves a connection: every criterion, their order, and that nobody goes back."""

import pytest

from tests.differential.bed import Bed, Config, cluster, extension, hcm, listener, tcp_proxy, vhost
from tests.differential.pair import case
from tests.differential.world import World
from tests.support.tcp_upstream import TcpUpstream
from tests.support.tls_hello import client_hello
from tests.support.upstream import Upstream

_LISTENER = "envoy.extensions.filters.listener"
TLS_INSPECTOR = extension("envoy.filters.listener.tls_inspector", f"{_LISTENER}.tls_inspector.v3.TlsInspector")
HTTP_INSPECTOR = extension("envoy.filters.listener.http_inspector", f"{_LISTENER}.http_inspector.v3.HttpInspector")


def chain(listener_name: str, target: str, **match: object) -> Config:
    """A chain that leads to the TCP upstream of that name, which says its name."""
    return {"name": target, "filter_chain_match": match, "filters": [tcp_proxy(listener_name, target)]}


def http_chain(listener_name: str, **match: object) -> Config:
    """A chain with an HTTP connection manager."""
    routes = "[{name: all, match: {prefix: /}, route: {cluster: web}}]"
    return {"name": "web", "filter_chain_match": match, "filters": [hcm(listener_name, [vhost("all", ["*"], routes)])]}


def cidr(text: str) -> Config:
    """A CidrRange."""
    address, _, length = text.partition("/")
    return {"address_prefix": address, "prefix_len": int(length)}


def sources(name: str, **chains: Config) -> Config:
    """A listener whose chains are told apart by the criteria of each."""
    return listener(name, chains=[chain(name, target, **match) for target, match in chains.items()])


NAMED = vhost(
    "all",
    ["*"],
    """
    - match: {prefix: /}
      direct_response: {status: 204}
      response_headers_to_add: [{header: {key: x-chain, value: "%FILTER_CHAIN_NAME%"}}]
    """,
)

NAMES = ("c1", "c2", "c3", "c4", "fallback")

BED = Bed(
    listeners=[
        sources(
            "direct-source",
            c1={"direct_source_prefix_ranges": [cidr("127.0.0.0/8")]},
            c2={"direct_source_prefix_ranges": [cidr("127.0.3.0/24")]},
            c3={"direct_source_prefix_ranges": [cidr("127.0.3.7/32"), cidr("127.0.4.7/32")]},
        ),
        sources(
            "source",
            c1={"source_prefix_ranges": [cidr("127.0.3.0/24")]},
            c2={"source_prefix_ranges": [cidr("127.0.3.7/32")]},
            c3={},
        ),
        sources("source-type", c1={"source_type": "SAME_IP_OR_LOOPBACK"}, c2={"source_type": "EXTERNAL"}),
        listener(
            "destination",
            chains=[
                chain("destination", "c1", prefix_ranges=[cidr("127.0.0.0/8")]),
                chain("destination", "c2", prefix_ranges=[cidr("127.0.0.1/32")]),
                chain("destination", "c3"),
            ],
        ),
        listener("wrong-port", chains=[chain("wrong-port", "c1", destination_port=1)]),
        listener(
            "no-way-back",
            # The chain for the address is the tightest, and its source fails: the looser chain is not tried again.
            chains=[
                chain(
                    "no-way-back",
                    "c1",
                    prefix_ranges=[cidr("127.0.0.1/32")],
                    source_prefix_ranges=[cidr("127.0.3.0/24")],
                ),
                chain("no-way-back", "c2", prefix_ranges=[cidr("127.0.0.0/8")]),
            ],
            default_filter_chain={"name": "fallback", "filters": [tcp_proxy("no-way-back", "fallback")]},
        ),
        listener(
            "no-chain",
            chains=[chain("no-chain", "c1", source_prefix_ranges=[cidr("10.0.0.0/8")])],
            stat_prefix="no-chain",
        ),
        listener(
            "default-chain",
            chains=[chain("default-chain", "c1", source_prefix_ranges=[cidr("10.0.0.0/8")])],
            default_filter_chain={"name": "fallback", "filters": [tcp_proxy("default-chain", "fallback")]},
        ),
        listener(
            "sni",
            chains=[
                chain("sni", "c1", server_names=["a.example.com"]),
                chain("sni", "c2", server_names=["*.example.com"]),
                chain("sni", "c3", server_names=["*.com"]),
                chain("sni", "c4", transport_protocol="tls"),
                chain("sni", "fallback", transport_protocol="raw_buffer"),
            ],
            listener_filters=[TLS_INSPECTOR],
        ),
        listener(
            "alpn",
            chains=[
                chain("alpn", "c1", application_protocols=["h2"]),
                chain("alpn", "c2", application_protocols=["istio-peer-exchange", "istio"]),
                chain("alpn", "c3"),
            ],
            listener_filters=[TLS_INSPECTOR],
        ),
        listener(
            "sniff",
            chains=[
                http_chain("sniff", application_protocols=["http/1.0", "http/1.1"]),
                chain("sniff", "c2", application_protocols=["h2c"]),
                chain("sniff", "c3"),
            ],
            listener_filters=[HTTP_INSPECTOR],
            listener_filters_timeout="0.3s",
            continue_on_listener_filters_timeout=True,
        ),
        listener(
            "sniff-or-close",
            chains=[
                http_chain("sniff-or-close", application_protocols=["http/1.1"]),
                chain("sniff-or-close", "c3"),
            ],
            listener_filters=[HTTP_INSPECTOR],
            listener_filters_timeout="0.3s",
        ),
        listener("named-chains", chains=[{"name": "the-chain", "filters": [hcm("named-chains", [NAMED])]}]),
    ],
    clusters=[*(cluster(name) for name in NAMES), cluster("web")],
    upstreams={**dict.fromkeys(NAMES, TcpUpstream), "web": Upstream},
)


def name_behind(proxy: World, listener_name: str, first: bytes = b"", source: str | None = None) -> str:
    """The upstream that a connection reaches; empty when it is closed."""
    with proxy.connect(listener_name, source=source) as link:
        if first:
            link.send(first)
        name = link.raw.read_exactly(1)
        while name and not name.endswith(b"\n"):
            name += link.raw.read_exactly(1)
    found = name.decode().strip()
    proxy.note("served by", found)
    if found:
        proxy.await_log(listener_name)
    return found


@case("Filter chain match: directly connected source, longest prefix first")
@pytest.mark.parametrize(
    ("source", "served_by"), [("127.0.0.1", "c1"), ("127.0.3.1", "c2"), ("127.0.3.7", "c3"), ("127.0.4.7", "c3")]
)
def test_direct_source(proxy: World, source: str, served_by: str) -> None:
    assert name_behind(proxy, "direct-source", source=source) == served_by


@case("Filter chain match: source, longest prefix first, then none")
@pytest.mark.parametrize(("source", "served_by"), [("127.0.0.1", "c3"), ("127.0.3.1", "c1"), ("127.0.3.7", "c2")])
def test_source(proxy: World, source: str, served_by: str) -> None:
    assert name_behind(proxy, "source", source=source) == served_by


@case("Filter chain match: source type")
def test_source_type(proxy: World) -> None:
    assert name_behind(proxy, "source-type") == "c1"


@case("Filter chain match: destination, longest prefix first")
def test_destination(proxy: World) -> None:
    assert name_behind(proxy, "destination") == "c2"


@case("Filter chain match: a destination port that is not the listener's")
def test_destination_port(proxy: World) -> None:
    assert name_behind(proxy, "wrong-port") == ""


@case("Filter chain match: no way back from the tighter match, the default chain serves")
@pytest.mark.parametrize(("source", "served_by"), [("127.0.3.1", "c1"), ("127.0.0.1", "fallback")])
def test_there_is_no_way_back(proxy: World, source: str, served_by: str) -> None:
    assert name_behind(proxy, "no-way-back", source=source) == served_by


@case("Filter chain match: nothing matches, so the connection is closed and counted")
def test_no_chain(proxy: World) -> None:
    assert name_behind(proxy, "no-chain") == ""
    proxy.expect_stats({"listener.no-chain.no_filter_chain_match": 1})


@case("Filter chain match: default_filter_chain")
def test_the_default_chain(proxy: World) -> None:
    assert name_behind(proxy, "default-chain") == "fallback"


@case("Filter chain match: server name, exact, then wildcards by length, then none")
@pytest.mark.parametrize(
    ("name", "served_by"),
    [
        ("a.example.com", "c1"),
        ("A.Example.com", "c1"),
        ("b.example.com", "c2"),
        ("x.a.example.com", "c2"),
        ("example.com", "c3"),
        ("other.org", "c4"),
        (None, "c4"),
    ],
)
def test_server_names(proxy: World, name: str | None, served_by: str) -> None:
    assert name_behind(proxy, "sni", client_hello(name)) == served_by


@case("Filter chain match: transport protocol raw_buffer")
def test_plaintext_on_a_tls_listener(proxy: World) -> None:
    assert name_behind(proxy, "sni", b"plain text") == "fallback"


@case("TLS inspector: the ClientHello is passed on whole")
def test_the_hello_reaches_the_upstream(proxy: World) -> None:
    hello = client_hello("a.example.com")
    with proxy.connect("sni") as link:
        link.send(hello)
        assert link.raw.read_exactly(3 + len(hello)) == b"c1\n" + hello


@case("TLS inspector: a ClientHello in pieces")
def test_a_hello_in_pieces(proxy: World) -> None:
    hello = client_hello("b.example.com")
    with proxy.connect("sni") as link:
        for start in range(0, len(hello), 40):
            link.send(hello[start : start + 40])
            if start + 40 < len(hello):
                assert not link.raw.closes_within(0.02)
        assert link.raw.read_exactly(3) == b"c2\n"


@case("Filter chain match: application protocols of the ClientHello")
@pytest.mark.parametrize(
    ("protocols", "served_by"),
    [
        (["h2", "http/1.1"], "c1"),
        (["http/1.1", "h2"], "c1"),
        (["istio"], "c2"),
        (["istio-peer-exchange", "h2"], "c2"),
        (["http/1.1"], "c3"),
        ([], "c3"),
    ],
)
def test_application_protocols(proxy: World, protocols: list[str], served_by: str) -> None:
    assert name_behind(proxy, "alpn", client_hello("x.example", protocols)) == served_by


@case("HTTP inspector: HTTP/1 by its request line")
@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/1.0"])
def test_http_is_recognised(proxy: World, version: str) -> None:
    reply = proxy.request(listener="sniff", version=version)
    assert reply.status == (200 if version == "HTTP/1.1" else 426)


@case("HTTP inspector: a method that does not exist is HTTP, and refused as such")
def test_an_unknown_method_is_http(proxy: World) -> None:
    reply = proxy.send(b"GETX / HTTP/1.1\r\nHost: test\r\n\r\n", listener="sniff", final=True)
    assert reply.status == 400


@case("HTTP inspector: HTTP/2 by its preface")
def test_http2_is_recognised(proxy: World) -> None:
    assert name_behind(proxy, "sniff", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") == "c2"


@case("HTTP inspector: anything else is no HTTP")
@pytest.mark.parametrize("first", [b"\x00\x01\x02\x03", b"SSH-2.0-x\r\n", b"hello there\r\n"])
def test_other_protocols_are_no_http(proxy: World, first: bytes) -> None:
    assert name_behind(proxy, "sniff", first) == "c3"


@case("HTTP inspector: a request line in pieces")
def test_a_request_line_in_pieces(proxy: World) -> None:
    with proxy.connect("sniff") as link:
        for piece in (b"G", b"ET / HT", b"TP/1.1\r", b"\nHost: test\r\n\r\n"):
            link.send(piece)
            assert not link.raw.closes_within(0.03)
        assert link.reply().status == 200


@case("Listener filters: a silent client is handed on after the timeout, or closed")
def test_a_silent_client(proxy: World) -> None:
    assert name_behind(proxy, "sniff") == "c3"
    assert name_behind(proxy, "sniff-or-close") == ""


@case("Filter chain: its name in logs and headers")
def test_the_chains_name(proxy: World) -> None:
    assert proxy.get(listener="named-chains").get("x-chain") == "the-chain"
