"""TLS contexts (envoy.extensions.transport_sockets.tls.v3): DownstreamTlsContext, UpstreamTlsContext.

A context names its secrets. One that stands inline is given a name by its digest and goes into the report beside the
context; one from SDS becomes a need, with the name that it will have in a worker; one of the bootstrap's own is there
already. Texts are Envoy's where it has one.
"""

from mosn_xds.control.translate.cipher_names import UnknownNames, flatten_ciphers, known_curves
from mosn_xds.control.translate.common import take_source
from mosn_xds.control.translate.context import Context
from mosn_xds.control.translate.model import STATIC_SECRETS, Need, SecretKind, secret_name
from mosn_xds.control.translate.secret import (
    kind_of,
    read_validation,
    refuse_unsafe,
    take_certificate,
    take_ticket_keys,
    take_validation,
)
from mosn_xds.control.translate.take import Take
from mosn_xds.spec.snapshot import digest, encode
from mosn_xds.spec.tls import (
    AGENT_TICKET_KEYS,
    DownstreamTls,
    OcspPolicy,
    Secret,
    TlsContext,
    TlsVersion,
    UpstreamTls,
    Validation,
)
from mosn_xds.xds.messages import TYPE_PREFIX

SECRETS_URL = f"{TYPE_PREFIX}envoy.extensions.transport_sockets.tls.v3.Secret"

_UNKNOWN_STATIC = {
    SecretKind.CERTIFICATE: "Unknown static secret: ",
    SecretKind.VALIDATION: "Unknown static certificate validation context: ",
    SecretKind.TICKET_KEYS: "Unknown static session ticket keys: ",
}
_ALPN_LIMIT_BYTES = 255


def take_downstream_tls(take: Take, context: Context) -> DownstreamTls:
    """DownstreamTlsContext. Raises ConfigError."""
    found = _take_common(take.child("common_tls_context"), context)
    if not found.certificates:
        raise take.error("common_tls_context", "No TLS certificates found for server context")
    take.ignore_given(require_sni="as in Envoy: connections without SNI are taken like others")
    timeout_s = take.duration("session_timeout")
    return DownstreamTls(
        found,
        require_client_certificate=bool(take.wrapped_flag("require_client_certificate")),
        full_scan_certificates=bool(take.wrapped_flag("full_scan_certs_on_sni_mismatch")),
        ticket_secret=_take_tickets(take, context),
        session_cache=not take.flag("disable_stateful_session_resumption"),
        session_timeout_s=None if timeout_s is None else int(timeout_s),
        prefer_client_ciphers=take.flag("prefer_client_ciphers"),
        ocsp_policy=take.enum("ocsp_staple_policy", OcspPolicy),
    )


def take_upstream_tls(take: Take, context: Context) -> UpstreamTls:
    """UpstreamTlsContext. Raises ConfigError."""
    found = _take_common(take.child("common_tls_context"), context)
    if len(found.certificates) > 1:
        raise take.error(
            "common_tls_context.tls_certificates", "Multiple TLS certificates are not supported for client contexts"
        )
    sni = take.text("sni")
    if "\0" in sni:
        raise take.error("sni", "SNI names containing NULL-byte are not allowed")
    auto_san = take.flag("auto_sni_san_validation")
    if auto_san and found.validation is None and found.validation_secret is None:
        raise take.error(
            "auto_sni_san_validation", "'auto_sni_san_validation' was configured without a validation context"
        )
    take.ignore_given(allow_renegotiation="upstreams cannot renegotiate")
    if take.wrapped_flag("enforce_rsa_key_usage") is False:
        take.ignore("enforce_rsa_key_usage", "as in Envoy: key usage is always enforced")
    keys = take.wrapped_integer("max_session_keys")
    return UpstreamTls(
        found,
        sni=sni,
        auto_host_sni=take.flag("auto_host_sni"),
        auto_sni_san_validation=auto_san,
        max_session_keys=1 if keys is None else keys,
    )


