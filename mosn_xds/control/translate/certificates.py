"""Certificates, keys, authorities and revocation lists: what can be known of them before they serve.

The agent answers for a secret before any worker sees it, so everything that would make a handshake impossible is found
here: broken PEM, a key that does not fit its certificate, a wrong password, a certificate that has expired. (Envoy takes
an expired one and lets every handshake fail; here the last good one stays in use.) Texts are Envoy's where it has one.
No text quotes what it is about: it may be a private key.

Nothing here knows messages, or where the bytes came from.
"""

import re
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509 import ocsp

from mosn_xds.spec.tls import Certificate

MIN_RSA_BITS = 2048
_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)
_CERTIFICATE_LABELS = (b"CERTIFICATE", b"X509 CERTIFICATE", b"TRUSTED CERTIFICATE")
_CRL_LABEL = b"X509 CRL"


class BadMaterial(Exception):
    """Why certificates or keys cannot be used; `hint` is what to do about it. Never holds what was read."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


def load_certificate(
    chain: bytes, key: bytes, password: bytes | None, now: float, *, chain_from: str, key_from: str
) -> Certificate:
    """A chain, leaf first, and the private key that fits it, both checked; `now` is wall-clock seconds.

    `chain_from` and `key_from` are for texts: the file, or ``<inline>``. Raises BadMaterial.
    """
    certificates = _certificates(chain, f"Failed to load certificate chain from {chain_from}")
    private = _load_key(key, password, key_from)
    return _checked(certificates, private, now, chain_from, key_from)


def load_pkcs12(content: bytes, password: bytes | None, now: float, *, shown: str) -> Certificate:
    """A PKCS#12 container with one key and its chain. Raises BadMaterial."""
    try:
        private, leaf, others = pkcs12.load_key_and_certificates(content, password)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise BadMaterial(f"Failed to load pkcs12 from {shown}", "not PKCS#12, or the password is wrong") from None
    if private is None or leaf is None:
        raise BadMaterial(f"Failed to load pkcs12 from {shown}", "it must hold a certificate and its key")
    return _checked([leaf, *others], private, now, shown, shown)


def load_authorities(content: bytes, shown: str) -> tuple[bytes, bytes]:
    """Certificates that are trusted, and revocation lists found among them, as PEM. Raises BadMaterial."""
    complaint = f"Failed to load trusted CA certificates from {shown}"
    if not _blocks(content, _CERTIFICATE_LABELS):
        raise BadMaterial(complaint, "no PEM block CERTIFICATE in it")
    certificates = _certificates(content, complaint)
    lists = _blocks(content, (_CRL_LABEL,))
    return _pem(certificates), load_revocations(b"\n".join(lists), shown) if lists else b""


def load_revocations(content: bytes, shown: str) -> bytes:
    """Certificate revocation lists, as PEM. Raises BadMaterial."""
    blocks = _blocks(content, (_CRL_LABEL,))
    try:
        for block in blocks:
            x509.load_pem_x509_crl(block)
    except ValueError:
        blocks = []
    if not blocks:
        raise BadMaterial(f"Failed to load CRL from {shown}", "no usable PEM block X509 CRL in it")
    return b"\n".join(blocks) + b"\n"


def check_staple(content: bytes, shown: str) -> bytes:
    """An OCSP response, DER. Raises BadMaterial."""
    try:
        ocsp.load_der_ocsp_response(content)
    except ValueError:
        raise BadMaterial(f"Failed to load OCSP response from {shown}", "DER is expected") from None
    return content


def expires_at(certificate: Certificate) -> float:
    """Wall-clock seconds at which the leaf's time is over."""
    return x509.load_pem_x509_certificate(certificate.chain).not_valid_after_utc.timestamp()


def _certificates(content: bytes, complaint: str) -> list[x509.Certificate]:
    try:
        found = [x509.load_pem_x509_certificate(block) for block in _blocks(content, _CERTIFICATE_LABELS)]
        for one in found:
            one.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise BadMaterial(complaint, "a PEM block CERTIFICATE in it is broken") from None
    if not found:
        raise BadMaterial(complaint, "no PEM block CERTIFICATE in it")
    return found


def _load_key(content: bytes, password: bytes | None, shown: str) -> PrivateKeyTypes:
    complaint = f"Failed to load private key from {shown}, Cause: "
    if b"-----BEGIN " not in content:
        raise BadMaterial(f"{complaint}no PEM block in it")
    encrypted = b"ENCRYPTED" in content
    if encrypted and password is None:
        raise BadMaterial(f"{complaint}it is encrypted", "give the password")
    try:
        return serialization.load_pem_private_key(content, password if encrypted else None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        cause = "the password is wrong, or the key is broken" if encrypted else "no usable private key in it"
        raise BadMaterial(f"{complaint}{cause}") from None


def _checked(
    certificates: list[x509.Certificate], private: PrivateKeyTypes, now: float, chain_from: str, key_from: str
) -> Certificate:
    leaf = certificates[0]
    public = leaf.public_key()
    complaint = f"Failed to load certificate chain from {chain_from}"
    if isinstance(public, rsa.RSAPublicKey) and public.key_size < MIN_RSA_BITS:
        raise BadMaterial(f"{complaint}, only RSA certificates with 2048-bit or larger keys are supported")
    if isinstance(public, ec.EllipticCurvePublicKey) and not isinstance(public.curve, _CURVES):
        raise BadMaterial(f"{complaint}, only P-256, P-384 or P-521 ECDSA certificates are supported")
    ours = private.public_key()
    if _spki(public) != _spki(ours):
        raise BadMaterial(
            f"Failed to load private key from {key_from}, Cause: the key does not fit the certificate",
            "the chain's first certificate must be the key's own",
        )
    over = leaf.not_valid_after_utc
    if over.timestamp() <= now:
        ago = datetime.fromtimestamp(now, UTC) - over
        raise BadMaterial(
            f"{complaint}: it expired at {over:%Y-%m-%dT%H:%M:%SZ}, {int(ago.total_seconds())} s ago",
            "renew it, or look at this machine's clock",
        )
    return Certificate(_pem(certificates), _key_pem(private))


def _spki(public: object) -> bytes:
    encoded: bytes = public.public_bytes(  # type: ignore[attr-defined]  # every kind of public key has it
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return encoded


def _pem(certificates: list[x509.Certificate]) -> bytes:
    return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in certificates)


def _key_pem(private: PrivateKeyTypes) -> bytes:
    return private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _blocks(content: bytes, labels: tuple[bytes, ...]) -> list[bytes]:
    return [match.group() for match in _BLOCK.finditer(content) if match.group(1) in labels]
