"""Real peers for the RPC protocols: programs of other people's libraries that offer, or call, the Echo service.

`tests/peers` holds the programs (Node, Python, Java). A server says on its first line where it listens; a client takes
commands from stdin and answers each with a line, so that one process makes all the calls of a test. What the service
does is the same everywhere: `echo`, `who` (the name of the instance), `slow`, `busy` (how many
calls of `slow` are under way), `big`, `nothing`, `fail` and `crash`
(exceptions), `note` and `noted` (so that one-way calls can be counted).
"""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from tests.support.ports import PortAllocator

PEERS = Path(__file__).parents[1] / "peers"
NODE = PEERS / "node"
JAVA = PEERS / "java"
SERVICE = "org.mosnxds.peers.Echo"
VERSION = "1.0"
START_TIMEOUT_S = 40.0
COMMAND_TIMEOUT_S = 60.0
_JAVA_OPTIONS = (
    "-XX:TieredStopAtLevel=1",
    f"-Djdk.net.hosts.file={JAVA}/hosts",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=off",
    "--add-opens=java.base/java.lang=ALL-UNNAMED",
    "--add-opens=java.base/java.util=ALL-UNNAMED",
    "--add-opens=java.base/java.math=ALL-UNNAMED",
    "--add-opens=java.base/java.time=ALL-UNNAMED",
)


class PeerFailed(RuntimeError):
    """A peer did not start, ended, or said nothing in time; the text holds what it wrote to stderr."""


class Runtime(Enum):
    """What a peer runs on."""

    NODE = "node"
    PYTHON = "python"
    JAVA = "java"

    def missing(self) -> str | None:
        """Why peers of this kind cannot run here, or None when they can. Installs Node's packages at the first use."""
        if self is Runtime.NODE:
            return _node_missing()
        if self is Runtime.JAVA:
            if shutil.which("java") is None:
                return "no java"
            return None if (JAVA / "target" / "peers.jar").exists() else "Java's peers are not built: make peers-java"
        return None


class Serving(Enum):
    """A peer that serves: its runtime, and the program's arguments, in which {port} and {name} stand for what they are."""

    BOLT_NODE = (Runtime.NODE, "server.js", "bolt", "{port}", "{name}")
    BOLT_PYTHON = (Runtime.PYTHON, "anthunder_server.py", "{port}", "{name}")
    BOLT_JAVA = (Runtime.JAVA, "BoltServer", "{port}", "{name}")
    DUBBO_NODE = (Runtime.NODE, "server.js", "dubbo", "{port}", "{name}")
    DUBBO_JAVA = (Runtime.JAVA, "DubboServer", "{port}", "{name}")
    THRIFT_BINARY = (Runtime.PYTHON, "thrift_server.py", "binary", "{port}", "{name}")
    THRIFT_COMPACT = (Runtime.PYTHON, "thrift_server.py", "compact", "{port}", "{name}")


class Calling(Enum):
    """A peer that calls: its runtime, and the program's arguments."""

    BOLT_NODE = (Runtime.NODE, "client.js", "bolt", "{host}", "{port}")
    BOLT2_NODE = (Runtime.NODE, "client.js", "bolt2", "{host}", "{port}")
    BOLT2_CRC_NODE = (Runtime.NODE, "client.js", "bolt2-crc", "{host}", "{port}")
    BOLT_PYTHON = (Runtime.PYTHON, "anthunder_client.py", "{host}", "{port}")
    BOLT_JAVA = (Runtime.JAVA, "BoltClient", "bolt", "{host}", "{port}")
    BOLT2_JAVA = (Runtime.JAVA, "BoltClient", "bolt2", "{host}", "{port}")
    BOLT2_CRC_JAVA = (Runtime.JAVA, "BoltClient", "bolt2-crc", "{host}", "{port}")
    DUBBO_NODE = (Runtime.NODE, "client.js", "dubbo", "{host}", "{port}")
    DUBBO2_JS = (Runtime.NODE, "client.js", "dubbo2js", "{host}", "{port}")
    DUBBO_PYTHON = (Runtime.PYTHON, "dubbo_client.py", "{host}", "{port}")
    DUBBO_JAVA = (Runtime.JAVA, "DubboClient", "dubbo", "{host}", "{port}")
    DUBBO_JAVA_GENERIC = (Runtime.JAVA, "DubboClient", "generic", "{host}", "{port}")
    THRIFT_BINARY = (Runtime.PYTHON, "thrift_client.py", "binary", "{host}", "{port}")
    THRIFT_COMPACT = (Runtime.PYTHON, "thrift_client.py", "compact", "{host}", "{port}")


