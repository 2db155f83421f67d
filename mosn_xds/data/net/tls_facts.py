"""What a TLS connection says of itself and of its peer, for headers, policies and logs. Found out when first asked.

The facts outlive their connection, for its last log line. Certificates are read by `cryptography`; a request costs nothing
here, as what it needs was found for the one before it on the same connection.
"""

import re
from functools import cached_property, lru_cache
from hashlib import sha1, sha256
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from OpenSSL import SSL

from mosn_xds.data.net.openssl import ffi, lib, peer_certificate_der

_NAMES = {NameOID.EMAIL_ADDRESS: "emailAddress", NameOID.SERIAL_NUMBER: "serialNumber"}
_UNESCAPED = "-_.~"
_NOT_PRINTABLE = re.compile(r"[^\x20-\x7e]")


class CertificateFacts:
    """A certificate. Names are as Envoy prints them: subjects as in RFC 2253, fingerprints as lower-case hex."""

    def __init__(self, der: bytes) -> None:
        self.der = der

    @cached_property
    def parsed(self) -> x509.Certificate:
        return x509.load_der_x509_certificate(self.der)

    @cached_property
    def _alternatives(self) -> x509.SubjectAlternativeName | None:
        try:
            return self.parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (x509.ExtensionNotFound, ValueError):
            return None

    def _general(self, kind: "type[x509.GeneralName]") -> tuple[str, ...]:
        names = self._alternatives
        return tuple(str(name.value) for name in names if isinstance(name, kind)) if names is not None else ()

    @cached_property
    def sans(self) -> tuple[str, ...]:
        """Names of every kind that has a text, in the certificate's order."""
        names = self._alternatives or ()
        kinds = (x509.UniformResourceIdentifier, x509.DNSName, x509.IPAddress, x509.RFC822Name)
        return tuple(str(name.value) for name in names if isinstance(name, kinds))

    @cached_property
    def uri_sans(self) -> tuple[str, ...]:
        return self._general(x509.UniformResourceIdentifier)

    @cached_property
    def dns_sans(self) -> tuple[str, ...]:
        return self._general(x509.DNSName)

    @cached_property
    def ip_sans(self) -> tuple[str, ...]:
        return self._general(x509.IPAddress)

    @cached_property
    def email_sans(self) -> tuple[str, ...]:
        return self._general(x509.RFC822Name)

    @cached_property
    def other_names(self) -> tuple[tuple[str, str], ...]:
        """Object identifier and value; of a value that is a string type of ASN.1, the text."""
        names = self._alternatives or ()
        return tuple((n.type_id.dotted_string, _asn1_text(n.value)) for n in names if isinstance(n, x509.OtherName))

    @cached_property
    def key_usage(self) -> x509.KeyUsage | None:
        """None if the certificate does not say."""
        try:
            return self.parsed.extensions.get_extension_for_class(x509.KeyUsage).value
        except (x509.ExtensionNotFound, ValueError):
            return None

    @cached_property
    def subject(self) -> str:
        return _escaped(self.parsed.subject.rfc4514_string(_NAMES))

    @cached_property
    def issuer(self) -> str:
        return _escaped(self.parsed.issuer.rfc4514_string(_NAMES))

    @cached_property
    def serial(self) -> str:
        text = f"{self.parsed.serial_number:x}"
        return text if len(text) % 2 == 0 else f"0{text}"

    @cached_property
    def sha256(self) -> str:
        return sha256(self.der).hexdigest()

    @cached_property
    def sha1(self) -> str:
        return sha1(self.der).hexdigest()

    @cached_property
    def pem(self) -> str:
        return self.parsed.public_bytes(Encoding.PEM).decode("ascii")

    @cached_property
    def quoted_pem(self) -> str:
        """URL-encoded, for headers."""
        return quote(self.pem, safe=_UNESCAPED)

    def __repr__(self) -> str:
        try:
            subject = self.subject or (self.uri_sans or self.dns_sans or ("no name",))[0]
            return f"<certificate {subject}, issued by {self.issuer}, until {self.parsed.not_valid_after_utc:%Y-%m-%dT%H:%MZ}>"
        except ValueError:
            return "<certificate that cannot be read>"


