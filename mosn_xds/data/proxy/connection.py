"""The downstream side of an HTTP connection: between a wire, a codec and the streams.

A `ServerConnection` hands bytes to its codec, the codec's events to streams, and what streams answer back through the
codec to the wire. HTTP/1 has one stream at a time, a multiplexed protocol many; nothing here counts on one. It also keeps
the connection's time (idle, maximal duration, time-outs of its streams) with a single timer, and decides when the
connection has served enough: drain, `Connection: close`, maximal requests.
"""

from typing import TYPE_CHECKING

from mosn_xds.base.errors import ResponseFlag
from mosn_xds.data.codec.events import (
    BadRequest,
    Data,
    Event,
    RequestStarted,
    StreamReset,
    Trailers,
)
from mosn_xds.data.codec.head import Fields, ResponseHead, Version
from mosn_xds.data.codec.http1 import Http1ServerCodec
from mosn_xds.data.filters.api import Reply
from mosn_xds.data.net.consumer import CloseReason
from mosn_xds.data.net.timers import Timer
from mosn_xds.data.net.wire import Wire
from mosn_xds.data.observe.info import ConnectionInfo
from mosn_xds.data.proxy.deadlines import NEVER
from mosn_xds.data.proxy.stream import Stream

if TYPE_CHECKING:
    from mosn_xds.data.proxy.downstream import Downstream
    from mosn_xds.data.proxy.hcm import HttpConnectionManager

_DPE = int(ResponseFlag.DPE)

