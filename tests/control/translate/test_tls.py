"""TLS contexts and secrets: what they become, and what is refused before anybody serves it."""

import dataclasses
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from google.protobuf import json_format

from mosn_xds.base.errors import ConfigError
from mosn_xds.control.bootstrap.reading import prepare
from mosn_xds.control.translate.model import NodeContext, Options, SecretKind, Source, SourceKind, Translated
from mosn_xds.control.translate.tls import SECRETS_URL
from mosn_xds.control.translate.translator import CLUSTERS_URL, LISTENERS_URL, Translator
from mosn_xds.spec.cluster import Cluster
from mosn_xds.spec.common import StringMatch, StringMatchKind
from mosn_xds.spec.listener import Listener
from mosn_xds.spec.tls import (
    AGENT_TICKET_KEYS,
    Certificate,
    DownstreamTls,
    SanKind,
    SanMatch,
    Secret,
    TlsVersion,
    UpstreamTls,
    Validation,
)
from mosn_xds.xds.messages import message_class
from tests.support.authority import Authority, Issued, key_pem

pytestmark = pytest.mark.usefixtures("checked_names")

CONTEXTS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3"
CA = Authority()
MINE = CA.issue("spiffe://cluster.local/ns/shop/sa/front")
SDS = {
    "api_config_source": {
        "api_type": "GRPC",
        "transport_api_version": "V3",
        "grpc_services": [{"envoy_grpc": {"cluster_name": "sds-grpc"}}],
        "set_node_on_first_message_only": True,
    },
    "initial_fetch_timeout": "0s",
    "resource_api_version": "V3",
}


def translator(**options: Any) -> Translator:
    return Translator(NodeContext(), Options(**options))


def translate(type_url: str, config: dict[str, Any], **options: Any) -> Translated:
    found = message_class(type_url)
    assert found is not None
    return translator(**options).translate(
        type_url, "", json_format.ParseDict(prepare(config), found()).SerializeToString()
    )


def listener(context: dict[str, Any], **options: Any) -> Translated:
    tcp = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": "t",
        "cluster": "c",
    }
    chain = {
        "transport_socket": {"name": "tls", "typed_config": {"@type": f"{CONTEXTS}.DownstreamTlsContext", **context}},
        "filters": [{"name": "tcp", "typed_config": tcp}],
    }
    address = {"socket_address": {"address": "127.0.0.1", "port_value": 1}}
    return translate(LISTENERS_URL, {"name": "l", "address": address, "filter_chains": [chain]}, **options)


def down(context: dict[str, Any], **options: Any) -> DownstreamTls:
    spec = listener(context, **options).spec
    assert isinstance(spec, Listener) and spec.chains[0].tls is not None
    return spec.chains[0].tls


def cluster(context: dict[str, Any]) -> Translated:
    socket = {"name": "tls", "typed_config": {"@type": f"{CONTEXTS}.UpstreamTlsContext", **context}}
    return translate(CLUSTERS_URL, {"name": "c", "transport_socket": socket})


def up(context: dict[str, Any]) -> UpstreamTls:
    spec = cluster(context).spec
    assert isinstance(spec, Cluster) and spec.tls is not None
    return spec.tls


def secret(**fields: Any) -> Translated:
    return translate(SECRETS_URL, {"name": "s", **fields})


def inline(text: str) -> dict[str, str]:
    return {"inline_string": text}


def common(**fields: Any) -> dict[str, Any]:
    return {"common_tls_context": {"tls_certificates": [MINE.config()], **fields}}


# --- what contexts become -----------------------------------------------------------------------------------------------


def test_an_inline_certificate_is_a_secret_of_its_own_that_the_context_names() -> None:
    found = listener(common())
    (made,) = found.extra
    assert isinstance(made, Secret) and made.certificate is not None and made.name.startswith("inline/")
    assert (made.certificate.chain.decode(), made.certificate.key.decode()) == (MINE.chain, MINE.key_text)
    context = down(common()).context
    assert (context.certificates, context.validation_secret) == ((made.name,), None)


def test_equal_inline_certificates_share_one_secret() -> None:
    other = CA.issue("spiffe://cluster.local/ns/shop/sa/back")
    (made,) = listener(common()).extra
    assert made in cluster(common()).extra
    two = listener({"common_tls_context": {"tls_certificates": [MINE.config(), other.config()]}})
    assert len(two.extra) == 2


