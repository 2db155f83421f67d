"""How pushes are counted (`cluster_manager.cds.*`, `listener_manager.lds.*`), by a real Envoy and by us.

A push with one bad resource in it counts as rejected and not as a success, though what is good in it is in use.
"""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Connection, request_bytes
from tests.support.ports import PortAllocator
from tests.support.proxies import ProxyKind
from tests.support.served import Served, listener

KINDS = [kind for kind in ProxyKind if kind.binary() is not None]
CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"


def cluster(name: str, **fields: Any) -> dict[str, Any]:
    return {"@type": CLUSTER, "name": name, "type": "STATIC", "connect_timeout": "1s", **fields}


BAD_CLUSTER = cluster(
    "bad", lb_policy="RING_HASH", ring_hash_lb_config={"minimum_ring_size": 4096, "maximum_ring_size": 16}
)


def counts(served: Served) -> dict[str, int]:
    found = served.proxy.stats(
        r"^(cluster_manager.cds|listener_manager.lds).update_(attempt|success|rejected|failure)$"
    )
    return {re.sub(r"^\w+\.", "", name): count for name, count in found.items()}


def answers(port: int) -> bool:
    try:
        with Connection(port) as client:
            client.send(request_bytes("GET", "/", [("host", "test")]))
            return client.read_response().status == 200
    except OSError:
        return False


def counted(kind: ProxyKind, folder: Path, *, delta: bool) -> list[dict[str, int]]:
    """The counts after a push that is good, one that is partly bad, the same mended, and a wholly bad one."""
    ports = PortAllocator()
    first, second = ports.take(), ports.take()
    bad = listener("bad", second, address={"socket_address": {"address": "not-an-ip", "port_value": second}})
    steps = []
    with Served(folder, cluster("a"), listener("one", first), kind=kind, delta=delta) as served:
        served.wait(lambda: answers(first) and all(counts(served)[f"{kind}.update_success"] for kind in ("cds", "lds")))
        steps.append(counts(served))
        served.push(cluster("a"), cluster("b"), BAD_CLUSTER, listener("one", first), listener("two", second), bad)
        served.wait(
            lambda: answers(second) and all(counts(served)[f"{kind}.update_rejected"] for kind in ("cds", "lds"))
        )
        steps.append(counts(served))
        served.push(cluster("a"), cluster("b"), listener("one", first), listener("two", second))
        served.wait(lambda: all(counts(served)[f"{kind}.update_success"] == 2 for kind in ("cds", "lds")))
        steps.append(counts(served))
        served.push(cluster("a"), cluster("b"), BAD_CLUSTER, listener("one", first), listener("two", second))
        served.wait(lambda: counts(served)["cds.update_rejected"] == 2)
        steps.append(counts(served))
    return steps


@pytest.mark.parametrize("delta", [True, False], ids=["delta", "state of the world"])
def test_pushes_are_counted_as_envoy_does(tmp_path: Path, delta: bool) -> None:
    ours, *others = [counted(kind, tmp_path / kind.value, delta=delta) for kind in reversed(KINDS)]
    good, partly, mended, again = ours
    assert partly["lds.update_success"] == good["lds.update_success"]
    assert (partly["lds.update_rejected"], partly["cds.update_rejected"]) == (1, 1)
    assert mended["cds.update_success"] == good["cds.update_success"] + 1
    assert again["cds.update_success"] == mended["cds.update_success"]
    assert others in ([], [ours])
