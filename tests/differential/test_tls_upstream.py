"""TLS on the side of clusters: what is offered and demanded, what fails and how that is told, beside Envoy."""

import ssl
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.differential.bed import (
    FILE_LOG,
    Bed,
    Config,
    cluster,
    endpoint,
    extension,
    http_listener,
    listener,
    tcp_proxy,
    vhost,
)
from tests.differential.pair import case
from tests.differential.world import Reply, World
from tests.support.authority import Authority, Issued
from tests.support.server import DeafUpstream
from tests.support.tcp_upstream import TcpExchange, TcpUpstream
from tests.support.tls import SeenHandshake, TlsConnection, TlsUpstream, client_context
from tests.support.upstream import Upstream, respond

ROOT = Authority("root")
STRANGER = Authority("stranger")
SERVER = ROOT.issue("spiffe://td/ns/shop/sa/server", "srv.test", "*.wild.test", "10.0.0.1", common_name="server")
CLIENT = ROOT.issue("spiffe://td/ns/shop/sa/client", common_name="client")
FOREIGN = STRANGER.issue("srv.test", common_name="foreign")
EXPIRED = ROOT.issue("srv.test", common_name="expired", start=timedelta(days=-9), end=timedelta(days=-1))

UPSTREAM_LOG = "\t".join(
    [
        "%REQ(X-CASE)%", "%RESPONSE_FLAGS%", "%UPSTREAM_TRANSPORT_FAILURE_REASON%", "%RESPONSE_CODE_DETAILS%",
        "%UPSTREAM_TLS_VERSION%", "%UPSTREAM_TLS_CIPHER%", "%UPSTREAM_TLS_GROUP%", "%UPSTREAM_PEER_SUBJECT%",
        "%UPSTREAM_PEER_ISSUER%", "%UPSTREAM_PEER_URI_SAN% %UPSTREAM_PEER_DNS_SAN% %UPSTREAM_PEER_IP_SAN%",
        "%UPSTREAM_LOCAL_URI_SAN%", "%UPSTREAM_PEER_CERT_V_END(%s)%",
    ]
)  # fmt: skip


def upstream_tls(common: Config | None = None, **fields: Any) -> Config:
    return extension(
        "envoy.transport_sockets.tls",
        "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        common_tls_context=common or {},
        **fields,
    )


def trust(root: Authority = ROOT, **fields: Any) -> Config:
    return {"validation_context": {"trusted_ca": {"inline_string": root.root}, **fields}}


def san(kind: str, **matcher: Any) -> Config:
    return {"san_type": kind, "matcher": matcher}


def secure(name: str, target: str, common: Config | None = None, http: Config | None = None, **fields: Any) -> Config:
    return cluster(name, target, http=http, transport_socket=upstream_tls(common, **fields))


RAW = extension("envoy.transport_sockets.raw_buffer", "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer")
AUTO_SNI = {"upstream_http_protocol_options": {"auto_sni": True, "auto_san_validation": True}}
MATCHES = [
    {
        "name": "tlsMode-istio",
        "match": {"tlsMode": "istio"},
        "transport_socket": upstream_tls({"tls_certificates": [CLIENT.config()], **trust()}, sni="mesh"),
    },
    {"name": "tlsMode-disabled", "match": {}, "transport_socket": RAW},
]


def marked(port: str, mode: str | None) -> Config:
    if mode is None:
        return endpoint(port)
    return endpoint(port, metadata={"filter_metadata": {"envoy.transport_socket_match": {"tlsMode": mode}}})


V13_ONLY = {"tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"}}

