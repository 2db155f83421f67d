"""The sockets of all listeners, held by the agent so that they outlive workers.

Every listener's address has a socket for each worker (see `mosn_xds.base.sockets`); workers get duplicates. A worker that
dies leaves its socket listening, with the connections that wait in its queue: a sibling is given that socket as well and
accepts them, and closing a duplicate loses nothing as long as the agent holds the socket. (Measured: taking the socket
out of its group with `shutdown` resets what waits in its queue, 16 connections of 16; handed to a sibling, none is lost.)
Only while no worker is left at all, and the next is not due soon, are sockets shut down: clients are refused, and do not
wait.
"""

import contextlib
import socket
from collections.abc import Collection, Sequence

from mosn_xds.base.errors import ConfigError
from mosn_xds.base.sockets import BindError, Keepalive, ListenOptions, bind_sockets, is_unix
from mosn_xds.spec.common import Address
from mosn_xds.spec.listener import Listener

SocketKey = tuple[str, bytes]
"""A listener's name and `socket_uid`."""


def socket_key(listener: Listener) -> SocketKey | None:
    """None for a listener that binds nothing."""
    return (listener.name, listener.socket_uid) if listener.bind_to_port else None


class ListenerSockets:
    """See the module. Knows nothing of what the listeners do."""

    def __init__(self, concurrency: int) -> None:
        self._concurrency = concurrency
        self._held: dict[SocketKey, list[list[socket.socket]]] = {}
        """For each address its sockets: one, or one per worker."""
        self._addresses: dict[SocketKey, tuple[Address, ...]] = {}

    def __repr__(self) -> str:
        return f"<ListenerSockets of {len(self._held)} listeners>"

    def __contains__(self, key: SocketKey) -> bool:
        return key in self._held

    def bind(self, listener: Listener) -> None:
        """Hold the listener's sockets; does nothing when they are held, or when it binds none.

        Raises ConfigError with Envoy's text (``cannot bind '0.0.0.0:80': Address already in use``); nothing is held then.
        """
        key = socket_key(listener)
        if key is None or key in self._held:
            return
        # By port: a guard could not stand beside our own 0.0.0.0:80 either when 127.0.0.1:80 is to be bound.
        taken = {address.port for addresses in self._addresses.values() for address in addresses if address.port}
        options = _options(listener)
        made: list[list[socket.socket]] = []
        try:
            for address in listener.addresses:
                joining = address.port in taken
                made += [bind_sockets(address.host, address.port, self._concurrency, options, joining=joining)]
        except BindError as error:
            for group in made:
                _close(group)
            raise ConfigError(str(error), path="address") from error
        self._held[key] = made
        self._addresses[key] = listener.addresses

    def descriptors(self, key: SocketKey, slots: Sequence[int]) -> list[int]:
        """What a worker accepts from that serves for the workers `slots`: a round of all addresses for each of them.

        A socket that all workers share is there once. Raises KeyError.
        """
        rounds = []
        groups = self._held[key]
        for turn, slot in enumerate(slots):
            if turn and all(len(group) == 1 for group in groups):
                break
            rounds += [group[slot if len(group) > 1 else 0].fileno() for group in groups]
        return rounds

    def bound_addresses(self, key: SocketKey) -> list[Address]:
        """The addresses that the kernel gave, where the configured port is 0; the configured ones otherwise."""
        found = []
        for configured, group in zip(self._addresses[key], self._held[key], strict=True):
            if is_unix(configured.host):
                found.append(configured)
            else:
                host, port = group[0].getsockname()[:2]
                found.append(Address(host, port))
        return found

    def bound(self) -> list[SocketKey]:
        """Whose sockets are held."""
        return list(self._held)

    def keep_only(self, keys: Collection[SocketKey]) -> None:
        """Let go of the sockets of all other listeners."""
        for key in [key for key in self._held if key not in keys]:
            for group in self._held.pop(key):
                _close(group)
            del self._addresses[key]

    def refuse_connections(self) -> None:
        """Nobody is there to accept: let clients be refused. A worker that listens on a socket again ends that."""
        for groups in self._held.values():
            for sock in (sock for group in groups for sock in group):
                if sock.family != socket.AF_UNIX:  # a unix socket cannot listen again
                    with contextlib.suppress(OSError):  # it was not listening
                        sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.keep_only(())


def _options(listener: Listener) -> ListenOptions:
    keepalive = listener.keepalive
    return ListenOptions(
        reuse_port=listener.reuse_port,
        transparent=listener.transparent,
        freebind=listener.freebind,
        ipv4_compat=listener.ipv4_compat,
        keepalive=Keepalive(keepalive.probes, keepalive.time_s, keepalive.interval_s) if keepalive else None,
        options=tuple((option.level, option.name, option.value) for option in listener.socket_options),
    )


def _close(socks: Sequence[socket.socket]) -> None:
    for sock in socks:
        sock.close()
