"""Every recorded session over real gRPC: the agent becomes ready, refuses nothing, and listens where it was told to."""

import json
import socket
from pathlib import Path

import pytest

from mosn_xds.pilot.resources import CLUSTER, ENDPOINTS, LISTENER, ROUTES
from tests.e2e.conftest import skip_unless_free
from tests.support.istio import Mesh, Session
from tests.support.ports import PortAllocator
from tests.support.proxies import ProxyKind

REFUSED = {
    "broken": {
        ("Cluster", "outbound|8090||ledger.shop.svc.cluster.local"),
        ("Listener", "127.0.0.1_8082"),
        ("RouteConfiguration", "8081"),
    }
}
"""What a scenario's resources must not get past us."""

NOT_BOUND = {"broken": [("127.0.0.1", 8082)]}
"""Addresses of refused listeners."""

Address = tuple[str, int]


def reachable(address: Address) -> Address:
    """The address at which a client on this machine finds it."""
    host, port = address
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port


@pytest.mark.parametrize("session", [s for s in Session.all() if s.scenario != "scale"], ids=str)
def test_recorded_session_is_served(session: Session, tmp_path: Path, network: bool) -> None:
    refused = REFUSED.get(session.scenario, set())
    with Mesh(session) as mesh:
        mesh.replay.advance()
        addresses = [one for one in mesh.bound_addresses() if one not in NOT_BOUND.get(session.scenario, ())]
        if not network:
            skip_unless_free(addresses)
        proxy = mesh.start(ProxyKind.OURS, tmp_path, PortAllocator().take())
        try:
            shown = json.loads(proxy.admin("/xds")[1])["resources"]
            assert {(one["type"], one["name"]) for one in shown if "refusal" in one} == refused
            not_served = [one for one in shown if one["status"] != ("nacked" if "refusal" in one else "acked")]
            assert not_served == []
            for type_url in (CLUSTER, LISTENER):
                names = {one["name"] for one in shown if type_url.endswith(f".{one['type']}")}
                assert names == set(mesh.resources.get(type_url))
            # Of what is asked for by name the recording holds all that was ever needed.
            for type_url in (ENDPOINTS, ROUTES):
                names = {one["name"] for one in shown if type_url.endswith(f".{one['type']}")}
                assert names <= set(mesh.resources.get(type_url))
            assert len(mesh.pilot.nacks) == len(refused)
            assert proxy.stats("^server.worker_refusals$") == {"server.worker_refusals": 0}
            for address in addresses:
                socket.create_connection(reachable(address), timeout=5).close()
        finally:
            proxy.kill()
