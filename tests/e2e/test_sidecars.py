"""Two recorded sidecars behind iptables REDIRECT, mutual TLS between them: two of ours answer as two Envoys do.

`security` has a STRICT server with a PERMISSIVE and a plaintext port, and policies on who may come in; the servers of
`bookinfo` and `protocols` are PERMISSIVE. What clients were answered, what applications were sent (who calls among it) and
what both sidecars logged is equal. Of `security` one of ours meets one Envoy, too, either way round.
"""

import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from tests.e2e.conftest import namespaces_possible
from tests.e2e.pods import OUT, Scene, Secrets, Side, World, agree
from tests.support.authority import Authority, Issued
from tests.support.client import BadResponse, Connection, request_bytes
from tests.support.proxies import ProxyKind
from tests.support.tls import TlsConnection, client_context
from tests.support.tls_hello import client_hello

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not all(map(shutil.which, ("ip", "iptables"))), reason="needs ip and iptables"),
]

CA = Authority()
RAW = b"\x01 not HTTP\r\n\r\n"
CLOSED = "closed"
HTTP1 = ("istio-http/1.1", "istio", "http/1.1")
TCP = ("istio",)


@dataclass(frozen=True)
class ByHand:
    """A TLS client without a sidecar; `certificate` None: it shows none."""

    certificate: Issued | None
    alpn: tuple[str, ...] = HTTP1


@dataclass(frozen=True)
class Ask:
    """What is said to whom, and the answer: an application's words, a status, or the end. `by` None: through the
    client's sidecar; False: in plaintext, past it."""

    host: str
    port: int
    says: bytes
    answer: str
    by: ByHand | bool | None = None


def get(host: str, path: str = "/x", *headers: tuple[str, str], method: str = "GET") -> bytes:
    return request_bytes(method, path, [("host", host), ("x-forwarded-client-cert", "URI=forged"), *headers])


def post(host: str, path: str, body: bytes, *headers: tuple[str, str]) -> bytes:
    head = [("host", host), ("content-length", str(len(body))), *headers]
    return request_bytes("POST", path, head, body)


def identity(namespace: str, account: str, domain: str = "cluster.local") -> str:
    return f"spiffe://{domain}/ns/{namespace}/sa/{account}"


def strangers(namespace: str, account: str) -> list[ByHand]:
    """Whom no mutual TLS lets in."""
    name = identity(namespace, account)
    return [
        ByHand(None),
        ByHand(Authority("elsewhere").issue(name)),
        ByHand(CA.issue(identity(namespace, account, "elsewhere"))),
        ByHand(CA.issue(name, start=timedelta(days=-2), end=timedelta(days=-1))),
    ]


BANK = identity("bank", "client")
SECURITY = Scene(
    Side("security-client", BANK, "10.244.2.30"),
    Side("security-accounts", identity("bank", "accounts"), "10.244.2.10"),
    (7777, 8080, 8090, 8095, 8099),
    twins=(("10.244.2.11", "10.244.2.10"),),
)
VIP, POD, ACCOUNTS = "10.96.1.1", "10.244.2.10", "accounts.bank"
WORKLOAD, NEIGHBOUR = CA.issue(BANK), CA.issue(identity("shop", "client"))
SECURITY_ASKS = [
    # STRICT: through both sidecars, by policy.
    Ask(VIP, 8080, get(ACCOUNTS, "/public"), "10.244.2.10:8080 from 127.0.0.6"),
    Ask(VIP, 8080, get(ACCOUNTS, "/u/me/profile"), "10.244.2.10:8080 from 127.0.0.6"),
    Ask(VIP, 8080, get(ACCOUNTS, "/private"), "403"),
    Ask(VIP, 8080, get(ACCOUNTS, "/admin/public"), "403"),
    Ask(VIP, 8080, post(ACCOUNTS, "/public", b"hello"), "403"),
    Ask(VIP, 8090, RAW, "10.244.2.10:8090 from 127.0.0.6"),
    # By hand: who the caller is decides.
    Ask(POD, 8080, get(ACCOUNTS, "/public"), "10.244.2.10:8080 from 127.0.0.6", ByHand(WORKLOAD)),
    Ask(POD, 8080, get(ACCOUNTS, "/public"), "403", ByHand(NEIGHBOUR)),
    Ask(POD, 8090, RAW, "10.244.2.10:8090 from 127.0.0.6", ByHand(WORKLOAD, TCP)),
    Ask(POD, 8090, RAW, CLOSED, ByHand(NEIGHBOUR, TCP)),
    *(Ask(POD, port, get(ACCOUNTS, "/public"), CLOSED, who)
      for port in (8080, 8090, 8095) for who in strangers("bank", "client")),
    Ask(POD, 8080, get(ACCOUNTS, "/public"), CLOSED, False),
    Ask(POD, 8090, RAW, CLOSED, False),
    Ask(POD, 7777, RAW, CLOSED, False),
    # PERMISSIVE, HTTP and whatever else on one port.
    Ask(VIP, 8095, get(ACCOUNTS), "10.244.2.10:8095 from 127.0.0.6"),
    Ask(VIP, 8095, RAW, "10.244.2.10:8095 from 127.0.0.6"),
    Ask(POD, 8095, get(ACCOUNTS), "10.244.2.10:8095 from 127.0.0.6", ByHand(NEIGHBOUR)),
    Ask(POD, 8095, RAW, "10.244.2.10:8095 from 127.0.0.6", ByHand(NEIGHBOUR, TCP)),
    Ask(POD, 8095, get(ACCOUNTS), "10.244.2.10:8095 from 127.0.0.6", False),
    Ask(POD, 8095, RAW, "10.244.2.10:8095 from 127.0.0.6", False),
    # Plaintext only.
    Ask(VIP, 8099, get(ACCOUNTS), "10.244.2.10:8099 from 127.0.0.6"),
    Ask(POD, 8099, get(ACCOUNTS), CLOSED, ByHand(WORKLOAD)),
]  # fmt: skip