@dataclass(frozen=True)
class Report:
    """What the calls of one command came to: how many answers were right and wrong, what came, what was raised."""

    ok: int
    wrong: int
    values: Mapping[str, int]
    errors: Mapping[str, int]
    elapsed_ms: float

    @property
    def failed(self) -> int:
        """How many calls raised something."""
        return sum(self.errors.values())

    @property
    def value(self) -> str:
        """The one value that all calls returned. Raises PeerFailed when there is another outcome."""
        if self.errors or len(self.values) != 1:
            raise PeerFailed(f"not one value: {self}")
        return next(iter(self.values))

    @property
    def error(self) -> str:
        """The one exception that all calls raised. Raises PeerFailed when there is another outcome."""
        if self.ok or self.wrong or len(self.errors) != 1:
            raise PeerFailed(f"not one exception: {self}")
        return next(iter(self.errors))


@dataclass
class _Peer:
    """A program in a session of its own, and the lines that it writes."""

    name: str
    process: "subprocess.Popen[str]"
    log: Path
    _lines: list[dict[str, Any]] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _ended: bool = False

    def __post_init__(self) -> None:
        threading.Thread(target=self._read, name=f"peer-{self.name}", daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):  # a library may have something to say, too
                with self._changed:
                    self._lines.append(json.loads(line))
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def line(self, key: str, value: Any = None, timeout_s: float = START_TIMEOUT_S) -> dict[str, Any]:
        """The next line that has this key, with this value if one is given. Raises PeerFailed when there is none in time."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while True:
                for index, line in enumerate(self._lines):
                    if key in line and (value is None or line[key] == value):
                        return self._lines.pop(index)
                left = deadline - time.monotonic()
                if self._ended or left <= 0:
                    reason = "ended" if self._ended else f"said nothing for {timeout_s} s"
                    raise PeerFailed(f"{self.name} {reason}:\n{self.log.read_text(errors='replace')[-2000:]}")
                self._changed.wait(left)

    def stop(self, number: int = signal.SIGKILL) -> None:
        """End the program and what it started, at once or as the signal says. Safe to call again."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def _start(
    name: str, arguments: tuple[Any, ...], folder: Path, values: Mapping[str, Any], options: Sequence[str] = ()
) -> _Peer:
    runtime: Runtime = arguments[0]
    missing = runtime.missing()
    if missing is not None:
        raise PeerFailed(f"{name}: {missing}")
    program, *rest = [str(one).format(**values) for one in arguments[1:]]
    if runtime is Runtime.NODE:
        command = ["node", *options, str(NODE / program), *rest]
    elif runtime is Runtime.PYTHON:
        command = [sys.executable, str(PEERS / "python" / program), *rest]
    else:
        libraries = f"{JAVA}/target/peers.jar:{JAVA}/target/lib/*"
        command = ["java", *_JAVA_OPTIONS, *options, "-cp", libraries, f"org.mosnxds.peers.{program}", *rest]
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{name}.log"
    with log.open("ab") as stderr:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            start_new_session=True,
        )
    return _Peer(name, process, log)


