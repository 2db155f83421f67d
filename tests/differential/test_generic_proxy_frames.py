"""generic_proxy's Dubbo codec: frames that are none, events, and what either costs."""

import pytest

from tests.differential.bed import Bed, cluster
from tests.differential.pair import case
from tests.differential.rpc_bed import generic_listener, to, tree
from tests.differential.rpc_link import DubboLink, dubbo_upstream, tagged
from tests.differential.world import World
from tests.support import hessian
from tests.support.dubbo_peer import DubboUpstream, answer, frame, heartbeat, invocation, request
from tests.support.frame_upstream import hang
from tests.support.proxies import ProxyKind

ROUTES = tree("Service", {"shop.Cart": to("a")}, otherwise=to("a"))
BED = Bed(
    listeners=[generic_listener(name, ROUTES) for name in ("dubbo", "counted", "logged")],
    clusters=[cluster("a")],
    upstreams={"a": DubboUpstream},
)

REQUEST = 0xC2
STRINGS = [hessian.text("2.0.2"), hessian.text("shop.Cart"), hessian.text("1.0.0"), hessian.text("get")]

BAD = {
    "magic": frame(REQUEST, 0, 1, invocation(), magic=0xDABC),
    "garbage": b"x" * 16,
    "http": b"GET / HTTP/1.1\r\n\r\n",
    "empty": frame(REQUEST, 0, 1, b""),
    "null": frame(REQUEST, 0, 1, b"N"),
    "two strings": frame(REQUEST, 0, 1, b"".join(STRINGS[:2])),
    "three strings": frame(REQUEST, 0, 1, b"".join(STRINGS[:3])),
    "a number": frame(REQUEST, 0, 1, hessian.integer(5) + b"".join(STRINGS[1:])),
    "shorter than its strings": frame(REQUEST, 0, 1, invocation(), size=20),
    "much shorter than its strings": frame(REQUEST, 0, 1, invocation(), size=1),
    "negative": frame(REQUEST, 0, 1, invocation(), size=-1),
    "most negative": frame(REQUEST, 0, 1, invocation(), size=-(2**31)),
    "huge": frame(REQUEST, 0, 1, invocation(), size=2**31 - 1),
    "above the bound": frame(REQUEST, 0, 1, invocation(), size=(16 << 20) + 1),
    "no serialization": frame(0xC0, 0, 1, invocation()),
    "java": frame(0xC3, 0, 1, invocation()),
    "fastjson": frame(0xC6, 0, 1, b'"2.0.2"\n'),
    "string that does not end": frame(REQUEST, 0, 1, STRINGS[0] + b"\x1fshort"),
    "UTF-8 that is none": frame(REQUEST, 0, 1, STRINGS[0] + b"\x02\xff\xff" + STRINGS[2]),
}


@case("Frames: what is none ends the connection, without a word")
@pytest.mark.parametrize("name", BAD)
def test_bad_frames(proxy: World, name: str) -> None:
    with DubboLink(proxy) as link:
        link.send(BAD[name])
        assert link.closes()
    assert not dubbo_upstream(proxy).frames


@case("Frames: requests before one that is none", difference="rpc-before-a-bad-frame")
def test_before_a_bad_frame(proxy: World) -> None:
    upstream = dubbo_upstream(proxy)
    upstream.script(hang)
    with DubboLink(proxy) as link:
        link.send(tagged(proxy, 1))
        assert upstream.wait_frames(1)
        link.send(BAD["garbage"])
        assert link.closes()
    proxy.await_log("dubbo")
    logged = proxy.logs("dubbo")[0]
    assert (logged.status, logged.flags) == ("-", "DPE")
    assert logged.details == ("-" if proxy.kind is ProxyKind.ENVOY else "downstream_protocol_error")


@case("Frames: each that is none is counted")
def test_counted(proxy: World) -> None:
    upstream = dubbo_upstream(proxy)
    upstream.script(hang)
    for name in ("magic", "empty", "java", "huge"):
        with DubboLink(proxy, "counted") as link:
            link.send(BAD[name])
            assert link.closes()
    with DubboLink(proxy, "counted") as link:
        link.send(request(1))
        assert upstream.wait_frames(1)
        link.send(BAD["garbage"])
        assert link.closes()
    expected = {"total": 1, "decoding_error": 5, "reset": 1, "error": 0, "code.0": 1, "flag.DPE": 1, "active": 0}
    proxy.expect_stats({f"generic_proxy.counted.downstream_rq_{name}": value for name, value in expected.items()})


@case("Frames: one that is not whole is waited for")
@pytest.mark.parametrize("size", [2, 10, 15, 16, 20, 40])
def test_parts(proxy: World, size: int) -> None:
    data = request(1)
    with DubboLink(proxy) as link:
        link.send(data[:size])
        assert link.silent(0.1)
        link.send(data[size:])
        assert link.read().value == "a"


