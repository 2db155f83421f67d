"""A client's and a server's codec, joined by hand."""

from mosn_xds.data.codec.events import Event
from mosn_xds.data.codec.head import RequestHead, ResponseHead, Version
from mosn_xds.data.codec.http2 import EngineFactory, Http2ClientCodec, Http2Options, Http2ServerCodec, Http2Stats


class Pair:
    """Both ends of a connection; `exchange` carries bytes until neither has more to say."""

    def __init__(
        self, engines: EngineFactory, client: Http2Options | None = None, server: Http2Options | None = None
    ) -> None:
        self.client_stats = Http2Stats("cluster.up.http2.")
        self.server_stats = Http2Stats("http2.")
        self.client = Http2ClientCodec(engines, client or Http2Options(), self.client_stats)
        self.server = Http2ServerCodec(engines, server or Http2Options(), self.server_stats)
        self.at_client: list[Event] = []
        self.at_server: list[Event] = []
        self.to_client = 0
        self.to_server = 0
        self.exchange()
        self.take()

    def exchange(self) -> None:
        while True:
            out, events = self.client.flush()
            self.at_client += events
            self.to_server += len(out)
            if out:
                self.at_server += self.server.receive(out)
            back, events = self.server.flush()
            self.at_server += events
            self.to_client += len(back)
            if back:
                self.at_client += self.client.receive(back)
            if not out and not back:
                return

    def take(self) -> tuple[list[Event], list[Event]]:
        """What client and server were told since the last time."""
        told = self.at_client, self.at_server
        self.at_client, self.at_server = [], []
        return told


def get(path: bytes = b"/", **attributes: object) -> RequestHead:
    head = RequestHead(b"GET", b"http", b"example.org", path, Version.HTTP2, [])
    for name, value in attributes.items():
        setattr(head, name, value)
    return head


def answer(status: int = 200, *fields: tuple[bytes, bytes]) -> ResponseHead:
    return ResponseHead(status, list(fields))
