"""Calls are counted by status, flag, service and method, and clients cannot make more names than there is room for."""

from types import SimpleNamespace
from typing import Any

from mosn_xds.base.errors import ResponseFlag
from mosn_xds.base.stats import StatRegistry
from mosn_xds.data.codec.head import Version
from mosn_xds.data.codec.rpc import Kind, RpcRequest
from mosn_xds.data.proxy.rpc.calls import MOST_METHODS, CallStats
from mosn_xds.data.proxy.rpc.stats import RpcStats

BOLT, DUBBO = Version("bolt"), Version("dubbo")


class Counted:
    """A proxy's statistics, and calls that end."""

    def __init__(self) -> None:
        self.registry = StatRegistry()
        self.stats = self.registry.group(RpcStats, "generic_proxy.shop.")
        self.calls = CallStats(self.stats, self.registry)

    def end(
        self, service: bytes = b"shop.Cart", method: bytes = b"get", *, version: Version = BOLT, **facts: Any
    ) -> None:
        kind = facts.pop("kind", Kind.REQUEST)
        request = RpcRequest.of(version, b"", 1, service=service, method=method, kind=kind)
        facts = {"route": object(), "response_code": 200, "rpc_code": 0, "flags": 0, "duration_s": 0.1} | facts
        facts.setdefault("failed", facts["response_code"] >= 400)
        self.calls.ended(SimpleNamespace(rpc=request, **facts))  # type: ignore[arg-type]

    @property
    def values(self) -> dict[str, int]:
        """Counters of methods that are not 0, without what all of them begin with."""
        begin = "generic_proxy.shop.rpc."
        groups = [group for group in self.registry if group.prefix.startswith(begin)]
        pairs = {f"{g.prefix}{n}".removeprefix(begin): getattr(g, n) for g in groups for n in g.COUNTERS}
        return {name: value for name, value in pairs.items() if value}


def test_methods_are_told_apart_by_protocol_service_and_name() -> None:
    counted = Counted()
    for _ in range(2):
        counted.end()
    counted.end(method=b"put", response_code=500, rpc_code=3)
    counted.end(version=DUBBO, rpc_code=20)
    assert counted.values == {
        "bolt.shop.Cart.get.rq_total": 2,
        "bolt.shop.Cart.put.rq_total": 1,
        "bolt.shop.Cart.put.rq_error": 1,
        "dubbo.shop.Cart.get.rq_total": 1,
    }
    counted.stats.settle()
    assert counted.stats.extra == {"downstream_rq_code.0": 2, "downstream_rq_code.3": 1, "downstream_rq_code.20": 1}
    assert counted.stats.downstream_rq_error == 1


def test_a_call_without_an_answer_is_an_error_unless_nobody_waits_for_one() -> None:
    counted = Counted()
    counted.end(response_code=0, rpc_code=None, flags=int(ResponseFlag.DC))
    counted.end(response_code=0, rpc_code=None, kind=Kind.ONEWAY)
    assert counted.values == {"bolt.shop.Cart.get.rq_total": 2, "bolt.shop.Cart.get.rq_error": 1}
    assert counted.stats.downstream_rq_reset == 1
    counted.stats.settle()
    assert counted.stats.extra == {"downstream_rq_code.0": 2, "downstream_rq_flag.DC": 1}


def test_there_is_a_bound_of_names() -> None:
    counted = Counted()
    for number in range(MOST_METHODS + 7):
        counted.end(method=b"m%d" % number)
    counted.end(method=b"m0")
    assert len(counted.values) == MOST_METHODS + 1
    assert counted.values["bolt.other.other.rq_total"] == 7
    assert counted.values["bolt.shop.Cart.m0.rq_total"] == 2


def test_the_bound_outlives_the_proxy_that_a_change_of_its_chain_replaces() -> None:
    counted = Counted()
    for number in range(MOST_METHODS):
        counted.end(method=b"m%d" % number)
    counted.calls = CallStats(counted.stats, counted.registry)
    counted.end(method=b"new", version=Version("bolt"))
    counted.end(method=b"m0", version=Version("bolt"))
    assert counted.values["bolt.other.other.rq_total"] == 1
    assert counted.values["bolt.shop.Cart.m0.rq_total"] == 2


def test_names_that_no_route_takes_or_that_are_too_long_get_no_room() -> None:
    counted = Counted()
    counted.end(service=b"probe", route=None, response_code=404)
    counted.end(service=b"x" * 1000)
    assert counted.values == {"bolt.other.other.rq_total": 2, "bolt.other.other.rq_error": 1}


def test_a_name_cannot_break_a_page_of_statistics() -> None:
    counted = Counted()
    counted.end(service=b'a\nb: 1 "\xff', method=b"x.y")
    counted.end(service=b"", method=b"")
    assert sorted(counted.values) == ["bolt._._.rq_total", "bolt.a_b:_1___.x_y.rq_total"]


def test_there_is_a_bound_of_statuses() -> None:
    counted = Counted()
    for code in range(400):
        counted.end(rpc_code=code)
    counted.stats.settle()
    assert len(counted.stats.extra) == 301
    assert counted.stats.extra["downstream_rq_code.other"] == 100
