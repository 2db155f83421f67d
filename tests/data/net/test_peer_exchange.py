"""TCP metadata exchange: the peer's frame comes out, whatever way the bytes arrive; what is none is the application's."""

import pytest

from mosn_xds.data.net.peer_exchange import LIMIT_BYTES, MAGIC, PeerExchange

FRAME = MAGIC.to_bytes(4, "big") + (5).to_bytes(4, "big") + b"hello"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 12, 13, 14, 100])
def test_the_frame_is_taken_out_however_it_is_cut(size: int) -> None:
    exchange = PeerExchange()
    stream = FRAME + b"the application's"
    out = b""
    for at in range(0, len(stream), size):
        piece = stream[at : at + size]
        out += piece if exchange.done else exchange.receive(piece)
    assert (out, exchange.told, exchange.done) == (b"the application's", b"hello", True)


@pytest.mark.parametrize(
    "stream",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        MAGIC.to_bytes(4, "big")[:3] + b"\x00and more",
        MAGIC.to_bytes(4, "big") + (LIMIT_BYTES + 1).to_bytes(4, "big") + b"x",
        b"\x00",
    ],
)
def test_bytes_that_are_no_frame_are_the_applications(stream: bytes) -> None:
    exchange = PeerExchange()
    assert exchange.receive(stream) == stream
    assert exchange.done and exchange.told == b""


def test_a_frame_that_ends_early_was_none() -> None:
    exchange = PeerExchange()
    assert exchange.receive(FRAME[:10]) == b""
    assert (exchange.finish(), exchange.done) == (FRAME[:10], True)
