"""A wire under TLS. What a wire promises above plaintext it promises above this, too; the standard library's TLS is the peer."""

import errno
import gc
import os
import shutil
import socket
import ssl
import struct
import weakref
from subprocess import PIPE, STDOUT

import pytest
import trio
import trio.testing

from mosn_xds.base.stats import StatRegistry
from mosn_xds.data.net import openssl
from mosn_xds.data.net.consumer import CloseReason
from mosn_xds.data.net.dial import DialOptions, dial
from mosn_xds.data.net.reactor import Reactor
from mosn_xds.data.net.secure_wire import Handshakes, SecureWire
from mosn_xds.data.tls.client import ClientTls, TlsOptions
from mosn_xds.data.tls.handshake import HandshakeObserver
from mosn_xds.data.tls.server import ServerTls
from mosn_xds.data.tls.stats import SslStats
from mosn_xds.data.tls.store import TlsStore
from mosn_xds.spec.common import Address, StringMatch, StringMatchKind
from mosn_xds.spec.tls import (
    Certificate,
    DownstreamTls,
    SanKind,
    SanMatch,
    Secret,
    TlsContext,
    TlsVersion,
    UpstreamTls,
    Validation,
)
from tests.support.authority import Authority
from tests.support.tls import client_context
from tests.support.wires import Recorder, run_reactor, tcp_pair

ROOT = Authority()
SERVER = ROOT.issue("srv.test")


class Observer:
    """Hears how the handshake went."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def complete(self) -> None:
        self.events.append("complete")

    def timed_out(self) -> None:
        self.events.append("timed out")


def store(reactor: Reactor) -> TlsStore:
    made = TlsStore(reactor)
    made.put(Secret("mine", Certificate(SERVER.chain.encode(), SERVER.key_text.encode())))
    made.put(Secret("roots", validation=Validation(trusted_ca=ROOT.root.encode())))
    return made


def secure_wire(
    reactor: Reactor,
    sock: socket.socket,
    *,
    timeout_s: float = 60,
    observer: HandshakeObserver | None = None,
    tls: TlsStore | None = None,
    **options,
) -> Recorder:
    recorder = Recorder()
    spec = DownstreamTls(TlsContext(("mine",), alpn=("h2", "http/1.1")))
    server = ServerTls(spec, tls or store(reactor), StatRegistry().group(SslStats, "ssl."), "here")
    secured = server.secure(sock, "peer", observer or Observer())
    recorder.wire = SecureWire(reactor, sock, recorder, secured, **options)
    recorder.wire.start(handshake_timeout_s=timeout_s)
    return recorder


def client(stream: trio.SocketStream, **options) -> trio.SSLStream:
    return trio.SSLStream(stream, client_context(ROOT.root, **options), https_compatible=True)


class ByHand:
    """A client whose records the test carries."""

    def __init__(self, **options) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = client_context(ROOT.root, **options).wrap_bio(self.incoming, self.outgoing)

    async def handshake(self, stream: trio.SocketStream) -> None:
        while True:
            try:
                self.tls.do_handshake()
                return
            except ssl.SSLWantReadError:
                await stream.send_all(self.outgoing.read())
                self.incoming.write(await stream.receive_some())


def test_the_handshake_comes_first_then_bytes_go_both_ways() -> None:
    async def story(reactor: Reactor) -> None:
        near, far = tcp_pair()
        above = secure_wire(reactor, near)
        above.wire.write(b"written before the handshake")
        tls = client(far)
        await tls.send_all(b"hello")
        await above.until("data")
        assert above.events == ["connected", "data"]
        assert above.data == b"hello"
        assert await tls.receive_some() == b"written before the handshake"
        assert len(reactor.timers) == 0

    run_reactor(story)


def test_data_behind_the_handshake_in_one_segment_is_delivered() -> None:
    """The client's last flight and its first bytes are one read of ours: no further event announces them."""

    async def story(reactor: Reactor) -> None:
        near, far = tcp_pair()
        above = secure_wire(reactor, near)
        mine = ByHand()
        await mine.handshake(far)
        mine.tls.write(b"at once")
        await far.send_all(mine.outgoing.read())
        await above.until("data")
        assert above.data == b"at once"

    run_reactor(story)


