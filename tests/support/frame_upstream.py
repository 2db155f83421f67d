"""Servers of protocols that are made of frames: what every scripted RPC upstream shares, whatever its frames look like.

The counterpart of upstream.py: a `FrameUpstream` answers each request with the next step of its script, then with its
default. A step is a function of the `FrameExchange` and runs in a thread of its own, so that the requests of one connection
are answered side by side and in any order. A step may answer late, twice, in pieces, with another id, with garbage, or end
the connection instead.
"""

import contextlib
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from tests.support.server import PeerGone, Server, Stream


@dataclass(frozen=True)
class SeenFrame:
    """A frame that the proxy sent, and the connection (counted from 0) that it came on."""

    connection: int
    data: bytes


class FrameExchange:
    """One frame of the proxy's while it is answered."""

    def __init__(self, upstream: "FrameUpstream", sock: socket.socket, seen: SeenFrame, gone: threading.Event) -> None:
        self.upstream = upstream
        self.seen = seen
        self._socket = sock
        self._gone = gone

    @property
    def data(self) -> bytes:
        """The frame."""
        return self.seen.data

    def send(self, data: bytes) -> None:
        """Exactly these bytes. Raises PeerGone."""
        with self.upstream.changed:
            try:
                self._socket.sendall(data)
            except OSError as error:
                raise PeerGone from error

    def close(self) -> None:
        """End the connection with FIN."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def reset(self) -> None:
        """End the connection with RST."""
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def wait_gone(self, timeout_s: float = 10.0) -> bool:
        """Wait until the proxy has closed the connection; False when it never did."""
        return self._gone.wait(timeout_s)


FrameStep = Callable[[FrameExchange], None]
"""Answers one frame."""


def hang(exchange: FrameExchange) -> None:
    """Never answer."""
    exchange.wait_gone()


def close(exchange: FrameExchange) -> None:
    """FIN instead of an answer."""
    exchange.close()


def reset(exchange: FrameExchange) -> None:
    """RST instead of an answer."""
    exchange.reset()


def say(data: bytes) -> FrameStep:
    """Send these bytes as the answer."""
    return lambda exchange: exchange.send(data)


class FrameUpstream(Server):
    """A server that reads frames; what they are is its subclass's. `frames` holds what came, in order of arrival."""

    def __init__(self, name: str, host: str = "127.0.0.1", port: int = 0) -> None:
        self.frames: list[SeenFrame] = []
        self._script: deque[FrameStep] = deque()
        super().__init__(name, host, port)

    def read_frame(self, stream: Stream) -> bytes:
        """The next frame, whole. Raises PeerGone."""
        raise NotImplementedError

    def default(self, exchange: FrameExchange) -> None:
        """What is done where the script has no step."""
        raise NotImplementedError

    def describe(self, data: bytes) -> str:
        """A frame as text, without what a proxy may change; empty for one that is none of the client's."""
        raise NotImplementedError

    def script(self, *steps: FrameStep) -> None:
        """The next requests are answered by these steps, in this order, on whichever connection they come."""
        with self.changed:
            self._script.extend(steps)

    def forget(self) -> None:
        """Forget what came, and what was to be done."""
        with self.changed:
            self.frames.clear()
            self._script.clear()

    def wait_frames(self, count: int, timeout_s: float = 15.0) -> bool:
        """Wait until so many frames have come since `forget`; False when they never did."""
        return self.wait_until(lambda: len(self.frames) >= count, timeout_s)

    def serve(self, stream: Stream, number: int) -> None:
        gone = threading.Event()
        try:
            while True:
                seen = SeenFrame(number, self.read_frame(stream))
                with self.changed:
                    self.frames.append(seen)
                    step = self._script.popleft() if self._script else self.default
                    self.changed.notify_all()
                exchange = FrameExchange(self, stream.socket, seen, gone)
                threading.Thread(target=_run, args=(step, exchange), daemon=True).start()
        finally:
            gone.set()


def _run(step: FrameStep, exchange: FrameExchange) -> None:
    with contextlib.suppress(PeerGone):
        step(exchange)


class FrameClient:
    """A connection to a proxy that says exactly what it is told to, and reads as it is told to."""

    def __init__(self, port: int, host: str = "127.0.0.1", *, timeout_s: float = 8.0) -> None:
        self.socket = socket.create_connection((host, port), timeout=timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.stream = Stream(self.socket)

    def __enter__(self) -> "FrameClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, data: bytes) -> None:
        """Exactly these bytes."""
        self.socket.sendall(data)

    def send_slowly(self, data: bytes, pause_s: float = 0.0005) -> None:
        """Each byte in a segment of its own."""
        for number in range(len(data)):
            self.socket.sendall(data[number : number + 1])
            time.sleep(pause_s)

    def half_close(self) -> None:
        """Send FIN, keep reading."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close with RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self) -> None:
        """Close with FIN."""
        self.socket.close()

    def closes_within(self, timeout_s: float) -> bool:
        """Whether the proxy closes without another byte before the time is over."""
        self.socket.settimeout(timeout_s)
        try:
            return self.socket.recv(1) == b""
        except TimeoutError:
            return False
        except OSError:
            return True
