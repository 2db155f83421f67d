"""Bolt through a proxy, frame by frame: what a server sees of a call, and what its client gets.

The server does as SOFABolt's in Java: it answers all calls of a connection in the version of the first frame on it.
"""

import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mosn_xds.data.codec.rpc import Framer, RpcOptions
from mosn_xds.data.codec.rpc.bolt.options import BoltOptions
from mosn_xds.data.codec.rpc.bolt.protocol import Bolt
from tests.differential.bed import Config, address, listener
from tests.differential.rpc_bed import act, generic_filter, rules, single, to
from tests.e2e.load_tools import wait_until
from tests.support.bolt import request, response
from tests.support.ports import PortAllocator
from tests.support.proxies import Proxy, ProxyKind
from tests.support.tcp_upstream import TcpExchange, TcpUpstream

V1: dict[str, Any] = {"proto": 1}
V2: dict[str, Any] = {"proto": 2, "switch": 1}
CRC: dict[str, Any] = {"proto": 2, "ver1": 2, "switch": 1}
ANSWER = [(b"from", b"server")]


@dataclass
class Server:
    """What came, by connection."""

    upstream: TcpUpstream
    frames: list[bytes] = field(default_factory=list)


def serve(server: Server, exchange: TcpExchange) -> None:
    framer = Framer(Bolt(BoltOptions()))
    form: dict[str, Any] = {}
    while data := exchange.read():
        for frame in framer.receive(data):
            form = form or ({"proto": 2, "ver1": frame[1], "switch": frame[11]} if frame[0] == 2 else {"proto": 1})
            server.frames.append(frame)
            at = 5 if frame[0] == 1 else 6
            if frame[at - 4] == 1:
                id = int.from_bytes(frame[at : at + 4], "big")
                exchange.send(response(ANSWER, b"answer", id=id, codec=frame[at + 4], **form))


@dataclass
class World:
    """A proxy with one server behind it."""

    proxy: Proxy
    port: int
    server: Server

    def exchange(self, *frames: bytes) -> list[bytes]:
        """Send these on one connection and read as many frames, one after the other."""
        with self.connect() as client:
            return [frame for sent in frames for frame in talk(client, sent)]

    def connect(self) -> socket.socket:
        client = socket.create_connection(("127.0.0.1", self.port))
        client.settimeout(10)
        return client


def talk(client: socket.socket, sent: bytes) -> list[bytes]:
    client.sendall(sent)
    framer = Framer(Bolt(RpcOptions()))
    while data := client.recv(65536):
        if frames := framer.receive(data):
            return frames
    return []


def cluster(name: str, *ports: int) -> Config:
    endpoints = [{"endpoint": {"address": address(port)}} for port in ports]
    assignment = {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]}
    return {"name": name, "type": "STATIC", "connect_timeout": "1s", "load_assignment": assignment}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder: Path = tmp_path_factory.mktemp("bolt")
    ports = PortAllocator()
    port = ports.take()
    server = Server(TcpUpstream("a", behaviour=lambda exchange: serve(server, exchange)))
    struct = {"@type": "type.googleapis.com/xds.type.v3.TypedStruct", "type_url": "mosn_xds.Bolt", "value": {}}
    routes = rules(
        (single("Property", {"exact": "com.x.Special"}, property_name=":class"), to("nobody")),
        (single("Service", {"exact": "com.x.Echo:1.0"}), act(cluster="all", timeout="2s")),
        (single("Service", {"exact": "com.x.Dead:1.0"}), to("dead")),
    )
    front = listener(
        "bolt", generic_filter("bolt", routes, codec={"name": "bolt", "typed_config": struct}, access_log=[])
    )
    front["address"] = address(port)
    bootstrap = {
        "node": {"id": "bolt", "cluster": "rpc"},
        "admin": {"address": address(ports.take())},
        "static_resources": {
            "listeners": [front],
            "clusters": [cluster("all", server.upstream.port), cluster("nobody"), cluster("dead", ports.take())],
        },
    }
    proxy = Proxy.start(ProxyKind.OURS, bootstrap, folder, concurrency=1)
    yield World(proxy, port, server)
    proxy.stop()
    server.upstream.close()


