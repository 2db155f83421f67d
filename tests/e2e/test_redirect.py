"""Recorded sidecars behind iptables REDIRECT: captured connections land where the recording says, Envoy's and ours alike.

One network namespace is the pod and its world: every recorded address is local, and on each port one server answers with
the address at which it was reached and from where. A client marks its connections (SO_MARK) as what istio-iptables would
tell apart by user and direction: the application's own go to 15001, those from outside to 15006. Peers are taken as outside
the mesh, for there is no TLS to them yet.
"""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from envoy.config.endpoint.v3 import endpoint_pb2

from mosn_xds.pilot import Change
from mosn_xds.pilot.resources import ENDPOINTS
from tests.e2e.conftest import namespaces_possible
from tests.e2e.loop_world import UnsampledForm
from tests.support.client import BadResponse, Connection, request_bytes
from tests.support.istio import Mesh, Session, without_istio_filters
from tests.support.namespace import Network
from tests.support.proxies import ProxyKind
from tests.support.tls_hello import client_hello
from tests.support.upstream import Exchange, Upstream, head

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(
        not all(map(shutil.which, ("ip", "iptables", "ip6tables"))), reason="needs ip, iptables and ip6tables"
    ),
]

OUT, IN, DIRECT = 1, 2, 0
SETUP = (
    "ip route add local 10.0.0.0/8 dev lo",
    "ip -6 route add local fd00::/8 dev lo",
    "ip -6 addr add fd00::1/128 dev lo",  # what the kernel connects from, unless it is told to use the next
    "ip -6 addr add ::6/128 dev lo",
    *(
        f"{tool} -t nat -A OUTPUT -p tcp -m mark --mark {mark} -j REDIRECT --to-ports {port}"
        for tool in ("iptables", "ip6tables")
        for mark, port in ((OUT, 15001), (IN, 15006))
    ),
)
KINDS = [pytest.param(ProxyKind.ENVOY, marks=pytest.mark.envoy), ProxyKind.OURS]


@dataclass(frozen=True)
class Probe:
    """One connection: which way it goes, to where, what it says, and what answers: a server's words, or a status.

    An answer may name two servers, with a bar between, where a balancer is free to choose.
    """

    way: int
    host: str
    port: int
    says: bytes
    answer: str

    def is_answered_by(self, answer: str) -> bool:
        return answer in self.answer.split("|")


def get(host: str, *headers: tuple[str, str], path: str = "/x") -> bytes:
    return request_bytes("GET", path, [("host", host), *headers])


RAW = b"\x01 not HTTP\r\n\r\n"
ABORT = ("end-user", "abort")
JASON = ("end-user", "jason")

BOOKINFO = [
    Probe(OUT, "10.96.0.12", 9080, get("reviews", JASON), "10.244.1.22:9080"),
    Probe(OUT, "10.96.0.11", 9080, get("details:9080"), "10.244.1.11:9080"),
    Probe(OUT, "10.96.0.13", 9080, get("ratings", ABORT), "555"),
    # The listener of the port takes whatever address; the host says which service.
    Probe(OUT, "10.244.1.31", 9080, get("details"), "10.244.1.11:9080"),
    Probe(OUT, "10.9.9.9", 9080, get("stranger.example"), "10.9.9.9:9080"),
    Probe(OUT, "10.9.9.9", 7777, get("stranger.example"), "10.9.9.9:7777"),
    Probe(OUT, "10.9.9.9", 7777, RAW, "10.9.9.9:7777"),
    Probe(OUT, "10.9.9.9", 7779, RAW, "closed"),
    Probe(IN, "10.244.1.10", 9080, get("productpage"), "10.244.1.10:9080 from 127.0.0.6"),
    Probe(IN, "10.244.1.10", 7777, get("productpage"), "10.244.1.10:7777 from 127.0.0.6"),
    Probe(IN, "10.244.1.10", 7777, RAW, "10.244.1.10:7777 from 127.0.0.6"),
    Probe(IN, "10.244.1.10", 9080, RAW, "400"),
    Probe(DIRECT, "127.0.0.1", 15001, get("x"), "closed"),
    Probe(DIRECT, "127.0.0.1", 15006, get("x"), "closed"),
]

