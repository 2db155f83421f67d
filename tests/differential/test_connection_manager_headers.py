"""Headers that the HTTP connection manager sets, rewrites and strips on its own: who the client is, ids, hops, server."""

import re

import pytest

from tests.differential.bed import Bed, Config, cluster, http_listener, vhost
from tests.differential.pair import case
from tests.differential.world import World
from tests.support.upstream import Upstream, respond

ALL = vhost("all", ["*"], "[{name: all, match: {prefix: /}, route: {cluster: a}}]")

LOOPBACK_IS_INTERNAL: Config = {
    "cidr_ranges": [
        {"address_prefix": "127.0.0.0", "prefix_len": 8},
        {"address_prefix": "10.0.0.0", "prefix_len": 8},
    ]
}

BED = Bed(
    listeners=[
        http_listener("http", ALL),
        http_listener("edge", ALL, use_remote_address=True),
        http_listener("edge-internal", ALL, use_remote_address=True, internal_address_config=LOOPBACK_IS_INTERNAL),
        http_listener("edge-hop", ALL, use_remote_address=True, xff_num_trusted_hops=1),
        http_listener("edge-skip", ALL, use_remote_address=True, skip_xff_append=True),
        http_listener("inner", ALL, internal_address_config=LOOPBACK_IS_INTERNAL),
        http_listener("inner-hop", ALL, xff_num_trusted_hops=1, internal_address_config=LOOPBACK_IS_INTERNAL),
        http_listener("keep-id", ALL, use_remote_address=True, preserve_external_request_id=True),
        http_listener("no-id", ALL, generate_request_id=False),
        http_listener("return-id", ALL, always_set_request_id_in_response=True),
        http_listener("via", ALL, via="hop-1"),
        http_listener("server-name", ALL, server_name="shop"),
        http_listener("server-absent", ALL, server_header_transformation="APPEND_IF_ABSENT"),
        http_listener("server-pass", ALL, server_header_transformation="PASS_THROUGH"),
        http_listener("agent", ALL, add_user_agent=True),
        http_listener("scheme", ALL, scheme_header_transformation={"scheme_to_overwrite": "https"}),
        http_listener(
            "internal-only",
            vhost("all", ["*"], "[{match: {prefix: /}, route: {cluster: a}}]"),
            routes={"internal_only_headers": ["x-secret"]},
        ),
        http_listener("proper", ALL, http_protocol_options={"header_key_format": {"proper_case_words": {}}}),
    ],
    clusters=[cluster("a")],
    upstreams={"a": Upstream},
)

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")

ENVOY_CONTROL = [
    "x-envoy-retriable-status-codes",
    "x-envoy-retriable-header-names",
    "x-envoy-retry-on",
    "x-envoy-retry-grpc-on",
    "x-envoy-max-retries",
    "x-envoy-upstream-alt-stat-name",
    "x-envoy-upstream-rq-timeout-ms",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-upstream-rq-timeout-alt-response",
    "x-envoy-force-trace",
    "x-envoy-ip-tags",
    "x-envoy-original-url",
    "x-envoy-hedge-on-per-try-timeout",
]
EDGE_ONLY = [
    "x-envoy-decorator-operation",
    "x-envoy-downstream-service-cluster",
    "x-envoy-downstream-service-node",
    "x-envoy-original-path",
    "x-envoy-original-host",
]


@case("Proxying: what the upstream gets of a plain request")
def test_a_plain_request_upstream(proxy: World) -> None:
    seen = proxy.get("/p", {"User-Agent": "me", "Accept": "*/*"}).seen
    assert (seen.method, seen.path, seen.version) == ("GET", "/p", "HTTP/1.1")
    names = {name for name, _ in seen.headers}
    assert names == {
        "host",
        "user-agent",
        "accept",
        "x-case",
        "x-forwarded-proto",
        "x-request-id",
        "x-envoy-expected-rq-timeout-ms",
    }


