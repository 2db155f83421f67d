"""Pilots that end with their test."""

import time
from collections.abc import Callable, Iterator

import grpc
import pytest

from tests.support.fake_pilot import FakePilot
from tests.support.ports import PortAllocator


@pytest.fixture
def start_pilot() -> Iterator[Callable[..., FakePilot]]:
    pilots: list[FakePilot] = []

    def start(
        address: str = "127.0.0.1:0", credentials: grpc.ServerCredentials | None = None, **options: int
    ) -> FakePilot:
        deadline = time.monotonic() + 5
        while True:
            try:
                pilots.append(FakePilot(address, credentials, **options))
                return pilots[-1]
            except RuntimeError:  # the port of a server that was just killed
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    yield start
    for pilot in pilots:
        pilot.kill()


@pytest.fixture
def closed_port() -> int:
    """A port where nobody listens."""
    return PortAllocator().take()
