"""The server's side of an HTTP/2 connection: requests of many streams in, responses out."""

from collections.abc import Sequence

from mosn_xds.base.errors import ResetReason
from mosn_xds.data.codec.events import BadRequest, RequestStarted, StreamReset
from mosn_xds.data.codec.head import Field, ResponseHead, Version
from mosn_xds.data.codec.http2 import codes, heads
from mosn_xds.data.codec.http2.codec import Http2Codec
from mosn_xds.data.codec.http2.codes import ErrorCode
from mosn_xds.data.codec.http2.engines import EngineFactory
from mosn_xds.data.codec.http2.heads import Overflow
from mosn_xds.data.codec.http2.options import Http2Options
from mosn_xds.data.codec.http2.stats import Http2Stats


class Http2ServerCodec(Http2Codec):
    """One client's connection. The first `flush` has our SETTINGS; `receive` wants the preface first.

    Of the vocabulary in `mosn_xds.data.codec.events` it uses `RequestStarted`, `Data`, `Trailers`, `StreamReset`,
    `GoAway`, `Writable`, `PingAnswered` and `ConnectionClosed`; and `BadRequest` with status 0 for a malformed request, or
    one beyond the limits: it is reset already and there is nothing to answer.
    """

    __slots__ = ("_last_taken", "_upgrades", "last_stream_id")

    def __init__(self, engines: EngineFactory, options: Http2Options, stats: Http2Stats) -> None:
        super().__init__(engines, options, stats, server=True)
        self._upgrades: set[int] = set()
        self._last_taken = codes.LAST_STREAM_ID
        self.last_stream_id = 0

    def send_informational(self, stream_id: int, head: ResponseHead) -> None:
        """1xx other than 101."""
        self._engine.informational(stream_id, heads.response_fields(head, upgrade=False))

    def send_head(self, stream_id: int, head: ResponseHead, end_stream: bool) -> None:
        """A final response's head; 101 if the request was to upgrade and that is granted."""
        self.frames += 1
        upgrade = bool(self._upgrades) and stream_id in self._upgrades
        self._engine.response(stream_id, heads.response_fields(head, upgrade=upgrade), end_stream)

    def shutdown_notice(self) -> None:
        """Ask the client for no more streams; what is on its way is still taken. `goaway` should follow after a while."""
        self.stats.goaway_sent += 1
        self._engine.shutdown_notice()

    def goaway(self, code: int = ErrorCode.NO_ERROR) -> None:
        super().goaway(code)
        self._last_taken = self.last_stream_id

    def _forget(self, stream_id: int) -> bool:
        if self._upgrades:
            self._upgrades.discard(stream_id)
        return super()._forget(stream_id)

    def on_headers(self, stream_id: int, fields: Sequence[Field], end: bool) -> None:
        if self._over:
            return
        if stream_id > self._last_taken:  # sent before the client could know, and it has been told that we do not look
            self._engine.reset(stream_id, ErrorCode.REFUSED_STREAM)
            return
        self.last_stream_id = stream_id
        try:
            head = heads.request_head(fields, self._options, self.stats)
        except Overflow as overflow:
            self._overflowed(stream_id, str(overflow))
            self._refused(stream_id, str(overflow))
            return
        self._opened(stream_id)
        if not end and head.get(b"content-length") is not None:
            self._measured.add(stream_id)
        if head.upgrade is not None:
            self._upgrades.add(stream_id)
        self._events.append(RequestStarted(stream_id, head, end))

    def on_trailers(self, stream_id: int, fields: Sequence[Field]) -> None:
        self.stats.trailers += 1  # as in Envoy only those of requests count
        super().on_trailers(stream_id, fields)

    def on_stream_error(self, stream_id: int, code: int) -> None:
        if self._over:
            return
        if code == ErrorCode.REFUSED_STREAM:
            self.stats.stream_refused_errors += 1
        elif code == ErrorCode.PROTOCOL_ERROR:
            if stream_id > self.last_stream_id:
                self.last_stream_id = stream_id
                self._refused(stream_id, codes.MESSAGING_VIOLATION)
            self._violated(stream_id, codes.MESSAGING_VIOLATION)
            return
        if self._forget(stream_id):
            self._events.append(StreamReset(stream_id, ResetReason.PROTOCOL_ERROR))

    def _refused(self, stream_id: int, details: str) -> None:
        self._events.append(BadRequest(stream_id, 0, details, b"", Version.HTTP2))

    def __repr__(self) -> str:
        return f"<Http2ServerCodec {len(self._open)} streams, last {self.last_stream_id}>"
