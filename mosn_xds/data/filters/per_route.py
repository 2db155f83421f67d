"""What a filter compiled from its per-route configuration, so that it is compiled once and not per request.

Specs are frozen and live as long as their route table, so identity is enough to recognise one (hashing a large policy
would cost more than asking it). An entry keeps its Spec alive, which keeps the identity unambiguous; old ones are dropped
when there are many, as after many route updates.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

S = TypeVar("S")
R = TypeVar("R")

_MAX_ENTRIES = 1024


class PerRoute(Generic[S, R]):
    """`build(spec)`, remembered by the identity of `spec`."""

    __slots__ = ("_build", "_built")

    def __init__(self, build: Callable[[S], R]) -> None:
        self._build = build
        self._built: dict[int, tuple[S, R]] = {}

    def of(self, spec: S) -> R:
        found = self._built.get(id(spec))
        if found is not None:
            return found[1]
        if len(self._built) >= _MAX_ENTRIES:
            self._built.clear()
        built = self._build(spec)
        self._built[id(spec)] = (spec, built)
        return built

    def __repr__(self) -> str:
        return f"<PerRoute {len(self._built)} built>"
