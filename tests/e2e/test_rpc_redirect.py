"""A recorded sidecar behind iptables REDIRECT whose connections speak Bolt where istiod expects TCP or nothing in particular.

The mesh is that of tests/e2e/test_redirect.py; the node differs from the recorded one in `MOSN_XDS_PROTOCOLS` alone.
"""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.conftest import namespaces_possible
from tests.e2e.test_redirect import IN, OUT, SETUP, outside_the_mesh, pytestmark
from tests.e2e.test_rpc_detection import call, node, say_tcp
from tests.support.authority import Authority
from tests.support.istio import Mesh, Session
from tests.support.namespace import Network
from tests.support.polyglot import GREETING, Polyglot
from tests.support.proxies import Proxy, ProxyKind
from tests.support.rpc_wires import BOLT, DUBBO, WIRES
from tests.support.server import Stream
from tests.support.tls import client_context

__all__ = ["pytestmark"]

POD = "10.244.5.100"
PORTS = (7778, 8004, 8011, 9004, 9011, 9102)
WAYS = {
    "a TCP port": (OUT, "10.96.5.5", 9004, "outbound|9004||tcp.proto.svc.cluster.local"),
    "a port without a protocol": (OUT, "10.96.5.12", 9011, "outbound|9011||auto.proto.svc.cluster.local"),
    "a headless one": (OUT, "10.7.7.7", 9102, "outbound|9102||headless.proto.svc.cluster.local"),
    "an address that nobody declared": (OUT, "10.9.9.9", 7778, "PassthroughCluster"),
    "the workload's TCP port": (IN, POD, 8004, "inbound|8004||"),
    "the workload's port without a protocol": (IN, POD, 8011, "inbound|8011||"),
    "a port of the workload's that nobody declared": (IN, POD, 7778, "InboundPassthroughCluster"),
}
CA = Authority()


class Pod:
    """A network that captures, its servers by port, and the sidecar."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        network = Network()
        stack.callback(network.close)
        stack.enter_context(network.entered())
        for command in SETUP:
            subprocess.run(command.split(), check=True)
        self.servers = {port: Polyglot(str(port), "::", port) for port in PORTS}
        for server in self.servers.values():
            stack.callback(server.close)
        mesh = stack.enter_context(Mesh(Session.get("protocols-delta"), outside_the_mesh, CA))
        mesh.replay.advance()
        recorded = mesh.session.node
        metadata = {**recorded["metadata"], **node("dubbo,bolt")["metadata"]}
        fields = {"node": {**recorded, "metadata": metadata}}
        self.proxy: Proxy = mesh.start(ProxyKind.OURS, folder, 15000, bootstrap_fields=fields)
        stack.callback(self.proxy.kill)

    def join(self, way: int, host: str, port: int) -> socket.socket:
        sock = socket.socket()
        sock.settimeout(10)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, way)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.connect((host, port))
        return sock

    def await_calls(self, cluster: str, count: int) -> None:
        """Until a cluster's RPC proxy has counted so many."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            found = self.proxy.stats("^rpc")
            if any(
                f"{cluster}." in name and name.endswith(".echo.rq_total") and n == count for name, n in found.items()
            ):
                return
            time.sleep(0.05)
        raise AssertionError({name: value for name, value in self.proxy.stats("^rpc").items() if value})


@pytest.fixture(scope="module")
def pod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pod]:
    if not namespaces_possible():
        pytest.skip("needs a network namespace (root)")
    with ExitStack() as stack:
        yield Pod(tmp_path_factory.mktemp("pod"), stack)


@pytest.mark.parametrize("where", WAYS)
def test_captured_calls_are_served_as_calls_and_everything_else_as_ever(pod: Pod, where: str) -> None:
    way, host, port, cluster = WAYS[where]
    server = pod.servers[port]
    before = sum(server.calls)  # on connections that may be used again
    with pod.join(way, host, port) as bolt, pod.join(way, host, port) as tcp, pod.join(way, host, port) as silent:
        call(bolt, WIRES[BOLT], 4)
        assert say_tcp(tcp, b"\x00 neither") == b"\x00 neither"
        assert silent.recv(100) == GREETING + server.name.encode()
    assert sum(server.calls) == before + 4
    pod.await_calls(cluster, 4)


@pytest.mark.parametrize("alpn", [("istio-peer-exchange", "istio"), ("istio",)])
def test_calls_of_other_sidecars_come_over_mutual_tls(pod: Pod, alpn: tuple[str, ...]) -> None:
    server = pod.servers[8004]
    before = sum(server.calls)
    certificate = CA.issue("spiffe://cluster.local/ns/proto/sa/caller")
    context = client_context(CA.root, certificate=certificate, alpn=alpn)
    with pod.join(IN, POD, 8004) as raw, context.wrap_socket(raw) as sock:
        if alpn[0] != "istio":  # the server tells who it is; we do not
            stream = Stream(sock)
            magic, size = stream.exactly(4), stream.exactly(4)
            assert magic == bytes.fromhex("3d230467")
            assert b"NAMESPACE" in stream.exactly(int.from_bytes(size, "big"))
        call(sock, WIRES[DUBBO], 3)
    assert sum(server.calls) == before + 3
