"""A Bolt server that says who it is, and calls of a client, version 1, without the codec that is under test."""

import socket
import ssl
import struct

from tests.support import bolt
from tests.support.frame_upstream import FrameExchange, FrameUpstream
from tests.support.server import Stream

_REQUEST_BYTES, _RESPONSE_BYTES = 22, 20


def _read_frame(stream: Stream, fixed: int) -> bytes:
    head = stream.exactly(fixed)
    name, block, content = struct.unpack_from(">HHI", head, fixed - 8)
    return head + stream.exactly(name + block + content)


def _properties(frame: bytes, fixed: int) -> dict[bytes, bytes]:
    name, size, _ = struct.unpack_from(">HHI", frame, fixed - 8)
    at, end, texts = fixed + name, fixed + name + size, []
    while at < end:
        length = int.from_bytes(frame[at : at + 4], "big")
        texts.append(frame[at + 4 : at + 4 + length])
        at += 4 + length
    return dict(zip(texts[::2], texts[1::2], strict=True))


class BoltUpstream(FrameUpstream):
    """Unless told otherwise it answers every request with its own name, and heartbeats."""

    def read_frame(self, stream: Stream) -> bytes:
        return _read_frame(stream, _REQUEST_BYTES)

    def describe(self, data: bytes) -> str:
        return repr(_properties(data, _REQUEST_BYTES))

    def default(self, exchange: FrameExchange) -> None:
        id = int.from_bytes(exchange.data[5:9], "big")
        if exchange.data[2:4] == b"\0\0":
            exchange.send(bolt.response(id=id, command=0))
        else:
            exchange.send(bolt.response([(b"from", self.name.encode())], self.name.encode(), id=id))

    @property
    def last(self) -> dict[bytes, bytes]:
        """The properties of the request that came last."""
        return _properties(self.frames[-1].data, _REQUEST_BYTES)


class BoltAnswer:
    """What came back: id, status, properties and content."""

    def __init__(self, frame: bytes) -> None:
        self.id, self.status = struct.unpack_from(">xxxxxIxH", frame)
        self.properties = _properties(frame, _RESPONSE_BYTES)
        name, block = struct.unpack_from(">HH", frame, 12)
        self.content = frame[_RESPONSE_BYTES + name + block :]

    def __repr__(self) -> str:
        return f"<BoltAnswer {self.id} status {self.status} {self.content!r}>"


def call(port: int, *headers: tuple[bytes, bytes], tls: ssl.SSLContext | None = None) -> BoltAnswer:
    """One call on a connection of its own. Raises PeerGone."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=8)
    if tls is not None:
        sock = tls.wrap_socket(sock)
    with sock:
        sock.sendall(bolt.request(headers, b"arguments", id=77))
        answer = BoltAnswer(_read_frame(Stream(sock), _RESPONSE_BYTES))
    assert answer.id == 77
    return answer
