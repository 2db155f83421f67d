"""TLS on the side of listeners: certificates, versions, client certificates and what is said of them, beside Envoy."""

import ssl
import time
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.differential.bed import FILE_LOG, Bed, Config, cluster, extension, hcm, listener, vhost
from tests.differential.pair import case
from tests.differential.world import Reply, World
from tests.support.authority import Authority, Issued
from tests.support.proxies import ProxyKind
from tests.support.tls import V12, V13, TlsConnection, alert_of, client_context
from tests.support.upstream import Upstream

ROOT = Authority("root")
STRANGER = Authority("stranger")
SERVER = ROOT.issue("spiffe://td/ns/shop/sa/server", "srv.test", "10.0.0.1", common_name="server")
OTHER = ROOT.issue("other.test", "*.wild.test", common_name="other")
RSA = ROOT.issue("srv.test", common_name="rsa", key=rsa.generate_private_key(65537, 2048))
CLIENT = ROOT.issue("spiffe://td/ns/shop/sa/client", "client.test", "me@client.test", "10.0.0.2", common_name="client")
NAMELESS = ROOT.issue(common_name="just a subject")
ODD = ROOT.issue("odd.test", common_name='q"uo,te;\r\nx-forged: \u00e9')
FOREIGN = STRANGER.issue("spiffe://td/ns/shop/sa/client", common_name="foreign")
EXPIRED = ROOT.issue("spiffe://td/ns/shop/sa/client", start=timedelta(days=-9), end=timedelta(days=-1))
EARLY = ROOT.issue("spiffe://td/ns/shop/sa/client", start=timedelta(days=1), end=timedelta(days=9))
REVOKED = ROOT.issue("spiffe://td/ns/shop/sa/client", common_name="revoked")

TLS_LOG = {
    "flags": "%RESPONSE_FLAGS%",
    "failure": "%DOWNSTREAM_TRANSPORT_FAILURE_REASON%",
    "ended": "%CONNECTION_TERMINATION_DETAILS%",
    "version": "%DOWNSTREAM_TLS_VERSION%",
    "cipher": "%DOWNSTREAM_TLS_CIPHER%",
    "group": "%DOWNSTREAM_TLS_GROUP%",
    "sni": "%REQUESTED_SERVER_NAME%",
    "peer": "%DOWNSTREAM_PEER_SUBJECT% %DOWNSTREAM_PEER_ISSUER% %DOWNSTREAM_PEER_SERIAL%",
    "peer_names": "%DOWNSTREAM_PEER_URI_SAN% %DOWNSTREAM_PEER_DNS_SAN% %DOWNSTREAM_PEER_IP_SAN% %DOWNSTREAM_PEER_EMAIL_SAN%",
    "peer_prints": "%DOWNSTREAM_PEER_FINGERPRINT_256% %DOWNSTREAM_PEER_FINGERPRINT_1%",
    "peer_cert": "%DOWNSTREAM_PEER_CERT%",
    "peer_time": "%DOWNSTREAM_PEER_CERT_V_START% %DOWNSTREAM_PEER_CERT_V_END(%s)%",
    "own": "%DOWNSTREAM_LOCAL_SUBJECT% %DOWNSTREAM_LOCAL_URI_SAN% %DOWNSTREAM_LOCAL_DNS_SAN% %DOWNSTREAM_LOCAL_IP_SAN%",
    "chain": "%DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256% %DOWNSTREAM_PEER_CHAIN_SERIALS%",
}


def tls_log(name: str) -> Config:
    """A listener's access log of what TLS found out."""
    line = "\t".join(TLS_LOG.values()) + "\n"
    body = {"path": f"${{log}}/{name}.tls", "log_format": {"text_format_source": {"inline_string": line}}}
    return {"name": "envoy.access_loggers.file", "typed_config": {"@type": FILE_LOG, **body}}


