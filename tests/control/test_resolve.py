"""The resolver against a real DNS server on loopback, and the watch on a clock that jumps."""

from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
import trio
import trio.testing

from mosn_xds.control.resolve import Address, ResolutionError, Resolver, watch_name
from mosn_xds.control.translate.model import DnsDiscovery, DnsFamily


class Zone:
    """Answers from a table; a name that maps to an rcode fails with it, a missing one is NXDOMAIN."""

    def __init__(self, records: dict[str, Any]) -> None:
        self.records = records
        self.asked: list[str] = []

    def answer(self, raw: bytes) -> bytes:
        query = dns.message.from_wire(raw)
        (question,) = query.question
        name, kind = str(question.name), question.rdtype.name
        self.asked.append(f"{name} {kind}")
        reply = dns.message.make_response(query)
        reply.flags |= dns.flags.RA
        known = self.records.get(name)
        if known is None:
            reply.set_rcode(dns.rcode.NXDOMAIN)
        elif isinstance(known, dns.rcode.Rcode):
            reply.set_rcode(known)
        else:
            owner = name
            if "CNAME" in known:
                ttl, target = known["CNAME"]
                reply.answer.append(dns.rrset.from_text(owner, ttl, "IN", "CNAME", target))
                owner, known = target, self.records[target]
            if kind in known:
                ttl, *addresses = known[kind]
                reply.answer.append(dns.rrset.from_text(owner, ttl, "IN", kind, *addresses))
        return reply.to_wire()

    async def serve(self, task_status: trio.TaskStatus[int]) -> None:
        server = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
        with server:
            await server.bind(("127.0.0.1", 0))
            task_status.started(server.getsockname()[1])
            while True:
                raw, peer = await server.recvfrom(4096)
                await server.sendto(self.answer(raw), peer)


RECORDS = {
    "v4.test.": {"A": (30, "10.0.0.1", "10.0.0.2")},
    "v6.test.": {"AAAA": (40, "fd00::1")},
    "both.test.": {"A": (30, "10.0.0.3"), "AAAA": (40, "fd00::3")},
    "alias.test.": {"CNAME": (7, "v4.test.")},
    "web.shop.svc.": {"A": (5, "10.0.0.9")},
    "broken.test.": dns.rcode.SERVFAIL,
}


class Place:
    """A machine: its zone, hosts and resolv.conf."""

    def __init__(self, folder: Path) -> None:
        self.zone = Zone(RECORDS)
        self.hosts = folder / "hosts"
        self.resolv_conf = folder / "resolv.conf"
        self.hosts.write_text(
            "127.0.0.1 localhost # loopback\n10.1.1.1 Printer.test printer\nfd00::2 printer\nnonsense x\n"
        )
        self.resolv_conf.write_text("search shop.svc svc\noptions ndots:2\nnameserver 127.0.0.1\n")
        self.resolver = Resolver()

    def run(self, story: Callable[[], Awaitable[None]]) -> None:
        async def main() -> None:
            with trio.fail_after(30):
                async with trio.open_nursery() as nursery:
                    port = await nursery.start(self.zone.serve)
                    self.resolver = Resolver(
                        port=port, hosts_path=str(self.hosts), resolv_conf_path=str(self.resolv_conf)
                    )
                    await story()
                    nursery.cancel_scope.cancel()

        trio.run(main)

    def ask(self, name: str, family: DnsFamily = DnsFamily.V4_ONLY) -> list[Address]:
        found: list[Address] = []

        async def story() -> None:
            found.extend(await self.resolver.resolve(name, family))

        self.run(story)
        return found


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize(
    ("name", "family", "expected"),
    [
        ("v4.test.", DnsFamily.V4_ONLY, [("10.0.0.1", 30), ("10.0.0.2", 30)]),
        ("v4.test.", DnsFamily.V6_ONLY, []),
        ("v4.test.", DnsFamily.AUTO, [("10.0.0.1", 30), ("10.0.0.2", 30)]),
        ("both.test.", DnsFamily.AUTO, [("fd00::3", 40)]),
        ("both.test.", DnsFamily.V4_PREFERRED, [("10.0.0.3", 30)]),
        ("v6.test.", DnsFamily.V4_PREFERRED, [("fd00::1", 40)]),
        ("both.test.", DnsFamily.ALL, [("10.0.0.3", 30), ("fd00::3", 40)]),
        ("v6.test.", DnsFamily.ALL, [("fd00::1", 40)]),
        ("alias.test.", DnsFamily.V4_ONLY, [("10.0.0.1", 7), ("10.0.0.2", 7)]),
        ("gone.test.", DnsFamily.ALL, []),
    ],
)
def test_families_and_times_to_live(
    place: Place, name: str, family: DnsFamily, expected: list[tuple[str, int]]
) -> None:
    found = [(address.host, address.ttl_s) for address in place.ask(name, family)]
    assert sorted(found) == expected  # a server rotates what it holds


