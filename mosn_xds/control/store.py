"""What Pilot sent, resource by resource: the agent's memory of versions, verdicts and last good configuration.

The store decides nothing. It is told that a resource was asked for, offered, accepted, refused, found absent, and it
answers whether bytes are new (`offer`), which is what spares the decoding: istiod sends nearly everything again for each
change, and only a digest over the bytes received tells what is really different (re-serialised messages differ, versions
change with every push). Whatever happens to a resource, its last good translation stays until the resource is dropped.

A record is keyed by source too: the same name from ADS and from an SDS server are two resources.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from typing import Generic, NamedTuple, TypeVar

import xxhash

from mosn_xds.base.clock import Clock
from mosn_xds.base.errors import ConfigError

HISTORY_LENGTH = 8

P = TypeVar("P")


class Status(Enum):
    """Envoy's `ClientResourceStatus`, which `istioctl` and people know."""

    REQUESTED = "requested"
    """Asked for, nothing came yet."""
    ACKED = "acked"
    """What came last is in use."""
    NACKED = "nacked"
    """What came last was refused; the last good, if any, is in use."""
    ABSENT = "absent"
    """Pilot says that it does not exist."""
    TIMED_OUT = "timed out"
    """Asked for, nothing came within `initial_fetch_timeout`."""


class Offer(Enum):
    """What an offered resource is, measured by its bytes."""

    CHANGED = "changed"
    """Never judged: translate it, then `accept` or `refuse`."""
    UNCHANGED = "unchanged"
    """The good one again: nothing to do."""
    REFUSED = "refused"
    """The bytes that were refused last, again: `Record.refusal` says why."""


class ResourceKey(NamedTuple):
    """Which resource of which source."""

    source: str
    type_url: str
    name: str


@dataclass(frozen=True, slots=True)
class Good(Generic[P]):
    """A resource in use: its bytes, and what they were translated to."""

    version: str
    digest: bytes
    raw: bytes
    product: P
    at: float

    def __repr__(self) -> str:
        """Without its bytes, which may be a private key."""
        return f"<Good {self.version} {self.product!r}>"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why bytes were refused. `at` is wall-clock seconds."""

    version: str
    digest: bytes
    raw: bytes
    reason: str
    path: str
    hint: str
    at: float

    def __repr__(self) -> str:
        """Without its bytes, which may be a private key."""
        return f"<Refusal {self.version} {self}>"

    def __str__(self) -> str:
        return str(ConfigError(self.reason, path=self.path, hint=self.hint))


@dataclass(frozen=True, slots=True)
class Generation:
    """One line of a resource's history: different bytes came at `at` (wall-clock seconds); None is "accepted"."""

    version: str
    digest: bytes
    at: float
    reason: str | None


@dataclass(slots=True)
class Record(Generic[P]):
    """Everything known about one resource; only the store writes it."""

    key: ResourceKey
    status: Status
    requested_at: float
    updated_at: float | None = None
    """When something was last said about it."""
    version: str = ""
    """As last received, good or not."""
    good: Good[P] | None = None
    refusal: Refusal | None = None
    """Of what came last; None again once something good came."""
    history: tuple[Generation, ...] = ()

    def __repr__(self) -> str:
        return f"<Record {self.key.name} {self.status.value} version {self.version or '-'}>"


