"""HTTP/2 clients: streams, their bodies and ends, the connection's life, its limits."""

import os
import re
import threading

import pytest

from tests.differential.bed import Bed, Config, cluster, http_listener, vhost
from tests.differential.http2_link import Http2Link
from tests.differential.pair import case
from tests.differential.world import World
from tests.support.http2_client import Flag, Kind, frame, settings_payload
from tests.support.proxies import ProxyKind
from tests.support.upstream import Exchange, Upstream, drop, hang, head, raw, respond, switch_protocols

ROUTES = """
- match: {prefix: /direct}
  direct_response: {status: 200, body: {inline_string: hello}}
- match: {prefix: /short}
  route: {cluster: a, timeout: 0.2s}
- match: {prefix: /idle}
  route: {cluster: a, timeout: 0s, idle_timeout: 0.3s}
- match: {prefix: /nowhere}
  route: {cluster: closed}
- match: {connect_matcher: {}}
  route: {cluster: a, upgrade_configs: [{upgrade_type: CONNECT}]}
- match: {prefix: /}
  route: {cluster: a, timeout: 5s}
"""


IS_H2 = os.environ.get("MOSN_XDS_HTTP2") == "h2"


def manager(name: str, **fields: object) -> Config:
    hosts = [vhost("all", ["test", "other", "db:5432", "127.0.0.1"], ROUTES)]
    return http_listener(name, *hosts, **fields)


BED = Bed(
    listeners=[
        manager("http"),
        http_listener("bare", vhost("all", ["*"], "- match: {connect_matcher: {}}\n  route: {cluster: a}")),
        manager("h2", codec_type="HTTP2"),
        manager("h1", codec_type="HTTP1"),
        manager("ws", upgrade_configs=[{"upgrade_type": "websocket"}], http2_protocol_options={"allow_connect": True}),
        manager("two", common_http_protocol_options={"max_requests_per_connection": 2}, drain_timeout="0.2s"),
        manager("brief", common_http_protocol_options={"max_connection_duration": "0.4s"}, drain_timeout="0.2s"),
        manager("idle", common_http_protocol_options={"idle_timeout": "0.3s"}, drain_timeout="0.2s"),
        manager("few", http2_protocol_options={"max_concurrent_streams": 2}),
        manager("reject", common_http_protocol_options={"headers_with_underscores_action": "REJECT_REQUEST"}),
        manager("drop", common_http_protocol_options={"headers_with_underscores_action": "DROP_HEADER"}),
        manager("small", max_request_headers_kb=2, common_http_protocol_options={"max_headers_count": 10}),
        manager("lenient", http2_protocol_options={"override_stream_error_on_invalid_http_message": True}),
        manager("tuned", http2_protocol_options={
            "max_concurrent_streams": 7, "initial_stream_window_size": 70000, "initial_connection_window_size": 90000,
            "hpack_table_size": 0, "allow_connect": True,
        }),
        manager("custom", http2_protocol_options={"custom_settings_parameters": [
            {"identifier": key, "value": value} for key, value in ((3, 9), (4, 70000), (6, 2222), (0x99, 7), (0x99, 7))
        ]}),
        manager("pings", http2_protocol_options={
            "connection_keepalive": {"interval": "0.2s", "timeout": "0.2s", "interval_jitter": {"value": 0}},
        }),
        manager("continue", proxy_100_continue=True),
        manager("timeouts", stream_idle_timeout="0.3s", request_timeout="0.3s"),
    ],
    clusters=[cluster("a", http={"explicit_http_config": {"http_protocol_options": {"enable_trailers": True}}}),
              cluster("closed", {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 1}}}})],
    upstreams={"a": Upstream},
)  # fmt: skip


def without_upstreams(journal: list[str]) -> list[str]:
    """Whether a request that is broken off has reached the upstream is a matter of time."""
    return [line for line in journal if not line.startswith("upstream")]


def without_causes(journal: list[str]) -> list[str]:
    """A connection error's cause is in the words of a library."""
    return [re.sub(r"codec_error:\S+", "codec_error", line) for line in journal]


@case("HTTP/2: a request is forwarded as HTTP/1.1 and the answer comes back")
@pytest.mark.parametrize("listener", ["http", "h2"])
def test_a_request(world: World, listener: str) -> None:
    with Http2Link(world, listener) as link:
        reply = link.request(path="/a?b=c", headers={"x-one": "1", "accept": "*/*"})
        assert (reply.status, reply.body, reply.get("server")) == (200, b"a\n", "envoy")
        assert (reply.seen.version, reply.seen.path, reply.seen.get("host")) == ("HTTP/1.1", "/a?b=c", "test")
        assert reply.log.protocol == "HTTP/2"