def test_large_transfers_with_back_pressure() -> None:
    async def story(reactor: Reactor) -> None:
        near, far = tcp_pair(buffer_bytes=20_000)
        above = secure_wire(reactor, near, buffer_limit_bytes=100_000)
        tls = client(far)
        payload = os.urandom(2_000_000)
        above.on_event = lambda event: above.wire.write(payload) if event == "connected" else None
        received = b""

        async def send() -> None:
            await tls.send_all(payload)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            while len(received) < len(payload):
                received += await tls.receive_some()
        assert received == payload
        await above.until(lambda r: len(r.data) == len(payload))
        assert above.data == payload
        assert "high" in above.events
        assert "low" in above.events

    run_reactor(story)


def test_paused_reading_keeps_what_the_transport_holds() -> None:
    async def story(reactor: Reactor) -> None:
        near, far = tcp_pair()
        above = secure_wire(reactor, near)
        tls = client(far)
        above.on_event = lambda event: above.wire.pause_reading() if event == "data" else None
        await tls.send_all(b"x" * 100_000)
        await above.until("data")
        while len(above.data) < 100_000:
            await trio.testing.wait_all_tasks_blocked(0.001)
            above.wire.resume_reading()
            await above.until("data", above.events.count("data") + 1)
        assert above.data == b"x" * 100_000

    run_reactor(story)


def test_the_ends_of_both_sides() -> None:
    async def story(reactor: Reactor) -> None:
        near, far = tcp_pair()
        above = secure_wire(reactor, near)
        tls = client(far)
        await tls.send_all(b"question")
        await above.until("data")
        above.wire.write(b"answer")
        above.wire.close(delay_s=5)
        assert b"".join([chunk async for chunk in tls]) == b"answer"
        await far.aclose()
        await above.until(lambda r: r.closed)
        assert above.closed is CloseReason.LOCAL

    run_reactor(story)


def test_plaintext_where_a_handshake_is_due_fails() -> None:
    async def story(reactor: Reactor) -> None:
        near, far = tcp_pair()
        above = secure_wire(reactor, near)
        await far.send_all(b"GET / HTTP/1.1\r\n\r\n")
        await above.until(lambda r: r.closed)
        assert above.events == [CloseReason.HANDSHAKE_FAILED]
        assert above.wire.error is not None
        assert "HTTP_REQUEST" in (above.wire.error.strerror or "")
        await far.aclose()

    run_reactor(story)


def test_a_silent_client_does_not_hold_a_handshake_open() -> None:
    async def story(reactor: Reactor) -> None:
        near, far = tcp_pair()
        observer = Observer()
        recorder = secure_wire(reactor, near, timeout_s=0.02, observer=observer)
        await recorder.until(lambda r: r.closed)
        assert recorder.closed is CloseReason.CONNECT_TIMEOUT
        assert observer.events == ["timed out"]
        await far.aclose()

    run_reactor(story)


def test_bulk_mode() -> None:
    async def story(reactor: Reactor) -> None:
        near, far = tcp_pair()
        above = secure_wire(reactor, near)
        above.wire.set_bulk(above.wire.write_through)
        tls = client(far)
        payload = os.urandom(500_000)
        received = b""

        async def send() -> None:
            await tls.send_all(payload)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            while len(received) < len(payload):
                received += await tls.receive_some()
        assert received == payload

    run_reactor(story)