def tls_lines(world: World, name: str, count: int = 1) -> list[dict[str, str]]:
    """The lines that this case has added to the listener's TLS log; what they say is compared, too."""
    path = world.folder / f"{name}.tls"
    deadline = time.monotonic() + 10
    mark = f"tls {name}"
    while time.monotonic() < deadline:
        lines = path.read_text().splitlines()[world.marks.get(mark, 0) :] if path.exists() else []
        if len(lines) >= count:
            break
        time.sleep(0.01)
    else:
        raise AssertionError(f"{len(lines)} lines in {path.name}")
    world.marks[mark] = world.marks.get(mark, 0) + len(lines)
    found = [dict(zip(TLS_LOG, line.split("\t"), strict=True)) for line in lines]
    for one in found:
        # BoringSSL knows what a handshake that failed would have used, and the whole chain; OpenSSL does not say.
        agreed = one if one["failure"] == "-" else {**one, "cipher": "", "group": "", "chain": ""}
        world.note("tls", agreed)
    return found


def forget_lines(world: World, name: str) -> None:
    """Lines of earlier cases are not this one's."""
    path = world.folder / f"{name}.tls"
    world.marks[f"tls {name}"] = len(path.read_text().splitlines()) if path.exists() else 0


def downstream_tls(*certificates: Issued, common: Config | None = None, **fields: Any) -> Config:
    """A transport socket with these certificates; `common` are fields of the CommonTlsContext."""
    context = {"tls_certificates": [one.config() for one in certificates], **(common or {})}
    return extension(
        "envoy.transport_sockets.tls",
        "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        common_tls_context=context,
        **fields,
    )


def trust(root: Authority = ROOT, **fields: Any) -> Config:
    return {"validation_context": {"trusted_ca": {"inline_string": root.root}, **fields}}


def san(kind: str, **matcher: Any) -> Config:
    return {"san_type": kind, "matcher": matcher}


def secure(
    name: str,
    transport: Config,
    *,
    routes: str = "",
    network: Sequence[Config] = (),
    chain: Config | None = None,
    hcm_fields: Config | None = None,
    **fields: Any,
) -> Config:
    """A TLS listener with a connection manager and the TLS log."""
    host = vhost("all", ["*"], routes or "- {match: {prefix: /}, route: {cluster: a}}")
    filters = [*network, hcm(name, [host], **(hcm_fields or {}))]
    made = {"filters": filters, "transport_socket": transport, **(chain or {})}
    return listener(name, chains=[made], access_log=[tls_log(name)], **fields)


MUTUAL = {"require_client_certificate": True}
SPIFFE = san("URI", prefix="spiffe://td/")
PEER_ROUTES = """
- {match: {prefix: /presented, tls_context: {presented: true}}, direct_response: {status: 200, body: {inline_string: shown}}}
- {match: {prefix: /presented}, direct_response: {status: 200, body: {inline_string: not shown}}}
- {match: {prefix: /validated, tls_context: {validated: true}}, direct_response: {status: 200, body: {inline_string: good}}}
- {match: {prefix: /validated}, direct_response: {status: 200, body: {inline_string: not good}}}
- {match: {prefix: /}, route: {cluster: a}}
"""


def rbac(name: str, principal: Config) -> Config:
    return extension(
        "envoy.filters.http.rbac",
        "envoy.extensions.filters.http.rbac.v3.RBAC",
        rules={"action": "ALLOW", "policies": {name: {"permissions": [{"any": True}], "principals": [principal]}}},
    )


def network_rbac(principal: Config) -> Config:
    return extension(
        "envoy.filters.network.rbac",
        "envoy.extensions.filters.network.rbac.v3.RBAC",
        stat_prefix="guard",
        rules={"action": "ALLOW", "policies": {"p": {"permissions": [{"any": True}], "principals": [principal]}}},
    )


def authenticated(**matcher: Any) -> Config:
    return {"authenticated": {"principal_name": matcher} if matcher else {}}


def cert_hash(issued: Issued) -> str:
    from cryptography import x509

    return x509.load_pem_x509_certificate(issued.chain.encode()).fingerprint(hashes.SHA256()).hex()


def spki_pin(issued: Issued) -> str:
    import base64
    import hashlib

    der = issued.key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return base64.b64encode(hashlib.sha256(der).digest()).decode()


