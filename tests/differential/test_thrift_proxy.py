"""thrift_proxy: routes by method and service, both protocols in frames, answers of upstreams and of the proxy's own."""

import pytest

from tests.differential.bed import Bed, cluster, endpoint, file_log
from tests.differential.pair import case
from tests.differential.rpc_bed import thrift_listener
from tests.differential.rpc_link import ThriftLink, thrift_call, thrift_upstream
from tests.differential.world import World
from tests.support.frame_upstream import FrameExchange, FrameStep, close, hang, reset, say
from tests.support.proxies import ProxyKind
from tests.support.server import DeafUpstream
from tests.support.thrift_peer import (
    CALL,
    EXCEPTION,
    INTERNAL_ERROR,
    ONEWAY,
    PROTOCOL_ERROR,
    REPLY,
    UNKNOWN_METHOD,
    Encoding,
    ThriftUpstream,
    answer,
    binary_struct,
    call,
    framed,
    message,
    parse,
)

ROUTES = """
- {match: {method_name: get}, route: {cluster: a}}
- {match: {method_name: slow}, route: {cluster: a}}
- {match: {method_name: "Whole:name"}, route: {cluster: a}}
- {match: {service_name: Stripped}, route: {cluster: b, strip_service_name: true}}
- {match: {service_name: "Kept:"}, route: {cluster: b}}
- match: {method_name: weight}
  route: {weighted_clusters: {clusters: [{name: a, weight: 1}, {name: b, weight: 3}]}}
- {match: {method_name: mirrored}, route: {cluster: a, request_mirror_policies: [{cluster: b}]}}
- {match: {method_name: headed, headers: [{name: x, present_match: true}]}, route: {cluster: a}}
- {match: {method_name: headed}, route: {cluster: b}}
- {match: {method_name: by-header}, route: {cluster_header: x-cluster}}
- {match: {method_name: gone}, route: {cluster: gone}}
- {match: {method_name: dead}, route: {cluster: dead}}
- {match: {method_name: deaf}, route: {cluster: deaf}}
- {match: {method_name: unknown}, route: {cluster: unknown}}
- {match: {method_name: full}, route: {cluster: full}}
"""
REST = (
    ROUTES
    + """
- {match: {method_name: never, invert: true}, route: {cluster: b}}
"""
)
BED = Bed(
    listeners=[
        thrift_listener("thrift", ROUTES, transport="FRAMED", protocol="BINARY"),
        thrift_listener("compact", ROUTES, transport="FRAMED", protocol="COMPACT"),
        thrift_listener("auto", ROUTES),
        thrift_listener("counted", ROUTES),
        thrift_listener("logged", ROUTES, access_log=[file_log("logged")]),
        thrift_listener("rest", REST, transport="FRAMED", protocol="BINARY"),
        thrift_listener("all", "[{match: {method_name: ''}, route: {cluster: a}}]"),
        thrift_listener("passed", ROUTES, transport="FRAMED", protocol="BINARY", payload_passthrough=True),
    ],
    clusters=[
        cluster("a"),
        cluster("b"),
        cluster("dead", endpoint("closed-port")),
        cluster("deaf", connect_timeout="0.3s"),
        {**cluster("gone"), "load_assignment": {"cluster_name": "gone", "endpoints": []}},
        cluster("full", "a", circuit_breakers={"thresholds": [{"max_connections": 1, "max_pending_requests": 0}]}),
    ],
    upstreams={"a": ThriftUpstream, "b": ThriftUpstream, "deaf": DeafUpstream},
)

GARBAGE = say(b"garbage garbage garbage")


def routed(proxy: World, name: str, **options: object) -> str:
    """Who answered: an upstream, or nobody."""
    with ThriftLink(proxy, **options) as link:  # type: ignore[arg-type]
        reply = link.call(name)
        return reply.value if reply.kind == REPLY else "-"


@case(
    "Thrift routes: a method by its whole name",
    normalise=lambda journal: [line for line in journal if "kind 3" not in line],
)
def test_method(proxy: World) -> None:
    names = ("get", "Whole:name", "name", "Whole:", "Get", "gets", "")
    assert [routed(proxy, name) for name in names] == ["a", "a", "-", "-", "-", "-", "-"]


@case(
    "Thrift routes: a service, which keeps its name",
    normalise=lambda journal: [line for line in journal if "kind 3" not in line],
)
def test_service(proxy: World) -> None:
    names = ("Kept:get", "Kept:a:b", "Kept:", "Kept", "kept:get", "get:Kept")
    assert [routed(proxy, name) for name in names] == ["b", "b", "b", "-", "-", "-"]
    assert [frame.name for frame in thrift_upstream(proxy, "b").requests] == ["Kept:get", "Kept:a:b", "Kept:"]


