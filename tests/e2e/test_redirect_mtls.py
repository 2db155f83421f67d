"""A recorded sidecar behind iptables REDIRECT, called over mutual TLS: the workload's ports and what nobody declared.

As tests/e2e/test_redirect.py, but the clients are sidecars of other pods, or pretend to be. PERMISSIVE holds for all ports.
"""

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.loop_world import UnsampledForm
from tests.e2e.test_redirect import IN, get, pod, pytestmark
from tests.support.authority import Authority, Issued
from tests.support.istio import Mesh, Session, without_istio_filters
from tests.support.proxies import ProxyKind
from tests.support.tls import client_context
from tests.support.upstream import Upstream

__all__ = ["pod", "pytestmark"]

CA = Authority()
MINE = CA.issue("spiffe://cluster.local/ns/default/sa/bookinfo-reviews")
HTTP = ("istio-http/1.1", "istio", "http/1.1")
TCP = ("istio-peer-exchange", "istio")
POD = "10.244.1.10"
SERVED, PASSED = f"{POD}:9080 from 127.0.0.6", f"{POD}:7777 from 127.0.0.6"


@dataclass(frozen=True)
class Call:
    """A connection to the pod over TLS: to which port, as whom, offering which protocols; and what answers."""

    port: int
    certificate: Issued | None
    alpn: tuple[str, ...]
    answer: str


CALLS = {
    "HTTP, as Istio's proxies call": Call(9080, MINE, HTTP, SERVED),
    "HTTP, of a sidecar that does not know it is": Call(9080, MINE, TCP, SERVED),
    "HTTP, of an older sidecar": Call(9080, MINE, ("istio",), SERVED),
    "no certificate": Call(9080, None, HTTP, "closed"),
    "another authority": Call(9080, Authority("elsewhere").issue("spiffe://cluster.local/ns/a/sa/b"), HTTP, "closed"),
    "another trust domain": Call(9080, CA.issue("spiffe://elsewhere/ns/a/sa/b"), HTTP, "closed"),
    "a name that is none of the mesh's": Call(9080, CA.issue("cluster.local"), HTTP, "closed"),
    "none of the mesh's protocols": Call(9080, MINE, ("http/1.1",), "closed"),
    "an undeclared port, HTTP": Call(7777, MINE, HTTP, PASSED),
    "an undeclared port, anything": Call(7777, MINE, ("istio",), PASSED),
    "an undeclared port, no certificate": Call(7777, None, HTTP, "closed"),
}


def answer_to(call: Call) -> str:
    """What a server said, or that the connection was ended."""
    context = client_context(CA.root, certificate=call.certificate, alpn=call.alpn)
    with socket.socket() as raw:
        raw.settimeout(10)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, IN)
        try:
            raw.connect((POD, call.port))
            with context.wrap_socket(raw) as tls:
                tls.sendall(get("productpage"))
                received = b""
                while not received.endswith(b"127.0.0.6") and (data := tls.recv(4096)):
                    received += data
        except OSError:
            return "closed"
    return received.rpartition(b"\r\n")[2].decode() or "closed"


@pytest.mark.parametrize("session", ["bookinfo-delta", "bookinfo-sotw"])
def test_captured_mutual_tls_is_served_as_by_envoy(pod: dict[int, Upstream], session: str, tmp_path: Path) -> None:
    normal = UnsampledForm({})
    seen: dict[ProxyKind, list[str]] = {}
    for kind in _installed():
        change = without_istio_filters if kind is ProxyKind.ENVOY else None
        with Mesh(Session.get(session), change, CA) as mesh:
            mesh.replay.advance()
            proxy = mesh.start(kind, tmp_path / kind.value, 15000)
            try:
                told = {case: answer_to(call) for case, call in CALLS.items()}
            finally:
                proxy.kill()
        assert told == {case: call.answer for case, call in CALLS.items()}, kind
        seen[kind] = [f"{port} saw {normal.request(one)}" for port in (9080, 7777) for one in list(pod[port].requests)]
        for server in pod.values():
            server.forget()
    first, *others = seen.values()
    assert all(other == first for other in others)
    assert sum(f"URI={MINE_URI}" in line for line in first) >= 3


MINE_URI = "spiffe://cluster.local/ns/default/sa/bookinfo-reviews"


def _installed() -> Iterator[ProxyKind]:
    yield from (kind for kind in ProxyKind if kind.binary() is not None)
