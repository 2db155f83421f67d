"""Ring hash and Maglev: the same request hash finds the same host, and few hashes move when hosts come and go.

Both are Envoy's to the bit, so that a fleet of Envoys and of ours agrees: hash function, keys, scale, order of filling
(source/extensions/load_balancing_policies/ring_hash, maglev). Weights come normalised: their sum is 1.
"""

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from math import ceil
from typing import Generic

from xxhash import xxh64_intdigest

from mosn_xds.data.balance.api import H, LbHost
from mosn_xds.data.balance.murmur import murmur_hash2

_MASK64 = (1 << 64) - 1


def hash_key(host: LbHost, use_hostname: bool) -> bytes:
    """The text that stands for the host on a ring."""
    return (host.hash_key or (host.hostname if use_hostname else host.text)).encode()


class Ring(Generic[H]):
    """A ketama ring: each host owns a number of points in proportion to its weight; a hash belongs to the next point.

    The size is such that the lightest host has a whole number of points and all have at least `minimum_size`, but never
    above `maximum_size`.
    """

    __slots__ = ("_owners", "_points", "max_points_per_host", "min_points_per_host", "size")

    def __init__(
        self,
        hosts: Sequence[H],
        weights: Sequence[float],
        *,
        minimum_size: int,
        maximum_size: int,
        use_hostname: bool = False,
        murmur: bool = False,
    ) -> None:
        lightest = min(weights)
        scale = min(ceil(lightest * minimum_size) / lightest, float(maximum_size))
        digest = murmur_hash2 if murmur else xxh64_intdigest
        ring: list[tuple[int, int]] = []
        target = 0.0
        counts = []
        for index, (host, weight) in enumerate(zip(hosts, weights, strict=True)):
            prefix = hash_key(host, use_hostname) + b"_"
            target += scale * weight
            before = len(ring)
            number = 0
            while len(ring) < target:
                ring.append((digest(prefix + b"%d" % number), index))
                number += 1
            counts.append(len(ring) - before)
        ring.sort()
        self._points = array("Q", (point for point, _ in ring))
        self._owners = [hosts[index] for _, index in ring]
        self.size = ceil(scale)
        self.min_points_per_host = min(counts)
        self.max_points_per_host = max(counts)

    def pick(self, hash: int, attempt: int) -> H:
        owners = self._owners
        index = bisect_left(self._points, hash)
        if index == len(owners):
            index = 0
        return owners[(index + attempt) % len(owners)] if attempt else owners[index]

    def __repr__(self) -> str:
        return f"<Ring of {self.size} points>"


class MaglevTable(Generic[H]):
    """A table of prime `size` filled by the hosts in turns, each in its own permutation of the table."""

    __slots__ = ("_size", "_table", "max_entries_per_host", "min_entries_per_host")

    def __init__(self, hosts: Sequence[H], weights: Sequence[float], *, size: int, use_hostname: bool = False) -> None:
        entries = []
        for host, weight in zip(hosts, weights, strict=True):
            key = hash_key(host, use_hostname)
            entries.append((key, host.text, host, weight))
        entries.sort(key=lambda entry: entry[:2])
        offsets = [xxh64_intdigest(key) % size for key, _, _, _ in entries]
        skips = [xxh64_intdigest(key, 1) % (size - 1) + 1 for key, _, _, _ in entries]
        owners = _fill_table(size, offsets, skips, [weight for _, _, _, weight in entries])
        table_hosts = [host for _, _, host, _ in entries]
        counts = [0] * len(entries)
        for owner in owners:
            counts[owner] += 1
        self._size = size
        self._table = [table_hosts[owner] for owner in owners]
        self.min_entries_per_host = min(counts)
        self.max_entries_per_host = max(counts)

    def pick(self, hash: int, attempt: int) -> H:
        if attempt:
            hash ^= (_MASK64 - attempt + 1) & _MASK64
        return self._table[hash % self._size]

    def __repr__(self) -> str:
        return f"<MaglevTable of {self._size}>"


def _fill_table(size: int, offsets: list[int], skips: list[int], weights: list[float]) -> list[int]:
    """Which entry owns each place. Entry i tries offsets[i], then skips[i] further on, and so forth, until free."""
    heaviest = max(weights)
    owners = [-1] * size
    targets = [0.0] * len(weights)
    places = list(offsets)
    filled = 0
    turn = 0
    while True:
        turn += 1
        for i, weight in enumerate(weights):
            if turn * weight < targets[i]:
                continue
            targets[i] += heaviest
            place = places[i]
            skip = skips[i]
            while owners[place] >= 0:
                place += skip
                if place >= size:
                    place -= size
            owners[place] = i
            place += skip
            places[i] = place - size if place >= size else place
            filled += 1
            if filled == size:
                return owners
