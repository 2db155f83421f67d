"""Warming and make-before-break, driven by responses on a clock that jumps over every wait.

Resources are written as text: a cluster ``static``, ``eds=e1 timeout=3`` or ``dns=a.test``; a listener ``rds=r1`` and
``cluster=c`` (where its routes lead), ``virtual``, ``port=80``, ``rpc=r1`` (an RPC proxy's route table); a route table
``cluster=c``. Other words only make bytes differ; ``bad`` is refused.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
from envoy.config.listener.v3 import listener_pb2

from mosn_xds.base.errors import ConfigError
from mosn_xds.base.stats import StatRegistry
from mosn_xds.control.ads.events import Resource, Response
from mosn_xds.control.ads.resource_types import CDS, EDS, GENERIC_RDS, LDS, RDS, ResourceType
from mosn_xds.control.assemble import HOLD_S, LINGER_S, Assembler, Initialization, Root
from mosn_xds.control.intake import Intake
from mosn_xds.control.resolve import Address as Resolved
from mosn_xds.control.resolve import ResolutionError
from mosn_xds.control.slots import origin
from mosn_xds.control.stats import ClusterManagerStats, ListenerManagerStats, SubscriptionStats
from mosn_xds.control.store import ResourceKey, ResourceStore, Status
from mosn_xds.control.translate.model import (
    ADS,
    DnsDiscovery,
    DnsFamily,
    DnsHost,
    DnsLocality,
    Need,
    Translated,
    make_locality,
)
from mosn_xds.spec.cluster import Cluster, Discovery, Endpoint, Endpoints
from mosn_xds.spec.common import Address
from mosn_xds.spec.listener import FilterChain, Listener
from mosn_xds.spec.route import RouteTable
from mosn_xds.spec.rpc import RpcRouteTable
from mosn_xds.spec.snapshot import SPEC_TYPES, Kind, Snapshot


class JumpClock:
    """trio's jumping clock as ours."""

    def __init__(self) -> None:
        self.trio = trio.testing.MockClock(autojump_threshold=0)

    def monotonic(self) -> float:
        return self.trio.current_time()

    def wall(self) -> float:
        return 1_700_000_000 + self.trio.current_time()


class Half:
    def random(self) -> float:
        return 0.5

    def getrandbits(self, k: int, /) -> int:
        return 0

    def randrange(self, stop: int, /) -> int:
        return 0


def translate(type_url: str, name: str, raw: bytes) -> Translated:
    text = raw.decode("latin-1")
    if "bad" in text:
        raise ConfigError("it is bad")
    words = [word.partition("=") for word in text.split()]
    said = {key: value for key, _, value in words}
    timeout_s = float(said.get("timeout", 15.0))
    named = tuple(value for key, _, value in words if key == "cluster")
    metadata = raw  # whatever else is written makes the Spec another one
    if type_url == CDS.url:
        if "eds" in said:
            spec = Cluster(name, Discovery.EDS, eds_name=said["eds"], metadata=metadata)
            return Translated(name, spec, needs=(Need(EDS.url, said["eds"], initial_fetch_timeout_s=timeout_s),))
        if "dns" in said:
            hosts = tuple(
                DnsHost(host, 80, Endpoint(Address(""), hostname=host)) for key, _, host in words if key == "dns"
            )
            dns = DnsDiscovery(
                (DnsLocality("", "", "", 0, None, hosts),), logical="logical" in said, family=DnsFamily.V4_ONLY
            )
            return Translated(name, Cluster(name, Discovery.STRICT_DNS, metadata=metadata), dns=dns)
        extra = Endpoints(name, (locality("10.0.0.1"),))
        return Translated(name, Cluster(name, Discovery.STATIC, metadata=metadata), extra=(extra,))
    if type_url == EDS.url:
        return Translated(name, Endpoints(name, (locality(text),)))
    if type_url == RDS.url:
        return Translated(name, RouteTable(name, ()), clusters=named)
    if type_url == GENERIC_RDS.url:
        return Translated(name, RpcRouteTable(name), clusters=named)
    tables = tuple(value for key, _, value in words if key == "rds")
    listener = Listener(
        name,
        (Address(said.get("host", "127.0.0.1"), int(said.get("port", 80))),),
        chains=(FilterChain(raw, text, None, ()),),
        bind_to_port="virtual" not in said,
        route_tables=tables,
    )
    needs = tuple(Need(RDS.url, table, initial_fetch_timeout_s=timeout_s) for table in tables)
    needs += tuple(
        Need(GENERIC_RDS.url, value, initial_fetch_timeout_s=timeout_s) for key, _, value in words if key == "rpc"
    )
    return Translated(name, listener, needs=needs, clusters=named)