def test_istios_inbound_context() -> None:
    context = {
        "require_client_certificate": True,
        "common_tls_context": {
            "alpn_protocols": ["h2", "http/1.1"],
            "tls_params": {
                "tls_minimum_protocol_version": "TLSv1_2",
                "tls_maximum_protocol_version": "TLSv1_3",
                "cipher_suites": ["ECDHE-ECDSA-AES256-GCM-SHA384", "AES128-GCM-SHA256"],
            },
            "tls_certificate_sds_secret_configs": [{"name": "default", "sds_config": SDS}],
            "combined_validation_context": {
                "default_validation_context": {"match_subject_alt_names": [{"prefix": "spiffe://cluster.local/"}]},
                "validation_context_sds_secret_config": {"name": "ROOTCA", "sds_config": SDS},
            },
        },
    }
    found = listener(context)
    tls = down(context)
    assert tls.require_client_certificate and tls.ticket_secret == AGENT_TICKET_KEYS
    assert (tls.context.certificates, tls.context.validation_secret) == (
        ("grpc:sds-grpc/default",),
        "grpc:sds-grpc/ROOTCA",
    )
    assert tls.context.validation is not None
    prefix = StringMatch(StringMatchKind.PREFIX, "spiffe://cluster.local/")
    assert SanMatch(SanKind.URI, prefix) in tls.context.validation.sans
    assert (tls.context.min_version, tls.context.max_version) == (TlsVersion.TLS_1_2, TlsVersion.TLS_1_3)
    assert tls.context.ciphers == ("ECDHE-ECDSA-AES256-GCM-SHA384", "AES128-GCM-SHA256")
    assert tls.context.alpn == ("h2", "http/1.1")
    source = Source(SourceKind.GRPC, "sds-grpc", "", True)
    assert [(need.name, need.source, need.initial_fetch_timeout_s, need.secret) for need in found.needs] == [
        ("default", source, 0.0, SecretKind.CERTIFICATE),
        ("ROOTCA", source, 0.0, SecretKind.VALIDATION),
    ]
    assert found.unread == () and found.extra == ()


def test_istios_outbound_context() -> None:
    context = {
        "sni": "outbound_.9080_._.reviews.default.svc.cluster.local",
        "common_tls_context": {
            "alpn_protocols": ["istio-peer-exchange", "istio", "h2"],
            "tls_certificate_sds_secret_configs": [{"name": "default", "sds_config": SDS}],
            "combined_validation_context": {
                "default_validation_context": {
                    "match_typed_subject_alt_names": [
                        {"san_type": "URI", "matcher": {"exact": "spiffe://cluster.local/ns/default/sa/reviews"}}
                    ]
                },
                "validation_context_sds_secret_config": {"name": "ROOTCA", "sds_config": SDS},
            },
        },
    }
    tls = up(context)
    assert tls.sni == "outbound_.9080_._.reviews.default.svc.cluster.local"
    assert tls.context.alpn == ("istio-peer-exchange", "istio", "h2")
    assert tls.context.validation is not None and tls.context.validation.sans == (
        SanMatch(SanKind.URI, StringMatch(StringMatchKind.EXACT, "spiffe://cluster.local/ns/default/sa/reviews")),
    )


def test_a_credential_over_ads_has_ads_in_its_name() -> None:
    config = {"name": "kubernetes://shop", "sds_config": {"ads": {}, "resource_api_version": "V3"}}
    tls = down({"common_tls_context": {"tls_certificate_sds_secret_configs": [config]}})
    assert tls.context.certificates == ("ads/kubernetes://shop",)


def test_endpoints_metadata_chooses_among_contexts() -> None:
    matches = [
        {
            "name": "tlsMode-istio",
            "match": {"tlsMode": "istio"},
            "transport_socket": {
                "name": "tls",
                "typed_config": {"@type": f"{CONTEXTS}.UpstreamTlsContext", "sni": "a.test", **common()},
            },
        },
        {"name": "tlsMode-disabled", "match": {}},
    ]
    found = translate(CLUSTERS_URL, {"name": "c", "transport_socket_matches": matches})
    assert isinstance(found.spec, Cluster)
    secure, plain = found.spec.transport_matches
    assert secure.tls is not None and (secure.transport, secure.tls.sni) == ("tls", "a.test")
    assert (plain.transport, plain.tls) == ("raw_buffer", None)
    assert [one.name for one in found.extra if isinstance(one, Secret)] == list(secure.tls.context.certificates)


