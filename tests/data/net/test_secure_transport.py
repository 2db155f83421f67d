"""The seam for TLS: a transport with a handshake and output of its own, here the standard library's TLS in memory.

What a wire promises above plaintext it promises above this, too. Anonymous key exchange spares certificates.
"""

import os
import socket
import ssl

import pytest
import trio
import trio.testing

from mosn_xds.data.net.consumer import CloseReason
from mosn_xds.data.net.reactor import Reactor
from mosn_xds.data.net.wire import Wire
from tests.support.wires import Recorder, run_reactor, tcp_pair


def context(side: int) -> ssl.SSLContext:
    made = ssl.SSLContext(side)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    made.maximum_version = ssl.TLSVersion.TLSv1_2
    made.set_ciphers("AECDH-AES256-SHA:@SECLEVEL=0")
    return made


class MemoryTls:
    """A SecureTransport over a non-blocking socket."""

    def __init__(self, sock: socket.socket, *, server_side: bool) -> None:
        self._sock = sock
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        side = ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT
        self._tls = context(side).wrap_bio(self._in, self._out, server_side=server_side)
        self._waiting = b""

    def _fill(self) -> None:
        data = self._sock.recv(65536)
        if data:
            self._in.write(data)
        else:
            self._in.write_eof()

    def handshake(self) -> bool:
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self.drain()
                self._fill()
            else:
                self.drain()
                return True

    def recv(self, size: int) -> bytes:
        while True:
            try:
                return self._tls.read(size)
            except ssl.SSLWantReadError:
                self._fill()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""

    def recv_into(self, buffer: memoryview) -> int:
        data = self.recv(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def send(self, data: bytes) -> int:
        taken = 0
        while taken < len(data) and self.drain():
            taken += self._tls.write(memoryview(data)[taken : taken + 16384])
        if not taken:
            raise BlockingIOError
        return taken

    def sendmsg(self, buffers) -> int:
        return self.send(b"".join(buffers))

    def drain(self) -> bool:
        self._waiting += self._out.read()
        while self._waiting:
            try:
                self._waiting = self._waiting[self._sock.send(self._waiting) :]
            except BlockingIOError:
                return False
        return True

    def shutdown(self, how: int) -> None:
        try:
            self._tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        self.drain()
        self._sock.shutdown(how)


def secure_wire(reactor: Reactor, sock: socket.socket, **options) -> Recorder:
    recorder = Recorder()
    recorder.wire = Wire(reactor, sock, recorder, secure=MemoryTls(sock, server_side=True), **options)
    recorder.wire.start(handshake_timeout_s=5)
    return recorder


def client(stream: trio.SocketStream) -> trio.SSLStream:
    return trio.SSLStream(stream, context(ssl.PROTOCOL_TLS_CLIENT), https_compatible=True)


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
        mine = MemoryTls(far.socket._sock, server_side=False)
        far.socket._sock.setblocking(False)
        mine._tls_client_hello_sent = False
        while True:
            try:
                mine._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await far.send_all(mine._out.read())
                mine._in.write(await far.receive_some())
        mine._tls.write(b"at once")
        await far.send_all(mine._out.read())
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
        assert isinstance(above.wire.error, ssl.SSLError)
        await far.aclose()

    run_reactor(story)


def test_a_silent_client_does_not_hold_a_handshake_open() -> None:
    async def story(reactor: Reactor) -> None:
        near, far = tcp_pair()
        recorder = Recorder()
        recorder.wire = Wire(reactor, near, recorder, secure=MemoryTls(near, server_side=True))
        recorder.wire.start(handshake_timeout_s=0.02)
        await recorder.until(lambda r: r.closed)
        assert recorder.closed is CloseReason.CONNECT_TIMEOUT
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
