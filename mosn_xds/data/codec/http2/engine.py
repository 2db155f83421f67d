"""What the codecs ask of an HTTP/2 library: frames, HPACK, flow control and the streams' states, and nothing of HTTP.

An engine is one end of one connection. It is told bytes (`receive`) and tells its `EngineHandler` what they mean; it is
told what to send and hands out bytes (`flush`). Nothing a peer sends makes it raise: a connection error is `on_closed`,
and bytes that `flush` returns then say goodbye.

Header lists are pairs with pseudo headers first, as on the wire. What a peer may send and what it may not is the engine's
business as far as RFC 9113 says it; limits and Envoy's own rules are the codecs'.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from mosn_xds.data.codec.head import Field


class EngineHandler(Protocol):
    """Who is told, inside `Http2Engine.receive` and `Http2Engine.flush`; nobody may call those from in here."""

    def on_headers(self, stream_id: int, fields: Sequence[Field], end: bool) -> None:
        """The head of a request, on the client's side of a final response."""
        ...

    def on_informational(self, stream_id: int, fields: Sequence[Field]) -> None: ...

    def on_data(self, stream_id: int, data: bytes, end: bool) -> None:
        """`len(data)` bytes of the windows are taken until `Http2Engine.consume`."""
        ...

    def on_trailers(self, stream_id: int, fields: Sequence[Field]) -> None: ...

    def on_reset(self, stream_id: int, code: int) -> None:
        """RST_STREAM came."""
        ...

    def on_stream_error(self, stream_id: int, code: int) -> None:
        """The engine ended a stream: malformed message, window overrun, more streams than allowed, or (REFUSED_STREAM on
        the client's side) above the last one that the peer's GOAWAY takes."""
        ...

    def on_stream_closed(self, stream_id: int) -> None:
        """Both sides have ended it in good order."""
        ...

    def on_settings(self, settings: Mapping[int, int]) -> None: ...

    def on_ping_ack(self, payload: bytes) -> None: ...

    def on_goaway(self, last_stream_id: int, code: int, debug: bytes) -> None: ...

    def on_closed(self, code: int, text: str) -> None:
        """Connection error, ours or the peer's (code and cause), or the end after `goaway`; at most once."""
        ...


class Http2Engine(Protocol):
    """One end of a connection. Calls for streams that are gone do nothing."""

    @property
    def peer_max_concurrent_streams(self) -> int: ...

    def receive(self, data: bytes) -> None: ...

    def flush(self) -> bytes:
        """What to send now: all that windows allow."""
        ...

    def request(self, fields: Iterable[Field], end: bool) -> int:
        """Open a stream; its id. Only while the peer takes streams (see `EngineHandler.on_goaway`) and has room."""
        ...

    def informational(self, stream_id: int, fields: Iterable[Field]) -> None: ...

    def response(self, stream_id: int, fields: Iterable[Field], end: bool) -> None: ...

    def data(self, stream_id: int, data: bytes, end: bool) -> None:
        """Queue a part of the body, without bound: see `queued_bytes`."""
        ...

    def trailers(self, stream_id: int, fields: Iterable[Field]) -> None: ...

    def queued_bytes(self, stream_id: int) -> int:
        """How much of the body waits for windows, or for `flush`."""
        ...

    def consume(self, stream_id: int, amount_bytes: int) -> None:
        """Give back window that `on_data` took; also after the stream's end."""
        ...

    def reset(self, stream_id: int, code: int) -> None:
        """RST_STREAM, before all that is queued for the stream, which is dropped. The handler hears no more of it."""
        ...

    def ping(self, payload: bytes) -> None:
        """`payload` is eight bytes."""
        ...

    def shutdown_notice(self) -> None:
        """GOAWAY with the highest id there is: the peer should open no more streams, but those on the way are served."""
        ...

    def goaway(self, code: int) -> None:
        """GOAWAY with the last stream that was taken; later ones are ignored."""
        ...

    def close(self) -> None:
        """Let go of the handler."""
        ...
