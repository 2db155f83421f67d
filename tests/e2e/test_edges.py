"""The mesh's edges in TLS: every server of the `gateway` recording, and what `egress` originates, as Envoy does it.

Each proxy gets the recorded stream and the same secrets, in a network where the recorded addresses are free; what clients
and upstreams saw must be what the case says, and the same for both.
"""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.conftest import enter_network
from tests.support.any_secrets import IDENTITY
from tests.support.authority import Authority, Issued
from tests.support.client import Connection, request_bytes
from tests.support.istio import Mesh, Session, without_istio_filters
from tests.support.proxies import Proxy, ProxyKind
from tests.support.tcp_upstream import TcpUpstream, name_and_echo
from tests.support.tls import SeenHandshake, TlsUpstream, client_context
from tests.support.tls_hello import client_hello

pytestmark = pytest.mark.root

CA = Authority()
ADMIN_PORT = 15000
CLOSED = "closed"


def plain(port: int, host: str, path: str = "/") -> str:
    """Status and body of a request in plaintext."""
    with Connection(port) as connection:
        connection.send(request_bytes("GET", path, [("host", host)]))
        response = connection.read_response()
    return f"{response.status} {response.get('location') or response.body.decode().strip()}"


def secure(port: int, name: str, certificate: Issued | None = None, *alpn: str) -> str:
    """Protocol and status of a request over TLS with this server name; `CLOSED` where the connection is ended."""
    context = client_context(CA.root, certificate=certificate, alpn=alpn)
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=5) as raw,
            context.wrap_socket(raw, server_hostname=name) as tls,
        ):
            tls.sendall(request_bytes("GET", "/", [("host", name)]))
            answer = b""
            while b"\r\n\r\n" not in answer and (data := tls.recv(65536)):
                answer += data
            protocol = tls.selected_alpn_protocol()
    except OSError:
        return CLOSED
    return f"{protocol} {answer.split()[1].decode()}" if answer else CLOSED


