"""What waits for a server that does not read is bounded, whatever its clients send, and whether they wait for it or not."""

from contextlib import suppress

import pytest
import trio

from mosn_xds.data.upstream import rpc, rpc_binding
from tests.data.proxy.rpc.test_bound import Scene, line
from tests.data.proxy.rpc.test_bound import play as play_bound
from tests.data.proxy.rpc.test_connection import CART, Frames, Rpc, id_of, play, status_of
from tests.support import bolt

_ONEWAY = 2
_SIZE = 100_000
_BUFFERS = 12_000_000
"""More than the system and a wire keep of a loopback connection."""


async def sent_for(client: Frames, frame: bytes, seconds: float) -> int:
    """How many of these frames a client can send in this time."""
    sent = 0
    with trio.move_on_after(seconds):
        while True:
            await client.say(frame)
            sent += 1
    return sent


def test_one_way_calls_to_a_server_that_does_not_read_are_not_read_either() -> None:
    async def story(stage: Rpc) -> None:
        client = Frames(stage.client().stream)
        frame = bolt.request(CART, b"x" * _SIZE, id=1, type_=_ONEWAY)
        sent = await sent_for(client, frame, 0.7)
        assert sent * _SIZE < _BUFFERS + 4_000_000
        server = await stage.server()
        with trio.fail_after(60):
            for _ in range(sent):
                assert len(await server.next()) == len(frame)
        assert stage.manager.rpc_stats.downstream_rq_oneway >= sent

    play(story, timeout_s=0)


def test_calls_beyond_what_may_wait_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc, "MOST_UNSENT_BYTES", _SIZE)

    async def story(stage: Rpc) -> None:
        client = Frames(stage.client().stream)
        refused = 0
        for id in range(200):
            await client.say(bolt.request(CART, b"x" * _SIZE, id=id, timeout_ms=5))
            answer = await client.next()
            assert id_of(answer) == id
            refused += status_of(answer) != 7
        assert refused > 50

    play(story)


def test_a_bound_server_that_does_not_read_what_its_client_says_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc_binding, "MOST_UNSENT_BYTES", _SIZE)

    async def story(scene: Scene) -> None:
        client = scene.join()
        await client.stream.send_all(b"hello\n")
        peer = await scene.accept()
        assert await line(peer.stream) == b"hello\n"
        await peer.stream.send_all(b"hi\n")
        assert await line(client.stream) == b"hi\n"
        pushes = (b"*" + b"x" * 50 + b"\n") * 2000

        async def push() -> None:
            with suppress(trio.BrokenResourceError):
                while True:
                    await client.stream.send_all(pushes)

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(push)
                assert await line(client.stream) == b"bye\n"
                nursery.cancel_scope.cancel()

    play_bound(story)
