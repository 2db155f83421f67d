"""RPC found on TCP chains, with nothing but `MOSN_XDS_PROTOCOLS` in the node's metadata: from a Pilot of our own over ADS, and
from a recorded istiod. What is no RPC is TCP, byte for byte.
"""

import os
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import skip_unless_free
from tests.e2e.loop_world import IstioLine, parse_line
from tests.support.authority import Authority
from tests.support.istio import Mesh, Session
from tests.support.polyglot import GREETING, Conversation, Polyglot
from tests.support.ports import PortAllocator
from tests.support.proxies import Proxy, ProxyKind
from tests.support.rpc_wires import BOLT, DUBBO, WIRES, Wire
from tests.support.served import Served
from tests.support.server import Stream
from tests.support.tls import client_context

_TYPE = "type.googleapis.com"
_FILTERS = f"{_TYPE}/envoy.extensions.filters"
_GENERIC = f"{_FILTERS}.network.generic_proxy"
_CONTEXTS = f"{_TYPE}/envoy.extensions.transport_sockets.tls.v3"
_SERVICE = b"com.example.Echo:1.0"
_PEER_EXCHANGE = "istio-peer-exchange"
_EXCHANGE = {
    "name": "istio.metadata_exchange",
    "typed_config": {
        "@type": f"{_TYPE}/xds.type.v3.TypedStruct",
        "type_url": f"{_TYPE}/envoy.tcp.metadataexchange.config.MetadataExchange",
        "value": {"protocol": _PEER_EXCHANGE},
    },
}
_ISTIO_FORMAT = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% '
    "%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "
    '"%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% '
    '%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" '
    '"%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER% %UPSTREAM_LOCAL_ADDRESS% '
    "%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n"
)
_HOLD_UP_S = 0.3


def address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def listener(name: str, port: int, *filters: dict[str, Any], **chain: Any) -> dict[str, Any]:
    return {
        "@type": f"{_TYPE}/envoy.config.listener.v3.Listener",
        "name": name,
        "address": address(port),
        "filter_chains": [{"filters": list(filters), **chain}],
    }


def tcp_proxy(name: str, cluster: str) -> dict[str, Any]:
    log = {
        "name": "file",
        "typed_config": {
            "@type": f"{_TYPE}/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": f"{name}.log",
            "log_format": {"text_format_source": {"inline_string": _ISTIO_FORMAT}},
        },
    }
    proxy = {
        "@type": f"{_FILTERS}.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": name,
        "cluster": cluster,
        "access_log": [log],
    }
    return {"name": "tcp", "typed_config": proxy}


def bolt_proxy(name: str, cluster: str) -> dict[str, Any]:
    action = {"@type": f"{_GENERIC}.action.v3.RouteAction", "cluster": cluster}
    codec = {"@type": f"{_TYPE}/mosn_xds.extensions.rpc.v1.BoltCodecConfig"}
    proxy = {
        "@type": f"{_GENERIC}.v3.GenericProxy",
        "stat_prefix": name,
        "codec_config": {"name": "bolt", "typed_config": codec},
        "filters": [{"name": "router", "typed_config": {"@type": f"{_GENERIC}.router.v3.Router"}}],
        "route_config": {"name": name, "routes": {"on_no_match": {"action": {"name": "all", "typed_config": action}}}},
    }
    return {"name": "rpc", "typed_config": proxy}


def cluster(name: str, *ports: int, **more: Any) -> dict[str, Any]:
    hosts = [{"endpoint": {"address": address(port)}} for port in ports]
    return {
        "@type": f"{_TYPE}/envoy.config.cluster.v3.Cluster",
        "name": name,
        "type": "STATIC",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": hosts}]},
        **more,
    }


def node(protocols: str) -> dict[str, Any]:
    metadata = {"MOSN_XDS_PROTOCOLS": protocols, "MOSN_XDS_PROTOCOL_DETECTION_TIMEOUT": f"{_HOLD_UP_S}s"}
    return {"id": "sidecar~127.0.0.1~shop.default~default.svc.cluster.local", "cluster": "shop", "metadata": metadata}


