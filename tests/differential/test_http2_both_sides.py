"""HTTP/2 from end to end: what passes between an HTTP/2 client and an HTTP/2 upstream, over TLS, and while draining."""

import socket
import threading

import pytest

from tests.differential.bed import Bed, Config, cluster, extension, hcm, http_listener, listener, vhost
from tests.differential.http2_link import Http2Link
from tests.differential.pair import case
from tests.differential.world import World
from tests.support.authority import Authority
from tests.support.http2_client import Flag, Kind
from tests.support.http2_upstream import Http2Exchange, Http2Upstream, answer, hang, refuse, trailers_only
from tests.support.tls import client_context
from tests.support.upstream import Upstream

HTTP2 = {"explicit_http_config": {"http2_protocol_options": {"allow_connect": True}}}
GRPC = {"content-type": "application/grpc", "te": "trailers"}
ROOT = Authority("root")
SERVER = ROOT.issue("srv.test", common_name="server")

ROUTES = """
- match: {prefix: /direct}
  direct_response: {status: 200, body: {inline_string: hello}}
- match: {prefix: /plain}
  route: {cluster: plain}
- match: {prefix: /short}
  route: {cluster: a, timeout: 0.2s}
- match: {prefix: /nowhere}
  route: {cluster: closed}
- match: {connect_matcher: {}}
  route: {cluster: a, upgrade_configs: [{upgrade_type: CONNECT, connect_config: {}}]}
- match: {prefix: /}
  route: {cluster: a}
"""


def manager(name: str, **fields: object) -> Config:
    return http_listener(name, vhost("all", ["*"], ROUTES), **fields)


def secure(name: str, alpn: list[str], **fields: object) -> Config:
    context = {"tls_certificates": [SERVER.config()], "alpn_protocols": alpn}
    transport = extension(
        "envoy.transport_sockets.tls",
        "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        common_tls_context=context,
    )
    chain = {"filters": [hcm(name, [vhost("all", ["*"], ROUTES)], **fields)], "transport_socket": transport}
    return listener(name, chains=[chain])


BED = Bed(
    listeners=[
        manager("http"),
        manager("ws", upgrade_configs=[{"upgrade_type": "websocket"}], http2_protocol_options={"allow_connect": True}),
        manager("drain", drain_timeout="0.2s"),
        secure("tls", ["h2", "http/1.1"]),
        secure("silent", []),
    ],
    clusters=[
        cluster("a", http=HTTP2),
        cluster("plain"),
        cluster("closed", {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 1}}}}),
    ],
    upstreams={"a": Http2Upstream, "plain": Upstream},
)


@case("HTTP/2 both sides: heads, bodies and trailers both ways")
def test_everything_passes(world: World) -> None:
    world.upstream("a").script(answer(body=b"answer", headers=[("x-a", "1")], trailers=[("x-sum", "9")]))
    with Http2Link(world) as link:
        reply = link.request("POST", "/p?q", {"x-b": "2", "te": "trailers"}, b"question", trailers=[("x-end", "3")])
        assert (reply.status, reply.body, reply.trailers) == (200, b"answer", [("x-sum", "9")])
        assert (reply.seen.version, reply.seen.body) == ("HTTP/2", b"question")
        assert reply.seen.trailers == [("x-end", "3")]


@case("HTTP/2 both sides: trailers without a body")
def test_trailers_without_a_body(world: World) -> None:
    world.upstream("a").script(answer(body=b"", trailers=[("x-sum", "9")]))
    with Http2Link(world) as link:
        reply = link.request("POST", trailers=[("x-end", "3")])
        assert (reply.body, reply.trailers, reply.seen.trailers) == (b"", [("x-sum", "9")], [("x-end", "3")])


@case("HTTP/2 both sides: a conversation on one stream")
def test_a_conversation(world: World) -> None:
    def step(exchange: Http2Exchange) -> None:
        exchange.headers(200)
        for count in range(1, 4):
            exchange.wait_body(count)
            exchange.data(b"%d" % count)
        exchange.read_body()
        exchange.data(b"!", end=True)

    world.upstream("a").script(step)
    with Http2Link(world) as link:
        sent = link.send("POST", end=False)
        for count in range(1, 4):
            link.raw.send_frame(Kind.DATA, 0, sent, b"x")
            assert link.raw.read_until(lambda count=count: len(link.raw.seen(sent).body) == count)
        link.raw.send_frame(Kind.DATA, Flag.END_STREAM, sent)
        assert link.reply(sent).body == b"123!"


@case("HTTP/2 both sides: the upstream's reset")
@pytest.mark.parametrize("code", [2, 7, 8, 1, 11])
def test_the_upstream_resets(world: World, code: int) -> None:
    world.upstream("a").script(refuse(code))
    with Http2Link(world) as link:
        assert link.request().status in (502, 503)


@case("HTTP/2 both sides: the upstream's reset within a response")
@pytest.mark.parametrize("code", [0, 2, 7, 8, 1])
def test_the_upstream_resets_within_a_response(world: World, code: int) -> None:
    def step(exchange: Http2Exchange) -> None:
        exchange.read_body()
        exchange.headers(200)
        exchange.data(b"part")
        exchange.reset(code)

    world.upstream("a").script(step)
    with Http2Link(world) as link:
        reply = link.request()
        assert (reply.status, reply.body) == (200, b"part")
        assert reply.reset is not None


