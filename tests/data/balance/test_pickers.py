"""Round robin, least request, random choice: who is picked."""

import random
from collections import Counter

import pytest

from mosn_xds.base.clock import ManualClock
from mosn_xds.data.balance.pickers import least_request, random_choice, round_robin
from mosn_xds.data.balance.slow_start import SlowStart
from mosn_xds.spec.cluster import LeastRequest, RoundRobin
from tests.data.balance.hosts import FakeHost, hosts


def picks(picker, count: int) -> Counter[FakeHost]:
    return Counter(picker.pick(0, 0) for _ in range(count))


def test_round_robin_takes_turns_from_a_random_start() -> None:
    members = hosts(3)
    starts = set()
    for seed in range(20):
        picker = round_robin(RoundRobin(), random.Random(seed), ManualClock())(members)
        order = [picker.pick(0, 0) for _ in range(6)]
        assert order[:3] == order[3:]
        assert set(order) == set(members)
        starts.add(order[0].text)
    assert len(starts) == 3


def test_round_robin_honours_unequal_weights() -> None:
    members = hosts(3)
    members[0].weight, members[1].weight = 3, 2
    picker = round_robin(RoundRobin(), random.Random(1), ManualClock())(members)
    assert [picks(picker, 600)[host] for host in members] == pytest.approx([300, 200, 100], abs=2)


def test_least_request_prefers_the_less_loaded_of_two() -> None:
    members = hosts(2)
    members[0].active_requests = 5
    picker = least_request(LeastRequest(), random.Random(1), ManualClock())(members)
    counts = picks(picker, 4000)
    # The loaded one is taken only if both draws are it.
    assert counts[members[0]] / 4000 == pytest.approx(0.25, abs=0.03)


def test_least_request_draws_as_often_as_it_is_told() -> None:
    members = hosts(2)
    members[0].active_requests = 1
    picker = least_request(LeastRequest(choice_count=5), random.Random(1), ManualClock())(members)
    assert picks(picker, 4000)[members[0]] / 4000 == pytest.approx(1 / 32, abs=0.015)


def test_a_full_scan_always_finds_the_least_loaded_and_draws_lots_among_equals() -> None:
    members = hosts(4)
    members[0].active_requests = members[1].active_requests = 2
    picker = least_request(LeastRequest(full_scan=True), random.Random(1), ManualClock())(members)
    counts = picks(picker, 1000)
    assert set(counts) == {members[2], members[3]}
    assert counts[members[2]] == pytest.approx(500, abs=80)


@pytest.mark.parametrize(("bias", "expected"), [(1.0, 0.2), (0.0, 0.5), (2.0, 1 / 17)])
def test_least_request_with_unequal_weights_divides_them_by_the_load(bias: float, expected: float) -> None:
    members = hosts(3)
    members[0].active_requests = 3
    members[2].weight = 2  # unequal, and out of the comparison
    picker = least_request(LeastRequest(active_request_bias=bias), random.Random(1), ManualClock())(members)
    counts = picks(picker, 6000)
    assert counts[members[0]] / (counts[members[0]] + counts[members[1]]) == pytest.approx(expected, abs=0.02)


def test_random_choice_does_not_look_at_weights() -> None:
    members = hosts(2)
    members[0].weight = 100
    counts = picks(random_choice(random.Random(1))(members), 4000)
    assert counts[members[0]] == pytest.approx(2000, abs=150)


@pytest.mark.parametrize(
    ("age_s", "aggression", "least_percent", "expected"),
    [
        (0.0, 1.0, 10.0, 0.1),
        (5.0, 1.0, 10.0, 0.1),
        (30.0, 1.0, 10.0, 0.5),
        (60.0, 1.0, 10.0, 1.0),
        (15.0, 2.0, 10.0, 0.5),
        (0.0, 1.0, 0.0, 0.001 / 60),
    ],
)
def test_slow_start_lets_the_weight_grow_over_the_window(
    age_s: float, aggression: float, least_percent: float, expected: float
) -> None:
    clock = ManualClock(1000.0)
    host = FakeHost("a", healthy_since_s=1000.0 - age_s)
    assert SlowStart(clock, 60.0, aggression, least_percent).factor(host) == pytest.approx(expected)


def test_a_host_in_slow_start_gets_less_until_its_window_is_over() -> None:
    clock = ManualClock(1000.0)
    members = [FakeHost("old", healthy_since_s=0.0), FakeHost("new", healthy_since_s=1000.0)]
    picker = round_robin(RoundRobin(slow_start_window_s=60.0), random.Random(1), clock)(members)
    assert picks(picker, 1100)[members[1]] == pytest.approx(100, abs=5)
    clock.advance(60.0)
    picks(picker, 20)  # what was scheduled before still counts
    assert picks(picker, 1000)[members[1]] == pytest.approx(500, abs=5)
