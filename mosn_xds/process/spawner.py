"""The spawner: a small single-threaded process from which workers fork.

The agent runs threads (grpcio's) and must not fork. So it executes this module once; the module imports the data half,
freezes what the imports made so that the collector leaves those pages shared, and then forks a worker whenever the agent
asks: some 10 ms until it runs, where a fresh interpreter takes half a second. The two talk over a SEQPACKET socket pair, one
message a packet; a worker's end of its feed comes along as a descriptor. The spawner is its workers' parent, so it
also tells how each one ended. It keeps nothing of a worker, serves nothing, and ends when the agent does; its workers do
not end with it.
"""

import contextlib
import gc
import logging
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from mosn_xds.base.log import LogControl, LogSettings
from mosn_xds.process.wire import receive_with_fds

MAX_PACKET_BYTES = 4096

_log = logging.getLogger("mosn_xds.spawner")


class SpawnerSettings(msgspec.Struct, frozen=True):
    """The spawner's command line, as JSON. `engine` is ``module:function``; see `mosn_xds.process.worker`."""

    engine: str
    log: LogSettings


class Fork(msgspec.Struct, frozen=True, tag="fork"):
    """To the spawner: a worker for the feed whose descriptor rides along. `slot` is its number."""

    slot: int


class Forked(msgspec.Struct, frozen=True, tag="forked"):
    """From the spawner. `pid` is 0 when the system had no process to give: `error` says why."""

    slot: int
    pid: int
    error: str = ""


class Exited(msgspec.Struct, frozen=True, tag="exited"):
    """From the spawner: a worker is gone; `exit_code` is minus the signal's number for one that was killed."""

    pid: int
    exit_code: int


class Loaded(msgspec.Struct, frozen=True, tag="loaded"):
    """From the spawner, once: its imports are done."""


FromSpawner = Loaded | Forked | Exited

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Fork)


def set_process_name(name: str) -> None:
    """What `ps` and `top` show (15 characters)."""
    with contextlib.suppress(OSError):  # no /proc: the name stays
        Path("/proc/self/comm").write_text(name[:15])


class Spawner:
    """The spawner's loop."""

    def __init__(self, control: socket.socket, work: Callable[[socket.socket, int], None]) -> None:
        """`work` is what a worker does with its end of the feed and its slot; the worker exits 0 when it returns."""
        self._control = control
        self._work = work
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def run(self) -> None:
        """Serve until the agent is gone."""
        self._tell(Loaded())
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._wake_read, select.POLLIN)
        while True:
            ready = dict(poll.poll())
            if self._wake_read in ready:
                os.read(self._wake_read, 4096)
                self._reap()
            if self._control.fileno() in ready and not self._take_request():
                return

    def _take_request(self) -> bool:
        try:
            packet, fds = receive_with_fds(self._control, MAX_PACKET_BYTES, 1)
        except ConnectionResetError:
            return False  # the agent went without reading what it was told
        if not packet:
            return False
        request = _decoder.decode(packet)
        with socket.socket(fileno=fds[0]) as feed:
            try:
                pid = os.fork()
            except OSError as error:
                self._tell(Forked(request.slot, 0, str(error)))
                return True
            if pid == 0:
                self._become_worker(feed, request.slot)
        self._tell(Forked(request.slot, pid))
        return True

    def _become_worker(self, feed: socket.socket, slot: int) -> NoReturn:
        """Does not return: what the spawner has on its stack and at exit is not the worker's."""
        exit_code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._control.close()
            os.close(self._wake_read)
            os.close(self._wake_write)
            set_process_name(f"mosn-xds-w{slot}")
            self._work(feed, slot)
            exit_code = 0
        except BaseException:
            _log.critical("worker %d fails", slot, exc_info=True)
        finally:
            os._exit(exit_code)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:  # no worker at all
                return
            if pid == 0:
                return
            self._tell(Exited(pid, os.waitstatus_to_exitcode(status)))

    def _tell(self, message: FromSpawner) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the agent is gone: the next read says so
            self._control.send(_encoder.encode(message))


def load(name: str) -> Any:
    """The object that ``module:name`` names. Raises ImportError, AttributeError."""
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)


def main(argv: list[str]) -> None:
    """``python -m mosn_xds.process.spawner FD SETTINGS``."""
    # A terminal's Ctrl-C and a service manager's SIGTERM reach every process; only the agent decides what they mean.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    set_process_name("mosn-xds-spawn")
    control = socket.socket(fileno=int(argv[0]))
    os.set_inheritable(control.fileno(), False)
    settings = msgspec.json.decode(argv[1], type=SpawnerSettings)
    log = LogControl(settings.log)

    try:
        from mosn_xds.process.worker import work  # noqa: PLC0415 - after the signals are set

        engine = load(settings.engine)
    except (ImportError, AttributeError):
        _log.critical("the data half cannot be loaded", exc_info=True)
        sys.exit(1)
    gc.collect()
    gc.freeze()
    Spawner(control, lambda feed, slot: work(feed, slot, engine, log)).run()


if __name__ == "__main__":
    main(sys.argv[1:])