class ResourceStore(Generic[P]):
    """Records by key. `changes` grows whenever what is in use changes."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._records: dict[tuple[str, str], dict[str, Record[P]]] = {}
        self.changes = 0
        self.answered: set[tuple[str, str]] = set()
        """(source, type URL) of each type that has been answered at all."""

    def __repr__(self) -> str:
        counts = {status: 0 for status in Status}
        for record in self:
            counts[record.status] += 1
        return f"<ResourceStore {', '.join(f'{n} {status.value}' for status, n in counts.items() if n) or 'empty'}>"

    def __iter__(self) -> Iterator[Record[P]]:
        for records in self._records.values():
            yield from records.values()

    def records(self, source: str, type_url: str) -> dict[str, Record[P]]:
        """By name. Not to be changed; do not hold it across awaits."""
        return self._records.get((source, type_url), {})

    def of_type(self, type_url: str) -> Iterator[Record[P]]:
        """Those of one type, of all sources."""
        for (_, url), records in self._records.items():
            if url == type_url:
                yield from records.values()

    def get(self, key: ResourceKey) -> Record[P] | None:
        return self.records(key.source, key.type_url).get(key.name)

    def request(self, key: ResourceKey) -> Record[P]:
        """Somebody waits for it; what is known of it already stays."""
        records = self._records.setdefault((key.source, key.type_url), {})
        record = records.get(key.name)
        if record is None:
            record = records[key.name] = Record(key, Status.REQUESTED, self._clock.wall())
        return record

    def offer(self, key: ResourceKey, raw: bytes) -> Offer:
        """Compare bytes with what was judged before. Changes nothing."""
        record = self.get(key)
        if record is None:
            return Offer.CHANGED
        digest = _digest(raw)
        if record.refusal is not None and record.refusal.digest == digest:
            return Offer.REFUSED
        if record.good is not None and record.good.digest == digest:
            return Offer.UNCHANGED
        return Offer.CHANGED

    def keep(self, key: ResourceKey, version: str) -> None:
        """The good bytes came again, under this version."""
        record = self.request(key)
        self._heard(record, version, Status.ACKED)
        record.refusal = None

    def accept(self, key: ResourceKey, version: str, raw: bytes, product: P) -> None:
        """New bytes are in use from now on."""
        record = self.request(key)
        now = self._heard(record, version, Status.ACKED)
        record.good = Good(version, _digest(raw), raw, product, now)
        record.refusal = None
        self._remember(record, Generation(version, record.good.digest, now, None))
        self.changes += 1

    def refuse(self, key: ResourceKey, version: str, raw: bytes, error: ConfigError) -> Refusal:
        """New bytes are bad; the last good ones stay in use."""
        record = self.request(key)
        now = self._heard(record, version, Status.NACKED)
        digest = _digest(raw)
        again = record.refusal is not None and record.refusal.digest == digest
        record.refusal = Refusal(version, digest, raw, error.reason, error.path, error.hint, now)
        if not again:
            self._remember(record, Generation(version, digest, now, str(error)))
        return record.refusal

    def refuse_again(self, key: ResourceKey, version: str) -> Refusal | None:
        """The bytes that were refused came again, under this version; returns the same reason anew."""
        record = self.get(key)
        if record is None or record.refusal is None:
            return None
        now = self._heard(record, version, Status.NACKED)
        record.refusal = replace(record.refusal, version=version, at=now)
        return record.refusal

    def absent(self, key: ResourceKey) -> None:
        """Pilot says that there is none. The last good one stays in use: who needs it decides when it goes."""
        record = self.get(key)
        if record is not None:
            self._heard(record, record.version, Status.ABSENT)

    def time_out(self, key: ResourceKey) -> None:
        """Nothing came in time."""
        record = self.get(key)
        if record is not None and record.status is Status.REQUESTED:
            record.status = Status.TIMED_OUT

    def drop(self, key: ResourceKey) -> Record[P] | None:
        """It is gone, with all that is known of it. Returns what was known."""
        records = self._records.get((key.source, key.type_url), {})
        record = records.pop(key.name, None)
        if record is not None and record.good is not None:
            self.changes += 1
        return record

    def _heard(self, record: Record[P], version: str, status: Status) -> float:
        now = self._clock.wall()
        record.version = version
        record.status = status
        record.updated_at = now
        return now

    def _remember(self, record: Record[P], generation: Generation) -> None:
        record.history = (*record.history, generation)[-HISTORY_LENGTH:]


def _digest(raw: bytes) -> bytes:
    return xxhash.xxh3_128_digest(raw)