@case("HTTP/2: bodies with and without a length")
@pytest.mark.parametrize("headers", [{}, {"content-length": "5"}])
@pytest.mark.parametrize("method", ["POST", "PUT", "GET", "DELETE"])
def test_a_body(world: World, headers: dict[str, str], method: str) -> None:
    with Http2Link(world) as link:
        reply = link.request(method, headers=headers, body=b"12345")
        assert (reply.status, reply.seen.body) == (200, b"12345")


@case("HTTP/2: a POST without a body")
def test_an_empty_post(world: World) -> None:
    with Http2Link(world) as link:
        reply = link.request("POST")
        assert (reply.status, reply.seen.get("content-length"), reply.seen.get("transfer-encoding")) == (200, "0", None)


@case("HTTP/2: HEAD has the head alone")
def test_head_request(world: World) -> None:
    with Http2Link(world) as link:
        reply = link.request("HEAD")
        assert (reply.status, reply.body) == (200, b"")


@case("HTTP/2: the request's trailers")
def test_request_trailers(world: World) -> None:
    with Http2Link(world) as link:
        reply = link.request("POST", body=b"abc", trailers=[("x-sum", "1")])
        assert (reply.status, reply.seen.body) == (200, b"abc")


@case("HTTP/2: the response's trailers")
def test_response_trailers(world: World) -> None:
    world.upstream("a").script(respond(chunks=[b"one", b"two"], trailers=[("x-sum", "9")]))
    with Http2Link(world) as link:
        reply = link.request()
        assert (reply.body, reply.trailers) == (b"onetwo", [("x-sum", "9")])


