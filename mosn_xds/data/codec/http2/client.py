"""The client's side of an HTTP/2 connection: requests of many streams out, responses in."""

from collections.abc import Mapping, Sequence

from mosn_xds.base.errors import ResetReason
from mosn_xds.data.codec.events import BadResponse, GoAway, Informational, PeerSettings, ResponseStarted, StreamReset
from mosn_xds.data.codec.head import Field, RequestHead, ResponseHead
from mosn_xds.data.codec.http2 import codes, heads
from mosn_xds.data.codec.http2.codec import Http2Codec
from mosn_xds.data.codec.http2.codes import ErrorCode
from mosn_xds.data.codec.http2.engines import EngineFactory
from mosn_xds.data.codec.http2.heads import Overflow
from mosn_xds.data.codec.http2.options import Http2Options
from mosn_xds.data.codec.http2.stats import Http2Stats


class Http2ClientCodec(Http2Codec):
    """One upstream connection. The first `flush` has the preface and our SETTINGS; requests may follow at once.

    ::

        stream_id = codec.send_head(head, end_stream=False)
        above = codec.send_data(stream_id, b"...", end_stream=False)     # True: wait for Writable(stream_id)
        codec.send_trailers(stream_id, fields)
        out, events = codec.flush()                                      # once per batch
        events = codec.receive(data)                                     # then flush again

    Of the vocabulary in `mosn_xds.data.codec.events` it uses `Informational`, `ResponseStarted`, `Data`, `Trailers`,
    `StreamReset`, `BadResponse`, `GoAway`, `PeerSettings`, `Writable`, `PingAnswered` and `ConnectionClosed`.
    A stream's last event is one with `end_stream`, `Trailers`, `StreamReset` or `BadResponse`; `BadResponse` is a response
    beyond the header limits, or malformed where that does not end the connection: the stream is reset already. A response
    may be complete before its request: `reset` the stream then if the rest will not be sent; a `StreamReset` may still come
    behind it, when the peer wants no more of the request.

    `StreamReset` with REMOTE_REFUSED (RST_STREAM with that code, or an id above the one in the peer's GOAWAY) is the only
    one after which any request may be sent again. After `GoAway` no `send_head`.
    """

    __slots__ = ("_upgrades", "goaway_received")

    def __init__(self, engines: EngineFactory, options: Http2Options, stats: Http2Stats) -> None:
        super().__init__(engines, options, stats, server=False)
        self._upgrades: dict[int, bytes] = {}
        self.goaway_received = False

    @property
    def max_concurrent_streams(self) -> int:
        """How many streams may be open at once: what the peer allows and what the options say, the lesser of the two."""
        return min(self._engine.peer_max_concurrent_streams, self._options.max_concurrent_streams)

    @property
    def free_streams(self) -> int:
        """How many more may be opened now."""
        if self.goaway_received or self._over:
            return 0
        return max(0, self.max_concurrent_streams - len(self._open))

    def send_head(self, head: RequestHead, end_stream: bool) -> int:
        """Open a stream with a request's head; returns its id. Call it only with `free_streams`."""
        stream_id = self._engine.request(heads.request_fields(head), end_stream)
        self._opened(stream_id)
        if head.upgrade is not None:
            self._upgrades[stream_id] = head.upgrade
        return stream_id

    def _forget(self, stream_id: int) -> bool:
        if self._upgrades:
            self._upgrades.pop(stream_id, None)
        return super()._forget(stream_id)

    def on_headers(self, stream_id: int, fields: Sequence[Field], end: bool) -> None:
        if stream_id not in self._open:
            return
        status = fields[0][1]
        if len(status) != 3 or not status.isdigit():  # not every engine minds
            self._violated(stream_id, codes.MESSAGING_VIOLATION)
            return
        try:
            head = heads.response_head(fields, self._options, self.stats)
        except Overflow as overflow:
            self._refuse(stream_id, str(overflow))
            return
        if self._upgrades and stream_id in self._upgrades:
            heads.upgraded_response(head, self._upgrades.pop(stream_id))
        self._events.append(ResponseStarted(stream_id, head, end))

    def on_informational(self, stream_id: int, fields: Sequence[Field]) -> None:
        if stream_id in self._open:
            self._events.append(Informational(stream_id, ResponseHead(int(fields[0][1]), list(fields[1:]))))

    def _refuse(self, stream_id: int, details: str) -> None:
        self.stats.tx_reset += 1
        self._engine.reset(stream_id, ErrorCode.INTERNAL_ERROR)
        self._forget(stream_id)
        self._events.append(BadResponse(stream_id, details))

    def on_stream_error(self, stream_id: int, code: int) -> None:
        if self._over:
            return
        if code == ErrorCode.REFUSED_STREAM and self.goaway_received:  # else it is our own end that closes streams
            if self._forget(stream_id):
                self._events.append(StreamReset(stream_id, ResetReason.REMOTE_REFUSED, codes.REMOTE_REFUSED))
        elif code == ErrorCode.PROTOCOL_ERROR:
            self._violated(stream_id, codes.MESSAGING_VIOLATION)
        elif self._forget(stream_id):
            self._events.append(StreamReset(stream_id, ResetReason.PROTOCOL_ERROR))

    def on_settings(self, settings: Mapping[int, int]) -> None:
        self._events.append(PeerSettings(self.max_concurrent_streams))

    def on_goaway(self, last_stream_id: int, code: int, debug: bytes) -> None:
        self.goaway_received = True
        self._events.append(GoAway(last_stream_id, code, debug))

    def __repr__(self) -> str:
        return f"<Http2ClientCodec {len(self._open)} streams{', going away' if self.goaway_received else ''}>"
