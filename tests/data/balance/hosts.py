"""Hosts for balancers: plain objects of the right shape."""

from dataclasses import dataclass

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