CLUSTERS = [
    secure("plainly", "tls"),
    secure("trusting", "tls", trust()),
    secure("sni", "tls", trust(), sni="named.test"),
    secure("mutual", "mutual", {"tls_certificates": [CLIENT.config()], **trust()}),
    secure("mutual13", "mutual", {"tls_certificates": [CLIENT.config()], **trust(), **V13_ONLY}),
    secure("uncertified", "mutual", trust()),
    secure("uncertified13", "mutual", {**trust(), **V13_ONLY}),
    secure("resumed", "resumed", trust()),
    secure("resumed13", "resumed13", {**trust(), **V13_ONLY}),
    secure("stranger", "tls", trust(STRANGER)),
    secure("names", "tls", trust(match_typed_subject_alt_names=[san("URI", exact="spiffe://td/ns/shop/sa/server")])),
    secure("wild", "tls", trust(match_typed_subject_alt_names=[san("DNS", exact="any.wild.test")])),
    secure("suffix", "tls", trust(match_typed_subject_alt_names=[san("DNS", suffix=".test"), san("DNS", exact="x")])),
    secure("regex", "tls", trust(match_typed_subject_alt_names=[san("URI", safe_regex={"regex": "spiffe://td/.*"})])),
    secure("contains", "tls", trust(match_typed_subject_alt_names=[san("URI", contains="/sa/server")])),
    secure("address", "tls", trust(match_typed_subject_alt_names=[san("IP_ADDRESS", exact="10.0.0.1")])),
    secure("otherwise", "tls", trust(match_typed_subject_alt_names=[san("URI", exact="srv.test")])),
    secure("legacy", "tls", trust(match_subject_alt_names=[{"exact": "srv.test"}])),
    secure("expired", "expired", trust()),
    secure("forgiving", "expired", trust(allow_expired_certificate=True)),
    secure("plaintext", "plain"),
    secure("old", "new"),
    secure("v13", "tls", {**trust(), **V13_ONLY}),
    secure("alpn", "alpn", {**trust(), "alpn_protocols": ["one", "http/1.1"]}),
    secure("unsaid", "alpn", trust()),
    secure("auto", "tls", trust(), http=AUTO_SNI),
    secure(
        "header",
        "tls",
        trust(),
        http={"upstream_http_protocol_options": {"auto_sni": True, "override_auto_sni_header": "x-sni"}},
    ),
    cluster("matched", marked("mutual", "istio"), transport_socket_matches=MATCHES),
    cluster("unmatched", marked("cleartext", "disabled"), transport_socket_matches=MATCHES),
    cluster("bare", marked("cleartext", None), transport_socket_matches=MATCHES),
    secure("deaf", "deaf"),
    secure("hanging up", "closing"),
    secure("tcp", "tls", trust()),
]
for slow in CLUSTERS:
    if slow["name"] == "deaf":
        slow["connect_timeout"] = "0.3s"

ROUTES = [
    {"match": {"path": f"/{one['name'].replace(' ', '_')}"}, "route": {"cluster": one["name"]}} for one in CLUSTERS
]


def close_at_once(exchange: TcpExchange) -> None:
    exchange.read()


