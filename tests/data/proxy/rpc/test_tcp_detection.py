"""TCP chains whose connections may speak RPC protocols: those are served call by call, all others byte by byte."""

import gc
import random
import socket
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from mosn_xds.data.codec.rpc import RpcProtocol
from mosn_xds.data.proxy.downstream import DrainState
from mosn_xds.data.proxy.rpc.connection import RpcServerConnection
from mosn_xds.data.proxy.rpc.detect import detect
from mosn_xds.data.proxy.rpc.tcp_detection import DetectingSession, DetectingTcpProxy, rpc_proxy
from mosn_xds.spec.listener import TcpCluster, TcpProxy
from mosn_xds.spec.route import RouteAction, SourceIpHash
from mosn_xds.spec.rpc import ProtocolUse
from tests.data.proxy.tcp_stage import Client, Stage
from tests.data.proxy.tcp_stage import play as play_tcp
from tests.data.upstream.harness import Peer, Upstream, World, later, run, settled
from tests.support import bolt, dubbo_peer

USES = (ProtocolUse("bolt", "bolt"), ProtocolUse("dubbo", "dubbo"))
CALL = bolt.request([(b"service", b"shop.Cart"), (b"sofa_head_method_name", b"get")], b"content")
ANSWER = bolt.response(content=b"answered")
SHORT_S, LONG_S = 0.02, 60.0


def play(story: Callable[[Stage, Upstream], Awaitable[None]], timeout_s: float = LONG_S, **fields: Any) -> World:
    return play_tcp(story, protocols=USES, detection_timeout_s=timeout_s, **fields)


async def call(client: Client) -> bytes:
    """A call's answer's content."""
    await client.stream.send_all(CALL)
    return (await client.read(len(ANSWER)))[-8:]


async def answer(peer: Peer, calls: int = 1) -> None:
    """Read so many calls, answer each."""
    for _ in range(calls):
        data = b""
        while len(data) < len(CALL):
            data += bytes(await peer.stream.receive_some(len(CALL) - len(data)))
        await peer.stream.send_all(data[:1] + ANSWER[1:5] + data[5:9] + ANSWER[9:])


def test_calls_of_one_connection_are_balanced_each_on_its_own() -> None:
    async def main(world: World) -> None:
        upstreams = [Upstream(), Upstream()]
        world.cluster(*[upstream.port for upstream in upstreams])
        stage = Stage(world, protocols=USES)
        client = stage.client()

        async def serve(upstream: Upstream) -> None:
            await answer(await upstream.accept(), 2)

        async with trio.open_nursery() as nursery:
            for upstream in upstreams:
                nursery.start_soon(serve, upstream)
            for _ in range(4):
                assert await call(client) == b"answered"
        figures = world.figures("rpc.test.")
        assert figures["downstream_cx_detected.bolt"] == figures["downstream_cx_total"] == 1
        assert figures["downstream_rq_total"] == 4
        assert stage.figures == {}  # it is none of the TCP proxy's
        assert world.figures()["upstream_rq_total"] == 4

    run(main)


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
def test_a_call_that_comes_in_pieces_is_a_call(size: int) -> None:
    async def story(stage: Stage, upstream: Upstream) -> None:
        client = stage.client()
        for at in range(0, len(CALL), size):
            await client.stream.send_all(CALL[at : at + size])
            await settled(stage.world)
        await answer(await upstream.accept())
        assert (await client.read(len(ANSWER))).endswith(b"answered")

    play(story)


def test_calls_are_logged_and_connections_that_carry_them_are_not() -> None:
    async def story(stage: Stage, upstream: Upstream) -> None:
        rpc = stage.proxy.rpc  # type: ignore[attr-defined]
        rpc.access_logs = (stage.journal,)
        client = stage.client()
        await client.stream.send_all(CALL)
        await answer(await upstream.accept())
        await client.read(len(ANSWER))
        await client.stream.aclose()
        await settled(stage.world)
        assert stage.done == 1
        (line,) = stage.journal.lines
        assert (line.response_code, line.cluster_name) == (200, "svc")

    play(story)


