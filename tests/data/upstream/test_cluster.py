"""Clusters: picking through membership, transports by endpoint, what is charged to whom, figures of membership."""

from collections import Counter

import pytest

from mosn_xds.base.errors import ResetReason
from mosn_xds.data.codec.head import ResponseHead
from mosn_xds.data.upstream.api import LbContext
from mosn_xds.data.upstream.cluster import stat_prefix
from mosn_xds.spec.cluster import Cluster as ClusterSpec
from mosn_xds.spec.cluster import Discovery, Endpoint, Health, Maglev, RingHash
from mosn_xds.spec.common import Address
from tests.data.upstream.harness import Attempt, Upstream, World, endpoints, request, run


def member(last: int, **fields: object) -> Endpoint:
    return Endpoint(Address(f"127.0.0.{last}", 9), **fields)  # type: ignore[arg-type]


def test_membership_is_counted() -> None:
    async def story(world: World) -> None:
        cluster = world.cluster(
            member(1, weight=7), member(2, health=Health.UNHEALTHY), member(3, health=Health.DEGRADED)
        )
        assert world.figures() == {
            "membership_change": 1,
            "membership_total": 3,
            "membership_healthy": 1,
            "membership_degraded": 1,
            "max_host_weight": 7,
        }
        assert repr(cluster) == "<Cluster svc 1/3 hosts, 0 active>"
        world.manager.put_endpoints(endpoints("svc", member(1), member(2), member(3)))
        assert world.figures()["membership_healthy"] == 3
        assert world.figures()["membership_change"] == 1  # nobody came or went

    run(story)


def test_health_from_an_update_decides_who_is_picked() -> None:
    async def story(world: World) -> None:
        cluster = world.cluster(member(1), member(2), panic_threshold_percent=0.0)
        assert len(Counter(cluster.choose_host(None) for _ in range(20))) == 2
        world.manager.put_endpoints(endpoints("svc", member(1, health=Health.UNHEALTHY), member(2)))
        assert {cluster.choose_host(None) for _ in range(20)} == {cluster.hosts[1]}
        unwell = endpoints("svc", member(1, health=Health.UNHEALTHY), member(2, health=Health.TIMEOUT))
        world.manager.put_endpoints(unwell)
        assert cluster.choose_host(None) is None

    run(story)


def test_panic_is_counted() -> None:
    async def story(world: World) -> None:
        cluster = world.cluster(member(1, health=Health.UNHEALTHY))
        assert cluster.choose_host(None) is cluster.hosts[0]
        assert world.figures()["lb_healthy_panic"] == 1

    run(story)


def test_the_context_reaches_the_balancer() -> None:
    async def story(world: World) -> None:
        cluster = world.cluster(*(member(i) for i in range(1, 9)), balancing=RingHash())
        picks = {cluster.choose_host(LbContext(hash=99)) for _ in range(20)}
        assert len(picks) == 1
        other = cluster.choose_host(LbContext(hash=99, should_skip=tuple(picks), max_skip_attempts=50))  # type: ignore[arg-type]
        assert other not in picks
        assert not cluster.needs_context
        ring = world.figures("cluster.svc.ring_hash_lb.")
        assert ring == {"size": 1024, "min_hashes_per_host": 128, "max_hashes_per_host": 128}
        world.cluster(member(1), name="m", balancing=Maglev(table_size=11))
        assert world.figures("cluster.m.maglev_lb.") == {"min_entries_per_host": 11, "max_entries_per_host": 11}

    run(story)


def test_outcomes_are_charged_to_cluster_and_host() -> None:
    async def story(world: World) -> None:
        cluster = world.cluster(member(1))
        host = cluster.hosts[0]
        cluster.charge_response(host, ResponseHead(200, []), retried=False)
        cluster.charge_response(host, ResponseHead(404, []), retried=False, internal=True)
        cluster.charge_response(host, ResponseHead(500, []), retried=False)
        cluster.charge_response(host, ResponseHead(503, []), retried=True)
        cluster.charge_complete(host, 12.0)
        assert (host.rq_success, host.rq_error, host.rq_timeout) == (2, 2, 0)
        cluster.charge_timeout(host)
        cluster.charge_failure(host, ResetReason.CONNECTION_TERMINATION)
        cluster.charge_failure(host, ResetReason.PROTOCOL_ERROR)
        cluster.charge_failure(host, ResetReason.OVERFLOW)
        cluster.charge_failure(None, ResetReason.OVERFLOW)
        assert (host.rq_success, host.rq_error, host.rq_timeout) == (2, 5, 1)
        figures = world.figures()
        expected = {"200": 1, "404": 1, "500": 1, "504": 1, "503": 3, "502": 1, "completed": 8}
        assert {name: figures[f"upstream_rq_{name}"] for name in expected} == expected
        assert figures["internal.upstream_rq_404"] == 1
        assert figures["retry.upstream_rq_503"] == 1
        assert cluster.stats.upstream_rq_time.count == 1

    run(story)


def test_priorities_have_pools_of_their_own() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        cluster = world.cluster(upstream.port)
        first = world.send(cluster)
        peer = await upstream.accept()
        await peer.answer()
        await first.over()
        high = world.send(cluster, high_priority=True)
        assert high.stream is None
        await (await upstream.accept()).answer()
        assert await high.over() == "end"

    run(story)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (ClusterSpec("outbound|80||a.b.svc", Discovery.EDS), "cluster.outbound|80||a.b.svc."),
        (ClusterSpec("a", Discovery.EDS, alt_stat_name="b"), "cluster.b."),
        (ClusterSpec("http://x:80.", Discovery.EDS), "cluster.http_x_80."),
    ],
)
def test_names_in_statistics_are_cleaned_as_in_envoy(spec: ClusterSpec, expected: str) -> None:
    assert stat_prefix(spec) == expected


def test_a_request_goes_out_by_the_clients_protocol() -> None:
    from mosn_xds.data.codec.head import Version
    from mosn_xds.spec.cluster import UpstreamProtocol

    async def story(world: World) -> None:
        upstream = Upstream()
        cluster = world.cluster(upstream.port, protocol=UpstreamProtocol.USE_DOWNSTREAM)
        attempt = world.send(cluster)
        await (await upstream.accept()).answer()
        assert await attempt.over() == "end"
        later = Attempt(request())
        cluster.open_stream(cluster.hosts[0], later, Version.HTTP2)
        peer = await upstream.accept()
        assert (await peer.stream.receive_some()).startswith(b"PRI * HTTP/2.0")
        again = world.send(cluster)
        assert again.stream is not None

    run(story)
