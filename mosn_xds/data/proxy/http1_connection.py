"""The downstream side of an HTTP/1 connection: one stream at a time, and the connection often ends with it.

Until the first bytes have come a connection whose protocol may be either is an `Http1Connection`; if they are HTTP/2's
preface, or the TLS handshake has chosen ``h2``, an `Http2Connection` takes its place (`_begin`).
"""

from typing import TYPE_CHECKING, Final

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
from mosn_xds.data.codec.http2 import PREFACE
from mosn_xds.data.filters.api import Reply
from mosn_xds.data.proxy.connection import ServerConnection
from mosn_xds.data.proxy.deadlines import NEVER
from mosn_xds.data.proxy.http2_connection import Http2Connection
from mosn_xds.data.proxy.http_stream import HttpStream
from mosn_xds.data.proxy.stream import Stream
from mosn_xds.spec.listener import CodecType

if TYPE_CHECKING:
    from mosn_xds.data.proxy.downstream import Downstream
    from mosn_xds.data.proxy.hcm import HttpConnectionManager

_DPE: Final = int(ResponseFlag.DPE)
_H2: Final = "h2"
_HTTP1: Final = "http/1"


class Http1Connection(ServerConnection):
    """See the module's text."""

    __slots__ = ("_begun", "_dispatching", "_early", "_paused_for_codec", "_upgraded", "codec", "hcm")

    def __init__(self, hcm: "HttpConnectionManager", downstream: "Downstream") -> None:
        super().__init__(hcm, downstream)
        self.hcm = hcm
        self.codec = Http1ServerCodec(hcm.http1_options)
        self._begun = False
        self._early = b""
        self._dispatching = False
        self._paused_for_codec = False
        self._upgraded: Stream | None = None

    # The wire's consumer.

    def on_data(self, data: bytes) -> None:
        self.stats.downstream_cx_rx_bytes_total += len(data)
        if self._closing:
            return
        if not self._begun:
            if self._early:
                data = self._early + data
            if not self._begin(data):
                return
        if self._head_deadline == NEVER and self.hcm.request_headers_timeout_s is not None and not self.streams:
            self._head_deadline = self.clock.now + self.hcm.request_headers_timeout_s
            self.watch(self._head_deadline)
        self._dispatch(self.codec.receive(data))

    def _begin(self, data: bytes) -> bool:
        """The first bytes: whether they are HTTP/1. Else they are dealt with."""
        hcm = self.hcm
        if hcm.spec.codec is CodecType.AUTO:
            alpn = self.info.alpn
            if alpn == _H2 or (not alpn.startswith(_HTTP1) and PREFACE.startswith(data[: len(PREFACE)])):
                if alpn != _H2 and len(data) < _PREFACE_PREFIX_BYTES:
                    self._early = data
                    return False
                self.codec.close()
                heir = Http2Connection(hcm, self._downstream, self)
                self.wire.consumer = heir
                self._downstream.replace(self, heir)
                self.stats.downstream_cx_rx_bytes_total -= len(data)  # it counts them, too
                heir.on_data(data)
                return False
        self._begun = True
        self.stats.downstream_cx_http1_total += 1
        self.stats.downstream_cx_http1_active += 1
        return True

    def on_eof(self) -> None:
        """The client ended its side; Envoy gives up an HTTP connection then, and so do we."""
        if self.streams and self._upgraded is None:
            self._dispatch(self.codec.receive_eof())
        self._by_peer = True
        self._lose("downstream_remote_disconnect")
        self.wire.close(flush=True)

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
        self.stats.downstream_rq_http1_total += 1
        stream = HttpStream(self, self.hcm, event.stream_id, event.head)
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
        stream = HttpStream(self, hcm, event.stream_id, None)
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

    # Its end.

    def close_if_idle(self) -> bool:
        if self.streams:
            for stream in self.streams.values():
                stream.connection_closing = True
            return False
        self._closing = True
        self.wire.close(flush=True)
        return True

    def _on_idle(self) -> bool:
        return self.close_if_idle()

    def _on_max_duration(self) -> bool:
        return self.close_if_idle()

    def _on_head_timeout(self) -> None:
        stats = self.stats
        stats.downstream_rq_header_timeout += 1
        if self.streams:
            return
        self._refuse(
            BadRequest(self.requests + 1, 408, "request_header_timeout", b"request header timeout", Version.HTTP11)
        )

    def _release(self) -> None:
        stats = self.stats
        if self._begun:
            stats.downstream_cx_http1_active -= 1
        if self._upgraded is not None:
            stats.downstream_cx_upgrades_active -= 1
            self._upgraded = None
        self.codec.close()


_PREFACE_PREFIX_BYTES: Final = 12
"""``PRI * HTTP/2``: as much as Envoy looks at."""
