"""Connecting: success, refusal, silence, unix sockets, source addresses, and a lack of descriptors."""

import errno
import os
import socket

import pytest
import trio
import trio.testing

from mosn_xds.base.sockets import Keepalive
from mosn_xds.data.net.consumer import CloseReason
from mosn_xds.data.net.dial import DialOptions, dial
from mosn_xds.data.net.reactor import Reactor
from mosn_xds.spec.common import Address
from tests.support.wires import Recorder, no_descriptors, run_reactor


def connect(reactor: Reactor, host: str, port: int = 0, **options) -> Recorder:
    recorder = Recorder()
    recorder.wire = dial(reactor, Address(host, port), recorder, DialOptions(**options))
    assert recorder.events == []
    return recorder


def listening(host: str = "127.0.0.1", *, backlog: int = 8) -> socket.socket:
    sock = socket.socket()
    sock.bind((host, 0))
    sock.listen(backlog)
    return sock


def test_what_is_written_before_the_connection_is_sent_after_it() -> None:
    async def story(reactor: Reactor) -> None:
        with listening() as server:
            above = connect(reactor, *server.getsockname(), timeout_s=5)
            above.wire.write(b"hello")
            above.wire.shutdown_write()
            await above.until("connected")
            peer, _ = server.accept()
            with peer:
                await trio.lowlevel.wait_readable(peer)
                assert peer.recv(10) == b"hello"
                peer.send(b"hi")
            await above.until("eof")
        assert above.data == b"hi"
        assert above.events[0] == "connected"
        assert above.closed is CloseReason.FINISHED

    run_reactor(story)


def test_a_refused_connection_says_so() -> None:
    async def story(reactor: Reactor) -> None:
        with listening() as server:
            address = server.getsockname()
        above = connect(reactor, *address, timeout_s=5)
        await above.until(lambda r: r.closed)
        assert above.events == [CloseReason.CONNECT_FAILED]
        assert above.wire.error.errno == errno.ECONNREFUSED
        assert len(reactor.timers) == 0

    run_reactor(story)


def test_a_silent_peer_is_given_up_in_time() -> None:
    async def story(reactor: Reactor) -> None:
        with listening(backlog=0) as server:
            fillers = []
            for _ in range(4):  # a full queue makes the kernel ignore further attempts
                filler = socket.socket()
                filler.setblocking(False)
                filler.connect_ex(server.getsockname())
                fillers.append(filler)
            started = trio.current_time()
            above = connect(reactor, *server.getsockname(), timeout_s=0.05)
            await above.until(lambda r: r.closed)
            assert above.events == [CloseReason.CONNECT_TIMEOUT]
            assert 0.045 <= trio.current_time() - started < 2
            for filler in fillers:
                filler.close()

    run_reactor(story)


def test_a_connection_attempt_can_be_called_off() -> None:
    async def story(reactor: Reactor) -> None:
        with listening() as server:
            above = connect(reactor, *server.getsockname(), timeout_s=5)
            above.wire.close()
            await above.until(lambda r: r.closed)
            assert above.events == [CloseReason.LOCAL]
            assert len(reactor.timers) == 0

    run_reactor(story)


def test_an_unreachable_address_fails_after_dial_returned() -> None:
    async def story(reactor: Reactor) -> None:
        above = connect(reactor, "255.255.255.255", 9)
        await above.until(lambda r: r.closed)
        assert above.closed is CloseReason.CONNECT_FAILED
        assert above.wire.error.errno in (errno.ENETUNREACH, errno.EACCES)

    run_reactor(story)


@pytest.mark.parametrize("abstract", [False, True])
def test_unix_sockets(abstract: bool, tmp_path) -> None:
    async def story(reactor: Reactor) -> None:
        name = f"@mosn-xds-dial-{os.getpid()}" if abstract else str(tmp_path / "up.sock")
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(b"\0" + name[1:].encode() if abstract else name)
            server.listen()
            above = connect(reactor, name, timeout_s=5)
            above.wire.write(b"x")
            await above.until("connected")
            peer, _ = server.accept()
            with peer:
                await trio.lowlevel.wait_readable(peer)
                assert peer.recv(1) == b"x"
            assert str(above.wire.remote_address) == name
            above.wire.close()
            await above.until(lambda r: r.closed)

    run_reactor(story)


def test_a_missing_unix_socket_is_a_failed_connect(tmp_path) -> None:
    async def story(reactor: Reactor) -> None:
        above = connect(reactor, str(tmp_path / "none"))
        await above.until(lambda r: r.closed)
        assert above.closed is CloseReason.CONNECT_FAILED
        assert above.wire.error.errno == errno.ENOENT

    run_reactor(story)


def test_options_of_a_connection() -> None:
    async def story(reactor: Reactor) -> None:
        with listening() as server:
            above = connect(
                reactor, *server.getsockname(), source=Address("127.0.0.7"), keepalive=Keepalive(probes=4, time_s=90)
            )
            await above.until("connected")
            peer, address = server.accept()
            peer.close()
            assert address[0] == "127.0.0.7"
            assert above.wire.local_address == Address(*address)
            with socket.socket(fileno=os.dup(above.wire._sock.fileno())) as sock:
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 4
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 90

    run_reactor(story)


def test_a_source_address_that_is_not_ours_is_a_failed_connect() -> None:
    async def story(reactor: Reactor) -> None:
        with listening() as server:
            above = connect(reactor, *server.getsockname(), source=Address("192.0.2.1"))
            await above.until(lambda r: r.closed)
            assert above.closed is CloseReason.CONNECT_FAILED
            assert above.wire.error.errno == errno.EADDRNOTAVAIL

    run_reactor(story)


def test_without_descriptors_a_connect_fails_and_the_reactor_goes_on() -> None:
    async def story(reactor: Reactor) -> None:
        with listening() as server:
            with no_descriptors():
                above = connect(reactor, *server.getsockname())
            await above.until(lambda r: r.closed)
            assert above.closed is CloseReason.CONNECT_FAILED
            assert above.wire.error.errno == errno.EMFILE
            later = connect(reactor, *server.getsockname())
            await later.until("connected")

    assert run_reactor(story).failures == 0
