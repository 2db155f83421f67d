"""Connection pools over real sockets: reuse, waiting, limits, idling."""

from trio.testing import wait_all_tasks_blocked

from mosn_xds.base.errors import ResetReason
from mosn_xds.spec.cluster import Breakers
from tests.data.upstream.harness import OK, Attempt, Upstream, World, later, limited, request, run, settled


def test_the_connection_used_last_is_used_next() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        cluster = world.cluster(upstream.port)
        attempts = [world.send(cluster) for _ in range(3)]
        peers = [await upstream.accept() for _ in attempts]
        ended: list[int] = []
        for attempt in attempts:
            attempt.then = lambda attempt=attempt: ended.append(attempt.stream.connection_id)
        for peer in peers:
            await peer.answer()
            await settled(world)
        assert len(ended) == 3
        after = [world.send(cluster) for _ in attempts]
        assert [attempt.stream.connection_id for attempt in after] == ended[::-1]

    run(story)


def test_an_idle_connection_that_the_peer_closed_is_never_used() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        cluster = world.cluster(upstream.port)
        first = world.send(cluster)
        peer = await upstream.accept()
        await peer.answer()
        await first.over()
        await peer.close()
        await wait_all_tasks_blocked()
        await settled(world)
        second = world.send(cluster)
        assert second.stream is None
        await (await upstream.accept()).answer()
        assert await second.over() == "end"

    run(story)


def test_a_waiting_attempt_can_be_cancelled_and_its_connection_serves_the_next() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        cluster = world.cluster(upstream.port)
        given_up = world.send(cluster)
        given_up.pending.cancel()
        given_up.pending.cancel()
        peer = await upstream.accept()
        await wait_all_tasks_blocked()
        attempt = world.send(cluster)
        await peer.answer()
        assert await attempt.over() == "end"
        assert given_up.events == []
        figures = world.figures()
        assert figures["upstream_rq_cancelled"] == 1
        assert figures["upstream_cx_total"] == 1

    run(story)


def test_an_attempt_cancelled_while_its_pool_fails_is_not_called() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        upstream.close()
        cluster = world.cluster(upstream.port)
        first, second = world.send(cluster), world.send(cluster)
        first.then = second.pending.cancel
        await first.over()
        await settled(world)
        assert second.events == []
        assert "upstream_rq_pending_active" not in world.figures()

    run(story)


def test_an_attempt_may_try_again_from_within_its_failure() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        cluster = world.cluster(upstream.port)
        second = Attempt()
        first = Attempt()
        first.then = lambda: world.send(cluster, second) and None
        world.send(cluster, first)
        peer = await upstream.accept()
        await peer.read_request()
        await peer.close()
        await (await upstream.accept()).answer()
        assert await second.over() == "end"

    run(story)


def test_at_most_so_many_requests_are_active() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        cluster = world.cluster(upstream.port, breakers=limited(max_requests=1))
        first = world.send(cluster)
        peer = await upstream.accept()
        await first.ready()
        assert world.figures("cluster.svc.circuit_breakers.default.") == {"rq_open": 1}
        refused = world.send(cluster)
        second = await upstream.accept()
        assert await refused.over() == (ResetReason.OVERFLOW, "")
        assert world.figures()["upstream_rq_active_overflow"] == 1
        assert world.send(cluster).events == [(ResetReason.OVERFLOW, "")]
        assert second.received == b""
        high = world.send(cluster, high_priority=True)
        await (await upstream.accept()).answer()
        assert await high.over() == "end"
        await peer.answer()
        await first.over()
        assert world.figures("cluster.svc.circuit_breakers.default.") == {}

    run(story)


def test_at_most_so_many_requests_wait() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        cluster = world.cluster(upstream.port, breakers=limited(max_connections=1, max_pending_requests=1))
        first = world.send(cluster)
        peer = await upstream.accept()
        await first.ready()
        second = world.send(cluster)
        third = world.send(cluster)
        assert third.events == [(ResetReason.OVERFLOW, "")]
        assert world.figures("cluster.svc.circuit_breakers.default.") == {"cx_open": 1, "rq_pending_open": 1}
        await peer.answer()
        await peer.answer()
        assert await second.over() == "end"
        assert second.stream.connection_id == first.stream.connection_id
        figures = world.figures()
        assert figures["upstream_rq_pending_overflow"] == 1
        assert figures["upstream_cx_overflow"] == 1
        assert figures["upstream_cx_total"] == 1

    run(story)


def test_every_host_gets_one_connection_whatever_the_limit() -> None:
    async def story(world: World) -> None:
        upstreams = [Upstream(), Upstream()]
        cluster = world.cluster(*(u.port for u in upstreams), breakers=limited(max_connections=1))
        attempts = [Attempt(), Attempt()]
        for host, attempt in zip(cluster.hosts, attempts, strict=True):
            cluster.open_stream(host, attempt, request().version)
        for upstream in upstreams:
            await (await upstream.accept()).answer()
        for attempt in attempts:
            assert await attempt.over() == "end"
        assert world.figures()["upstream_cx_overflow"] == 1

    run(story)


def test_remaining_room_is_shown_when_asked_for() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        breakers = Breakers(max_connections=None, max_pending_requests=2, max_requests=5, track_remaining=True)
        cluster = world.cluster(upstream.port, breakers=breakers)
        attempt = world.send(cluster)
        peer = await upstream.accept()
        await attempt.ready()
        assert world.figures("cluster.svc.circuit_breakers.default.remaining_") == {
            "cx": (1 << 32) - 2,
            "pending": 2,
            "rq": 4,
            "retries": 3,
        }
        await peer.close()

    run(story)


def test_a_connection_serves_no_more_requests_than_it_may() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        cluster = world.cluster(upstream.port, max_requests_per_connection=2)
        peer = None
        for turn in range(2):
            attempt = world.send(cluster)
            peer = peer or await upstream.accept()
            await peer.answer()
            await attempt.over()
            assert attempt.stream.reused == bool(turn)
        await peer.closed()
        third = world.send(cluster)
        await (await upstream.accept()).answer()
        assert not (await third.ready()).reused
        assert world.figures()["upstream_cx_max_requests"] == 1

    run(story)


def test_idle_connections_are_closed_in_time_and_busy_ones_are_not() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        cluster = world.cluster(upstream.port, idle_timeout_s=0.06)
        attempts = [world.send(cluster), world.send(cluster)]
        peers = [await upstream.accept(), await upstream.accept()]
        for peer in peers:
            await peer.read_request()
        await peers[0].stream.send_all(OK)
        await peers[0].closed()
        assert world.figures()["upstream_cx_idle_timeout"] == 1
        await peers[1].stream.send_all(OK)
        for attempt in attempts:
            assert await attempt.over() == "end"
        await peers[1].closed()
        assert world.figures()["upstream_cx_idle_timeout"] == 2

    run(story)


def test_a_connection_that_is_too_old_goes_after_its_response() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        cluster = world.cluster(upstream.port, max_connection_duration_s=0.03)
        attempt = world.send(cluster)
        peer = await upstream.accept()
        await peer.read_request()
        await later(world, 0.04)
        assert world.figures()["upstream_cx_max_duration_reached"] == 1
        await peer.stream.send_all(OK)
        assert await attempt.over() == "end"
        await peer.closed()

    run(story)
