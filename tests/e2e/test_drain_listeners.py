"""`/drain_listeners` in all its forms, as Envoy does it: who is asked to go, and who is refused, and when."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.load_tools import answers, wait_until
from tests.support.client import Connection, request_bytes
from tests.support.ports import PortAllocator
from tests.support.proxies import Proxy, ProxyKind
from tests.support.served import listener

KINDS = [
    pytest.param(kind, marks=pytest.mark.skipif(kind.binary() is None, reason="not installed"), id=kind.value)
    for kind in ProxyKind
]


class Pair:
    """A proxy with an inbound and an outbound listener, which drains for a second."""

    def __init__(self, kind: ProxyKind, folder: Path) -> None:
        ports = PortAllocator()
        self.inbound, self.outbound, admin = ports.take(), ports.take(), ports.take()
        self.proxy = Proxy.start(
            kind,
            {
                "node": {"id": "me", "cluster": "here"},
                "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin}}},
                "static_resources": {
                    "listeners": [
                        _static("in", self.inbound, "INBOUND"),
                        _static("out", self.outbound, "OUTBOUND"),
                    ]
                },
            },
            folder,
            options=("--drain-strategy", "immediate"),
        )

    def is_asked_to_go(self, port: int) -> bool:
        with Connection(port) as client:
            client.send(request_bytes("GET", "/", [("host", "test")]))
            return client.read_response().get("connection") == "close"

    def stopped(self) -> int:
        return self.proxy.stats("listener_stopped")["listener_manager.listener_stopped"]


def _static(name: str, port: int, direction: str) -> dict[str, Any]:
    found = listener(name, port, traffic_direction=direction)
    del found["@type"]
    return found


@pytest.fixture(params=KINDS)
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pair]:
    made = Pair(request.param, tmp_path)
    yield made
    made.proxy.kill()


def drain(pair: Pair, query: str) -> None:
    assert pair.proxy.admin(f"/drain_listeners{query}", method="POST") == (200, "OK\n")


def test_at_once(pair: Pair) -> None:
    drain(pair, "")
    wait_until(lambda: not answers(pair.inbound) and not answers(pair.outbound), 5)
    assert pair.proxy.admin("/ready")[0] == 200
    wait_until(lambda: pair.stopped() == 2, 5)


def test_inbound_at_once(pair: Pair) -> None:
    drain(pair, "?inboundonly")
    wait_until(lambda: not answers(pair.inbound), 5)
    assert not pair.is_asked_to_go(pair.outbound)
    wait_until(lambda: pair.stopped() == 1, 5)


def test_inbound_gracefully(pair: Pair) -> None:
    drain(pair, "?inboundonly&graceful")
    wait_until(lambda: pair.is_asked_to_go(pair.inbound), 0.8)
    assert not pair.is_asked_to_go(pair.outbound)
    wait_until(lambda: not answers(pair.inbound), 5)
    assert not pair.is_asked_to_go(pair.outbound)
    wait_until(lambda: pair.stopped() == 1, 5)


@pytest.mark.parametrize("query", ["?graceful&skip_exit", "?skip_exit"])
def test_without_an_end(pair: Pair, query: str) -> None:
    drain(pair, query)
    wait_until(lambda: pair.is_asked_to_go(pair.inbound) and pair.is_asked_to_go(pair.outbound), 5)
    with pytest.raises(TimeoutError):
        wait_until(lambda: not answers(pair.inbound), 1.6, step_s=0.1)
    assert pair.stopped() == 0