class World:
    """Ours with a plain TCP listener in front of two polyglots, and with a pair of listeners that have mutual TLS between
    them, as the sidecars of a caller and of a callee; `declared` is a callee that is configured to speak Bolt."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.upstreams = [Polyglot("one"), Polyglot("two")]
        self.authority = authority = Authority()
        ports = PortAllocator()
        self.ports = {name: ports.take() for name in ("plain", "caller", "callee", "other", "declared")}
        roots = {"trusted_ca": {"inline_string": authority.root}}
        common = {"alpn_protocols": [_PEER_EXCHANGE, "istio"], "validation_context": roots}

        def secured(kind: str, name: str, **more: Any) -> dict[str, Any]:
            context = {**common, "tls_certificates": [authority.issue(name).config()]}
            typed = {"@type": f"{_CONTEXTS}.{kind}", "common_tls_context": context, **more}
            return {"name": "tls", "typed_config": typed}

        server = secured("DownstreamTlsContext", "spiffe://mesh/ns/shop/sa/callee", require_client_certificate=True)
        client = secured("UpstreamTlsContext", "spiffe://mesh/ns/shop/sa/caller")
        servers = [upstream.port for upstream in self.upstreams]
        self.others = [
            self.listener("caller", tcp_proxy("caller", "callee")),
            self.listener("other", tcp_proxy("other", "declared")),
            self.listener("callee", _EXCHANGE, tcp_proxy("callee", "servers"), transport_socket=server),
            self.listener("declared", _EXCHANGE, bolt_proxy("declared", "servers"), transport_socket=server),
            cluster("servers", *servers),
            cluster("callee", self.ports["callee"], transport_socket=client, filters=[_EXCHANGE]),
            cluster("declared", self.ports["declared"], transport_socket=client, filters=[_EXCHANGE]),
        ]
        self.served = Served(folder, self.plain("plain"), *self.others, node=node("bolt,dubbo"))

    def plain(self, stat_prefix: str) -> dict[str, Any]:
        """The plain listener; its chain is another one with another `stat_prefix`."""
        return self.listener("plain", tcp_proxy(stat_prefix, "servers"))

    def listener(self, name: str, *filters: dict[str, Any], **chain: Any) -> dict[str, Any]:
        return listener(name, self.ports[name], *filters, **chain)

    def join(self, listener: str = "plain") -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", self.ports[listener]), timeout=10)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def talks(self) -> list[Conversation]:
        """What the servers were told since `forget`."""
        return [talk for upstream in self.upstreams for talk in upstream.conversations]

    def forget(self) -> None:
        for upstream in self.upstreams:
            upstream.conversations.clear()

    def figures(self, prefix: str) -> dict[str, int]:
        """What is not zero, without the prefix."""
        found = self.served.proxy.stats(f"^{prefix}")
        return {name.removeprefix(prefix): value for name, value in found.items() if value}

    def figures_with(self, prefix: str, **expected: int) -> dict[str, int]:
        """The same once these are among them: workers report each second."""
        self.served.wait(lambda: expected.items() <= self.figures(prefix).items())
        return self.figures(prefix)

    def lines(self, listener: str, count: int, skip: int = 0) -> list[IstioLine]:
        """So many lines of a listener's log, once they are there."""
        path = self.folder / f"{listener}.log"

        def read() -> list[str]:
            return path.read_text().splitlines()[skip:] if path.exists() else []

        self.served.wait(lambda: len(read()) >= count)
        found = [parse_line(text) for text in read()]
        assert None not in found and len(found) == count, read()
        return [line for line in found if line is not None]

    def close(self) -> None:
        with self.served:
            pass
        for upstream in self.upstreams:
            upstream.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def call(sock: socket.socket, wire: Wire, count: int) -> None:
    """So many calls one after the other; each must get its answer."""
    stream = Stream(sock)
    for id in range(100, 100 + count):
        sock.sendall(wire.with_id(wire.request, id))
        frame = stream.exactly(len(wire.response))
        assert wire.id_of(frame) == id and wire.is_ok(frame), frame[:64]


def say_tcp(sock: socket.socket, data: bytes) -> bytes:
    """Send everything, end our side; what the server echoes."""
    sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)
    return b"".join(iter(lambda: sock.recv(65536), b""))


def came_as_calls(talks: list[Conversation], wire: Wire) -> bool:
    """Whether these conversations are calls of `wire` and nothing else, each in its very bytes but for the id."""
    size = len(wire.request)
    for talk in talks:
        data = bytes(talk.received)
        frames = [data[at : at + size] for at in range(0, len(data), size)]
        if any(wire.with_id(frame, 0) != wire.with_id(wire.request, 0) for frame in frames):
            return False
    return True


