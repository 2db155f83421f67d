"""HTTP/1 to an upstream: one stream at a time on a connection, which then waits in its pool for the next.

`Http1Connection` stands between a wire and the codec; `Http1Stream` is what the proxy holds of one exchange, so that a
late call on an exchange that is over cannot touch the next one on the same connection. A connection is used again only if
both sides of the exchange are complete and the codec agrees (no ``Connection: close``, nothing behind the response). Bytes
or EOF on a connection that nobody uses end it; it is out of the pool before the next request looks.

The end of a response frees the connection before the handler hears of it, so that what the handler starts next finds it.

Measured on CPython 3.11: picking a host, the pool, this module and all counters cost 2.1 to 2.8 us for a request and its
response, beside the codec's own 4 us; limits shared by two workers add 0.6 (bench/upstream_pool.py).
"""

import errno
from collections.abc import Iterator
from typing import Final

from mosn_xds.base.errors import ResetReason
from mosn_xds.data.codec.events import BadResponse, Data, Event, Informational, ResponseStarted, StreamReset, Trailers
from mosn_xds.data.codec.head import Fields, RequestHead, Version
from mosn_xds.data.codec.http1 import HeaderKeyFormat, Http1ClientCodec, Http1Options
from mosn_xds.data.net.tls_facts import TlsFacts
from mosn_xds.data.upstream.api import Stale, StreamHandler
from mosn_xds.data.upstream.connection import Dialed, PooledConnection
from mosn_xds.data.upstream.host import Host
from mosn_xds.data.upstream.pool import ConnectionPool, PoolSettings
from mosn_xds.spec.cluster import Cluster
from mosn_xds.spec.listener import HeaderCase

_SWITCHING_PROTOCOLS: Final = 101
_GOODBYES: Final = (b"HTTP/1.1 408", b"HTTP/1.0 408")
"""What some servers say on an idle connection before they close it; Envoy does not count that as an error either."""
_RESETS: Final = frozenset((errno.ECONNRESET, errno.EPIPE))
_MAX_HEADERS_BYTES: Final = 80 * 1024
_KEY_FORMATS: Final = {
    HeaderCase.LOWER: None,
    HeaderCase.PROPER_CASE: HeaderKeyFormat.PROPER_CASE,
    HeaderCase.PRESERVE: HeaderKeyFormat.PRESERVE,
}


class Http1Stream:
    """One exchange; see `mosn_xds.data.upstream.api.UpstreamStream`."""

    version = Version.HTTP11
    tls: TlsFacts | None = None

    # Defaults on the class: what an exchange does not need is not set for it.
    bytes_received = 0
    bytes_sent = 0
    request_complete = False
    _method = b""
    _paused = False
    _tunnel = False

    def __init__(self, connection: "Http1Connection", handler: StreamHandler, id: int) -> None:
        self.connection: Http1Connection | None = connection
        self.handler: StreamHandler | None = handler
        self.host = connection.host
        self.local = connection.local
        self.connection_id = connection.id
        self.reused = id > 1
        self._id = id

    def send_head(self, head: RequestHead, end: bool) -> None:
        connection = self.connection
        if connection is not None:
            self.request_complete = end
            self._method = head.method
            connection.wire.write(connection.codec.send_head(self._id, head, end))

    def send_data(self, data: bytes, end: bool) -> None:
        connection = self.connection
        if connection is None:
            return
        out = connection.codec.send_data(self._id, data, end)
        if out:
            if isinstance(out, tuple):
                connection.wire.write_many(out)
            else:
                connection.wire.write(out)
        if end:
            self.request_complete = True
            if self._tunnel:
                connection.wire.shutdown_write()

    def send_trailers(self, fields: Fields) -> None:
        connection = self.connection
        if connection is not None:
            self.request_complete = True
            out = connection.codec.send_trailers(self._id, fields)
            if out:
                connection.wire.write(out)

    def reset(self) -> None:
        connection = self.connection
        if connection is not None:
            connection.abandon(self)

    def pause_reading(self) -> None:
        connection = self.connection
        if connection is not None and not self._paused:
            self._paused = True
            connection.settings.stats.upstream_flow_control_paused_reading_total += 1
            connection.wire.pause_reading()

    def resume_reading(self) -> None:
        connection = self.connection
        if connection is not None and self._paused:
            self._paused = False
            connection.settings.stats.upstream_flow_control_resumed_reading_total += 1
            connection.wire.resume_reading()

    def detach(self) -> None:
        """For the connection: this exchange is over. Its links are cut, for the handler may keep it."""
        connection, self.connection = self.connection, None
        self.handler = None
        if connection is not None and self._paused:
            self._paused = False
            connection.wire.resume_reading()

    def response_begins(self, status: int) -> None:
        """For the connection: after 101, or 2xx to CONNECT, both sides send what they like."""
        if status == _SWITCHING_PROTOCOLS or (self._method == b"CONNECT" and 200 <= status < 300):
            self._tunnel = True

    def __repr__(self) -> str:
        state = "over" if self.connection is None else "active"
        return f"<Http1Stream {self._id} {state} to {self.host.text}>"