@pytest.mark.parametrize("call", ["detach"])
def test_a_secure_connection_cannot_be_given_away(call: str) -> None:
    async def story(reactor: Reactor) -> None:
        near, far = tcp_pair()
        above = secure_wire(reactor, near)
        tls = client(far)
        await tls.send_all(b"x")
        await above.until("data")
        with pytest.raises(RuntimeError, match="cannot be detached"):
            getattr(above.wire, call)()

    run_reactor(story)


def test_every_function_of_the_binding_that_is_used_is_there() -> None:
    assert [name for name in openssl.USED if not hasattr(openssl.lib, name)] == []


@pytest.mark.parametrize(("offers", "chosen"), [(["http/1.1", "h2"], b"h2"), (["other"], None), ([], None)])
def test_what_was_agreed_on_is_told(offers: list[str], chosen: bytes | None) -> None:
    async def story(reactor: Reactor) -> None:
        near, far = tcp_pair()
        observer = Observer()
        above = secure_wire(reactor, near, observer=observer)
        tls = client(far, alpn=offers)
        await tls.do_handshake()
        await above.until("connected")
        wire = above.wire
        assert (wire.alpn, observer.events) == (chosen, ["complete"])
        assert wire.tls is not None
        assert (wire.tls.version, wire.tls.peer) == ("TLSv1.3", None)
        wire.close()
        await above.until(lambda r: r.closed)
        assert wire.alpn == chosen

    run_reactor(story)


def test_the_end_is_said_with_close_notify() -> None:
    async def story(reactor: Reactor) -> None:
        near, far = tcp_pair()
        above = secure_wire(reactor, near)
        tls = trio.SSLStream(far, client_context(ROOT.root))  # one that takes a bare FIN for an attack
        await tls.do_handshake()
        await above.until("connected")
        above.wire.write(b"last words")
        above.wire.close(flush=True)
        assert await tls.receive_some() == b"last words"
        assert await tls.receive_some() == b""

    run_reactor(story)


def test_a_reset_is_a_reset_as_in_plaintext(caplog: pytest.LogCaptureFixture) -> None:
    """Who kept the connection for the next request goes by the error that it ended with."""

    async def story(reactor: Reactor) -> None:
        near, far = tcp_pair()
        above = secure_wire(reactor, near)
        tls = client(far)
        await tls.do_handshake()
        await above.until("connected")
        far.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        far.socket.close()
        await above.until(lambda r: r.closed)
        assert above.closed is CloseReason.REMOTE_RESET
        assert above.wire.error is not None
        assert above.wire.error.errno == errno.ECONNRESET
        assert not caplog.records

    run_reactor(story)


def test_garbage_behind_the_handshake_ends_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    async def story(reactor: Reactor) -> None:
        near, far = tcp_pair()
        above = secure_wire(reactor, near)
        tls = client(far)
        await tls.do_handshake()
        await above.until("connected")
        await far.send_all(b"\x17\x03\x03\x00\x20" + b"x" * 32)
        await above.until(lambda r: r.closed)
        assert above.closed is CloseReason.REMOTE_RESET
        assert "peer" in caplog.text

    run_reactor(story)


def test_a_peer_that_reads_nothing_holds_no_more_than_the_limit_and_a_little() -> None:
    async def story(reactor: Reactor) -> None:
        near, far = tcp_pair(buffer_bytes=20_000)
        above = secure_wire(reactor, near, buffer_limit_bytes=50_000)
        tls = client(far)
        await tls.do_handshake()
        await above.until("connected")
        above.wire.write(b"x" * 1_000_000)
        await above.until("high")
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert above.wire.pending_bytes > 800_000  # encrypted is only what is about to be sent

    run_reactor(story)


