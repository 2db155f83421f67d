"""HTTP/2 clients that read slowly, never, or attack: memory and CPU stay bounded, and who behaves is served meanwhile."""

import contextlib
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.differential.bed import Bed, cluster, http_listener, vhost
from tests.differential.http2_link import Http2Link
from tests.differential.world import World
from tests.e2e.load_tools import wait_until
from tests.support.http2_client import Flag, Http2Client, Kind, frame
from tests.support.memory import use_of
from tests.support.ports import PortAllocator
from tests.support.proxies import ProxyKind
from tests.support.upstream import Exchange, Upstream, head, respond

MIB = 1 << 20
_LARGE = "x" * 4000  # a few thousand of these are more than a kernel buffers; of more requests at once some are refused
ROUTES = """
- match: {prefix: /direct}
  direct_response: {status: 200, body: {inline_string: hello}}
- match: {prefix: /large}
  direct_response: {status: 200, body: {inline_string: LARGE}}
- match: {prefix: /}
  route: {cluster: up, timeout: 0s}
""".replace("LARGE", _LARGE)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    bed = Bed(
        [
            http_listener("http", vhost("all", ["*"], ROUTES)),
            http_listener("small", vhost("all", ["*"], ROUTES), http2_protocol_options={
                "initial_stream_window_size": 65535, "initial_connection_window_size": 1 << 20,
            }),
            http_listener("few", vhost("all", ["*"], ROUTES), http2_protocol_options={"max_outbound_frames": 500}),
            http_listener("hasty", vhost("all", ["*"], ROUTES), stream_idle_timeout="1s", http2_protocol_options={
                "max_outbound_frames": 1_000_000,
            }),
        ],
        [cluster("up")],
        {"up": Upstream},
    )  # fmt: skip
    made = World(ProxyKind.OURS, bed, tmp_path_factory.mktemp("http2"), PortAllocator())
    made.start()
    made.begin("pressure")
    try:
        yield made
    finally:
        made.stop()


def memory(world: World) -> int:
    """Of all processes of the proxy."""
    total = 0
    for pid in world.proxy.pids():
        with contextlib.suppress(OSError):
            total += use_of(pid).share_bytes
    return total


def cpu_s(world: World) -> float:
    return sum(use_of(pid).cpu_s for pid in world.proxy.pids())


class Fountain:
    """An upstream's answer without end; `sent` is what the proxy has taken of it."""

    def __init__(self) -> None:
        self.sent = 0

    def __call__(self, exchange: Exchange) -> bool:
        exchange.read_body()
        exchange.send(head(200, [("content-length", str(1 << 40))]))
        block = bytes(65536)
        while True:
            exchange.send(block)
            self.sent += len(block)


def settles(read: list[int]) -> bool:
    """The last second's readings are the same."""
    return len(read) > 10 and len(set(read[-10:])) == 1


def test_a_client_that_does_not_read_stops_its_upstream_alone(world: World) -> None:
    slow, quick = Fountain(), Fountain()
    world.upstream("up").script(slow, quick)
    before = memory(world)
    with Http2Link(world, settings={4: 8 * MIB}, refill=False) as link:
        link.raw.give(0, 1 << 30)
        stuck = link.send()
        world.upstream("up").wait_for(1)
        link.raw.read_until(lambda: len(link.raw.seen(stuck).body) == 8 * MIB)
        told: list[int] = []
        deadline = time.monotonic() + 20
        while not settles(told) and time.monotonic() < deadline:
            told.append(slow.sent)
            time.sleep(0.1)
        assert settles(told), "the upstream of a stream that nobody reads goes on sending"
        flowing = link.send()
        world.upstream("up").wait_for(2)
        for _ in range(4):
            link.raw.give(flowing, 8 * MIB)
        link.raw.read_until(lambda: len(link.raw.seen(flowing).body) == 40 * MIB, 20.0)
        assert len(link.raw.seen(flowing).body) == 40 * MIB
        assert len(link.raw.seen(stuck).body) == 8 * MIB
        assert slow.sent == told[-1]
        assert memory(world) - before < 24 * MIB
        link.raw.reset(stuck)
        link.raw.reset(flowing)
        assert link.raw.synchronise()