def call(service: bytes = b"com.x.Echo:1.0", **fields: Any) -> bytes:
    return request([(b"service", service), (b"nothing", None)], b"content", **fields)


def test_each_client_is_answered_in_its_version_on_a_connection_that_they_share(world: World) -> None:
    forms = [V1, CRC, V2, CRC, V1]
    answers = world.exchange(*(call(id=70 + index, codec=11, **form) for index, form in enumerate(forms)))
    first = world.server.frames[0][:1]
    for index, (form, answer) in enumerate(zip(forms, answers, strict=True)):
        mine = response(ANSWER, b"answer", id=70 + index, codec=11, **form)
        if form["proto"] == first[0] == 2:  # nothing to translate: as the server said it
            assert answer[0] == 2
        else:
            assert answer == mine
    assert len(world.server.upstream.sessions) == 1


def test_a_server_sees_the_call_as_it_was_sent_but_for_its_id_and_the_time_that_is_left(world: World) -> None:
    for form in (V1, V2, CRC):
        before = len(world.server.frames)
        world.exchange(call(id=0xFFFFFF00, timeout_ms=60_000, **form))
        (seen,) = world.server.frames[before:]
        at = 5 if form is V1 else 6
        id = int.from_bytes(seen[at : at + 4], "big")
        assert id != 0xFFFFFF00
        assert seen == call(id=id, timeout_ms=2000, **form)
        before = len(world.server.frames)
        world.exchange(call(id=1, timeout_ms=1500, **form))
        assert world.server.frames[before][at + 5 + (form is not V1) :][:4] == (1500).to_bytes(4, "big")


def test_a_one_way_call_arrives_and_is_not_answered(world: World) -> None:
    before = len(world.server.frames)
    (answer,) = world.exchange(call(type_=2, id=5) + call(id=6))
    assert answer[5:9] == b"\0\0\0\6"
    wait_until(lambda: len(world.server.frames) == before + 2, 5)
    assert [frame[1] for frame in world.server.frames[before:]] == [2, 1]


@pytest.mark.parametrize("form", [V1, V2, CRC], ids=str)
def test_heartbeats_are_answered_by_the_proxy(world: World, form: dict[str, Any]) -> None:
    before = len(world.server.frames)
    beat = request(command=0, id=0x80000001, name=b"", timeout_ms=-1, **form)
    assert world.exchange(beat) == [response(command=0, id=0x80000001, name=b"", **form)]
    assert len(world.server.frames) == before


@pytest.mark.parametrize("form", [V1, V2, CRC], ids=str)
@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"service": b"com.x.Unknown:1.0"}, 6),
        ({"name": b"com.x.Special"}, 16),
        ({"service": b"com.x.Dead:1.0"}, 16),
    ],
    ids=str,
)
def test_what_cannot_be_served_is_answered_in_bolts_words(
    world: World, form: dict[str, Any], fields: dict[str, Any], status: int
) -> None:
    (answer,) = world.exchange(call(id=9, codec=11, **fields, **form))
    assert answer == response(id=9, codec=11, status=status, name=b"", **form)


@pytest.mark.parametrize(
    "bad", [call(**CRC)[:-1] + b"\0", b"\x01\x09" + call()[2:], call()[:14] + b"\xff" * 8], ids=len
)
def test_a_bad_frame_ends_its_connection_and_no_other(world: World, bad: bytes) -> None:
    name = "generic_proxy.bolt.downstream_rq_decoding_error"
    before = world.proxy.stats(name).get(name, 0)
    with world.connect() as other:
        assert len(talk(other, call(id=1))) == 1
        assert world.exchange(bad) == []
        assert len(talk(other, call(id=2))) == 1
    wait_until(lambda: world.proxy.stats(name).get(name, 0) == before + 1, 10)
