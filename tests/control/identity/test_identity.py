"""Identity without pilot-agent: real requests to a real authority over gRPC and TLS, hours by a simulated clock."""

import random
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2

from mosn_xds.base.clock import SystemClock
from mosn_xds.base.errors import ConfigError
from mosn_xds.base.stats import StatRegistry
from mosn_xds.control.ads.client import ACK, Verdict
from mosn_xds.control.ads.events import Response
from mosn_xds.control.ads.resource_types import SDS
from mosn_xds.control.identity.ca_client import CaError, IstiodClient
from mosn_xds.control.identity.identity import Identity, IdentityStats
from mosn_xds.control.identity.request import KeyKind, make_request
from mosn_xds.control.identity.settings import CaSettings, IdentitySettings, from_environment
from mosn_xds.pilot.authority import CertificateAuthority, CertificateService
from mosn_xds.pilot.resources import ResourceSet
from mosn_xds.pilot.server import Pilot
from mosn_xds.xds.ca import SigningRequest

FRONT = "spiffe://cluster.local/ns/shop/sa/front"
TOKENS = {"tok-front": FRONT}


class Mesh:
    """An istiod on TLS, and a workload's files and environment."""

    def __init__(self, folder: Path, ttl_s: float | None = None) -> None:
        self.authority = CertificateAuthority()
        service = CertificateService(self.authority, TOKENS.get, ttl_s=ttl_s)
        server = self.authority.issue("istiod.istio-system.svc")
        self.pilot = Pilot(ResourceSet(), "127.0.0.1:0", tls=server, certificates=service)
        self.token = folder / "var/run/secrets/tokens/istio-token"
        self.root = folder / "var/run/secrets/istio/root-cert.pem"
        for path in (self.token, self.root):
            path.parent.mkdir(parents=True)
        self.token.write_text("tok-front\n")
        self.root.write_bytes(self.authority.root)
        self.environment = {
            "CA_ADDR": f"localhost:{self.pilot.port}",
            "POD_NAMESPACE": "shop",
            "SERVICE_ACCOUNT": "front",
        }
        self.folder = folder

    def settings(self, **environment: str) -> CaSettings:
        found = from_environment({**self.environment, **environment}, has_sds=False, folder=self.folder)
        assert found is not None and found.ca is not None
        return found.ca


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Mesh]:
    found = Mesh(tmp_path)
    yield found
    found.pilot.stop()


