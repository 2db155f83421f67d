"""Bounds on frames that are legal but serve only to wear a peer down: Envoy's `protocol_constraints.cc`.

Libraries do not tell of all frames, so the guard reads the frame headers itself, of what comes in, before the library sees
it. It knows lengths, types and flags, never a payload (but for the one byte that says how much of it is padding), and asks
a number of questions per frame that does not depend on the frame. What is sent is counted by the codec, which knows it.
"""

from typing import Final

from mosn_xds.data.codec.http2 import codes
from mosn_xds.data.codec.http2.codes import FrameType
from mosn_xds.data.codec.http2.options import FloodLimits
from mosn_xds.data.codec.http2.stats import Http2Stats

_HEADER_BYTES: Final = 9
_HEADERS: Final = int(FrameType.HEADERS)
_CONTINUATION: Final = int(FrameType.CONTINUATION)
_PRIORITY: Final = int(FrameType.PRIORITY)
_WINDOW_UPDATE: Final = int(FrameType.WINDOW_UPDATE)
_ANSWERED: Final = frozenset((int(FrameType.PING), int(FrameType.SETTINGS)))
_END_STREAM: Final = 0x1
_ACK: Final = 0x1
_PADDED: Final = 0x8
_FREE_WINDOW_UPDATES: Final = 5


class FrameGuard:
    """Counts one connection's frames. `streams` and `data_frames_sent` are counted by the codec."""

    __slots__ = (
        "_empty", "_heads", "_limits", "_priorities", "_rest", "_skip", "_stats", "_window_updates", "control_owed",
        "data_frames_sent", "streams",
    )  # fmt: skip

    def __init__(self, limits: FloodLimits, stats: Http2Stats, preface_bytes: int) -> None:
        """`preface_bytes`: how much comes before the first frame."""
        self._limits = limits
        self._stats = stats
        self._skip = preface_bytes
        self._rest = b""
        self._empty = 0
        self._heads = 0  # frames that may open streams which the codec has not counted yet: they are in the same bytes
        self._priorities = 0
        self._window_updates = 0
        self.streams = 0
        self.data_frames_sent = 0
        self.control_owed = 0
        """Frames of the peer that are to be answered, since the last time that all output had left."""

    def check(self, data: bytes) -> str | None:
        """Look at what has come. Returns Envoy's details if it is too much: the connection should end at once."""
        skip = self._skip
        size = len(data)
        if skip >= size:
            self._skip = skip - size
            return None
        if self._rest:
            data = self._rest + data
            size += len(self._rest)
            self._rest = b""
        at = skip
        flood = None
        while at + _HEADER_BYTES < size:  # one byte more than the header: it may be about padding
            length = data[at] << 16 | data[at + 1] << 8 | data[at + 2]
            kind = data[at + 3]
            if kind == _HEADERS:
                self._heads += 1
            if length < 256 and (kind > _HEADERS or not length or data[at + 4] & _PADDED):
                flood = self._note(kind, length, data[at + 4], data[at + 9] if length else 0)
                if flood is not None:
                    return flood
            else:
                self._empty = 0
            at += _HEADER_BYTES + length
        if at + _HEADER_BYTES == size and not data[at] | data[at + 1] | data[at + 2]:
            flood = self._note(data[at + 3], 0, data[at + 4], 0)
            at = size
        if at >= size:
            self._skip = at - size
        else:
            self._skip = 0
            self._rest = data[at:]
        return flood

    def _note(self, kind: int, length: int, flags: int, first: int) -> str | None:
        limits = self._limits
        stats = self._stats
        if kind <= _HEADERS or kind == _CONTINUATION:
            empty = not length or (kind <= _HEADERS and flags & _PADDED and length == 1 + first)
            if not empty or flags & _END_STREAM:
                self._empty = 0
                return None
            self._empty += 1
            if self._empty > limits.max_consecutive_inbound_frames_with_empty_payload:
                stats.inbound_empty_frames_flood += 1
                return codes.EMPTY_FRAMES_FLOOD
        elif kind == _WINDOW_UPDATE:
            self._window_updates += 1
            per_frame = limits.max_inbound_window_update_frames_per_data_frame_sent
            allowed = _FREE_WINDOW_UPDATES + 2 * (max(self.streams, self._heads) + per_frame * self.data_frames_sent)
            if self._window_updates > allowed:
                stats.inbound_window_update_frames_flood += 1
                return codes.WINDOW_UPDATE_FLOOD
        elif kind == _PRIORITY:
            self._priorities += 1
            if self._priorities > limits.max_inbound_priority_frames_per_stream * (1 + max(self.streams, self._heads)):
                stats.inbound_priority_frames_flood += 1
                return codes.PRIORITY_FLOOD
        elif kind in _ANSWERED and not flags & _ACK:
            self.control_owed += 1
            if self.control_owed > limits.max_outbound_control_frames:
                stats.outbound_control_flood += 1
                return codes.OUTBOUND_CONTROL_FLOOD
        return None

    def __repr__(self) -> str:
        return f"<FrameGuard {self.streams} streams, {self._window_updates} window updates>"
