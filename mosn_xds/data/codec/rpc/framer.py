"""Cuts a stream of bytes into the frames of a protocol, with bounds on what is kept.

A frame that came alone and whole, which is the usual case, is passed on without a copy. What is incomplete waits as the
pieces that came, joined once when the rest is here, so that a big frame costs as many copies as a small one.
"""

from mosn_xds.data.codec.rpc.messages import BadFrame
from mosn_xds.data.codec.rpc.protocol import RpcProtocol


class Framer:
    """The incoming half of one connection.

    `bad` says why nothing more can be read: a frame that is none, or one above `max_frame_bytes`. The frames before it are
    good.
    """

    __slots__ = ("_limit_bytes", "_missing", "_pieces", "_protocol", "bad")

    def __init__(self, protocol: RpcProtocol) -> None:
        self._protocol = protocol
        self._limit_bytes = protocol.max_frame_bytes
        self._pieces: list[bytes] = []
        self._missing = 0  # bytes, at least, before there is anything to do
        self.bad = ""

    @property
    def pending_bytes(self) -> int:
        """What has come of a frame that is not whole."""
        return sum(map(len, self._pieces))

    def receive(self, data: bytes) -> list[bytes]:
        """The frames that are whole now. Nothing, once `bad` is set."""
        if self._pieces:
            self._pieces.append(data)
            self._missing -= len(data)
            if self._missing > 0:
                return []
            data = b"".join(self._pieces)
            self._pieces = []
        size = len(data)
        frames: list[bytes] = []
        at = 0
        while at < size and not self.bad:
            wanted = self._measure(data, at)
            left = size - at
            if not wanted or wanted > left:
                if not self.bad:
                    self._pieces = [data[at:] if at else data]
                    self._missing = wanted - left if wanted else 1
                break
            frames.append(data if wanted == size else data[at : at + wanted])
            at += wanted
        return frames

    def _measure(self, data: bytes, at: int) -> int:
        try:
            wanted = self._protocol.frame_bytes(data, at)
        except BadFrame as error:
            self.bad = str(error)
            return 0
        if wanted > self._limit_bytes:
            self.bad = "frame_too_large"
        elif wanted < 0 or (not wanted and len(data) - at >= self._protocol.head_bytes):
            self.bad = "no_frame"
        return 0 if self.bad else wanted

    def __repr__(self) -> str:
        return f"<Framer {self._protocol.name} {self.bad or f'{self.pending_bytes} bytes pending'}>"
