"""The protocol of an upstream that TLS chooses: `auto_config`, and what explicit protocols offer."""

import contextlib
import ssl
import tempfile
import threading
from pathlib import Path

import pytest

from tests.differential.bed import Bed, Config, cluster, http_listener, vhost
from tests.differential.pair import case
from tests.differential.test_http2_upstream import HTTP2, HTTP_OPTIONS_KEY
from tests.differential.world import World
from tests.support.authority import Authority, Issued
from tests.support.http2_upstream import Http2Upstream
from tests.support.server import PeerGone, Stream
from tests.support.tls import TlsUpstream

_TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
CERTIFICATE = Authority().issue("up.test")


class Turns:
    """A TLS socket that two threads may use: reading gives way to writing."""

    def __init__(self, sock: ssl.SSLSocket) -> None:
        self._sock = sock
        self._lock = threading.Lock()

    def recv(self, size: int) -> bytes:
        while True:
            with self._lock:
                self._sock.settimeout(0.005)
                with contextlib.suppress(TimeoutError):
                    return self._sock.recv(size)

    def sendall(self, data: bytes) -> None:
        with self._lock:
            self._sock.settimeout(5)
            self._sock.sendall(data)

    def shutdown(self, how: int) -> None:
        self._sock.shutdown(how)


class TlsHttp2Upstream(Http2Upstream):
    """An HTTP/2 server behind TLS."""

    def __init__(self, name: str, certificate: Issued) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.TemporaryDirectory() as folder:
            self._context.load_cert_chain(*certificate.write(Path(folder)))
        self._context.set_alpn_protocols(["h2"])
        super().__init__(name)

    def serve(self, stream: Stream, number: int) -> None:
        try:
            tls = self._context.wrap_socket(stream.socket, server_side=True)
        except OSError as error:
            raise PeerGone from error
        super().serve(Stream(Turns(tls)), number)  # type: ignore[arg-type]


def secure(name: str, http: Config, upstream: str) -> Config:
    socket = {"name": "envoy.transport_sockets.tls", "typed_config": {"@type": _TLS, "sni": "up.test"}}
    return cluster(name, upstream, http=http, transport_socket=socket)


def auto(name: str, upstream: str, **options: Config) -> Config:
    made = secure(name, {"auto_config": options}, upstream)
    del made["typed_extension_protocol_options"][HTTP_OPTIONS_KEY]["explicit_http_config"]
    return made


ROUTES = vhost(
    "all",
    ["*"],
    """
    - match: {prefix: /auto/h2}
      route: {cluster: auto-h2}
    - match: {prefix: /auto/h1}
      route: {cluster: auto-h1}
    - match: {prefix: /auto/none}
      route: {cluster: auto-none}
    - match: {prefix: /explicit/h2}
      route: {cluster: explicit-h2}
    - match: {prefix: /explicit/h1}
      route: {cluster: explicit-h1}
    """,
)

BED = Bed(
    listeners=[http_listener("http", ROUTES)],
    clusters=[
        auto("auto-h2", "two"),
        auto("auto-h1", "one"),
        auto("auto-none", "none"),
        secure("explicit-h2", HTTP2, "two"),
        secure("explicit-h1", {}, "one"),
    ],
    upstreams={
        "two": lambda name: TlsHttp2Upstream(name, CERTIFICATE),
        "one": lambda name: TlsUpstream(name, CERTIFICATE, alpn=["http/1.1"]),
        "none": lambda name: TlsUpstream(name, CERTIFICATE),
    },
)


@case("ALPN: the peer chooses the protocol of the upstream's connections")
@pytest.mark.parametrize(
    ("path", "version"), [("/auto/h2", "HTTP/2"), ("/auto/h1", "HTTP/1.1"), ("/auto/none", "HTTP/1.1")]
)
def test_auto(proxy: World, path: str, version: str) -> None:
    with proxy.connect() as link:
        first, second = link.request(path=path), link.request("POST", path, body=b"abc")
    assert (first.status, first.seen.version, second.status, second.seen.body) == (200, version, 200, b"abc")
    assert first.seen.get("x-forwarded-proto") == "http"


@case("ALPN: what is explicit is spoken")
@pytest.mark.parametrize(("path", "version"), [("/explicit/h2", "HTTP/2"), ("/explicit/h1", "HTTP/1.1")])
def test_explicit(proxy: World, path: str, version: str) -> None:
    reply = proxy.get(path)
    assert (reply.status, reply.seen.version) == (200, version)