def locality(*hosts: str) -> Any:
    return make_locality("", "", "", 0, None, [Endpoint(Address(host, 80)) for host in hosts])


class Mesh:
    """Store, intake and assembler, with a Pilot that pushes and a DNS that answers from a table."""

    def __init__(self, *, static: Sequence[Translated] = (), fetch_timeout_s: float = 0.0, pilot: bool = True) -> None:
        self.clock = clock = JumpClock()
        self.stats = StatRegistry()
        self.dns: dict[str, Any] = {}
        self.published: list[Snapshot] = []
        self.asked: list[str] = []
        self.store: ResourceStore[Translated] = ResourceStore(clock)
        self.intake = Intake(self.store, translate, clock, self.stats, changed=self.note)
        self.intake.attach("ads", self)
        roots = (Root(CDS, ADS, fetch_timeout_s), Root(LDS, ADS, fetch_timeout_s)) if pilot else ()
        self.assembler = Assembler(
            self.store,
            self.intake,
            self.published.append,
            self,
            clock,
            Half(),
            self.stats,
            static=static,
            roots=roots,
        )

    def note(self, keys: Iterable[ResourceKey]) -> None:
        self.assembler.changed()

    # what Intake asks of a stream
    def subscribe(self, kind: ResourceType) -> None: ...
    def ask_again(self, kind: ResourceType) -> None: ...
    def change(self, kind: ResourceType, add: Iterable[str], remove: Iterable[str]) -> None:
        self.asked += [f"{kind.short} +{name}" for name in add] + [f"{kind.short} -{name}" for name in remove]

    # what the assembler asks of DNS
    async def resolve(self, name: str, family: DnsFamily) -> Sequence[Resolved]:
        answer = self.dns.get(name)
        if answer is None:
            await trio.sleep_forever()
        if isinstance(answer, ResolutionError):
            raise answer
        return [Resolved(host) for host in answer]

    async def push(
        self, kind: ResourceType, resources: dict[str, str | bytes], *removed: str, complete: bool = False
    ) -> None:
        found = tuple(
            Resource(name, "v", text if isinstance(text, bytes) else text.encode(), kind.url)
            for name, text in resources.items()
        )
        await self.intake.judge("ads", Response(kind, "v", "n", found, removed, complete))

    def names(self, kind: Kind) -> list[str]:
        return sorted(name for item_kind, name in self.assembler.snapshot.items if item_kind is kind)

    def spec(self, kind: Kind, name: str) -> Any:
        return msgspec.msgpack.decode(self.assembler.snapshot.items[kind, name].raw, type=SPEC_TYPES[kind])

    def hosts(self, name: str) -> list[str]:
        spec = self.spec(Kind.ENDPOINTS, name)
        raws = [msgspec.msgpack.decode(place.endpoints, type=tuple[Endpoint, ...]) for place in spec.localities]
        return [endpoint.address.host for endpoints in raws for endpoint in endpoints]

    def serves(self, name: str) -> str:
        """The text that a listener was made from."""
        return str(self.spec(Kind.LISTENER, name).chains[0].name)

    def run(self, story: Callable[[], Awaitable[None]]) -> None:
        async def main() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.assembler.run)
                await settle()
                await story()
                nursery.cancel_scope.cancel()

        trio.run(main, clock=self.clock.trio)


