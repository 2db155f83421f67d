"""A small certificate authority with istiod's API: signs workload certificates (`IstioCertificateService`), and its own.

Like istiod it decides by the caller who the certificate is for, not by what the request says: `identify` turns a token into
a SPIFFE identity. It keeps its key in memory; a new authority is a new mesh. `CertificateAuthority` is usable without any
server: tests and demos issue what they need in a call.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mosn_xds.xds.ca import SigningRequest, decode_request, encode_response

BACKDATE = timedelta(minutes=2)
MAX_TTL_S = 90 * 24 * 3600
_PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey


class Refused(Exception):
    """No certificate: a gRPC status name (``UNAUTHENTICATED``) and why."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate chain, leaf first, and its private key, PEM."""

    chain: bytes
    key: bytes

    def __repr__(self) -> str:
        return f"<KeyPair, {len(self.chain)} bytes of chain>"


class CertificateAuthority:
    """See the module. `now` is the time, for tests of days."""

    def __init__(self, organization: str = "cluster.local", now: Callable[[], datetime] | None = None) -> None:
        self._now = now or (lambda: datetime.now(UTC))
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization)])
        self.issued = 0
        builder = self._builder(self._name, self._key.public_key(), timedelta(days=3650))
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        builder = builder.add_extension(_usage(sign=True), critical=True)
        key_id = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        self._root = builder.add_extension(key_id, critical=False).sign(self._key, hashes.SHA256())

    def __repr__(self) -> str:
        return f"<CertificateAuthority {self.issued} issued>"

    @property
    def root(self) -> bytes:
        """PEM."""
        return self._root.public_bytes(serialization.Encoding.PEM)

    def issue(self, *names: str, ttl_s: float = 24 * 3600) -> KeyPair:
        """A new key with a certificate for hosts, addresses and SPIFFE identities."""
        key = ec.generate_private_key(ec.SECP256R1())
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return KeyPair(self._leaf(key.public_key(), names, ttl_s), pem)

    def sign(self, csr: str, identity: str, ttl_s: float) -> tuple[str, ...]:
        """A certificate for the key of a request, for `identity`; leaf first, root last. Raises Refused."""
        try:
            request = x509.load_pem_x509_csr(csr.encode())
            valid = request.is_signature_valid
            public = request.public_key()
        except ValueError:
            raise Refused("INVALID_ARGUMENT", "CSR: not a PEM encoded certificate request") from None
        if not valid:
            raise Refused("INVALID_ARGUMENT", "CSR: its signature is not by its key")
        if not isinstance(public, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
            raise Refused("INVALID_ARGUMENT", "CSR: an RSA or elliptic-curve key is expected")
        return (self._leaf(public, (identity,), ttl_s).decode(), self.root.decode())

    def _leaf(self, public: _PublicKey, names: tuple[str, ...], ttl_s: float) -> bytes:
        self.issued += 1
        builder = self._builder(x509.Name([]), public, timedelta(seconds=ttl_s))
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_usage(sign=False), critical=True)
        purposes = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        builder = builder.add_extension(purposes, critical=False)
        builder = builder.add_extension(x509.SubjectAlternativeName([_name(one) for one in names]), critical=True)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        certificate = builder.add_extension(issuer, critical=False).sign(self._key, hashes.SHA256())
        return certificate.public_bytes(serialization.Encoding.PEM)

    def _builder(self, subject: x509.Name, public: _PublicKey, life: timedelta) -> x509.CertificateBuilder:
        now = self._now()
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(public)
        builder = builder.serial_number(x509.random_serial_number())
        return builder.not_valid_before(now - BACKDATE).not_valid_after(now + life)


Identify = Callable[[str], str | None]
"""The SPIFFE identity of whoever bears a token; None for nobody."""


class CertificateService:
    """`CreateCertificate` without gRPC: request bytes and a bearer token in, response bytes out."""

    def __init__(self, authority: CertificateAuthority, identify: Identify, *, ttl_s: float | None = None) -> None:
        """`ttl_s` replaces what requests ask for."""
        self.authority = authority
        self._identify = identify
        self._ttl_s = ttl_s

    def __repr__(self) -> str:
        return f"<CertificateService {self.authority!r}>"

    def create(self, raw: bytes, token: str) -> bytes:
        """Raises Refused."""
        identity = self._identify(token) if token else None
        if identity is None:
            raise Refused("UNAUTHENTICATED", "request authenticate failure: the token is nobody's")
        try:
            request: SigningRequest = decode_request(raw)
        except ValueError as error:
            raise Refused("INVALID_ARGUMENT", str(error)) from None
        ttl_s = self._ttl_s if self._ttl_s is not None else float(request.validity_s or 24 * 3600)
        if not 0 < ttl_s <= MAX_TTL_S:
            raise Refused(
                "INVALID_ARGUMENT", f"requested TTL {ttl_s:g}s is greater than the max allowed TTL {MAX_TTL_S}s"
            )
        return encode_response(self.authority.sign(request.csr, identity, ttl_s))


def _usage(*, sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=not sign,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign,
        crl_sign=sign,
        encipher_only=False,
        decipher_only=False,
    )


def _name(text: str) -> x509.GeneralName:
    if "://" in text:
        return x509.UniformResourceIdentifier(text)
    try:
        return x509.IPAddress(ip_address(text))
    except ValueError:
        return x509.DNSName(text)
