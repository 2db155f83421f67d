"""A server that speaks whatever it is spoken to in: Bolt, Dubbo, or bytes that it echoes; and that greets who says nothing."""

import contextlib
import socket
from dataclasses import dataclass, field

from tests.support.rpc_wires import WIRES, answers
from tests.support.server import Server, Stream

GREETING = b"220 "


@dataclass
class Conversation:
    """One connection: what came on it, whether as calls, and whether the server spoke first."""

    received: bytearray = field(default_factory=bytearray)
    calls: int = 0
    greeted: bool = False
    ended: bool = False


class Polyglot(Server):
    """See the module. `conversations` are in the order of the connections; who says nothing for `patience_s` is greeted."""

    def __init__(self, name: str, host: str = "127.0.0.1", port: int = 0) -> None:
        self.conversations: list[Conversation] = []
        self.patience_s = 0.5
        super().__init__(name, host, port)

    @property
    def calls(self) -> list[int]:
        """How many calls came on each connection that had some."""
        with self.changed:
            return [one.calls for one in self.conversations if one.calls]

    def serve(self, stream: Stream, number: int) -> None:
        sock = stream.socket
        talk = Conversation()
        with self.changed:
            self.conversations.append(talk)
        sock.settimeout(self.patience_s)
        rest = b""
        with contextlib.suppress(OSError):
            while True:
                try:
                    data = sock.recv(1 << 18)
                except TimeoutError:
                    sock.settimeout(None)
                    if not talk.received:
                        talk.greeted = True
                        sock.sendall(GREETING + self.name.encode())
                    continue
                with self.changed:
                    talk.received += data
                    talk.ended = not data
                    self.changed.notify_all()
                if not data:
                    break
                if not talk.greeted and talk.received[0] in WIRES:
                    before = rest + data
                    rest, out = answers(before)
                    talk.calls += (len(before) - len(rest)) // len(WIRES[before[0]].request)
                    sock.sendall(out)
                else:
                    sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
