"""A key and the request to certify it (PKCS#10, RFC 2986): made here, the key never leaves the process."""

from dataclasses import dataclass
from enum import Enum

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa


class KeyKind(Enum):
    """What kind of key to make. P-256 costs a handshake a tenth of what RSA does."""

    P256 = "P256"
    P384 = "P384"
    RSA = "RSA"


@dataclass(frozen=True, slots=True)
class KeyWithRequest:
    """A private key and a request for a certificate of it, both PEM."""

    key: bytes
    csr: str

    def __repr__(self) -> str:
        return "<KeyWithRequest>"


def make_request(identity: str, kind: KeyKind, rsa_bits: int = 2048) -> KeyWithRequest:
    """`identity` is a SPIFFE URI. Making an RSA key takes about 100 ms."""
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    if kind is KeyKind.RSA:
        key = rsa.generate_private_key(65537, rsa_bits)
    else:
        key = ec.generate_private_key(ec.SECP256R1() if kind is KeyKind.P256 else ec.SECP384R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity)])
    csr = builder.add_extension(names, critical=True).sign(key, hashes.SHA256())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return KeyWithRequest(pem, csr.public_bytes(serialization.Encoding.PEM).decode())
