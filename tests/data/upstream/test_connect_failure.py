"""Connections that cannot be made, in Envoy's words."""

import trio

from mosn_xds.base.errors import ResetReason
from mosn_xds.spec.cluster import Endpoint
from mosn_xds.spec.common import Address
from tests.data.upstream.harness import Upstream, World, run, settled


def test_a_refused_connection_fails_everybody_who_waits_in_envoys_words() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        upstream.close()
        cluster = world.cluster(upstream.port)
        attempts = [world.send(cluster) for _ in range(3)]
        for attempt in attempts:
            assert await attempt.over() == (
                ResetReason.REMOTE_CONNECTION_FAILURE,
                "delayed connect error: Connection refused",
            )
        await settled(world)
        figures = world.figures()
        assert figures["upstream_rq_pending_failure_eject"] == figures["upstream_cx_connect_fail"] == 3
        assert "upstream_rq_total" not in figures
        assert "upstream_rq_pending_active" not in figures
        assert "upstream_cx_active" not in figures

    run(story)


def test_a_unix_socket_that_is_not_there_fails_at_once() -> None:
    async def story(world: World) -> None:
        attempt = world.send(world.cluster(Endpoint(Address("/nonexistent/upstream.sock"))))
        assert await attempt.over() == (
            ResetReason.REMOTE_CONNECTION_FAILURE,
            "immediate connect error: No such file or directory|remote address:/nonexistent/upstream.sock",
        )

    run(story)


def test_a_silent_peer_is_a_connection_timeout() -> None:
    async def story(world: World) -> None:
        upstream = Upstream(backlog=0)
        fillers = []
        for _ in range(4):  # a full queue makes the kernel ignore further attempts
            filler = trio.socket.socket()
            filler._sock.setblocking(False)
            filler._sock.connect_ex(("127.0.0.1", upstream.port))
            fillers.append(filler)
        attempt = world.send(world.cluster(upstream.port, connect_timeout_s=0.05))
        assert await attempt.over() == (ResetReason.CONNECTION_TIMEOUT, "")
        assert world.figures()["upstream_cx_connect_timeout"] == 1
        for filler in fillers:
            filler.close()

    run(story)


def test_a_source_address_is_used_and_one_that_does_not_exist_is_a_local_failure() -> None:
    async def story(world: World) -> None:
        upstream = Upstream("0.0.0.0")
        cluster = world.cluster(upstream.port, source_address=Address("127.0.0.6"))
        attempt = world.send(cluster)
        peer = await upstream.accept()
        assert peer.stream.socket.getpeername()[0] == "127.0.0.6"
        assert (await attempt.ready()).local.startswith("127.0.0.6:")
        foreign = world.cluster(upstream.port, name="foreign", source_address=Address("192.0.2.7"))
        assert await world.send(foreign).over() == (
            ResetReason.LOCAL_CONNECTION_FAILURE,
            "failed to bind to 192.0.2.7:0: Cannot assign requested address",
        )
        assert world.figures("cluster.foreign.")["bind_errors"] == 1

    run(story)


def test_a_source_address_of_another_family_is_left_out() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        attempt = world.send(world.cluster(upstream.port, source_address=Address("::6")))
        await (await upstream.accept()).answer()
        assert await attempt.over() == "end"

    run(story)
