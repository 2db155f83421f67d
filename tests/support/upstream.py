"""HTTP/1.1 and TCP servers that do as a test says and remember exactly what they were sent.

An `Upstream` answers each request with the next step of its script, then with its default (200 and its own name). A step
is a function of the exchange, so any misbehaviour is a few lines: answer late, in pieces, before the body, never; close,
reset, switch protocols. One thread per connection: these servers are for exactness, not for load.
"""

import contextlib
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from tests.support.client import Headers, parse_headers

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


class _PeerGone(Exception):
    """The peer closed or reset the connection."""


class _Stream:
    """Blocking reads over a socket with a buffer in front."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self._buffer = bytearray()

    def until(self, mark: bytes) -> bytes:
        while (at := self._buffer.find(mark)) < 0:
            self._fill()
        data = bytes(self._buffer[:at])
        del self._buffer[: at + len(mark)]
        return data

    def exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._fill()
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    def some(self) -> bytes:
        if not self._buffer:
            self._fill()
        data, self._buffer = bytes(self._buffer), bytearray()
        return data

    def send(self, data: bytes) -> None:
        try:
            self.socket.sendall(data)
        except OSError as error:
            raise _PeerGone from error

    def _fill(self) -> None:
        try:
            data = self.socket.recv(65536)
        except OSError as error:
            raise _PeerGone from error
        if not data:
            raise _PeerGone
        self._buffer += data


class Exchange:
    """One request at an upstream while it is answered."""

    def __init__(self, upstream: "Upstream", stream: _Stream, request: SeenRequest) -> None:
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
    no length; `early` answers before the request's body has been read; `close` ends the connection behind it."""

    def step(exchange: Exchange) -> bool:
        if not early:
            exchange.read_body()
        if delay_s:
            exchange.upstream.pause(delay_s)
        for code in informational:
            exchange.send(head(code, [("x-interim", str(code))]))
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


class _Server:
    """Accepts on one address, a thread per connection, until closed."""

    def __init__(self, name: str, host: str = "127.0.0.1", port: int = 0) -> None:
        self.name = name
        self.host = host
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._open: set[socket.socket] = set()
        self._stopping = threading.Event()
        self.accepted = 0
        self._listener = socket.create_server((host, port), backlog=512)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, name=f"upstream-{name}", daemon=True).start()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} {self.host}:{self.port} {self.accepted} accepted>"

    def pause(self, seconds: float) -> None:
        """Let time pass, unless the server is being closed."""
        if seconds:
            self._stopping.wait(seconds)

    def close(self) -> None:
        """Stop listening and close every connection."""
        self._stopping.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.close_connections()

    def close_connections(self) -> None:
        """Close what is open now; the threads end on their own."""
        with self._lock:
            sockets = list(self._open)
        for sock in sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    @property
    def open_connections(self) -> int:
        """How many accepted connections are open."""
        with self._lock:
            return len(self._open)

    def wait_until(self, condition: Callable[[], bool], timeout_s: float = 5.0) -> bool:
        """Wait until the condition over this server's records holds; False when it never did."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while not condition():
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(min(left, 0.05))
        return True

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._changed:
                number = self.accepted
                self.accepted += 1
                self._open.add(sock)
                self._changed.notify_all()
            threading.Thread(target=self._run, args=(sock, number), daemon=True).start()

    def _run(self, sock: socket.socket, number: int) -> None:
        try:
            with contextlib.suppress(_PeerGone):
                self._serve(_Stream(sock), number)
        finally:
            with self._changed:
                self._open.discard(sock)
                self._changed.notify_all()
            sock.close()

    def _serve(self, stream: _Stream, number: int) -> None:
        raise NotImplementedError


class Upstream(_Server):
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

    def wait_for(self, count: int, timeout_s: float = 5.0) -> list[SeenRequest]:
        """What it saw, once at least `count` requests came. Raises TimeoutError when they do not."""
        if not self.wait_until(lambda: len(self.requests) >= count, timeout_s):
            raise TimeoutError(f"{self!r} saw {len(self.requests)} requests, not {count}")
        return list(self.requests)

    def _serve(self, stream: _Stream, number: int) -> None:
        keep = True
        while keep:
            block = stream.until(b"\r\n\r\n")
            line, _, rest = block.partition(b"\r\n")
            method, path, version = [*line.decode("latin-1").split(" ", 2), "", ""][:3]
            request = SeenRequest(method, path, version, parse_headers(rest), number, time.monotonic())
            with self._changed:
                self.requests.append(request)
                step = self._script.popleft() if self._script else self._default
                self._changed.notify_all()
            exchange = Exchange(self, stream, request)
            keep = step(exchange)
            if keep:
                exchange.read_body()


@dataclass
class TcpSession:
    """One connection at a TcpUpstream. `ended` is "fin" or "reset" once the proxy's side is over."""

    received: bytearray = field(default_factory=bytearray)
    ended: str | None = None


TcpBehaviour = Callable[["TcpExchange"], None]


class TcpExchange:
    """One TCP connection while a behaviour drives it."""

    def __init__(self, upstream: "TcpUpstream", sock: socket.socket, session: TcpSession) -> None:
        self.upstream = upstream
        self.session = session
        self._socket = sock

    def read(self) -> bytes:
        """What arrives next; empty when the proxy closed its side (then `session.ended` says how)."""
        try:
            data = self._socket.recv(262144)
        except ConnectionResetError:
            data, ended = b"", "reset"
        except OSError:
            data, ended = b"", "closed here"
        else:
            ended = "fin"
        if data:
            self.session.received += data
        else:
            self.session.ended = ended
        return data

    def send(self, data: bytes) -> None:
        """Send all of it."""
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise _PeerGone from error

    def half_close(self) -> None:
        """Send FIN, keep reading."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close with RST."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def echo(exchange: TcpExchange) -> None:
    """Send back what comes; close when the proxy does."""
    while data := exchange.read():
        exchange.send(data)


def name_and_echo(exchange: TcpExchange) -> None:
    """Send the upstream's name first, then echo."""
    exchange.send(f"{exchange.upstream.name}\n".encode())
    echo(exchange)


def answer_after_end(exchange: TcpExchange) -> None:
    """Read to the end (the proxy must pass FIN on), then answer with the number of bytes read."""
    while exchange.read():
        pass
    exchange.send(str(len(exchange.session.received)).encode())


class TcpUpstream(_Server):
    """A TCP server; `behaviour` drives each connection, `sessions` holds what came."""

    def __init__(
        self, name: str, host: str = "127.0.0.1", port: int = 0, behaviour: TcpBehaviour = name_and_echo
    ) -> None:
        self.sessions: list[TcpSession] = []
        self.behaviour = behaviour
        super().__init__(name, host, port)

    def _serve(self, stream: _Stream, number: int) -> None:
        session = TcpSession()
        with self._changed:
            self.sessions.append(session)
            self._changed.notify_all()
        try:
            self.behaviour(TcpExchange(self, stream.socket, session))
        finally:
            with self._changed:
                self._changed.notify_all()
