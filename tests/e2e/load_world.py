"""The stage of the load tests: upstreams, a Pilot, the proxy with two workers, and clients, ended whatever happens."""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from mosn_xds.pilot import Pilot, ResourceSet
from mosn_xds.pilot.resources import CLUSTER, ENDPOINTS, LISTENER, ROUTES
from tests.e2e.load_mesh import ChangeKind, LoadMesh
from tests.e2e.load_tools import process_name, upstreams, wait_until
from tests.support.ports import PortAllocator
from tests.support.proxies import Proxy, ProxyKind
from tests.support.upstream import Upstream, switch_protocols

ROOT = Path(__file__).resolve().parents[2]
_QUIET_ANSWERS = 4
_TYPES = {ChangeKind.ROUTE: ROUTES, ChangeKind.CLUSTER: CLUSTER, ChangeKind.ENDPOINTS: ENDPOINTS}


class LoadWorld(contextlib.ExitStack):
    """See the module; a context that ends everything it holds."""

    def __init__(self, folder: Path, *, access_log: str = "", own_pilot: bool = True) -> None:
        super().__init__()
        self.folder = folder
        self.ports = PortAllocator()
        listening = self.enter_context(upstreams(folder, self.ports))
        websocket = Upstream("ws", default=switch_protocols())
        self.callback(websocket.close)
        self.mesh = LoadMesh(self.ports.take(), listening, websocket.port, access_log=access_log)
        self.resources = ResourceSet()
        self.mesh.push(self.resources)
        self.pilot = Pilot(self.resources) if own_pilot else None
        if self.pilot is not None:
            self.callback(self.pilot.stop)
        self.admin_port = self.ports.take()
        self.proxies: list[Proxy] = []

    def start(
        self,
        *options: str,
        kind: ProxyKind = ProxyKind.OURS,
        delta: bool = True,
        concurrency: int = 2,
        pilot_port: int | None = None,
        stdout: int | None = None,
        wait_ready: bool = True,
        engine: tuple[str, Path] | None = None,
    ) -> Proxy:
        """A proxy of two workers that is ready and serves the mesh. `engine` is one of `load_engine` and its folder."""
        port = pilot_port if pilot_port is not None else self.pilot.port if self.pilot is not None else 0
        found = self.mesh.bootstrap(self.admin_port, port, delta=delta)
        folder = self.folder / f"proxy-{len(self.proxies)}"
        chosen = ("--drain-time-s", "2", *options)
        prefix: tuple[str, ...] = ()
        if engine is not None:
            prefix = (sys.executable, "-m", "tests.e2e.load_engine", engine[0], str(engine[1]))
        proxy = Proxy.start(
            kind,
            found,
            folder,
            concurrency=concurrency,
            options=chosen,
            environment={"PYTHONPATH": str(ROOT)} if engine is not None else None,
            command_prefix=prefix,
            stdout=stdout,
            wait_ready=wait_ready,
        )
        self.proxies.append(proxy)
        self.callback(_end, proxy)
        return proxy

    def change(self, kind: ChangeKind) -> None:
        """Push the next state of this kind."""
        self.mesh.change(kind)
        self.mesh.push(self.resources)

    def change_served(self, kind: ChangeKind, proxy: Proxy) -> None:
        """Push the next state of this kind, and wait until the proxy has accepted it and its workers serve it."""
        before = max(generations(proxy))
        self.change(kind)
        self.wait_acked(_TYPES.get(kind, LISTENER))
        # What is accepted is a generation a moment later: the agent gathers what belongs together.
        wait_until(lambda: min(generations(proxy)) > before, 15)
        settle(proxy, quiet_s=0.1)

    def wait_acked(self, *type_urls: str, timeout_s: float = 60.0) -> None:
        """Until the proxy has accepted the present version of these types."""
        assert self.pilot is not None

        def acked(pilot: Pilot) -> bool:
            version = self.resources.version
            return all(s.acked.get(found) == version(found) for s in pilot.sessions for found in type_urls)

        assert self.pilot.wait_for(acked, timeout_s), f"{type_urls} are not acknowledged within {timeout_s} s"


def _end(proxy: Proxy) -> None:
    """At once: a second SIGTERM waits for nothing."""
    for _ in range(2):
        with contextlib.suppress(ProcessLookupError):
            proxy.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            proxy.process.wait(0.05)
    proxy.stop()


def workers(proxy: Proxy) -> list[int]:
    """Pids of the workers that are there, in order of their slots."""
    found = [(process_name(pid), pid) for pid in proxy.pids()]
    return [pid for name, pid in sorted(found) if name.startswith("mosn-xds-w")]


def spawner(proxy: Proxy) -> int:
    (found,) = [pid for pid in proxy.pids() if process_name(pid) == "mosn-xds-spawn"]
    return found


def generations(proxy: Proxy) -> list[int]:
    """Which generation each worker serves."""
    return [worker["generation"] for worker in json.loads(proxy.admin("/xds")[1])["workers"]]


def settle(proxy: Proxy, *, quiet_s: float = 0.15, timeout_s: float = 15.0) -> None:
    """Wait until all workers serve one generation, and for a while the same: for so long, and whenever the agent, which may
    have little of the machine, was asked meanwhile."""
    deadline = time.monotonic() + timeout_s
    before: Sequence[int] = ()
    since_s = time.monotonic()
    same = 0
    while time.monotonic() < deadline:
        now = generations(proxy)
        if now != before or len(set(now)) != 1:
            before, since_s, same = now, time.monotonic(), 0
        elif (same := same + 1) >= _QUIET_ANSWERS and time.monotonic() - since_s >= quiet_s:
            return
        time.sleep(0.02)
    raise TimeoutError(f"the workers serve {before}")
