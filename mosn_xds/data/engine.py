"""The engine: a worker's data path as the feed drives it.

`stage` builds one Spec at a time, so that the feed can spread a big generation over many turns of the reactor; `build` makes
the rest of it, the tables of hash balancers, in steps; `publish` makes the generation serve. Clusters and endpoints take
effect when staged (a hash balancer's when built): each is swapped as one reference, and nothing refers to a new one before
its generation's routes do (make before break). Route tables and listeners are built when staged and swapped in by
`publish`, removals come last. Thousands of clusters leave in portions, as they came. What is replaced drains on its own.

Nothing here waits, and nothing here knows where Specs come from.
"""

from collections.abc import Awaitable, Callable
from itertools import islice

import msgspec

from mosn_xds.base.chance import Random
from mosn_xds.base.errors import ConfigError
from mosn_xds.base.limits import LimitProvider
from mosn_xds.base.stats import StatRegistry
from mosn_xds.data.codec.http2 import ENGINES
from mosn_xds.data.listener.manager import ListenerManager
from mosn_xds.data.match.routes import RouteTable
from mosn_xds.data.match.rpc_routes import RpcTable
from mosn_xds.data.net.local_address import local_address
from mosn_xds.data.net.reactor import Reactor
from mosn_xds.data.observe.log_file import FileStats, LogFiles
from mosn_xds.data.proxy.context import Task, WorkerContext
from mosn_xds.data.proxy.downstream import Drain
from mosn_xds.data.proxy.route_plan import planner
from mosn_xds.data.proxy.rpc.plan import rpc_planner
from mosn_xds.data.upstream.manager import ClusterManager
from mosn_xds.spec import cluster as cluster_spec
from mosn_xds.spec import listener as listener_spec
from mosn_xds.spec import route as route_spec
from mosn_xds.spec import rpc as rpc_spec
from mosn_xds.spec.feed import Configure, DrainStrategy, Drop, HostStat, Put
from mosn_xds.spec.snapshot import Kind
from mosn_xds.spec.tls import Secret

_REMOVALS_PER_TURN = 60
"""Some 0.8 ms."""
_REMOVALS_EVERY_S = 0.004
_LEAVING = (Kind.CLUSTER, Kind.ENDPOINTS, Kind.SECRET)
"""A cluster that is to go need not be told that its hosts go. Secrets go when nobody names them."""


