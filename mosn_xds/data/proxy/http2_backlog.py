"""How many HTTP/2 frames wait for a client that does not read: Envoy's limit on outbound frames.

The codec counts frames when it is told to send them, the wire knows bytes. A mark per flush ties the one to the other; marks
of what has left are dropped, so there are as many as flushes wait.
"""

from collections import deque

from mosn_xds.data.net.wire import Wire


class Backlog:
    """Of one connection."""

    __slots__ = ("_left", "_marks", "_wire")

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._marks: deque[tuple[int, int]] = deque()
        self._left = 0

    def written(self, frames: int) -> None:
        """All of the first `frames` frames have been given to the wire."""
        wire = self._wire
        self._marks.append((wire.bytes_sent + wire.pending_bytes, frames))
        if len(self._marks) > 1:
            self._drop()

    def unsent(self, frames: int) -> int:
        """How many of the first `frames` frames the socket has not taken."""
        self._drop()
        return frames - self._left

    def _drop(self) -> None:
        sent = self._wire.bytes_sent
        marks = self._marks
        while marks and marks[0][0] <= sent:
            self._left = marks.popleft()[1]

    def __repr__(self) -> str:
        return f"<Backlog {len(self._marks)} marks>"
