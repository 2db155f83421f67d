"""The `scale` recording: 1,000 services with 10 endpoints each. All of it is there, and what it costs is written down.

`make soak` measures time to ready and memory, ours and Envoy's on the same stream, prints them and writes
bench/results/scale.json.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from envoy.config.endpoint.v3 import endpoint_pb2

from mosn_xds.pilot.resources import ENDPOINTS
from tests.e2e.conftest import skip_unless_free
from tests.support.client import Connection, request_bytes
from tests.support.istio import Mesh, Session, without_istio_filters
from tests.support.memory import use_of
from tests.support.ports import PortAllocator
from tests.support.proxies import Proxy, ProxyKind
from tests.support.upstream import Upstream

CLUSTERS, LISTENERS, ROUTE_TABLES, ASSIGNMENTS = 1203, 240, 40, 1200
RESULTS = Path(__file__).parents[2] / "bench" / "results" / "scale.json"
ROUNDS = 3
_MIB = 1 << 20


def started(mesh: Mesh, kind: ProxyKind, folder: Path) -> Proxy:
    return mesh.start(kind, folder, PortAllocator().take())


@pytest.mark.parametrize("variant", ["sotw", "delta"])
def test_every_resource_is_there_and_served(variant: str, tmp_path: Path, network: bool) -> None:
    with Mesh(Session.get(f"scale-{variant}")) as mesh:
        mesh.replay.advance()
        if not network:
            skip_unless_free(mesh.bound_addresses())
        proxy = started(mesh, ProxyKind.OURS, tmp_path)
        try:
            shown = json.loads(proxy.admin("/xds")[1])
            counts: dict[str, int] = {}
            for one in shown["resources"]:
                assert one["status"] == "acked", one
                counts[one["type"]] = counts.get(one["type"], 0) + 1
            assert counts == {
                "Cluster": CLUSTERS,
                "Listener": LISTENERS,
                "RouteConfiguration": ROUTE_TABLES,
                "ClusterLoadAssignment": ASSIGNMENTS,
            }
            assert proxy.stats("^server.worker_refusals$") == {"server.worker_refusals": 0}
            listeners = json.loads(proxy.admin("/listeners?format=json")[1])["listener_statuses"]
            addresses = [one["local_address"]["socket_address"] for one in listeners]
            assert len(addresses) == LISTENERS
            for address in addresses:
                with Connection(address["port_value"], host=address["address"]):
                    pass
            for service in ("s0", "s48"):
                assert_served(mesh, service)
        finally:
            proxy.kill()


def assert_served(mesh: Mesh, service: str) -> None:
    """A request to the service arrives at one of its endpoints. Service n is on port 8000 + n % 50."""
    port = 8000 + int(service[1:]) % 50
    name = f"outbound|{port}||{service}.big.svc.cluster.local"
    assignment = endpoint_pb2.ClusterLoadAssignment.FromString(mesh.resources.get(ENDPOINTS, (name,))[name])
    sockets = [
        one.endpoint.address.socket_address for locality in assignment.endpoints for one in locality.lb_endpoints
    ]
    upstreams = [Upstream(service, one.address, one.port_value) for one in sockets]
    assert len(upstreams) == 10
    try:
        with Connection(port) as connection:
            connection.send(request_bytes("GET", "/", [("host", service)]))
            assert connection.read_response().body.decode() == f"{service}\n"
    finally:
        for upstream in upstreams:
            upstream.close()


def measured(mesh: Mesh, kind: ProxyKind, folder: Path) -> dict[str, Any]:
    """One start: seconds to ready, and what all processes hold then."""
    begun = time.monotonic()
    proxy = started(mesh, kind, folder)
    ready_s = time.monotonic() - begun
    try:
        uses = [use_of(pid) for pid in proxy.pids()]
    finally:
        proxy.kill()
    return {
        "ready_s": round(ready_s, 2),
        "cpu_s": round(sum(use.cpu_s for use in uses), 2),
        "memory_mib": round(sum(use.share_bytes for use in uses) / _MIB, 1),
        "processes": {
            f"{use.name} {use.pid}": {
                "rss_mib": round(use.resident_bytes / _MIB, 1),
                "share_mib": round(use.share_bytes / _MIB, 1),
                "cpu_s": round(use.cpu_s, 2),
            }
            for use in uses
        },
    }


def best(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """The round that was disturbed least."""
    return min(rounds, key=lambda one: one["ready_s"])


@pytest.mark.soak
def test_what_scale_costs(tmp_path: Path, capsys: pytest.CaptureFixture[str], network: bool) -> None:
    found: dict[str, Any] = {}
    kinds: list[tuple[ProxyKind, Callable[..., Any] | None]] = [(ProxyKind.OURS, None)]
    if ProxyKind.ENVOY.binary() is not None:
        kinds.append((ProxyKind.ENVOY, without_istio_filters))
    for variant in ("sotw", "delta"):
        for kind, change in kinds:
            with Mesh(Session.get(f"scale-{variant}"), change) as mesh:
                mesh.replay.advance()
                if not network:
                    skip_unless_free(mesh.bound_addresses())
                rounds = [
                    measured(mesh, kind, tmp_path / f"{kind.value}-{variant}-{number}") for number in range(ROUNDS)
                ]
                found[f"{kind.value} {variant}"] = best(rounds)
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    with capsys.disabled():
        print(f"\n{CLUSTERS} clusters, {LISTENERS} listeners, {ASSIGNMENTS * 10} endpoints ({RESULTS.name})")
        for name, one in found.items():
            print(f"  {name:16} ready {one['ready_s']:5.2f} s, {one['cpu_s']:5.2f} CPU s, {one['memory_mib']:6.1f} MiB")
            for process, use in one["processes"].items():
                print(f"    {process:24} RSS {use['rss_mib']:6.1f}, share {use['share_mib']:6.1f} MiB")
    assert all(one["ready_s"] > 0 for one in found.values())
