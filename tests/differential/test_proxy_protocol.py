"""The PROXY protocol on both sides: taken by a listener filter, sent ahead of upstream connections, beside Envoy."""

import socket
import struct
import time
from collections.abc import Sequence
from typing import Any

import pytest

from tests.differential.bed import FILE_LOG, Bed, Config, cluster, extension, http_listener, listener, tcp_proxy, vhost
from tests.differential.pair import case
from tests.differential.world import Reply, World
from tests.support.authority import Authority
from tests.support.server import Stream
from tests.support.tcp_upstream import TcpUpstream
from tests.support.tls import TlsUpstream
from tests.support.upstream import Upstream

ROOT = Authority("root")
SERVER = ROOT.issue("srv.test")
V2 = b"\r\n\r\n\0\r\nQUIT\n"
HTTP = "type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol"


def v2(*tlvs: tuple[int, bytes], source: str = "10.1.2.3", command: int = 0x21) -> bytes:
    block = socket.inet_aton(source) + socket.inet_aton("10.9.8.7") + struct.pack(">HH", 1111, 80)
    for kind, value in tlvs:
        block += bytes([kind]) + struct.pack(">H", len(value)) + value
    return V2 + bytes([command, 0x11]) + struct.pack(">H", len(block)) + block


V1 = b"PROXY TCP4 10.1.2.3 10.9.8.7 1111 80\r\n"


def taking(**fields: Any) -> Config:
    return {
        "listener_filters": [
            {"name": "envoy.filters.listener.proxy_protocol", "typed_config": {"@type": HTTP, **fields}}
        ]
    }


def sending(version: str, inner: Config | None = None, **config: Any) -> Config:
    raw = extension("envoy.transport_sockets.raw_buffer", "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer")
    return extension(
        "envoy.transport_sockets.upstream_proxy_protocol",
        "envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport",
        config={"version": version, **config},
        transport_socket=inner or raw,
    )


class Behind(Upstream):
    """An HTTP server that takes a PROXY header first; `headers` has each connection's."""

    def __init__(self, name: str) -> None:
        self.headers: dict[int, bytes] = {}
        super().__init__(name)

    def serve(self, stream: Stream, number: int) -> None:
        self.headers[number] = read_header(stream)
        super().serve(stream, number)


class BehindTls(TlsUpstream):
    """As `Behind`, over TLS: the header comes ahead of the handshake."""

    def __init__(self, name: str) -> None:
        self.headers: dict[int, bytes] = {}
        super().__init__(name, SERVER)

    def serve(self, stream: Stream, number: int) -> None:
        # Not through the stream, which would take what belongs to TLS.
        line = stream.socket.recv(107, socket.MSG_PEEK).partition(b"\r\n")[0] + b"\r\n"
        self.headers[number] = stream.socket.recv(len(line))
        super().serve(stream, number)


def read_header(stream: Stream) -> bytes:
    start = stream.exactly(6)
    if start == b"PROXY ":
        return start + stream.until(b"\r\n") + b"\r\n"
    head = start + stream.exactly(10)
    return head + stream.exactly(int.from_bytes(head[14:16], "big"))


ROUTES = "\n".join(
    f"- {{match: {{prefix: /{name}}}, route: {{cluster: {name}}}}}" for name in ("v1", "v2", "added", "tls", "a")
)
METADATA_LOG = {
    "name": "envoy.access_loggers.file",
    "typed_config": {
        "@type": FILE_LOG,
        "path": "${log}/metadata.tlv",
        "log_format": {
            "text_format_source": {
                "inline_string": "%DYNAMIC_METADATA(envoy.filters.listener.proxy_protocol:name)% %DYNAMIC_METADATA(other:id)%\n"
            }
        },
    },
}
RULES = [
    {"tlv_type": 0xE0, "on_tlv_present": {"key": "name"}},
    {"tlv_type": 0xE1, "on_tlv_present": {"metadata_namespace": "other", "key": "id"}},
]

BED = Bed(
    listeners=[
        http_listener("http", vhost("all", ["*"], ROUTES), use_remote_address=True),
        http_listener("taking", vhost("all", ["*"], ROUTES), use_remote_address=True, listener_fields=taking()),
        http_listener(
            "passing",
            vhost("all", ["*"], ROUTES),
            listener_fields=taking(pass_through_tlvs={"match_type": "INCLUDE", "tlv_type": [0xE0]}),
        ),
        http_listener(
            "lenient",
            vhost("all", ["*"], ROUTES),
            use_remote_address=True,
            listener_fields=taking(allow_requests_without_proxy_protocol=True),
        ),
        http_listener("no v1", vhost("all", ["*"], ROUTES), listener_fields=taking(disallowed_versions=["V1"])),
        listener("tcp", tcp_proxy("tcp", "tcp", access_log=[METADATA_LOG]), **taking(rules=RULES)),
        listener("through", tcp_proxy("through", "v1")),
    ],
    clusters=[
        cluster("a"),
        cluster("tcp"),
        cluster("v1", "behind", transport_socket=sending("V1")),
        cluster(
            "v2", "behind", transport_socket=sending("V2", pass_through_tlvs={"match_type": "INCLUDE", "tlv_type": [0xE0]})
        ),
        cluster("added", "behind", transport_socket=sending("V2", added_tlvs=[{"type": 0xEE, "value": "aGVsbG8="}])),
        cluster(
            "tls",
            "behind tls",
            transport_socket=sending(
                "V1",
                extension(
                    "envoy.transport_sockets.tls",
                    "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                    common_tls_context={},
                ),
            ),
        ),
    ],
    upstreams={"a": Upstream, "tcp": TcpUpstream, "behind": Behind, "behind tls": BehindTls},
)  # fmt: skip


