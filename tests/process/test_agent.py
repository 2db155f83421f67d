"""The agent as a process: signals, draining, sudden death and its successor."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.process.mesh import ROOT, is_alive
from tests.support.ports import PortAllocator

PORTS = PortAllocator()


@dataclass
class Agent:
    process: "subprocess.Popen[str]"
    log: Path
    spawner: int
    workers: list[int]

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def leaves_nothing(self) -> bool:
        return not any(is_alive(pid) for pid in (self.spawner, *self.workers))


def ask(port: int, line: str = "hello") -> str:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
        sock.sendall(line.encode() + b"\n")
        return sock.recv(1000).decode().strip()


def wait_for(condition, timeout_s: float = 10.0) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.01)


@contextlib.contextmanager
def agent(
    folder: Path, port: int, *, concurrency: int = 2, drain_s: float = 600, prefix: tuple[str, ...] = ()
) -> Iterator[Agent]:
    log = folder / "log"
    process = subprocess.Popen(
        [
            *prefix,
            sys.executable,
            "-m",
            "tests.process.agent_main",
            str(port),
            str(concurrency),
            str(drain_s),
            str(log),
        ],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    pids: list[int] = []
    try:
        assert process.stdout is not None
        words = process.stdout.readline().split()
        assert words[:1] == ["live"], log.read_text()
        pids = [int(word) for word in words[1:]]
        yield Agent(process, log, pids[0], pids[1:])
    finally:
        process.kill()
        process.wait()
        for pid in pids if not prefix else ():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_idle_agent_exits_0_a_second_after_the_signal_and_leaves_nothing(
    tmp_path: Path, number: signal.Signals
) -> None:
    with agent(tmp_path, PORTS.take()) as found:
        start = time.monotonic()
        found.signal(number)
        assert found.process.wait(10) == 0  # and not after the 25 s of a drain
        assert time.monotonic() - start > 0.9
        assert found.leaves_nothing()


def test_draining_agent_goes_on_accepting_until_its_last_connection_ends(tmp_path: Path) -> None:
    port = PORTS.take()
    with agent(tmp_path, port) as found:
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.sendall(b"hello\n")
            sock.recv(100)
            found.signal(signal.SIGTERM)
            wait_for(lambda: sum(map(is_alive, found.workers)) == 1)
            assert {int(ask(port).split()[0]) for _ in range(10)} == {pid for pid in found.workers if is_alive(pid)}
            assert found.process.poll() is None
        assert found.process.wait(5) == 0


def test_drain_ends_at_its_limit(tmp_path: Path) -> None:
    port = PORTS.take()
    with agent(tmp_path, port, drain_s=2) as found, socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(b"hello\n")
        sock.recv(100)
        start = time.monotonic()
        found.signal(signal.SIGTERM)
        assert found.process.wait(15) == 0  # and not after 600 s, or 25
        assert time.monotonic() - start > 1.8
        assert found.leaves_nothing()


@pytest.mark.alone
def test_second_signal_ends_everything_at_once(tmp_path: Path) -> None:
    port = PORTS.take()
    with agent(tmp_path, port) as found, socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(b"hello\n")
        sock.recv(100)
        found.signal(signal.SIGTERM)
        wait_for(lambda: "shutting down, for 25 s" in found.log.read_text())
        start = time.monotonic()
        found.signal(signal.SIGTERM)
        assert found.process.wait(5) == 1
        assert time.monotonic() - start < 1
        wait_for(found.leaves_nothing)
        assert "the agent is gone" not in found.log.read_text()


@pytest.mark.alone
def test_workers_of_a_killed_agent_leave_and_its_successor_serves_the_port_within_three_seconds(tmp_path: Path) -> None:
    port = PORTS.take()
    (tmp_path / "next").mkdir()
    began = time.monotonic()
    with agent(tmp_path, port) as found, socket.create_connection(("127.0.0.1", port)) as sock:
        usual_s = time.monotonic() - began
        sock.sendall(b"hello\n")
        old = int(sock.recv(100).split()[0])
        found.signal(signal.SIGKILL)
        start = time.monotonic()
        with agent(tmp_path / "next", port) as successor:
            assert int(ask(port).split()[0]) in successor.workers
            # On a machine that is busy with other things even the first start takes its time.
            assert time.monotonic() - start < max(3.0, usual_s + 1.5)
            # The old worker still serves the connection that it has.
            sock.sendall(b"hello\n")
            assert int(sock.recv(100).split()[0]) == old
            wait_for(lambda: not is_alive(old), 8)
        wait_for(found.leaves_nothing)


def test_reopen_signal_starts_a_new_log_and_hangup_changes_nothing(tmp_path: Path) -> None:
    port = PORTS.take()
    with agent(tmp_path, port) as found:
        found.log.rename(tmp_path / "rotated")
        found.signal(signal.SIGUSR1)
        wait_for(found.log.exists)
        found.signal(signal.SIGHUP)
        wait_for(lambda: "eating SIGHUP" in found.log.read_text())
        assert int(ask(port).split()[0]) in found.workers


def test_terminal_interrupt_to_all_processes_is_the_agents_business(tmp_path: Path) -> None:
    port = PORTS.take()
    with agent(tmp_path, port) as found, socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(b"hello\n")
        holder = int(sock.recv(100).split()[0])
        for pid in (found.spawner, *found.workers, found.process.pid):
            os.kill(pid, signal.SIGINT)
        wait_for(lambda: "caught SIGINT" in found.log.read_text())
        sock.sendall(b"hello\n")
        assert int(sock.recv(100).split()[0]) == holder


@pytest.mark.root
def test_as_process_1_it_drains_too_and_reaps_the_orphans(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root for a process namespace")
    port = PORTS.take()
    with agent(tmp_path, port, prefix=("unshare", "--pid", "--fork", "--mount-proc")) as found:
        inside = int(Path(f"/proc/{found.process.pid}/task/{found.process.pid}/children").read_text().split()[0])
        spawner = next(int(pid) for pid in Path(f"/proc/{inside}/task/{inside}/children").read_text().split())
        workers = Path(f"/proc/{spawner}/task/{spawner}/children").read_text().split()
        os.kill(spawner, signal.SIGKILL)
        os.kill(int(workers[0]), signal.SIGKILL)
        wait_for(lambda: not Path(f"/proc/{workers[0]}").exists())
        os.kill(inside, signal.SIGTERM)
        assert found.process.wait(8) == 0