@case("Thrift routes: a service whose name is stripped")
@pytest.mark.parametrize("listener", ["thrift", "compact"])
@pytest.mark.parametrize(("name", "stripped"), [("Stripped:get", "get"), ("Stripped:a:b", "a:b")])
def test_strip(proxy: World, listener: str, name: str, stripped: str) -> None:
    encoding = Encoding.COMPACT if listener == "compact" else Encoding.BINARY
    reply = thrift_call(proxy, name, listener=listener, encoding=encoding)
    assert (reply.kind, reply.name, reply.value) == (REPLY, stripped, "b")
    assert thrift_upstream(proxy, "b").requests[0].name == stripped


@case("Thrift routes: all but a method; any method")
def test_rest(proxy: World) -> None:
    assert routed(proxy, "whatever", listener="rest") == "b"
    assert routed(proxy, "get", listener="rest") == "a"
    assert routed(proxy, "whatever", listener="all") == "a"
    assert routed(proxy, "", listener="all") == "a"


@case(
    "Thrift routes: frames have no headers",
    normalise=lambda journal: [line for line in journal if "kind 3" not in line],
)
def test_headers(proxy: World) -> None:
    assert routed(proxy, "headed") == "b"
    assert routed(proxy, "by-header") == "-"


@case("Thrift routes: weighted clusters", normalise=lambda journal: [])
def test_weighted(proxy: World) -> None:
    with ThriftLink(proxy) as link:
        found = [link.call("weight").value for _ in range(60)]
    assert set(found) == {"a", "b"}
    assert found.count("b") > 30


@case("Thrift routes: a mirror")
def test_mirror(proxy: World) -> None:
    assert thrift_call(proxy, "mirrored").value == "a"
    shadow = thrift_upstream(proxy, "b")
    assert shadow.wait_frames(1)
    assert [frame.name for frame in shadow.requests] == ["mirrored"]


@case("Thrift: a call and its reply, in the protocol that they are in")
@pytest.mark.parametrize(
    ("listener", "encoding"),
    [
        ("thrift", Encoding.BINARY),
        ("passed", Encoding.BINARY),
        ("compact", Encoding.COMPACT),
        ("auto", Encoding.BINARY),
        ("auto", Encoding.COMPACT),
    ],
)
def test_encodings(proxy: World, listener: str, encoding: Encoding) -> None:
    reply = thrift_call(proxy, "get", listener=listener, encoding=encoding)
    assert (reply.encoding, reply.kind, reply.name, reply.value) == (encoding, REPLY, "get", "a")
    seen = thrift_upstream(proxy).requests[0]
    assert (seen.encoding, seen.kind, seen.name) == (encoding, CALL, "get")


@case("Thrift: sequence ids come back")
@pytest.mark.parametrize("sequence", [0, 1, -1, 2**31 - 1, -(2**31)])
def test_sequences(proxy: World, sequence: int) -> None:
    with ThriftLink(proxy) as link:
        link.send(call("get", sequence))
        assert link.read().sequence == sequence


@case("Thrift: an upstream's sequence id and name mean nothing to the client's id")
def test_skewed_reply(proxy: World) -> None:
    thrift_upstream(proxy).script(answer("v", skew=5), answer("w", name="other"))
    with ThriftLink(proxy) as link:
        assert link.call().value == "v"
        assert (link.call().name, link.call().value) == ("other", "a")


@case("Thrift: replies and exceptions pass as they are")
@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (REPLY, binary_struct({1: "declared"})),
        (REPLY, binary_struct({7: "declared"})),
        (REPLY, b"\0"),
        (EXCEPTION, binary_struct({1: "boo", 2: 6})),
        (EXCEPTION, binary_struct({1: "boo"})),
        (EXCEPTION, b"\0"),
        (REPLY, binary_struct({0: "x" * 70_000})),
    ],
    ids=["declared", "seventh", "void", "exception", "exception without type", "empty exception", "large"],
)
def test_replies(proxy: World, kind: int, body: bytes) -> None:
    thrift_upstream(proxy).script(answer(kind=kind, body=body))
    with ThriftLink(proxy) as link:
        reply = link.call()
        assert (reply.kind, reply.body) == (kind, body)
        assert link.call().value == "a"  # the connection goes on


@case("Thrift: a large call")
def test_large_call(proxy: World) -> None:
    with ThriftLink(proxy) as link:
        link.send(call("get", 1, {1: "x" * 3_000_000}))
        assert link.read().value == "a"
    assert len(thrift_upstream(proxy).frames[0].data) > 3_000_000


