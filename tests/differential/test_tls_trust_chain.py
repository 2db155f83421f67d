"""How far a chain may be from what is trusted, and what revokes its links, beside Envoy."""

from typing import Any

import pytest

from tests.differential.bed import Bed, cluster
from tests.differential.pair import case
from tests.differential.test_tls_downstream import MUTUAL, downstream_tls, get, refused, secure, trust
from tests.differential.world import World
from tests.support.authority import Authority
from tests.support.tls import V12, client_context
from tests.support.upstream import Upstream

ROOT = Authority("trusted root")
MIDDLE = Authority("middle", ROOT)
LOW = Authority("low", MIDDLE)
SERVER = ROOT.issue("srv.test")
CLIENTS = {
    "no intermediate": ROOT.issue(common_name="direct"),
    "one intermediate": MIDDLE.issue(common_name="one"),
    "two intermediates": LOW.issue(common_name="two"),
}
REVOKED = MIDDLE.issue(common_name="revoked")


def crl(*lists: str) -> dict[str, str]:
    return {"inline_string": "".join(lists)}


def mutual(name: str, **validation: Any) -> Any:
    return secure(name, downstream_tls(SERVER, common=trust(ROOT, **validation), **MUTUAL))


BED = Bed(
    listeners=[
        mutual("any"),
        mutual("deep0", max_verify_depth=0),
        mutual("deep1", max_verify_depth=1),
        mutual("deep2", max_verify_depth=2),
        mutual("deep3", max_verify_depth=3),
        mutual("all", crl=crl(ROOT.revoke(), MIDDLE.revoke(REVOKED))),
        mutual("leaf", crl=crl(MIDDLE.revoke(REVOKED)), only_verify_leaf_cert_crl=True),
        mutual("gap", crl=crl(MIDDLE.revoke(REVOKED))),
        secure("middle", downstream_tls(SERVER, common=trust(MIDDLE), **MUTUAL)),
    ],
    clusters=[cluster("a")],
    upstreams={"a": Upstream},
)


def client(name: str) -> Any:
    return client_context(ROOT.root, certificate=CLIENTS[name], version=V12)


@case("TLS: max_verify_depth, and chains within it")
@pytest.mark.parametrize(("listener", "name"), [
    ("any", "two intermediates"), ("deep0", "no intermediate"), ("deep1", "no intermediate"),
    ("deep2", "one intermediate"), ("deep3", "two intermediates"),
])  # fmt: skip
def test_within_the_depth(proxy: World, listener: str, name: str) -> None:
    assert get(proxy, listener, client(name)).status == 200


@case("TLS: max_verify_depth, and chains beyond it")
@pytest.mark.parametrize(("listener", "name"), [
    ("deep0", "one intermediate"), ("deep0", "two intermediates"), ("deep1", "one intermediate"),
    ("deep1", "two intermediates"), ("deep2", "two intermediates"),
])  # fmt: skip
def test_beyond_the_depth(proxy: World, listener: str, name: str) -> None:
    _, line = refused(proxy, listener, client(name))
    assert "unable_to_get_local_issuer" in line["failure"]


@case("TLS: an intermediate certificate as trusted_ca")
def test_a_trusted_intermediate(proxy: World) -> None:
    assert get(proxy, "middle", client("one intermediate")).status == 200
    assert refused(proxy, "middle", client("no intermediate"))[1]["failure"] != "-"


@case("TLS: crl: every link's issuer needs a list, or the leaf's alone")
@pytest.mark.parametrize(("listener", "good"), [("all", True), ("leaf", True), ("gap", False)])
def test_lists_of_a_chain(proxy: World, listener: str, good: bool) -> None:
    if good:
        assert get(proxy, listener, client("one intermediate")).status == 200
    else:
        assert "unable_to_get" in refused(proxy, listener, client("one intermediate"))[1]["failure"]


@case("TLS: a certificate that an intermediate authority has revoked")
@pytest.mark.parametrize("listener", ["all", "leaf"])
def test_revoked_by_an_intermediate(proxy: World, listener: str) -> None:
    context = client_context(ROOT.root, certificate=REVOKED, version=V12)
    assert "revoked" in refused(proxy, listener, context)[1]["failure"]
