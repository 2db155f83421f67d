"""Clusters by name, in any order of arrival."""

from mosn_xds.spec.cluster import Cluster as ClusterSpec
from mosn_xds.spec.cluster import Discovery
from tests.data.upstream.harness import Upstream, World, endpoints, run


def test_endpoints_may_come_before_their_cluster() -> None:
    async def story(world: World) -> None:
        world.manager.put_endpoints(endpoints("svc", 80))
        assert world.manager.get("svc") is None
        world.manager.put_cluster(ClusterSpec("svc", Discovery.STRICT_DNS))
        cluster = world.manager.get("svc")
        assert cluster is not None
        assert [host.text for host in cluster.hosts] == ["127.0.0.1:80"]

    run(story)


def test_an_eds_cluster_uses_the_endpoints_that_it_asks_for() -> None:
    async def story(world: World) -> None:
        world.manager.put_cluster(ClusterSpec("one", Discovery.EDS, eds_name="shared"))
        world.manager.put_cluster(ClusterSpec("two", Discovery.EDS, eds_name="shared"))
        world.manager.put_cluster(ClusterSpec("shared", Discovery.EDS, eds_name="other"))
        world.manager.put_endpoints(endpoints("shared", 80))
        assert [len(cluster.hosts) for cluster in world.manager] == [1, 1, 0]
        world.manager.put_cluster(ClusterSpec("one", Discovery.EDS, eds_name="other"))
        world.manager.put_endpoints(endpoints("other", 81, 82))
        assert [len(cluster.hosts) for cluster in world.manager] == [2, 1, 2]
        world.manager.drop_endpoints("shared")
        assert [len(cluster.hosts) for cluster in world.manager] == [2, 0, 2]
        world.manager.drop_cluster("two")
        world.manager.drop_cluster("two")
        world.manager.put_endpoints(endpoints("shared", 80))
        assert len(world.manager) == 2

    run(story)


def test_the_same_cluster_again_disturbs_nothing() -> None:
    async def story(world: World) -> None:
        cluster = world.cluster(80)
        assert world.cluster(80) is cluster

    run(story)


def test_only_hosts_whose_figures_changed_are_reported_and_removed_ones_once() -> None:
    async def story(world: World) -> None:
        upstream, unused = Upstream(), Upstream()
        cluster = world.cluster(upstream.port, unused.port)
        assert world.manager.host_stats() == []
        host = cluster.hosts[0]
        attempt = None
        while attempt is None or attempt.host is not host:
            attempt = world.send(cluster)
            if attempt.pending is not None and host.rq_pending_active:
                peer = await upstream.accept()
                await peer.answer()
                await attempt.over()
        reports = {report.address: report for report in world.manager.host_stats()}
        report = reports[host.text]
        assert report.cluster == "svc"
        assert (report.counters["rq_total"], report.counters["cx_active"]) == (1, 1)
        assert host.text not in {report.address for report in world.manager.host_stats()}
        world.manager.put_endpoints(endpoints("svc", unused.port))
        gone = [report for report in world.manager.host_stats() if report.address == host.text]
        assert [report.counters for report in gone] == [{}]
        assert host.text not in {report.address for report in world.manager.host_stats()}

    run(story)