def test_the_bootstraps_own_secrets_are_named_without_a_source() -> None:
    own = Secret("mine", certificate=Certificate(b"", b""))
    config = {"common_tls_context": {"tls_certificate_sds_secret_configs": [{"name": "mine"}]}}
    assert down(config, secrets=(own,)).context.certificates == ("static/mine",)
    with pytest.raises(ConfigError, match="Unknown static secret: mine"):
        listener(config, secrets=(Secret("mine", validation=Validation()),))


def test_tickets_can_be_switched_off_or_given() -> None:
    assert down({**common(), "disable_stateless_session_resumption": True}).ticket_secret is None
    key = {"inline_bytes": "QUFB" + "QUFB" * 25 + "QUE="}
    found = listener({**common(), "session_ticket_keys": {"keys": [key]}})
    assert [len(k) for one in found.extra if isinstance(one, Secret) for k in one.ticket_keys] == [80]


def test_groups_of_equal_preference_are_flattened() -> None:
    params = {"cipher_suites": ["[ECDHE-RSA-AES128-GCM-SHA256|ECDHE-RSA-CHACHA20-POLY1305]", "AES128-SHA:AES256-SHA"]}
    assert down(common(tls_params=params)).context.ciphers == (
        "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-RSA-CHACHA20-POLY1305",
        "AES128-SHA",
        "AES256-SHA",
    )


def test_words_for_ciphers_are_expanded() -> None:
    ciphers = down(common(tls_params={"cipher_suites": ["ECDHE+AESGCM"]})).context.ciphers
    assert "ECDHE-RSA-AES128-GCM-SHA256" in ciphers and "AES128-SHA" not in ciphers


def test_what_openssl_lacks_is_reported() -> None:
    found = listener(
        common(tls_params={"cipher_suites": ["DES-CBC3-SHA", "AES128-SHA"], "signature_algorithms": ["x"]})
    )
    assert any("DES-CBC3-SHA is not available" in path for path in found.unread)
    assert any("signature_algorithms" in path for path in found.unread)


def test_curves_have_one_name_each() -> None:
    params = {"ecdh_curves": ["X25519", "prime256v1", "P-384"]}
    assert down(common(tls_params=params)).context.curves == ("X25519", "P-256", "P-384")


# --- material -----------------------------------------------------------------------------------------------------------


def test_certificates_come_from_files(tmp_path: Path) -> None:
    chain, key = MINE.write(tmp_path)
    files = {"certificate_chain": {"filename": chain}, "private_key": {"filename": key}}
    found = listener({"common_tls_context": {"tls_certificates": [files]}})
    assert found.files == (chain, key)
    (made,) = found.extra
    assert isinstance(made, Secret) and made.certificate is not None and made.certificate.chain.decode() == MINE.chain


def test_a_changed_file_makes_another_chain_of_the_same_bytes(tmp_path: Path) -> None:
    chain, key = MINE.write(tmp_path)
    files = {"certificate_chain": {"filename": chain}, "private_key": {"filename": key}}
    tls = {"@type": f"{CONTEXTS}.DownstreamTlsContext", "common_tls_context": {"tls_certificates": [files]}}
    tcp = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": "t",
        "cluster": "c",
    }
    config = {
        "name": "l",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 1}},
        "filter_chains": [
            {"transport_socket": {"name": "tls", "typed_config": tls}, "filters": [{"name": "t", "typed_config": tcp}]}
        ],
    }
    found = message_class(LISTENERS_URL)
    assert found is not None
    raw = json_format.ParseDict(prepare(config), found()).SerializeToString()
    one = translator()
    before, again = one.translate(LISTENERS_URL, "", raw).spec, one.translate(LISTENERS_URL, "", raw).spec
    CA.issue("a.test").write(tmp_path)
    after = one.translate(LISTENERS_URL, "", raw).spec
    assert isinstance(before, Listener) and isinstance(after, Listener) and before == again
    assert before.chains[0].uid != after.chains[0].uid
    assert before.chains[0].tls != after.chains[0].tls


def test_a_password_opens_an_encrypted_key() -> None:
    key = inline(key_pem(MINE.key, b"sesame"))
    found = secret(tls_certificate=MINE.config(private_key=key, password=inline("sesame")))
    assert isinstance(found.spec, Secret) and found.spec.certificate is not None
    assert found.spec.certificate.key.decode() == MINE.key_text