XFCC_MODES = ("SANITIZE", "FORWARD_ONLY", "APPEND_FORWARD", "SANITIZE_SET", "ALWAYS_FORWARD_ONLY")

BED = Bed(
    listeners=[
        secure("plainly", downstream_tls(SERVER)),
        secure("mutual", downstream_tls(SERVER, common=trust(), **MUTUAL)),
        secure("counted", downstream_tls(SERVER, common=trust(), **MUTUAL)),
        secure("asks", downstream_tls(SERVER, common=trust()), routes=PEER_ROUTES),
        secure("san", downstream_tls(SERVER, common=trust(match_typed_subject_alt_names=[SPIFFE]), **MUTUAL)),
        secure(
            "nobody",
            downstream_tls(SERVER, common=trust(match_typed_subject_alt_names=[san("DNS", exact="nobody")]), **MUTUAL),
        ),
        secure("pinned", downstream_tls(SERVER, common=trust(verify_certificate_hash=[cert_hash(CLIENT)]), **MUTUAL)),
        secure("spki", downstream_tls(SERVER, common=trust(verify_certificate_spki=[spki_pin(CLIENT)]), **MUTUAL)),
        secure("expired", downstream_tls(SERVER, common=trust(allow_expired_certificate=True), **MUTUAL)),
        secure(
            "untrusted",
            downstream_tls(SERVER, common=trust(trust_chain_verification="ACCEPT_UNTRUSTED"), **MUTUAL),
            routes=PEER_ROUTES,
        ),
        secure("unchecked", downstream_tls(SERVER, **MUTUAL), routes=PEER_ROUTES),
        secure(
            "crl", downstream_tls(SERVER, common=trust(crl={"inline_string": ROOT.revoke(REVOKED)}), **MUTUAL)
        ),
        secure("names", downstream_tls(SERVER, OTHER)),
        secure("types", downstream_tls(RSA, SERVER)),
        secure(
            "ticketless",
            downstream_tls(
                SERVER, disable_stateless_session_resumption=True, disable_stateful_session_resumption=True
            ),
        ),
        secure("alpn", downstream_tls(SERVER, common={"alpn_protocols": ["http/1.1", "other"]})),
        secure(
            "old",
            downstream_tls(SERVER, common={"tls_params": {"tls_maximum_protocol_version": "TLSv1_2"}}),
        ),
        secure(
            "new",
            downstream_tls(SERVER, common={"tls_params": {"tls_minimum_protocol_version": "TLSv1_3"}}),
        ),
        secure(
            "cipher",
            downstream_tls(
                SERVER,
                common={
                    "tls_params": {
                        "tls_maximum_protocol_version": "TLSv1_2",
                        "cipher_suites": ["ECDHE-ECDSA-AES256-GCM-SHA384"],
                    }
                },
            ),
        ),
        secure("curve", downstream_tls(SERVER, common={"tls_params": {"ecdh_curves": ["P-384"]}})),
        secure("slow", downstream_tls(SERVER), chain={"transport_socket_connect_timeout": "0.3s"}),
        secure(
            "http_rbac",
            downstream_tls(SERVER, common=trust()),
            hcm_fields={"filters": [rbac("p", authenticated(exact="spiffe://td/ns/shop/sa/client"))]},
        ),
        secure(
            "any_rbac",
            downstream_tls(SERVER, common=trust()),
            hcm_fields={"filters": [rbac("p", authenticated())]},
        ),
        secure(
            "dns_rbac",
            downstream_tls(SERVER, common=trust()),
            hcm_fields={"filters": [rbac("p", authenticated(exact="client.test"))]},
        ),
        secure(
            "subject_rbac",
            downstream_tls(SERVER, common=trust()),
            hcm_fields={"filters": [rbac("p", authenticated(exact="CN=just a subject"))]},
        ),
        secure(
            "client_rbac",
            downstream_tls(SERVER, common=trust()),
            hcm_fields={"filters": [rbac("p", authenticated(exact="CN=client"))]},
        ),
        secure(
            "network_rbac",
            downstream_tls(SERVER, common=trust()),
            network=[network_rbac(authenticated(prefix="spiffe://td/"))],
        ),
        *(
            secure(
                f"xfcc {mode}",
                downstream_tls(SERVER, common=trust()),
                hcm_fields={
                    "forward_client_cert_details": mode,
                    "set_current_client_cert_details": {
                        "subject": True, "cert": True, "chain": True, "dns": True, "uri": True
                    },
                },
            )
            for mode in XFCC_MODES
        ),
    ],
    clusters=[cluster("a")],
    upstreams={"a": Upstream},
)  # fmt: skip