PROTOCOLS = [
    Probe(OUT, "10.96.5.1", 9000, get("http.proto"), "10.244.5.1:9000"),
    Probe(OUT, "10.96.5.50", 9000, RAW, "10.244.5.12:9000"),
    Probe(OUT, "10.96.5.5", 9004, RAW, "10.244.5.5:9004"),
    Probe(OUT, "10.96.5.8", 9007, RAW, "10.244.5.8:9007"),
    Probe(OUT, "10.96.5.9", 9008, RAW, "10.244.5.9:9008"),
    Probe(OUT, "10.96.5.10", 9009, RAW, "10.244.5.10:9009"),
    Probe(OUT, "10.96.5.6", 9005, client_hello("tls.proto.svc.cluster.local") + b"\r\n\r\n", "10.244.5.6:9005"),
    Probe(OUT, "10.96.5.7", 9006, client_hello("https.proto.svc.cluster.local") + b"\r\n\r\n", "10.244.5.7:9006"),
    Probe(OUT, "10.96.5.12", 9011, get("auto"), "10.244.5.12:9011"),
    Probe(OUT, "10.96.5.12", 9011, RAW, "10.244.5.12:9011"),
    Probe(OUT, "10.7.7.7", 9100, RAW, "10.7.7.7:9100"),
    Probe(OUT, "10.7.7.7", 9101, get("headless"), "10.7.7.7:9101"),
    Probe(OUT, "10.7.7.7", 9102, get("headless"), "10.7.7.7:9102"),
    Probe(OUT, "10.7.7.7", 9102, RAW, "10.7.7.7:9102"),
    # The table of the proxy port ignores ports, and names its hosts with them: what is left passes on to nowhere.
    Probe(DIRECT, "127.0.0.1", 15080, get("http.proto.svc.cluster.local:9000"), "503"),
    Probe(IN, "10.244.5.100", 8000, get("me"), "10.244.5.100:8000 from 127.0.0.6"),
    Probe(IN, "10.244.5.100", 8004, RAW, "10.244.5.100:8004 from 127.0.0.6"),
    Probe(IN, "10.244.5.100", 8011, get("me"), "10.244.5.100:8011 from 127.0.0.6"),
    Probe(IN, "10.244.5.100", 8011, RAW, "10.244.5.100:8011 from 127.0.0.6"),
]

DUALSTACK = [
    Probe(OUT, "10.96.6.1", 8080, get("web.ds"), "10.244.6.1:8080|fd00:244::2:8080"),
    Probe(OUT, "fd00:96::1", 8080, get("web.ds"), "10.244.6.1:8080|fd00:244::2:8080"),
    Probe(OUT, "10.96.6.1", 8090, RAW, "10.244.6.1:8090|fd00:244::2:8090"),
    Probe(OUT, "fd00:96::1", 8090, RAW, "10.244.6.1:8090|fd00:244::2:8090"),
    Probe(OUT, "fd00:99::9", 8080, get("stranger.example"), "fd00:99::9:8080"),
    Probe(OUT, "fd00:99::9", 7777, RAW, "fd00:99::9:7777"),
    Probe(IN, "10.244.6.9", 8080, get("me"), "10.244.6.9:8080 from 127.0.0.6"),
    Probe(IN, "fd00:244::9", 8080, get("me"), "fd00:244::9:8080 from ::6"),
    Probe(IN, "fd00:244::9", 7777, RAW, "fd00:244::9:7777 from ::6"),
]

PROBES = {"bookinfo": BOOKINFO, "protocols": PROTOCOLS, "dualstack": DUALSTACK}
PORTS = sorted({probe.port for probes in PROBES.values() for probe in probes} - {7779, 15001, 15006, 15080})


