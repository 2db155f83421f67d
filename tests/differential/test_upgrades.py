"""Upgrades and CONNECT: granted, refused, tunnelled, ended."""

import pytest

from tests.differential.bed import Bed, cluster, http_listener, vhost
from tests.differential.pair import case
from tests.differential.world import World
from tests.support.proxies import ProxyKind
from tests.support.upstream import Upstream, respond, switch_protocols

ROUTES = vhost(
    "all",
    ["*"],
    """
    - match: {path: /off}
      route: {cluster: a, upgrade_configs: [{upgrade_type: websocket, enabled: false}]}
    - match: {path: /on}
      route: {cluster: a, upgrade_configs: [{upgrade_type: websocket}]}
    - match: {path: /short}
      route: {cluster: a, timeout: 0.3s, idle_timeout: 5s}
    - match: {path: /idle}
      route: {cluster: a, timeout: 0s, idle_timeout: 0.4s}
    - match: {prefix: /}
      route: {cluster: a}
    """,
)

BED = Bed(
    listeners=[
        http_listener("http", ROUTES),
        http_listener("ws", ROUTES, upgrade_configs=[{"upgrade_type": "websocket"}]),
        http_listener("other", ROUTES, upgrade_configs=[{"upgrade_type": "x-private"}]),
    ],
    clusters=[cluster("a")],
    upstreams={"a": Upstream},
)

WEBSOCKET = {
    "connection": "Upgrade",
    "upgrade": "websocket",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    "sec-websocket-version": "13",
}


@case("Upgrade: a WebSocket is granted where configured, and bytes flow both ways")
@pytest.mark.parametrize(("listener", "path"), [("ws", "/"), ("http", "/on")])
def test_a_websocket(proxy: World, listener: str, path: str) -> None:
    proxy.upstream("a").script(switch_protocols(greeting=b"hello "))
    with proxy.connect(listener) as link:
        reply = link.request(path=path, headers=WEBSOCKET, logged=False)
        assert (reply.status, reply.get("connection"), reply.get("upgrade")) == (101, "Upgrade", "websocket")
        assert (reply.seen.get("connection"), reply.seen.get("upgrade")) == ("Upgrade", "websocket")
        assert link.raw.read_exactly(6) == b"hello "
        link.send(b"one\x00\xff")
        assert link.raw.read_exactly(5) == b"one\x00\xff"
        link.send(b"GET / HTTP/1.1\r\n\r\n")
        assert link.raw.read_exactly(18) == b"GET / HTTP/1.1\r\n\r\n"
    proxy.await_log(listener)
    assert proxy.logs(listener)[0].status == "101"


@case("Upgrade: case of the type is ignored")
def test_the_upgrade_type_ignores_case(proxy: World) -> None:
    proxy.upstream("a").script(switch_protocols())
    with proxy.connect("ws") as link:
        assert link.request(headers={**WEBSOCKET, "upgrade": "WebSocket"}, logged=False).status == 101
    proxy.await_log("ws")


@case("Upgrade: refused with 403 where not configured, or switched off for the route")
@pytest.mark.parametrize(("listener", "path"), [("http", "/"), ("ws", "/off"), ("other", "/")])
def test_a_websocket_is_refused(proxy: World, listener: str, path: str) -> None:
    with proxy.connect(listener) as link:
        reply = link.request(path=path, headers=WEBSOCKET)
        assert (reply.status, reply.body) == (403, b"")
        assert (reply.log.details, proxy.upstream("a").requests) == ("upgrade_failed", [])


@case("Upgrade: bytes behind a refused upgrade are never read as a request")
def test_bytes_behind_a_refused_upgrade(proxy: World) -> None:
    head = "".join(f"{name}: {value}\r\n" for name, value in WEBSOCKET.items()).encode()
    with proxy.connect() as link:
        link.send(b"GET / HTTP/1.1\r\nHost: test\r\n" + head + b"\r\nGET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n")
        assert link.reply(final=True).status == 403
    assert proxy.upstream("a").requests == []


