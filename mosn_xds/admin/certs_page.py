"""`/certs`: the certificates of the secrets in use, their names and how long they are good (envoy.admin.v3.Certificates).

Nothing of a private key is looked at. As in Envoy an authority is shown by its first certificate, a chain by its leaf.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from cryptography import x509

from mosn_xds.spec.tls import Secret

_DAY_S = 24 * 3600
_TIME = "%Y-%m-%dT%H:%M:%SZ"


def page(secrets: Iterable[Secret], now: float) -> dict[str, Any]:
    """One entry for each secret that has certificates; `now` is wall-clock seconds."""
    entries = []
    for secret in secrets:
        roots = _shown(b"".join(_authorities(secret)[:1]), now)
        chain = _shown(secret.certificate.chain, now) if secret.certificate is not None else []
        if roots or chain:
            entries.append({"ca_cert": roots, "cert_chain": chain})
    return {"certificates": entries} if entries else {}


def ends_at(secret: Secret) -> float | None:
    """Wall-clock seconds at which the first of its certificates is over; None without one."""
    pems = [secret.certificate.chain] if secret.certificate is not None else []
    found = [_first(pem) for pem in pems + _authorities(secret)]
    return min((one.not_valid_after_utc.timestamp() for one in found if one is not None), default=None)


def days_left(ends: float, now: float) -> int:
    return max(0, int((ends - now) // _DAY_S))


def _authorities(secret: Secret) -> list[bytes]:
    validation = secret.validation
    if validation is None:
        return []
    domains = validation.trust_domains
    return [validation.trusted_ca] if domains is None else [one.authorities for one in domains]


def _first(pem: bytes) -> x509.Certificate | None:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError:  # no certificate at all: validation by pins, or by the system's roots
        return None


def _shown(pem: bytes, now: float) -> list[dict[str, Any]]:
    certificate = _first(pem)
    if certificate is None:
        return []
    ends = certificate.not_valid_after_utc
    shown = {
        "path": "<inline>",
        "serial_number": f"{certificate.serial_number:x}",
        "subject_alt_names": _names(certificate),
        "days_until_expiration": str(days_left(ends.timestamp(), now)),
        "valid_from": certificate.not_valid_before_utc.astimezone(UTC).strftime(_TIME),
        "expiration_time": datetime.fromtimestamp(ends.timestamp(), UTC).strftime(_TIME),
    }
    return [shown]


def _names(certificate: x509.Certificate) -> list[dict[str, str]]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    kinds = ((x509.UniformResourceIdentifier, "uri"), (x509.DNSName, "dns"), (x509.IPAddress, "ip_address"))
    return [{key: str(name)} for kind, key in kinds for name in names.get_values_for_type(kind)]
