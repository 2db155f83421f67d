"""Certificates are replaced every second while requests flow over mutual TLS, and nobody notices; nothing is kept."""

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.e2e.load_clients import Callers
from tests.e2e.load_tools import private_kib, wait_until
from tests.e2e.secure_world import SecureWorld

FAST_S = 5.0
SOAK_S = 30.0
GROWTH_LIMIT_KIB = 3000
"""Of all processes of a sidecar together, after the first rotations."""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[SecureWorld]:
    with SecureWorld(tmp_path) as made:
        yield made


def memory(world: SecureWorld) -> dict[str, int]:
    return {name: sum(private_kib(pid) for pid in proxy.pids()) for name, proxy in world.proxies.items()}


def rotate_under_load(world: SecureWorld, seconds: float, warm_up: int) -> None:
    world.start()
    before: dict[str, int] = {}
    with Callers(world.port, 8) as callers:
        wait_until(lambda: callers.answers > 50, 10)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline or not before:
            began = time.monotonic()
            new = world.rotate()
            wait_until(lambda new=new: world.served_serial() == new.serial, 15)
            if len(world.issued) == warm_up:
                before = memory(world)
            time.sleep(max(0.0, began + 1 - time.monotonic()))
        after = memory(world)
    assert callers.failures == []
    assert callers.answers > 100 * seconds
    assert world.proxies["callee"].stats("^server.days_until_first_cert_expiring$") == {
        "server.days_until_first_cert_expiring": 0
    }
    handshakes = world.proxies["callee"].stats(r"^listener\..*\.ssl\.handshake$")
    assert sum(handshakes.values()) > callers.answers // 80  # connections of 40 requests: new ones all the time
    for name in world.proxies:
        assert after[name] - before[name] < GROWTH_LIMIT_KIB, (name, before[name], after[name])
        assert world.proxies[name].stats("^server.worker_refusals$") == {"server.worker_refusals": 0}


def test_certificates_change_every_second_under_load(world: SecureWorld) -> None:
    rotate_under_load(world, FAST_S, warm_up=3)


@pytest.mark.soak
def test_certificates_change_every_second_for_half_a_minute(world: SecureWorld) -> None:
    rotate_under_load(world, SOAK_S, warm_up=5)


def test_an_expired_certificate_never_serves(world: SecureWorld) -> None:
    world.start()
    with Callers(world.port, 2) as callers:
        wait_until(lambda: callers.answers > 20, 10)
        good = world.issued[-1]
        world.rotate(end=timedelta(hours=-1))
        wait_until(lambda: len(world.secrets.nacks) >= 2, 15)  # either sidecar says no
        assert world.served_serial() == good.serial
        answers = callers.answers
        wait_until(lambda: callers.answers > answers + 200, 10)
    assert callers.failures == []
    assert all("it expired at" in nack.message for nack in world.secrets.nacks)
