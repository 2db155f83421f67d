"""The inbound listener of the `churn` recording, where it is, where it moves to and back again: who gets in, who does not.

Envoy and ours follow the same stream; what both answered, sent to the application and logged is equal.
"""

import time
from collections.abc import Iterator

import pytest

from tests.differential.pair import case
from tests.e2e.conftest import namespaces_possible
from tests.e2e.loop_world import FRONT, LoopPair, LoopWorld
from tests.e2e.strangers import CLIENT, STRANGERS, WORKLOAD, over_mutual_tls
from tests.support.client import Connection
from tests.support.istio import Session
from tests.support.ports import PortAllocator

pytestmark = pytest.mark.root

MOVES = "STRICT-like ingress change: the inbound listener moves to another port"
STAGES = [("", "7080"), (MOVES, "7079"), ("and back", "7080")]
"""The last mark of the recording that was played, and the port of the listener then."""
ALPN = ("istio-http/1.1", "istio", "http/1.1")


@pytest.fixture(scope="module", params=["churn-sotw", "churn-delta"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopPair]:
    if not namespaces_possible():
        pytest.skip("needs network namespaces (root): the recorded addresses are served twice")
    made = LoopPair(tmp_path_factory.mktemp(request.param), PortAllocator(), Session.get(request.param))
    made.start()
    yield made
    made.stop()


def play_to(world: LoopWorld, mark: str, listener: str) -> None:
    """Go on with the recording until this step is made, and can be seen."""
    replay = world.mesh.replay
    while mark and replay.advance().mark != mark:
        pass
    deadline = time.monotonic() + 10
    while not listens(world, listener) or any(listens(world, port) for _, port in STAGES if port != listener):
        assert time.monotonic() < deadline, f"the listener is not at {listener} alone after {mark!r}"
        time.sleep(0.02)


def listens(world: LoopWorld, listener: str) -> bool:
    try:
        Connection(world.listener_port(listener), host=world.listener_host(listener)).close()
    except ConnectionRefusedError:
        return False
    return True


@case("inbound: plaintext, mutual TLS and strangers, wherever the listener is")
def test_who_gets_in_while_the_listener_moves(world: LoopWorld) -> None:
    for mark, listener in STAGES:
        play_to(world, mark, listener)
        assert world.get("/plain", listener=listener, host=FRONT).text == "front\n"
        world.await_log(listener)
        for alpn in (ALPN, ("istio",)):
            reply = over_mutual_tls(world, WORKLOAD, *alpn, listener=listener)
            assert reply is not None and reply.body == b"front\n", mark
            world.note(f"{alpn} at {listener}", f"{reply.status} {world.normal.headers(reply.headers)}")
        for who, stranger in STRANGERS.items():
            assert over_mutual_tls(world, stranger, *ALPN, listener=listener) is None, (mark, who)
    seen = world.seen("front", count=3 * len(STAGES))
    assert [one.path for one in seen] == ["/plain", "/in", "/in"] * len(STAGES)
    for one in seen:
        given = one.get("x-forwarded-client-cert") or ""
        assert given.startswith("URI=forged,") == given.endswith(f";URI={CLIENT}") == (one.path == "/in")