@lru_cache(maxsize=128)
def certificate_facts(der: bytes) -> CertificateFacts:
    """The facts of a certificate. Peers come back: what was found out of one that was here lately is not found out again, a
    sixth of a handshake."""
    return CertificateFacts(der)


class TlsFacts:
    """One connection, while its handshake lasts and afterwards.

    `own` is the certificate chosen for our side, None if there is none. `failure` is Envoy's text for why TLS failed,
    `failure_text` ours; empty as long as it has not. `verified`: the peer's certificate was checked and is good.
    """

    def __init__(self, conn: SSL.Connection, *, server: bool) -> None:
        self._conn = conn
        self._server = server
        self.failure = ""
        self.failure_text = ""
        self.verified = False
        self.complete = False
        self.xfcc: bytes | None = None
        """The element of x-forwarded-client-cert, for who makes it to keep."""

    @cached_property
    def peer(self) -> CertificateFacts | None:
        der = peer_certificate_der(self._conn._ssl)
        return certificate_facts(der) if der is not None else None

    @property
    def presented(self) -> bool:
        """The peer showed a certificate."""
        return self.peer is not None

    @cached_property
    def peer_chain(self) -> tuple[CertificateFacts, ...]:
        """As the peer sent it, its own certificate first."""
        chain = self._conn.get_peer_cert_chain(as_cryptography=True) or []
        found = tuple(CertificateFacts(one.public_bytes(Encoding.DER)) for one in chain)
        own = self.peer
        return (own, *found) if self._server and own is not None and (not found or found[0].der != own.der) else found

    @cached_property
    def own(self) -> CertificateFacts | None:
        certificate = self._conn.get_certificate(as_cryptography=True)
        return CertificateFacts(certificate.public_bytes(Encoding.DER)) if certificate is not None else None

    @cached_property
    def version(self) -> str:
        """``TLSv1.2``, ``TLSv1.3``; as in Envoy the former as long as nothing is agreed on."""
        return self._conn.get_protocol_version_name() if self.cipher else "TLSv1.2"

    @cached_property
    def cipher(self) -> str:
        return self._conn.get_cipher_name() or ""

    @cached_property
    def group(self) -> str:
        """The group of the key exchange, as Envoy spells it (``X25519``, ``P-256``)."""
        name = lib.SSL_get0_group_name(self._conn._ssl) if self.cipher else ffi.NULL
        if name == ffi.NULL:
            return ""
        text: str = ffi.string(name).decode("ascii", "replace")
        return _GROUPS.get(text.lower(), text)

    @cached_property
    def sni(self) -> str:
        name = self._conn.get_servername()
        return name.decode("latin-1") if name else ""

    @cached_property
    def alpn(self) -> str:
        return self._conn.get_alpn_proto_negotiated().decode("latin-1") if self.complete else ""

    @cached_property
    def resumed(self) -> bool:
        return bool(lib.SSL_session_reused(self._conn._ssl))

    def __repr__(self) -> str:
        return f"<TlsFacts {self.version or 'no handshake'} {self.peer if self.complete else ''}>"


_GROUPS = {
    "x25519": "X25519",
    "secp256r1": "P-256",
    "prime256v1": "P-256",
    "secp384r1": "P-384",
    "secp521r1": "P-521",
    "x25519mlkem768": "X25519MLKEM768",
}


def _escaped(name: str) -> str:
    """A distinguished name with everything but printable ASCII as ``\\XX``, by bytes of UTF-8 (RFC 2253 section 2.4): what
    somebody wrote into a certificate ends no line of a log."""
    return _NOT_PRINTABLE.sub(lambda found: "".join(f"\\{byte:02X}" for byte in found[0].encode()), name)


def _asn1_text(value: bytes) -> str:
    """The content of a short or long form DER string."""
    if len(value) < 2:
        return ""
    length = value[1]
    start = 2
    if length & 0x80:
        start += length & 0x7F
    return value[start:].decode("utf-8", "replace")
