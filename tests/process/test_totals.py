"""What the admin API reads: totals over workers and the agent, before and after deaths."""

from mosn_xds.base.stats import Histogram, StatGroup, StatRegistry
from mosn_xds.process.hosts import HostTotals
from mosn_xds.process.totals import StatTotals
from mosn_xds.spec.feed import HostStat


class ClusterStats(StatGroup):
    __slots__ = ("upstream_cx_active", "upstream_rq_time", "upstream_rq_total")
    COUNTERS = ("upstream_rq_total",)
    GAUGES = ("upstream_cx_active",)
    HISTOGRAMS = ("upstream_rq_time",)
    upstream_rq_total: int
    upstream_cx_active: int
    upstream_rq_time: Histogram


class Worker:
    """A worker's registry, and what it says to the totals."""

    def __init__(self, number: int, totals: StatTotals) -> None:
        self.number = number
        self.totals = totals
        self.registry = StatRegistry()
        self.cluster = self.registry.group(ClusterStats, "cluster.a.b.")

    def report(self) -> None:
        self.totals.apply(self.number, self.registry.take_changes(), self.registry.take_kinds())

    def let_go(self) -> None:
        """Its cluster is removed."""
        del self.cluster
        self.report()
        self.report()


def make() -> tuple[StatTotals, StatRegistry, Worker, Worker]:
    own = StatRegistry()
    totals = StatTotals(own, lambda name: not name.endswith("secret"))
    return totals, own, Worker(0, totals), Worker(1, totals)


def test_counters_add_up_and_survive_a_worker() -> None:
    totals, _, one, two = make()
    one.cluster.upstream_rq_total += 3
    two.cluster.upstream_rq_total += 4
    one.report()
    two.report()
    assert totals.value("cluster.a.b.upstream_rq_total") == 7
    totals.forget(0)
    assert totals.value("cluster.a.b.upstream_rq_total") == 7
    successor = Worker(0, totals)
    successor.report()
    assert totals.value("cluster.a.b.upstream_rq_total") == 7
    successor.cluster.upstream_rq_total += 1
    successor.report()
    assert totals.value("cluster.a.b.upstream_rq_total") == 8


def test_gauges_add_up_and_a_dead_workers_share_is_taken_out() -> None:
    totals, _, one, two = make()
    one.cluster.upstream_cx_active = 3
    two.cluster.upstream_cx_active = 4
    one.report()
    two.report()
    assert totals.value("cluster.a.b.upstream_cx_active") == 7
    two.cluster.upstream_cx_active = 1
    two.report()
    assert totals.value("cluster.a.b.upstream_cx_active") == 4
    totals.forget(0)
    assert totals.value("cluster.a.b.upstream_cx_active") == 1


def test_histograms_add_up() -> None:
    totals, _, one, two = make()
    for worker, value in ((one, 3), (two, 3), (two, 4000)):
        worker.cluster.upstream_rq_time.record(value)
    one.report()
    two.report()
    two.cluster.upstream_rq_time.record(7)
    two.report()
    (found,) = totals.histograms()
    assert (found.name, found.cell.count, found.cell.total) == ("cluster.a.b.upstream_rq_time", 4, 4013)
    assert sum(found.cell.buckets) == 4
    assert found.cell.buckets[2] == 2
    assert found.used


def test_counters_with_names_of_the_moment_are_totals_too() -> None:
    totals, _, one, two = make()
    for worker in (one, two):
        worker.cluster.count("upstream_rq_503")
        worker.report()
    assert totals.value("cluster.a.b.upstream_rq_503") == 2


def test_used_is_what_has_counted_or_was_set() -> None:
    totals, own, one, _ = make()
    one.report()
    assert not any(figure.used for figure in [*totals.counters(), *totals.gauges()])
    one.cluster.upstream_rq_total += 1
    one.report()
    assert [figure.name for figure in totals.gauges() if figure.used] == ["cluster.a.b.upstream_cx_active"]
    # The agent sets every gauge that it has; one that it sets to 0 has been set.
    _server = own.group(ClusterStats, "server.")
    assert ("server.upstream_cx_active", 0, True) in list(totals.gauges())


def test_excluded_stats_do_not_exist() -> None:
    totals, _, one, _ = make()
    one.cluster.count("some_secret")
    one.cluster.count("some_secret")
    one.report()
    one.cluster.count("some_secret")
    one.report()
    totals.set_text("text_secret", "x")
    assert totals.value("cluster.a.b.some_secret") is None
    assert not list(totals.text_readouts())


