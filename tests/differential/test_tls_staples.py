"""OCSP responses that are stapled to a handshake, and what becomes of it without a good one, beside Envoy."""

import time
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from tests.differential.bed import Bed, Config, cluster
from tests.differential.pair import case
from tests.differential.test_tls_downstream import downstream_tls, forget_lines, secure, tls_lines
from tests.differential.world import World
from tests.support import openssl_client
from tests.support.authority import Authority, Issued
from tests.support.openssl_client import V12, V13, Handshaken
from tests.support.proxies import ProxyKind
from tests.support.upstream import Upstream

ROOT = Authority("root")
RSA_KEY = rsa.generate_private_key(65537, 2048)
MUST = x509.TLSFeature([x509.TLSFeatureType.status_request])
PLAIN, DEMANDING = (
    ROOT.issue("srv.test", common_name="plain"),
    ROOT.issue("srv.test", common_name="must", extensions=[MUST]),
)
RSA = ROOT.issue("srv.test", common_name="rsa", key=RSA_KEY)


def staple(issued: Issued, *, age: timedelta = timedelta(), revoked: bool = False) -> bytes:
    """An OCSP response for a certificate; good for a day, `age` ago."""
    leaf = x509.load_pem_x509_certificate(issued.chain.encode())
    now = datetime.now(UTC) - age
    builder = ocsp.OCSPResponseBuilder().add_response(
        cert=leaf,
        issuer=ROOT.certificate,
        algorithm=hashes.SHA1(),
        cert_status=ocsp.OCSPCertStatus.REVOKED if revoked else ocsp.OCSPCertStatus.GOOD,
        this_update=now - timedelta(hours=1),
        next_update=now + timedelta(days=1),
        revocation_time=now - timedelta(hours=2) if revoked else None,
        revocation_reason=None,
    )
    made = builder.responder_id(ocsp.OCSPResponderEncoding.NAME, ROOT.certificate).sign(ROOT.key, hashes.SHA256())
    return made.public_bytes(Encoding.DER)


GOOD, OLD = staple(PLAIN), staple(PLAIN, age=timedelta(days=9))
DEMANDED, DEMANDED_OLD = staple(DEMANDING), staple(DEMANDING, age=timedelta(days=9))
RSA_GOOD = staple(RSA)


class Stapled:
    """A certificate that is configured with an OCSP response."""

    def __init__(self, issued: Issued, response: bytes) -> None:
        self._issued = issued
        self._response = response

    def config(self) -> Config:
        return self._issued.config(ocsp_staple={"inline_bytes": b64encode(self._response).decode()})


def listening(name: str, certificate: Any, policy: str) -> Config:
    return secure(
        name,
        downstream_tls(certificate, ocsp_staple_policy=f"{policy.upper()}_STAPL{'E' if policy == 'must' else 'ING'}"),
    )


POLICIES = ("lenient", "strict", "must")
CERTIFICATES = {
    "good": Stapled(PLAIN, GOOD),
    "revoked": Stapled(PLAIN, staple(PLAIN, revoked=True)),
    "old": Stapled(PLAIN, OLD),
    "none": PLAIN,
    "demanding": Stapled(DEMANDING, DEMANDED),
    "demanding old": Stapled(DEMANDING, DEMANDED_OLD),
}
SAYS = ("ocsp_staple_requests", "ocsp_staple_responses", "ocsp_staple_omitted", "ocsp_staple_failed")
STAPLED, OMITTED, FAILED = SAYS[1:]
BED = Bed(
    listeners=[
        *(
            listening(f"{name} {policy}", certificate, policy)
            for name, certificate in CERTIFICATES.items()
            for policy in POLICIES
            if (name, policy) != ("none", "must")
        ),
        secure(
            "other",
            downstream_tls(Stapled(PLAIN, OLD), Stapled(RSA, RSA_GOOD), ocsp_staple_policy="STRICT_STAPLING"),  # type: ignore[arg-type]
        ),
        secure("default", downstream_tls(Stapled(PLAIN, OLD))),  # type: ignore[arg-type]
        secure("two", downstream_tls(Stapled(PLAIN, GOOD), Stapled(RSA, RSA_GOOD))),  # type: ignore[arg-type]
    ],
    clusters=[cluster("a")],
    upstreams={"a": Upstream},
)  # fmt: skip


