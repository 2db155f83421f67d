"""Names and pins of certificates."""

from typing import Any, cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from mosn_xds.data.net.tls import Shown, TlsError
from mosn_xds.data.net.tls_facts import CertificateFacts
from mosn_xds.data.tls.failures import CAUSES, explain
from mosn_xds.data.tls.refusal import Refusal
from mosn_xds.data.tls.svid import trust_domain
from mosn_xds.data.tls.verify import PeerPolicy, PeerVerdict, dns_name_matches
from mosn_xds.spec.common import StringMatch, StringMatchKind
from mosn_xds.spec.tls import SanKind, SanMatch, Validation
from tests.support.authority import Authority

ROOT = Authority()


def facts(*names: str, **fields: Any) -> CertificateFacts:
    issued = ROOT.issue(*names, **fields)
    return CertificateFacts(x509.load_pem_x509_certificate(issued.chain.encode()).public_bytes(Encoding.DER))


@pytest.mark.parametrize(
    ("name", "pattern", "matches"),
    [
        ("a.test", "a.test", True), ("A.test", "a.TEST", True), ("b.test", "a.test", False),
        ("x.a.test", "*.a.test", True), ("a.test", "*.a.test", False), ("x.y.a.test", "*.a.test", False),
        ("foo1.a.test", "foo*.a.test", True), ("1foo.a.test", "*foo.a.test", True), ("ba.a.test", "b*a.a.test", True),
        ("b.a.test", "b*b.a.test", False), ("test", "*", False), ("a.test", "*", False),
        ("xn--x.a.test", "xn--*.a.test", False), ("x.a.test", "x.*.test", False),
    ],
)  # fmt: skip
def test_dns_names(name: str, pattern: str, matches: bool) -> None:
    assert dns_name_matches(name, pattern) is matches


@pytest.mark.parametrize(
    ("kind", "match", "refused"),
    [
        (SanKind.URI, StringMatch(StringMatchKind.EXACT, "spiffe://td/a"), False),
        (SanKind.URI, StringMatch(StringMatchKind.SUFFIX, "/b"), True),
        (SanKind.DNS, StringMatch(StringMatchKind.EXACT, "x.wild.test"), False),
        (SanKind.DNS, StringMatch(StringMatchKind.PREFIX, "*.wild"), False),
        (SanKind.DNS, StringMatch(StringMatchKind.EXACT, "spiffe://td/a"), True),
        (SanKind.EMAIL, StringMatch(StringMatchKind.CONTAINS, "@td"), False),
        (SanKind.IP_ADDRESS, StringMatch(StringMatchKind.REGEX, r"10\..*"), False),
        (SanKind.OTHER_NAME, StringMatch(StringMatchKind.EXACT, "x"), True),
    ],
)
def test_alternative_names(kind: SanKind, match: StringMatch, refused: bool) -> None:
    policy = PeerPolicy(Validation(sans=(SanMatch(kind, match, "1.2.3.4"),)))
    found = policy.refuses(facts("spiffe://td/a", "*.wild.test", "me@td.test", "10.1.2.3"))
    assert found is (Refusal.SAN if refused else None)


def test_one_hash_or_one_pin_is_enough() -> None:
    leaf = facts("a.test")
    other = facts("b.test")
    good = bytes.fromhex(leaf.sha256)
    assert PeerPolicy(Validation(hashes=(b"0" * 32, good))).refuses(leaf) is None
    assert PeerPolicy(Validation(hashes=(good,), spki_pins=(b"0" * 32,))).refuses(leaf) is None
    assert PeerPolicy(Validation(hashes=(good,))).refuses(other) is Refusal.HASH


class Alone:
    """A certificate that is shown without a chain."""

    def __init__(self, leaf: CertificateFacts) -> None:
        self._leaf = leaf

    def leaf(self) -> bytes:
        return self._leaf.der

    def certificate(self) -> bytes:
        return self._leaf.der

    def chain(self) -> list[bytes]:
        return [self._leaf.der]


@pytest.mark.parametrize(
    ("uri", "domain"),
    [("spiffe://td/ns/a", "td"), ("spiffe://td/", "td"), ("spiffe://td", ""), ("spiffe:///a", ""), ("https://td/a", ""),
     ("SPIFFE://td/a", ""), ("", "")],
)  # fmt: skip
def test_the_trust_domain_of_a_spiffe_id(uri: str, domain: str) -> None:
    assert trust_domain(uri) == domain


def test_a_domain_without_authorities_lets_nobody_in() -> None:
    verdict = PeerVerdict(PeerPolicy(Validation(trust_domains=())))
    usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
    leaf = facts("spiffe://td/a", extensions=[usage])
    assert verdict.judge(0, 0, cast(Shown, Alone(leaf))) != 0
    assert verdict.refusal is Refusal.TRUST_DOMAIN and not verdict.verified
    text = explain(TlsError([("SSL routines", "certificate verify failed")]), verdict, "10.0.0.7:4711").text
    assert "spiffe://td/a" in text


def test_what_says_why_names_peer_cause_and_certificate() -> None:
    leaf = facts("a.test", common_name="the service")
    verdict = PeerVerdict(PeerPolicy(Validation(trusted_ca=b"x")))
    assert verdict.judge(10, 0, cast(Shown, Alone(leaf))) == 10
    failure = explain(TlsError([("SSL routines", "certificate verify failed")]), verdict, "10.0.0.7:4711")
    assert failure.stat == "fail_verify_error"
    for part in ("10.0.0.7:4711", "CN=the service", "CN=mosn-xds tests", "it has expired"):
        assert part in failure.text
    assert failure.transport_reason == (
        "TLS_error:|268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:verify cert failed: "
        "X509_verify_cert: certificate verification error at depth 0: certificate has expired:TLS_error_end"
    )


def test_every_cause_has_its_number_once() -> None:
    numbers = [(cause.number, cause.reason) for cause in CAUSES.values()]
    assert len({number for number, _ in numbers}) == len(set(numbers))
    assert all("{peer}" in cause.text for cause in CAUSES.values())
