"""The application's log, as Envoy writes it: levels, components, line formats, one stream to stderr or to a file.

Code logs through the standard library, ``logging.getLogger("mosn_xds.upstream")``; the part behind the first dot is the
*component*, what Envoy calls a named logger. `LogControl` is what a process holds to set all of this up and to change it
while running: levels by component (`/logging`, `--component-log-level`), and another file under the same name (SIGUSR1).

A line format is spdlog's pattern as `--log-format` takes it (https://github.com/gabime/spdlog/wiki/3.-Custom-formatting),
compiled once into a list of small functions.

Logging never stops the process: lines for a pipe that nobody reads are dropped and counted. Keys and tokens have no place
in a log; what looks like one is blotted out here, whoever let it slip.
"""

import json
import logging
import os
import re
import select
import stat
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from types import MappingProxyType

import msgspec

DEFAULT_FORMAT = "[%Y-%m-%d %T.%e][%t][%l][%n] %v"
"""Envoy's, without the source line."""
ROOT = "mosn_xds"
MISC = "misc"
"""Envoy's component for everything else: here what libraries log."""


class Level(IntEnum):
    """Envoy's levels, with the standard library's numbers."""

    TRACE = 5
    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40
    CRITICAL = 50
    OFF = 100

    @property
    def text(self) -> str:
        """As Envoy spells it in flags, in `/logging` and in lines."""
        return self.name.lower()

    @classmethod
    def parse(cls, text: str) -> "Level":
        """Raises ValueError. ``warn`` is ``warning``."""
        name = "WARNING" if text == "warn" else text.upper()
        if text != text.lower() or name not in cls.__members__:
            raise ValueError(f"invalid log level specified '{text}'")
        return cls[name]


_NUMBERS = sorted(Level, reverse=True)
_SHORT = MappingProxyType({level: level.text[0].upper() for level in Level})


def _level(number: int) -> Level:
    return next((level for level in _NUMBERS if number >= level), Level.TRACE)


COMPONENTS = (
    "access_log", "admin", "ads", "assemble", "bootstrap", "bolt", "cluster", "config", "conn_handler", "connection",
    "dns", "dubbo", "ext", "feed", "filter", "health_checker", "http", "http2", "init", "listener", "main", MISC,
    "outlier", "pilot", "pool", "rbac", "reactor", "retry", "router", "secret", "spawner", "stats", "store", "supervise",
    "tcp", "tls", "tracing", "translate", "udp", "upgrade", "upstream", "worker",
)  # fmt: skip
"""Components that can be set before anybody has logged through them."""

ENVOY_COMPONENTS = (
    "a2a", "admin", "ai_protocol_manager", "alternate_protocols_cache", "aws", "assert", "backtrace", "basic_auth",
    "cache_filter", "client", "config", "connection", "conn_handler", "compression", "credential_injector",
    "decompression", "dns", "dubbo", "envoy_bug", "ext_authz", "ext_proc", "rocketmq", "file", "filter",
    "forward_proxy", "geolocation", "grpc", "happy_eyeballs", "hc", "health_checker", "http", "http2", "hystrix",
    "init", "io", "jwt", "json_rpc", "kafka", "key_value_store", "lua", "local_rate_limit", "main", "matcher",
    "mcp", "misc", "mongo", "multi_connection", "notification", "oauth2", "quic", "quic_stream", "pool",
    "rate_limit_quota", "rbac", "rds", "redis", "router", "runtime", "stats", "secret", "sse", "tap", "testing",
    "thrift", "tracing", "upstream", "udp", "wasm", "websocket", "golang", "stats_sinks", "dynamic_modules",
    "ip_tagging",
)  # fmt: skip
"""Names that an Envoy 1.40 command line may hold; those that are not ours are accepted without effect."""

_RECORD = Callable[[logging.LogRecord, str], str]


def component_of(logger_name: str) -> str:
    """``mosn_xds.upstream.pool`` logs as ``upstream``; libraries log as ``misc``."""
    package, _, rest = logger_name.partition(".")
    if package != ROOT:
        return MISC
    return rest.partition(".")[0] or "main"