async def hello(reactor: Reactor, upstream: ClientTls, server: ServerTls) -> bool:
    """One connection, on which the server says something; whether it resumed a session."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        near = Recorder()
        address = Address(*listening.getsockname())
        near.wire = dial(reactor, address, near, DialOptions(timeout_s=5), upstream.securing("peer"))
        accepted, _ = await trio.socket.from_stdlib_socket(listening).accept()
        sock = accepted._sock.dup()
        far = Recorder()
        sock.setblocking(False)
        far.wire = SecureWire(reactor, sock, far, server.secure(sock, "peer", Observer()))
        far.wire.start(handshake_timeout_s=5)
        accepted.close()
        far.on_event = lambda event: far.wire.write(b"hello") if event == "connected" else None
        await near.until("data")
        assert near.wire.tls is not None
        resumed = near.wire.tls.resumed
        near.wire.close()
        await far.until(lambda r: r.closed or "eof" in r.events)
        far.wire.close()
        await far.until(lambda r: r.closed)
        return resumed


@pytest.mark.parametrize("version", [TlsVersion.TLS_1_2, TlsVersion.TLS_1_3])
def test_a_client_resumes_its_sessions(version: TlsVersion) -> None:
    async def story(reactor: Reactor) -> None:
        tls = store(reactor)
        stats = StatRegistry().group(SslStats, "ssl.")
        context = TlsContext(validation_secret="roots", min_version=version, max_version=version)
        upstream = ClientTls(UpstreamTls(context, sni="srv.test"), tls, stats, "there")
        server = ServerTls(DownstreamTls(TlsContext(("mine",)), ticket_secret="keys"), tls, stats, "here")
        assert [await hello(reactor, upstream, server) for _ in range(3)] == [False, True, True]

    run_reactor(story)


def test_a_session_ends_with_what_its_peer_was_measured_by() -> None:
    """Who resumes a session does not see the peer's certificate: names that are demanded since then need a new handshake."""

    async def story(reactor: Reactor) -> None:
        tls = store(reactor)
        stats = StatRegistry().group(SslStats, "ssl.")
        upstream = ClientTls(UpstreamTls(TlsContext(validation_secret="roots"), sni="srv.test"), tls, stats, "there")
        server = ServerTls(DownstreamTls(TlsContext(("mine",)), ticket_secret="keys"), tls, stats, "here")
        assert [await hello(reactor, upstream, server) for _ in range(2)] == [False, True]
        name = SanMatch(SanKind.DNS, StringMatch(StringMatchKind.EXACT, "srv.test"))
        tls.put(Secret("roots", validation=Validation(trusted_ca=ROOT.root.encode(), sans=(name,))))
        assert [await hello(reactor, upstream, server) for _ in range(2)] == [False, True]

    run_reactor(story)


@pytest.mark.parametrize("name", ["a" * 256, "a\0b"], ids=["too long", "NUL"])
def test_a_name_that_tls_cannot_say_fails_the_connection_that_wants_it(name: str) -> None:
    async def story(reactor: Reactor) -> None:
        upstream = ClientTls(UpstreamTls(TlsContext()), store(reactor), StatRegistry().group(SslStats, "ssl."), "there")
        near = Recorder()
        securing = upstream.securing("peer", options=TlsOptions(sni=name))
        near.wire = dial(reactor, Address("127.0.0.1", 9), near, DialOptions(timeout_s=5), securing)
        await near.until(lambda r: r.closed)
        assert near.wire.error is not None
        assert "server name" in str(near.wire.error)

    run_reactor(story)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_keys_may_be_changed_at_any_time() -> None:
    """The peer asks us to go on with new keys, too; the answer leaves by itself."""

    async def story(reactor: Reactor) -> None:
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            listening.listen()
            command = ["openssl", "s_client", "-connect", f"127.0.0.1:{listening.getsockname()[1]}", "-tls1_3"]
            peer = await trio.lowlevel.open_process(command, stdin=PIPE, stdout=PIPE, stderr=STDOUT)
            try:
                assert peer.stdin is not None
                assert peer.stdout is not None
                accepted, _ = await trio.socket.from_stdlib_socket(listening).accept()
                sock = accepted._sock.dup()
                sock.setblocking(False)
                above = secure_wire(reactor, sock)
                accepted.close()
                await above.until("connected")
                said = b""
                for count in (1, 2, 3):
                    await peer.stdin.send_all(b"K\n")
                    while said.count(b"KEYUPDATE") < count:
                        said += await peer.stdout.receive_some()
                    await peer.stdin.send_all(b"%d words\n" % count)
                    await above.until(lambda r, count=count: r.data.count(b"\n") == count)
                assert above.data == b"1 words\n2 words\n3 words\n"
                above.wire.close()
                await above.until(lambda r: r.closed)
            finally:
                peer.kill()
                await peer.wait()

    run_reactor(story)