def connect(world: World, name: str, context: ssl.SSLContext, **options: Any) -> TlsConnection:
    return TlsConnection(world.listener_port(name), context, **options)


def ask(
    world: World, name: str, connection: TlsConnection, path: str = "/", headers: Sequence[tuple[str, str]] = ()
) -> Reply:
    """One request and its answer on an open connection."""
    tag = world.next_tag()
    connection.send(world.compose(tag, "GET", path, headers, b"", host="srv.test", version="HTTP/1.1"))
    reply = Reply(world, tag, connection.read_response())
    world.note_reply(reply, name)
    return reply


def get(
    world: World, name: str, context: ssl.SSLContext, path: str = "/", *, sni: str | None = None, **more: Any
) -> Reply:
    """One request on a connection of its own, and what TLS found out about that."""
    forget_lines(world, name)
    with connect(world, name, context, sni=sni) as connection:
        reply = ask(world, name, connection, path, **more)
    tls_lines(world, name)
    return reply


def refused(world: World, name: str, context: ssl.SSLContext, **options: Any) -> tuple[str, dict[str, str]]:
    """The alert that a client gets in its handshake, or with its first read, and the listener's log line."""
    forget_lines(world, name)
    alert = ""
    try:
        with connect(world, name, context, **options) as connection:
            connection.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            assert connection.read_some() == b""
    except OSError as error:
        alert = alert_of(error)
    (line,) = tls_lines(world, name)
    return alert, line


@case("TLS: a server certificate, one way")
@pytest.mark.parametrize("version", [V12, V13])
def test_one_way(proxy: World, version: ssl.TLSVersion) -> None:
    assert get(proxy, "plainly", client_context(ROOT.root, version=version)).status == 200


@case("TLS: requests know that they came by TLS: x-forwarded-proto")
def test_forwarded_proto(proxy: World) -> None:
    reply = get(proxy, "plainly", client_context(ROOT.root))
    assert reply.seen.get("x-forwarded-proto") == "https"


@case("TLS: many requests on one connection, and large bodies")
def test_keep_alive(proxy: World) -> None:
    with connect(proxy, "plainly", client_context(ROOT.root)) as connection:
        for size in (0, 10, 16384, 70000, 300000):
            tag = proxy.next_tag()
            body = b"x" * size
            connection.send(proxy.compose(tag, "POST", "/", (), body, host="srv.test", version="HTTP/1.1"))
            reply = Reply(proxy, tag, connection.read_response("POST"))
            proxy.note_reply(reply, "plainly")
            assert (reply.status, len(reply.seen.body)) == (200, size)


@case("TLS: a client certificate that the chain and the names are good of")
@pytest.mark.parametrize("name", ["mutual", "san", "pinned", "spki", "crl", "expired"])
def test_good_client(proxy: World, name: str) -> None:
    assert get(proxy, name, client_context(ROOT.root, certificate=CLIENT)).status == 200


@case("TLS: require_client_certificate, and none was sent")
@pytest.mark.parametrize("version", [V12, V13])
def test_no_certificate(proxy: World, version: ssl.TLSVersion) -> None:
    _, line = refused(proxy, "mutual", client_context(ROOT.root, version=version))
    assert "PEER_DID_NOT_RETURN_A_CERTIFICATE" in line["failure"]


