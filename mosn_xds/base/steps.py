"""Work in steps: what takes long is a generator that yields every moment, so that who runs it may do something else between."""

from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")

Steps = Generator[None, None, T]
"""Yields where it may be interrupted, for at most half a millisecond's work later; returns what it has made."""


def run_to_end(steps: Steps[T]) -> T:
    """All of it, now."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            made: T = end.value
            return made
