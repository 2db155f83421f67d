"""RPC to an upstream: one connection for many requests, for one at a time, or for one client alone, as the protocol wants it.

Whole frames go out and come in. A request gets an id of this connection, for those of its clients may collide; its response
is found by that id, and whoever answers the client puts the client's id back. Nothing of a frame is read but what the
protocol's `from_server` reads. A response that nobody waits for (its request timed out, or the server is confused) is
counted and dropped.

A protocol that raises what it must not while it reads ends its connection, like a frame that is none: whose answer it was
reading is not known, and that call must not wait for ever. The calls under way fail, or are tried again, as their routes say.

A one-way request is over when it is written, unless the peer does not take what is written: who sends such requests to a
slow server is not read from, like everybody else. A peer that has been silent for the protocol's heartbeat interval is
asked for a sign of life, and is lost if none comes.
"""

from collections.abc import Iterator

from mosn_xds.base.chance import Random
from mosn_xds.base.errors import ResetReason
from mosn_xds.base.stats import StatGroup
from mosn_xds.data.codec.head import Fields, RequestHead, Version
from mosn_xds.data.codec.rpc import (
    BadFrame,
    FrameReader,
    Kind,
    PoolMode,
    RpcMessage,
    RpcProtocol,
    RpcRequest,
    RpcResponse,
)
from mosn_xds.data.codec.rpc.failures import FailureLog
from mosn_xds.data.net.keepalive import Keepalive
from mosn_xds.data.net.peer_exchange import begin_exchange
from mosn_xds.data.upstream.api import Stale, StreamHandler
from mosn_xds.data.upstream.host import Host
from mosn_xds.data.upstream.multiplexed import UNLIMITED_STREAMS, MultiplexedConnection, MultiplexedStream
from mosn_xds.data.upstream.pool import ConnectionPool, PoolSettings

_LAST_ID = 0x7FFFFFFF
"""Ids are signed in some peers (Java's int)."""
_JITTER = 0.15
MOST_UNSENT_BYTES = 64 << 20
"""What may wait for a server that does not read, whoever has given it up by now; requests beyond are refused."""


class RpcUpstreamStats(StatGroup):
    """``cluster.NAME.PROTOCOL.``"""

    COUNTERS = (
        "heartbeat_sent",
        "heartbeat_timeout",
        "heartbeat_received",
        "goaway_received",
        "push_dropped",
        "response_unmatched",
        "decoding_error",
        "protocol_exceptions",
    )
    __slots__ = COUNTERS

    heartbeat_sent: int
    heartbeat_timeout: int
    heartbeat_received: int
    goaway_received: int
    push_dropped: int
    response_unmatched: int
    decoding_error: int
    protocol_exceptions: int


class RpcParts:
    """What all RPC connections of one cluster and protocol share."""

    __slots__ = ("failures", "protocol", "random", "stats")

    def __init__(self, protocol: RpcProtocol, stats: RpcUpstreamStats, random: Random) -> None:
        self.protocol = protocol
        self.stats = stats
        self.random = random
        self.failures = FailureLog()


class RpcStream(MultiplexedStream):
    """One exchange; see `mosn_xds.data.upstream.api.UpstreamStream`. Frames are whole: there is no data beside the head."""

    def __init__(self, connection: "RpcConnection", handler: StreamHandler, reused: bool) -> None:
        super().__init__(connection.host, connection.local, connection.id, handler, reused)
        self.connection: RpcConnection | None = connection
        self.version: Version = connection.version

    def unlink(self) -> None:
        self.connection = None
        self.handler = None

    def send_head(self, head: RequestHead, end: bool) -> None:
        del end
        connection = self.connection
        if connection is not None:
            if not isinstance(head, RpcRequest):
                raise TypeError(f"{head!r} is no RPC")
            connection.begin(self, head)

    def send_data(self, data: bytes, end: bool) -> None:
        """A frame has no data beside it."""

    def send_trailers(self, fields: Fields) -> None:
        """As `send_data`."""

    def reset(self) -> None:
        connection = self.connection
        if connection is not None:
            connection.abandon(self)

    def pause_reading(self) -> None:
        """The connection is not this stream's alone: who reads slowly is asked to send less (`RpcServerConnection`)."""

    def resume_reading(self) -> None:
        """As `pause_reading`."""

    def __repr__(self) -> str:
        state = "over" if self.connection is None else "active"
        return f"<RpcStream {self.id} {state} to {self.host.text}>"