async def settle() -> None:
    """Long enough for a burst to end, too short for anything else."""
    await trio.sleep(0.05)


def test_static_resources_serve_at_once() -> None:
    static = [translate(CDS.url, "c", b"static"), translate(LDS.url, "l", b"cluster=c")]
    mesh = Mesh(static=static, pilot=False)

    async def story() -> None:
        assert (mesh.names(Kind.CLUSTER), mesh.names(Kind.LISTENER)) == (["c"], ["l"])
        assert mesh.hosts("c") == ["10.0.0.1"]
        assert mesh.assembler.initialization is Initialization.LIVE
        assert mesh.assembler.live.is_set()

    mesh.run(story)


def test_what_is_said_to_serve_has_been_published(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mosn_xds.control.pace.SLICE_S", 0.0)  # others have their turn wherever they may
    mesh = Mesh()
    heard: dict[str, set[str]] = {}

    async def hear(what: str, event: trio.Event) -> None:
        await event.wait()
        heard[what] = {name for _, name in mesh.published[-1].items} if mesh.published else set()

    async def story() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hear, "clusters", mesh.assembler.clusters_ready)
            nursery.start_soon(hear, "all", mesh.assembler.live)
            await mesh.push(CDS, {name: "static" for name in "abcd"})
            await settle()
            await mesh.push(LDS, {"l": "cluster=a"})
            await settle()
        assert heard == {"clusters": set("abcd"), "all": set("abcdl")}

    mesh.run(story)


def test_a_cluster_waits_for_its_endpoints() -> None:
    mesh = Mesh()

    async def story() -> None:
        await mesh.push(CDS, {"c": "eds=e", "d": "static"})
        await settle()
        assert mesh.names(Kind.CLUSTER) == ["d"]
        assert mesh.assembler.clusters["c"].waits_for == ("cluster load assignment e",)
        await mesh.push(EDS, {"e": "10.0.0.5"})
        await settle()
        assert mesh.names(Kind.CLUSTER) == ["c", "d"]
        assert mesh.hosts("e") == ["10.0.0.5"]

    mesh.run(story)


def test_a_changed_cluster_keeps_serving_while_its_successor_warms() -> None:
    mesh = Mesh()

    async def story() -> None:
        await mesh.push(CDS, {"c": "eds=e"})
        await mesh.push(EDS, {"e": "10.0.0.5"})
        await settle()
        await mesh.push(CDS, {"c": "eds=f"})
        await trio.sleep(14)
        assert mesh.spec(Kind.CLUSTER, "c").eds_name == "e"
        assert mesh.asked == ["EDS +e", "EDS +f"]
        await mesh.push(EDS, {"e": "10.0.0.6"})  # the old one still hears
        await settle()
        assert mesh.hosts("e") == ["10.0.0.6"]
        await mesh.push(EDS, {"f": "10.0.0.7"})
        await settle()
        assert mesh.spec(Kind.CLUSTER, "c").eds_name == "f"
        assert mesh.names(Kind.ENDPOINTS) == ["f"]
        assert mesh.asked == ["EDS +e", "EDS +f", "EDS -e"]

    mesh.run(story)


def test_a_changed_cluster_with_known_endpoints_need_not_wait() -> None:
    mesh = Mesh()

    async def story() -> None:
        await mesh.push(CDS, {"c": "eds=e"})
        await mesh.push(EDS, {"e": "10.0.0.5"})
        await settle()
        await mesh.push(CDS, {"c": "eds=e changed"})
        await settle()
        assert mesh.spec(Kind.CLUSTER, "c").metadata == b"eds=e changed"
        assert mesh.asked == ["EDS +e"]

    mesh.run(story)


