"""Answers that the proxy gives itself: status, body, headers, flag and details, for plain and for gRPC requests."""

import pytest

from tests.differential.bed import Bed, cluster, config, endpoint, http_listener, vhost
from tests.differential.pair import case
from tests.differential.world import World
from tests.support.upstream import Upstream, drop, hang, raw

ROUTES = vhost(
    "all",
    ["*"],
    """
    - {name: dead, match: {path: /dead}, route: {cluster: dead}}
    - {name: gone, match: {path: /gone}, route: {cluster: gone}}
    - {name: unhealthy, match: {path: /unhealthy}, route: {cluster: unhealthy}}
    - {name: empty, match: {path: /empty}, route: {cluster: empty}}
    - {name: short, match: {path: /short}, route: {cluster: a, timeout: 0.2s}}
    - {name: a, match: {prefix: /a}, route: {cluster: a}}
    - {name: direct, match: {path: /direct}, direct_response: {status: 403, body: {inline_string: "no"}}}
    - {name: redirect, match: {path: /redirect}, redirect: {path_redirect: /}}
    """,
)

MAPPED = config("""
mappers:
- filter: {status_code_filter: {comparison: {op: EQ, value: {default_value: 404, runtime_key: none}}}}
  status_code: 410
  body: {inline_string: "gone away"}
  headers_to_add: [{header: {key: x-mapped, value: "by status"}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}]
- filter: {response_flag_filter: {flags: [UF]}}
  body_format_override:
    json_format: {message: "%LOCAL_REPLY_BODY%", code: "%RESPONSE_CODE%", path: "%REQ(:PATH)%"}
body_format:
  text_format_source: {inline_string: "<%RESPONSE_CODE%> %LOCAL_REPLY_BODY%"}
  content_type: text/html
""")

BED = Bed(
    listeners=[
        http_listener("http", ROUTES, routes={"validate_clusters": False}),
        http_listener("mapped", ROUTES, routes={"validate_clusters": False}, local_reply_config=MAPPED),
    ],
    clusters=[
        cluster("a"),
        cluster("dead", endpoint("closed-port")),
        cluster(
            "unhealthy",
            endpoint("a", health_status="UNHEALTHY"),
            common_lb_config={"healthy_panic_threshold": {"value": 0}},
        ),
        {"name": "empty", "type": "STATIC", "connect_timeout": "1s", "load_assignment": {"cluster_name": "empty"}},
    ],
    upstreams={"a": Upstream},
)

GRPC = {"content-type": "application/grpc", "te": "trailers"}
RESET = "upstream connect error or disconnect/reset before headers. reset reason: "


@case("Local reply: no route")
def test_no_route(proxy: World) -> None:
    reply = proxy.get("/nowhere")
    assert (reply.status, reply.body, reply.get("content-type"), reply.get("content-length")) == (404, b"", None, "0")
    assert (reply.log.flags, reply.log.details, reply.log.route) == ("NR", "route_not_found", "-")


@case("Local reply: no such cluster")
def test_no_cluster(proxy: World) -> None:
    reply = proxy.get("/gone")
    assert (reply.status, reply.body) == (503, b"")
    assert (reply.log.flags, reply.log.details, reply.log.route) == ("NC", "cluster_not_found", "gone")


@case("Local reply: no healthy upstream")
@pytest.mark.parametrize("path", ["/unhealthy", "/empty"])
def test_no_healthy_upstream(proxy: World, path: str) -> None:
    reply = proxy.get(path)
    assert (reply.status, reply.text, reply.get("content-type")) == (503, "no healthy upstream", "text/plain")
    assert (reply.log.flags, reply.log.details) == ("UH", "no_healthy_upstream")


@case("Local reply: connection refused")
def test_connection_refused(proxy: World) -> None:
    reply = proxy.get("/dead")
    assert (reply.status, reply.text) == (503, RESET + "remote connection failure")
    assert reply.log.flags == "UF"
    assert reply.log.details.startswith("upstream_reset_before_response_started{remote_connection_failure")


@case("Local reply: the upstream closes before an answer")
def test_closed_before_an_answer(proxy: World) -> None:
    proxy.upstream("a").script(drop())
    reply = proxy.get("/a")
    assert (reply.status, reply.text) == (503, RESET + "connection termination")
    assert reply.log.flags == "UC"
    assert reply.log.details == "upstream_reset_before_response_started{connection_termination}"