def _take_common(take: Take | None, context: Context) -> TlsContext:
    if take is None:
        return TlsContext()
    for name in (
        "tls_certificate_provider_instance",
        "tls_certificate_certificate_provider",
        "tls_certificate_certificate_provider_instance",
        "validation_context_certificate_provider",
        "validation_context_certificate_provider_instance",
        "custom_tls_certificate_selector",
        "custom_handshaker",
    ):
        if take.has(name):
            raise take.error(name, f"{name} is not supported", "give certificates, or SDS names of them")
    if take.has("key_log"):
        take.ignore("key_log", "session keys are not written anywhere")
    certificates = _take_certificates(take, context)
    validation, validation_secret = _take_validation(take, context)
    params = take.child("tls_params")
    low = high = TlsVersion.AUTO
    ciphers: tuple[str, ...] = ()
    curves: tuple[str, ...] = ()
    if params is not None:
        low = params.enum("tls_minimum_protocol_version", TlsVersion)
        high = params.enum("tls_maximum_protocol_version", TlsVersion)
        ciphers, curves = _take_ciphers(params), _take_curves(params)
        for name in ("signature_algorithms", "compliance_policies"):
            if params.has(name):
                params.ignore(name, "OpenSSL's own rules hold")
    alpn = take.texts("alpn_protocols")
    for name in alpn:
        if len(name.encode()) > _ALPN_LIMIT_BYTES:
            raise take.error("alpn_protocols", "Invalid ALPN protocol string")
    return TlsContext(
        certificates,
        validation,
        validation_secret,
        tuple([one for text in alpn for one in text.split(",") if one]),
        low,
        high,
        ciphers,
        curves,
    )


# --- what is named or stands inline -------------------------------------------------------------------------------------


def _take_certificates(take: Take, context: Context) -> tuple[str, ...]:
    inline = take.children("tls_certificates")
    sds = take.children("tls_certificate_sds_secret_configs")
    if inline and sds:
        raise take.error(
            "tls_certificate_sds_secret_configs",
            "SDS and non-SDS TLS certificates may not be mixed in server contexts",
        )
    names = [_inline(one, Secret("", certificate=take_certificate(one, context))) for one in inline]
    return (*names, *[_named(one, SecretKind.CERTIFICATE, context) for one in sds])


def _take_validation(take: Take, context: Context) -> tuple[Validation | None, str | None]:
    own = take.child("validation_context")
    if own is not None:
        return take_validation(own, context), None
    sds = take.child("validation_context_sds_secret_config")
    if sds is not None:
        return None, _named(sds, SecretKind.VALIDATION, context)
    both = take.child("combined_validation_context")
    if both is None:
        return None, None
    for name in ("validation_context_certificate_provider", "validation_context_certificate_provider_instance"):
        if both.has(name):
            raise both.error(name, f"{name} is not supported", "give an SDS name")
    default = both.child("default_validation_context")
    found = None if default is None else read_validation(default, context)
    sds = both.child("validation_context_sds_secret_config")
    if sds is None:
        if default is not None and found is not None:
            refuse_unsafe(default, found)
        return found, None
    return found, _named(sds, SecretKind.VALIDATION, context)


def _take_tickets(take: Take, context: Context) -> str | None:
    keys = take.child("session_ticket_keys")
    if keys is not None:
        return _inline(keys, Secret("", ticket_keys=take_ticket_keys(keys)))
    sds = take.child("session_ticket_keys_sds_secret_config")
    if sds is not None:
        return _named(sds, SecretKind.TICKET_KEYS, context)
    return None if take.flag("disable_stateless_session_resumption") else AGENT_TICKET_KEYS


def _inline(take: Take, secret: Secret) -> str:
    """Note the secret under a name that equal ones share."""
    name = secret_name("inline", digest(encode(secret)).hex())
    take.report.secrets[name] = Secret(name, secret.certificate, secret.validation, secret.ticket_keys)
    return name


def _named(take: Take, kind: SecretKind, context: Context) -> str:
    """SdsSecretConfig: from a config source, or one of the bootstrap's own."""
    name = take.text("name")
    config = take.child("sds_config")
    if config is None:
        if not any(one.name == name and kind_of(one) is kind for one in context.options.secrets):
            raise take.error("name", f"{_UNKNOWN_STATIC[kind]}{name}", "give sds_config, or add it to static_resources")
        return secret_name(STATIC_SECRETS, name)
    source, timeout_s = take_source(config)
    take.report.needs[Need(SECRETS_URL, name, source, timeout_s, kind)] = None
    return secret_name(str(source), name)


# --- parameters ---------------------------------------------------------------------------------------------------------


def _take_ciphers(take: Take) -> tuple[str, ...]:
    given = take.texts("cipher_suites")
    try:
        found, without_effect = flatten_ciphers(given)
    except UnknownNames as error:
        raise take.error(
            "cipher_suites",
            f"Failed to initialize cipher suites {':'.join(given)}. The following ciphers were rejected when tried "
            f"individually: {', '.join(error.names)}",
        ) from None
    for name in without_effect:
        take.report.unread.append(f"{take.path('cipher_suites')} ({name} is not available in OpenSSL)")
    if without_effect and not found:
        raise take.error("cipher_suites", f"Failed to initialize cipher suites {':'.join(given)}", "none is available")
    return found


def _take_curves(take: Take) -> tuple[str, ...]:
    given = take.texts("ecdh_curves")
    try:
        return known_curves(given)
    except UnknownNames:
        raise take.error("ecdh_curves", f"Failed to initialize ECDH curves {':'.join(given)}") from None
