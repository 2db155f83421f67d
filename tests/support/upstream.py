"""HTTP/1.1 servers that do as a test says and remember exactly what they were sent.

An `Upstream` answers each request with the next step of its script, then with its default (200 and its own name). A step
is a function of the exchange, so any misbehaviour is a few lines: answer late, in pieces, before the body, never; close,
reset, switch protocols.
"""

import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from tests.support.client import Headers, parse_headers
from tests.support.server import Server, Stream

Step = Callable[["Exchange"], bool]
"""Answers one request; returns whether the connection may carry another."""

REASONS = {200: "OK", 204: "No Content", 304: "Not Modified", 404: "Not Found", 503: "Service Unavailable"}


@dataclass
class SeenRequest:
    """A request as it arrived: names, order and case untouched, the body without its framing."""

    method: str
    path: str
    version: str
    headers: Headers
    connection: int
    arrived_s: float
    body: bytes = b""
    trailers: Headers = field(default_factory=list)
    chunks: list[int] = field(default_factory=list)
    complete: bool = False
    extra: bytes = b""

    def get(self, name: str) -> str | None:
        """The first value of the header, whatever the case of its name."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def all(self, name: str) -> list[str]:
        """Every value of the header in wire order."""
        return [value for key, value in self.headers if key.lower() == name.lower()]


class Exchange:
    """One request at an upstream while it is answered."""

    def __init__(self, upstream: "Upstream", stream: Stream, request: SeenRequest) -> None:
        self.upstream = upstream
        self.stream = stream
        self.request = request

    def read_body(self) -> None:
        """Read the body (and trailers) that the head announces into the request; once."""
        request = self.request
        if request.complete:
            return
        if (request.get("transfer-encoding") or "").lower() == "chunked":
            while size := int(self.stream.until(b"\r\n").partition(b";")[0], 16):
                request.chunks.append(size)
                request.body += self.stream.exactly(size)
                self.stream.exactly(2)
            lines = []
            while line := self.stream.until(b"\r\n"):
                lines.append(line)
            request.trailers = parse_headers(b"\r\n".join(lines))
        elif (length := request.get("content-length")) is not None:
            request.body = self.stream.exactly(int(length))
        request.complete = True

    def send(self, data: bytes) -> None:
        """Bytes to the proxy. Ends the connection's thread when the proxy is gone."""
        self.stream.send(data)

    def wait_for_close(self) -> None:
        """Read until the proxy closes; what it still sends is kept in `request.extra`."""
        while True:
            self.request.extra += self.stream.some()

    def reset(self) -> None:
        """Close with RST."""
        self.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def head(status: int, headers: Iterable[tuple[str, str]] = (), *, version: str = "HTTP/1.1", reason: str = "") -> bytes:
    """A response head as bytes."""
    lines = [f"{version} {status} {reason or REASONS.get(status, 'Whatever')}", *(f"{n}: {v}" for n, v in headers)]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


def respond(
    status: int = 200,
    body: bytes | None = None,
    headers: Sequence[tuple[str, str]] = (),
    *,
    chunks: Sequence[bytes] | None = None,
    trailers: Sequence[tuple[str, str]] = (),
    delay_s: float = 0.0,
    gap_s: float = 0.0,
    early: bool = False,
    until_close: bool = False,
    close: bool = False,
    version: str = "HTTP/1.1",
    informational: Sequence[int] = (),
) -> Step:
    """A whole response. `body` None is the upstream's name; `chunks` are sent chunked, `gap_s` apart; `until_close` sends
    no length; `early` answers before the request's body has been read, as `informational` statuses always are; `close` ends
    the connection behind it."""

    def step(exchange: Exchange) -> bool:
        for code in informational:
            exchange.send(head(code, [("x-interim", str(code))]))
        if not early:
            exchange.read_body()
        if delay_s:
            exchange.upstream.pause(delay_s)
        content = f"{exchange.upstream.name}\n".encode() if body is None else body
        bodiless = status in (204, 304) or exchange.request.method == "HEAD"
        sent = [*headers, ("x-upstream", exchange.upstream.name)]
        if chunks is not None:
            exchange.send(head(status, [*sent, ("transfer-encoding", "chunked")], version=version))
            for chunk in chunks:
                exchange.send(b"%x\r\n%s\r\n" % (len(chunk), chunk))
                exchange.upstream.pause(gap_s)
            exchange.send(b"0\r\n" + b"".join(f"{n}: {v}\r\n".encode() for n, v in trailers) + b"\r\n")
        elif until_close:
            exchange.send(head(status, sent, version=version) + content)
        else:
            names = {name.lower() for name, _ in sent}
            length = [] if status == 204 or "content-length" in names else [("content-length", str(len(content)))]
            exchange.send(head(status, [*sent, *length], version=version) + (b"" if bodiless else content))
        return not (close or until_close)

    return step


