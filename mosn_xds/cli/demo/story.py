"""What the demo does, and what it prints.

A Pilot serves the bookshop from a directory of YAML files; a real agent with two workers takes it; upstreams are processes
of their own. Then things happen while traffic flows: a canary is shifted, a resource is broken, a worker is killed. Each
step says what was seen. Nothing is left running.
"""

import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mosn_xds.cli.demo import mesh
from mosn_xds.cli.demo.stage import Stage
from mosn_xds.cli.demo.traffic import HttpAsker, Load, Tally, burst, tick
from mosn_xds.pilot.directory import Directory
from mosn_xds.pilot.resources import ResourceSet
from mosn_xds.pilot.server import Pilot
from mosn_xds.xds.messages import type_label

SERVICES = ("books-v1", "books-v2", "reviews", "ticker")
CLIENTS = 4
_START_LIMIT_S = 20.0


class DemoFailed(Exception):
    """The demo did not see what it should have."""


class Demo(Stage):
    """The bookshop and everything that runs for it."""

    def __init__(self, folder: Path, console: Console) -> None:
        super().__init__(folder)
        self._console = console
        ports = free_ports(len(SERVICES) + 4)
        services = {name: [ports.pop()] for name in SERVICES}
        self.ports = mesh.Ports(0, ports.pop(), ports.pop(), ports.pop(), services)
        self._resources = ResourceSet()
        self._mesh = folder / "mesh"
        self._mesh.mkdir()
        self._directory = Directory(self._mesh)
        self._agent: subprocess.Popen[bytes] | None = None
        self.pilot: Pilot | None = None

    def _start(self) -> None:
        for name, (port,) in self.ports.services.items():
            kind = "tcp" if name == "ticker" else "http"
            command = [sys.executable, "-m", "mosn_xds.cli.demo.service", name, str(port), kind]
            self._spawn(command, self._folder / f"{name}.log")
        pilot = self.pilot = Pilot(self._resources)
        self._stack.callback(pilot.stop)
        ports = self.ports
        self.ports = mesh.Ports(pilot.port, ports.admin, ports.shop, ports.ticker, ports.services)
        self.serve_files(mesh.files(self.ports))
        bootstrap = self._folder / "bootstrap.yaml"
        bootstrap.write_text(mesh.bootstrap(self.ports))
        command = [sys.executable, "-m", "mosn_xds.cli.proxy", "-c", str(bootstrap), "--concurrency", "2"]
        command += ["--drain-time-s", "5", "-l", "warning"]
        self._agent = self._spawn(command, self._folder / "proxy.log")
        for (port,) in self.ports.services.values():
            wait_for(partial(answers, port), f"upstream on port {port}")
        wait_for(self._is_ready, "the proxy")

    def _spawn(self, command: list[str], log: Path) -> subprocess.Popen[bytes]:
        output = self._stack.enter_context(log.open("wb"))
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
        self._stack.callback(end, process)
        return process

    def serve_files(self, files: dict[str, str]) -> None:
        """Write the files that are given, as a user would, and let the Pilot look."""
        for name, text in files.items():
            (self._mesh / name).write_text(text)
        self._directory.read()
        for file, problem in self._directory.problems.items():
            raise DemoFailed(f"{file}: {problem}")
        self._resources.replace(self._directory.resources())

    def look_again(self) -> None:
        """Serve what a user has changed in the directory, and say so; a file that is bad keeps its last good content."""
        if not self._directory.read():
            return
        for file, problem in self._directory.problems.items():
            self._console.print(f"{file} is not served as it stands: {problem}", highlight=False, markup=False)
        for change in self._resources.replace(self._directory.resources()):
            kind = type_label(change.type_url)
            counts = f"{len(change.upserts)} new or changed, {len(change.removed)} removed"
            self._console.print(f"pushed {kind}: {counts}", highlight=False)

    def remove_file(self, name: str) -> None:
        (self._mesh / name).unlink()
        self.serve_files({})

    def admin(self, path: str) -> str:
        """A page of the proxy's admin API."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports.admin}{path}", timeout=5) as page:
            return str(page.read().decode())

    def xds(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.admin("/xds"))
        return found

    def _is_ready(self) -> bool:
        if self._agent is not None and self._agent.poll() is not None:
            raise DemoFailed(f"the proxy ended:\n{(self._folder / 'proxy.log').read_text()}")
        try:
            return self.admin("/ready") == "LIVE\n"
        except OSError:
            return False


def run(console: Console) -> int:
    """Tell the whole story; the exit code."""
    logging.getLogger("mosn_xds.pilot").setLevel(logging.ERROR)  # the story tells of the NACK itself
    with tempfile.TemporaryDirectory(prefix="mosn-xds-demo-") as folder, Demo(Path(folder), console) as demo:
        _introduce(console, demo)
        _routes(console, demo)
        _shift(console, demo)
        _broken(console, demo)
        _worker_killed(console, demo)
        console.print("\n[bold green]Done.[/] Everything was real: gRPC, sockets, processes. Nothing is left running.")
    return 0


def serve(console: Console) -> int:
    """Keep the bookshop up until interrupted."""
    with tempfile.TemporaryDirectory(prefix="mosn-xds-demo-") as folder, Demo(Path(folder), console) as demo:
        _introduce(console, demo)
        shop = f"http://127.0.0.1:{demo.ports.shop}"
        admin = f"http://127.0.0.1:{demo.ports.admin}"
        console.print("\nTry, from another terminal:")
        for command in (
            f"curl -s {shop}/books",
            f"curl -s -H 'x-tester: yes' {shop}/books",
            f"curl -si {shop}/old",
            f"curl -s {admin}/xds",
            f"mosn-xds status --admin {admin}",
            f"$EDITOR {folder}/mesh/routes.yaml",
        ):
            console.print(f"  {command}", highlight=False, soft_wrap=True)
        console.print("\nCtrl-C ends it.")
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                time.sleep(0.5)
                demo.look_again()
    return 0


def wait_for(condition: Callable[[], bool], what: str, limit_s: float = _START_LIMIT_S) -> None:
    """Raises DemoFailed when `condition` does not come to hold."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            raise DemoFailed(f"waited {limit_s:g} s for {what}")
        time.sleep(0.02)