def test_an_upstream_that_does_not_read_stops_its_client_alone(world: World) -> None:
    opened = threading.Event()

    def deaf(exchange: Exchange) -> bool:
        opened.wait(20)
        exchange.read_body()
        return respond()(exchange)

    world.upstream("up").script(deaf)
    before = memory(world)
    with Http2Link(world, "small") as link:
        link.raw.read_until(lambda: link.raw.settings_acks == 1)
        stuck = link.send("POST", end=False)
        world.upstream("up").wait_for(1)
        room, sent = 65535, 0
        seen = 0
        deadline = time.monotonic() + 4
        while time.monotonic() < deadline:
            if room >= 16384:
                link.raw.send_frame(Kind.DATA, 0, stuck, bytes(16384))
                room -= 16384
                sent += 16384
            else:
                link.raw.read_for(0.05)
            updates = [f for f in link.raw.frames[seen:] if f.kind == Kind.WINDOW_UPDATE and f.stream_id == stuck]
            seen = len(link.raw.frames)
            room += sum(int.from_bytes(f.payload, "big") for f in updates)
            if room < 16384 and sent > MIB and not updates and time.monotonic() > deadline - 1:
                break
        assert sent < 32 * MIB, "a request that the upstream does not read goes on"
        assert memory(world) - before < 40 * MIB
        assert link.request(path="/direct").body == b"hello"
        opened.set()
        link.raw.send_frame(Kind.DATA, Flag.END_STREAM, stuck)
        assert link.reply(stuck).status == 200


ATTACKS = {
    "rapid reset": lambda c: b"".join(
        frame(Kind.HEADERS, Flag.END_HEADERS | Flag.END_STREAM, n, c.head("GET", "/")) + frame(3, 0, n, b"\0\0\0\x08")
        for n in iter(c.next_id, 20001)
    ),
    "pings": lambda _: frame(Kind.PING, 0, 0, bytes(8)) * 200_000,
    "settings": lambda _: frame(Kind.SETTINGS, 0, 0) * 200_000,
    "empty continuation": lambda c: (
        frame(Kind.HEADERS, 0, 1, c.head()) + frame(Kind.CONTINUATION, 0, 1) * 200_000
    ),
    "continuation": lambda c: frame(Kind.HEADERS, 0, 1, c.head()) + frame(
        Kind.CONTINUATION, 0, 1, c.block([("x-large", "y" * 15000)])[:16000]) * 500,
    "header bomb": lambda c: c.section(1, c.head(fields=[("x-large", "y" * 3000)]) + b"\xbe" * 200_000, end=True),
    "empty data": lambda c: frame(Kind.HEADERS, 4, 1, c.head("POST")) + frame(Kind.DATA, 0, 1) * 200_000,
    "priority": lambda _: frame(Kind.PRIORITY, 0, 3, b"\0\0\0\0\x10") * 200_000,
    "window": lambda _: frame(Kind.WINDOW_UPDATE, 0, 0, b"\0\0\0\x01") * 200_000,
    "unknown frames": lambda _: frame(0x42, 0, 0) * 400_000,
    "answers unread": lambda c: b"".join(
        frame(Kind.HEADERS, Flag.END_HEADERS | Flag.END_STREAM, n, c.head("GET", "/direct")) for n in iter(c.next_id, 60001)
    ),
}  # fmt: skip


@pytest.mark.alone
@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_costs_little(world: World, name: str) -> None:
    before, cpu_before = memory(world), cpu_s(world)
    with Http2Client(world.listener_port("http"), receive_buffer_bytes=4096) as attacker, Http2Link(world) as honest:
        attacker.socket.settimeout(3.0)
        with contextlib.suppress(OSError):
            attacker.socket.sendall(ATTACKS[name](attacker))
        began = time.monotonic()
        assert honest.request(path="/direct").body == b"hello"
        assert time.monotonic() - began < 3.0
        assert memory(world) - before < 24 * MIB
    assert cpu_s(world) - cpu_before < 6.0


