"""A Host: one upstream address, the same object for as long as its cluster's endpoints name that address.

Its figures, its connections and its place in slow start live here, so an endpoints update leaves them alone. It knows
nothing of how connections are made; `pools` are put here by the cluster that owns the host and taken out when the cluster
changes or the host goes.
"""

from collections.abc import Hashable
from typing import TYPE_CHECKING

from mosn_xds.spec.cluster import Endpoint, Health
from mosn_xds.spec.common import Address

if TYPE_CHECKING:
    from mosn_xds.data.upstream.pool import Pool

_OTHER_POOLS = 100
_NO_POOLS: "tuple[Pool | None, ...]" = (None, None, None, None)


class Host:
    """One upstream address of one cluster.

    Counters and gauges have the names of `/clusters`: `cx_total`, `cx_active`, `cx_connect_fail`, `rq_total`, `rq_error`,
    `rq_success`, `rq_timeout`, `rq_pending_active`; `active_requests` is its ``rq_active``. `metadata` is the endpoint's
    filter metadata as JSON. `healthy_since_s` is when it joined, on the monotonic clock: slow start counts from there.
    `pools` are made when first needed; their order is the cluster's business.
    """

    __slots__ = (
        "active_requests",
        "address",
        "cx_active",
        "cx_connect_fail",
        "cx_total",
        "hash_key",
        "health",
        "healthy_since_s",
        "hostname",
        "metadata",
        "other_pools",
        "other_pools_room",
        "pools",
        "rq_error",
        "rq_pending_active",
        "rq_success",
        "rq_timeout",
        "rq_total",
        "text",
        "transport_metadata",
        "weight",
    )

    def __init__(self, endpoint: Endpoint, now_s: float) -> None:
        self.address: Address = endpoint.address
        self.text = str(endpoint.address)
        self.pools = _NO_POOLS
        self.other_pools: dict[Hashable, Pool] = {}
        """Pools of connections that some requests need otherwise than usual, by what they need."""
        self.other_pools_room = _OTHER_POOLS
        """With so many of them it is time to look for those that have become empty."""
        self.active_requests = 0
        self.cx_total = 0
        self.cx_active = 0
        self.cx_connect_fail = 0
        self.rq_total = 0
        self.rq_error = 0
        self.rq_success = 0
        self.rq_timeout = 0
        self.rq_pending_active = 0
        self.healthy_since_s = now_s
        self.update(endpoint)

    def update(self, endpoint: Endpoint) -> None:
        """Take over what an endpoints update says of the same address."""
        self.health = endpoint.health
        self.weight = endpoint.weight
        self.hostname = endpoint.hostname
        self.hash_key = endpoint.hash_key
        self.metadata = endpoint.metadata
        self.transport_metadata = endpoint.transport_metadata

    def set_pool(self, index: int, pool: "Pool") -> None:
        self.pools = (*self.pools[:index], pool, *self.pools[index + 1 :])

    def add_other_pool(self, key: Hashable, pool: "Pool") -> None:
        """What requests ask for is theirs to choose: pools that have become empty make room."""
        if len(self.other_pools) >= self.other_pools_room:
            self.other_pools = {key: pool for key, pool in self.other_pools.items() if not pool.is_empty}
            self.other_pools_room = max(_OTHER_POOLS, 2 * len(self.other_pools))
        self.other_pools[key] = pool

    def drain_pools(self) -> None:
        """Take the pools out; they close when idle."""
        pools, self.pools = self.pools, _NO_POOLS
        for pool in pools:
            if pool is not None:
                pool.drain()
        others, self.other_pools = self.other_pools, {}
        for pool in others.values():
            pool.drain()

    def counters(self) -> dict[str, int]:
        """The figures that `/clusters` shows."""
        return {
            "cx_active": self.cx_active,
            "cx_connect_fail": self.cx_connect_fail,
            "cx_total": self.cx_total,
            "rq_active": self.active_requests,
            "rq_error": self.rq_error,
            "rq_pending_active": self.rq_pending_active,
            "rq_success": self.rq_success,
            "rq_timeout": self.rq_timeout,
            "rq_total": self.rq_total,
        }

    def __repr__(self) -> str:
        health = Health(self.health).name.lower()
        return f"<Host {self.text} {health}, {self.active_requests} active, {self.cx_active} connections>"
