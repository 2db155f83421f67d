"""Plaintext, TLS and mutual TLS on one port: what the inspectors find decides the filter chain, as in Istio's listeners."""

import ssl
from collections.abc import Sequence
from typing import Any

import pytest

from tests.differential.bed import Bed, Config, cluster, extension, hcm, listener, tcp_proxy, vhost
from tests.differential.pair import case
from tests.differential.world import Reply, World
from tests.support.authority import Authority
from tests.support.tcp_upstream import TcpUpstream
from tests.support.tls import TlsConnection, client_context
from tests.support.tls_hello import client_hello
from tests.support.upstream import Upstream

ROOT = Authority("root")
SERVER = ROOT.issue("spiffe://td/ns/shop/sa/server", "srv.test", common_name="server")
OTHER = ROOT.issue("other.test", common_name="other")
CLIENT = ROOT.issue("spiffe://td/ns/shop/sa/client", common_name="client")

INSPECTORS = [
    extension(
        "envoy.filters.listener.tls_inspector", "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"
    ),
    extension(
        "envoy.filters.listener.http_inspector", "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector"
    ),
]
MESH_HTTP = ["istio-http/1.0", "istio-http/1.1", "istio-h2"]
MESH_TCP = ["istio-peer-exchange", "istio"]
PLAIN_HTTP = ["http/1.1", "h2c"]


def mutual(alpn: Sequence[str] = ("h2", "http/1.1"), certificate: Any = SERVER) -> Config:
    return extension(
        "envoy.transport_sockets.tls",
        "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        require_client_certificate=True,
        common_tls_context={
            "tls_certificates": [certificate.config()],
            "alpn_protocols": list(alpn),
            "validation_context": {"trusted_ca": {"inline_string": ROOT.root}},
        },
    )


def one_way(certificate: Any) -> Config:
    return extension(
        "envoy.transport_sockets.tls",
        "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        common_tls_context={"tls_certificates": [certificate.config()]},
    )