@case("Local reply: the upstream resets the connection before an answer")
def test_reset_before_an_answer(proxy: World) -> None:
    proxy.upstream("a").script(drop(reset=True))
    reply = proxy.get("/a")
    assert (reply.status, reply.text) == (503, RESET + "connection termination")
    assert reply.log.flags == "UC"


@case("Local reply: the upstream closes within a head")
def test_closed_within_a_head(proxy: World) -> None:
    proxy.upstream("a").script(raw(b"HTTP/1.1 200 OK\r\ncontent-le", close=True))
    reply = proxy.get("/a")
    assert (reply.status, reply.text, reply.log.flags) == (502, RESET + "protocol error", "UPE")


@case("Local reply: the answer is no HTTP")
def test_an_answer_that_is_no_http(proxy: World) -> None:
    proxy.upstream("a").script(raw(b"SSH-2.0-OpenSSH_9.2\r\n", close=True))
    reply = proxy.get("/a")
    assert (reply.status, reply.text) == (502, RESET + "protocol error")
    assert reply.log.flags == "UPE"
    assert reply.log.details.startswith("upstream_reset_before_response_started{protocol_error")


@case("Local reply: route timeout")
def test_timeout(proxy: World) -> None:
    proxy.upstream("a").script(hang())
    reply = proxy.get("/short")
    assert (reply.status, reply.text) == (504, "upstream request timeout")
    assert (reply.log.flags, reply.log.details) == ("UT", "response_timeout")


@case("Local reply: HEAD gets no body")
def test_a_local_reply_to_head(proxy: World) -> None:
    with proxy.connect() as link:
        reply = link.request("HEAD", "/dead")
        assert (reply.status, reply.body) == (503, b"")
        assert link.request("GET", "/direct").status == 403


@case("Local reply: to a request with a body it closes the connection, whether the body has arrived or not")
@pytest.mark.parametrize("body", [b"", b"12345", b"1234567890"])
def test_a_local_reply_before_the_body(proxy: World, body: bytes) -> None:
    with proxy.connect() as link:
        link.send(b"POST /nowhere HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n" + body)
        reply = link.reply("POST", final=True)
        assert (reply.status, reply.get("connection"), reply.closed) == (404, "close", True)


@case("Local reply: to a request without a body it keeps the connection")
def test_a_local_reply_keeps_the_connection(proxy: World) -> None:
    with proxy.connect() as link:
        assert not link.request("GET", "/nowhere").closed
        assert not link.request("POST", "/nowhere").closed
        assert link.request("GET", "/a").status == 200


@case("Local reply to gRPC: 200 with grpc-status and grpc-message")
@pytest.mark.parametrize(
    ("path", "grpc_status", "message"),
    [
        ("/nowhere", "12", None),
        ("/gone", "14", None),
        ("/unhealthy", "14", "no healthy upstream"),
        ("/dead", "14", RESET + "remote connection failure"),
        ("/short", "14", "upstream request timeout"),
        ("/direct", "7", "no"),
    ],
)
def test_local_replies_to_grpc(proxy: World, path: str, grpc_status: str, message: str | None) -> None:
    if path == "/short":
        proxy.upstream("a").script(hang())
    reply = proxy.request("POST", path, GRPC)
    assert (reply.status, reply.body, reply.get("content-type")) == (200, b"", "application/grpc")
    assert (reply.get("grpc-status"), reply.get("grpc-message")) == (grpc_status, message)


@case("Local reply mapping: status, body and headers by filter")
def test_a_mapped_status(proxy: World) -> None:
    reply = proxy.get("/nowhere", listener="mapped")
    assert (reply.status, reply.text, reply.get("x-mapped")) == (410, "<410> gone away", "by status")
    assert reply.get("content-type") == "text/html"


@case("Local reply mapping: JSON body by response flag")
def test_a_mapped_body(proxy: World) -> None:
    reply = proxy.get("/dead", listener="mapped")
    assert (reply.status, reply.get("content-type")) == (503, "application/json")
    message = RESET + "remote connection failure"
    assert reply.text == f'{{"code":503,"message":"{message}","path":"/dead"}}\n'


@case("Local reply mapping: the general format for the rest")
def test_the_general_format(proxy: World) -> None:
    assert proxy.get("/unhealthy", listener="mapped").text == "<503> no healthy upstream"


@case("Local reply mapping: an upstream's answer is not touched")
def test_an_upstreams_answer_is_not_mapped(proxy: World) -> None:
    proxy.upstream("a").script(raw(b"HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\n\r\nmine"))
    reply = proxy.get("/a", listener="mapped")
    assert (reply.status, reply.text) == (404, "mine")
