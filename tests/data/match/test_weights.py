"""The pick among weighted clusters."""

from collections import Counter

from mosn_xds.data.match.weights import WeightedClusters
from mosn_xds.spec.route import WeightedCluster
from tests.support.heads import request

V1, V2, V3 = WeightedCluster("v1", 90), WeightedCluster("v2", 0), WeightedCluster("v3", 10)


def test_each_entry_gets_its_share_and_one_of_weight_zero_gets_nothing():
    weights = WeightedClusters((V1, V2, V3))
    picks = Counter(weights.pick(request(), number) for number in range(1000))
    assert picks == {0: 900, 2: 100}


def test_a_stream_keeps_its_pick():
    weights = WeightedClusters((V1, V3))
    assert weights.pick(request(), 95) == weights.pick(request(), 195) == 1


def test_the_number_can_come_from_a_header():
    weights = WeightedClusters((V1, V3), "X-Pick")
    assert weights.pick(request("/", ("x-pick", "95")), 0) == 1
    assert weights.pick(request("/", ("x-pick", "nonsense")), 0) == 0
    assert weights.pick(request("/", ("x-pick", "95"), ("x-pick", "95")), 0) == 0
    assert weights.pick(request(), 95) == 1


def test_without_any_weight_there_is_no_pick():
    assert WeightedClusters((V2,)).pick(request(), 5) == -1
