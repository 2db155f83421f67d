"""`stats_config`: which parts of a name are tags, and which buckets histograms have, as Prometheus sees them."""

import json
import re
import time
from typing import Any

from tests.differential.bed import Bed, cluster, http_listener, vhost
from tests.differential.pair import case
from tests.differential.world import World
from tests.support.recordings import ROOT
from tests.support.upstream import Upstream


def istio_tags() -> list[dict[str, Any]]:
    """The tags of a recorded sidecar's bootstrap."""
    bootstrap = json.loads((ROOT / "bootstrap" / "sidecar.json").read_text())
    found: list[dict[str, Any]] = bootstrap["stats_config"]["stats_tags"]
    return found


BED = Bed(
    listeners=[
        http_listener("http", vhost("all", ["*"], "- {match: {prefix: /}, route: {cluster: outbound|80||books.;}}"))
    ],
    clusters=[cluster("outbound|80||books.;", "a")],
    upstreams={"a": Upstream},
    extra={
        "stats_flush_interval": "0.2s",
        "stats_config": {
            "use_all_default_tags": False,
            "stats_tags": [
                *istio_tags(),
                {"tag_name": "mesh.id", "fixed_value": "m 1"},
                {"tag_name": "envoy.worker_id"},
                {"tag_name": "no_group", "regex": "downstream"},
                {"tag_name": "posix", "regex": r"^server\.(([[:lower:]]+)_[[:alpha:]]+\.)?live"},
            ],
            "histogram_bucket_settings": [
                {"match": {"suffix": "upstream_rq_time"}, "buckets": [600000, 0.25]},
                {"match": {"prefix": "cluster."}, "buckets": [1]},
            ],
        },
    },
)


def lines(proxy: World, query: str) -> list[str]:
    """What a page says, but for ports; labels in the order of their names, for Envoy's has no meaning."""
    _, text = proxy.proxy.admin(query)
    text = re.sub(r"127\.0\.0\.1_\d+", "ADDRESS", text)
    found = []
    for line in text.splitlines():
        name, brace, rest = line.partition("{")
        labels, _, value = rest.partition("}")
        ordered = ",".join(sorted(re.findall(r'\w+="[^"]*"', labels)))
        found.append(f"{name}{{{ordered}}}{value}" if brace else line)
    return sorted(found)


def measured(proxy: World) -> str:
    """The name of a histogram, once it has a value."""
    name = "cluster.outbound|80||books.;.upstream_rq_time"
    deadline = time.monotonic() + 10
    while "_count" not in "".join(lines(proxy, "/stats/prometheus?usedonly&filter=books.*upstream_rq_time%24")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return name


@case("stats_config: the tags that are configured, and no others")
def test_tags(proxy: World) -> None:
    proxy.get("/one")
    proxy.expect_stats({"cluster.outbound|80||books.;.upstream_rq_total": 1, "http.http.downstream_rq_2xx": 1})
    wanted = r"books.;.upstream_rq_(total|200|2xx|completed)$|http\.http\.downstream_rq_2xx$|server\.live"
    found = lines(proxy, f"/stats/prometheus?usedonly&filter={wanted.replace('|', '%7C').replace('$', '%24')}")
    assert 'envoy_cluster_upstream_rq_total{cluster_name="outbound|80||books",mesh_id="m 1"} 1' in found
    assert 'envoy_http_http_downstream_rq{mesh_id="m 1",response_code_class="2xx"} 1' in found
    proxy.note("lines", found)


@case("stats_config: histogram buckets on /stats/prometheus")
def test_buckets(proxy: World) -> None:
    proxy.get("/one")
    measured(proxy)
    found = lines(proxy, "/stats/prometheus?filter=books.;.upstream_%28rq_time%7Ccx_connect_ms%29%24")
    buckets = [re.sub(r" \d+$", "", line) for line in found if "_bucket" in line]
    labels = 'cluster_name="outbound|80||books",le="%s",mesh_id="m 1"'
    for bound in ("0.25", "600000", "+Inf"):
        assert f"envoy_cluster_upstream_rq_time_bucket{{{labels % bound}}}" in buckets
    assert len(buckets) == 3 + 2  # cx_connect_ms has the other rule's
    proxy.note("buckets", buckets)


@case("Admin: /stats?histogram_buckets")
def test_buckets_of_the_admin_page(proxy: World) -> None:
    proxy.get("/one")
    name = measured(proxy)
    for form in ("cumulative", "disjoint"):
        query = f"filter=%5Ecluster.outbound.*books.;.upstream_rq_time%24&histogram_buckets={form}"
        _, text = proxy.proxy.admin(f"/stats?{query}")
        proxy.note(form, re.sub(r"\(\d+,\d+\)", "(N,N)", text))
        _, text = proxy.proxy.admin(f"/stats?{query}&format=json")
        (entry,) = [one for one in json.loads(text)["stats"] if "histograms" in one]
        (histogram,) = entry["histograms"]
        assert histogram["name"] == name
        assert [bucket["upper_bound"] for bucket in histogram["buckets"]] == [0.25, 600000]
        counts = [bucket["cumulative"] for bucket in histogram["buckets"]]
        assert (counts[1] if form == "cumulative" else sum(counts)) >= 1
    assert proxy.proxy.admin("/stats?histogram_buckets=odd")[0] == 400
