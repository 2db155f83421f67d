"""Ring hash and Maglev: the same request hash finds the same host, and few hashes move when hosts come and go.

Both are Envoy's to the bit, so that a fleet of Envoys and of ours agrees: hash function, keys, scale, order of filling
(source/extensions/load_balancing_policies/ring_hash, maglev). Weights come normalised: their sum is 1.
"""

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from heapq import merge
from math import ceil
from typing import Generic

from xxhash import xxh64_intdigest

from mosn_xds.base.steps import Steps
from mosn_xds.data.balance.api import H, LbHost
from mosn_xds.data.balance.murmur import murmur_hash2

_MASK64 = (1 << 64) - 1
_AT_ONCE = 512
"""Points or entries between two steps: some 0.3 ms."""


def hash_key(host: LbHost, use_hostname: bool) -> bytes:
    """The text that stands for the host on a ring."""
    return (host.hash_key or (host.hostname if use_hostname else host.text)).encode()


class Ring(Generic[H]):
    """A ketama ring: each host owns a number of points in proportion to its weight; a hash belongs to the next point.

    The size is such that the lightest host has a whole number of points and all have at least `minimum_size`, but never
    above `maximum_size`. `ring_steps` makes one.
    """

    __slots__ = ("_hosts", "_owners", "_points", "max_points_per_host", "min_points_per_host", "size")

    def __init__(
        self, hosts: Sequence[H], points: "array[int]", owners: "array[int]", size: int, counts: list[int]
    ) -> None:
        """`points` are sorted; `owners` are the places in `hosts` of those whose they are, `counts` how many each has."""
        self._hosts = hosts
        self._points = points
        self._owners = owners
        self.size = size
        self.min_points_per_host = min(counts)
        self.max_points_per_host = max(counts)

    def pick(self, hash: int, attempt: int) -> H:
        owners = self._owners
        index = bisect_left(self._points, hash)
        if index == len(owners):
            index = 0
        return self._hosts[owners[(index + attempt) % len(owners)] if attempt else owners[index]]

    def __repr__(self) -> str:
        return f"<Ring of {self.size} points>"


def ring_steps(
    hosts: Sequence[H],
    weights: Sequence[float],
    *,
    minimum_size: int,
    maximum_size: int,
    use_hostname: bool = False,
    murmur: bool = False,
) -> Steps[Ring[H]]:
    """A ring of these hosts. It may have millions of points: they are sorted in runs, and those merged."""
    lightest = min(weights)
    scale = min(ceil(lightest * minimum_size) / lightest, float(maximum_size))
    digest = murmur_hash2 if murmur else xxh64_intdigest
    runs: list[list[tuple[int, int]]] = []
    run: list[tuple[int, int]] = []
    target = 0.0
    total = 0
    counts = []
    for index, (host, weight) in enumerate(zip(hosts, weights, strict=True)):
        prefix = hash_key(host, use_hostname) + b"_"
        target += scale * weight
        number = 0
        while total < target:
            run.append((digest(prefix + b"%d" % number), index))
            number += 1
            total += 1
            if not total % _AT_ONCE:
                run.sort()
                runs.append(run)
                run = []
                yield
        counts.append(number)
    run.sort()
    runs.append(run)
    points, owners = array("Q"), array("L")
    for point, index in runs[0] if len(runs) == 1 else merge(*runs):
        points.append(point)
        owners.append(index)
        if not len(points) % _AT_ONCE:
            yield
    return Ring(hosts, points, owners, ceil(scale), counts)


class MaglevTable(Generic[H]):
    """A table of prime size filled by the hosts in turns, each in its own permutation of the table. `maglev_steps` makes one."""

    __slots__ = ("_hosts", "_owners", "max_entries_per_host", "min_entries_per_host")

    def __init__(self, hosts: Sequence[H], owners: "array[int]", counts: list[int]) -> None:
        """`owners` are the places in `hosts` of those whose the entries are, `counts` how many each has."""
        self._hosts = hosts
        self._owners = owners
        self.min_entries_per_host = min(counts)
        self.max_entries_per_host = max(counts)

    def pick(self, hash: int, attempt: int) -> H:
        if attempt:
            hash ^= (_MASK64 - attempt + 1) & _MASK64
        owners = self._owners
        return self._hosts[owners[hash % len(owners)]]

    def __repr__(self) -> str:
        return f"<MaglevTable of {len(self._owners)}>"


def maglev_steps(
    hosts: Sequence[H], weights: Sequence[float], *, size: int, use_hostname: bool = False
) -> Steps[MaglevTable[H]]:
    """A table of these hosts. Entry i of them tries its offset, then a skip further on, and so forth, until a place is free."""
    entries = []
    for host, weight in zip(hosts, weights, strict=True):
        key = hash_key(host, use_hostname)
        entries.append((key, host.text, host, weight))
    entries.sort(key=lambda entry: entry[:2])
    places = [xxh64_intdigest(key) % size for key, _, _, _ in entries]
    skips = [xxh64_intdigest(key, 1) % (size - 1) + 1 for key, _, _, _ in entries]
    shares = [weight for _, _, _, weight in entries]
    heaviest = max(shares)
    free = len(entries)
    owners = array("L", [free]) * size
    targets = [0.0] * free
    counts = [0] * free
    filled = turn = 0
    while filled < size:
        turn += 1
        for i, weight in enumerate(shares):
            if turn * weight < targets[i]:
                continue
            targets[i] += heaviest
            place = places[i]
            skip = skips[i]
            while owners[place] != free:
                place += skip
                if place >= size:
                    place -= size
            owners[place] = i
            counts[i] += 1
            place += skip
            places[i] = place - size if place >= size else place
            filled += 1
            if filled == size:
                break
            if not filled % _AT_ONCE:
                yield
    return MaglevTable([host for _, _, host, _ in entries], owners, counts)