@pytest.mark.parametrize(
    "pieces", [[b"G", b"ET /"], [b"\x01\x01", b"\x00\x77rest"], [b"\xda\xbb", b"\x1f"], [b"hello"]]
)
def test_what_is_no_rpc_reaches_the_upstream_byte_for_byte(pieces: list[bytes]) -> None:
    async def story(stage: Stage, upstream: Upstream) -> None:
        client = stage.client()
        for piece in pieces:
            await client.stream.send_all(piece)
            await settled(stage.world)
        peer = await upstream.accept()
        await client.stream.send_all(b" and more")
        await client.stream.send_eof()
        assert await peer.closed() == b"".join(pieces) + b" and more"
        await peer.stream.send_all(b"so long")
        await peer.close()
        assert await client.read_all() == b"so long"
        assert (await stage.finished()).flags == 0
        assert stage.figures["downstream_cx_total"] == 1
        assert "downstream_cx_total" not in stage.world.figures("rpc.test.")

    play(story)


@pytest.mark.parametrize("beginning", [b"", b"\x01", CALL[:4], b"\xda"])
def test_a_client_that_ends_its_side_at_once_is_tcp(beginning: bytes) -> None:
    async def story(stage: Stage, upstream: Upstream) -> None:
        client = stage.client()
        if beginning:
            await client.stream.send_all(beginning)
            await settled(stage.world)
        await client.stream.send_eof()
        peer = await upstream.accept()
        assert await peer.closed() == beginning
        await peer.stream.send_all(b"nevertheless")
        await peer.close()
        assert await client.read_all() == b"nevertheless"

    play(story)


def test_a_server_that_speaks_first_is_heard_when_the_time_is_over() -> None:
    async def story(stage: Stage, upstream: Upstream) -> None:
        client = stage.client()
        peer = await upstream.accept()
        await peer.stream.send_all(b"220 welcome")
        assert await client.read(11) == b"220 welcome"
        await client.stream.send_all(CALL)  # which means something else here
        assert bytes(await peer.stream.receive_some()) == CALL
        assert stage.figures["downstream_cx_total"] == 1

    play(story, SHORT_S)


def test_no_upstream_is_bothered_while_it_may_still_be_an_rpc() -> None:
    async def story(stage: Stage, upstream: Upstream) -> None:
        client = stage.client()
        await client.stream.send_all(CALL[:3])
        await later(stage.world, 0.05)
        assert "upstream_cx_total" not in stage.world.figures()
        client.reset()
        line = await stage.finished()
        assert line.bytes_received == 3

    play(story)


def test_a_client_that_begins_and_does_not_go_on_is_tcp_when_the_time_is_over() -> None:
    async def story(stage: Stage, upstream: Upstream) -> None:
        client = stage.client()
        await client.stream.send_all(CALL[:3])
        peer = await upstream.accept()
        assert bytes(await peer.stream.receive_some()) == CALL[:3]
        await client.stream.send_all(CALL[3:])
        assert bytes(await peer.stream.receive_some()) == CALL[3:]
        assert stage.world.figures("rpc.test.")["detection_timeout"] == 1

    play(story, SHORT_S)


def test_a_client_that_connects_long_before_its_first_call_is_served_all_the_same() -> None:
    async def story(stage: Stage, upstream: Upstream) -> None:
        client = stage.client()
        idle = await upstream.accept()
        await client.stream.send_all(CALL[:2])
        await settled(stage.world)
        await client.stream.send_all(CALL[2:])
        peer = await upstream.accept()
        await answer(peer)
        assert (await client.read(len(ANSWER))).endswith(b"answered")
        assert await idle.closed() == b""
        await settled(stage.world)
        assert stage.world.figures()["upstream_cx_active"] == 1
        assert isinstance(stage.heirs[0], RpcServerConnection)
        assert stage.figures == {}

    play(story, SHORT_S)


