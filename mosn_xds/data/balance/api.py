"""What a load balancer needs to know of hosts and requests, and what it is to its cluster.

Load balancers are pure: they see hosts through `LbHost`, requests through `PickContext`, chance and time as parameters.
They know nothing of pools, protocols or statistics. A balancer stands for one fixed membership; when hosts, weights or
health change, a new one is built over the same host objects, which carry what must survive (active requests, slow start).
"""

from collections.abc import Collection
from typing import Protocol, TypeVar

from mosn_xds.spec.cluster import Health


class LbHost(Protocol):
    """A host as balancers see it. Weight and health change only together with a new balancer."""

    @property
    def weight(self) -> int: ...

    @property
    def health(self) -> Health: ...

    @property
    def active_requests(self) -> int: ...

    @property
    def healthy_since_s(self) -> float:
        """When slow start began, on the monotonic clock: the host joined, and was healthy for the first time."""
        ...

    @property
    def text(self) -> str:
        """``ip:port``."""
        ...

    @property
    def hostname(self) -> str: ...

    @property
    def hash_key(self) -> str:
        """What hashes as this host by configuration; empty: its address or host name does."""
        ...


H = TypeVar("H", bound=LbHost)
H_co = TypeVar("H_co", bound=LbHost, covariant=True)


class PickContext(Protocol):
    """What a pick may depend on."""

    @property
    def hash(self) -> int | None:
        """64 bits from the route's hash policy; None picks at random."""
        ...

    @property
    def should_skip(self) -> Collection[object] | None:
        """Hosts to avoid if `max_skip_attempts` more picks find another."""
        ...

    @property
    def max_skip_attempts(self) -> int: ...


class Picker(Protocol[H_co]):
    """Picks among hosts that are all equally eligible; there is at least one.

    `hash` and `attempt` (from 0) matter to consistent hashing alone: another attempt looks for another host.
    """

    def pick(self, hash: int, attempt: int) -> H_co: ...


class Balancer(Protocol[H_co]):
    """Picks among all hosts of a cluster."""

    def choose(self, context: PickContext | None) -> H_co | None:
        """The host for one attempt, or None when no host may be used."""
        ...


def is_healthy(host: LbHost) -> bool:
    return host.health in (Health.UNKNOWN, Health.HEALTHY)


def is_degraded(host: LbHost) -> bool:
    return host.health is Health.DEGRADED
