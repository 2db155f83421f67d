"""`/stats` in its forms, over real totals."""

from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mosn_xds.admin import stats_pages
from mosn_xds.admin.tags import TagExtractor
from mosn_xds.base.stats import Histogram, StatGroup, StatRegistry
from mosn_xds.control.bootstrap.stats import DEFAULT_TAGS
from mosn_xds.process.totals import StatTotals


class ClusterLike(StatGroup):
    COUNTERS = ("upstream_rq_total",)
    GAUGES = ("upstream_cx_active",)
    HISTOGRAMS = ("upstream_rq_time",)
    __slots__ = (*COUNTERS, *GAUGES, *HISTOGRAMS)
    upstream_rq_total: int
    upstream_cx_active: int
    upstream_rq_time: Histogram


@pytest.fixture
def totals() -> Iterator[StatTotals]:
    registry = StatRegistry()
    group = registry.group(ClusterLike, "cluster.books.")
    group.upstream_rq_total = 3
    group.count("upstream_rq_200", 2)
    group.count("upstream_rq_5xx")
    for value in (0.4, 3, 7000):
        group.upstream_rq_time.record(value)
    _idle = registry.group(ClusterLike, "cluster.idle.")
    yield StatTotals(registry)


def everything(name: str, used: bool) -> bool:
    return True


def test_text_is_sorted_with_histograms_behind(totals):
    lines = stats_pages.text(totals, everything).splitlines()
    assert lines[0] == "cluster.books.upstream_cx_active: 0"
    assert "cluster.books.upstream_rq_total: 3" in lines
    assert lines[-1] == "cluster.idle.upstream_rq_time: No recorded values"
    assert lines[-2].startswith("cluster.books.upstream_rq_time: P0(0,0) P25(")


def test_used_only_leaves_out_what_never_counted(totals):
    text = stats_pages.text(totals, stats_pages.wanted(None, True))
    assert "cluster.books.upstream_rq_total: 3" in text
    assert "cluster.idle.upstream_rq_total" not in text


def test_a_filter_is_a_search(totals):
    text = stats_pages.text(totals, stats_pages.wanted("upstream_rq_(200|5xx)$", False))
    assert text == "cluster.books.upstream_rq_200: 2\ncluster.books.upstream_rq_5xx: 1\n"


def test_a_bad_filter_says_so():
    with pytest.raises(ValueError, match="Invalid re2 regex"):
        stats_pages.wanted("(", False)


def test_prometheus_parses_and_names_what_envoy_names(totals):
    text = stats_pages.prometheus(totals, everything, TagExtractor())
    families = {family.name: family for family in text_string_to_metric_families(text)}
    samples = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families.values()
        for sample in family.samples
    }
    books = ("envoy_cluster_name", "books")
    assert samples["envoy_cluster_upstream_rq_total", (books,)] == 3
    # The parser folds two of Envoy's families into one, for they differ by its own suffix alone: the text itself is asked.
    assert 'envoy_cluster_upstream_rq{envoy_response_code="200",envoy_cluster_name="books"} 2\n' in text
    assert 'envoy_cluster_upstream_rq_xx{envoy_response_code_class="5",envoy_cluster_name="books"} 1\n' in text
    buckets = [
        (sample.labels["le"], sample.value)
        for sample in families["envoy_cluster_upstream_rq_time"].samples
        if sample.name.endswith("_bucket") and sample.labels["envoy_cluster_name"] == "books"
    ]
    assert buckets[0] == ("0.5", 1)
    assert buckets[-1] == ("+Inf", 3)
    counts = [value for _, value in buckets]
    assert counts == sorted(counts)


def test_json_has_values_and_histograms(totals):
    page = stats_pages.as_json(totals, everything)
    assert {"name": "cluster.books.upstream_rq_total", "value": 3} in page["stats"]
    assert page["stats"][-1]["histograms"]["computed_quantiles"][0]["name"] == "cluster.books.upstream_rq_time"


@pytest.mark.parametrize(
    ("name", "rest", "tags"),
    [
        (
            "cluster.a.upstream_rq_2xx",
            "cluster.upstream_rq_xx",
            {"envoy.cluster_name": "a", "envoy.response_code_class": "2"},
        ),
        ("http.in.downstream_rq_total", "http.downstream_rq_total", {"envoy.http_conn_manager_prefix": "in"}),
        (
            "listener.127.0.0.1_80.worker_1.downstream_cx_total",
            "listener.downstream_cx_total",
            {"envoy.listener_address": "127.0.0.1_80", "envoy.worker_id": "1"},
        ),
        (
            "listener.0.0.0.0_80.http.in.downstream_rq_2xx",
            "listener.http.downstream_rq_xx",
            {
                "envoy.listener_address": "0.0.0.0_80",
                "envoy.http_conn_manager_prefix": "in",
                "envoy.response_code_class": "2",
            },
        ),
        ("tcp.db.downstream_cx_total", "tcp.downstream_cx_total", {"envoy.tcp_prefix": "db"}),
        (
            "generic_proxy.shop.rpc.bolt.com.shop.Cart:1.0.get.rq_total",
            "generic_proxy.shop.rq_total",
            {
                "mosn_xds.rpc_protocol": "bolt",
                "mosn_xds.rpc_service": "com.shop.Cart:1.0",
                "mosn_xds.rpc_method": "get",
            },
        ),
        ("server.live", "server.live", {}),
    ],
)
def test_default_tags(name, rest, tags):
    found, labels = TagExtractor().split(name)
    assert (found, dict(labels)) == (rest, tags)


def test_a_configured_tag_goes_before_the_defaults():
    istio = TagExtractor(
        [("cluster_name", r"^cluster\.((.+?(\..+?\.svc\.cluster\.local)?)\.)"), *DEFAULT_TAGS], [("mesh", "m1")]
    )
    name = "cluster.outbound|80||books.shop.svc.cluster.local.upstream_rq_total"
    rest, tags = istio.split(name)
    assert rest == "cluster.upstream_rq_total"
    assert dict(tags) == {"mesh": "m1", "cluster_name": "outbound|80||books.shop.svc.cluster.local"}
