"""The `broken` recording: five faults, each shown as its kind demands, and the rest serves.

Three resources are refused: a cluster, a listener, a route table. Two are taken with an extension that nobody here knows:
an HTTP filter answers 503 for its chain, a network filter, maybe a guard, closes its chain's connections.
"""

import json
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from tests.e2e.conftest import enter_network, skip_unless_free
from tests.support.client import Connection, Response, request_bytes
from tests.support.istio import Mesh, Session
from tests.support.proxies import Proxy, ProxyKind
from tests.support.upstream import Upstream

FRONT = "front.shop.svc.cluster.local"
ANY = "any.shop.svc.cluster.local"

LEDGER_CLUSTER = "outbound|8090||ledger.shop.svc.cluster.local"
RING = "ring_hash_lb_config.minimum_ring_size: ring hash: minimum_ring_size (4096) > maximum_ring_size (16)"
ADDRESS = "additional_addresses[0].address.socket_address.address: malformed IP address: not-an-ip"
REGEX = "virtual_hosts[1].routes[0].match.safe_regex.regex: missing ): (unclosed"

REFUSALS = [
    ("Cluster", LEDGER_CLUSTER, RING, f"Error adding/updating cluster(s) {LEDGER_CLUSTER}: {RING}"),
    ("Listener", "127.0.0.1_8082", ADDRESS, f"Error adding/updating listener(s) 127.0.0.1_8082: {ADDRESS}\n"),
    ("RouteConfiguration", "8081", REGEX, f"8081: {REGEX}"),
]


@dataclass(frozen=True)
class Scene:
    """The running pieces."""

    mesh: Mesh
    proxy: Proxy
    any_service: Upstream

    def shown(self, kind: str, name: str) -> dict[str, Any]:
        """A resource as `/xds` shows it."""
        resources = json.loads(self.proxy.admin("/xds")[1])["resources"]
        found: dict[str, Any] = next(one for one in resources if (one["type"], one["name"]) == (kind, name))
        return found


@pytest.fixture(scope="module", params=["broken-sotw", "broken-delta"])
def scene(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with ExitStack() as stack:
        own = enter_network(stack)
        upstreams = [Upstream("any", f"127.0.11.{number}", 7095) for number in (11, 12, 13)]
        upstreams.append(Upstream("front", "127.0.0.1", 6080))
        for upstream in upstreams:
            stack.callback(upstream.close)
        mesh = stack.enter_context(Mesh(Session.get(request.param)))
        mesh.replay.advance()
        if not own:
            skip_unless_free([*mesh.bound_addresses(), ("127.0.0.1", 15000)])
        proxy = mesh.start(ProxyKind.OURS, tmp_path_factory.mktemp("broken"), 15000)
        stack.callback(proxy.kill)
        yield Scene(mesh, proxy, upstreams[0])


def get(port: int, host: str, address: str = "127.0.0.1") -> Response:
    with Connection(port, host=address) as connection:
        connection.send(request_bytes("GET", "/x", [("host", host)]))
        return connection.read_response()


def last_line(scene: Scene, port: int) -> str:
    """The access log's last line of a listener, once there is one."""
    for _ in range(200):
        found = [line for line in scene.proxy.log_tail(500).splitlines() if f":{port} 127.0.0.1:" in line]
        if found:
            return found[-1]
        time.sleep(0.02)
    raise AssertionError(f"no access log line of {port}")


def eventually_counted(scene: Scene, name: str) -> bool:
    """Whether the counter is 1 before long; workers report every second."""
    for _ in range(100):
        if scene.proxy.stats(f"^{re.escape(name)}$") == {name: 1}:
            return True
        time.sleep(0.05)
    return False


def test_process_is_live(scene: Scene) -> None:
    assert scene.proxy.admin("/ready") == (200, "LIVE\n")
    assert scene.proxy.stats("^xds.refused_resources$|^server.worker_refusals$") == {
        "server.worker_refusals": 0,
        "xds.refused_resources": 3,
    }


@pytest.mark.parametrize(("kind", "name", "reason", "nack"), REFUSALS, ids=["cluster", "listener", "routes"])
def test_refusal_names_resource_field_and_cause(scene: Scene, kind: str, name: str, reason: str, nack: str) -> None:
    assert [one.message for one in scene.mesh.pilot.nacks if one.type_url.endswith(f".{kind}")] == [nack]
    shown = scene.shown(kind, name)
    assert (shown["status"], shown["refusal"]["reason"], shown["refusal"]["serving"]) == ("nacked", reason, None)


@pytest.mark.parametrize(("kind", "name", "reason", "nack"), REFUSALS, ids=["cluster", "listener", "routes"])
def test_refusal_is_in_the_config_dump(scene: Scene, kind: str, name: str, reason: str, nack: str) -> None:
    del nack
    sections = {
        "Cluster": ("ClustersConfigDump", "dynamic_active_clusters"),
        "Listener": ("ListenersConfigDump", "dynamic_listeners"),
        "RouteConfiguration": ("RoutesConfigDump", "dynamic_route_configs"),
    }
    section, field = sections[kind]
    dump = json.loads(scene.proxy.admin("/config_dump")[1])
    entries = next(part[field] for part in dump["configs"] if part["@type"].endswith(f".{section}"))
    (error,) = [entry["error_state"] for entry in entries if "error_state" in entry]
    assert (error["details"], error["failed_configuration"]["name"]) == (reason, name)
    assert error["version_info"] == scene.shown(kind, name)["version"]


def test_refused_listener_does_not_listen(scene: Scene) -> None:
    del scene
    with pytest.raises(ConnectionRefusedError):
        Connection(8082)


def test_tcp_route_to_the_refused_cluster_is_closed_with_a_reason(scene: Scene) -> None:
    with Connection(8090) as connection:
        assert connection.closes_within(5)
    assert " 0 NC " in last_line(scene, 8090)


def test_http_without_its_route_table_is_answered_404_with_a_reason(scene: Scene) -> None:
    assert get(8081, "catalog").status == 404
    assert " 404 NR route_configuration_not_found " in last_line(scene, 8081)


def test_unknown_http_filter_answers_503_for_its_chain(scene: Scene) -> None:
    assert get(8080, FRONT).status == 503
    assert " 503 - unknown_filter{" in last_line(scene, 8080)
    (warning,) = scene.shown("Listener", "127.0.0.1_8080")["warnings"]
    assert warning == (
        "filter_chains[0].filters[0].typed_config.http_filters[5]: unknown HTTP filter acme.filters.http.unheard_of of "
        "type acme.UnheardOf: requests of its chain are answered 503"
    )


def test_unknown_network_filter_closes_what_it_may_guard(scene: Scene) -> None:
    before = len(scene.any_service.requests)
    with Connection(8095) as connection:
        connection.send(b"\x01 not HTTP, so the guarded chain's\r\n\r\n")
        assert connection.closes_within(5)
    assert eventually_counted(scene, "listener.127.0.0.1_8095.closed_by_unknown_filter")
    assert len(scene.any_service.requests) == before
    (warning,) = scene.shown("Listener", "127.0.0.1_8095")["warnings"]
    assert "acme.StricterRBAC: connections of its chain are closed" in warning


def test_rest_serves(scene: Scene) -> None:
    del scene
    assert get(8095, ANY).body == b"any\n"
    assert get(7080, FRONT, "127.0.11.1").body == b"front\n"
