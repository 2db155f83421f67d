"""Every HTTP and TCP route of the `loop` recording, through Envoy and through us on the same stream.

What a case says holds for both, and what both answered, sent upstream and logged is equal (tests/differential). Without
network namespaces (no root) the recorded addresses cannot be served by both.
"""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from tests.differential.pair import case
from tests.e2e.conftest import namespaces_possible
from tests.e2e.loop_world import ANY, CATALOG, FRONT, ORDERS, LoopPair, LoopWorld
from tests.e2e.strangers import CLIENT, STRANGERS, WORKLOAD, over_mutual_tls
from tests.support.client import Connection, Response, request_bytes
from tests.support.http2_upstream import Http2Step, answer, refuse, trailers_only
from tests.support.http2_upstream import hang as hang_http2
from tests.support.istio import Session
from tests.support.ports import PortAllocator
from tests.support.proxies import ProxyKind
from tests.support.tls_hello import client_hello
from tests.support.upstream import drop, hang, respond, switch_protocols

pytestmark = pytest.mark.root


@pytest.fixture(scope="module", params=["loop-sotw", "loop-delta"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopPair]:
    if not namespaces_possible():
        pytest.skip("needs network namespaces (root): the recorded addresses are served twice")
    made = LoopPair(tmp_path_factory.mktemp(request.param), PortAllocator(), Session.get(request.param))
    made.start()
    yield made
    made.stop()


@pytest.fixture
def ours(pair: LoopPair) -> Iterator[LoopWorld]:
    """Our world alone, for what Envoy does otherwise; the test is inside its network."""
    (world,) = (world for world in pair.loops if world.kind is ProxyKind.OURS)
    with world.network.entered():
        world.begin("alone")
        yield world
        world.end()


# Routes of catalog.


@case("route: header match to a subset")
def test_canary_header_leads_to_v2(world: LoopWorld) -> None:
    assert world.get("/any", {"x-canary": "yes"}, listener="8081", host=CATALOG).text == "catalog-v2\n"


@case("route: query parameter match by regular expression")
@pytest.mark.parametrize("query", ["debug=true", "debug=1"])
def test_debug_query_leads_to_v2(world: LoopWorld, query: str) -> None:
    assert world.get(f"/v2/x?{query}", listener="8081", host=CATALOG).text == "catalog-v2\n"


@case("virtual hosts: every form of the service's name")
@pytest.mark.parametrize("host", [CATALOG, f"{CATALOG}.", f"{CATALOG}:8081", "catalog", "catalog.shop", "127.0.10.1"])
def test_service_has_many_names(world: LoopWorld, host: str) -> None:
    assert world.get("/teapot", listener="8081", host=host).status == 418


@case("virtual hosts: a name that nobody has passes through, and has no original destination to pass to")
def test_unknown_host_passes_through(world: LoopWorld) -> None:
    assert world.get("/x", listener="8081", host="unknown.example").status == 503


@case("route: prefix rewrite and header rules")
def test_old_is_rewritten_to_new(world: LoopWorld) -> None:
    world.script("catalog-v1", respond(200, None, [("x-internal", "secret"), ("x-other", "kept")]))
    reply = world.get("/old/path?q=1", {"x-secret": "s", "x-trail": "0"}, listener="8081", host=CATALOG)
    assert reply.seen.path == "/new/path?q=1"
    assert (reply.seen.get("x-rewritten"), reply.seen.all("x-trail")) == ("yes", ["0", "a"])
    assert reply.seen.get("x-secret") is None
    assert (reply.get("x-served-by"), reply.get("x-internal"), reply.get("x-other")) == ("catalog", None, "kept")


@case("route: regular expression match, regex and host rewrite")
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_item_is_rewritten(world: LoopWorld, method: str) -> None:
    reply = world.request(method, "/item/42", listener="8081", host=CATALOG)
    assert (reply.seen.path, reply.seen.get("host")) == ("/items?id=42", "catalog.internal")


@case("route: a method that does not match")
def test_posted_item_is_not_rewritten(world: LoopWorld) -> None:
    world.quietly("POST", "/item/42", [("content-length", "0")], listener="8081", host=CATALOG)
    assert {(seen.path, seen.get("host")) for seen in world.seen("catalog-v1", "catalog-v2")} == {("/item/42", CATALOG)}
    world.forget()


@case("route: redirect")
def test_moved_is_redirected(world: LoopWorld) -> None:
    reply = world.get("/moved?q=1", listener="8081", host=CATALOG)
    assert (reply.status, reply.get("location")) == (308, "https://elsewhere.example/here?q=1")


@case("route: direct response")
def test_teapot_answers_itself(world: LoopWorld) -> None:
    reply = world.get("/teapot", listener="8081", host=CATALOG)
    assert (reply.status, reply.text) == (418, "short and stout")


@case("fault filter: abort")
def test_fault_aborts(world: LoopWorld) -> None:
    reply = world.get("/x", {"x-abort": "yes"}, listener="8081", host=CATALOG)
    assert (reply.status, reply.log.flags, reply.log.details) == (503, "FI", "fault_filter_abort")


@case("fault filter: delay")
def test_fault_delays(world: LoopWorld) -> None:
    reply = world.get("/x", {"x-delay": "yes"}, listener="8081", host=CATALOG)
    assert (reply.text, reply.log.flags) == ("catalog-v1\n", "DI")


@case("route timeout")
def test_slow_upstream_times_out(world: LoopWorld) -> None:
    world.script("catalog-v1", respond(200, delay_s=2.0))
    reply = world.get("/slow", listener="8081", host=CATALOG)
    assert (reply.status, reply.log.flags) == (504, "UT")


@case("retries: 5xx, on a host that was not tried")
def test_flaky_upstream_is_tried_again(world: LoopWorld) -> None:
    world.script("catalog-v1", respond(500))
    assert world.get("/flaky/1", listener="8081", host=CATALOG).status == 200
    assert len(world.seen("catalog-v1")) == 3


@case("retries: retriable status codes, three times at most")
def test_upstream_is_tried_three_times_more(world: LoopWorld) -> None:
    world.script("catalog-v1", *[respond(418)] * 4)
    assert world.get("/flaky/2", listener="8081", host=CATALOG).status == 418
    assert len(world.seen("catalog-v1")) == 4


@case("retries: per try timeout")
def test_try_that_takes_too_long_is_made_elsewhere(world: LoopWorld) -> None:
    world.script("catalog-v1", hang())
    assert world.get("/flaky/3", listener="8081", host=CATALOG).status == 200
    assert len(world.seen("catalog-v1")) == 3


@case("retries: a reset behind the request is not what Istio's default policy retries")
def test_reset_upstream_is_answered(world: LoopWorld) -> None:
    world.script("catalog-v2", drop(reset=True))
    # Not a GET, which goes out again when a connection that was kept turns out to be gone.
    reply = world.request("POST", "/x", {"x-canary": "yes"}, b"once", listener="8081", host=CATALOG)
    assert (reply.status, reply.log.flags) == (503, "UC")


@case("retries: a 503 is none of the status codes that Istio's default policy retries")
def test_unavailable_upstream_is_answered(world: LoopWorld) -> None:
    world.script("catalog-v2", respond(503))
    assert world.get("/x", {"x-canary": "yes"}, listener="8081", host=CATALOG).status == 503


@case("request mirroring")
def test_mirrored_request_reaches_orders_too(world: LoopWorld) -> None:
    reply = world.request("POST", "/mirror/1", {"x-user": "u1"}, b"copied", listener="8081", host=CATALOG)
    assert reply.text == "catalog-v1\n"
    (shadow,) = world.seen("orders-4", "orders-5", count=1)
    assert (shadow.get("host"), shadow.body) == (CATALOG, b"copied")


@case("CORS: preflight")
@pytest.mark.parametrize("origin", ["https://shop.example", "https://a.shop.example", "https://evil.example"])
def test_preflight_is_answered_for_known_origins(world: LoopWorld, origin: str) -> None:
    headers = {"origin": origin, "access-control-request-method": "GET"}
    reply = world.request("OPTIONS", "/api/x", headers, listener="8081", host=CATALOG)
    assert reply.get("access-control-allow-origin") == (None if "evil" in origin else origin)


@case("CORS: the request itself; path match without regard to case")
@pytest.mark.parametrize("origin", ["https://shop.example", "https://evil.example"])
def test_request_of_a_browser(world: LoopWorld, origin: str) -> None:
    reply = world.get("/API/x", {"origin": origin}, listener="8081", host=CATALOG)
    assert reply.text == "catalog-v1\n"
    assert reply.get("access-control-allow-origin") == (None if "evil" in origin else origin)


@case("route: without a header")
def test_guest_is_answered_unless_authorized(world: LoopWorld) -> None:
    assert world.get("/guest", listener="8081", host=CATALOG).text == "guest"
    reply = world.quietly("GET", "/guest", [("authorization", "x")], listener="8081", host=CATALOG)
    assert reply.get("x-version") in ("v1", "v2")
    world.forget()


@case("route: weighted clusters")
def test_split_is_four_to_one(world: LoopWorld) -> None:
    with Connection(8081) as connection:
        found: Counter[str] = Counter()
        for _ in range(200):
            connection.send(request_bytes("GET", "/split", [("host", CATALOG), ("user-agent", "quiet")]))
            reply = connection.read_response()
            assert reply.body.decode() == f"catalog-{reply.get('x-version')}\n"
            found[reply.get("x-version") or ""] += 1
    # 5 standard deviations around 160.
    assert 131 < found["v1"] < 189
    assert found["v1"] + found["v2"] == 200
    world.forget()


# Bodies and connections.


@case("bodies: chunked both ways, with trailers from upstream")
def test_chunked_bodies(world: LoopWorld) -> None:
    world.script("catalog-v2", respond(200, chunks=[b"a" * 10, b"b" * 5000], trailers=[("x-sum", "1")]))
    body = b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
    headers = {"x-canary": "yes", "transfer-encoding": "chunked"}
    reply = world.request("POST", "/upload", headers, body, listener="8081", host=CATALOG)
    assert (reply.seen.body, len(reply.body)) == (b"hello world", 5010)


@case("bodies: large ones both ways")
def test_large_bodies(world: LoopWorld) -> None:
    body = bytes(range(256)) * 8192
    world.script("catalog-v2", respond(200, body))
    reply = world.request("PUT", "/upload", {"x-canary": "yes"}, body, listener="8081", host=CATALOG)
    assert (reply.seen.body, reply.body) == (body, body)


@case("keep-alive and pipelining")
def test_pipelined_requests_are_answered_in_order(world: LoopWorld) -> None:
    with world.connect("8081") as link:
        for number in range(3):
            headers = {"x-canary": "yes"} if number == 1 else {}
            path = "/any" if number == 1 else "/teapot"
            link.send(world.compose(f"p{number}", "GET", path, headers, b"", host=CATALOG, version="HTTP/1.1"))
        replies = [link.reply(tag=f"p{number}", logged=False) for number in range(3)]
    assert [reply.status for reply in replies] == [418, 200, 418]


@case("HTTP/1.0 is not accepted")
def test_old_version_is_answered_426(world: LoopWorld) -> None:
    assert world.get("/teapot", listener="8081", host=CATALOG, version="HTTP/1.0").status == 426


@case("upgrade to WebSocket")
def test_websocket(world: LoopWorld) -> None:
    world.script("catalog-v2", switch_protocols())
    headers = {"x-canary": "yes", "connection": "Upgrade", "upgrade": "websocket"}
    with world.connect("8081") as link:
        link.send(world.compose("ws", "GET", "/chat", headers, b"", host=CATALOG, version="HTTP/1.1"))
        assert link.reply(tag="ws", logged=False).status == 101
        link.send(b"\x81\x05hello")
        assert link.raw.read_exactly(7) == b"\x81\x05hello"


# Orders: hash and limits.


@case("load balancing: our own zone is the first priority, whatever a hash says")
def test_users_stay_in_the_zone(world: LoopWorld) -> None:
    for number in range(8):
        reply = world.get("/o", {"x-user": f"user-{number}"}, listener="8081", host=ORDERS)
        assert reply.text == "orders-4\n"


@case("circuit breakers: connections and pending requests")
def test_requests_beyond_the_limits_are_refused(world: LoopWorld) -> None:
    world.script("orders-4", *[respond(200, delay_s=0.4)] * 24)
    world.script("orders-5", *[respond(200, delay_s=0.4)] * 24)

    def ask(number: int) -> Response:
        return world.quietly("GET", "/o", [("x-user", "me")], listener="8081", host=ORDERS)

    with ThreadPoolExecutor(24) as pool:
        replies = list(pool.map(ask, range(24)))
    refused = [reply for reply in replies if reply.status == 503]
    assert {reply.status for reply in replies} == {200, 503}
    assert {reply.body for reply in refused} == {
        b"upstream connect error or disconnect/reset before headers. reset reason: overflow"
    }
    assert {reply.get("x-envoy-overloaded") for reply in refused} == {"true"}
    # Each worker of Envoy may have one connection beyond the limit.
    assert max(one.most_open for one in world.named("orders-4") + world.named("orders-5")) <= 5
    world.forget()


# Front: out through 8080, in through 7080.


@case("outbound and inbound through one proxy")
def test_front_is_reached_through_both_listeners(world: LoopWorld) -> None:
    reply = world.request("POST", "/f?x=1", {"x-id": "7"}, b"in and out", listener="8080", host=FRONT)
    assert reply.text == "front\n"
    assert reply.seen.body == b"in and out"
    world.await_log("7080")


@case("inbound: the plaintext chain serves, mutual TLS being permissive")
def test_plaintext_inbound(world: LoopWorld) -> None:
    assert world.get("/in", listener="7080", host=FRONT).text == "front\n"


@case("inbound: a caller's operation replaces the route's, and goes no further")
def test_operation_of_the_caller_is_not_answered(world: LoopWorld) -> None:
    reply = world.get("/in", {"x-envoy-decorator-operation": "theirs"}, listener="7080", host=FRONT)
    assert reply.get("x-envoy-decorator-operation") is None
    assert reply.seen.get("x-envoy-decorator-operation") is None


@case("inbound: a reset before anything was sent is tried again")
def test_inbound_upstream_that_closes(world: LoopWorld) -> None:
    world.script("front", drop())
    assert world.get("/in", listener="7080", host=FRONT).status == 503


@case("inbound: a TLS client that is not of the mesh finds no chain")
def test_foreign_hello_is_closed(world: LoopWorld) -> None:
    with world.connect("7080") as link:
        link.send(client_hello("front", ["h2", "http/1.1"]))
        assert link.closes()
    (line,) = world.logs("7080")
    assert (line.flags, line.details) == ("NR", "filter_chain_not_found")


# TCP.


@case("TCP proxy: bytes both ways, half-close")
def test_ledger_speaks_first_and_echoes(world: LoopWorld) -> None:
    with world.connect("8090") as link:
        assert link.raw.read_exactly(7) == b"ledger\n"
        link.send(b"x" * 100_000)
        assert link.raw.read_exactly(100_000) == b"x" * 100_000
        link.raw.half_close()
        assert link.raw.read_to_end() == b""
    world.await_log("8090")


@case("unnamed port: HTTP by inspection")
def test_unnamed_port_routes_http(world: LoopWorld) -> None:
    assert world.get("/x", listener="8095", host=ANY).text == "any\n"


@case("unnamed port: anything else as TCP")
def test_unnamed_port_passes_anything_else(world: LoopWorld) -> None:
    with world.connect("8095") as link:
        link.send(b"\x01\x02 not HTTP\r\n\r\n")
        assert link.raw.read_response().body == b"any\n"
        link.raw.half_close()
        assert link.raw.read_to_end() == b""
    world.forget()


GRPC = {"content-type": "application/grpc", "te": "trailers"}
MESSAGE = b"\x00\x00\x00\x00\x02hi"
GRPC_ANSWER = answer(200, MESSAGE, [("content-type", "application/grpc")], trailers=[("grpc-status", "0")])


@case("gRPC port: a call goes out as HTTP/2, to the nearer zone")
def test_orders_by_grpc(world: LoopWorld) -> None:
    world.script("orders-grpc-4", GRPC_ANSWER)
    reply = world.request("POST", "/shop.Orders/Get", {**GRPC, "x-user": "me"}, MESSAGE, listener="8082", host=ORDERS)
    assert (reply.status, reply.body, reply.seen.version) == (200, MESSAGE, "HTTP/2")
    assert reply.seen.get(":authority") == ORDERS
    assert reply.log.cluster == f"outbound|8082||{ORDERS}"


@case("gRPC port: what is not gRPC goes out as HTTP/2, too")
def test_orders_without_grpc(world: LoopWorld) -> None:
    assert world.get("/plain", {"x-user": "me"}, listener="8082", host=ORDERS).seen.version == "HTTP/2"


@case("gRPC port: a refused stream and an unavailable server are tried again")
@pytest.mark.parametrize("step", [refuse(), trailers_only(("grpc-status", "14")), trailers_only(("grpc-status", "1"))])
def test_orders_by_grpc_retried(world: LoopWorld, step: Http2Step) -> None:
    world.script("orders-grpc-4", step, GRPC_ANSWER)
    reply = world.request("POST", "/shop.Orders/Get", {**GRPC, "x-user": "me"}, MESSAGE, listener="8082", host=ORDERS)
    assert (reply.status, reply.body) == (200, MESSAGE)
    assert len(world.seen("orders-grpc-4")) == 2


@case("gRPC port: grpc-timeout bounds the call")
def test_orders_by_grpc_in_time(world: LoopWorld) -> None:
    world.script("orders-grpc-4", hang_http2())
    headers = {**GRPC, "x-user": "me", "grpc-timeout": "200m"}
    reply = world.request("POST", "/shop.Orders/Get", headers, MESSAGE, listener="8082", host=ORDERS)
    assert (reply.status, reply.get("grpc-status"), reply.log.flags) == (200, "14", "UT")


# The inbound listener with mutual TLS.


@case("inbound: a workload of the mesh gets in, and the application hears who it is")
@pytest.mark.parametrize(
    "alpn", [("istio-http/1.1", "istio", "http/1.1"), ("istio-peer-exchange", "istio"), ("istio",)]
)
def test_a_workload_of_the_mesh_gets_in(world: LoopWorld, alpn: tuple[str, ...]) -> None:
    reply = over_mutual_tls(world, WORKLOAD, *alpn)
    assert reply is not None and reply.status == 200
    (seen,) = world.seen("front", count=1)
    digest = x509.load_pem_x509_certificate(WORKLOAD.chain.encode()).fingerprint(hashes.SHA256()).hex()
    said = f'By=spiffe://cluster.local/ns/shop/sa/front;Hash={digest};Subject="";URI={CLIENT}'
    assert seen.get("x-forwarded-client-cert") == f"URI=forged,{said}"
    world.forget()


@case("inbound: nobody else does")
@pytest.mark.parametrize("who", STRANGERS)
def test_a_stranger_is_turned_away(world: LoopWorld, who: str) -> None:
    assert over_mutual_tls(world, STRANGERS[who], "istio-http/1.1", "istio", "http/1.1") is None
    assert world.seen("front") == []
