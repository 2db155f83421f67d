"""Certificate authorities of these tests: short-lived P-256 certificates with any name, made in milliseconds."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def key_pem(key: PrivateKey, password: bytes | None = None) -> str:
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        encryption = serialization.BestAvailableEncryption(password)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption).decode()


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) if text else x509.Name([])


def _san(name: str) -> x509.GeneralName:
    if "://" in name:
        return x509.UniformResourceIdentifier(name)
    if "@" in name:
        return x509.RFC822Name(name)
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


@dataclass(frozen=True)
class Issued:
    """A certificate with its key; `chain` is PEM, leaf first, without the root."""

    chain: str
    key: PrivateKey
    serial: int

    @property
    def key_text(self) -> str:
        return key_pem(self.key)

    def write(self, folder: Path, stem: str = "cert") -> tuple[str, str]:
        """Files of chain and key."""
        chain, key = folder / f"{stem}.pem", folder / f"{stem}-key.pem"
        chain.write_text(self.chain)
        key.write_text(self.key_text)
        return str(chain), str(key)

    def config(self, **fields: object) -> dict[str, object]:
        """As a TlsCertificate with both parts inline."""
        return {
            "certificate_chain": {"inline_string": self.chain},
            "private_key": {"inline_string": self.key_text},
            **fields,
        }


class Authority:
    """A root that issues; with `parent` an intermediate one, whose certificate goes behind those that it issues."""

    def __init__(self, name: str = "mosn-xds tests", parent: "Authority | None" = None) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = _name(name)
        issuer = parent or self
        builder = issuer._builder(self.name, self.key.public_key(), timedelta(days=-1), timedelta(days=3650))
        usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        builder = builder.add_extension(usage, critical=True)
        key_id = x509.SubjectKeyIdentifier.from_public_key(self.key.public_key())
        self.certificate = builder.add_extension(key_id, critical=False).sign(issuer.key, hashes.SHA256())
        self.chain = "" if parent is None else self.root + parent.chain

    @property
    def root(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    def _builder(
        self, subject: x509.Name, public: ec.EllipticCurvePublicKey | rsa.RSAPublicKey, start: timedelta, end: timedelta
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self.name).public_key(public)
        return (
            builder.serial_number(x509.random_serial_number()).not_valid_before(now + start).not_valid_after(now + end)
        )

    def issue(
        self,
        *names: str,
        common_name: str = "",
        key: PrivateKey | None = None,
        start: timedelta = timedelta(hours=-1),
        end: timedelta = timedelta(days=1),
        extensions: Sequence[x509.ExtensionType] = (),
    ) -> Issued:
        """A certificate for names: SPIFFE URIs, hosts, addresses, e-mail; with further extensions."""
        private = key or ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(_name(common_name), private.public_key(), start, end)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        if names:
            sans = x509.SubjectAlternativeName([_san(one) for one in names])
            builder = builder.add_extension(sans, critical=not common_name)
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        certificate = builder.add_extension(identifier, critical=False).sign(self.key, hashes.SHA256())
        pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
        return Issued(pem + self.chain, private, certificate.serial_number)

    def revoke(self, *issued: Issued) -> str:
        """A revocation list, PEM."""
        now = datetime.now(UTC)
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.name)
        builder = builder.last_update(now - timedelta(hours=1)).next_update(now + timedelta(days=1))
        for one in issued:
            entry = x509.RevokedCertificateBuilder().serial_number(one.serial).revocation_date(now)
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
