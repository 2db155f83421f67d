"""One filter chain at work: its network filters, its connections, and how they end when the chain is replaced."""

from collections.abc import Iterable
from typing import Protocol

from mosn_xds.base.errors import ConfigError
from mosn_xds.data.filters.network_rbac import NetworkRbacFilter
from mosn_xds.data.proxy.context import WorkerContext
from mosn_xds.data.proxy.downstream import Drain, DrainState, Served, Terminal
from mosn_xds.data.proxy.hcm import HttpConnectionManager
from mosn_xds.data.proxy.rpc.connection import RpcServerConnection
from mosn_xds.data.proxy.rpc.manager import RpcManager
from mosn_xds.data.proxy.rpc.tcp_detection import DetectingSession, DetectingTcpProxy
from mosn_xds.data.proxy.tcp_proxy import TcpProxy
from mosn_xds.data.tls.server import ServerTls
from mosn_xds.data.tls.stats import SslStats
from mosn_xds.spec import listener as spec
from mosn_xds.spec.rpc import RpcProxy

_PLAINTEXT = "raw_buffer"


class ChainOwner(Protocol):
    """Who builds a chain and hears of its end."""

    def connection_done(self, connection: Served) -> None: ...

    def chain_retired(self) -> None: ...


class Chain:
    """A built filter chain; it survives updates of its listener for as long as its `uid` is in them.

    `close_reason` is set where every connection is to be closed: a chain with a network filter that nobody here knows.
    """

    __slots__ = (
        "_heir",
        "_owner",
        "_replaced",
        "close_reason",
        "connections",
        "drain",
        "exchange",
        "guards",
        "spec",
        "terminal",
        "tls",
        "uid",
    )

    def __init__(
        self,
        chain: spec.FilterChain,
        context: WorkerContext,
        listener_prefix: str,
        direction: spec.TrafficDirection,
        owner: ChainOwner,
        *,
        drain_modify_only: bool = False,
    ) -> None:
        self.uid = chain.uid
        self.spec = chain
        self._owner: ChainOwner | None = owner
        self._replaced = False
        self._heir: Chain | None = None
        self.drain = DrainState(context.drain, modify_only=drain_modify_only)
        self.connections: set[Served] = set()
        self.guards: list[NetworkRbacFilter] = []
        self.exchange: spec.MetadataExchange | None = None
        self.terminal: Terminal | None = None
        self.close_reason: str | None = None
        self.tls: ServerTls | None = None
        if chain.tls is not None:
            stats = context.stats.group(SslStats, f"{listener_prefix}ssl.")
            self.tls = ServerTls(chain.tls, context.tls, stats, f"{listener_prefix[:-1]} {chain.name}".rstrip())
        elif chain.transport != _PLAINTEXT:
            self.close_reason = f"transport socket {chain.transport} without its configuration"
        for position, network_filter in enumerate(chain.filters):
            try:
                self._add(network_filter, context, listener_prefix, direction)
            except ConfigError as error:
                raise error.under(f"filters[{position}]") from None
        self._expect_terminal()

    def _expect_terminal(self) -> None:
        if self.terminal is None and self.close_reason is None:
            self.close_reason = "no terminal network filter"

    def _add(
        self,
        network_filter: spec.NetworkFilter,
        context: WorkerContext,
        listener_prefix: str,
        direction: spec.TrafficDirection,
    ) -> None:
        if isinstance(network_filter, spec.HttpConnectionManager):
            self.terminal = HttpConnectionManager(network_filter, context, listener_prefix, direction)
        elif isinstance(network_filter, RpcProxy):
            self.terminal = RpcManager(network_filter, context, self.exchange)
        elif isinstance(network_filter, spec.TcpProxy):
            if network_filter.protocols:
                self.terminal = DetectingTcpProxy(network_filter, context, self.exchange)
            else:
                self.terminal = TcpProxy(network_filter, context, self.exchange)
        elif isinstance(network_filter, spec.NetworkRbac):
            self.guards.append(NetworkRbacFilter(network_filter, context.stats))
        elif isinstance(network_filter, spec.MetadataExchange):
            self.exchange = network_filter
        elif isinstance(network_filter, spec.CloseConnection) and self.close_reason is None:
            self.close_reason = network_filter.reason

    @property
    def name(self) -> str:
        return self.spec.name

    def connection_done(self, connection: Served) -> None:
        """A connection of this chain is gone."""
        self.connections.discard(connection)
        if self._owner is not None:
            self._owner.connection_done(connection)
        if self._replaced and not self.connections:
            self._retire()

    def connection_replaced(self, connection: Served, heir: Served) -> None:
        """A connection's protocol is known now, and who serves that has taken it over."""
        self.connections.discard(connection)
        if self._heir is None or not self._heir.take_over(heir):
            self.connections.add(heir)
        elif not self.connections:
            self._retire()

    def begin_drain(self, drain: Drain, heirs: Iterable["Chain"] = ()) -> None:
        """The chain was replaced by `heirs`, or removed. RPC connections go on under an heir that differs in its proxy only."""
        self.drain.own = drain
        self._replaced = True
        heir = self._heir = next((one for one in heirs if one is not self and one.admits_alike(self)), None)
        if heir is not None:
            for connection in list(self.connections):
                if heir.take_over(connection):
                    self.connections.discard(connection)
        if not self.connections:
            self._retire()

    def admits_alike(self, other: "Chain") -> bool:
        """Whether both take the same connections in the same way, up to the terminal filter."""
        mine, theirs = self.spec, other.spec
        return (
            mine.match == theirs.match
            and mine.transport == theirs.transport
            and mine.tls == theirs.tls
            and mine.filters[:-1] == theirs.filters[:-1]
        )

    def take_over(self, connection: Served) -> bool:
        """Serve a connection of another chain from now on. False if this chain cannot."""
        terminal = self.terminal
        moved = False
        if isinstance(connection, DetectingSession):
            moved = isinstance(terminal, DetectingTcpProxy) and connection.move(terminal, self.drain, self)
        elif isinstance(connection, RpcServerConnection):
            manager = terminal.rpc if isinstance(terminal, DetectingTcpProxy) else terminal
            moved = isinstance(manager, RpcManager) and connection.move(manager, self.drain, self)
        if not moved:
            return False
        connection.info.chain_name = self.name
        self.connections.add(connection)
        return True

    def end_drain(self) -> None:
        """The drain time is over: idle connections close, the others after what they are doing."""
        for connection in list(self.connections):
            connection.close_if_idle()

    def _retire(self) -> None:
        terminal, self.terminal = self.terminal, None
        self._heir = None
        if terminal is not None:
            terminal.close()
        # The listener that built this chain has it in its hands: without the link neither is in a cycle.
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.chain_retired()

    @property
    def active(self) -> int:
        """Connections on which something is going on."""
        return sum(not connection.idle for connection in self.connections)

    def __repr__(self) -> str:
        return f"<Chain {self.name or self.uid.hex()[:8]} {len(self.connections)} connections>"
