"""Cluster statistics under Envoy's names."""

from mosn_xds.base.stats import StatRegistry
from mosn_xds.data.upstream.stats import ClusterStats, ResponseKind


def test_a_response_counts_under_three_names_twice() -> None:
    registry = StatRegistry()
    stats = registry.group(ClusterStats, "cluster.svc.")
    for _ in range(3):
        stats.count_response(200)
    stats.count_response(404, ResponseKind.INTERNAL)
    stats.count_response(503, ResponseKind.RETRIED)
    (change,) = registry.take_changes()
    counted = {name: value for name, value in change.counters.items() if value}
    assert counted == {
        "upstream_rq_completed": 4,
        "upstream_rq_2xx": 3,
        "upstream_rq_200": 3,
        "upstream_rq_4xx": 1,
        "upstream_rq_404": 1,
        "external.upstream_rq_completed": 3,
        "external.upstream_rq_2xx": 3,
        "external.upstream_rq_200": 3,
        "internal.upstream_rq_completed": 1,
        "internal.upstream_rq_4xx": 1,
        "internal.upstream_rq_404": 1,
        "retry.upstream_rq_completed": 1,
        "retry.upstream_rq_5xx": 1,
        "retry.upstream_rq_503": 1,
    }
    stats.count_response(200)
    (change,) = registry.take_changes()
    assert change.counters["upstream_rq_200"] == change.counters["external.upstream_rq_2xx"] == 1


def test_responses_show_in_each_report_once() -> None:
    registry = StatRegistry()
    stats = registry.group(ClusterStats, "cluster.svc.")
    stats.count_response(200)
    registry.take_changes()
    assert registry.take_changes() == []
