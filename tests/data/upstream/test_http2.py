"""HTTP/2 upstreams over real sockets: streams of one connection, their windows, their ends, and the connection's."""

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest
import trio
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from hyperframe.frame import GoAwayFrame

from mosn_xds.base.errors import ResetReason
from mosn_xds.data.codec.head import Version
from mosn_xds.data.upstream.api import Stale
from mosn_xds.data.upstream.cluster import Cluster
from mosn_xds.spec.cluster import UpstreamProtocol
from mosn_xds.spec.listener import Http2Settings
from tests.data.upstream.harness import Attempt, Upstream, World, later, limited, request, run, settled


@pytest.fixture(autouse=True, params=["ngh2", "h2"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOSN_XDS_HTTP2", request.param)


class Peer:
    """The upstream's end of a connection: h2, and what it has been told, by stream."""

    def __init__(self, stream: trio.SocketStream, **settings: int) -> None:
        self.stream = stream
        config = h2.config.H2Configuration(client_side=False, header_encoding="latin-1")
        self.state = h2.connection.H2Connection(config)
        if settings:
            values = {SettingCodes[name.upper()]: value for name, value in settings.items()}
            self.state.local_settings = h2.settings.Settings(client=False, initial_values=values)
        self.state.initiate_connection()
        self.events: list[h2.events.Event] = []
        self.bodies: dict[int, bytes] = {}
        self.credit = True
        self.answers_pings = True
        self.over = False

    async def flush(self) -> None:
        data = self.state.data_to_send()
        if data:
            await self.stream.send_all(data)

    async def read(self) -> bool:
        """One read; False at the end of the connection."""
        await self.flush()
        data = bytes(await self.stream.receive_some())
        if not data:
            self.over = True
            return False
        if not self.answers_pings:
            data = without_pings(data)
        for event in self.state.receive_data(data):
            self.events.append(event)
            if isinstance(event, h2.events.DataReceived):
                stream_id = event.stream_id
                self.bodies[stream_id] = self.bodies.get(stream_id, b"") + event.data
                if self.credit:
                    self.state.acknowledge_received_data(event.flow_controlled_length, stream_id)
        await self.flush()
        return True

    async def until(self, kind: type, count: int = 1) -> h2.events.Event:
        """The event of that kind with that number, counted from 1."""
        while len(found := [event for event in self.events if isinstance(event, kind)]) < count:
            assert await self.read(), f"closed after {self.events}"
        return found[count - 1]

    async def request(self, count: int = 1) -> int:
        """The stream of the request with that number."""
        event = await self.until(h2.events.RequestReceived, count)
        return event.stream_id  # type: ignore[attr-defined, no-any-return]

    async def answer(self, stream_id: int, body: bytes = b"ok", *, end: bool = True) -> None:
        self.state.send_headers(stream_id, [(":status", "200")])
        self.state.send_data(stream_id, body, end_stream=end)
        await self.flush()

    async def goaway(self, last_stream_id: int) -> None:
        await self.stream.send_all(GoAwayFrame(0, last_stream_id=last_stream_id).serialize())

    async def closed(self) -> None:
        while await self.read():
            pass


def without_pings(data: bytes) -> bytes:
    """Frames without PING; frames come whole in these tests."""
    if data.startswith(b"PRI"):
        return data[:24] + without_pings(data[24:])
    kept = b""
    while data:
        size = 9 + int.from_bytes(data[:3], "big")
        if data[3] != 6:
            kept += data[:size]
        data = data[size:]
    return kept


def http2(world: World, upstream: Upstream, **fields: object) -> Cluster:
    return world.cluster(upstream.port, protocol=UpstreamProtocol.HTTP2, **fields)


async def accept(upstream: Upstream, **settings: int) -> Peer:
    peer = Peer((await upstream.accept()).stream, **settings)
    await peer.flush()
    return peer


async def established(world: World, upstream: Upstream, cluster: Cluster, **settings: int) -> Peer:
    """A connection that has served one request."""
    attempt = world.send(cluster)
    peer = await accept(upstream, **settings)
    await peer.answer(await peer.request())
    assert await attempt.over() == "end"
    await settled(world)
    return peer


def test_streams_share_a_connection_and_end_in_any_order() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        cluster = http2(world, upstream)
        attempts = [world.send(cluster) for _ in range(3)]
        peer = await accept(upstream)
        streams = [await peer.request(number) for number in (1, 2, 3)]
        for stream_id in reversed(streams):
            await peer.answer(stream_id, b"%d" % stream_id)
        assert [await attempt.over() for attempt in attempts] == ["end"] * 3
        assert [attempt.data for attempt in attempts] == [b"1", b"3", b"5"]
        figures = world.figures()
        assert (figures["upstream_cx_total"], figures["upstream_cx_http2_total"], figures["upstream_rq_total"]) == (
            1,
            1,
            3,
        )
        assert world.figures("cluster.svc.http2.") == {}

    run(story)


def test_a_request_says_version_and_body_and_trailers() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        attempt = world.send(http2(world, upstream), Attempt(request(b"POST"), body=b"abc", end=False))
        peer = await accept(upstream)
        stream_id = await peer.request()
        assert attempt.stream.version is Version.HTTP2
        attempt.stream.send_trailers([(b"x-sum", b"3")])
        assert (await peer.until(h2.events.TrailersReceived)).headers == [("x-sum", "3")]  # type: ignore[attr-defined]
        assert peer.bodies == {stream_id: b"abc"}
        peer.state.send_headers(stream_id, [(":status", "103"), ("x-a", "b")])
        peer.state.send_headers(stream_id, [(":status", "200")])
        peer.state.send_headers(stream_id, [("x-sum", "0")], end_stream=True)
        await peer.flush()
        assert await attempt.over() == "end"
        assert attempt.events[1] == 103
        assert attempt.events[-2] == [(b"x-sum", b"0")]

    run(story)


@pytest.mark.parametrize(
    ("code", "reason", "counted"),
    [
        (ErrorCodes.REFUSED_STREAM, ResetReason.REMOTE_REFUSED, None),
        (ErrorCodes.CANCEL, ResetReason.REMOTE_RESET, "upstream_rq_rx_reset"),
        (ErrorCodes.PROTOCOL_ERROR, ResetReason.PROTOCOL_ERROR, "upstream_rq_tx_reset"),
        (ErrorCodes.CONNECT_ERROR, ResetReason.CONNECT_ERROR, None),
    ],
)
def test_a_reset_of_the_peer(code: ErrorCodes, reason: ResetReason, counted: str | None) -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        cluster = http2(world, upstream)
        attempt, neighbour = world.send(cluster), world.send(cluster)
        peer = await accept(upstream)
        first, second = await peer.request(1), await peer.request(2)
        peer.state.reset_stream(first, code)
        await peer.answer(second)
        assert await attempt.over() == (reason, Stale.NO)
        assert await neighbour.over() == "end"
        assert {name for name in world.figures() if name.endswith("_reset")} == ({counted} if counted else set())

    run(story)


def test_giving_up_resets_the_stream_and_keeps_the_connection() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        cluster = http2(world, upstream)
        attempt = world.send(cluster)
        peer = await accept(upstream)
        stream_id = await peer.request()
        attempt.stream.reset()
        attempt.stream.reset()
        event = await peer.until(h2.events.StreamReset)
        assert (event.stream_id, event.error_code) == (stream_id, ErrorCodes.INTERNAL_ERROR)  # type: ignore[attr-defined]
        later_attempt = world.send(cluster)
        await peer.answer(await peer.request(2))
        assert await later_attempt.over() == "end"
        assert attempt.events == ["ready"]
        assert world.figures()["upstream_rq_tx_reset"] == 1

    run(story)


def test_an_answer_before_the_request_is_complete_ends_both() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        attempt = world.send(http2(world, upstream), Attempt(request(b"POST"), body=b"some", end=False))
        peer = await accept(upstream)
        await peer.answer(await peer.request())
        assert await attempt.over() == "end"
        assert await peer.until(h2.events.StreamReset)
        attempt.stream.send_data(b"more", True)
        await settled(world)
        assert peer.bodies == {1: b"some"}

    run(story)


# Flow control.


def test_a_paused_stream_keeps_its_window_and_its_neighbours_go_on() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        window = 65535
        settings = Http2Settings(initial_stream_window_bytes=window)
        cluster = http2(world, upstream, http2=settings)
        slow, quick = world.send(cluster), world.send(cluster)
        peer = await accept(upstream)
        first, second = await peer.request(1), await peer.request(2)
        slow.stream.pause_reading()
        slow.stream.pause_reading()
        for stream_id in (first, second):
            peer.state.send_headers(stream_id, [(":status", "200")])
        for _ in range(window // 16384):
            peer.state.send_data(first, b"s" * 16384)
            await peer.flush()
        rounds = 0
        while rounds < 40:  # ten windows' worth
            room = peer.state.local_flow_control_window(second)
            if room >= 16384:
                peer.state.send_data(second, b"q" * 16384)
                rounds += 1
                await peer.flush()
            else:
                await peer.read()
        assert peer.state.local_flow_control_window(first) == window - 3 * 16384
        slow.stream.resume_reading()
        while peer.state.local_flow_control_window(first) < window // 2:
            await peer.read()
        peer.state.end_stream(first)
        peer.state.end_stream(second)
        await peer.flush()
        assert await slow.over() == "end"
        assert await quick.over() == "end"
        assert (len(slow.data), len(quick.data)) == (3 * 16384, 40 * 16384)
        figures = world.figures()
        assert figures["upstream_flow_control_paused_reading_total"] == 1
        assert figures["upstream_flow_control_resumed_reading_total"] == 1

    run(story)


def test_what_an_abandoned_stream_did_not_read_is_given_back_to_the_connection() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        settings = Http2Settings(initial_stream_window_bytes=65535, initial_connection_window_bytes=65535)
        cluster = http2(world, upstream, http2=settings)
        peer = await established(world, upstream, cluster)
        for number in range(2, 6):
            attempt = world.send(cluster)
            stream_id = await peer.request(number)
            attempt.stream.pause_reading()
            peer.state.send_headers(stream_id, [(":status", "200")])
            while (room := min(peer.state.local_flow_control_window(stream_id), 16384)) < 16384:
                await peer.read()
            for _ in range(2):
                peer.state.send_data(stream_id, b"x" * room)
            await peer.flush()
            await attempt.until(lambda a: len(a.data) == 2 * 16384)
            attempt.stream.reset()
            await peer.until(h2.events.StreamReset, number - 1)
        last = world.send(cluster)
        stream_id = await peer.request(6)
        while peer.state.local_flow_control_window(stream_id) < 32768:
            await peer.read()
        await peer.answer(stream_id)
        assert await last.over() == "end"

    run(story)


def test_a_peer_that_does_not_read_holds_its_stream_back_and_no_other() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        cluster = http2(world, upstream, buffer_limit_bytes=32768)
        slow = world.send(cluster, Attempt(request(b"POST"), end=False))
        peer = await accept(upstream)
        peer.credit = False
        first = await peer.request()
        for _ in range(8):
            slow.stream.send_data(b"x" * 16384, False)
        assert slow.events == ["ready", "high"]
        while len(peer.bodies.get(first, b"")) < 65535:
            await peer.read()
        assert "low" not in slow.events
        peer.state.increment_flow_control_window(1 << 20)  # the connection's: the stream's own holds it now
        quick = world.send(cluster, Attempt(request(b"POST"), body=b"quick"))
        second = await peer.request(2)
        while peer.bodies.get(second) != b"quick":
            await peer.read()
        assert "high" not in quick.events
        peer.state.increment_flow_control_window(1 << 20, first)
        await peer.flush()
        await slow.until(lambda a: a.events[-1] == "low")
        figures = world.figures()
        assert figures["upstream_flow_control_backed_up_total"] == 1
        assert figures["upstream_flow_control_drained_total"] == 1

    run(story)


# How many streams.


def test_streams_above_the_configured_concurrency_get_connections_of_their_own() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        cluster = http2(world, upstream, http2=Http2Settings(max_concurrent_streams=2))
        attempts = [world.send(cluster) for _ in range(5)]
        peers = [await accept(upstream) for _ in range(3)]
        for attempt in attempts:
            await attempt.ready()
        ids = [attempt.stream.connection_id for attempt in attempts]
        assert sorted(ids.count(one) for one in set(ids)) == [1, 2, 2]
        assert world.figures()["upstream_cx_total"] == len(peers) == 3

    run(story)


def test_the_peers_settings_bound_the_streams_and_room_is_used_again() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        cluster = http2(world, upstream, breakers=limited(max_connections=1))
        peer = await established(world, upstream, cluster, max_concurrent_streams=1)
        first, second = world.send(cluster), world.send(cluster)
        assert (first.events, second.events) == (["ready"], [])
        await peer.answer(await peer.request(2))
        assert await first.over() == "end"
        await second.ready()
        await peer.answer(await peer.request(3))
        assert await second.over() == "end"
        assert world.figures()["upstream_cx_total"] == 1

    run(story)


def test_settings_may_open_more_room_later() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        cluster = http2(world, upstream, breakers=limited(max_connections=1))
        peer = await established(world, upstream, cluster, max_concurrent_streams=1)
        first, second = world.send(cluster), world.send(cluster)
        await peer.request(2)
        peer.state.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 10})
        await peer.flush()
        await second.ready()
        assert first.stream.connection_id == second.stream.connection_id

    run(story)


def test_a_connection_serves_so_many_requests_and_closes() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        cluster = http2(world, upstream, max_requests_per_connection=2)
        attempts = [world.send(cluster) for _ in range(3)]
        one, other = await accept(upstream), await accept(upstream)
        await one.answer(await one.request(1))
        await one.answer(await one.request(2))
        await one.closed()
        await other.answer(await other.request())
        assert [await attempt.over() for attempt in attempts] == ["end"] * 3
        assert world.figures()["upstream_cx_max_requests"] == 1

    run(story)


# The connection's end.


def test_goaway_lets_what_it_takes_finish_and_the_rest_is_safe_to_send_again() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        cluster = http2(world, upstream)
        peer = await established(world, upstream, cluster)
        taken, above = world.send(cluster), world.send(cluster)
        first = await peer.request(2)
        await peer.request(3)
        await peer.goaway(first)
        assert await above.over() == (ResetReason.REMOTE_REFUSED, Stale.UNREAD)
        after = world.send(cluster)
        assert after.stream is None
        other = await accept(upstream)
        await other.answer(await other.request())
        assert await after.over() == "end"
        await peer.answer(first)
        assert await taken.over() == "end"
        await peer.closed()
        assert world.figures()["upstream_cx_close_notify"] == 1

    run(story)


def test_goaway_on_a_connection_made_for_the_request_is_no_reason_to_send_it_again() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        attempt = world.send(http2(world, upstream))
        peer = await accept(upstream)
        await peer.request()
        await peer.goaway(0)
        assert await attempt.over() == (ResetReason.REMOTE_REFUSED, Stale.NO)
        await peer.closed()

    run(story)


def test_goaway_on_an_idle_connection_closes_it() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        peer = await established(world, upstream, http2(world, upstream))
        await peer.goaway(1)
        await peer.closed()
        assert world.figures()["upstream_cx_close_notify"] == 1

    run(story)


def test_a_connection_that_ends_fails_its_streams() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        cluster = http2(world, upstream)
        attempts = [world.send(cluster) for _ in range(2)]
        peer = await accept(upstream)
        await peer.request(2)
        await peer.stream.aclose()
        assert [await attempt.over() for attempt in attempts] == [(ResetReason.CONNECTION_TERMINATION, Stale.NO)] * 2
        figures = world.figures()
        assert figures["upstream_rq_pending_failure_eject"] == 2
        assert figures["upstream_cx_destroy_remote_with_active_rq"] == 1
        assert "upstream_rq_active" not in figures

    run(story)


def test_what_no_peer_can_have_read_when_a_kept_connection_breaks_may_be_sent_again() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        cluster = http2(world, upstream)
        peer = await established(world, upstream, cluster)
        peer.stream.socket.close()
        attempt = world.send(cluster)  # before the reactor has seen the end
        assert await attempt.over() == (ResetReason.CONNECTION_TERMINATION, Stale.UNREAD)

    run(story)


def test_what_is_no_http2_is_a_protocol_error() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        attempt = world.send(http2(world, upstream))
        peer = await upstream.accept()
        await peer.stream.send_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n")
        assert (await attempt.over())[0] is ResetReason.PROTOCOL_ERROR  # type: ignore[index]
        assert world.figures()["upstream_cx_protocol_error"] == 1

    run(story)


def test_a_refused_connection_fails_all_who_wait() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        upstream.close()
        cluster = http2(world, upstream)
        attempts = [world.send(cluster) for _ in range(2)]
        for attempt in attempts:
            reason, detail = await attempt.over()  # type: ignore[misc]
            assert reason is ResetReason.REMOTE_CONNECTION_FAILURE
            assert "Connection refused" in detail
        assert world.figures()["upstream_cx_total"] == 1

    run(story)


def test_idle_connections_close_after_their_time() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        cluster = http2(world, upstream, idle_timeout_s=0.1)
        peer = await established(world, upstream, cluster)
        attempt = world.send(cluster)
        stream_id = await peer.request(2)
        await later(world, 0.15)  # active: not idle
        await peer.answer(stream_id)
        assert await attempt.over() == "end"
        await peer.closed()
        assert world.figures()["upstream_cx_idle_timeout"] == 1

    run(story)


def test_a_maximal_duration_lets_streams_finish() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        cluster = http2(world, upstream, max_connection_duration_s=0.05)
        attempt = world.send(cluster)
        peer = await accept(upstream)
        stream_id = await peer.request()
        await later(world, 0.1)
        assert world.send(cluster).stream is None
        await peer.answer(stream_id)
        assert await attempt.over() == "end"
        await peer.closed()
        assert world.figures()["upstream_cx_max_duration_reached"] == 1

    run(story)


# Keep-alive.


def keepalive(**fields: float) -> Http2Settings:
    return Http2Settings(**{"keepalive_timeout_s": 1.0, "keepalive_jitter": 0.0, **fields})


def test_a_peer_that_does_not_answer_pings_is_gone() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        settings = keepalive(keepalive_interval_s=0.02, keepalive_timeout_s=0.05)
        attempt = world.send(http2(world, upstream, http2=settings))
        peer = await accept(upstream)
        peer.answers_pings = False
        await peer.request()
        await peer.closed()
        assert await attempt.over() == (ResetReason.CONNECTION_TERMINATION, Stale.NO)
        assert world.figures("cluster.svc.http2.")["keepalive_timeout"] == 1

    run(story)


def test_a_peer_that_answers_pings_is_kept() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        attempt = world.send(http2(world, upstream, http2=keepalive(keepalive_interval_s=0.02)))
        peer = await accept(upstream)
        await peer.until(h2.events.PingReceived, 5)
        await peer.answer(await peer.request())
        assert await attempt.over() == "end"

    run(story)


def test_a_connection_that_has_idled_is_asked_before_it_is_used() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        cluster = http2(world, upstream, http2=keepalive(keepalive_idle_interval_s=0.3))
        peer = await established(world, upstream, cluster)
        world.send(cluster)
        await peer.request(2)
        assert not [event for event in peer.events if isinstance(event, h2.events.PingReceived)]
        await peer.answer(3)
        await later(world, 0.35)
        world.send(cluster)
        await peer.request(3)
        assert await peer.until(h2.events.PingReceived)

    run(story)


def test_nobody_begins_a_stream_on_a_connection_that_has_just_failed() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        cluster = http2(world, upstream)
        attempts = [world.send(cluster) for _ in range(2)]
        peer = await accept(upstream)
        await peer.request(2)
        again: list[Attempt] = []
        attempts[0].then = lambda: again.append(world.send(cluster))
        await peer.stream.send_all(b"\x00\x00\x01\x05\x00\x00\x00\x00\x01x")  # a push that nobody asked for
        for attempt in attempts:
            assert (await attempt.over())[0] is ResetReason.PROTOCOL_ERROR  # type: ignore[index]
        other = await accept(upstream)
        await other.answer(await other.request())
        assert await again[0].over() == "end"

    run(story)
