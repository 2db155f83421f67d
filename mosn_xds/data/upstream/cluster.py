"""A Cluster: one upstream service at run time; where an attempt gets its host and its stream.

It is built from a Spec. A changed Spec makes a new Cluster, which takes over the hosts of the old one with their figures,
but not their pools: those drain. An endpoints update changes nothing but the membership and the balancer over it.
`charge_*` is where the proxy says how an attempt ended, for the counters of cluster and host.
"""

from typing import Final, Protocol, TypeVar

import msgspec

from mosn_xds.base.errors import ResetReason
from mosn_xds.base.sockets import Keepalive
from mosn_xds.base.stats import StatGroup
from mosn_xds.base.steps import Steps, run_to_end
from mosn_xds.data.balance.api import Balancer, is_degraded, is_healthy
from mosn_xds.data.balance.balancer import HashBalancer, Surroundings, balancer_steps
from mosn_xds.data.balance.ring_hash import MaglevTable, Ring
from mosn_xds.data.balance.settings import BalancerSettings
from mosn_xds.data.codec.head import Fields, ResponseHead, Version
from mosn_xds.data.codec.rpc import RpcProtocol
from mosn_xds.data.net.dial import DialOptions
from mosn_xds.data.observe.info import ConnectionInfo
from mosn_xds.data.tls.client import TlsOptions
from mosn_xds.data.upstream.api import LbContext, PendingStream, StreamHandler
from mosn_xds.data.upstream.breaker import PRIORITY_NAMES, Breaker, BreakerStats, RemainingStats
from mosn_xds.data.upstream.host import Host
from mosn_xds.data.upstream.membership import Membership
from mosn_xds.data.upstream.original_dst import OriginalDstHosts
from mosn_xds.data.upstream.parts import UpstreamParts
from mosn_xds.data.upstream.pool import Pool, PoolSettings
from mosn_xds.data.upstream.pool_maker import PoolMaker
from mosn_xds.data.upstream.rpc_binding import RpcBinding
from mosn_xds.data.upstream.stats import ClusterStats, MaglevStats, ResponseKind, RingStats
from mosn_xds.data.upstream.tcp import TcpConnection, TcpHandler
from mosn_xds.data.upstream.transports import Transports
from mosn_xds.spec.cluster import Cluster as ClusterSpec
from mosn_xds.spec.cluster import Discovery, Endpoints, OriginalDst, UpstreamProtocol

G = TypeVar("G", bound=StatGroup)

# Copies: an attribute of an enum costs three times as much as a global.
_EXTERNAL, _INTERNAL = ResponseKind.EXTERNAL, ResponseKind.INTERNAL
_GRPC_SUCCESSES: Final = frozenset((b"0", b"1", b"3", b"5", b"6", b"7", b"8", b"9", b"10", b"11", b"16"))
"""Statuses that stand for an HTTP status below 500 (Envoy's `grpcToHttpStatus`): the host did its work."""


class HostChooser(Protocol):
    """A balancer, or ORIGINAL_DST's hosts."""

    def choose(self, context: LbContext | None) -> Host | None: ...


