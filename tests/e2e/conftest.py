"""What the end-to-end tests stand on: a network where the recorded ports are free."""

import functools
from collections.abc import Iterator

import pytest

from tests.support.namespace import is_possible, own_network

namespaces_possible = functools.cache(is_possible)


@pytest.fixture
def network() -> Iterator[bool]:
    """A network namespace of the test's own where that is possible. False: the machine's own network it is."""
    if not namespaces_possible():
        yield False
        return
    with own_network():
        yield True