@case("TLS: a client certificate is optional without require_client_certificate")
def test_optional(proxy: World) -> None:
    assert get(proxy, "asks", client_context(ROOT.root)).status == 200
    assert get(proxy, "asks", client_context(ROOT.root, certificate=CLIENT)).status == 200


@case("TLS: what a client certificate is refused for")
@pytest.mark.parametrize(
    ("certificate", "why", "alert"),
    [
        (FOREIGN, "unable_to_get_local_issuer", "UNKNOWN_CA"),
        (EXPIRED, "has_expired", "CERTIFICATE_EXPIRED"),
        (EARLY, "not_yet_valid", "BAD_CERTIFICATE|EXPIRED"),
    ],
    ids=["foreign", "expired", "early"],
)
def test_refused_client(proxy: World, certificate: Issued, why: str, alert: str) -> None:
    told, line = refused(proxy, "mutual", client_context(ROOT.root, certificate=certificate, version=V12))
    assert why in line["failure"]
    assert any(one in told for one in alert.split("|"))


@case("TLS: match_typed_subject_alt_names that no name satisfies")
def test_wrong_name(proxy: World) -> None:
    told, line = refused(proxy, "nobody", client_context(ROOT.root, certificate=CLIENT, version=V12))
    assert "SAN_matcher" in line["failure"]
    assert "CERTIFICATE_UNKNOWN" in told


@case("TLS: a certificate without any name against match_typed_subject_alt_names")
def test_nameless(proxy: World) -> None:
    _, line = refused(proxy, "san", client_context(ROOT.root, certificate=NAMELESS))
    assert "SAN_matcher" in line["failure"]


@case("TLS: verify_certificate_hash and verify_certificate_spki of another certificate")
@pytest.mark.parametrize("name", ["pinned", "spki"])
def test_wrong_pin(proxy: World, name: str) -> None:
    _, line = refused(proxy, name, client_context(ROOT.root, certificate=NAMELESS))
    assert "cert_hash_and_spki" in line["failure"]


@case("TLS: the alert for a certificate that no hash and no pin allows", difference="hash-alert")
def test_pin_alert(proxy: World) -> None:
    told, _ = refused(proxy, "pinned", client_context(ROOT.root, certificate=NAMELESS, version=V12))
    assert told.endswith("CERTIFICATE_UNKNOWN" if proxy.kind is ProxyKind.OURS else "BAD_CERTIFICATE_HASH_VALUE")


@case("TLS: what the log says of a handshake that failed", difference="failed-handshake-log")
def test_log_of_a_failure(proxy: World) -> None:
    _, line = refused(proxy, "mutual", client_context(ROOT.root, certificate=FOREIGN, version=V12))
    ours = proxy.kind is ProxyKind.OURS
    assert (line["cipher"], line["group"]) == (("-", "-") if ours else ("ECDHE-ECDSA-AES128-GCM-SHA256", "X25519"))
    assert line["peer"].startswith("CN=foreign CN=stranger ")


@case("TLS: a revoked client certificate")
def test_revoked(proxy: World) -> None:
    told, line = refused(proxy, "crl", client_context(ROOT.root, certificate=REVOKED, version=V12))
    assert "revoked" in line["failure"]
    assert "CERTIFICATE_REVOKED" in told


@case("TLS: allow_expired_certificate")
@pytest.mark.parametrize("certificate", [EXPIRED, EARLY], ids=["expired", "early"])
def test_expired_is_allowed(proxy: World, certificate: Issued) -> None:
    assert get(proxy, "expired", client_context(ROOT.root, certificate=certificate)).status == 200


@case("TLS: trust_chain_verification ACCEPT_UNTRUSTED, and routes by tls_context")
@pytest.mark.parametrize(("certificate", "text"), [(CLIENT, "good"), (FOREIGN, "not good")], ids=["known", "foreign"])
def test_untrusted_is_accepted(proxy: World, certificate: Issued, text: str) -> None:
    context = client_context(ROOT.root, certificate=certificate)
    assert get(proxy, "untrusted", context, "/presented").text == "shown"
    assert get(proxy, "untrusted", context, "/validated").text == text