@pytest.mark.parametrize("connected", [True, False])
def test_who_has_not_said_a_word_goes_on_under_the_proxy_that_replaces_its_own(connected: bool) -> None:
    async def main(world: World) -> None:
        before, after = Upstream(), Upstream()
        world.cluster(before.port, name="before")
        world.cluster(after.port, name="after")
        timeout_s = SHORT_S if connected else LONG_S
        stage = Stage(world, "before", protocols=USES, detection_timeout_s=timeout_s)
        client = stage.client()
        if connected:
            peer = await before.accept()
        await settled(world)
        successor = Stage(world, "after", protocols=USES, detection_timeout_s=timeout_s)
        proxy = successor.proxy
        assert isinstance(proxy, DetectingTcpProxy)
        assert isinstance(client.session, DetectingSession)
        assert client.session.move(proxy, DrainState(stage.context.drain), successor)
        if connected:
            assert await peer.closed() == b""
            await after.accept()
        await client.stream.send_all(CALL)
        await answer(await after.accept())
        assert (await client.read(len(ANSWER))).endswith(b"answered")
        assert len(successor.heirs) == 1
        await client.stream.aclose()
        await settled(world)
        assert (stage.done, successor.done) == (0, 1)
        assert "upstream_cx_active" not in world.figures("cluster.before.")

    run(main)


def test_who_has_begun_to_speak_stays_where_it_is() -> None:
    async def story(stage: Stage, upstream: Upstream) -> None:
        proxy = stage.proxy
        assert isinstance(proxy, DetectingTcpProxy)
        begun, tcp = stage.client(), stage.client()
        await begun.stream.send_all(CALL[:2])
        await tcp.stream.send_all(b"hello")
        await upstream.accept()
        for client in (begun, tcp):
            assert isinstance(client.session, DetectingSession)
            assert not client.session.move(proxy, DrainState(stage.context.drain), stage)

    play(story)


def test_both_silent_for_long_the_client_may_still_turn_out_to_speak_something_else() -> None:
    async def story(stage: Stage, upstream: Upstream) -> None:
        client = stage.client()
        peer = await upstream.accept()
        await client.stream.send_all(b"\x01")
        await later(stage.world, 2 * SHORT_S)
        await client.stream.send_all(b"else")
        got = b""
        while len(got) < 5:
            got += bytes(await peer.stream.receive_some())
        assert got == b"\x01else"
        await peer.stream.send_all(b"back")
        assert await client.read(4) == b"back"

    play(story, SHORT_S)


def test_an_upstream_that_ends_in_silence_ends_the_client() -> None:
    async def story(stage: Stage, upstream: Upstream) -> None:
        client = stage.client()
        peer = await upstream.accept()
        await peer.close()
        assert await client.end() == "fin"
        await client.stream.aclose()
        assert (await stage.finished()).flags == 0

    play(story, SHORT_S)


def test_big_input_right_behind_the_first_bytes_is_complete() -> None:
    body = bytes(range(256)) * 8192

    async def story(stage: Stage, upstream: Upstream) -> None:
        client = stage.client()
        got = bytearray()

        async def send() -> None:
            await client.stream.send_all(b"X" + body)
            await client.stream.send_eof()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            peer = await upstream.accept()
            while data := await peer.stream.receive_some():
                got += data
        assert bytes(got) == b"X" + body

    play(story)


def test_a_client_that_is_gone_before_anything_is_known_leaves_nothing_behind() -> None:
    async def story(stage: Stage, upstream: Upstream) -> None:
        client = stage.client()
        await client.stream.send_all(b"\x01")
        client.reset()
        await stage.finished()
        session = weakref.ref(client.session)
        del client
        await settled(stage.world)
        gc.collect()
        assert session() is None
        assert stage.figures["downstream_cx_total"] == 1

    play(story)


