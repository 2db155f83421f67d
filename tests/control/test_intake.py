"""From responses to verdicts, with translators that say what the test wants."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pytest
import trio

from mosn_xds.base.clock import ManualClock
from mosn_xds.base.errors import ConfigError
from mosn_xds.base.stats import StatRegistry
from mosn_xds.control.ads.client import ACK, Verdict
from mosn_xds.control.ads.events import Resource, Response
from mosn_xds.control.ads.resource_types import CDS, EDS, LDS, RDS, ResourceType
from mosn_xds.control.intake import Intake
from mosn_xds.control.pace import SLICE_S
from mosn_xds.control.stats import SubscriptionStats
from mosn_xds.control.store import ResourceKey, ResourceStore, Status
from mosn_xds.control.translate.model import Need


@dataclass(frozen=True)
class Product:
    text: str
    needs: tuple[Need, ...] = ()
    warnings: tuple[str, ...] = ()


class Bench:
    """An Intake with its surroundings. Bytes are text: ``bad WHY`` is refused, ``eds:NAME`` and ``rds:NAME`` are needs,
    ``warn:TEXT`` are warnings."""

    def __init__(self, admit: Callable[[ResourceKey, Product], None] | None = None) -> None:
        self.clock = ManualClock()
        self.store: ResourceStore[Product] = ResourceStore(self.clock)
        self.stats = StatRegistry()
        self.translated: list[str] = []
        self.asked: list[str] = []
        self.changed: list[str] = []
        self.intake = Intake(self.store, self.translate, self.clock, self.stats, admit=admit, changed=self.note)
        self.intake.attach("ads", self)

    def translate(self, type_url: str, name: str, raw: bytes) -> Product:
        text = raw.decode()
        self.translated.append(name)
        if text.startswith("bad "):
            raise ConfigError(text[4:], path="field")
        if text == "bug":
            raise KeyError("oops")
        if text == "slow":
            self.clock.advance(SLICE_S)
        words = [word.partition(":") for word in text.split() if ":" in word]
        kinds = {"eds": EDS.url, "rds": RDS.url}
        needs = tuple(Need(kinds[kind], target) for kind, _, target in words if kind in kinds)
        return Product(text, needs, tuple(target for kind, _, target in words if kind == "warn"))

    def note(self, keys: Iterable[ResourceKey]) -> None:
        self.changed = [key.name for key in keys]

    def subscribe(self, kind: ResourceType) -> None:
        self.asked.append(kind.short)

    def change(self, kind: ResourceType, add: Iterable[str], remove: Iterable[str]) -> None:
        self.asked.append(" ".join([kind.short, *(f"+{name}" for name in add), *(f"-{name}" for name in remove)]))

    def ask_again(self, kind: ResourceType) -> None:
        self.asked.append(f"{kind.short} again")

    def push(
        self,
        kind: ResourceType,
        version: str,
        *pairs: tuple[str, str],
        removed: tuple[str, ...] = (),
        complete: bool = False,
        faults: tuple[str, ...] = (),
    ) -> Verdict:
        self.changed, self.asked = [], []
        resources = tuple(Resource(name, version, text.encode(), kind.url) for name, text in pairs)
        response = Response(kind, version, "n", resources, removed, complete, faults)
        return trio.run(self.intake.judge, "ads", response)

    def status(self, kind: ResourceType, name: str) -> Status | None:
        record = self.store.get(ResourceKey("ads", kind.url, name))
        return record.status if record else None

    def in_use(self, kind: ResourceType) -> dict[str, str]:
        records = self.store.records("ads", kind.url)
        return {name: record.good.product.text for name, record in records.items() if record.good}


def test_unchanged_bytes_are_not_translated_again() -> None:
    bench = Bench()
    bench.push(CDS, "v1", ("a", "1"), ("b", "1"))
    assert bench.push(CDS, "v2", ("a", "1"), ("b", "2")) == ACK
    assert bench.translated == ["a", "b", "b"]
    assert bench.changed == ["b"]
    assert bench.asked == ["EDS again"]


def test_bad_resources_are_named_and_the_others_taken() -> None:
    bench = Bench()
    bench.push(CDS, "v1", ("a", "1"), ("b", "1"))
    verdict = bench.push(CDS, "v2", ("a", "2"), ("b", "bad ring too small"), ("c", "bad no"))
    assert verdict == Verdict(
        "Error adding/updating cluster(s) b: field: ring too small, c: field: no", frozenset({"b", "c"})
    )
    assert bench.in_use(CDS) == {"a": "2", "b": "1"}
    assert bench.status(CDS, "b") is Status.NACKED


def test_the_log_gets_what_an_accepted_resource_is_newly_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()

    def told(version: str, text: str) -> list[str]:
        caplog.clear()
        bench.push(LDS, version, ("l", text))
        return [record.getMessage() for record in caplog.records]

    assert told("v1", "warn:odd") == ["Listener l: odd"]
    assert told("v2", "warn:odd warn:strange") == ["Listener l: strange"]
    many = [f"w{number}" for number in range(7)]
    assert told("v3", " ".join(f"warn:{one}" for one in many)) == [
        *(f"Listener l: {one}" for one in many[:5]),
        "Listener l: and 2 warnings more",
    ]


def test_refusals_are_framed_as_envoy_does() -> None:
    bench = Bench()
    assert bench.push(LDS, "v1", ("l", "bad x"), ("m", "bad y")).reason == (
        "Error adding/updating listener(s) l: field: x\nm: field: y\n"
    )
    bench.push(LDS, "v1", ("n", "rds:r eds:e"))
    assert bench.push(RDS, "v1", ("r", "bad x")).reason == "r: field: x"


def test_refused_bytes_are_refused_again_without_translating() -> None:
    bench = Bench()
    first = bench.push(CDS, "v1", ("a", "bad x"))
    assert bench.push(CDS, "v2", ("a", "bad x")) == first
    assert bench.translated == ["a"]
    assert bench.changed == []


def test_a_bug_in_a_translator_costs_one_resource() -> None:
    bench = Bench()
    verdict = bench.push(CDS, "v1", ("a", "bug"), ("b", "1"))
    assert verdict.reason == "Error adding/updating cluster(s) a: internal error: KeyError: 'oops'"
    assert bench.in_use(CDS) == {"b": "1"}
    assert bench.intake.defects == 1


def test_absence_deletes_in_a_complete_response_only() -> None:
    bench = Bench()
    bench.push(CDS, "v1", ("a", "1"), ("b", "1"), complete=True)
    bench.push(CDS, "v2", ("c", "1"))
    assert list(bench.in_use(CDS)) == ["a", "b", "c"]
    bench.push(CDS, "v3", ("c", "1"), ("b", "bad"), complete=True)
    assert list(bench.in_use(CDS)) == ["b", "c"]
    assert bench.changed == ["a", "b"]
    bench.push(CDS, "v4", complete=True)
    assert bench.in_use(CDS) == {}


def test_faults_reject_and_delete_nothing() -> None:
    bench = Bench()
    bench.push(CDS, "v1", ("a", "1"), ("b", "1"), complete=True)
    verdict = bench.push(CDS, "v2", ("a", "2"), faults=("resources[1]: cluster without a name",))
    assert verdict.reason == "Error adding/updating cluster(s) resources[1]: cluster without a name"
    assert bench.in_use(CDS) == {"a": "2", "b": "1"}


def test_removed_clusters_and_listeners_go_removed_endpoints_stay_in_use() -> None:
    bench = Bench()
    bench.push(CDS, "v1", ("a", "eds:e"))
    bench.push(EDS, "v1", ("e", "1"))
    bench.push(EDS, "v2", removed=("e",))
    assert bench.status(EDS, "e") is Status.ABSENT
    assert bench.in_use(EDS) == {"e": "1"}
    bench.push(CDS, "v2", removed=("a", "never heard of"))
    assert bench.changed == ["a", "e"]
    assert bench.asked == ["EDS -e"]
    assert bench.in_use(CDS) == bench.in_use(EDS) == {}


def test_what_a_resource_needs_is_asked_for_once_and_dropped_with_its_last_holder() -> None:
    bench = Bench()
    bench.push(LDS, "v1", ("l", "rds:r rds:s"), ("m", "rds:r"))
    assert bench.asked == ["RDS +r +s"]
    assert bench.status(RDS, "r") is Status.REQUESTED
    bench.push(LDS, "v2", ("l", "rds:t"))
    assert bench.asked == ["RDS +t -s"]
    bench.push(LDS, "v3", ("m", "bad x"))
    assert bench.asked == []
    bench.push(LDS, "v4", removed=("m",))
    assert bench.asked == ["RDS -r"]


def test_an_update_that_needs_the_same_asks_for_nothing_and_keeps_what_is_known() -> None:
    bench = Bench()
    bench.push(LDS, "v1", ("l", "rds:r"))
    bench.push(RDS, "v1", ("r", "1"))
    bench.push(LDS, "v2", ("l", "changed rds:r"))
    assert bench.asked == []
    assert bench.in_use(RDS) == {"r": "1"}


def test_held_names_outlive_the_resource_that_named_them() -> None:
    bench = Bench()
    bench.push(LDS, "v1", ("l", "rds:r"))
    bench.intake.hold([ResourceKey("ads", RDS.url, "r")])
    bench.push(LDS, "v2", ("l", "rds:s"))
    assert bench.asked == ["RDS +s"]
    bench.asked = []
    bench.intake.release([ResourceKey("ads", RDS.url, "r")])
    assert bench.asked == ["RDS -r"]
    assert bench.changed == ["r"]


def test_a_changed_cluster_asks_for_its_endpoints_again() -> None:
    bench = Bench()
    bench.push(CDS, "v1", ("a", "eds:e"))
    bench.push(CDS, "v2", ("a", "other eds:e"))
    assert bench.asked == ["EDS again"]
    bench.push(CDS, "v3", ("a", "other eds:e"))
    assert bench.asked == []


def test_the_second_of_two_equal_names_is_refused() -> None:
    bench = Bench()
    verdict = bench.push(CDS, "v1", ("d", "1"), ("d", "2"))
    assert verdict.reason == "Error adding/updating cluster(s) d: duplicate cluster d found"
    assert bench.in_use(CDS) == {"d": "1"}


def test_what_is_not_admitted_is_tried_again() -> None:
    taken = True

    def admit(key: ResourceKey, product: Product) -> None:
        if taken:
            raise ConfigError("cannot bind '127.0.0.1:80': Address already in use")

    bench = Bench(admit)
    verdict = bench.push(LDS, "v1", ("l", "rds:r"))
    assert verdict.reason == "Error adding/updating listener(s) l: cannot bind '127.0.0.1:80': Address already in use\n"
    assert bench.asked == []
    assert bench.push(LDS, "v2", ("l", "rds:r")).reason == verdict.reason
    bench.intake.retry()
    assert bench.status(LDS, "l") is Status.NACKED
    taken = False
    bench.intake.retry()
    assert bench.status(LDS, "l") is Status.ACKED
    assert bench.asked == ["RDS +r"]
    assert bench.changed == ["l"]
    bench.changed = []
    bench.intake.retry()
    assert bench.changed == []


def test_a_removed_listener_is_gone_before_a_new_one_is_admitted() -> None:
    def admit(key: ResourceKey, product: Product) -> None:
        if len(bench.in_use(LDS)) > 0 and key.name not in bench.in_use(LDS):
            raise ConfigError("address taken")

    bench = Bench(admit)
    assert bench.push(LDS, "v1", ("l", "1"), complete=True) == ACK
    assert bench.push(LDS, "v2", ("m", "1"), complete=True) == ACK
    assert bench.push(LDS, "v3", ("n", "1"), removed=("m",)) == ACK


def test_a_big_push_lets_others_run_and_is_seen_whole() -> None:
    bench = Bench()
    seen = []

    async def main() -> None:
        resources = tuple(Resource(f"c{n}", "v1", b"slow", CDS.url) for n in range(20))
        finished = False

        async def watch() -> None:
            while not finished:
                seen.append(len(bench.in_use(CDS)))
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            await bench.intake.judge("ads", Response(CDS, "v1", "n", resources))
            finished = True

    trio.run(main)
    assert len(seen) >= 19
    assert set(seen) <= {0, 20}


def test_outcomes_are_counted_under_envoys_names() -> None:
    bench = Bench()
    bench.intake.subscribe("ads", CDS)
    bench.push(CDS, "v1", ("a", "1"))
    bench.push(CDS, "v2", ("a", "bad x"))
    bench.intake.lost("ads")
    stats = bench.stats.group(SubscriptionStats, "cluster_manager.cds.")
    assert (stats.update_attempt, stats.update_success, stats.update_rejected, stats.update_failure) == (5, 1, 1, 1)
    assert stats.version == 0x7F99EC72F8645BAC  # xxHash64 of v1
    assert stats.update_time == int(bench.clock.wall() * 1000)
    assert bench.stats.group(SubscriptionStats, "listener_manager.lds.").update_attempt == 0