@case("TLS: require_client_certificate without a validation context", difference="certificate-alone")
def test_unchecked(proxy: World) -> None:
    ours = proxy.kind is ProxyKind.OURS
    context = client_context(ROOT.root, certificate=FOREIGN)
    assert get(proxy, "unchecked", context, "/presented").text == ("shown" if ours else "not shown")
    assert get(proxy, "unchecked", context, "/validated").text == "not good"
    without = client_context(ROOT.root, version=V12)
    if ours:
        assert "CERTIFICATE" in refused(proxy, "unchecked", without)[1]["failure"]
    else:
        assert get(proxy, "unchecked", without).status == 200


@case("route match: tls_context, without a client certificate")
def test_routes_without_certificate(proxy: World) -> None:
    context = client_context(ROOT.root)
    assert get(proxy, "asks", context, "/presented").text == "not shown"
    assert get(proxy, "asks", context, "/validated").text == "not good"


@case("TLS: several certificates, chosen by SNI: exact, wildcard, none, unknown")
@pytest.mark.parametrize(
    ("sni", "subject"),
    [("srv.test", "server"), ("other.test", "other"), ("x.wild.test", "other"), ("OTHER.test", "server"),
     ("a.b.wild.test", "server"), ("wild.test", "server"), (None, "server"), ("unknown.test", "server")],
)  # fmt: skip
def test_sni(proxy: World, sni: str | None, subject: str) -> None:
    forget_lines(proxy, "names")
    with connect(proxy, "names", client_context(ROOT.root), sni=sni) as connection:
        shown = connection.tls.getpeercert()
        assert shown is not None
        name = shown["subject"][0][0][1]  # type: ignore[index]
        proxy.note("certificate", name)
        assert name == subject
        ask(proxy, "names", connection)
    tls_lines(proxy, "names")


@case("TLS: an RSA and an ECDSA certificate, for clients that know either")
@pytest.mark.parametrize(
    ("ciphers", "subject"),
    [("ECDHE-RSA-AES128-GCM-SHA256", "rsa"), ("ECDHE-ECDSA-AES128-GCM-SHA256", "server")],
)
@pytest.mark.parametrize("sni", [None, "srv.test"])
def test_key_types(proxy: World, ciphers: str, subject: str, sni: str | None) -> None:
    context = client_context(ROOT.root, version=V12, ciphers=ciphers)
    with connect(proxy, "types", context, sni=sni) as connection:
        shown = connection.tls.getpeercert()
        assert shown is not None
        assert shown["subject"][0][0][1] == subject  # type: ignore[index]
        assert ask(proxy, "types", connection).status == 200


@case("TLS: ALPN is the listener's choice among what the client offers; without overlap there is none")
@pytest.mark.parametrize(
    ("offers", "chosen"), [(["other", "http/1.1"], "http/1.1"), (["other"], "other"), (["third"], None), ([], None)]
)
def test_alpn(proxy: World, offers: list[str], chosen: str | None) -> None:
    with connect(proxy, "alpn", client_context(ROOT.root, alpn=offers)) as connection:
        assert connection.tls.selected_alpn_protocol() == chosen
        assert ask(proxy, "alpn", connection).status == 200


@case("TLS: minimum and maximum protocol version")
@pytest.mark.parametrize(("name", "version"), [("old", V13), ("new", V12)])
def test_versions(proxy: World, name: str, version: ssl.TLSVersion) -> None:
    told, line = refused(proxy, name, client_context(ROOT.root, version=version))
    assert "UNSUPPORTED_PROTOCOL" in line["failure"]
    assert "PROTOCOL_VERSION" in told


@case("TLS: cipher suites")
def test_ciphers(proxy: World) -> None:
    context = client_context(ROOT.root, version=V12, ciphers="ECDHE-ECDSA-AES128-GCM-SHA256")
    told, line = refused(proxy, "cipher", context)
    assert "NO_SHARED_CIPHER" in line["failure"]
    assert "HANDSHAKE_FAILURE" in told
    good = client_context(ROOT.root, version=V12, ciphers="ECDHE-ECDSA-AES256-GCM-SHA384")
    assert get(proxy, "cipher", good).status == 200


