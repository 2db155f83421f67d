"""SPIFFE's certificate validator (envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig).

Each trust domain has authorities of its own, as PEM with a domain's name, or all of them in one SPIFFE bundle map (JSON,
with the certificates of keys for ``x509-svid``). Texts are Envoy's where it has one.
"""

import base64
import json
import ssl
from typing import Any, cast

from google.protobuf.message import Message

from mosn_xds.control.translate.certificates import BadMaterial, load_authorities
from mosn_xds.control.translate.data_source import INLINE, read_data, take_data
from mosn_xds.control.translate.take import Take, unknown_field_paths
from mosn_xds.spec.tls import TrustDomain
from mosn_xds.xds.messages import short_type, unpack

_NAME = "envoy.tls.cert_validator.spiffe"
_TYPE = "envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig"
_USE = "x509-svid"


def take_trust_domains(take: Take) -> tuple[TrustDomain, ...] | None:
    """The domains of a CertificateValidationContext's validator, None if it has none of its own. Raises ConfigError, for
    other validators, too."""
    extension = take.child("custom_validator_config")
    if extension is None:
        return None
    name, config = extension.text("name"), extension.message_of("typed_config")
    if name != _NAME or config is None or short_type(config.type_url) != _TYPE:
        raise extension.error(
            "name", f"Failed to get certificate validator factory for {name}", f"{_NAME}, or trusted_ca"
        )
    opened = _open(extension, config)
    bundles = take_data(opened, "trust_bundles")
    domains = opened.children("trust_domains")
    if bundles is not None:
        for one in domains:
            one.left.clear()
        if domains:
            opened.ignore("trust_domains", "as in Envoy: there are trust_bundles")
        return _read_map(opened, bundles.content)
    found: dict[str, TrustDomain] = {}
    for one in domains:
        made = _take_domain(one)
        if made.name in found:
            raise one.error("name", f"Multiple trust bundles are given for one trust domain for {made.name}")
        found[made.name] = made
    return tuple(found.values())


def _open(extension: Take, config: Any) -> Take:
    """As Envoy: a field that is not known is an error, and the rules of the proto do not hold."""
    unpacked = unpack(config)
    message = cast(Message, unpacked.message)
    for path in unpacked.unknown_keys or unknown_field_paths(message, config.value):
        raise extension.error(f"typed_config.{path}", f"Protobuf message (type {_TYPE}) has unknown fields")
    return Take(message, extension.report, extension, "typed_config")


def _take_domain(take: Take) -> TrustDomain:
    name = take.text("name")
    bundle = take.child("trust_bundle")
    content = b"" if bundle is None else read_data(bundle).content
    try:
        authorities, lists = load_authorities(content, INLINE)
    except BadMaterial as error:
        raise take.error("trust_bundle", f"Failed to load trusted CA certificate for {name}", error.hint) from None
    return TrustDomain(name, authorities, lists)


def _read_map(take: Take, content: bytes) -> tuple[TrustDomain, ...]:
    try:
        document = json.loads(content)
    except ValueError:
        raise take.error("trust_bundles", "Invalid JSON found in SPIFFE bundle") from None
    domains = document.get("trust_domains") if isinstance(document, dict) else None
    if not isinstance(domains, dict) or not domains:
        raise take.error("trust_bundles", "No trust domains found in SPIFFE bundle")
    return tuple([TrustDomain(name, _read_keys(take, name, domain)) for name, domain in domains.items()])


def _read_keys(take: Take, name: str, domain: Any) -> bytes:
    keys = domain.get("keys") if isinstance(domain, dict) else None
    if not isinstance(keys, list) or not keys:
        raise take.error("trust_bundles", f"No keys found in SPIFFE bundle for domain '{name}'")
    pems = []
    for key in keys:
        if not isinstance(key, dict) or key.get("use") != _USE:
            raise take.error("trust_bundles", f"missing or invalid 'use' field found in cert for domain '{name}'")
        chain = key.get("x5c")
        if not isinstance(chain, list) or not chain:
            raise take.error("trust_bundles", f"missing or empty 'x5c' field found in keys for domain: '{name}'")
        pems += [_read_certificate(take, name, one) for one in chain]
    return b"".join(pems)


def _read_certificate(take: Take, name: str, text: object) -> bytes:
    try:
        der = base64.b64decode(text if isinstance(text, str) else "", validate=True)
    except ValueError:
        der = b""
    if not der:
        complaint = f"Failed to create x509 object while loading certs in domain '{name}'"
        raise take.error("trust_bundles", complaint, "x5c holds base64 of DER")
    try:
        return load_authorities(ssl.DER_cert_to_PEM_cert(der).encode(), INLINE)[0]
    except BadMaterial:
        raise take.error("trust_bundles", f"Invalid x509 object in certs for domain '{name}'") from None