@pytest.mark.parametrize(("protocol", "name"), [(BOLT, "bolt"), (DUBBO, "dubbo")])
def test_calls_on_a_tcp_chain_are_balanced_counted_and_logged(world: World, protocol: int, name: str) -> None:
    wire = WIRES[protocol]
    with world.join() as sock:
        call(sock, wire, 20)
    lines = world.lines("plain", 20)
    assert {(line.status, line.protocol, line.method, line.cluster) for line in lines} == {
        ("200", name, "echo", "servers")
    }
    assert all(line.authority.startswith("com.example.Echo") for line in lines)
    # One connection of the client, a connection to each server, calls to both, and not a byte but theirs.
    talks = world.talks()
    assert sum(talk.calls for talk in talks) == 20
    assert all(sum(upstream.calls) >= 3 for upstream in world.upstreams)
    assert came_as_calls(talks, wire)
    world.figures_with(
        "rpc.plain.", downstream_rq_total=20, downstream_cx_total=1, **{f"downstream_cx_detected.{name}": 1}
    )
    world.served.wait(
        lambda: [n for key, n in world.figures("rpc.plain.").items() if key.endswith(".echo.rq_total")] == [20]
    )
    assert world.figures("tcp.plain.") == {}


def test_three_kinds_of_clients_share_a_tcp_listener(world: World) -> None:
    data = b"not rpc at all " + os.urandom(3 << 20)
    with world.join() as rpc, world.join() as tcp, world.join() as silent:
        started = time.monotonic()
        echoed = Stream(tcp)
        tcp.sendall(data[:1])
        call(rpc, WIRES[BOLT], 5)
        greeting = silent.recv(100)
        assert time.monotonic() - started < _HOLD_UP_S + 3
        assert greeting.startswith(GREETING)
        silent.sendall(WIRES[BOLT].request)  # this is what it is to that server
        assert Stream(silent).exactly(len(WIRES[BOLT].request)) == WIRES[BOLT].request
        assert echoed.exactly(1) == data[:1]
        for at in range(1, len(data), 1 << 16):
            piece = data[at : at + (1 << 16)]
            tcp.sendall(piece)
            assert echoed.exactly(len(piece)) == piece
        call(rpc, WIRES[BOLT], 5)
    assert sorted(bytes(talk.received) for talk in world.talks() if not talk.calls) == sorted(
        [data, WIRES[BOLT].request]
    )
    world.figures_with("tcp.plain.", downstream_cx_total=2)
    world.figures_with("rpc.plain.", downstream_cx_total=1, downstream_rq_total=10)


def test_short_sessions_are_tcp_with_their_ends(world: World) -> None:
    silent = (b"", b"\x01", b"\x01\x01\x00\x77 and on", b"\xda\xbb\x1f")  # that server waits for more
    sent = [b"x", b"GET / HTTP/1.1\r\n\r\n", *silent]
    for number, data in enumerate(sent):
        world.forget()
        with world.join() as sock:
            assert say_tcp(sock, data) == (b"" if data in silent else data)
        (talk,) = world.talks()
        assert (bytes(talk.received), talk.ended) == (data, True)
        (line,) = world.lines("plain", 1, skip=number)
        assert (line.status, line.received, line.cluster) == ("0", str(len(data)), "servers")


def test_connections_outlive_a_change_of_their_chain(world: World) -> None:
    wire = WIRES[BOLT]
    with ExitStack() as stack:
        used = [stack.enter_context(world.join()) for _ in range(12)]  # so that both workers have some
        for upstream in world.upstreams:
            upstream.patience_s = 30.0
        unused = stack.enter_context(world.join())  # has an upstream soon, and has not said what it is
        for sock in used:
            call(sock, wire, 1)
        world.served.push(world.plain("changed"), *world.others)
        world.figures_with("rpc.changed.", downstream_cx_active=12)
        for sock in (*used, unused):
            call(sock, wire, 2)
        figures = world.figures_with("rpc.changed.", downstream_rq_total=26)
        assert figures["downstream_cx_active"] == 13
        assert "downstream_cx_active" not in world.figures("rpc.plain.")


def test_a_reset_reaches_the_server(world: World) -> None:
    sock = world.join()
    sock.sendall(b"hello")
    assert sock.recv(5) == b"hello"
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
    world.served.wait(lambda: not any(upstream.open_connections for upstream in world.upstreams))
    (line,) = world.lines("plain", 1)
    assert line.received == "5"


def test_calls_between_sidecars_with_mutual_tls_are_calls_on_both(world: World) -> None:
    with world.join("caller") as sock, world.join("caller") as tcp, world.join("caller") as silent:
        call(sock, WIRES[BOLT], 10)
        assert say_tcp(tcp, b"hello") == b"hello"
        assert silent.recv(100).startswith(GREETING)
    for listener in ("caller", "callee"):
        figures = world.figures_with(f"rpc.{listener}.", downstream_rq_total=10)
        assert figures["downstream_cx_total"] == 1, listener
    assert "connection_error" not in world.figures_with("cluster.callee.ssl.", handshake=3)
    world.figures_with(f"listener.127.0.0.1_{world.ports['callee']}.ssl.", handshake=3)
    assert all(sum(upstream.calls) >= 2 for upstream in world.upstreams)
    assert came_as_calls([talk for talk in world.talks() if talk.calls], WIRES[BOLT])
    calls = [line for line in world.lines("callee", 12) if line.protocol == "bolt"]
    assert {(line.status, line.method) for line in calls} == {("200", "echo")} and len(calls) == 10