@case("TLS: elliptic curves")
def test_curves(proxy: World) -> None:
    assert get(proxy, "curve", client_context(ROOT.root, curve="secp384r1")).status == 200


@case("TLS: what is no TLS at all")
@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", "HTTP_REQUEST"), (b"CONNECT x:1 HTTP/1.1\r\n\r\n", "HTTPS_PROXY_REQUEST"),
     (b"\x01\x02 this is none", "WRONG_VERSION_NUMBER"), (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "WRONG_VERSION_NUMBER")],
    ids=["get", "connect", "bytes", "h2"],
)  # fmt: skip
def test_plaintext(proxy: World, data: bytes, reason: str) -> None:
    forget_lines(proxy, "plainly")
    with proxy.connect("plainly") as link:
        link.send(data)
        link.raw.read_to_end()
    (line,) = tls_lines(proxy, "plainly")
    assert reason in line["failure"]


@case("TLS: a client that goes away before its handshake is complete")
def test_gone_early(proxy: World) -> None:
    forget_lines(proxy, "plainly")
    with proxy.connect("plainly") as link:
        link.send(b"\x16\x03\x01\x02\x00\x01")
    (line,) = tls_lines(proxy, "plainly")
    assert line["failure"] == "-"


@case("TLS: a handshake that takes too long: transport_socket_connect_timeout")
def test_slow_handshake(proxy: World) -> None:
    forget_lines(proxy, "slow")
    with proxy.connect("slow") as link:
        assert link.closes()
    (line,) = tls_lines(proxy, "slow")
    assert line["ended"] == "transport socket timeout was reached"


@case("TLS: sessions are resumed, whichever worker accepts, client certificates included")
@pytest.mark.parametrize("version", [V12, V13])
@pytest.mark.parametrize("name", ["plainly", "mutual"])
def test_resumption(proxy: World, name: str, version: ssl.TLSVersion) -> None:
    context = client_context(ROOT.root, certificate=CLIENT, version=version)
    with connect(proxy, name, context) as connection:
        ask(proxy, name, connection)
        assert not connection.tls.session_reused
        session = connection.tls.session
    for _ in range(8):
        with connect(proxy, name, context, session=session) as connection:
            ask(proxy, name, connection)
            assert connection.tls.session_reused


@case("TLS: a session of one listener is not resumed by another that trusts otherwise")
def test_no_resumption_elsewhere(proxy: World) -> None:
    context = client_context(ROOT.root, certificate=CLIENT, version=V12)
    with connect(proxy, "asks", context) as connection:
        ask(proxy, "asks", connection)
        session = connection.tls.session
    with connect(proxy, "mutual", context, session=session) as connection:
        assert not connection.tls.session_reused


@case("TLS: without tickets, and without sessions")
@pytest.mark.parametrize("version", [V12, V13])
def test_no_tickets(proxy: World, version: ssl.TLSVersion) -> None:
    context = client_context(ROOT.root, version=version)
    with connect(proxy, "ticketless", context) as connection:
        ask(proxy, "ticketless", connection)
        session = connection.tls.session
    with connect(proxy, "ticketless", context, session=session) as connection:
        assert not connection.tls.session_reused


@case("TLS: ssl statistics of a listener")
def test_stats(proxy: World) -> None:
    """On a listener that no other case uses, for our figures are a second late."""
    refused(proxy, "counted", client_context(ROOT.root, version=V12))
    refused(proxy, "counted", client_context(ROOT.root, certificate=FOREIGN, version=V12))
    refused(proxy, "counted", client_context(ROOT.root, version=V12, ciphers="ECDHE-RSA-AES128-GCM-SHA256"))
    get(proxy, "counted", client_context(ROOT.root, certificate=CLIENT, version=V12))
    prefix = f"listener.127.0.0.1_{proxy.listener_port('counted')}.ssl."
    expected = {
        "handshake": 1,
        "connection_error": 1,
        "no_certificate": 0,
        "session_reused": 0,
        "fail_verify_no_cert": 1,
        "fail_verify_error": 1,
        "fail_verify_san": 0,
        "ciphers.ECDHE-ECDSA-AES128-GCM-SHA256": 1,
        "curves.X25519": 1,
        "versions.TLSv1.2": 1,
    }
    deadline = time.monotonic() + 10
    while (found := _figures(proxy, prefix, expected)) != expected:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def _figures(world: World, prefix: str, names: Iterable[str]) -> dict[str, int]:
    pattern = "|".join(f"^{prefix}{name}$" for name in names)
    return {name.removeprefix(prefix): value for name, value in world.proxy.stats(pattern).items()}


