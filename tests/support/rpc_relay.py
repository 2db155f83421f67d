"""A relay that keeps what two peers say to each other, and the frames in it: by length fields only, so that it is no copy
of the codecs that are tested with what it kept."""

import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.support.server import PeerGone, Server, Stream


@dataclass
class Heard:
    """What went through one connection, per direction, in the order of its arrival."""

    from_client: bytearray = field(default_factory=bytearray)
    from_server: bytearray = field(default_factory=bytearray)


class Relay(Server):
    """Accepts on a port, connects to another, and copies both ways; `heard` has a record per connection."""

    def __init__(self, to_port: int) -> None:
        self.to_port = to_port
        self.heard: list[Heard] = []
        super().__init__("relay")

    def serve(self, stream: Stream, number: int) -> None:
        heard = Heard()
        with self.changed:
            self.heard.append(heard)
        onward = socket.create_connection(("127.0.0.1", self.to_port))
        onward.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        back = threading.Thread(target=self._copy, args=(Stream(onward), stream, heard.from_server), daemon=True)
        back.start()
        self._copy(stream, Stream(onward), heard.from_client)
        back.join(5)
        onward.close()

    def _copy(self, source: Stream, sink: Stream, kept: bytearray) -> None:
        try:
            while True:
                data = source.some()
                with self.changed:
                    kept += data
                    self.changed.notify_all()
                sink.send(data)
        except PeerGone:
            for stream in (source, sink):
                try:
                    stream.socket.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue


def bolt_frames(data: bytes) -> list[bytes]:
    """Whole Bolt frames, v1 and v2; a CRC is there where ver1 is 2 and the switch is on."""

    def length(at: int) -> int:
        second = data[at] == 2
        shift = 1 if second else 0
        base = at + shift * 2
        fixed = (22 if data[at + 1 + shift] else 20) + shift * 2
        class_length, header_length, content_length = struct.unpack_from("!HHI", data, at + fixed - 8)
        crc = 4 if second and data[at + 1] == 2 and data[base + 9] & 1 else 0
        return int(fixed + class_length + header_length + content_length + crc)

    return _split(data, length)


def dubbo_frames(data: bytes) -> list[bytes]:
    """Whole Dubbo frames."""
    return _split(data, lambda at: int(16 + struct.unpack_from("!I", data, at + 12)[0]))


def framed_thrift(data: bytes) -> list[bytes]:
    """Whole frames of framed Thrift, each with its length."""
    return _split(data, lambda at: int(4 + struct.unpack_from("!I", data, at)[0]))


def _split(data: bytes, length: Callable[[int], int]) -> list[bytes]:
    frames = []
    at = 0
    while at < len(data):
        try:
            end = at + length(at)
        except (IndexError, struct.error):
            break
        if end > len(data):
            break
        frames.append(bytes(data[at:end]))
        at = end
    return frames