class Judge:
    """Remembers what it was offered, and finds everything good."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, Any]] = []
        self.news = trio.Event()

    async def __call__(self, source: str, response: Response) -> Verdict:
        for resource in response.resources:
            self.told.append((source, resource.name, secret_pb2.Secret.FromString(resource.raw)))
        self.news.set()
        self.news = trio.Event()
        return ACK

    async def until(self, count: int) -> None:
        while len(self.told) < count:
            await self.news.wait()

    def chains(self) -> list[bytes]:
        return [s.tls_certificate.certificate_chain.inline_bytes for _, name, s in self.told if name == "default"]


def sign(settings: CaSettings, kind: KeyKind = KeyKind.P256) -> tuple[str, ...]:
    async def main() -> tuple[str, ...]:
        with trio.fail_after(60):
            return await IstiodClient(settings.target).sign(SigningRequest(make_request(FRONT, kind).csr, 3600))

    return trio.run(main)


# --- the request --------------------------------------------------------------------------------------------------------


def test_the_authority_answers_with_leaf_and_root_for_whoever_the_token_says(mesh: Mesh) -> None:
    leaf, root = sign(mesh.settings())
    certificate = x509.load_pem_x509_certificate(leaf.encode())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [FRONT]
    assert root.encode() == mesh.authority.root
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(mesh.authority.root))


@pytest.mark.parametrize(
    ("kind", "public"),
    [
        (KeyKind.P256, ec.EllipticCurvePublicKey),
        (KeyKind.P384, ec.EllipticCurvePublicKey),
        (KeyKind.RSA, rsa.RSAPublicKey),
    ],
)
def test_keys_of_each_kind_are_certified(mesh: Mesh, kind: KeyKind, public: type) -> None:
    leaf, _ = sign(mesh.settings(), kind)
    assert isinstance(x509.load_pem_x509_certificate(leaf.encode()).public_key(), public)


def test_the_token_is_read_again_for_each_request(mesh: Mesh) -> None:
    settings = mesh.settings()
    mesh.token.write_text("tok-stranger")
    with pytest.raises(CaError, match="UNAUTHENTICATED: request authenticate failure"):
        sign(settings)
    mesh.token.write_text("tok-front")
    assert sign(settings)


def test_an_authority_that_the_root_does_not_vouch_for_gets_no_token(mesh: Mesh) -> None:
    mesh.root.write_bytes(CertificateAuthority("elsewhere").root)
    with pytest.raises(CaError, match="UNAVAILABLE"):
        sign(mesh.settings())
    mesh.root.write_bytes(b"")
    with pytest.raises(CaError, match="holds no PEM block"):
        sign(mesh.settings())


def test_missing_files_are_said_by_name(mesh: Mesh) -> None:
    mesh.token.unlink()
    with pytest.raises(CaError, match="istio-token: No such file or directory"):
        sign(mesh.settings())


# --- what is served -----------------------------------------------------------------------------------------------------


def test_the_workloads_secrets_come_from_the_authority_and_are_renewed(tmp_path: Path) -> None:
    mesh = Mesh(tmp_path, ttl_s=3)  # renewed at half of its life
    settings = IdentitySettings(ca=mesh.settings())
    stats = StatRegistry()
    identity = Identity(settings, SystemClock(), random.Random(1), stats, ca=IstiodClient(mesh.settings().target))
    judge = Judge()

    async def main() -> None:
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(identity.run)
                source = identity.subscriber("grpc:sds-grpc", judge)
                source.change(SDS, ("default", "ROOTCA", "unheard-of"), ())
                await judge.until(3)
                nursery.cancel_scope.cancel()

    try:
        trio.run(main)
    finally:
        mesh.pilot.stop()
    assert {(source, name) for source, name, _ in judge.told} == {
        ("grpc:sds-grpc", "default"),
        ("grpc:sds-grpc", "ROOTCA"),
    }
    assert len(set(judge.chains())) == 2
    assert [s.validation_context.trusted_ca.inline_bytes for _, n, s in judge.told if n == "ROOTCA"] == [
        mesh.authority.root
    ]
    counted = stats.group(IdentityStats, "identity.")
    assert (counted.csr_success, counted.csr_failure) == (2, 0)
    assert abs(counted.expires_at_s - datetime.now(UTC).timestamp()) < 10


class SimulatedCa:
    """An authority in the time of the test; fails while it is told to."""

    def __init__(self, now: Any) -> None:
        self.authority = CertificateAuthority(now=now)
        self.asked_at: list[float] = []
        self.failing = False

    async def sign(self, request: SigningRequest) -> tuple[str, ...]:
        self.asked_at.append(trio.current_time())
        if self.failing:
            raise CaError("UNAVAILABLE: not today")
        return self.authority.sign(request.csr, FRONT, request.validity_s)


class TrioClock:
    """The wall clock of a simulated day that begins now."""

    def __init__(self) -> None:
        self.start = datetime.now(UTC).timestamp()

    def monotonic(self) -> float:
        return trio.current_time()

    def wall(self) -> float:
        return self.start + trio.current_time()

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.wall(), UTC)


def simulate(mesh: Mesh, story: Any) -> tuple[SimulatedCa, Judge]:
    judge = Judge()
    found: list[SimulatedCa] = []

    async def main() -> None:
        clock = TrioClock()
        ca = SimulatedCa(clock.now)
        found.append(ca)
        identity = Identity(IdentitySettings(ca=mesh.settings()), clock, random.Random(3), StatRegistry(), ca=ca)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(identity.run)
            identity.subscriber("grpc:sds-grpc", judge).change(SDS, ("default",), ())
            await story(ca)
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.05))
    return found[0], judge


def test_a_day_long_certificate_is_replaced_every_half_day(mesh: Mesh) -> None:
    async def three_days(ca: SimulatedCa) -> None:
        await trio.sleep(3 * 86400)

    ca, judge = simulate(mesh, three_days)
    gaps = [after - before for before, after in pairwise(ca.asked_at)]
    assert 5 <= len(gaps) <= 6
    assert all(abs(gap - 43200) <= 0.011 * 86400 for gap in gaps)
    assert len({round(gap) for gap in gaps}) > 1  # not all at once
    assert len(judge.chains()) == len(ca.asked_at)


def test_an_authority_that_fails_is_asked_again_and_the_certificate_stays(mesh: Mesh) -> None:
    async def outage(ca: SimulatedCa) -> None:
        await trio.sleep(42000)
        ca.failing = True
        await trio.sleep(3600)
        ca.failing = False
        await trio.sleep(120)

    ca, judge = simulate(mesh, outage)
    failures = ca.asked_at[1:-1]
    waits = [after - before for before, after in pairwise(failures)]
    assert min(waits) >= 0.5 and max(waits) <= 60
    assert len(judge.chains()) == 2


def test_copies_for_others_are_whole_and_private(mesh: Mesh, tmp_path: Path) -> None:
    out = tmp_path / "out"
    settings = from_environment({**mesh.environment, "OUTPUT_CERTS": str(out)}, has_sds=False, folder=tmp_path)
    assert settings is not None and settings.ca is not None
    identity = Identity(settings, SystemClock(), random.Random(1), StatRegistry(), ca=IstiodClient(settings.ca.target))
    judge = Judge()

    async def main() -> None:
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(identity.run)
                identity.subscriber("s", judge).change(SDS, ("default",), ())
                await judge.until(1)
                nursery.cancel_scope.cancel()

    trio.run(main)
    assert (out / "cert-chain.pem").read_bytes() == judge.chains()[0]
    assert (out / "root-cert.pem").read_bytes() == mesh.authority.root
    assert stat.S_IMODE((out / "key.pem").stat().st_mode) == 0o600


def test_mounted_files_need_no_authority(tmp_path: Path) -> None:
    folder = tmp_path / "var/run/secrets/workload-spiffe-credentials"
    folder.mkdir(parents=True)
    for name in ("cert-chain.pem", "key.pem", "root-cert.pem"):
        (folder / name).write_text("x")
    settings = from_environment({}, has_sds=False, folder=tmp_path)
    assert settings is not None and settings.ca is None
    identity = Identity(settings, SystemClock(), random.Random(1), StatRegistry())
    secret = secret_pb2.Secret.FromString(identity.secret("default") or b"")
    assert secret.tls_certificate.private_key.filename == str(folder / "key.pem")
    roots = secret_pb2.Secret.FromString(identity.secret("ROOTCA") or b"")
    assert roots.validation_context.trusted_ca.filename == str(folder / "root-cert.pem")


def test_files_by_name_are_answered_as_pilot_agent_does() -> None:
    identity = Identity(IdentitySettings(), SystemClock(), random.Random(1), StatRegistry())

    def secret(name: str) -> Any:
        return secret_pb2.Secret.FromString(identity.secret(name) or b"")

    pair = secret("file-cert:/etc/a.pem~/etc/a-key.pem").tls_certificate
    assert (pair.certificate_chain.filename, pair.private_key.filename) == ("/etc/a.pem", "/etc/a-key.pem")
    assert secret("file-root:/etc/ca.pem").validation_context.trusted_ca.filename == "/etc/ca.pem"
    assert secret("file-root:system").validation_context.HasField("system_root_certs")
    assert identity.secret("default") is None and identity.secret("whatever") is None


# --- where it comes from ------------------------------------------------------------------------------------------------


def test_the_environment_is_pilot_agents(mesh: Mesh) -> None:
    settings = mesh.settings(TRUST_DOMAIN="mesh.test", SECRET_TTL="1h30m", SECRET_GRACE_PERIOD_RATIO="0.25")
    assert settings.identity == "spiffe://mesh.test/ns/shop/sa/front"
    assert (settings.ttl_s, settings.grace_ratio, settings.key) == (5400.0, 0.25, KeyKind.P256)
    target = settings.target
    assert (target.tls, target.server_name) == (True, "istiod.istio-system.svc")
    assert (target.token_path, target.tls_root_path) == (str(mesh.token), str(mesh.root))
    assert target.initial_metadata == (("clusterid", "Kubernetes"),)
    assert mesh.settings(WORKLOAD_RSA_KEY_SIZE="4096").rsa_bits == 4096
    assert mesh.settings(WORKLOAD_RSA_KEY_SIZE="4096").key is KeyKind.RSA
    assert mesh.settings(ECC_SIGNATURE_ALGORITHM="ECDSA", ECC_CURVE="P384").key is KeyKind.P384
    assert mesh.settings(CA_ADDR="istiod.other:15012").target.server_name is None


def test_somebody_elses_secrets_win_unless_told_otherwise(mesh: Mesh, tmp_path: Path) -> None:
    assert from_environment(mesh.environment, has_sds=True, folder=tmp_path) is None
    assert from_environment({}, has_sds=False, folder=tmp_path) is None
    chosen = from_environment({**mesh.environment, "MOSN_XDS_IDENTITY": "ca"}, has_sds=True, folder=tmp_path)
    assert chosen is not None and chosen.ca is not None


@pytest.mark.parametrize(
    ("environment", "text"),
    [
        ({"MOSN_XDS_IDENTITY": "magic"}, "MOSN_XDS_IDENTITY=magic"),
        ({"MOSN_XDS_IDENTITY": "files"}, "MOSN_XDS_IDENTITY is files, and there are none in"),
        ({"CA_ADDR": "a:1", "CA_PROVIDER": "GoogleCAS"}, "CA_PROVIDER=GoogleCAS is not supported"),
        ({"CA_ADDR": "a:1", "SECRET_TTL": "tomorrow"}, "SECRET_TTL=tomorrow is no duration"),
        ({"CA_ADDR": "a:1", "SECRET_GRACE_PERIOD_RATIO": "2"}, "SECRET_GRACE_PERIOD_RATIO=2"),
        ({"CA_ADDR": "a:1", "WORKLOAD_RSA_KEY_SIZE": "512"}, "WORKLOAD_RSA_KEY_SIZE=512"),
        ({"CA_ADDR": "a:1", "ECC_SIGNATURE_ALGORITHM": "ECDSA", "ECC_CURVE": "P7"}, "ECC_CURVE=P7"),
    ],
)
def test_what_cannot_be_used_is_said(environment: dict[str, str], text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=text):
        from_environment(environment, has_sds=False, folder=tmp_path)


def test_certificates_are_backdated_for_clocks_that_are_late(mesh: Mesh) -> None:
    leaf, _ = sign(mesh.settings())
    certificate = x509.load_pem_x509_certificate(leaf.encode())
    assert certificate.not_valid_before_utc < datetime.now(UTC) - timedelta(minutes=1)
