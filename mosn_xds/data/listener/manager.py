"""All listeners of a worker: their sockets, their updates, their drains.

Sockets belong to a name, not to a Listener object: an update that does not change what a socket is made of goes on
accepting on the same ones, without a gap. An update that changes chains only keeps the connections of equal chains; any
other drains all of them. Draining never cuts a request: when the drain time is over idle connections close, and the
others when they have done what they are doing.
"""

import contextlib
import os
import socket
from typing import Any

from mosn_xds.base.sockets import listen_backlog
from mosn_xds.data.listener.chain import Chain
from mosn_xds.data.listener.listener import Listener
from mosn_xds.data.net.acceptor import Acceptor
from mosn_xds.data.net.address import address_of
from mosn_xds.data.net.reactor import Reactor
from mosn_xds.data.proxy.context import WorkerContext
from mosn_xds.data.proxy.downstream import Drain
from mosn_xds.spec import listener as spec
from mosn_xds.spec.common import Address


class _Place:
    """What stands under one listener name: sockets, and whoever serves now."""

    __slots__ = ("current", "doors", "socket_uid")

    def __init__(self) -> None:
        self.current: Listener | None = None
        self.doors: list[_Door] = []
        self.socket_uid = b""


class _Door:
    """One listening socket of a place."""

    __slots__ = ("_acceptor", "_address", "_any", "_family", "_place", "_sock")

    def __init__(self, place: _Place, reactor: Reactor, fd: int, listener: spec.Listener) -> None:
        self._place = place
        self._sock = socket.socket(fileno=fd)
        self._sock.setblocking(False)
        # A socket joins its group by listening, not by being bound: no client waits for a worker that does not serve yet.
        self._sock.listen(listen_backlog(listener.tcp_backlog))
        self._family = self._sock.family
        self._address = address_of(self._sock.getsockname())
        self._any = self._address.host in ("0.0.0.0", "::")
        acceptor = Acceptor(reactor, self._sock, self._on_accept, max_per_event=listener.max_accepts_per_event)
        self._acceptor: Acceptor | None = acceptor
        acceptor.start()

    def _on_accept(self, fd: int, peer: Any) -> None:
        sock = socket.socket(self._family, socket.SOCK_STREAM, 0, fd)
        if self._family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        current = self._place.current
        if current is None:
            sock.close()
            return
        local = address_of(sock.getsockname()) if self._any else self._address
        current.accept(sock, address_of(peer), local)

    def close(self) -> None:
        """Accept no more here; who else holds the socket goes on."""
        acceptor, self._acceptor = self._acceptor, None
        if acceptor is not None:
            acceptor.stop()
        self._sock.close()

    def shut(self) -> None:
        """Nobody is to accept here any more: take what waits in the queue, then end the socket, whoever holds it.

        Closing would not do: the agent's descriptor would keep the socket in its group, collecting connections for nobody.
        What arrives between the last accept and the shutdown, some microseconds, is reset (but where the kernel's
        `tcp_migrate_req` hands it to a sibling).
        """
        if self._acceptor is not None:
            self._acceptor.empty()
        with contextlib.suppress(OSError):  # it never listened, or another worker was faster
            self._sock.shutdown(socket.SHUT_RDWR)
        self.close()