def test_the_fetch_timeout_lets_a_cluster_serve_without_endpoints() -> None:
    mesh = Mesh()

    async def story() -> None:
        await mesh.push(CDS, {"c": "eds=e timeout=3", "d": "eds=f timeout=0"})
        await trio.sleep(2.9)
        assert mesh.names(Kind.CLUSTER) == []
        await trio.sleep(0.2)
        assert mesh.names(Kind.CLUSTER) == ["c"]
        assert mesh.spec(Kind.ENDPOINTS, "e").localities == ()
        record = mesh.store.get(ResourceKey("ads", EDS.url, "e"))
        assert record is not None
        assert record.status is Status.TIMED_OUT
        await trio.sleep(80_000)
        assert mesh.names(Kind.CLUSTER) == ["c"]

    mesh.run(story)


def test_refused_and_absent_endpoints_end_the_wait() -> None:
    mesh = Mesh()

    async def story() -> None:
        await mesh.push(CDS, {"c": "eds=e timeout=0", "d": "eds=f timeout=0"})
        await mesh.push(EDS, {"e": "bad"}, "f")
        await settle()
        assert mesh.names(Kind.CLUSTER) == ["c", "d"]

    mesh.run(story)


def test_a_listener_waits_for_its_route_tables() -> None:
    mesh = Mesh()

    async def story() -> None:
        await mesh.push(LDS, {"l": "rds=r rds=s", "m": "no tables"})
        await mesh.push(RDS, {"r": "1"})
        await settle()
        assert mesh.names(Kind.LISTENER) == ["m"]
        await mesh.push(RDS, {"s": "1"})
        await settle()
        assert mesh.names(Kind.LISTENER) == ["l", "m"]
        assert mesh.names(Kind.ROUTE_TABLE) == ["r", "s"]

    mesh.run(story)


def test_route_tables_of_rpc_proxies_have_names_of_their_own() -> None:
    mesh = Mesh()

    async def story() -> None:
        await mesh.push(CDS, {"c": "eds=e"})
        await mesh.push(LDS, {"l": "rds=r rpc=r"})
        await mesh.push(RDS, {"r": "1"})
        await settle()
        assert mesh.names(Kind.LISTENER) == []
        await mesh.push(GENERIC_RDS, {"r": "cluster=c"})
        await settle()
        assert mesh.assembler.listeners["l"].waits_for == ("route configuration r",)
        await mesh.push(EDS, {"e": "10.0.0.1"})
        await settle()
        assert mesh.names(Kind.LISTENER) == ["l"]
        assert (mesh.names(Kind.ROUTE_TABLE), mesh.names(Kind.RPC_ROUTE_TABLE)) == (["r"], ["r"])
        assert mesh.spec(Kind.RPC_ROUTE_TABLE, "r") == RpcRouteTable("r")
        came_as = origin(mesh.assembler.tables, Kind.RPC_ROUTE_TABLE, "r")
        assert came_as is not None
        assert came_as.type_url == GENERIC_RDS.url
        assert origin(mesh.assembler.tables, Kind.RPC_ROUTE_TABLE, "s") is None
        await mesh.push(GENERIC_RDS, {"r": "bad"})
        await mesh.push(LDS, {"l": "rds=r"})
        await settle()
        assert mesh.names(Kind.RPC_ROUTE_TABLE) == []
        assert "generic RDS -r" in mesh.asked
        assert "RDS -r" not in mesh.asked

    mesh.run(story)


def test_a_changed_listener_keeps_serving_with_its_route_table_while_its_successor_warms() -> None:
    mesh = Mesh()

    async def story() -> None:
        await mesh.push(LDS, {"l": "rds=r"})
        await mesh.push(RDS, {"r": "1"})
        await settle()
        await mesh.push(LDS, {"l": "rds=s timeout=0"})
        await settle()
        assert mesh.serves("l") == "rds=r"
        assert "r" in mesh.names(Kind.ROUTE_TABLE)
        assert mesh.asked == ["RDS +r", "RDS +s"]
        await mesh.push(RDS, {"s": "1"})
        await settle()
        assert mesh.serves("l") == "rds=s timeout=0"
        assert mesh.names(Kind.ROUTE_TABLE) == ["s"]
        assert mesh.asked == ["RDS +r", "RDS +s", "RDS -r"]

    mesh.run(story)


