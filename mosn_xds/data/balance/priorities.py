"""How load spreads over priority levels by their health (Envoy's priority levels, overprovisioning and panic).

A level can take its healthy share times the overprovisioning factor, at most 100 %. Level 0 gets what it can take, the
rest flows down; degraded hosts take what healthy ones of all levels could not. If all levels together cannot take 100 %,
their loads are scaled up to 100, and levels whose available hosts are fewer than the panic threshold are in panic: they
use all of their hosts. If every level panics, load follows the number of hosts. All arithmetic is in whole percents as
in Envoy (source/extensions/load_balancing_policies/common/load_balancer_impl.cc), what rounding leaves goes to the first
level that can take something.
"""

from collections.abc import Sequence
from typing import NamedTuple


class LevelHealth(NamedTuple):
    """One priority level, counted; `overprovisioning` is in percent (140)."""

    hosts: int
    healthy: int
    degraded: int = 0
    overprovisioning: int = 140


class LevelLoads(NamedTuple):
    """Percents for each level, healthy hosts and degraded ones (together 100), and which levels are in panic."""

    healthy: tuple[int, ...]
    degraded: tuple[int, ...]
    panic: tuple[bool, ...]


def distribute_load(levels: Sequence[LevelHealth], panic_threshold_percent: int) -> LevelLoads:
    """Loads of `levels`, of which there is at least one; `panic_threshold_percent` 0 rules panic out."""
    healthy_capacity = [_capacity(level, level.healthy) for level in levels]
    degraded_capacity = [_capacity(level, level.degraded) for level in levels]
    available = min(100, sum(healthy_capacity) + sum(degraded_capacity))
    healthy = [0] * len(levels)
    degraded = [0] * len(levels)
    if available:
        remaining = _fill(healthy, healthy_capacity, 100, available)
        remaining = _fill(degraded, degraded_capacity, remaining, available)
        for loads, capacity in ((healthy, healthy_capacity), (degraded, degraded_capacity)):
            first = next((i for i, percent in enumerate(capacity) if percent), None)
            if first is not None:
                loads[first] += remaining
                break
    elif not panic_threshold_percent:
        healthy[0] = 100  # to nobody: no host is available, and panic is ruled out
    panic = [available < 100 and _in_panic(level, panic_threshold_percent) for level in levels]
    if all(panic):
        healthy = _by_size(levels)
        degraded = [0] * len(levels)
    return LevelLoads(tuple(healthy), tuple(degraded), tuple(panic))


def choose_level(hash: int, loads: LevelLoads) -> tuple[int, bool]:
    """The level that `hash` falls on, and whether its degraded hosts are meant."""
    point = hash % 100 + 1
    reached = 0
    for level, percent in enumerate(loads.healthy):
        reached += percent
        if point <= reached:
            return level, False
    for level, percent in enumerate(loads.degraded):
        reached += percent
        if point <= reached:
            return level, True
    return 0, False


def _capacity(level: LevelHealth, available: int) -> int:
    return min(100, level.overprovisioning * available // level.hosts) if level.hosts else 0


def _fill(loads: list[int], capacity: Sequence[int], remaining: int, available: int) -> int:
    for i, percent in enumerate(capacity):
        loads[i] = min(remaining, percent * 100 // available)
        remaining -= loads[i]
    return remaining


def _in_panic(level: LevelHealth, threshold_percent: int) -> bool:
    if not level.hosts:
        return threshold_percent > 0
    return 100.0 * (level.healthy + level.degraded) / level.hosts < threshold_percent


def _by_size(levels: Sequence[LevelHealth]) -> list[int]:
    total = sum(level.hosts for level in levels)
    if not total:
        return [100] + [0] * (len(levels) - 1)
    loads = [100 * level.hosts // total for level in levels]
    first = next(i for i, level in enumerate(levels) if level.hosts)
    loads[first] += 100 - sum(loads)
    return loads
