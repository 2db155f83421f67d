"""Why TLS failed: Envoy's text for logs, and a sentence that says what to look at. One table for the causes that matter.

Envoy prints BoringSSL's error queue (``TLS_error:|268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:...``);
ours is OpenSSL's, whose reasons have other texts and numbers. People grep for Envoy's, so what occurs in practice is
translated. What is not in the table keeps OpenSSL's reason, in the same form.

The sentence names the peer, the cause and the certificate: "the certificate <subject, issuer, end> of 10.0.0.7:4711 has
expired". It goes to the worker's log.
"""

import errno
import os
from typing import NamedTuple

from mosn_xds.data.net.openssl import verify_error_text
from mosn_xds.data.net.tls import TlsError
from mosn_xds.data.net.tls_facts import CertificateFacts
from mosn_xds.data.tls.refusal import Refusal
from mosn_xds.data.tls.verify import PeerVerdict

_SSL_LIBRARY = 16 << 24
_SYSTEM_LIBRARY = 2 << 24
_KEY_USAGE = 302


class Cause(NamedTuple):
    """One row: BoringSSL's reason with its number, and what to tell an operator of the ``{peer}``."""

    number: int
    reason: str
    text: str


NO_CERTIFICATE = Cause(192, "PEER_DID_NOT_RETURN_A_CERTIFICATE", "{peer} sent no certificate, and one is required")
VERIFY_FAILED = Cause(125, "CERTIFICATE_VERIFY_FAILED", "the certificate of {peer} is refused")

CAUSES: dict[str, Cause] = {
    "certificate verify failed": VERIFY_FAILED,
    "peer did not return a certificate": NO_CERTIFICATE,
    "unsupported protocol": Cause(240, "UNSUPPORTED_PROTOCOL", "{peer} speaks no TLS version that is allowed here"),
    "no shared cipher": Cause(184, "NO_SHARED_CIPHER", "{peer} offers no cipher that is allowed here"),
    "no suitable key share": Cause(
        268, "NO_SHARED_GROUP", "{peer} offers no elliptic curve that is allowed here (ecdh_curves)"
    ),
    "http request": Cause(156, "HTTP_REQUEST", "{peer} sent an HTTP request in plaintext"),
    "https proxy request": Cause(155, "HTTPS_PROXY_REQUEST", "{peer} sent CONNECT in plaintext"),
    "wrong version number": Cause(247, "WRONG_VERSION_NUMBER", "{peer} does not speak TLS: it sent something else"),
    "packet length too long": Cause(247, "WRONG_VERSION_NUMBER", "{peer} does not speak TLS: it sent something else"),
    "unknown protocol": Cause(247, "WRONG_VERSION_NUMBER", "{peer} does not speak TLS: it sent something else"),
    "clienthello tlsext": Cause(
        133, "CONNECTION_REJECTED", "{peer} wants an OCSP response, and there is no good one (ocsp_staple)"
    ),
    "tlsv1 alert unknown ca": Cause(
        1048, "TLSV1_ALERT_UNKNOWN_CA", "{peer} does not trust the root of our certificate (or misses an intermediate)"
    ),
    "tlsv1 alert protocol version": Cause(
        1070, "TLSV1_ALERT_PROTOCOL_VERSION", "{peer} allows no TLS version that we speak"
    ),
    "tls alert handshake failure": Cause(
        1040, "SSLV3_ALERT_HANDSHAKE_FAILURE", "{peer} refuses: it wants a certificate or another cipher"
    ),
    "tlsv13 alert certificate required": Cause(
        1116, "TLSV1_ALERT_CERTIFICATE_REQUIRED", "{peer} wants a certificate, and none is configured here"
    ),
    "tls alert bad certificate": Cause(1042, "SSLV3_ALERT_BAD_CERTIFICATE", "{peer} refuses our certificate"),
    "tls alert unsupported certificate": Cause(
        1043, "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE", "{peer} refuses our certificate: it is not made for this use"
    ),
    "tls alert certificate revoked": Cause(
        1044, "SSLV3_ALERT_CERTIFICATE_REVOKED", "{peer} says that our certificate is revoked"
    ),
    "tls alert certificate expired": Cause(
        1045, "SSLV3_ALERT_CERTIFICATE_EXPIRED", "{peer} says that our certificate has expired"
    ),
    "tls alert certificate unknown": Cause(
        1046, "SSLV3_ALERT_CERTIFICATE_UNKNOWN", "{peer} refuses our certificate: maybe its names"
    ),
    "tlsv1 alert decrypt error": Cause(1051, "TLSV1_ALERT_DECRYPT_ERROR", "{peer} could not check our signature"),
    "tlsv1 alert access denied": Cause(1049, "TLSV1_ALERT_ACCESS_DENIED", "{peer} denies access to our certificate"),
    "tlsv1 alert internal error": Cause(1080, "TLSV1_ALERT_INTERNAL_ERROR", "{peer} failed"),
    "tlsv1 unrecognized name": Cause(
        1112, "TLSV1_ALERT_UNRECOGNIZED_NAME", "{peer} does not know the server name we sent"
    ),
    "tlsv1 alert no application protocol": Cause(
        1120, "TLSV1_ALERT_NO_APPLICATION_PROTOCOL", "{peer} speaks none of the protocols that we offer (ALPN)"
    ),
}
"""By OpenSSL's reason. Alerts are what the peer says of us."""

