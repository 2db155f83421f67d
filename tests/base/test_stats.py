"""What a registry reports of its groups."""

import pytest

from mosn_xds.base.stats import Histogram, StatGroup, StatRegistry


class Stats(StatGroup):
    __slots__ = ("active", "ms", "total")
    COUNTERS = ("total",)
    GAUGES = ("active",)
    HISTOGRAMS = ("ms",)
    total: int
    active: int
    ms: Histogram


class Settling(StatGroup):
    __slots__ = ("made", "total")
    COUNTERS = ("total",)
    total: int

    def settle(self) -> None:
        self.total = 7


def test_first_report_names_the_kind_once_and_what_is_not_zero() -> None:
    registry = StatRegistry()
    first, _second = registry.group(Stats, "a."), registry.group(Stats, "b.")
    first.total += 2
    a, b = registry.take_changes()
    (kind,) = registry.take_kinds()
    assert (a.prefix, a.counters, a.gauges, a.histograms, a.kind) == ("a.", {"total": 2}, {}, {}, kind.name)
    assert (b.prefix, b.counters, b.kind) == ("b.", {}, kind.name)
    assert (kind.counters, kind.gauges, kind.histograms) == (("total",), ("active",), ("ms",))
    _third = registry.group(Stats, "c.")
    assert [change.kind for change in registry.take_changes()] == [kind.name]
    assert registry.take_kinds() == []


def test_later_reports_hold_differences_of_counters_and_values_of_gauges() -> None:
    registry = StatRegistry()
    group = registry.group(Stats, "a.")
    registry.take_changes()
    assert registry.take_changes() == []
    group.total += 2
    group.active = 5
    group.count("503")
    (change,) = registry.take_changes()
    assert (change.counters, change.gauges, change.kind) == ({"total": 2, "503": 1}, {"active": 5}, "")
    group.total += 1
    group.active = 0
    group.count("503", 2)
    (change,) = registry.take_changes()
    assert (change.counters, change.gauges) == ({"total": 1, "503": 2}, {"active": 0})


def test_histograms_travel_as_differences() -> None:
    registry = StatRegistry()
    group = registry.group(Stats, "a.")
    group.ms.record(3)
    registry.take_changes()
    group.ms.record(7)
    group.ms.record(7)
    (change,) = registry.take_changes()
    assert (change.histograms["ms"].count, change.histograms["ms"].total, sum(change.histograms["ms"].buckets)) == (
        2,
        14,
        2,
    )
    group.total += 1
    (change,) = registry.take_changes()
    assert change.histograms == {}


def test_groups_that_count_otherwise_settle_before_they_report() -> None:
    registry = StatRegistry()
    _group = registry.group(Settling, "a.")
    (change,) = registry.take_changes()
    assert change.counters == {"total": 7}


def test_changes_may_be_read_in_portions_while_groups_are_added() -> None:
    registry = StatRegistry()
    groups = [registry.group(Stats, f"{name}.") for name in "abc"]
    portions = registry.changes()
    next(portions)
    groups.append(registry.group(Stats, "d."))
    assert [change.prefix for change in portions if change is not None] == ["b.", "c."]
    assert [change.prefix for change in registry.take_changes()] == ["d."]


def test_of_many_quiet_groups_some_are_looked_at_each_time_and_the_lively_always(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mosn_xds.base.stats.IDLE_LOOKS", 10)
    registry = StatRegistry()
    groups = [registry.group(Stats, f"{n}.") for n in range(100)]
    assert sum(change is not None for change in registry.changes()) == 100
    for _ in range(20):
        assert not any(registry.changes())
    lively = groups[50]
    lively.total += 1
    seen = 0
    while not any(change is not None for change in registry.changes()):
        seen += 1
        assert seen < 10
    for _ in range(30):
        lively.total += 1
        (change,) = [change for change in registry.changes() if change is not None]
        assert change.counters == {"total": 1}
    groups[1].total += 1
    assert [change.prefix for change in registry.changes(everything=True) if change is not None] == ["1."]


def test_a_group_that_nobody_holds_is_reported_gone_behind_its_last_counts() -> None:
    registry = StatRegistry()
    group = registry.group(Stats, "a.")
    kept = registry.group(Stats, "b.")
    registry.take_changes()
    group.total += 3
    del group
    (last,) = registry.take_changes()
    assert (last.prefix, last.counters, last.gone) == ("a.", {"total": 3}, False)
    (gone,) = registry.take_changes()
    assert (gone.prefix, gone.counters, gone.gone) == ("a.", {}, True)
    assert list(registry) == [kept]
    for _ in range(30):
        assert registry.take_changes() == []


def test_a_group_stays_until_the_last_of_its_holders_lets_go() -> None:
    registry = StatRegistry()
    holders = [registry.group(Stats, "a.") for _ in range(2)]
    registry.take_changes()
    for _ in range(30):  # also when it has been quiet for long
        holders[0].total += 0
        assert registry.take_changes() == []
    holders.pop()
    assert registry.take_changes() == []
    holders.pop()
    assert [change.gone for change in registry.take_changes()] == [True]


def test_a_group_that_comes_back_is_a_new_one() -> None:
    registry = StatRegistry()
    registry.group(Stats, "a.").total += 3
    registry.take_changes()
    registry.take_changes()
    again = registry.group(Stats, "a.")
    again.total += 1
    (change,) = registry.take_changes()
    assert (change.counters, bool(change.kind)) == ({"total": 1}, True)


def test_groups_may_go_while_changes_are_read_in_portions() -> None:
    registry = StatRegistry()
    groups = {name: registry.group(Stats, f"{name}.") for name in "abcd"}
    registry.take_changes()
    portions = registry.changes()
    del groups["a"], groups["c"]
    assert [change.prefix for change in portions if change is not None and change.gone] == ["a.", "c."]
    assert registry.take_changes() == []
