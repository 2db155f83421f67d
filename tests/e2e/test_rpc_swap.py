"""RPC calls while everything under them changes: listener, filter chain, routes, clusters, endpoints. None may fail.

Bolt goes through routes of generic RDS, Dubbo through routes in its listener, so that each change of those changes its
filter chain. Clients keep a window of calls under way on connections that they never open again: a closed connection, an
error, an answer to nobody's call are failures. `make soak` runs the full form, a thousand changes in thirty seconds.
"""

import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.load_tools import wait_until
from tests.support.ports import PortAllocator
from tests.support.rpc_wires import BOLT, DUBBO, WIRES, answers
from tests.support.served import Served

_TYPE = "type.googleapis.com"
_GENERIC = f"{_TYPE}/envoy.extensions.filters.network.generic_proxy"
_WINDOW = 8


class Upstream:
    """Answers every call; one thread for each connection."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.calls = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        data = b""
        with contextlib.suppress(OSError):
            while more := connection.recv(1 << 16):
                before = data + more
                data, out = answers(before)
                self.calls += (len(before) - len(data)) // len(WIRES[before[0]].request)
                connection.sendall(out)
        connection.close()

    def close(self) -> None:
        self._listener.close()


class Caller(threading.Thread):
    """Calls under way on one connection, until told to stop; then the last answers are waited for."""

    def __init__(self, port: int, protocol: int) -> None:
        super().__init__(daemon=True)
        self._wire = WIRES[protocol]
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.settimeout(10)
        self._stopping = False
        self.answers = 0
        self.failures: list[str] = []
        self.start()

    def run(self) -> None:
        ids = itertools.count(1)
        waiting: set[int] = set()
        data = b""
        size = len(self._wire.response)
        try:
            while waiting or not self._stopping:
                if not self._stopping:
                    new = [next(ids) for _ in range(_WINDOW - len(waiting))]
                    waiting.update(new)
                    self._socket.sendall(b"".join(self._wire.with_id(self._wire.request, id) for id in new))
                more = self._socket.recv(1 << 16)
                if not more:
                    self.failures.append(f"closed with {len(waiting)} calls under way")
                    return
                data += more
                while len(data) >= size and not self.failures:
                    frame, data = data[:size], data[size:]
                    id = self._wire.id_of(frame)
                    if not self._wire.is_ok(frame) or id not in waiting:
                        self.failures.append(f"{frame[:64]!r} with {len(waiting)} calls under way")
                        return
                    waiting.discard(id)
                    self.answers += 1
        except OSError as error:
            self.failures.append(f"{error!r} with {len(waiting)} calls under way")
        finally:
            self._socket.close()

    def stop(self) -> None:
        self._stopping = True
        self.join(20)


class Mesh:
    """What Pilot says; `number` is different in each version of what `change` changes."""

    def __init__(self, folder: Path) -> None:
        ports = PortAllocator()
        self.ports = {BOLT: ports.take(), DUBBO: ports.take()}
        self.upstreams = [Upstream(), Upstream()]
        self.versions = {"listener": 0, "routes": 0, "cluster": 0, "endpoints": 0}
        self.served = Served(folder, *self.resources())

    def change(self, kind: str) -> None:
        self.versions[kind] += 1
        self.served.push(*self.resources())

    def resources(self) -> list[dict[str, Any]]:
        return [
            self._listener(BOLT, "bolt"),
            self._listener(DUBBO, "dubbo"),
            {"@type": f"{_GENERIC}.v3.RouteConfiguration", **self._routes("bolt-routes")},
            *(self._cluster(name) for name in ("first", "second")),
            *(self._endpoints(name) for name in ("first", "second")),
        ]

    def _listener(self, protocol: int, name: str) -> dict[str, Any]:
        if protocol == BOLT:
            typed = {"@type": f"{_TYPE}/xds.type.v3.TypedStruct", "type_url": f"{_TYPE}/bolt", "value": {}}
            ads = {"ads": {}, "resource_api_version": "V3"}
            routes: dict[str, Any] = {"generic_rds": {"config_source": ads, "route_config_name": "bolt-routes"}}
        else:
            typed = {"@type": f"{_GENERIC}.codecs.dubbo.v3.DubboCodecConfig"}
            routes = {"route_config": self._routes("inline")}
        proxy = {
            "@type": f"{_GENERIC}.v3.GenericProxy",
            "stat_prefix": f"{name}-{self.versions['listener']}",
            "codec_config": {"name": name, "typed_config": typed},
            "filters": [
                {"name": "envoy.filters.generic.router", "typed_config": {"@type": f"{_GENERIC}.router.v3.Router"}}
            ],
            **routes,
        }
        return {
            "@type": f"{_TYPE}/envoy.config.listener.v3.Listener",
            "name": name,
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": self.ports[protocol]}},
            "filter_chains": [{"filters": [{"name": "rpc", "typed_config": proxy}]}],
        }

    def _routes(self, name: str) -> dict[str, Any]:
        number = self.versions["routes"]
        action = {
            "@type": f"{_GENERIC}.action.v3.RouteAction",
            "name": f"route-{number}",
            "cluster": ("first", "second")[number % 2],
            "timeout": "10s",
        }
        leaf = {"action": {"name": "route", "typed_config": action}}
        return {"name": name, "routes": {"on_no_match": leaf}}

    def _cluster(self, name: str) -> dict[str, Any]:
        ads = {"eds_config": {"ads": {}, "resource_api_version": "V3"}}
        return {
            "@type": f"{_TYPE}/envoy.config.cluster.v3.Cluster",
            "name": name,
            "type": "EDS",
            "eds_cluster_config": ads,
            "connect_timeout": f"{1 + self.versions['cluster'] % 5}s",
        }

    def _endpoints(self, name: str) -> dict[str, Any]:
        number = self.versions["endpoints"]
        used = self.upstreams if number % 3 == 0 else [self.upstreams[number % 2]]
        hosts = [
            {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": one.port}}}}
            for one in used
        ]
        return {
            "@type": f"{_TYPE}/envoy.config.endpoint.v3.ClusterLoadAssignment",
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": hosts}],
        }

    def close(self) -> None:
        with self.served:
            pass
        for upstream in self.upstreams:
            upstream.close()


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Mesh]:
    made = Mesh(tmp_path)
    yield made
    made.close()


def run(mesh: Mesh, changes: int, seconds: float) -> None:
    callers = [Caller(port, protocol) for protocol, port in mesh.ports.items() for _ in range(3)]
    kinds = itertools.cycle(mesh.versions)
    start = time.monotonic()
    for number in range(changes):
        mesh.change(next(kinds))
        time.sleep(max(0.0, start + (number + 1) * seconds / changes - time.monotonic()))
    # All that was pushed serves now, and the connections are with it.
    last = mesh.versions["listener"]
    served = {f"generic_proxy.{name}-{last}.downstream_cx_active": len(callers) // 2 for name in ("bolt", "dubbo")}
    wait_until(lambda: _open_connections(mesh) == served, 15)
    for caller in callers:
        caller.stop()
    assert [failure for caller in callers for failure in caller.failures] == []
    assert min(caller.answers for caller in callers) > changes
    assert all(upstream.calls for upstream in mesh.upstreams)
    assert mesh.served.pilot.nacks == []
    assert sum(mesh.served.proxy.stats("worker_refusals|task_failures|reactor_failures").values()) == 0


def _open_connections(mesh: Mesh) -> dict[str, int]:
    found = mesh.served.proxy.stats(r"^generic_proxy\..*\.downstream_cx_active$")
    return {name: value for name, value in found.items() if value}


def test_calls_on_lasting_connections_survive_changes_of_all_kinds(mesh: Mesh) -> None:
    run(mesh, 100, 4.0)


@pytest.mark.soak
def test_calls_survive_a_thousand_changes_in_thirty_seconds(mesh: Mesh) -> None:
    run(mesh, 1000, 30.0)
