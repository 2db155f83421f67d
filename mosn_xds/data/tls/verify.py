"""What the peer's certificate must be, beyond a chain to a trusted root: names, pins, and how strict the chain is.

`PeerPolicy` is built once from a `Validation`; a `PeerVerdict` accompanies one handshake as its `PeerCheck`. It is asked
about every certificate as OpenSSL walks the chain, and keeps the first thing that it refuses, for counters and texts. The
error number that it answers with decides which TLS alert the peer is sent: certificate_unknown for names and pins, as Envoy.

Rules are Envoy's (source/common/tls/cert_validator): a DNS name in a certificate may be a wildcard where the matcher is
exact; hashes and pins together are one list; an untrusted chain that is accepted must still satisfy names and pins. With trust
domains of SPIFFE the chain is theirs to judge (`svid`), and what OpenSSL finds without authorities does not count.
"""

import ipaddress
from collections.abc import Callable
from hashlib import sha256

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mosn_xds.data.match.strings import BytesPredicate, compile_string
from mosn_xds.data.net.tls import Shown
from mosn_xds.data.net.tls_facts import CertificateFacts, certificate_facts
from mosn_xds.data.tls.key_use import KeyCheck
from mosn_xds.data.tls.refusal import Refusal
from mosn_xds.data.tls.svid import TrustBundles
from mosn_xds.spec.common import StringMatchKind
from mosn_xds.spec.tls import SanKind, SanMatch, Validation

_NOT_YET_VALID, _EXPIRED = 9, 10
"""X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED."""
_REFUSED_HERE = 49
"""X509_V_ERR_SUBTREE_MINMAX: none of its kin occurs here, and OpenSSL has no alert of its own for it, so that the peer is
sent certificate_unknown."""


class PeerPolicy:
    """See the module. `verifies_chain`: there are roots. `checks_leaf`: there is more than the chain to look at. Raises
    ConfigError for a bad expression."""

    __slots__ = (
        "__weakref__", "_hashes", "_pins", "_sans", "accept_untrusted", "allow_expired", "bundles", "checks_leaf",
        "verifies_chain",
    )  # fmt: skip

    def __init__(self, validation: Validation) -> None:
        domains = validation.trust_domains
        self.bundles = None if domains is None else TrustBundles(domains, allow_expired=validation.allow_expired)
        self.verifies_chain = bool(validation.trusted_ca or validation.system_roots) or domains is not None
        self.accept_untrusted = validation.accept_untrusted or not self.verifies_chain
        self.allow_expired = validation.allow_expired
        self._sans = tuple(map(_san_predicate, validation.sans))
        self._hashes = frozenset(validation.hashes)
        self._pins = frozenset(validation.spki_pins)
        self.checks_leaf = bool(self._sans or self._hashes or self._pins)

    def refuses(self, certificate: CertificateFacts) -> Refusal | None:
        """What is wrong with the peer's own certificate."""
        if self._sans and not any(matches(certificate) for matches in self._sans):
            return Refusal.SAN if self.bundles is None else Refusal.SPIFFE_ID
        if (self._hashes or self._pins) and not (
            sha256(certificate.der).digest() in self._hashes or (self._pins and _spki_hash(certificate) in self._pins)
        ):
            return Refusal.HASH
        return None

    def __repr__(self) -> str:
        return f"<PeerPolicy {len(self._sans)} names, {len(self._hashes) + len(self._pins)} hashes>"