_REVOCATION = "certificate revocation check against provided CRLs failed: "
_CHAIN_TEXTS = {
    26: "unsupported certificate purpose",
    3: f"{_REVOCATION}unable to get certificate CRL",
    9: "certificate is not yet valid",
    12: f"{_REVOCATION}CRL has expired",
    22: "unable to get local issuer certificate",
    23: f"{_REVOCATION}certificate revoked",
    18: "self signed certificate",
    19: "self signed certificate in certificate chain",
}
"""Where BoringSSL's words for a failed verification are others than OpenSSL's."""

_CHAIN_HINTS = {
    2: "its issuer is not among the trusted certificates",
    3: "no revocation list of its issuer is here",
    9: "it is not valid yet",
    10: "it has expired",
    12: "the revocation list of its issuer has expired",
    18: "it is self-signed and not trusted",
    19: "its root is not trusted",
    20: "its issuer is not trusted, or an intermediate is missing",
    21: "its issuer is not trusted, or an intermediate is missing",
    22: "its chain is too long",
    23: "it is revoked",
    24: "its issuer may not issue certificates",
    26: "it is not made for this use (extended key usage)",
}


class Failure(NamedTuple):
    """`transport_reason` is Envoy's (may be empty), `text` ours, `stat` the counter to add to (may be empty)."""

    transport_reason: str
    text: str
    stat: str


def explain(error: OSError, verdict: PeerVerdict | None, peer: str) -> Failure:
    """What to say of a handshake, or a connection, with `peer` that has ended with `error`."""
    if not isinstance(error, TlsError):
        number = error.errno or 0
        reason = os.strerror(number)
        text = f"|{_SYSTEM_LIBRARY + number}:system library:OPENSSL_internal:{reason}"
        return Failure(_bracket(text), f"the connection to {peer} was lost: {reason}", "")
    if verdict is not None and verdict.refusal is not None:
        return _explain_refusal(verdict, verdict.refusal, peer)
    if not error.reasons or "unexpected eof" in error.reasons[0][1]:
        return Failure("", f"{peer} ended the connection during the handshake", "")
    causes = [CAUSES.get(reason) or _unknown(reason) for _, reason in error.reasons]
    items = "".join(f"|{_SSL_LIBRARY + one.number}:SSL routines:OPENSSL_internal:{one.reason}" for one in causes)
    text = causes[0].text.format(peer=peer)
    if causes[0] is NO_CERTIFICATE:
        return Failure(
            _bracket(f"{items}:peer did not provide required client certificate"), text, "fail_verify_no_cert"
        )
    return Failure(_bracket(items), text, "connection_error")


def _unknown(reason: str) -> Cause:
    return Cause(0, reason.upper().replace(" ", "_"), f"TLS with {{peer}} failed: {reason}")


def _explain_refusal(verdict: PeerVerdict, refusal: Refusal, peer: str) -> Failure:
    certificate = verdict.certificate or CertificateFacts(b"")
    if refusal is Refusal.KEY_USAGE:
        item = f"|{_SSL_LIBRARY + _KEY_USAGE}:SSL routines:OPENSSL_internal:{refusal.value}"
        why = "its key usage does not let its key be used as this handshake does"
        return Failure(
            _bracket(item), f"the certificate of {peer} is refused: {certificate!r}: {why}", "connection_error"
        )
    detail, stat = refusal.value, "fail_verify_san"
    if refusal is Refusal.CHAIN:
        stat = "fail_verify_error"
        detail = detail.format(verdict.depth, _CHAIN_TEXTS.get(verdict.error) or verify_error_text(verdict.error))
        why = _CHAIN_HINTS.get(verdict.error) or verify_error_text(verdict.error)
    elif refusal is Refusal.HASH:
        stat = "fail_verify_cert_hash"
        why = f"its hash {certificate.sha256} and that of its key are not among those allowed"
    elif refusal is Refusal.NO_SVID:
        stat = "fail_verify_error"
        why = "its key usage is missing or lets it sign certificates: it is no X509-SVID"
    elif refusal is Refusal.TRUST_DOMAIN:
        stat = "fail_verify_error"
        why = (
            f"its first URI ({(certificate.uri_sans or ('it has none',))[0]}) is in no trust domain that is configured"
        )
    else:
        names = certificate.sans
        if refusal is Refusal.SAN:
            detail = f"{detail}, certificate SANs are [{', '.join(names)}]"
        elif refusal is Refusal.REQUIRED_SAN:
            expected = ", ".join(verdict.required)
            detail = f"{detail}, expected SANs: [{expected}], certificate SANs: [{', '.join(names)}]"
        why = f"none of its names ({', '.join(names) or 'it has none'}) is among those that are expected"
    item = f"|{_SSL_LIBRARY + VERIFY_FAILED.number}:SSL routines:OPENSSL_internal:{VERIFY_FAILED.reason}"
    return Failure(
        _bracket(f"{item}:verify cert failed: {detail}"),
        f"the certificate of {peer} is refused: {certificate!r}: {why}",
        stat,
    )


def _bracket(items: str) -> str:
    return f"TLS_error:{items}:TLS_error_end"


def transport_error(text: str) -> OSError:
    """An error that tells `text` where connections say why they failed."""
    return OSError(errno.EPROTO, text)
