"""Statistics of TLS, under Envoy's names: ``listener.ADDRESS.ssl.`` and ``cluster.NAME.ssl.``."""

from mosn_xds.base.stats import StatGroup
from mosn_xds.data.net.tls_facts import TlsFacts


class SslStats(StatGroup):
    """Ciphers, curves and versions that were agreed on are counted by name (``versions.TLSv1.3``)."""

    COUNTERS = (
        "connection_error",
        "handshake",
        "session_reused",
        "no_certificate",
        "fail_verify_no_cert",
        "fail_verify_error",
        "fail_verify_san",
        "fail_verify_cert_hash",
        "ocsp_staple_failed",
        "ocsp_staple_omitted",
        "ocsp_staple_responses",
        "ocsp_staple_requests",
        "was_key_usage_invalid",
    )
    __slots__ = COUNTERS

    connection_error: int
    handshake: int
    session_reused: int
    no_certificate: int
    fail_verify_no_cert: int
    fail_verify_error: int
    fail_verify_san: int
    fail_verify_cert_hash: int
    ocsp_staple_failed: int
    ocsp_staple_omitted: int
    ocsp_staple_responses: int
    ocsp_staple_requests: int
    was_key_usage_invalid: int

    def count_handshake(self, facts: TlsFacts, *, has_peer: bool) -> None:
        """A handshake is complete."""
        self.handshake += 1
        if facts.resumed:
            self.session_reused += 1
        if not has_peer:
            self.no_certificate += 1
        extra = self.extra
        for name in (f"ciphers.{facts.cipher}", f"versions.{facts.version}", f"curves.{facts.group}"):
            if name[-1] != ".":
                extra[name] = extra.get(name, 0) + 1
