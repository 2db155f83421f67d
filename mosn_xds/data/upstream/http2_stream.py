"""One exchange on an HTTP/2 connection, as the proxy holds it; see `mosn_xds.data.upstream.http2` for the rest."""

from typing import TYPE_CHECKING

from mosn_xds.data.codec.head import Fields, RequestHead, Version
from mosn_xds.data.upstream.api import StreamHandler
from mosn_xds.data.upstream.multiplexed import MultiplexedStream

if TYPE_CHECKING:
    from mosn_xds.data.upstream.http2 import Http2Connection


class Http2Stream(MultiplexedStream):
    """One exchange; see `mosn_xds.data.upstream.api.UpstreamStream`."""

    version = Version.HTTP2
    request_complete = False
    unread_bytes = 0
    paused = False

    def __init__(self, connection: "Http2Connection", handler: StreamHandler, reused: bool) -> None:
        super().__init__(connection.host, connection.local, connection.id, handler, reused)
        self.connection: Http2Connection | None = connection

    def unlink(self) -> None:
        self.connection = None
        self.handler = None

    def send_head(self, head: RequestHead, end: bool) -> None:
        connection = self.connection
        if connection is not None:
            self.request_complete = end
            connection.begin(self, head, end)

    def send_data(self, data: bytes, end: bool) -> None:
        connection = self.connection
        if connection is not None:
            self.request_complete = end
            self.bytes_sent += len(data)
            connection.send_data(self, data, end)

    def send_trailers(self, fields: Fields) -> None:
        connection = self.connection
        if connection is not None:
            self.request_complete = True
            connection.codec.send_trailers(self.id, fields)
            connection.touch()

    def reset(self) -> None:
        connection = self.connection
        if connection is not None:
            connection.abandon(self)

    def pause_reading(self) -> None:
        connection = self.connection
        if connection is not None and not self.paused:
            self.paused = True
            connection.settings.stats.upstream_flow_control_paused_reading_total += 1

    def resume_reading(self) -> None:
        connection = self.connection
        if connection is not None and self.paused:
            self.paused = False
            connection.settings.stats.upstream_flow_control_resumed_reading_total += 1
            connection.give_back(self)

    def __repr__(self) -> str:
        state = "over" if self.connection is None else "active"
        return f"<Http2Stream {self.id} {state} to {self.host.text}>"
