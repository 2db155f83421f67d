"""The TCP proxy between a real client and a real upstream."""

import gc
import os
import socket
import weakref
from collections import Counter
from typing import Any

import pytest
import trio
import trio.testing

from mosn_xds.base.errors import flag_names
from mosn_xds.spec.cluster import Breakers, Discovery, OriginalDst, RingHash
from mosn_xds.spec.listener import TcpCluster
from mosn_xds.spec.route import SourceIpHash
from mosn_xds.spec.rpc import ProtocolUse
from tests.data.proxy.tcp_stage import Stage, joined, play
from tests.data.upstream.harness import Upstream, World, run, settled


@pytest.fixture(autouse=True, params=["plain", "detecting"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A proxy whose connections might have spoken Bolt or Dubbo does with all others what a plain one does."""
    if request.param == "detecting":
        uses = (ProtocolUse("bolt", "bolt"), ProtocolUse("dubbo", "dubbo"))
        monkeypatch.setattr(Stage, "default_fields", {"protocols": uses, "detection_timeout_s": 0.005})
    return str(request.param)


def test_bytes_go_both_ways_and_are_counted_and_logged() -> None:
    async def story(stage: Stage, upstream: Upstream) -> None:
        client, peer = await joined(stage, upstream)
        await client.stream.send_all(b"question")
        assert await peer.stream.receive_some() == b"question"
        await peer.stream.send_all(b"answer")
        assert await client.stream.receive_some() == b"answer"
        await client.stream.aclose()
        assert await peer.closed() == b""
        await peer.close()
        line = await stage.finished()
        assert (line.bytes_received, line.bytes_sent, line.flags, line.attempts) == (8, 6, 0, 1)
        assert line.cluster_name == "svc"
        assert str(line.upstream_host.address) == str(upstream.address)
        assert line.upstream_local.startswith("127.0.0.1:")
        await settled(stage.world)
        assert stage.figures == {
            "downstream_cx_total": 1,
            "downstream_cx_rx_bytes_total": 8,
            "downstream_cx_tx_bytes_total": 6,
        }
        figures = stage.world.figures()
        assert figures["upstream_cx_tx_bytes_total"] == 8
        assert figures["upstream_cx_rx_bytes_total"] == 6
        assert "upstream_cx_active" not in figures

    play(story)


def test_what_the_client_sends_first_waits_for_the_upstream() -> None:
    async def story(stage: Stage, upstream: Upstream) -> None:
        client = stage.client()
        await client.stream.send_all(b"early")
        await client.stream.send_eof()
        peer = await upstream.accept()
        assert await peer.closed() == b"early"
        await peer.stream.send_all(b"late")
        await peer.close()
        assert await client.read_all() == b"late"

    play(story)


def test_each_side_may_end_its_half_first() -> None:
    async def story(stage: Stage, upstream: Upstream) -> None:
        client, peer = await joined(stage, upstream)
        await peer.stream.send_all(b"greeting")
        await peer.stream.send_eof()
        assert await client.read_all() == b"greeting"
        await client.stream.send_all(b"still talking")
        await client.stream.aclose()
        assert await peer.closed() == b"still talking"
        assert (await stage.finished()).flags == 0

    play(story)


def test_a_reset_by_the_client_resets_the_upstream() -> None:
    async def story(stage: Stage, upstream: Upstream) -> None:
        client, peer = await joined(stage, upstream)
        await client.stream.send_all(b"x")
        assert await peer.stream.receive_some() == b"x"
        client.reset()
        with pytest.raises(trio.BrokenResourceError):
            await peer.stream.receive_some()
        assert (await stage.finished()).flags == 0

    play(story)


def test_a_reset_by_the_upstream_resets_the_client() -> None:
    async def story(stage: Stage, upstream: Upstream) -> None:
        client, peer = await joined(stage, upstream)
        await client.stream.send_all(b"x")
        assert await peer.stream.receive_some() == b"x"
        await peer.reset()
        assert await client.end() == "reset"
        assert flag_names((await stage.finished()).flags) == "UR"

    play(story)


def test_a_refused_upstream_is_tried_again_as_often_as_allowed() -> None:
    async def story(stage: Stage, upstream: Upstream) -> None:
        upstream.close()
        client = stage.client()
        assert await client.end() == "fin"
        line = await stage.finished()
        assert set(flag_names(line.flags).split(",")) == {"UF", "URX"}
        assert line.attempts == 3
        assert "Connection refused" in line.transport_failure.replace("_", " ")
        assert line.connection.close_reason == "tcp_initializion_failure:0"
        figures = stage.world.figures()
        assert figures["upstream_cx_connect_fail"] == 3
        assert figures["upstream_cx_connect_attempts_exceeded"] == 1

    play(story, max_connect_attempts=3)


def test_another_attempt_may_reach_another_host() -> None:
    async def main(world: World) -> None:
        dead, alive = Upstream(), Upstream()
        dead.close()
        world.cluster(dead.port, alive.port)
        stage = Stage(world, max_connect_attempts=2)
        for _ in range(2):
            client = stage.client()
            peer = await alive.accept()
            await client.stream.send_all(b"x")
            assert await peer.stream.receive_some() == b"x"
        assert world.figures()["upstream_cx_connect_fail"] >= 1

    run(main)


def test_many_attempts_that_fail_at_once_do_not_recurse() -> None:
    async def main(world: World) -> None:
        world.cluster(1)
        stage = Stage(world, max_connect_attempts=5000)
        client = stage.client()
        assert await client.end() == "fin"
        assert (await stage.finished()).attempts == 5000

    run(main)


@pytest.mark.parametrize(
    ("target", "fields", "flags", "reason"),
    [
        ("absent", {}, "NC", "tcp_initializion_failure:3"),
        ("empty", {}, "UH", "tcp_initializion_failure:1"),
        ("limited", {"breakers": Breakers(max_connections=0)}, "UO", "tcp_initializion_failure:2"),
    ],
)
def test_why_there_is_nowhere_to_go(target: str, fields: dict[str, Any], flags: str, reason: str) -> None:
    async def main(world: World) -> None:
        upstream = Upstream()
        world.cluster(*(() if target == "empty" else (upstream.port,)), name="limited" if fields else "empty", **fields)
        stage = Stage(world, target)
        client = stage.client()
        assert await client.end() == "fin"
        line = await stage.finished()
        assert flag_names(line.flags) == flags
        assert line.connection.close_reason == reason
        assert line.attempts == 0
        assert stage.done == 1
        assert stage.figures.get("downstream_cx_no_route", 0) == (target == "absent")

    run(main)


def test_weighted_clusters_share_the_connections() -> None:
    async def main(world: World) -> None:
        upstreams = {"a": Upstream(), "b": Upstream(), "never": Upstream()}
        for name, upstream in upstreams.items():
            world.cluster(upstream.port, name=name)
        stage = Stage(world, TcpCluster("a", 90), TcpCluster("b", 10), TcpCluster("never", 0))
        picks = Counter(stage.proxy.pick_cluster() for _ in range(2000))
        assert set(picks) == {"a", "b"}
        assert 0.86 < picks["a"] / 2000 < 0.94

    run(main)


def test_source_ip_hashing_sends_one_client_to_one_host() -> None:
    async def main(world: World) -> None:
        upstreams = [Upstream() for _ in range(5)]
        world.cluster(*(u.port for u in upstreams), balancing=RingHash())
        stage = Stage(world, hash_policy=(SourceIpHash(),))
        hosts: dict[str, set[str]] = {}

        async def hang_up(upstream: Upstream) -> None:
            while True:
                await (await upstream.accept()).close()

        async with trio.open_nursery() as nursery:
            for upstream in upstreams:
                nursery.start_soon(hang_up, upstream)
            for n in range(24):
                client = stage.client(remote=f"192.0.2.{n % 6}")
                assert await client.read_all() == b""
                await client.stream.aclose()
            while len(stage.journal.lines) < 24:
                await settled(world)
            nursery.cancel_scope.cancel()
        for line in stage.journal.lines:
            hosts.setdefault(line.connection.remote.host, set()).add(line.upstream_host.text)
        assert all(len(chosen) == 1 for chosen in hosts.values())
        assert len(set.union(*hosts.values())) > 1

    run(main)


def test_a_redirected_connection_goes_where_it_was_going() -> None:
    async def main(world: World) -> None:
        upstream = Upstream()
        world.cluster(discovery=Discovery.ORIGINAL_DST, original_dst=OriginalDst())
        stage = Stage(world)
        client = stage.client(restored=upstream.address)
        peer = await upstream.accept()
        await client.stream.send_all(b"x")
        assert await peer.stream.receive_some() == b"x"
        direct = stage.client()
        assert await direct.end() == "fin"
        assert flag_names((await stage.finished()).flags) == "UH"

    run(main)


def test_an_idle_session_is_closed_on_both_sides() -> None:
    async def story(stage: Stage, upstream: Upstream) -> None:
        client, peer = await joined(stage, upstream)
        started = trio.current_time()
        for _ in range(6):
            await client.stream.send_all(b"x")
            await peer.stream.receive_some()
            await trio.sleep(0.1)
        assert await client.end() == "fin"
        assert trio.current_time() - started >= 0.5 + 0.4
        assert await peer.closed() == b""
        line = await stage.finished()
        assert line.connection.close_reason == "tcp_session_idle_timeout"
        assert line.flags == 0
        assert stage.figures["idle_timeout"] == 1

    play(story, idle_timeout_s=0.4)


def test_a_session_has_its_maximal_duration() -> None:
    async def story(stage: Stage, upstream: Upstream) -> None:
        client, peer = await joined(stage, upstream)
        assert await client.end() == "fin"
        assert await peer.closed() == b""
        line = await stage.finished()
        assert flag_names(line.flags) == "DT"
        assert line.connection.close_reason == "max_connection_duration_reached"
        assert stage.figures["max_downstream_connection_duration"] == 1

    play(story, max_downstream_connection_duration_s=0.05)


@pytest.mark.parametrize("towards_client", [False, True])
def test_a_slow_reader_stops_the_other_side(towards_client: bool) -> None:
    """Megabytes against somebody who does not read: what the proxy holds stays within its limits, nothing is lost."""

    async def story(stage: Stage, upstream: Upstream) -> None:
        client, peer = await joined(stage, upstream, buffer_bytes=20_000)
        source, target = (peer.stream, client.stream) if towards_client else (client.stream, peer.stream)
        payload = os.urandom(16_000_000)

        async def send() -> None:
            await source.send_all(payload)
            await source.send_eof()

        most_pending = 0
        received = b""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await trio.testing.wait_all_tasks_blocked(0.01)
            for _ in range(100):
                await settled(stage.world)
                session = client.session
                for wire in (session.wire, session._up):
                    most_pending = max(most_pending, wire.pending_bytes)
            chunks = [bytes(chunk) async for chunk in target]
            received = b"".join(chunks)
        assert received == payload
        assert 0 < most_pending <= 1_500_000
        if towards_client:
            assert stage.world.figures()["upstream_flow_control_paused_reading_total"] >= 1
        else:
            assert stage.figures["downstream_flow_control_paused_reading_total"] >= 1
            assert (
                stage.figures["downstream_flow_control_paused_reading_total"]
                == stage.figures["downstream_flow_control_resumed_reading_total"]
            )

    play(story)


def test_a_client_that_gives_up_while_connecting_is_not_waited_for() -> None:
    async def main(world: World) -> None:
        silent = Upstream(backlog=0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex((silent.address.host, silent.port))
        world.cluster(silent.port)
        stage = Stage(world)
        client = stage.client()
        await trio.testing.wait_all_tasks_blocked(0.01)
        client.reset()
        line = await stage.finished()
        assert line.attempts == 1
        await settled(world)
        figures = world.figures()
        assert figures["upstream_rq_cancelled"] == 1
        assert "upstream_cx_active" not in figures
        for filler in fillers:
            filler.close()

    run(main)


def test_the_end_of_the_drain_time_ends_sessions() -> None:
    async def story(stage: Stage, upstream: Upstream) -> None:
        client, peer = await joined(stage, upstream)
        await client.stream.send_all(b"x")
        await peer.stream.receive_some()
        assert not client.session.idle
        assert client.session.close_if_idle()
        assert await client.end() == "fin"
        assert await peer.closed() == b""

    play(story)


def test_a_session_leaves_nothing_behind() -> None:
    async def story(stage: Stage, upstream: Upstream) -> None:
        gc.collect()
        gc.disable()
        try:
            for _ in range(2):
                client, peer = await joined(stage, upstream)
                await client.stream.send_all(b"x")
                await peer.stream.receive_some()
                watched = weakref.ref(client.session)
                client.session = None
                await client.stream.aclose()
                await peer.closed()
                await peer.close()
                await settled(stage.world)
                stage.journal.lines.clear()
                assert watched() is None
        finally:
            gc.enable()

    play(story)
