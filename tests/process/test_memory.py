"""The agent's collector: no long halts, and nothing lost for good."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from mosn_xds.process.memory import Collector


class Node:
    def __init__(self) -> None:
        self.me: Node | None = None


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()
    gc.collect()


def cycle() -> "weakref.ref[Node]":
    node = Node()
    node.me = node
    return weakref.ref(node)


def test_what_is_there_to_stay_is_looked_at_no_more(collector: Collector) -> None:
    full: list[object] = []

    def note(phase: str, info: dict[str, object]) -> None:
        if phase == "start" and info["generation"] == 2:
            full.append(len(gc.get_objects(generation=2)))

    gc.callbacks.append(note)
    try:
        before = gc.get_freeze_count()
        held = [[number] for number in range(400_000)]
        assert full == []
        assert gc.get_freeze_count() - before > 300_000
        assert len(held) == 400_000
    finally:
        gc.callbacks.remove(note)


def test_young_garbage_goes_as_ever(collector: Collector) -> None:
    lost = cycle()
    held = [[number] for number in range(30_000)]
    assert lost() is None
    assert held


def test_garbage_that_was_put_aside_goes_with_a_sweep(collector: Collector) -> None:
    node = Node()
    node.me = node
    lost = weakref.ref(node)
    gc.collect(1)
    gc.freeze()
    del node
    gc.collect()
    assert lost() is not None
    collector.sweep()
    assert lost() is None
