"""Rows of the limit table, while clusters come and go."""

from mosn_xds.base.limits import LimitTable
from mosn_xds.process.limit_rows import LimitRows
from mosn_xds.spec.cluster import Breakers, Cluster, Discovery
from mosn_xds.spec.snapshot import Item, Kind, make_item


def limited(name: str) -> Item:
    return make_item(Kind.CLUSTER, name, Cluster(name, Discovery.STATIC, breakers=Breakers(max_requests=5)))


def test_a_row_comes_back_when_no_item_needs_it() -> None:
    rows = LimitRows(LimitTable.create(64, 2))
    for number in range(1000):
        item = limited(f"c{number}")
        assert rows.rows(item), number
        rows.keep_only({item.uid})


def test_a_row_in_which_something_is_counted_is_nobody_elses() -> None:
    table = LimitTable.create(64, 2)
    rows = LimitRows(table)
    going = rows.rows(limited("going"))
    busy = next(iter(going.values()))
    cell = table.cell(busy, 1)
    cell.add(1)
    rows.keep_only(set())
    for number in range(1000):
        item = limited(f"c{number}")
        assert busy not in rows.rows(item).values()
        rows.keep_only({item.uid})
    cell.add(-1)
    rows.keep_only(set())
    others = [limited(f"d{number}") for number in range(64)]
    assert any(busy in rows.rows(item).values() for item in others)


def test_a_key_keeps_its_row_while_its_cluster_changes() -> None:
    rows = LimitRows(LimitTable.create(64, 2))
    before = limited("c")
    spec = Cluster("c", Discovery.STATIC, breakers=Breakers(max_requests=7))
    after = make_item(Kind.CLUSTER, "c", spec)
    first = dict(rows.rows(before))
    rows.rows(after)
    rows.keep_only({after.uid})
    assert rows.rows(after) == first
