"""What a listener hands to the terminal network filter of a chain, and how a chain drains.

The listener knows addresses and chains, the terminal filter knows a protocol; between them stand a `Downstream` (the
accepted connection with what is known of it), a `DrainState` (whether the connection should end soon) and two protocols.
"""

from typing import Protocol

from mosn_xds.base.chance import Random
from mosn_xds.data.net.consumer import WireConsumer
from mosn_xds.data.net.reactor import Reactor
from mosn_xds.data.net.wire import Wire
from mosn_xds.data.observe.info import ConnectionInfo
from mosn_xds.spec.feed import DrainStrategy


class Drain:
    """One reason to drain: begun at `since_s`, over after `time_s`; gradual drains end connections bit by bit."""

    __slots__ = ("gradual", "since_s", "time_s")

    def __init__(self, since_s: float, time_s: float, strategy: DrainStrategy) -> None:
        self.since_s = since_s
        self.time_s = time_s
        self.gradual = strategy is DrainStrategy.GRADUAL

    def should_close(self, random: Random, now_s: float) -> bool:
        """Asked when a response begins: whether this connection should end with it (Envoy's DrainManager::drainClose)."""
        if not self.gradual or self.time_s <= 0:
            return True
        elapsed_s = now_s - self.since_s
        return elapsed_s >= self.time_s or random.random() * self.time_s < elapsed_s


class DrainState:
    """Whether the connections of one filter chain should end: for the chain's own reason, or for the worker's.

    `modify_only`: a failed health check is no reason (`drain_type: MODIFY_ONLY`).
    """

    __slots__ = ("modify_only", "own", "worker")

    def __init__(self, worker: "WorkerDrain", *, modify_only: bool = False) -> None:
        self.own: Drain | None = None
        self.worker = worker
        self.modify_only = modify_only

    def should_close(self, random: Random, now_s: float) -> bool:
        own = self.own
        if own is not None and own.should_close(random, now_s):
            return True
        worker = self.worker
        return worker.active and worker.should_close(random, now_s, self.modify_only)


class WorkerDrain:
    """Reasons that hold for a whole worker: failed health check, shutdown, `/drain_listeners`."""

    __slots__ = ("active", "drain", "health_failed")

    def __init__(self) -> None:
        self.active = False
        self.health_failed = False
        self.drain: Drain | None = None

    def set_health_failed(self, failed: bool) -> None:
        self.health_failed = failed
        self.active = failed or self.drain is not None

    def begin(self, drain: Drain) -> None:
        self.drain = drain
        self.active = True

    def should_close(self, random: Random, now_s: float, modify_only: bool = False) -> bool:
        return (self.health_failed and not modify_only) or (
            self.drain is not None and self.drain.should_close(random, now_s)
        )


class Owner(Protocol):
    """Who is told that a connection is gone."""

    def connection_done(self, connection: "Served") -> None: ...

    def connection_replaced(self, connection: "Served", heir: "Served") -> None:
        """`heir` serves the connection from now on."""
        ...


class Served(WireConsumer, Protocol):
    """A connection as the terminal filter serves it: the consumer of its wire."""

    info: ConnectionInfo

    @property
    def idle(self) -> bool:
        """Nothing is going on that a close would cut."""
        ...

    def close_if_idle(self) -> bool:
        """The drain time is over: close now if idle, else after what is going on. Returns whether it closed."""
        ...


class Downstream:
    """An accepted connection on its way to a terminal filter."""

    __slots__ = ("buffer_limit_bytes", "drain", "info", "owner", "reactor", "wire")

    def __init__(
        self,
        wire: Wire,
        info: ConnectionInfo,
        reactor: Reactor,
        drain: DrainState,
        owner: Owner,
        buffer_limit_bytes: int,
    ) -> None:
        self.wire = wire
        self.info = info
        self.reactor = reactor
        self.drain = drain
        self.owner = owner
        self.buffer_limit_bytes = buffer_limit_bytes

    def done(self, connection: Served) -> None:
        self.owner.connection_done(connection)

    def replace(self, connection: Served, heir: Served) -> None:
        self.owner.connection_replaced(connection, heir)


class Terminal(Protocol):
    """The runtime of a terminal network filter, one per filter chain."""

    def serve(self, downstream: Downstream) -> Served:
        """Take the connection; the listener makes what is returned the wire's consumer and starts the wire."""
        ...

    def close(self) -> None:
        """The chain is gone and so are its connections."""
        ...
