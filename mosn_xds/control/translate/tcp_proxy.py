"""envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy."""

from mosn_xds.control.translate.access_log import take_access_logs
from mosn_xds.control.translate.context import Context
from mosn_xds.control.translate.take import Take
from mosn_xds.spec.listener import CloseConnection, TcpCluster, TcpProxy
from mosn_xds.spec.route import SourceIpHash

_IDLE_TIMEOUT_S = 3600.0


def translate(take: Take, context: Context, name: str) -> TcpProxy | CloseConnection:
    """A proxy that would have to tunnel closes its connections: bytes must not go out bare instead."""
    prefix = take.text("stat_prefix")
    clusters = _take_clusters(take)
    idle_s = take.duration("idle_timeout")
    attempts = take.wrapped_integer("max_connect_attempts")
    proxy = TcpProxy(
        prefix,
        clusters,
        _IDLE_TIMEOUT_S if idle_s is None else idle_s or None,
        1 if attempts is None else attempts,
        take.duration("max_downstream_connection_duration") or None,
        take_access_logs(take, context),
        _take_hash_policy(take),
        context.sniffed_protocols.protocols,
        context.sniffed_protocols.timeout_s,
    )
    if take.has("tunneling_config"):
        take.ignore("tunneling_config", "tunnelling is not supported: connections are closed")
        return CloseConnection(name, "tunneling_config is not supported")
    return proxy


def _take_clusters(take: Take) -> tuple[TcpCluster, ...]:
    if take.has("cluster"):
        cluster = take.text("cluster")
        take.report.clusters.setdefault(cluster, "cluster")
        return (TcpCluster(cluster),)
    weighted = take.child("weighted_clusters")
    found = []
    for one in weighted.children("clusters") if weighted is not None else ():
        cluster = one.text("name")
        take.report.clusters.setdefault(cluster, "cluster")
        found.append(TcpCluster(cluster, one.integer("weight")))
    return tuple(found)


def _take_hash_policy(take: Take) -> tuple[SourceIpHash, ...]:
    found = []
    for one in take.children("hash_policy"):
        if one.has("source_ip"):
            one.skip("source_ip")
            found.append(SourceIpHash())
        else:
            one.ignore(one.one_of("filter_state") or "", "this hash policy is not supported")
    return tuple(found)