@case("x-forwarded-client-cert: every mode, with a client certificate")
@pytest.mark.parametrize("mode", XFCC_MODES)
@pytest.mark.parametrize("sent", [(), (("x-forwarded-client-cert", "Hash=abc;URI=spiffe://evil"),)], ids=["", "sent"])
def test_xfcc(proxy: World, mode: str, sent: Sequence[tuple[str, str]]) -> None:
    reply = get(proxy, f"xfcc {mode}", client_context(ROOT.root, certificate=CLIENT), headers=sent)
    found = reply.seen.get("x-forwarded-client-cert") or ""
    assert ("URI=spiffe://td/ns/shop/sa/client" in found) == (mode in ("APPEND_FORWARD", "SANITIZE_SET"))
    assert ("evil" in found) == (bool(sent) and mode in ("FORWARD_ONLY", "APPEND_FORWARD", "ALWAYS_FORWARD_ONLY"))


@case("x-forwarded-client-cert: every mode, without a client certificate")
@pytest.mark.parametrize("mode", XFCC_MODES)
def test_xfcc_without_certificate(proxy: World, mode: str) -> None:
    sent = [("x-forwarded-client-cert", "Hash=abc")]
    reply = get(proxy, f"xfcc {mode}", client_context(ROOT.root), headers=sent)
    assert (reply.seen.get("x-forwarded-client-cert") is not None) == (mode == "ALWAYS_FORWARD_ONLY")


@case("x-forwarded-client-cert: a certificate without names")
def test_xfcc_nameless(proxy: World) -> None:
    get(proxy, "xfcc SANITIZE_SET", client_context(ROOT.root, certificate=NAMELESS))


@case("x-forwarded-client-cert and logs: a subject with anything in it")
def test_xfcc_odd(proxy: World) -> None:
    reply = get(proxy, "xfcc SANITIZE_SET", client_context(ROOT.root, certificate=ODD))
    assert r'Subject="CN=q\"uo\,te\;\0D\0Ax-forged: \C3\A9"' in (reply.seen.get("x-forwarded-client-cert") or "")


@case("RBAC: authenticated principals by URI SAN, else DNS SAN, else subject")
@pytest.mark.parametrize(
    ("name", "certificate", "status"),
    [("http_rbac", CLIENT, 200), ("http_rbac", NAMELESS, 403), ("http_rbac", None, 403),
     ("any_rbac", CLIENT, 200), ("any_rbac", None, 200),
     ("dns_rbac", CLIENT, 200), ("dns_rbac", OTHER, 403),
     ("subject_rbac", NAMELESS, 200), ("subject_rbac", CLIENT, 403), ("client_rbac", CLIENT, 200)],
)  # fmt: skip
def test_rbac(proxy: World, name: str, certificate: Issued | None, status: int) -> None:
    assert get(proxy, name, client_context(ROOT.root, certificate=certificate)).status == status


@case("network RBAC: who is not authenticated is closed once there is a handshake")
def test_network_rbac(proxy: World) -> None:
    assert get(proxy, "network_rbac", client_context(ROOT.root, certificate=CLIENT)).status == 200
    forget_lines(proxy, "network_rbac")
    with connect(proxy, "network_rbac", client_context(ROOT.root)) as connection:
        connection.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert connection.read_some() == b""
    tls_lines(proxy, "network_rbac")
