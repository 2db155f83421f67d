"""Access-log files: lines go in from the data path at the cost of an append, one thread per worker writes them out.

The data path and the thread share only a deque per file (append and popleft are atomic) and byte counters that have one
writer each, so no lock stands in the way of a request. The thread writes when 64 KiB have gathered or the flush interval
is over. What a file has not taken yet is bounded; beyond that lines are dropped and counted, for a log that nobody reads
must cost memory and time to no request.

A pipe gets whole lines and at most PIPE_BUF bytes per write, so that the lines of several workers never mix, and only when
it has room (POLLOUT on a pipe says that PIPE_BUF bytes fit): the thread never blocks on one reader while other files wait.
Descriptors stay blocking, as stdout is shared with whoever started us. Files are opened with O_APPEND.
"""

import os
import select
import stat
import threading
from collections import deque
from typing import Final

from mosn_xds.base.errors import ConfigError
from mosn_xds.base.stats import StatGroup

FLUSH_BYTES: Final = 64 * 1024
LIMIT_BYTES: Final = 4 * 1024 * 1024
"""What a file may have waiting."""
_BATCH_BYTES: Final = 256 * 1024
_STANDARD: Final = {"/dev/stdout": 1, "/dev/stderr": 2}


class FileStats(StatGroup):
    """Envoy's ``filesystem.`` counters; `lines_dropped` is ours. `write_buffered` and `lines_dropped` belong to the data
    path's thread, the others to the writer's."""

    COUNTERS = (
        "flushed_by_timer",
        "lines_dropped",
        "reopen_failed",
        "write_buffered",
        "write_completed",
        "write_failed",
    )
    __slots__ = COUNTERS

    flushed_by_timer: int
    lines_dropped: int
    reopen_failed: int
    write_buffered: int
    write_completed: int
    write_failed: int


class LogFile:
    """One open log; ask `LogFiles.open` for it. `path` may be ``/dev/stdout`` or ``/dev/stderr``."""

    __slots__ = (
        "_fd",
        "_lines",
        "_pipe",
        "_queued_bytes",
        "_stats",
        "_wake",
        "_written_bytes",
        "path",
        "reopening",
        "users",
    )

    def __init__(self, path: str, stats: FileStats, wake: int) -> None:
        self.path = path
        self._stats = stats
        self._wake = wake
        self._lines: deque[bytes] = deque()
        self._queued_bytes = 0
        self._written_bytes = 0
        self.reopening = False
        self.users = 0
        try:
            self._fd = _open(path)
        except OSError as error:
            raise ConfigError(f"unable to open file '{path}': {error.strerror}") from None
        self._pipe = _is_pipe(self._fd)

    def __repr__(self) -> str:
        return f"<LogFile {self.path} {self._queued_bytes - self._written_bytes} bytes waiting>"

    def write(self, line: bytes) -> None:
        """Take one line, newline included. Never blocks; drops the line when too much is waiting."""
        waiting = self._queued_bytes - self._written_bytes
        size = len(line)
        if waiting + size > LIMIT_BYTES:
            self._stats.lines_dropped += 1
            return
        self._lines.append(line)
        self._queued_bytes += size
        self._stats.write_buffered += 1
        if waiting < FLUSH_BYTES <= waiting + size:
            os.eventfd_write(self._wake, 1)

    # The writer thread's side.

    @property
    def fd(self) -> int:
        """Where lines go now."""
        return self._fd

    @property
    def waiting(self) -> bool:
        """Whether there are lines to write."""
        return bool(self._lines)

    def flush(self) -> bool:
        """Write what is waiting; False when a pipe has no room for the rest."""
        limit = select.PIPE_BUF if self._pipe else _BATCH_BYTES
        while self._lines:
            if self._pipe and not _has_room(self._fd):
                return False
            self._write_out(self._take(limit))
        return True

    def _take(self, limit: int) -> bytes:
        """Lines of at most `limit` bytes together, but at least one."""
        lines = self._lines
        batch = [lines.popleft()]
        size = len(batch[0])
        while lines and size + len(lines[0]) <= limit:
            batch.append(lines.popleft())
            size += len(batch[-1])
        return b"".join(batch)

    def _write_out(self, data: bytes) -> None:
        at = 0
        try:
            while at < len(data):
                at += os.write(self._fd, data[at:] if at else data)
        except OSError:
            self._stats.write_failed += 1  # The lines are lost: the disk is full, or the pipe's reader is gone.
        else:
            self._stats.write_completed += 1
        self._written_bytes += len(data)

    def reopen(self) -> None:
        """Open the path again, as log rotation asks. When that fails the old file stays, and the next flush tries again."""
        if self.path in _STANDARD:
            self.reopening = False
            return
        try:
            fd = _open(self.path)
        except OSError:
            self._stats.reopen_failed += 1
            return
        self.reopening = False
        os.close(self._fd)
        self._fd = fd
        self._pipe = _is_pipe(fd)

    def close(self) -> None:
        os.close(self._fd)


