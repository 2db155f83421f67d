"""TLS on the side of a cluster: how connections to its hosts are secured, and the sessions that they resume.

`TlsOptions` are what a single request may ask of its connection: the server name and the names in the certificate (auto_sni,
auto_san_validation), the protocols to offer (istio.alpn). Connections with other options are other connections: pools keep
them apart, and so are the sessions.
"""

import ipaddress
import socket
from collections import deque
from typing import Any, NamedTuple

from OpenSSL import SSL

from mosn_xds.data.net.openssl import lib
from mosn_xds.data.net.secure_wire import Secured, Securing
from mosn_xds.data.net.tls import TlsTransport
from mosn_xds.data.net.tls_facts import TlsFacts
from mosn_xds.data.tls.failures import transport_error
from mosn_xds.data.tls.handshake import Handshake
from mosn_xds.data.tls.key_use import KeyCheck
from mosn_xds.data.tls.stats import SslStats
from mosn_xds.data.tls.store import NOT_READY, TlsStore
from mosn_xds.data.tls.verify import PeerPolicy, PeerVerdict
from mosn_xds.spec.tls import TRUSTS_ANYONE, UpstreamTls


class TlsOptions(NamedTuple):
    """What one request asks for; empty means what the cluster says."""

    sni: str = ""
    sans: tuple[str, ...] = ()
    alpn: tuple[bytes, ...] = ()
    header: bytes = b""
    """Goes ahead of everything, in plaintext (PROXY protocol)."""


NO_OPTIONS = TlsOptions()

_SessionKey = tuple[str, tuple[str, ...], tuple[bytes, ...]]
"""Server name, required names and offered protocols: who resumes a session must ask for what its maker asked."""
_MAX_NAMES = 200
_MAX_NAME_BYTES = 255
"""TLSEXT_MAXLEN_host_name."""
_BAD_NAME = "Failed to set the server name: too long, or with a NUL byte"


class ClientTls:
    """UpstreamTlsContext at work."""

    def __init__(self, spec: UpstreamTls, store: TlsStore, stats: SslStats, where: str) -> None:
        self.spec = spec
        self._alpn = tuple(name.encode() for name in spec.context.alpn)
        self._store = store
        self._stats = stats
        self._where = where
        self._version = 0
        self._context: SSL.Context | None = None
        self._policy: PeerPolicy | None = None
        self._checks_names = False
        self._sessions: dict[_SessionKey, deque[Any]] = {}

    def securing(
        self,
        peer: str,
        hostname: str = "",
        options: TlsOptions = NO_OPTIONS,
        fallback_alpn: tuple[bytes, ...] = (),
    ) -> Securing:
        """How to secure a connection to the host `peer`, for requests with these `options`. Offered are the protocols of the
        options, else of the context, else `fallback_alpn`."""
        if not options.alpn:
            options = options._replace(alpn=self._alpn or fallback_alpn)
        return _Dialer(self, peer, hostname, options).secure

    def secure(self, sock: socket.socket, peer: str, hostname: str, options: TlsOptions) -> Secured:
        """Raises OSError with the reason if there is no context, for lack of a secret, or the name is none for TLS."""
        store, spec = self._store, self.spec
        context, policy = self._context, self._policy
        if context is None or policy is None or self._version != store.version:
            context, policy = self._renew()
        conn = SSL.Connection(context, None)
        conn.set_connect_state()
        sni = options.sni or (hostname if spec.auto_host_sni else "") or spec.sni
        if sni and not _is_ip(sni):
            name = sni.encode()
            if len(name) > _MAX_NAME_BYTES or 0 in name:
                raise transport_error(f"TLS_error:{_BAD_NAME}")
            conn.set_tlsext_host_name(name)
        if options.alpn:
            conn.set_alpn_protos(list(options.alpn))
        sans = options.sans
        if spec.auto_sni_san_validation and sni:
            sans = (*sans, sni)
        verdict = PeerVerdict(policy, sans if self._checks_names else (), KeyCheck(conn, server=False))
        key = (sni, sans, options.alpn)
        sessions = self._sessions.get(key)
        if sessions:
            lib.SSL_set_session(conn._ssl, sessions[0])
        facts = TlsFacts(conn, server=False)
        watcher = Handshake(facts, verdict, self._stats, store.failures, self._where, peer)
        on_session = None
        if spec.max_session_keys:

            def on_session(session: Any) -> None:
                self._keep(key, session)

        return Secured(TlsTransport(sock, conn, store.memory, verdict, on_session), watcher, store.handshakes, facts)

    def _keep(self, key: _SessionKey, session: Any) -> None:
        found = self._sessions.get(key)
        if found is None:
            if len(self._sessions) >= _MAX_NAMES:
                del self._sessions[next(iter(self._sessions))]  # names are what requests say: there is no end of them
            found = self._sessions[key] = deque(maxlen=self.spec.max_session_keys)
        found.appendleft(session)

    def _renew(self) -> tuple[SSL.Context, PeerPolicy]:
        store = self._store
        try:
            context, validation = store.client(self.spec.context)
        except KeyError:
            raise transport_error(f"TLS_error:{NOT_READY}") from None
        policy = store.policy(validation or TRUSTS_ANYONE)
        if context is not self._context or policy is not self._policy:
            # OpenSSL resumes a session only in the context that it came from, and then nobody looks at the peer again.
            self._sessions.clear()
        self._context, self._policy, self._version = context, policy, store.version
        self._checks_names = validation is not None
        return context, policy

    def __repr__(self) -> str:
        return f"<ClientTls of {self._where}>"


class _Dialer(NamedTuple):
    tls: ClientTls
    peer: str
    hostname: str
    options: TlsOptions

    def secure(self, sock: socket.socket) -> Secured:
        return self.tls.secure(sock, self.peer, self.hostname, self.options)


def _is_ip(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
