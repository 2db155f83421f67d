"""What is warm, published as one Snapshot: the last step of an update in the agent.

The store holds what Pilot sent last; what serves may be older. Each cluster, route table and listener has a slot with
what is active and, while it warms, its candidate successor. A candidate becomes active when nothing holds it up:

- a cluster waits for its endpoints, or for the first answer to each of its DNS names, and for its secrets; a listener for
  its route tables and secrets; each for no longer than its `initial_fetch_timeout` (0: for ever). An answer that says
  "refused" or "does not exist" ends the wait as well: one bad resource never holds the others back. (What serves without
  a secret refuses its handshakes.)
- a route table or listener that names a cluster which warms for the first time is held back until that cluster serves,
  at most `HOLD_S`. Nothing waits for clusters that Pilot has not sent.
- a cluster that was removed lingers while an active route table or listener still names it, at most `LINGER_S`: Pilot
  says first that a cluster goes, and a moment later that nothing leads there.

Changes are gathered (a push is several messages) and then published at once, so that a worker swaps from one consistent
whole to the next. What an active object refers to stays subscribed as long as it is active, whatever its successor wants.

Times are monotonic seconds of the injected clock.
"""

import logging
import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar

import trio

from mosn_xds.base.chance import Random
from mosn_xds.base.clock import Clock
from mosn_xds.base.stats import StatRegistry
from mosn_xds.control.ads.resource_types import (
    CDS,
    DRDS,
    EDS,
    GENERIC_RDS,
    LDS,
    RDS,
    RESOURCE_TYPES,
    SDS,
    TRDS,
    ResourceType,
)
from mosn_xds.control.closed import stand_ins
from mosn_xds.control.dns_clusters import DnsCluster
from mosn_xds.control.intake import need_keys
from mosn_xds.control.needs import Holder
from mosn_xds.control.pace import Pace
from mosn_xds.control.resolve import Lookup
from mosn_xds.control.secret_items import SecretItems, uses_ticket_keys
from mosn_xds.control.slots import Deadline, Slot
from mosn_xds.control.stats import ClusterManagerStats, ListenerManagerStats, SubscriptionStats
from mosn_xds.control.store import Good, ResourceKey, ResourceStore, Status
from mosn_xds.control.translate.model import DnsDiscovery, Need, Source, Translated
from mosn_xds.control.translate.secret import kind_of
from mosn_xds.spec.cluster import Cluster, Endpoints
from mosn_xds.spec.listener import Listener
from mosn_xds.spec.snapshot import EMPTY, Item, ItemKey, Kind, Snapshot, make_item
from mosn_xds.spec.tls import Secret

HOLD_S = 5.0
LINGER_S = 2.0
QUIET_S = 0.01
GATHER_S = 0.1
"""A burst ends when nothing changed for `QUIET_S`; it is not gathered for longer than `GATHER_S`."""


_TABLES = (
    (RDS, Kind.ROUTE_TABLE),
    (GENERIC_RDS, Kind.RPC_ROUTE_TABLE),
    (DRDS, Kind.RPC_ROUTE_TABLE),
    (TRDS, Kind.RPC_ROUTE_TABLE),
)
"""The kinds of route tables, and what they are to a worker."""

_log = logging.getLogger("mosn_xds.control")

K = TypeVar("K")


class Initialization(IntEnum):
    """How far the first configuration is; the numbers are those of `server.state`."""

    LIVE = 0
    PRE_INITIALIZING = 2
    """Clusters are awaited."""
    INITIALIZING = 3
    """Listeners are awaited."""


@dataclass(frozen=True, slots=True)
class Root:
    """A wildcard subscription of the bootstrap. `initial_fetch_timeout_s` 0: wait for ever."""

    type: ResourceType
    source: Source
    initial_fetch_timeout_s: float

    @property
    def key(self) -> str:
        """The source as the store knows it."""
        return str(self.source)


