"""OpenSSL contexts made of Specs and secrets: what all connections of one kind have in common.

A context is frozen once it is used, so what changes makes a new one. What differs between users of otherwise equal
contexts (names that the peer must have, SNI, ALPN of a client) is given to each connection instead: ten thousand clusters
of a mesh share one context, and rotation builds one.

Defaults are Envoy's: TLS 1.2 at least, 1.3 at most for servers and 1.2 for clients, forward-secret AEAD ciphers, X25519 and
P-256, behind the hybrid X25519MLKEM768 for servers. Several certificates make one context for each name, which the SNI
switches to; a context may hold two certificates, for clients that know ECDSA and for those that do not.
"""

import os
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any

from OpenSSL import SSL, crypto

from mosn_xds.base.errors import ConfigError
from mosn_xds.data.net.openssl import TicketKeys, lib, send_no_tickets
from mosn_xds.data.net.tls import TlsMemory
from mosn_xds.data.tls.client_order import TLS13_CIPHERS, ClientOrder
from mosn_xds.data.tls.material import Identity, Roots
from mosn_xds.data.tls.staples import Staples
from mosn_xds.spec.tls import DownstreamTls, TlsContext, TlsVersion, Validation

DEFAULT_CIPHERS = (
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
)
DEFAULT_CURVES = "X25519:P-256"
_SERVER_CURVES = ("?X25519MLKEM768/X25519:P-256", DEFAULT_CURVES)
"""The default of servers: who can exchange keys that a quantum computer does not find out is asked to. For libraries from
before OpenSSL 3.5 there is the second one."""
_VERSIONS = {
    TlsVersion.TLS_1_0: SSL.TLS1_VERSION,
    TlsVersion.TLS_1_1: SSL.TLS1_1_VERSION,
    TlsVersion.TLS_1_2: SSL.TLS1_2_VERSION,
    TlsVersion.TLS_1_3: SSL.TLS1_3_VERSION,
}
_MODE_ENABLE_PARTIAL_WRITE = 1
_OP_PRIORITIZE_CHACHA = 1 << 21


class ServerContext(SSL.Context):
    """A context with what OpenSSL calls back for its connections."""

    def __init__(self, tickets: TicketKeys, staples: Staples, order: ClientOrder) -> None:
        super().__init__(SSL.TLS_SERVER_METHOD)
        self._held = (tickets, staples, order)
        staples.give_to(self)


def _prepare(context: SSL.Context, spec: TlsContext, *, server: bool) -> None:
    minimum = spec.min_version or TlsVersion.TLS_1_2
    maximum = spec.max_version or (TlsVersion.TLS_1_3 if server else TlsVersion.TLS_1_2)
    context.set_min_proto_version(_VERSIONS[minimum])
    context.set_max_proto_version(_VERSIONS[maximum])
    # OpenSSL's own levels would refuse what BoringSSL takes: short RSA keys of peers, and everything below TLS 1.2.
    level = 0 if minimum < TlsVersion.TLS_1_2 else 1
    ciphers = ":".join(spec.ciphers or DEFAULT_CIPHERS)
    try:
        context.set_cipher_list(f"{ciphers}:@SECLEVEL={level}".encode())
    except SSL.Error as error:
        raise ConfigError(f"Failed to initialize cipher suites {ciphers}") from error
    context.set_tls13_ciphersuites(TLS13_CIPHERS)
    wanted = (":".join(spec.curves),) if spec.curves else _SERVER_CURVES if server else (DEFAULT_CURVES,)
    if not any(lib.SSL_CTX_set1_curves_list(context._context, curves.encode()) for curves in wanted):
        lib.ERR_clear_error()
        raise ConfigError(f"Failed to initialize ECDH curves {wanted[0]}")
    lib.ERR_clear_error()
    context.clear_mode(_MODE_ENABLE_PARTIAL_WRITE)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_options(SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION)


def _trust(context: SSL.Context, validation: Validation, roots: Roots) -> None:
    store = context.get_cert_store()
    if store is None:
        raise ConfigError("Failed to load trusted CA certificates from <inline>")
    for certificate in roots.certificates:
        store.add_cert(certificate)
    # An intermediate certificate is trusted like any other.
    flags = crypto.X509StoreFlags.PARTIAL_CHAIN
    if roots.crls:
        for crl in roots.crls:
            store.add_crl(crl)
        flags |= crypto.X509StoreFlags.CRL_CHECK
        if not validation.only_leaf_crl:
            flags |= crypto.X509StoreFlags.CRL_CHECK_ALL
    store.set_flags(flags)
    if validation.system_roots:
        context.set_default_verify_paths()
    if validation.max_depth is not None:
        # Envoy counts the certificates behind the leaf, the trusted one included; OpenSSL those between the two.
        context.set_verify_depth(max(0, validation.max_depth - 1))