def _strftime(pattern: str) -> _RECORD:
    return lambda record, _: time.strftime(pattern, time.localtime(record.created))


def _offset(record: logging.LogRecord, _: str) -> str:
    text = time.strftime("%z", time.localtime(record.created))
    return f"{text[:3]}:{text[3:]}"


_FLAGS: Mapping[str, _RECORD] = MappingProxyType(
    {
        "v": lambda record, text: text,
        "_": lambda record, text: text.replace("\n", "\\n"),
        "j": lambda record, text: json.dumps(text)[1:-1],
        "*": lambda record, text: "",
        "n": lambda record, _: component_of(record.name),
        "l": lambda record, _: _level(record.levelno).text,
        "L": lambda record, _: _SHORT[_level(record.levelno)],
        "t": lambda record, _: str(threading.get_native_id()),
        "P": lambda record, _: str(record.process),
        **{flag: _strftime(f"%{flag}") for flag in "aAbBcCYDmdHIMSprRTX"},
        "h": _strftime("%b"),
        "z": _offset,
        "e": lambda record, _: f"{int(record.created * 1000) % 1000:03d}",
        "f": lambda record, _: f"{int(record.created * 1e6) % 1_000_000:06d}",
        "F": lambda record, _: f"{int(record.created * 1e6) % 1_000_000 * 1000:09d}",
        "E": lambda record, _: str(int(record.created)),
        "s": lambda record, _: record.filename,
        "g": lambda record, _: record.pathname,
        "#": lambda record, _: str(record.lineno),
        "!": lambda record, _: record.funcName or "",
        "@": lambda record, _: f"{record.filename}:{record.lineno}",
        "^": lambda record, _: "",
        "$": lambda record, _: "",
        "%": lambda record, _: "%",
    }
)
_PATTERN = re.compile(r"%([-=]?)(\d{0,2})(!?)([A-Za-z_*#!@^$%])|([^%]+|%)")


def compile_format(pattern: str) -> Callable[[logging.LogRecord, str], str]:
    """A function of a record and its message. Raises ValueError for a flag that spdlog has not or that is not known here."""
    parts: list[_RECORD] = []
    for align, width, cut, flag, literal in _PATTERN.findall(pattern):
        if literal:
            parts.append(lambda record, text, literal=literal: literal)  # type: ignore[misc]
        elif flag not in _FLAGS:
            raise ValueError(f"unknown flag %{flag} in the log format")
        elif width:
            parts.append(_padded(_FLAGS[flag], align, int(width), bool(cut)))
        else:
            parts.append(_FLAGS[flag])
    return lambda record, text: "".join([part(record, text) for part in parts])


def _padded(part: _RECORD, align: str, width: int, cut: bool) -> _RECORD:
    pad = {"": str.rjust, "-": str.ljust, "=": str.center}[align]

    def padded(record: logging.LogRecord, text: str) -> str:
        value = pad(part(record, text), width)
        return value[:width] if cut else value

    return padded


_SECRET = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|(?<=Bearer )[\w.~+/=-]{8,}"
    r"|\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*",
    re.DOTALL,
)


def without_secrets(text: str) -> str:
    """`text` with private keys and tokens replaced by ``[redacted]``."""
    return _SECRET.sub("[redacted]", text)


class LineFormatter(logging.Formatter):
    """A `--log-format` as the standard library's formatter: a traceback follows its line."""

    def __init__(self, pattern: str) -> None:
        """Raises ValueError as `compile_format`."""
        super().__init__()
        self._line = compile_format(pattern)

    def format(self, record: logging.LogRecord) -> str:
        text = self._line(record, record.getMessage())
        if record.exc_info:
            text = f"{text}\n{self.formatException(record.exc_info)}"
        return without_secrets(text)


