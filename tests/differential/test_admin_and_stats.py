"""Figures and the admin API: counters after scripted traffic, what a supervisor asks, and the pages' shapes."""

import json
import time

import pytest

from tests.differential.bed import Bed, cluster, endpoint, http_listener, listener, tcp_proxy, vhost
from tests.differential.pair import case
from tests.differential.world import World
from tests.support.tcp_upstream import TcpUpstream
from tests.support.upstream import Upstream, drop, hang, respond

ROUTES = vhost(
    "all",
    ["*"],
    """
    - {name: counted, match: {prefix: /counted}, route: {cluster: counted}}
    - {name: timed, match: {prefix: /timed}, route: {cluster: timed, timeout: 0.2s}}
    - name: retried
      match: {prefix: /retried}
      route: {cluster: retried, retry_policy: {retry_on: 5xx, num_retries: 1}}
    - {name: dead, match: {prefix: /dead}, route: {cluster: dead}}
    - {name: broken, match: {prefix: /broken}, route: {cluster: broken}}
    - {name: redirect, match: {path: /redirect}, redirect: {path_redirect: /}}
    - {name: direct, match: {path: /direct}, direct_response: {status: 200}}
    """,
)

BED = Bed(
    listeners=[
        http_listener("http", ROUTES, drain_timeout="0.1s", listener_fields={"stat_prefix": "front"}),
        http_listener("modify-only", ROUTES, listener_fields={"drain_type": "MODIFY_ONLY"}),
        listener("tcp", tcp_proxy("tcp-stats", "tcp-counted")),
    ],
    clusters=[
        cluster("counted", "a"),
        cluster("timed", "a"),
        cluster("retried", "a"),
        cluster("broken", "a"),
        cluster("dead", endpoint("closed-port")),
        cluster("tcp-counted", "t"),
    ],
    upstreams={"a": Upstream, "t": TcpUpstream},
)


@case("Statistics: of a cluster and a connection manager after plain traffic")
def test_plain_traffic_is_counted(proxy: World) -> None:
    proxy.upstream("a").script(respond(200), respond(201), respond(404), respond(503))
    with proxy.connect() as link:
        for _ in range(4):
            link.request(path="/counted")
    cluster_stats = {
        "upstream_rq_total": 4,
        "upstream_rq_completed": 4,
        "upstream_rq_200": 1,
        "upstream_rq_201": 1,
        "upstream_rq_404": 1,
        "upstream_rq_503": 1,
        "upstream_rq_2xx": 2,
        "upstream_rq_4xx": 1,
        "upstream_rq_5xx": 1,
        "upstream_cx_total": 1,
        "upstream_cx_http1_total": 1,
        "upstream_cx_active": 1,
        "upstream_rq_active": 0,
        "upstream_rq_pending_total": 1,
        "upstream_rq_retry": 0,
        "upstream_rq_timeout": 0,
        "external.upstream_rq_200": 1,
        "external.upstream_rq_2xx": 2,
        "membership_total": 1,
        "membership_healthy": 1,
    }
    proxy.expect_stats({f"cluster.counted.{name}": value for name, value in cluster_stats.items()})
    manager_stats = {
        "downstream_rq_total": 4,
        "downstream_rq_http1_total": 4,
        "downstream_rq_2xx": 2,
        "downstream_rq_4xx": 1,
        "downstream_rq_5xx": 1,
        "downstream_rq_completed": 4,
        "downstream_rq_active": 0,
        "downstream_cx_total": 1,
        "downstream_cx_http1_total": 1,
        "downstream_cx_active": 0,
        "downstream_cx_destroy": 1,
        "downstream_cx_destroy_remote": 1,
        "rq_total": 4,
        "no_route": 0,
    }
    proxy.expect_stats({f"http.http.{name}": value for name, value in manager_stats.items()})
    listener_stats = {
        "downstream_cx_total": 1,
        "downstream_cx_active": 0,
        "downstream_cx_destroy": 1,
        "http.http.downstream_rq_completed": 4,
        "http.http.downstream_rq_2xx": 2,
    }
    proxy.expect_stats({f"listener.front.{name}": value for name, value in listener_stats.items()})