def _introduce(console: Console, demo: Demo) -> None:
    state = demo.xds()
    console.print("\n[bold]A bookshop mesh: Pilot → agent → two workers[/]")
    table = Table()
    for column in ("resource", "type", "status"):
        table.add_column(column)
    for entry in state["resources"]:
        table.add_row(entry["name"], entry["type"], entry["status"])
    console.print(table)


def _routes(console: Console, demo: Demo) -> None:
    port = demo.ports.shop
    books = burst(port, "/books", 300)
    testers = burst(port, "/books", 20, {"x-tester": "yes"})
    old = burst(port, "/old", 5)
    reviews = burst(port, "/reviews", 100)
    echoed = tick(demo.ports.ticker, "tock")
    console.print("\n[bold]Routes, as requests saw them[/]")
    table = Table()
    for column in ("request", "what the mesh says", "what was seen"):
        table.add_column(column)
    table.add_row(
        "300 x /books", "90 % v1, 10 % v2", f"v1 {books.share('books-v1'):.0%}, v2 {books.share('books-v2'):.0%}"
    )
    table.add_row("20 x /books with x-tester: yes", "all to v2", f"v2 {testers.share('books-v2'):.0%}")
    table.add_row("5 x /old", "redirect to /books", _statuses(old))
    table.add_row("100 x /reviews", "30 % aborted with 503", _statuses(reviews))
    table.add_row("'tock' over TCP", "the ticker answers", repr(echoed))
    console.print(table)
    check(not books.failures and testers.share("books-v2") == 1.0, "the routes did not hold")
    check(0 < books.share("books-v2") < 0.3 and echoed == "tick tock", "the split or the ticker did not hold")


