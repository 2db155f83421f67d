"""From a response to a verdict: each resource compared, translated, stored; then what follows from it asked for.

`Intake` is the owner of the ADS clients' responses. It works in two steps. First every resource whose bytes are new is
translated, with a pause for the loop every few milliseconds, for a push may hold thousands. Then, in one go that nobody
sees halfway, removals and results go to the store, subscriptions follow (a cluster's endpoints, a listener's route
tables), and the verdict names everything that was refused, with its field path, in Envoy's framing. One bad resource
never holds the others back.

What a resource means is the translator's business; what is warm and serves is `assemble`'s.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import xxhash

from mosn_xds.base.clock import Clock
from mosn_xds.base.errors import ConfigError
from mosn_xds.base.stats import StatRegistry
from mosn_xds.control.ads.client import ACK, Verdict
from mosn_xds.control.ads.events import Resource, Response
from mosn_xds.control.ads.resource_types import CDS, EDS, LDS, SDS, ResourceType
from mosn_xds.control.needs import Needs, Subscriber
from mosn_xds.control.pace import Pace
from mosn_xds.control.stats import SubscriptionStats
from mosn_xds.control.store import Offer, Refusal, ResourceKey, ResourceStore
from mosn_xds.control.translate.model import Need, Source
from mosn_xds.xds.messages import type_label

_STAT_PREFIXES = ((CDS, "cluster_manager.cds."), (LDS, "listener_manager.lds."))

MOST_TOLD = 5
"""Warnings of one resource that the log gets; all of them are in `/xds`."""

_log = logging.getLogger("mosn_xds.control")


class Product(Protocol):
    """What the translator makes of a resource, as far as this module looks into it: `translate.model.Translated`."""

    @property
    def needs(self) -> Sequence[Need]: ...
    @property
    def warnings(self) -> Sequence[str]: ...


P = TypeVar("P", bound=Product)

Translate = Callable[[str, str, bytes], P]
"""(type URL, name, bytes) to a product. Raises ConfigError."""

Admit = Callable[[ResourceKey, P], None]
"""The last word on a translated resource, for what depends on others and on the machine (an address that is taken).
Raises ConfigError. What the same response removes is out of the store by then."""

Changed = Callable[[Collection[ResourceKey]], None]

Connect = Callable[[Source], Subscriber]
"""Opens a configuration source that a resource refers to. Raises ConfigError for one that cannot be had."""


@dataclass(slots=True)
class _Result(Generic[P]):
    """What became of one resource: bytes known already, or a product, or an error."""

    resource: Resource
    offer: Offer
    product: P | None = None
    error: ConfigError | None = None


class Intake(Generic[P]):
    """See the module. `changed` is called after each response with the keys whose content, refusal or existence changed."""

    def __init__(
        self,
        store: ResourceStore[P],
        translate: Translate[P],
        clock: Clock,
        stats: StatRegistry,
        *,
        connect: Connect | None = None,
        admit: Admit[P] | None = None,
        changed: Changed | None = None,
    ) -> None:
        self._store = store
        self._translate = translate
        self._clock = clock
        self._registry = stats
        self._stats = {row.url: stats.group(SubscriptionStats, prefix) for row, prefix in _STAT_PREFIXES}
        self._secret_stats: dict[ResourceKey, SubscriptionStats] = {}
        self._connect = connect
        self._admit = admit
        self._changed = changed
        self._needs = Needs(store)
        self._not_admitted: set[ResourceKey] = set()
        self.defects = 0
        """Translations that ended in an exception that is none of ConfigError: bugs, refused like bad input."""

    def __repr__(self) -> str:
        return f"<Intake {self._store!r} {self._needs!r}>"

    def attach(self, source: str, subscriber: Subscriber) -> None:
        """Where the subscriptions of `source` go."""
        self._needs.attach(source, subscriber)

    def reach(self, source: Source) -> None:
        """Make sure that `source` can be asked. Raises ConfigError."""
        if self._needs.subscriber(str(source)) is None:
            if self._connect is None:
                raise ConfigError(f"unknown configuration source {source}")
            self._needs.attach(str(source), self._connect(source))

    def subscribe(self, source: str, kind: ResourceType) -> None:
        """Ask for all there is of a wildcard type."""
        if kind.url in self._stats:
            self._stats[kind.url].update_attempt += 1
        subscriber = self._needs.subscriber(source)
        if subscriber is not None:
            subscriber.subscribe(kind)

    def hold(self, keys: Iterable[ResourceKey]) -> None:
        """Keep asking for `keys`, whatever becomes of the resources that refer to them, until `release`."""
        self._needs.retain(keys)
        self._follow()

    def release(self, keys: Iterable[ResourceKey]) -> None:
        self._needs.release(keys)
        self._report(dict.fromkeys(self._follow()))

    def lost(self, source: str) -> None:
        """An attempt at the stream of `source` has ended."""
        for stats in self._stats.values():
            if stats.update_attempt:
                stats.update_failure += 1
                stats.update_attempt += 1

    # --- a response -------------------------------------------------------------------------------------------------

    async def judge(self, source: str, response: Response) -> Verdict:
        """Take what is good of `response`."""
        started = self._clock.monotonic()
        results = await self._translate_all(source, response)
        changed: dict[ResourceKey, None] = {}
        await self._remove(source, response, changed)
        reasons: list[str] = []
        refused: set[str] = set()
        seen: set[str] = set()
        modified = False
        pace = Pace(self._clock)
        for result in results:
            await pace.rest()
            name = result.resource.name
            if name in seen:
                reasons.append(f"{name}: duplicate {response.type.noun} {name} found")
                continue
            seen.add(name)
            key = ResourceKey(source, response.type.url, name)
            refusal = self._settle(key, result)
            if response.type is SDS:
                self._count_secret(key, refusal)
            if refusal is not None:
                refused.add(name)
                reasons.append(f"{name}: {refusal}")
            if result.offer is Offer.CHANGED:
                changed[key] = None
                modified = modified or refusal is None
        changed.update(dict.fromkeys(self._follow()))
        subscriber = self._needs.subscriber(source)
        if subscriber is not None and response.type is CDS and modified:
            subscriber.ask_again(EDS)
        reasons += response.faults
        self._store.answered.add((source, response.type.url))
        self._report(changed)
        verdict = Verdict(_framed(response.type, reasons), frozenset(refused)) if reasons else ACK
        self._note(response, verdict, started)
        return verdict

    def retry(self) -> None:
        """Try again what was refused by `admit`: an address may be free by now."""
        if not self._not_admitted:
            return
        changed: dict[ResourceKey, None] = {}
        for key in list(self._not_admitted):
            record = self._store.get(key)
            if record is None or record.refusal is None:
                self._not_admitted.discard(key)
                continue
            resource = Resource(key.name, record.refusal.version, record.refusal.raw, key.type_url)
            if self._settle(key, self._translated(resource)) is None:
                changed[key] = None
        changed.update(dict.fromkeys(self._follow()))
        self._report(changed)

    def read_again(self, key: ResourceKey) -> Refusal | None:
        """Translate once more what came last under `key`, because files that it names have changed; why not, if so."""
        record = self._store.get(key)
        last = None if record is None else record.refusal or record.good
        if last is None:
            return None
        resource = Resource(key.name, last.version, last.raw, key.type_url)
        refusal = self._settle(key, self._translated(resource))
        changed: dict[ResourceKey, None] = {key: None}
        changed.update(dict.fromkeys(self._follow()))
        self._report(changed)
        return refusal

    async def _translate_all(self, source: str, response: Response) -> list[_Result[P]]:
        results = []
        pace = Pace(self._clock)
        for resource in response.resources:
            key = ResourceKey(source, resource.type_url, resource.name)
            offer = self._store.offer(key, resource.raw)
            if offer is Offer.CHANGED or key in self._not_admitted:
                results.append(self._translated(resource))
            else:
                results.append(_Result(resource, offer))
            await pace.rest()
        return results

    def _translated(self, resource: Resource) -> _Result[P]:
        result: _Result[P] = _Result(resource, Offer.CHANGED)
        try:
            result.product = self._translate(resource.type_url, resource.name, resource.raw)
        except ConfigError as error:
            result.error = error
        except Exception as error:  # an extension's call: its bug costs this resource, not the stream
            self.defects += 1
            _log.exception("translating %s %s failed", resource.type_url, resource.name)
            result.error = ConfigError(f"internal error: {type(error).__name__}: {error}")
        return result

    async def _remove(self, source: str, response: Response, changed: dict[ResourceKey, None]) -> None:
        """Removals come first: a new listener may take the address of one that goes."""
        url = response.type.url
        if response.complete:
            present = {resource.name for resource in response.resources}
            gone = [name for name in self._store.records(source, url) if name not in present]
        else:
            gone = list(response.removed)
        pace = Pace(self._clock)
        for name in gone:
            await pace.rest()
            key = ResourceKey(source, url, name)
            if not response.type.wildcard:
                self._store.absent(key)  # who refers to it goes on using it, as in Envoy
                continue
            record = self._store.drop(key)
            self._not_admitted.discard(key)
            if record is not None:
                changed[key] = None
                if record.good is not None:
                    self._needs.release(need_keys(record.good.product))

    def _settle(self, key: ResourceKey, result: _Result[P]) -> Refusal | None:
        """Write one result to the store; None if the resource is in use."""
        version, raw = result.resource.version, result.resource.raw
        if result.offer is Offer.UNCHANGED:
            self._store.keep(key, version)
            return None
        if result.offer is Offer.REFUSED:
            return self._store.refuse_again(key, version)
        if result.product is not None:
            try:
                for need in result.product.needs:
                    self.reach(need.source)
                if self._admit is not None:
                    self._admit(key, result.product)
                self._not_admitted.discard(key)
            except ConfigError as error:
                self._not_admitted.add(key)
                result.product, result.error = None, error
        if result.product is None:
            return self._store.refuse(key, version, raw, result.error or ConfigError("not translated"))
        former = self._store.get(key)
        self._needs.retain(need_keys(result.product))
        before = None if former is None or former.good is None else former.good.product
        if before is not None:
            self._needs.release(need_keys(before))
        if result.product.warnings:
            _tell(key, result.product.warnings, () if before is None else before.warnings)
        self._store.accept(key, version, raw, result.product)
        return None

    def _follow(self) -> list[ResourceKey]:
        """See `Needs.follow`."""
        dropped = self._needs.follow()
        for key in dropped:
            self._secret_stats.pop(key, None)
        return dropped

    # --- afterwards -------------------------------------------------------------------------------------------------

    def _report(self, changed: dict[ResourceKey, None]) -> None:
        if self._changed is not None:
            self._changed(changed.keys())

    def _count_secret(self, key: ResourceKey, refusal: Refusal | None) -> None:
        """``sds.NAME.``, as in Envoy, for as long as somebody wants the secret."""
        stats = self._secret_stats.get(key)
        if stats is None:
            stats = self._secret_stats[key] = self._registry.group(SubscriptionStats, f"sds.{key.name}.")
            stats.update_attempt += 1
        stats.update_attempt += 1
        if refusal is not None:
            stats.update_rejected += 1
        else:
            stats.update_success += 1
            stats.update_time = int(self._clock.wall() * 1000)

    def _note(self, response: Response, verdict: Verdict, started: float) -> None:
        stats = self._stats.get(response.type.url)
        if stats is None:
            return
        stats.update_attempt += 1
        if verdict.reason is not None:
            stats.update_rejected += 1
            stats.update_attempt += not response.complete  # so does Envoy: a delta that is refused counts twice
            return
        stats.update_success += 1
        stats.update_time = int(self._clock.wall() * 1000)
        stats.version = xxhash.xxh64_intdigest(response.version.encode())
        stats.update_duration.record((self._clock.monotonic() - started) * 1000)


def _tell(key: ResourceKey, warnings: Sequence[str], known: Collection[str]) -> None:
    """Log what an accepted resource is warned of, and was not before."""
    new = [text for text in warnings if text not in known]
    what = f"{type_label(key.type_url)} {key.name}"
    for text in new[:MOST_TOLD]:
        _log.warning("%s: %s", what, text)
    if len(new) > MOST_TOLD:
        _log.warning("%s: and %d warnings more", what, len(new) - MOST_TOLD)


def need_keys(product: Product) -> list[ResourceKey]:
    """Where what `product` needs is in the store."""
    return [ResourceKey(str(need.source), need.type_url, need.name) for need in product.needs]


def _framed(kind: ResourceType, reasons: list[str]) -> str:
    """Reasons as Envoy strings them together; for types where it names no resource, we do."""
    if kind is CDS:
        return f"Error adding/updating cluster(s) {', '.join(reasons)}"
    if kind is LDS:
        lines = "".join(reason + "\n" for reason in reasons)
        return f"Error adding/updating listener(s) {lines}"
    return ", ".join(reasons)