@case("Statistics: timeouts")
def test_timeouts_are_counted(proxy: World) -> None:
    proxy.upstream("a").script(hang())
    assert proxy.get("/timed").status == 504
    stats = {"upstream_rq_timeout": 1, "upstream_rq_504": 1, "upstream_rq_5xx": 1, "upstream_rq_total": 1}
    proxy.expect_stats({f"cluster.timed.{name}": value for name, value in stats.items()})


@case("Statistics: retries")
def test_retries_are_counted(proxy: World) -> None:
    proxy.upstream("a").script(respond(503), respond(200), respond(503), respond(503))
    assert proxy.get("/retried").status == 200
    assert proxy.get("/retried").status == 503
    stats = {
        "upstream_rq_total": 4,
        "upstream_rq_retry": 2,
        "upstream_rq_retry_success": 1,
        "upstream_rq_retry_limit_exceeded": 1,
        "upstream_rq_retry_backoff_exponential": 2,
        "retry.upstream_rq_503": 2,
        "upstream_rq_503": 1,
        "upstream_rq_200": 1,
        "upstream_rq_completed": 2,
    }
    proxy.expect_stats({f"cluster.retried.{name}": value for name, value in stats.items()})


@case("Statistics: failures to connect")
def test_connect_failures_are_counted(proxy: World) -> None:
    assert proxy.get("/dead").status == 503
    stats = {
        "upstream_cx_connect_fail": 1,
        "upstream_cx_total": 1,
        "upstream_cx_active": 0,
        "upstream_rq_pending_failure_eject": 1,
        "upstream_rq_503": 1,
        "upstream_rq_total": 0,
    }
    proxy.expect_stats({f"cluster.dead.{name}": value for name, value in stats.items()})


@case("Statistics: connections that an upstream breaks")
def test_broken_connections_are_counted(proxy: World) -> None:
    proxy.upstream("a").script(drop())
    assert proxy.get("/broken").status == 503
    stats = {
        "upstream_cx_destroy": 1,
        "upstream_cx_destroy_remote": 1,
        "upstream_cx_destroy_with_active_rq": 1,
        "upstream_cx_destroy_remote_with_active_rq": 1,
        "upstream_rq_503": 1,
        "upstream_rq_total": 1,
    }
    proxy.expect_stats({f"cluster.broken.{name}": value for name, value in stats.items()})


@case("Statistics: answers of the proxy's own")
def test_own_answers_are_counted(proxy: World) -> None:
    names = ("no_route", "rq_redirect", "rq_direct_response")
    before = proxy.proxy.stats(r"^http\.http\.(no_route|rq_redirect|rq_direct_response)$")
    proxy.get("/nowhere")
    proxy.get("/redirect")
    proxy.get("/direct")
    # A redirect is a direct response too; rq_redirect is for those that an upstream asks for.
    more = dict(zip(names, (1, 0, 2), strict=True))
    proxy.expect_stats({f"http.http.{name}": before.get(f"http.http.{name}", 0) + more[name] for name in names})


@case("Statistics: a TCP proxy")
def test_tcp_is_counted(proxy: World) -> None:
    with proxy.connect("tcp") as link:
        link.send(b"12345")
        assert link.raw.read_exactly(7) == b"t\n12345"
        proxy.expect_stats({"tcp.tcp-stats.downstream_cx_total": 1, "cluster.tcp-counted.upstream_cx_active": 1})
    proxy.await_log("tcp-stats")
    proxy.expect_stats(
        {
            "tcp.tcp-stats.downstream_cx_rx_bytes_total": 5,
            "tcp.tcp-stats.downstream_cx_tx_bytes_total": 7,
            "cluster.tcp-counted.upstream_cx_total": 1,
            "cluster.tcp-counted.upstream_cx_active": 0,
            "cluster.tcp-counted.upstream_cx_tx_bytes_total": 5,
            "cluster.tcp-counted.upstream_cx_rx_bytes_total": 7,
        }
    )


@case("Admin: what a supervisor asks to know whether the proxy is ready")
def test_readiness_queries(proxy: World) -> None:
    def ask(query: str) -> list[str]:
        status, text = proxy.proxy.admin(f"/stats?usedonly&filter={query}")
        assert status == 200
        proxy.note(query, sorted(text.splitlines()))
        return sorted(text.splitlines())

    # Without a control plane the update counters were never touched, and usedonly leaves them out.
    assert ask(r"^(cluster_manager\.cds|listener_manager\.lds)\.(update_success|update_rejected)$") == []
    assert ask(r"^(server\.state|listener_manager\.workers_started)") == [
        "listener_manager.workers_started: 1",
        "server.state: 0",
    ]