class Http1Connection(PooledConnection):
    """See the module's text."""

    __slots__ = ("_stream", "_streams_left", "codec")

    def __init__(
        self, pool: ConnectionPool, codec_options: Http1Options, id: int, dialed: Dialed | None = None
    ) -> None:
        self.codec = Http1ClientCodec(codec_options)
        self._stream: Http1Stream | None = None
        self._streams_left = pool.settings.spec.max_requests_per_connection or 0
        pool.settings.stats.upstream_cx_http1_total += 1
        super().__init__(pool, id, 1, dialed)

    @property
    def active_streams(self) -> int:
        return int(self._stream is not None)

    # For the pool.

    def open(self, handler: StreamHandler) -> Http1Stream:
        meter = self._meter
        meter.streams += 1
        stream = self._stream = Http1Stream(self, handler, meter.streams)
        tls = self.wire.tls
        if tls is not None:
            stream.tls = tls
        self.free_streams = 0
        if self._streams_left:
            self._streams_left -= 1
            if not self._streams_left:
                self.settings.stats.upstream_cx_max_requests += 1
                self._draining = True
        return stream

    def drain(self) -> None:
        self._draining = True
        if self._stream is None:
            self.close()

    def close(self) -> None:
        stream = self._stream
        if stream is not None:
            self._fail(stream, ResetReason.LOCAL_RESET)
        elif not self._over:
            self._leave()
            self.wire.close()

    # For the stream.

    def abandon(self, stream: Http1Stream) -> None:
        """The handler gave up. What the upstream still does for it cannot be stopped otherwise than by closing."""
        self._end(stream)
        self._leave(active=True)
        self.wire.close(flush=False)

    # For the wire.

    def on_data(self, data: bytes) -> None:
        stream = self._stream
        if stream is not None:
            self._deliver(stream, self.codec.receive(data))
            return
        if not data.startswith(_GOODBYES):
            self.settings.stats.upstream_cx_protocol_error += 1
        self.close()

    def on_eof(self) -> None:
        self._meter.by_peer = True
        stream = self._stream
        if stream is None:
            self.close()
            return
        self._deliver(stream, self.codec.receive_eof())
        if stream.connection is not None:
            self._fail(stream, ResetReason.CONNECTION_TERMINATION)

    def on_above_high_water(self) -> None:
        handler = self._stream.handler if self._stream is not None else None
        if handler is not None:
            self.settings.stats.upstream_flow_control_backed_up_total += 1
            handler.on_upstream_above_high_water()

    def on_below_low_water(self) -> None:
        handler = self._stream.handler if self._stream is not None else None
        if handler is not None:
            self.settings.stats.upstream_flow_control_drained_total += 1
            handler.on_upstream_below_low_water()

    def release(self) -> None:
        self.codec.close()

    # Inside.

    def _deliver(self, stream: Http1Stream, events: list[Event]) -> None:
        handler = stream.handler
        if handler is None:
            return
        for event in events:
            if type(event) is Data:
                if event.end_stream:
                    self._complete(stream)
                handler.on_response_data(event.data, event.end_stream)
            elif type(event) is ResponseStarted:
                if event.end_stream:
                    self._complete(stream)
                else:
                    stream.response_begins(event.head.status)
                handler.on_response_head(event.head, event.end_stream)
            elif isinstance(event, Trailers):
                self._complete(stream)
                handler.on_response_trailers(event.fields)
            elif isinstance(event, Informational):
                handler.on_informational(event.head)
            elif isinstance(event, BadResponse):
                self.settings.stats.upstream_cx_protocol_error += 1
                self._fail(stream, ResetReason.PROTOCOL_ERROR)
            elif isinstance(event, StreamReset):
                self._fail(stream, event.reason)
            if stream.connection is None:
                return  # it has ended, or the handler has given it up

    def _complete(self, stream: Http1Stream) -> None:
        """The response is complete: the connection is free, if it may be used again."""
        self._end(stream)
        if not stream.request_complete:
            # An early answer: the rest of the request would be taken for the next one.
            self._leave(active=True)
            self.wire.close(flush=False)
        elif self._draining or not self.codec.reusable:
            if not self._draining:
                self.settings.stats.upstream_cx_close_notify += 1
            self._leave()
            self.wire.close()
        else:
            self.idle_since_s = self.settings.reactor.clock.now
            self.free_streams = 1
            self._pool.on_room(self)

    def _fail_all(self, reason: ResetReason) -> None:
        stream = self._stream
        if stream is not None:
            self._fail(stream, reason)
        else:
            self._leave()

    def _fail(self, stream: Http1Stream, reason: ResetReason) -> None:
        """The exchange ends early, and with it the connection."""
        handler = stream.handler
        unread = self.wire.unacknowledged_bytes > 0
        self._end(stream)
        self._leave(active=True)
        self.wire.close(flush=False)
        if handler is not None:
            lost = reason is ResetReason.CONNECTION_TERMINATION and stream.reused and not stream.bytes_received
            handler.on_upstream_reset(reason, "", self._staleness(stream, unread) if lost else Stale.NO)

    def _staleness(self, stream: Http1Stream, unread: bool) -> Stale:
        """For a connection that was used before and ended with nothing of a response.

        A peer that had closed when the request came has not acknowledged it. One that closes with bytes it has not read
        resets the connection, as does one that crashes. One that has read the request and closes says FIN.
        """
        if unread or not stream.bytes_sent:
            return Stale.UNREAD
        error = self.wire.error
        if error is None:
            return Stale.NO
        return Stale.MAYBE if error.errno in _RESETS else Stale.NO

    def _end(self, stream: Http1Stream) -> None:
        stream.bytes_received, stream.bytes_sent = self._meter.count_bytes(self.wire)
        stream.detach()
        self._stream = None
        self._pool.on_stream_end()

    def __repr__(self) -> str:
        state = "closed" if self._over else "busy" if self._stream else "ready" if self._connected else "connecting"
        return f"<Http1Connection {self.id} to {self.host.text} {state}, {self._meter.streams} streams>"


def http1_options(spec: Cluster) -> Http1Options:
    """What the cluster says about its codec."""
    settings = spec.http1
    return Http1Options(
        max_headers_bytes=spec.max_response_headers_bytes or _MAX_HEADERS_BYTES,
        max_headers_count=spec.max_headers_count,
        enable_trailers=settings.enable_trailers,
        header_key_format=_KEY_FORMATS[settings.header_case],
        allow_chunked_length=settings.allow_chunked_length,
    )


def http1_pool(host: Host, settings: PoolSettings, options: Http1Options, ids: Iterator[int]) -> ConnectionPool:
    """A pool of HTTP/1 connections; `ids` numbers connections."""
    return ConnectionPool(host, settings, lambda pool: Http1Connection(pool, options, next(ids)))