def test_a_refused_route_table_does_not_hold_its_listener_up() -> None:
    mesh = Mesh()

    async def story() -> None:
        await mesh.push(LDS, {"l": "rds=r rds=s timeout=0"})
        await mesh.push(RDS, {"r": "bad", "s": "1"})
        await settle()
        assert mesh.names(Kind.LISTENER) == ["l"]
        assert mesh.names(Kind.ROUTE_TABLE) == ["s"]

    mesh.run(story)


def test_a_route_update_that_names_a_warming_cluster_is_held_back_for_a_while() -> None:
    mesh = Mesh()

    async def story() -> None:
        await mesh.push(CDS, {"a": "static"})
        await mesh.push(LDS, {"l": "rds=r"})
        await mesh.push(RDS, {"r": "cluster=a"})
        await settle()
        before = mesh.assembler.snapshot.items[Kind.ROUTE_TABLE, "r"]
        await mesh.push(CDS, {"b": "eds=e timeout=0"})
        await mesh.push(RDS, {"r": "cluster=b cluster=never-sent"})
        await trio.sleep(HOLD_S - 0.2)
        slot = mesh.assembler.tables[ResourceKey("ads", RDS.url, "r")]
        assert slot.waits_for == ("cluster b",)
        assert mesh.assembler.snapshot.items[Kind.ROUTE_TABLE, "r"] is before
        await trio.sleep(0.4)
        assert slot.active is not None
        assert slot.active.product.clusters == ("b", "never-sent")

    mesh.run(story)


def test_a_route_update_goes_out_with_the_cluster_that_it_waits_for() -> None:
    mesh = Mesh()

    async def story() -> None:
        await mesh.push(LDS, {"l": "rds=r timeout=0"})
        await mesh.push(CDS, {"b": "eds=e timeout=0"})
        await mesh.push(RDS, {"r": "cluster=b"})
        await settle()
        assert mesh.names(Kind.LISTENER) == []
        count = len(mesh.published)
        await mesh.push(EDS, {"e": "10.0.0.5"})
        await settle()
        assert len(mesh.published) == count + 1
        assert (mesh.names(Kind.CLUSTER), mesh.names(Kind.LISTENER)) == (["b"], ["l"])

    mesh.run(story)


def test_route_updates_that_keep_coming_do_not_prolong_the_hold() -> None:
    mesh = Mesh()

    async def story() -> None:
        await mesh.push(CDS, {"b": "eds=e timeout=0"})
        await mesh.push(LDS, {"l": "rds=r timeout=0"})
        for number in range(6):
            await mesh.push(RDS, {"r": f"cluster=b {number}"})
            await trio.sleep(1)
        assert mesh.names(Kind.ROUTE_TABLE) == ["r"]

    mesh.run(story)


def test_a_removed_cluster_lingers_while_something_leads_to_it() -> None:
    mesh = Mesh()

    async def story() -> None:
        await mesh.push(CDS, {"a": "eds=e", "b": "static", "c": "static"})
        await mesh.push(EDS, {"e": "10.0.0.5"})
        await mesh.push(LDS, {"l": "rds=r cluster=b"})
        await mesh.push(RDS, {"r": "cluster=a"})
        await settle()
        await mesh.push(CDS, {}, "a", "b", "c")
        await settle()
        assert mesh.names(Kind.CLUSTER) == ["a", "b"]
        assert mesh.hosts("e") == ["10.0.0.5"]
        await mesh.push(RDS, {"r": "cluster=z"})
        await settle()
        assert mesh.names(Kind.CLUSTER) == ["b"]
        assert mesh.asked[-1] == "EDS -e"
        await trio.sleep(LINGER_S)
        assert mesh.names(Kind.CLUSTER) == []

    mesh.run(story)


