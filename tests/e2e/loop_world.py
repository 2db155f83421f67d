"""The mesh of the `loop` recording on loopback: servers on the recorded endpoints, and a proxy that follows the stream.

Each world is a network of its own, so that Envoy and ours serve the same addresses side by side, and the differential
harness' cases compare what they did. Endpoints between which a balancer may choose freely share a name; those of `orders`,
which a hash chooses, have their own.
"""

import contextlib
import re
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.differential.bed import Bed
from tests.differential.normal import NormalForm
from tests.differential.pair import Pair
from tests.differential.world import HeaderInput, LogLine, Outcome, World
from tests.support.authority import Authority
from tests.support.client import Connection, Headers, Response, request_bytes
from tests.support.http2_upstream import Http2Step, Http2Upstream
from tests.support.istio import Mesh, Session, without_istio_filters
from tests.support.namespace import Network
from tests.support.ports import PortAllocator
from tests.support.proxies import ProxyKind
from tests.support.tcp_upstream import TcpUpstream, name_and_echo
from tests.support.upstream import SeenRequest, Step, Upstream

CATALOG = "catalog.shop.svc.cluster.local"
ORDERS = "orders.shop.svc.cluster.local"
FRONT = "front.shop.svc.cluster.local"
ANY = "any.shop.svc.cluster.local"

HTTP_ENDPOINTS = {
    ("127.0.11.11", 7081): "catalog-v1",
    ("127.0.11.12", 7081): "catalog-v1",
    ("127.0.11.13", 7081): "catalog-v2",
    ("127.0.11.21", 7081): "orders-4",
    ("127.0.11.22", 7081): "orders-5",
    ("127.0.11.11", 7095): "any",
    ("127.0.11.12", 7095): "any",
    ("127.0.11.13", 7095): "any",
    ("127.0.0.1", 6080): "front",
}
HTTP2_ENDPOINTS = {
    ("127.0.11.21", 7082): "orders-grpc-4",
    ("127.0.11.22", 7082): "orders-grpc-5",
}
TCP_ENDPOINTS = {("127.0.11.31", 7090): "ledger"}
ENDPOINTS = HTTP_ENDPOINTS | HTTP2_ENDPOINTS | TCP_ENDPOINTS

MESH = Authority()
"""Who vouches for the workloads, in both worlds."""

INBOUND = ("7080", "7079")
LISTENERS = (*INBOUND, "8080", "8081", "8082", "8090", "8095")

_SAMPLED = re.compile("<uuid [0-9a-f]>")
_FIELDS = 22
_ADMIN_PORT = 15000


@dataclass(frozen=True)
class IstioLine(LogLine):
    """An access log line in Istio's format. `upstream` is the endpoint's name, the addresses are without their ports."""

    forwarded_for: str = ""
    authority: str = ""
    upstream: str = ""
    upstream_local: str = ""
    local: str = ""
    remote: str = ""
    server_name: str = ""
    termination: str = ""
    transport_failure: str = ""
    has_times: bool = False


def parse_line(text: str) -> IstioLine | None:
    """One line of Istio's format; None for any other."""
    try:
        fields = shlex.split(text)
    except ValueError:
        return None
    if len(fields) != _FIELDS or len(fields[1].split(" ")) != 3:
        return None
    method, path, protocol = fields[1].split(" ")
    host, _, port = fields[15].rpartition(":")
    endpoint = (host, int(port)) if port.isdigit() else ("", 0)
    return IstioLine(
        tag=fields[12],
        status=fields[2],
        flags=fields[3],
        details=fields[4],
        termination=fields[5],
        transport_failure=fields[6],
        received=fields[7],
        sent=fields[8],
        has_times=fields[9].isdigit() and fields[10].isdigit(),
        forwarded_for=fields[11],
        authority=fields[14],
        upstream=ENDPOINTS.get(endpoint) or fields[15],
        cluster=fields[16],
        upstream_local=_host(fields[17]),
        local=fields[18],
        remote=_host(fields[19]),
        server_name=fields[20],
        route=fields[21],
        protocol=protocol,
        method=method,
        path=path,
        attempts="",
    )


def _host(address: str) -> str:
    return address.rpartition(":")[0] or address


class UnsampledForm(NormalForm):
    """Istio samples one request of a hundred by chance, which shows in a digit of its id; only its own build of Envoy tells
    peers who it is."""

    def headers(self, pairs: Headers) -> str:
        return super().headers([pair for pair in pairs if not pair[0].lower().startswith("x-envoy-peer-metadata")])

    def header(self, name: str, value: str) -> str:
        return _SAMPLED.sub("<uuid>", super().header(name, value))


