"""What load tests measure with: upstreams that bear load, wrk, processes as /proc shows them, latencies, tables."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.support.ports import PortAllocator
from tests.support.upstream import Upstream

_NGINX = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log warn; worker_rlimit_nofile 8192;
events {{ worker_connections 4096; }}
http {{
  access_log off; client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5; keepalive_requests 5000;
  server {{
    {listen}
    location / {{ add_header x-seen-generation $http_x_route_generation; return 200 "hello from $server_port\\n"; }}
  }}
}}
"""


@contextlib.contextmanager
def upstreams(folder: Path, ports: PortAllocator) -> Iterator[list[int]]:
    """Two servers that answer 200 with what they saw of `x-route-generation`: nginx, or two threaded ones without it."""
    nginx = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if nginx is None:
        servers = [Upstream(name) for name in "ab"]
        yield [server.port for server in servers]
        for server in servers:
            server.close()
        return
    listening = [ports.take(), ports.take()]
    home = folder / "nginx"
    home.mkdir(parents=True, exist_ok=True)
    config = home / "nginx.conf"
    config.write_text(_NGINX.format(folder=home, listen=" ".join(f"listen 127.0.0.1:{port};" for port in listening)))
    process = subprocess.Popen([nginx, "-c", config, "-p", home], stderr=subprocess.DEVNULL)
    try:
        for port in listening:
            wait_until(lambda port=port: answers(port), 5)
        yield listening
    finally:
        process.kill()
        process.wait()


def answers(port: int) -> bool:
    """Whether somebody accepts there."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def wait_until(condition: Any, timeout_s: float, *, step_s: float = 0.01) -> None:
    """Return once `condition()` holds. Raises TimeoutError."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout_s} s")
        time.sleep(step_s)


@dataclass(frozen=True)
class WrkResult:
    """What wrk printed. Errors are (connect, read, write, timeout)."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    errors: tuple[int, int, int, int]
    bad_statuses: int

    @property
    def failures(self) -> int:
        return sum(self.errors) + self.bad_statuses


class Wrk:
    """wrk in the background; `result` waits for its end."""

    def __init__(self, port: int, seconds: float, *, connections: int = 32, path: str = "/") -> None:
        command = ["wrk", "-t", "1", "-c", str(connections), "-d", f"{max(1, round(seconds))}s", "--latency"]
        self.process = subprocess.Popen(
            [*command, "--timeout", "5s", f"http://127.0.0.1:{port}{path}"], stdout=subprocess.PIPE, text=True
        )

    @staticmethod
    def installed() -> bool:
        return shutil.which("wrk") is not None

    def result(self) -> WrkResult:
        text, _ = self.process.communicate(timeout=120)
        return parse_wrk(text)

    def kill(self) -> None:
        """For a test that failed."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def parse_wrk(text: str) -> WrkResult:
    """Raises ValueError for what is not wrk's report."""
    total = re.search(r"(\d+) requests in ([\d.]+\w+),", text)
    if total is None:
        raise ValueError(f"not wrk's report: {text!r}")
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    percentiles = dict(re.findall(r"(50|99)%\s+([\d.]+\w+)", text))
    latency = re.search(r"Latency\s+\S+\s+\S+\s+(\S+)", text)
    counts = tuple(map(int, errors.groups())) if errors else (0, 0, 0, 0)
    return WrkResult(
        requests=int(total[1]),
        seconds=_ms(total[2]) / 1000,
        p50_ms=_ms(percentiles["50"]),
        p99_ms=_ms(percentiles["99"]),
        max_ms=_ms(latency[1]) if latency else 0.0,
        errors=(counts[0], counts[1], counts[2], counts[3]),
        bad_statuses=int(bad[1]) if bad else 0,
    )


def _ms(text: str) -> float:
    found = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text)
    if found is None:
        raise ValueError(f"not a time: {text!r}")
    return float(found[1]) * {"us": 0.001, "ms": 1, "s": 1000, "m": 60_000}[found[2]]


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of `values` that `share` of them do not exceed; 0 without values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def private_kib(pid: int) -> int:
    """RssAnon: without shared libraries, which come in page by page."""
    found = re.search(r"^RssAnon:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found[1]) if found else 0


def run_s(pid: int) -> float:
    """Time that a process' threads have run so far, to the nanosecond."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def voluntary_switches(pid: int) -> int:
    """How often the process' threads went to sleep: twice the wake-ups of an idle one, say."""
    total = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        found = re.search(r"^voluntary_ctxt_switches:\s+(\d+)", status.read_text(), re.MULTILINE)
        total += int(found[1]) if found else 0
    return total


def open_descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def process_name(pid: int) -> str:
    """What `ps` shows; empty for a process that is gone."""
    try:
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return ""
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (OSError, IndexError):
        return ""


def is_alive(pid: int) -> bool:
    """Zombies are not."""
    return bool(process_name(pid))


def kill_9(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """To stdout, which pytest shows with `-s` or when a test fails."""
    table = Table(title=title)
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    for row in rows:
        table.add_row(*(f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in row))
    Console(width=120).print(table)
