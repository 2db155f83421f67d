"""TLS: what a context demands, and the secrets that it names (envoy.extensions.transport_sockets.tls.v3).

Private keys live in `Secret` Specs and nowhere else: contexts name their secrets, inline certificates too (the agent gives
those a name), so that listeners and clusters can be printed, compared and dumped without a thought. A Secret's name is
unique in a worker: the agent makes it from the config source and the resource's name.
"""

from enum import IntEnum

from mosn_xds.spec.common import Spec, StringMatch


class TlsVersion(IntEnum):
    """TlsParameters.TlsProtocol, same numbers."""

    AUTO = 0
    TLS_1_0 = 1
    TLS_1_1 = 2
    TLS_1_2 = 3
    TLS_1_3 = 4


class SanKind(IntEnum):
    """SubjectAltNameMatcher.SanType, same numbers."""

    EMAIL = 1
    DNS = 2
    URI = 3
    IP_ADDRESS = 4
    OTHER_NAME = 5


class SanMatch(Spec, frozen=True):
    """One of `match_typed_subject_alt_names`: any of them may match any name of its kind. `oid` is for OTHER_NAME."""

    kind: SanKind
    match: StringMatch
    oid: str = ""


class TrustDomain(Spec, frozen=True):
    """One of SPIFFECertValidatorConfig: who vouches for its workloads, and what was revoked, PEM."""

    name: str
    authorities: bytes
    crl: bytes = b""


class Validation(Spec, frozen=True):
    """CertificateValidationContext: what the peer's certificate must be.

    Without `trusted_ca` the chain is not verified (pins and names still are). `hashes` are SHA-256 of the certificate,
    `spki_pins` of its public key, 32 bytes each; the peer needs to match any one of both lists.

    With `trust_domains`, even none of them, SPIFFE's validator decides: the first URI name of a certificate says in which
    domain it is, and whose authorities count. Besides them it heeds `sans` of URIs and `allow_expired`, nothing else.
    """

    trusted_ca: bytes = b""
    """PEM."""
    system_roots: bool = False
    sans: tuple[SanMatch, ...] = ()
    hashes: tuple[bytes, ...] = ()
    spki_pins: tuple[bytes, ...] = ()
    crl: bytes = b""
    """PEM."""
    only_leaf_crl: bool = False
    max_depth: int | None = None
    """How many certificates there may be behind the peer's own, the trusted one included."""
    allow_expired: bool = False
    accept_untrusted: bool = False
    """`trust_chain_verification: ACCEPT_UNTRUSTED`."""
    trust_domains: tuple[TrustDomain, ...] | None = None


TRUSTS_ANYONE = Validation()


class Certificate(Spec, frozen=True):
    """A TlsCertificate: the chain, leaf first, and its private key, unencrypted (the agent has the password), PEM."""

    chain: bytes
    key: bytes
    ocsp_staple: bytes = b""
    """An OCSP response for the leaf, DER."""

    def __repr__(self) -> str:
        return f"<Certificate, {len(self.chain)} bytes of chain>"


class Secret(Spec, frozen=True):
    """One Secret resource: a certificate, or what to validate with, or session ticket keys (80 bytes each, newest first)."""

    name: str
    certificate: Certificate | None = None
    validation: Validation | None = None
    ticket_keys: tuple[bytes, ...] = ()

    def __repr__(self) -> str:
        return f"<Secret {self.name}>"


class TlsContext(Spec, frozen=True):
    """CommonTlsContext. `certificates` and `validation_secret` are names of Secrets.

    What validates is `validation`, or what the secret says, or both combined: the secret's values with those of
    `validation` added (Envoy merges them as protobuf does: the secret's scalar wins, lists are concatenated).
    `ciphers` are for TLS 1.2 and below, one name each (bracketed groups are flattened already).
    """

    certificates: tuple[str, ...] = ()
    validation: Validation | None = None
    validation_secret: str | None = None
    alpn: tuple[str, ...] = ()
    min_version: TlsVersion = TlsVersion.AUTO
    max_version: TlsVersion = TlsVersion.AUTO
    ciphers: tuple[str, ...] = ()
    curves: tuple[str, ...] = ()


AGENT_TICKET_KEYS = "agent/session-ticket-keys"
"""The Secret with the keys that the agent makes, for contexts that name none: a session goes on in any worker."""


class OcspPolicy(IntEnum):
    """DownstreamTlsContext.OcspStaplePolicy, same numbers: what there is without a good response for a client that asks."""

    LENIENT = 0
    """The handshake goes on without it."""
    STRICT = 1
    """It fails if there is one that is over."""
    MUST = 2
    """It fails."""


class DownstreamTls(Spec, frozen=True):
    """DownstreamTlsContext. Session tickets are encrypted with the keys of `ticket_secret`, which is `AGENT_TICKET_KEYS`
    where none is named; None: there are no tickets (`disable_stateless_session_resumption`)."""

    context: TlsContext
    require_client_certificate: bool = False
    full_scan_certificates: bool = False
    ticket_secret: str | None = None
    session_cache: bool = True
    session_timeout_s: int | None = None
    prefer_client_ciphers: bool = False
    ocsp_policy: OcspPolicy = OcspPolicy.LENIENT


class UpstreamTls(Spec, frozen=True):
    """UpstreamTlsContext. `auto_*` here are the context's own; a cluster's HTTP options say theirs in the cluster."""

    context: TlsContext
    sni: str = ""
    auto_host_sni: bool = False
    auto_sni_san_validation: bool = False
    max_session_keys: int = 1
