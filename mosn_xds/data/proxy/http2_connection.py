"""The downstream side of an HTTP/2 connection: many streams, each with its own back-pressure, and an end in steps.

Output. What streams say is queued in the codec and leaves once per batch of the reactor (`flush`), so that many streams
share a write. While the socket takes nothing, nothing is taken from the codec either.

Back-pressure. A stream whose body waits in the codec pauses its own upstream (`Writable` resumes it). A stream that is
paused (`pause_stream`) keeps the window that its data took; the client stops when that is used up.

The end (Envoy's drain sequence): GOAWAY with the highest id, after `drain_timeout` GOAWAY with the last stream that was
taken, and when the last stream is over, the connection's close. A client that only opens streams to reset them is cut off.
"""

from enum import Enum
from typing import TYPE_CHECKING, Final

from mosn_xds.base.errors import ResetReason, ResponseFlag
from mosn_xds.data.codec.events import (
    BadRequest,
    ConnectionClosed,
    Data,
    Event,
    PingAnswered,
    RequestStarted,
    StreamReset,
    Trailers,
    Writable,
)
from mosn_xds.data.codec.head import Fields, ResponseHead, Version
from mosn_xds.data.codec.http2 import ErrorCode, Http2ServerCodec
from mosn_xds.data.codec.http2.codes import MESSAGING_VIOLATION, OUTBOUND_FLOOD
from mosn_xds.data.net.keepalive import Keepalive
from mosn_xds.data.net.timers import Timer
from mosn_xds.data.proxy.connection import ServerConnection
from mosn_xds.data.proxy.flush_watch import FlushWatch
from mosn_xds.data.proxy.http2_backlog import Backlog
from mosn_xds.data.proxy.http_stream import HttpStream
from mosn_xds.data.proxy.premature_resets import PrematureResets
from mosn_xds.data.proxy.stream import Stream

if TYPE_CHECKING:
    from mosn_xds.data.proxy.downstream import Downstream
    from mosn_xds.data.proxy.hcm import HttpConnectionManager

_DR: Final = int(ResponseFlag.DR)
_DPE: Final = int(ResponseFlag.DPE)


class _Ending(Enum):
    NO = "no"
    NOTICED = "the client is asked to open no more streams"
    GOING = "closes with the last stream"


