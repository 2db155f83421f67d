"""TLS on the side of listeners: which keys session tickets need, and whose order of ciphers counts, beside Envoy."""

import ssl
from base64 import b64encode
from typing import Any

import pytest

from tests.differential.bed import Bed, Config, cluster
from tests.differential.pair import case
from tests.differential.test_tls_downstream import ask, connect, downstream_tls, secure
from tests.differential.world import World
from tests.support import openssl_client
from tests.support.authority import Authority
from tests.support.proxies import ProxyKind
from tests.support.tls import V12, V13, client_context
from tests.support.upstream import Upstream

ROOT = Authority("root")
SERVER = ROOT.issue("srv.test", common_name="server")
KEYS = {name: bytes([ord(name)]) * 80 for name in "abc"}
AES128, AES256, CHACHA = "TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"
OLD128, OLD256, OLD_CHACHA = (
    f"ECDHE-ECDSA-{rest}" for rest in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")
)


def tickets(names: str, **fields: Any) -> Config:
    keys = [{"inline_bytes": b64encode(KEYS[name]).decode()} for name in names]
    return downstream_tls(
        SERVER, session_ticket_keys={"keys": keys}, disable_stateful_session_resumption=True, **fields
    )


BED = Bed(
    listeners=[
        *(secure(f"keys {names}", tickets(names)) for names in ("a", "ba", "b", "cba")),
        secure("ordered", downstream_tls(SERVER)),
        secure("clients", downstream_tls(SERVER, prefer_client_ciphers=True)),
    ],
    clusters=[cluster("a")],
    upstreams={"a": Upstream},
)


def resume(world: World, name: str, context: ssl.SSLContext, session: ssl.SSLSession | None) -> ssl.SSLSession | None:
    """A request on a new connection; returns the session that may be resumed, None if `session` was not."""
    with connect(world, name, context, session=session) as connection:
        ask(world, name, connection)
        if session is not None and not connection.tls.session_reused:
            return None
        return connection.tls.session


@case("TLS: session_ticket_keys: every key decrypts, the first one encrypts")
@pytest.mark.parametrize("version", [V12, V13])
@pytest.mark.parametrize(
    ("path", "resumed"),
    [("a a", True), ("a ba", True), ("a cba", True), ("ba a", False), ("a b", False), ("ba b", True),
     ("a ba b", True), ("cba ba", False)],
)  # fmt: skip
def test_ticket_keys(proxy: World, path: str, resumed: bool, version: ssl.TLSVersion) -> None:
    """A ticket that an older key made is renewed when it is used."""
    context = client_context(ROOT.root, version=version)
    first, *others = path.split()
    session = resume(proxy, f"keys {first}", context, None)
    assert session is not None
    for keys in others[:-1]:
        session = resume(proxy, f"keys {keys}", context, session)
        assert session is not None
    assert (resume(proxy, f"keys {others[-1]}", context, session) is not None) == resumed


@case("TLS 1.3: the client's order of ciphers counts")
@pytest.mark.parametrize("first", [AES128, AES256, CHACHA])
@pytest.mark.parametrize("name", ["ordered", "clients"])
def test_new_cipher_order(proxy: World, name: str, first: str) -> None:
    offered = ":".join([first, *[one for one in (CHACHA, AES256, AES128) if one != first]])
    found = openssl_client.shake_hands(proxy.listener_port(name), ciphers=offered)
    proxy.note("cipher", found.cipher)
    assert found.cipher == first


@case("TLS 1.2: the listener's order of ciphers counts, and the client's with prefer_client_ciphers")
@pytest.mark.parametrize(
    ("name", "offered", "chosen"),
    [("ordered", (OLD256, OLD128), OLD128), ("clients", (OLD256, OLD128), OLD256),
     ("ordered", (OLD128, OLD256), OLD128), ("clients", (OLD128, OLD256), OLD128),
     ("ordered", (OLD_CHACHA, OLD128), OLD_CHACHA), ("ordered", (OLD128, OLD_CHACHA), OLD128),
     ("ordered", (OLD256, OLD_CHACHA), OLD_CHACHA)],
)  # fmt: skip
def test_old_cipher_order(proxy: World, name: str, offered: tuple[str, ...], chosen: str) -> None:
    """AES-128 and ChaCha20 are equals in the default list, so that between the two the client's order counts."""
    port = proxy.listener_port(name)
    found = openssl_client.shake_hands(port, version=openssl_client.V12, ciphers=":".join(offered))
    proxy.note("cipher", found.cipher)
    assert found.cipher == chosen


@case("TLS 1.3: groups, by default with post-quantum key exchange, whatever the client put first")
@pytest.mark.parametrize(
    ("offered", "chosen"),
    [("X25519MLKEM768:X25519:P-256", "X25519MLKEM768"), ("X25519:X25519MLKEM768", "X25519MLKEM768"),
     ("P-256:X25519MLKEM768", "X25519MLKEM768"), ("X25519:P-256", "x25519"), ("P-256", "secp256r1"),
     ("P-384:P-256", "secp256r1"), ("P-384:X25519", "x25519")],
)  # fmt: skip
def test_groups(proxy: World, offered: str, chosen: str) -> None:
    """With a group that needs another hello of the client the cipher stays what it was."""
    ciphers = f"{AES256}:{CHACHA}:{AES128}"
    found = openssl_client.shake_hands(proxy.listener_port("ordered"), groups=offered, ciphers=ciphers)
    proxy.note("agreed on", found)
    assert (found.group, found.cipher, found.error) == (chosen, AES256, "")


@case("TLS 1.3: a key share for another group than the best that both have", difference="key-share")
def test_key_share(proxy: World) -> None:
    found = openssl_client.shake_hands(proxy.listener_port("ordered"), groups="P-256:X25519")
    assert found.group == ("secp256r1" if proxy.kind is ProxyKind.OURS else "x25519")


@case("TLS 1.2: ciphers of equal preference", difference="cipher-groups")
def test_equal_ciphers(proxy: World) -> None:
    ciphers = f"{OLD256}:{OLD_CHACHA}:{OLD128}"
    found = openssl_client.shake_hands(proxy.listener_port("ordered"), version=openssl_client.V12, ciphers=ciphers)
    assert found.cipher == (OLD128 if proxy.kind is ProxyKind.OURS else OLD_CHACHA)
