"""The agent's end of the spawner: starts it, asks it for workers, hears how they ended.

The spawner is replaced when it dies; workers that it had started live on, but nobody hears how they end.
"""

import logging
import os
import socket
import subprocess
import sys

import msgspec
import trio

from mosn_xds.base.log import LogSettings
from mosn_xds.process.spawner import MAX_PACKET_BYTES, Exited, Fork, FromSpawner, Loaded, SpawnerSettings

_RESTART_S = 0.5
_MAX_RESTART_S = 10.0
_EXIT_REPORT_S = 0.5

_log = logging.getLogger("mosn_xds.spawner")


class SpawnerFailed(Exception):
    """The first spawner ended before it could do anything: there will be no workers."""


class SpawnerLink:
    """See the module. `start` may be called before trio runs: the spawner's imports then overlap the agent's own."""

    def __init__(self, engine: str, log: LogSettings) -> None:
        self._settings = msgspec.json.encode(SpawnerSettings(engine, log)).decode()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._up = trio.Event()
        self._loaded = False
        self._exit_codes: dict[int, int] = {}
        self._news = trio.Event()
        self.restarts = 0
        """How often it was replaced."""

    def __repr__(self) -> str:
        return f"<SpawnerLink pid {self.pid}>"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Execute the spawner. Raises OSError."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-P", "-m", "mosn_xds.process.spawner", str(theirs.fileno()), self._settings]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()])
        ours.setblocking(False)
        self._control = ours

    async def run(self) -> None:
        """Keep the spawner alive; ends when cancelled, and the spawner with it. Raises SpawnerFailed."""
        wait_s = _RESTART_S
        try:
            while True:
                if self._control is None:
                    self.start()
                control = self._control
                assert control is not None
                self._loaded = False
                self._up.set()
                await self._listen(control)
                self._up = trio.Event()
                control.close()
                self._control = None
                if not self._loaded and self.restarts == 0:
                    raise SpawnerFailed
                wait_s = _RESTART_S if self._loaded else min(_MAX_RESTART_S, wait_s * 2)
                self.restarts += 1
                _log.error("the spawner (pid %s) is gone and is started again in %g s", self.pid, wait_s)
                await trio.sleep(wait_s)
                self.reap()
        finally:
            self.close()

    def reap(self) -> None:
        """Take note that the process has ended, if it has."""
        if self._process is not None:
            self._process.poll()

    def close(self) -> None:
        """Let go: the spawner ends by itself."""
        if self._control is not None:
            self._control.close()
            self._control = None

    async def fork(self, slot: int, feed: socket.socket) -> None:
        """Ask for a worker at the other end of `feed`. If there will be none, that shows as the feed's end."""
        while True:
            await self._up.wait()
            control = self._control
            if control is None:
                continue
            try:
                socket.send_fds(control, [msgspec.msgpack.encode(Fork(slot))], [feed.fileno()])
                return
            except BlockingIOError:
                await trio.lowlevel.wait_writable(control)
            except OSError:  # it has just died: wait for the next one
                await trio.sleep(_RESTART_S)

    async def exit_code(self, pid: int) -> int | None:
        """How a worker ended, minus the signal's number if it was killed; None if the spawner does not say."""
        with trio.move_on_after(_EXIT_REPORT_S):
            while pid not in self._exit_codes:
                await self._news.wait()
        return self._exit_codes.pop(pid, None)

    async def _listen(self, control: socket.socket) -> None:
        decoder = msgspec.msgpack.Decoder(FromSpawner)
        while True:
            await trio.lowlevel.wait_readable(control)
            try:
                packet = control.recv(MAX_PACKET_BYTES)
            except BlockingIOError:
                continue
            except ConnectionResetError:
                return
            if not packet:
                return
            message = decoder.decode(packet)
            if isinstance(message, Exited):
                self._exit_codes[message.pid] = message.exit_code
                self._news.set()
                self._news = trio.Event()
            elif isinstance(message, Loaded):
                self._loaded = True
            elif message.error:
                _log.error("worker %d cannot be forked: %s", message.slot, message.error)
            else:
                _log.debug("worker %d is pid %d", message.slot, message.pid)


def reap_orphans(link: SpawnerLink) -> None:
    """Process 1 of a container inherits whoever loses a parent; take note of those that have ended."""
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None:
            return
        if ended.si_pid == link.pid:
            link.reap()
        else:
            os.waitpid(ended.si_pid, 0)