def through(world: World, name: str, data: bytes, path: str = "/a") -> Reply:
    with world.connect(name) as link:
        link.send(data)
        return link.request(path=path)


def header(world: World, upstream: str, reply: Reply) -> bytes:
    server = world.upstream(upstream)
    assert isinstance(server, Behind | BehindTls)
    return server.headers[reply.seen.connection]


@case("proxy_protocol listener filter: the client is who the header names")
@pytest.mark.parametrize("data", [V1, v2(), v2((4, b"noop"))], ids=["v1", "v2", "tlv"])
def test_taken(proxy: World, data: bytes) -> None:
    assert through(proxy, "taking", data).seen.get("x-forwarded-for") == "10.1.2.3"


@case("proxy_protocol listener filter: LOCAL and UNKNOWN keep the connection's own address")
@pytest.mark.parametrize("data", [b"PROXY UNKNOWN\r\n", v2(command=0x20)], ids=["v1", "v2"])
def test_local(proxy: World, data: bytes) -> None:
    assert through(proxy, "taking", data).seen.get("x-forwarded-for") != "10.1.2.3"


@case("proxy_protocol listener filter: without a header, or with a broken one, the connection is closed")
@pytest.mark.parametrize(
    "data",
    [b"GET / HTTP/1.1\r\n\r\n", b"PROXY TCP4 10.1.2.3\r\n", v2(command=0x2F), v2()[:-2] + b"\0"],
    ids=["none", "v1", "v2", "cut"],
)
def test_refused(proxy: World, data: bytes) -> None:
    with proxy.connect("taking") as link:
        link.send(data)
        if data.startswith(V2) and len(data) < len(v2()):
            link.raw.half_close()
        assert link.raw.read_to_end() == b""


@case("allow_requests_without_proxy_protocol: with or without")
@pytest.mark.parametrize(
    ("data", "client"), [(b"", None), (V1, "10.1.2.3"), (v2(), "10.1.2.3")], ids=["none", "v1", "v2"]
)
def test_lenient(proxy: World, data: bytes, client: str | None) -> None:
    reply = through(proxy, "lenient", data)
    assert reply.status == 200
    if client is not None:
        assert reply.seen.get("x-forwarded-for") == client


@case("disallowed_versions")
def test_disallowed(proxy: World) -> None:
    assert through(proxy, "no v1", v2()).status == 200
    with proxy.connect("no v1") as link:
        link.send(V1 + b"GET /a HTTP/1.1\r\nhost: x\r\n\r\n")
        assert link.raw.read_to_end() == b""


@case("proxy_protocol rules: TLVs become dynamic metadata of the connection")
@pytest.mark.parametrize(
    ("tlvs", "line"),
    [([(0xE0, b"blue")], "blue -"), ([(0xE1, b"7"), (0xE0, b"x"), (0xE2, b"y")], "x 7"), ([], "- -")],
)
def test_rules(proxy: World, tlvs: Sequence[tuple[int, bytes]], line: str) -> None:
    file = proxy.folder / "metadata.tlv"
    before = len(file.read_text().splitlines()) if file.exists() else 0
    with proxy.connect("tcp") as link:
        link.send(v2(*tlvs) + b"bytes")
        assert link.raw.read_exactly(9) == b"tcp\nbytes"
    deadline = time.monotonic() + 10
    while len(lines := file.read_text().splitlines() if file.exists() else []) <= before:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    proxy.note("metadata", lines[before])
    assert lines[before] == line


@case("upstream_proxy_protocol: the client's addresses go ahead of the request")
@pytest.mark.parametrize("path", ["/v1", "/v2"])
def test_sent(proxy: World, path: str) -> None:
    reply = through(proxy, "taking", V1, path)
    sent = header(proxy, "behind", reply)
    proxy.note("header", sent)
    assert sent == (V1 if path == "/v1" else v2())


@case("upstream_proxy_protocol: each client has connections of its own")
def test_kept_apart(proxy: World) -> None:
    one = through(proxy, "taking", V1, "/v2")
    other = through(proxy, "taking", v2(source="10.1.2.4"), "/v2")
    again = through(proxy, "taking", V1, "/v2")
    assert [header(proxy, "behind", reply) for reply in (one, other, again)] == [v2(), v2(source="10.1.2.4"), v2()]


@case("upstream_proxy_protocol: TLVs that pass, and TLVs that are added")
def test_tlvs(proxy: World) -> None:
    reply = through(proxy, "passing", v2((0xE0, b"kept"), (0xE1, b"dropped"), source="10.1.2.5"), "/v2")
    assert header(proxy, "behind", reply) == v2((0xE0, b"kept"), source="10.1.2.5")
    reply = through(proxy, "passing", V1, "/added")
    assert header(proxy, "behind", reply) == v2((0xEE, b"hello"))


@case("upstream_proxy_protocol: ahead of TLS")
def test_ahead_of_tls(proxy: World) -> None:
    reply = through(proxy, "taking", V1, "/tls")
    assert reply.status == 200
    assert header(proxy, "behind tls", reply) == V1


@case("upstream_proxy_protocol: without a PROXY header of the client it names the client's connection")
def test_own_address(proxy: World) -> None:
    with proxy.connect() as link:
        reply = link.request(path="/v1")
        assert header(proxy, "behind", reply) == (
            f"PROXY TCP4 127.0.0.1 127.0.0.1 {link.raw.local_port} {proxy.listener_port('http')}\r\n".encode()
        )


@case("upstream_proxy_protocol: TCP")
def test_tcp(proxy: World) -> None:
    with proxy.connect("through") as link:
        link.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert link.raw.read_response().status == 200
        server = proxy.upstream("behind")
        assert isinstance(server, Behind)
        assert f" {link.raw.local_port} ".encode() in max(server.headers.items())[1]
