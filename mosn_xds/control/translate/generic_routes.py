"""Route tables of RPC proxies (generic_proxy.v3.RouteConfiguration): inline, or by generic RDS."""

from collections.abc import Callable
from typing import TypeVar

from mosn_xds.control.translate.common import take_source
from mosn_xds.control.translate.context import Context
from mosn_xds.control.translate.generic_matcher import take_matcher
from mosn_xds.control.translate.model import Need
from mosn_xds.control.translate.take import Take
from mosn_xds.spec.rpc import RpcMatcher, RpcRouteTable, RpcVirtualHost
from mosn_xds.xds.messages import TYPE_PREFIX

T = TypeVar("T")

GENERIC_ROUTES_URL = f"{TYPE_PREFIX}envoy.extensions.filters.network.generic_proxy.v3.RouteConfiguration"


def take_rds(take: Take, type_url: str) -> str:
    """The name of a route table that comes on its own: GenericRds, Drds, Trds. It is in the report's needs."""
    name = take.text("route_config_name")
    source, timeout_s = take_source(take.child("config_source"))
    take.report.needs[Need(type_url, name, source, timeout_s)] = None
    return name


def take_generic_route_table(take: Take, context: Context) -> RpcRouteTable:
    """generic_proxy.v3.RouteConfiguration. The clusters that it names are in the report, too."""
    name = take.text("name")
    hosts, clusters = naming_clusters(take, lambda: _take_virtual_hosts(take, name, context))
    return RpcRouteTable(name, tuple(hosts), tuple(clusters))


def naming_clusters(take: Take, make: Callable[[], T]) -> tuple[T, dict[str, str]]:
    """What `make` makes, and the clusters that the report got of it, with what they are called there."""
    report = take.report
    outside, report.clusters = report.clusters, {}
    made = make()
    clusters = report.clusters
    report.clusters = {**outside, **clusters}
    return made, clusters


def _take_virtual_hosts(take: Take, table: str, context: Context) -> list[RpcVirtualHost]:
    hosts = [_take_virtual_host(one, context) for one in take.children("virtual_hosts")]
    _refuse_duplicates(take, table, hosts)
    routes = take.child("routes")
    if routes is not None:
        if any("*" in host.domains for host in hosts):
            reason = "'routes' cannot be specified at the same time as a catch-all ('*') virtual host in route"
            raise take.error("routes", f"{reason} {table}")
        hosts.append(RpcVirtualHost("default", ("*",), take_matcher(routes, context)))
    return hosts


def _take_virtual_host(take: Take, context: Context) -> RpcVirtualHost:
    routes = take.child("routes")
    matcher = RpcMatcher() if routes is None else take_matcher(routes, context)
    return RpcVirtualHost(take.text("name"), take.texts("hosts"), matcher)


def _refuse_duplicates(take: Take, table: str, hosts: list[RpcVirtualHost]) -> None:
    seen: set[str] = set()
    for number, host in enumerate(hosts):
        for domain in host.domains:
            reason = ""
            if not domain:
                reason = f"Invalid empty host name in route {table}"
            elif domain in seen and domain == "*":
                reason = f"Only a single wildcard domain is permitted in route {table}"
            elif domain in seen:
                reason = (
                    f"Only unique values for host are permitted. Duplicate entry of domain {domain} in route {table}"
                )
            if reason:
                raise take.error(f"virtual_hosts[{number}].hosts", reason)
            seen.add(domain)
