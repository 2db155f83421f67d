"""HTTP/1 exchanges over real sockets: what makes a connection usable again, how exchanges end, back-pressure."""

import pytest
from trio.testing import wait_all_tasks_blocked

from mosn_xds.base.errors import ResetReason
from mosn_xds.data.upstream.api import Stale
from mosn_xds.data.upstream.cluster import Cluster
from mosn_xds.spec.listener import Http1Settings
from tests.data.upstream.harness import OK, Attempt, Peer, Upstream, World, request, run, settled

TERMINATED = ResetReason.CONNECTION_TERMINATION


def test_a_connection_is_used_again_and_again() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        cluster = world.cluster(upstream.port)
        first = world.send(cluster)
        peer = await upstream.accept()
        for turn in range(3):
            attempt = first if turn == 0 else world.send(cluster)
            assert await peer.answer() == b"GET / HTTP/1.1\r\nhost: svc"
            assert await attempt.over() == "end"
            assert (attempt.status, attempt.data) == (200, b"ok")
            assert attempt.stream.reused == (turn > 0)
            assert attempt.stream.local == first.stream.local
            assert attempt.stream.bytes_sent == len(b"GET / HTTP/1.1\r\nhost: svc\r\n\r\n")
            assert attempt.stream.bytes_received == len(OK)
        figures = world.figures()
        assert figures["upstream_cx_total"] == figures["upstream_cx_http1_total"] == figures["upstream_cx_active"] == 1
        assert figures["upstream_rq_total"] == 3
        assert figures["upstream_rq_pending_total"] == 1
        assert figures["upstream_cx_tx_bytes_total"] == 3 * first.stream.bytes_sent
        assert figures["upstream_cx_rx_bytes_total"] == 3 * len(OK)
        assert "upstream_rq_active" not in figures

    run(story)


def test_the_end_of_a_response_frees_the_connection_before_the_handler_goes_on() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        cluster = world.cluster(upstream.port)
        second = Attempt()
        first = Attempt()
        first.then = lambda: world.send(cluster, second) and None
        world.send(cluster, first)
        peer = await upstream.accept()
        await peer.answer()
        await peer.answer()
        assert await second.over() == "end"
        assert second.stream.connection_id == first.stream.connection_id

    run(story)


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok and more",
    ],
    ids=["close", "http10", "bytes behind"],
)
def test_a_connection_that_cannot_be_trusted_further_is_closed_after_its_response(response: bytes) -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        cluster = world.cluster(upstream.port)
        attempt = world.send(cluster)
        peer = await upstream.accept()
        await peer.answer(response)
        assert await attempt.over() == "end"
        assert attempt.data == b"ok"
        world.send(cluster)
        await upstream.accept()
        assert await peer.closed() == b""

    run(story)


def test_a_response_without_a_length_ends_with_the_connection() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        attempt = world.send(world.cluster(upstream.port))
        peer = await upstream.accept()
        await peer.answer(b"HTTP/1.1 200 OK\r\n\r\nsome")
        await attempt.until(lambda a: a.data == b"some")
        await peer.close()
        assert await attempt.over() == "end"
        await settled(world)
        figures = world.figures()
        assert figures["upstream_cx_destroy"] == figures["upstream_cx_destroy_remote"] == 1
        assert "upstream_cx_destroy_with_active_rq" not in figures

    run(story)


def test_bytes_on_an_idle_connection_end_it() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        cluster = world.cluster(upstream.port)
        first = world.send(cluster)
        peer = await upstream.accept()
        await peer.answer()
        await first.over()
        await peer.stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        await peer.closed()
        assert world.figures()["upstream_cx_protocol_error"] == 1
        assert world.send(cluster).stream is None

    run(story)


async def used_connection(world: World) -> tuple[Cluster, Peer]:
    """A cluster with one idle connection that has carried a request."""
    upstream = Upstream()
    cluster = world.cluster(upstream.port)
    first = world.send(cluster)
    peer = await upstream.accept()
    await peer.answer()
    await first.over()
    return cluster, peer


def test_a_request_that_meets_a_closing_connection_was_not_read() -> None:
    async def story(world: World) -> None:
        cluster, peer = await used_connection(world)
        peer.stream.socket.close()  # the reactor has not seen it yet
        attempt = world.send(cluster)
        assert attempt.stream is not None
        assert await attempt.over() == (TERMINATED, Stale.UNREAD)

    run(story)


def test_a_request_that_crosses_the_end_of_its_connection_was_not_read() -> None:
    async def story(world: World) -> None:
        cluster, peer = await used_connection(world)
        attempt = world.send(cluster)
        wire = attempt.stream.connection.wire
        sent_before = wire.bytes_sent
        peer.stream.socket.close()
        wire.flush()  # to a peer that is gone, before the reactor has read its FIN
        assert wire.bytes_sent > sent_before
        assert await attempt.over() == (TERMINATED, Stale.UNREAD)

    run(story)


def test_a_request_that_was_read_is_not_stale() -> None:
    async def story(world: World) -> None:
        cluster, peer = await used_connection(world)
        attempt = world.send(cluster)
        await peer.read_request()
        await peer.close()
        assert await attempt.over() == (TERMINATED, Stale.NO)

    run(story)


