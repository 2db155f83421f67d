"""Accepting: one listening socket on the reactor, its connections handed on as descriptors.

The socket is watched level-triggered and exclusively. Workers that share one socket are then not all woken for each
connection, and a worker that takes only its share of a batch is told again, so that accepting never starves the
connections that exist. Without descriptors (EMFILE and its kin) a waiting connection would wake us for ever: accepting
pauses for 100 ms and the pause is counted.

The listening socket is made, and owned, elsewhere: stopping leaves it as it is, and connections may go on arriving in its
queue.
"""

import errno
import logging
import os
import socket
from collections.abc import Callable
from select import EPOLLEXCLUSIVE, EPOLLIN
from typing import Any

from mosn_xds.data.net.reactor import Reactor
from mosn_xds.data.net.timers import Timer

_ACCEPTS_PER_EVENT = 16
_WHOLE_QUEUE = 1 << 16
"""More than a queue holds, and an end should connections arrive faster than they are taken."""
_PAUSE_S = 0.1
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_GONE = frozenset(
    {errno.ECONNABORTED, errno.EPERM, errno.EPROTO, errno.ENOPROTOOPT, errno.ENETDOWN, errno.ENETUNREACH, errno.ENONET}
    | {errno.EHOSTDOWN, errno.EHOSTUNREACH}
)
"""What accept(2) says of a connection that has ended in the queue, or that the firewall forbids."""

_log = logging.getLogger("mosn_xds.listener")


class Acceptor:
    """Accepts from `sock`, which listens, and gives each non-blocking descriptor with its peer's socket address to
    `on_accept`, which owns it from then on.

    `pauses` counts the times that descriptors or memory ran out.
    """

    __slots__ = ("_limit", "_on_accept", "_reactor", "_resume", "_running", "_sock", "pauses")

    def __init__(
        self,
        reactor: Reactor,
        sock: socket.socket,
        on_accept: Callable[[int, Any], None],
    ) -> None:
        self._reactor = reactor
        self._sock = sock
        self._on_accept = on_accept
        self._limit = _ACCEPTS_PER_EVENT
        self._running = False
        self._resume: Timer | None = None
        self.pauses = 0

    def limit(self, max_per_event: int | None) -> None:
        """Accept so many connections at once, then look at those that exist."""
        self._limit = max_per_event or _ACCEPTS_PER_EVENT

    def start(self) -> None:
        if not self._running:
            self._running = True
            self._watch()

    def stop(self) -> None:
        """Accept no more."""
        if self._running:
            self._running = False
            if self._resume is None:
                self._reactor.unregister(self._sock.fileno())
            else:
                self._resume.cancel()
                self._resume = None

    def on_ready(self, events: int) -> None:
        """For the reactor."""
        self._accept(self._limit)

    def _accept(self, limit: int) -> None:
        accept = self._sock._accept  # type: ignore[attr-defined]  # a third of the price: it makes no socket object
        for _ in range(limit):
            if not self._running or self._resume is not None:
                return
            try:
                fd, peer = accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._pause(error)
                    return
                if error.errno in _GONE:
                    continue
                _log.error("%r accepts no more: %s", self, error.strerror)
                self.stop()
                return
            os.set_blocking(fd, False)
            self._on_accept(fd, peer)

    def empty(self) -> None:
        """Take all that waits now, before the socket goes."""
        if self._running and self._resume is None:
            self._accept(_WHOLE_QUEUE)

    def on_failure(self, error: Exception) -> None:
        """For the reactor: `on_accept` failed with one connection. Accepting goes on."""

    def _watch(self) -> None:
        self._reactor.register(self._sock.fileno(), self, EPOLLIN | EPOLLEXCLUSIVE)

    def _pause(self, error: OSError) -> None:
        self.pauses += 1
        _log.warning("%r pauses for %d ms: %s", self, _PAUSE_S * 1000, error.strerror)
        self._reactor.unregister(self._sock.fileno())
        self._resume = self._reactor.timers.arm(_PAUSE_S, self._on_pause_over)

    def _on_pause_over(self) -> None:
        self._resume = None
        self._watch()

    def __repr__(self) -> str:
        return f"<Acceptor {self._sock.getsockname()} {'accepting' if self._running else 'stopped'}>"
