"""``python -m bench``: our proxy beside a real Envoy, CPU per request and latency, in one run on one machine.

Ours runs in both forms: interpreted, and compiled if `make compiled` has installed that. The proxies run with
``--concurrency 1`` and share one core; the upstream and the load have another. For each scenario all are started, warmed
up, and then measured in turn, round after round, the first place alternating, so that whatever else the machine does hits
all alike. What counts is the ratio of medians: absolute figures belong to the machine.
CPU is user and system time of the proxy's whole process tree. The table goes to stdout, everything to a JSON file.
"""

import argparse
import contextlib
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import chains, peers
from bench.cpu import cpu_s, memory_mib, processor_name
from tests.support.ports import PortAllocator
from tests.support.proxies import Proxy, ProxyKind

HERE = Path(__file__).parent
COMPILED = HERE.parent / ".venv-compiled" / "bin" / "mosn-xds-proxy"
CONNECTIONS = 32
BULK_CONNECTIONS = 4
HTTP2_CONNECTIONS = 8
HTTP2_STREAMS = 16
HANDSHAKES = 8
RPC_CONNECTIONS = 8
RPC_WINDOW = 16


@dataclass(frozen=True)
class Scenario:
    """One comparison. `unit` is what the CPU is divided by; `target` the ratio to Envoy that is to be reached."""

    name: str
    config: Callable[[ProxyKind, int, int, int], chains.Config]
    server: str
    load: str
    unit: str
    target: float
    host: str = "test"


SCENARIOS = [
    Scenario("http bare", chains.bare, "nginx", "http", "us/request", 0.8),
    Scenario("http mesh", chains.mesh, "nginx", "http", "us/request", 0.8, chains.MESH_HOST),
    Scenario("http2 cleartext", chains.bare, "nginx", "http2", "us/request", 0.9),
    Scenario("http to http2", chains.http2_upstream, "nginx http2", "http", "us/request", 0.9),
    Scenario("http2 both sides", chains.http2_upstream, "nginx http2", "http2", "us/request", 0.9),
    Scenario("http2 over mtls", chains.http2_over_mtls, "nginx http2 mtls", "http2", "us/request", 0.9),
    Scenario("grpc unary", chains.grpc, "nginx http2", "grpc", "us/call", 0.9),
    Scenario("http over tls", chains.tls, "nginx", "https", "us/request", 0.9),
    Scenario("handshakes", chains.mutual_tls, "nginx", "handshakes", "us/handshake", 0.9),
    Scenario("dubbo", chains.rpc("dubbo"), "rpc", "dubbo", "us/call", 0.8),
    # Envoy knows no Bolt: beside it stands its Dubbo, with content of the same size.
    Scenario("bolt", chains.rpc("bolt"), "rpc", "bolt", "us/call", 0.8),
    Scenario("tcp ping-pong", chains.tcp, "echo", "pingpong", "us/exchange", 1.0),
    Scenario("tcp download", chains.tcp, "source", "download", "s/GB", 1.1),
    Scenario("tcp upload", chains.tcp, "sink", "upload", "s/GB", 1.1),
]
IDLE_TARGET_PERCENT = 0.2


@dataclass(frozen=True)
class Subject:
    """A proxy that is measured, under the name that it has in tables and on the command line."""

    name: str
    kind: ProxyKind
    binary: Path | None

    @property
    def installed(self) -> bool:
        return self.binary is not None and self.binary.exists()


def subjects() -> list[Subject]:
    """All there are, installed or not. The first is what the others are compared with."""
    return [
        Subject("envoy", ProxyKind.ENVOY, ProxyKind.ENVOY.binary()),
        Subject("interpreted", ProxyKind.OURS, ProxyKind.OURS.binary()),
        Subject("compiled", ProxyKind.OURS, COMPILED),
    ]


@dataclass
class Round:
    """One measurement of one proxy."""

    cpu: float
    rate: float
    p50_ms: float | None
    p99_ms: float | None
    errors: int


@dataclass
class Result:
    """All rounds of one scenario for one proxy; `cpu` in the scenario's unit."""

    scenario: str
    proxy: str
    unit: str
    rounds: list[Round] = field(default_factory=list)
    memory_mib: float = 0.0
    idle_percent: float = 0.0

    def median(self, name: str) -> float | None:
        """The median of a figure over the rounds; None where it is not measured."""
        values = [getattr(item, name) for item in self.rounds]
        return None if None in values or not values else statistics.median(values)


