"""OCSP responses that a server sends along with its certificate (RFC 6066 section 8), for clients that ask.

Rules are Envoy's (`ocspStapleAction`): a response that is over is as good as none; what happens then is the policy's to say,
and that of a certificate that demands stapling (RFC 7633) is the strictest. OpenSSL asks when it has chosen a certificate, so
that another one, whose response is good, does not come to its rescue as in Envoy; and the alert of a handshake that fails is
internal_error, not handshake_failure.
"""

from collections.abc import Callable, Sequence
from datetime import UTC
from hashlib import sha256
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from OpenSSL import SSL

from mosn_xds.base.errors import ConfigError
from mosn_xds.data.net.openssl import certificate_der, ffi, lib
from mosn_xds.data.tls.material import Identity
from mosn_xds.data.tls.stats import SslStats
from mosn_xds.spec.tls import OcspPolicy

_OK, _ALERT, _NO_ACK = 0, 2, 3
"""SSL_TLSEXT_ERR_OK and its kin."""


class Staple(NamedTuple):
    """The response for one certificate; `ends_at` is wall-clock seconds."""

    response: bytes
    ends_at: float
    policy: OcspPolicy


class Staples:
    """Those of one listener's certificates. Must live as long as the contexts that it is given to. Raises ConfigError for what
    is no response."""

    def __init__(self, identities: Sequence[Identity], policy: OcspPolicy, read_wall: Callable[[], float]) -> None:
        self._read_wall = read_wall
        self._staples = {
            sha256(one.leaf.public_bytes(Encoding.DER)).digest(): _staple(one, policy) for one in identities
        }
        self._callback = ffi.callback("int(SSL *, void *)", self._on_status, error=_ALERT)

    def give_to(self, context: SSL.Context) -> None:
        """Staple in the handshakes of `context`, whose connections bear their `SslStats` as application data."""
        lib.SSL_CTX_set_tlsext_status_cb(context._context, self._callback)

    def _on_status(self, ssl: Any, _: Any) -> int:
        """SSL_CTX_set_tlsext_status_cb(3): a client asks."""
        conn = SSL.Connection._reverse_mapping.get(ssl)
        stats = conn.get_app_data() if conn is not None else None
        if not isinstance(stats, SslStats):
            return _NO_ACK
        stats.ocsp_staple_requests += 1
        staple = self._staples[sha256(certificate_der(lib.SSL_get_certificate(ssl))).digest()]
        if staple.response and staple.ends_at > self._read_wall():
            stats.ocsp_staple_responses += 1
            size = len(staple.response)
            memory = lib.OPENSSL_malloc(size)
            ffi.memmove(memory, staple.response, size)
            lib.SSL_set_tlsext_status_ocsp_resp(ssl, memory, size)  # which owns it now
            return _OK
        if staple.policy is OcspPolicy.MUST or (staple.policy is OcspPolicy.STRICT and staple.response):
            stats.ocsp_staple_failed += 1
            return _ALERT
        stats.ocsp_staple_omitted += 1
        return _NO_ACK

    def __repr__(self) -> str:
        return f"<Staples {sum(bool(one.response) for one in self._staples.values())} of {len(self._staples)}>"


def _staple(identity: Identity, policy: OcspPolicy) -> Staple:
    if _demands_staple(identity.leaf):
        policy = OcspPolicy.MUST
    response = identity.ocsp_staple
    if not response:
        return Staple(b"", 0.0, policy)
    try:
        next_update = ocsp.load_der_ocsp_response(response).next_update_utc
    except ValueError as error:
        raise ConfigError("Failed to load OCSP response from <inline>") from error
    return Staple(response, 0.0 if next_update is None else next_update.astimezone(UTC).timestamp(), policy)


def _demands_staple(certificate: x509.Certificate) -> bool:
    try:
        features = certificate.extensions.get_extension_for_class(x509.TLSFeature).value
    except (x509.ExtensionNotFound, ValueError):
        return False
    return x509.TLSFeatureType.status_request in features
