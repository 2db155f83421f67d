"""An HTTP/1.1 client that sends exactly the bytes it is given and shows exactly what came back.

It never corrects, adds or reuses anything: smuggling attempts, half-finished requests and pipelines are what it is for.
Responses are parsed just far enough to find their end (RFC 9112 section 6.3) and keep names, order and case.
"""

import contextlib
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field

Headers = list[tuple[str, str]]

DEFAULT_TIMEOUT_S = 8.0


class BadResponse(Exception):
    """What came back is not an HTTP/1 response; the text holds the bytes."""


@dataclass
class Response:
    """One response as read. `informational` holds the 1xx heads before it; `complete` is False when it was cut short."""

    status: int
    reason: str
    version: str
    headers: Headers
    body: bytes = b""
    trailers: Headers = field(default_factory=list)
    informational: list[tuple[int, Headers]] = field(default_factory=list)
    framing: str = "none"
    complete: bool = True

    def get(self, name: str) -> str | None:
        """The first value of the header, whatever the case of its name."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def all(self, name: str) -> list[str]:
        """Every value of the header in wire order."""
        return [value for key, value in self.headers if key.lower() == name.lower()]


def request_bytes(
    method: str,
    path: str,
    headers: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
    *,
    version: str = "HTTP/1.1",
) -> bytes:
    """A request head with these headers in this order, then the body as it is. No header is added."""
    lines = [f"{method} {path} {version}", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def parse_headers(block: bytes) -> Headers:
    """Header lines to (name, value) pairs; values are trimmed, names untouched."""
    pairs = []
    for line in block.split(b"\r\n"):
        if line:
            name, _, value = line.partition(b":")
            pairs.append((name.decode("latin-1"), value.strip(b" \t").decode("latin-1")))
    return pairs


class Connection:
    """One TCP connection from this client. Every wait ends with TimeoutError after `timeout_s`.

    `source` is the local address; `mark` is for the packet filter (SO_MARK, for root).
    """

    def __init__(
        self,
        port: int,
        *,
        host: str = "127.0.0.1",
        source: str | None = None,
        mark: int | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> None:
        self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(timeout_s)
            if source is not None:
                self._socket.bind((source, 0))
            if mark is not None:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
            self._socket.connect((host, port))
        except BaseException:
            self._socket.close()
            raise
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = bytearray()
        self._timeout_s = timeout_s
        self.local_port: int = self._socket.getsockname()[1]
        self.was_reset = False

    def __repr__(self) -> str:
        return f"<Connection from :{self.local_port}, {len(self._received)} bytes unread>"

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, data: bytes) -> None:
        """Send all of it. A peer that has closed meanwhile is no error here: the reads tell, and `was_reset`."""
        try:
            self._socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            self.was_reset = True

    def half_close(self) -> None:
        """Send FIN, keep reading."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close with RST."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def close(self) -> None:
        """Close; unread bytes are given up."""
        self._socket.close()

    def read_some(self, timeout_s: float | None = None) -> bytes:
        """Bytes that are there or arrive next; empty at the end of the stream."""
        if self._received:
            data, self._received = bytes(self._received), bytearray()
            return data
        return self._recv(timeout_s)

    def read_exactly(self, count: int) -> bytes:
        """Exactly `count` bytes; fewer only when the peer closed first."""
        while len(self._received) < count and self._fill():
            pass
        data = bytes(self._received[:count])
        del self._received[:count]
        return data

    def read_to_end(self, timeout_s: float | None = None) -> bytes:
        """Everything until the peer closes. Raises TimeoutError when it does not."""
        while self._fill(timeout_s):
            pass
        data, self._received = bytes(self._received), bytearray()
        return data

    def closes_within(self, timeout_s: float) -> bool:
        """Whether the peer closes (FIN or RST) within the time without sending another byte."""
        if self._received:
            return False
        try:
            return not self._fill(timeout_s)
        except TimeoutError:
            return False

    def read_response(self, method: str = "GET", *, timeout_s: float | None = None) -> Response:
        """The next final response; `method` is that of its request, as HEAD and CONNECT end differently.

        Raises BadResponse for bytes that are no response, ConnectionError when the peer closes before a head,
        TimeoutError when nothing comes.
        """
        informational: list[tuple[int, Headers]] = []
        while True:
            response = self._read_head(timeout_s)
            if response.status // 100 != 1 or response.status == 101:
                break
            informational.append((response.status, response.headers))
        response.informational = informational
        self._read_body(response, method, timeout_s)
        return response

    def _read_head(self, timeout_s: float | None) -> Response:
        head = self._read_until(b"\r\n\r\n", timeout_s)
        if head is None:
            left = bytes(self._received)
            if left:
                raise BadResponse(f"closed within a head: {left[:500]!r}")
            raise ConnectionError("closed before a response")
        status_line, _, block = head.partition(b"\r\n")
        parts = status_line.decode("latin-1").split(" ", 2)
        if len(parts) < 2 or not parts[0].startswith("HTTP/") or not parts[1].isdigit():
            raise BadResponse(f"no status line: {status_line[:200]!r}")
        return Response(int(parts[1]), parts[2] if len(parts) > 2 else "", parts[0], parse_headers(block))

    def _read_body(self, response: Response, method: str, timeout_s: float | None) -> None:
        bodiless = method == "HEAD" or response.status in (101, 204, 304)
        if bodiless or (method == "CONNECT" and response.status // 100 == 2):
            return
        if (response.get("transfer-encoding") or "").lower() == "chunked":
            response.framing = "chunked"
            self._read_chunks(response, timeout_s)
        elif (length := response.get("content-length")) is not None:
            response.framing = "length"
            response.body = self.read_exactly(int(length))
            response.complete = len(response.body) == int(length)
        else:
            response.framing = "close"
            response.body = self.read_to_end(timeout_s)

    def _read_chunks(self, response: Response, timeout_s: float | None) -> None:
        while True:
            line = self._read_until(b"\r\n", timeout_s)
            if line is None:
                response.complete = False
                return
            size = int(line.partition(b";")[0], 16)
            if size == 0:
                break
            response.body += self.read_exactly(size)
            self.read_exactly(2)
        lines = []
        while line := self._read_until(b"\r\n", timeout_s):
            lines.append(line)
        response.trailers = parse_headers(b"\r\n".join(lines))

    def _read_until(self, mark: bytes, timeout_s: float | None) -> bytes | None:
        while (at := self._received.find(mark)) < 0:
            if not self._fill(timeout_s):
                return None
        data = bytes(self._received[:at])
        del self._received[: at + len(mark)]
        return data

    def _fill(self, timeout_s: float | None = None) -> bool:
        data = self._recv(timeout_s)
        self._received += data
        return bool(data)

    def _recv(self, timeout_s: float | None) -> bytes:
        self._socket.settimeout(self._timeout_s if timeout_s is None else max(timeout_s, 0.001))
        try:
            return self._socket.recv(65536)
        except ConnectionResetError:
            self.was_reset = True
            return b""
