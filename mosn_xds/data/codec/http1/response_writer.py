"""How responses are written to a client of HTTP/1: the half of the server codec that sends.

It chooses the framing as Envoy does (codec_impl.cc, `StreamEncoderImpl::encodeHeadersBase`, and what 1.40 was seen to put
on the wire): a head without Content-Length gets ``content-length: 0`` when no body follows and
``transfer-encoding: chunked`` when one does (also in answer to HEAD, where the body itself is left out); 1xx, 204 and 304
get nothing, HTTP/1.0 gets a body that ends with the connection. ``connection: close`` is said when the exchange is the
last, which it is too when the response begins before the request is complete.
"""

from typing import Final

from mosn_xds.data.codec.head import Fields, RequestHead, ResponseHead, Version
from mosn_xds.data.codec.http1 import wire
from mosn_xds.data.codec.http1.options import Http1Options
from mosn_xds.data.codec.http1.phase import Framing

_HTTP10: Final[Version] = Version.HTTP10
_HTTP11: Final[Version] = Version.HTTP11
_NONE, _PLAIN, _CHUNKED = Framing.NONE, Framing.PLAIN, Framing.CHUNKED
_CRLF: Final = wire.CRLF
_COLON: Final = wire.COLON
_CONTENT_LENGTH: Final = b"content-length"


class ResponseWriter:
    """Writes the responses of one connection, one exchange after the other.

    `keep_alive` is meaningful once a response is complete: whether the connection can serve another request.
    """

    __slots__ = (
        "_answered",
        "_case",
        "_closing",
        "_connect",
        "_framing",
        "_head_only",
        "_http10",
        "_lines",
        "_options",
        "_request_open",
        "keep_alive",
    )

    def __init__(self, options: Http1Options) -> None:
        self._options = options
        key_format = options.header_key_format
        self._case = None if key_format is None else wire.NameCase(key_format)
        self._lines = wire.framing_lines(key_format)
        self._request_open = True
        self._answered = False
        self._closing = False
        self._connect = False
        self._head_only = False
        self._http10 = False
        self._framing = _NONE
        self.keep_alive = True

    def _begin(self, head: RequestHead | None) -> None:
        """The exchange that is to be answered next; None for a request that has no usable head."""
        self._closing = head is None or not head.keep_alive
        if head is not None:
            method = head.method
            self._head_only = method == b"HEAD"
            self._connect = method == b"CONNECT"
            self._http10 = head.version is _HTTP10
        else:
            self._head_only = self._connect = False

    def close_after(self) -> None:
        """Make the current response the connection's last: it will say ``connection: close``."""
        self._closing = True

    def send_informational(self, stream_id: int, head: ResponseHead) -> bytes:
        """A 1xx response. A client of HTTP/1.0 would not understand it and gets none."""
        if self._http10:
            return b""
        return b"%b%b\r\n" % (wire.status_line(head.status, 1), self._field_lines(head))

    def send_head(self, stream_id: int, head: ResponseHead, end_stream: bool) -> bytes:
        """The head of the response."""
        status = head.status
        fields = head.fields
        sized = _CONTENT_LENGTH in dict(fields)
        added = b""
        framing = _PLAIN
        raw = status == 101 or (self._connect and 200 <= status < 300)
        if raw:
            self._closing = False
        elif status < 200 or status in (204, 304):
            framing = _NONE
        elif end_stream:
            framing = _NONE
            if not sized:
                if not self._head_only:
                    added = self._lines.empty
                elif not self._http10:
                    added = self._lines.chunked
        elif sized:
            pass
        elif self._http10:
            self._closing = True
        else:
            framing = _CHUNKED
            added = self._lines.chunked
        if self._head_only:
            framing = _NONE
        self._framing = framing
        self._answered = end_stream
        if raw:
            self.keep_alive = False
        elif self._closing or self._request_open:
            self._closing = True
            self.keep_alive = False
            added += self._lines.close
        else:
            self.keep_alive = True
            if self._http10:
                added += self._lines.keep_alive
        line = None if self._http10 else wire.STATUS_LINES.get(status)
        if line is None:
            line = wire.status_line(status, 0 if self._http10 else 1)
        if self._case is None and head.names is None:
            # As `wire.field_lines`; written out, which saves 0.1 us of 1.1.
            return b"".join((line, _CRLF.join(map(_COLON.join, fields)), _CRLF if fields else b"", added, _CRLF))
        return b"".join((line, self._field_lines(head), added, _CRLF))

    def send_data(self, stream_id: int, data: bytes, end_stream: bool) -> bytes | tuple[bytes, ...]:
        """A part of the body. Large parts of a chunked body come as several buffers, so that nothing is copied."""
        if end_stream:
            self._answered = True
        framing = self._framing
        if framing is _PLAIN:
            return data
        if framing is _CHUNKED:
            return wire.chunk(data, end_stream)
        return b""

    def send_trailers(self, stream_id: int, fields: Fields) -> bytes:
        """The end of the response, with trailers if they are enabled and its framing has room for them."""
        self._answered = True
        if self._framing is not _CHUNKED:
            return b""
        return wire.trailer_section(fields) if self._options.enable_trailers else wire.LAST_CHUNK

    def _field_lines(self, head: ResponseHead) -> bytes:
        case = self._case
        if case is None and head.names is None:
            return wire.field_lines(head.fields)
        if case is None:
            case = self._case = wire.NameCase(None)
        return case.lines(head.fields, head.names)