@case("Proxying: order of request and response headers is kept")
def test_header_order_is_kept(proxy: World) -> None:
    proxy.upstream("a").script(respond(headers=[("x-3", "c"), ("x-1", "a"), ("x-2", "b"), ("x-1", "d")]))
    reply = proxy.get(headers=[("x-3", "c"), ("x-1", "a"), ("x-2", "b"), ("x-1", "d")])
    expected = [("x-3", "c"), ("x-1", "a"), ("x-2", "b"), ("x-1", "d")]
    assert [header for header in reply.seen.headers if re.match(r"x-\d", header[0])] == expected
    assert [header for header in reply.response.headers if re.match(r"x-\d", header[0])] == expected


@case("x-forwarded-for: left alone without use_remote_address")
@pytest.mark.parametrize("value", [None, "1.2.3.4", "1.2.3.4, 5.6.7.8"])
def test_forwarded_for_is_left_alone_by_default(proxy: World, value: str | None) -> None:
    seen = proxy.get(headers={} if value is None else {"x-forwarded-for": value}).seen
    assert seen.get("x-forwarded-for") == value
    assert seen.get("x-envoy-external-address") is None
    assert seen.get("x-envoy-internal") is None


@case("x-forwarded-for: the peer is appended with use_remote_address")
@pytest.mark.parametrize(
    ("value", "kept"), [(None, ""), ("1.2.3.4", "1.2.3.4,"), ("1.2.3.4, 5.6.7.8", "1.2.3.4, 5.6.7.8,")]
)
def test_the_peer_is_appended_at_the_edge(proxy: World, value: str | None, kept: str) -> None:
    seen = proxy.get(headers={} if value is None else {"x-forwarded-for": value}, listener="edge").seen
    forwarded_for = seen.get("x-forwarded-for") or ""
    before, appended = forwarded_for[: len(kept)], forwarded_for[len(kept) :]
    # A peer on loopback is one on this host: the host's own address stands for it.
    assert before == kept
    assert re.fullmatch(r"[0-9.]+", appended)
    assert seen.get("x-envoy-external-address") == "127.0.0.1"


@case("x-forwarded-for: a peer that is no plain loopback address is appended as it is")
def test_the_peer_on_another_loopback_address(proxy: World) -> None:
    seen = proxy.request(source="127.0.0.9", listener="edge").seen
    assert seen.get("x-envoy-external-address") == "127.0.0.9"
    assert seen.get("x-forwarded-for") == "127.0.0.9"


@case("x-forwarded-for: skip_xff_append")
def test_the_peer_is_not_appended_where_skipped(proxy: World) -> None:
    seen = proxy.get(headers={"x-forwarded-for": "1.2.3.4"}, listener="edge-skip").seen
    assert seen.get("x-forwarded-for") == "1.2.3.4"


@case("x-forwarded-for: xff_num_trusted_hops at the edge")
def test_a_trusted_hop_names_the_client(proxy: World) -> None:
    seen = proxy.get(headers={"x-forwarded-for": "1.2.3.4, 5.6.7.8"}, listener="edge-hop").seen
    assert seen.get("x-envoy-external-address") == "5.6.7.8"


@case("x-envoy-internal: set for an internal address alone, with and without x-forwarded-for")
@pytest.mark.parametrize(
    ("listener", "forwarded_for", "internal"),
    [
        ("edge-internal", None, True),
        ("edge-internal", "10.1.1.1", False),
        ("inner", "10.1.1.1", True),
        ("inner", "1.2.3.4", False),
        ("inner", "10.1.1.1, 10.1.1.2", False),
        ("inner", None, False),
        ("edge", None, False),
        ("http", "10.1.1.1", False),
    ],
)
def test_internal_requests_are_marked(proxy: World, listener: str, forwarded_for: str | None, internal: bool) -> None:
    headers = {"x-envoy-internal": "forged"} | ({"x-forwarded-for": forwarded_for} if forwarded_for else {})
    seen = proxy.get(headers=headers, listener=listener).seen
    assert seen.all("x-envoy-internal") == (["true"] if internal else [])


@case("x-envoy-*: control headers of external requests are stripped")
@pytest.mark.parametrize("name", ENVOY_CONTROL)
def test_control_headers_are_stripped_of_external_requests(proxy: World, name: str) -> None:
    value = "5" if name.endswith(("ms", "retries")) else "x"
    assert proxy.get(headers={name: value}).seen.get(name) is None