@case("Admin: open connections by listener, as a drain asks for them")
def test_active_connections_query(proxy: World) -> None:
    query = "/stats?usedonly&filter=downstream_cx_active$"
    with proxy.connect() as link:
        link.request(path="/direct")
        proxy.expect_stats({"listener.front.downstream_cx_active": 1})
        _, text = proxy.proxy.admin(query)
        assert "listener.front.downstream_cx_active: 1" in text.splitlines()
        assert "http.http.downstream_cx_active: 1" in text.splitlines()
    proxy.expect_stats({"listener.front.downstream_cx_active": 0})
    # A gauge that was set stays in what is used, at 0.
    _, text = proxy.proxy.admin(query)
    assert "listener.front.downstream_cx_active: 0" in text.splitlines()


@case("Admin: /ready")
def test_ready(proxy: World) -> None:
    assert proxy.proxy.admin("/ready") == (200, "LIVE\n")


@case("Admin: /server_info")
def test_server_info(proxy: World) -> None:
    status, text = proxy.proxy.admin("/server_info")
    info = json.loads(text)
    assert (status, info["state"], info["command_line_options"]["concurrency"]) == (200, "LIVE", 2)
    assert (info["node"]["id"], info["node"]["cluster"]) == ("node-1", "test-cluster")
    for field in ("version", "uptime_current_epoch", "uptime_all_epochs", "hot_restart_version"):
        assert isinstance(info[field], str)
    assert info["uptime_all_epochs"].endswith("s")


@case("Admin: /stats in JSON, and a filter that is no regular expression")
def test_stats_json(proxy: World) -> None:
    status, text = proxy.proxy.admin(r"/stats?format=json&filter=^server\.(live|state)$")
    assert status == 200
    assert sorted(json.loads(text)["stats"], key=lambda stat: stat["name"]) == [
        {"name": "server.live", "value": 1},
        {"name": "server.state", "value": 0},
    ]
    status, text = proxy.proxy.admin("/stats?filter=%28unclosed")
    assert status == 400


