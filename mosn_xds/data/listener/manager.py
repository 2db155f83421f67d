"""All listeners of a worker: their sockets, their updates, their drains.

Sockets belong to an address, not to a Listener object: an update goes on accepting on those that it keeps, without a
gap, and so does a listener of another name on those of one that goes. An update that changes chains only keeps the
connections of equal chains; any other drains all of them. Draining never cuts a request: when the drain time is over
idle connections close, and the others when they have done what they are doing.
"""

import contextlib
import os
import socket
from collections import Counter
from typing import Any

from mosn_xds.base.sockets import listen_backlog
from mosn_xds.data.listener.chain import Chain
from mosn_xds.data.listener.listener import Listener
from mosn_xds.data.listener.stats import InspectorStats
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

    __slots__ = ("_acceptor", "_address", "_any", "_family", "_place", "_sock", "inode")

    def __init__(self, place: _Place, reactor: Reactor, fd: int) -> None:
        self._place = place
        self._sock = socket.socket(fileno=fd)
        self._sock.setblocking(False)
        self.inode = os.fstat(fd).st_ino
        """The socket itself, whichever of its descriptors this is."""
        self._family = self._sock.family
        self._address = address_of(self._sock.getsockname())
        self._any = self._address.host in ("0.0.0.0", "::")
        self._acceptor: Acceptor | None = Acceptor(reactor, self._sock, self._on_accept)

    def open(self, listener: spec.Listener) -> None:
        """Accept from now on, as `listener` says; also while it does already."""
        if self._acceptor is not None:
            # A socket joins its group by listening, not by being bound: no client waits for a worker that serves not yet.
            self._sock.listen(listen_backlog(listener.tcp_backlog))
            self._acceptor.limit(listener.max_accepts_per_event)
            self._acceptor.start()

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
        self.inspectors = InspectorStats(context.stats)
        self._context = context
        self._places: dict[str, _Place] = {}
        self._staged: dict[str, Listener] = {}
        self._new_fds: dict[str, tuple[bytes, list[int]]] = {}
        self._by_destination: dict[tuple[str, int], Listener] = {}
        self._by_port: dict[int, Listener] = {}
        self._doors: Counter[int] = Counter()
        """How many accept from each socket, by inode: more than one while a listener takes over another's address."""
        self._draining: dict[Chain, str] = {}
        self._leaving: set[Listener] = set()
        """Those that are gone from the configuration while connections are being inspected."""
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
            if fresh is not None and fresh[0] != listener.spec.socket_uid:
                _close_all(fresh[1])  # they were for a version that could not be built
                fresh = None
            if fresh is not None:
                self._replace_sockets(place, *fresh)
            else:
                for door in place.doors:
                    door.open(listener.spec)
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
        listener = place.current
        if listener is not None:
            self._leaving.add(listener)
            listener.leave(self._new_drain(), lambda: self._left(listener))
        self._index()

    def _left(self, listener: Listener) -> None:
        self._leaving.discard(listener)
        self._drain(listener, {})

    def _replace_sockets(self, place: _Place, socket_uid: bytes, fds: list[int]) -> None:
        old, changed = {door.inode: door for door in place.doors}, socket_uid != place.socket_uid
        place.socket_uid = socket_uid
        place.doors = []
        if self._accepting and place.current is not None:
            for fd in fds:
                place.doors.append(self._open(place, place.current, fd, old))
        else:
            _close_all(fds)
        self._close_doors(list(old.values()), for_good=changed)

    def _open(self, place: _Place, listener: Listener, fd: int, known: dict[int, _Door]) -> _Door:
        """A door on this socket: one of `known`, which is taken out, where it is the same socket."""
        made = _Door(place, self._context.reactor, fd)
        door = known.pop(made.inode, None)
        if door is None:
            door = made
            self._doors[door.inode] += 1
        else:
            made.close()
        door.open(listener.spec)
        return door

    def _shut_sockets(self, place: _Place) -> None:
        doors, place.doors = place.doors, []
        self._close_doors(doors, for_good=True)

    def _close_doors(self, doors: list[_Door], *, for_good: bool) -> None:
        for door in doors:
            self._doors[door.inode] -= 1
            if self._doors[door.inode]:  # another listener accepts from the same socket, and from its queue
                door.close()
                continue
            del self._doors[door.inode]
            if for_good:
                door.shut()
            else:
                door.close()

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
        left = listener.drain_chains(kept, self._new_drain())
        for chain in left:
            self._draining[chain] = listener.name
        if left:
            drain_time_s = self._context.settings.drain_time_s
            self._context.reactor.timers.arm(drain_time_s, lambda: self._end_drain(left))
        listener.supersede()

    def _new_drain(self) -> Drain:
        settings = self._context.settings
        return Drain(self._context.reactor.clock.now, settings.drain_time_s, settings.drain_strategy)

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
        drain = self._new_drain()
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
            self._close_doors(doors, for_good=False)

    @property
    def active(self) -> int:
        """Connections on which something is going on."""
        serving = sum(place.current.active for place in self._places.values() if place.current is not None)
        leaving = sum(listener.active for listener in self._leaving)
        return serving + leaving + sum(chain.active for chain in self._draining)

    def close(self) -> None:
        self.stop_accepting()
        for place in self._places.values():
            if place.current is not None:
                place.current.close()
        for listener in list(self._leaving):
            listener.close()
        for _, fds in self._new_fds.values():
            _close_all(fds)
        self._new_fds.clear()


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