@case("x-envoy-*: headers about the downstream are stripped at the edge only")
@pytest.mark.parametrize("name", EDGE_ONLY)
def test_downstream_headers_are_stripped_at_the_edge(proxy: World, name: str) -> None:
    assert proxy.get(headers={name: "x"}, listener="edge").seen.get(name) is None
    assert proxy.get(headers={name: "x"}).seen.get(name) == "x"


@case("Internal headers: internal_only_headers of the route table are stripped of external requests")
def test_internal_only_headers_are_stripped(proxy: World) -> None:
    assert proxy.get(headers={"x-secret": "1", "x-open": "2"}, listener="internal-only").seen.get("x-secret") is None


@case("x-forwarded-proto: set where absent, kept where not at the edge, overwritten at the edge")
@pytest.mark.parametrize(
    ("listener", "given", "sent"),
    [("http", None, "http"), ("http", "https", "https"), ("edge", "https", "http"), ("edge-hop", "https", "https")],
)
def test_forwarded_proto(proxy: World, listener: str, given: str | None, sent: str) -> None:
    headers = {} if given is None else {"x-forwarded-proto": given}
    assert proxy.get(headers=headers, listener=listener).seen.all("x-forwarded-proto") == [sent]


@case("Scheme: scheme_to_overwrite is the scheme for the route and for x-forwarded-proto")
def test_the_scheme_is_overwritten(proxy: World) -> None:
    assert proxy.get(listener="scheme").seen.get("x-forwarded-proto") == "https"


@case("x-request-id: made as a version 4 UUID where absent")
def test_a_request_id_is_made(proxy: World) -> None:
    value = proxy.get().seen.get("x-request-id")
    assert value is not None
    assert UUID.fullmatch(value)
    assert value[14] == "4"


@case("x-request-id: a given one is kept inside the mesh, replaced at the edge, kept there where asked")
@pytest.mark.parametrize(
    ("listener", "kept"), [("http", True), ("edge", False), ("keep-id", True), ("no-id", True), ("edge-internal", True)]
)
def test_a_given_request_id(proxy: World, listener: str, kept: bool) -> None:
    value = proxy.get(headers={"x-request-id": "mine"}, listener=listener).seen.get("x-request-id")
    assert (value == "mine") is kept


@case("x-request-id: generate_request_id off")
def test_no_request_id_is_made_where_switched_off(proxy: World) -> None:
    assert proxy.get(listener="no-id").seen.get("x-request-id") is None


@case("x-request-id: always_set_request_id_in_response")
def test_the_request_id_is_returned_where_asked(proxy: World) -> None:
    reply = proxy.get(listener="return-id")
    assert reply.get("x-request-id") == reply.seen.get("x-request-id")
    assert proxy.get().get("x-request-id") is None


@case("Server header: server_header_transformation OVERWRITE, APPEND_IF_ABSENT, PASS_THROUGH")
@pytest.mark.parametrize(
    ("listener", "from_upstream", "server"),
    [
        ("http", None, ["envoy"]),
        ("http", "nginx", ["envoy"]),
        ("server-name", "nginx", ["shop"]),
        ("server-absent", None, ["envoy"]),
        ("server-absent", "nginx", ["nginx"]),
        ("server-pass", None, []),
        ("server-pass", "nginx", ["nginx"]),
    ],
)
def test_server_header(proxy: World, listener: str, from_upstream: str | None, server: list[str]) -> None:
    proxy.upstream("a").script(respond(headers=[("server", from_upstream)] if from_upstream else []))
    assert proxy.get(listener=listener).all("server") == server


@case("Via: appended to requests and responses")
def test_via_is_appended(proxy: World) -> None:
    proxy.upstream("a").script(respond(headers=[("via", "1.1 up")]))
    reply = proxy.get(headers={"via": "1.0 before"}, listener="via")
    assert (reply.seen.all("via"), reply.all("via")) == (["1.0 before, hop-1"], ["1.1 up, hop-1"])
    reply = proxy.get(listener="via")
    assert (reply.seen.all("via"), reply.all("via")) == (["hop-1"], ["hop-1"])


