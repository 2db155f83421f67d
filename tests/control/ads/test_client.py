"""The client against a real gRPC server that is killed, restarted, ended and drained under it."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import any_pb2, wrappers_pb2

from mosn_xds.base.clock import SystemClock
from mosn_xds.control.ads.client import ACK, AdsClient, Verdict
from mosn_xds.control.ads.events import Response, Variant
from mosn_xds.control.ads.protocol import AdsProtocol
from mosn_xds.control.ads.resource_types import CDS, EDS, LDS, ResourceType
from mosn_xds.control.ads.transport import GrpcTarget, GrpcTransport
from mosn_xds.control.backoff import BackOff

Start = Callable[..., Any]
NODE = base_pb2.Node(id="sidecar~10.0.0.1~a.b~b.svc.cluster.local")


class Low:
    """Chance that always draws a twentieth: the first wait is 25 ms."""

    def random(self) -> float:
        return 0.05

    def getrandbits(self, k: int, /) -> int:
        return 0

    def randrange(self, stop: int, /) -> int:
        return 0


def push(kind: ResourceType, version: str, *names: str) -> bytes:
    message = discovery_pb2.DiscoveryResponse(version_info=version, nonce="n" + version, type_url=kind.url)
    for name in names:
        raw = wrappers_pb2.StringValue(value=name).SerializeToString()
        message.resources.append(any_pb2.Any(type_url=kind.url, value=raw))
    return message.SerializeToString()


def delta_push(kind: ResourceType, version: str, *names: str) -> bytes:
    message = discovery_pb2.DeltaDiscoveryResponse(nonce="n" + version, type_url=kind.url)
    for name in names:
        raw = wrappers_pb2.StringValue(value=name).SerializeToString()
        message.resources.add(name=name, version=version).resource.CopyFrom(any_pb2.Any(type_url=kind.url, value=raw))
    return message.SerializeToString()


class Owner:
    """Takes everything, refuses what is called bad, subscribes to the endpoints of each cluster."""

    def __init__(self, port: int, variant: Variant = Variant.SOTW) -> None:
        self.taken: list[str] = []
        self.client = AdsClient(
            "ads",
            AdsProtocol(variant, NODE),
            GrpcTransport(GrpcTarget(f"127.0.0.1:{port}")),
            self.judge,
            clock=SystemClock(),
            back_off=BackOff(Low()),
        )
        self.client.subscribe(CDS)

    async def judge(self, source: str, response: Response) -> Verdict:
        names = [resource.name for resource in response.resources]
        self.taken += names
        bad = frozenset(name for name in names if name.startswith("bad"))
        if response.type is CDS:
            self.client.change(EDS, names)
        return Verdict(f"refused {sorted(bad)}", bad) if bad else ACK


def run(owner: Owner, story: Callable[[], Awaitable[None]], limit_s: float = 60.0) -> None:
    async def main() -> None:
        with trio.fail_after(limit_s):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(owner.client.run)
                await story()
                nursery.cancel_scope.cancel()

    trio.run(main)


async def accept(pilot: Any) -> Any:
    return await trio.to_thread.run_sync(pilot.accept, abandon_on_cancel=True)


async def hear(end: Any) -> discovery_pb2.DiscoveryRequest:
    return discovery_pb2.DiscoveryRequest.FromString(await trio.to_thread.run_sync(end.hear, abandon_on_cancel=True))


async def hear_delta(end: Any) -> discovery_pb2.DeltaDiscoveryRequest:
    raw = await trio.to_thread.run_sync(end.hear, abandon_on_cancel=True)
    return discovery_pb2.DeltaDiscoveryRequest.FromString(raw)


def test_conversation_over_a_real_stream(start_pilot: Start) -> None:
    pilot = start_pilot()
    owner = Owner(pilot.port)

    async def story() -> None:
        end = await accept(pilot)
        first = await hear(end)
        assert (first.type_url, first.node, first.version_info) == (CDS.url, NODE, "")
        assert not owner.client.connected
        end.say(push(CDS, "1", "a", "bad"))
        asked, nack = await hear(end), await hear(end)
        assert (asked.type_url, list(asked.resource_names)) == (EDS.url, ["a", "bad"])
        assert (nack.type_url, nack.response_nonce, nack.version_info) == (CDS.url, "n1", "")
        assert (nack.error_detail.code, nack.error_detail.message) == (13, "refused ['bad']")
        assert owner.client.connected
        end.say(push(CDS, "2", "a"))
        ack = await hear(end)
        assert (ack.response_nonce, ack.version_info, ack.HasField("error_detail")) == ("n2", "2", False)
        owner.client.subscribe(LDS)  # not in answer to anything
        assert (await hear(end)).type_url == LDS.url

    run(owner, story)
    assert [(answer.version, answer.reason) for answer in owner.client.history] == [
        ("1", "refused ['bad']"),
        ("2", None),
    ]


def test_killed_pilot_finds_its_client_with_everything_it_had(start_pilot: Start) -> None:
    pilot = start_pilot()
    owner = Owner(pilot.port, Variant.DELTA)

    async def story() -> None:
        end = await accept(pilot)
        await hear_delta(end)
        end.say(delta_push(CDS, "1", "a", "bad"))
        await hear_delta(end)
        await hear_delta(end)
        end.say(delta_push(EDS, "2", "a"))
        await hear_delta(end)
        await trio.to_thread.run_sync(pilot.kill)
        for _ in range(1000):  # it tries, in vain
            if owner.client.streams >= 3:
                break
            await trio.sleep(0.01)
        assert not owner.client.connected
        assert "UNAVAILABLE" in owner.client.last_error
        again = await trio.to_thread.run_sync(start_pilot, f"127.0.0.1:{pilot.port}")
        end = await accept(again)
        clusters = await hear_delta(end)
        endpoints = await hear_delta(end)
        assert clusters.node == NODE
        assert not clusters.resource_names_subscribe
        assert dict(clusters.initial_resource_versions) == {"a": "1"}
        assert sorted(endpoints.resource_names_subscribe) == ["a", "bad"]
        assert dict(endpoints.initial_resource_versions) == {"a": "2"}
        end.say(delta_push(CDS, "3", "c"))
        assert list((await hear_delta(end)).resource_names_subscribe) == ["c"]

    run(owner, story)
    assert owner.taken == ["a", "bad", "a", "c"]


@pytest.mark.parametrize("how", ["half-close", "garbage"])
def test_a_stream_that_ends_or_talks_nonsense_is_replaced(start_pilot: Start, how: str) -> None:
    pilot = start_pilot()
    owner = Owner(pilot.port)

    async def story() -> None:
        end = await accept(pilot)
        await hear(end)
        end.say(push(CDS, "1", "a"))
        await hear(end)
        assert (await hear(end)).version_info == "1"
        if how == "garbage":
            end.say(b"\xff\xff this is not protobuf")
        else:
            end.end()
        end = await accept(pilot)
        first = await hear(end)
        assert (first.type_url, first.version_info, first.response_nonce, first.node) == (CDS.url, "1", "", NODE)

    run(owner, story)


def test_connection_age_limit_is_routine(start_pilot: Start) -> None:
    """istiod sends GOAWAY every half hour and ends the stream after a grace."""
    pilot = start_pilot(max_connection_age_ms=300, max_connection_age_grace_ms=200)
    owner = Owner(pilot.port)

    async def story() -> None:
        for round_ in ("1", "2"):
            end = await accept(pilot)
            assert (await hear(end)).version_info == ("" if round_ == "1" else "1")
            if round_ == "1":
                end.say(push(CDS, "1", "a"))

    run(owner, story)
    assert owner.taken == ["a"]


def test_a_bug_in_judging_costs_a_stream_not_the_agent(start_pilot: Start) -> None:
    pilot = start_pilot()
    owner = Owner(pilot.port)

    async def story() -> None:
        end = await accept(pilot)
        await hear(end)
        owner.taken = None  # type: ignore[assignment]
        end.say(push(CDS, "1", "a"))
        end = await accept(pilot)
        owner.taken = []
        assert (await hear(end)).version_info == ""
        end.say(push(CDS, "2", "a"))
        await hear(end)
        assert (await hear(end)).version_info == "2"

    run(owner, story)
    assert owner.client.defects == 1


def test_responses_are_judged_one_at_a_time_in_order(start_pilot: Start) -> None:
    pilot = start_pilot()
    owner = Owner(pilot.port)
    open_judgements = 0
    order = []

    async def slow(source: str, response: Response) -> Verdict:
        nonlocal open_judgements
        open_judgements += 1
        assert open_judgements == 1
        await trio.sleep(0.01)
        open_judgements -= 1
        order.append(response.version)
        return ACK

    owner.client = AdsClient(
        "ads",
        AdsProtocol(Variant.SOTW, NODE),
        GrpcTransport(GrpcTarget(f"127.0.0.1:{pilot.port}")),
        slow,
        clock=SystemClock(),
        back_off=BackOff(Low()),
    )
    owner.client.subscribe(CDS)

    async def story() -> None:
        end = await accept(pilot)
        await hear(end)
        for version in "12345":
            end.say(push(CDS, version, "a"))
        for version in "12345":
            assert (await hear(end)).version_info == version

    run(owner, story)
    assert order == list("12345")