def where(exchange: Exchange) -> bool:
    """Answers with the address at which the server was reached, and from where if that is not the plain loopback."""
    exchange.read_body()
    sock = exchange.stream.socket
    local, peer = (name[0].removeprefix("::ffff:") for name in (sock.getsockname(), sock.getpeername()))
    said = f"{local}:{exchange.upstream.port}" + (f" from {peer}" if peer in ("127.0.0.6", "::6") else "")
    exchange.send(head(200, [("content-length", str(len(said)))]) + said.encode())
    return True


def outside_the_mesh(change: Change) -> Change:
    """The same push with endpoints that speak no mutual TLS."""
    if change.type_url != ENDPOINTS:
        return change
    upserts = {}
    for name, raw in change.upserts.items():
        assignment = endpoint_pb2.ClusterLoadAssignment.FromString(raw)
        for locality in assignment.endpoints:
            for endpoint in locality.lb_endpoints:
                endpoint.metadata.filter_metadata.pop("envoy.transport_socket_match", None)
        upserts[name] = assignment.SerializeToString()
    return Change(change.type_url, change.version, upserts, change.removed)


def answer_to(probe: Probe) -> str:
    """What came back: a server's words, a status, or how it ended without."""
    try:
        with Connection(probe.port, host=probe.host, mark=probe.way or None) as connection:
            connection.send(probe.says)
            reply = connection.read_response()
    except (ConnectionError, BadResponse):
        return "closed"
    return reply.body.decode() if reply.status == 200 else str(reply.status)


@pytest.fixture
def pod() -> Iterator[dict[int, Upstream]]:
    """The servers by port, in a network that captures."""
    if not namespaces_possible():
        pytest.skip("needs a network namespace (root)")
    with ExitStack() as stack:
        network = Network()
        stack.callback(network.close)
        stack.enter_context(network.entered())
        for command in SETUP:
            subprocess.run(command.split(), check=True)
        servers = {port: Upstream(str(port), "::", port, where) for port in PORTS}
        for server in servers.values():
            stack.callback(server.close)
        yield servers


@pytest.mark.parametrize("scenario", ["bookinfo-delta", "bookinfo-sotw", "protocols-delta", "dualstack-sotw"])
def test_captured_connections_land_where_the_recording_says(
    scenario: str, pod: dict[int, Upstream], tmp_path: Path
) -> None:
    probes = PROBES[scenario.partition("-")[0]]
    seen: dict[ProxyKind, list[str]] = {}
    normal = UnsampledForm({})
    for kind in (kind for kind in ProxyKind if kind.binary() is not None):

        def change(push: Change, kind: ProxyKind = kind) -> Change:
            plain = outside_the_mesh(push)
            return without_istio_filters(plain) if kind is ProxyKind.ENVOY else plain

        with Mesh(Session.get(scenario), change) as mesh:
            mesh.replay.advance()
            proxy = mesh.start(kind, tmp_path / kind.value, 15000)
            try:
                wrong = [(probe, got) for probe in probes if not probe.is_answered_by(got := answer_to(probe))]
                assert wrong == [], kind
            finally:
                proxy.kill()
        seen[kind] = [f"{port} saw {normal.request(request)}" for port in PORTS for request in list(pod[port].requests)]
        for server in pod.values():
            server.forget()
    first, *others = seen.values()
    assert all(other == first for other in others)


def test_mark_is_what_leads_to_the_proxy(pod: dict[int, Upstream]) -> None:
    """Without a proxy a marked connection reaches nobody, an unmarked one the server: the capture is real."""
    del pod
    assert answer_to(Probe(DIRECT, "10.96.0.12", 9080, get("x"), "")) == "10.96.0.12:9080"
    with pytest.raises(ConnectionRefusedError), socket.socket() as captured:
        captured.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, OUT)
        captured.connect(("10.96.0.12", 9080))