BOOKINFO = Scene(
    Side("bookinfo", identity("default", "bookinfo-productpage"), "10.244.1.10"),
    Side("bookinfo-ratings", identity("default", "bookinfo-ratings"), "10.244.1.31"),
    (7777, 9080),
)
RATINGS, BOOKS = "10.244.1.31", identity("default", "bookinfo-productpage")
BOOKINFO_ASKS = [
    Ask("10.96.0.13", 9080, get("ratings", "/ratings/1"), "10.244.1.31:9080 from 127.0.0.6"),
    Ask("10.96.0.13", 9080, post("ratings", "/ratings/1", b"x" * 100_000), "10.244.1.31:9080 from 127.0.0.6"),
    Ask("10.96.0.13", 9080, get("ratings", "/x", ("end-user", "abort")), "555"),
    # Who is there has the certificate of ratings.
    Ask("10.96.0.12", 9080, get("reviews", "/x", ("end-user", "jason")), "503"),
    Ask("10.96.0.11", 9080, get("details:9080"), "503"),
    Ask("10.9.9.9", 7777, get("stranger.example"), "10.9.9.9:7777 from 127.0.0.6"),
    Ask("10.9.9.9", 7777, RAW, "10.9.9.9:7777 from 127.0.0.6"),
    *(Ask(RATINGS, 9080, get("ratings"), "10.244.1.31:9080 from 127.0.0.6", who)
      for who in (ByHand(CA.issue(BOOKS)), ByHand(CA.issue(BOOKS), TCP), False)),
    Ask(RATINGS, 7777, get("ratings"), "10.244.1.31:7777 from 127.0.0.6", ByHand(CA.issue(BOOKS))),
    Ask(RATINGS, 7777, RAW, "10.244.1.31:7777 from 127.0.0.6", ByHand(CA.issue(BOOKS), TCP)),
    *(Ask(RATINGS, 9080, get("ratings"), CLOSED, who) for who in strangers("default", "bookinfo-productpage")),
]  # fmt: skip

