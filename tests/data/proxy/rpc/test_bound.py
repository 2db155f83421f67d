"""Clients with an upstream connection of their own: a protocol of lines, without ids, whose server may speak when it likes."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from mosn_xds.data.codec.rpc import (
    BadFrame,
    Kind,
    PoolMode,
    RpcMessage,
    RpcOptions,
    RpcProtocol,
    RpcRequest,
    RpcResponse,
)
from mosn_xds.data.codec.rpc.bolt.options import BoltOptions
from mosn_xds.data.codec.rpc.bolt.protocol import Bolt
from mosn_xds.data.net.wire import Wire
from mosn_xds.data.proxy.rpc.manager import RpcManager
from mosn_xds.data.upstream import rpc_binding
from mosn_xds.spec.cluster import Breakers
from mosn_xds.spec.route import PathKind, RetryPolicy, Route, RouteAction, RouteMatch
from mosn_xds.spec.rpc import ProtocolUse, RpcMatcher, RpcOnMatch, RpcProxy, RpcRouteTable, RpcVirtualHost
from tests.data.proxy.tcp_stage import Client, Stage
from tests.data.upstream.harness import Peer, Upstream, World, later, run, settled
from tests.support import bolt

KINDS = {b"!": Kind.ONEWAY, b"*": Kind.PUSH, b"~": Kind.GOAWAY}


class Lines(RpcProtocol):
    """Each frame is a line, and its first sign may say what it is for."""

    name = "lines"
    pool = PoolMode.BOUND
    head_bytes = 64

    def frame_bytes(self, data: bytes, at: int) -> int:
        return data.find(b"\n", at) + 1 - at if b"\n" in data[at:] else 0

    def from_client(self, frame: bytes) -> RpcMessage:
        if frame.startswith(b"?"):
            raise BadFrame("question")
        return self._request(frame, KINDS.get(frame[:1], Kind.REQUEST))

    def from_server(self, frame: bytes) -> RpcMessage:
        kind = KINDS.get(frame[:1])
        if kind is not None:
            return self._request(frame, kind)
        return RpcResponse.of(self.version, frame, 0, status=200)

    def _request(self, frame: bytes, kind: Kind) -> RpcRequest:
        return RpcRequest.of(self.version, frame, 0, service=b"lines", method=b"say", kind=kind)

    def with_id(self, frame: bytes, id: int) -> bytes:
        return frame

    def reply(self, request: RpcRequest, status: int, reason: str) -> bytes:
        return f"{status} {reason}\n".encode()

    def goaway(self) -> bytes:
        return b"bye\n"


class Scene(Stage):
    """A stage with an RPC proxy in front of these upstreams."""

    def __init__(self, world: World, *upstreams: Upstream, protocol: RpcProtocol, **action: Any) -> None:
        super().__init__(world)
        self.upstreams = upstreams
        route = Route(RouteMatch(PathKind.PREFIX, ""), RouteAction(cluster="svc", **action))
        table = RpcRouteTable("t", (RpcVirtualHost("all", ("*",), RpcMatcher(no_match=RpcOnMatch(route))),))
        spec = RpcProxy("generic_proxy.test.", (ProtocolUse("x", "bolt"),), routes=table, bind_upstream=True)
        self.manager = RpcManager(spec, self.context)
        self.manager.protocols = (protocol,)

    def join(self) -> Client:
        return self.client(terminal=self.manager)

    async def accept(self) -> Peer:
        """Whichever upstream is connected to."""
        found: list[Peer] = []
        async with trio.open_nursery() as nursery:

            async def one(upstream: Upstream) -> None:
                found.append(await upstream.accept())
                nursery.cancel_scope.cancel()

            for upstream in self.upstreams:
                nursery.start_soon(one, upstream)
        (peer,) = found
        return peer


def play(
    story: Callable[[Scene], Awaitable[None]],
    protocol: RpcProtocol | None = None,
    cluster: dict[str, Any] | None = None,
    **action: Any,
) -> World:
    async def main(world: World) -> None:
        upstreams = [Upstream(), Upstream()]
        world.cluster(*[upstream.port for upstream in upstreams], **(cluster or {}))
        await story(Scene(world, *upstreams, protocol=protocol or Lines(RpcOptions()), **action))

    return run(main)


async def line(stream: trio.SocketStream) -> bytes:
    found = b""
    while not found.endswith(b"\n"):
        data = await stream.receive_some(1)
        assert data, f"closed after {found!r}"
        found += bytes(data)
    return found


async def exchange(client: Client, peer: Peer, text: bytes) -> None:
    await client.stream.send_all(text + b"\n")
    assert await line(peer.stream) == text + b"\n"
    await peer.stream.send_all(b"re " + text + b"\n")
    assert await line(client.stream) == b"re " + text + b"\n"


def test_each_client_has_an_upstream_of_its_own_for_all_its_requests() -> None:
    async def story(scene: Scene) -> None:
        first, second = scene.join(), scene.join()
        await first.stream.send_all(b"a\n")
        to_first = await scene.accept()
        await second.stream.send_all(b"b\n")
        to_second = await scene.accept()
        for client, peer, text in ((first, to_first, b"a\n"), (second, to_second, b"b\n")):
            assert await line(peer.stream) == text
            await peer.stream.send_all(text)
            assert await line(client.stream) == text
        for _ in range(4):
            await exchange(first, to_first, b"first")
            await exchange(second, to_second, b"second")
        figures = scene.world.figures()
        assert (figures["upstream_cx_total"], figures["upstream_rq_total"]) == (2, 10)

    play(story)


def test_answers_without_ids_belong_to_requests_in_their_order() -> None:
    async def story(scene: Scene) -> None:
        client = scene.join()
        await client.stream.send_all(b"1\n2\n3\n")
        peer = await scene.accept()
        assert [await line(peer.stream) for _ in range(3)] == [b"1\n", b"2\n", b"3\n"]
        await peer.stream.send_all(b"one\ntwo\n")
        await peer.stream.send_all(b"three\n")
        assert [await line(client.stream) for _ in range(3)] == [b"one\n", b"two\n", b"three\n"]

    play(story)


def test_an_answer_that_comes_too_late_is_nobody_elses() -> None:
    async def story(scene: Scene) -> None:
        client = scene.join()
        await client.stream.send_all(b"slow\n")
        peer = await scene.accept()
        assert await line(peer.stream) == b"slow\n"
        assert (await line(client.stream)).startswith(b"504")
        await client.stream.send_all(b"next\n")
        assert await line(peer.stream) == b"next\n"
        await peer.stream.send_all(b"late\nnext's\n")
        assert await line(client.stream) == b"next's\n"
        assert scene.world.figures("cluster.svc.lines.")["response_unmatched"] == 1

    play(story, timeout_s=0.4)


def test_a_server_that_owes_too_many_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc_binding, "_MOST_UNANSWERED", 3)

    async def story(scene: Scene) -> None:
        client = scene.join()
        for _ in range(3):
            await client.stream.send_all(b"anybody?\n")
            assert (await line(client.stream)).startswith(b"504")
        await client.stream.send_all(b"anybody?\n")
        assert await line(client.stream) == b"bye\n"
        assert (await line(client.stream)).startswith(b"504")
        assert await client.stream.receive_some() == b""

    play(story, timeout_s=0.02)


def test_what_the_server_says_of_its_own_accord_reaches_the_client() -> None:
    async def story(scene: Scene) -> None:
        client = scene.join()
        await client.stream.send_all(b"hello\n")
        peer = await scene.accept()
        await peer.stream.send_all(b"*news\n")
        assert await line(client.stream) == b"*news\n"
        await peer.stream.send_all(b"hello yourself\n*more\n")
        assert await line(client.stream) == b"hello yourself\n"
        assert await line(client.stream) == b"*more\n"
        await client.stream.send_all(b"*noted\n")
        assert await line(peer.stream) == b"hello\n"
        assert await line(peer.stream) == b"*noted\n"
        assert "push_dropped" not in scene.world.figures("cluster.svc.lines.")

    play(story)


def test_ids_of_a_protocol_that_has_them_are_not_changed() -> None:
    async def story(scene: Scene) -> None:
        client = scene.join()
        requests = [bolt.request([(b"service", b"s")], id=id) for id in (77, 5, 77)]
        await client.stream.send_all(b"".join(requests))
        peer = await scene.accept()
        got = b""
        while len(got) < sum(map(len, requests)):
            got += bytes(await peer.stream.receive_some())
        assert got == b"".join(requests)
        answers = [bolt.response(content=content, id=id) for id, content in ((5, b"b"), (77, b"a"), (77, b"c"))]
        await peer.stream.send_all(b"".join(answers))
        assert await client.read(sum(map(len, answers))) == b"".join(answers)

    play(story, Bolt(Bolt.Options()))


def test_when_the_client_leaves_its_upstream_ends() -> None:
    async def story(scene: Scene) -> None:
        client = scene.join()
        await client.stream.send_all(b"a\n!said and gone\n")
        peer = await scene.accept()
        await settled(scene.world)
        await client.stream.aclose()
        assert await peer.closed() == b"a\n!said and gone\n"
        await settled(scene.world)
        assert scene.done == 1
        assert "upstream_cx_active" not in scene.world.figures()

    play(story)


def test_when_the_upstream_ends_what_waits_is_answered_and_the_client_is_told_to_go() -> None:
    async def story(scene: Scene) -> None:
        client = scene.join()
        await client.stream.send_all(b"a\n")
        peer = await scene.accept()
        await line(peer.stream)
        await peer.close()
        said = await client.read_all()
        assert b"503 " in said and b"bye\n" in said
        await client.stream.aclose()
        await settled(scene.world)
        assert (scene.done, scene.world.figures()["upstream_cx_total"]) == (1, 1)

    play(story, retry=RetryPolicy(("reset", "connect-failure"), num_retries=3))


def test_an_upstream_that_asks_for_no_more_gets_no_more() -> None:
    async def story(scene: Scene) -> None:
        client = scene.join()
        await client.stream.send_all(b"a\n")
        peer = await scene.accept()
        await line(peer.stream)
        await peer.stream.send_all(b"~\n")
        assert await line(client.stream) == b"bye\n"
        await peer.stream.send_all(b"the last\n")
        assert await client.read_all() == b"the last\n"
        assert await peer.closed() == b""

    play(story)


def test_a_change_of_the_cluster_ends_the_binding() -> None:
    async def story(scene: Scene) -> None:
        client = scene.join()
        await client.stream.send_all(b"a\n")
        peer = await scene.accept()
        await line(peer.stream)
        await peer.stream.send_all(b"b\n")
        await line(client.stream)
        scene.world.cluster(*[upstream.port for upstream in scene.upstreams], connect_timeout_s=7.0)
        assert await client.read_all() == b"bye\n"
        assert await peer.closed() == b""

    play(story)


def test_a_host_that_cannot_be_reached_does_not_bind() -> None:
    async def story(scene: Scene) -> None:
        scene.upstreams[0].close()
        clients = [scene.join(), scene.join()]
        for client in clients:
            await client.stream.send_all(b"a\n")
            peer = await scene.upstreams[1].accept()
            assert await line(peer.stream) == b"a\n"
            await peer.stream.send_all(b"b\n")
            assert await line(client.stream) == b"b\n"
            await exchange(client, peer, b"c")
        assert scene.world.figures()["upstream_cx_connect_fail"] >= 1

    play(story, retry=RetryPolicy(("connect-failure",), num_retries=3))


def test_a_breaker_that_is_open_costs_the_request_only() -> None:
    async def story(scene: Scene) -> None:
        client = scene.join()
        await client.stream.send_all(b"a\n")
        assert (await line(client.stream)).startswith(b"503")
        await later(scene.world, 0.01)
        await client.stream.send_all(b"b\n")
        assert (await line(client.stream)).startswith(b"503")

    play(story, cluster={"breakers": Breakers(max_pending_requests=0)})


def test_a_client_that_leaves_before_its_upstream_is_there_leaves_nothing() -> None:
    async def story(scene: Scene) -> None:
        client = scene.join()
        await client.stream.send_all(b"a\n")
        await client.stream.aclose()
        await later(scene.world, 0.05)
        figures = scene.world.figures()
        assert scene.done == 1
        assert "upstream_cx_active" not in figures and "upstream_rq_active" not in figures

    play(story)


def test_the_server_of_a_client_that_does_not_read_is_not_read_from() -> None:
    size, count = 1_000_000, 20

    async def story(scene: Scene) -> None:
        client = scene.join()
        calls = b"".join(bolt.request([], id=id) for id in range(1, count + 1))
        await client.stream.send_all(calls)
        peer = await scene.accept()
        came = 0
        while came < len(calls):
            came += len(await peer.stream.receive_some())
        answers = b"".join(bolt.response(content=b"x" * size, id=id) for id in range(1, count + 1))
        done = trio.Event()

        async def tell() -> None:
            await peer.stream.send_all(answers)
            done.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell)
            wire: Wire = client.session.wire  # type: ignore[attr-defined]
            before = -1
            while not wire.pending_bytes or wire.pending_bytes > before:
                before = wire.pending_bytes
                await later(scene.world, 0.1)
            assert 100_000 < wire.pending_bytes < 5_000_000
            assert not done.is_set()
            heard = bytearray()
            while len(heard) < len(answers):
                heard += await client.stream.receive_some(1 << 20)
            assert heard == answers

    play(story, Bolt(BoltOptions()), timeout_s=0.0)


def test_a_server_that_is_not_read_from_is_not_taken_for_dead() -> None:
    async def story(scene: Scene) -> None:
        client = scene.client(terminal=scene.manager, buffer_bytes=4096)
        await client.stream.send_all(bolt.request([], id=1))
        peer = await scene.accept()
        await peer.stream.receive_some()
        await peer.stream.send_all(bolt.response(content=b"x" * 2_000_000, id=1))
        await trio.sleep(0.4)  # four intervals and time-outs
        assert "heartbeat_timeout" not in scene.world.figures("cluster.svc.bolt.")
        heard = 0
        while heard < 2_000_000:
            heard += len(await client.stream.receive_some(1 << 20))
        assert (await peer.stream.receive_some())[
            :2
        ] == b"\x01\x01"  # Bolt's question, now that its answer would be heard

    play(story, Bolt(BoltOptions(heartbeat_interval_s=0.05, heartbeat_timeout_s=0.05)))