class Bench:
    """Runs scenarios. `proxy_core` and `load_core` are None where cores cannot be chosen."""

    def __init__(self, folder: Path, rounds: int, seconds: float, subjects: list[Subject]) -> None:
        self._folder = folder
        self._rounds = rounds
        self._seconds = seconds
        self._subjects = subjects
        self._ports = PortAllocator()
        cores = sorted(os.sched_getaffinity(0))
        pin = len(cores) > 1 and shutil.which("taskset") is not None
        self.proxy_core = cores[0] if pin else None
        self.load_core = cores[1] if pin else None

    def run(self, scenario: Scenario) -> list[Result]:
        """All rounds of one scenario, one result per proxy."""
        upstream_port = self._ports.take()
        results = {one: Result(scenario.name, one.name, scenario.unit) for one in self._subjects}
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._server(scenario, upstream_port))
            running = {one: stack.enter_context(self._proxy(scenario, one, upstream_port)) for one in self._subjects}
            for proxy, port in running.values():
                self._load(scenario, proxy.kind, port, 1.0)
            time.sleep(1.0)
            for number in range(self._rounds):
                order = self._subjects if number % 2 == 0 else self._subjects[::-1]
                for one in order:
                    results[one].rounds.append(self._measure(scenario, *running[one]))
            for one, (proxy, _) in running.items():
                results[one].memory_mib = memory_mib(proxy.pids())
            self._idle(running, results)
        return list(results.values())

    def _measure(self, scenario: Scenario, proxy: Proxy, port: int) -> Round:
        pids = proxy.pids()
        before = cpu_s(pids)
        load = self._load(scenario, proxy.kind, port, self._seconds)
        used_s = cpu_s(pids) - before
        scale = 1e9 if scenario.unit == "s/GB" else 1e6
        per_unit = used_s / max(load.units, 1) * scale
        return Round(per_unit, load.units / load.seconds, load.p50_ms, load.p99_ms, load.errors)

    def _idle(self, running: dict[Subject, tuple[Proxy, int]], results: dict[Subject, Result]) -> None:
        """What the proxies cost while nothing happens, over as long as two rounds, behind two seconds of rest."""
        time.sleep(2.0)
        pids = {one: proxy.pids() for one, (proxy, _) in running.items()}
        before = {one: cpu_s(found) for one, found in pids.items()}
        span_s = max(self._seconds * 2, 5.0)
        time.sleep(span_s)
        for one, found in pids.items():
            results[one].idle_percent = (cpu_s(found) - before[one]) / span_s * 100

    def _load(self, scenario: Scenario, kind: ProxyKind, port: int, seconds: float) -> peers.Load:
        if scenario.load == "http":
            return peers.http_load(self._folder, port, scenario.host, "/", CONNECTIONS, seconds, self.load_core)
        if scenario.load == "https":
            load = self.load_core
            return peers.http_load(self._folder, port, scenario.host, "/", CONNECTIONS, seconds, load, scheme="https")
        if scenario.load == "handshakes":
            client = chains.certificate("client")
            return peers.handshake_load(self._folder, client, port, HANDSHAKES, seconds, self.load_core)
        if scenario.load == "grpc":
            return peers.grpc_load(self._folder, port, HTTP2_CONNECTIONS, HTTP2_STREAMS, seconds, self.load_core)
        if scenario.server == "rpc":
            protocol = "dubbo" if kind is ProxyKind.ENVOY else scenario.load
            return peers.rpc_load(protocol, port, RPC_CONNECTIONS, RPC_WINDOW, seconds, self.load_core)
        if scenario.load == "http2":
            return peers.http2_load(port, scenario.host, "/", HTTP2_CONNECTIONS, HTTP2_STREAMS, seconds, self.load_core)
        count = CONNECTIONS if scenario.load == "pingpong" else BULK_CONNECTIONS
        return peers.tcp_load(scenario.load, port, count, seconds, self.load_core)

    def _server(self, scenario: Scenario, port: int) -> contextlib.AbstractContextManager[None]:
        if scenario.server == "nginx":
            return peers.nginx(self._folder, port, self.load_core)
        if scenario.server == "nginx http2":
            return peers.nginx_http2(self._folder, port, self.load_core)
        if scenario.server == "nginx http2 mtls":
            tls = (chains.certificate("upstream"), chains.authority().root)
            return peers.nginx_http2(self._folder, port, self.load_core, tls)
        if scenario.server == "rpc":
            return peers.rpc_server(port, self.load_core)
        return peers.tcp_server(scenario.server, port, self.load_core)

    @contextlib.contextmanager
    def _proxy(self, scenario: Scenario, subject: Subject, upstream_port: int) -> Iterator[tuple[Proxy, int]]:
        admin_port, port = self._ports.take(), self._ports.take()
        proxy = Proxy.start(
            subject.kind,
            scenario.config(subject.kind, admin_port, port, upstream_port),
            self._folder / f"{scenario.name}-{subject.name}".replace(" ", "-"),
            binary=subject.binary,
            concurrency=1,
            # As Istio sets it; the differential suite's 20 ms would be a cost that nobody pays.
            flush_interval_ms=1000,
            command_prefix=peers.pinned(self.proxy_core),
        )
        try:
            yield proxy, port
        finally:
            proxy.stop()