@case("Admin: /stats/prometheus")
def test_prometheus(proxy: World) -> None:
    proxy.get("/counted/once")
    deadline = time.monotonic() + 10
    while not proxy.proxy.stats(r"^cluster\.counted\.upstream_rq_200$").get("cluster.counted.upstream_rq_200"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    status, text = proxy.proxy.admin("/stats/prometheus")
    lines = text.splitlines()
    assert status == 200
    assert "# TYPE envoy_cluster_upstream_rq_total counter" in lines
    assert "# TYPE envoy_cluster_upstream_cx_active gauge" in lines
    assert "# TYPE envoy_cluster_upstream_rq_time histogram" in lines
    assert any(line.startswith('envoy_cluster_upstream_rq_total{envoy_cluster_name="counted"} ') for line in lines)
    codes = 'envoy_cluster_upstream_rq{envoy_response_code="200",envoy_cluster_name="counted"} '
    assert any(line.startswith(codes) for line in lines)
    classes = 'envoy_http_downstream_rq_xx{envoy_response_code_class="2",envoy_http_conn_manager_prefix="http"} '
    assert any(line.startswith(classes) for line in lines)
    assert any('le="+Inf"' in line for line in lines)


@case("Admin: /clusters in text and JSON")
def test_clusters(proxy: World) -> None:
    _, text = proxy.proxy.admin("/clusters")
    host = f"127.0.0.1:{proxy.port('a')}"
    lines = text.splitlines()
    for line in (
        "counted::observability_name::counted",
        "counted::default_priority::max_connections::1024",
        "counted::default_priority::max_retries::3",
        "counted::high_priority::max_requests::1024",
        "counted::added_via_api::false",
        f"counted::{host}::health_flags::healthy",
        f"counted::{host}::weight::1",
        f"counted::{host}::priority::0",
        f"counted::{host}::success_rate::-1",
        f"counted::{host}::canary::false",
    ):
        assert line in lines
    _, text = proxy.proxy.admin("/clusters?format=json")
    (found,) = (item for item in json.loads(text)["cluster_statuses"] if item["name"] == "counted")
    (status,) = found["host_statuses"]
    assert status["address"]["socket_address"] == {"address": "127.0.0.1", "port_value": proxy.port("a")}
    assert (status["health_status"], status["weight"]) == ({"eds_health_status": "HEALTHY"}, 1)
    assert {stat["name"] for stat in status["stats"]} >= {"rq_total", "rq_success", "rq_error", "cx_total", "cx_active"}


@case("Admin: /listeners in text and JSON")
def test_listeners(proxy: World) -> None:
    _, text = proxy.proxy.admin("/listeners")
    assert f"http::127.0.0.1:{proxy.listener_port('http')}" in text.splitlines()
    _, text = proxy.proxy.admin("/listeners?format=json")
    proxy.note("listeners", sorted(str(item["name"]) for item in json.loads(text)["listener_statuses"]))


@case("Admin: /config_dump sections of a static configuration")
def test_config_dump(proxy: World) -> None:
    _, text = proxy.proxy.admin("/config_dump")
    sections = {item["@type"].rpartition(".")[2]: item for item in json.loads(text)["configs"]}
    proxy.note("sections", list(sections))
    names = [item["cluster"]["name"] for item in sections["ClustersConfigDump"]["static_clusters"]]
    assert sorted(names) == ["broken", "counted", "dead", "retried", "tcp-counted", "timed"]
    names = [item["listener"]["name"] for item in sections["ListenersConfigDump"]["static_listeners"]]
    assert sorted(names) == ["http", "modify-only", "tcp"]
    tables = sections["RoutesConfigDump"]["static_route_configs"]
    (table,) = (one for one in tables if one["route_config"]["name"] == "http-routes")
    assert table["route_config"]["virtual_hosts"][0]["routes"][0]["name"] == "counted"
    assert sections["BootstrapConfigDump"]["bootstrap"]["node"]["id"] == "node-1"


@case("Admin: /config_dump?resource")
def test_config_dump_of_a_resource(proxy: World) -> None:
    status, text = proxy.proxy.admin("/config_dump?resource=static_clusters")
    assert status == 200
    assert {item["cluster"]["name"] for item in json.loads(text)["configs"]} >= {"counted", "dead"}
    status, text = proxy.proxy.admin("/config_dump?resource=nope")
    assert (status, text.strip()) == (404, "nope not found in config dump")


@case("Admin: mutations need POST")
@pytest.mark.parametrize(
    "path", ["/healthcheck/fail", "/quitquitquit", "/drain_listeners", "/logging?level=info", "/reset_counters"]
)
def test_mutations_need_post(proxy: World, path: str) -> None:
    status, text = proxy.proxy.admin(path)
    assert (status, text.strip()) == (405, "Method GET not allowed, POST required.")


@case("Admin: an unknown page is 404")
def test_an_unknown_page(proxy: World) -> None:
    assert proxy.proxy.admin("/no/such/page")[0] == 404


@case("Admin: /healthcheck/fail makes the server drain: not ready, and connections are asked to close")
def test_healthcheck_fail(proxy: World) -> None:
    assert proxy.proxy.admin("/healthcheck/fail", method="POST") == (200, "OK\n")
    try:
        reply = proxy.get("/direct")
        assert (reply.status, reply.get("connection"), reply.closed) == (200, "close", True)
        assert proxy.proxy.admin("/ready") == (503, "DRAINING\n")
    finally:
        assert proxy.proxy.admin("/healthcheck/ok", method="POST") == (200, "OK\n")
    assert proxy.proxy.admin("/ready") == (200, "LIVE\n")
    assert not proxy.get("/direct").closed


@case("Admin: /healthcheck/fail leaves listeners alone whose drain_type is MODIFY_ONLY")
def test_healthcheck_fail_and_modify_only(proxy: World) -> None:
    assert proxy.proxy.admin("/healthcheck/fail", method="POST") == (200, "OK\n")
    try:
        with proxy.connect("modify-only") as link:
            for _ in range(2):
                reply = link.request(path="/direct")
                assert (reply.status, reply.get("connection")) == (200, None)
    finally:
        assert proxy.proxy.admin("/healthcheck/ok", method="POST") == (200, "OK\n")
