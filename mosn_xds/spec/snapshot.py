"""A Snapshot is everything that can serve now: named, frozen Specs, encoded once, with a generation number.

An `Item` is one Spec ready to travel: its `uid` is the digest of its encoding, so "did it change" is one comparison and a
worker reuses what it has built for the same uid. `diff` says what a holder of one Snapshot must be told to hold another.
"""

from collections.abc import Mapping
from enum import IntEnum
from hashlib import blake2b
from types import MappingProxyType

import msgspec

from mosn_xds.spec.cluster import Cluster, Endpoints
from mosn_xds.spec.listener import Listener
from mosn_xds.spec.route import RouteTable
from mosn_xds.spec.rpc import RpcRouteTable
from mosn_xds.spec.tls import Secret


class Kind(IntEnum):
    """What an Item holds, in make-before-break order: what comes first is added first, and leaves after what names it."""

    SECRET = 0
    CLUSTER = 1
    ENDPOINTS = 2
    ROUTE_TABLE = 3
    RPC_ROUTE_TABLE = 4
    LISTENER = 5


_Published = Secret | Cluster | Endpoints | RouteTable | RpcRouteTable | Listener

SPEC_TYPES: Mapping[Kind, type[_Published]] = MappingProxyType(
    {
        Kind.SECRET: Secret,
        Kind.CLUSTER: Cluster,
        Kind.ENDPOINTS: Endpoints,
        Kind.ROUTE_TABLE: RouteTable,
        Kind.RPC_ROUTE_TABLE: RpcRouteTable,
        Kind.LISTENER: Listener,
    }
)

_encoder = msgspec.msgpack.Encoder()


def encode(value: object) -> bytes:
    """A Spec's encoding in the feed and in digests."""
    return _encoder.encode(value)


def digest(raw: bytes) -> bytes:
    """16 bytes that stand for `raw`."""
    return blake2b(raw, digest_size=16).digest()


class Item(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One Spec of a Snapshot, encoded."""

    kind: Kind
    name: str
    uid: bytes
    raw: msgspec.Raw

    def __repr__(self) -> str:
        """Never the content: it may be a private key."""
        return f"<Item {self.kind.name} {self.name} {self.uid.hex()[:8]}>"


def make_item(
    kind: Kind, name: str, spec: Secret | Cluster | Endpoints | RouteTable | RpcRouteTable | Listener
) -> Item:
    raw = encode(spec)
    return Item(kind, name, digest(raw), msgspec.Raw(raw))


ItemKey = tuple[Kind, str]


class Snapshot:
    """The warm Specs of one generation, by (kind, name). Treat as frozen."""

    __slots__ = ("generation", "items")

    def __init__(self, generation: int, items: Mapping[ItemKey, Item]) -> None:
        self.generation = generation
        self.items = items

    def __repr__(self) -> str:
        counts = {kind: 0 for kind in Kind}
        for kind, _ in self.items:
            counts[kind] += 1
        text = " ".join(f"{kind.name.lower()}s={n}" for kind, n in counts.items())
        return f"<Snapshot #{self.generation} {text}>"


EMPTY = Snapshot(0, {})


class SnapshotDelta(msgspec.Struct, gc=False):
    """What turns one Snapshot into another: additions and changes in make-before-break order, then removals reversed."""

    generation: int
    put: list[Item]
    drop: list[ItemKey]


def diff(old: Snapshot, new: Snapshot) -> SnapshotDelta:
    """Costs one comparison per item."""
    put = [item for key, item in new.items.items() if (had := old.items.get(key)) is None or had.uid != item.uid]
    drop = [key for key in old.items if key not in new.items]
    put.sort(key=lambda item: item.kind)
    drop.sort(key=lambda key: -key[0])
    return SnapshotDelta(new.generation, put, drop)