class Http2Connection(ServerConnection):
    """See the module's text."""

    __slots__ = (
        "_above", "_backlog", "_blocked", "_dirty", "_drain_timer", "_ending", "_flush_watch", "_keepalive",
        "_paused", "_reactor", "_resets", "_upgrades", "codec",
        "hcm",
    )  # fmt: skip

    def __init__(
        self, hcm: "HttpConnectionManager", downstream: "Downstream", predecessor: ServerConnection | None = None
    ) -> None:
        super().__init__(hcm, downstream, predecessor)
        self.hcm = hcm
        self._reactor = downstream.reactor
        self.codec = Http2ServerCodec(
            hcm.http2_engines, hcm.http2_options(downstream.buffer_limit_bytes), hcm.http2_stats
        )
        self._above: set[int] = set()
        self._backlog = Backlog(self.wire)
        self._blocked = False
        self._dirty = False
        self._paused: dict[int, list[int]] = {}  # how often, and the bytes of window that are owed
        self._upgrades: set[int] = set()
        self._ending = _Ending.NO
        self._drain_timer: Timer | None = None
        self._resets = PrematureResets()
        self._keepalive: Keepalive | None = None
        self._flush_watch: FlushWatch | None = None
        settings = hcm.spec.http2
        if settings.keepalive_interval_s is not None and settings.keepalive_timeout_s is not None:
            self._keepalive = Keepalive(
                self.timers,
                hcm.random,
                interval_s=settings.keepalive_interval_s,
                timeout_s=settings.keepalive_timeout_s,
                jitter=settings.keepalive_jitter,
                send=self._ping,
                lost=self._on_no_pong,
            )
        self.stats.downstream_cx_http2_total += 1
        self.stats.downstream_cx_http2_active += 1

    # The wire's consumer.

    def on_data(self, data: bytes) -> None:
        self.stats.downstream_cx_rx_bytes_total += len(data)
        if self._closing:
            return
        codec = self.codec
        if self.wire.pending_bytes:
            if self._backlog.unsent(codec.frames) > codec.max_outbound_frames:
                self._on_flood()
                return
        elif not self._dirty:
            codec.all_sent()
        if not self._dirty:
            self._touch()
        self._dispatch(codec.receive(data))

    def on_eof(self) -> None:
        """The client ended its side; Envoy gives up the connection then, and so do we."""
        self._by_peer = True
        self._lose("downstream_remote_disconnect")
        self.wire.close(flush=True)

    def on_above_high_water(self) -> None:
        self._blocked = True
        super().on_above_high_water()

    def on_below_low_water(self) -> None:
        self._blocked = False
        for stream_id, stream in list(self.streams.items()):
            if stream.router is not None and stream_id not in self._above:
                stream.router.resume_upstream()
        self._touch()

    def on_failure(self, error: Exception) -> None:
        """Also for the reactor, as what it flushes."""
        super().on_failure(error)
        self._closing = True
        self.wire.abort()

    # Output.

    def _touch(self) -> None:
        if not self._dirty:
            self._dirty = True
            self._reactor.dirty(self)

    def flush(self) -> None:
        """For the reactor, at the end of a batch: write what there is to say."""
        self._dirty = False
        if self.codec.unfinished > len(self.streams):
            self._watch_unsent()
        if self._blocked or self.wire.is_closed:
            return
        out, events = self.codec.flush()
        if out:
            self.stats.downstream_cx_tx_bytes_total += len(out)
            self.wire.write(out)
            self._backlog.written(self.codec.frames)
        if events:
            self._dispatch(events)
        if self._ending is _Ending.GOING and not self._closing and not self.streams and self.codec.idle:
            self._close()

    def _watch_unsent(self) -> None:
        watch = self._flush_watch
        timeout_s = self.hcm.stream_idle_timeout_s
        if watch is None and timeout_s is not None:
            watch = self._flush_watch = FlushWatch(
                self.codec, self.streams.keys(), self.timers, self.clock, timeout_s, self._on_flush_timeout
            )
        if watch is not None:
            watch.look()

    def _on_flush_timeout(self) -> None:
        if self._blocked:  # and what was reset stays where it is
            self._lose("local_close")
            self._close(abrupt=True)
        else:
            self._touch()

    def _close(self, *, abrupt: bool = False) -> None:
        if self._closing:
            return
        self._closing = True
        if not abrupt and not self._blocked:
            out, _ = self.codec.flush()
            self.wire.write(out)
        self.wire.close(flush=not abrupt, delay_s=0.0 if abrupt else self.hcm.delayed_close_timeout_s)

    # Events from the codec.

    def _dispatch(self, events: list[Event]) -> None:
        streams = self.streams
        for event in events:
            if type(event) is RequestStarted:
                self._start(event)
            elif type(event) is Data:
                self._on_body(event)
            elif isinstance(event, Trailers):
                stream = streams.get(event.stream_id)
                if stream is not None:
                    stream.on_trailers(event.fields)
            elif isinstance(event, StreamReset):
                self._on_reset(event)
            elif isinstance(event, Writable):
                self._above.discard(event.stream_id)
                stream = streams.get(event.stream_id)
                if stream is not None and stream.router is not None and not self._blocked:
                    stream.router.resume_upstream()
            elif isinstance(event, BadRequest):
                self._refuse(event)
            elif isinstance(event, PingAnswered):
                if self._keepalive is not None:
                    self._keepalive.answered()
            elif isinstance(event, ConnectionClosed):
                self._on_codec_closed(event)

    def _start(self, event: RequestStarted) -> None:
        if self._closing:
            return
        hcm = self.hcm
        self.requests += 1
        self.stats.downstream_rq_http2_total += 1
        stream = HttpStream(self, hcm, event.stream_id, event.head)
        self.streams[event.stream_id] = stream
        limit = hcm.max_requests_per_connection
        if limit is not None and self.requests >= limit:
            self.stats.downstream_cx_max_requests_reached += 1
            self._begin_drain()
        stream.start(event.end_stream)

    def _on_body(self, event: Data) -> None:
        stream_id = event.stream_id
        stream = self.streams.get(stream_id)
        if stream is not None:
            stream.on_data(event.data, event.end_stream)
            if self._paused and stream_id in self._paused:
                self._paused[stream_id][1] += len(event.data)
                return
        if event.data:
            self.codec.consume(stream_id, len(event.data))

    def _on_reset(self, event: StreamReset) -> None:
        stream = self.streams.pop(event.stream_id, None)
        if stream is None:
            return
        if event.no_error and stream.request_complete:  # it has what it wanted; Envoy says nothing of it
            stream.on_downstream_gone(stream.details, 0)
        else:
            stream.on_downstream_gone(event.details, _DPE if event.reason is ResetReason.PROTOCOL_ERROR else _DR)
        self._forget(stream)
        if self._resets.reset(self.clock.now - stream.start_s, answered=bool(stream.response_code)):
            self.stats.downstream_rq_too_many_premature_resets += 1
            self.info.close_reason = "too_many_premature_resets"
            self._lose("local_close")
            self._close(abrupt=True)

    def _refuse(self, event: BadRequest) -> None:
        """What came is no request; the codec has reset it. It is counted and logged like one."""
        self.requests += 1
        stats = self.stats
        stats.downstream_rq_total += 1
        stats.downstream_rq_http2_total += 1
        stats.downstream_rq_active += 1
        stream = HttpStream(self, self.hcm, event.stream_id, None)
        stream.version = Version.HTTP2
        stream.on_downstream_gone(event.details, _DPE if event.details == MESSAGING_VIOLATION else _DR)

    def _on_codec_closed(self, event: ConnectionClosed) -> None:
        if event.code:
            self.stats.downstream_cx_protocol_error += 1
            self.info.close_reason = event.details.replace(" ", "_")
        self._close(abrupt=event.abrupt)

    def _on_flood(self) -> None:
        """The client asks for more than it reads."""
        self.hcm.http2_stats.outbound_flood += 1
        self._on_codec_closed(ConnectionClosed(ErrorCode.ENHANCE_YOUR_CALM, OUTBOUND_FLOOD, abrupt=True))
        self._lose(OUTBOUND_FLOOD)

    # What streams do.

    def send_informational(self, stream: Stream, head: ResponseHead) -> None:
        self.codec.send_informational(stream.stream_id, head)
        self._touch()

    def send_head(self, stream: Stream, head: ResponseHead, end: bool) -> None:
        if not stream.request_complete:
            self.stats.downstream_rq_response_before_rq_complete += 1
        if (
            (self._drain.own is not None or self._drain.worker.active)
            and self._ending is _Ending.NO
            and self._draining()
        ):
            self.stats.downstream_cx_drain_close += 1
            self._begin_drain()
        self.codec.send_head(stream.stream_id, head, end)
        if not self._dirty:
            self._touch()

    def send_data(self, stream: Stream, data: bytes, end: bool) -> None:
        stream_id = stream.stream_id
        if self.codec.send_data(stream_id, data, end):
            self._above.add(stream_id)
            if stream.router is not None:
                stream.router.pause_upstream()
        elif self._blocked and stream.router is not None:
            stream.router.pause_upstream()
        if not self._dirty:
            self._touch()

    def send_trailers(self, stream: Stream, fields: Fields) -> None:
        self.codec.send_trailers(stream.stream_id, fields)
        self._touch()

    def begin_upgrade(self, stream: Stream) -> None:
        self._upgrades.add(stream.stream_id)
        stats = self.stats
        stats.downstream_cx_upgrades_total += 1
        stats.downstream_cx_upgrades_active += 1

    def pause_stream(self, stream: Stream) -> None:
        self.stats.downstream_flow_control_paused_reading_total += 1
        self._paused.setdefault(stream.stream_id, [0, 0])[0] += 1

    def resume_stream(self, stream: Stream) -> None:
        self.stats.downstream_flow_control_resumed_reading_total += 1
        paused = self._paused.get(stream.stream_id)
        if paused is None:
            return
        paused[0] -= 1
        if not paused[0]:
            del self._paused[stream.stream_id]
            if paused[1]:
                self.codec.consume(stream.stream_id, paused[1])
                self._touch()

    def stream_done(self, stream: Stream) -> None:
        """Response complete; what the client still sends of the request is not wanted."""
        stream_id = stream.stream_id
        self.streams.pop(stream_id, None)
        if not stream.request_complete:
            self.codec.reset(stream_id, ErrorCode.NO_ERROR)
        self._resets.closed()
        self._forget(stream)

    def stream_reset(self, stream: Stream) -> None:
        self.streams.pop(stream.stream_id, None)
        tunnel = stream.request_head is not None and (stream.upgraded or not stream.request.path)
        self.codec.reset(stream.stream_id, ErrorCode.CONNECT_ERROR if tunnel else ErrorCode.INTERNAL_ERROR)
        self._resets.closed()
        self._forget(stream)

    def _forget(self, stream: Stream) -> None:
        stream_id = stream.stream_id
        self._above.discard(stream_id)
        if stream_id in self._upgrades:
            self._upgrades.discard(stream_id)
            self.stats.downstream_cx_upgrades_active -= 1
        if not self.streams:
            self._idle_deadline = deadline = self.clock.now + self.hcm.idle_timeout_s
            if deadline < self.timer_due:
                self.watch(deadline)
        if not self._dirty:
            self._touch()

    # Its end.

    def close_if_idle(self) -> bool:
        self._go_away()
        return not self.streams

    def _on_idle(self) -> bool:
        self._begin_drain()
        return False

    def _on_max_duration(self) -> bool:
        self._begin_drain()
        return False

    def _begin_drain(self) -> None:
        if self._ending is _Ending.NO:
            self._ending = _Ending.NOTICED
            self.codec.shutdown_notice()
            self._drain_timer = self.timers.arm(self.hcm.spec.drain_timeout_s, self._go_away)
            self._touch()

    def _go_away(self) -> None:
        """No more streams; close with the last one."""
        if self._ending is not _Ending.GOING and not self._closing:
            self._ending = _Ending.GOING
            self.codec.goaway()
            self._touch()

    def _ping(self) -> None:
        self.codec.ping()
        self._touch()

    def _on_no_pong(self) -> None:
        self.hcm.http2_stats.keepalive_timeout += 1
        self.info.close_reason = "http2_ping_timeout"
        self._lose("local_close")
        self._close(abrupt=True)

    def _release(self) -> None:
        stats = self.stats
        stats.downstream_cx_http2_active -= 1
        stats.downstream_cx_upgrades_active -= len(self._upgrades)
        self._upgrades.clear()
        self._paused.clear()
        if self._flush_watch is not None:
            self._flush_watch.close()
        if self._keepalive is not None:
            self._keepalive.close()
        if self._drain_timer is not None:
            self._drain_timer.cancel()
            self._drain_timer = None
        self.codec.close()