def test_search_list_completes_short_names(place: Place) -> None:
    assert [address.host for address in place.ask("web")] == ["10.0.0.9"]
    assert place.zone.asked == ["web.shop.svc. A"]


def test_names_with_enough_dots_are_asked_as_they_are_first(place: Place) -> None:
    place.resolv_conf.write_text("search shop.svc\noptions ndots:1\n")
    place.ask("v4.test")
    assert place.zone.asked == ["v4.test. A"]


@pytest.mark.parametrize("name", ["10.9.8.7", "fd00::9", "localhost", "printer", "PRINTER.test"])
def test_addresses_and_hosts_need_no_server(place: Place, name: str) -> None:
    assert place.ask(name, DnsFamily.ALL)
    assert place.zone.asked == []


def test_hosts_file_holds_both_families(place: Place) -> None:
    assert place.ask("printer", DnsFamily.ALL) == [Address("10.1.1.1"), Address("fd00::2")]
    assert place.ask("printer", DnsFamily.V6_ONLY) == [Address("fd00::2")]


def test_localhost_is_known_without_a_hosts_file(place: Place) -> None:
    place.hosts.unlink()
    assert place.ask("localhost") == [Address("127.0.0.1")]


def test_changed_files_are_read_again(place: Place) -> None:
    async def story() -> None:
        assert await place.resolver.resolve("late", DnsFamily.V4_ONLY) == []
        place.hosts.write_text("10.2.2.2 late\n")
        assert await place.resolver.resolve("late", DnsFamily.V4_ONLY) == [Address("10.2.2.2")]
        place.resolv_conf.write_text("search svc.\n")
        assert await place.resolver.resolve("web.shop", DnsFamily.V4_ONLY) == [Address("10.0.0.9", 5)]

    place.run(story)


def test_server_failure_is_no_answer(place: Place) -> None:
    with pytest.raises(BaseException) as caught:
        place.ask("broken.test.")
    assert caught.group_contains(ResolutionError, match=r"^broken\.test\.: ")


def test_name_that_dns_cannot_carry_is_no_answer(place: Place) -> None:
    with pytest.raises(BaseException) as caught:
        place.ask("x" * 70 + ".test.")
    assert caught.group_contains(ResolutionError)


# --- watching -------------------------------------------------------------------------------------------------------


class Draw:
    """Chance that gives the same draw."""

    def __init__(self, draw: float) -> None:
        self.draw = draw

    def random(self) -> float:
        return self.draw

    def getrandbits(self, k: int, /) -> int:
        return 0

    def randrange(self, stop: int, /) -> int:
        return 0


class Script:
    """A lookup that says one line after the other, and notes when it was asked."""

    def __init__(self, *outcomes: Sequence[Address] | ResolutionError) -> None:
        self.outcomes = list(outcomes)
        self.asked_at: list[float] = []
        self.done = trio.Event()

    async def resolve(self, name: str, family: DnsFamily) -> Sequence[Address]:
        self.asked_at.append(trio.current_time())
        if not self.outcomes:
            self.done.set()
            await trio.sleep_forever()
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, ResolutionError):
            raise outcome
        return outcome


def watched(settings: DnsDiscovery, script: Script, draw: float = 1.0) -> tuple[list[float], list[Any]]:
    """The waits between questions, and what was reported."""
    reports: list[Any] = []

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch_name, "x", settings, script, Draw(draw), reports.append)
            await script.done.wait()
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    asked = script.asked_at
    return [round(b - a, 6) for a, b in pairwise(asked)], reports


ONE = [Address("10.0.0.1", 30.0)]
TWO = [Address("10.0.0.1", 30.0), Address("10.0.0.2", 20.0)]
FAILED = ResolutionError("x: timeout")


def test_asks_again_at_the_refresh_rate() -> None:
    waits, reports = watched(DnsDiscovery(()), Script(ONE, TWO, []))
    assert waits == [5, 5, 5]
    assert reports == [ONE, TWO, []]


def test_respects_the_shortest_time_to_live_if_told_to() -> None:
    waits, _ = watched(
        DnsDiscovery((), respect_ttl=True), Script(ONE, TWO, [Address("10.0.0.1", 0.0)], [Address("::1")], [])
    )
    assert waits == [30, 20, 5, 5, 5]


def test_failures_are_reported_and_retried_at_the_refresh_rate() -> None:
    waits, reports = watched(DnsDiscovery((), refresh_s=3), Script(FAILED, ONE))
    assert waits == [3, 3]
    assert reports == [FAILED, ONE]


def test_failures_back_off_where_configured_until_an_answer() -> None:
    settings = DnsDiscovery((), failure_base_s=1, failure_max_s=3)
    waits, _ = watched(settings, Script(FAILED, FAILED, FAILED, FAILED, ONE, FAILED, FAILED))
    assert waits == [1, 2, 3, 3, 5, 1, 2]


def test_jitter_spreads_the_waits() -> None:
    waits, _ = watched(DnsDiscovery((), jitter_s=2), Script(ONE), draw=0.5)
    assert waits == [6]