class LoopWorld(World):
    """See the module. A listener's name is its port."""

    def __init__(self, kind: ProxyKind, folder: Path, ports: PortAllocator, session: Session) -> None:
        super().__init__(kind, Bed((), ()), folder, ports)
        self.normal = UnsampledForm({})
        self.network = Network()
        self._session = session
        self._mesh: Mesh | None = None

    @property
    def mesh(self) -> Mesh:
        """The running Pilot."""
        if self._mesh is None:
            raise RuntimeError("the world is not started")
        return self._mesh

    def start(self) -> None:
        for (host, port), name in HTTP_ENDPOINTS.items():
            self._upstreams[f"{name} {host}:{port}"] = Upstream(name, host, port)
        for (host, port), name in HTTP2_ENDPOINTS.items():
            self._upstreams[f"{name} {host}:{port}"] = Http2Upstream(name, host, port)
        for (host, port), name in TCP_ENDPOINTS.items():
            self._upstreams[f"{name} {host}:{port}"] = TcpUpstream(name, host, port, name_and_echo)
        change = without_istio_filters if self.kind is ProxyKind.ENVOY else None
        self._mesh = Mesh(self._session, change, MESH)
        self._mesh.replay.advance()
        self._proxy = self._mesh.start(
            self.kind, self.folder, _ADMIN_PORT, options=("--component-log-level", "misc:error")
        )

    def stop(self) -> None:
        super().stop()
        if self._mesh is not None:
            self._mesh.pilot.stop()
        self.network.close()

    def listener_port(self, name: str) -> int:
        return int(name)

    def listener_host(self, name: str) -> str:
        """The inbound listener has the workload's address, the others are on loopback's first."""
        return "127.0.11.1" if name in INBOUND else "127.0.0.1"

    def compose(
        self, tag: str, method: str, path: str, headers: HeaderInput, body: bytes, *, host: str | None, version: str
    ) -> bytes:
        """With the tag as the user agent, which Istio's access log holds."""
        given = list(headers.items()) if isinstance(headers, Mapping) else list(headers)
        return super().compose(tag, method, path, [("user-agent", tag), *given], body, host=host, version=version)

    def named(self, name: str) -> list[Upstream]:
        """The HTTP servers of that name."""
        return [one for one in self._upstreams.values() if isinstance(one, Upstream) and one.name == name]

    def script(self, name: str, *steps: Step | Http2Step) -> None:
        """Each server of that name answers its next requests with these steps."""
        for server in self.named(name):
            server.script(*steps)

    def seen(self, *names: str, count: int = 0, timeout_s: float = 5.0) -> list[SeenRequest]:
        """What the servers of these names saw in this scenario, once it is at least `count` requests."""
        servers = [server for name in names for server in self.named(name)]
        deadline = time.monotonic() + timeout_s
        while len(found := [seen for server in servers for seen in list(server.requests)]) < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{names} saw {len(found)} requests, not {count}")
            time.sleep(0.01)
        return found

    def quietly(self, method: str, path: str, headers: Headers, *, listener: str, host: str) -> Response:
        """A request that is not compared, for it is not the same twice: `forget` it with what the servers saw."""
        with Connection(self.listener_port(listener), host=self.listener_host(listener)) as connection:
            connection.send(request_bytes(method, path, [("host", host), ("user-agent", "quiet"), *headers]))
            return connection.read_response(method)

    def forget(self) -> None:
        """Leave what the servers saw out of the comparison."""
        for server in self._upstreams.values():
            if isinstance(server, Upstream):
                server.forget()

    def end(self) -> list[str]:
        # Two workers, two endpoints: what happened is compared, not in which order it got here.
        seen = [
            f"upstream {server.name} saw {self.normal.request(request)}"
            for server in self._upstreams.values()
            if isinstance(server, Upstream)
            for request in list(server.requests)
        ]
        logged = []
        for name, count in self._awaited_lines.items():
            lines = self._wait_log(name, lambda found, count=count: len(found) >= count)  # type: ignore[misc]
            logged += [f"log {name}: {vars(line)}" for line in lines]
        return [*self._journal, *sorted(seen), *sorted(logged)]

    def log_tagged(self, tag: str) -> LogLine:
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            for listener in LISTENERS:
                for line in self._read_log(listener):
                    if line.tag == tag:
                        return line
            time.sleep(0.01)
        raise AssertionError(f"no access log line for {tag}")

    def _read_log(self, listener: str) -> list[LogLine]:
        with contextlib.suppress(FileNotFoundError), (self.folder / "proxy.log").open("rb") as file:
            file.seek(self._log_offsets.get("proxy", 0))
            whole = file.read().rpartition(b"\n")[0].decode("latin-1").splitlines()
            address = f"{self.listener_host(listener)}:{listener}"
            entries = [line for line in map(parse_line, whole) if line is not None and line.local == address]
            return [entry for entry in entries if entry.tag == "-" or entry.tag.startswith(f"{self._scenario}-")]
        return []


class LoopPair(Pair):
    """Envoy and ours on the same stream."""

    def __init__(self, folder: Path, ports: PortAllocator, session: Session) -> None:
        super().__init__(Bed((), ()), folder, ports)
        kinds = [world.kind for world in self.worlds]
        self.loops = [LoopWorld(kind, folder / f"{at}-{kind.value}", ports, session) for at, kind in enumerate(kinds)]
        self.worlds = list(self.loops)

    def _together(self, work: Callable[[Outcome], None]) -> list[Outcome]:
        networks = {world.name: world.network for world in self.loops}

        def inside(outcome: Outcome) -> None:
            with networks[outcome.world.name].entered():
                work(outcome)

        return super()._together(inside)
