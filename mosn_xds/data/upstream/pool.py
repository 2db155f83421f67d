"""Connection pools: streams to one host at one priority, waiting for connections or riding on them.

`ConnectionPool` is protocol-neutral: a connection says how many more streams it can carry (`free_streams`: 1 or 0 for
HTTP/1) and tells the pool when it becomes full or has room again. The rules are Envoy's
(source/common/conn_pool/conn_pool_base.cc):

- a stream goes to the connection that had room last; without one it waits, if the breaker allows, and a connection is made
  for it unless those being made are expected to carry all who wait (`expected_streams`: 1 for HTTP/1, the configured
  concurrency for HTTP/2). A host always gets one connection, whatever `max_connections` says;
- a connection that cannot be made fails everybody who waits;
- a pool that drains takes no new streams, serves those who wait, and closes each connection when it is idle.

Idle connections have no timer each: the pool sweeps once per idle time-out, so that going idle costs one clock reading.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Protocol

from mosn_xds.base.errors import ResetReason
from mosn_xds.base.sockets import family_of
from mosn_xds.data.net.dial import DialOptions, Preamble
from mosn_xds.data.net.reactor import Reactor
from mosn_xds.data.net.secure_wire import Securing
from mosn_xds.data.net.timers import Timer
from mosn_xds.data.upstream.breaker import Breaker
from mosn_xds.data.upstream.stats import ClusterStats
from mosn_xds.spec.cluster import Cluster as ClusterSpec
from mosn_xds.spec.common import Address

if TYPE_CHECKING:
    from mosn_xds.data.upstream.api import PendingStream, StreamHandler
    from mosn_xds.data.upstream.connection import PooledConnection
    from mosn_xds.data.upstream.host import Host


class Pool(Protocol):
    """Gives streams to one host."""

    def open_stream(self, handler: "StreamHandler") -> "PendingStream | None":
        """Answer `handler` later, and return what can be cancelled until then; or answer it now, and return None."""
        ...

    def drain(self) -> None:
        """Take no new streams and close when idle."""
        ...

    def close(self) -> None:
        """End everything now; streams are reset."""
        ...

    @property
    def is_empty(self) -> bool:
        """Nobody waits, and there is no connection."""
        ...


class PoolSettings:
    """What all pools of one cluster at one priority have in common."""

    __slots__ = ("_dial", "_dial_other_family", "breaker", "reactor", "spec", "stats")

    def __init__(
        self, reactor: Reactor, spec: ClusterSpec, stats: ClusterStats, breaker: Breaker, dial: DialOptions
    ) -> None:
        self.reactor = reactor
        self.spec = spec
        self.stats = stats
        self.breaker = breaker
        self._dial = dial
        self._dial_other_family = dial
        source = dial.source
        if source is not None:
            family = family_of(source.host)
            others = (one for one in spec.extra_source_addresses if family_of(one.host) != family)
            self._dial_other_family = replace(dial, source=next(others, None))

    def dial_options(self, address: Address) -> DialOptions:
        """How to connect to `address`: from the first of the source addresses that is of its family, if one is."""
        source = self._dial.source
        if source is None or family_of(source.host) == family_of(address.host):
            return self._dial
        return self._dial_other_family


class Waiting:
    """A stream that waits for a connection: the `PendingStream` of a pool."""

    __slots__ = ("_handler", "_pool")

    def __init__(self, pool: "ConnectionPool", handler: "StreamHandler") -> None:
        self._pool: ConnectionPool | None = pool
        self._handler: StreamHandler | None = handler

    def cancel(self) -> None:
        pool = self._pool
        if self.end() is not None and pool is not None:
            pool.on_cancel(self)

    def end(self) -> "StreamHandler | None":
        """For the pool: who waited, None if nobody does any more; links are cut, for the handler may keep this."""
        handler, self._handler = self._handler, None
        self._pool = None
        return handler

    def __repr__(self) -> str:
        return f"<Waiting for {self._pool!r}>"


class ConnectionPool:
    """See the module. `connect` starts a connection for the pool given; what it returns connects, or has failed and will
    say so with `on_connect_failure`."""

    __slots__ = (
        "_breaker",
        "_connect",
        "_connections",
        "_draining",
        "_expected",
        "_idle_timer",
        "_ready",
        "_requests",
        "_settings",
        "_stats",
        "_waiting",
        "host",
        "secure",
    )

    def __init__(
        self, host: "Host", settings: PoolSettings, connect: "Callable[[ConnectionPool], PooledConnection]"
    ) -> None:
        self.host = host
        self.secure: Securing | Preamble | None = None
        """How its connections are secured; None for plaintext."""
        self._settings = settings
        self._stats = settings.stats
        self._breaker = settings.breaker
        self._requests = settings.breaker.requests
        self._connect = connect
        self._ready: list[PooledConnection] = []
        self._connections: set[PooledConnection] = set()
        self._expected = 0  # streams that the connections being made will carry
        self._waiting: dict[Waiting, None] = {}
        self._draining = False
        self._idle_timer: Timer | None = None

    @property
    def settings(self) -> PoolSettings:
        return self._settings

    # Streams.

    def open_stream(self, handler: "StreamHandler") -> "PendingStream | None":
        if self._ready:
            self._attach(handler)
            return None
        pending = self._breaker.pending
        stats = self._stats
        if pending is not None:
            if pending.is_open():
                stats.upstream_rq_pending_overflow += 1
                handler.on_upstream_failure(ResetReason.OVERFLOW, "", self.host)
                return None
            pending.add(1)
        stats.upstream_rq_pending_total += 1
        stats.upstream_rq_pending_active += 1
        self.host.rq_pending_active += 1
        waiting = Waiting(self, handler)
        self._waiting[waiting] = None
        self._connect_for_waiting()
        return waiting

    def on_cancel(self, waiting: Waiting) -> None:
        """`waiting` has been given up. Its connection is made nevertheless, for the next one."""
        self._take_out(waiting)
        self._stats.upstream_rq_cancelled += 1
        if self._draining and not self._waiting:
            self._close_idle()

    def _attach(self, handler: "StreamHandler") -> None:
        """Put a stream on the connection that was used last."""
        host = self.host
        stats = self._stats
        requests = self._requests
        if requests is not None:
            if requests.is_open():
                stats.upstream_rq_active_overflow += 1
                handler.on_upstream_failure(ResetReason.OVERFLOW, "", host)
                return
            requests.add(1)
        host.rq_total += 1
        host.active_requests += 1
        stats.upstream_rq_total += 1
        stats.upstream_rq_active += 1
        connection = self._ready[-1]
        stream = connection.open(handler)
        if not connection.free_streams:
            self._ready.pop()
        handler.on_upstream_ready(stream, host)

    def _serve_waiting(self) -> None:
        while self._waiting and self._ready:
            waiting = next(iter(self._waiting))
            self._take_out(waiting)
            handler = waiting.end()
            if handler is not None:
                self._attach(handler)
        if self._waiting:
            self._connect_for_waiting()

    def _take_out(self, waiting: Waiting) -> None:
        if self._waiting.pop(waiting, _ABSENT) is _ABSENT:
            return
        self._stats.upstream_rq_pending_active -= 1
        self.host.rq_pending_active -= 1
        if self._breaker.pending is not None:
            self._breaker.pending.add(-1)

    # Connections.

    def _connect_for_waiting(self) -> None:
        while len(self._waiting) > self._expected:
            connections = self._breaker.connections
            if connections is not None and connections.is_open():
                self._stats.upstream_cx_overflow += 1
                if self._connections:
                    return
            connection = self._connect(self)
            self._expected += connection.expected_streams
            self._connections.add(connection)

    def on_connected(self, connection: "PooledConnection") -> None:
        """`connection` is ready for its first stream."""
        self._expected -= connection.expected_streams
        self._ready.append(connection)
        self._serve_waiting()
        if self._draining:
            self._close_idle()
        elif connection.free_streams and not connection.active_streams:
            self._watch_idle()

    def on_connect_failure(self, connection: "PooledConnection", reason: ResetReason, detail: str) -> None:
        """`connection` could not be made: nobody who waits is served."""
        self._expected -= connection.expected_streams
        self._connections.discard(connection)
        failed, self._waiting = self._waiting, {}
        host = self.host
        stats = self._stats
        stats.upstream_rq_pending_active -= len(failed)
        host.rq_pending_active -= len(failed)
        if self._breaker.pending is not None:
            self._breaker.pending.add(-len(failed))
        for waiting in failed:
            handler = waiting.end()
            if handler is not None:  # else cancelled by one of those before it
                stats.upstream_rq_pending_failure_eject += 1
                handler.on_upstream_failure(reason, detail, host)

    def on_closed(self, connection: "PooledConnection") -> None:
        """`connection` is gone, or will be when its output is sent; its streams have been told."""
        self._connections.discard(connection)
        self.on_full(connection)
        if self._waiting:
            self._connect_for_waiting()

    def on_negotiated(self, connection: "PooledConnection", successor: "PooledConnection") -> None:
        """`connection` has found out which protocol its peer speaks: `successor` speaks it, and says next that it is
        connected."""
        self._expected += successor.expected_streams - connection.expected_streams
        self._connections.discard(connection)
        self._connections.add(successor)

    def on_full(self, connection: "PooledConnection") -> None:
        """`connection` takes no more streams."""
        if connection in self._ready:
            self._ready.remove(connection)

    def on_stream_end(self) -> None:
        """A stream that was attached has ended."""
        self.host.active_requests -= 1
        self._stats.upstream_rq_active -= 1
        if self._requests is not None:
            self._requests.add(-1)

    def on_room(self, connection: "PooledConnection") -> None:
        """`connection`, which was full, takes another stream."""
        if self._draining and not self._waiting:
            connection.drain()
            return
        self._ready.append(connection)
        if self._waiting:
            # Not now: a peer that closes after its response has often done so in what is about to be read.
            self._settings.reactor.defer(self._serve_waiting)
        if self._idle_timer is None:
            self._watch_idle()

    def on_idle(self, connection: "PooledConnection") -> None:
        """The last stream of `connection`, which had room all the time, has ended."""
        if self._draining and not self._waiting:
            connection.drain()
        elif self._idle_timer is None:
            self._watch_idle()

    # Idling and draining.

    def _watch_idle(self) -> None:
        timeout_s = self._settings.spec.idle_timeout_s
        if self._idle_timer is None and timeout_s:
            self._idle_timer = self._settings.reactor.timers.arm(timeout_s, self._sweep)

    def _sweep(self) -> None:
        """Close what has been idle for long enough; come back when the next one may be."""
        self._idle_timer = None
        timeout_s = self._settings.spec.idle_timeout_s
        if not timeout_s:
            return
        reactor = self._settings.reactor
        now = reactor.clock.now
        next_s: float | None = None
        for connection in tuple(self._ready):
            if connection.active_streams:
                continue
            due_s = connection.idle_since_s + timeout_s
            if due_s <= now:
                self._stats.upstream_cx_idle_timeout += 1
                connection.close()
            elif next_s is None or due_s < next_s:
                next_s = due_s
        if next_s is not None:
            self._idle_timer = reactor.timers.arm(next_s - now, self._sweep)

    def drain(self) -> None:
        if not self._draining:
            self._draining = True
            self._close_idle()

    def _close_idle(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        for connection in tuple(self._connections):
            # A connection under way is still good for those who wait.
            if connection in self._ready or not self._waiting:
                connection.drain()

    @property
    def is_empty(self) -> bool:
        """Nobody waits, and there is no connection: nothing is lost with it."""
        return not self._connections and not self._waiting

    def close(self) -> None:
        self._draining = True
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        for connection in tuple(self._connections):
            connection.close()

    def __repr__(self) -> str:
        state = "draining " if self._draining else ""
        return (
            f"<ConnectionPool {state}{self.host.text} {len(self._connections)} connections, "
            f"{len(self._ready)} ready, {len(self._waiting)} waiting>"
        )


_ABSENT: Final = object()
