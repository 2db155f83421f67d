"""Round robin, least request and random choice among hosts of one kind (a priority level, or a locality in it).

Equal weights need no schedule: an index that goes round, or a few random draws. Unequal weights, or hosts in slow start,
use the EDF schedule with weights that are looked up at each pick.
"""

from collections.abc import Callable, Sequence
from typing import Generic

from mosn_xds.base.chance import Random
from mosn_xds.base.clock import Clock
from mosn_xds.data.balance.api import H, LbHost, Picker
from mosn_xds.data.balance.edf import EdfScheduler
from mosn_xds.data.balance.slow_start import SlowStart
from mosn_xds.spec.cluster import LeastRequest, RoundRobin

PickerFactory = Callable[[Sequence[H]], Picker[H]]

_SEED_BITS = 32


class OnlyHost(Generic[H]):
    """One host: every policy picks it."""

    __slots__ = ("_host",)

    def __init__(self, host: H) -> None:
        self._host = host

    def pick(self, hash: int, attempt: int) -> H:
        return self._host


class RandomPicker(Generic[H]):
    """Uniform; weights do not matter."""

    __slots__ = ("_count", "_hosts", "_random")

    def __init__(self, hosts: Sequence[H], random: Random) -> None:
        self._hosts = hosts
        self._count = len(hosts)
        self._random = random.random

    def pick(self, hash: int, attempt: int) -> H:
        return self._hosts[int(self._random() * self._count)]


class RoundRobinPicker(Generic[H]):
    """Equal weights: one after the other from a random start."""

    __slots__ = ("_count", "_hosts", "_next")

    def __init__(self, hosts: Sequence[H], random: Random) -> None:
        self._hosts = hosts
        self._count = len(hosts)
        self._next = random.randrange(len(hosts))

    def pick(self, hash: int, attempt: int) -> H:
        index = self._next
        self._next = index + 1 if index + 1 < self._count else 0
        return self._hosts[index]


class LeastRequestPicker(Generic[H]):
    """Equal weights: of `choice_count` random hosts the one with the fewest active requests, the first of equals."""

    __slots__ = ("_count", "_hosts", "_more_choices", "_random")

    def __init__(self, hosts: Sequence[H], random: Random, choice_count: int) -> None:
        self._hosts = hosts
        self._count = len(hosts)
        self._more_choices = range(max(choice_count, 1) - 1)
        self._random = random.random

    def pick(self, hash: int, attempt: int) -> H:
        hosts, count, random = self._hosts, self._count, self._random
        best = hosts[int(random() * count)]
        for _ in self._more_choices:
            other = hosts[int(random() * count)]
            if other.active_requests < best.active_requests:
                best = other
        return best


class FullScanPicker(Generic[H]):
    """Equal weights: the fewest active requests of all hosts, equals by lot."""

    __slots__ = ("_hosts", "_random")

    def __init__(self, hosts: Sequence[H], random: Random) -> None:
        self._hosts = hosts
        self._random = random

    def pick(self, hash: int, attempt: int) -> H:
        least = min(host.active_requests for host in self._hosts)
        equals = [host for host in self._hosts if host.active_requests == least]
        return equals[self._random.randrange(len(equals))] if len(equals) > 1 else equals[0]


class EdfPicker(Generic[H]):
    """Unequal weights."""

    __slots__ = ("_schedule",)

    def __init__(self, hosts: Sequence[H], weight_of: Callable[[LbHost], float], random: Random) -> None:
        self._schedule = EdfScheduler(hosts, weight_of, random.getrandbits(_SEED_BITS))

    def pick(self, hash: int, attempt: int) -> H:
        return self._schedule.pick()


def random_choice(random: Random) -> PickerFactory[H]:
    """RANDOM."""

    def make(hosts: Sequence[H]) -> Picker[H]:
        return OnlyHost(hosts[0]) if len(hosts) == 1 else RandomPicker(hosts, random)

    return make


def round_robin(settings: RoundRobin, random: Random, clock: Clock) -> PickerFactory[H]:
    """ROUND_ROBIN."""
    slow_start = SlowStart(
        clock,
        settings.slow_start_window_s,
        settings.slow_start_aggression,
        settings.slow_start_min_weight_percent,
    )
    weight_of = slow_start.weight_of(_plain_weight)

    def make(hosts: Sequence[H]) -> Picker[H]:
        if len(hosts) == 1:
            return OnlyHost(hosts[0])
        if _all_equal(hosts, slow_start):
            return RoundRobinPicker(hosts, random)
        return EdfPicker(hosts, weight_of, random)

    return make


def least_request(settings: LeastRequest, random: Random, clock: Clock) -> PickerFactory[H]:
    """LEAST_REQUEST. Unequal weights: weight / (active requests + 1) ** `active_request_bias`."""
    slow_start = SlowStart(
        clock,
        settings.slow_start_window_s,
        settings.slow_start_aggression,
        settings.slow_start_min_weight_percent,
    )
    weight_of = slow_start.weight_of(_biased_weight(settings.active_request_bias))

    def make(hosts: Sequence[H]) -> Picker[H]:
        if len(hosts) == 1:
            return OnlyHost(hosts[0])
        if not _all_equal(hosts, slow_start):
            return EdfPicker(hosts, weight_of, random)
        if settings.full_scan:
            return FullScanPicker(hosts, random)
        return LeastRequestPicker(hosts, random, settings.choice_count)

    return make


def _plain_weight(host: LbHost) -> float:
    return host.weight


def _biased_weight(bias: float) -> Callable[[LbHost], float]:
    if bias == 0.0:
        return _plain_weight
    if bias == 1.0:
        return lambda host: host.weight / (host.active_requests + 1)
    return lambda host: float(host.weight / (host.active_requests + 1) ** bias)


def _all_equal(hosts: Sequence[LbHost], slow_start: SlowStart) -> bool:
    weight = hosts[0].weight
    if any(host.weight != weight for host in hosts):
        return False
    return slow_start.window_s is None or not any(slow_start.includes(host) for host in hosts)