ME = identity("proto", "me")
PROTOCOLS = Scene(
    Side("protocols", ME, "10.244.5.99"),
    Side("protocols", ME, "10.244.5.100"),
    (8000, 8001, 8002, 8003, 8004, 8005, 8006, 8007, 8008, 8009, 8011, 9000),
    http2_ports=(8001, 8002, 8003),
    http2_listeners=(81, 82, 83),
)
SELF, NAME = "10.96.5.60", "me.proto.svc.cluster.local"
GRPC = (("content-type", "application/grpc"), ("te", "trailers"))
PROTOCOLS_ASKS = [
    Ask(SELF, 80, get(NAME), "10.244.5.100:8000 from 127.0.0.6"),
    Ask(SELF, 81, get(NAME), "8001\n"),
    Ask(SELF, 82, post(NAME, "/shop.Me/Get", b"\0\0\0\0\2hi", *GRPC), "8002\n"),
    Ask(SELF, 83, get(NAME), "8003\n"),
    *(Ask(SELF, port, RAW, f"10.244.5.100:{port + 7920} from 127.0.0.6") for port in (84, 87, 88, 89)),
    Ask(SELF, 85, client_hello(NAME) + b"\r\n\r\n", "10.244.5.100:8005 from 127.0.0.6"),
    Ask(SELF, 86, client_hello(NAME) + b"\r\n\r\n", "10.244.5.100:8006 from 127.0.0.6"),
    Ask(SELF, 91, get(NAME), "10.244.5.100:8011 from 127.0.0.6"),
    Ask(SELF, 91, RAW, "10.244.5.100:8011 from 127.0.0.6"),
    # Who is there is not who should be.
    Ask("10.96.5.1", 9000, get("http.proto"), "503"),
    *(Ask("10.244.5.100", 8011, says, "10.244.5.100:8011 from 127.0.0.6", who)
      for says, who in ((get(NAME), ByHand(CA.issue(ME))), (RAW, ByHand(CA.issue(ME), TCP)), (get(NAME), False), (RAW, False))),
    Ask("10.244.5.100", 8011, client_hello(NAME) + b"\r\n\r\n", "10.244.5.100:8011 from 127.0.0.6", False),
    *(Ask("10.244.5.100", 8004, RAW, CLOSED, who) for who in strangers("proto", "me")),
]  # fmt: skip

BOTH = [(kind, kind) for kind in ProxyKind]
EACH_WAY = [(ProxyKind.ENVOY, ProxyKind.OURS), (ProxyKind.OURS, ProxyKind.ENVOY)]


def told(world: World, ask: Ask) -> tuple[str, str]:
    """The answer, and all of it as text."""
    try:
        with connection(ask) as link:
            link.send(ask.says)
            reply = link.read_response()
    except (OSError, BadResponse):
        return CLOSED, CLOSED
    words = reply.body.decode() if reply.status == 200 else str(reply.status)
    whole = f"{reply.status} {world.normal.headers(reply.headers)} {reply.body!r}"
    return world.scene.plain(words), world.scene.plain(whole)


def connection(ask: Ask) -> Connection:
    if isinstance(ask.by, ByHand):
        context = client_context(CA.root, certificate=ask.by.certificate, alpn=ask.by.alpn)
        return TlsConnection(ask.port, context, host=ask.host)
    return Connection(ask.port, host=ask.host, mark=OUT if ask.by is None else None)


def play(world: World, asks: list[Ask], answers: list[str], wrong: list[str]) -> None:
    """Start the world and ask; what went otherwise than said is `wrong`."""
    try:
        world.start()
        with world.client.entered():
            for ask in asks:
                answer, whole = told(world, ask)
                answers.append(f"{ask}: {whole}")
                if answer != ask.answer:
                    wrong.append(f"{world.name}: {ask}: {answer}")
    except Exception as error:
        wrong.append(f"{world.name}: {error!r}")


CASES = {
    "security": (SECURITY, SECURITY_ASKS, BOTH + EACH_WAY),
    "bookinfo": (BOOKINFO, BOOKINFO_ASKS, BOTH),
    "protocols": (PROTOCOLS, PROTOCOLS_ASKS, BOTH),
}


@pytest.fixture
def worlds(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[World]]:
    if not namespaces_possible():
        pytest.skip("needs network namespaces (root)")
    scene, _, kinds = CASES[request.getfixturevalue("name")]
    secrets = Secrets(CA, scene)
    found = [pair for pair in kinds if all(kind.binary() is not None for kind in pair)]
    variant = request.getfixturevalue("variant")
    made = [World(scene, variant, *pair, tmp_path / str(at), secrets) for at, pair in enumerate(found)]
    yield made
    for world in made:
        world.close()


@pytest.mark.parametrize("variant", ["sotw", "delta"])
@pytest.mark.parametrize("name", CASES)
def test_two_of_ours_are_as_two_envoys(name: str, variant: str, worlds: list[World]) -> None:
    asks = CASES[name][1]
    answers: list[list[str]] = [[] for _ in worlds]
    wrong: list[str] = []
    threads = [
        threading.Thread(target=play, args=(world, asks, found, wrong))
        for world, found in zip(worlds, answers, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert all(found == answers[0] for found in answers)
    agree(worlds)
