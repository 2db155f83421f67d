"""Balancers under construction: what takes long is made in steps, between requests, while clusters choose as they did."""

from collections.abc import Iterator
from typing import Protocol

from mosn_xds.base.steps import Steps
from mosn_xds.data.balance.api import Balancer
from mosn_xds.data.upstream.host import Host


class Balanced(Protocol):
    """A cluster, to its builds."""

    def balance(self, balancer: Balancer[Host]) -> None:
        """Choose hosts by this balancer from now on."""
        ...


class BalancerBuilds:
    """Balancers that are being made, one for each cluster: the newest. Until one is done its cluster chooses as it did."""

    __slots__ = ("_steps",)

    def __init__(self) -> None:
        self._steps: dict[Balanced, Steps[Balancer[Host]]] = {}

    def put(self, cluster: Balanced, steps: Steps[Balancer[Host]]) -> None:
        """Take a balancer on. One that is made in a single step is made now."""
        self._steps[cluster] = steps
        self._step(cluster, steps)

    def drop(self, cluster: Balanced) -> None:
        """The cluster needs none any more."""
        self._steps.pop(cluster, None)

    def run(self) -> Iterator[None]:
        """Make all there are."""
        while self._steps:
            cluster, steps = next(iter(self._steps.items()))
            self._step(cluster, steps)
            yield

    def _step(self, cluster: Balanced, steps: Steps[Balancer[Host]]) -> None:
        try:
            next(steps)
        except StopIteration as end:
            del self._steps[cluster]
            balancer: Balancer[Host] = end.value
            cluster.balance(balancer)

    def __repr__(self) -> str:
        return f"<BalancerBuilds {len(self._steps)} under way>"