def test_a_removed_listener_goes_at_once_with_its_route_table() -> None:
    mesh = Mesh()

    async def story() -> None:
        await mesh.push(LDS, {"l": "rds=r", "m": "x"}, complete=True)
        await mesh.push(RDS, {"r": "1"})
        await settle()
        await mesh.push(LDS, {"m": "x"}, complete=True)
        await settle()
        assert (mesh.names(Kind.LISTENER), mesh.names(Kind.ROUTE_TABLE)) == (["m"], [])

    mesh.run(story)


def test_a_burst_is_published_once() -> None:
    mesh = Mesh()

    async def story() -> None:
        count = len(mesh.published)
        await mesh.push(CDS, {"a": "eds=e"})
        await trio.sleep(0.005)
        await mesh.push(EDS, {"e": "10.0.0.5"})
        await trio.sleep(0.005)
        await mesh.push(LDS, {"l": "rds=r"})
        await trio.sleep(0.005)
        await mesh.push(RDS, {"r": "cluster=a"})
        await settle()
        assert len(mesh.published) == count + 1

    mesh.run(story)


def test_pushes_without_a_pause_are_published_all_the_same() -> None:
    mesh = Mesh()

    async def story() -> None:
        count = len(mesh.published)
        for number in range(100):
            await mesh.push(CDS, {"a": f"static {number}"})
            await trio.sleep(0.005)
        assert len(mesh.published) - count >= 4

    mesh.run(story)


def test_what_changes_nothing_is_not_published() -> None:
    mesh = Mesh()

    async def story() -> None:
        await mesh.push(CDS, {"a": "static"})
        await settle()
        snapshot = mesh.assembler.snapshot
        await mesh.push(CDS, {"a": "static", "b": "bad"})
        await settle()
        assert mesh.assembler.snapshot is snapshot

    mesh.run(story)


def test_static_resources_are_not_changed_by_pilot() -> None:
    mesh = Mesh(static=[translate(CDS.url, "c", b"static")])

    async def story() -> None:
        await mesh.push(CDS, {"c": "static other"}, complete=True)
        await settle()
        assert mesh.spec(Kind.CLUSTER, "c").metadata == b"static"
        await mesh.push(CDS, {}, complete=True)
        await settle()
        assert mesh.names(Kind.CLUSTER) == ["c"]

    mesh.run(story)


# --- listeners that cannot serve ------------------------------------------------------------------------------------


def test_a_virtual_listener_owns_its_address_while_it_warms_for_the_first_time() -> None:
    mesh = Mesh()

    async def story() -> None:
        await mesh.push(LDS, {"l": "virtual rds=r timeout=0", "m": "rds=r timeout=0"})
        await settle()
        assert mesh.names(Kind.LISTENER) == ["l"]  # the bound one is simply not there yet
        stand_in = mesh.spec(Kind.LISTENER, "l")
        assert stand_in.closed_reason == "warming, waits for route configuration r"
        assert (stand_in.chains, stand_in.addresses) == ((), (Address("127.0.0.1", 80),))
        await mesh.push(RDS, {"r": "1"})
        await settle()
        assert mesh.spec(Kind.LISTENER, "l").closed_reason is None
        assert mesh.names(Kind.LISTENER) == ["l", "m"]

    mesh.run(story)


def refused_listener(*, host: str = "10.1.1.1", bind: bool, extra: str = "") -> bytes:
    """A message that `translate` refuses, for its name is ``bad``."""
    listener = listener_pb2.Listener(name="bad")
    listener.address.socket_address.address = host
    listener.address.socket_address.port_value = 80
    listener.bind_to_port.value = bind
    if extra:
        listener.additional_addresses.add().address.socket_address.address = extra
    return listener.SerializeToString()


def test_a_refused_virtual_listener_owns_its_address() -> None:
    mesh = Mesh()

    async def story() -> None:
        await mesh.push(LDS, {"bad": refused_listener(bind=False, extra="not-an-ip")})
        await settle()
        stand_in = mesh.spec(Kind.LISTENER, "bad")
        assert stand_in.closed_reason == "refused: it is bad"
        assert stand_in.addresses == (Address("10.1.1.1", 80),)
        assert not stand_in.bind_to_port
        await mesh.push(LDS, {}, "bad")
        await settle()
        assert mesh.names(Kind.LISTENER) == []

    mesh.run(story)


