"""A recorded sidecar whose SDS server is not there: not ready, as Envoy, and ready once it is; plaintext listeners are not
kept waiting by those that need a certificate."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from mosn_xds.pilot import Pilot
from tests.e2e.conftest import enter_network
from tests.support.istio import Mesh, Session, bootstrap, without_istio_filters
from tests.support.proxies import Proxy, ProxyKind

pytestmark = pytest.mark.root

SDS_PORT = 15999
KINDS = [pytest.param(ProxyKind.ENVOY, marks=pytest.mark.envoy), ProxyKind.OURS]
INBOUND, OUTBOUND = ("127.0.11.1", 7080), ("127.0.0.1", 8081)


@pytest.fixture
def network() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        if not enter_network(stack):
            pytest.skip("needs network namespaces (root): the recorded addresses must be free")
        yield stack


def listens(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=2).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.value)
def test_readiness_waits_for_the_secrets(kind: ProxyKind, network: ExitStack, tmp_path: Path) -> None:
    if kind.binary() is None:
        pytest.skip(f"{kind.value} is not installed")
    change = without_istio_filters if kind is ProxyKind.ENVOY else None
    mesh = network.enter_context(Mesh(Session.get("loop-delta"), change))
    mesh.replay.advance()
    config = bootstrap(mesh.session, mesh.pilot.port, 15000)
    (sds,) = [one for one in config["static_resources"]["clusters"] if one["name"] == "sds-grpc"]
    (locality,) = sds["load_assignment"]["endpoints"]
    (host,) = locality["lb_endpoints"]
    host["endpoint"]["address"]["socket_address"]["port_value"] = SDS_PORT
    proxy = Proxy.start(kind, config, tmp_path, wait_ready=False)
    network.callback(proxy.kill)
    inbound = f"{INBOUND[0]}_{INBOUND[1]}"
    deadline = time.monotonic() + 10
    while inbound not in init_dump(proxy):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert proxy.admin("/ready") == (503, "INITIALIZING\n")
    assert not listens(INBOUND)
    if kind is ProxyKind.OURS:
        while not listens(OUTBOUND):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    secrets = Pilot(mesh.resources, f"127.0.0.1:{SDS_PORT}")
    network.callback(secrets.stop)
    proxy.wait_ready()
    assert listens(INBOUND)


def init_dump(proxy: Proxy) -> str:
    """What the proxy says it waits for; nothing while it cannot be asked."""
    try:
        return proxy.admin("/init_dump")[1]
    except OSError:
        return ""