class PeerServer:
    """A running server of the Echo service."""

    def __init__(
        self, kind: Serving, name: str, folder: Path, *, port: int | None = None, options: Sequence[str] = ()
    ) -> None:
        """Start it; `options` go to its runtime. Raises PeerFailed when it does not come up."""
        self.kind = kind
        self.name = name
        wanted = PortAllocator().take() if port is None else port
        self._peer = _start(f"{kind.name}-{name}", kind.value, folder, {"port": wanted, "name": name}, options)
        try:
            self.port = int(self._peer.line("listening")["listening"])
        except BaseException:
            self._peer.stop()
            raise

    def __repr__(self) -> str:
        return f"<PeerServer {self.kind.name} {self.name} 127.0.0.1:{self.port}>"

    def __enter__(self) -> "PeerServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        """SIGKILL: its connections are gone at once."""
        self._peer.stop()

    def freeze(self) -> None:
        """Its connections stay, and it does nothing any more, until `thaw`."""
        os.killpg(self._peer.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on after `freeze`."""
        os.killpg(self._peer.process.pid, signal.SIGCONT)

    def terminate(self) -> None:
        """SIGTERM: it ends as its library means to."""
        self._peer.stop(signal.SIGTERM)


class PeerClient:
    """A running client of the Echo service."""

    def __init__(
        self, kind: Calling, port: int, folder: Path, *, host: str = "127.0.0.1", options: Sequence[str] = ()
    ) -> None:
        """Start it; `options` go to its runtime. Raises PeerFailed when it does not come up."""
        self.kind = kind
        self._last_id = 0
        self._peer = _start(f"{kind.name}-client-{port}", kind.value, folder, {"host": host, "port": port}, options)
        try:
            self._peer.line("ready")
        except BaseException:
            self._peer.stop()
            raise

    def __repr__(self) -> str:
        return f"<PeerClient {self.kind.name} pid {self._peer.process.pid}>"

    def __enter__(self) -> "PeerClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self, method: str, *args: Any, **options: Any) -> int:
        """Send a command without waiting for what comes of it; `finish` takes the number."""
        self._last_id += 1
        command = {"id": self._last_id, "method": method, "args": list(args), **options}
        stdin = self._peer.process.stdin
        assert stdin is not None
        try:
            stdin.write(json.dumps(command) + "\n")
            stdin.flush()
        except OSError as error:
            raise PeerFailed(f"{self._peer.name} takes no command: {error}") from error
        return self._last_id

    def finish(self, identity: int, timeout_s: float = COMMAND_TIMEOUT_S) -> Report:
        """What came of a command. Raises PeerFailed when the client ended or did not answer in time."""
        line = self._peer.line("id", identity, timeout_s)
        return Report(line["ok"], line["wrong"], line["values"], line["errors"], line["elapsed_ms"])

    def call(self, method: str, *args: Any, **options: Any) -> Report:
        """Call a method; the options are those of tests/peers/node/client.js: times, concurrency, size, oneway, ..."""
        return self.finish(self.start(method, *args, **options))

    def heartbeat(self, times: int = 1) -> Report:
        """Send heartbeats and wait for their answers."""
        return self.call("heartbeat", heartbeat=True, times=times)

    def close(self) -> None:
        """End the client."""
        self._peer.stop()


def _node_missing() -> str | None:
    if shutil.which("node") is None or shutil.which("npm") is None:
        return "no Node"
    installed = NODE / "node_modules" / ".package-lock.json"
    wanted = NODE / "package-lock.json"
    with (NODE / ".install.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if installed.exists() and installed.stat().st_mtime >= wanted.stat().st_mtime:
            return None
        done = subprocess.run(
            ["npm", "ci", "--no-audit", "--no-fund"], cwd=NODE, capture_output=True, text=True, check=False
        )
        if done.returncode:
            return f"npm ci failed: {done.stderr.strip()[-300:]}"
        installed.touch()
    return None
