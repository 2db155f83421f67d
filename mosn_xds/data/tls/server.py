"""TLS on the side of a listener: what a filter chain does with each accepted connection."""

import contextlib
import socket

from OpenSSL import SSL

from mosn_xds.data.net.secure_wire import Secured
from mosn_xds.data.net.tls import TlsTransport
from mosn_xds.data.net.tls_facts import TlsFacts
from mosn_xds.data.tls.failures import transport_error
from mosn_xds.data.tls.handshake import Handshake, HandshakeObserver
from mosn_xds.data.tls.key_use import KeyCheck
from mosn_xds.data.tls.stats import SslStats
from mosn_xds.data.tls.store import NOT_READY, TlsStore
from mosn_xds.data.tls.verify import PeerPolicy, PeerVerdict
from mosn_xds.spec.tls import TRUSTS_ANYONE, DownstreamTls


class ServerTls:
    """DownstreamTlsContext at work. The context is built at once, and looked up again when a secret has changed. Raises
    ConfigError for what cannot be built."""

    def __init__(self, spec: DownstreamTls, store: TlsStore, stats: SslStats, where: str) -> None:
        self._spec = spec
        self._store = store
        self._stats = stats
        self._where = where
        self._version = 0
        self._context: SSL.Context | None = None
        self._policy: PeerPolicy | None = None
        with contextlib.suppress(OSError):  # without its secret: connections will say so
            self._renew()

    def secure(self, sock: socket.socket, peer: str, observer: HandshakeObserver) -> Secured:
        """For an accepted connection. Raises OSError with the reason if there is no context, for lack of a secret."""
        store = self._store
        context = self._context
        if context is None or self._version != store.version:
            context = self._renew()
        conn = SSL.Connection(context, None)
        conn.set_accept_state()
        conn.set_app_data(self._stats)
        facts = TlsFacts(conn, server=True)
        verdict = None
        if self._policy is not None:
            verdict = PeerVerdict(self._policy, key=KeyCheck(conn, server=True))
        watcher = Handshake(facts, verdict, self._stats, store.failures, self._where, peer, observer)
        return Secured(TlsTransport(sock, conn, store.memory, verdict), watcher, store.handshakes, facts)

    def _renew(self) -> SSL.Context:
        store = self._store
        try:
            context, validation = store.server(self._spec)
        except KeyError:
            raise transport_error(f"TLS_error:{NOT_READY}") from None
        if validation is not None or self._spec.require_client_certificate:
            self._policy = store.policy(validation or TRUSTS_ANYONE)
        self._context, self._version = context, store.version
        return context

    def __repr__(self) -> str:
        return f"<ServerTls of {self._where}>"
