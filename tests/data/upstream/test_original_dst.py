"""ORIGINAL_DST: hosts on the fly."""

import pytest
import trio

from mosn_xds.base.clock import CachedClock
from mosn_xds.data.net.reactor import Reactor
from mosn_xds.data.upstream.api import LbContext
from mosn_xds.data.upstream.host import Host
from mosn_xds.data.upstream.original_dst import CLEANUP_INTERVAL_S, OriginalDstHosts, parse_destination
from mosn_xds.data.upstream.stats import ClusterStats
from mosn_xds.spec.cluster import Discovery, OriginalDst
from mosn_xds.spec.common import Address
from tests.data.upstream.harness import Attempt, Upstream, World, request, run

TARGET = Address("10.1.2.3", 8080)
PLAIN = OriginalDst()


class Bench:
    """Hosts, with the time in hand."""

    def __init__(self, settings: OriginalDst = PLAIN) -> None:
        self.reactor = Reactor(CachedClock())
        self.stats = ClusterStats("cluster.svc.")
        self.removed: list[Host] = []
        self.hosts = OriginalDstHosts(
            settings, self.reactor, self.stats, lambda _, removed: self.removed.extend(removed)
        )

    def pass_time(self, seconds: float) -> None:
        self.reactor.clock.now += seconds
        self.reactor.timers.advance(self.reactor.clock.now)

    def choose(self, destination: Address | None = TARGET, header: tuple[bytes, bytes] | None = None) -> Host | None:
        head = request(fields=[header] if header else [])
        return self.hosts.choose(LbContext(original_dst=destination, head=head))


def test_a_connection_goes_where_it_was_going() -> None:
    bench = Bench()
    host = bench.choose()
    assert host is not None
    assert host.text == "10.1.2.3:8080"
    assert bench.choose() is host
    assert bench.choose(Address("10.1.2.3", 8081)) is not host


def test_a_connection_that_was_not_redirected_has_no_host() -> None:
    assert Bench().choose(None) is None
    assert Bench().hosts.choose(None) is None


def test_the_port_may_be_fixed() -> None:
    host = Bench(OriginalDst(port_override=15006)).choose()
    assert host is not None
    assert host.text == "10.1.2.3:15006"


@pytest.mark.parametrize(
    ("settings", "header", "expected", "invalid"),
    [
        (OriginalDst(), (b"x-envoy-original-dst-host", b"10.9.9.9:1"), "10.1.2.3:8080", 0),
        (OriginalDst(use_http_header=True), (b"x-envoy-original-dst-host", b"10.9.9.9:1"), "10.9.9.9:1", 0),
        (OriginalDst(use_http_header=True), (b"x-envoy-original-dst-host", b"a.example:1"), "10.1.2.3:8080", 1),
        (OriginalDst(use_http_header=True, http_header_name="X-To"), (b"x-to", b"[fd00::1]:443"), "[fd00::1]:443", 0),
        (OriginalDst(use_http_header=True, port_override=5), (b"x-envoy-original-dst-host", b"10.9.9.9:1"), "10.9.9.9:5", 0),
    ],
)  # fmt: skip
def test_a_request_may_name_its_destination_where_that_is_allowed(
    settings: OriginalDst, header: tuple[bytes, bytes], expected: str, invalid: int
) -> None:
    bench = Bench(settings)
    host = bench.choose(header=header)
    assert host is not None
    assert host.text == expected
    assert bench.stats.original_dst_host_invalid == invalid


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"1.2.3.4:80", Address("1.2.3.4", 80)),
        (b"[::1]:0", Address("::1", 0)),
        (b"::1:80", None),
        (b"[1.2.3.4]:80", None),
        (b"1.2.3.4", None),
        (b"1.2.3.4:65536", None),
        (b"1.2.3.4:-1", None),
        (b"1.2.3.4:\xb2", None),
        (b"host:80", None),
        (b"", None),
    ],
)
def test_destinations_are_literal_addresses(text: bytes, expected: Address | None) -> None:
    assert parse_destination(text) == expected


def test_a_host_that_nobody_chose_for_an_interval_is_forgotten() -> None:
    bench = Bench()
    used, unused = bench.choose(), bench.choose(Address("10.0.0.9", 1))
    bench.pass_time(CLEANUP_INTERVAL_S + 0.1)
    assert bench.removed == []
    bench.choose()
    bench.pass_time(CLEANUP_INTERVAL_S + 0.1)
    assert bench.removed == [unused]
    assert bench.hosts.hosts == [used]
    bench.pass_time(CLEANUP_INTERVAL_S + 0.1)
    assert bench.hosts.hosts == []
    assert len(bench.reactor.timers) == 0


def test_requests_pass_through_to_the_original_destination() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        cluster = world.cluster(discovery=Discovery.ORIGINAL_DST)
        assert cluster.needs_context
        assert cluster.choose_host(None) is None
        attempt = Attempt()
        host = cluster.choose_host(LbContext(original_dst=upstream.address))
        assert host is not None
        cluster.open_stream(host, attempt, attempt.head.version)
        peer = await upstream.accept()
        await peer.answer()
        assert await attempt.over() == "end"
        assert world.figures()["membership_total"] == 1
        world.manager.drop_cluster("svc")
        with trio.fail_after(20):
            await peer.closed()

    run(story)
