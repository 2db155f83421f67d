"""What the key of a peer's certificate is used for in a handshake, and whether the certificate lets it.

BoringSSL asks this of every server, and of clients that speak TLS 1.3: with RSA key exchange the key enciphers, otherwise it
signs, and a certificate with a key usage extension must have that in it (RFC 5280 section 4.2.1.3). OpenSSL is content with
any usage that TLS may have. Envoy has a switch for it, `enforce_rsa_key_usage`, which by now has no effect.
"""

from enum import Enum

from OpenSSL import SSL

from mosn_xds.data.net.openssl import lib, pending_cipher
from mosn_xds.data.net.tls_facts import CertificateFacts

_FORWARD_SECRET = "ECDHE-"


class KeyUse(Enum):
    """What a handshake needs of the peer's key."""

    ANY = "any"
    SIGNATURE = "digital signature"
    ENCIPHERMENT = "key encipherment"

    def allowed_by(self, certificate: CertificateFacts) -> bool:
        """Whether the certificate says so, or nothing at all."""
        if self is KeyUse.ANY:
            return True
        usage = certificate.key_usage
        if usage is None:
            return True
        return usage.digital_signature if self is KeyUse.SIGNATURE else usage.key_encipherment


class KeyCheck:
    """Looks at the use of the peer's key in the handshake of `conn`; `server`: we are the server."""

    __slots__ = ("_conn", "_server")

    def __init__(self, conn: SSL.Connection, *, server: bool) -> None:
        self._conn = conn
        self._server = server

    def refuses(self, certificate: CertificateFacts, *, before_chain: bool) -> bool:
        """Whether the key must not be used as it is. Asked before and behind the verification of the chain, and answers once:
        in TLS 1.3 before it, else behind it."""
        is_new = bool(lib.SSL_version(self._conn._ssl) == SSL.TLS1_3_VERSION)
        return is_new is before_chain and not self._use(is_new).allowed_by(certificate)

    def _use(self, is_new: bool) -> KeyUse:
        if is_new:
            return KeyUse.SIGNATURE
        if self._server:
            return KeyUse.ANY
        name = pending_cipher(self._conn._ssl)
        if not name:
            return KeyUse.ANY
        return KeyUse.SIGNATURE if name.startswith(_FORWARD_SECRET) else KeyUse.ENCIPHERMENT

    def __repr__(self) -> str:
        return f"<KeyCheck of {'a client' if self._server else 'an upstream'}>"