def ask_for_more(client: Http2Client, count: int) -> None:
    """So many requests for large answers, or as many as the connection lasts for; the next hundred when the proxy has read
    the last: of more than a thousand at once it refuses some."""
    client.give(0, 1 << 30)
    client.socket.settimeout(5.0)
    with contextlib.suppress(OSError):
        for _ in range(count // 100):
            client.socket.sendall(b"".join(
                client.section(client.next_id(), client.head("GET", "/large"), end=True) for _ in range(100)
            ))  # fmt: skip
            wait_until(lambda: not unread_bytes(client.socket), 20, step_s=0.001)


def unread_bytes(sock: socket.socket) -> int:
    """What the peer, which is on this machine, has received on the connection and not read; 0 if it has closed it."""
    ends = [f":{address[1]:04X}" for address in (sock.getpeername(), sock.getsockname())]
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(int(row[4][9:], 16) for row in rows if [row[1][8:], row[2][8:]] == ends)


def test_a_client_that_asks_and_never_reads_is_cut_off(world: World) -> None:
    """Its windows are open, so it is frames that wait, not bodies."""
    with Http2Client(world.listener_port("few"), settings={4: (1 << 31) - 1}, receive_buffer_bytes=4096) as attacker:
        ask_for_more(attacker, 20_000)
        world.expect_stats({"http2.outbound_flood": 1})


def test_a_client_that_never_reads_its_answers_is_cut_off_in_time(world: World) -> None:
    """The streams are over for the proxy, and nothing leaves."""
    with Http2Client(world.listener_port("hasty"), settings={4: (1 << 31) - 1}, receive_buffer_bytes=4096) as idler:
        ask_for_more(idler, 8_000)
        world.expect_stats({"http.hasty.downstream_cx_destroy_local": 1, "http.hasty.downstream_cx_active": 0})


@pytest.mark.parametrize("command", [
    ["curl", "-sS", "--http2-prior-knowledge", "-o", "-", "-w", " %{http_version} %{http_code}", "URL"],
    ["nghttp", "-v", "--no-dep", "URL"],
    ["h2load", "-n", "500", "-c", "5", "-m", "10", "URL"],
], ids=lambda command: command[0])  # fmt: skip
def test_real_clients(world: World, command: list[str]) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    url = f"http://127.0.0.1:{world.listener_port('http')}/direct"
    arguments = [url if part == "URL" else part for part in command]
    out = subprocess.run(arguments, check=True, capture_output=True, text=True, timeout=20).stdout
    wanted = {"curl": "hello 2 200", "nghttp": ":status: 200", "h2load": "500 succeeded, 0 failed, 0 errored"}
    assert wanted[command[0]] in out


def test_a_large_upload_by_curl(world: World, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    (tmp_path / "body").write_bytes(bytes(30 * MIB))
    world.upstream("up").script(respond())
    url = f"http://127.0.0.1:{world.listener_port('http')}/up"
    command = ["curl", "-sS", "--http2-prior-knowledge", "--data-binary", f"@{tmp_path / 'body'}", url]
    assert subprocess.run(command, check=True, capture_output=True, timeout=30).stdout == b"up\n"
    assert len(world.upstream("up").requests[-1].body) == 30 * MIB


def test_a_preface_in_pieces(world: World) -> None:
    with socket.create_connection(("127.0.0.1", world.listener_port("http"))) as sock:
        client = Http2Client(0, sock=sock, preface=False)
        preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(Kind.SETTINGS, 0, 0)
        for at in range(0, len(preface), 5):
            sock.sendall(preface[at : at + 5])
            time.sleep(0.005)
        assert client.synchronise()
