"""The `churn` recording, step by step while requests flow: each step shows in traffic, and no request fails.

The mesh is that of `loop`; what changes is weights, endpoints, subsets, listeners and their kind. One step breaks a listener,
which serves on as it was, and a later one mends it.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import enter_network, skip_unless_free
from tests.e2e.loop_world import CATALOG, FRONT, ORDERS
from tests.support.client import BadResponse, Connection, Headers, Response, request_bytes
from tests.support.istio import Mesh, Session
from tests.support.proxies import Proxy, ProxyKind
from tests.support.upstream import Upstream

STEP_LIMIT_S = 10.0
ENDPOINTS = {
    **{f"127.0.11.{number}:7081": "catalog-v1" for number in (11, 12)},
    **{f"127.0.11.{number}:7081": "catalog-v2" for number in (13, 14, 15, 16)},
    "127.0.11.17:7081": "catalog-v3",
    **{f"127.0.11.{number}:7095": "any" for number in range(11, 18)},
    **{f"127.0.11.{number}:{port}": "orders" for number in (21, 22) for port in (7081, 7083)},
    "127.0.11.31:7090": "ledger",
    "127.0.0.1:6080": "front",
}
STEADY: list[tuple[str, Headers, str]] = [
    ("/teapot", [("host", CATALOG)], "short and stout"),
    ("/x", [("host", CATALOG), ("x-canary", "yes")], "catalog-v2\n"),
    ("/old/x", [("host", CATALOG)], "catalog-v1\n"),
    ("/x", [("host", ORDERS), ("x-user", "me")], "orders\n"),
]
"""Requests to 8081 that no step concerns: path, headers, the answer's body."""


