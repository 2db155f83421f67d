"""Consistent hashing with bounded loads: a host that has more than its share of active requests is passed over.

A host's bound is `factor_percent`/100 times the average, by weight (https://arxiv.org/abs/1608.01350). The hash decides
the order in which other hosts are tried, so that the same request finds the same second choice; if all are over their
bound the least loaded one relative to its bound is taken.
"""

from collections.abc import Callable, Sequence
from math import ceil
from typing import Generic

from mosn_xds.data.balance.api import H, Picker

_MASK64 = (1 << 64) - 1


class BoundedLoad(Generic[H]):
    """`inner` within bounds; `total_active` is the cluster's active requests."""

    __slots__ = ("_factor_percent", "_hosts", "_inner", "_total_active", "_weights")

    def __init__(
        self,
        inner: Picker[H],
        hosts: Sequence[H],
        weights: Sequence[float],
        factor_percent: int,
        total_active: Callable[[], int],
    ) -> None:
        self._inner = inner
        self._hosts = list(hosts)
        self._weights = {id(host): weight for host, weight in zip(hosts, weights, strict=True)}
        self._factor_percent = factor_percent
        self._total_active = total_active

    def pick(self, hash: int, attempt: int) -> H:
        first = self._inner.pick(hash, attempt)
        best, least = first, self._overload(first)
        if least <= 1.0:
            return first
        order = list(range(len(self._hosts)))
        state = hash | 1
        for i in range(len(order)):
            # A step of a 64-bit multiplicative generator seeded by the hash: any fixed sequence will do.
            state = state * 6364136223846793005 & _MASK64
            j = i + (state >> 33) % (len(order) - i)
            order[i], order[j] = order[j], order[i]
            host = self._hosts[order[i]]
            if host is first:
                continue
            overload = self._overload(host)
            if overload <= 1.0:
                return host
            if overload < least:
                best, least = host, overload
        return best

    def _overload(self, host: H) -> float:
        slots = ((self._total_active() + 1) * self._factor_percent + 99) // 100
        return host.active_requests / max(ceil(slots * self._weights[id(host)]), 1)
