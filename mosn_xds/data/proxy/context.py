"""What a worker shares among everything it builds: one object, so that constructors ask for one thing."""

import socket
from collections.abc import Awaitable, Callable
from typing import Protocol

from mosn_xds.base.chance import Random
from mosn_xds.base.limits import LimitProvider
from mosn_xds.base.stats import StatRegistry
from mosn_xds.data.filters.extensions import ExtensionFilters
from mosn_xds.data.match.routes import RouteTable
from mosn_xds.data.match.rpc_routes import RpcTable
from mosn_xds.data.net.reactor import Reactor
from mosn_xds.data.observe.getters import FormatEnvironment
from mosn_xds.data.observe.log_file import LogFiles
from mosn_xds.data.proxy.downstream import WorkerDrain
from mosn_xds.data.proxy.rpc.protocols import Protocols
from mosn_xds.data.upstream.manager import ClusterManager
from mosn_xds.spec.feed import Configure


class Task(Protocol):
    """A running async filter."""

    def cancel(self) -> None: ...


class RouteSlot:
    """Where the current route table of one name is found; connection managers hold the slot, updates change `current`."""

    __slots__ = ("current",)

    def __init__(self, current: RouteTable | None = None) -> None:
        self.current = current


class RpcRouteSlot:
    """The same for the route tables of RPC proxies, whose names are their own."""

    __slots__ = ("current",)

    def __init__(self, current: RpcTable | None = None) -> None:
        self.current = current


class WorkerContext:
    """The worker's shared parts."""

    __slots__ = (
        "clusters",
        "drain",
        "environment",
        "extension_filters",
        "limits",
        "local_ip",
        "log_files",
        "protocols",
        "random",
        "reactor",
        "route_slots",
        "rpc_route_slots",
        "settings",
        "spawn",
        "stats",
        "tls",
    )

    def __init__(
        self,
        *,
        reactor: Reactor,
        settings: Configure,
        stats: StatRegistry,
        limits: LimitProvider,
        random: Random,
        clusters: ClusterManager,
        log_files: LogFiles,
        local_ip: str,
        spawn: Callable[[Callable[[], Awaitable[None]]], Task],
    ) -> None:
        self.reactor = reactor
        self.settings = settings
        self.stats = stats
        self.limits = limits
        self.random = random
        self.clusters = clusters
        self.tls = clusters.tls
        self.log_files = log_files
        self.local_ip = local_ip
        self.spawn = spawn
        self.drain = WorkerDrain()
        self.environment = FormatEnvironment(reactor.clock, random, socket.gethostname())
        self.route_slots: dict[str, RouteSlot] = {}
        self.rpc_route_slots: dict[str, RpcRouteSlot] = {}
        self.protocols = Protocols()
        self.extension_filters = ExtensionFilters()

    def route_slot(self, name: str) -> RouteSlot:
        """The slot of an RDS name; empty until its table comes."""
        slot = self.route_slots.get(name)
        if slot is None:
            slot = self.route_slots[name] = RouteSlot()
        return slot

    def rpc_route_slot(self, name: str) -> RpcRouteSlot:
        """The slot of a generic RDS name; empty until its table comes."""
        slot = self.rpc_route_slots.get(name)
        if slot is None:
            slot = self.rpc_route_slots[name] = RpcRouteSlot()
        return slot
