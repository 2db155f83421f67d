"""SPIFFE's validator: the trust domain in a peer's certificate says whose authorities count, beside Envoy."""

from base64 import b64encode
from datetime import timedelta
from json import dumps
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.differential.bed import Bed, Config, cluster, extension, http_listener, vhost
from tests.differential.pair import case
from tests.differential.test_tls_downstream import PEER_ROUTES, downstream_tls, get, refused, san, secure
from tests.differential.test_tls_upstream import upstream_tls
from tests.differential.world import World
from tests.support.authority import Authority, Issued
from tests.support.tls import V12, V13, TlsUpstream, client_context
from tests.support.upstream import Upstream

ONE, TWO = Authority("root of one"), Authority("root of two")
MIDDLE = Authority("middle of one", ONE)


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(True, False, False, False, False, signs, False, False, False)


def svid(
    issuer: Authority, *names: str, usage: bool = True, signs: bool = False, servers: bool = False, **fields: Any
) -> Issued:
    extensions: list[x509.ExtensionType] = [_usage(signs=signs)] if usage else []
    if servers:
        extensions.append(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]))
    return issuer.issue(*names, extensions=extensions, **fields)


SERVER = svid(ONE, "spiffe://one.test/server", common_name="server")
FAR = svid(TWO, "spiffe://two.test/server", common_name="far")
FALSE = svid(TWO, "spiffe://one.test/server", common_name="false")
PEERS = {
    "one": svid(ONE, "spiffe://one.test/a", common_name="one"),
    "two": svid(TWO, "spiffe://two.test/a", common_name="two"),
    "by an intermediate": svid(MIDDLE, "spiffe://one.test/b", common_name="deep"),
    "with a host name": svid(ONE, "a.test", "spiffe://one.test/a", common_name="named"),
    "of the other authority": svid(TWO, "spiffe://one.test/a", common_name="other"),
    "of no domain": svid(ONE, "spiffe://three.test/a", common_name="three"),
    "without a path": svid(ONE, "spiffe://one.test", common_name="pathless"),
    "in capitals": svid(ONE, "spiffe://ONE.test/a", common_name="capitals"),
    "without a URI": svid(ONE, "one.test", common_name="hostly"),
    "without names": svid(ONE, common_name="nameless"),
    "of another scheme": svid(ONE, "https://one.test/a", common_name="web"),
    "of two, second": svid(ONE, "spiffe://three.test/a", "spiffe://one.test/a", common_name="both"),
    "of two, first": svid(ONE, "spiffe://one.test/a", "spiffe://three.test/a", common_name="both"),
    "of no usage": svid(ONE, "spiffe://one.test/a", common_name="useless", usage=False),
    "that signs": svid(ONE, "spiffe://one.test/a", common_name="signs", signs=True),
    "for servers": svid(ONE, "spiffe://one.test/a", common_name="serving", servers=True),
    "that is over": svid(
        ONE, "spiffe://one.test/a", common_name="over", start=timedelta(days=-9), end=timedelta(days=-1)
    ),
    "revoked": svid(ONE, "spiffe://one.test/a", common_name="revoked"),
}
NO_BUNDLE, PRECHECK, CHAIN = "no_trust_bundle_store", "cert_precheck", "certificate_verification_error"


def domain(name: str, *pems: str) -> Config:
    return {"name": name, "trust_bundle": {"inline_string": "".join(pems)}}


def spiffe(*domains: Config, fields: Config | None = None, **validation: Any) -> Config:
    """A validation context; `fields` are others of the validator."""
    validator = extension(
        "envoy.tls.cert_validator.spiffe",
        "envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig",
        **({"trust_domains": list(domains)} if domains else {}),
        **(fields or {}),
    )
    return {"validation_context": {"custom_validator_config": validator, **validation}}


def bundle_map(**domains: Authority) -> Config:
    keys = {
        name.replace("_", "."): {
            "keys": [
                {
                    "kty": "EC",
                    "use": "x509-svid",
                    "x5c": [b64encode(one.certificate.public_bytes(Encoding.DER)).decode()],
                }
            ]
        }
        for name, one in domains.items()
    }
    return {"trust_bundles": {"inline_string": dumps({"trust_domains": keys})}}


BOTH = (domain("one.test", ONE.root), domain("two.test", TWO.root))
URI = [san("URI", exact="spiffe://two.test/a"), san("URI", suffix="/b")]


def listening(name: str, validation: Config, routes: str = "") -> Config:
    return secure(name, downstream_tls(SERVER, common=validation), routes=routes)


def to(name: str, target: str, validation: Config) -> Config:
    return cluster(name, target, transport_socket=upstream_tls(validation))