class Engine:
    """Everything that serves in one worker."""

    def __init__(
        self,
        reactor: Reactor,
        settings: Configure,
        stats: StatRegistry,
        limits: LimitProvider,
        random: Random,
        spawn: Callable[[Callable[[], Awaitable[None]]], Task],
    ) -> None:
        self._reactor = reactor
        clusters = ClusterManager(reactor, stats, limits, random, http2_engine=ENGINES[settings.http2])
        self.context = WorkerContext(
            reactor=reactor,
            settings=settings,
            stats=stats,
            limits=limits,
            random=random,
            clusters=clusters,
            log_files=LogFiles(settings.log_flush_interval_s, stats.group(FileStats, "filesystem.")),
            local_ip=local_address(v6=settings.local_address_v6),
            spawn=spawn,
        )
        self._clusters = clusters
        self.build = clusters.build_in_steps()
        """Makes, in steps, what `stage` has put off because it takes long: before `publish`."""
        self._listeners = ListenerManager(self.context)
        self._planner = planner(self.context.environment)
        self._routes: dict[str, RouteTable] = {}
        self._rpc_planner = rpc_planner(self.context.environment)
        self._rpc_routes: dict[str, RpcTable] = {}
        self._drops: list[Drop] = []
        self._leaving: dict[tuple[Kind, str], None] = {}
        """Clusters, endpoints and secrets that no generation has any more, in the order of their removal."""
        self._decode_secret = msgspec.msgpack.Decoder(Secret)
        self._decode_cluster = msgspec.msgpack.Decoder(cluster_spec.Cluster)
        self._decode_endpoints = msgspec.msgpack.Decoder(cluster_spec.Endpoints)
        self._decode_routes = msgspec.msgpack.Decoder(route_spec.RouteTable)
        self._decode_rpc_routes = msgspec.msgpack.Decoder(rpc_spec.RpcRouteTable)
        self._decode_listener = msgspec.msgpack.Decoder(listener_spec.Listener)
        self.generation = 0

    def __repr__(self) -> str:
        return f"<Engine #{self.generation} {self._listeners!r}>"

    # Configuration.

    def give_sockets(self, listener: str, socket_uid: bytes, fds: list[int]) -> None:
        """Bound sockets for a listener that will be staged, one per address; the engine owns them from now on."""
        self._listeners.give_sockets(listener, socket_uid, fds)

    def stage(self, message: Put | Drop) -> None:
        """Build one Spec, or note one removal, for the next `publish`. Raises ConfigError for what cannot be built."""
        if isinstance(message, Drop):
            self._drops.append(message)
            return
        item = message.item
        if (item.kind, item.name) in self._leaving:
            self._remove(item.kind, item.name)  # it comes back as a new one
        try:
            if item.kind is Kind.SECRET:
                self._clusters.tls.put(self._decode_secret.decode(item.raw))
            elif item.kind is Kind.CLUSTER:
                self._clusters.put_cluster(self._decode_cluster.decode(item.raw))
            elif item.kind is Kind.ENDPOINTS:
                self._clusters.put_endpoints(self._decode_endpoints.decode(item.raw))
            elif item.kind is Kind.ROUTE_TABLE:
                slot = self.context.route_slots.get(item.name)
                previous = slot.current if slot is not None else None
                self._routes[item.name] = RouteTable.build(
                    self._decode_routes.decode(item.raw), self._planner, previous
                )
            elif item.kind is Kind.RPC_ROUTE_TABLE:
                rpc_slot = self.context.rpc_route_slots.get(item.name)
                rpc_previous = rpc_slot.current if rpc_slot is not None else None
                self._rpc_routes[item.name] = RpcTable.build(
                    self._decode_rpc_routes.decode(item.raw), self._rpc_planner, rpc_previous
                )
            else:
                self._listeners.stage(self._decode_listener.decode(item.raw))
        except msgspec.MsgspecError as error:
            raise ConfigError(f"cannot decode: {error}") from error

    def publish(self, generation: int) -> None:
        """Make everything staged serve, and remove what is to go."""
        for name, table in self._routes.items():
            self.context.route_slot(name).current = table
        self._routes.clear()
        for name, rpc_table in self._rpc_routes.items():
            self.context.rpc_route_slot(name).current = rpc_table
        self._rpc_routes.clear()
        self._listeners.publish()
        leaving: dict[Kind, dict[tuple[Kind, str], None]] = {kind: {} for kind in _LEAVING}
        for drop in self._drops:
            if drop.kind is Kind.LISTENER:
                self._listeners.drop(drop.name)
            elif drop.kind is Kind.ROUTE_TABLE:
                # Nobody who takes new connections refers to it. Connections that drain are served by it to their end.
                self.context.route_slots.pop(drop.name, None)
            elif drop.kind is Kind.RPC_ROUTE_TABLE:
                self.context.rpc_route_slots.pop(drop.name, None)
            else:
                leaving[drop.kind][drop.kind, drop.name] = None
        self._drops.clear()
        if any(leaving.values()):
            if not self._leaving:
                self._reactor.timers.arm(0.0, self._remove_some)
            for kind in _LEAVING:
                self._leaving.update(leaving[kind])
        self.generation = generation

    def _remove_some(self) -> None:
        for kind, name in list(islice(self._leaving, _REMOVALS_PER_TURN)):
            self._remove(kind, name)
        if self._leaving:
            self._reactor.timers.arm(_REMOVALS_EVERY_S, self._remove_some)

    def _remove(self, kind: Kind, name: str) -> None:
        del self._leaving[kind, name]
        if kind is Kind.SECRET:
            self._clusters.tls.drop(name)
        elif kind is Kind.ENDPOINTS:
            self._clusters.drop_endpoints(name)
        else:
            self._clusters.drop_cluster(name)

    # Life cycle.

    def drain_listeners(self, *, inbound_only: bool, graceful: bool) -> None:
        """`/drain_listeners`: tell connections to go; unless `graceful`, stop accepting at once."""
        self._listeners.drain(inbound_only=inbound_only, graceful=graceful)

    def set_health_failed(self, failed: bool) -> None:
        """`/healthcheck/fail` and `/healthcheck/ok`."""
        self.context.drain.set_health_failed(failed)

    def begin_shutdown(self, limit_s: float, idle_s: float, on_drained: Callable[[], None]) -> None:
        """Go on accepting, end each connection after its response; call `on_drained` when nothing was active for
        `idle_s`, at latest after `limit_s`."""
        context = self.context
        now = self._reactor.clock.now
        context.drain.begin(Drain(now, 0.0, DrainStrategy.IMMEDIATE))
        timers = self._reactor.timers
        clock = self._reactor.clock
        deadline = now + limit_s
        idle_since = now

        def look() -> None:
            nonlocal idle_since
            if self._listeners.active:
                idle_since = clock.now
            if clock.now >= deadline or clock.now - idle_since >= idle_s:
                on_drained()
                return
            timers.arm(min(0.05, max(0.001, deadline - clock.now)), look)

        timers.arm(0.001, look)

    def stop_accepting(self) -> None:
        """Close all listening sockets; connections go on."""
        self._listeners.stop_accepting()

    def close(self) -> None:
        """Close everything at once; log lines are written out."""
        self._listeners.close()
        self._clusters.close()
        self.context.log_files.close()

    # What the agent asks.

    def host_stats(self) -> list[HostStat]:
        """Absolute figures of the hosts that were used since the last call."""
        return self._clusters.host_stats()

    def draining(self) -> dict[str, int]:
        """Connections of chains and listeners that drain, by listener name."""
        return self._listeners.draining()

    def reopen_logs(self) -> None:
        self.context.log_files.reopen()