def test_after_a_reset_nobody_knows_whether_the_request_was_read() -> None:
    async def story(world: World) -> None:
        cluster, peer = await used_connection(world)
        attempt = world.send(cluster)
        await wait_all_tasks_blocked()
        await peer.close()  # with the request unread: the system resets
        assert await attempt.over() == (TERMINATED, Stale.MAYBE)

    run(story)


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_fresh_connection_that_dies_unanswered_is_not_stale(how: str) -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        attempt = world.send(world.cluster(upstream.port))
        peer = await upstream.accept()
        await peer.read_request()
        await (peer.close() if how == "close" else peer.reset())
        assert await attempt.over() == (TERMINATED, Stale.NO)
        await settled(world)
        figures = world.figures()
        assert figures["upstream_cx_destroy_remote_with_active_rq"] == figures["upstream_cx_destroy"] == 1

    run(story)


def test_a_reused_connection_that_dies_within_its_response_is_not_stale() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        cluster = world.cluster(upstream.port)
        first = world.send(cluster)
        peer = await upstream.accept()
        await peer.answer()
        await first.over()
        second = world.send(cluster)
        await peer.answer(b"HTTP/1.1 200 OK\r\ncontent-")
        await peer.close()
        assert await second.over() == (ResetReason.PROTOCOL_ERROR, Stale.NO)

    run(story)


@pytest.mark.parametrize(
    "garbage", [b"HELLO WORLD\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\nx y\r\n\r\n"]
)
def test_what_is_no_response_is_a_protocol_error(garbage: bytes) -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        attempt = world.send(world.cluster(upstream.port))
        peer = await upstream.accept()
        await peer.answer(garbage)
        assert await attempt.over() == (ResetReason.PROTOCOL_ERROR, Stale.NO)
        await peer.closed()
        assert world.figures()["upstream_cx_protocol_error"] == 1

    run(story)


def test_an_early_answer_closes_the_connection() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        cluster = world.cluster(upstream.port)
        attempt = world.send(cluster, Attempt(request(b"POST"), body=b"part", end=False))
        peer = await upstream.accept()
        await peer.answer()
        assert await attempt.over() == "end"
        attempt.stream.send_data(b"late", True)
        await peer.closed()
        assert b"late" not in peer.received
        assert world.figures()["upstream_cx_destroy_local_with_active_rq"] == 1

    run(story)


def test_a_handler_that_gives_up_hears_no_more_and_costs_the_connection() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        cluster = world.cluster(upstream.port)
        attempt = world.send(cluster)
        peer = await upstream.accept()
        await peer.answer(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
        await attempt.until(lambda a: a.data)
        seen = list(attempt.events)
        attempt.stream.reset()
        attempt.stream.reset()
        attempt.stream.send_data(b"x", True)
        await peer.closed()
        assert attempt.events == seen
        figures = world.figures()
        assert figures["upstream_cx_destroy_local_with_active_rq"] == 1
        assert "upstream_rq_active" not in figures

    run(story)


def test_an_upgraded_stream_carries_bytes_both_ways_until_one_side_ends() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        cluster = world.cluster(upstream.port)
        attempt = world.send(cluster, Attempt(request(upgrade=b"websocket"), end=False))
        peer = await upstream.accept()
        await peer.answer(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhello")
        await attempt.until(lambda a: a.data == b"hello")
        assert attempt.status == 101
        attempt.stream.send_data(b"frames", False)
        attempt.stream.send_data(b"", True)
        assert (await peer.closed()).endswith(b"frames")
        await peer.close()
        assert await attempt.over() == "end"

    run(story)


def test_back_pressure_goes_both_ways() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        cluster = world.cluster(upstream.port, buffer_limit_bytes=4096)
        attempt = world.send(cluster, Attempt(request(b"POST"), end=False))
        stream = await attempt.ready()
        peer = await upstream.accept()
        chunk = bytes(1 << 16)
        while "high" not in attempt.events:
            stream.send_data(chunk, False)
            await settled(world)
        stream.send_data(b"", True)
        stream.pause_reading()
        while not peer.received.endswith(b"\r\n0\r\n\r\n"):
            peer.received += bytes(await peer.stream.receive_some(1 << 20))
        await attempt.until(lambda a: "low" in a.events)
        await peer.stream.send_all(OK)
        await wait_all_tasks_blocked()
        assert attempt.status is None
        stream.resume_reading()
        assert await attempt.over() == "end"
        figures = world.figures()
        assert figures["upstream_flow_control_backed_up_total"] >= 1
        assert figures["upstream_flow_control_drained_total"] >= 1
        assert figures["upstream_flow_control_paused_reading_total"] == 1
        assert figures["upstream_flow_control_resumed_reading_total"] == 1

    run(story)


def test_a_stream_that_ends_while_paused_does_not_stop_the_connection() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        cluster = world.cluster(upstream.port)
        first = world.send(cluster)
        peer = await upstream.accept()
        stream = await first.ready()
        first.on_response_head = lambda head, end: stream.pause_reading()
        await peer.answer()
        await first.over()
        second = world.send(cluster)
        assert second.stream.reused
        await peer.answer()
        assert await second.over() == "end"

    run(story)


def test_informational_responses_and_trailers_are_passed_on() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        cluster = world.cluster(upstream.port, http1=Http1Settings(enable_trailers=True))
        attempt = world.send(cluster)
        peer = await upstream.accept()
        await peer.answer(
            b"HTTP/1.1 103 Early Hints\r\n\r\n"
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-sum: 1\r\n\r\n"
        )
        await attempt.over()
        assert attempt.events[1] == 103
        assert attempt.data == b"ok"
        assert attempt.events[-2:] == [[(b"x-sum", b"1")], "end"]

    run(story)
