"""Secrets (envoy.extensions.transport_sockets.tls.v3.Secret) and what they are made of, which contexts may hold inline.

Everything is checked here, at once (`certificates`): a secret that is accepted can serve. A secret's Spec bears the
resource's own name; the name that is unique in a worker is made by whoever knows where it came from (`secret_name`).
"""

import base64
import re

from mosn_xds.control.translate.certificates import (
    BadMaterial,
    check_staple,
    load_authorities,
    load_certificate,
    load_pkcs12,
    load_revocations,
)
from mosn_xds.control.translate.context import Context
from mosn_xds.control.translate.data_source import Data, read_data, take_data
from mosn_xds.control.translate.matchers import take_string_match
from mosn_xds.control.translate.model import SecretKind
from mosn_xds.control.translate.spiffe import take_trust_domains
from mosn_xds.control.translate.take import Take
from mosn_xds.spec.tls import Certificate, SanKind, SanMatch, Secret, TrustDomain, Validation

TICKET_KEY_BYTES = 80
_OID = re.compile(r"[0-2](\.(0|[1-9][0-9]*))+")
_SHA256_BYTES = 32
_ACCEPT_UNTRUSTED = 1
_NOT_OF_SVIDS = (
    "trusted_ca", "system_root_certs", "crl", "only_verify_leaf_cert_crl", "verify_certificate_hash",
    "verify_certificate_spki", "max_verify_depth", "trust_chain_verification",
)  # fmt: skip
_EVERY_KIND = (SanKind.DNS, SanKind.URI, SanKind.EMAIL, SanKind.IP_ADDRESS)


def take_secret(take: Take, context: Context) -> Secret:
    """A Secret resource. Raises ConfigError."""
    name = take.text("name")
    certificate = take.child("tls_certificate")
    if certificate is not None:
        return Secret(name, certificate=take_certificate(certificate, context))
    validation = take.child("validation_context")
    if validation is not None:
        found = take_validation(validation, context)
        identifies = found.trusted_ca or found.system_roots or found.hashes or found.spki_pins
        if not identifies and found.trust_domains is None:
            raise validation.error("trusted_ca", "a validation context that accepts any certificate", "give trusted_ca")
        return Secret(name, validation=found)
    keys = take.child("session_ticket_keys")
    if keys is not None:
        return Secret(name, ticket_keys=take_ticket_keys(keys))
    kind = take.one_of("generic_secret")
    take.left.clear()
    raise take.error(kind or "", "Secret type not implemented", "a certificate, validation context or ticket keys")


def kind_of(secret: Secret) -> SecretKind:
    """What a secret can be used for."""
    if secret.certificate is not None:
        return SecretKind.CERTIFICATE
    return SecretKind.VALIDATION if secret.validation is not None else SecretKind.TICKET_KEYS


def take_certificate(take: Take, context: Context) -> Certificate:
    """A TlsCertificate, complete and not expired. Raises ConfigError."""
    take.child("watched_directory")
    password = _take_password(take)
    container = take_data(take, "pkcs12")
    chain = take_data(take, "certificate_chain")
    fallback = _take_provider(take)
    key = take_data(take, "private_key")
    now = context.options.clock.wall()
    try:
        if container is not None:
            if chain is not None or key is not None or fallback:
                raise take.error("pkcs12", "Certificate configuration can't have both pkcs12 and private_key")
            certificate = load_pkcs12(container.content, password, now, shown=container.shown)
        elif chain is None:
            raise take.error(
                "certificate_chain", "Failed to load incomplete certificate from : certificate chain not set"
            )
        elif key is None:
            raise take.error("private_key", "Failed to load incomplete private key from path: ", "give the private key")
        else:
            certificate = load_certificate(
                chain.content, key.content, password, now, chain_from=chain.shown, key_from=key.shown
            )
    except BadMaterial as error:
        raise take.error("", error.reason, error.hint) from None
    if take.has("signed_certificate_timestamp"):
        take.ignore("signed_certificate_timestamp", "timestamps are not sent to clients")
    staple = _take_staple(take)
    return Certificate(certificate.chain, certificate.key, staple)


def _take_password(take: Take) -> bytes | None:
    given = take_data(take, "password")
    return None if given is None else given.content


def _take_provider(take: Take) -> bool:
    """Whether there is a private key provider, and its fallback is to be used."""
    provider = take.child("private_key_provider")
    if provider is None:
        return False
    name = provider.text("provider_name")
    if not provider.flag("fallback"):
        raise provider.error(
            "provider_name", f"Failed to load private key provider: {name}", "fallback: true, with a private_key"
        )
    provider.left.clear()
    provider.ignore("", "no private key provider is known, its fallback is used")
    return True


def _take_staple(take: Take) -> bytes:
    message = take.message
    if message.HasField("ocsp_staple") and message.ocsp_staple.WhichOneof("specifier") == "inline_string":
        raise take.error("ocsp_staple", "OCSP staple cannot be provided via inline_string")
    staple = take_data(take, "ocsp_staple")
    if staple is None:
        return b""
    try:
        return check_staple(staple.content, staple.shown)
    except BadMaterial as error:
        raise take.error("ocsp_staple", error.reason, error.hint) from None


def take_validation(take: Take, context: Context) -> Validation:
    """A CertificateValidationContext of its own, or a secret's. Raises ConfigError."""
    validation = read_validation(take, context)
    refuse_unsafe(take, validation)
    return validation