_H2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class ServerConnection:
    """One downstream connection of a connection manager; the consumer of its wire."""

    __slots__ = (
        "_by_peer",
        "_closing",
        "_dispatching",
        "_downstream",
        "_drain",
        "_head_deadline",
        "_idle_deadline",
        "_max_deadline",
        "_paused_for_codec",
        "_timer",
        "_upgraded",
        "buffer_limit_bytes",
        "clock",
        "codec",
        "hcm",
        "info",
        "requests",
        "stats",
        "streams",
        "timer_due",
        "timers",
        "wire",
    )

    def __init__(self, hcm: "HttpConnectionManager", downstream: "Downstream") -> None:
        self.hcm = hcm
        self._downstream = downstream
        self._drain = downstream.drain
        self.wire: Wire = downstream.wire
        self.wire.early_close = True  # a client that hangs up is gone, whatever it still had to say
        self.info: ConnectionInfo = downstream.info
        reactor = downstream.reactor
        self.clock = reactor.clock
        self.timers = reactor.timers
        self.buffer_limit_bytes = downstream.buffer_limit_bytes
        self.codec = Http1ServerCodec(hcm.http1_options)
        self.streams: dict[int, Stream] = {}
        self.requests = 0
        self._by_peer = False
        self._closing = False
        self._dispatching = False
        self._paused_for_codec = False
        self._upgraded: Stream | None = None
        self._timer: Timer | None = None
        self.timer_due = NEVER
        """When the timer fires; who has no earlier deadline need not call `watch`."""
        now = self.clock.now
        self._idle_deadline = now + hcm.idle_timeout_s
        self._max_deadline = now + hcm.max_connection_duration_s
        self._head_deadline = NEVER
        self.stats = stats = hcm.stats
        stats.downstream_cx_total += 1
        stats.downstream_cx_active += 1
        stats.downstream_cx_http1_total += 1
        stats.downstream_cx_http1_active += 1
        self.watch(min(self._idle_deadline, self._max_deadline))

    # The wire's consumer.

    def on_connected(self) -> None:
        """Accepted sockets are connected from the start."""

    def on_data(self, data: bytes) -> None:
        self.stats.downstream_cx_rx_bytes_total += len(data)
        if self._closing:
            return
        if self._head_deadline is NEVER and self.hcm.request_headers_timeout_s is not None and not self.streams:
            self._head_deadline = self.clock.now + self.hcm.request_headers_timeout_s
            self.watch(self._head_deadline)
        if not self.requests and data[:4] == b"PRI " and _H2_PREFACE.startswith(data[:24]):
            self.stats.downstream_cx_protocol_error += 1
            self._close_now("http2_not_supported", "HTTP/2 is not served by this version")
            return
        self._dispatch(self.codec.receive(data))

    def on_eof(self) -> None:
        """The client ended its side; Envoy gives up an HTTP connection then, and so do we."""
        if self.streams and self._upgraded is None:
            self._dispatch(self.codec.receive_eof())
        self._by_peer = True
        self._lose("downstream_remote_disconnect")
        self.wire.close(flush=True)

    def on_closed(self, reason: CloseReason) -> None:
        if reason in (CloseReason.REMOTE_CLOSE, CloseReason.REMOTE_RESET, CloseReason.FINISHED):
            self._by_peer = True
        self._lose("downstream_remote_disconnect")
        self._end()

    def on_above_high_water(self) -> None:
        for stream in list(self.streams.values()):
            if stream.router is not None:
                stream.router.pause_upstream()

    def on_below_low_water(self) -> None:
        for stream in list(self.streams.values()):
            if stream.router is not None:
                stream.router.resume_upstream()

    def _lose(self, details: str) -> None:
        streams = list(self.streams.values())
        self.streams.clear()
        if streams:
            stats = self.stats
            stats.downstream_cx_destroy_active_rq += 1
            stats.downstream_cx_destroy_remote_active_rq += 1
        for stream in streams:
            stream.on_downstream_gone(details)

    def _end(self) -> None:
        """The wire is closed: let go of everything."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        stats = self.stats
        stats.downstream_cx_destroy += 1
        if self._by_peer:
            stats.downstream_cx_destroy_remote += 1
        else:
            stats.downstream_cx_destroy_local += 1
        stats.downstream_cx_active -= 1
        stats.downstream_cx_http1_active -= 1
        stats.downstream_cx_length_ms.record((self.clock.now - self.info.start_s) * 1000)
        if self._upgraded is not None:
            stats.downstream_cx_upgrades_active -= 1
            self._upgraded = None
        self.codec.close()
        self._downstream.done(self)

    # Events from the codec.

    def _dispatch(self, events: list[Event]) -> None:
        self._dispatching = True
        try:
            while events:
                for event in events:
                    if type(event) is RequestStarted:
                        self._start(event)
                    elif type(event) is Data:
                        stream = self.streams.get(event.stream_id)
                        if stream is not None:
                            stream.on_data(event.data, event.end_stream)
                    elif isinstance(event, Trailers):
                        stream = self.streams.get(event.stream_id)
                        if stream is not None:
                            stream.on_trailers(event.fields)
                    elif isinstance(event, BadRequest):
                        self._refuse(event)
                    elif isinstance(event, StreamReset):
                        stream = self.streams.pop(event.stream_id, None)
                        if stream is not None:
                            stream.on_downstream_gone("downstream_remote_reset", int(ResponseFlag.DR))
                if self.streams or self._closing:
                    break
                events = self.codec.next_exchange()
        finally:
            self._dispatching = False
        if self.codec.wants_pause != self._paused_for_codec:
            self._paused_for_codec = not self._paused_for_codec
            if self._paused_for_codec:
                self.wire.pause_reading()
            else:
                self.wire.resume_reading()

    def _start(self, event: RequestStarted) -> None:
        if self._closing:
            return
        self.requests += 1
        self._head_deadline = NEVER
        head = event.head
        stream = Stream(self, event.stream_id, head)
        self.streams[event.stream_id] = stream
        limit = self.hcm.max_requests_per_connection
        if limit is not None and self.requests >= limit:
            self.stats.downstream_cx_max_requests_reached += 1
            stream.connection_closing = True
        stream.start(event.end_stream)

    def _refuse(self, event: BadRequest) -> None:
        """The codec could not make sense of what came: answer and close."""
        hcm = self.hcm
        self._head_deadline = NEVER
        stream = self.streams.get(event.stream_id)
        if stream is not None:
            hcm.stats.downstream_cx_protocol_error += 1
            stream.flags |= _DPE
            stream.details = event.details
            if stream.response is not None:
                stream.reset_downstream()
                return
            stream.connection_closing = True
            stream.reply(Reply(event.status, event.body, details=event.details, flags=_DPE))
            return
        self.requests += 1
        if event.status == 400:
            hcm.stats.downstream_cx_protocol_error += 1
        stream = Stream(self, event.stream_id, None)
        stream.version = event.version
        self.streams[event.stream_id] = stream
        stats = hcm.stats
        stats.downstream_rq_total += 1
        stats.downstream_rq_http1_total += 1
        stats.downstream_rq_active += 1
        if event.status == 431:
            stats.downstream_rq_too_large += 1
        stream.connection_closing = True
        stream.reply(Reply(event.status, event.body, details=event.details, flags=0 if event.status == 408 else _DPE))

    # What streams do.

    def send_informational(self, stream: Stream, head: ResponseHead) -> None:
        self._write(self.codec.send_informational(stream.stream_id, head))

    def send_head(self, stream: Stream, head: ResponseHead, end: bool) -> None:
        drain = self._drain
        if (
            stream.connection_closing
            or not stream.request_complete
            or drain.own is not None
            or drain.worker.active  # what follows is rare: 0.2 us less without asking
        ) and self._must_close(stream):
            self.codec.close_after()
            if not self._closing:
                self.stats.downstream_cx_drain_close += self._draining()
        data = self.codec.send_head(stream.stream_id, head, end)
        self.stats.downstream_cx_tx_bytes_total += len(data)
        self.wire.write(data)
        if self._upgraded is stream:
            for event in self.codec.accept_upgrade(stream.stream_id):
                if isinstance(event, Data):
                    stream.on_data(event.data, event.end_stream)

    def _must_close(self, stream: Stream) -> bool:
        """Whether this response is the connection's last; asked once per response, when its head is written."""
        if not stream.request_complete:
            self.stats.downstream_rq_response_before_rq_complete += 1
            return not stream.upgraded
        if stream.upgraded:
            return False
        return stream.connection_closing or self._draining()

    def _draining(self) -> bool:
        return self._drain.should_close(self.hcm.random, self.clock.now)

    def send_data(self, stream: Stream, data: bytes, end: bool) -> None:
        out = self.codec.send_data(stream.stream_id, data, end)
        if isinstance(out, tuple):
            self.stats.downstream_cx_tx_bytes_total += sum(map(len, out))
            self.wire.write_many(out)
        else:
            self._write(out)

    def send_trailers(self, stream: Stream, fields: Fields) -> None:
        self._write(self.codec.send_trailers(stream.stream_id, fields))

    def _write(self, data: bytes) -> None:
        if data:
            self.stats.downstream_cx_tx_bytes_total += len(data)
            self.wire.write(data)

    def begin_upgrade(self, stream: Stream) -> None:
        """The stream's 101 goes out next; what follows is raw bytes in both directions."""
        self._upgraded = stream
        stats = self.stats
        stats.downstream_cx_upgrades_total += 1
        stats.downstream_cx_upgrades_active += 1

    def pause_stream(self, stream: Stream) -> None:
        del stream  # HTTP/1: its stream is the connection. A multiplexed codec holds back window updates instead.
        self.stats.downstream_flow_control_paused_reading_total += 1
        self.wire.pause_reading()

    def resume_stream(self, stream: Stream) -> None:
        del stream
        self.stats.downstream_flow_control_resumed_reading_total += 1
        self.wire.resume_reading()

    def stream_done(self, stream: Stream) -> None:
        """Response complete: next request, or the end of the connection."""
        self.streams.pop(stream.stream_id, None)
        if stream.upgraded or not self.codec.keep_alive or not stream.request_complete:
            self._closing = True
            self.wire.close(flush=True, delay_s=self.hcm.delayed_close_timeout_s)
            return
        self._idle_deadline = deadline = self.clock.now + self.hcm.idle_timeout_s
        if deadline < self.timer_due:
            self.watch(deadline)
        if not self._dispatching:
            events = self.codec.next_exchange()
            if events or self._paused_for_codec:
                self._dispatch(events)

    def stream_reset(self, stream: Stream) -> None:
        """The response cannot go on: on HTTP/1 that is the connection's end, after what was written."""
        self.streams.pop(stream.stream_id, None)
        self._closing = True
        self.wire.close(flush=True)

    # Drain and time.

    @property
    def idle(self) -> bool:
        return not self.streams

    def close_if_idle(self) -> bool:
        """The drain time is over: close now if no stream is active, else after the active one. True if closed."""
        if self.streams:
            for stream in self.streams.values():
                stream.connection_closing = True
            return False
        self._closing = True
        self.wire.close(flush=True)
        return True

    def watch(self, deadline: float) -> None:
        """Make sure that `_on_time` runs at `deadline` at the latest."""
        if deadline < self.timer_due:
            if self._timer is not None:
                self._timer.cancel()
            self.timer_due = deadline
            self._timer = self.timers.arm(max(0.0, deadline - self.clock.now), self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        self.timer_due = NEVER
        now = self.clock.now
        for stream in list(self.streams.values()):
            if stream.next_deadline() <= now:
                stream.on_deadline(now)
        if self._closing:
            return
        if self._head_deadline <= now:
            self._head_deadline = NEVER
            self._head_timeout()
            return
        if not self.streams and self._idle_deadline <= now:
            self.stats.downstream_cx_idle_timeout += 1
            self._close_now("", "")
            return
        if self._max_deadline <= now:
            self._max_deadline = NEVER
            self.stats.downstream_cx_max_duration_reached += 1
            if self.close_if_idle():
                return
        deadline = min(self._head_deadline, self._max_deadline, NEVER if self.streams else self._idle_deadline)
        for stream in self.streams.values():
            deadline = min(deadline, stream.next_deadline())
        if self.streams and deadline == NEVER:
            # Look again when the connection may have become idle.
            deadline = now + self.hcm.idle_timeout_s
        if deadline < NEVER:
            self.watch(deadline)

    def _head_timeout(self) -> None:
        stats = self.stats
        stats.downstream_rq_header_timeout += 1
        if self.streams:
            return
        self._refuse(
            BadRequest(self.requests + 1, 408, "request_header_timeout", b"request header timeout", Version.HTTP11)
        )

    def _close_now(self, details: str, reason: str) -> None:
        self._closing = True
        if details:
            self.info.close_reason = f"{details}{{{reason}}}"
        self.wire.close(flush=True)

    def on_failure(self, error: Exception) -> None:
        """A handler of this connection raised (logged by the reactor): its streams end, the others' do not."""
        del error
        self._lose("internal_error")

    def __repr__(self) -> str:
        return f"<ServerConnection {self.info.remote} {len(self.streams)} streams, {self.requests} requests>"
