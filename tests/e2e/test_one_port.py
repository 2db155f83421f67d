"""HTTP/1, HTTP/2, TLS, Bolt, Dubbo and a server that speaks first, all on one port, told apart by listener filters."""

import http.client
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_rpc_detection import address, call, cluster
from tests.support.authority import Authority
from tests.support.http2_client import Http2Client
from tests.support.polyglot import GREETING, Polyglot
from tests.support.ports import PortAllocator
from tests.support.rpc_wires import BOLT, DUBBO, WIRES
from tests.support.served import Served
from tests.support.served import listener as http_listener
from tests.support.server import Stream
from tests.support.tls import client_context

_TYPE = "type.googleapis.com"
_FILTERS = f"{_TYPE}/envoy.extensions.filters"
_GENERIC = f"{_FILTERS}.network.generic_proxy"
_OURS = f"{_TYPE}/mosn_xds.extensions.rpc.v1"
_HOLD_UP_S = 1.0


def rpc_filter(name: str) -> dict[str, Any]:
    action = {"@type": f"{_GENERIC}.action.v3.RouteAction", "cluster": "servers"}
    config = {
        "@type": f"{_GENERIC}.v3.GenericProxy",
        "stat_prefix": name,
        "codec_config": {"name": name, "typed_config": {"@type": f"{_OURS}.ProtocolCodecConfig", "name": name}},
        "filters": [{"name": "router", "typed_config": {"@type": f"{_GENERIC}.router.v3.Router"}}],
        "route_config": {"name": name, "routes": {"on_no_match": {"action": {"name": "all", "typed_config": action}}}},
    }
    return {"name": name, "typed_config": config}


def one_port(port: int, authority: Authority) -> dict[str, Any]:
    http_filters = http_listener("web", port)["filter_chains"][0]["filters"]
    common = {"tls_certificates": [authority.issue("web.test").config()]}
    context = {
        "@type": f"{_TYPE}/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": common,
    }
    tcp = {"@type": f"{_FILTERS}.network.tcp_proxy.v3.TcpProxy", "stat_prefix": "rest", "cluster": "servers"}
    looked_for = [{"name": "dubbo"}, {"name": "bolt"}]
    return {
        "@type": f"{_TYPE}/envoy.config.listener.v3.Listener",
        "name": "all",
        "address": address(port),
        "listener_filters_timeout": f"{_HOLD_UP_S}s",
        "continue_on_listener_filters_timeout": True,
        "listener_filters": [
            {"name": "tls", "typed_config": {"@type": f"{_FILTERS}.listener.tls_inspector.v3.TlsInspector"}},
            {"name": "http", "typed_config": {"@type": f"{_FILTERS}.listener.http_inspector.v3.HttpInspector"}},
            {"name": "rpc", "typed_config": {"@type": f"{_OURS}.ProtocolInspector", "protocols": looked_for}},
        ],
        "filter_chains": [
            {
                "name": "tls",
                "filter_chain_match": {"transport_protocol": "tls"},
                "filters": http_filters,
                "transport_socket": {"name": "tls", "typed_config": context},
            },
            {
                "name": "http",
                "filter_chain_match": {"application_protocols": ["http/1.0", "http/1.1", "h2c"]},
                "filters": http_filters,
            },
            *(
                {
                    "name": name,
                    "filter_chain_match": {"application_protocols": [name]},
                    "filters": [rpc_filter(name)],
                }
                for name in ("bolt", "dubbo")
            ),
        ],
        "default_filter_chain": {"name": "rest", "filters": [{"name": "tcp", "typed_config": tcp}]},
    }


class World:
    def __init__(self, folder: Path) -> None:
        self.port = PortAllocator().take()
        self.authority = Authority()
        self.server = Polyglot("server")
        self.served = Served(folder, one_port(self.port, self.authority), cluster("servers", self.server.port))

    def join(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def close(self) -> None:
        with self.served:
            pass
        self.server.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def test_each_client_of_one_port_is_served_as_what_it_is(world: World) -> None:
    started = time.monotonic()
    with world.join() as silent:
        web = http.client.HTTPConnection("127.0.0.1", world.port, timeout=10)
        web.request("GET", "/")
        assert web.getresponse().read() == b"web"
        web.close()
        with Http2Client(world.port) as h2c:
            assert h2c.finish(h2c.request()).body == b"web"
        with world.join() as raw, client_context(world.authority.root).wrap_socket(raw) as tls:
            tls.sendall(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n")
            assert Stream(tls).until(b"\r\n\r\n").startswith(b"HTTP/1.1 200")
        for protocol in (BOLT, DUBBO):
            with world.join() as sock:
                call(sock, WIRES[protocol], 3)
        with world.join() as other:
            other.sendall(b"something else")
            assert Stream(other).exactly(14) == b"something else"
        assert silent.recv(100) == GREETING + b"server"
        assert time.monotonic() - started < _HOLD_UP_S + 5
    assert sorted(world.server.calls) == [3, 3]
    proxy = world.served.proxy
    figures = {"bolt_found": 1, "dubbo_found": 1, "protocol_not_found": 1}
    expected = {f"protocol_inspector.{name}": value for name, value in figures.items()}
    world.served.wait(lambda: proxy.stats("^protocol_inspector") == expected)
    for name in ("bolt", "dubbo"):
        total = f"generic_proxy.{name}.downstream_rq_total"
        world.served.wait(lambda: proxy.stats(total) == {total: 3})  # noqa: B023 - called at once


def test_first_bytes_in_pieces_are_waited_for(world: World) -> None:
    wire = WIRES[DUBBO]
    with world.join() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(4):
            sock.sendall(wire.request[at : at + 1])
            time.sleep(0.02)
        sock.sendall(wire.request[4:])
        assert wire.is_ok(Stream(sock).exactly(len(wire.response)))
    assert world.server.calls == [1]
