"""Every bootstrap that pilot-agent wrote, started with the command line that it used, in a folder laid out like its own.

Its paths are relative: pilot-agent serves ADS on a unix socket beside the configuration, and secrets on another.
"""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from mosn_xds.pilot import Pilot
from tests.e2e.conftest import enter_network, skip_unless_free
from tests.support.client import Connection, Response, request_bytes
from tests.support.istio import Mesh, Session
from tests.support.proxies import Proxy, ProxyKind
from tests.support.recordings import ROOT
from tests.support.upstream import Upstream, respond

BOOTSTRAPS = sorted((ROOT / "bootstrap").glob("*.json"))
CONFIG = "etc/istio/proxy/envoy-rev.json"
SOCKET = "etc/istio/proxy/XDS"
SECRETS = "var/run/secrets/workload-spiffe-uds/socket"


@pytest.fixture(params=BOOTSTRAPS, ids=lambda path: path.stem)
def proxy(request: pytest.FixtureRequest) -> Iterator[Proxy]:
    recorded: Path = request.param
    session = {"router": "gateway-delta", "sidecar-sotw": "bookinfo-sotw", "sidecar-none": "loop-delta"}
    with ExitStack() as stack:
        own = enter_network(stack)
        # Short: it is part of a unix socket's path.
        tmp_path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mx")))
        (tmp_path / CONFIG).parent.mkdir(parents=True)
        (tmp_path / CONFIG).write_text(recorded.read_text())
        mesh = stack.enter_context(Mesh(Session.get(session.get(recorded.stem, "bookinfo-delta"))))
        mesh.replay.advance()
        if not own:
            fixed = [("127.0.0.1", 15000), ("127.0.0.1", 15020), ("0.0.0.0", 15021), ("0.0.0.0", 15090)]
            skip_unless_free([*mesh.bound_addresses(), *fixed])
        (tmp_path / SECRETS).parent.mkdir(parents=True)
        for path in (SOCKET, SECRETS):
            stack.callback(Pilot(mesh.resources, f"unix:{tmp_path / path}").stop)
        agent = Upstream("pilot-agent", "127.0.0.1", 15020, respond(200, b"ready"))
        stack.callback(agent.close)
        log_path = tmp_path / "proxy.log"
        with log_path.open("ab") as log:
            process = subprocess.Popen(
                [str(ProxyKind.OURS.binary()), *recorded.with_suffix(".args").read_text().split()],
                cwd=tmp_path,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=dict(os.environ),
            )
        started = Proxy(ProxyKind.OURS, process, 15000, tmp_path, log_path)
        stack.callback(started.kill)
        started.wait_ready()
        yield started


def get(port: int, path: str, headers: list[tuple[str, str]]) -> Response:
    with Connection(port) as connection:
        connection.send(request_bytes("GET", path, [("host", f"localhost:{port}"), *headers]))
        return connection.read_response()


def test_recorded_command_serves_both_static_listeners_and_what_pilot_says(proxy: Proxy) -> None:
    health = get(15021, "/healthz/ready", [])
    assert (health.status, health.body) == (200, b"ready")
    stats = get(15090, "/stats/prometheus", [("accept-encoding", "gzip")])
    assert stats.status == 200
    assert stats.get("content-encoding") in (None, "gzip")
    assert b"envoy_server_live{} 1" in stats.body
    assert proxy.stats("^server.worker_refusals$") == {"server.worker_refusals": 0}
    ports = [int(line.rpartition(":")[2]) for line in proxy.admin("/listeners")[1].splitlines()]
    assert {15021, 15090} < set(ports)
    assert not [line for line in proxy.log_tail(1000).splitlines() if "][critical]" in line or "][error]" in line]
