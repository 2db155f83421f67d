"""From a cluster's membership to a `Balancer`: priority levels, panic, localities, and a picker for what is eligible.

`balancer_steps` works out everything that does not change from pick to pick. With one level in good health, which is the
common case, all that is left of this module at run time is one call of a picker.
"""

from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple

from mosn_xds.base.chance import Random
from mosn_xds.base.clock import Clock
from mosn_xds.base.steps import Steps
from mosn_xds.data.balance.api import Balancer, H, PickContext, Picker, is_degraded, is_healthy
from mosn_xds.data.balance.bounded_load import BoundedLoad
from mosn_xds.data.balance.edf import EdfScheduler
from mosn_xds.data.balance.pickers import PickerFactory, least_request, random_choice, round_robin
from mosn_xds.data.balance.priorities import LevelHealth, LevelLoads, choose_level, distribute_load
from mosn_xds.data.balance.ring_hash import MaglevTable, Ring, maglev_steps, ring_steps
from mosn_xds.data.balance.settings import BalancerSettings
from mosn_xds.spec.cluster import Balancing, LeastRequest, Maglev, RingHash, RoundRobin

_HASH_BITS = 64


class LocalityHosts(NamedTuple, Generic[H]):
    """Hosts of one locality at one priority. `weight` None or 0 takes no part when localities are weighted."""

    hosts: Sequence[H]
    priority: int = 0
    weight: int | None = None


class Surroundings(NamedTuple):
    """What the cluster lends its balancer: chance, time, its count of active requests, and a word for each panic pick."""

    random: Random
    clock: Clock
    total_active: Callable[[], int]
    on_panic: Callable[[], None]


def balancer_steps(
    localities: Sequence[LocalityHosts[H]], settings: BalancerSettings, surroundings: Surroundings
) -> Steps[Balancer[H]]:
    """A balancer over these hosts as they are now. Tables of hash balancers take long, all others no step."""
    levels = _levels(localities)
    loads = distribute_load(
        [level.health(settings.overprovisioning_percent) for level in levels],
        min(100, round(settings.panic_threshold_percent)),
    )
    if isinstance(settings.policy, RingHash | Maglev):
        tables: list[HashTable[H] | None] = []
        for level, panic in zip(levels, loads.panic, strict=True):
            table = yield from _hash_steps(level, panic, settings, surroundings)
            tables.append(table)
        return HashBalancer(tables, loads, surroundings)
    factory: PickerFactory[H] = _factory(settings.policy, surroundings)
    sources = [
        _source(level, loads, index, settings, factory, surroundings.random) for index, level in enumerate(levels)
    ]
    first = sources[0].healthy
    if loads.healthy[0] == 100 and not loads.panic[0] and first is not None:
        return SingleLevelBalancer(first)
    return LevelBalancer(sources, loads, surroundings)


class SingleLevelBalancer(Generic[H]):
    """Level 0 can take everything."""

    __slots__ = ("_picker",)

    def __init__(self, picker: Picker[H]) -> None:
        self._picker = picker

    def choose(self, context: PickContext | None) -> H | None:
        host = self._picker.pick(0, 0)
        if context is not None and context.should_skip is not None:
            attempts = context.max_skip_attempts
            while attempts > 0 and host in context.should_skip:
                host = self._picker.pick(0, 0)
                attempts -= 1
        return host


class _Source(NamedTuple, Generic[H]):
    """The pickers of one level; `every` is set in panic only."""

    healthy: Picker[H] | None
    degraded: Picker[H] | None
    every: Picker[H] | None


class LevelBalancer(Generic[H]):
    """Several levels, or a level that is not in good health. Each further attempt draws its level anew."""

    __slots__ = ("_loads", "_on_panic", "_random", "_sources")

    def __init__(self, sources: Sequence[_Source[H]], loads: LevelLoads, surroundings: Surroundings) -> None:
        self._sources = sources
        self._loads = loads
        self._random = surroundings.random
        self._on_panic = surroundings.on_panic

    def choose(self, context: PickContext | None) -> H | None:
        host = self._choose_once()
        if context is not None and context.should_skip is not None:
            attempts = context.max_skip_attempts
            while attempts > 0 and host is not None and host in context.should_skip:
                host = self._choose_once()
                attempts -= 1
        return host

    def _choose_once(self) -> H | None:
        index, degraded = choose_level(self._random.getrandbits(_HASH_BITS), self._loads)
        source = self._sources[index]
        if self._loads.panic[index]:
            self._on_panic()
            picker = source.every
        else:
            picker = source.degraded if degraded else source.healthy
        return picker.pick(0, 0) if picker is not None else None


class HashBalancer(Generic[H]):
    """Ring hash and Maglev: the hash chooses the level too; further attempts look elsewhere in the same level's table."""

    __slots__ = ("_loads", "_on_panic", "_random", "tables")

    def __init__(self, tables: Sequence["HashTable[H] | None"], loads: LevelLoads, surroundings: Surroundings) -> None:
        self.tables = tables
        self._loads = loads
        self._random = surroundings.random
        self._on_panic = surroundings.on_panic

    def choose(self, context: PickContext | None) -> H | None:
        hash = context.hash if context is not None else None
        if hash is None:
            hash = self._random.getrandbits(_HASH_BITS)
        index, _ = choose_level(hash, self._loads)
        if self._loads.panic[index]:
            self._on_panic()
        table = self.tables[index]
        if table is None:
            return None
        host = table.picker.pick(hash, 0)
        if context is not None and context.should_skip is not None:
            attempt = 0
            while attempt < context.max_skip_attempts and host in context.should_skip:
                attempt += 1
                host = table.picker.pick(hash, attempt)
        return host


