"""From the Snapshot that is wanted to the one that workers can have, with the sockets for it.

Three things stand between the two. An Item that a worker refused (a defect, of ours or of an extension) is replaced by what
was last good under its name, for all workers; a listener without such a predecessor by one that closes its connections,
so that they never fall to another listener. A listener whose address cannot be bound is left out, its predecessor serving
on; it is to be tried again. And listeners that an operator stopped (`/drain_listeners`) are gone, whatever Pilot says: a
socket that nobody accepts from must not go on listening.
"""

import dataclasses
import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

import msgspec

from mosn_xds.base.errors import ConfigError
from mosn_xds.control.closed import closed
from mosn_xds.process.sockets import ListenerSockets, SocketKey, socket_key
from mosn_xds.spec import feed
from mosn_xds.spec.listener import Listener, TrafficDirection
from mosn_xds.spec.snapshot import EMPTY, Item, ItemKey, Kind, Snapshot, make_item

_log = logging.getLogger("mosn_xds.supervise")


@dataclass(frozen=True)
class Refusal:
    """An Item that a worker could not build."""

    kind: Kind
    name: str
    uid: bytes
    reason: str
    serving: bool
    """What was last good under the name serves on; otherwise there is a hole."""


class Stopped(Enum):
    """Which listeners an operator has stopped."""

    NONE = "none"
    INBOUND = "inbound"
    ALL = "all"


@dataclass(frozen=True)
class _Bound:
    """What is known of a listener that needs no further socket."""

    key: SocketKey | None
    inbound: bool


class Attainable:
    """See the module. `items` says what workers are to hold; `published` is what it said last."""

    def __init__(self, sockets: ListenerSockets) -> None:
        self.sockets = sockets
        self.wanted = EMPTY
        self.refusals: dict[ItemKey, Refusal] = {}
        self.unbound: dict[str, ConfigError] = {}
        """Listeners whose address cannot be bound, by name."""
        self.stopped = Stopped.NONE
        self.stopped_listeners: set[str] = set()
        self._published: Mapping[ItemKey, Item] = {}
        self._good: Mapping[ItemKey, Item] = {}
        """What some worker has applied without refusing."""
        self._bound: dict[bytes, _Bound] = {}
        """By the uid of the listener's Item."""
        self._reserved: dict[str, SocketKey] = {}
        self._decoder = msgspec.msgpack.Decoder(Listener)

    def __repr__(self) -> str:
        return f"<Attainable {len(self.refusals)} refused, {len(self.unbound)} unbound of {self.wanted!r}>"

    def items(self) -> Mapping[ItemKey, Item]:
        """Work out what workers are to hold."""
        items = dict(self.wanted.items)
        self._replace_refused(items)
        unbound: dict[str, ConfigError] = {}
        for key in [key for key in items if key[0] is Kind.LISTENER]:
            try:
                bound = self._bind(items[key])
                if self._is_stopped(bound):
                    del items[key]
                    self.stopped_listeners.add(key[1])
                elif bound.key is not None:
                    self.sockets.apply(bound.key)
            except ConfigError as error:
                unbound[key[1]] = error
                if key[1] not in self.unbound:
                    _log.warning("listener %s: %s", key[1], error.reason)
                before = self._published.get(key)
                if before is None:
                    del items[key]
                else:
                    items[key] = before
        self.unbound = unbound
        self._published = items
        return items

    def _replace_refused(self, items: dict[ItemKey, Item]) -> None:
        for key, refusal in list(self.refusals.items()):
            item = items.get(key)
            good = self._good.get(key)
            if item is None or item.uid != refusal.uid:
                del self.refusals[key]
                continue
            if good is not None and self._is_closed(good):
                good = None
            # What is good may be what was refused: a sibling has built it.
            serving = good is not None and good.uid != refusal.uid
            self.refusals[key] = dataclasses.replace(refusal, serving=serving)
            if good is not None:
                items[key] = good
            elif item.kind is Kind.LISTENER:
                shut = closed(self._decoder.decode(item.raw), f"refused by a worker: {refusal.reason}")
                items[key] = make_item(Kind.LISTENER, item.name, shut)
            else:
                del items[key]

    def _is_closed(self, item: Item) -> bool:
        return item.kind is Kind.LISTENER and bool(self._decoder.decode(item.raw).closed_reason)

    def _is_stopped(self, bound: _Bound) -> bool:
        return self.stopped is Stopped.ALL or (self.stopped is Stopped.INBOUND and bound.inbound)

    def _bind(self, item: Item) -> _Bound:
        found = self._bound.get(item.uid)
        if found is None:
            listener = self._decoder.decode(item.raw)
            self.sockets.bind(listener)
            inbound = listener.direction is TrafficDirection.INBOUND
            found = self._bound[item.uid] = _Bound(socket_key(listener), inbound)
        return found

    @property
    def holes(self) -> list[Refusal]:
        """What some worker could not build and nothing stands in for: Pilot believes that it serves."""
        return [refusal for refusal in self.refusals.values() if not refusal.serving]

    def can_bind_more(self) -> list[str]:
        """Try again what could not be bound; the names of the listeners that now can be."""
        found = []
        for name in self.unbound:
            try:
                bound = self._bind(self.wanted.items[Kind.LISTENER, name])
                if bound.key is not None:
                    self.sockets.apply(bound.key)
            except ConfigError:
                continue
            found.append(name)
        return found

    def reserve(self, listener: Listener) -> None:
        """Hold the sockets of a listener that is to be wanted later. Raises ConfigError if they cannot be had."""
        self.sockets.bind(listener)
        key = socket_key(listener)
        if key is None:
            self._reserved.pop(listener.name, None)
        else:
            self._reserved[listener.name] = key

    def release(self, name: str) -> None:
        """The listener will not be wanted after all, or no longer."""
        self._reserved.pop(name, None)

    def socket_key(self, item: Item) -> SocketKey | None:
        """Which sockets a listener that workers are to hold needs."""
        return self._bound[item.uid].key

    def refuse(self, message: feed.Refused) -> bool:
        """Note what a worker said; whether `items` has another answer now."""
        key = (message.kind, message.name)
        wanted, known = self.wanted.items.get(key), self.refusals.get(key)
        if wanted is None or wanted.uid != message.uid or (known is not None and known.uid == message.uid):
            return False
        self.refusals[key] = Refusal(message.kind, message.name, message.uid, message.reason, serving=False)
        return True

    def note_good(self, held: Snapshot) -> None:
        """Some worker serves this."""
        if not self.refusals:
            self._good = held.items
            return
        # A sibling may have built what another worker could not.
        kept = {key: good for key in self.refusals if (good := self._good.get(key)) is not None}
        self._good = {**held.items, **kept}

    def forget_unused(self, in_flight: Iterable[Snapshot], in_use: Collection[SocketKey]) -> None:
        """Let go of sockets that are neither wanted nor held by a worker (`in_use`), nor on their way to one."""
        listeners = sum(key[0] is Kind.LISTENER for key in self._published)
        if len(self._bound) == listeners and len(self.sockets.bound()) <= listeners:
            return
        uids = {item.uid for key, item in self._published.items() if key[0] is Kind.LISTENER}
        for snapshot in in_flight:
            uids.update(item.uid for key, item in snapshot.items.items() if key[0] is Kind.LISTENER)
        self._bound = {uid: bound for uid, bound in self._bound.items() if uid in uids}
        keep = {bound.key for bound in self._bound.values() if bound.key is not None}
        self.sockets.keep_only(keep | set(self._reserved.values()) | set(in_use))