def cost_table(results: list[list[Result]]) -> Table:
    """CPU per unit of work of each proxy, what share of the first one's (Envoy's) the others need, the target for that."""
    table = Table(title="CPU of the proxy, user and system, medians; in brackets the share of Envoy's")
    names = [item.proxy for item in results[0]] if results else []
    for name in ("scenario", "unit", *names, "target"):
        table.add_column(name, justify="left" if name in ("scenario", "unit") else "right")
    for scenario, compared in zip(scenarios_of(results), results, strict=True):
        base = compared[0].median("cpu")
        cells = [_number(base)]
        for item in compared[1:]:
            cost = item.median("cpu")
            ratio = cost / base if cost and base else 0.0
            colour = "green" if ratio <= scenario.target else "red"
            cells.append(f"{_number(cost)} ([{colour}]{ratio:.2f}[/])")
        table.add_row(scenario.name, scenario.unit, *cells, f"{scenario.target:.1f}")
    return table


def detail_table(results: list[list[Result]]) -> Table:
    """Latency, throughput, memory, idle cost and errors of each proxy."""
    table = Table(title=f"Beside it; idle is to be under {IDLE_TARGET_PERCENT} % of a core")
    for name in ("scenario", "proxy", "p50 ms", "p99 ms", "per second", "MiB", "idle %", "errors"):
        table.add_column(name, justify="left" if name in ("scenario", "proxy") else "right")
    for pair in results:
        for item in pair:
            table.add_row(
                item.scenario,
                item.proxy,
                *(_number(item.median(name)) for name in ("p50_ms", "p99_ms", "rate")),
                f"{item.memory_mib:.0f}",
                f"{item.idle_percent:.2f}",
                str(sum(one.errors for one in item.rounds)),
            )
    return table


def scenarios_of(results: list[list[Result]]) -> list[Scenario]:
    """The scenarios of the results, in their order."""
    return [next(item for item in SCENARIOS if item.name == pair[0].scenario) for pair in results]


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    if value >= 1e6:
        return f"{value / 1e6:,.0f} M"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def main() -> int:
    """Run, print, write. Exit status 0 whatever the ratios; 1 when something is missing."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each proxy and scenario")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of one measurement")
    parser.add_argument("--only", action="append", metavar="NAME", help="scenarios whose name contains this")
    parser.add_argument(
        "--proxy", action="append", choices=[one.name for one in subjects()], help="leave the others out"
    )
    parser.add_argument(
        "--json", type=Path, default=None, help="where the figures go; bench/results/TIME.json unless set"
    )
    given = parser.parse_args()
    measured = [one for one in subjects() if given.proxy is None or one.name in given.proxy]
    missing = [one.name for one in measured if not one.installed]
    if given.proxy is None and missing == ["compiled"]:
        print("the compiled form is not installed (make compiled): left out", file=sys.stderr)
        measured = [one for one in measured if one.installed]
    elif missing:
        print(f"not installed: {', '.join(missing)}", file=sys.stderr)
        return 1
    wanted = [item for item in SCENARIOS if given.only is None or any(part in item.name for part in given.only)]
    console = Console()
    results: list[list[Result]] = []
    with tempfile.TemporaryDirectory(prefix="mosn-xds-bench-") as folder:
        Path(folder).chmod(0o755)  # nginx's workers are another user, who reads its files here
        bench = Bench(Path(folder), given.rounds, given.seconds, measured)
        for scenario in wanted:
            console.print(f"{scenario.name}: {given.rounds} rounds of {given.seconds:g} s for each proxy", style="dim")
            results.append(bench.run(scenario))
    console.print(cost_table(results))
    console.print(detail_table(results))
    path = given.json or HERE / "results" / time.strftime("%Y%m%d-%H%M%S.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    machine = {"processor": processor_name(), "kernel": platform.release(), "python": platform.python_version()}
    options = {
        "rounds": given.rounds,
        "seconds": given.seconds,
        "proxy_core": bench.proxy_core,
        "load_core": bench.load_core,
    }
    figures = [asdict(item) for pair in results for item in pair]
    path.write_text(json.dumps({"machine": machine, "options": options, "results": figures}, indent=1))
    console.print(f"figures: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
