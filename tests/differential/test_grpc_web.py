"""gRPC-web: calls of browsers, with their trailers in the body."""

import base64

import pytest

from tests.differential.bed import Bed, cluster, extension, http_listener, vhost
from tests.differential.pair import case
from tests.differential.test_http2_upstream import HTTP2, http2
from tests.differential.world import World
from tests.support.http2_upstream import Http2Exchange, Http2Upstream, answer, refuse, trailers_only
from tests.support.proxies import ProxyKind

ROUTES = vhost("all", ["*"], "[{match: {prefix: /}, route: {cluster: a}}]")
BED = Bed(
    listeners=[
        http_listener(
            "http",
            ROUTES,
            filters=[extension("envoy.filters.http.grpc_web", "envoy.extensions.filters.http.grpc_web.v3.GrpcWeb")],
        )
    ],
    clusters=[cluster("a", http=HTTP2)],
    upstreams={"a": Http2Upstream},
)

MESSAGE = b"\x00\x00\x00\x00\x02hi"
KIND = [("content-type", "application/grpc")]
OK = answer(200, MESSAGE, KIND, trailers=[("grpc-status", "0"), ("x-more", "y")])
TRAILERS = b"grpc-status:0\r\nx-more:y\r\n"
LAST_FRAME = b"\x80" + len(TRAILERS).to_bytes(4, "big") + TRAILERS


def call(proxy: World, kind: str, body: bytes, accept: str | None = None):  # type: ignore[no-untyped-def]
    headers = {"content-type": kind} | ({"accept": accept} if accept else {})
    return proxy.request("POST", "/shop.Orders/Get", headers, body)


@case("gRPC-web: a call and its trailers, in the body")
@pytest.mark.parametrize("kind", ["application/grpc-web", "application/grpc-web+proto"])
def test_a_call(proxy: World, kind: str) -> None:
    http2(proxy).script(OK)
    reply = call(proxy, kind, MESSAGE)
    assert (reply.status, reply.get("content-type"), reply.body) == (
        200,
        "application/grpc-web+proto",
        MESSAGE + LAST_FRAME,
    )
    assert (reply.seen.get("content-type"), reply.seen.get("te"), reply.seen.body) == (
        "application/grpc",
        "trailers",
        MESSAGE,
    )


@case("gRPC-web: a call in text", normalise=lambda journal: [line for line in journal if "body" not in line])
@pytest.mark.parametrize("kind", ["application/grpc-web-text", "application/grpc-web-text+proto"])
def test_a_call_in_text(proxy: World, kind: str) -> None:
    http2(proxy).script(OK)
    reply = call(proxy, kind, base64.b64encode(MESSAGE), accept="application/grpc-web-text")
    assert (reply.status, reply.get("content-type")) == (200, "application/grpc-web-text+proto")
    assert decoded(reply.body) == MESSAGE + LAST_FRAME
    assert reply.seen.body == MESSAGE


def decoded(text: bytes) -> bytes:
    """Pieces of base64 one behind the other, each perhaps padded."""
    found = b""
    for group in range(0, len(text), 4):
        found += base64.b64decode(text[group : group + 4])
    return found


@case("gRPC-web: text that comes in pieces")
def test_text_in_pieces(proxy: World) -> None:
    http2(proxy).script(OK)
    text = base64.b64encode(MESSAGE * 3)
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (text[:1], text[1:6], text[6:])) + b"0\r\n\r\n"
    headers = {"content-type": "application/grpc-web-text", "transfer-encoding": "chunked"}
    reply = proxy.request("POST", "/shop.Orders/Get", headers, chunks)
    assert (reply.status, reply.seen.body, reply.body) == (200, MESSAGE * 3, MESSAGE + LAST_FRAME)


@case("gRPC-web: text that is none", difference="grpc-web-errors")
@pytest.mark.parametrize("text", [b"AAAAAAI", b"A*AAAAJo"])
def test_bad_text(proxy: World, text: bytes) -> None:
    reply = call(proxy, "application/grpc-web-text", text)
    assert reply.status == (400 if proxy.kind is ProxyKind.ENVOY else 200)
    assert (reply.get("grpc-status"), reply.get("grpc-message")) == ("13", "Bad gRPC-web request, invalid base64 data.")


@case("gRPC-web: a status in the head")
@pytest.mark.parametrize("accept", [None, "application/grpc-web-text"])
def test_trailers_only(proxy: World, accept: str | None) -> None:
    http2(proxy).script(trailers_only(("grpc-status", "5"), ("grpc-message", "no")))
    reply = call(proxy, "application/grpc-web", MESSAGE, accept)
    assert (reply.status, reply.get("grpc-status"), reply.body) == (200, "5", b"")


@case("gRPC-web: the proxy's own answers", difference="grpc-web-errors")
def test_local_reply(proxy: World) -> None:
    http2(proxy).script(refuse(2))
    reply = call(proxy, "application/grpc-web", MESSAGE)
    assert reply.status == (503 if proxy.kind is ProxyKind.ENVOY else 200)
    assert (reply.get("grpc-status"), reply.get("content-type")) == ("14", "application/grpc-web+proto")
    assert "remote reset" in (reply.get("grpc-message") or "")


@case("gRPC-web: an answer that is not gRPC", difference="grpc-web-errors")
@pytest.mark.parametrize(("status", "stands_for"), [(200, "2"), (404, "12"), (503, "14")])
def test_another_answer(proxy: World, status: int, stands_for: str) -> None:
    http2(proxy).script(answer(status, b"what is % that", [("content-type", "text/plain")]))
    reply = call(proxy, "application/grpc-web", MESSAGE)
    assert (reply.status, reply.get("content-type")) == (status, "application/grpc-web+proto")
    if proxy.kind is ProxyKind.ENVOY:
        assert (reply.get("grpc-status"), reply.get("grpc-message")) == (stands_for, "what is %25 that")
    else:
        trailers = f"grpc-status:{stands_for}\r\ngrpc-message:what is %25 that\r\n".encode()
        assert reply.body == b"\x80" + len(trailers).to_bytes(4, "big") + trailers


@case("gRPC-web: an answer that is not gRPC and has no body")
def test_an_empty_answer(proxy: World) -> None:
    http2(proxy).script(answer(404, b""))
    reply = call(proxy, "application/grpc-web", MESSAGE)
    assert (reply.status, reply.get("grpc-status"), reply.get("content-type")) == (
        404,
        None,
        "application/grpc-web+proto",
    )


@case("gRPC-web: several messages, and a stream that is cut")
def test_streams(proxy: World) -> None:
    def step(exchange: Http2Exchange) -> None:
        exchange.read_body()
        exchange.headers(200, KIND)
        for _ in range(3):
            exchange.data(MESSAGE)
        exchange.upstream.pause(0.1)
        exchange.reset(2)

    http2(proxy).script(step)
    reply = call(proxy, "application/grpc-web", MESSAGE)
    assert (reply.status, reply.body, reply.response.complete) == (200, MESSAGE * 3, False)


@case("gRPC-web: what is gRPC, or something else, passes as it is")
@pytest.mark.parametrize("kind", ["application/grpc", "application/json", "application/grpc-web+json"])
def test_others(proxy: World, kind: str) -> None:
    http2(proxy).script(OK)
    reply = call(proxy, kind, b"abcd")
    assert (reply.status, reply.seen.get("content-type"), reply.body) == (200, kind, MESSAGE)
