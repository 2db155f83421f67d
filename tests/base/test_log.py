"""The application's log: Envoy's line format, levels by component, reopening, nothing secret, never blocking."""

import logging
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mosn_xds.base.log import (
    DEFAULT_FORMAT,
    Level,
    LineHandler,
    LogControl,
    LogSettings,
    compile_format,
    parse_components,
)


@pytest.fixture(autouse=True)
def untouched_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in ("mosn_xds", "mosn_xds.upstream", "mosn_xds.admin"):
        logging.getLogger(name).setLevel(logging.NOTSET)


def control(path: Path, **settings: object) -> LogControl:
    return LogControl(LogSettings(path=str(path), **settings))  # type: ignore[arg-type]


def test_line_looks_like_envoys(tmp_path: Path) -> None:
    path = tmp_path / "log"
    control(path)
    logging.getLogger("mosn_xds.upstream.pool").warning("%d of %d", 1, 2)
    assert re.fullmatch(
        rf"\[\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{{3}}]\[{threading.get_native_id()}]\[warning]\[upstream] 1 of 2\n",
        path.read_text(),
    )


@pytest.mark.parametrize(
    ("pattern", "line"),
    [
        ("%L %n %v", "W upstream a\nb"),
        ("%l|%_", r"warning|a\nb"),
        ('{"m":"%j"}', r'{"m":"a\nb"}'),
        ("%8l|%-8l|%=9l|", " warning|warning | warning |"),
        ("100%% %v", "100% a\nb"),
        pytest.param("%P %s:%# %!", f"{os.getpid()} some.py:7 call", id="the process"),
        ("%Y %v", "2023 a\nb"),
    ],
)
def test_spdlog_patterns(pattern: str, line: str) -> None:
    record = logging.LogRecord("mosn_xds.upstream", logging.WARNING, "/x/some.py", 7, "", (), None, "call")
    record.created = 1700000000.25
    assert compile_format(pattern)(record, "a\nb") == line


def test_unknown_flag_is_an_error() -> None:
    with pytest.raises(ValueError, match="%Q"):
        compile_format("%Q %v")


def test_levels_by_component(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = control(path, level=Level.WARNING, components=parse_components("upstream:debug,misc:error"))
    logging.getLogger("mosn_xds.upstream").debug("one")
    logging.getLogger("mosn_xds.admin").info("two")
    logging.getLogger("library").warning("three")
    assert log.levels()["upstream"] is Level.DEBUG
    assert log.levels()["admin"] is Level.WARNING
    assert log.levels()["misc"] is Level.ERROR
    log.set_all(Level.INFO)
    logging.getLogger("mosn_xds.upstream").debug("four")
    logging.getLogger("mosn_xds.admin").info("five")
    assert [line.split("] ")[-1] for line in path.read_text().splitlines()] == ["one", "five"]


def test_component_of_envoys_that_we_lack_is_accepted_and_a_stranger_is_not(tmp_path: Path) -> None:
    log = control(tmp_path / "log")
    assert log.set_component("kafka", Level.DEBUG)
    assert not log.set_component("nonsense", Level.DEBUG)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nonsense:debug", "invalid component specified 'nonsense'"),
        ("upstream", "component log level not correctly specified 'upstream'"),
        ("upstream:loud", "invalid log level specified 'loud'"),
    ],
)
def test_bad_component_levels_in_envoys_words(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_components(text)


def test_reopened_log_goes_to_the_new_file(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = control(path, format="%v")
    logging.getLogger("mosn_xds").warning("before")
    path.rename(tmp_path / "old")
    logging.getLogger("mosn_xds").warning("between")
    log.reopen()
    logging.getLogger("mosn_xds").warning("after")
    assert (tmp_path / "old").read_text() == "before\nbetween\n"
    assert path.read_text() == "after\n"


def test_keys_and_tokens_are_blotted_out(tmp_path: Path) -> None:
    path = tmp_path / "log"
    control(path, format="%v")
    log = logging.getLogger("mosn_xds.secret")
    log.warning("-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY----- tail")
    log.warning("authorization: Bearer abcdefghijkl tail")
    log.warning("token eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJrIn0.c2ln tail")
    try:
        raise ValueError("-----BEGIN PRIVATE KEY-----\nabc")
    except ValueError:
        log.exception("failed")
    text = path.read_text()
    assert text.count("[redacted]") == 4
    assert "abc" not in text
    assert "eyJ" not in text
    assert text.count("tail") == 3


def test_pipe_that_nobody_reads_loses_lines_but_does_not_block(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    handler = LineHandler(str(path))
    handler.setFormatter(logging.Formatter("%(message)s"))
    for _ in range(200):
        handler.emit(logging.makeLogRecord({"msg": "x" * 1000}))
    assert 0 < handler.dropped < 200
    got = os.read(reader, 1 << 20)
    assert got == (b"x" * 1000 + b"\n") * (200 - handler.dropped)
    os.close(reader)


def test_default_format_is_accepted() -> None:
    compile_format(DEFAULT_FORMAT)
