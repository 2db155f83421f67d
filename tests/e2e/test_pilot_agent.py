"""What pilot-agent asks the proxy that it started, on the `loop` recording: answered as Envoy answers.

The queries are those of Istio's pilot/cmd/pilot-agent/status, under the stats configuration that pilot-agent writes.
"""

import json
import socket
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.conftest import enter_network, skip_unless_free
from tests.support.istio import Mesh, Session, without_istio_filters
from tests.support.proxies import Proxy, ProxyKind
from tests.support.recordings import ROOT

UPDATES = r"^(cluster_manager\.cds|listener_manager\.lds)\.(update_success|update_rejected)$"
STATE = r"^(server\.state|listener_manager\.workers_started)"
CONNECTIONS = r"downstream_cx_active$"

KINDS = [pytest.param(ProxyKind.ENVOY, marks=pytest.mark.envoy), ProxyKind.OURS]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.value)
def proxy(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Proxy]:
    kind: ProxyKind = request.param
    if kind.binary() is None:
        pytest.skip(f"{kind.value} is not installed")
    stats_config = json.loads((ROOT / "bootstrap" / "sidecar-none.json").read_text())["stats_config"]
    # With EXIT_ON_ZERO_ACTIVE_CONNECTIONS pilot-agent asks for connections, and has them counted.
    stats_config["stats_matcher"]["inclusion_list"]["patterns"].append({"suffix": "downstream_cx_active"})
    with ExitStack() as stack:
        own = enter_network(stack)
        change = without_istio_filters if kind is ProxyKind.ENVOY else None
        mesh = stack.enter_context(Mesh(Session.get("loop-delta"), change))
        mesh.replay.advance()
        if not own:
            skip_unless_free([*mesh.bound_addresses(), ("127.0.0.1", 15000)])
        started = mesh.start(kind, tmp_path, 15000, bootstrap_fields={"stats_config": stats_config})
        stack.callback(started.kill)
        yield started


def ask(proxy: Proxy, pattern: str) -> dict[str, int]:
    """As pilot-agent asks and reads: ``name: value`` lines of what was used."""
    status, text = proxy.admin(f"/stats?usedonly&filter={urllib.parse.quote(pattern)}")
    assert status == 200
    return {name: int(value) for name, value in (line.split(": ") for line in text.splitlines())}


def test_readiness_is_seen_from_updates_and_state(proxy: Proxy) -> None:
    updates = ask(proxy, UPDATES)
    assert set(updates) == {"cluster_manager.cds.update_success", "listener_manager.lds.update_success"} | {
        name for name in updates if name.endswith("rejected")
    }
    assert all(value >= 1 for name, value in updates.items() if name.endswith("update_success"))
    assert not any(value for name, value in updates.items() if name.endswith("update_rejected"))
    # The state was set to 0, which `usedonly` must not hide.
    assert ask(proxy, STATE) == {"listener_manager.workers_started": 1, "server.state": 0}


def test_connections_are_counted_until_they_are_drained(proxy: Proxy) -> None:
    with socket.create_connection(("127.0.0.1", 8081)) as client:
        client.sendall(b"GET /teapot HTTP/1.1\r\nhost: catalog\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 418")
        assert eventually(proxy, "listener.127.0.0.1_8081.downstream_cx_active", 1)
        assert proxy.admin("/drain_listeners?inboundonly&graceful", method="POST")[0] == 200
        assert proxy.admin("/drain_listeners?inboundonly&graceful&skip_exit", method="POST")[0] == 200
        assert proxy.admin("/drain_listeners?inboundonly&graceful")[0] == 405
        # What comes in drains, what goes out does not.
        client.sendall(b"GET /teapot HTTP/1.1\r\nhost: catalog\r\n\r\n")
        assert b"connection: close" not in client.recv(4096)
    assert eventually(proxy, "listener.127.0.0.1_8081.downstream_cx_active", 0)
    assert proxy.admin("/ready")[0] == 200


def eventually(proxy: Proxy, name: str, value: int, timeout_s: float = 5.0) -> bool:
    """Whether the figure has the value before long; workers report theirs every second."""
    deadline = time.monotonic() + timeout_s
    while ask(proxy, CONNECTIONS).get(name) != value:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
