"""Pools of clusters and hosts that change or go: no new streams, nothing cut, nothing left."""

import gc

from trio.testing import wait_all_tasks_blocked

from mosn_xds.data.upstream.cluster import Cluster
from mosn_xds.data.upstream.host import Host
from mosn_xds.data.upstream.http1 import Http1Connection, Http1Stream
from mosn_xds.data.upstream.pool import ConnectionPool
from tests.data.upstream.harness import OK, Attempt, Upstream, World, request, run, settled


def test_requests_under_way_survive_a_change_of_their_cluster() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        cluster = world.cluster(upstream.port)
        idle, busy = world.send(cluster), world.send(cluster)
        peers = [await upstream.accept(), await upstream.accept()]
        for peer in peers:
            await peer.read_request()
        # Which peer serves which attempt depends on the kernel; the first answer frees one of them.
        await peers[0].stream.send_all(OK)
        await wait_all_tasks_blocked()
        host = cluster.hosts[0]
        changed = world.cluster(upstream.port, connect_timeout_s=7.0)
        assert changed is not cluster
        assert changed.hosts == [host]
        await peers[0].closed()
        after = world.send(changed)
        fresh = await upstream.accept()
        await fresh.answer()
        assert not (await after.ready()).reused
        await peers[1].stream.send_all(OK)
        for attempt in (idle, busy, after):
            assert await attempt.over() == "end"
        await peers[1].closed()
        assert host.rq_total == 3

    run(story)


def test_an_endpoints_update_leaves_the_pools_of_hosts_that_stay_alone() -> None:
    async def story(world: World) -> None:
        stays, goes = Upstream(), Upstream()
        cluster = world.cluster(stays.port, goes.port)
        peers = {}
        for host, upstream in zip(cluster.hosts, (stays, goes), strict=True):
            attempt = Attempt()
            cluster.open_stream(host, attempt, request().version)
            peers[upstream] = await upstream.accept()
            await peers[upstream].answer()
            await attempt.over()
        staying = cluster.hosts[0]
        same = world.cluster(stays.port)
        assert same is cluster
        assert same.hosts == [staying]
        await peers[goes].closed()
        attempt = world.send(cluster)
        assert attempt.stream.reused
        await peers[stays].answer()
        assert await attempt.over() == "end"

    run(story)


def test_a_removed_host_serves_its_requests_to_the_end() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        cluster = world.cluster(upstream.port)
        attempt, waiting = world.send(cluster), world.send(cluster)
        world.manager.drop_endpoints("svc")
        assert cluster.choose_host(None) is None
        peers = [await upstream.accept(), await upstream.accept()]
        for peer in peers:
            await peer.answer()
            await peer.closed()
        assert await attempt.over() == "end"
        assert await waiting.over() == "end"

    run(story)


def test_a_dropped_cluster_serves_its_requests_to_the_end() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        cluster = world.cluster(upstream.port)
        attempt = world.send(cluster)
        world.manager.drop_cluster("svc")
        assert world.manager.get("svc") is None
        peer = await upstream.accept()
        await peer.answer()
        assert await attempt.over() == "end"
        await peer.closed()

    run(story)


def test_nothing_is_left_of_a_cluster_that_is_gone_even_without_the_collector() -> None:
    kinds = (Cluster, ConnectionPool, Http1Connection, Http1Stream, Host)

    def alive() -> list[object]:
        return [thing for thing in gc.get_objects() if isinstance(thing, kinds)]

    async def story(world: World) -> None:
        upstream = Upstream()
        cluster = world.cluster(upstream.port)
        attempt = world.send(cluster)
        peer = await upstream.accept()
        await peer.answer()
        await attempt.over()
        failed = world.send(world.cluster(1, name="refused"))
        await failed.over()
        assert len(alive()) >= 7
        world.manager.drop_cluster("svc")
        world.manager.drop_cluster("refused")
        await peer.closed()
        await settled(world)
        assert world.manager.host_stats()
        del cluster, attempt, failed
        assert alive() == []

    gc.collect()
    gc.disable()
    try:
        run(story)
    finally:
        gc.enable()