class PeerVerdict:
    """One handshake's `PeerCheck`. `refusal` is None as long as nothing was refused; then `error` and `depth` are OpenSSL's
    and `certificate` is the one refused, `leaf` the peer's own if its chain was looked at. `required` are names of which it
    needs one; `key` looks at what its key is used for."""

    __slots__ = (
        "_forgiven", "_key", "_key_is_good", "_looked", "_own", "_policy", "certificate", "depth", "error", "leaf", "refusal",
        "required",
    )  # fmt: skip

    def __init__(self, policy: PeerPolicy, required_sans: tuple[str, ...] = (), key: KeyCheck | None = None) -> None:
        self._policy = policy
        self.required = required_sans
        self._key = key
        self._key_is_good = key is None
        self._looked = False
        self._forgiven = False
        self._own: CertificateFacts | None = None
        self.refusal: Refusal | None = None
        self.error = 0
        self.depth = 0
        self.certificate: CertificateFacts | None = None
        self.leaf: CertificateFacts | None = None

    def judge(self, error: int, depth: int, shown: Shown) -> int:
        own = self._own
        if own is None:
            own = self._own = certificate_facts(shown.leaf())
            if self._key is not None and self._key.refuses(own, before_chain=True):
                self.refusal, self.certificate = Refusal.KEY_USAGE, own
                return _REFUSED_HERE
        bundles = self._policy.bundles
        refused = (
            self._judge(error, depth, own, shown) if bundles is None else self._judge_svid(bundles, depth, own, shown)
        )
        if refused or depth:
            return refused
        self._looked = True
        if not self._key_is_good and self._key is not None:
            self._key_is_good = True
            if self._key.refuses(own, before_chain=False):
                return self._refuse(Refusal.KEY_USAGE, own)
        return 0

    def _judge(self, error: int, depth: int, own: CertificateFacts, shown: Shown) -> int:
        policy = self._policy
        if error and policy.allow_expired and error in (_NOT_YET_VALID, _EXPIRED):
            error = 0
        if error and not policy.accept_untrusted:
            self.error, self.depth = error, depth
            self._refuse(Refusal.CHAIN, CertificateFacts(shown.certificate()))
            return error
        self._forgiven |= error != 0
        if depth or self._looked:
            return 0
        if self.required and not any(_has_name(own, name) for name in self.required):
            return self._refuse(Refusal.REQUIRED_SAN, own)
        refusal = policy.refuses(own) if policy.checks_leaf else None
        return 0 if refusal is None else self._refuse(refusal, own)

    def _judge_svid(self, bundles: TrustBundles, depth: int, own: CertificateFacts, shown: Shown) -> int:
        if depth or self._looked:
            return 0
        found = bundles.refuses(own, shown.chain())
        if found is not None:
            refusal, self.error, self.depth = found
            return self._refuse(refusal, own)
        name = self._policy.refuses(own)
        return 0 if name is None else self._refuse(name, own)

    def _refuse(self, refusal: Refusal, certificate: CertificateFacts) -> int:
        self.refusal, self.certificate, self.leaf = refusal, certificate, self._own
        return _REFUSED_HERE

    @property
    def verified(self) -> bool:
        """The chain leads to a trusted root, and nothing was refused."""
        return self._policy.verifies_chain and self._looked and not self._forgiven and self.refusal is None

    def __repr__(self) -> str:
        return f"<PeerVerdict {self.refusal.name if self.refusal is not None else 'good'}>"


def _san_predicate(san: SanMatch) -> Callable[[CertificateFacts], bool]:
    test = compile_string(san.match)
    match san.kind:
        case SanKind.DNS if san.match.kind is StringMatchKind.EXACT:
            wanted = san.match.value
            return lambda leaf: any(dns_name_matches(wanted, name) for name in leaf.dns_sans)
        case SanKind.DNS:
            return lambda leaf: _any(test, leaf.dns_sans)
        case SanKind.URI:
            return lambda leaf: _any(test, leaf.uri_sans)
        case SanKind.EMAIL:
            return lambda leaf: _any(test, leaf.email_sans)
        case SanKind.IP_ADDRESS:
            return lambda leaf: _any(test, leaf.ip_sans)
        case SanKind.OTHER_NAME:
            oid = san.oid
            return lambda leaf: any(kind == oid and test(value.encode()) for kind, value in leaf.other_names)


def _any(test: BytesPredicate, names: tuple[str, ...]) -> bool:
    return any(test(name.encode()) for name in names)


def dns_name_matches(name: str, pattern: str) -> bool:
    """Whether a DNS name of a certificate, maybe ``*.example.com``, stands for `name` (Envoy's `Utility::dnsNameMatch`)."""
    name, pattern = name.lower(), pattern.lower()
    if name == pattern:
        return True
    label, _, rest = pattern.partition(".")
    name_label, _, name_rest = name.partition(".")
    if "*" not in label or not rest or rest != name_rest or "xn--" in label:
        return False
    before, _, after = label.partition("*")
    return (
        len(name_label) >= len(before) + len(after)
        and name_label.startswith(before)
        and name_label.endswith(after)
        and "*" not in after
    )


def _has_name(leaf: CertificateFacts, name: str) -> bool:
    """Whether the certificate is for `name`: a host name or an address, of the request's authority."""
    if any(dns_name_matches(name, pattern) for pattern in leaf.dns_sans) or name in leaf.uri_sans:
        return True
    try:
        return str(ipaddress.ip_address(name)) in leaf.ip_sans
    except ValueError:
        return False


def _spki_hash(certificate: CertificateFacts) -> bytes:
    key = certificate.parsed.public_key()
    return sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
