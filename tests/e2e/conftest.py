"""What the end-to-end tests stand on: a network where the recorded ports are free."""

import functools
from collections.abc import Iterator

import pytest

from tests.support.namespace import Network, is_possible

namespaces_possible = functools.cache(is_possible)


@pytest.fixture
def network() -> Iterator[bool]:
    """The test is in a network of its own where that is possible. False: the machine's own network it is."""
    if not namespaces_possible():
        yield False
        return
    made = Network()
    with made.entered():
        yield True
    made.close()
