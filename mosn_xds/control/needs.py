"""Who needs which named resource, and the subscriptions that follow from it.

A cluster needs its endpoints, a listener its route tables. Needs are counted, for several may share one; when the first
appears the name is asked for, when the last goes it is dropped, with what was known of it. Counting and following are
two steps, so that a response that replaces a cluster by an equal one asks for nothing.
"""

from collections.abc import Iterable
from typing import Any, Protocol

from mosn_xds.control.ads.resource_types import RESOURCE_TYPES, ResourceType
from mosn_xds.control.store import ResourceKey, ResourceStore


class Subscriber(Protocol):
    """The part of `AdsClient` that takes subscriptions."""

    def subscribe(self, kind: ResourceType) -> None: ...
    def change(self, kind: ResourceType, add: Iterable[str], remove: Iterable[str]) -> None: ...
    def ask_again(self, kind: ResourceType) -> None: ...


class Holder(Protocol):
    """Keeps names subscribed on behalf of what is active: `Intake`."""

    def hold(self, keys: Iterable[ResourceKey]) -> None: ...
    def release(self, keys: Iterable[ResourceKey]) -> None: ...


class Needs:
    """See the module."""

    def __init__(self, store: ResourceStore[Any]) -> None:
        self._store = store
        self._subscribers: dict[str, Subscriber] = {}
        self._counts: dict[ResourceKey, int] = {}
        self._touched: dict[ResourceKey, None] = {}

    def __repr__(self) -> str:
        return f"<Needs {len(self._counts)} names>"

    def attach(self, source: str, subscriber: Subscriber) -> None:
        """Where the subscriptions of `source` go."""
        self._subscribers[source] = subscriber

    def subscriber(self, source: str) -> Subscriber | None:
        """None for a source that is not attached."""
        return self._subscribers.get(source)

    def retain(self, keys: Iterable[ResourceKey]) -> None:
        """One more holder of each key."""
        for key in keys:
            self._counts[key] = self._counts.get(key, 0) + 1
            self._touched[key] = None

    def release(self, keys: Iterable[ResourceKey]) -> None:
        """One holder less; each `release` answers a `retain`."""
        for key in keys:
            self._counts[key] -= 1
            self._touched[key] = None

    def follow(self) -> list[ResourceKey]:
        """Make subscriptions what the counts say. Returns the keys that were dropped."""
        add: dict[tuple[str, str], list[str]] = {}
        remove: dict[tuple[str, str], list[str]] = {}
        dropped: list[ResourceKey] = []
        for key in self._touched:
            topic = (key.source, key.type_url)
            if self._counts[key]:
                if self._store.get(key) is None:
                    self._store.request(key)
                    add.setdefault(topic, []).append(key.name)
            else:
                del self._counts[key]
                if self._store.drop(key) is not None:
                    dropped.append(key)
                    remove.setdefault(topic, []).append(key.name)
        self._touched.clear()
        for topic in dict.fromkeys([*add, *remove]):
            source, url = topic
            self._subscribers[source].change(RESOURCE_TYPES[url], add.get(topic, ()), remove.get(topic, ()))
        return dropped