@case("Thrift: one-way calls have no answer")
@pytest.mark.parametrize("listener", ["thrift", "compact"])
def test_one_way(proxy: World, listener: str) -> None:
    encoding = Encoding.COMPACT if listener == "compact" else Encoding.BINARY
    with ThriftLink(proxy, listener, encoding) as link:
        link.send(call("get", 7, one_way=True, encoding=encoding))
        assert link.silent()
        assert link.call().value == "a"
    assert [frame.kind for frame in thrift_upstream(proxy).requests] == [ONEWAY, CALL]


@case("Thrift: calls in one segment are answered as the upstream does")
def test_one_segment(proxy: World) -> None:
    def by_name(exchange: FrameExchange) -> None:
        slow = parse(exchange.data).name == "slow"
        answer(delay_s=0.2 if slow and exchange.upstream.wait_frames(2) else 0.0)(exchange)

    thrift_upstream(proxy).script(by_name, by_name)
    with ThriftLink(proxy) as link:
        link.send(call("slow", 1) + call("get", 2))
        assert [link.read().sequence, link.read().sequence] == [2, 1]


@case("Thrift: a call byte by byte, a reply byte by byte")
def test_byte_by_byte(proxy: World) -> None:
    def slowly(exchange: FrameExchange) -> None:
        seen = parse(exchange.data)
        data = framed(message(REPLY, seen.name, seen.sequence, {0: "slow"}))
        for number in range(len(data)):
            exchange.send(data[number : number + 1])
            exchange.upstream.pause(0.001)

    thrift_upstream(proxy).script(slowly)
    with ThriftLink(proxy) as link:
        link.raw.send_slowly(call("get", 1))
        assert link.read().value == "slow"


@case("Thrift: a second reply to the same call goes nowhere")
def test_second_reply(proxy: World) -> None:
    def twice(exchange: FrameExchange) -> None:
        answer("first")(exchange)
        answer("second")(exchange)

    thrift_upstream(proxy).script(twice)
    with ThriftLink(proxy) as link:
        assert link.call().value == "first"
        assert link.silent()
        assert link.call().value == "a"


@case("Thrift: the exceptions of the proxy's own", difference="thrift-errors")
@pytest.mark.parametrize(
    ("name", "step", "kind", "text", "ours"),
    [
        ("nope", None, UNKNOWN_METHOD, "no route for method 'nope'", "route_not_found"),
        ("unknown", None, INTERNAL_ERROR, "unknown cluster 'unknown'", "cluster_not_found"),
        ("gone", None, INTERNAL_ERROR, "no healthy upstream for 'gone'", "no_healthy_upstream"),
        ("dead", None, INTERNAL_ERROR, "connection failure before response start: remote", "connection_failure"),
        ("deaf", None, INTERNAL_ERROR, "connection failure before response start: timeout", "connection_failure"),
        ("get", close, INTERNAL_ERROR, "connection failure before response start: remote", "connection_termination"),
        ("get", reset, INTERNAL_ERROR, "connection failure before response start: remote", "connection_termination"),
        ("get", GARBAGE, PROTOCOL_ERROR, "invalid thrift framed transport frame size", "protocol_error"),
    ],
)
def test_failures(proxy: World, name: str, step: FrameStep | None, kind: int, text: str, ours: str) -> None:
    if step is not None:
        thrift_upstream(proxy).script(step)
    with ThriftLink(proxy) as link:
        reply = link.call(name)
        assert (reply.kind, reply.name) == (EXCEPTION, name)
        if proxy.kind is ProxyKind.ENVOY:
            assert reply.value.startswith(text)
            assert reply.body.endswith(b"\x08\0\2" + kind.to_bytes(4, "big") + b"\0")
            assert link.closes()
        else:
            assert reply.body == binary_struct({1: ours, 2: kind if kind != PROTOCOL_ERROR else INTERNAL_ERROR})
            assert link.call().value == "a"  # the connection goes on


@case("Thrift: an exception of the proxy's own in the compact protocol", difference="thrift-errors")
def test_compact_failure(proxy: World) -> None:
    with ThriftLink(proxy, "compact", Encoding.COMPACT) as link:
        reply = link.call("nope")
        text = b"no route for method 'nope'" if proxy.kind is ProxyKind.ENVOY else b"route_not_found"
        assert (reply.kind, reply.name) == (EXCEPTION, "nope")
        assert reply.body == b"\x18" + bytes([len(text)]) + text + b"\x15\x02\0"


@case("Thrift: when the pool is full the connection goes on", difference="thrift-errors")
def test_overflow(proxy: World) -> None:
    with ThriftLink(proxy) as link:
        reply = link.call("full")
        text = "thrift upstream request: too many connections" if proxy.kind is ProxyKind.ENVOY else "overflow"
        assert (reply.kind, reply.value) == (EXCEPTION, text)
        assert link.call().value == "a"