def http(listener_name: str, text: str) -> Config:
    route = {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": text}}}
    return hcm(listener_name, [vhost("all", ["*"], [route])])


def chain(filters: Config, transport: Config | None = None, **match: Any) -> Config:
    made: Config = {"filters": [filters], "filter_chain_match": match}
    if transport is not None:
        made["transport_socket"] = transport
    return made


def permissive(name: str) -> Config:
    """Istio's inbound chains for a port whose protocol is not declared, PERMISSIVE."""
    return listener(
        name,
        chains=[
            chain(http(name, "mesh http"), mutual(), transport_protocol="tls", application_protocols=MESH_HTTP),
            chain(http(name, "plain http"), transport_protocol="raw_buffer", application_protocols=PLAIN_HTTP),
            chain(tcp_proxy(name, "tcp"), mutual(()), transport_protocol="tls", application_protocols=MESH_TCP),
            chain(tcp_proxy(name, "tcp"), transport_protocol="raw_buffer"),
            chain(tcp_proxy(name, "tcp"), transport_protocol="tls"),
        ],
        listener_filters=INSPECTORS,
        listener_filters_timeout="0.3s",
        continue_on_listener_filters_timeout=True,
    )


def strict(name: str) -> Config:
    return listener(
        name,
        chains=[
            chain(http(name, "mesh http"), mutual(), transport_protocol="tls", application_protocols=MESH_HTTP),
            chain(tcp_proxy(name, "tcp"), mutual(()), transport_protocol="tls"),
        ],
        listener_filters=INSPECTORS,
        listener_filters_timeout="0.3s",
        continue_on_listener_filters_timeout=True,
    )


BED = Bed(
    listeners=[
        permissive("permissive"),
        strict("strict"),
        listener(
            "names",
            chains=[
                chain(http("names", "srv"), one_way(SERVER), server_names=["srv.test"]),
                chain(http("names", "wild"), one_way(OTHER), server_names=["*.test"]),
                chain(http("names", "rest"), one_way(OTHER), transport_protocol="tls"),
            ],
            listener_filters=INSPECTORS[:1],
        ),
    ],
    clusters=[cluster("tcp"), cluster("a")],
    upstreams={"tcp": TcpUpstream, "a": Upstream},
)


def over_tls(
    world: World, name: str, alpn: Sequence[str], *, certificate: Any = CLIENT, sni: str | None = None
) -> Reply:
    context = client_context(ROOT.root, certificate=certificate, alpn=alpn)
    with TlsConnection(world.listener_port(name), context, sni=sni) as connection:
        world.note("alpn", connection.tls.selected_alpn_protocol())
        connection.send(b"GET / HTTP/1.1\r\nhost: srv.test\r\n\r\n")
        reply = Reply(world, "", connection.read_response())
        world.note_reply(reply, None)
        return reply


@case("tls_inspector and http_inspector: statistics")
def test_statistics(proxy: World) -> None:
    """The first of the module, for our figures are a second late."""
    proxy.get(listener="permissive", logged=False)
    over_tls(proxy, "names", [], certificate=None, sni="srv.test")
    over_tls(proxy, "strict", ["istio-http/1.1"])
    proxy.expect_stats(
        {
            "tls_inspector.tls_found": 2,
            "tls_inspector.tls_not_found": 1,
            "tls_inspector.alpn_found": 1,
            "tls_inspector.alpn_not_found": 1,
            "tls_inspector.sni_found": 1,
            "tls_inspector.sni_not_found": 1,
            "http_inspector.http11_found": 1,
        }
    )


@case("PERMISSIVE: HTTP of the mesh, by its ALPN; what is negotiated is the chain's own")
@pytest.mark.parametrize("alpn", [["istio-http/1.1", "istio", "http/1.1"], ["istio-http/1.0", "istio"]])
@pytest.mark.parametrize("name", ["permissive", "strict"])
def test_mesh_http(proxy: World, name: str, alpn: list[str]) -> None:
    assert over_tls(proxy, name, alpn).text == "mesh http"


@case("PERMISSIVE: HTTP in plaintext on the same port")
def test_plain_http(proxy: World) -> None:
    assert proxy.get(listener="permissive", logged=False).text == "plain http"


@case("PERMISSIVE: TCP of the mesh, by its ALPN")
@pytest.mark.parametrize("alpn", [["istio"], ["istio-peer-exchange", "istio"]])
@pytest.mark.parametrize("name", ["permissive", "strict"])
def test_mesh_tcp(proxy: World, name: str, alpn: list[str]) -> None:
    context = client_context(ROOT.root, certificate=CLIENT, alpn=alpn)
    with TlsConnection(proxy.listener_port(name), context) as connection:
        connection.send(b"some bytes")
        assert connection.read_exactly(14) == b"tcp\nsome bytes"


@case("PERMISSIVE: TCP in plaintext on the same port")
def test_plain_tcp(proxy: World) -> None:
    with proxy.connect("permissive") as link:
        link.send(b"\x00\x01 no HTTP")
        assert link.raw.read_exactly(14) == b"tcp\n\x00\x01 no HTTP"


@case("PERMISSIVE: a server that speaks first, once the inspectors have waited long enough")
def test_server_first(proxy: World) -> None:
    with proxy.connect("permissive") as link:
        assert link.raw.read_exactly(4) == b"tcp\n"


@case("PERMISSIVE: TLS of an application goes through as it is")
def test_foreign_tls(proxy: World) -> None:
    hello = client_hello("app.test", ["h2"])
    with proxy.connect("permissive") as link:
        link.send(hello)
        assert link.raw.read_exactly(4 + len(hello)) == b"tcp\n" + hello


@case("STRICT: plaintext finds no chain")
def test_strict_plaintext(proxy: World) -> None:
    with proxy.connect("strict") as link:
        link.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert link.raw.read_to_end() == b""


@case("STRICT: TLS without a certificate of the mesh")
def test_strict_without_certificate(proxy: World) -> None:
    context = client_context(ROOT.root, alpn=["istio-http/1.1"], version=ssl.TLSVersion.TLSv1_2)
    with pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"):
        TlsConnection(proxy.listener_port("strict"), context)


@case("filter chain match: server_names, exact before wildcard before none")
@pytest.mark.parametrize(
    ("sni", "text"),
    [("srv.test", "srv"), ("SRV.test", "srv"), ("x.test", "wild"), ("a.x.test", "wild"), ("other.example", "rest"),
     (None, "rest")],
)  # fmt: skip
def test_server_names(proxy: World, sni: str | None, text: str) -> None:
    assert over_tls(proxy, "names", [], certificate=None, sni=sni).text == text


@case("tls_inspector: a client hello in many segments")
def test_slow_hello(proxy: World) -> None:
    hello = client_hello("app.test", ["h2"])
    with proxy.connect("permissive") as link:
        for at in range(0, len(hello), 20):
            link.send(hello[at : at + 20])
        assert link.raw.read_exactly(4 + len(hello)) == b"tcp\n" + hello