class LineHandler(logging.Handler):
    """Writes lines to stderr, or appends them to a file; `dropped` counts what a full pipe did not take."""

    def __init__(self, path: str | None = None) -> None:
        """`path` None is stderr. Raises OSError if the file cannot be opened."""
        super().__init__()
        self._path = path
        self._fd = -1
        self._poll: select.poll | None = None
        self.dropped = 0
        self.reopen()

    def reopen(self) -> None:
        """Open the file under its name again, after rotation. Raises OSError; the old one is kept then."""
        if self._path is None:
            fd = sys.stderr.fileno()
        else:
            fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        if self._path is not None and self._fd >= 0:
            os.close(self._fd)
        self._fd = fd
        self._poll = None
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            self._poll = select.poll()
            self._poll.register(fd, select.POLLOUT)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            data = (self.format(record) + "\n").encode(errors="backslashreplace")
            # A pipe that polls writable takes this much without blocking, and keeps it in one piece.
            for at in range(0, len(data), select.PIPE_BUF):
                if self._poll is not None and not self._poll.poll(0):
                    self.dropped += 1
                    return
                os.write(self._fd, data[at : at + select.PIPE_BUF])
        except OSError:
            self.dropped += 1
        except (TypeError, ValueError):  # the message does not fit its arguments
            self.handleError(record)


class LogSettings(msgspec.Struct, frozen=True):
    """How a process logs; workers get the agent's. `components` pairs a component with its own level."""

    level: Level = Level.INFO
    components: tuple[tuple[str, Level], ...] = ()
    format: str = DEFAULT_FORMAT
    path: str | None = None


class LogControl:
    """The log of this process."""

    def __init__(self, settings: LogSettings) -> None:
        """Take over the standard library's root logger. Raises OSError for the path, ValueError for the format."""
        formatter = LineFormatter(settings.format)
        self._handler = LineHandler(settings.path)
        self._handler.setFormatter(formatter)
        logging.addLevelName(Level.TRACE, "TRACE")
        logging.getLogger().handlers[:] = [self._handler]
        self.set_all(settings.level)
        for component, level in settings.components:
            self.set_component(component, level)

    @property
    def dropped(self) -> int:
        """Lines that nobody took."""
        return self._handler.dropped

    def set_all(self, level: Level) -> None:
        """`--log-level`, `/logging?level=`: components lose levels of their own. Libraries speak from WARNING up."""
        for name in self.components():
            logging.getLogger(f"{ROOT}.{name}").setLevel(logging.NOTSET)
        logging.getLogger(ROOT).setLevel(level)
        logging.getLogger().setLevel(max(level, Level.WARNING))

    def set_component(self, component: str, level: Level) -> bool:
        """`/logging?upstream=debug`. False for a component that does not exist (Envoy's names all do)."""
        if component == MISC:
            logging.getLogger().setLevel(level)
        elif component in self.components():
            logging.getLogger(f"{ROOT}.{component}").setLevel(level)
        else:
            return component in ENVOY_COMPONENTS
        return True

    def components(self) -> Sequence[str]:
        """Every component, in order of name: the known ones and those that have logged."""
        seen = {component_of(name) for name in logging.Logger.manager.loggerDict if name.startswith(f"{ROOT}.")}
        return sorted(seen | set(COMPONENTS))

    def levels(self) -> dict[str, Level]:
        """The level in force of every component, as `/logging` lists them."""
        return {
            name: _level(logging.getLogger(None if name == MISC else f"{ROOT}.{name}").getEffectiveLevel())
            for name in self.components()
        }

    def reopen(self) -> None:
        """Raises OSError if the file cannot be opened again; the old one is written on."""
        self._handler.reopen()


def parse_components(text: str) -> tuple[tuple[str, Level], ...]:
    """`--component-log-level`: ``upstream:debug,config:trace``. Raises ValueError with Envoy's words."""
    pairs = []
    for part in filter(None, text.split(",")):
        name, colon, level = part.partition(":")
        if not colon:
            raise ValueError(f"component log level not correctly specified '{part}'")
        if name not in COMPONENTS and name not in ENVOY_COMPONENTS:
            raise ValueError(f"invalid component specified '{name}'")
        pairs.append((name, Level.parse(level)))
    return tuple(pairs)
