"""Sockets that the agent holds for listeners, across their versions."""

import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from mosn_xds.base.errors import ConfigError
from mosn_xds.process.sockets import ListenerSockets, socket_key
from mosn_xds.spec.common import Address, SocketOption
from mosn_xds.spec.listener import Listener
from tests.support.ports import PortAllocator

PORTS = PortAllocator()
USER_TIMEOUT = SocketOption(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 4321)


@pytest.fixture
def sockets() -> Iterator[ListenerSockets]:
    made = ListenerSockets(2)
    yield made
    made.close()


def listener(*ports: int, name: str = "l", uid: bytes = b"1", host: str = "127.0.0.1") -> Listener:
    return Listener(name, tuple(Address(host, port) for port in ports), socket_uid=uid)


def user_timeouts(sockets: ListenerSockets, of: Listener) -> set[int]:
    key = socket_key(of)
    assert key is not None
    found = set()
    for fd in sockets.descriptors(key, (0, 1)):
        with socket.socket(fileno=socket.dup(fd)) as sock:
            found.add(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT))
    return found


def descriptors(sockets: ListenerSockets, of: Listener) -> list[int]:
    key = socket_key(of)
    assert key is not None
    return sockets.descriptors(key, (0,))


def is_bound(port: int) -> bool:
    with socket.socket() as sock:
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def apply(sockets: ListenerSockets, what: Listener) -> None:
    sockets.bind(what)
    key = socket_key(what)
    assert key is not None
    sockets.apply(key)


@pytest.mark.parametrize("reuse_port", [True, False])
def test_changed_options_come_to_the_sockets_that_are_there_when_they_are_to_serve(
    sockets: ListenerSockets, reuse_port: bool
) -> None:
    old = msgspec.structs.replace(listener(PORTS.take()), reuse_port=reuse_port)
    new = msgspec.structs.replace(old, socket_options=(USER_TIMEOUT,), socket_uid=b"2")
    apply(sockets, old)
    sockets.bind(new)
    assert descriptors(sockets, new) == descriptors(sockets, old)
    assert user_timeouts(sockets, new) == {0}  # the old one serves still
    apply(sockets, new)
    assert user_timeouts(sockets, new) == {4321}
    apply(sockets, old)
    assert user_timeouts(sockets, old) == {0}


def test_options_of_a_unix_listener_change_as_well(sockets: ListenerSockets, tmp_path: Path) -> None:
    option = SocketOption(socket.SOL_SOCKET, socket.SO_RCVBUF, 50_000)
    old = Listener("l", (Address(str(tmp_path / "s")),), socket_uid=b"1")
    new = msgspec.structs.replace(old, socket_options=(option,), socket_uid=b"2")
    apply(sockets, old)
    apply(sockets, new)
    with socket.socket(fileno=socket.dup(descriptors(sockets, new)[0])) as sock:
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 100_000


def test_an_update_keeps_the_sockets_of_each_address_that_it_keeps(sockets: ListenerSockets) -> None:
    first, second, third = (PORTS.take() for _ in range(3))
    old, new = listener(first, second), listener(second, third, uid=b"2")
    sockets.bind(old)
    sockets.bind(new)
    assert descriptors(sockets, new)[0] == descriptors(sockets, old)[1]
    sockets.keep_only([("l", b"2")])
    assert [is_bound(port) for port in (first, second, third)] == [False, True, True]


def test_a_listener_takes_over_the_sockets_of_one_that_goes(sockets: ListenerSockets) -> None:
    port = PORTS.take()
    old, new = listener(port), listener(port, name="m")
    sockets.bind(old)
    sockets.bind(new)
    before = descriptors(sockets, old)
    sockets.keep_only([("m", b"1")])
    assert descriptors(sockets, new) == before


def test_listeners_whose_port_the_kernel_chooses_share_nothing(sockets: ListenerSockets) -> None:
    one, other = listener(0), listener(0, 0, name="m")
    sockets.bind(one)
    sockets.bind(other)
    ports = {address.port for name in "lm" for address in sockets.bound_addresses((name, b"1"))}
    assert len(ports) == 3


def test_reuse_port_cannot_be_changed_as_in_envoy(sockets: ListenerSockets) -> None:
    old = listener(PORTS.take())
    sockets.bind(old)
    new = msgspec.structs.replace(old, reuse_port=False, socket_uid=b"2")
    with pytest.raises(ConfigError, match="Listener l: reuse port cannot be changed during an update"):
        sockets.bind(new)
    assert ("l", b"2") not in sockets


def test_what_a_bound_socket_cannot_become_is_refused(sockets: ListenerSockets) -> None:
    old = listener(PORTS.take())
    sockets.bind(old)
    option = SocketOption(socket.SOL_SOCKET, 0x7FFF, 1)
    new = msgspec.structs.replace(old, socket_options=(option,), socket_uid=b"2")
    with pytest.raises(ConfigError, match="Protocol not available"):
        sockets.bind(new)