def test_handshakes_wait_in_turn_while_the_established_are_served() -> None:
    """A clock that says that each step took long: one handshake for each batch."""

    async def story(reactor: Reactor) -> None:
        tls = store(reactor)
        near, far = tcp_pair()
        established = secure_wire(reactor, near, tls=tls)
        talker = ByHand()
        await talker.handshake(far)
        await far.send_all(talker.outgoing.read())
        await established.until("connected")
        now = 0.0

        def slow_clock() -> float:
            nonlocal now
            now += 0.001
            return now

        tls.handshakes = Handshakes(reactor, slow_clock)
        order: list[str] = []
        established.on_event = lambda event: order.append("served")
        pairs = [tcp_pair() for _ in range(20)]
        newcomers = [secure_wire(reactor, near, tls=tls) for near, _ in pairs]
        for one in newcomers:
            one.on_event = lambda event: order.append(str(event))
        last_flights = []
        for _, newcomer in pairs:
            mine = ByHand()
            await mine.handshake(newcomer)
            last_flights.append(mine.outgoing.read())
        talker.tls.write(b"still there?")
        # All at once, before the reactor looks again:
        for (_, newcomer), flight in zip(pairs, last_flights, strict=True):
            newcomer.socket._sock.send(flight)
        far.socket._sock.send(talker.outgoing.read())
        for one in newcomers:
            await one.until("connected")
        assert order.count("connected") == 20
        assert order.index("served") < 3
        assert tls.handshakes.delayed > 0
        assert tls.handshakes.waiting == 0

    run_reactor(story)


def test_connections_that_have_ended_leave_nothing_behind() -> None:
    async def story(reactor: Reactor) -> None:
        tls = store(reactor)
        gone = []
        gc.collect()
        gc.disable()
        try:
            for _ in range(5):
                near, far = tcp_pair()
                above = secure_wire(reactor, near, tls=tls)
                stream = client(far)
                await stream.do_handshake()
                await above.until("connected")
                wire = above.wire
                assert isinstance(wire, SecureWire)
                gone.append(weakref.ref(wire._tls._conn))
                wire.close(flush=False)
                await above.until(lambda r: r.closed)
                del above, wire, near
            assert [ref() for ref in gone[:-1]] == [None] * 4
        finally:
            gc.enable()

    run_reactor(story)


def test_connections_that_were_reset_leave_nothing_behind() -> None:
    """The error that ends a wire must not hold the frames in which it came, and with them the wire."""

    async def story(reactor: Reactor) -> None:
        tls = store(reactor)
        gone = []
        gc.collect()
        gc.disable()
        try:
            for _ in range(5):
                near, far = tcp_pair()
                above = secure_wire(reactor, near, tls=tls)
                stream = client(far)
                await stream.do_handshake()
                await above.until("connected")
                wire = above.wire
                assert isinstance(wire, SecureWire)
                gone.append(weakref.ref(wire._tls._conn))
                far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                await far.aclose()
                wire.write(b"nobody reads this")
                await above.until(lambda r: r.closed)
                assert wire.error is not None and wire.error.__traceback__ is None
                del above, wire, near
            assert [ref() for ref in gone[:-1]] == [None] * 4
        finally:
            gc.enable()

    run_reactor(story)