def _shift(console: Console, demo: Demo) -> None:
    console.print("\n[bold]The split shifts while four clients ask without a pause[/]")
    table = Table()
    for column in ("weight of v2", "requests", "seen on v2", "failed"):
        table.add_column(column, justify="right")
    load = Load(partial(HttpAsker, demo.ports.shop, "/books"), CLIENTS)
    lost = 0
    share = 0.0
    try:
        for weight in (10, 50, 100):
            demo.serve_files({"routes.yaml": mesh.files(demo.ports, weight_v2=weight)["routes.yaml"]})
            wait_for(lambda: _all_acked(demo), "the routes")
            time.sleep(0.3)
            load.take()
            time.sleep(1.2)
            tally = load.take()
            share = tally.share("books-v2")
            lost += failed(tally)
            table.add_row(f"{weight} %", str(tally.total), f"{share:.0%}", str(failed(tally)))
    finally:
        lost += failed(load.stop())
    console.print(table)
    check(lost == 0, f"{lost} requests failed")
    check(share == 1.0, "the shift did not arrive")


def _broken(console: Console, demo: Demo) -> None:
    load = Load(partial(HttpAsker, demo.ports.shop, "/books"), CLIENTS)
    try:
        demo.serve_files({"broken.yaml": mesh.broken_cluster()})
        wait_for(lambda: demo.xds()["refused"] == 1, "the refusal")
        pilot = demo.pilot
        wait_for(lambda: pilot is not None and bool(pilot.nacks), "the NACK")
    finally:
        tally = load.stop()
    refused = next(entry for entry in demo.xds()["resources"] if entry.get("refusal"))
    console.print("\n[bold]A resource that no proxy can use is pushed[/]")
    table = Table(show_header=False)
    table.add_column("what")
    table.add_column("how it looks", overflow="fold")
    table.add_row("what Pilot heard (NACK)", demo.pilot.nacks[-1].message if demo.pilot is not None else "")
    table.add_row("/xds", f"{refused['type']} {refused['name']}: {refused['refusal']['reason']}")
    table.add_row("meanwhile", f"{tally.total} requests, {failed(tally)} failed")
    console.print(table)
    demo.remove_file("broken.yaml")
    check(failed(tally) == 0, "the refusal cost requests")


def _worker_killed(console: Console, demo: Demo) -> None:
    before = {worker["slot"]: worker["pid"] for worker in demo.xds()["workers"]}
    load = Load(partial(HttpAsker, demo.ports.shop, "/books"), CLIENTS)
    time.sleep(0.3)
    killed_at = time.monotonic()
    os.kill(before[0], signal.SIGKILL)

    def replaced() -> bool:
        worker = demo.xds()["workers"][0]
        return worker["pid"] not in (None, before[0]) and worker["state"] == "serving"

    try:
        wait_for(replaced, "the new worker", 5.0)
        took_s = time.monotonic() - killed_at
        time.sleep(0.7)
    finally:
        tally = load.stop()
    console.print("\n[bold]A worker is killed[/]")
    table = Table(show_header=False)
    table.add_row("replaced after", f"{took_s * 1000:.0f} ms, on the same sockets")
    table.add_row("requests meanwhile", str(tally.total))
    table.add_row("its own connections", f"{failed(tally)} requests cut (it had at most {CLIENTS})")
    console.print(table)
    check(failed(tally) <= CLIENTS, "others than the dead worker's connections noticed")


def _all_acked(demo: Demo) -> bool:
    return all(entry["status"] == "acked" for entry in demo.xds()["resources"])


def _statuses(tally: Tally) -> str:
    counts: dict[int, int] = {}
    for (status, _), number in tally.answers.items():
        counts[status] = counts.get(status, 0) + number
    return ", ".join(f"{number} x {status}" for status, number in sorted(counts.items()))


def failed(tally: Tally) -> int:
    """Requests without a 200."""
    return sum(tally.failures.values()) + sum(n for (status, _), n in tally.answers.items() if status != 200)


def check(holds: bool, what: str) -> None:
    """Raises DemoFailed."""
    if not holds:
        raise DemoFailed(what)


def answers(port: int) -> bool:
    """Whether somebody listens."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=0.5).close()
    except OSError:
        return False
    return True


def free_ports(count: int) -> list[int]:
    """Ports that nobody has just now."""
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in socks:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in socks]


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask it to end, and make it."""
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        # The process is a session of its own: what it started goes with it.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