CLUSTERS = [
    to("near", "server", spiffe(*BOTH)),
    to("far", "far", spiffe(*BOTH)),
    to("false", "false", spiffe(*BOTH)),
    to("named", "server", spiffe(*BOTH, match_typed_subject_alt_names=[san("URI", suffix="/server")])),
    to("misnamed", "server", spiffe(*BOTH, match_typed_subject_alt_names=[san("URI", suffix="/client")])),
    to("alone", "far", spiffe(BOTH[0])),
]
BED = Bed(
    listeners=[
        listening("both", spiffe(*BOTH), PEER_ROUTES),
        listening("map", spiffe(fields=bundle_map(one_test=ONE, two_test=TWO))),
        listening("named", spiffe(*BOTH, match_typed_subject_alt_names=URI)),
        listening("hosts", spiffe(*BOTH, match_typed_subject_alt_names=[san("DNS", exact="nobody")])),
        listening("over", spiffe(*BOTH, allow_expired_certificate=True)),
        listening("listed", spiffe(domain("one.test", ONE.root, ONE.revoke(PEERS["revoked"])))),
        listening("unheeded", spiffe(*BOTH, verify_certificate_hash=["00" * 32], max_verify_depth=0)),
        listening("joined", spiffe(domain("one.test", ONE.root, TWO.root))),
        http_listener(
            "http",
            vhost("all", ["*"], [{"match": {"path": f"/{one['name']}"}, "route": {"cluster": one["name"]}} for one in CLUSTERS]),
        ),
    ],
    clusters=[cluster("a"), *CLUSTERS],
    upstreams={
        "a": Upstream,
        "server": lambda name: TlsUpstream(name, SERVER),
        "far": lambda name: TlsUpstream(name, FAR),
        "false": lambda name: TlsUpstream(name, FALSE),
    },
)  # fmt: skip


def client(name: str, version: Any = V12) -> Any:
    return client_context(ONE.root, certificate=PEERS[name], version=version)


@case("SPIFFE validator: peers of its trust domains")
@pytest.mark.parametrize("version", [V12, V13])
@pytest.mark.parametrize("name", ["one", "two", "by an intermediate", "with a host name", "of two, first"])
@pytest.mark.parametrize("listener", ["both", "map"])
def test_good(proxy: World, listener: str, name: str, version: Any) -> None:
    assert get(proxy, listener, client(name, version)).status == 200


@case("SPIFFE validator: peers that are refused")
@pytest.mark.parametrize(
    ("listener", "name", "why"),
    [("both", "of the other authority", CHAIN), ("map", "of the other authority", CHAIN),
     ("both", "of no domain", NO_BUNDLE), ("map", "of no domain", NO_BUNDLE), ("both", "without a path", NO_BUNDLE),
     ("both", "in capitals", NO_BUNDLE), ("both", "without a URI", NO_BUNDLE), ("both", "without names", NO_BUNDLE),
     ("both", "of another scheme", NO_BUNDLE), ("both", "of two, second", NO_BUNDLE), ("both", "that signs", PRECHECK),
     ("both", "of no usage", PRECHECK),
     ("both", "that is over", "has_expired"), ("listed", "revoked", "revoked"), ("listed", "two", NO_BUNDLE),
     ("named", "one", "SAN_match")],
)  # fmt: skip
def test_refused(proxy: World, listener: str, name: str, why: str) -> None:
    told, line = refused(proxy, listener, client(name))
    assert why in line["failure"]
    proxy.note("alert", told)


@case("SPIFFE validator: what a certificate is made for is not looked at")
def test_purpose(proxy: World) -> None:
    assert get(proxy, "both", client("for servers")).status == 200


@case("SPIFFE validator: a certificate is required")
@pytest.mark.parametrize("version", [V12, V13])
def test_required(proxy: World, version: Any) -> None:
    _, line = refused(proxy, "both", client_context(ONE.root, version=version))
    assert "PEER_DID_NOT_RETURN_A_CERTIFICATE" in line["failure"]


@case("SPIFFE validator: who was let in is validated")
def test_validated(proxy: World) -> None:
    assert get(proxy, "both", client("two"), "/validated").text == "good"


@case("SPIFFE validator: matchers of URIs count, others do not")
@pytest.mark.parametrize(("listener", "name"), [("named", "two"), ("named", "by an intermediate"), ("hosts", "one")])
def test_names(proxy: World, listener: str, name: str) -> None:
    assert get(proxy, listener, client(name)).status == 200


@case("SPIFFE validator: allow_expired_certificate")
def test_over(proxy: World) -> None:
    assert get(proxy, "over", client("that is over")).status == 200


@case("SPIFFE validator: revocation lists in a bundle, and several authorities")
@pytest.mark.parametrize(
    ("listener", "name"), [("listed", "one"), ("joined", "one"), ("joined", "of the other authority")]
)
def test_bundle(proxy: World, listener: str, name: str) -> None:
    assert get(proxy, listener, client(name)).status == 200


@case("SPIFFE validator: pins and depth have no effect")
def test_unheeded(proxy: World) -> None:
    assert get(proxy, "unheeded", client("by an intermediate")).status == 200


@case("SPIFFE validator: upstreams")
@pytest.mark.parametrize(
    ("name", "status"), [("near", 200), ("far", 200), ("named", 200), ("false", 503), ("misnamed", 503), ("alone", 503)]
)
def test_upstream(proxy: World, name: str, status: int) -> None:
    assert proxy.get(f"/{name}").status == status