def test_reset_starts_counters_again_at_zero() -> None:
    totals, own, one, _ = make()
    server = own.group(ClusterStats, "server.")
    server.upstream_rq_total = 5
    one.cluster.upstream_rq_total += 3
    one.report()
    totals.reset_counters()
    assert totals.value("cluster.a.b.upstream_rq_total") == 0
    assert totals.value("server.upstream_rq_total") == 0
    one.cluster.upstream_rq_total += 1
    one.report()
    assert totals.value("cluster.a.b.upstream_rq_total") == 1


def test_unknown_names_have_no_value() -> None:
    totals, *_ = make()
    assert totals.value("no.such.stat") is None
    assert totals.value("nodots") is None


def test_host_figures_add_up_and_keep_what_a_dead_worker_counted() -> None:
    hosts = HostTotals()
    for source, total in ((0, 3), (1, 4)):
        hosts.apply(source, [HostStat("c", "1.2.3.4:80", {"rq_total": total, "cx_active": 2})])
    assert hosts.get("c", "1.2.3.4:80") == {"rq_total": 7, "cx_active": 4}
    hosts.forget(0)
    assert hosts.get("c", "1.2.3.4:80") == {"rq_total": 7, "cx_active": 2}
    hosts.apply(1, [HostStat("c", "1.2.3.4:80", {"rq_total": 5, "cx_active": 0})])
    assert hosts.get("c", "1.2.3.4:80") == {"rq_total": 8, "cx_active": 0}
    assert hosts.get("c", "5.6.7.8:80") == {}


class Members(StatGroup):
    __slots__ = ("membership_change", "membership_total")
    COUNTERS = ("membership_change",)
    GAUGES = ("membership_total",)
    SHARED = ("membership_change", "membership_total")
    membership_change: int
    membership_total: int


def test_what_all_workers_have_alike_is_not_added_up() -> None:
    totals = StatTotals(StatRegistry())
    workers = [Worker(number, totals) for number in range(2)]
    groups = [worker.registry.group(Members, "cluster.m.") for worker in workers]

    def report(changes: int, total: int) -> tuple[int | None, int | None]:
        for worker, group in zip(workers, groups, strict=True):
            group.membership_change += changes
            group.membership_total = total
            worker.report()
        return totals.value("cluster.m.membership_change"), totals.value("cluster.m.membership_total")

    assert report(1, 5) == (1, 5)
    assert report(1, 3) == (2, 3)
    totals.forget(0)
    workers[0] = Worker(0, totals)
    groups[0] = workers[0].registry.group(Members, "cluster.m.")
    assert report(1, 4) == (3, 4)
    totals.reset_counters()
    assert totals.value("cluster.m.membership_change") == 0
    assert report(1, 4) == (1, 4)
    totals.forget(0)
    totals.forget(1)
    assert totals.value("cluster.m.membership_total") == 0


def test_statistics_go_with_the_last_worker_that_has_them() -> None:
    totals, _, one, two = make()
    for worker in (one, two):
        worker.cluster.upstream_rq_total += 3
        worker.cluster.upstream_cx_active = 1
        worker.report()
    one.cluster.upstream_rq_total += 1
    one.cluster.upstream_cx_active = 0
    one.let_go()
    assert totals.value("cluster.a.b.upstream_rq_total") == 7  # it does not fall while it is there
    assert totals.value("cluster.a.b.upstream_cx_active") == 1
    two.let_go()
    assert totals.value("cluster.a.b.upstream_rq_total") is None
    assert not list(totals.counters())
    assert not list(totals.histograms())


def test_statistics_come_back_from_zero() -> None:
    totals, _, one, two = make()
    one.report()
    two.report()
    one.cluster.upstream_rq_total += 3
    one.let_go()
    two.let_go()
    again = Worker(0, totals)
    again.cluster.upstream_rq_total += 1
    again.report()
    assert totals.value("cluster.a.b.upstream_rq_total") == 1


def test_counts_of_a_dead_worker_wait_for_its_successor_until_all_have_told_what_they_have() -> None:
    totals, _, one, two = make()
    other = two.registry.group(ClusterStats, "cluster.other.")
    other.upstream_rq_total = one.cluster.upstream_rq_total = 3
    one.report()
    two.report()
    two.let_go()
    totals.forget(1)
    totals.forget(0)
    assert totals.value("cluster.a.b.upstream_rq_total") == 3
    successor = Worker(0, totals)
    successor.report()
    totals.drop_left_behind()
    assert totals.value("cluster.a.b.upstream_rq_total") == 3
    assert totals.value("cluster.other.upstream_rq_total") is None