@case("HTTP/2 both sides: the client's reset reaches the upstream")
@pytest.mark.parametrize("code", [8, 2])
def test_the_client_resets(world: World, code: int) -> None:
    told = threading.Event()
    codes: list[int] = []

    def step(exchange: Http2Exchange) -> None:
        codes.append(exchange.wait_reset())
        told.set()

    world.upstream("a").script(step)
    with Http2Link(world) as link:
        sent = link.send("POST", end=False)
        world.upstream("a").wait_for(1)
        link.raw.reset(sent, code)
        assert told.wait(5)
        world.note("code", codes)
    world.await_log("http")


@case("HTTP/2 both sides: gRPC's answers of the proxy")
@pytest.mark.parametrize("path", ["/nowhere", "/short"])
def test_grpc_local_replies(world: World, path: str) -> None:
    world.upstream("a").script(hang())
    with Http2Link(world) as link:
        reply = link.request("POST", path, GRPC, b"\0\0\0\0\0")
        assert (reply.status, reply.get("content-type"), reply.get("grpc-status") is not None) == (
            200, "application/grpc", True,
        )  # fmt: skip


@case("HTTP/2 both sides: gRPC's trailers-only answers")
def test_grpc_trailers_only(world: World) -> None:
    world.upstream("a").script(trailers_only(("grpc-status", "5"), ("grpc-message", "no")))
    with Http2Link(world) as link:
        reply = link.request("POST", "/svc/Method", GRPC, b"\0\0\0\0\0")
        assert (reply.status, reply.get("grpc-status"), reply.body) == (200, "5", b"")


@case("HTTP/2 both sides: a WebSocket")
def test_a_websocket(world: World) -> None:
    def step(exchange: Http2Exchange) -> None:
        exchange.headers(200, [("sec-websocket-protocol", "chat")])
        exchange.wait_body(3)
        exchange.data(exchange.request.body)
        exchange.wait_reset()

    world.upstream("a").script(step)
    with Http2Link(world, "ws") as link:
        fields = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":authority", "test")]
        sent = link.section([*fields, (":path", "/chat"), ("sec-websocket-version", "13")], end=False)
        assert link.raw.read_until(lambda: link.raw.seen(sent).status == 200)
        link.raw.send_frame(Kind.DATA, 0, sent, b"abc")
        assert link.raw.read_until(lambda: link.raw.seen(sent).body == b"abc")
        link.note(sent)
        link.raw.reset(sent)
        assert link.raw.synchronise()
    world.await_log("ws")


@case("HTTP/2 both sides: interim responses")
def test_interim(world: World) -> None:
    world.upstream("a").script(answer(informational=[103]))
    with Http2Link(world) as link:
        assert link.request().status == 200


def connect_tls(world: World, name: str, alpn: list[str]) -> tuple[socket.socket, str | None]:
    plain = socket.create_connection(("127.0.0.1", world.listener_port(name)), timeout=5)
    secured = client_context(ROOT.root, alpn=alpn).wrap_socket(plain, server_hostname=None)
    return secured, secured.selected_alpn_protocol()


@case("HTTP/2 over TLS: ALPN chooses the protocol")
def test_alpn(world: World) -> None:
    sock, chosen = connect_tls(world, "tls", ["h2", "http/1.1"])
    assert chosen == "h2"
    with Http2Link(world, "tls", sock=sock) as link:
        link.raw.read_until(lambda: link.raw.settings_acks == 1)
        reply = link.request("POST", body=b"x" * 60_000)
        assert reply.status == 200
        assert len(reply.seen.body) == 60_000
        assert reply.seen.get("x-forwarded-proto") == "https"
        for stream_id in [link.send(path="/direct") for _ in range(20)]:
            assert link.reply(stream_id, logged=False).body == b"hello"
    world.await_log("tls", 20)


@case("HTTP/2 over TLS: without ALPN the preface tells")
def test_tls_without_alpn(world: World) -> None:
    sock, chosen = connect_tls(world, "silent", ["h2"])
    assert chosen is None
    with Http2Link(world, "silent", sock=sock) as link:
        assert link.request(path="/direct").body == b"hello"


@case("HTTP/2 over TLS: ALPN says HTTP/1.1, the client says otherwise")
def test_alpn_against_the_preface(world: World) -> None:
    sock, chosen = connect_tls(world, "tls", ["http/1.1"])
    assert chosen == "http/1.1"
    with Http2Link(world, "tls", sock=sock) as link:
        link.raw.read_for(1.0)
        assert link.raw.closed


@case("HTTP/2: a server that drains says GOAWAY with its answers")
def test_draining(world: World) -> None:
    with Http2Link(world, "drain") as link:
        assert link.request(path="/direct").status == 200
        assert not link.raw.goaways
        assert world.proxy.admin("/healthcheck/fail", method="POST")[0] == 200
        try:
            assert link.request(path="/direct").status == 200
            assert link.request(path="/direct").status == 200  # the notice is no refusal
            assert link.closes()
        finally:
            assert world.proxy.admin("/healthcheck/ok", method="POST")[0] == 200
        world.note("goaways", link.raw.goaways)
        assert link.raw.goaways == [(2**31 - 1, 0), (5, 0)]
