"""The static runtime: values by key, and which of them anything has ever asked for.

Envoy's keys are many and translators ask by key, often one that a resource names; so which values have an effect is known
only as they are asked for. The rest is shown to whoever looks (`unasked`).
"""

from collections.abc import Iterator, Mapping
from typing import Any


class Runtime(Mapping[str, Any]):
    """The merged static layers, flattened."""

    def __init__(self, values: Mapping[str, Any] | None = None) -> None:
        self._values = dict(values or {})
        self._asked: set[str] = set()

    def __repr__(self) -> str:
        return f"<Runtime {len(self._values)} values>"

    def __getitem__(self, key: str) -> Any:
        value = self._values[key]
        self._asked.add(key)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    @property
    def unasked(self) -> list[str]:
        """Keys that nothing has asked for, until now."""
        return [key for key in self._values if key not in self._asked]
