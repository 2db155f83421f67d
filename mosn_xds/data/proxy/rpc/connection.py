"""The downstream side of an RPC connection: frames in, requests to their streams, answers out in whatever order they come.

Signs of life are answered here. What cannot be read ends the connection, and with it what is under way.

Back-pressure. A client that does not take its answers, and one with too many requests under way, is not read from until
that is better; so is one whose request waits for a slow upstream. Frames that have come whole are served all the same.

The end. A protocol that can say so asks its client to send no more (`goaway`); the connection closes when its last
request is answered. Most protocols cannot, and any close may cut off a request that is on its way. So a connection whose
filter chain is replaced by one that differs in its proxy only does not end: it goes on under the new one (`move`).
A client that leaves takes its requests with it, but not those that are one-way: who sends one and hangs up means it. They go
on, and the connection is over when they are.
"""

from typing import TYPE_CHECKING, Final

from mosn_xds.base.errors import ResponseFlag
from mosn_xds.data.codec.head import Fields, ResponseHead
from mosn_xds.data.codec.rpc import BadFrame, FrameReader, Kind, PoolMode, RpcProtocol, RpcRequest, RpcResponse
from mosn_xds.data.net.peer_exchange import begin_exchange
from mosn_xds.data.proxy.connection import ServerConnection
from mosn_xds.data.proxy.rpc.stream import RpcStream
from mosn_xds.data.proxy.stream import Stream
from mosn_xds.data.upstream.rpc_binding import RpcBinding

if TYPE_CHECKING:
    from mosn_xds.data.proxy.downstream import Downstream, DrainState, Owner
    from mosn_xds.data.proxy.rpc.manager import RpcManager

_DC: Final = int(ResponseFlag.DC)
_DPE: Final = int(ResponseFlag.DPE)
MOST_STREAMS: Final = 4096
"""Requests of one connection under way, beyond which it is not read from."""
MOST_BYTES: Final = 64 << 20
"""The same for the bytes of their frames, which are kept until they are answered."""