def shake(world: World, name: str, version: int, *, asks: bool = True, ciphers: str = "") -> Handshaken:
    """A handshake, and what the listener's log says of it."""
    forget_lines(world, name)
    ciphers = ciphers or ("TLS_AES_128_GCM_SHA256" if version == V13 else "ECDHE-ECDSA-AES128-GCM-SHA256")
    found = openssl_client.shake_hands(world.listener_port(name), version=version, asks_status=asks, ciphers=ciphers)
    world.note("staple", found.staple)
    tls_lines(world, name)
    return found


def counted(world: World, name: str, expected: str) -> None:
    """Wait until the listener has counted one request more, and what came of it."""
    prefix = f"listener.127.0.0.1_{world.listener_port(name)}.ssl."
    wanted = {stat: int(stat in (SAYS[0], expected)) for stat in SAYS}
    mark = world.marks.setdefault(f"staples {name}", 0)
    deadline = time.monotonic() + 5
    while True:
        found = world.proxy.stats(f"^{prefix}ocsp")
        if all(found.get(prefix + stat, 0) == count * (mark + 1) for stat, count in wanted.items()):
            break
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    world.marks[f"staples {name}"] = mark + 1


@case("OCSP: what is stapled, by ocsp_staple_policy and what the certificate demands")
@pytest.mark.parametrize("version", [V12, V13])
@pytest.mark.parametrize(
    ("certificate", "outcomes"),
    [("good", [STAPLED, STAPLED, STAPLED]), ("revoked", [STAPLED, STAPLED, STAPLED]),
     ("old", [OMITTED, FAILED, FAILED]), ("none", [OMITTED, OMITTED]),
     ("demanding", [STAPLED, STAPLED, STAPLED]), ("demanding old", [FAILED, FAILED, FAILED])],
)  # fmt: skip
def test_staples(proxy: World, certificate: str, outcomes: list[str], version: int) -> None:
    for policy, outcome in zip(POLICIES, outcomes, strict=False):
        found = shake(proxy, f"{certificate} {policy}", version)
        assert bool(found.staple) is (outcome == STAPLED)
        assert bool(found.error) is (outcome == FAILED)
        counted(proxy, f"{certificate} {policy}", outcome)


@case("OCSP: clients that do not ask are served whatever there is")
@pytest.mark.parametrize("name", ["good must", "old must", "demanding old strict"])
@pytest.mark.parametrize("version", [V12, V13])
def test_unasked(proxy: World, name: str, version: int) -> None:
    found = shake(proxy, name, version, asks=False)
    assert (found.staple, found.error) == (b"", "")


@case("OCSP: ocsp_staple_policy is lenient by default")
def test_default(proxy: World) -> None:
    found = shake(proxy, "default", V13)
    assert (found.staple, found.error) == (b"", "")


@case("OCSP: each certificate has a response of its own")
@pytest.mark.parametrize(("kind", "response"), [("ECDSA", GOOD), ("RSA", RSA_GOOD)], ids=["ecdsa", "rsa"])
def test_two(proxy: World, kind: str, response: bytes) -> None:
    assert shake(proxy, "two", V12, ciphers=f"ECDHE-{kind}-AES128-GCM-SHA256").staple == response


@case("OCSP: a client that gets no response that it must have", difference="staple-failed")
def test_failure(proxy: World) -> None:
    ours = proxy.kind is ProxyKind.OURS
    found = openssl_client.shake_hands(proxy.listener_port("old strict"), asks_status=True)
    assert found.error.endswith("alert internal error" if ours else "alert handshake failure")
    # Of two certificates the one that a client takes first has a response that is over.
    found = openssl_client.shake_hands(proxy.listener_port("other"), asks_status=True)
    assert (found.subject, bool(found.staple)) == (("", False) if ours else ("CN=rsa", True))
