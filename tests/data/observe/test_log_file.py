"""Log files: whole lines, bounded memory, and nobody waits for a reader."""

import fcntl
import os
import select
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mosn_xds.base.errors import ConfigError
from mosn_xds.data.observe.log_file import FLUSH_BYTES, LIMIT_BYTES, FileStats, LogFiles

LINE = b"a line of the access log\n"
NEVER_S = 3600.0


@pytest.fixture
def stats() -> FileStats:
    return FileStats("filesystem.")


@pytest.fixture
def lazy(stats: FileStats) -> Iterator[LogFiles]:
    """Files that are written when 64 KiB are there, or at the end."""
    files = LogFiles(NEVER_S, stats)
    yield files
    files.close()


@pytest.fixture
def prompt(stats: FileStats) -> Iterator[LogFiles]:
    """Files that are written every 10 ms."""
    files = LogFiles(0.01, stats)
    yield files
    files.close()


@pytest.fixture
def fifo(tmp_path: Path) -> Iterator[tuple[str, int]]:
    """A pipe in the file system and its reading end, which does not block."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    yield str(path), reader
    os.close(reader)


def eventually(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.002)


def test_lines_are_written_when_the_interval_is_over(prompt, stats, tmp_path):
    path = tmp_path / "log"
    prompt.open(str(path)).write(LINE)
    eventually(lambda: path.read_bytes() == LINE)
    assert stats.flushed_by_timer >= 1


def test_lines_are_written_when_there_are_64_kib(lazy, stats, tmp_path):
    path = tmp_path / "log"
    file = lazy.open(str(path))
    count = FLUSH_BYTES // len(LINE) + 1
    for _ in range(count):
        file.write(LINE)
    eventually(lambda: path.read_bytes() == LINE * count)
    assert (stats.flushed_by_timer, stats.write_buffered) == (0, count)


def test_what_is_waiting_is_written_at_the_end(stats, tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b"before\n")
    files = LogFiles(NEVER_S, stats)
    files.open(str(path)).write(LINE)
    assert path.read_bytes() == b"before\n"
    files.close()
    assert path.read_bytes() == b"before\n" + LINE


def test_logs_of_the_same_path_share_a_file(lazy, tmp_path):
    assert lazy.open(str(tmp_path / "a")) is lazy.open(str(tmp_path / "a"))
    assert lazy.open(str(tmp_path / "a")) is not lazy.open(str(tmp_path / "b"))


def test_two_workers_appending_to_one_file_lose_nothing(stats, tmp_path):
    path = tmp_path / "log"
    one, other = LogFiles(0.001, stats), LogFiles(0.001, FileStats("filesystem."))
    mine, theirs = one.open(str(path)), other.open(str(path))
    for _ in range(2000):
        mine.write(b"one\n")
        theirs.write(b"other\n")
    one.close()
    other.close()
    lines = path.read_bytes().splitlines()
    assert (lines.count(b"one"), lines.count(b"other"), len(lines)) == (2000, 2000, 4000)


def test_a_pipe_gets_whole_lines_of_at_most_pipe_buf_per_write(prompt, fifo):
    path, reader = fifo
    fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)
    file = prompt.open(path)
    lines = [b"%05d %b\n" % (number, b"x" * (number % 700)) for number in range(500)]
    for line in lines:
        file.write(line)
    received = b""
    while len(received) < sum(map(len, lines)):
        select.select([reader], [], [], 10)
        part = os.read(reader, 1 << 20)
        # The pipe holds one page: what is read at once is what was written at once.
        assert part.endswith(b"\n")
        assert len(part) <= select.PIPE_BUF
        received += part
    assert received == b"".join(lines)


def test_an_unread_pipe_costs_a_bounded_amount_of_memory_and_no_time(prompt, stats, fifo, tmp_path):
    path, reader = fifo
    file = prompt.open(path)
    line = b"x" * 1023 + b"\n"
    count = 2 * LIMIT_BYTES // len(line)
    started = time.monotonic()
    for _ in range(count):
        file.write(line)
    assert time.monotonic() - started < 5
    capacity = fcntl.fcntl(reader, fcntl.F_GETPIPE_SZ)
    assert stats.lines_dropped >= count - (LIMIT_BYTES + capacity) // len(line) - 1
    other = tmp_path / "other"
    prompt.open(str(other)).write(LINE)
    eventually(lambda: other.read_bytes() == LINE)


def test_a_pipe_that_is_read_again_gets_what_was_kept(prompt, fifo):
    path, reader = fifo
    fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)
    file = prompt.open(path)
    for _ in range(10):
        file.write(b"x" * 1023 + b"\n")
    received = b""
    while received.count(b"\n") < 10:
        select.select([reader], [], [], 10)
        received += os.read(reader, 65536)
    file.write(LINE)
    select.select([reader], [], [], 10)
    assert os.read(reader, 65536) == LINE


def test_a_pipe_whose_reader_is_gone_is_counted_and_harms_nobody(prompt, stats, tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    file = prompt.open(str(path))
    os.close(reader)
    file.write(LINE)
    eventually(lambda: stats.write_failed == 1)
    prompt.open(str(tmp_path / "log")).write(LINE)
    eventually(lambda: (tmp_path / "log").read_bytes() == LINE)


def test_reopening_writes_the_rest_to_the_old_file_and_goes_on_in_a_new_one(lazy, tmp_path):
    path, rotated = tmp_path / "log", tmp_path / "log.1"
    file = lazy.open(str(path))
    file.write(b"old\n")
    path.rename(rotated)
    lazy.reopen()
    eventually(path.exists)
    file.write(b"new\n")
    lazy.close()
    assert rotated.read_bytes() == b"old\n"
    assert path.read_bytes() == b"new\n"


def test_a_file_that_cannot_be_opened_again_keeps_its_old_one(stats, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    files = LogFiles(0.01, stats)
    file = files.open(str(folder / "log"))
    moved = tmp_path / "moved"
    folder.rename(moved)
    files.reopen()
    eventually(lambda: stats.reopen_failed > 0)
    file.write(b"kept\n")
    eventually(lambda: (moved / "log").read_bytes() == b"kept\n")
    folder.mkdir()
    eventually((folder / "log").exists)
    files.close()


def test_a_file_that_nobody_uses_any_more_is_written_and_closed(lazy, tmp_path):
    path = str(tmp_path / "log")
    before = len(os.listdir("/proc/self/fd"))
    file = lazy.open(path)
    assert lazy.open(path) is file
    file.write(LINE)
    lazy.release(file)
    assert lazy.open(path) is file
    lazy.release(file)
    lazy.release(file)
    eventually(lambda: (tmp_path / "log").read_bytes() == LINE)
    eventually(lambda: len(os.listdir("/proc/self/fd")) == before)
    assert lazy.open(path) is not file


def test_standard_output_is_written_and_stays_blocking(capfd, stats):
    files = LogFiles(NEVER_S, stats)
    files.open("/dev/stdout").write(LINE)
    files.open("/dev/stderr").write(b"to the other\n")
    files.reopen()
    files.close()
    captured = capfd.readouterr()
    assert (captured.out.encode(), captured.err.encode()) == (LINE, b"to the other\n")
    assert os.get_blocking(1)


def test_a_path_that_cannot_be_opened_is_refused_in_envoys_words(lazy, tmp_path):
    with pytest.raises(ConfigError, match=r"unable to open file .* No such file or directory"):
        lazy.open(str(tmp_path / "missing" / "log"))


def test_a_named_pipe_that_nobody_reads_is_refused_at_once(lazy, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="No such device or address"):
        lazy.open(str(tmp_path / "pipe"))
