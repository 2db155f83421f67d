"""The fixtures of the differential cases: one pair of proxies per module, on the module's `BED`."""

import contextlib
from collections.abc import Iterator

import pytest

from tests.differential.pair import Pair
from tests.support.ports import PortAllocator


@pytest.fixture(scope="session")
def port_allocator() -> PortAllocator:
    return PortAllocator()


@contextlib.contextmanager
def _running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, ports: PortAllocator
) -> Iterator[Pair]:
    made = Pair(request.module.BED, tmp_path_factory.mktemp(request.module.__name__.rpartition(".")[2]), ports)
    made.start()
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def pair_of_module(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, port_allocator: PortAllocator
) -> Iterator[Pair]:
    """Both proxies with their upstreams, started for the module and stopped behind it."""
    with _running(request, tmp_path_factory, port_allocator) as made:
        yield made


@pytest.fixture
def pair(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    port_allocator: PortAllocator,
    pair_of_module: Pair,
) -> Iterator[Pair]:
    """The module's. A case that is tried again gets proxies of its own: figures of the first try are not in them, nor
    whatever state it left behind."""
    if getattr(request.node, "execution_count", 1) == 1:  # as pytest-rerunfailures counts
        yield pair_of_module
    else:
        with _running(request, tmp_path_factory, port_allocator) as made:
            yield made