def raw(
    data: bytes, *, close: bool = False, reset: bool = False, read_body: bool = True, linger_s: float = 0.0
) -> Step:
    """Exactly these bytes, then keep, close (after `linger_s`) or reset the connection."""

    def step(exchange: Exchange) -> bool:
        if read_body:
            exchange.read_body()
        exchange.send(data)
        exchange.upstream.pause(linger_s)
        if reset:
            exchange.reset()
        return not (close or reset)

    return step


def drop(*, reset: bool = False, read_body: bool = True, delay_s: float = 0.0) -> Step:
    """Close (or reset) the connection without an answer."""
    return raw(b"", close=True, reset=reset, read_body=read_body, linger_s=delay_s)


def hang() -> Step:
    """Read the request, never answer, and wait until the proxy gives up the connection."""

    def step(exchange: Exchange) -> bool:
        exchange.read_body()
        exchange.wait_for_close()
        return False

    return step


def switch_protocols(
    headers: Sequence[tuple[str, str]] = (("connection", "Upgrade"), ("upgrade", "websocket")), greeting: bytes = b""
) -> Step:
    """Answer 101 and echo every byte after that."""

    def step(exchange: Exchange) -> bool:
        exchange.send(head(101, headers, reason="Switching Protocols") + greeting)
        while True:
            data = exchange.stream.some()
            exchange.request.extra += data
            exchange.send(data)

    return step


class Upstream(Server):
    """An HTTP/1.1 server. `requests` holds what it saw, in order of arrival; `default` answers when the script is empty."""

    def __init__(self, name: str, host: str = "127.0.0.1", port: int = 0, default: Step | None = None) -> None:
        self.requests: list[SeenRequest] = []
        self._script: deque[Step] = deque()
        self._default = default or respond()
        super().__init__(name, host, port)

    def script(self, *steps: Step) -> None:
        """These steps answer the next requests, one each."""
        with self._lock:
            self._script.extend(steps)

    def forget(self) -> None:
        """Drop what was recorded and what is left of the script."""
        with self._lock:
            self.requests.clear()
            self._script.clear()

    def wait_for(self, count: int, timeout_s: float = 15.0) -> list[SeenRequest]:
        """What it saw, once at least `count` requests came. Raises TimeoutError when they do not."""
        if not self.wait_until(lambda: len(self.requests) >= count, timeout_s):
            raise TimeoutError(f"{self!r} saw {len(self.requests)} requests, not {count}")
        return list(self.requests)

    def serve(self, stream: Stream, number: int) -> None:
        keep = True
        while keep:
            block = stream.until(b"\r\n\r\n")
            line, _, rest = block.partition(b"\r\n")
            method, path, version = [*line.decode("latin-1").split(" ", 2), "", ""][:3]
            request = SeenRequest(method, path, version, parse_headers(rest), number, time.monotonic())
            with self.changed:
                self.requests.append(request)
                step = self._script.popleft() if self._script else self._default
                self.changed.notify_all()
            exchange = Exchange(self, stream, request)
            keep = step(exchange)
            if keep:
                exchange.read_body()