class Load(threading.Thread):
    """Asks `STEADY` on one kept connection, over and over. `failures` are requests without their right answer."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.answers = 0
        self.failures: list[str] = []
        self._ends = threading.Event()

    def run(self) -> None:
        connection: Connection | None = None
        while not self._ends.is_set():
            for path, headers, body in STEADY:
                connection = connection or Connection(8081)
                connection.send(request_bytes("GET", path, headers))
                try:
                    reply = connection.read_response()
                except (OSError, BadResponse) as error:
                    self.failures.append(f"{path} {headers}: {error!r}")
                    connection = None
                    continue
                if reply.body.decode() != body:
                    self.failures.append(f"{path} {headers}: {reply}")
                self.answers += 1
                if reply.get("connection") == "close":
                    connection.close()
                    connection = None

    def end(self) -> None:
        self._ends.set()
        self.join(10)


@dataclass
class Scene:
    """The running pieces. `marks` are the steps made so far."""

    mesh: Mesh
    proxy: Proxy
    servers: dict[str, Upstream]

    def get(
        self, port: int, host: str, path: str = "/x", address: str = "127.0.0.1", headers: Headers | None = None
    ) -> Response | None:
        """One request on a connection of its own; None without an answer."""
        try:
            with Connection(port, host=address) as connection:
                connection.send(request_bytes("GET", path, [("host", host), *(headers or [])]))
                return connection.read_response()
        except (ConnectionError, BadResponse):
            return None

    def split(self, count: int = 20) -> set[str]:
        """What answers the default route of catalog: bodies, or the status of what is none."""
        replies = [self.get(8081, CATALOG) for _ in range(count)]
        return {reply.body.decode().strip() if reply.status == 200 else str(reply.status) for reply in replies if reply}

    def reaches(self, address: str, port: int = 8081, host: str = CATALOG, headers: Headers | None = None) -> bool:
        """Whether a request gets to this endpoint within a few."""
        before = len(self.servers[address].requests)
        for _ in range(8):
            self.get(port, host, headers=headers)
        return len(self.servers[address].requests) > before

    def refuses(self, port: int, address: str = "127.0.0.1") -> bool:
        """Whether nobody listens there."""
        try:
            Connection(port, host=address).close()
        except ConnectionRefusedError:
            return True
        return False

    def shown(self) -> dict[tuple[str, str], Any]:
        """What `/xds` shows, by type and name."""
        return {(one["type"], one["name"]): one for one in json.loads(self.proxy.admin("/xds")[1])["resources"]}

    def refusals(self) -> dict[tuple[str, str], str]:
        """Which resources are refused, and why."""
        return {key: one["refusal"]["reason"] for key, one in self.shown().items() if "refusal" in one}


def is_http(scene: Scene) -> bool:
    reply = scene.get(8090, "ledger.shop.svc.cluster.local")
    return reply is not None and reply.get("server") == "envoy" and reply.body == b"ledger\n"


def is_tcp(scene: Scene) -> bool:
    reply = scene.get(8090, "ledger.shop.svc.cluster.local")
    return reply is not None and reply.get("server") is None and reply.body == b"ledger\n"


V2: Headers = [("x-canary", "yes")]
EXTRA = f"{ORDERS}:8083"

SHOWS: dict[str, Callable[[Scene], bool]] = {
    "": lambda s: s.split(40) == {"catalog-v1", "catalog-v2"},
    "split 80/20 becomes 50/50": lambda s: s.split(40) == {"catalog-v1", "catalog-v2"},
    "split becomes 0/100": lambda s: s.split() == {"catalog-v2"},
    "an endpoint of catalog v2 joins": lambda s: s.reaches("127.0.11.14:7081", headers=V2),
    "another one joins": lambda s: s.reaches("127.0.11.15:7081", headers=V2),
    "the first of catalog v2 leaves": lambda s: (
        s.reaches("127.0.11.16:7081", headers=V2) and not s.reaches("127.0.11.13:7081", headers=V2)
    ),
    "a subset v3 without endpoints": lambda s: ("Cluster", f"outbound|8081|v3|{CATALOG}") in s.shown(),
    "routes to v3": lambda s: s.split() == {"503"},
    "v3 gets an endpoint": lambda s: s.split() == {"catalog-v3"},
    "a new service port 8083: a new listener": lambda s: s.reaches("127.0.11.21:7083", 8083, EXTRA),
    "the TCP service becomes HTTP: its listener changes kind": is_http,
    "and TCP again": is_tcp,
    "an EnvoyFilter that makes the 8082 listener invalid": lambda s: (
        set(s.refusals()) == {("Listener", "127.0.0.1_8082")} and not s.refuses(8082)
    ),
    "the split goes on while 8082 is broken": lambda s: (
        s.split() == {"catalog-v2"} and set(s.refusals()) == {("Listener", "127.0.0.1_8082")} and not s.refuses(8082)
    ),
    "the broken filter goes": lambda s: not s.refusals() and not s.refuses(8082),
    "port 8083 goes: a listener is removed": lambda s: s.refuses(8083),
    "service any goes with its port": lambda s: s.refuses(8095),
    "all of ledger's endpoints go": lambda s: s.get(8090, "ledger") is None,
    "and come back": is_tcp,
    "STRICT-like ingress change: the inbound listener moves to another port": lambda s: (
        s.refuses(7080, "127.0.11.1") and s.get(7079, FRONT, address="127.0.11.1") is not None
    ),
    "and back": lambda s: s.refuses(7079, "127.0.11.1") and s.get(8080, FRONT) is not None,
}
"""What each step shows, by its mark."""


def eventually(scene: Scene, mark: str) -> None:
    """Raises AssertionError if the step does not show in time."""
    deadline = time.monotonic() + STEP_LIMIT_S
    while not SHOWS[mark](scene):
        assert time.monotonic() < deadline, f"{mark!r} does not show; {scene.refusals()}"
        time.sleep(0.02)


@pytest.fixture(params=["churn-sotw", "churn-delta"])
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scene]:
    with ExitStack() as stack:
        own = enter_network(stack)
        servers = {}
        for address, name in ENDPOINTS.items():
            host, _, port = address.rpartition(":")
            servers[address] = Upstream(name, host, int(port))
            stack.callback(servers[address].close)
        mesh = stack.enter_context(Mesh(Session.get(request.param)))
        mesh.replay.advance()
        if not own:
            skip_unless_free([*mesh.bound_addresses(), ("127.0.0.1", 8083), ("127.0.11.1", 7079), ("127.0.0.1", 15000)])
        proxy = mesh.start(ProxyKind.OURS, tmp_path / "churned", 15000)
        stack.callback(proxy.kill)
        yield Scene(mesh, proxy, servers)


def dump(proxy: Proxy) -> Any:
    """The configuration dump without what differs between two proxies with the same configuration."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(one) for key, one in value.items() if key not in ("last_updated", "version_info")}
        if isinstance(value, list):
            return [plain(one) for one in value]
        return value

    sections = json.loads(proxy.admin("/config_dump?include_eds")[1])["configs"]
    found = [plain(section) for section in sections if not section["@type"].endswith("BootstrapConfigDump")]
    return [{key: by_name(value) for key, value in section.items()} for section in found]


def by_name(value: Any) -> Any:
    return sorted(value, key=json.dumps) if isinstance(value, list) else value


def test_steps_show_and_cost_no_request(scene: Scene, tmp_path: Path) -> None:
    eventually(scene, "")
    threads = [Load() for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        while not scene.mesh.replay.done:
            step = scene.mesh.replay.advance()
            eventually(scene, step.mark)
            assert [failure for thread in threads for failure in thread.failures] == [], step.mark
    finally:
        for thread in threads:
            thread.end()
    assert all(thread.answers > 100 for thread in threads)
    assert [failure for thread in threads for failure in thread.failures] == []
    nacked = {nack.message for nack in scene.mesh.pilot.nacks}
    assert nacked == {
        "Error adding/updating listener(s) 127.0.0.1_8082: "
        "additional_addresses[0].address.socket_address.address: malformed IP address: not-an-ip\n"
    }
    assert scene.refusals() == {}
    assert scene.proxy.stats("^server.worker_(refusals|restarts)$") == {
        "server.worker_refusals": 0,
        "server.worker_restarts": 0,
    }
    # Who comes late has the same configuration as who saw it change.
    churned = dump(scene.proxy)
    scene.proxy.kill()
    late = scene.mesh.start(ProxyKind.OURS, tmp_path / "late", 15000)
    try:
        assert dump(late) == churned
    finally:
        late.kill()