def test_a_validation_secret_holds_authorities_and_lists() -> None:
    revoked = CA.revoke(MINE)
    found = secret(validation_context={"trusted_ca": inline(CA.root + revoked), "only_verify_leaf_cert_crl": True})
    assert isinstance(found.spec, Secret) and found.spec.validation is not None
    validation = found.spec.validation
    assert (validation.trusted_ca.decode(), validation.crl.decode().strip()) == (CA.root, revoked.strip())
    assert validation.only_leaf_crl


def test_one_half_of_a_combined_context_needs_no_authority() -> None:
    names = {"match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": "a.test"}}]}
    both = {
        "default_validation_context": names,
        "validation_context_sds_secret_config": {"name": "ROOTCA", "sds_config": SDS},
    }
    assert up({"common_tls_context": {"combined_validation_context": both}}).context.validation is not None


OTHER = CA.issue("b.test")
EXPIRED = CA.issue("a.test", start=timedelta(days=-2), end=timedelta(hours=-1))
SMALL = CA.issue("a.test", key=rsa.generate_private_key(65537, 1024))
ODD = CA.issue("a.test", key=ec.generate_private_key(ec.SECP256K1()))

BROKEN: dict[str, tuple[dict[str, Any], str, str]] = {
    "no certificate in it": (
        MINE.config(certificate_chain=inline("garbage")),
        "tls_certificate",
        "Failed to load certificate chain from <inline>",
    ),
    "a certificate cut short": (
        MINE.config(certificate_chain=inline(MINE.chain[:90] + MINE.chain[150:])),
        "tls_certificate",
        "Failed to load certificate chain from <inline>",
    ),
    "no key in it": (
        MINE.config(private_key=inline("garbage")),
        "tls_certificate",
        "Failed to load private key from <inline>, Cause: ",
    ),
    "a key of another": (
        MINE.config(private_key=inline(OTHER.key_text)),
        "tls_certificate",
        "Failed to load private key from <inline>, Cause: the key does not fit the certificate",
    ),
    "a key without its password": (
        MINE.config(private_key=inline(key_pem(MINE.key, b"sesame"))),
        "tls_certificate",
        "Cause: it is encrypted (give the password)",
    ),
    "a wrong password": (
        MINE.config(private_key=inline(key_pem(MINE.key, b"sesame")), password=inline("open")),
        "tls_certificate",
        "Cause: the password is wrong, or the key is broken",
    ),
    "no chain": (
        {"private_key": inline(MINE.key_text)},
        "tls_certificate.certificate_chain",
        "Failed to load incomplete certificate from : certificate chain not set",
    ),
    "no key": (
        {"certificate_chain": inline(MINE.chain)},
        "tls_certificate.private_key",
        "Failed to load incomplete private key from path: ",
    ),
    "expired": (EXPIRED.config(), "tls_certificate", "Failed to load certificate chain from <inline>: it expired at "),
    "a small key": (
        SMALL.config(),
        "tls_certificate",
        "only RSA certificates with 2048-bit or larger keys are supported",
    ),
    "an odd curve": (ODD.config(), "tls_certificate", "only P-256, P-384 or P-521 ECDSA certificates are supported"),
    "an absent file": (
        MINE.config(private_key={"filename": "/nowhere/key.pem"}),
        "tls_certificate.private_key.filename",
        "unable to read file '/nowhere/key.pem': No such file or directory",
    ),
    "an empty source": (
        MINE.config(private_key=inline("")),
        "tls_certificate.private_key",
        "DataSource cannot be empty",
    ),
    "a key provider": (
        MINE.config(private_key_provider={"provider_name": "hsm"}),
        "tls_certificate.private_key_provider.provider_name",
        "Failed to load private key provider: hsm",
    ),
    "a container": ({"pkcs12": inline("garbage")}, "tls_certificate", "Failed to load pkcs12 from <inline>"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_certificate_that_could_not_serve_is_refused(case: str) -> None:
    config, path, text = BROKEN[case]
    with pytest.raises(ConfigError) as refused:
        secret(tls_certificate=config)
    assert refused.value.path == path and text in str(refused.value)
    for part in (MINE.key_text, OTHER.key_text):
        assert not any(line in str(refused.value) for line in part.splitlines()[1:-1])


UNSAFE: dict[str, tuple[dict[str, Any], str]] = {
    "no authority in it": ({"trusted_ca": inline("garbage")}, "Failed to load trusted CA certificates from <inline>"),
    "a key for an authority": (
        {"trusted_ca": inline(MINE.key_text)},
        "Failed to load trusted CA certificates from <inline>",
    ),
    "names of nobody": (
        {"match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": "a"}}]},
        "SAN-based verification of peer certificates without trusted CA is insecure and not allowed",
    ),
    "a list without authority": ({"crl": inline(CA.revoke())}, "Failed to load CRL from <inline> without trusted CA"),
    "a broken list": ({"trusted_ca": inline(CA.root), "crl": inline("x")}, "Failed to load CRL from <inline>"),
    "no time and no authority": (
        {"allow_expired_certificate": True},
        "Certificate validity period is always ignored without trusted CA",
    ),
    "no hash": ({"verify_certificate_hash": ["z" * 64]}, f"Invalid hex-encoded SHA-256 {'z' * 64}"),
    "no pin": ({"verify_certificate_spki": ["-" * 44]}, f"Invalid base64-encoded SHA-256 {'-' * 44}"),
    "no regex": (
        {
            "trusted_ca": inline(CA.root),
            "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"safe_regex": {"regex": "("}}}],
        },
        "missing ): (",
    ),
    "no object identifier": (
        {
            "trusted_ca": inline(CA.root),
            "match_typed_subject_alt_names": [{"san_type": "OTHER_NAME", "matcher": {"exact": "a"}}],
        },
        "Failed to create SAN matcher for OTHER_NAME with OID: ",
    ),
    "another validator": (
        {
            "custom_validator_config": {
                "name": "spiffe",
                "typed_config": {"@type": f"{CONTEXTS}.SPIFFECertValidatorConfig"},
            }
        },
        "Failed to get certificate validator factory",
    ),
}