class LogFiles:
    """All log files of a worker and the thread that writes them, which starts with the first file."""

    def __init__(self, flush_interval_s: float, stats: FileStats) -> None:
        self._flush_interval_s = flush_interval_s
        self._stats = stats
        self._files: dict[str, LogFile] = {}
        self._retired: deque[LogFile] = deque()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._writer: threading.Thread | None = None
        self._closing = False

    def __repr__(self) -> str:
        return f"<LogFiles {', '.join(self._files) or 'idle'}>"

    def open(self, path: str) -> LogFile:
        """The file of this path, shared by all who ask; `release` it in the end. Raises ConfigError if it cannot be opened."""
        found = self._files.get(path)
        if found is None:
            found = LogFile(path, self._stats, self._wake)
            # The thread reads this dict: put a new one in its place, do not change it.
            self._files = {**self._files, path: found}
        found.users += 1
        if self._writer is None:
            self._writer = threading.Thread(target=self._run, name="access-log-writer", daemon=True)
            self._writer.start()
        return found

    def release(self, file: LogFile) -> None:
        """One who opened the file needs it no more; after the last its lines are written and it is closed."""
        file.users -= 1
        if not file.users and not self._closing:
            self._files = {path: other for path, other in self._files.items() if other is not file}
            self._retired.append(file)
            os.eventfd_write(self._wake, 1)

    def reopen(self) -> None:
        """Open every file again once what is waiting was written to the old one."""
        for file in self._files.values():
            file.reopening = True
        os.eventfd_write(self._wake, 1)

    def close(self, timeout_s: float = 1.0) -> None:
        """Write out what is waiting and end the thread; what a pipe does not take within `timeout_s` is lost."""
        if self._closing:
            return
        self._closing = True
        writer, self._writer = self._writer, None
        if writer is not None:
            os.eventfd_write(self._wake, 1)
            writer.join(timeout_s)
            if writer.is_alive():
                return  # It holds the descriptors, and ends with the process.
        for file in (*self._files.values(), *self._retired):
            file.close()
        self._files = {}
        os.close(self._wake)

    def _run(self) -> None:
        blocked: list[LogFile] = []
        while True:
            self._wait(blocked)
            closing = self._closing
            blocked = []
            for file in self._files.values():
                if not file.flush():
                    blocked.append(file)
                elif file.reopening:
                    file.reopen()
            for _ in range(len(self._retired)):
                file = self._retired.popleft()
                if file.flush():
                    file.close()
                else:
                    blocked.append(file)
                    self._retired.append(file)
            if closing and not blocked:
                return

    def _wait(self, blocked: list[LogFile]) -> None:
        """Until somebody calls, a full pipe has room again, or the flush interval is over."""
        poller = select.poll()
        poller.register(self._wake, select.POLLIN)
        for file in blocked:
            poller.register(file.fd, select.POLLOUT)
        ready = poller.poll(self._flush_interval_s * 1000)
        if any(fd == self._wake for fd, _ in ready):
            os.eventfd_read(self._wake)
        elif not ready and any(file.waiting for file in self._files.values()):
            self._stats.flushed_by_timer += 1


def _open(path: str) -> int:
    standard = _STANDARD.get(path)
    if standard is not None:
        return os.dup(standard)
    # A named pipe without a reader is an error then, not a wait for one.
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK, 0o644)
    os.set_blocking(fd, True)
    return fd


def _is_pipe(fd: int) -> bool:
    mode = os.fstat(fd).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def _has_room(fd: int) -> bool:
    poller = select.poll()
    poller.register(fd, select.POLLOUT)
    return bool(poller.poll(0))