def hello(port: int, name: str) -> str:
    """What comes back for the first flight of a TLS client: a TLS record, HTTP, or the end."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
        sock.sendall(client_hello(name) + b"\r\n\r\n")  # an HTTP server behind a passthrough waits for that
        try:
            answer = sock.recv(100)
        except ConnectionResetError:
            return CLOSED
    return {b"": CLOSED, b"\x16": "a hello"}.get(answer[:1], answer[:7].decode("latin-1"))


@pytest.fixture
def network() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        if not enter_network(stack):
            pytest.skip("needs network namespaces (root): the recorded addresses must be free")
        yield stack


def through_each(name: str, folder: Path, story: Callable[[Proxy], list[str]]) -> list[list[str]]:
    """What `story` tells of each proxy that is installed."""
    told = []
    for kind in (kind for kind in ProxyKind if kind.binary() is not None):
        change = without_istio_filters if kind is ProxyKind.ENVOY else None
        with Mesh(Session.get(name), change, CA) as mesh:
            mesh.replay.advance()
            proxy = mesh.start(kind, folder / kind.value, ADMIN_PORT)
            try:
                told.append(story(proxy))
            finally:
                proxy.kill()
    return told


GATEWAY: dict[str, tuple[Callable[[], str], str]] = {
    "HTTP": (lambda: plain(8180, "shop.example"), "200 web"),
    "a host that the gateway does not have": (lambda: plain(8180, "other.example"), "404 "),
    "HTTPS redirect": (lambda: plain(8181, "secure.example", "/a?b"), "301 https://secure.example/a?b"),
    "HTTPS": (lambda: secure(8543, "secure.example", None, "http/1.1"), "http/1.1 200"),
    "HTTPS with a certificate that nobody asks for": (
        lambda: secure(8543, "secure.example", CA.issue("x.test"), "http/1.1"),
        "http/1.1 200",
    ),
    "HTTPS for a name that nobody serves": (lambda: secure(8543, "other.example", None, "http/1.1"), CLOSED),
    "mutual TLS": (
        lambda: secure(8543, "mutual.example", CA.issue("client.example"), "http/1.1"),
        "http/1.1 200",
    ),
    "mutual TLS without a certificate": (lambda: secure(8543, "mutual.example", None, "http/1.1"), CLOSED),
    "mutual TLS with another name": (
        lambda: secure(8543, "mutual.example", CA.issue("other.example"), "http/1.1"),
        CLOSED,
    ),
    "mutual TLS of another authority": (
        lambda: secure(8543, "mutual.example", Authority("elsewhere").issue("client.example"), "http/1.1"),
        CLOSED,
    ),
    "passed through by its name": (lambda: hello(8544, "raw.example"), "HTTP/1."),
    "not passed through by another name": (lambda: hello(8544, "other.example"), CLOSED),
    "TLS ended before TCP": (lambda: secure(8545, "db.example"), "None 200"),
    "TLS for a name that is not there": (lambda: secure(8545, "other.example"), CLOSED),
    "TCP": (lambda: plain(8532, "whatever"), "200 db"),
}


def workload(account: str, host: str, port: int) -> TlsUpstream:
    """A pod of the mesh behind its sidecar, as it were: whoever calls needs a certificate."""
    certificate = CA.issue(f"spiffe://cluster.local/ns/shop/sa/{account}")
    return TlsUpstream(account, certificate, client_roots=CA.root, alpn=["http/1.1"], host=host, port=port)


@pytest.mark.parametrize("variant", ["sotw", "delta"])
def test_every_server_of_the_gateway(network: ExitStack, tmp_path: Path, variant: str) -> None:
    servers = [
        workload("web", "127.0.41.1", 7080),
        workload("web", "127.0.41.2", 7080),
        workload("db", "127.0.41.3", 7432),
    ]
    for server in servers:
        network.callback(server.close)

    def story(proxy: Proxy) -> list[str]:
        told = [f"{case}: {ask()}" for case, (ask, _) in GATEWAY.items()]
        callers = {name for server in servers for seen in server.handshakes.values() for name in seen.client_names}
        return [*told, f"upstreams were called by {callers}"]

    expected = [f"{case}: {seen}" for case, (_, seen) in GATEWAY.items()]
    expected.append(f"upstreams were called by {{'{IDENTITY}'}}")
    for told in through_each(f"gateway-{variant}", tmp_path, story):
        assert [line.rstrip() for line in told] == [line.rstrip() for line in expected]


def shown(seen: SeenHandshake) -> str:
    return f"{seen.sni} {seen.alpn} {','.join(seen.client_names)}"


@pytest.mark.parametrize("variant", ["sotw", "delta"])
def test_what_egress_originates(network: ExitStack, tmp_path: Path, variant: str) -> None:
    vendor = CA.issue("secure.vendor.example")
    servers = [
        TlsUpstream("simple", vendor, alpn=["http/1.1"], host=host, port=7243) for host in ("127.0.30.1", "127.0.30.2")
    ]
    mutual = TlsUpstream("mutual", CA.issue("mutual.vendor.example"), client_roots=CA.root, alpn=["h2"],
                         host="127.0.30.3", port=7244)  # fmt: skip
    behind = TcpUpstream("behind", "127.0.30.4", 7445, name_and_echo)
    for server in (*servers, mutual, behind):
        network.callback(server.close)

    def story(proxy: Proxy) -> list[str]:
        told = [plain(8202, "secure.vendor.example") for _ in range(4)]
        plain(8203, "mutual.vendor.example")  # a server that speaks no HTTP/2 behind its handshake
        told += sorted({shown(seen) for server in servers for seen in server.handshakes.values()})
        told += sorted({shown(seen) for seen in mutual.handshakes.values()})
        for name in ("one.tls.example", "two.tls.example", "a.wild.example"):
            told.append(f"{name}: {hello(8443, name)}")
        for server in (*servers, mutual):
            server.handshakes.clear()
        return told

    for told in through_each(f"egress-{variant}", tmp_path, story):
        assert told == [
            *["200 simple"] * 4,
            "secure.vendor.example http/1.1 ",
            "mutual.vendor.example h2 spiffe://cluster.local/ns/shop/sa/front",
            "one.tls.example: behind\n",
            "two.tls.example: behind\n",
            "a.wild.example: behind\n",
        ]


@pytest.mark.parametrize("name", ["wrong.vendor.example", "another authority"])
def test_egress_to_a_server_that_is_not_who_it_should_be_is_503(network: ExitStack, tmp_path: Path, name: str) -> None:
    other = Authority("elsewhere").issue("secure.vendor.example") if name == "another authority" else CA.issue(name)
    for host in ("127.0.30.1", "127.0.30.2"):
        network.callback(TlsUpstream("simple", other, alpn=["http/1.1"], host=host, port=7243).close)

    def story(proxy: Proxy) -> list[str]:
        return [plain(8202, "secure.vendor.example")[:3]]

    assert all(told == ["503"] for told in through_each("egress-delta", tmp_path, story))