def test_the_session_of_a_connection_that_speaks_rpc_is_gone() -> None:
    async def story(stage: Stage, upstream: Upstream) -> None:
        client = stage.client()
        session = weakref.ref(client.session)
        await client.stream.send_all(CALL)
        await answer(await upstream.accept())
        await client.read(len(ANSWER))
        client.session = stage.heirs[0]
        gc.collect()
        assert session() is None

    play(story)


def test_dubbo_beside_bolt() -> None:
    async def story(stage: Stage, upstream: Upstream) -> None:
        client = stage.client()
        request = dubbo_peer.request(9)
        await client.stream.send_all(request)
        peer = await upstream.accept()
        assert b"shop.Cart" in await peer.stream.receive_some()
        assert stage.world.figures("rpc.test.")["downstream_cx_detected.dubbo"] == 1

    play(story)


def test_a_host_that_cannot_be_reached_costs_no_call() -> None:
    async def main(world: World) -> None:
        dead, alive = Upstream(), Upstream()
        dead.close()
        world.cluster(dead.port, alive.port)
        stage = Stage(world, protocols=USES)
        client = stage.client()
        async with trio.open_nursery() as nursery:

            async def serve() -> None:
                await answer(await alive.accept(), 4)

            nursery.start_soon(serve)
            for _ in range(4):
                assert await call(client) == b"answered"
        assert world.figures()["upstream_rq_retry_success"] >= 1

    run(main)


def test_weights_and_hash_policies_of_the_tcp_proxy_hold_for_its_rpcs() -> None:
    tcp = TcpProxy("p", (TcpCluster("a", 3), TcpCluster("b", 1)), protocols=USES, hash_policy=(SourceIpHash(),))
    (host,) = rpc_proxy(tcp).routes.virtual_hosts  # type: ignore[union-attr]
    action = host.matcher.no_match.route.action  # type: ignore[union-attr]
    assert isinstance(action, RouteAction)
    assert [(one.name, one.weight) for one in action.weighted] == [("a", 3), ("b", 1)]
    assert action.hash_policy == (SourceIpHash(),)
    assert action.timeout_s == 0


def test_the_proxy_without_protocols_is_not_concerned() -> None:
    async def story(stage: Stage, upstream: Upstream) -> None:
        client = stage.client()
        peer = await upstream.accept()  # at once
        await client.stream.send_all(CALL)
        assert bytes(await peer.stream.receive_some()) == CALL
        assert peer.stream.socket.family == socket.AF_INET

    play_tcp(story)


BEGINNINGS = (b"", b"\x01", b"\x02\x01", b"\xda\xbb", CALL[:4], dubbo_peer.request(1)[:2], b"GET ", b"\x16\x03\x01")


@pytest.mark.parametrize("seed", range(8))
def test_whatever_is_no_rpc_arrives_whole_however_it_is_cut(seed: int) -> None:
    chance = random.Random(seed)

    async def one(stage: Stage, upstream: Upstream, number: int) -> None:
        data = chance.choice(BEGINNINGS) + chance.randbytes(chance.choice((0, 3, 60, 5000, 200_000)))
        if isinstance(detect(stage.proxy.rpc.protocols, data), RpcProtocol):  # type: ignore[attr-defined]
            return
        client = stage.client()
        at = 0
        while at < len(data):
            size = chance.choice((1, 2, 5, 100, 65536))
            await client.stream.send_all(data[at : at + size])
            at += size
            if chance.random() < 0.3 and at < 50:
                await later(stage.world, chance.choice((0.001, 0.004)))
        await client.stream.send_eof()
        peer = await upstream.accept()
        assert await peer.closed() == data, number
        await peer.stream.send_all(b"got it")
        await peer.close()
        assert await client.read_all() == b"got it"

    async def story(stage: Stage, upstream: Upstream) -> None:
        for number in range(12):
            await one(stage, upstream, number)

    play(story, 0.003)
