"""What every test server shares: accept on one address, a thread per connection, count, wait, and close for sure.

These servers are for exactness, not for load: blocking sockets, so that a misbehaviour is written in the order in which
it happens.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable


class PeerGone(Exception):
    """The peer closed or reset the connection."""


class Stream:
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
            raise PeerGone from error

    def _fill(self) -> None:
        try:
            data = self.socket.recv(65536)
        except OSError as error:
            raise PeerGone from error
        if not data:
            raise PeerGone
        self._buffer += data


class Server:
    """Accepts on one address, a thread per connection, until closed."""

    def __init__(self, name: str, host: str = "127.0.0.1", port: int = 0) -> None:
        self.name = name
        self.host = host
        self._lock = threading.RLock()
        self.changed = threading.Condition(self._lock)
        self._open: set[socket.socket] = set()
        self._stopping = threading.Event()
        self.accepted = 0
        self.most_open = 0
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server(
            (host, port), family=family, backlog=512, dualstack_ipv6=family == socket.AF_INET6
        )
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

    def wait_until(self, condition: Callable[[], bool], timeout_s: float = 15.0) -> bool:
        """Wait until the condition over this server's records holds; False when it never did."""
        deadline = time.monotonic() + timeout_s
        with self.changed:
            while not condition():
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self.changed.wait(min(left, 0.05))
        return True

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.changed:
                number = self.accepted
                self.accepted += 1
                self._open.add(sock)
                self.most_open = max(self.most_open, len(self._open))
                self.changed.notify_all()
            threading.Thread(target=self._run, args=(sock, number), daemon=True).start()

    def _run(self, sock: socket.socket, number: int) -> None:
        try:
            with contextlib.suppress(PeerGone):
                self.serve(Stream(sock), number)
        finally:
            with self.changed:
                self._open.discard(sock)
                self.changed.notify_all()
            sock.close()

    def serve(self, stream: Stream, number: int) -> None:
        raise NotImplementedError


class DeafUpstream:
    """A server whose backlog is full: the kernel drops every SYN, so that connecting takes until it times out."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(0)
        self.port: int = self._listener.getsockname()[1]
        self._waiting = []
        for _ in range(4):
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                sock.connect(("127.0.0.1", self.port))
            self._waiting.append(sock)

    def __repr__(self) -> str:
        return f"<DeafUpstream {self.name} 127.0.0.1:{self.port}>"

    def close(self) -> None:
        """Close everything."""
        for sock in (*self._waiting, self._listener):
            sock.close()
