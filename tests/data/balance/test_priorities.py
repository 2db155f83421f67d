"""Level loads and panic: the tables of Envoy's documentation, and its corner cases."""

import pytest

from mosn_xds.data.balance.priorities import LevelHealth, choose_level, distribute_load


def levels(*healthy: int, degraded: tuple[int, ...] = ()) -> list[LevelHealth]:
    """Levels of 100 hosts each."""
    degraded = degraded or (0,) * len(healthy)
    return [LevelHealth(100, h, d) for h, d in zip(healthy, degraded, strict=True)]


@pytest.mark.parametrize(
    ("healthy", "expected"),
    [
        ((100, 100), (100, 0)),
        ((72, 100), (100, 0)),
        ((71, 100), (99, 1)),
        ((50, 100), (70, 30)),
        ((25, 100), (35, 65)),
        ((0, 100), (0, 100)),
        ((72, 72), (100, 0)),
        ((71, 71), (99, 1)),
        ((50, 50), (70, 30)),
        ((25, 25), (50, 50)),
        ((100, 100, 100), (100, 0, 0)),
        ((25, 25, 100), (35, 35, 30)),
        ((25, 25, 20), (37, 35, 28)),  # the documentation has 36, 36, 28; this is what the code does
        ((5, 65), (8, 92)),  # 7/98 and 91/98, rounded down; what is left goes to the first level
    ],
)
def test_load_flows_down_as_levels_lose_hosts(healthy: tuple[int, ...], expected: tuple[int, ...]) -> None:
    assert distribute_load(levels(*healthy), 0).healthy == expected


@pytest.mark.parametrize(
    ("healthy", "degraded", "expected"),
    [(100, 0, (100, 0)), (71, 0, (100, 0)), (71, 29, (99, 1)), (25, 65, (35, 65)), (5, 0, (100, 0)), (0, 50, (0, 100))],
)
def test_degraded_hosts_take_what_healthy_ones_cannot(healthy: int, degraded: int, expected: tuple[int, int]) -> None:
    loads = distribute_load(levels(healthy, degraded=(degraded,)), 0)
    assert (loads.healthy[0], loads.degraded[0]) == expected


@pytest.mark.parametrize(
    ("healthy", "panic"),
    [
        ((72, 72), (False, False)),
        ((50, 60), (False, False)),
        ((25, 100), (False, False)),
        ((25, 25), (True, True)),
        ((5, 65), (True, False)),
        ((49,), (True,)),
        ((50,), (False,)),
        ((100, 0), (False, False)),
    ],
)
def test_a_level_panics_when_all_levels_together_are_short_and_it_is_below_the_threshold(
    healthy: tuple[int, ...], panic: tuple[bool, ...]
) -> None:
    assert distribute_load(levels(*healthy), 50).panic == panic


def test_when_every_level_panics_load_follows_the_number_of_hosts() -> None:
    loads = distribute_load([LevelHealth(30, 1), LevelHealth(10, 0), LevelHealth(0, 0)], 50)
    assert loads.healthy == (75, 25, 0)
    assert loads.panic == (True, True, True)


def test_without_panic_nobody_healthy_means_level_zero_gets_all() -> None:
    loads = distribute_load([LevelHealth(10, 0), LevelHealth(10, 0)], 0)
    assert loads.healthy == (100, 0)
    assert loads.panic == (False, False)


def test_the_overprovisioning_factor_is_what_a_level_can_take() -> None:
    assert distribute_load([LevelHealth(100, 50, 0, 200), LevelHealth(100, 100)], 50).healthy == (100, 0)
    assert distribute_load([LevelHealth(100, 50, 0, 100), LevelHealth(100, 100)], 50).healthy == (50, 50)


def test_no_hosts_at_all_is_no_error() -> None:
    assert distribute_load([LevelHealth(0, 0)], 50).healthy == (100,)


def test_a_hash_falls_on_levels_in_proportion_healthy_before_degraded() -> None:
    loads = distribute_load(levels(25, 25, degraded=(10, 30)), 0)
    picks = [choose_level(hash, loads) for hash in range(100)]
    for index in range(2):
        assert picks.count((index, False)) == loads.healthy[index]
        assert picks.count((index, True)) == loads.degraded[index]
    assert sum(loads.healthy) + sum(loads.degraded) == 100