class ListenerManager:
    """See the module's text."""

    def __init__(self, context: WorkerContext) -> None:
        self._context = context
        self._places: dict[str, _Place] = {}
        self._staged: dict[str, Listener] = {}
        self._new_fds: dict[str, tuple[bytes, list[int]]] = {}
        self._by_destination: dict[tuple[str, int], Listener] = {}
        self._by_port: dict[int, Listener] = {}
        self._draining: dict[Chain, str] = {}
        self._connection_id = 0
        self._accepting = True

    def __repr__(self) -> str:
        return f"<ListenerManager {len(self._places)} listeners, {len(self._draining)} chains draining>"

    def next_connection_id(self) -> int:
        self._connection_id += 1
        return self._connection_id

    # Updates.

    def give_sockets(self, name: str, socket_uid: bytes, fds: list[int]) -> None:
        """Sockets for a listener to be staged; owned from now on.

        For a listener that serves on this `socket_uid` already they replace its own at once: the agent lends and takes
        back the sockets of a sibling that is missing.
        """
        place = self._places.get(name)
        if place is not None and place.current is not None and place.socket_uid == socket_uid:
            self._replace_sockets(place, socket_uid, fds)
            return
        old = self._new_fds.pop(name, None)
        if old is not None:
            _close_all(old[1])
        self._new_fds[name] = (socket_uid, fds)

    def stage(self, listener: spec.Listener) -> None:
        """Build; serves from the next `publish` on. Raises ConfigError."""
        place = self._places.get(listener.name)
        previous = place.current if place is not None else None
        self._staged[listener.name] = Listener(listener, self._context, self, previous)

    def publish(self) -> None:
        """Swap in what was staged."""
        for name, listener in self._staged.items():
            place = self._places.get(name)
            if place is None:
                place = self._places[name] = _Place()
            previous, place.current = place.current, listener
            fresh = self._new_fds.pop(name, None)
            if fresh is not None:
                self._replace_sockets(place, *fresh)
            if previous is not None:
                self._drain(previous, listener.chains)
        if self._staged:
            self._staged.clear()
            self._index()

    def drop(self, name: str) -> None:
        """The listener is gone from the configuration."""
        place = self._places.pop(name, None)
        if place is None:
            return
        self._shut_sockets(place)
        if place.current is not None:
            self._drain(place.current, {})
            place.current.close()
        self._index()

    def _replace_sockets(self, place: _Place, socket_uid: bytes, fds: list[int]) -> None:
        old, changed = place.doors, socket_uid != place.socket_uid
        place.socket_uid = socket_uid
        place.doors = []
        if self._accepting and place.current is not None:
            place.doors = [_Door(place, self._context.reactor, fd, place.current.spec) for fd in fds]
        else:
            _close_all(fds)
        for door in old:
            if changed:
                door.shut()
            else:
                door.close()

    @staticmethod
    def _shut_sockets(place: _Place) -> None:
        doors, place.doors = place.doors, []
        for door in doors:
            door.shut()

    def _index(self) -> None:
        """Where `use_original_dst` looks: exact address, then the port on any address."""
        self._by_destination.clear()
        self._by_port.clear()
        for place in self._places.values():
            listener = place.current
            if listener is None:
                continue
            for address in listener.spec.addresses:
                if address.host in ("0.0.0.0", "::"):
                    self._by_port.setdefault(address.port, listener)
                else:
                    self._by_destination.setdefault((address.host, address.port), listener)

    def find_by_destination(self, destination: Address, asking: Listener) -> Listener | None:
        """The listener that a redirected connection belongs to; None if that is `asking` itself or nobody."""
        found = self._by_destination.get((destination.host, destination.port)) or self._by_port.get(destination.port)
        return None if found is asking else found

    def serving(self, name: str) -> Listener | None:
        """Who serves under this name now."""
        place = self._places.get(name)
        return place.current if place is not None else None

    # Draining.

    def _drain(self, listener: Listener, kept: dict[bytes, Chain]) -> None:
        settings = self._context.settings
        now = self._context.reactor.clock.now
        left = listener.drain_chains(kept, Drain(now, settings.drain_time_s, settings.drain_strategy))
        for chain in left:
            self._draining[chain] = listener.name
        if left:
            self._context.reactor.timers.arm(settings.drain_time_s, lambda: self._end_drain(left))
        listener.supersede()

    def _end_drain(self, chains: list[Chain]) -> None:
        for chain in chains:
            chain.end_drain()

    def draining(self) -> dict[str, int]:
        """Connections that drain, by listener name."""
        counts: dict[str, int] = {}
        for chain in [chain for chain in self._draining if not chain.connections]:
            del self._draining[chain]
        for chain, name in self._draining.items():
            counts[name] = counts.get(name, 0) + len(chain.connections)
        return counts

    def drain(self, *, inbound_only: bool, graceful: bool) -> None:
        """`/drain_listeners`."""
        settings = self._context.settings
        drain = Drain(self._context.reactor.clock.now, settings.drain_time_s, settings.drain_strategy)
        for place in self._places.values():
            listener = place.current
            if listener is None:
                continue
            if inbound_only and listener.spec.direction is not spec.TrafficDirection.INBOUND:
                continue
            for chain in listener.chains.values():
                chain.drain.own = drain
            if not graceful:
                self._shut_sockets(place)

    def stop_accepting(self) -> None:
        """Close all listening sockets."""
        self._accepting = False
        for place in self._places.values():
            doors, place.doors = place.doors, []
            for door in doors:
                door.close()

    @property
    def active(self) -> int:
        """Connections on which something is going on."""
        serving = sum(place.current.active for place in self._places.values() if place.current is not None)
        return serving + sum(chain.active for chain in self._draining)

    def close(self) -> None:
        self.stop_accepting()
        for place in self._places.values():
            if place.current is not None:
                place.current.close()
        for _, fds in self._new_fds.values():
            _close_all(fds)
        self._new_fds.clear()


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
