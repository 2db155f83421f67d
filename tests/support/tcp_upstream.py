"""TCP servers that echo, greet, wait for the end or reset, and remember what came and how it ended."""

import contextlib
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.support.server import PeerGone, Server, Stream


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
            raise PeerGone from error

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


class TcpUpstream(Server):
    """A TCP server; `behaviour` drives each connection, `sessions` holds what came."""

    def __init__(
        self, name: str, host: str = "127.0.0.1", port: int = 0, behaviour: TcpBehaviour = name_and_echo
    ) -> None:
        self.sessions: list[TcpSession] = []
        self.behaviour = behaviour
        super().__init__(name, host, port)

    def serve(self, stream: Stream, number: int) -> None:
        session = TcpSession()
        with self.changed:
            self.sessions.append(session)
            self.changed.notify_all()
        try:
            self.behaviour(TcpExchange(self, stream.socket, session))
        finally:
            with self.changed:
                self.changed.notify_all()