class HashTable(NamedTuple, Generic[H]):
    """A level's table (for its statistics) and the picker in front of it, which may bound loads."""

    table: Ring[H] | MaglevTable[H]
    picker: Picker[H]


class WeightedLocalities(Generic[H]):
    """Localities by weight, then a host in it."""

    __slots__ = ("_schedule",)

    def __init__(self, pickers: Sequence[tuple[Picker[H], float]], random: Random) -> None:
        self._schedule = EdfScheduler(pickers, lambda entry: entry[1], random.getrandbits(32))

    def pick(self, hash: int, attempt: int) -> H:
        return self._schedule.pick()[0].pick(hash, attempt)


class _Level(Generic[H]):
    """One priority level, sorted out by health."""

    __slots__ = ("degraded", "healthy", "hosts", "localities")

    def __init__(self, localities: Sequence[LocalityHosts[H]]) -> None:
        self.localities = localities
        self.hosts: list[H] = [host for locality in localities for host in locality.hosts]
        self.healthy = [host for host in self.hosts if is_healthy(host)]
        self.degraded = [host for host in self.hosts if is_degraded(host)]

    def health(self, overprovisioning_percent: int) -> LevelHealth:
        return LevelHealth(len(self.hosts), len(self.healthy), len(self.degraded), overprovisioning_percent)


def _levels(localities: Sequence[LocalityHosts[H]]) -> list[_Level[H]]:
    """All levels from 0 on; a number that no locality has is an empty level."""
    count = max((locality.priority for locality in localities), default=0) + 1
    return [_Level([locality for locality in localities if locality.priority == level]) for level in range(count)]


def _factory(policy: Balancing, surroundings: Surroundings) -> PickerFactory[H]:
    if isinstance(policy, RoundRobin):
        return round_robin(policy, surroundings.random, surroundings.clock)
    if isinstance(policy, LeastRequest):
        return least_request(policy, surroundings.random, surroundings.clock)
    return random_choice(surroundings.random)


def _source(
    level: _Level[H],
    loads: LevelLoads,
    index: int,
    settings: BalancerSettings,
    factory: PickerFactory[H],
    random: Random,
) -> _Source[H]:
    if loads.panic[index]:
        return _Source(None, None, factory(level.hosts) if level.hosts else None)
    pickers = []
    for eligible, is_eligible in ((level.healthy, is_healthy), (level.degraded, is_degraded)):
        picker: Picker[H] | None = None
        if eligible and settings.locality_weighted:
            parts = []
            for locality in level.localities:
                hosts = [host for host in locality.hosts if is_eligible(host)]
                if hosts and locality.weight:
                    available = settings.overprovisioning_percent / 100.0 * len(hosts) / len(locality.hosts)
                    parts.append((factory(hosts), locality.weight * min(1.0, available)))
            if parts:
                picker = WeightedLocalities(parts, random) if len(parts) > 1 else parts[0][0]
        if eligible and picker is None:
            picker = factory(eligible)
        pickers.append(picker)
    return _Source(pickers[0], pickers[1], None)


def _hash_steps(
    level: _Level[H], panic: bool, settings: BalancerSettings, surroundings: Surroundings
) -> Steps[HashTable[H] | None]:
    hosts, weights = _normalised(level, panic, settings.locality_weighted)
    if not hosts:
        return None
    policy = settings.policy
    table: Ring[H] | MaglevTable[H]
    if isinstance(policy, RingHash):
        table = yield from ring_steps(
            hosts,
            weights,
            minimum_size=policy.minimum_ring_size,
            maximum_size=policy.maximum_ring_size,
            use_hostname=policy.use_hostname,
            murmur=policy.murmur,
        )
        factor_percent = policy.hash_balance_factor
    else:
        assert isinstance(policy, Maglev)
        table = yield from maglev_steps(hosts, weights, size=policy.table_size, use_hostname=policy.use_hostname)
        factor_percent = policy.hash_balance_factor
    if factor_percent:
        return HashTable(table, BoundedLoad(table, hosts, weights, factor_percent, surroundings.total_active))
    return HashTable(table, table)


def _normalised(level: _Level[H], panic: bool, locality_weighted: bool) -> tuple[list[H], list[float]]:
    """Eligible hosts with weights that sum to 1; degraded hosts are not on the ring (as in Envoy)."""
    if not locality_weighted or all(locality.weight is None for locality in level.localities):
        groups = [(level.hosts if panic else level.healthy, 1.0)]
    else:
        total = sum(locality.weight or 0 for locality in level.localities)
        groups = [
            ([host for host in locality.hosts if panic or is_healthy(host)], locality.weight / total)
            for locality in level.localities
            if locality.weight
        ]
    hosts: list[H] = []
    weights: list[float] = []
    for members, share in groups:
        total = sum(host.weight for host in members)
        hosts += members
        weights += [host.weight * share / total for host in members]
    return hosts, weights
