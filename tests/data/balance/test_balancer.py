"""From membership to picks: levels, panic, localities, skipping, consistent hashing."""

import random
from collections import Counter

import pytest

from mosn_xds.base.clock import ManualClock
from mosn_xds.base.steps import run_to_end
from mosn_xds.data.balance.balancer import LocalityHosts, Surroundings, balancer_steps
from mosn_xds.data.balance.settings import BalancerSettings
from mosn_xds.spec.cluster import Health, Maglev, RandomChoice, RingHash, RoundRobin
from tests.data.balance.hosts import Context, FakeHost, hosts


class Bench:
    """A balancer over some localities, and what it said."""

    def __init__(self, *localities: LocalityHosts[FakeHost], active: int = 0, **settings: object) -> None:
        self.panics = 0
        self.balancer = run_to_end(
            balancer_steps(
                localities,
                BalancerSettings(**settings),  # type: ignore[arg-type]
                Surroundings(random.Random(7), ManualClock(), lambda: active, self._on_panic),
            )
        )

    def _on_panic(self) -> None:
        self.panics += 1

    def counts(self, times: int = 1000, context: Context | None = None) -> Counter[FakeHost | None]:
        return Counter(self.balancer.choose(context) for _ in range(times))


POLICIES = [RoundRobin(), RandomChoice(), RingHash(), Maglev(table_size=251)]


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)
def test_only_healthy_hosts_are_picked(policy: object) -> None:
    members = hosts(4)
    members[0].health = Health.UNHEALTHY
    members[1].health = Health.DRAINING
    members[2].health = Health.UNKNOWN
    assert set(Bench(LocalityHosts(members), policy=policy).counts()) == {members[2], members[3]}


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)
def test_below_the_panic_threshold_all_hosts_are_picked_and_each_pick_is_counted(policy: object) -> None:
    members = hosts(4)
    for host in members[:3]:
        host.health = Health.UNHEALTHY
    bench = Bench(LocalityHosts(members), policy=policy)
    assert set(bench.counts(500)) == set(members)
    assert bench.panics == 500


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)
def test_without_a_panic_threshold_no_healthy_host_means_none(policy: object) -> None:
    bench = Bench(LocalityHosts(hosts(2, health=Health.UNHEALTHY)), policy=policy, panic_threshold_percent=0.0)
    assert bench.counts(10) == {None: 10}
    assert bench.panics == 0


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)
def test_no_hosts_means_none(policy: object) -> None:
    assert Bench(policy=policy).balancer.choose(None) is None
    assert Bench(LocalityHosts([]), policy=policy).balancer.choose(None) is None


def test_a_lower_level_takes_over_what_the_first_cannot() -> None:
    first, second = hosts(4), [FakeHost("10.1.0.1:80")]
    first[0].health = first[1].health = Health.UNHEALTHY
    counts = Bench(LocalityHosts(first), LocalityHosts(second, priority=1)).counts(2000)
    assert counts[second[0]] / 2000 == pytest.approx(0.3, abs=0.04)
    assert first[0] not in counts


def test_a_level_that_no_locality_has_is_passed_over() -> None:
    only = hosts(1)
    assert Bench(LocalityHosts(only, priority=3)).counts(50) == {only[0]: 50}


def test_degraded_hosts_are_picked_when_healthy_ones_are_few() -> None:
    members = hosts(4)
    for host in members[1:]:
        host.health = Health.DEGRADED
    counts = Bench(LocalityHosts(members)).counts(2000)
    assert counts[members[0]] / 2000 == pytest.approx(0.35, abs=0.04)


def test_localities_share_by_weight_when_asked() -> None:
    near, far, out = hosts(2), [FakeHost("10.1.0.1:80")], [FakeHost("10.2.0.1:80")]
    bench = Bench(
        LocalityHosts(near, weight=3), LocalityHosts(far, weight=1), LocalityHosts(out), locality_weighted=True
    )
    counts = bench.counts(800)
    assert counts[far[0]] == pytest.approx(200, abs=2)
    assert out[0] not in counts


def test_a_locality_that_loses_hosts_loses_weight_beyond_its_overprovisioning() -> None:
    near, far = hosts(10), [FakeHost(f"10.1.0.{i}:80") for i in range(10)]
    for host in near[:5]:
        host.health = Health.UNHEALTHY
    counts = Bench(LocalityHosts(near, weight=1), LocalityHosts(far, weight=1), locality_weighted=True).counts(1700)
    assert sum(counts[host] for host in near) == pytest.approx(700, abs=3)  # 0.7 to 1


def test_locality_weights_are_ignored_unless_asked() -> None:
    near, far = hosts(1), [FakeHost("10.1.0.1:80")]
    counts = Bench(LocalityHosts(near, weight=99), LocalityHosts(far, weight=1)).counts(100)
    assert counts == {near[0]: 50, far[0]: 50}


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)
def test_hosts_that_were_tried_are_avoided_as_far_as_attempts_go(policy: object) -> None:
    members = hosts(2)
    bench = Bench(LocalityHosts(members), policy=policy)
    avoided = bench.counts(200, Context(hash=None, should_skip=(members[0],), max_skip_attempts=20))
    assert avoided[members[0]] < 5
    futile = bench.counts(10, Context(should_skip=tuple(members), max_skip_attempts=3))
    assert sum(futile.values()) == 10


def test_a_hash_finds_the_same_host_and_few_hashes_move_when_one_leaves() -> None:
    members = hosts(5)
    before = Bench(LocalityHosts(members), policy=RingHash()).balancer
    after = Bench(LocalityHosts(members[:-1]), policy=RingHash()).balancer
    keys = [random.Random(key).getrandbits(64) for key in range(500)]
    picks = [before.choose(Context(hash=key)) for key in keys]
    assert picks == [before.choose(Context(hash=key)) for key in keys]
    stayed = [(key, pick) for key, pick in zip(keys, picks, strict=True) if pick is not members[-1]]
    moved = [key for key, pick in stayed if after.choose(Context(hash=key)) is not pick]
    assert len(moved) < len(stayed) / 4  # the others get more points each, so some move


def test_bounded_load_passes_an_overloaded_host_over() -> None:
    members = hosts(4)
    free = Bench(LocalityHosts(members), policy=RingHash()).balancer.choose(Context(hash=12345))
    assert free is not None
    free.active_requests = 40
    bound = Bench(LocalityHosts(members), policy=RingHash(hash_balance_factor=150), active=40).balancer
    other = bound.choose(Context(hash=12345))
    assert other is not free
    assert bound.choose(Context(hash=12345)) is other
    for host in members:
        host.active_requests = 40
    assert bound.choose(Context(hash=12345)) is free  # all over their bound, none less than it
