"""The fixtures of the differential cases: one pair of proxies per module, on the module's `BED`."""

from collections.abc import Iterator

import pytest

from tests.differential.pair import Pair
from tests.support.ports import PortAllocator


@pytest.fixture(scope="session")
def port_allocator() -> PortAllocator:
    return PortAllocator()


@pytest.fixture(scope="module")
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, port_allocator: PortAllocator
) -> Iterator[Pair]:
    """Both proxies with their upstreams, started for the module and stopped behind it."""
    folder = tmp_path_factory.mktemp(request.module.__name__.rpartition(".")[2])
    made = Pair(request.module.BED, folder, port_allocator)
    made.start()
    yield made
    made.stop()
