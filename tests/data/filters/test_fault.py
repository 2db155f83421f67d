"""The fault filter: delays, aborts, headers that ask for them, chance, the limit."""

import pytest

from mosn_xds.base.errors import ResponseFlag, flag_names
from mosn_xds.base.limits import LocalCell
from mosn_xds.data.filters.fault import FaultFilter, FaultStats
from mosn_xds.data.filters.harness import FilterHarness
from mosn_xds.spec.common import Fraction, HeaderMatch, StringMatch, StringMatchKind
from mosn_xds.spec.filters import FaultAbort, FaultDelay, PerFilter
from mosn_xds.spec.filters import FaultFilter as FaultSpec

ALWAYS = Fraction(100)
ABORT = FaultAbort(ALWAYS, http_status=555)
DELAY = FaultDelay(ALWAYS, fixed_s=0.5)


class Bench:
    def __init__(self, spec: FaultSpec, route: PerFilter | None = None) -> None:
        self.stats = FaultStats("http.test.fault.")
        self.active = LocalCell()
        fault = FaultFilter(spec, self.stats, self.active)
        fault.name = "fault"
        self.harness = FilterHarness(fault, per_filter={} if route is None else {"fault": route})


def test_abort() -> None:
    bench = Bench(FaultSpec(abort=ABORT))
    stream = bench.harness.request()
    assert stream.answer is not None
    assert (stream.answer.status, stream.answer.body, stream.answer.details) == (
        555, b"fault filter abort", "fault_filter_abort",
    )  # fmt: skip
    assert stream.flags == ResponseFlag.FI
    assert not stream.forwarded
    assert bench.stats.aborts_injected == 1


def test_abort_with_a_grpc_status_is_a_200() -> None:
    answer = Bench(FaultSpec(abort=FaultAbort(ALWAYS, grpc_status=3))).harness.request().answer
    assert answer is not None
    assert (answer.status, answer.grpc_status) == (200, 3)


def test_delay_holds_the_request_and_lets_it_go() -> None:
    bench = Bench(FaultSpec(delay=DELAY))
    stream = bench.harness.request()
    assert stream.paused
    stream.advance(0.49)
    assert not stream.forwarded
    stream.advance(0.01)
    assert stream.forwarded
    assert stream.answer is None
    assert stream.flags == ResponseFlag.DI
    assert bench.stats.delays_injected == 1


def test_abort_may_follow_a_delay() -> None:
    bench = Bench(FaultSpec(DELAY, ABORT))
    stream = bench.harness.request()
    stream.advance(1)
    assert stream.answer is not None
    assert not stream.forwarded
    assert flag_names(stream.flags) == "DI,FI"
    assert bench.stats.active_faults == 1
    stream.complete()
    assert bench.stats.active_faults == 0


@pytest.mark.parametrize(("draw", "hit"), [(0, True), (29, True), (30, False), (99, False)])
def test_share_of_requests(draw: int, hit: bool) -> None:
    spec = FaultSpec(abort=FaultAbort(Fraction(30), http_status=503))
    assert (Bench(spec).harness.request(draws=[draw]).answer is not None) == hit


def test_none_of_a_hundred_is_none_without_a_draw() -> None:
    assert Bench(FaultSpec(abort=FaultAbort(Fraction(0), http_status=503))).harness.request().forwarded


BY_HEADER = FaultSpec(FaultDelay(ALWAYS), FaultAbort(ALWAYS))


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ([], None),
        ([(b"x-envoy-fault-abort-request", b"503")], 503),
        ([(b"x-envoy-fault-abort-request", b"199")], None),
        ([(b"x-envoy-fault-abort-request", b"600")], None),
        ([(b"x-envoy-fault-abort-request", b"x")], None),
        ([(b"x-envoy-fault-abort-grpc-request", b"5")], 200),
        ([(b"x-envoy-fault-abort-request", b"503"), (b"x-envoy-fault-abort-request-percentage", b"0")], None),
        ([(b"x-envoy-fault-abort-request", b"503"), (b"x-envoy-fault-abort-request-percentage", b"200")], 503),
    ],
)
def test_abort_by_header(fields: list[tuple[bytes, bytes]], status: int | None) -> None:
    answer = Bench(BY_HEADER).harness.request(fields=fields).answer
    assert (answer.status if answer is not None else None) == status


@pytest.mark.parametrize(
    ("fields", "delay_s"),
    [
        ([(b"x-envoy-fault-delay-request", b"60")], 0.06),
        ([(b"x-envoy-fault-delay-request", b"0")], None),
        ([(b"x-envoy-fault-delay-request", b"-1")], None),
        ([(b"x-envoy-fault-delay-request", b"60"), (b"x-envoy-fault-delay-request-percentage", b"0")], None),
    ],
)
def test_delay_by_header(fields: list[tuple[bytes, bytes]], delay_s: float | None) -> None:
    stream = Bench(BY_HEADER).harness.request(fields=fields)
    assert stream.paused == (delay_s is not None)
    stream.advance(delay_s or 0)
    assert stream.forwarded


def test_header_lowers_the_share_only() -> None:
    spec = FaultSpec(abort=FaultAbort(Fraction(50)))
    asked = (b"x-envoy-fault-abort-request", b"503")
    for percentage, draw, hit in ((b"10", 20, False), (b"10", 9, True), (b"90", 60, False), (b"90", 40, True)):
        fields = [asked, (b"x-envoy-fault-abort-request-percentage", percentage)]
        assert (Bench(spec).harness.request(fields=fields, draws=[draw]).answer is not None) == hit


def test_faults_only_where_they_are_meant() -> None:
    header = HeaderMatch("x-user", StringMatch(StringMatchKind.EXACT, "jason"))
    spec = FaultSpec(abort=ABORT, upstream_cluster="ratings", downstream_nodes=("me",), headers=(header,))
    fields = [(b"x-user", b"jason"), (b"x-envoy-downstream-service-node", b"me")]
    harness = Bench(spec).harness
    assert harness.request(fields=fields, cluster_name="ratings").answer is not None
    assert harness.request(fields=fields, cluster_name="reviews").forwarded
    assert harness.request(fields=fields[:1], cluster_name="ratings").forwarded
    assert harness.request(fields=fields[1:], cluster_name="ratings").forwarded


def test_route_replaces_the_configuration_of_the_chain() -> None:
    assert Bench(FaultSpec(), FaultSpec(abort=ABORT)).harness.request().answer is not None
    assert Bench(FaultSpec(abort=ABORT), FaultSpec()).harness.request().forwarded


def test_no_more_active_faults_than_allowed() -> None:
    bench = Bench(FaultSpec(DELAY, max_active_faults=1))
    first, second = bench.harness.request(), bench.harness.request()
    assert first.paused
    assert second.forwarded
    assert bench.stats.faults_overflow == 1
    first.complete()
    assert (bench.stats.active_faults, bench.active.in_use()) == (0, 0)
    assert bench.harness.request().paused


def test_faults_are_counted_by_downstream_cluster_too() -> None:
    bench = Bench(FaultSpec(abort=ABORT))
    bench.harness.request(fields=[(b"x-envoy-downstream-service-cluster", b"dc")])
    assert bench.stats.extra == {"dc.aborts_injected": 1}
