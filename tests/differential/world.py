"""One proxy with its own upstreams, and what a scenario saw of it.

A scenario is a function of a `World`: it sends requests, asserts what Envoy's documentation promises, and everything that
came back, went out and was logged is written into a journal. `Pair.play` runs the scenario through Envoy and through ours
(side by side, each in its own world) and compares the journals. What must differ between two runs of even the same proxy
(ports, dates, request ids, milliseconds) is normalised on the way (normal.py).
"""

import contextlib
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.differential.bed import LOG_OPERATORS, Bed, listener_port
from tests.differential.normal import NormalForm
from tests.support.client import Connection, Response, request_bytes
from tests.support.frame_upstream import FrameUpstream
from tests.support.ports import PortAllocator
from tests.support.proxies import Proxy, ProxyKind
from tests.support.server import DeafUpstream, Server
from tests.support.tcp_upstream import TcpUpstream
from tests.support.upstream import SeenRequest, Upstream

HeaderInput = Mapping[str, str] | Iterable[tuple[str, str]]

_STILL_OPEN_S = 0.005
_CLOSES_S = 5.0
_LOG_S = 10.0
"""How long a line of the access log may take: the machine may be busy, and only a missing one takes so long."""


@dataclass(frozen=True)
class LogLine:
    """One access log line of the common format; every field is text as logged, `-` for nothing."""

    tag: str
    status: str
    flags: str
    details: str
    route: str
    cluster: str
    received: str
    sent: str
    protocol: str
    method: str
    path: str
    attempts: str


@dataclass
class Reply:
    """A response with what belongs to it. `closed` is whether the proxy closed the connection behind it."""

    world: "World"
    tag: str
    response: Response
    closed: bool = False

    @property
    def status(self) -> int:
        return self.response.status

    @property
    def body(self) -> bytes:
        return self.response.body

    @property
    def text(self) -> str:
        return self.response.body.decode()

    def get(self, name: str) -> str | None:
        """The first value of the response header."""
        return self.response.get(name)

    def all(self, name: str) -> list[str]:
        """Every value of the response header."""
        return self.response.all(name)

    @property
    def seen(self) -> SeenRequest:
        """What the upstream saw of this request; the last attempt, if there were several."""
        found = self.world.requests_tagged(self.tag)
        if not found:
            raise AssertionError("no upstream saw the request")
        return found[-1]

    @property
    def log(self) -> LogLine:
        """The access log line of this request."""
        return self.world.log_tagged(self.tag)


class Link:
    """A downstream connection of a scenario: what is read from it goes into the journal."""

    def __init__(self, world: "World", listener: str, source: str | None = None) -> None:
        self._world = world
        self._listener = listener
        self.raw = Connection(world.listener_port(listener), host=world.listener_host(listener), source=source)

    def __enter__(self) -> "Link":
        return self

    def __exit__(self, *_: object) -> None:
        self.raw.close()

    def send(self, data: bytes) -> None:
        """Exactly these bytes."""
        self.raw.send(data)

    def reply(self, method: str = "GET", *, tag: str = "", logged: bool = True, final: bool = False) -> Reply:
        """Read one response. `logged` is whether a line of the access log belongs to it; `final` waits for the close."""
        response = self.raw.read_response(method)
        says_close = (response.get("connection") or "").lower() == "close" or response.framing == "close"
        closed = self.raw.closes_within(_CLOSES_S if says_close or final else _STILL_OPEN_S)
        reply = Reply(self._world, tag, response, closed)
        self._world.note_reply(reply, self._listener if logged else None)
        return reply

    def request(
        self,
        method: str = "GET",
        path: str = "/",
        headers: HeaderInput = (),
        body: bytes = b"",
        *,
        host: str | None = "test",
        version: str = "HTTP/1.1",
        logged: bool = True,
    ) -> Reply:
        """Send one request on this connection and read its response."""
        tag = self._world.next_tag()
        self.send(self._world.compose(tag, method, path, headers, body, host=host, version=version))
        return self.reply(method, tag=tag, logged=logged)

    def closes(self, within_s: float = _CLOSES_S) -> bool:
        """Whether the proxy closes without another byte."""
        closed = self.raw.closes_within(within_s)
        self._world.note("closed without a response", closed)
        return closed


