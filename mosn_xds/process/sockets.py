"""The sockets of all listeners, held by the agent so that they outlive workers, and listeners.

An address has a socket for each worker (see `mosn_xds.base.sockets`); workers get duplicates. A worker that
dies leaves its socket listening, with the connections that wait in its queue: a sibling is given that socket as well and
accepts them, and closing a duplicate loses nothing as long as the agent holds the socket. (Measured: taking the socket
out of its group with `shutdown` resets what waits in its queue, 16 connections of 16; handed to a sibling, none is lost.)
Only while no worker is left at all, and the next is not due soon, are sockets shut down: clients are refused, and do not
wait.

For the same reason sockets belong to an address and not to a version of a listener. An update keeps them for every address
that it keeps, and changes their options where they are; a listener that takes over the address of one that goes takes
over its sockets, with whoever waits in their queues.
"""

import contextlib
import socket
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from mosn_xds.base.errors import ConfigError
from mosn_xds.base.sockets import (
    BindError,
    Keepalive,
    ListenOptions,
    address_text,
    bind_sockets,
    change_options,
    check_change,
    is_unix,
)
from mosn_xds.spec.common import Address
from mosn_xds.spec.listener import Listener

SocketKey = tuple[str, bytes]
"""A listener's name and `socket_uid`."""


def socket_key(listener: Listener) -> SocketKey | None:
    """None for a listener that binds nothing."""
    return (listener.name, listener.socket_uid) if listener.bind_to_port else None


class _Group:
    """The sockets of one address: one, or one per worker; and what they were made of, or are now."""

    __slots__ = ("options", "sockets")

    def __init__(self, sockets: list[socket.socket], options: ListenOptions) -> None:
        self.sockets = sockets
        self.options = options


_GroupKey = tuple[Address, bool, str]
"""An address, whether an IPv6 wildcard takes IPv4 as well, and whose it is where the kernel chooses the port."""


@dataclass(frozen=True, slots=True)
class _Held:
    """What one version of a listener listens on."""

    addresses: tuple[Address, ...]
    groups: tuple[_GroupKey, ...]
    options: ListenOptions


class ListenerSockets:
    """See the module. Knows nothing of what the listeners do."""

    def __init__(self, concurrency: int) -> None:
        self._concurrency = concurrency
        self._groups: dict[_GroupKey, _Group] = {}
        self._held: dict[SocketKey, _Held] = {}

    def __repr__(self) -> str:
        return f"<ListenerSockets of {len(self._held)} listeners>"

    def __contains__(self, key: SocketKey) -> bool:
        return key in self._held

    def bind(self, listener: Listener) -> None:
        """Hold the listener's sockets; does nothing when they are held, or when it binds none.

        Sockets that are there already get its options by `apply`. Raises ConfigError with Envoy's text
        (``cannot bind '0.0.0.0:80': Address already in use``); nothing is held then.
        """
        key = socket_key(listener)
        if key is None or key in self._held:
            return
        # By port: a guard could not stand beside our own 0.0.0.0:80 either when 127.0.0.1:80 is to be bound.
        taken = {address.port for address, _, _ in self._groups if address.port}
        options = _options(listener)
        groups = tuple(
            (
                address,
                options.ipv4_compat,
                "" if address.port or is_unix(address.host) else f"{listener.name} {position}",
            )
            for position, address in enumerate(listener.addresses)
        )
        made: dict[_GroupKey, _Group] = {}
        try:
            for group_key in groups:
                address = group_key[0]
                there = self._groups.get(group_key)
                if there is None:
                    joining = address.port in taken
                    bound = bind_sockets(address.host, address.port, self._concurrency, options, joining=joining)
                    made[group_key] = _Group(bound, options)
                elif there.options.reuse_port != options.reuse_port and not is_unix(address.host):
                    raise ConfigError(
                        f"Listener {listener.name}: reuse port cannot be changed during an update",
                        path="enable_reuse_port",
                    )
                else:
                    check_change(address.host, there.options, options)
        except (BindError, ConfigError) as error:
            for group in made.values():
                _close(group.sockets)
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(str(error), path="address") from error
        self._groups.update(made)
        self._held[key] = _Held(listener.addresses, groups, options)

    def apply(self, key: SocketKey) -> None:
        """This version of its listener is to serve: give its options to sockets that were there before it.

        Raises KeyError, and ConfigError for options that the kernel refuses.
        """
        held = self._held[key]
        for group_key in held.groups:
            group = self._groups[group_key]
            if group.options != held.options:
                try:
                    change_options(group.sockets, group.options, held.options)
                except OSError as error:
                    where = address_text(group_key[0].host, group_key[0].port)
                    raise ConfigError(f"cannot change the socket options of '{where}': {error.strerror}") from error
                group.options = held.options

    def descriptors(self, key: SocketKey, slots: Sequence[int]) -> list[int]:
        """What a worker accepts from that serves for the workers `slots`: a round of all addresses for each of them.

        A socket that all workers share is there once. Raises KeyError.
        """
        rounds = []
        groups = self._sockets(key)
        for turn, slot in enumerate(slots):
            if turn and all(len(group) == 1 for group in groups):
                break
            rounds += [group[slot if len(group) > 1 else 0].fileno() for group in groups]
        return rounds

    def bound_addresses(self, key: SocketKey) -> list[Address]:
        """The addresses that the kernel gave, where the configured port is 0; the configured ones otherwise."""
        found = []
        for configured, group in zip(self._held[key].addresses, self._sockets(key), strict=True):
            if is_unix(configured.host):
                found.append(configured)
            else:
                host, port = group[0].getsockname()[:2]
                found.append(Address(host, port))
        return found

    def _sockets(self, key: SocketKey) -> list[list[socket.socket]]:
        return [self._groups[group_key].sockets for group_key in self._held[key].groups]

    def bound(self) -> list[SocketKey]:
        """Whose sockets are held."""
        return list(self._held)

    def keep_only(self, keys: Collection[SocketKey]) -> None:
        """Let go of the sockets of all other listeners."""
        self._held = {key: held for key, held in self._held.items() if key in keys}
        used = {group for held in self._held.values() for group in held.groups}
        for group_key in [group_key for group_key in self._groups if group_key not in used]:
            _close(self._groups.pop(group_key).sockets)

    def refuse_connections(self) -> None:
        """Nobody is there to accept: let clients be refused. A worker that listens on a socket again ends that."""
        for group in self._groups.values():
            for sock in group.sockets:
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
