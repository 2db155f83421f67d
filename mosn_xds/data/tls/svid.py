"""X509-SVIDs: certificates whose URI name is a SPIFFE ID, by whose trust domain it is decided which authorities count.

Envoy's rules (source/extensions/transport_sockets/tls/cert_validator/spiffe), which are those of SPIFFE's X509-SVID chapter 5:
a leaf is no authority, says what it is for (key usage), and that is not to sign certificates or lists; its first URI is its
ID; the trust domain is compared as it is written. What is behind the leaf is verified against the authorities of that domain
alone, its lists of revoked certificates included; extended key usage is not looked at. A context of OpenSSL has one set of
authorities for all, so it gets none, and the chain that it found is verified here once more.
"""

from collections.abc import Sequence
from typing import NamedTuple

from cryptography import x509
from OpenSSL import crypto

from mosn_xds.data.net.openssl import lib
from mosn_xds.data.net.tls_facts import CertificateFacts
from mosn_xds.data.tls.material import Roots
from mosn_xds.data.tls.refusal import Refusal
from mosn_xds.spec.tls import TrustDomain

_SCHEME = "spiffe://"
_NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME."""


class SvidRefusal(NamedTuple):
    """`error` and `depth` are OpenSSL's if the chain is refused."""

    refusal: Refusal
    error: int = 0
    depth: int = 0


class TrustBundles:
    """The authorities of each trust domain. Raises ConfigError for what cannot be read."""

    def __init__(self, domains: Sequence[TrustDomain], *, allow_expired: bool) -> None:
        self._stores: dict[str, crypto.X509Store] = {}
        authorities: list[crypto.X509] = []
        for domain in domains:
            roots = Roots(domain.authorities, domain.crl)
            authorities += roots.certificates
            store = self._stores[domain.name] = crypto.X509Store()
            for certificate in roots.certificates:
                store.add_cert(certificate)
            for crl in roots.crls:
                store.add_crl(crl)
            flags = _NO_CHECK_TIME if allow_expired else 0
            if roots.crls:
                flags |= crypto.X509StoreFlags.CRL_CHECK | crypto.X509StoreFlags.CRL_CHECK_ALL
            store.set_flags(flags)
        self.authorities = tuple(authorities)
        """Of all domains."""

    def refuses(self, leaf: CertificateFacts, chain: Sequence[bytes]) -> SvidRefusal | None:
        """What is wrong with a peer that shows `leaf`; `chain` leads from it towards its root, DER."""
        if not _is_leaf(leaf.parsed):
            return SvidRefusal(Refusal.NO_SVID)
        store = self._stores.get(trust_domain(leaf.uri_sans[0])) if leaf.uri_sans else None
        if store is None:
            return SvidRefusal(Refusal.TRUST_DOMAIN)
        own, *others = (crypto.load_certificate(crypto.FILETYPE_ASN1, one) for one in (leaf.der, *chain[1:]))
        try:
            crypto.X509StoreContext(store, own, others).verify_certificate()
        except crypto.X509StoreContextError as error:
            number, depth, *_ = error.errors
            return SvidRefusal(Refusal.CHAIN, number, depth)
        finally:
            lib.ERR_clear_error()  # OpenSSL asks what is there when the handshake goes on
        return None

    def __repr__(self) -> str:
        return f"<TrustBundles of {', '.join(self._stores) or 'no domain'}>"


def trust_domain(uri: str) -> str:
    """Of a SPIFFE ID; empty for what is none."""
    domain, slash, _ = uri.removeprefix(_SCHEME).partition("/")
    return domain if slash and uri.startswith(_SCHEME) else ""


def _is_leaf(certificate: x509.Certificate) -> bool:
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except (x509.ExtensionNotFound, ValueError):
        return False
    if usage.key_cert_sign or usage.crl_sign:
        return False
    try:
        return not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return True
