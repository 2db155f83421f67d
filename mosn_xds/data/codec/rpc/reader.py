"""Frames out of what a connection reads, in slices: one read may bring thousands, and others are not to wait for all of them.

What is over a slice, and what comes while frames are held back, waits here, and nothing more is read meanwhile. Whose frames
they are (a client's, a server's) is of no concern: a `FrameSink` takes them.
"""

from typing import Final, Protocol

from mosn_xds.data.codec.rpc.framer import Framer
from mosn_xds.data.codec.rpc.protocol import RpcProtocol
from mosn_xds.data.net.timers import TimerWheel

SLICE: Final = 256
"""Frames that are taken at once: some 8 ms of requests, or 4 ms of responses."""


class Source(Protocol):
    """Where bytes come from; calls nest."""

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class FrameSink(Protocol):
    """Whose frames they are."""

    def take(self, frame: bytes) -> bool:
        """Serve a frame. False: it was the last that is wanted."""
        ...

    def on_bad_frame(self, reason: str) -> None:
        """What comes next is no frame; nothing after it can be read, either."""
        ...

    def on_unreadable(self, doing: str, error: Exception) -> None:
        """What came is too much for its protocol, which raised `error`, `doing` something."""
        ...

    def on_turn(self) -> None:
        """Call `FrameReader.go_on`, if frames are still wanted."""
        ...


class FrameReader:
    """The incoming half of one connection. It keeps no reference to its sink."""

    __slots__ = ("_framer", "_source", "_timers", "_waiting", "held")

    def __init__(self, protocol: RpcProtocol, source: Source, timers: TimerWheel) -> None:
        self._framer = Framer(protocol)
        self._source = source
        self._timers = timers
        self._waiting: list[bytes] = []
        self.held = False
        """No frame is taken, and nothing is read."""

    def receive(self, data: bytes, sink: FrameSink) -> None:
        """Hand on the frames that are whole with `data`, or as many as may be."""
        try:
            frames = self._framer.receive(data)
        except Exception as error:  # an extension's call
            sink.on_unreadable("in frame_bytes", error)
            return
        if self._waiting:
            self._waiting += frames
        else:
            self._serve(frames, sink)

    def hold(self) -> None:
        """Take no frames until `release`: `sink` is busy."""
        self.held = True
        self._source.pause_reading()

    def release(self, sink: FrameSink) -> None:
        """The end of `hold`."""
        self.held = False
        self._source.resume_reading()
        if self._waiting:
            self._timers.arm(0.0, sink.on_turn)

    def go_on(self, sink: FrameSink) -> None:
        """Hand on what waits."""
        frames, self._waiting = self._waiting, []
        if frames:
            self._source.resume_reading()
            self._serve(frames, sink)

    def _serve(self, frames: list[bytes], sink: FrameSink) -> None:
        for number, frame in enumerate(frames):
            if self.held or number == SLICE:
                self._waiting = frames[number:]
                self._source.pause_reading()
                if not self.held:
                    self._timers.arm(0.0, sink.on_turn)
                return
            if not sink.take(frame):
                return
        if self._framer.bad:
            sink.on_bad_frame(self._framer.bad)

    def __repr__(self) -> str:
        return f"<FrameReader {self._framer!r}, {len(self._waiting)} frames wait>"
