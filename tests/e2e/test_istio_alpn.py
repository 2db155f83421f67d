"""``istio.alpn``: what a sidecar offers to another sidecar says which protocol is inside, so that the other picks its chain."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.differential.bed import Bed, cluster, extension, http_listener, vhost
from tests.differential.world import World
from tests.support.authority import Authority
from tests.support.ports import PortAllocator
from tests.support.proxies import ProxyKind
from tests.support.tls import TlsUpstream
from tests.support.upstream import Upstream

ROOT = Authority()
SERVER = ROOT.issue("srv.test")
ALPN = extension(
    "istio.alpn",
    "istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig",
    alpn_override=[
        {"upstream_protocol": "HTTP10", "alpn_override": ["istio-http/1.0", "istio", "http/1.0"]},
        {"upstream_protocol": "HTTP11", "alpn_override": ["istio-http/1.1", "istio", "http/1.1"]},
        {"upstream_protocol": "HTTP2", "alpn_override": ["istio-h2", "istio", "h2"]},
    ],
)
TLS = extension(
    "envoy.transport_sockets.tls",
    "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
    common_tls_context={"alpn_protocols": ["istio-peer-exchange", "istio"]},
)
OUTSIDE = {"filter_metadata": {"istio": {"alpn_override": "false"}}}
ROUTES = """
- {match: {prefix: /mesh}, route: {cluster: mesh}}
- {match: {prefix: /outside}, route: {cluster: outside}}
- {match: {prefix: /plain}, route: {cluster: plain}}
"""
BED = Bed(
    listeners=[http_listener("http", vhost("all", ["*"], ROUTES), filters=[ALPN])],
    clusters=[
        cluster("mesh", "tls", transport_socket=TLS),
        cluster("outside", "tls", transport_socket=TLS, metadata=OUTSIDE),
        cluster("plain"),
    ],
    upstreams={
        "tls": lambda name: TlsUpstream(name, SERVER, alpn=["istio-h2", "istio-http/1.1", "istio-peer-exchange"]),
        "plain": Upstream,
    },
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder: Path = tmp_path_factory.mktemp("alpn")
    made = World(ProxyKind.OURS, BED, folder, PortAllocator())
    made.start()
    yield made
    made.stop()


@pytest.mark.parametrize(("path", "alpn"), [("/mesh", "istio-http/1.1"), ("/outside", "istio-peer-exchange")])
def test_what_is_offered_says_what_is_inside(world: World, path: str, alpn: str) -> None:
    world.begin("alpn")
    reply = world.get(path)
    upstream = world.upstream("tls")
    assert isinstance(upstream, TlsUpstream)
    assert upstream.handshakes[reply.seen.connection].alpn == alpn


def test_plaintext_clusters_are_left_alone(world: World) -> None:
    world.begin("plain")
    assert world.get("/plain").status == 200