class RpcConnection(MultiplexedConnection[RpcStream]):
    """One connection of a `ConnectionPool`, and the consumer of its wire."""

    __slots__ = (
        "_heard",
        "_last_id",
        "_parts",
        "_protocol",
        "_reader",
        "_sent_oneway",
        "_single",
        "version",
    )

    def __init__(self, pool: ConnectionPool, parts: RpcParts, id: int) -> None:
        self._parts = parts
        self._protocol = parts.protocol
        self._single = parts.protocol.pool is PoolMode.PING_PONG
        self._heard = False
        self._last_id = 0
        self._sent_oneway: list[RpcStream] = []
        self.version = parts.protocol.version
        expected = 1 if self._single else pool.settings.spec.max_requests_per_connection or UNLIMITED_STREAMS
        super().__init__(pool, id, expected)
        self._reader = FrameReader(parts.protocol, self.wire, self.settings.reactor.timers)

    def on_connected(self) -> None:
        begin_exchange(self.settings.spec.metadata_exchange, self.wire, self._on_first)
        super().on_connected()

    def _on_first(self, data: memoryview) -> None:
        """What comes behind the exchange of metadata."""
        self.wire.set_bulk(None)
        self.on_data(bytes(data))

    def make_stream(self, handler: StreamHandler, reused: bool) -> RpcStream:
        return RpcStream(self, handler, reused)

    def make_keepalive(self) -> Keepalive | None:
        protocol = self._protocol
        if not protocol.heartbeat_interval_s or not protocol.heartbeat(1):
            return None
        return Keepalive(
            self.settings.reactor.timers,
            self._parts.random,
            interval_s=protocol.heartbeat_interval_s,
            timeout_s=protocol.heartbeat_timeout_s,
            jitter=_JITTER,
            send=self._ask,
            lost=self._on_silence,
        )

    # For the streams.

    def begin(self, stream: RpcStream, request: RpcRequest) -> None:
        protocol = self._protocol
        wire = self.wire
        streams = self._streams
        if wire.pending_bytes > MOST_UNSENT_BYTES:
            self.settings.reactor.defer(lambda: self._refuse(stream))
            return
        try:
            frame = protocol.edit_request(request) if request.edited else request.frame
            if request.limit_s is not None:
                frame = protocol.with_timeout(frame, request.limit_s)
            id = self._next_id()
            frame = self._identify(id, frame)
        except BadFrame:  # what was made of it fits into no frame
            self.settings.reactor.defer(lambda: self._refuse(stream))
            return
        except Exception as error:  # an extension's call: other calls of this connection have no part in it
            self._parts.stats.protocol_exceptions += 1
            self._parts.failures.tell(protocol, "writing a request", error, "the call fails")
            self.settings.reactor.defer(lambda: self._refuse(stream))
            return
        del streams[stream.id]
        stream.id = id
        streams[id] = stream
        self._expect(stream, request)
        stream.began_at = wire.bytes_sent + wire.pending_bytes
        stream.bytes_sent = len(frame)
        wire.write(frame)
        if request.kind is Kind.ONEWAY:
            if not self._sent_oneway:
                self.settings.reactor.defer(self._complete_oneway)
            self._sent_oneway.append(stream)
        if self._full_wire:
            self._back_up(stream)

    def _refuse(self, stream: RpcStream) -> None:
        handler = stream.handler
        if handler is not None:
            self._end(stream)
            handler.on_upstream_reset(ResetReason.LOCAL_REFUSED, "", Stale.NO)

    def _identify(self, id: int, frame: bytes) -> bytes:
        """The frame under an id by which its answer will be known."""
        return self._protocol.with_id(frame, id)

    def _expect(self, stream: RpcStream, request: RpcRequest) -> None:
        """The request is about to be sent."""

    def _find(self, response: RpcResponse) -> RpcStream | None:
        """Whose answer this is."""
        if self._single:
            return next(iter(self._streams.values()), None)
        return self._streams.get(response.id)

    def _next_id(self) -> int:
        id = self._last_id
        while True:
            id = id + 1 if id < _LAST_ID else 1
            if id not in self._streams:
                self._last_id = id
                return id

    def _complete_oneway(self) -> None:
        """What was written needs no answer: that is the answer. Not while the wire is full."""
        if self._full_wire:
            return
        sent, self._sent_oneway = self._sent_oneway, []
        for stream in sent:
            handler = stream.handler
            if handler is not None:
                self._end(stream)
                handler.on_response_head(RpcResponse.of(self.version, b"", 0, status=200), True)

    def on_below_low_water(self) -> None:
        super().on_below_low_water()
        self._complete_oneway()

    def abandon(self, stream: RpcStream) -> None:
        """The handler gave up. Its response, should it come, finds nobody; with one exchange at a time nothing else can come,
        so that connection ends."""
        self.settings.stats.upstream_rq_tx_reset += 1
        if self._single and stream.id > 0:
            self._draining = True
        self._end(stream)

    # For the wire.

    def on_data(self, data: bytes) -> None:
        self._heard = True
        if self._keepalive is not None:
            self._keepalive.heard()
        self._reader.receive(data, self)
        self._meter.count_bytes(self.wire)

    # The sink of its reader.

    def on_turn(self) -> None:
        if not self._over:
            self._reader.go_on(self)

    def take(self, frame: bytes) -> bool:
        try:
            message = self._protocol.from_server(frame)
        except BadFrame as error:
            self.on_bad_frame(str(error))
            return False
        except Exception as error:  # an extension's call
            self.on_unreadable("in from_server", error)
            return False
        if isinstance(message, RpcResponse) and message.kind is Kind.RESPONSE:
            self._on_response(message, len(frame))
        else:
            self._on_other(message.kind, message)
        return not self._over

    def on_bad_frame(self, reason: str) -> None:
        del reason
        self._parts.stats.decoding_error += 1
        self._give_up()

    def on_unreadable(self, doing: str, error: Exception) -> None:
        self._parts.stats.protocol_exceptions += 1
        self._parts.failures.tell(self._protocol, doing, error, f"{self!r} ends, and with it its calls")
        self._give_up()

    def _give_up(self) -> None:
        self.settings.stats.upstream_cx_protocol_error += 1
        if not self._over:
            self._fail_all(ResetReason.PROTOCOL_ERROR)
            self.wire.close(flush=False)

    def _on_response(self, response: RpcResponse, size: int) -> None:
        stream = self._find(response)
        handler = stream.handler if stream is not None else None
        if stream is None or handler is None or stream.id <= 0:
            self._parts.stats.response_unmatched += 1
            return
        stream.bytes_received = size
        self._end(stream)
        handler.on_response_head(response, True)

    def _on_other(self, kind: Kind, message: RpcRequest | RpcResponse) -> None:
        """The rarer ones."""
        stats = self._parts.stats
        if kind is Kind.HEARTBEAT and isinstance(message, RpcRequest):
            stats.heartbeat_received += 1
            reply = self._protocol.heartbeat_reply(message)
            if reply:
                self.wire.write(reply)
        elif kind is Kind.HEARTBEAT_REPLY:
            self._heard = False  # nothing that would spare the next question
            if self._keepalive is not None:
                self._keepalive.answered()
        elif kind is Kind.GOAWAY:
            stats.goaway_received += 1
            self._go_away()
        else:
            self._on_push(message)

    def _on_push(self, message: RpcMessage) -> None:
        """The server said something of its own accord: to whom, among many clients?"""
        del message
        self._parts.stats.push_dropped += 1

    # Time.

    def _ask(self) -> None:
        keepalive = self._keepalive
        if self._heard and keepalive is not None:
            self._heard = False
            keepalive.answered()
            return
        self._parts.stats.heartbeat_sent += 1
        self.wire.write(self._protocol.heartbeat(self._next_id()))

    def _on_silence(self) -> None:
        self._parts.stats.heartbeat_timeout += 1
        super()._on_silence()


def rpc_pool(host: Host, settings: PoolSettings, parts: RpcParts, ids: Iterator[int]) -> ConnectionPool:
    """A pool of RPC connections; `ids` numbers connections."""
    return ConnectionPool(host, settings, lambda pool: RpcConnection(pool, parts, next(ids)))
