"""Accepting from real listening sockets."""

import socket
from collections import Counter
from collections.abc import Callable

import pytest
import trio
import trio.testing

from mosn_xds.base.sockets import bind_sockets
from mosn_xds.data.net.acceptor import Acceptor
from mosn_xds.data.net.reactor import Reactor
from tests.support.wires import no_descriptors, run_reactor


def listening(count: int = 1) -> list[socket.socket]:
    sockets = bind_sockets("127.0.0.1", 0, count)
    for sock in sockets:
        sock.listen(256)
    return sockets


class Guests:
    """Counts what is accepted."""

    def __init__(self) -> None:
        self.came: list[tuple[socket.socket, object]] = []
        self._changed = trio.Event()

    def on_accept(self, fd: int, peer: object) -> None:
        self.came.append((socket.socket(fileno=fd), peer))
        self._changed.set()
        self._changed = trio.Event()

    async def until(self, count: int) -> None:
        while len(self.came) < count:
            await self._changed.wait()


async def reached(state: Callable[[], bool]) -> None:
    while not state():
        await trio.testing.wait_all_tasks_blocked(0.01)


def knock(sock: socket.socket, times: int = 1) -> list[socket.socket]:
    return [socket.create_connection(sock.getsockname()) for _ in range(times)]


def test_connections_come_non_blocking_with_their_peers_address() -> None:
    async def story(reactor: Reactor) -> None:
        (sock,), guests = listening(), Guests()
        Acceptor(reactor, sock, guests.on_accept).start()
        (client,) = knock(sock)
        await guests.until(1)
        accepted, peer = guests.came[0]
        assert peer == client.getsockname()
        with pytest.raises(BlockingIOError):
            accepted.recv(1)
        assert not accepted.get_inheritable()

    run_reactor(story)


def test_a_burst_beyond_one_share_is_accepted_whole() -> None:
    async def story(reactor: Reactor) -> None:
        (sock,), guests = listening(), Guests()
        clients = knock(sock, 100)
        acceptor = Acceptor(reactor, sock, guests.on_accept)
        acceptor.limit(3)
        acceptor.start()
        await guests.until(100)
        assert len(clients) == 100

    run_reactor(story)


def test_stopped_it_leaves_connections_in_the_queue_for_the_next_one() -> None:
    async def story(reactor: Reactor) -> None:
        (sock,), guests, heirs = listening(), Guests(), Guests()
        acceptor = Acceptor(reactor, sock, guests.on_accept)
        acceptor.start()
        clients = knock(sock)
        await guests.until(1)
        acceptor.stop()
        clients += knock(sock, 3)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert len(guests.came) == 1
        Acceptor(reactor, sock, heirs.on_accept).start()
        await heirs.until(3)

    run_reactor(story)


def test_it_can_stop_while_it_accepts() -> None:
    async def story(reactor: Reactor) -> None:
        (sock,), guests = listening(), Guests()

        def last_guest(fd: int, peer: object) -> None:
            guests.on_accept(fd, peer)
            acceptor.stop()

        acceptor = Acceptor(reactor, sock, last_guest)
        clients = knock(sock, 3)
        acceptor.start()
        await guests.until(1)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert len(guests.came) == 1
        acceptor.start()
        await guests.until(2)
        del clients

    run_reactor(story)


def test_without_descriptors_it_pauses_counts_and_goes_on() -> None:
    async def story(reactor: Reactor) -> None:
        (sock,), guests = listening(), Guests()
        acceptor = Acceptor(reactor, sock, guests.on_accept)
        clients = knock(sock, 2)
        acceptor.start()
        with no_descriptors():
            await reached(lambda: acceptor.pauses == 2)
        assert guests.came == []
        await guests.until(2)
        del clients

    assert run_reactor(story).failures == 0


def test_stopping_during_a_pause() -> None:
    async def story(reactor: Reactor) -> None:
        (sock,), guests = listening(), Guests()
        acceptor = Acceptor(reactor, sock, guests.on_accept)
        clients = knock(sock)
        with no_descriptors():
            acceptor.start()
            await trio.testing.wait_all_tasks_blocked(0.01)
        assert acceptor.pauses == 1
        acceptor.stop()
        assert len(reactor.timers) == 0
        acceptor.start()
        await guests.until(1)
        del clients

    run_reactor(story)


def test_two_acceptors_share_the_connections_of_one_group() -> None:
    async def story(reactor: Reactor) -> None:
        sockets, guests = listening(2), Guests()
        shares: Counter[int] = Counter()
        for n, sock in enumerate(sockets):

            def count(fd: int, peer: object, n: int = n) -> None:
                shares[n] += 1
                guests.on_accept(fd, peer)

            Acceptor(reactor, sock, count).start()
        clients = knock(sockets[0], 40)
        await guests.until(40)
        assert len(shares) == 2
        del clients

    run_reactor(story)


def test_a_socket_that_no_longer_listens_ends_accepting_instead_of_spinning() -> None:
    async def story(reactor: Reactor) -> None:
        (sock,), guests = listening(), Guests()
        acceptor = Acceptor(reactor, sock, guests.on_accept)
        acceptor.start()
        await trio.testing.wait_all_tasks_blocked(0.001)
        sock.shutdown(socket.SHUT_RDWR)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert "stopped" in repr(acceptor)

    run_reactor(story)


def test_a_failing_owner_loses_one_connection_and_no_more() -> None:
    async def story(reactor: Reactor) -> None:
        (sock,), guests = listening(), Guests()

        def fail_first(fd: int, peer: object) -> None:
            guests.on_accept(fd, peer)
            if len(guests.came) == 1:
                raise ValueError("no chain")

        Acceptor(reactor, sock, fail_first).start()
        clients = knock(sock, 3)
        await guests.until(3)
        assert reactor.failures == 1
        del clients

    run_reactor(story)
