"""Which limits of a Snapshot hold over all workers, and the rows of the shared table that they get.

A limit without a finite bound needs no row: Istio's clusters have none, so a mesh of thousands of clusters costs nothing
here. A key keeps its row for as long as an Item needs it, and while something is counted there: a worker may still use it
for a cluster that is draining.
"""

import logging
from collections import deque
from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from mosn_xds.base.limits import LimitTable
from mosn_xds.data.upstream.breaker import limit_keys as cluster_limit_keys
from mosn_xds.spec.cluster import Cluster
from mosn_xds.spec.filters import FaultFilter
from mosn_xds.spec.listener import HttpConnectionManager, Listener
from mosn_xds.spec.snapshot import Item, Kind

TABLE_ROWS = 1 << 18
"""8 bytes a row and worker, of which only the touched pages exist."""

_NONE: Mapping[str, int] = MappingProxyType({})
_log = logging.getLogger("mosn_xds.feed")


class LimitRows:
    """Assigns rows of `table`."""

    def __init__(self, table: LimitTable) -> None:
        self.table = table
        self._rows: dict[str, int] = {}
        self._free: deque[int] = deque()
        self._next = 0
        self._by_uid: dict[bytes, Mapping[str, int]] = {}
        self._clusters = msgspec.msgpack.Decoder(Cluster)
        self._listeners = msgspec.msgpack.Decoder(Listener)

    def __repr__(self) -> str:
        return f"<LimitRows {len(self._rows)} of {self.table.rows}>"

    def rows(self, item: Item) -> Mapping[str, int]:
        """The rows that building `item` needs."""
        found = self._by_uid.get(item.uid)
        if found is None:
            keys = self._keys(item)
            found = {key: row for key in keys if (row := self._row(key)) is not None} if keys else _NONE
            self._by_uid[item.uid] = found
        return found

    def _keys(self, item: Item) -> list[str]:
        if item.kind is Kind.CLUSTER:
            return cluster_limit_keys(self._clusters.decode(item.raw))
        if item.kind is Kind.LISTENER:
            return _listener_keys(self._listeners.decode(item.raw))
        return []

    @property
    def cached(self) -> int:
        """For how many Items the rows are known."""
        return len(self._by_uid)

    def keep_only(self, uids: set[bytes]) -> None:
        """Forget what was worked out for other Items, and take back the rows that none of these needs."""
        self._by_uid = {uid: rows for uid, rows in self._by_uid.items() if uid in uids}
        needed = {key for rows in self._by_uid.values() for key in rows}
        for key, row in [(key, row) for key, row in self._rows.items() if key not in needed]:
            if not self.table.in_use(row):
                del self._rows[key]
                self._free.append(row)

    def _row(self, key: str) -> int | None:
        row = self._rows.get(key)
        if row is None:
            if self._next < self.table.rows:
                row = self._next
                self._next += 1
            elif self._free:
                row = self._free.popleft()
            else:
                _log.warning("no row left for the limit %s: it holds in each worker by itself", key)
                return None
            self._rows[key] = row
        return row


def _listener_keys(listener: Listener) -> list[str]:
    keys = [] if listener.connection_limit is None else [f"listener|{listener.name}|connections"]
    chains = [*listener.chains, *([listener.default_chain] if listener.default_chain is not None else [])]
    managers = [one for chain in chains for one in chain.filters if isinstance(one, HttpConnectionManager)]
    return keys + [f"fault|http.{manager.stat_prefix}." for manager in managers if _limits_faults(manager)]


def _limits_faults(manager: HttpConnectionManager) -> bool:
    faults = (one.config for one in manager.filters if isinstance(one.config, FaultFilter))
    return any(fault.max_active_faults is not None for fault in faults)
