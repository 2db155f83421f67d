"""A protocol that raises what it must not costs the call that it raised for, or its client, and nobody else."""

from collections.abc import Awaitable, Callable

import pytest
import trio

from mosn_xds.data.codec.rpc import RpcRequest
from mosn_xds.data.codec.rpc.bolt.options import BoltOptions
from mosn_xds.data.codec.rpc.bolt.protocol import Bolt
from tests.data.proxy.rpc.test_connection import CART, NOT_THERE, Frames, Rpc, call, id_of, status_of
from tests.data.upstream.harness import World, run
from tests.support import bolt


class Fragile(Bolt):
    """Trips over requests with a certain header."""

    def with_id(self, frame: bytes, id: int) -> bytes:
        if b"fatal id" in frame:
            raise OverflowError("id")
        return super().with_id(frame, id)

    def answer(self, frame: bytes, request: RpcRequest) -> bytes:
        if b"fatal answer" in request.frame:
            raise KeyError("answer")
        return super().answer(frame, request)

    def reply(self, request: RpcRequest, status: int, reason: str) -> bytes:
        if b"fatal reply" in request.frame:
            raise UnicodeError("reply")
        return super().reply(request, status, reason)


def play(story: Callable[[Rpc, Frames, Frames], Awaitable[None]], **action: float) -> None:
    """With a client whose requests are bad, and another one."""

    async def main(world: World) -> None:
        rpc = Rpc(world, b"", dict(action))
        rpc.manager.protocols = (Fragile(BoltOptions()),)
        await story(rpc, Frames(rpc.client().stream), Frames(rpc.client().stream))

    run(main)


async def served(rpc: Rpc, server: Frames, client: Frames, id: int) -> None:
    await client.say(call(id))
    await server.say(bolt.response(id=id_of(await server.next())))
    answer = await client.next()
    assert (id_of(answer), status_of(answer)) == (id, 0)


def test_a_request_that_cannot_be_sent_on_fails_alone() -> None:
    async def story(rpc: Rpc, bad: Frames, good: Frames) -> None:
        await good.say(call(1))
        server = await rpc.server()
        waiting = id_of(await server.next())
        await bad.say(call(2, b"fatal id"))
        assert status_of(await bad.next()) != 0
        await server.say(bolt.response(id=waiting))
        assert (id_of(await good.next()), rpc.world.reactor.failures) == (1, 0)
        await served(rpc, server, bad, 3)
        assert rpc.world.figures("cluster.svc.bolt.")["protocol_exceptions"] == 1

    play(story)


def test_an_answer_that_cannot_be_worded_costs_its_client_the_connection_and_nobody_else() -> None:
    async def story(rpc: Rpc, bad: Frames, good: Frames) -> None:
        await good.say(call(1))
        server = await rpc.server()
        waiting = id_of(await server.next())
        await bad.say(call(2, b"fatal answer"))
        await server.say(bolt.response(id=id_of(await server.next())))
        assert await bad.next() == b""
        await server.say(bolt.response(id=waiting))
        assert id_of(await good.next()) == 1
        await served(rpc, server, good, 3)
        assert rpc.figures["protocol_exceptions"] == 1
        assert (rpc.manager.stats.downstream_rq_active, rpc.manager.stats.downstream_cx_active) == (0, 1)

    play(story)


@pytest.mark.parametrize("headers", [NOT_THERE, CART])
def test_an_error_that_cannot_be_worded_either(headers: list[tuple[bytes, bytes]]) -> None:
    async def story(rpc: Rpc, bad: Frames, good: Frames) -> None:
        await bad.say(bolt.request(headers, b"fatal reply", id=2))
        with trio.fail_after(2):
            assert await bad.next() == b""
        assert rpc.figures["protocol_exceptions"] == 1
        assert rpc.manager.stats.downstream_rq_active == 0
        await good.say(call(1))
        server = await rpc.server()
        sent = [await server.next()]
        if headers is CART:
            sent.append(await server.next())
        await server.say(bolt.response(id=id_of(sent[-1])))
        assert id_of(await good.next()) == 1

    play(story, timeout_s=0.1)