@case("HTTP/2: cookies in crumbs are one cookie to an HTTP/1 upstream")
def test_cookie_crumbs(world: World) -> None:
    with Http2Link(world) as link:
        reply = link.request(headers=[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2"), ("cookie", "c")])
        assert reply.seen.all("cookie") == ["a=1; b=2; c"]


@pytest.mark.skipif(IS_H2, reason="h2 takes a host that differs from :authority for a connection error")
@case("HTTP/2: host and :authority")
@pytest.mark.parametrize("fields", [[("host", "other")], [(":authority", "test"), ("host", "other")]])
def test_host_and_authority(world: World, fields: list[tuple[str, str]]) -> None:
    pseudo = [pair for pair in fields if pair[0].startswith(":")]
    plain = [pair for pair in fields if not pair[0].startswith(":")]
    with Http2Link(world) as link:
        sent = link.section([(":method", "GET"), (":scheme", "http"), (":path", "/"), *pseudo, *plain])
        reply = link.reply(sent)
        assert reply.seen.get("host") == ("test" if pseudo else "other")


@case("HTTP/2: te, x-forwarded-proto, scheme")
@pytest.mark.parametrize("scheme", ["http", "https", "HTTPS"])
def test_te_and_scheme(world: World, scheme: str) -> None:
    fields = [(":method", "GET"), (":scheme", scheme), (":authority", "test"), (":path", "/"), ("te", "trailers")]
    with Http2Link(world) as link:
        reply = link.reply(link.section(fields))
        assert reply.seen.get("te") == "trailers"


@case("HTTP/2: local replies")
@pytest.mark.parametrize(("path", "authority", "status"), [
    ("/direct", "test", 200), ("/", "unknown", 404), ("/nowhere", "test", 503),
])  # fmt: skip
def test_local_replies(world: World, path: str, authority: str, status: int) -> None:
    with Http2Link(world) as link:
        assert link.request(path=path, authority=authority).status == status
        assert link.request("HEAD", path, authority=authority).body == b""


@case("HTTP/2: streams of one connection are answered as they get ready")
def test_streams_overtake(world: World) -> None:
    world.upstream("a").script(respond(delay_s=0.3, body=b"late"), respond(body=b"soon"))
    with Http2Link(world) as link:
        slow = link.send(path="/slow")
        world.upstream("a").wait_for(1)
        quick = link.send(path="/quick")
        assert link.reply(quick).body == b"soon"
        assert not link.raw.seen(slow).over
        assert link.reply(slow).body == b"late"


@case("HTTP/2: a hundred streams at once")
def test_many_streams(world: World) -> None:
    with Http2Link(world) as link:
        streams = [link.send(path=f"/direct/{number}") for number in range(100)]
        for stream_id in streams:
            assert link.reply(stream_id, logged=False).body == b"hello"
    world.await_log("http", 100)


@case("HTTP/2: an answer before the end of the request resets it with NO_ERROR")
def test_an_early_answer(world: World) -> None:
    with Http2Link(world) as link:
        sent = link.send("POST", "/direct", body=b"part", end=False)
        link.raw.finish(sent)
        link.raw.read_until(lambda: link.raw.seen(sent).reset is not None)
        assert link.reply(sent).reset == "NO_ERROR"
        assert link.request(path="/direct").status == 200


@case("HTTP/2: the upstream gives up in the middle of a body")
def test_a_response_cut_short(world: World) -> None:
    world.upstream("a").script(raw(head(200, [("content-length", "10")]) + b"part", close=True))
    with Http2Link(world) as link:
        reply = link.request()
        assert (reply.status, reply.body) == (200, b"part")
        assert reply.reset is not None
        assert link.request(path="/direct").status == 200


@case("HTTP/2: the upstream gives up before it answers")
def test_no_response(world: World) -> None:
    world.upstream("a").script(drop())
    with Http2Link(world) as link:
        reply = link.request()
        assert (reply.status, reply.log.flags) == (503, "UC")


@case("HTTP/2: the client resets a stream")
@pytest.mark.parametrize("code", [8, 1, 2, 5, 7])
def test_the_client_resets(world: World, code: int) -> None:
    world.upstream("a").script(hang())
    with Http2Link(world) as link:
        sent = link.send()
        world.upstream("a").wait_for(1)
        link.raw.reset(sent, code)
        assert link.request(path="/direct").status == 200
    world.await_log("http", 1)
    assert {line.flags for line in world.logs(count=2)} == {"DPE" if code == 1 else "DR", "-"}


@case("HTTP/2: the client resets with NO_ERROR")
@pytest.mark.parametrize("complete", [False, True])
@pytest.mark.parametrize("partly", [False, True])
def test_the_client_has_enough(world: World, partly: bool, complete: bool) -> None:
    step = raw(head(200, [("content-length", "10")]) + b"part", read_body=False) if partly else hang()
    world.upstream("a").script(step)
    with Http2Link(world) as link:
        sent = link.send("POST", body=b"part", end=complete)
        world.upstream("a").wait_for(1)
        if partly:
            assert link.raw.read_until(lambda: bool(link.raw.seen(sent).body))
        link.raw.reset(sent, 0)
        assert link.request(path="/direct").status == 200
    world.await_log("http", 1)
    assert {line.flags for line in world.logs(count=2)} == ({"-"} if complete else {"-", "DR"})


@case("HTTP/2: the client leaves with streams open")
def test_the_client_leaves(world: World) -> None:
    world.upstream("a").script(hang(), hang())
    with Http2Link(world) as link:
        link.send()
        link.send()
        world.upstream("a").wait_for(2)
    world.await_log("http", 2)
    assert [line.flags for line in world.logs(count=2)] == ["DC", "DC"]


@case("HTTP/2: time-outs answer their stream and no other")
@pytest.mark.parametrize(("path", "status"), [("/short", 504), ("/idle", 504)])
def test_time_outs(world: World, path: str, status: int) -> None:
    world.upstream("a").script(hang())
    with Http2Link(world) as link:
        assert link.request(path=path).status == status
        assert link.request(path="/direct").status == 200


@case("HTTP/2: a stream that idles within its response is reset")
def test_an_idle_response(world: World) -> None:
    def step(exchange: object) -> bool:
        exchange.send(head(200, [("content-length", "10")]) + b"part")  # type: ignore[attr-defined]
        exchange.wait_for_close()  # type: ignore[attr-defined]
        return False

    world.upstream("a").script(step)
    with Http2Link(world) as link:
        reply = link.request(path="/idle")
        assert (reply.status, reply.body) == (200, b"part")
        assert reply.reset is not None


@case("HTTP/2: a request that does not end")
def test_a_request_that_stalls(world: World) -> None:
    with Http2Link(world, "timeouts") as link:
        sent = link.send("POST", "/up", body=b"x", end=False)
        link.raw.finish(sent)
        link.raw.read_until(lambda: link.raw.seen(sent).reset is not None)
        assert link.reply(sent).status == 408


@case("HTTP/2: max_requests_per_connection ends the connection in steps")
def test_max_requests(world: World) -> None:
    with Http2Link(world, "two") as link:
        for _ in range(2):
            assert link.request(path="/direct").status == 200
        assert link.closes()
        world.note("goaways", link.raw.goaways)
        assert link.raw.goaways == [(2**31 - 1, 0), (3, 0)]


@case("HTTP/2: max_connection_duration lets what is open finish")
def test_max_duration(world: World) -> None:
    world.upstream("a").script(respond(delay_s=1.0))
    with Http2Link(world, "brief") as link:
        sent = link.send()
        assert link.reply(sent).status == 200
        assert link.closes()
        world.note("goaways", link.raw.goaways)
        assert link.raw.goaways == [(2**31 - 1, 0), (1, 0)]


@case("HTTP/2: an idle connection ends in steps")
@pytest.mark.parametrize("used", [True, False])
def test_idle(world: World, used: bool) -> None:
    with Http2Link(world, "idle") as link:
        if used:
            assert link.request(path="/direct").status == 200
        assert link.closes()
        world.note("goaways", link.raw.goaways)
        assert link.raw.goaways == [(2**31 - 1, 0), (1 if used else 0, 0)]


@case("HTTP/2: more streams than max_concurrent_streams end the connection", normalise=without_causes)
def test_too_many_streams(world: World) -> None:
    world.upstream("a").script(respond(delay_s=0.5), respond(delay_s=0.5))
    with Http2Link(world, "few") as link:
        link.raw.read_until(lambda: link.raw.settings_acks == 1)
        first, second = link.send(), link.send()
        world.upstream("a").wait_for(2)
        link.send()
        assert link.closes()
        assert link.raw.seen(first).status is link.raw.seen(second).status is None
    world.await_log("few", 2)


@case("HTTP/2: names with an underscore")
@pytest.mark.parametrize("listener", ["http", "reject", "drop"])
def test_underscores(world: World, listener: str) -> None:
    with Http2Link(world, listener) as link:
        reply = link.request(headers={"x_y": "1"})
        if listener == "reject":
            assert reply.reset is not None
        else:
            assert reply.seen.get("x_y") == ("1" if listener == "http" else None)


@case("HTTP/2: too many or too large fields reset the stream")
@pytest.mark.parametrize("headers", [[(f"x-{n}", "1") for n in range(12)], [("x", "y" * 3000)]])
def test_large_heads(world: World, headers: list[tuple[str, str]]) -> None:
    with Http2Link(world, "small") as link:
        assert link.request(headers=headers).reset == "INTERNAL_ERROR"
        assert link.request(path="/direct").status == 200


@case("HTTP/2: header section limits are not met by what is just within them")
def test_heads_within_the_limits(world: World) -> None:
    with Http2Link(world, "small") as link:
        assert link.request(headers=[(f"x-{n}", "1") for n in range(5)]).status == 200
        assert link.request(headers=[("x", "y" * 1900)]).status == 200


@pytest.mark.skipif(IS_H2, reason="h2 has no state to go on from behind a malformed message")
@case("HTTP/2: a malformed message where only its stream is to end")
def test_stream_errors(world: World) -> None:
    with Http2Link(world, "lenient") as link:
        sent = link.send(headers={"X-Upper": "1"})
        assert link.reply(sent, logged=False).reset == "PROTOCOL_ERROR"
        assert link.request(path="/direct", logged=False).status == 200


@pytest.mark.skipif(IS_H2, reason="h2 has no state to go on from behind a malformed message")
@case("HTTP/2: a malformed body ends its stream", normalise=without_upstreams)
def test_a_body_of_another_length(world: World) -> None:
    with Http2Link(world) as link:
        sent = link.send("POST", headers={"content-length": "10"}, body=b"short")
        assert link.reply(sent, logged=False).reset == "PROTOCOL_ERROR"
        assert link.request(path="/direct", logged=False).status == 200


@case("HTTP/2: SETTINGS say what http2_protocol_options say")
@pytest.mark.parametrize("listener", ["http", "tuned", "custom"])
def test_settings(world: World, listener: str) -> None:
    with Http2Link(world, listener) as link:
        assert link.raw.synchronise()
        world.note("settings", link.raw.settings)
        window = [f.payload for f in link.raw.frames if f.kind == Kind.WINDOW_UPDATE]
        world.note("window", window)
        # What another field stands for comes again behind a custom parameter, with that field's default.
        assert link.raw.settings[3] == (7 if listener == "tuned" else 1024)
        assert link.raw.settings.get(0x99) == (7 if listener == "custom" else None)


@case("HTTP/2: an idle connection is asked whether it is there")
def test_keepalive_answered(world: World) -> None:
    with Http2Link(world, "pings") as link:
        link.raw.read_for(0.9)
        pings = [f for f in link.raw.frames if f.kind == Kind.PING and not f.flags & Flag.ACK]
        assert len(pings) >= 2
        assert not link.raw.closed


@case("HTTP/2: a client that does not answer PINGs is gone")
def test_keepalive_unanswered(world: World) -> None:
    with Http2Link(world, "pings", acknowledge=False) as link:
        assert link.closes()
    world.expect_stats({"http2.keepalive_timeout": 1})


@case("HTTP/2: the codec type decides")
def test_codec_types(world: World) -> None:
    with Http2Link(world, "h1") as link:
        link.raw.read_for(0.5)
        world.note("closed", link.raw.closed)
        assert link.raw.closed
    with world.connect("h2") as plain:
        plain.send(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n")
        plain.raw.read_to_end()


@case("HTTP/2: h2c by Upgrade is ignored")
def test_upgrade_to_h2c(world: World) -> None:
    headers = {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c", "http2-settings": "AAMAAABkAAQAAP__"}
    reply = world.get("/", headers)
    assert (reply.status, reply.response.version) == (200, "HTTP/1.1")


@case("HTTP/2: a WebSocket is an extended CONNECT")
def test_a_websocket(world: World) -> None:
    world.upstream("a").script(switch_protocols(greeting=b"hello "))
    with Http2Link(world, "ws") as link:
        sent = link.section([
            (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":authority", "test"),
            (":path", "/chat"), ("sec-websocket-version", "13"),
        ], end=False)  # fmt: skip
        link.raw.read_until(lambda: link.raw.seen(sent).body == b"hello ")
        link.raw.send_frame(Kind.DATA, 0, sent, b"one")
        link.raw.read_until(lambda: link.raw.seen(sent).body == b"hello one")
        link.note(sent)
        assert link.raw.seen(sent).status == 200
        (request,) = world.upstream("a").requests
        assert (request.method, request.get("upgrade"), request.get("connection")) == ("GET", "websocket", "upgrade")
        link.raw.reset(sent)
        assert link.raw.synchronise()
    world.await_log("ws")


@case("HTTP/2: a WebSocket that the route does not allow")
def test_a_websocket_refused(world: World) -> None:
    with Http2Link(world, "tuned") as link:
        sent = link.section([
            (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":authority", "test"),
            (":path", "/chat"),
        ], end=False)  # fmt: skip
        link.raw.finish(sent)
        link.raw.read_for(0.05)
        assert link.reply(sent).status == 403


CONNECT = [(":method", "CONNECT"), (":authority", "db:5432")]
TUNNEL = b"HTTP/1.1 200 OK\r\n\r\nhello "
SWITCH = b"HTTP/1.1 101 ok\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhello "
WEBSOCKET = [
    (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":authority", "test"), (":path", "/chat"),
]  # fmt: skip


@case("HTTP/2: CONNECT is a tunnel, and ends with CONNECT_ERROR when the upstream does")
def test_connect(world: World) -> None:
    def step(exchange: Exchange) -> bool:
        exchange.send(TUNNEL)
        exchange.upstream.pause(0.3)
        return False

    world.upstream("a").script(step)
    with Http2Link(world) as link:
        sent = link.section(CONNECT, end=False)
        assert link.raw.read_until(lambda: link.raw.seen(sent).body == b"hello ")
        link.raw.send_frame(Kind.DATA, 0, sent, b"abc")
        reply = link.reply(sent)
        assert (reply.status, reply.reset) == (200, "CONNECT_ERROR")
        assert (reply.seen.method, reply.seen.path) == ("CONNECT", "db:5432")


@case("HTTP/2: CONNECT that the upstream refuses")
def test_connect_refused(world: World) -> None:
    world.upstream("a").script(respond(403, b"no"))
    with Http2Link(world) as link:
        sent = link.section(CONNECT, end=False)
        link.raw.finish(sent)
        link.raw.read_until(lambda: link.raw.seen(sent).reset is not None)
        reply = link.reply(sent)
        assert (reply.status, reply.body, reply.reset) == (403, b"no", "NO_ERROR")


@case("HTTP/2: CONNECT where it is not configured")
def test_connect_not_configured(world: World) -> None:
    with Http2Link(world, "bare") as link:
        sent = link.section(CONNECT, end=False)
        link.raw.finish(sent)
        link.raw.read_until(lambda: link.raw.seen(sent).reset is not None)
        assert link.reply(sent).log.details == "upgrade_failed"


@case("HTTP/2: a WebSocket that the upstream ends")
def test_a_websocket_ended_by_the_upstream(world: World) -> None:
    def step(exchange: Exchange) -> bool:
        exchange.send(SWITCH)
        exchange.upstream.pause(0.1)
        return False

    world.upstream("a").script(step)
    with Http2Link(world, "ws") as link:
        reply = link.reply(link.section(WEBSOCKET, end=False))
        assert (reply.status, reply.body) == (200, b"hello ")
        assert reply.reset is not None


@case("HTTP/2: the client's end of a WebSocket", difference="http-two-tunnel-end")
def test_the_clients_end_of_a_tunnel(world: World) -> None:
    ended = threading.Event()

    def step(exchange: Exchange) -> bool:
        exchange.send(SWITCH)
        try:
            exchange.wait_for_close()
        finally:
            ended.set()
        return False

    world.upstream("a").script(step)
    with Http2Link(world, "ws") as link:
        sent = link.section(WEBSOCKET, end=False)
        assert link.raw.read_until(lambda: link.raw.seen(sent).body == b"hello ")
        link.raw.send_frame(Kind.DATA, Flag.END_STREAM, sent, b"abc")
        assert ended.wait(1.0) == (world.kind is not ProxyKind.ENVOY)


@case("HTTP/2: expect: 100-continue is answered by the proxy")
def test_expect(world: World) -> None:
    with Http2Link(world) as link:
        sent = link.send("POST", headers={"expect": "100-continue"}, end=False)
        link.raw.read_until(lambda: bool(link.raw.seen(sent).interim))
        link.raw.send_frame(Kind.DATA, Flag.END_STREAM, sent, b"body")
        reply = link.reply(sent)
        assert (reply.stream.interim, reply.seen.get("expect")) == ([100], None)


@case("HTTP/2: interim responses of the upstream")
def test_early_hints(world: World) -> None:
    world.upstream("a").script(raw(head(103, [("link", "</a>")]) + head(200, [("content-length", "2")]) + b"ok"))
    with Http2Link(world, "continue") as link:
        reply = link.request()
        assert (reply.status, reply.body) == (200, b"ok")


@case("HTTP/2: a client without window gets what it has room for")
def test_a_client_without_window(world: World) -> None:
    world.upstream("a").script(respond(body=b"x" * 200_000))
    with Http2Link(world, settings={4: 1000}, refill=False) as link:
        sent = link.send()
        assert link.request(path="/direct").body == b"hello"
        seen = link.raw.seen(sent)
        link.raw.read_until(lambda: len(seen.body) == 1000)
        assert link.raw.synchronise()
        assert len(seen.body) == 1000
        link.raw.give(sent, 50_000)
        link.raw.read_until(lambda: len(seen.body) == 51_000)
        link.raw.give(sent, 500_000)
        link.raw.read_until(lambda: len(seen.body) == 65_530)  # the connection's own window, less five bytes of `hello`
        link.raw.synchronise()
        assert len(seen.body) == 65_530
        link.raw.give(0, 500_000)
        assert len(link.reply(sent).body) == 200_000


@case("HTTP/2: a window that SETTINGS open later")
def test_a_window_by_settings(world: World) -> None:
    with Http2Link(world, settings={4: 0}) as link:
        sent = link.send(path="/direct")
        link.raw.read_until(lambda: link.raw.seen(sent).status == 200)
        assert link.raw.synchronise()
        assert link.raw.seen(sent).body == b""
        link.raw.send(frame(Kind.SETTINGS, 0, 0, settings_payload({4: 3})))
        link.raw.read_until(lambda: link.raw.seen(sent).body == b"hel")
        link.raw.give(sent, 2)
        assert link.reply(sent).body == b"hello"


@case("HTTP/2: counters")
def test_counters(world: World) -> None:
    with Http2Link(world, "few") as link:
        assert link.request(path="/direct").status == 200
        world.upstream("a").script(hang())
        sent = link.send()
        world.upstream("a").wait_for(1)
        world.expect_stats({"http.few.downstream_cx_http2_active": 1, "http.few.downstream_rq_active": 1})
        link.raw.reset(sent)
    world.await_log("few")
    world.expect_stats({"http.few.downstream_cx_http2_active": 0, "http.few.downstream_rq_active": 0})
