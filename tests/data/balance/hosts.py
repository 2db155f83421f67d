"""Hosts for balancers: plain objects of the right shape."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mosn_xds.base.steps import run_to_end
from mosn_xds.data.balance.ring_hash import MaglevTable, Ring, maglev_steps, ring_steps
from mosn_xds.spec.cluster import Health


@dataclass(eq=False)
class FakeHost:
    text: str
    weight: int = 1
    health: Health = Health.HEALTHY
    active_requests: int = 0
    healthy_since_s: float = 0.0
    hostname: str = ""
    hash_key: str = ""

    def __repr__(self) -> str:
        return self.text


@dataclass
class Context:
    hash: int | None = None
    should_skip: tuple[FakeHost, ...] | None = None
    max_skip_attempts: int = 0


def hosts(count: int, **fields: object) -> list[FakeHost]:
    return [FakeHost(f"10.0.0.{i}:80", **fields) for i in range(1, count + 1)]  # type: ignore[arg-type]


def ring_of(members: Sequence[FakeHost], weights: Sequence[float], **options: Any) -> Ring[FakeHost]:
    """A ring, built at once."""
    return run_to_end(ring_steps(members, weights, **options))


def maglev(members: Sequence[FakeHost], weights: Sequence[float], **options: Any) -> MaglevTable[FakeHost]:
    """A table, built at once."""
    return run_to_end(maglev_steps(members, weights, **options))
