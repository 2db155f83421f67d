"""Limits over workers, and the rows that they need."""

import os

from mosn_xds.base.limits import LimitProvider, LimitTable
from mosn_xds.data.upstream.breaker import Breaker, limit_keys
from mosn_xds.data.upstream.stats import ClusterStats
from mosn_xds.spec.cluster import Breakers, Cluster, Discovery

NONE = Breakers(max_connections=None, max_pending_requests=None, max_requests=None, max_retries=None)


def test_only_finite_thresholds_have_rows() -> None:
    spec = Cluster("a", Discovery.EDS, breakers=NONE, high_breakers=NONE)
    assert limit_keys(spec) == []
    some = Cluster("a", Discovery.EDS, breakers=Breakers(max_connections=None, max_retries=None), high_breakers=NONE)
    assert limit_keys(some) == ["cluster|a|default|pending", "cluster|a|default|requests"]


def test_a_retry_budget_needs_to_know_what_is_active() -> None:
    budget = Breakers(None, None, None, None, retry_budget_percent=20.0)
    spec = Cluster("a", Discovery.EDS, breakers=NONE, high_breakers=budget)
    assert limit_keys(spec) == ["cluster|a|high|pending", "cluster|a|high|requests", "cluster|a|high|retries"]


def test_a_limit_holds_over_all_workers() -> None:
    table = LimitTable.create(4, 2)
    rows = {key: row for row, key in enumerate(limit_keys(Cluster("a", Discovery.EDS, high_breakers=NONE)))}
    breakers = []
    for column in range(2):
        limits = LimitProvider(LimitTable.open(os.dup(table.fd), 2), column)
        limits.set_rows(rows)
        breakers.append(Breaker("a", False, Breakers(max_requests=3), limits, ClusterStats("cluster.a.")))
    first, second = (breaker.requests for breaker in breakers)
    assert first is not None
    assert second is not None
    first.add(2)
    second.add(1)
    assert first.is_open()
    assert second.is_open()
    assert first.remaining() == 0
    first.add(-1)
    assert not second.is_open()
    assert second.remaining() == 1


def test_a_threshold_of_zero_is_always_reached() -> None:
    breaker = Breaker("a", False, Breakers(max_requests=0), LimitProvider(), ClusterStats("cluster.a."))
    assert breaker.requests is not None
    assert breaker.requests.is_open()
    assert Breaker("a", False, NONE, LimitProvider(), ClusterStats("cluster.a.")).requests is None