def answer_in_plaintext(exchange: TcpExchange) -> None:
    exchange.read()
    exchange.send(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
    exchange.read()


def only_new(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_3


def tls(certificate: Issued = SERVER, **options: Any) -> Callable[[str], TlsUpstream]:
    return lambda name: TlsUpstream(name, certificate, **options)


UPSTREAM_FILE = {
    "name": "envoy.access_loggers.file",
    "typed_config": {
        "@type": FILE_LOG,
        "path": "${log}/upstream.tls",
        "log_format": {"text_format_source": {"inline_string": UPSTREAM_LOG + "\n"}},
    },
}

BED = Bed(
    listeners=[
        http_listener("http", vhost("all", ["*"], ROUTES)),
        http_listener("told", vhost("all", ["*"], ROUTES), access_log=[UPSTREAM_FILE]),
        listener("through", tcp_proxy("through", "tcp")),
        listener(
            "both",
            chains=[
                {
                    "filters": [tcp_proxy("both", "mutual")],
                    "transport_socket": extension(
                        "envoy.transport_sockets.tls",
                        "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                        common_tls_context={"tls_certificates": [SERVER.config()]},
                    ),
                }
            ],
        ),
    ],
    clusters=CLUSTERS,
    upstreams={
        "tls": tls(),
        "mutual": tls(client_roots=ROOT.root),
        "expired": tls(EXPIRED),
        "resumed": lambda name: TlsUpstream(name, SERVER, default=respond(close=True)),
        "resumed13": lambda name: TlsUpstream(name, SERVER, default=respond(close=True)),
        "alpn": tls(alpn=["http/1.1"]),
        "new": tls(configure=only_new),
        "plain": lambda name: TcpUpstream(name, behaviour=answer_in_plaintext),
        "cleartext": Upstream,
        "deaf": DeafUpstream,
        "closing": lambda name: TcpUpstream(name, behaviour=close_at_once),
    },
)


def handshake(world: World, name: str, reply: Reply) -> SeenHandshake:
    """What the upstream saw of the connection that the request came on."""
    upstream = world.upstream(name)
    assert isinstance(upstream, TlsUpstream)
    return upstream.handshakes[reply.seen.connection]


def told(world: World, path: str, **options: Any) -> list[str]:
    """The fields of the upstream log for a request; they are compared, too."""
    reply = world.get(path, listener="told", logged=False, **options)
    file = world.folder / "upstream.tls"
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        lines = file.read_text().splitlines() if file.exists() else []
        found = [line.split("\t") for line in lines if line.startswith(f"{reply.tag}\t")]
        if found:
            world.note("told", found[0][1:])
            return found[0][1:]
        time.sleep(0.01)
    raise AssertionError("no log line")


@case("upstream TLS: certificates that are good")
@pytest.mark.parametrize(
    "name",
    ["plainly", "trusting", "names", "wild", "suffix", "regex", "contains", "address", "legacy", "forgiving", "v13"],
)
def test_good(proxy: World, name: str) -> None:
    assert proxy.get(f"/{name}").status == 200


@case("upstream TLS: what the log says of a connection")
@pytest.mark.parametrize("name", ["trusting", "mutual", "v13"])
def test_log(proxy: World, name: str) -> None:
    fields = told(proxy, f"/{name}")
    assert fields[6] == "CN=server"


@case("upstream TLS: certificates that are not good: UF, and why")
@pytest.mark.parametrize(
    ("name", "why"),
    [("stranger", "unable_to_get_local_issuer_certificate"), ("otherwise", "SAN_matcher"), ("expired", "has_expired"),
     ("plaintext", "WRONG_VERSION_NUMBER"), ("old", "TLSV1_ALERT_PROTOCOL_VERSION"),
     ("uncertified", "SSLV3_ALERT_HANDSHAKE_FAILURE")],
)  # fmt: skip
def test_bad(proxy: World, name: str, why: str) -> None:
    assert why in told(proxy, f"/{name}")[1]
    reply = proxy.get(f"/{name}")
    assert (reply.status, reply.log.flags) == (503, "UF")


@case("upstream TLS 1.3: a certificate that is missing shows behind the handshake: UC")
def test_late_alert(proxy: World) -> None:
    reply = proxy.get("/uncertified13")
    assert (reply.status, reply.log.flags) == (503, "UC")


@case("upstream TLS: sessions are resumed")
@pytest.mark.parametrize("name", ["resumed", "resumed13"])
def test_resumption(proxy: World, name: str) -> None:
    """Each worker has a session of its own."""
    seen = [handshake(proxy, name, proxy.get(f"/{name}")).reused for _ in range(8)]
    assert seen.count(False) <= 2, seen


@case("upstream TLS: an upstream that hangs up during the handshake")
def test_hang_up(proxy: World) -> None:
    reply = proxy.get("/hanging_up")
    assert (reply.status, reply.log.flags) == (503, "UF")


@case("upstream TLS: a handshake that takes longer than connect_timeout")
def test_deaf(proxy: World) -> None:
    reply = proxy.get("/deaf")
    assert (reply.status, reply.log.flags) == (503, "UF")


@case("upstream TLS: sni")
def test_sni(proxy: World) -> None:
    assert handshake(proxy, "tls", proxy.get("/sni")).sni == "named.test"


@case("upstream TLS: no sni")
def test_no_sni(proxy: World) -> None:
    assert handshake(proxy, "tls", proxy.get("/trusting")).sni is None


@case("auto_sni, auto_san_validation: the request's authority, without its port")
@pytest.mark.parametrize(
    ("host", "status"),
    [("srv.test", 200), ("srv.test:8080", 200), ("a.wild.test", 200), ("a.b.wild.test", 503), ("other.test", 503),
     ("10.0.0.1", 200), ("10.0.0.2:80", 503)],
)  # fmt: skip
def test_auto_sni(proxy: World, host: str, status: int) -> None:
    reply = proxy.get("/auto", host=host)
    assert reply.status == status
    if status == 200:
        name = host.partition(":")[0]
        assert handshake(proxy, "tls", reply).sni == (None if name[0].isdigit() else name)


@case("auto_sni: connections of one server name are not used for another")
def test_auto_sni_keeps_apart(proxy: World) -> None:
    for host in ("x.wild.test", "y.wild.test", "x.wild.test", "y.wild.test"):
        assert handshake(proxy, "tls", proxy.get("/auto", host=host)).sni == host


@case("override_auto_sni_header")
@pytest.mark.parametrize(("headers", "sni"), [({"x-sni": "said.test"}, "said.test"), ({}, "kept.test")])
def test_override_auto_sni(proxy: World, headers: dict[str, str], sni: str) -> None:
    reply = proxy.get("/header", headers, host="kept.test")
    assert handshake(proxy, "tls", reply).sni == sni


@case("upstream TLS: our certificate is shown to who asks")
@pytest.mark.parametrize("name", ["mutual", "mutual13"])
def test_mutual(proxy: World, name: str) -> None:
    reply = proxy.get(f"/{name}")
    assert handshake(proxy, "mutual", reply).client_names == ("spiffe://td/ns/shop/sa/client",)


@case("upstream TLS: ALPN")
def test_alpn(proxy: World) -> None:
    assert handshake(proxy, "alpn", proxy.get("/alpn")).alpn == "http/1.1"


@case("upstream TLS: what is offered by ALPN where the cluster does not say")
def test_default_alpn(proxy: World) -> None:
    assert handshake(proxy, "alpn", proxy.get("/unsaid")).alpn == "http/1.1"


@case("transport_socket_matches: TLS for endpoints that say so, plaintext for the others")
@pytest.mark.parametrize(("name", "encrypted"), [("matched", True), ("unmatched", False), ("bare", False)])
def test_matches(proxy: World, name: str, encrypted: bool) -> None:
    reply = proxy.get(f"/{name}")
    assert reply.status == 200
    if encrypted:
        assert handshake(proxy, "mutual", reply).sni == "mesh"


@case("upstream TLS: a kept connection serves the next request")
def test_keep_alive(proxy: World) -> None:
    with proxy.connect() as link:
        replies = [link.request("POST", "/sni", body=b"x" * size) for size in (0, 10, 16384, 70000)]
    assert [reply.status for reply in replies] == [200] * 4
    assert len({reply.seen.connection for reply in replies}) == 1


@case("upstream TLS: statistics of the cluster")
def test_stats(proxy: World) -> None:
    for name in ("stranger", "otherwise", "plaintext", "old"):
        proxy.get(f"/{name}")
    with_figures = {"fail_verify_error": "stranger", "fail_verify_san": "otherwise", "connection_error": "plaintext"}
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        found = [proxy.proxy.stats(f"^cluster.{one}.ssl.{stat}$") for stat, one in with_figures.items()]
        if all(figures and min(figures.values()) > 0 for figures in found):
            return
        time.sleep(0.05)
    raise AssertionError(found)


@case("TCP proxy: plaintext in, TLS out")
def test_tcp(proxy: World) -> None:
    with proxy.connect("through") as link:
        link.send(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert link.raw.read_response().status == 200


@case("TCP proxy: TLS in, mutual TLS out, bytes of any size, and the end of each side")
def test_tcp_both(proxy: World) -> None:
    body = b"z" * 300_000
    with TlsConnection(proxy.listener_port("both"), client_context(ROOT.root)) as connection:
        connection.send(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        assert connection.read_response("POST").status == 200
    proxy.upstream("mutual").wait_for(1)
    assert len(proxy.upstream("mutual").requests[0].body) == len(body)
