"""Certificates, keys and roots as OpenSSL takes them, from PEM. What cannot be used is a ConfigError in Envoy's words.

Roots are the dear part: 140 of them take 13 ms. They are read once for each content and shared by every context.
"""

import re
from functools import cached_property

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import NameOID
from OpenSSL import SSL, crypto

from mosn_xds.base.errors import ConfigError
from mosn_xds.data.net.tls_facts import CertificateFacts
from mosn_xds.spec.tls import Certificate

_PEM_CERTIFICATE = re.compile(
    rb"-----BEGIN (?:TRUSTED |X509 )?CERTIFICATE-----.+?-----END (?:TRUSTED |X509 )?CERTIFICATE-----", re.S
)
_PEM_CRL = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----", re.S)


class Identity:
    """A certificate with its chain and private key. Raises ConfigError for what does not fit together."""

    def __init__(self, certificate: Certificate) -> None:
        try:
            chain = x509.load_pem_x509_certificates(certificate.chain)
        except ValueError as error:
            raise ConfigError("Failed to load certificate chain from <inline>") from error
        try:
            key = load_pem_private_key(certificate.key, None)
        except (ValueError, TypeError) as error:
            raise ConfigError("Failed to load private key from <inline>, Cause: cannot be read") from error
        self.leaf, self.issuers, self._key = chain[0], chain[1:], key
        self.chain_pem = certificate.chain
        self.ocsp_staple = certificate.ocsp_staple
        if self.leaf.public_key() != key.public_key():
            raise ConfigError("Failed to load private key from <inline>, Cause: KEY_VALUES_MISMATCH")

    @property
    def is_ecdsa(self) -> bool:
        return isinstance(self._key, ec.EllipticCurvePrivateKey)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The DNS names it is for, lower-case; the common name if there are none."""
        names = CertificateFacts(self.leaf.public_bytes(Encoding.DER)).dns_sans
        if not names:
            names = tuple(str(one.value) for one in self.leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME))
        return tuple(name.lower() for name in names)

    def use(self, context: SSL.Context) -> None:
        """Make it one of the context's certificates: at most one for each type of key."""
        # Certificate before key: the other order drops a key that does not fit without a word.
        context.use_certificate(self.leaf)
        self.use_key(context)

    def use_key(self, context: SSL.Context) -> None:
        """The key of the certificate that the context was given last."""
        context.use_privatekey(_usable(self._key))

    def use_issuers(self, context: SSL.Context) -> None:
        """Send its chain, too, behind whichever certificate the context has."""
        for issuer in self.issuers:
            context.add_extra_chain_cert(issuer)

    def __repr__(self) -> str:
        return f"<Identity {CertificateFacts(self.leaf.public_bytes(Encoding.DER))!r}>"


def _usable(key: PrivateKeyTypes) -> ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey:
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise ConfigError(
            "Failed to load certificate chain from <inline>, only RSA and ECDSA certificates are supported"
        )
    return key


class Roots:
    """Trust anchors and revocation lists of one content."""

    __slots__ = ("__weakref__", "certificates", "crls")

    def __init__(self, trusted_ca: bytes, crl: bytes) -> None:
        try:
            self.certificates = tuple(
                crypto.load_certificate(crypto.FILETYPE_PEM, found) for found in _PEM_CERTIFICATE.findall(trusted_ca)
            )
        except crypto.Error as error:
            raise ConfigError("Failed to load trusted CA certificates from <inline>") from error
        if trusted_ca and not self.certificates:
            raise ConfigError("Failed to load trusted CA certificates from <inline>")
        try:
            # A bundle of trusted certificates may have revocation lists in it.
            self.crls = tuple(
                x509.load_pem_x509_crl(found) for text in (trusted_ca, crl) for found in _PEM_CRL.findall(text)
            )
        except ValueError as error:
            raise ConfigError("Failed to load CRL from <inline>") from error
        if crl and not self.crls:
            raise ConfigError("Failed to load CRL from <inline>")

    def __repr__(self) -> str:
        return f"<Roots {len(self.certificates)} certificates, {len(self.crls)} revocation lists>"
