"""Both ends of a feed use this: frames over a non-blocking unix stream socket, descriptors included, in trio.

Sending is queueing: `send` never waits and never fails, `flush` is the one task that writes. A dead peer shows as the end
of what `receive` reads. Linux never hands out the descriptors of two frames in one read, so descriptors arrive as one
batch for each frame that carries some, in the order of these frames.
"""

import os
import socket
from array import array
from collections import deque
from collections.abc import Sequence

import trio

from mosn_xds.spec.feed import FrameReader, FromWorker, ToWorker, frame

MAX_FDS = 253
"""SCM_MAX_FD: what one message can carry."""
_READ_BYTES = 256 << 10
_WRITE_BYTES = 64 << 10
_INT_BYTES = array("i").itemsize


class FeedWire:
    """One end of a feed. The socket is closed with `close`."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._reader = FrameReader()
        self._fds: deque[list[int]] = deque()
        self._queue: deque[tuple[bytes, Sequence[int]]] = deque()
        self._queued_bytes = 0
        self._news = trio.Event()
        self._drained = trio.Event()
        self._broken = False

    def __repr__(self) -> str:
        return f"<FeedWire fd {self._sock.fileno()}, {self._queued_bytes} bytes to send>"

    @property
    def queued_bytes(self) -> int:
        """What waits to be sent."""
        return self._queued_bytes

    def send(self, message: ToWorker | FromWorker, fds: Sequence[int] = ()) -> None:
        """Queue a message. `fds` must stay open until it is sent; they are not taken. More than MAX_FDS are ValueError."""
        if len(fds) > MAX_FDS:
            raise ValueError(f"{len(fds)} descriptors in one message")
        if self._broken:
            return
        data = frame(message)
        # A duplicate, so that the caller may close its own at any time.
        self._queue.append((data, [os.dup(fd) for fd in fds]))
        self._queued_bytes += len(data)
        self._news.set()

    async def flush(self) -> None:
        """Write what is queued, for ever; returns when the peer is gone. Run it as a task."""
        try:
            while True:
                await self._news.wait()
                self._news = trio.Event()
                while self._queue:
                    await self._write_some()
                self._drained.set()
                self._drained = trio.Event()
        except OSError:  # the peer is gone; `receive` says so to those who care
            self._broken = True
            self._forget()
        finally:
            self._drained.set()

    async def drained(self) -> None:
        """Wait until everything queued so far has been written, or cannot be."""
        if self._queued_bytes and not self._broken:
            await self._drained.wait()

    async def _write_some(self) -> None:
        data, fds = self._queue.popleft()
        parts = [data]
        size = len(data)
        while not fds and self._queue and not self._queue[0][1] and size < _WRITE_BYTES:
            more, _ = self._queue.popleft()
            parts.append(more)
            size += len(more)
        rest = memoryview(b"".join(parts) if len(parts) > 1 else data)
        try:
            while rest:
                try:
                    sent = socket.send_fds(self._sock, [rest], fds) if fds else self._sock.send(rest)
                except BlockingIOError:
                    await trio.lowlevel.wait_writable(self._sock)
                    continue
                rest = rest[sent:]
                self._queued_bytes -= sent
                _close_all(fds)
                fds = ()
            await trio.lowlevel.checkpoint()
        finally:
            _close_all(fds)

    async def receive(self) -> list[bytes] | None:
        """The bodies of the frames that came, maybe none; None at the end. Raises ValueError for what is not a frame."""
        while True:
            await trio.lowlevel.wait_readable(self._sock)
            try:
                data, fds = receive_with_fds(self._sock, _READ_BYTES, MAX_FDS)
            except BlockingIOError:
                continue
            except ConnectionResetError:  # the peer died with unread data
                return None
            if fds:
                self._fds.append(fds)
            if not data:
                return None
            return self._reader.feed(data)

    def take_fds(self) -> list[int]:
        """The descriptors of the frame at hand; the caller's to close."""
        return self._fds.popleft()

    def close(self) -> None:
        self._broken = True
        self._forget()
        for fds in self._fds:
            _close_all(fds)
        self._fds.clear()
        self._sock.close()

    def _forget(self) -> None:
        for _, fds in self._queue:
            _close_all(fds)
        self._queue.clear()
        self._queued_bytes = 0


def receive_with_fds(sock: socket.socket, size: int, max_fds: int) -> tuple[bytes, list[int]]:
    """Bytes and the descriptors that came along, which no child inherits: `socket.recv_fds` ignores its flags."""
    data, ancillary, _, _ = sock.recvmsg(size, socket.CMSG_LEN(max_fds * _INT_BYTES), socket.MSG_CMSG_CLOEXEC)
    fds = array("i")
    for level, kind, body in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(body[: len(body) - len(body) % _INT_BYTES])
    return data, list(fds)


def _close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)