def test_sidecars_tell_each_other_who_they_are_ahead_of_calls_that_are_declared(world: World) -> None:
    with world.join("other") as sock:
        call(sock, WIRES[BOLT], 4)
    world.figures_with("rpc.other.", downstream_rq_total=4)
    world.figures_with("generic_proxy.declared.", downstream_rq_total=4)
    assert came_as_calls(world.talks(), WIRES[BOLT])


def test_a_client_of_tls_whose_first_bytes_come_late_and_in_pieces(world: World) -> None:
    context = client_context(world.authority.root, certificate=world.authority.issue("spiffe://mesh/x"), alpn=["istio"])
    with (
        socket.create_connection(("127.0.0.1", world.ports["callee"]), timeout=10) as raw,
        context.wrap_socket(raw) as sock,
    ):
        wire = WIRES[DUBBO]
        for at in range(0, 40, 8):
            time.sleep(0.02)
            sock.sendall(wire.request[at : at + 8])
        sock.sendall(wire.request[40:])
        assert wire.is_ok(Stream(sock).exactly(len(wire.response)))
    assert world.figures_with("rpc.callee.", downstream_rq_total=1)["downstream_cx_detected.dubbo"] == 1


# A recorded istiod, whose mesh has a TCP service.

_LEDGER = "ledger.shop.svc.cluster.local"
_LEDGER_PORT, _LEDGER_SERVER = 8090, ("127.0.11.31", 7090)


@pytest.fixture
def ledger(tmp_path: Path, network: bool) -> Iterator[tuple[Proxy, Polyglot]]:
    """Ours at the recorded mesh, as the recorded node but for one line of metadata; and the server of its TCP service."""
    with ExitStack() as stack:
        mesh = stack.enter_context(Mesh(Session.get("loop-delta")))
        mesh.replay.advance()
        if not network:
            skip_unless_free([*mesh.bound_addresses(), _LEDGER_SERVER])
        server = Polyglot("ledger", *_LEDGER_SERVER)
        stack.callback(server.close)
        recorded = mesh.session.node
        metadata = {**recorded["metadata"], **node("dubbo,bolt")["metadata"]}
        fields = {"node": {**recorded, "metadata": metadata}}
        proxy = mesh.start(ProxyKind.OURS, tmp_path, PortAllocator().take(), bootstrap_fields=fields)
        stack.callback(proxy.kill)
        yield proxy, server


def test_a_tcp_service_of_a_recorded_istiod_serves_bolt_with_no_further_configuration(
    ledger: tuple[Proxy, Polyglot],
) -> None:
    proxy, server = ledger
    with (
        socket.create_connection(("127.0.0.1", _LEDGER_PORT), timeout=10) as rpc,
        socket.create_connection(("127.0.0.1", _LEDGER_PORT), timeout=10) as tcp,
        socket.create_connection(("127.0.0.1", _LEDGER_PORT), timeout=10) as silent,
    ):
        call(rpc, WIRES[BOLT], 8)
        assert say_tcp(tcp, b"plain") == b"plain"
        assert silent.recv(100) == GREETING + b"ledger"
    assert server.calls == [8]

    def logged() -> list[IstioLine]:
        lines = map(parse_line, proxy.log_path.read_text().splitlines())
        return [line for line in lines if line is not None and line.local.endswith(f":{_LEDGER_PORT}")]

    deadline = time.monotonic() + 10
    while len(logged()) < 10 and time.monotonic() < deadline:
        time.sleep(0.05)
    calls = [line for line in logged() if line.protocol == "bolt"]
    assert len(logged()) == len(calls) + 2
    name = f"outbound|{_LEDGER_PORT}||{_LEDGER}"
    assert [(line.status, line.method, line.authority, line.cluster, line.upstream) for line in calls] == [
        ("200", "echo", _SERVICE.decode(), name, "ledger")
    ] * 8
    prefix = f"rpc.{name}."

    def figures() -> dict[str, int]:
        return {key.removeprefix(prefix): value for key, value in proxy.stats("^rpc").items() if value}

    while figures().get("downstream_rq_total") != 8 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert figures()["downstream_cx_detected.bolt"] == 1
    assert figures()["rpc.bolt.com.example.Echo:1.0.echo.rq_total"] == 8
