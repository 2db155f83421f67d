"""Cells of the limit table, as workers get them."""

from mosn_xds.base.limits import LimitProvider, LimitTable


def two_workers() -> tuple[LimitProvider, LimitProvider]:
    table = LimitTable.create(8, 2)
    return LimitProvider(table, 0), LimitProvider(table, 1)


def test_a_row_is_shared_by_workers_and_by_all_who_hold_its_key() -> None:
    one, other = two_workers()
    one.set_rows({"k": 3})
    other.set_rows({"k": 3})
    mine, again, theirs = one.cell("k"), one.cell("k"), other.cell("k")
    mine.add(1)
    again.add(1)
    theirs.add(1)
    assert mine.in_use() == theirs.in_use() == 3


def test_a_key_without_a_row_counts_by_itself() -> None:
    one, other = two_workers()
    mine, theirs = one.cell("k"), other.cell("k")
    mine.add(1)
    assert (mine.in_use(), theirs.in_use()) == (1, 0)


def test_a_key_that_gets_a_row_while_somebody_holds_it_is_shared_from_then_on() -> None:
    one, other = two_workers()
    _before = one.cell("k")
    for provider in (one, other):
        provider.set_rows({"k": 3})
    mine, theirs = one.cell("k"), other.cell("k")
    theirs.add(1)
    assert mine.in_use() == 1


def test_a_key_whose_row_was_taken_back_does_not_touch_it_any_more() -> None:
    one, other = two_workers()
    for provider in (one, other):
        provider.set_rows({"k": 3})
    theirs = other.cell("k")
    one.set_rows({"k": None})
    mine = one.cell("k")
    mine.add(1)
    assert theirs.in_use() == 0


def test_what_nobody_holds_is_kept_nowhere() -> None:
    provider = two_workers()[0]
    provider.set_rows({"k": 3})
    for number in range(100):
        provider.cell(f"{number}").add(1)
    held = provider.cell("k")
    held.add(1)
    assert provider.cell("k").in_use() == 1
    assert provider.cell("5").in_use() == 0