@pytest.mark.parametrize("case", UNSAFE)
def test_a_validation_that_could_not_protect_is_refused(case: str) -> None:
    config, text = UNSAFE[case]
    with pytest.raises(ConfigError) as refused:
        secret(validation_context=config)
    assert text in str(refused.value) and refused.value.path.startswith("validation_context")


Make = Callable[[dict[str, Any]], Translated]
NOWHERE: dict[str, tuple[Make, dict[str, Any], str]] = {
    "a server without a certificate": (
        listener,
        {"common_tls_context": {}},
        "No TLS certificates found for server context",
    ),
    "a client with two": (
        cluster,
        {"common_tls_context": {"tls_certificates": [MINE.config(), OTHER.config()]}},
        "Multiple TLS certificates are not supported for client contexts",
    ),
    "two kinds of certificates": (
        listener,
        common(tls_certificate_sds_secret_configs=[{"name": "default", "sds_config": SDS}]),
        "SDS and non-SDS TLS certificates may not be mixed in server contexts",
    ),
    "a cipher that nobody knows": (
        listener,
        common(tls_params={"cipher_suites": ["AES128-SHA", "NOPE"]}),
        "Failed to initialize cipher suites AES128-SHA:NOPE. The following ciphers were rejected when tried individually: "
        "NOPE",
    ),
    "a curve that nobody knows": (
        listener,
        common(tls_params={"ecdh_curves": ["X25519", "NOPE"]}),
        "Failed to initialize ECDH curves X25519:NOPE",
    ),
    "a protocol's name without end": (listener, common(alpn_protocols=["h" * 256]), "Invalid ALPN protocol string"),
    "a server name with a hole": (cluster, {"sni": "a\0b"}, "SNI names containing NULL-byte are not allowed"),
    "nothing to validate with": (
        cluster,
        {"auto_sni_san_validation": True},
        "'auto_sni_san_validation' was configured without a validation context",
    ),
    "ticket keys of a wrong size": (
        listener,
        {**common(), "session_ticket_keys": {"keys": [inline("abc")]}},
        "Incorrect TLS session ticket key length. Length 3, expected length 80.",
    ),
}


@pytest.mark.parametrize("case", NOWHERE)
def test_a_context_that_could_not_shake_hands_is_refused(case: str) -> None:
    make, config, text = NOWHERE[case]
    with pytest.raises(ConfigError) as refused:
        make(config)
    assert text in str(refused.value)


def test_secrets_hide_what_they_hold() -> None:
    found = listener(common())
    (made,) = found.extra
    assert isinstance(made, Secret)
    shown = f"{made!r} {made} {made.certificate!r} {found!r} {found.extra!r} {Issued}"
    assert not any(line in shown for line in MINE.key_text.splitlines()[1:-1])
    assert dataclasses.fields(found)  # Translated is a dataclass: its own repr is in `shown`