class World:
    """A proxy of one kind on a bed, with upstreams of its own. `folder` holds its configuration and logs; `marks` is a
    place where a module's helpers may keep how far they have read."""

    def __init__(self, kind: ProxyKind, bed: Bed, folder: Path, ports: PortAllocator) -> None:
        self.kind = kind
        self.name = kind.value
        self._bed = bed
        self.folder = folder
        self._allocator = ports
        self._upstreams: dict[str, Server | DeafUpstream] = {}
        self._ports: dict[str, int] = {}
        self.normal = NormalForm(self._ports)
        self._proxy: Proxy | None = None
        self.marks: dict[str, int] = {}
        self._journal: list[str] = []
        self._scenario = ""
        self._tags = 0
        self._awaited_lines: dict[str, int] = {}
        self._log_offsets: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<World {self.name} {len(self._ports)} ports, {len(self._upstreams)} upstreams>"

    # Life

    def start(self) -> None:
        """Start the upstreams, then the proxy. Raises ProxyFailed."""
        for name, make in self._bed.upstreams.items():
            self._upstreams[name] = make(name)
            self._ports[name] = self._upstreams[name].port
        bootstrap = self._resolve(self._bed.bootstrap())
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, text in self._bed.files.items():
            (self.folder / name).write_text(text)
        self._proxy = Proxy.start(self.kind, bootstrap, self.folder)

    def stop(self) -> None:
        """Stop everything that `start` started. The proxy at once: ours would drain for a second."""
        if self._proxy is not None:
            self._proxy.kill()
        for upstream in self._upstreams.values():
            upstream.close()

    @property
    def proxy(self) -> Proxy:
        """The running proxy."""
        if self._proxy is None:
            raise RuntimeError("the world is not started")
        return self._proxy

    def port(self, name: str) -> int:
        """The port of an upstream, or of any other name in the bed."""
        if name not in self._ports:
            self._ports[name] = self._allocator.take()
        return self._ports[name]

    def listener_port(self, name: str) -> int:
        """The port of the listener."""
        return self.port(listener_port(name))

    def listener_host(self, name: str) -> str:
        """The address of the listener."""
        return "127.0.0.1"

    def upstream(self, name: str) -> Upstream:
        """The HTTP upstream of that name."""
        found = self._upstreams[name]
        if not isinstance(found, Upstream):
            raise TypeError(f"{name} is no HTTP upstream")
        return found

    def tcp_upstream(self, name: str) -> TcpUpstream:
        """The TCP upstream of that name."""
        found = self._upstreams[name]
        if not isinstance(found, TcpUpstream):
            raise TypeError(f"{name} is no TCP upstream")
        return found

    def frame_upstream(self, name: str) -> FrameUpstream:
        """The upstream of that name, whose protocol is made of frames."""
        found = self._upstreams[name]
        if not isinstance(found, FrameUpstream):
            raise TypeError(f"{name} is no upstream of frames")
        return found

    # Scenario

    def begin(self, scenario: str) -> None:
        """Forget the last scenario."""
        self._scenario = scenario
        self._tags = 0
        self._journal = []
        self._awaited_lines = {}
        self._log_offsets = {path.stem: path.stat().st_size for path in self.folder.glob("*.log")}
        for upstream in self._upstreams.values():
            if isinstance(upstream, Upstream | FrameUpstream):
                upstream.forget()

    def end(self) -> list[str]:
        """The journal, with what the upstreams saw and the access logs hold at its end."""
        for name, upstream in sorted(self._upstreams.items()):
            if isinstance(upstream, Upstream):
                for line in sorted(self.normal.request(request) for request in list(upstream.requests)):
                    self._journal.append(f"upstream {name} saw {line}")
            elif isinstance(upstream, FrameUpstream):
                for line in sorted(filter(None, (upstream.describe(seen.data) for seen in list(upstream.frames)))):
                    self._journal.append(f"upstream {name} saw {line}")
        for name, count in sorted(self._awaited_lines.items()):
            lines = self._wait_log(name, lambda found, count=count: len(found) >= count)  # type: ignore[misc]
            for line in sorted(self.normal.text("\t".join(vars(entry).values())) for entry in lines):
                self._journal.append(f"log {name}: {line}")
        return self._journal

    def note(self, label: str, value: object) -> None:
        """Put an observation into the journal, to be equal on both sides."""
        self._journal.append(f"{label}: {self.normal.text(str(value))}")

    def next_tag(self) -> str:
        """The value of `x-case` for the next request; the same in both worlds."""
        self._tags += 1
        return f"{self._scenario}-{self._tags}"

    def compose(
        self,
        tag: str,
        method: str,
        path: str,
        headers: HeaderInput,
        body: bytes,
        *,
        host: str | None,
        version: str,
    ) -> bytes:
        """The bytes of a request: Host, the tag, the headers as given, and a length when there is a body."""
        given = list(headers.items()) if isinstance(headers, Mapping) else list(headers)
        names = {name.lower() for name, _ in given}
        sent = [("Host", host)] if host is not None else []
        sent += [("x-case", tag), *given]
        if (body or method in ("POST", "PUT")) and not names & {"content-length", "transfer-encoding"}:
            sent.append(("Content-Length", str(len(body))))
        return request_bytes(method, path, sent, body, version=version)

    def connect(self, listener: str = "http", *, source: str | None = None) -> Link:
        """A new downstream connection."""
        return Link(self, listener, source)

    def request(
        self,
        method: str = "GET",
        path: str = "/",
        headers: HeaderInput = (),
        body: bytes = b"",
        *,
        host: str | None = "test",
        listener: str = "http",
        version: str = "HTTP/1.1",
        source: str | None = None,
        logged: bool = True,
    ) -> Reply:
        """One request on a connection of its own."""
        with self.connect(listener, source=source) as link:
            return link.request(method, path, headers, body, host=host, version=version, logged=logged)

    def get(self, path: str = "/", headers: HeaderInput = (), **options: Any) -> Reply:
        """`request` with GET."""
        return self.request("GET", path, headers, **options)

    def send(
        self, data: bytes, method: str = "GET", *, listener: str = "http", logged: bool = True, final: bool = False
    ) -> Reply:
        """Exactly these bytes on a connection of its own, and the one response to them."""
        with self.connect(listener) as link:
            link.send(data)
            return link.reply(method, logged=logged, final=final)

    def note_reply(self, reply: Reply, listener: str | None) -> None:
        """Journal a response; `listener` names the log that gets a line for it."""
        response = reply.response
        for status, headers in response.informational:
            self._journal.append(f"interim {status} {self.normal.headers(headers)}")
        self._journal.append(
            f"response {reply.tag} {response.version} {response.status} {response.reason!r} {response.framing}"
            f" complete={response.complete} closed={reply.closed}"
        )
        self._journal.extend(f"  {line}" for line in sorted(self.normal.header(*h) for h in response.headers))
        self._journal.append(f"  body {self.normal.body(response.body)}")
        if response.trailers:
            self._journal.append(f"  trailers {self.normal.headers(response.trailers)}")
        if listener is not None:
            self.await_log(listener)

    # Access log

    def await_log(self, listener: str, count: int = 1) -> None:
        """`count` more lines are due in this listener's log before the scenario is over."""
        self._awaited_lines[listener] = self._awaited_lines.get(listener, 0) + count

    def logs(self, listener: str = "http", count: int = 1) -> list[LogLine]:
        """This scenario's lines of the log, once there are `count`; fewer if they do not come."""
        return self._wait_log(listener, lambda found: len(found) >= count)

    def log_tagged(self, tag: str) -> LogLine:
        """The line of the tagged request, in whichever log it is."""
        deadline = time.monotonic() + _LOG_S
        while time.monotonic() < deadline:
            for path in self.folder.glob("*.log"):
                for line in self._read_log(path.stem):
                    if line.tag == tag:
                        return line
            time.sleep(0.01)
        raise AssertionError(f"no access log line for {tag}")

    def requests_tagged(self, tag: str) -> list[SeenRequest]:
        """What any upstream saw of the tagged request, in order of arrival."""
        servers = [server for server in self._upstreams.values() if isinstance(server, Upstream)]
        found = [request for server in servers for request in list(server.requests) if request.get("x-case") == tag]
        return sorted(found, key=lambda request: request.arrived_s)

    def _wait_log(self, listener: str, enough: Callable[[list[LogLine]], bool]) -> list[LogLine]:
        deadline = time.monotonic() + _LOG_S
        while not enough(lines := self._read_log(listener)) and time.monotonic() < deadline:
            time.sleep(0.01)
        return lines

    def _read_log(self, listener: str) -> list[LogLine]:
        path = self.folder / f"{listener}.log"
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
            file.seek(self._log_offsets.get(listener, 0))
            whole = file.read().rpartition(b"\n")[0].decode("latin-1").splitlines()
            split = [line.split("\t") for line in whole]
            entries = [LogLine(*parts) for parts in split if len(parts) == len(LOG_OPERATORS)]
            return [entry for entry in entries if entry.tag == "-" or entry.tag.startswith(f"{self._scenario}-")]
        return []

    # Admin

    def expect_stats(self, expected: Mapping[str, int], timeout_s: float = 20.0) -> None:
        """Wait until these counters and gauges have these values; a missing one is no value. Raises AssertionError."""
        pattern = "|".join(f"^{re.escape(name)}$" for name in expected)
        deadline = time.monotonic() + timeout_s
        while (found := self.proxy.stats(pattern)) != dict(expected):
            if time.monotonic() > deadline:
                raise AssertionError(f"stats are {found}, not {dict(expected)}")
            time.sleep(0.05)
        self.note("stats", sorted(found.items()))

    def _resolve(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: self._resolve_field(key, item) for key, item in value.items()}
        if isinstance(value, Sequence) and not isinstance(value, str):
            return [self._resolve(item) for item in value]
        if isinstance(value, str):
            value = value.replace("${log}", str(self.folder))
            return re.sub(r"\$\{port:([^}]+)\}", lambda match: str(self.port(match[1])), value)
        return value

    def _resolve_field(self, key: str, value: Any) -> Any:
        if key == "port_value" and isinstance(value, str):
            return self.port(value)
        return self._resolve(value)


@dataclass
class Outcome:
    """What a scenario did in one world."""

    world: World
    journal: list[str] = field(default_factory=list)
    error: BaseException | None = None
