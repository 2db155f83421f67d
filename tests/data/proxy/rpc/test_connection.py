"""What clients of an RPC proxy notice: answers to their own ids in any order, signs of life, limits, ends. Bolt stands for all."""

import struct
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from mosn_xds.data.codec.rpc import PoolMode, RpcProtocol, reader
from mosn_xds.data.codec.rpc.bolt.protocol import Bolt
from mosn_xds.data.net.wire import Wire
from mosn_xds.data.proxy.rpc import connection
from mosn_xds.data.proxy.rpc.manager import RpcManager
from mosn_xds.spec.common import FormatText, HeaderOps, HeaderValue
from mosn_xds.spec.route import PathKind, RetryPolicy, Route, RouteAction, RouteMatch
from mosn_xds.spec.rpc import (
    ProtocolUse,
    RpcInput,
    RpcInputKind,
    RpcMatcher,
    RpcMatchMap,
    RpcOnMatch,
    RpcProxy,
    RpcRouteTable,
    RpcVirtualHost,
)
from tests.data.proxy.tcp_stage import Client, Stage
from tests.data.upstream.harness import UNLIMITED, Upstream, World, later, run, settled
from tests.support import bolt

CART = [(b"service", b"shop.Cart")]
NOT_THERE = [(b"service", b"shop.Nothing")]
_STATUS_OK, _STATUS_UNKNOWN, _STATUS_NO_PROCESSOR, _STATUS_TIMEOUT = 0, 3, 6, 7

Story = Callable[["Rpc"], Awaitable[None]]


class Rpc:
    """An RPC proxy for ``shop.Cart`` with one upstream, and clients of it."""

    def __init__(self, world: World, options: bytes, action: dict[str, Any]) -> None:
        self.world = world
        self.upstream = Upstream()
        self.cluster = world.cluster(self.upstream.port)
        self.stage = Stage(world)
        headers = action.pop("headers", HeaderOps())
        route = Route(RouteMatch(PathKind.PREFIX, ""), RouteAction(**{"cluster": "svc", **action}), headers=headers)
        services = RpcMatchMap(RpcInput(RpcInputKind.SERVICE), (("shop.Cart", RpcOnMatch(route)),))
        table = RpcRouteTable("shop", (RpcVirtualHost("all", ("*",), RpcMatcher(services)),))
        proxy = RpcProxy("generic_proxy.shop.", (ProtocolUse("bolt", "bolt", options),), routes=table)
        self.manager = RpcManager(proxy, self.stage.context)

    def client(self, **pair: Any) -> Client:
        return self.stage.client(terminal=self.manager, **pair)

    async def server(self) -> "Frames":
        return Frames((await self.upstream.accept()).stream)

    @property
    def figures(self) -> dict[str, int]:
        return self.world.figures("generic_proxy.shop.")


