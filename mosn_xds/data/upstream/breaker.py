"""Circuit breakers: how much of a cluster may be in use at once, at each priority, over all workers.

A threshold that is None (Istio's default) has no `Limit` at all, so that what cannot be exceeded costs nothing on the hot
path; its gauges are worked out from the cluster's own when they are reported. The check is Envoy's: look, then take; two
workers that look at the same instant may both pass.
"""

from mosn_xds.base.limits import LimitCell, LimitProvider
from mosn_xds.base.stats import StatGroup
from mosn_xds.data.upstream.stats import ClusterStats
from mosn_xds.spec.cluster import Breakers, Cluster

UNLIMITED = (1 << 32) - 1

PRIORITY_NAMES = ("default", "high")
_CONNECTIONS, _PENDING, _REQUESTS, _RETRIES = "connections", "pending", "requests", "retries"


def limit_keys(spec: Cluster) -> list[str]:
    """The keys of the shared rows that the cluster's finite thresholds need (see `mosn_xds.base.limits`)."""
    keys = []
    for name, thresholds in zip(PRIORITY_NAMES, (spec.breakers, spec.high_breakers), strict=True):
        budget = thresholds.retry_budget_percent is not None
        for resource, maximum in (
            (_CONNECTIONS, thresholds.max_connections),
            (_PENDING, UNLIMITED if budget else thresholds.max_pending_requests),
            (_REQUESTS, UNLIMITED if budget else thresholds.max_requests),
            (_RETRIES, UNLIMITED if budget else thresholds.max_retries),
        ):
            if maximum is not None:
                keys.append(_key(spec.name, name, resource))
    return keys


class Limit:
    """One threshold: `maximum` of something, over all workers.

    `add` takes (1) or gives back (-1); taking is not refused: ask `is_open` first. `in_use` says how many are taken. Both
    are the cell's own methods, as they are called for every request.
    """

    __slots__ = ("add", "in_use", "maximum")

    def __init__(self, cell: LimitCell, maximum: int) -> None:
        self.add = cell.add
        self.in_use = cell.in_use
        self.maximum = maximum

    def is_open(self) -> bool:
        """Whether the threshold is reached: no more may be taken (the breaker is open)."""
        return self.in_use() >= self.maximum

    def remaining(self) -> int:
        return max(0, self.maximum - self.in_use())

    def __repr__(self) -> str:
        return f"<Limit {self.in_use()}/{self.maximum}>"


class RetryBudget(Limit):
    """Retries as a share of active and pending requests, never below a minimum (RetryBudget of the proto)."""

    __slots__ = ("_budget_percent", "_minimum", "_requests")

    def __init__(self, cell: LimitCell, budget_percent: float, minimum: int, requests: tuple[Limit, Limit]) -> None:
        super().__init__(cell, minimum)
        self._budget_percent = budget_percent
        self._minimum = minimum
        self._requests = requests

    def is_open(self) -> bool:
        active = sum(limit.in_use() for limit in self._requests)
        self.maximum = max(self._minimum, int(self._budget_percent * active / 100.0))
        return super().is_open()


class BreakerStats(StatGroup):
    """``cluster.NAME.circuit_breakers.default.`` or ``.high.``: 1 while the threshold is reached."""

    GAUGES = ("cx_open", "cx_pool_open", "rq_open", "rq_pending_open", "rq_retry_open")
    SHARED = GAUGES
    __slots__ = ("breaker", *GAUGES)

    cx_open: int
    cx_pool_open: int
    rq_open: int
    rq_pending_open: int
    rq_retry_open: int

    def __init__(self, prefix: str) -> None:
        super().__init__(prefix)
        self.breaker: Breaker | None = None

    def settle(self) -> None:
        breaker = self.breaker
        if breaker is not None:
            self.cx_open = _is_open(breaker.connections)
            self.rq_open = _is_open(breaker.requests)
            self.rq_pending_open = _is_open(breaker.pending)
            self.rq_retry_open = _is_open(breaker.retries)


class RemainingStats(StatGroup):
    """``cluster.NAME.circuit_breakers.default.remaining_``, with `track_remaining` only: a group of its own."""

    GAUGES = ("cx", "pending", "retries", "rq")
    SHARED = GAUGES
    __slots__ = ("breaker", *GAUGES)

    cx: int
    pending: int
    retries: int
    rq: int

    def __init__(self, prefix: str) -> None:
        super().__init__(prefix)
        self.breaker: Breaker | None = None

    def settle(self) -> None:
        breaker = self.breaker
        if breaker is not None:
            stats = breaker.cluster_stats
            self.cx = _remaining(breaker.connections, stats.upstream_cx_active)
            self.pending = _remaining(breaker.pending, stats.upstream_rq_pending_active)
            self.retries = _remaining(breaker.retries, 0)
            self.rq = _remaining(breaker.requests, stats.upstream_rq_active)


class Breaker:
    """The thresholds of one cluster at one priority; a limit that is None never opens."""

    __slots__ = ("cluster_stats", "connections", "pending", "requests", "retries")

    def __init__(
        self, cluster: str, high: bool, thresholds: Breakers, limits: LimitProvider, cluster_stats: ClusterStats
    ) -> None:
        priority = PRIORITY_NAMES[high]

        def limit(resource: str, maximum: int | None) -> Limit | None:
            return None if maximum is None else Limit(limits.cell(_key(cluster, priority, resource)), maximum)

        self.cluster_stats = cluster_stats
        self.connections = limit(_CONNECTIONS, thresholds.max_connections)
        self.pending = limit(_PENDING, thresholds.max_pending_requests)
        self.requests = limit(_REQUESTS, thresholds.max_requests)
        self.retries = limit(_RETRIES, thresholds.max_retries)
        if thresholds.retry_budget_percent is not None:
            # A share of what is active can only be known if what is active is counted.
            self.pending = self.pending or Limit(limits.cell(_key(cluster, priority, _PENDING)), UNLIMITED)
            self.requests = self.requests or Limit(limits.cell(_key(cluster, priority, _REQUESTS)), UNLIMITED)
            self.retries = RetryBudget(
                limits.cell(_key(cluster, priority, _RETRIES)),
                thresholds.retry_budget_percent,
                thresholds.retry_budget_min,
                (self.requests, self.pending),
            )

    def __repr__(self) -> str:
        return (
            f"<Breaker connections={self.connections} pending={self.pending} "
            f"requests={self.requests} retries={self.retries}>"
        )


def _key(cluster: str, priority: str, resource: str) -> str:
    return f"cluster|{cluster}|{priority}|{resource}"


def _is_open(limit: Limit | None) -> int:
    return int(limit is not None and limit.is_open())


def _remaining(limit: Limit | None, in_use: int) -> int:
    return limit.remaining() if limit is not None else UNLIMITED - in_use
