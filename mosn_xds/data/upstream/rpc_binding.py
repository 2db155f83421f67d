"""An upstream connection of one client's own: for protocols whose connections have a state (`PoolMode.BOUND`), and for
proxies that ask for it (`bind_upstream`).

The client's first request chooses cluster and host, and where its connection cannot be made, the next try chooses again. All
that follows goes there, whatever its route says. Frames go out as they came, with the client's ids; an answer belongs to the
oldest request of its id that has none, so that a protocol without ids is one whose answers are in order. What the server says
of its own accord goes to the client, and what the client says that is no request goes to the server.

Neither connection is any good without the other. When the client goes, its upstream ends when it has got what was sent; when
the upstream ends, or wants to, the client gets the answers that there are, and is told to go.

Back-pressure. A client that does not read its answers has its server not read from, for nobody else waits for that. The
server is not asked for signs of life meanwhile: they would stand behind what is not read.
"""

from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

from mosn_xds.base.errors import ResetReason
from mosn_xds.data.codec.rpc import Kind, RpcMessage, RpcProtocol, RpcRequest, RpcResponse
from mosn_xds.data.upstream.api import LbContext, PendingStream, StreamHandler
from mosn_xds.data.upstream.host import Host
from mosn_xds.data.upstream.multiplexed import UNLIMITED_STREAMS
from mosn_xds.data.upstream.pool import ConnectionPool, Pool
from mosn_xds.data.upstream.rpc import MOST_UNSENT_BYTES, RpcConnection, RpcParts, RpcStream

if TYPE_CHECKING:
    from mosn_xds.data.tls.client import TlsOptions
    from mosn_xds.data.upstream.cluster import Cluster

_MOST_UNANSWERED: Final = 10_000
"""Answers that are waited for, some of them by nobody any more, beyond which a connection is given up."""


class BoundClient(Protocol):
    """The other end of a binding."""

    def on_push(self, frame: bytes) -> None:
        """The server said this of its own accord."""
        ...

    def on_upstream_gone(self) -> None:
        """No more requests can be sent; those under way may still be answered."""
        ...


class RpcBinding:
    """One client's binding, for as long as the client's connection. `host` is None until there is one."""

    __slots__ = ("_client", "_connection", "_gone", "_held", "_pool", "host")

    def __init__(self, client: BoundClient) -> None:
        self._client: BoundClient | None = client
        self._connection: BoundConnection | None = None
        self._gone = False
        self._held = False
        self._pool: Pool | None = None
        self.host: Host | None = None

    # For the client.

    def choose_host(self, cluster: "Cluster", context: LbContext | None) -> Host | None:
        """The bound host, the cluster's choice while there is none."""
        return self.host or cluster.choose_host(context)

    def open_stream(
        self,
        cluster: "Cluster",
        host: Host,
        handler: StreamHandler,
        protocol: RpcProtocol,
        high_priority: bool,
        options: "TlsOptions | None",
    ) -> PendingStream | None:
        """As `Cluster.open_stream`; the first one binds."""
        if self._gone:
            handler.on_upstream_failure(ResetReason.REMOTE_CONNECTION_FAILURE, "", host)
            return None
        pool = self._pool
        if pool is None:
            self.host = host
            pool = self._pool = cluster.bound_pool(self, host, protocol, high_priority, options)
        return pool.open_stream(handler)

    def send(self, frame: bytes) -> None:
        """Say this to the server; to nobody, if no request has bound the client yet. A server that reads nothing of it is
        given up in the end."""
        connection = self._connection
        if connection is not None:
            if connection.wire.pending_bytes > MOST_UNSENT_BYTES:
                connection.close()
            else:
                connection.wire.write(frame)

    def hold(self) -> None:
        """The client does not read: neither is its server read from."""
        self._held = True
        if self._connection is not None:
            self._connection.stop_reading()

    def release(self) -> None:
        """The client reads again, or no more ever."""
        if self._held:
            self._held = False
            if self._connection is not None:
                self._connection.go_on_reading()

    def close(self) -> None:
        """The client is gone."""
        self.release()
        self._client = None
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.drain()

    # For the connection.

    def connected(self, connection: "BoundConnection") -> None:
        self._connection = connection
        if self._held:
            connection.stop_reading()

    def pushed(self, frame: bytes) -> bool:
        """Hand on what the server said; False if nobody is there to hear it."""
        if self._client is None:
            return False
        self._client.on_push(frame)
        return True

    def lost(self) -> None:
        """The connection takes no more requests. One that never was does not bind."""
        if self._connection is None:
            self.host = self._pool = None
        elif not self._gone:
            self._gone = True
            if self._client is not None:
                self._client.on_upstream_gone()

    def __repr__(self) -> str:
        return f"<RpcBinding to {self.host.text if self.host is not None else 'nobody yet'}>"


class BoundConnection(RpcConnection):
    """The one connection of a pool that is one client's."""

    __slots__ = ("_binding", "_unanswered", "_unheard", "_waiting")

    def __init__(self, pool: ConnectionPool, parts: RpcParts, id: int, binding: RpcBinding) -> None:
        super().__init__(pool, parts, id)
        self._single = False
        self._limit = self.expected_streams = self.settings.spec.max_requests_per_connection or UNLIMITED_STREAMS
        self._binding = binding
        self._unheard = False
        self._unanswered: dict[int, deque[RpcStream]] = {}
        self._waiting = 0  # in all of those queues

    def on_connected(self) -> None:
        self._binding.connected(self)
        super().on_connected()

    def stop_reading(self) -> None:
        self._unheard = True
        self.wire.pause_reading()

    def go_on_reading(self) -> None:
        self._unheard = False
        self.wire.resume_reading()

    def _ask(self) -> None:
        if self._unheard and self._keepalive is not None:
            self._keepalive.answered()  # ask another time
        else:
            super()._ask()

    def _on_silence(self) -> None:
        if self._unheard and self._keepalive is not None:
            self._keepalive.probe()
        else:
            super()._on_silence()

    def open(self, handler: StreamHandler) -> RpcStream:
        stream = super().open(handler)
        if self._draining:
            self._binding.lost()
        return stream

    def drain(self) -> None:
        self._binding.lost()
        super().drain()

    def _leave(self, *, active: bool = False) -> None:
        super()._leave(active=active)
        self._binding.lost()

    def _identify(self, id: int, frame: bytes) -> bytes:
        return frame

    def _expect(self, stream: RpcStream, request: RpcRequest) -> None:
        if request.kind is Kind.REQUEST:
            self._unanswered.setdefault(request.id, deque()).append(stream)
            self._waiting += 1

    def _find(self, response: RpcResponse) -> RpcStream | None:
        waiting = self._unanswered.get(response.id)
        if waiting is None:
            return None
        stream = waiting.popleft()
        self._waiting -= 1
        if not waiting:
            del self._unanswered[response.id]
        return stream

    def abandon(self, stream: RpcStream) -> None:
        """The handler gave up. The answer is waited for nevertheless, lest the next of its id gets it."""
        super().abandon(stream)
        if self._waiting > _MOST_UNANSWERED and not self._over:
            self.drain()

    def _on_push(self, message: RpcMessage) -> None:
        if not self._binding.pushed(message.frame):
            super()._on_push(message)