class Frames:
    """A connection, frame by frame, at the server's end or the client's."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._data = b""

    async def next(self) -> bytes:
        """A frame; empty at the end of the connection."""
        while not (size := _size(self._data)) or len(self._data) < size:
            more = bytes(await self.stream.receive_some())
            if not more:
                return b""
            self._data += more
        frame, self._data = self._data[:size], self._data[size:]
        return frame

    async def say(self, *frames: bytes) -> None:
        await self.stream.send_all(b"".join(frames))


def _size(data: bytes) -> int:
    """Of the frame that `data`, version 1, begins with; 0 if that is not clear."""
    if len(data) < 22 and (len(data) < 20 or data[1]):
        return 0
    at = 14 if data[1] else 12
    return at + 8 + sum(struct.unpack_from(">HHI", data, at))


def id_of(frame: bytes) -> int:
    id: int = struct.unpack_from(">I", frame, 5)[0]
    return id


def status_of(frame: bytes) -> int:
    status: int = struct.unpack_from(">H", frame, 10)[0]
    return status


def play(story: Story, options: bytes = b"", **action: Any) -> None:
    async def main(world: World) -> None:
        await story(Rpc(world, options, action))

    run(main)


def call(id: int, content: bytes = b"", **fields: Any) -> bytes:
    return bolt.request(CART, content, id=id, **fields)


def test_each_client_is_answered_under_its_own_ids_in_the_order_of_the_servers() -> None:
    async def story(rpc: Rpc) -> None:
        clients = [Frames(rpc.client().stream) for _ in range(2)]
        for client in clients:
            await client.say(call(7, b"a"), call(8, b"b"))
        server = await rpc.server()
        heard = [await server.next() for _ in range(4)]
        await server.say(*(bolt.response(content=frame[-1:], id=id_of(frame)) for frame in reversed(heard)))
        for client in clients:
            answers = [await client.next() for _ in range(2)]
            assert [(id_of(answer), answer[-1:]) for answer in answers] == [(8, b"b"), (7, b"a")]
        assert rpc.world.figures()["upstream_cx_total"] == 1

    play(story)


def test_two_calls_under_one_id_are_two_calls() -> None:
    async def story(rpc: Rpc) -> None:
        client = Frames(rpc.client().stream)
        await client.say(call(7), call(7))
        server = await rpc.server()
        for _ in range(2):
            await server.say(bolt.response(id=id_of(await server.next())))
        assert [id_of(await client.next()) for _ in range(2)] == [7, 7]

    play(story)


def test_one_way_calls_are_not_answered_whatever_becomes_of_them() -> None:
    async def story(rpc: Rpc) -> None:
        client = Frames(rpc.client().stream)
        await client.say(call(1, type_=2), bolt.request(NOT_THERE, id=2, type_=2), call(3))
        server = await rpc.server()
        heard = [await server.next() for _ in range(2)]
        assert [frame[1] for frame in heard] == [2, 1]
        await server.say(bolt.response(id=id_of(heard[1])))
        assert id_of(await client.next()) == 3
        assert (rpc.figures["downstream_rq_oneway"], rpc.figures["downstream_rq_total"]) == (2, 3)
        assert "downstream_rq_active" not in rpc.figures

    play(story)


def test_signs_of_life_are_given_here() -> None:
    async def story(rpc: Rpc) -> None:
        client = Frames(rpc.client().stream)
        await client.say(bolt.request(command=0, id=33, name=b""))
        answer = await client.next()
        assert answer == bolt.response(command=0, id=33, name=b"")
        assert "upstream_cx_total" not in rpc.world.figures()
        assert "downstream_rq_total" not in rpc.figures

    play(story)


def test_call_without_a_route_is_refused_as_one_without_a_server() -> None:
    async def story(rpc: Rpc) -> None:
        client = Frames(rpc.client().stream)
        await client.say(bolt.request(NOT_THERE, id=5))
        answer = await client.next()
        assert (id_of(answer), status_of(answer)) == (5, _STATUS_NO_PROCESSOR)
        assert rpc.figures["downstream_rq_local"] == 1

    play(story)


def test_garbage_ends_the_connection_with_what_is_under_way_and_no_other() -> None:
    async def story(rpc: Rpc) -> None:
        bad, good = rpc.client(), Frames(rpc.client().stream)
        await bad.stream.send_all(call(1) + b"\x07garbage")
        assert await bad.end() == "fin"
        assert bad.session.info.close_reason.startswith("bolt_")
        assert rpc.figures["downstream_rq_decoding_error"] == 1
        await good.say(call(2))
        server = await rpc.server()
        await server.say(bolt.response(id=id_of(await server.next())))
        assert id_of(await good.next()) == 2

    play(story)


def test_frame_above_the_limit_is_not_waited_for() -> None:
    async def story(rpc: Rpc) -> None:
        client = rpc.client()
        await client.stream.send_all(call(1, b"x" * 1000)[:60])
        assert await client.end() == "fin"
        assert client.session.info.close_reason == "bolt_frame_too_large"

    play(story, b'{"max_frame_bytes": 500}')


def test_clients_time_out_bounds_the_call() -> None:
    async def story(rpc: Rpc) -> None:
        client = Frames(rpc.client().stream)
        await client.say(call(1, timeout_ms=30))
        server = await rpc.server()
        late = await server.next()
        answer = await client.next()
        assert (id_of(answer), status_of(answer)) == (1, _STATUS_TIMEOUT)
        await server.say(bolt.response(id=id_of(late)))
        await client.say(call(2))
        await server.say(bolt.response(id=id_of(await server.next()), content=b"second"))
        assert (await client.next()).endswith(b"second")

    play(story)


def test_server_hears_of_the_routes_time_out_where_it_is_the_shorter_one() -> None:
    async def story(rpc: Rpc) -> None:
        client = Frames(rpc.client().stream)
        await client.say(call(1, timeout_ms=3000), call(2, timeout_ms=700), call(3, timeout_ms=-1))
        server = await rpc.server()
        told = [struct.unpack_from(">i", await server.next(), 10)[0] for _ in range(3)]
        assert told == [2000, 700, 2000]

    play(story, timeout_s=2.0)


def test_call_that_found_no_connection_is_tried_again() -> None:
    async def story(rpc: Rpc) -> None:
        gone = Upstream()
        gone.close()
        rpc.world.cluster(gone.port, rpc.upstream.port)
        client = Frames(rpc.client().stream)
        await client.say(call(1), call(2))
        server = await rpc.server()
        for _ in range(2):
            await server.say(bolt.response(id=id_of(await server.next())))
        assert {id_of(await client.next()) for _ in range(2)} == {1, 2}

    play(story, retry=RetryPolicy(retry_on=("connect-failure",), num_retries=2, previous_hosts=True))


def test_busy_server_is_asked_again_where_the_route_says_so() -> None:
    async def story(rpc: Rpc) -> None:
        client = Frames(rpc.client().stream)
        await client.say(call(1, b"content"))
        server = await rpc.server()
        first = await server.next()
        await server.say(bolt.response(id=id_of(first), status=4))
        second = await server.next()
        assert (second[9:], id_of(second) != id_of(first)) == (first[9:], True)
        await server.say(bolt.response(id=id_of(second), content=b"now"))
        assert (await client.next()).endswith(b"now")

    play(story, retry=RetryPolicy(retry_on=("gateway-error",), num_retries=2))


def test_answer_that_fits_into_no_frame_any_more_is_an_error_to_all_who_count() -> None:
    async def story(rpc: Rpc) -> None:
        client = Frames(rpc.client().stream)
        await client.say(call(1))
        server = await rpc.server()
        full = [(b"x", b"v" * 65_000)]
        await server.say(bolt.response(id=id_of(await server.next()), headers=full, content=b"never seen"))
        answer = await client.next()
        assert (id_of(answer), status_of(answer)) == (1, _STATUS_UNKNOWN)
        assert not answer.endswith(b"never seen")
        assert rpc.figures["downstream_rq_error"] == rpc.figures["downstream_rq_5xx"] == 1
        assert rpc.manager.rpc_stats.codes == {_STATUS_UNKNOWN: 1}
        await client.say(call(2))
        await server.say(bolt.response(id=id_of(await server.next())))
        assert status_of(await client.next()) == _STATUS_OK

    play(story, headers=HeaderOps(response_add=(HeaderValue("by", (FormatText("p" * 600),)),)))


def test_client_that_leaves_gives_its_calls_up() -> None:
    async def story(rpc: Rpc) -> None:
        client = rpc.client()
        await client.stream.send_all(call(1))
        server = await rpc.server()
        await server.next()
        await client.stream.aclose()
        await settled(rpc.world)
        assert rpc.figures["downstream_rq_rx_reset"] == 1
        assert "upstream_rq_active" not in rpc.world.figures()
        assert rpc.world.figures()["upstream_cx_active"] == 1  # which others use

    play(story)


def test_client_with_too_many_calls_under_way_is_not_read_from(monkeypatch: pytest.MonkeyPatch) -> None:
    most = 200
    monkeypatch.setattr(connection, "MOST_STREAMS", most)
    monkeypatch.setattr(reader, "SLICE", 50)

    async def story(rpc: Rpc) -> None:
        client = rpc.client()
        count = 2000
        rpc.world.cluster(rpc.upstream.port, breakers=UNLIMITED)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.stream.send_all, b"".join(call(id + 1) for id in range(count)))
            server = await rpc.server()
            heard = [id_of(await server.next()) for _ in range(most)]
            await later(rpc.world, 0.05)
            assert rpc.figures["downstream_rq_active"] == most
            frames = Frames(client.stream)
            for number in range(count):
                if number >= len(heard):
                    heard.append(id_of(await server.next()))
                await server.say(bolt.response(id=heard[number]))
                await frames.next()
        assert rpc.figures["downstream_rq_2xx"] == count

    play(story)


def test_protocol_without_ids_is_answered_in_the_order_of_the_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bolt, "has_ids", False)
    monkeypatch.setattr(Bolt, "pool", PoolMode.PING_PONG)
    monkeypatch.setattr(Bolt, "with_id", RpcProtocol.with_id)

    async def story(rpc: Rpc) -> None:
        client = Frames(rpc.client().stream)
        await client.say(call(1, b"a"), call(1, b"b"), bolt.request(NOT_THERE, id=1), call(1, b"c"))
        server = await rpc.server()
        for expected in (b"a", b"b", b"c"):
            frame = await server.next()
            assert frame[-1:] == expected
            await settled(rpc.world)
            await server.say(bolt.response(content=expected))
        answers = [await client.next() for _ in range(4)]
        assert [answer[-1:] for answer in answers[:2] + answers[3:]] == [b"a", b"b", b"c"]
        assert status_of(answers[2]) == _STATUS_NO_PROCESSOR

    play(story)


def test_client_that_does_not_read_is_not_read_from() -> None:
    async def story(rpc: Rpc) -> None:
        client = rpc.client(buffer_bytes=4096)
        await client.stream.send_all(b"".join(call(id) for id in range(1, 4)))
        server = await rpc.server()
        for _ in range(3):
            await server.say(bolt.response(id=id_of(await server.next()), content=b"x" * 200_000))
        await settled(rpc.world)
        wire: Wire = client.session.wire  # type: ignore[attr-defined]
        assert wire.pending_bytes > 100_000
        await client.stream.send_all(call(4))
        await settled(rpc.world)
        assert rpc.figures["downstream_rq_total"] == 3
        frames = Frames(client.stream)
        for _ in range(3):
            assert len(await frames.next()) > 200_000
        await server.say(bolt.response(id=id_of(await server.next())))
        assert id_of(await frames.next()) == 4

    play(story)


def test_client_with_too_many_bytes_under_way_is_not_read_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MOST_BYTES", 300_000)

    async def story(rpc: Rpc) -> None:
        client = rpc.client()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.stream.send_all, b"".join(call(id, b"x" * 50_000) for id in range(1, 41)))
            server = await rpc.server()
            heard = [id_of(await server.next()) for _ in range(6)]
            await settled(rpc.world)
            assert rpc.figures["downstream_rq_active"] < 20  # what one read brings
            frames = Frames(client.stream)
            for number in range(40):
                if number >= len(heard):
                    heard.append(id_of(await server.next()))
                await server.say(bolt.response(id=heard[number]))
                await frames.next()

    play(story)


def test_client_that_asks_for_ever_more_than_it_reads_is_given_up() -> None:
    async def story(rpc: Rpc) -> None:
        client = rpc.client(buffer_bytes=4096)
        await client.stream.send_all(b"".join(call(id) for id in range(1, 21)))
        server = await rpc.server()
        for _ in range(20):
            await server.say(bolt.response(id=id_of(await server.next()), content=b"x" * 100_000))
        await settled(rpc.world)
        assert rpc.figures["downstream_cx_overflow"] == 1
        assert client.session.info.close_reason == "bolt_answers_not_read"
        assert "downstream_cx_active" not in rpc.figures
        assert rpc.figures["downstream_cx_tx_bytes_total"] < 1_000_000
        patient = Frames(rpc.client().stream)  # of others, who share the upstream connection, nobody notices
        await patient.say(call(1))
        await server.say(bolt.response(id=id_of(await server.next()), content=b"x" * 2_000_000))
        assert len(await patient.next()) > 2_000_000

    play(story, b'{"max_unread_bytes": 500000}')


def test_connection_that_is_to_end_ends_behind_its_last_answer_and_says_so_where_it_can() -> None:
    async def story(rpc: Rpc) -> None:
        client = rpc.client()
        await client.stream.send_all(call(1) + call(2))
        server = await rpc.server()
        ids = [id_of(await server.next()) for _ in range(2)]
        assert not client.session.close_if_idle()
        frames = Frames(client.stream)
        assert struct.unpack_from(">H", await frames.next(), 2)[0] == 100  # GOAWAY
        await server.say(*(bolt.response(id=id) for id in ids))
        assert [id_of(await frames.next()) for _ in range(2)] == [1, 2]
        assert await frames.next() == b""

    play(story, b'{"goaway": true}')