def client_context(
    spec: TlsContext,
    identities: Sequence[Identity],
    validation: Validation | None,
    roots: Roots,
    memory: TlsMemory,
) -> SSL.Context:
    """For connections to upstreams. Raises ConfigError."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    _prepare(context, spec, server=False)
    for identity in identities[:1]:
        _use(context, (identity,))
    if validation is not None:
        _trust(context, validation, roots)
    # Who trusts anybody says so when asked: there is more to look at than the chain.
    lib.SSL_CTX_set_verify(context._context, SSL.VERIFY_PEER, memory.verify_callback)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)  # sessions are kept by who connects
    return context


def server_context(
    spec: DownstreamTls,
    identities: Sequence[Identity],
    validation: Validation | None,
    roots: Roots,
    authorities: Sequence[crypto.X509],
    ticket_keys: Sequence[bytes],
    memory: TlsMemory,
    read_wall: Callable[[], float],
    uid: bytes,
) -> SSL.Context:
    """For connections from clients, who are told of the `authorities` by which they may be known; `uid` stands for everything
    that a resumed session must have in common with a new one. Raises ConfigError."""
    if not identities:
        raise ConfigError("No TLS certificates found for server context")
    alpn = [name.encode() for name in spec.context.alpn]
    tickets = TicketKeys(ticket_keys)
    order = ClientOrder()
    staples = Staples(identities, spec.ocsp_policy, read_wall)
    verify = SSL.VERIFY_NONE
    if validation is not None or spec.require_client_certificate:
        verify = SSL.VERIFY_PEER
    if spec.require_client_certificate or (validation is not None and validation.trust_domains is not None):
        verify |= SSL.VERIFY_FAIL_IF_NO_PEER_CERT

    def make(certificates: Sequence[Identity]) -> SSL.Context:
        context = ServerContext(tickets, staples, order)
        _prepare(context, spec.context, server=True)
        _use(context, certificates)
        if validation is not None:
            _trust(context, validation, roots)
            for root in authorities:
                context.add_client_ca(root)
        lib.SSL_CTX_set_verify(context._context, verify, memory.verify_callback)
        if not spec.prefer_client_ciphers:
            context.set_options(SSL.OP_CIPHER_SERVER_PREFERENCE)
            order.give_to(context)
            if not spec.context.ciphers:
                context.set_options(_OP_PRIORITIZE_CHACHA)  # Envoy's default has AES-128 and ChaCha20 as equals
        context.set_session_id(sha256(uid).digest())
        context.set_session_cache_mode(SSL.SESS_CACHE_SERVER if spec.session_cache else SSL.SESS_CACHE_OFF)
        if spec.session_timeout_s is not None:
            context.set_timeout(spec.session_timeout_s)
        if spec.ticket_secret is None:
            context.set_options(SSL.OP_NO_TICKET)
            if not spec.session_cache:
                send_no_tickets(context)
        else:
            tickets.give_to(context)
        if alpn:
            context.set_alpn_select_callback(_alpn_chooser(alpn))
        return context

    primary = make(_one_of_each_type(identities))
    if len(identities) > 1:
        groups: dict[str, list[Identity]] = {}
        for identity in identities:
            for name in identity.names:
                groups.setdefault(name, []).append(identity)
        made: dict[tuple[int, ...], SSL.Context] = {}
        by_name = {}
        for name, group in groups.items():
            chosen = _one_of_each_type(group)
            key = tuple(map(id, chosen))
            if key not in made:
                made[key] = make(chosen)
            by_name[name] = made[key]
        other = primary if spec.full_scan_certificates else make(identities[:1])
        primary.set_tlsext_servername_callback(_switcher(by_name, other))
    return primary


def _one_of_each_type(identities: Sequence[Identity]) -> list[Identity]:
    """The first with an ECDSA key and the first with an RSA key, in their order: OpenSSL picks what the client can verify."""
    return [
        one for n, one in enumerate(identities) if all(one.is_ecdsa is not other.is_ecdsa for other in identities[:n])
    ]


def _use(context: SSL.Context, identities: Sequence[Identity]) -> None:
    for identity in identities:
        try:
            if len(identities) > 1 and identity.issuers:
                _use_with_own_chain(context, identity)
            else:
                identity.use(context)
        except SSL.Error as error:
            raise ConfigError("Failed to load certificate chain from <inline>") from error
    if len(identities) == 1:
        identities[0].use_issuers(context)


def _use_with_own_chain(context: SSL.Context, identity: Identity) -> None:
    """Where a context has several certificates, only the file functions give each a chain of its own."""
    descriptor = os.memfd_create("chain", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(identity.chain_pem)
        context.use_certificate_chain_file(f"/proc/self/fd/{descriptor}")
        identity.use_key(context)
    finally:
        os.close(descriptor)


def _alpn_chooser(offered: list[bytes]) -> Callable[[SSL.Connection, list[bytes]], Any]:
    """Ours in our order; without overlap the connection goes on without ALPN, as in Envoy."""

    def choose(connection: SSL.Connection, client: list[bytes]) -> Any:
        del connection
        for protocol in offered:
            if protocol in client:
                return protocol
        return SSL.NO_OVERLAPPING_PROTOCOLS

    return choose


def _switcher(by_name: dict[str, SSL.Context], other: SSL.Context) -> Callable[[SSL.Connection], None]:
    """Exact name, then wildcard, then `other`; a client without SNI keeps the context that it has."""

    def switch(connection: SSL.Connection) -> None:
        raw = connection.get_servername()
        if not raw:
            return
        name = raw.decode("latin-1")
        context = by_name.get(name) or by_name.get(f"*.{name.partition('.')[2]}")
        connection.set_context(context or other)

    return switch
