"""Ring hash and Maglev: properties here, equality with Envoy in test_ring_hash_envoy.py."""

from collections import Counter

import pytest
from xxhash import xxh64_intdigest

from mosn_xds.data.balance.murmur import murmur_hash2
from tests.data.balance.hosts import hosts, maglev, ring_of

_TOP = (1 << 64) - 1


def even(count: int) -> list[float]:
    return [1.0 / count] * count


def test_a_hash_belongs_to_the_next_point_and_the_last_to_the_first() -> None:
    members = hosts(3)
    ring = ring_of(members, even(3), minimum_size=3, maximum_size=1024)
    points = sorted((xxh64_intdigest(f"{host.text}_0".encode()), host) for host in members)
    for point, owner in points:
        assert ring.pick(point, 0) is owner
        assert ring.pick(point - 1, 0) is owner
    assert ring.pick(0, 0) is points[0][1]
    assert ring.pick(_TOP, 0) is points[0][1]
    assert ring.pick(points[0][0] + 1, 0) is points[1][1]


def test_another_attempt_takes_the_next_points() -> None:
    members = hosts(3)
    ring = ring_of(members, even(3), minimum_size=3, maximum_size=1024)
    assert {ring.pick(77, attempt) for attempt in range(3)} == set(members)
    assert ring.pick(77, 3) is ring.pick(77, 0)


@pytest.mark.parametrize(
    ("weights", "minimum", "maximum", "size", "fewest", "most"),
    [
        ([1, 1], 1024, 8 << 20, 1024, 512, 512),
        ([1, 1, 1], 1024, 8 << 20, 1026, 342, 342),
        ([1, 3], 8, 1024, 8, 2, 6),
        ([1, 1, 1, 1], 1, 6, 4, 1, 1),
        ([1, 1, 1, 1], 6, 6, 6, 1, 2),
        ([1, 127], 1024, 64, 64, 1, 63),
    ],
)
def test_the_ring_is_as_big_as_its_lightest_host_needs_within_limits(
    weights: list[int], minimum: int, maximum: int, size: int, fewest: int, most: int
) -> None:
    shares = [weight / sum(weights) for weight in weights]
    ring = ring_of(hosts(len(weights)), shares, minimum_size=minimum, maximum_size=maximum)
    assert (ring.size, ring.min_points_per_host, ring.max_points_per_host) == (size, fewest, most)


def test_the_key_is_the_configured_one_else_the_host_name_if_wanted_else_the_address() -> None:
    named, keyed, plain = hosts(3)
    named.hostname = "a.example"
    keyed.hostname, keyed.hash_key = "b.example", "key"
    ring = ring_of([named, keyed], even(2), minimum_size=2, maximum_size=2, use_hostname=True)
    assert ring.pick(xxh64_intdigest(b"a.example_0"), 0) is named
    assert ring.pick(xxh64_intdigest(b"key_0"), 0) is keyed
    by_address = ring_of([named, plain], even(2), minimum_size=2, maximum_size=2)
    assert by_address.pick(xxh64_intdigest(f"{named.text}_0".encode()), 0) is named


@pytest.mark.parametrize(
    ("text", "expected"),
    # What std::hash of libstdc++ gives; from Envoy's murmur_hash_test.cc.
    [("", 6142509188972423790), ("a", 4993892634952068459), ("abcdefgh", 8664279048047335611)],
)
def test_murmur_hash_2_is_that_of_the_standard_library(text: str, expected: int) -> None:
    assert murmur_hash2(text.encode()) == expected


def test_a_ring_of_murmur_hashes_differs() -> None:
    members = hosts(2)
    ring = ring_of(members, even(2), minimum_size=2, maximum_size=2, murmur=True)
    for host in members:
        assert ring.pick(murmur_hash2(f"{host.text}_0".encode()), 0) is host


def test_maglev_fills_its_table_by_weight_and_not_by_order() -> None:
    members = hosts(3)
    table = maglev(members, [0.5, 0.25, 0.25], size=65537)
    counts = Counter(table.pick(place, 0) for place in range(65537))
    assert [counts[host] / 65537 for host in members] == pytest.approx([0.5, 0.25, 0.25], abs=0.001)
    assert (table.min_entries_per_host, table.max_entries_per_host) == (min(counts.values()), max(counts.values()))
    reordered = maglev(members[::-1], [0.25, 0.25, 0.5], size=65537)
    assert all(table.pick(place, 0) is reordered.pick(place, 0) for place in range(0, 65537, 97))


def test_another_attempt_looks_elsewhere_in_the_maglev_table() -> None:
    table = maglev(hosts(10), even(10), size=65537)
    assert len({table.pick(123456789, attempt) for attempt in range(30)}) > 5