def refuse_unsafe(take: Take, validation: Validation) -> None:
    """Raises ConfigError for names or lists that would be checked in a certificate that anybody could have made."""
    if validation.trusted_ca or validation.system_roots or validation.trust_domains is not None:
        return
    if validation.crl:
        raise take.error("crl", "Failed to load CRL from <inline> without trusted CA")
    if validation.sans:
        raise take.error(
            "match_typed_subject_alt_names",
            "SAN-based verification of peer certificates without trusted CA is insecure and not allowed",
            "give trusted_ca",
        )
    if validation.allow_expired:
        raise take.error(
            "allow_expired_certificate", "Certificate validity period is always ignored without trusted CA"
        )


def read_validation(take: Take, context: Context) -> Validation:
    """The fields as they are, for one half of a combined context."""
    take.child("watched_directory")
    if take.has("ca_certificate_provider_instance"):
        name = "ca_certificate_provider_instance"
        raise take.error(name, f"Failed to get certificate validator factory for {name}", "give trusted_ca")
    if take.wrapped_flag("require_signed_certificate_timestamp"):
        take.ignore("require_signed_certificate_timestamp", "as in Envoy: certificate transparency is not checked")
    domains = take_trust_domains(take)
    if domains is not None:
        return _read_svid_validation(take, context, domains)
    roots = take.child("system_root_certs") is not None
    authority, revoked = _take_authorities(take)
    return Validation(
        trusted_ca=authority,
        system_roots=roots and not authority,
        sans=_take_sans(take, context),
        hashes=tuple([_take_hash(take, text) for text in take.texts("verify_certificate_hash")]),
        spki_pins=tuple([_take_pin(take, text) for text in take.texts("verify_certificate_spki")]),
        crl=revoked,
        only_leaf_crl=take.flag("only_verify_leaf_cert_crl"),
        max_depth=take.wrapped_integer("max_verify_depth"),
        allow_expired=take.flag("allow_expired_certificate"),
        accept_untrusted=take.integer("trust_chain_verification") == _ACCEPT_UNTRUSTED,
    )


def _read_svid_validation(take: Take, context: Context, domains: tuple[TrustDomain, ...]) -> Validation:
    """What SPIFFE's validator heeds."""
    take.ignore_given(**dict.fromkeys(_NOT_OF_SVIDS, "as in Envoy: SPIFFE's validator does not look at it"))
    sans = _take_sans(take, context)
    if any(one.kind is not SanKind.URI for one in sans) and take.message.match_typed_subject_alt_names:
        take.ignore("match_typed_subject_alt_names", "as in Envoy: SPIFFE's validator looks at URIs only")
    return Validation(
        sans=tuple([one for one in sans if one.kind is SanKind.URI]),
        allow_expired=take.flag("allow_expired_certificate"),
        trust_domains=domains,
    )


def _take_authorities(take: Take) -> tuple[bytes, bytes]:
    authority = take_data(take, "trusted_ca")
    field = "trusted_ca"
    found = revoked = b""
    try:
        if authority is not None:
            found, revoked = load_authorities(authority.content, authority.shown)
        field = "crl"
        lists = take_data(take, "crl")
        if lists is not None:
            revoked += load_revocations(lists.content, lists.shown)
    except BadMaterial as error:
        raise take.error(field, error.reason, error.hint) from None
    return found, revoked


def _take_sans(take: Take, context: Context) -> tuple[SanMatch, ...]:
    found = []
    for one in take.children("match_typed_subject_alt_names"):
        kind = one.enum("san_type", SanKind)
        matcher, oid = one.child("matcher"), one.text("oid")
        if matcher is None:
            raise one.error("matcher", "a matcher is required")
        if kind is SanKind.OTHER_NAME and not _OID.fullmatch(oid):
            raise one.error("oid", f"Failed to create SAN matcher for OTHER_NAME with OID: {oid}")
        found.append(SanMatch(kind, take_string_match(matcher, context), oid))
    for old in take.children("match_subject_alt_names"):
        match = take_string_match(old, context)
        found += [SanMatch(kind, match) for kind in _EVERY_KIND]
    return tuple(found)


def _take_hash(take: Take, text: str) -> bytes:
    try:
        found = bytes.fromhex(text.replace(":", ""))
    except ValueError:
        found = b""
    if len(found) != _SHA256_BYTES:
        raise take.error("verify_certificate_hash", f"Invalid hex-encoded SHA-256 {text}")
    return found


def _take_pin(take: Take, text: str) -> bytes:
    try:
        found = base64.b64decode(text, validate=True)
    except ValueError:
        found = b""
    if len(found) != _SHA256_BYTES:
        raise take.error("verify_certificate_spki", f"Invalid base64-encoded SHA-256 {text}")
    return found


def take_ticket_keys(take: Take) -> tuple[bytes, ...]:
    """TlsSessionTicketKeys, newest first. Raises ConfigError."""
    found = []
    for one in take.children("keys"):
        data: Data = read_data(one)
        if len(data.content) != TICKET_KEY_BYTES:
            raise one.error(
                "", f"Incorrect TLS session ticket key length. Length {len(data.content)}, expected length 80."
            )
        found.append(data.content)
    return tuple(found)