@case("add_user_agent: service cluster and node of the proxy")
def test_user_agent_is_added(proxy: World) -> None:
    seen = proxy.get(listener="agent").seen
    assert seen.get("x-envoy-downstream-service-cluster") == "test-cluster"
    assert seen.get("x-envoy-downstream-service-node") == "node-1"
    assert seen.get("user-agent") == "test-cluster"
    assert proxy.get(headers={"user-agent": "me"}, listener="agent").seen.get("user-agent") == "me"


@case("Hop-by-hop headers: connection and what it names, keep-alive, proxy-connection, te")
@pytest.mark.parametrize(
    ("headers", "kept"),
    [
        ({"connection": "keep-alive", "keep-alive": "timeout=5"}, set()),
        ({"connection": "x-hop, keep-alive", "x-hop": "1"}, set()),
        ({"proxy-connection": "keep-alive"}, set()),
        ({"te": "trailers"}, {"te"}),
        ({"te": "gzip"}, set()),
        ({"te": "trailers, deflate"}, {"te"}),
        ({"connection": "te", "te": "trailers"}, {"te"}),
        ({"proxy-authorization": "x"}, {"proxy-authorization"}),
        ({"trailer": "x-sum"}, {"trailer"}),
        ({"upgrade": "h2c", "connection": "upgrade, http2-settings", "http2-settings": "AAMAAABk"}, set()),
    ],
)
def test_hop_by_hop_headers_of_a_request(proxy: World, headers: dict[str, str], kept: set[str]) -> None:
    seen = proxy.get(headers=headers).seen
    assert {name for name in {*headers, "connection", "upgrade"} if seen.get(name) is not None} == kept
    assert seen.get("te") in (None, "trailers")


@case("Hop-by-hop headers: of a response")
def test_hop_by_hop_headers_of_a_response(proxy: World) -> None:
    proxy.upstream("a").script(
        respond(headers=[("connection", "keep-alive"), ("keep-alive", "timeout=5"), ("proxy-connection", "x")])
    )
    reply = proxy.get()
    assert [reply.get(name) for name in ("connection", "keep-alive", "proxy-connection")] == [None, None, None]


@case("Response headers: date is kept or made, x-envoy-upstream-service-time is set")
def test_date_and_service_time(proxy: World) -> None:
    date = "Tue, 15 Nov 1994 08:12:31 GMT"
    proxy.upstream("a").script(respond(headers=[("date", date), ("x-envoy-upstream-service-time", "999999")]))
    reply = proxy.get()
    assert reply.all("date") == [date]
    assert int(reply.all("x-envoy-upstream-service-time")[0]) < 999999
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", proxy.get().get("date") or "")


@case("Referer: an invalid one is removed")
@pytest.mark.parametrize(
    ("values", "kept"),
    [
        (["http://a.example/x"], True),
        (["http://a.example/", "http://b.example/"], True),
        (["http://user:pw@a.example/"], False),
        (["http://a.example/#part"], False),
        (["not a url"], False),
    ],
)
def test_referer_is_checked(proxy: World, values: list[str], kept: bool) -> None:
    seen = proxy.get(headers=[("referer", value) for value in values]).seen
    assert (seen.get("referer") is not None) is kept


@case("Header case: lower-cased on both sides by default")
def test_header_names_are_lower_cased(proxy: World) -> None:
    proxy.upstream("a").script(respond(headers=[("X-From-Upstream", "Value")]))
    reply = proxy.get(headers={"X-From-Client": "Value"})
    assert ("x-from-client", "Value") in reply.seen.headers
    assert ("x-from-upstream", "Value") in reply.response.headers


@case("Header case: proper_case_words towards the client")
def test_header_names_are_in_proper_case_where_asked(proxy: World) -> None:
    proxy.upstream("a").script(respond(headers=[("x-from-upstream", "value")]))
    reply = proxy.get(listener="proper")
    assert ("X-From-Upstream", "value") in reply.response.headers
    assert "Server" in {name for name, _ in reply.response.headers}