class Cluster:
    """See the module. `needs_context`: picks depend on where the downstream connection was going. `multiplexes`: connections
    may carry many streams, and end under some of them (GOAWAY)."""

    __slots__ = (
        "_balancing",
        "_chooser",
        "_membership",
        "_original_dst",
        "_parts",
        "_per_version",
        "_pools",
        "_settings",
        "_watched",
        "breakers",
        "clock",
        "multiplexes",
        "name",
        "needs_context",
        "spec",
        "stats",
        "transports",
    )

    def __init__(self, spec: ClusterSpec, parts: UpstreamParts, previous: "Cluster | None" = None) -> None:
        self.name = spec.name
        self.spec = spec
        self.clock = parts.reactor.clock
        self._parts = parts
        self._watched: dict[str, StatGroup] = {}
        stats = self.stats = parts.stats.group(ClusterStats, stat_prefix(spec))
        self.breakers = (
            Breaker(spec.name, False, spec.breakers, parts.limits, stats),
            Breaker(spec.name, True, spec.high_breakers, parts.limits, stats),
        )
        for name, breaker, thresholds in zip(
            PRIORITY_NAMES, self.breakers, (spec.breakers, spec.high_breakers), strict=True
        ):
            prefix = f"{stats.prefix}circuit_breakers.{name}."
            self._watch(BreakerStats, prefix).breaker = breaker
            if thresholds.track_remaining:
                self._watch(RemainingStats, f"{prefix}remaining_").breaker = breaker
        dial = parts.same(dial_options(spec))
        self._settings = tuple(PoolSettings(parts.reactor, spec, stats, breaker, dial) for breaker in self.breakers)
        self.transports = Transports(spec, parts.tls, parts.stats, stats.prefix)
        self._pools = PoolMaker(spec, parts, self._settings, self.transports, stats.prefix)
        self._per_version = spec.protocol is UpstreamProtocol.USE_DOWNSTREAM
        self.multiplexes = spec.protocol is not UpstreamProtocol.HTTP1
        self._balancing = parts.same(
            BalancerSettings(
                policy=spec.balancing,
                panic_threshold_percent=spec.panic_threshold_percent,
                overprovisioning_percent=spec.overprovisioning_factor,
                locality_weighted=spec.locality_weighted,
            )
        )
        self._membership = Membership()
        self._original_dst: OriginalDstHosts | None = None
        self.needs_context = spec.discovery is Discovery.ORIGINAL_DST
        self._chooser: HostChooser
        if self.needs_context:
            self._chooser = self._original_dst = OriginalDstHosts(
                spec.original_dst or OriginalDst(), parts.reactor, stats, self._on_original_dst_change
            )
        else:
            self._chooser = NoHosts()
            if previous is not None:
                self._chooser = previous._chooser  # which knows the same hosts
                self._membership = previous.hand_over()
            self._rebuild()

    # Picking.

    def choose_host(self, context: LbContext | None) -> Host | None:
        """The host for one attempt; None: there is none that may be used."""
        return self._chooser.choose(context)

    @property
    def metadata(self) -> bytes:
        """Filter metadata as JSON, empty for none."""
        return self.spec.metadata

    @property
    def hosts(self) -> list[Host]:
        return self._original_dst.hosts if self._original_dst is not None else self._membership.hosts

    # Connecting.

    def open_stream(
        self,
        host: Host,
        handler: StreamHandler,
        version: Version,
        high_priority: bool = False,
        options: TlsOptions | None = None,
    ) -> PendingStream | None:
        """A stream to `host`; `version` is the downstream's protocol, `options` what its connection must be if it is secure.
        Returns what can be cancelled while `handler` waits, None if it has been answered."""
        if version.rpc is not None:
            return self._pools.rpc(host, version.rpc, high_priority, options).open_stream(handler)
        index: int = high_priority
        if self._per_version and version is Version.HTTP2:
            index += 2
        if options is not None and (options.header or self.transports.tls(host) is not None):
            other = host.other_pools.get((index, options))
            if other is None:
                other = self._pools.http(host, version, high_priority, options)
                host.add_other_pool((index, options), other)
            return other.open_stream(handler)
        pool = host.pools[index]
        if pool is None:
            pool = self._pools.http(host, version, high_priority)
            host.set_pool(index, pool)
        return pool.open_stream(handler)

    def open_tcp(
        self,
        host: Host,
        handler: TcpHandler,
        high_priority: bool = False,
        connection: ConnectionInfo | None = None,
    ) -> TcpConnection | None:
        """A raw connection to `host` for the downstream `connection`, to be cancelled by what is returned; None if `handler` has
        been answered."""
        stats = self.stats
        settings = self._settings[high_priority]
        breaker = settings.breaker
        if breaker.connections is not None and breaker.connections.is_open():
            stats.upstream_cx_overflow += 1
            handler.on_upstream_failure(ResetReason.OVERFLOW, "", host)
            return None
        if breaker.pending is not None and breaker.pending.is_open():
            stats.upstream_rq_pending_overflow += 1
            handler.on_upstream_failure(ResetReason.OVERFLOW, "", host)
            return None
        self._parts.report.note_used(self.name, host)
        options = None if connection is None else self.transports.tcp_options(host, connection)
        secure = self.transports.securing(host, options)
        return TcpConnection(host, settings, handler, next(self._parts.connection_ids), secure)

    def bound_pool(
        self, binding: RpcBinding, host: Host, protocol: RpcProtocol, high_priority: bool, options: TlsOptions | None
    ) -> Pool:
        """A pool for one client's connection to `host`."""
        return self._pools.bound(binding, host, protocol, high_priority, options)

    # How attempts end.

    def charge_response(
        self, host: Host, head: ResponseHead, *, retried: bool, internal: bool = False, grpc: bool = False
    ) -> None:
        """`host` has answered; `retried`: the answer is dropped and the request sent again. `internal` as in Envoy's stats:
        the request came from inside the mesh (``x-envoy-internal``). With `grpc` its status says whether that was a
        success (`charge_grpc`), unless the answer is an HTTP error."""
        status = head.status
        if retried:
            self.stats.count_response(status, ResponseKind.RETRIED)
            host.rq_error += 1
            return
        self.stats.count_response(status, _INTERNAL if internal else _EXTERNAL)
        if status >= 500:
            host.rq_error += 1
        elif not grpc:
            host.rq_success += 1

    def charge_grpc(self, host: Host, fields: Fields) -> None:
        """A gRPC call has ended with `fields`, empty if it was cut off: no status is an error, too."""
        status = next((value for name, value in fields if name == b"grpc-status"), b"")
        if status in _GRPC_SUCCESSES:
            host.rq_success += 1
        else:
            host.rq_error += 1

    def charge_complete(self, host: Host, elapsed_ms: float) -> None:
        """The response is complete, `elapsed_ms` after the request was."""
        self.stats.upstream_rq_time.record(elapsed_ms)

    def charge_failure(self, host: Host | None, reason: ResetReason, *, internal: bool = False) -> None:
        """The request is answered here because its attempt failed. `host` None: there was no host to try."""
        status = 502 if reason is ResetReason.PROTOCOL_ERROR else 503
        self.stats.count_response(status, ResponseKind.INTERNAL if internal else ResponseKind.EXTERNAL)
        if host is not None and reason is not ResetReason.OVERFLOW:
            host.rq_error += 1

    def charge_timeout(self, host: Host | None, *, internal: bool = False) -> None:
        """The request is answered 504 here, for the host took too long."""
        self.stats.count_response(504, ResponseKind.INTERNAL if internal else ResponseKind.EXTERNAL)
        if host is not None:
            host.rq_timeout += 1
            host.rq_error += 1

    # Change.

    def set_endpoints(self, endpoints: Endpoints | None) -> None:
        """Use these endpoints from now on. Raises msgspec.MsgspecError for what cannot be decoded."""
        if self._original_dst is not None:
            return
        change = self._membership.update(endpoints, self.clock.now)
        factor = endpoints.overprovisioning_factor if endpoints is not None else None
        percent = factor if factor is not None else self.spec.overprovisioning_factor
        if not change.changed and percent == self._balancing.overprovisioning_percent:
            return
        if percent != self._balancing.overprovisioning_percent:
            self._balancing = msgspec.structs.replace(self._balancing, overprovisioning_percent=percent)
        if change.added or change.removed:
            self.stats.membership_change += 1
        self._let_go(change.removed)
        self._rebuild()

    def hand_over(self) -> Membership:
        """For the Cluster that replaces this one: the hosts, whose pools drain from now on."""
        for host in self._membership.hosts:
            host.drain_pools()
        return self._membership

    def drain(self) -> None:
        """This cluster is gone: its pools take no new streams and close when idle."""
        if self._original_dst is not None:
            self._original_dst.close()
            self._original_dst = None
        self._let_go(self._membership.hosts)
        self._membership = Membership()
        if self._parts.builds is not None:
            self._parts.builds.drop(self)
        self._chooser = NoHosts()
        self._count_members()

    def close(self) -> None:
        """End every pooled connection now."""
        for host in self.hosts:
            for pool in (*host.pools, *host.other_pools.values()):
                if pool is not None:
                    pool.close()

    def _on_original_dst_change(self, added: list[Host], removed: list[Host]) -> None:
        self.stats.membership_change += 1
        self._let_go(removed)
        self._count_members()

    def _let_go(self, hosts: list[Host]) -> None:
        for host in hosts:
            host.drain_pools()
            self._parts.report.note_removed(self.name, host)

    def _rebuild(self) -> None:
        parts = self._parts
        stats = self.stats

        def on_panic() -> None:
            stats.lb_healthy_panic += 1

        steps: Steps[Balancer[Host]] = balancer_steps(
            self._membership.localities,
            self._balancing,
            Surroundings(parts.random, self.clock, lambda: stats.upstream_rq_active, on_panic),
        )
        if parts.builds is None:
            self.balance(run_to_end(steps))
        else:
            parts.builds.put(self, steps)
        self._count_members()

    def balance(self, balancer: Balancer[Host]) -> None:
        """Choose hosts by this balancer from now on."""
        self._chooser = balancer
        if isinstance(balancer, HashBalancer):
            for table in balancer.tables:
                if table is not None:
                    self._show_table(table.table)

    def _watch(self, kind: type[G], prefix: str) -> G:
        """A group that tells of the cluster, and is there for as long as the cluster."""
        group = self._watched[prefix] = self._parts.stats.group(kind, prefix)
        return group

    def _show_table(self, table: Ring[Host] | MaglevTable[Host]) -> None:
        if isinstance(table, Ring):
            ring = self._watch(RingStats, f"{self.stats.prefix}ring_hash_lb.")
            ring.size = table.size
            ring.min_hashes_per_host = table.min_points_per_host
            ring.max_hashes_per_host = table.max_points_per_host
        else:
            maglev = self._watch(MaglevStats, f"{self.stats.prefix}maglev_lb.")
            maglev.min_entries_per_host = table.min_entries_per_host
            maglev.max_entries_per_host = table.max_entries_per_host

    def _count_members(self) -> None:
        hosts = self.hosts
        stats = self.stats
        stats.membership_total = len(hosts)
        stats.membership_healthy = sum(map(is_healthy, hosts))
        stats.membership_degraded = sum(map(is_degraded, hosts))
        stats.max_host_weight = max((host.weight for host in hosts), default=0)

    def __repr__(self) -> str:
        hosts = self.hosts
        healthy = sum(map(is_healthy, hosts))
        return f"<Cluster {self.name} {healthy}/{len(hosts)} hosts, {self.stats.upstream_rq_active} active>"


class NoHosts:
    """The chooser of a cluster that is gone."""

    def choose(self, context: LbContext | None) -> Host | None:
        return None


def stat_prefix(spec: ClusterSpec) -> str:
    """``cluster.NAME.`` with Envoy's clean-up of the name."""
    name = (spec.alt_stat_name or spec.name).removeprefix(".").removesuffix(".")
    for sign in ("://", ":/", ":", "\0"):
        name = name.replace(sign, "_")
    return f"cluster.{name}."


def dial_options(spec: ClusterSpec) -> DialOptions:
    """How the cluster's connections are made."""
    keepalive = spec.keepalive
    return DialOptions(
        timeout_s=spec.connect_timeout_s,
        buffer_limit_bytes=spec.buffer_limit_bytes,
        source=spec.source_address,
        keepalive=None
        if keepalive is None
        else Keepalive(probes=keepalive.probes, time_s=keepalive.time_s, interval_s=keepalive.interval_s),
    )