class RpcServerConnection(ServerConnection):
    """See the module's text."""

    __slots__ = (
        "_going", "_left", "_most_streams", "_most_unread_bytes", "_protocol", "_reader", "_rpc_stats",
        "_under_way_bytes", "binding", "rpc_manager",
    )  # fmt: skip

    def __init__(
        self,
        manager: "RpcManager",
        protocol: RpcProtocol,
        downstream: "Downstream",
        predecessor: ServerConnection | None = None,
    ) -> None:
        super().__init__(manager, downstream, predecessor)
        self.rpc_manager = manager
        self._protocol = protocol
        self._reader = FrameReader(protocol, self.wire, self.timers)
        self._rpc_stats = manager.rpc_stats
        self._most_streams = MOST_STREAMS if protocol.has_ids else 1
        self._most_unread_bytes = protocol.max_unread_bytes
        self._under_way_bytes = 0
        self._going = False
        bound = protocol.pool is PoolMode.BOUND or manager.spec.bind_upstream
        self.binding = RpcBinding(self) if bound else None
        """The upstream connection that is this client's alone, if it is to have one."""
        self._left = False
        """The client is gone, and one-way requests of it are not."""

    def move(self, manager: "RpcManager", drain: "DrainState", owner: "Owner") -> bool:
        """Go on under another manager: it serves the requests to come, those under way stay with the old one. False, and
        nothing is changed, if that does not speak this protocol, or this connection is about to end."""
        protocol = next((one for one in manager.protocols if one.key == self._protocol.key), None)
        if protocol is None or self._closing or self._going or self._left:
            return False
        self.stats.downstream_cx_active -= 1
        self.manager = self.rpc_manager = manager
        self.stats = manager.stats
        self.stats.downstream_cx_active += 1
        self._rpc_stats = manager.rpc_stats
        self._protocol = protocol
        self._drain = self._downstream.drain = drain
        self._downstream.owner = owner
        return True

    # The wire's consumer.

    def on_connected(self) -> None:
        begin_exchange(self.rpc_manager.exchange, self.wire, self._on_first)

    def _on_first(self, data: memoryview) -> None:
        """What comes behind the exchange of metadata."""
        self.wire.set_bulk(None)
        self.wire.consumer.on_data(bytes(data))

    def on_data(self, data: bytes) -> None:
        self.stats.downstream_cx_rx_bytes_total += len(data)
        if self._closing:
            return
        self._reader.receive(data, self)

    # The sink of its reader.

    def on_turn(self) -> None:
        if not self._closing:
            self._reader.go_on(self)

    def take(self, frame: bytes) -> bool:
        protocol = self._protocol
        try:
            message = protocol.from_client(frame)
        except BadFrame as error:
            self.on_bad_frame(str(error))
            return False
        except Exception as error:  # an extension's call
            self.on_unreadable("in from_client", error)
            return False
        kind = message.kind
        if isinstance(message, RpcRequest):
            if kind is Kind.REQUEST or kind is Kind.ONEWAY:
                self._start(message)
            elif kind is Kind.HEARTBEAT:
                self._rpc_stats.downstream_heartbeat += 1
                self._write(protocol.heartbeat_reply(message))
            elif self.binding is not None and kind is not Kind.GOAWAY:
                self.binding.send(frame)
        elif self.binding is not None:
            self.binding.send(frame)
        return not self._closing

    def _start(self, request: RpcRequest) -> None:
        self.requests = stream_id = self.requests + 1
        stream = RpcStream(self, self.rpc_manager, stream_id, request)
        self.streams[stream_id] = stream
        if request.kind is Kind.ONEWAY:
            self._rpc_stats.downstream_rq_oneway += 1
        self._under_way_bytes = under_way = self._under_way_bytes + len(request.frame)
        if (under_way >= MOST_BYTES or len(self.streams) >= self._most_streams) and not self._reader.held:
            self._reader.hold()
        stream.start(True)
        limit = self.manager.max_requests_per_connection
        if limit is not None and stream_id >= limit and not self._going:
            self.close_if_idle()

    def on_bad_frame(self, reason: str) -> None:
        stats = self._rpc_stats
        stats.downstream_rq_decoding_error += 1
        stats.downstream_cx_protocol_error += 1
        self.info.close_reason = f"{self._protocol.name}_{reason}"
        self._lose("downstream_protocol_error", _DPE)
        self._shut()

    def on_unreadable(self, doing: str, error: Exception) -> None:
        self._rpc_stats.protocol_exceptions += 1
        self.rpc_manager.failures.tell(self._protocol, doing, error, "the client's connection ends")
        self.info.close_reason = f"{self._protocol.name}_exception"
        self._lose("protocol_exception", _DPE)
        self._shut()

    def on_eof(self) -> None:
        """The client ended its side: it waits for no answers."""
        self._by_peer = True
        self._lose("downstream_remote_disconnect")
        self.wire.close(flush=True)

    def _lose(self, details: str, flags: int = _DC) -> None:
        """What the client's leaving, or its fault, means for its requests."""
        staying = {}
        if flags == _DC and not self._closing:
            staying = {
                id: stream
                for id, stream in self.streams.items()
                if isinstance(stream, RpcStream) and stream.rpc.kind is Kind.ONEWAY
            }
        for id in staying:
            del self.streams[id]
        super()._lose(details, flags)
        self.streams.update(staying)

    def _end(self) -> None:
        self._left = bool(self.streams)
        if not self._left:
            super()._end()

    def on_above_high_water(self) -> None:
        self.wire.pause_reading()
        if self.binding is not None:
            self.binding.hold()

    def on_below_low_water(self) -> None:
        self.wire.resume_reading()
        if self.binding is not None:
            self.binding.release()

    # What streams do.

    def send_informational(self, stream: Stream, head: ResponseHead) -> None:
        """Other protocols have that."""

    def send_head(self, stream: Stream, head: ResponseHead, end: bool) -> None:
        del end
        if not isinstance(stream, RpcStream) or stream.rpc.kind is Kind.ONEWAY:
            return
        try:
            frame = self._frame_of(head, stream)
        except Exception as error:  # an extension's call: what one client's request leads to is not for others to bear
            self.rpc_manager.failures.tell(self._protocol, "writing an answer", error, "the client's connection ends")
            self._on_exception(stream)
            return
        stream.bytes_sent = len(frame)
        self._write(frame)
        drain = self._drain
        if (drain.own is not None or drain.worker.active) and not self._going and self._draining():
            self.stats.downstream_cx_drain_close += 1
            self.close_if_idle()

    def _frame_of(self, head: ResponseHead, stream: RpcStream) -> bytes:
        """What the client gets, which also says how the call ended."""
        request = stream.rpc
        protocol = self._protocol
        if isinstance(head, RpcResponse) and head.frame:
            edited = self._edited(head, stream) if head.edited else head.frame
            if edited:
                frame = protocol.answer(edited, request)
                stream.rpc_code = head.code
                return frame
            frame = protocol.reply(request, stream.response_code, stream.details)
        else:
            reason = stream.local_reply_body.decode("utf-8", "replace") or stream.details
            frame = protocol.reply(request, head.status, reason)
        stream.rpc_code = self._code_in(frame)
        return frame

    def _on_exception(self, stream: RpcStream) -> None:
        """There is no answer that the client would understand."""
        self._rpc_stats.protocol_exceptions += 1
        stream.details = "protocol_exception"
        stream.response_code = 0
        stream.failed = True
        self.info.close_reason = f"{self._protocol.name}_exception"
        self._closing = True
        self.wire.close(flush=True)

    def _edited(self, head: RpcResponse, stream: RpcStream) -> bytes:
        """The answer with its present properties; empty where they do not fit into a frame, which makes it an error."""
        try:
            return self._protocol.edit_response(head)
        except BadFrame as error:
            head.status = stream.response_code = 500
            stream.details = f"response_{error}"
            stream.failed = True
            return b""

    def _code_in(self, reply: bytes) -> int | None:
        try:
            said = self._protocol.from_server(reply)
        except BadFrame:
            return None
        return said.code if isinstance(said, RpcResponse) else None

    def _write(self, frame: bytes) -> None:
        if frame:
            wire = self.wire
            if wire.pending_bytes > self._most_unread_bytes and not self._closing:
                self._give_up()
                return
            self.stats.downstream_cx_tx_bytes_total += len(frame)
            wire.write(frame)

    def _give_up(self) -> None:
        """The client asks for more than it reads."""
        self._rpc_stats.downstream_cx_overflow += 1
        self.info.close_reason = f"{self._protocol.name}_answers_not_read"
        self._closing = True
        self.wire.close(flush=False)

    def send_data(self, stream: Stream, data: bytes, end: bool) -> None:
        """Frames are whole."""

    def send_trailers(self, stream: Stream, fields: Fields) -> None:
        """As `send_data`."""

    def begin_upgrade(self, stream: Stream) -> None:
        """Other protocols have that."""

    def pause_stream(self, stream: Stream) -> None:
        del stream
        self.stats.downstream_flow_control_paused_reading_total += 1
        self.wire.pause_reading()

    def resume_stream(self, stream: Stream) -> None:
        del stream
        self.stats.downstream_flow_control_resumed_reading_total += 1
        self.wire.resume_reading()

    def stream_done(self, stream: Stream) -> None:
        self.streams.pop(stream.stream_id, None)
        left = len(self.streams)
        if isinstance(stream, RpcStream):
            self._under_way_bytes -= len(stream.rpc.frame)
        if self._reader.held and left <= self._most_streams // 2 and self._under_way_bytes < MOST_BYTES // 2:
            self._reader.release(self)
        if not left:
            if self._left:
                self._end()
                return
            if self._going:
                self._shut()
                return
            self._idle_deadline = deadline = self.clock.now + self.manager.idle_timeout_s
            if deadline < self.timer_due:
                self.watch(deadline)

    def stream_reset(self, stream: Stream) -> None:
        """There is no such thing as half a frame: nothing of the answer has been sent."""
        self.stream_done(stream)

    # Its end.

    def _shut(self) -> None:
        if not self._closing:
            self._closing = True
            self.wire.close(flush=True, delay_s=self.manager.delayed_close_timeout_s)

    def close_if_idle(self) -> bool:
        if not self._going:
            self._going = True
            self._write(self._protocol.goaway())
        if self.streams:
            return False
        self._shut()
        return True

    def _on_idle(self) -> bool:
        return self.close_if_idle()

    def _on_max_duration(self) -> bool:
        return self.close_if_idle()

    def _release(self) -> None:
        if self.binding is not None:
            self.binding.close()

    # What a bound upstream says.

    def on_push(self, frame: bytes) -> None:
        self._write(frame)

    def on_upstream_gone(self) -> None:
        if not self._closing:
            self.close_if_idle()
