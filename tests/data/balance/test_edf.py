"""Earliest deadline first."""

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mosn_xds.data.balance.edf import EdfScheduler


def test_picks_are_in_proportion_to_weights_and_spread_out() -> None:
    weights = {"a": 5.0, "b": 2.0, "c": 1.0}
    scheduler = EdfScheduler(list(weights), weights.__getitem__)
    picks = [scheduler.pick() for _ in range(80)]
    assert Counter(picks) == {"a": 50, "b": 20, "c": 10}
    gaps = [after - before for before, after in pairwise(i for i, pick in enumerate(picks) if pick == "c")]
    assert max(gaps) <= 9


def test_equal_weights_take_turns_in_order() -> None:
    scheduler = EdfScheduler(["a", "b", "c"], lambda _: 1.0)
    assert [scheduler.pick() for _ in range(6)] == ["a", "b", "c"] * 2


def test_a_weight_that_changes_counts_from_the_next_pick_on() -> None:
    weights = {"a": 1.0, "b": 1.0}
    scheduler = EdfScheduler(list(weights), weights.__getitem__)
    scheduler.pick(), scheduler.pick()
    weights["a"] = 3.0
    assert Counter(scheduler.pick() for _ in range(400))["a"] == pytest.approx(300, abs=2)


@given(st.lists(st.integers(1, 128), min_size=1, max_size=8), st.integers(0, 500))
def test_starting_after_many_picks_equals_having_made_them(weights: list[int], picks: int) -> None:
    entries = list(range(len(weights)))
    walked = EdfScheduler(entries, lambda i: float(weights[i]))
    for _ in range(picks):
        walked.pick()
    jumped = EdfScheduler(entries, lambda i: float(weights[i]), picks)
    window = sum(weights)
    first, second = ([scheduler.pick() for _ in range(window)] for scheduler in (walked, jumped))
    # Entries of one weight may swap places; how often each comes may differ by the pick at either end.
    for weight in set(weights):
        times = [sum(1 for pick in picked if weights[pick] == weight) for picked in (first, second)]
        assert abs(times[0] - times[1]) <= weights.count(weight)


def test_a_big_number_of_pre_picks_is_cheap() -> None:
    scheduler = EdfScheduler(list(range(1000)), lambda i: float(i % 7 + 1), (1 << 32) - 1)
    assert scheduler.pick() in range(1000)
