"""`/clusters`: hosts with their figures, as Envoy's text and as envoy.admin.v3.Clusters."""

from collections.abc import Iterable, Iterator
from typing import Any

from mosn_xds.admin.view import AgentView, ClusterView
from mosn_xds.spec.cluster import Breakers, Discovery, Endpoint, Health, Locality

_UNLIMITED = (1 << 32) - 1
_COUNTERS = ("cx_connect_fail", "cx_total", "rq_error", "rq_success", "rq_timeout", "rq_total")
_GAUGES = ("cx_active", "rq_active")
_HEALTH_FLAGS = {Health.UNHEALTHY: "/failed_eds_health", Health.TIMEOUT: "/failed_eds_health"}
_FLAGS_DRAINING = "/failed_eds_health/eds_status_draining"


def _flags(endpoint: Endpoint) -> str:
    if endpoint.health is Health.DRAINING:
        return _FLAGS_DRAINING
    if endpoint.health is Health.DEGRADED:
        return "/degraded_eds_health"
    return _HEALTH_FLAGS.get(endpoint.health, "healthy")


def _hosts(view: ClusterView) -> Iterator[tuple[Locality, Endpoint]]:
    for locality, endpoints in view.localities:
        for endpoint in endpoints:
            yield locality, endpoint


def text(agent: AgentView, pattern: Any = None) -> str:
    """Lines of ``cluster::address::key::value``."""
    lines: list[str] = []
    for view in _selected(agent, pattern):
        name = view.spec.name
        lines.append(f"{name}::observability_name::{view.spec.alt_stat_name or name}")
        for label, breakers in (("default", view.spec.breakers), ("high", view.spec.high_breakers)):
            for key, value in _thresholds(breakers):
                lines.append(f"{name}::{label}_priority::{key}::{value}")
        lines.append(f"{name}::added_via_api::{'true' if view.spec.added_via_api else 'false'}")
        for locality, endpoint in _hosts(view):
            host = f"{name}::{endpoint.address}"
            figures = agent.host_figures(name, str(endpoint.address))
            lines += [f"{host}::{key}::{figures.get(key, 0)}" for key in sorted((*_COUNTERS, *_GAUGES))]
            for key, shown in (
                ("hostname", endpoint.hostname),
                ("health_flags", _flags(endpoint)),
                ("weight", endpoint.weight),
                ("region", locality.region),
                ("zone", locality.zone),
                ("sub_zone", locality.sub_zone),
                ("canary", "false"),
                ("priority", locality.priority),
                ("success_rate", -1),
                ("local_origin_success_rate", -1),
            ):
                lines.append(f"{host}::{key}::{shown}")
    return "".join(f"{line}\n" for line in lines)


def as_json(agent: AgentView, pattern: Any = None) -> dict[str, Any]:
    """envoy.admin.v3.Clusters; zero values are left out, as in proto JSON."""
    statuses = []
    for view in _selected(agent, pattern):
        spec = view.spec
        status: dict[str, Any] = {"name": spec.name}
        if spec.added_via_api:
            status["added_via_api"] = True
        hosts = [_host(agent, spec.name, locality, endpoint) for locality, endpoint in _hosts(view)]
        if hosts:
            status["host_statuses"] = hosts
        status["circuit_breakers"] = {
            "thresholds": [
                {"priority": priority, **{key: value for key, value in _thresholds(breakers) if value}}
                if priority
                else {key: value for key, value in _thresholds(breakers) if value}
                for priority, breakers in ((None, spec.breakers), ("HIGH", spec.high_breakers))
            ]
        }
        status["observability_name"] = spec.alt_stat_name or spec.name
        if spec.discovery is Discovery.EDS:
            status["eds_service_name"] = spec.eds_name
        statuses.append(status)
    return {"cluster_statuses": statuses} if statuses else {}


def _host(agent: AgentView, cluster: str, locality: Locality, endpoint: Endpoint) -> dict[str, Any]:
    figures = agent.host_figures(cluster, str(endpoint.address))
    stats = [{"name": name, **_value(figures.get(name))} for name in _COUNTERS]
    stats += [{"name": name, **_value(figures.get(name)), "type": "GAUGE"} for name in _GAUGES]
    address = endpoint.address
    host: dict[str, Any] = {
        "address": {"pipe": {"path": address.host}}
        if address.is_pipe
        else {"socket_address": {"address": address.host, "port_value": address.port}},
        "stats": stats,
        "health_status": _health(endpoint.health),
        "weight": endpoint.weight,
    }
    if endpoint.hostname:
        host["hostname"] = endpoint.hostname
    if locality.priority:
        host["priority"] = locality.priority
    place = {
        key: value
        for key, value in (("region", locality.region), ("zone", locality.zone), ("sub_zone", locality.sub_zone))
        if value
    }
    host["locality"] = place
    return host


def _value(number: int | None) -> dict[str, str]:
    return {"value": str(number)} if number else {}


def _health(health: Health) -> dict[str, Any]:
    """envoy.admin.v3.HostHealthStatus."""
    shown = Health.HEALTHY if health is Health.UNKNOWN else health
    return {"eds_health_status": shown.name}


def _thresholds(breakers: Breakers) -> Iterable[tuple[str, int]]:
    for key, value in (
        ("max_connections", breakers.max_connections),
        ("max_pending_requests", breakers.max_pending_requests),
        ("max_requests", breakers.max_requests),
        ("max_retries", breakers.max_retries),
    ):
        yield key, _UNLIMITED if value is None else value


def _selected(agent: AgentView, pattern: Any) -> Iterator[ClusterView]:
    for view in agent.clusters():
        if pattern is None or pattern.search(view.spec.name):
            yield view
