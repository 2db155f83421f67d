"""The same keys find the same hosts as in a real Envoy: ring hash and Maglev, weighted, by address and by host name."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from xxhash import xxh64_intdigest

from mosn_xds.data.balance.ring_hash import MaglevTable, Ring
from tests.data.balance.hosts import FakeHost, maglev, ring_of
from tests.support.client import Connection, request_bytes
from tests.support.ports import PortAllocator
from tests.support.proxies import Proxy, ProxyKind

pytestmark = pytest.mark.envoy

WEIGHTS = [1, 2, 5, 3]
KEYS = [f"user-{i}" for i in range(100)]


@pytest.fixture(scope="module")
def upstreams() -> Iterator[list[int]]:
    """Ports of servers that answer with their own port."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in WEIGHTS]
    for listener in listeners:
        threading.Thread(target=_serve, args=(listener,), daemon=True).start()
    yield [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()


def _serve(listener: socket.socket) -> None:
    body = b"%d" % listener.getsockname()[1]
    while True:
        try:
            peer, _ = listener.accept()
        except OSError:  # closed: the test is over
            return
        threading.Thread(target=_answer, args=(peer, body), daemon=True).start()


def _answer(peer: socket.socket, body: bytes) -> None:
    with peer:
        while peer.recv(65536):
            peer.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))


CLUSTERS: dict[str, dict[str, Any]] = {
    "ring": {"lb_policy": "RING_HASH"},
    "small": {"lb_policy": "RING_HASH", "ring_hash_lb_config": {"minimum_ring_size": 7, "maximum_ring_size": 64}},
    "murmur": {"lb_policy": "RING_HASH", "ring_hash_lb_config": {"hash_function": "MURMUR_HASH_2"}},
    "names": {
        "type": "STRICT_DNS",  # Envoy hashes host names of no other type
        "lb_policy": "RING_HASH",
        "common_lb_config": {"consistent_hashing_lb_config": {"use_hostname_for_hashing": True}},
    },
    "maglev": {"lb_policy": "MAGLEV"},
    "smallmag": {"lb_policy": "MAGLEV", "maglev_lb_config": {"table_size": 251}},
}


def _socket_address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _bootstrap(ports: list[int], port: int, admin_port: int) -> dict[str, Any]:
    endpoints = [
        {
            "endpoint": {"address": _socket_address(upstream), "hostname": f"host-{index}.example"},
            "load_balancing_weight": weight,
        }
        for index, (upstream, weight) in enumerate(zip(ports, WEIGHTS, strict=True))
    ]
    clusters = [
        {
            "name": name,
            "type": "STATIC",
            "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
            **settings,
        }
        for name, settings in CLUSTERS.items()
    ]
    routes = [
        {
            "match": {"path": f"/{name}"},
            "route": {"cluster": name, "hash_policy": [{"header": {"header_name": "x-key"}}]},
        }
        for name in CLUSTERS
    ]
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "h",
        "route_config": {"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": routes}]},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
            }
        ],
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    return {
        "admin": {"address": _socket_address(admin_port)},
        "static_resources": {
            "listeners": [{"name": "l", "address": _socket_address(port), "filter_chains": [{"filters": filters}]}],
            "clusters": clusters,
        },
    }


@pytest.fixture(scope="module")
def envoy(upstreams: list[int], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Proxy, int]]:
    ports = PortAllocator()
    port = ports.take()
    folder: Path = tmp_path_factory.mktemp("envoy")
    proxy = Proxy.start(ProxyKind.ENVOY, _bootstrap(upstreams, port, ports.take()), folder, concurrency=1)
    yield proxy, port
    proxy.stop()


def _ours(name: str, upstreams: list[int]) -> Ring[FakeHost] | MaglevTable[FakeHost]:
    members = [
        FakeHost(f"127.0.0.1:{port}", weight, hostname=f"host-{index}.example")
        for index, (port, weight) in enumerate(zip(upstreams, WEIGHTS, strict=True))
    ]
    shares = [weight / sum(WEIGHTS) for weight in WEIGHTS]
    if name == "maglev":
        return maglev(members, shares, size=65537)
    if name == "smallmag":
        return maglev(members, shares, size=251)
    minimum, maximum = (7, 64) if name == "small" else (1024, 8 << 20)
    return ring_of(
        members,
        shares,
        minimum_size=minimum,
        maximum_size=maximum,
        murmur=name == "murmur",
        use_hostname=name == "names",
    )


@pytest.mark.parametrize("name", CLUSTERS)
def test_a_hundred_keys_find_the_same_hosts_as_in_envoy(
    name: str, envoy: tuple[Proxy, int], upstreams: list[int]
) -> None:
    proxy, port = envoy
    table = _ours(name, upstreams)
    ours = [table.pick(xxh64_intdigest(key.encode()), 0).text.rpartition(":")[2] for key in KEYS]
    theirs = []
    with Connection(port) as client:
        for key in KEYS:
            client.send(request_bytes("GET", f"/{name}", [("host", "a"), ("x-key", key)]))
            theirs.append(client.read_response().body.decode())
    assert ours == theirs
    assert len(set(theirs)) > 1
    stats = proxy.stats(f"^cluster.{name}.(ring_hash_lb|maglev_lb)")
    figures = {key.rpartition(".")[2]: value for key, value in stats.items()}
    if isinstance(table, Ring):
        assert figures == {
            "size": table.size,
            "min_hashes_per_host": table.min_points_per_host,
            "max_hashes_per_host": table.max_points_per_host,
        }
    else:
        assert figures == {
            "min_entries_per_host": table.min_entries_per_host,
            "max_entries_per_host": table.max_entries_per_host,
        }