@case("Upgrade: where the upstream does not switch, its status is passed on without its body, and that is the end")
def test_an_upstream_that_does_not_switch(proxy: World) -> None:
    proxy.upstream("a").script(respond(200, b"no"))
    with proxy.connect("ws") as link:
        reply = link.request(headers=WEBSOCKET)
        assert (reply.status, reply.body, reply.get("connection"), reply.closed) == (200, b"", "close", True)
        assert reply.log.details == "websocket_handshake_unsuccessful"


@case("Upgrade: an upgrade header without its connection token is no upgrade")
def test_upgrade_without_connection(proxy: World) -> None:
    reply = proxy.get(headers={"upgrade": "websocket"}, listener="ws")
    assert (reply.status, reply.seen.get("upgrade")) == (200, None)


@case("Upgrade: 101 that nobody asked for", difference="unasked-switch")
def test_an_unasked_switch(proxy: World) -> None:
    proxy.upstream("a").script(switch_protocols())
    reply = proxy.get()
    if proxy.kind is ProxyKind.ENVOY:
        assert (reply.status, reply.log.flags) == (101, "-")
        # Envoy keeps the connection, on which everything is echoed now, for the next request.
        proxy.upstream("a").close_connections()
    else:
        assert (reply.status, reply.log.flags) == (502, "UPE")


@case("Upgrade: the end of the client's side ends the upstream's")
def test_a_tunnel_ends_with_its_client(proxy: World) -> None:
    upstream = proxy.upstream("a")
    upstream.script(switch_protocols())
    with proxy.connect("ws") as link:
        assert link.request(headers=WEBSOCKET, logged=False).status == 101
        tunnelled = upstream.open_connections
    assert upstream.wait_until(lambda: upstream.open_connections == tunnelled - 1)
    proxy.await_log("ws")
    line = proxy.logs("ws")[0]
    assert (line.flags, line.details) == ("DC", "downstream_remote_disconnect")


@case("Upgrade: the end of the upstream's side ends the client's")
def test_a_tunnel_ends_with_its_upstream(proxy: World) -> None:
    proxy.upstream("a").script(switch_protocols())
    with proxy.connect("ws") as link:
        assert link.request(headers=WEBSOCKET, logged=False).status == 101
        proxy.upstream("a").close_connections()
        assert link.closes()
    proxy.await_log("ws")


@case("Upgrade: the route's timeout ends with the upgrade response")
def test_the_route_timeout_does_not_cut_a_tunnel(proxy: World) -> None:
    proxy.upstream("a").script(switch_protocols())
    with proxy.connect("ws") as link:
        assert link.request(path="/short", headers=WEBSOCKET, logged=False).status == 101
        assert not link.raw.closes_within(0.6)
        link.send(b"still here")
        assert link.raw.read_exactly(10) == b"still here"
    proxy.await_log("ws")


@case("Upgrade: the idle timeout cuts a silent tunnel")
def test_the_idle_timeout_cuts_a_tunnel(proxy: World) -> None:
    proxy.upstream("a").script(switch_protocols())
    with proxy.connect("ws") as link:
        assert link.request(path="/idle", headers=WEBSOCKET, logged=False).status == 101
        assert link.closes()
    proxy.await_log("ws")
    assert proxy.logs("ws")[0].flags == "SI"


@case("CONNECT: finds no route that is not for it")
@pytest.mark.parametrize("listener", ["http", "ws"])
def test_connect_is_refused(proxy: World, listener: str) -> None:
    with proxy.connect(listener) as link:
        link.send(b"CONNECT test:443 HTTP/1.1\r\nHost: test:443\r\n\r\n")
        reply = link.reply("CONNECT")
        assert (reply.status, reply.closed) == (404, True)
    line = proxy.logs(listener)[0]
    assert (line.flags, line.details) == ("NR", "route_not_found")
