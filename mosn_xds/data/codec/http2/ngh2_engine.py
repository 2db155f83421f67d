"""`Http2Engine` on ngh2, a binding of nghttp2, which is also Envoy's library: the engine that is used unless told.

What nghttp2 does beyond its documentation is treated here:

* Its resource limits (size and number of header fields, CONTINUATION frames) end the whole session without a word. They
  are set far above ours, which the codec enforces per stream; when one is met all the same, the GOAWAY is written here.
* A stream that is reset while half a DATA frame of it has arrived keeps that half's share of the connection's window.
  `_mend_window` notices when a good part of the window is gone and enlarges the window by as much.
* A malformed message is a stream error, told as the stream's end with a code that nobody sent.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

import ngh2

from mosn_xds.data.codec.head import Field
from mosn_xds.data.codec.http2.codes import LAST_STREAM_ID, ErrorCode, SettingId, goaway_frame
from mosn_xds.data.codec.http2.engine import EngineHandler
from mosn_xds.data.codec.http2.options import Http2Options

_LOCAL_LIMITS_FACTOR: Final = 4
_CONTINUATIONS: Final = 8
_FRAME_BYTES: Final = 16384
_DEFAULT_WINDOW_BYTES: Final = 65535
_MAX_WINDOW_BYTES: Final = (1 << 31) - 1
_MAX_SENT_HEADERS_BYTES: Final = 1 << 20
_UNLIMITED: Final = (1 << 31) - 1

_REQUEST: Final = ngh2.RequestReceived
_RESPONSE: Final = ngh2.ResponseReceived
_DATA: Final = ngh2.DataReceived
_TRAILERS: Final = ngh2.TrailersReceived
_CLOSED: Final = ngh2.StreamClosed


def configuration(options: Http2Options) -> ngh2.Configuration:
    """What sessions with these options share: making one from a shared configuration takes 8 us, else 12."""
    floods = options.floods
    room = options.max_headers_bytes * _LOCAL_LIMITS_FACTOR
    return ngh2.Configuration(
        auto_window_update=False,
        peer_max_concurrent_streams=_UNLIMITED,
        max_send_header_block_length=_MAX_SENT_HEADERS_BYTES,
        max_deflate_dynamic_table_size=options.hpack_table_bytes,
        max_outbound_ack=floods.max_outbound_control_frames,
        stream_reset_rate_limit=(floods.stream_reset_burst, floods.stream_reset_rate_per_s),
        max_continuations=max(_CONTINUATIONS, room // _FRAME_BYTES),
        max_inbound_header_list_size=room + 32 * _LOCAL_LIMITS_FACTOR * options.max_headers_count,
        max_inbound_header_count=options.max_headers_count * _LOCAL_LIMITS_FACTOR,
    )


class Ngh2Engine:
    """One nghttp2 session; see `mosn_xds.data.codec.http2.engine.Http2Engine`."""

    __slots__ = (
        "_farewell", "_handler", "_is_server", "_last_peer_stream", "_over", "_reset", "_session",
        "_unconsumed", "_unconsumed_bytes", "_window_bytes", "peer_max_concurrent_streams",
    )  # fmt: skip

    def __init__(
        self, handler: EngineHandler, options: Http2Options, shared: ngh2.Configuration, *, server: bool
    ) -> None:
        """`shared` is `configuration(options)`."""
        self._handler: EngineHandler | None = handler
        self._is_server = server
        self._session = session = ngh2.Connection(ngh2.Role.SERVER if server else ngh2.Role.CLIENT, shared)
        self.peer_max_concurrent_streams = _UNLIMITED
        self._over = False
        self._farewell = b""
        self._last_peer_stream = 0
        self._unconsumed: dict[int, int] = {}
        self._unconsumed_bytes = 0
        self._reset: set[int] = set()  # streams that either side has reset, until their end is told
        self._window_bytes = options.initial_connection_window_bytes
        session.initiate_connection(initial_settings(options, server=server))
        if self._window_bytes != _DEFAULT_WINDOW_BYTES:
            session.set_local_window_size(self._window_bytes)

    # Input.

    def receive(self, data: bytes) -> None:
        if self._over:
            return
        try:
            self._session.receive_data(data)
        except (ngh2.ConnectionProtocolError, ngh2.DenialOfServiceError) as error:
            self._deliver()
            calm = isinstance(error, ngh2.DenialOfServiceError)
            self._die(ErrorCode.ENHANCE_YOUR_CALM if calm else ErrorCode.PROTOCOL_ERROR, str(error))
            return
        except ngh2.NGH2Error as error:
            self._die(ErrorCode.INTERNAL_ERROR, str(error))
            return
        self._deliver()

    def _deliver(self) -> None:
        handler = self._handler
        if handler is None:
            return
        event: Any
        for event in self._session.events():
            kind = type(event)
            # The usual ones; compiled, a call through the table costs as much as what it calls.
            if kind is _DATA:
                self._on_data(event.stream_id, event.data, event.end_stream)
            elif kind is _CLOSED:
                self._on_stream_closed(event.stream_id, event.error_code)
            elif kind is _RESPONSE:
                handler.on_headers(event.stream_id, event.headers, event.end_stream)
            elif kind is _TRAILERS:
                handler.on_trailers(event.stream_id, event.headers)
            elif kind is _REQUEST:
                self._last_peer_stream = stream_id = event.stream_id
                handler.on_headers(stream_id, event.headers, event.end_stream)
            else:
                on = _ON.get(kind)
                if on is not None:
                    on(self, event)

    def _on_data(self, stream_id: int, data: bytes, end: bool) -> None:
        size = len(data)
        if size:
            if stream_id in self._reset:
                self._session.acknowledge_received_data(size, stream_id)
                return
            self._unconsumed[stream_id] = self._unconsumed.get(stream_id, 0) + size
            self._unconsumed_bytes += size
        if self._handler is not None:
            self._handler.on_data(stream_id, data, end)

    def _on_informational(self, event: ngh2.InformationalResponseReceived) -> None:
        if self._handler is not None:
            self._handler.on_informational(event.stream_id, event.headers)

    def _on_reset(self, event: ngh2.StreamReset) -> None:
        stream_id = event.stream_id
        if stream_id not in self._reset:
            self._reset.add(stream_id)  # its end follows
            self._consume_all(stream_id)
            if self._handler is not None:
                self._handler.on_reset(stream_id, event.error_code)

    def _on_stream_closed(self, stream_id: int, code: int) -> None:
        if stream_id in self._reset:
            self._reset.discard(stream_id)
            self._mend_window()
        elif self._handler is not None:
            if not code:
                self._handler.on_stream_closed(stream_id)
            else:
                self._consume_all(stream_id)
                self._handler.on_stream_error(stream_id, code)

    def _on_settings(self, event: ngh2.SettingsReceived) -> None:
        self.peer_max_concurrent_streams = event.settings.get(
            SettingId.MAX_CONCURRENT_STREAMS, self.peer_max_concurrent_streams
        )
        if self._handler is not None:
            self._handler.on_settings(event.settings)

    def _on_ping_ack(self, event: ngh2.PingAcknowledged) -> None:
        if self._handler is not None:
            self._handler.on_ping_ack(event.opaque_data)

    def _on_goaway(self, event: ngh2.GoAwayReceived) -> None:
        if self._handler is not None:
            self._handler.on_goaway(event.last_stream_id, event.error_code, event.debug_data)

    def _on_closed(self, event: ngh2.ConnectionClosed) -> None:
        self._finish(event.error_code, event.debug_data.decode("latin-1"))

    def _die(self, code: int, text: str) -> None:
        """The session is destroyed and says nothing more: say it here."""
        self._farewell = goaway_frame(self._last_peer_stream if self._is_server else 0, code)
        self._finish(code, text)

    def _finish(self, code: int, text: str) -> None:
        if not self._over:
            self._over = True
            if self._handler is not None:
                self._handler.on_closed(code, text)

    # Output.

    def flush(self) -> bytes:
        if self._over:
            farewell, self._farewell = self._farewell, b""
            return farewell
        try:
            out = self._session.data_to_send()
        except ngh2.NGH2Error as error:
            self._die(ErrorCode.INTERNAL_ERROR, str(error))
            return self.flush()
        self._deliver()
        return out

    def request(self, fields: Iterable[Field], end: bool) -> int:
        return self._session.send_request(fields, end_stream=end)

    def informational(self, stream_id: int, fields: Iterable[Field]) -> None:
        self._try(self._session.send_informational_response, stream_id, fields)

    def response(self, stream_id: int, fields: Iterable[Field], end: bool) -> None:
        try:
            self._session.send_response(stream_id, fields, end_stream=end)
        except ngh2.NGH2Error:
            return  # gone

    def data(self, stream_id: int, data: bytes, end: bool) -> None:
        try:
            self._session.send_data(stream_id, data, end_stream=end)
        except ngh2.NGH2Error:
            return  # gone

    def trailers(self, stream_id: int, fields: Iterable[Field]) -> None:
        self._try(self._session.send_trailers, stream_id, fields)

    def queued_bytes(self, stream_id: int) -> int:
        return self._session.queued_body_size(stream_id)

    def consume(self, stream_id: int, amount_bytes: int) -> None:
        held = self._unconsumed.get(stream_id, 0)
        if amount_bytes >= held:
            if not held:
                return
            amount_bytes = held
            del self._unconsumed[stream_id]
        else:
            self._unconsumed[stream_id] = held - amount_bytes
        self._unconsumed_bytes -= amount_bytes
        if not self._over:
            self._session.acknowledge_received_data(amount_bytes, stream_id)

    def reset(self, stream_id: int, code: int) -> None:
        if self._over:
            return
        self._reset.add(stream_id)
        self._consume_all(stream_id)
        self._try(self._session.reset_stream, stream_id, code)

    def ping(self, payload: bytes) -> None:
        self._try(self._session.ping, payload)

    def shutdown_notice(self) -> None:
        if self._is_server:
            self._try(self._session.send_shutdown_notice)
        else:
            self._try(lambda: self._session.send_goaway(0, last_stream_id=LAST_STREAM_ID - 1))

    def goaway(self, code: int) -> None:
        self._try(self._session.send_goaway, code)

    def close(self) -> None:
        self._over = True
        self._handler = None

    def _consume_all(self, stream_id: int) -> None:
        held = self._unconsumed.get(stream_id)
        if held:
            self.consume(stream_id, held)

    def _mend_window(self) -> None:
        """See the module's text."""
        session = self._session
        lost = self._window_bytes - session.local_window_size - self._unconsumed_bytes
        if lost > self._window_bytes // 2 and self._window_bytes + lost <= _MAX_WINDOW_BYTES:
            self._window_bytes += lost
            session.set_local_window_size(self._window_bytes)

    def _try(self, send: Callable[..., object], *arguments: object) -> None:
        """A call that fails if the stream or the connection is gone, which the handler hears of otherwise."""
        if self._over:
            return
        try:
            send(*arguments)
        except ngh2.NGH2Error:
            return

    def __repr__(self) -> str:
        return f"<Ngh2Engine {'server' if self._is_server else 'client'} {'over' if self._over else 'open'}>"


_ON: dict[type, Callable[[Ngh2Engine, Any], None]] = {
    ngh2.StreamReset: Ngh2Engine._on_reset,
    ngh2.InformationalResponseReceived: Ngh2Engine._on_informational,
    ngh2.SettingsReceived: Ngh2Engine._on_settings,
    ngh2.PingAcknowledged: Ngh2Engine._on_ping_ack,
    ngh2.GoAwayReceived: Ngh2Engine._on_goaway,
    ngh2.ConnectionClosed: Ngh2Engine._on_closed,
}


def initial_settings(options: Http2Options, *, server: bool) -> dict[int, int]:
    """The first SETTINGS frame: what Envoy sends."""
    settings: dict[int, int] = {}
    if not server:
        settings[SettingId.ENABLE_PUSH] = 0
    settings.update(options.custom_settings)
    settings[SettingId.HEADER_TABLE_SIZE] = options.hpack_table_bytes
    settings[SettingId.ENABLE_CONNECT_PROTOCOL] = int(options.allow_connect)
    settings[SettingId.MAX_CONCURRENT_STREAMS] = options.max_concurrent_streams
    settings[SettingId.INITIAL_WINDOW_SIZE] = options.initial_stream_window_bytes
    return settings
