"""Mutants for test_admin_and_stats.py."""

from tests.mutation.mutant import Ignored, Returns, Swap, mutant

CANARY = "test_an_unknown_page"

_APP = "admin.app:AdminApp"

MUTANTS = [
    mutant(
        "completed requests are not counted",
        Swap("data.proxy.hcm:HttpConnectionManager.request_ended", "stats.downstream_rq_completed += 1", "pass"),
        "test_plain_traffic_is_counted",
    ),
    mutant(
        "timeouts are not counted",
        Swap("data.proxy.router:Router.on_route_timeout", "cluster.stats.upstream_rq_timeout += 1", "pass"),
        "test_timeouts_are_counted",
    ),
    mutant(
        "retries are not counted",
        Swap("data.upstream.retry:RetryState._decide", "stats.upstream_rq_retry += 1", "pass"),
        "test_retries_are_counted",
    ),
    mutant(
        "failures to connect are not counted",
        Returns("data.upstream.meter:ConnectionMeter.connect_failed"),
        "test_connect_failures_are_counted",
    ),
    mutant(
        "who broke a connection is not counted",
        Swap(
            "data.upstream.meter:ConnectionMeter.closed", "stats.upstream_cx_destroy_remote_with_active_rq += 1", "pass"
        ),
        "test_broken_connections_are_counted",
    ),
    mutant(
        "direct responses are not counted",
        Swap("data.proxy.router:Router.start", "manager.stats.rq_direct_response += 1", "pass"),
        "test_own_answers_are_counted",
    ),
    mutant(
        "bytes from TCP clients are not counted",
        Swap(
            "data.proxy.tcp_proxy:TcpSession._to_upstream",
            "self._stats.downstream_cx_rx_bytes_total += len(data)",
            "pass",
        ),
        "test_tcp_is_counted",
    ),
    mutant(
        "usedonly has no effect",
        Swap("admin.stats_pages:wanted.is_wanted", "used_only and (not used)", "False"),
        "test_readiness_queries",
    ),
    mutant(
        "open connections are not counted",
        Swap("data.listener.listener:", "stats.downstream_cx_active += 1", "pass"),
        "test_active_connections_query",
    ),
    mutant(
        "the state has no line of its own",
        Swap(f"{_APP}._ready", "'LIVE\\n'", "'LIVE'"),
        "test_ready",
        "test_healthcheck_fail",
    ),
    mutant(
        "the server does not know its node",
        Swap(f"{_APP}._server_info", "to_dict(bootstrap.node)", "{}"),
        "test_server_info",
    ),
    mutant("statistics have no JSON", Swap(f"{_APP}._stats", "form == 'json'", "False"), "test_stats_json"),
    mutant(
        "names have no tags",
        Swap("admin.stats_pages:_family", "tags.split(full_name)", "(full_name, ())"),
        "test_prometheus",
    ),
    mutant("hosts have no flags", Returns("admin.clusters_page:_flags", "''"), "test_clusters"),
    mutant("listeners have no addresses", Swap(f"{_APP}._listeners", "one.addresses", "()"), "test_listeners"),
    mutant(
        "inline routes are not shown",
        Returns("process.admin_service:RunningAgent._inline_routes", "()"),
        "test_config_dump",
    ),
    mutant(
        "?resource has no effect",
        Swap(f"{_APP}._config_dump", "wanted is not None", "False"),
        "test_config_dump_of_a_resource",
    ),
    mutant(
        "GET changes log levels",
        Swap(f"{_APP}.__init__", "_guarded(page, post_only=True)", "_guarded(page, post_only=path != '/logging')"),
        "test_mutations_need_post",
    ),
    mutant(
        "there is every page",
        Swap(f"{_APP}._unknown", "404", "200"),
        "test_an_unknown_page",
        spares="test_server_info",
    ),
    mutant(
        "a failed health check has no effect",
        Swap(f"{_APP}._health_check", "self._agent.set_health_failed(failed)", "None"),
        "test_healthcheck_fail",
    ),
    mutant(
        "drain_type has no effect",
        Ignored("spec.listener:Listener.drain_modify_only"),
        "test_healthcheck_fail_and_modify_only",
    ),
]