@case("Frames: what cannot become one is not waited for", difference="rpc-early-magic")
def test_bad_magic_early(proxy: World) -> None:
    with DubboLink(proxy) as link:
        link.send(b"x")
        if proxy.kind is ProxyKind.ENVOY:
            assert link.silent()
        else:
            assert link.closes()


@case("Frames: of the largest that may be, its beginning is waited for")
def test_largest(proxy: World) -> None:
    with DubboLink(proxy) as link:
        link.send(frame(REQUEST, 0, 1, invocation(), size=(16 << 20) - 16))
        assert link.silent()


@case("Frames: a request's strings may be empty")
def test_empty_strings(proxy: World) -> None:
    with DubboLink(proxy) as link:
        assert link.call("", "", version="").value == "a"


@case("Frames: a service without a version", difference="rpc-null-version")
def test_null_version(proxy: World) -> None:
    with DubboLink(proxy) as link:
        link.send(frame(REQUEST, 0, 1, STRINGS[0] + STRINGS[1] + b"N" + STRINGS[3] + hessian.text("") + b"HZ"))
        if proxy.kind is ProxyKind.ENVOY:
            assert link.closes()
        else:
            assert link.read().value == "a"


@case("Frames: a string with a byte that continues nothing", difference="rpc-bad-text")
def test_bad_text(proxy: World) -> None:
    with DubboLink(proxy) as link:
        link.send(frame(REQUEST, 0, 1, STRINGS[0] + b"\x02\xc2xx" + STRINGS[2] + STRINGS[3] + hessian.text("") + b"HZ"))
        if proxy.kind is ProxyKind.ENVOY:
            assert link.read().value == "a"
        else:
            assert link.closes()


@case("Frames: long strings, and strings of many alphabets")
@pytest.mark.parametrize("service", ["x" * 31, "x" * 32, "x" * 1023, "x" * 1024, "x" * 40_000, "ünïcode", "服务" * 20])
def test_long_strings(proxy: World, service: str) -> None:
    with DubboLink(proxy) as link:
        assert link.call(service, "get").value == "a"
    assert dubbo_upstream(proxy).requests[0].body.startswith(STRINGS[0] + hessian.text(service))


@case("Frames: a request's status means nothing", difference="rpc-request-status")
def test_request_status(proxy: World) -> None:
    with DubboLink(proxy) as link:
        link.send(frame(REQUEST, 7, 1, invocation()))
        assert link.read().value == "a"
    assert dubbo_upstream(proxy).requests[0].status == (0 if proxy.kind is ProxyKind.ENVOY else 7)


@case("Events: a heartbeat is answered at once, and goes no further")
@pytest.mark.parametrize("two_way", [True, False])
@pytest.mark.parametrize("body", [b"N", b"", hessian.text("X" * 300)], ids=["null", "empty", "text"])
def test_heartbeats(proxy: World, two_way: bool, body: bytes) -> None:
    with DubboLink(proxy) as link:
        link.send(heartbeat(7, two_way=two_way, body=body))
        reply = link.read()
        assert (reply.flag, reply.status, reply.id, reply.body) == (0x22, 20, 7, b"N")
        link.send(heartbeat(2**64 - 1))
        assert link.read().id == 2**64 - 1
    assert not dubbo_upstream(proxy).frames


@case("Events: a heartbeat in another serialization", difference="rpc-foreign-heartbeat")
def test_foreign_heartbeat(proxy: World) -> None:
    with DubboLink(proxy) as link:
        link.send(frame(0xE6, 0, 1, b"null"))
        if proxy.kind is ProxyKind.ENVOY:
            assert link.closes()
        else:
            assert link.read().id == 1


@case("Events: a heartbeat is answered while a request is under way")
def test_heartbeat_under_way(proxy: World) -> None:
    dubbo_upstream(proxy).script(answer(delay_s=0.3))
    with DubboLink(proxy) as link:
        link.send(request(1) + heartbeat(2))
        assert [link.read().id, link.read().id] == [2, 1]


@case("Events: heartbeats are neither counted nor logged")
def test_heartbeats_are_not_requests(proxy: World) -> None:
    with DubboLink(proxy, "logged") as link:
        for id in range(20):
            link.send(heartbeat(id))
            assert link.read().id == id
        link.call()
    proxy.await_log("logged")
    assert len(proxy.logs("logged")) == 1


@case("Events: an answer to a heartbeat that nobody asked for", difference="rpc-unasked-heartbeat")
def test_unasked_heartbeat_reply(proxy: World) -> None:
    with DubboLink(proxy) as link:
        link.send(frame(0x22, 20, 9, b"N"))
        if proxy.kind is ProxyKind.ENVOY:
            assert link.read().id == 9
        else:
            assert link.silent()
        assert link.call().value == "a"


@case("Events: that a client is read-only", difference="rpc-read-only-client")
def test_read_only_client(proxy: World) -> None:
    with DubboLink(proxy) as link:
        link.send(heartbeat(7, two_way=False, body=hessian.text("R")))
        if proxy.kind is ProxyKind.ENVOY:
            assert link.read().id == 7
        else:
            assert link.silent()
        assert link.call().value == "a"
