"""Sidecars tell each other who they are: over TCP in front of the bytes where ALPN says so, over HTTP in headers.

The TCP half is held against a peer that speaks the protocol by hand, on either side, so that both ends cannot be wrong alike.
"""

import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import any_pb2, struct_pb2

from tests.support.authority import Authority
from tests.support.ports import PortAllocator
from tests.support.proxies import Proxy, ProxyKind
from tests.support.tcp_upstream import TcpUpstream, name_and_echo

EXTENSIONS = "type.googleapis.com/envoy.extensions"
CONTEXTS = f"{EXTENSIONS}.transport_sockets.tls.v3"
EXCHANGE = {
    "name": "istio.metadata_exchange",
    "typed_config": {
        "@type": "type.googleapis.com/xds.type.v3.TypedStruct",
        "type_url": "type.googleapis.com/envoy.tcp.metadataexchange.config.MetadataExchange",
        "value": {"protocol": "istio-peer-exchange"},
    },
}
MAGIC = bytes.fromhex("3d230467")
NODE = "sidecar~127.0.0.1~front.shop~shop.svc.cluster.local"
PEER = MAGIC + (3).to_bytes(4, "big") + b"who"


def address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def socket_of(kind: str, **context: Any) -> dict[str, Any]:
    return {"name": "tls", "typed_config": {"@type": f"{CONTEXTS}.{kind}", "common_tls_context": context}}


class World:
    """Ours with two ways through it: TLS in and plain out, plain in and TLS out to a server of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority()
        ports = PortAllocator()
        self.inbound, self.outbound, self.plain, self.peer = (ports.take() for _ in range(4))
        self.folder = folder
        self.upstream = TcpUpstream("server", "127.0.0.1", self.plain, name_and_echo)
        roots = {"trusted_ca": {"inline_string": self.authority.root}}
        alpn = ["istio-peer-exchange", "istio"]
        certificate = self.authority.issue("server.test").config()
        inbound = socket_of("DownstreamTlsContext", alpn_protocols=[*alpn, "h2"], tls_certificates=[certificate])
        outbound = socket_of("UpstreamTlsContext", alpn_protocols=alpn, validation_context=roots)
        bootstrap = {
            "node": {"id": NODE, "cluster": "front", "metadata": {"NAME": "front-1", "LABELS": {"app": "front"}}},
            "admin": {"address": address(ports.take())},
            "static_resources": {
                "listeners": [
                    self.listener("inbound", self.inbound, "plain", transport_socket=inbound),
                    self.listener("outbound", self.outbound, "peer"),
                ],
                "clusters": [
                    self.cluster("plain", self.plain),
                    self.cluster("peer", self.peer, transport_socket=outbound, filters=[EXCHANGE]),
                ],
            },
        }
        self.proxy = Proxy.start(ProxyKind.OURS, bootstrap, folder)

    def listener(self, name: str, port: int, cluster: str, **chain: Any) -> dict[str, Any]:
        tcp = {"@type": f"{EXTENSIONS}.filters.network.tcp_proxy.v3.TcpProxy", "stat_prefix": name, "cluster": cluster}
        filters = [EXCHANGE, {"name": "tcp", "typed_config": tcp}]
        return {"name": name, "address": address(port), "filter_chains": [{"filters": filters, **chain}]}

    def cluster(self, name: str, port: int, **more: Any) -> dict[str, Any]:
        endpoints = [{"lb_endpoints": [{"endpoint": {"address": address(port)}}]}]
        return {
            "name": name,
            "type": "STATIC",
            "load_assignment": {"cluster_name": name, "endpoints": endpoints},
            **more,
        }

    def close(self) -> None:
        self.proxy.kill()
        self.upstream.close()

    def dial(self, *alpn: str) -> ssl.SSLSocket:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(cadata=self.authority.root)
        context.set_alpn_protocols(list(alpn))
        return context.wrap_socket(socket.create_connection(("127.0.0.1", self.inbound), timeout=5))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("peers"))
    yield made
    made.close()


def exactly(sock: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        piece = sock.recv(count - len(found))
        assert piece, f"ended after {found!r}"
        found += piece
    return found


def read_frame(sock: socket.socket) -> dict[str, Any]:
    """What the proxy tells of itself."""
    head = exactly(sock, 8)
    assert head[:4] == MAGIC
    told = struct_pb2.Struct()
    assert any_pb2.Any.FromString(exactly(sock, int.from_bytes(head[4:], "big"))).Unpack(told)
    return dict(told.items())


def test_a_client_that_exchanges_is_told_and_its_frame_is_taken_out(world: World) -> None:
    with world.dial("istio-peer-exchange", "istio") as client:
        client.sendall(PEER[:5])
        client.sendall(PEER[5:] + b"hello")
        told = read_frame(client)
        assert exactly(client, 12) == b"server\nhello"
    assert told["x-envoy-peer-metadata-id"] == NODE
    assert told["x-envoy-peer-metadata"]["NAME"] == "front-1"


def test_a_client_that_waits_for_the_server_hears_who_it_is_first(world: World) -> None:
    with world.dial("istio-peer-exchange", "istio") as client:
        assert read_frame(client)["x-envoy-peer-metadata-id"] == NODE
        assert exactly(client, 7) == b"server\n"


def test_a_client_that_chose_so_and_tells_nothing_is_served(world: World) -> None:
    with world.dial("istio-peer-exchange", "istio") as client:
        client.sendall(b"hello, no frame")
        read_frame(client)
        assert exactly(client, 22) == b"server\nhello, no frame"


@pytest.mark.parametrize("alpn", [("istio",), ("h2",), ("unheard-of",)])
def test_other_clients_see_nothing_of_it(world: World, alpn: tuple[str, ...]) -> None:
    with world.dial(*alpn) as client:
        client.sendall(b"hello")
        assert exactly(client, 12) == b"server\nhello"


def serve_one(world: World, alpn: list[str], answer: bytes, seen: list[bytes]) -> threading.Thread:
    """A TLS server for one connection, which notes all that comes and says `answer`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*world.authority.issue("peer.test").write(world.folder, "peer"))
    context.set_alpn_protocols(alpn)
    listening = socket.create_server(("127.0.0.1", world.peer))
    listening.settimeout(10)

    def run() -> None:
        with listening:
            raw, _ = listening.accept()
            with context.wrap_socket(raw, server_side=True) as peer:
                peer.sendall(answer)
                while data := peer.recv(65536):
                    seen.append(data)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize(
    ("alpn", "answer", "exchanges"),
    [
        (["istio-peer-exchange"], PEER + b"welcome", True),
        (["istio-peer-exchange"], b"welcome", True),
        (["istio"], b"welcome", False),
    ],
)
def test_a_server_is_told_if_it_exchanges(world: World, alpn: list[str], answer: bytes, exchanges: bool) -> None:
    seen: list[bytes] = []
    server = serve_one(world, alpn, answer, seen)
    with socket.create_connection(("127.0.0.1", world.outbound), timeout=5) as client:
        client.sendall(b"request")
        assert exactly(client, 7) == b"welcome"
    server.join(10)
    whole = b"".join(seen)
    assert whole.startswith(MAGIC) is exchanges
    assert whole.endswith(b"request") and (exchanges or whole == b"request")
    assert (NODE.encode() in whole) is exchanges
