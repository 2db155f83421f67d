"""A small bounded memory: what was computed for which bytes."""

from typing import Generic, TypeVar

T = TypeVar("T")


class Memo(Generic[T]):
    """Remembers up to `limit` values; when full, it starts afresh (what is in use comes back at once)."""

    __slots__ = ("_limit", "_values", "get")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values: dict[object, T] = {}
        self.get = self._values.get

    def __repr__(self) -> str:
        return f"<Memo {len(self._values)} of {self._limit}>"

    def put(self, key: object, value: T) -> None:
        if len(self._values) >= self._limit:
            self._values.clear()
        self._values[key] = value
