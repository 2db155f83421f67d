"""A protocol that raises what it must not costs the call that it raised for, or its client, and nobody else."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from mosn_xds.data.codec.rpc import RpcMessage, RpcRequest, reader
from mosn_xds.data.codec.rpc.bolt.options import BoltOptions
from mosn_xds.data.codec.rpc.bolt.protocol import Bolt
from mosn_xds.spec.route import RetryPolicy
from tests.data.proxy.rpc.test_connection import CART, NOT_THERE, Frames, Rpc, call, id_of, status_of
from tests.data.upstream.harness import World, run
from tests.support import bolt

_ERROR = 16


class Fragile(Bolt):
    """Trips over frames with certain contents."""

    def frame_bytes(self, data: bytes, at: int) -> int:
        if b"fatal frame" in data:
            raise IndexError("frame")
        return super().frame_bytes(data, at)

    def from_client(self, frame: bytes) -> RpcMessage:
        if b"fatal request" in frame:
            raise ZeroDivisionError("request")
        return super().from_client(frame)

    def from_server(self, frame: bytes) -> RpcMessage:
        if b"fatal response" in frame:
            raise ZeroDivisionError("response")
        return super().from_server(frame)

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


def play(story: Callable[[Rpc, Frames, Frames], Awaitable[None]], **action: Any) -> None:
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
        with trio.fail_after(20):
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

    play(story, timeout_s=0.4)


RESPONSES = pytest.mark.parametrize("content", [b"fatal response", b"fatal frame"])


@RESPONSES
def test_a_response_that_cannot_be_read_fails_the_calls_of_its_connection_at_once(content: bytes) -> None:
    async def story(rpc: Rpc, bad: Frames, good: Frames) -> None:
        await bad.say(call(1))
        await good.say(call(2))
        server = await rpc.server()
        sent = [await server.next() for _ in range(2)]
        await server.say(bolt.response(content=content, id=id_of(sent[0])))
        with trio.fail_after(20):
            assert [status_of(await client.next()) for client in (bad, good)] == [_ERROR, _ERROR]
        assert await server.next() == b""
        await good.say(call(3))
        again = await rpc.server()
        await again.say(bolt.response(id=id_of(await again.next())))
        assert status_of(await good.next()) == 0
        figures = rpc.world.figures("cluster.svc.bolt.")
        assert (figures["protocol_exceptions"], "decoding_error" in figures) == (1, False)
        assert rpc.world.reactor.failures == 0
        assert rpc.figures["downstream_rq_flag.UPE"] == 2

    play(story)


def test_calls_of_such_a_connection_are_tried_again_where_their_route_says_so() -> None:
    async def story(rpc: Rpc, bad: Frames, good: Frames) -> None:
        await bad.say(call(1))
        await good.say(call(2))
        server = await rpc.server()
        sent = [await server.next() for _ in range(2)]
        await server.say(bolt.response(content=b"fatal response", id=id_of(sent[0])))
        server = await rpc.server()
        for _ in range(2):
            await server.say(bolt.response(id=id_of(await server.next())))
        assert [status_of(await client.next()) for client in (bad, good)] == [0, 0]

    play(story, retry=RetryPolicy(("reset",), 1))


def test_a_response_that_cannot_be_read_among_many_that_came_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "SLICE", 2)

    async def story(rpc: Rpc, bad: Frames, good: Frames) -> None:
        await good.say(*(call(id) for id in range(1, 7)))
        server = await rpc.server()
        ids = [id_of(await server.next()) for _ in range(6)]
        await server.say(*(bolt.response(content=b"fatal response" if id == ids[3] else b"", id=id) for id in ids))
        with trio.fail_after(20):
            assert [status_of(await good.next()) for _ in ids] == [0, 0, 0, _ERROR, _ERROR, _ERROR]
        assert rpc.world.reactor.failures == 0

    play(story)


@pytest.mark.parametrize("content", [b"fatal request", b"fatal frame"])
def test_a_request_that_cannot_be_read_costs_its_client_the_connection_and_nobody_else(content: bytes) -> None:
    async def story(rpc: Rpc, bad: Frames, good: Frames) -> None:
        await good.say(call(1))
        server = await rpc.server()
        waiting = id_of(await server.next())
        await bad.say(call(2, content))
        with trio.fail_after(20):
            assert await bad.next() == b""
        await server.say(bolt.response(id=waiting))
        assert id_of(await good.next()) == 1
        assert (rpc.figures["protocol_exceptions"], rpc.world.reactor.failures) == (1, 0)

    play(story)


def test_the_log_names_protocol_and_class_once_with_the_traceback(caplog: pytest.LogCaptureFixture) -> None:
    async def story(rpc: Rpc, bad: Frames, good: Frames) -> None:
        for id in range(1, 4):
            await good.say(call(id))
            server = await rpc.server()
            await server.say(bolt.response(content=b"fatal response", id=id_of(await server.next())))
            assert status_of(await good.next()) == _ERROR
        assert rpc.world.figures("cluster.svc.bolt.")["protocol_exceptions"] == 3

    play(story)
    (record,) = [one for one in caplog.records if one.name == "mosn_xds.rpc"]
    said = record.getMessage()
    assert said.startswith(f"protocol bolt ({__name__}.Fragile) raised ZeroDivisionError in from_server: ")
    assert "and with it its calls" in said
    assert record.exc_info is not None and "response" in str(record.exc_info[1])
