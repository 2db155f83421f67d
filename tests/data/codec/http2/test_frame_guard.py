"""What the guard makes of frames that come together with the streams that allow them."""

from mosn_xds.data.codec.http2.guard import FrameGuard
from mosn_xds.data.codec.http2.options import FloodLimits
from mosn_xds.data.codec.http2.stats import Http2Stats


def frame(kind: int, payload: bytes = b"", flags: int = 0, stream_id: int = 1) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream_id.to_bytes(4, "big") + payload


HEADERS = frame(1, b"\x82\x84\x86", 0x4)
WINDOW_UPDATE = frame(8, b"\x00\x00\x00\x01")


def guard() -> FrameGuard:
    return FrameGuard(FloodLimits(), Http2Stats("http2."), 0)


def test_each_of_many_requests_in_one_read_may_open_its_window() -> None:
    assert guard().check((HEADERS + WINDOW_UPDATE) * 200) is None


def test_window_updates_without_requests_are_a_flood() -> None:
    assert guard().check(HEADERS + WINDOW_UPDATE * 200) == "http2.inbound_window_update_frames_flood"
