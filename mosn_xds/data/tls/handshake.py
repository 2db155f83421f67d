"""One TLS connection's beginning: it accompanies the handshake, counts how it went, and explains it if it failed."""

import logging
from collections.abc import Callable
from typing import Protocol

from mosn_xds.data.net.tls import TlsError
from mosn_xds.data.net.tls_facts import TlsFacts
from mosn_xds.data.tls.failures import Failure, explain, transport_error
from mosn_xds.data.tls.stats import SslStats
from mosn_xds.data.tls.verify import PeerVerdict

_log = logging.getLogger("mosn_xds.tls")

TIMED_OUT = "transport socket timeout was reached"


class FailureLog:
    """Failed handshakes in the worker's log: the first ones of each second, then how many more there were."""

    _PER_SECOND = 5

    def __init__(self, read_time: Callable[[], float]) -> None:
        self._read_time = read_time
        self._second = -1
        self._count = 0

    def note(self, where: str, text: str) -> None:
        second = int(self._read_time())
        if second != self._second:
            if self._count > self._PER_SECOND:
                _log.warning("%d more TLS failures", self._count - self._PER_SECOND)
            self._second, self._count = second, 0
        self._count += 1
        if self._count <= self._PER_SECOND:
            _log.warning("%s: %s", where, " ".join(text.splitlines()))  # names in a certificate may be anything


class HandshakeObserver(Protocol):
    """Who waits for the handshake of an accepted connection; told at most once."""

    def complete(self) -> None: ...

    def timed_out(self) -> None: ...


class Handshake:
    """The `HandshakeWatcher` of one connection; `where` names the listener or the cluster, `peer` the other side."""

    __slots__ = ("_log", "_observer", "_peer", "_stats", "_verdict", "_where", "facts")

    def __init__(
        self,
        facts: TlsFacts,
        verdict: PeerVerdict | None,
        stats: SslStats,
        log: FailureLog,
        where: str,
        peer: str,
        observer: HandshakeObserver | None = None,
    ) -> None:
        self.facts = facts
        self._verdict = verdict
        self._stats = stats
        self._log = log
        self._where = where
        self._peer = peer
        self._observer = observer

    def complete(self) -> None:
        facts = self.facts
        facts.complete = True
        facts.verified = self._verdict is not None and self._verdict.verified
        self._stats.count_handshake(facts, has_peer=self._verdict is not None and facts.peer is not None)
        observer, self._observer = self._observer, None
        if observer is not None:
            observer.complete()

    def failed(self, error: OSError) -> OSError:
        failure = self._explained(error)
        verdict = self._verdict
        if verdict is not None and verdict.leaf is not None:
            self.facts.peer = verdict.leaf
        return transport_error(failure.transport_reason)

    def lost(self, error: OSError) -> OSError:
        if not isinstance(error, TlsError):
            return error  # as it happens to any connection
        return transport_error(self._explained(error).transport_reason)

    def timed_out(self) -> None:
        self._log.note(self._where, f"TLS with {self._peer}: {TIMED_OUT}")
        observer, self._observer = self._observer, None
        if observer is not None:
            observer.timed_out()

    def _explained(self, error: OSError) -> Failure:
        failure = explain(error, self._verdict, self._peer)
        self.facts.failure = failure.transport_reason
        if failure.stat:
            setattr(self._stats, failure.stat, getattr(self._stats, failure.stat) + 1)
        self._log.note(self._where, failure.text)
        return failure

    def __repr__(self) -> str:
        return f"<Handshake with {self._peer} at {self._where}>"