def test_a_refused_bound_listener_owns_its_address_only_where_a_wildcard_would_take_its_connections() -> None:
    mesh = Mesh()

    async def story() -> None:
        await mesh.push(LDS, {"bad": refused_listener(bind=True)})
        await settle()
        assert mesh.names(Kind.LISTENER) == []
        await mesh.push(LDS, {"w": "host=0.0.0.0 port=80"})
        await settle()
        assert mesh.names(Kind.LISTENER) == ["bad", "w"]

    mesh.run(story)


def test_a_refused_update_leaves_the_listener_as_it_was() -> None:
    mesh = Mesh()

    async def story() -> None:
        await mesh.push(LDS, {"l": "virtual good"})
        await settle()
        await mesh.push(LDS, {"l": "virtual bad"})
        await settle()
        assert mesh.serves("l") == "virtual good"

    mesh.run(story)


# --- DNS ------------------------------------------------------------------------------------------------------------


def test_a_dns_cluster_waits_for_an_answer_to_each_name() -> None:
    mesh = Mesh()

    async def story() -> None:
        mesh.dns["a.test"] = ["10.0.0.2", "10.0.0.1"]
        await mesh.push(CDS, {"c": "dns=a.test dns=b.test"})
        await settle()
        assert mesh.assembler.clusters["c"].waits_for == ("DNS of b.test",)

    mesh.run(story)
    mesh = Mesh()

    async def other() -> None:
        mesh.dns |= {"a.test": ["10.0.0.2", "10.0.0.1"], "b.test": ResolutionError("b.test: timeout")}
        await mesh.push(CDS, {"c": "dns=a.test dns=b.test"})
        await settle()
        assert mesh.hosts("c") == ["10.0.0.1", "10.0.0.2"]
        mesh.dns |= {"a.test": ["10.0.0.1", "10.0.0.3"], "b.test": ["10.0.0.3", "10.0.0.4"]}
        await trio.sleep(5.1)
        assert mesh.hosts("c") == ["10.0.0.1", "10.0.0.3", "10.0.0.4"]
        mesh.dns["a.test"] = ResolutionError("a.test: timeout")
        await trio.sleep(5.1)
        assert mesh.hosts("c") == ["10.0.0.1", "10.0.0.3", "10.0.0.4"]
        mesh.dns["a.test"] = []
        await trio.sleep(5.1)
        assert mesh.hosts("c") == ["10.0.0.3", "10.0.0.4"]

    mesh.run(other)


def test_answers_that_only_rotate_change_nothing() -> None:
    mesh = Mesh()

    async def story() -> None:
        mesh.dns["a.test"] = ["10.0.0.1", "10.0.0.2"]
        await mesh.push(CDS, {"c": "dns=a.test"})
        await settle()
        snapshot = mesh.assembler.snapshot
        mesh.dns["a.test"] = ["10.0.0.2", "10.0.0.1"]
        await trio.sleep(11)
        assert mesh.assembler.snapshot is snapshot

    mesh.run(story)


def test_a_logical_dns_cluster_has_the_first_address_and_keeps_it_without_another() -> None:
    mesh = Mesh()

    async def story() -> None:
        mesh.dns["a.test"] = ["10.0.0.2", "10.0.0.1"]
        await mesh.push(CDS, {"c": "dns=a.test logical"})
        await settle()
        assert mesh.hosts("c") == ["10.0.0.2"]
        mesh.dns["a.test"] = []
        await trio.sleep(5.1)
        assert mesh.hosts("c") == ["10.0.0.2"]

    mesh.run(story)