@case("Thrift: a one-way call that cannot be forwarded", difference="thrift-errors")
@pytest.mark.parametrize("name", ["nope", "gone", "dead"])
def test_one_way_failure(proxy: World, name: str) -> None:
    with ThriftLink(proxy) as link:
        link.send(call(name, 1, one_way=True))
        if proxy.kind is ProxyKind.ENVOY:
            assert link.closes()
        else:
            assert link.silent()
            assert link.call().value == "a"


@case("Thrift: frames that are none end the connection")
@pytest.mark.parametrize(
    "data",
    [
        b"x" * 16,
        framed(b""),
        framed(b"x" * 20),
        framed(message(CALL, "get", 1), size=-1),
        framed(message(CALL, "get", 1), size=2**31 - 1),
        framed(message(7, "get", 1)),
        framed(b"\0\0\0\x03get\x01\0\0\0\x01\0"),
    ],
    ids=["garbage", "empty", "no version", "negative", "huge", "kind", "not strict"],
)
def test_bad_frames(proxy: World, data: bytes) -> None:
    with ThriftLink(proxy) as link:
        link.send(data)
        assert link.closes()
    assert not thrift_upstream(proxy).frames


@case("Thrift: a name that is longer than its frame", difference="thrift-long-name")
def test_long_name(proxy: World) -> None:
    data = message(CALL, "get", 1)
    with ThriftLink(proxy) as link:
        link.send(framed(data[:7] + b"\x7f" + data[8:]))
        if proxy.kind is ProxyKind.ENVOY:
            assert link.silent()
        else:
            assert link.closes()


@case("Thrift: a client that sends replies", difference="thrift-reply-from-client")
def test_reply_from_client(proxy: World) -> None:
    with ThriftLink(proxy) as link:
        link.send(framed(message(REPLY, "get", 1)))
        if proxy.kind is ProxyKind.ENVOY:
            assert link.read().kind in (EXCEPTION, REPLY)
        else:
            assert link.closes()


@case("Thrift: the client leaves while a call is under way")
@pytest.mark.parametrize("how", ["close", "half-close", "reset"])
def test_client_leaves(proxy: World, how: str) -> None:
    gone: list[FrameExchange] = []

    def wait(exchange: FrameExchange) -> None:
        gone.append(exchange)
        hang(exchange)

    upstream = thrift_upstream(proxy)
    upstream.script(wait)
    with ThriftLink(proxy) as link:
        link.send(call("get", 1))
        assert upstream.wait_frames(1)
        if how == "half-close":
            link.raw.half_close()
            assert link.closes()
        elif how == "reset":
            link.raw.reset()
    assert upstream.wait_until(lambda: bool(gone)) and gone[0].wait_gone(3.0)
    assert thrift_call(proxy).value == "a"


@case("Thrift: statistics", difference="rpc-proxy-figures")
def test_statistics(proxy: World) -> None:
    thrift_upstream(proxy).script(answer(), answer("declared", field=1), answer(kind=EXCEPTION, body=b"\0"))
    with ThriftLink(proxy, "counted") as link:
        for _ in range(4):
            link.call()
        link.call("nope")
    if proxy.kind is ProxyKind.ENVOY:
        names = {
            "request_call": 4,
            "response_success": 2,
            "response_error": 1,
            "response_exception": 2,
            "route_missing": 1,
        }
    else:
        names = {
            "downstream_rq_total": 5,
            "downstream_rq_error": 3,
            "downstream_rq_local": 1,
            "downstream_rq_flag.NR": 1,
        }
    proxy.expect_stats({f"thrift.counted.{name}": value for name, value in names.items()})


@case("Thrift: each call is logged", difference="rpc-proxy-log")
def test_log(proxy: World) -> None:
    with ThriftLink(proxy, "logged") as link:
        link.call()
        link.call("nope")
    good, bad = proxy.logs("logged", 2)
    assert int(good.received) > 0
    assert int(good.sent) > 0
    if proxy.kind is ProxyKind.ENVOY:
        assert (good.status, good.cluster, bad.flags, bad.details) == ("0", "-", "-", "-")
    else:
        assert (good.status, good.cluster, good.method, good.protocol) == ("200", "a", "get", "thrift")
        assert (bad.status, bad.flags, bad.details, bad.method) == ("404", "NR", "route_not_found", "nope")


@case("Thrift: many connections")
def test_many_connections(proxy: World) -> None:
    links = [ThriftLink(proxy) for _ in range(30)]
    for link in links:
        link.send(call("get", 5))
    assert {(reply.sequence, reply.value) for reply in (link.read() for link in links)} == {(5, "a")}
    for link in links:
        link.raw.close()