class Assembler:
    """See the module. `changed` says that the store changed; `run` does the work; `publish` gets each new Snapshot."""

    def __init__(
        self,
        store: ResourceStore[Translated],
        holder: Holder,
        publish: Callable[[Snapshot], None],
        lookup: Lookup,
        clock: Clock,
        random: Random,
        stats: StatRegistry,
        *,
        static: Sequence[Translated] = (),
        secrets: Sequence[Secret] = (),
        roots: Sequence[Root] = (),
        token_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._store = store
        self._holder = holder
        self._publish = publish
        self._lookup = lookup
        self._clock = clock
        self._random = random
        self._cluster_stats = stats.group(ClusterManagerStats, "cluster_manager.")
        self._listener_stats = stats.group(ListenerManagerStats, "listener_manager.")
        self._fetch_stats = {
            CDS: stats.group(SubscriptionStats, "cluster_manager.cds."),
            LDS: stats.group(SubscriptionStats, "listener_manager.lds."),
        }
        self._roots = roots
        self._timed_out: set[Root] = set()
        at = clock.wall()
        goods = [Good("", b"", b"", product, at) for product in static]
        self._static_clusters = {g.product.name: g for g in goods if isinstance(g.product.spec, Cluster)}
        self._static_listeners = {g.product.name: g for g in goods if isinstance(g.product.spec, Listener)}
        self.clusters: dict[str, Slot] = {}
        self.tables: dict[ResourceKey, Slot] = {}
        self.listeners: dict[str, Slot] = {}
        self._dns: dict[tuple[str, DnsDiscovery], DnsCluster] = {}
        self._endpoints: dict[ResourceKey, tuple[Good[Translated], Item]] = {}
        self._secrets = SecretItems(store, secrets, clock, token_bytes)
        self._deadline = Deadline()
        self._news = trio.Event()
        self._nursery: trio.Nursery | None = None
        self._started = clock.monotonic()
        self.snapshot = EMPTY
        self.defects = 0
        """Passes that ended in an exception: bugs."""
        self.initialization = Initialization.PRE_INITIALIZING
        self.clusters_ready = trio.Event()
        """The first clusters serve, or will not: time to ask for listeners."""
        self.live = trio.Event()
        """The first configuration serves, as far as it can."""

    def __repr__(self) -> str:
        return f"<Assembler {self.initialization.name} {self.snapshot!r}>"

    def changed(self, keys: Collection[ResourceKey] = ()) -> None:
        """Something in the store is different."""
        self._news.set()

    async def run(self) -> None:
        """Publish whatever becomes warm, until cancelled."""
        self._started = self._clock.monotonic()
        for good in (*self._static_clusters.values(), *self._static_listeners.values()):
            self._holder.hold(need_keys(good.product))
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            while True:
                self._news = trio.Event()
                try:
                    await self._assemble(self._clock.monotonic())
                except Exception:  # an agent's task: what is published stays, the next change is another chance
                    self.defects += 1
                    _log.exception("assembling a snapshot failed")
                with trio.move_on_after(max(0.0, self._deadline.at - self._clock.monotonic())):
                    await self._news.wait()
                await self._gather()

    async def _gather(self) -> None:
        """Wait until a burst is over."""
        with trio.move_on_after(GATHER_S):
            while self._news.is_set():
                self._news = trio.Event()
                with trio.move_on_after(QUIET_S):
                    await self._news.wait()

    # --- one pass ---------------------------------------------------------------------------------------------------

    async def _assemble(self, now: float) -> None:
        self._deadline = Deadline()
        pace = Pace(self._clock)
        await self._settle_clusters(now, pace)
        self._settle_tables(now)
        self._settle_listeners(now)
        await self._let_go(now, pace)
        items = await self._items(pace)
        if items != self.snapshot.items:
            self.snapshot = Snapshot(self.snapshot.generation + 1, items)
            self._publish(self.snapshot)
        self._note_initialization(now)  # not before: who hears of it asks whether what is published serves
        self._measure()

    async def _settle_clusters(self, now: float, pace: Pace) -> None:
        wanted = self._wanted(CDS, self._static_clusters)
        for name, good in wanted.items():
            await pace.rest()
            slot = self.clusters.setdefault(name, Slot(name))
            if not slot.propose(good, now):
                continue
            product = good.product
            waits = self._waits_for_needs(product, slot.candidate_since, now)
            if product.dns is not None:
                waits += [f"DNS of {host}" for host in self._dns_cluster(name, product.dns).waits_for]
            slot.waits_for = tuple(waits)
            if not waits:
                self._activate(slot, Kind.CLUSTER)
        for name, slot in self.clusters.items():
            if name not in wanted:
                slot.withdraw(now)

    def _settle_tables(self, now: float) -> None:
        known: set[ResourceKey] = set()
        for table, kind in _TABLES:
            for record in list(self._store.of_type(table.url)):
                if record.good is None:
                    continue
                known.add(record.key)
                slot = self.tables.setdefault(record.key, Slot(record.good.product.name))
                if slot.propose(record.good, now):
                    slot.waits_for = tuple(self._waits_for_clusters(record.good.product, slot.held_since, now))
                    if not slot.waits_for:
                        self._activate(slot, kind)
        for key in [key for key in self.tables if key not in known]:
            self._remove(self.tables, key)  # nobody refers to it any more

    def _settle_listeners(self, now: float) -> None:
        wanted = self._wanted(LDS, self._static_listeners)
        for name, good in wanted.items():
            slot = self.listeners.setdefault(name, Slot(name))
            if slot.propose(good, now):
                waits = self._waits_for_needs(good.product, slot.candidate_since, now)
                waits += self._waits_for_clusters(good.product, slot.held_since, now)
                slot.waits_for = tuple(waits)
                if not waits:
                    self._activate(slot, Kind.LISTENER)
        for name in [name for name in self.listeners if name not in wanted]:
            if self._remove(self.listeners, name):
                self._listener_stats.listener_removed += 1

    async def _let_go(self, now: float, pace: Pace) -> None:
        """Removed clusters, once nothing leads to them; names that no cluster resolves any more."""
        gone = {name: slot.gone_since for name, slot in self.clusters.items() if slot.gone_since is not None}
        if gone:
            named = self._named_clusters()
            for name, since in gone.items():
                await pace.rest()
                over = name not in named or self._deadline.passed(since + LINGER_S, now)
                if over and self._remove(self.clusters, name):
                    self._cluster_stats.cluster_removed += 1
        in_use = {
            (slot.name, good.product.dns)
            for slot in self.clusters.values()
            for good in (slot.active, slot.candidate)
            if good is not None
        }
        for key in [key for key in self._dns if key not in in_use]:
            self._dns.pop(key).scope.cancel()
        for known in [known for known in self._endpoints if self._store.get(known) is None]:
            del self._endpoints[known]

    def _wanted(self, kind: ResourceType, static: dict[str, Good[Translated]]) -> dict[str, Good[Translated]]:
        """What ought to serve, by name. A static resource cannot be changed by Pilot."""
        wanted = dict(static)
        for root in self._roots:
            if root.type is kind:
                for name, record in self._store.records(root.key, kind.url).items():
                    if record.good is not None:
                        wanted.setdefault(name, record.good)
        return wanted

    def _named_clusters(self) -> set[str]:
        slots = (*self.tables.values(), *self.listeners.values())
        return {name for slot in slots if slot.active is not None for name in slot.active.product.clusters}

    # --- waiting ----------------------------------------------------------------------------------------------------

    def _waits_for_needs(self, product: Translated, since: float, now: float) -> list[str]:
        waits = []
        for need, key in zip(product.needs, need_keys(product), strict=True):
            noun = RESOURCE_TYPES[need.type_url].noun
            if key in self.tables:
                if self.tables[key].active is None:  # it is there, and held back itself
                    waits.append(f"{noun} {need.name}")
                continue
            if self._has_come(need, key):
                continue
            timeout_s = need.initial_fetch_timeout_s
            if timeout_s and self._deadline.passed(since + timeout_s, now):
                self._store.time_out(key)
                continue
            waits.append(f"{noun} {need.name}")
        return waits

    def _has_come(self, need: Need, key: ResourceKey) -> bool:
        """Whether there has been an answer, of the wanted kind."""
        record = self._store.get(key)
        if record is None or record.good is None:
            return record is not None and record.status is not Status.REQUESTED
        spec = record.good.product.spec
        return not isinstance(spec, Secret) or kind_of(spec) is need.secret

    def _waits_for_clusters(self, product: Translated, since: float, now: float) -> list[str]:
        warming = [name for name in product.clusters if name in self.clusters and self.clusters[name].warms_first]
        if not warming or self._deadline.passed(since + HOLD_S, now):
            return []
        return [f"cluster {name}" for name in warming]

    def _dns_cluster(self, name: str, discovery: DnsDiscovery) -> DnsCluster:
        found = self._dns.get((name, discovery))
        if found is None:
            found = DnsCluster(name, discovery, self._lookup, self._random, self.changed)
            self._dns[name, discovery] = found
            if self._nursery is not None:
                self._nursery.start_soon(found.run)
        return found

    # --- changing what is active ------------------------------------------------------------------------------------

    def _activate(self, slot: Slot, kind: Kind) -> None:
        """The candidate serves from now on; what it refers to stays subscribed as long as it does."""
        new, old = slot.candidate, slot.active
        if new is None:
            return
        self._count(kind, new.product, old.product if old is not None else None)
        self._holder.hold(need_keys(new.product))
        if old is not None:
            self._holder.release(need_keys(old.product))
        product = new.product
        slot.active, slot.candidate, slot.waits_for = new, None, ()
        keys = need_keys(product)
        slot.endpoints = tuple([key for key in keys if key.type_url == EDS.url])
        slot.secrets = tuple([key for key in keys if key.type_url == SDS.url])
        slot.uses_ticket_keys = isinstance(product.spec, Listener) and uses_ticket_keys(product.spec)
        slot.items = (
            make_item(kind, slot.name, product.spec),
            *(make_item(_extra_kind(spec), spec.name, spec) for spec in product.extra),
        )

    def _remove(self, slots: dict[K, Slot], key: K) -> bool:
        """Whether it had been active."""
        slot = slots.pop(key)
        if slot.active is not None:
            self._holder.release(need_keys(slot.active.product))
        return slot.active is not None

    def _count(self, kind: Kind, new: Translated, old: Translated | None) -> None:
        if kind is Kind.CLUSTER and old is None:
            self._cluster_stats.cluster_added += 1
        elif kind is Kind.CLUSTER:
            self._cluster_stats.cluster_modified += 1
        elif kind is Kind.LISTENER and old is None:
            self._listener_stats.listener_added += 1
        elif kind is Kind.LISTENER and old is not None:
            self._listener_stats.listener_modified += 1
            if isinstance(new.spec, Listener) and isinstance(old.spec, Listener):
                self._listener_stats.listener_in_place_updated += new.spec.base_uid == old.spec.base_uid

    # --- the result -------------------------------------------------------------------------------------------------

    async def _items(self, pace: Pace) -> dict[ItemKey, Item]:
        items: dict[ItemKey, Item] = {}

        def put(item: Item) -> None:
            items[item.kind, item.name] = item

        for slot in (*self.clusters.values(), *self.tables.values(), *self.listeners.values()):
            for item in slot.items:
                put(item)
        for slot in self.clusters.values():
            await pace.rest()
            if slot.active is not None:
                product = slot.active.product
                if product.dns is not None:
                    put(self._dns_cluster(slot.name, product.dns).item)
                for key in slot.endpoints:
                    put(self._endpoints_item(key))
        for item in self._secrets.items((*self.clusters.values(), *self.listeners.values())):
            put(item)
        if self._secrets.changes_at is not None:
            self._deadline.passed(self._secrets.changes_at, self._clock.monotonic())
        for root in self._roots:
            if root.type is LDS:
                for listener in stand_ins(self.listeners, self._store.records(root.key, LDS.url).values()):
                    put(make_item(Kind.LISTENER, listener.name, listener))
        return items

    def _endpoints_item(self, key: ResourceKey) -> Item:
        record = self._store.get(key)
        if record is None or record.good is None:
            return make_item(Kind.ENDPOINTS, key.name, Endpoints(key.name))
        known = self._endpoints.get(key)
        if known is None or known[0] is not record.good:
            known = (record.good, make_item(Kind.ENDPOINTS, key.name, record.good.product.spec))
        self._endpoints[key] = known
        return known[1]

    # --- how far we are ---------------------------------------------------------------------------------------------

    def _note_initialization(self, now: float) -> None:
        if self._answered(CDS, now) and not any(slot.warms_first for slot in self.clusters.values()):
            self.clusters_ready.set()
            if self.initialization is Initialization.PRE_INITIALIZING:
                self.initialization = Initialization.INITIALIZING
            if self._answered(LDS, now) and not any(slot.warms_first for slot in self.listeners.values()):
                self.initialization = Initialization.LIVE
                self.live.set()

    def _answered(self, kind: ResourceType, now: float) -> bool:
        """Whether Pilot has said something about the type, or has been waited for long enough."""
        for root in self._roots:
            if root.type is not kind or (root.key, kind.url) in self._store.answered or root in self._timed_out:
                continue
            timeout_s = root.initial_fetch_timeout_s
            if not timeout_s or not self._deadline.passed(self._started + timeout_s, now):
                return False
            self._timed_out.add(root)
            self._fetch_stats[kind].init_fetch_timeout += 1
        return True

    def _measure(self) -> None:
        clusters, listeners = self.clusters.values(), self.listeners.values()
        self._cluster_stats.active_clusters = sum(slot.active is not None for slot in clusters)
        self._cluster_stats.warming_clusters = sum(slot.candidate is not None for slot in clusters)
        self._listener_stats.total_listeners_active = sum(slot.active is not None for slot in listeners)
        self._listener_stats.total_listeners_warming = sum(slot.candidate is not None for slot in listeners)


def _extra_kind(spec: Endpoints | Secret) -> Kind:
    return Kind.SECRET if isinstance(spec, Secret) else Kind.ENDPOINTS