def test_a_changed_cluster_with_the_same_names_does_not_ask_dns_again() -> None:
    mesh = Mesh()

    async def story() -> None:
        mesh.dns["a.test"] = ["10.0.0.1"]
        await mesh.push(CDS, {"c": "dns=a.test"})
        await settle()
        del mesh.dns["a.test"]
        await mesh.push(CDS, {"c": "dns=a.test changed"})
        await settle()
        assert mesh.spec(Kind.CLUSTER, "c").metadata == b"dns=a.test changed"
        assert mesh.hosts("c") == ["10.0.0.1"]

    mesh.run(story)


def test_names_of_a_removed_cluster_are_resolved_no_more() -> None:
    mesh = Mesh()

    async def story() -> None:
        mesh.dns["a.test"] = ["10.0.0.1"]
        await mesh.push(CDS, {"c": "dns=a.test"})
        await settle()
        await mesh.push(CDS, {}, "c")
        await settle()
        count = len(mesh.published)
        mesh.dns["a.test"] = ["10.0.0.2"]
        await trio.sleep(60)
        assert len(mesh.published) == count

    mesh.run(story)


# --- initialization -------------------------------------------------------------------------------------------------


def test_initialization_waits_for_clusters_then_for_listeners() -> None:
    mesh = Mesh()

    async def story() -> None:
        assembler = mesh.assembler
        assert assembler.initialization is Initialization.PRE_INITIALIZING
        await mesh.push(CDS, {"c": "eds=e timeout=0"})
        await settle()
        assert not assembler.clusters_ready.is_set()
        await mesh.push(EDS, {"e": "10.0.0.5"})
        await settle()
        assert assembler.clusters_ready.is_set()
        assert assembler.initialization is Initialization.INITIALIZING
        await mesh.push(LDS, {"l": "rds=r timeout=0", "bad": "bad"})
        await settle()
        assert assembler.initialization is Initialization.INITIALIZING
        await mesh.push(RDS, {"r": "bad"})
        await settle()
        assert assembler.initialization is Initialization.LIVE
        await mesh.push(CDS, {"d": "eds=f timeout=0"})
        await settle()
        assert assembler.initialization is Initialization.LIVE

    mesh.run(story)


def test_initialization_does_not_wait_beyond_the_fetch_timeout() -> None:
    mesh = Mesh(fetch_timeout_s=15)

    async def story() -> None:
        await trio.sleep(14.8)
        assert mesh.assembler.initialization is Initialization.PRE_INITIALIZING
        await trio.sleep(0.3)
        assert mesh.assembler.initialization is Initialization.LIVE
        assert mesh.stats.group(SubscriptionStats, "cluster_manager.cds.").init_fetch_timeout == 1

    mesh.run(story)


def test_initialization_without_a_fetch_timeout_waits_for_ever() -> None:
    mesh = Mesh()

    async def story() -> None:
        await trio.sleep(80_000)
        assert mesh.assembler.initialization is Initialization.PRE_INITIALIZING

    mesh.run(story)


def test_what_comes_and_goes_is_counted() -> None:
    mesh = Mesh()

    async def story() -> None:
        clusters = mesh.stats.group(ClusterManagerStats, "cluster_manager.")
        listeners = mesh.stats.group(ListenerManagerStats, "listener_manager.")
        await mesh.push(CDS, {"a": "static", "b": "static", "c": "eds=e timeout=0"})
        await mesh.push(LDS, {"l": "x", "m": "rds=r timeout=0"})
        await settle()
        assert (clusters.active_clusters, clusters.warming_clusters, clusters.cluster_added) == (2, 1, 2)
        assert (listeners.total_listeners_active, listeners.total_listeners_warming) == (1, 1)
        await mesh.push(CDS, {"a": "static other"}, "b")
        await mesh.push(LDS, {"l": "y"}, "m")
        await settle()
        assert (clusters.active_clusters, clusters.cluster_modified, clusters.cluster_removed) == (1, 1, 1)
        assert (listeners.listener_added, listeners.listener_modified, listeners.listener_removed) == (1, 1, 0)
        assert listeners.listener_in_place_updated == 1

    mesh.run(story)
