"""Contexts from Specs and secrets: shared by content, replaced with the secret, and what cannot be used is refused."""

import contextlib
import random

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from OpenSSL import SSL

from mosn_xds.base.clock import CachedClock
from mosn_xds.base.errors import ConfigError
from mosn_xds.base.stats import StatRegistry
from mosn_xds.data.net.openssl import HIDDEN, TICKET_KEY_BYTES, TicketKeys, hidden
from mosn_xds.data.net.reactor import Reactor
from mosn_xds.data.tls.server import ServerTls
from mosn_xds.data.tls.stats import SslStats
from mosn_xds.data.tls.store import TlsStore, combine
from mosn_xds.spec.common import StringMatch, StringMatchKind
from mosn_xds.spec.tls import (
    AGENT_TICKET_KEYS,
    Certificate,
    DownstreamTls,
    SanKind,
    SanMatch,
    Secret,
    TlsContext,
    TlsVersion,
    UpstreamTls,
    Validation,
)
from tests.support.authority import Authority, Issued

ROOT = Authority()
MINE = ROOT.issue("mine.test")
NEXT = ROOT.issue("mine.test")


def certificate(issued: Issued) -> Certificate:
    return Certificate(issued.chain.encode(), issued.key_text.encode())


@pytest.fixture
def store() -> TlsStore:
    made = TlsStore(Reactor(CachedClock()))
    made.put(Secret("mine", certificate(MINE)))
    made.put(Secret("roots", validation=Validation(trusted_ca=ROOT.root.encode())))
    return made


def test_equal_contexts_are_one(store: TlsStore) -> None:
    one, _ = store.client(TlsContext(("mine",), validation_secret="roots"))
    other, _ = store.client(TlsContext(("mine",), validation_secret="roots", alpn=("h2",)))
    assert one is other
    with_names = Validation(sans=(SanMatch(SanKind.DNS, StringMatch(StringMatchKind.EXACT, "x")),))
    third, _ = store.client(TlsContext(("mine",), validation=with_names, validation_secret="roots"))
    assert third is one
    assert store.client(TlsContext((), validation_secret="roots"))[0] is not one


def test_a_changed_secret_makes_a_new_context_for_new_connections(store: TlsStore) -> None:
    spec = DownstreamTls(TlsContext(("mine",)))
    old, _ = store.server(spec)
    store.put(Secret("mine", certificate(NEXT)))
    new, _ = store.server(spec)
    assert new is not old
    assert store.server(spec)[0] is new


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (Certificate(b"nonsense", MINE.key_text.encode()), "certificate chain"),
        (Certificate(MINE.chain.encode(), b"nonsense"), "private key"),
        (Certificate(MINE.chain.encode(), NEXT.key_text.encode()), "KEY_VALUES_MISMATCH"),
    ],
    ids=["chain", "key", "pair"],
)
def test_a_broken_certificate_is_refused_and_the_last_good_stays(
    store: TlsStore, broken: Certificate, reason: str
) -> None:
    spec = DownstreamTls(TlsContext(("mine",)))
    good, _ = store.server(spec)
    with pytest.raises(ConfigError, match=reason):
        store.put(Secret("mine", broken))
    assert store.server(spec)[0] is good


@pytest.mark.parametrize(
    "validation",
    [Validation(trusted_ca=b"nonsense"), Validation(trusted_ca=ROOT.root.encode(), crl=b"nonsense")],
    ids=["roots", "crl"],
)
def test_broken_roots_are_refused(store: TlsStore, validation: Validation) -> None:
    with pytest.raises(ConfigError, match="Failed to load"):
        store.put(Secret("roots", validation=validation))


@pytest.mark.parametrize(
    ("context", "reason"),
    [
        (TlsContext(("mine",), ciphers=("NO-SUCH-CIPHER",)), "cipher suites NO-SUCH-CIPHER"),
        (TlsContext(("mine",), curves=("P-1",)), "ECDH curves P-1"),
    ],
)
def test_parameters_that_do_not_exist_are_refused(store: TlsStore, context: TlsContext, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        store.client(context)


@pytest.mark.parametrize("curve", ["X25519", "P-256", "P-384", "P-521", "X25519MLKEM768"])
@pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)])
def test_curves_and_keys_that_envoy_knows(store: TlsStore, curve: str, key: ec.EllipticCurvePrivateKey) -> None:
    store.put(Secret("other", certificate(ROOT.issue("x", key=key))))
    spec = TlsContext(("other",), curves=(curve,), min_version=TlsVersion.TLS_1_0, max_version=TlsVersion.TLS_1_3)
    assert store.server(DownstreamTls(spec))[0] is not None


def test_without_its_secret_a_connection_fails_with_a_reason(store: TlsStore) -> None:
    stats = StatRegistry().group(SslStats, "ssl.")
    server = ServerTls(DownstreamTls(TlsContext(("absent",))), store, stats, "here")
    with pytest.raises(OSError, match="Secret is not supplied by SDS"):
        server.secure(None, "peer", None)  # type: ignore[arg-type]


def test_secrets_never_show() -> None:
    secret = Secret("mine", certificate(MINE), ticket_keys=(b"k" * 80,))
    for shown in (repr(secret), str(secret.certificate), f"{UpstreamTls(TlsContext(('mine',)))}"):
        assert "PRIVATE KEY" not in shown
        assert "kkkk" not in shown


def test_ticket_keys_can_be_set_in_this_environment(store: TlsStore) -> None:
    """Resumption over workers depends on it. Where it fails, sessions are resumed by the worker that began them."""
    context, _ = store.server(DownstreamTls(TlsContext(("mine",))))
    assert [name for name in HIDDEN if hidden(name) is None] == []
    keys = [random.Random(seed).randbytes(TICKET_KEY_BYTES) for seed in (1, 2)]
    assert all(TicketKeys(keys[:count]).give_to(context) for count in (1, 2))
    assert not TicketKeys([b"short"]).give_to(context)
    assert not TicketKeys([]).give_to(context)


@pytest.mark.parametrize(
    ("ticket_secret", "session_cache", "sent"),
    [(AGENT_TICKET_KEYS, False, True), (None, True, True), (None, False, False)],
)
def test_tickets_are_sent_where_they_lead_somewhere(
    store: TlsStore, ticket_secret: str | None, session_cache: bool, sent: bool
) -> None:
    context, _ = store.server(
        DownstreamTls(TlsContext(("mine",)), ticket_secret=ticket_secret, session_cache=session_cache)
    )
    server, client = SSL.Connection(context, None), SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)
    server.set_accept_state()
    client.set_connect_state()
    for one, other in ((client, server), (server, client), (client, server)):
        with contextlib.suppress(SSL.WantReadError):
            one.do_handshake()
        other.bio_write(one.bio_read(65536))
    server.do_handshake()
    if sent:
        assert server.bio_read(65536)
    else:
        with pytest.raises(SSL.WantReadError):
            server.bio_read(65536)


def test_what_a_secret_says_and_what_the_context_says_hold_together() -> None:
    san = SanMatch(SanKind.URI, StringMatch(StringMatchKind.PREFIX, "spiffe://td/"))
    both = combine(Validation(sans=(san,), max_depth=2), Validation(trusted_ca=b"roots", hashes=(b"h",)))
    assert both == Validation(trusted_ca=b"roots", sans=(san,), hashes=(b"h",), max_depth=2)
