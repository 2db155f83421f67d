"""What a key is for, as its certificate says it: who looks, and what becomes of it, beside Envoy."""

import ssl
import time
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.differential.bed import Bed, Config, cluster, http_listener, vhost
from tests.differential.pair import case
from tests.differential.test_tls_downstream import MUTUAL, downstream_tls, get, refused, secure
from tests.differential.test_tls_downstream import trust as trust_down
from tests.differential.test_tls_upstream import V13_ONLY, trust, upstream_tls
from tests.differential.world import World
from tests.support.authority import Authority, Issued
from tests.support.tls import V12, V13, TlsUpstream, client_context
from tests.support.upstream import Upstream

ROOT = Authority("root")
RSA = rsa.generate_private_key(65537, 2048)
SERVER = ROOT.issue("srv.test")


def usage(*, signature: bool, encipherment: bool) -> x509.KeyUsage:
    return x509.KeyUsage(signature, False, encipherment, False, False, False, False, False, False)


SIGNS, ENCIPHERS = usage(signature=True, encipherment=False), usage(signature=False, encipherment=True)
CERTIFICATES = {
    "rsa signs": ROOT.issue("srv.test", key=RSA, extensions=[SIGNS]),
    "rsa enciphers": ROOT.issue("srv.test", key=RSA, extensions=[ENCIPHERS]),
    "rsa says nothing": ROOT.issue("srv.test", key=RSA),
    "ec signs": ROOT.issue("srv.test", extensions=[SIGNS]),
    "ec enciphers": ROOT.issue("srv.test", extensions=[ENCIPHERS]),
}
KX_RSA = {"tls_params": {"cipher_suites": ["AES128-GCM-SHA256"]}}
KINDS: dict[str, Config] = {"12": {}, "13": V13_ONLY, "kx": KX_RSA}


def old_ciphers(context: ssl.SSLContext) -> None:
    context.set_ciphers("ALL:@SECLEVEL=0")


def tls(certificate: Issued) -> Callable[[str], TlsUpstream]:
    return lambda name: TlsUpstream(name, certificate, configure=old_ciphers)


def to(name: str, certificate: str, common: Config, **fields: Any) -> Config:
    return cluster(name, certificate, transport_socket=upstream_tls(common, **fields))


CLUSTERS = [
    *(
        to(f"{certificate} {kind}", certificate, {**trust(ROOT), **params})
        for certificate in CERTIFICATES
        for kind, params in KINDS.items()
    ),
    to("enforced", "rsa enciphers", trust(ROOT), enforce_rsa_key_usage=True),
    to("lax", "rsa enciphers", trust(ROOT), enforce_rsa_key_usage=False),
    to("unchecked", "rsa enciphers", {}),
    to("strange", "rsa enciphers", trust(Authority("stranger"))),
    to("anybody", "rsa signs", {}),
]
NAMES = [one["name"] for one in CLUSTERS]
BED = Bed(
    listeners=[
        http_listener(
            "http",
            vhost("all", ["*"], [{"match": {"path": f"/{name.replace(' ', '_')}"}, "route": {"cluster": name}} for name in NAMES]),
        ),
        secure("mutual", downstream_tls(SERVER, common=trust_down(ROOT), **MUTUAL)),
    ],
    clusters=[cluster("a"), *CLUSTERS],
    upstreams={"a": Upstream, **{name: tls(one) for name, one in CERTIFICATES.items()}},
)  # fmt: skip


MISUSED = "TLS_error:|268435758:SSL_routines:OPENSSL_internal:KEY_USAGE_BIT_INCORRECT:TLS_error_end"


@case("key usage of upstreams: what the key exchange needs of it, where the certificate says what it is for")
@pytest.mark.parametrize(
    ("name", "good"),
    [("rsa signs 12", True), ("rsa signs 13", True), ("rsa signs kx", False),
     ("rsa enciphers 12", False), ("rsa enciphers 13", False), ("rsa enciphers kx", True),
     ("rsa says nothing 12", True), ("rsa says nothing 13", True), ("rsa says nothing kx", True),
     ("ec signs 12", True), ("ec signs 13", True), ("ec enciphers 13", False),
     ("unchecked", False)],
)  # fmt: skip
def test_upstream(proxy: World, name: str, good: bool) -> None:
    reply = proxy.get(f"/{name.replace(' ', '_')}")
    assert reply.status == (200 if good else 503)
    assert (MISUSED in reply.log.details) is not good


@case("key usage of upstreams: the chain is looked at before it")
def test_chain_first(proxy: World) -> None:
    assert "unable_to_get_local_issuer" in proxy.get("/strange").log.details


@case("enforce_rsa_key_usage: it is enforced whatever this says")
@pytest.mark.parametrize("name", ["enforced", "lax"])
def test_switch(proxy: World, name: str) -> None:
    assert MISUSED in proxy.get(f"/{name}").log.details


@case("key usage of clients: what signs is good")
@pytest.mark.parametrize("name", ["rsa signs", "rsa says nothing", "ec signs"])
@pytest.mark.parametrize("version", [V12, V13])
def test_client(proxy: World, name: str, version: ssl.TLSVersion) -> None:
    context = client_context(ROOT.root, certificate=CERTIFICATES[name], version=version)
    assert get(proxy, "mutual", context).status == 200


@case("key usage of clients: what enciphers is not good")
@pytest.mark.parametrize("name", ["rsa enciphers", "ec enciphers"])
@pytest.mark.parametrize(("version", "why"), [(V12, "purpose"), (V13, "KEY_USAGE_BIT_INCORRECT")])
def test_misused_client(proxy: World, name: str, version: ssl.TLSVersion, why: str) -> None:
    _, line = refused(proxy, "mutual", client_context(ROOT.root, certificate=CERTIFICATES[name], version=version))
    assert why in line["failure"]


@case("ssl statistics of a cluster: a key that is misused, and an upstream that nobody checks")
@pytest.mark.parametrize(
    ("name", "expected"),
    [("enforced", {"connection_error": 1, "fail_verify_error": 0, "was_key_usage_invalid": 0, "handshake": 0}),
     ("anybody", {"no_certificate": 0, "handshake": 1, "connection_error": 0})],
)  # fmt: skip
def test_stats(proxy: World, name: str, expected: dict[str, int]) -> None:
    prefix = f"cluster.{name}.ssl."
    pattern = "|".join(f"^{prefix}{stat}$" for stat in expected)
    before = proxy.proxy.stats(pattern)
    proxy.get(f"/{name}")
    deadline = time.monotonic() + 5
    while True:
        after = proxy.proxy.stats(pattern)
        found = {stat: after.get(prefix + stat, 0) - before.get(prefix + stat, 0) for stat in expected}
        if found == expected:
            return
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
