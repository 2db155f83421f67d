"""generic_proxy with Dubbo's codec: answers, failures, retries, time-outs, breakers, logs and figures of single requests."""

import time

import pytest

from tests.differential.bed import Bed, cluster, endpoint
from tests.differential.pair import case
from tests.differential.rpc_bed import GENERIC_OPERATORS, generic_listener, generic_log, to, tree
from tests.differential.rpc_link import DubboLink, call, dubbo_upstream, reason, tagged
from tests.differential.world import LogLine, World
from tests.support import dubbo_peer, hessian
from tests.support.dubbo_peer import DubboUpstream, answer, response, result
from tests.support.frame_upstream import FrameExchange, FrameStep, close, hang, reset, say
from tests.support.proxies import ProxyKind
from tests.support.server import DeafUpstream

ROUTES = tree(
    "Service",
    {
        "shop.Cart": to("a"),
        "shop.Order": to("b"),
        "shop.Gone": to("gone"),
        "shop.Dead": to("dead"),
        "shop.Deaf": to("deaf"),
        "shop.Unhealthy": to("unhealthy"),
        "shop.Unknown": to("unknown"),
        "shop.Quick": to("a", timeout="0.2s"),
        "shop.Patient": to("a", timeout="0s"),
        "shop.Again": to("a", retry_policy={"num_retries": 2}),
        "shop.Once": to("a", retry_policy={"num_retries": 1}),
        "shop.QuickAgain": to("a", timeout="0.4s", retry_policy={"num_retries": 3}),
        "shop.Half": to("half", retry_policy={"num_retries": 2}),
        "shop.DeadAgain": to("dead", retry_policy={"num_retries": 3}),
        "shop.Single": to("single"),
        "shop.Full": to("full"),
    },
)
BED = Bed(
    listeners=[
        *(generic_listener(name, ROUTES) for name in ("dubbo", "counted", "busy")),
        generic_listener(
            "coded", ROUTES, access_log=[generic_log("coded", {**GENERIC_OPERATORS, "status": "%RESPONSE_CODE%"})]
        ),
    ],
    clusters=[
        cluster("a"),
        cluster("b"),
        cluster("dead", endpoint("closed-port")),
        cluster("deaf", connect_timeout="0.3s"),
        cluster("half", endpoint("closed-port"), endpoint("a")),
        cluster(
            "unhealthy",
            endpoint("a", health_status="UNHEALTHY"),
            common_lb_config={"healthy_panic_threshold": {"value": 0}},
        ),
        {**cluster("gone"), "load_assignment": {"cluster_name": "gone", "endpoints": []}},
        cluster("single", "a", circuit_breakers={"thresholds": [{"max_connections": 1}]}),
        cluster("full", "a", circuit_breakers={"thresholds": [{"max_connections": 1, "max_pending_requests": 0}]}),
    ],
    upstreams={"a": DubboUpstream, "b": DubboUpstream, "deaf": DeafUpstream},
)

GARBAGE = say(b"garbage garbage garbage")


def line(proxy: World) -> LogLine:
    """The access log line of the scenario's one request."""
    proxy.await_log("dubbo")
    return proxy.logs("dubbo")[0]


@case("Dubbo: request and response pass as they are")
def test_as_they_are(proxy: World) -> None:
    attachments = {"path": "shop.Cart", "interface": "shop.Cart", "timeout": "5000", "group": "g"}
    arguments = [("Ljava/lang/String;", hessian.text("x")), ("I", hessian.integer(5))]
    dubbo_upstream(proxy).script(answer(body=result(4, hessian.text("v"), {"dubbo": "2.0.2"})))
    reply = call(proxy, "shop.Cart", "get", arguments, attachments, version="1.2.3")
    assert (reply.flag, reply.status, reply.body) == (2, 20, b"\x94\x01vH\x05dubbo\x052.0.2Z")
    seen = dubbo_upstream(proxy).requests[0]
    sent = {"x-case": "as_they_are-1", **attachments}
    assert seen.body == dubbo_peer.invocation("shop.Cart", "get", arguments, sent, version="1.2.3")
    assert seen.flag == 0xC2
    logged = line(proxy)
    assert (logged.status, logged.flags, logged.details) == ("20", "-", "via_upstream")
    assert (logged.protocol, logged.method, logged.path) == ("dubbo", "get", "shop.Cart|shop.Cart")
    assert (logged.cluster, logged.route, logged.received) == ("a", "g", "1.2.3")


@case("Dubbo: the answers of the proxy's own, by failure")
@pytest.mark.parametrize(
    ("service", "step", "why", "flag"),
    [
        ("shop.Nobody", None, "route_not_found", "NR"),
        ("shop.Unknown", None, "cluster_not_found", "NC"),
        ("shop.Gone", None, "no_healthy_upstream", "UH"),
        ("shop.Unhealthy", None, "no_healthy_upstream", "UH"),
        ("shop.Dead", None, "connection_failure", "UF"),
        ("shop.Deaf", None, "connection_failure", "UF"),
        ("shop.Full", None, "overflow", "UO"),
        ("shop.Quick", hang, "timeout", "UT"),
        ("shop.Cart", close, "connection_termination", "UC"),
        ("shop.Cart", reset, "connection_termination", "UC"),
        ("shop.Cart", GARBAGE, "protocol_error", "UPE"),
    ],
)
def test_failures(proxy: World, service: str, step: FrameStep | None, why: str, flag: str) -> None:
    if step is not None:
        dubbo_upstream(proxy).script(step)
    with DubboLink(proxy) as link:
        reply = link.call(service)
        assert (reply.flag, reply.status, reason(reply)) == (2, 80, why)
        assert link.call().value == "a"  # the connection goes on
    proxy.await_log("dubbo", 2)
    logged = proxy.logs("dubbo", 2)[0]
    assert (logged.status, logged.flags, logged.details) == ("80", flag, why)


@case("Dubbo: the text of an answer of the proxy's own", difference="rpc-error-text")
def test_error_text(proxy: World) -> None:
    reply = call(proxy, "shop.Nobody")
    text = "" if proxy.kind is ProxyKind.ENVOY else "route_not_found"
    assert reply.body == hessian.text(text) + hessian.mapping({"reason": "route_not_found"})


@case("Dubbo: a response's status passes, and is logged and counted")
@pytest.mark.parametrize("status", [30, 31, 40, 50, 60, 70, 80, 90, 100])
def test_statuses(proxy: World, status: int) -> None:
    dubbo_upstream(proxy).script(answer(body=hessian.text("no"), status=status))
    reply = call(proxy)
    assert (reply.status, reply.text) == (status, "no")
    logged = line(proxy)
    assert (logged.status, logged.flags, logged.details) == (str(status), "-", "via_upstream")


@case("Dubbo: a status as %RESPONSE_CODE%", difference="rpc-response-code")
def test_response_code(proxy: World) -> None:
    dubbo_upstream(proxy).script(answer(), answer(body=hessian.text("no"), status=60))
    with DubboLink(proxy, "coded") as link:
        for _ in range(2):
            link.call()
        link.call("shop.Quick")
    codes = [entry.status for entry in proxy.logs("coded", 3)]
    assert codes == (["20", "60", "20"] if proxy.kind is ProxyKind.ENVOY else ["200", "404", "200"])


@case("Dubbo: the body of a response that is no OK is nobody's business")
def test_body_of_an_error(proxy: World) -> None:
    for body in (b"\xff\xff", hessian.integer(3)):
        dubbo_upstream(proxy).script(answer(body=body, status=70))
        assert call(proxy).body == body


@case("Dubbo: kinds of results, of which exceptions are errors")
@pytest.mark.parametrize("kind", [0, 1, 3, 4, 5])
def test_results(proxy: World, kind: int) -> None:
    body = result(kind, b"" if kind == 5 else hessian.text("v"), {"m": "n"} if kind > 2 else None)
    dubbo_upstream(proxy).script(answer(body=body))
    assert call(proxy).body == body
    assert line(proxy).status == "20"


@case("Dubbo: content that is missing", difference="rpc-missing-content")
@pytest.mark.parametrize(("status", "body"), [(20, result(2)), (70, b"")], ids=["null", "error"])
def test_missing_content(proxy: World, status: int, body: bytes) -> None:
    dubbo_upstream(proxy).script(answer(body=body, status=status))
    added = b"NHZ" if proxy.kind is ProxyKind.ENVOY else b""
    assert call(proxy).body == body + added


@case("Dubbo: a response that is none")
@pytest.mark.parametrize(
    "said",
    [
        response(1, b""),
        response(1, hessian.integer(6)),
        response(1, hessian.text("v")),
        response(1, hessian.integer(-1)),
        dubbo_peer.frame(0x03, 20, 1, result(1, hessian.text("v"))),
        dubbo_peer.frame(0x02, 20, 1, b"", size=-1),
        dubbo_peer.frame(0x02, 20, 1, result(1, hessian.text("v")), magic=0xDABC),
    ],
    ids=["empty", "six", "no-number", "minus-one", "serialization", "length", "magic"],
)
def test_bad_responses(proxy: World, said: bytes) -> None:
    upstream = dubbo_upstream(proxy)
    upstream.script(lambda exchange: exchange.send(said[:4] + exchange.data[4:12] + said[12:]))
    assert reason(call(proxy)) == "protocol_error"
    logged = line(proxy)
    assert (logged.status, logged.flags) == ("80", "UPE")


@case("Dubbo: a response's status that nobody knows", difference="rpc-dubbo-statuses")
@pytest.mark.parametrize("status", [0, 25, 35, 255])
def test_unknown_statuses(proxy: World, status: int) -> None:
    dubbo_upstream(proxy).script(answer(body=hessian.text("no"), status=status))
    reply = call(proxy)
    assert reply.status == (80 if proxy.kind is ProxyKind.ENVOY else status)


@case("Retries: a host that cannot be reached")
def test_retry_of_a_connection_failure(proxy: World) -> None:
    for _ in range(4):
        assert call(proxy, "shop.Half").value == "a"


@case("Retries: none without a policy")
@pytest.mark.parametrize("step", [close, reset, GARBAGE], ids=["close", "reset", "garbage"])
def test_one_attempt(proxy: World, step: FrameStep) -> None:
    upstream = dubbo_upstream(proxy)
    upstream.script(step)
    reply = call(proxy)
    assert reason(reply) == ("protocol_error" if step is GARBAGE else "connection_termination")
    assert len(upstream.frames) == 1


@case("Retries: how many num_retries allows, and that they did not help", difference="rpc-retries")
@pytest.mark.parametrize(("service", "allowed"), [("shop.Once", 1), ("shop.Again", 2)])
@pytest.mark.parametrize("step", [close, reset, GARBAGE], ids=["close", "reset", "garbage"])
def test_attempts(proxy: World, service: str, allowed: int, step: FrameStep) -> None:
    upstream = dubbo_upstream(proxy)
    upstream.script(*[step] * 4)
    reply = call(proxy, service)
    assert reason(reply) == ("protocol_error" if step is GARBAGE else "connection_termination")
    assert len(upstream.frames) == (allowed if proxy.kind is ProxyKind.ENVOY else allowed + 1)
    assert ("URX" in line(proxy).flags) is (proxy.kind is not ProxyKind.ENVOY)


@case("Retries: what is sent again is the same")
def test_same_again(proxy: World) -> None:
    upstream = dubbo_upstream(proxy)
    upstream.script(close)
    assert call(proxy, "shop.Again", "get", [("I", hessian.integer(7))], {"x": "y"}).value == "a"
    first, second = upstream.requests
    assert first.body == second.body
    assert line(proxy).flags == "-"


@case("Retries: a status is an answer")
@pytest.mark.parametrize("status", [30, 70, 80, 100])
def test_no_retry_of_a_status(proxy: World, status: int) -> None:
    upstream = dubbo_upstream(proxy)
    upstream.script(answer(body=hessian.text("no"), status=status))
    assert call(proxy, "shop.Again").text == "no"
    assert len(upstream.frames) == 1


@case("Retries: not when the pool is full")
def test_no_retry_of_an_overflow(proxy: World) -> None:
    assert reason(call(proxy, "shop.DeadAgain")) == "connection_failure"
    assert reason(call(proxy, "shop.Full")) == "overflow"


@case("Time-outs: over all attempts, after which there is none")
def test_timeout_over_attempts(proxy: World) -> None:
    def later(exchange: FrameExchange) -> None:
        exchange.upstream.pause(0.25)
        exchange.close()

    upstream = dubbo_upstream(proxy)
    upstream.script(later, hang, hang)
    began = time.monotonic()
    assert reason(call(proxy, "shop.QuickAgain")) == "timeout"
    assert time.monotonic() - began < 1
    assert len(upstream.frames) == 2


@case("Time-outs: none, where the route says zero")
def test_no_timeout(proxy: World) -> None:
    dubbo_upstream(proxy).script(answer(delay_s=0.5))
    assert call(proxy, "shop.Patient").value == "a"


@case("Time-outs: a late answer goes nowhere")
def test_late_answer(proxy: World) -> None:
    upstream = dubbo_upstream(proxy)
    upstream.script(answer("late", delay_s=0.35))
    with DubboLink(proxy) as link:
        assert reason(link.call("shop.Quick")) == "timeout"
        assert link.call().value == "a"
        assert link.silent()
        assert link.call().value == "a"


@case("Time-outs: half an answer is none")
def test_half_an_answer_in_time(proxy: World) -> None:
    upstream = dubbo_upstream(proxy)
    upstream.script(lambda exchange: exchange.send(response(1, result(1, hessian.text("v")))[:17]))
    with DubboLink(proxy) as link:
        assert reason(link.call("shop.Quick")) == "timeout"
    upstream.close_connections()


@case("Upstream: half an answer, then the end")
def test_half_an_answer(proxy: World) -> None:
    def half(exchange: FrameExchange) -> None:
        exchange.send(response(dubbo_peer.parse(exchange.data).id, result(1, hessian.text("v")))[:17])
        exchange.close()

    dubbo_upstream(proxy).script(half)
    with DubboLink(proxy) as link:
        assert reason(link.call()) == "connection_termination"
        assert link.call().value == "a"


@case("Upstream: an answer byte by byte")
def test_answer_byte_by_byte(proxy: World) -> None:
    def slowly(exchange: FrameExchange) -> None:
        data = response(dubbo_peer.parse(exchange.data).id, result(1, hessian.text("slow")))
        for number in range(len(data)):
            exchange.send(data[number : number + 1])
            exchange.upstream.pause(0.001)

    dubbo_upstream(proxy).script(slowly)
    assert call(proxy).value == "slow"


@case("Upstream: a second answer to the same request goes nowhere")
def test_second_answer(proxy: World) -> None:
    def twice(exchange: FrameExchange) -> None:
        answer("first")(exchange)
        answer("second")(exchange)

    dubbo_upstream(proxy).script(twice)
    with DubboLink(proxy) as link:
        assert link.call().value == "first"
        assert link.silent()
        assert link.call().value == "a"


@case("Upstream: an answer under another id", difference="rpc-unknown-id")
def test_unknown_id(proxy: World) -> None:
    dubbo_upstream(proxy).script(answer(id=lambda id: id + 1000))
    with DubboLink(proxy) as link:
        link.send(tagged(proxy, 7, "shop.Quick"))
        reply = link.read()
    if proxy.kind is ProxyKind.ENVOY:
        assert (reply.id, reply.value) == (1007, "a")
    else:
        assert (reply.id, reason(reply)) == (7, "timeout")


@case("Upstream: its heartbeats are answered")
def test_upstream_heartbeat(proxy: World) -> None:
    def ask(exchange: FrameExchange) -> None:
        exchange.send(dubbo_peer.heartbeat(99))
        exchange.upstream.wait_until(lambda: len(upstream.frames) > 1)
        answer()(exchange)

    upstream = dubbo_upstream(proxy)
    upstream.script(ask)
    assert call(proxy).value == "a"
    _, beat = upstream.requests
    assert (beat.flag, beat.status, beat.id, beat.body) == (0x22, 20, 99, b"N")


@case("Upstream: one that says it is read-only answers what it has")
def test_upstream_read_only(proxy: World) -> None:
    def ask(exchange: FrameExchange) -> None:
        exchange.send(dubbo_peer.frame(0xA2, 0, 3, hessian.text("R")))
        exchange.upstream.pause(0.05)
        answer("last")(exchange)

    dubbo_upstream(proxy).script(ask)
    with DubboLink(proxy) as link:
        assert link.call().value == "last"
        assert link.call().value == "a"


@case("One-way: nothing comes back, and the next request is served")
def test_one_way(proxy: World) -> None:
    upstream = dubbo_upstream(proxy)
    with DubboLink(proxy) as link:
        link.send(tagged(proxy, 1, one_way=True))
        assert link.silent()
        link.send(tagged(proxy, 2))
        assert link.read().id == 2
    assert [frame.flag for frame in upstream.requests] == [0x82, 0xC2]
    proxy.await_log("dubbo", 2)
    logged = proxy.logs("dubbo", 2)[0]
    assert (logged.status, logged.flags, logged.details, logged.cluster) == ("-", "-", "-", "a")


@case("One-way: an upstream that ends its connection behind it")
def test_one_way_and_end(proxy: World) -> None:
    upstream = dubbo_upstream(proxy)
    upstream.script(close)
    with DubboLink(proxy) as link:
        link.send(tagged(proxy, 1, one_way=True))
        assert link.silent()
        assert link.call().value == "a"


@case("One-way: what cannot be forwarded", difference="rpc-one-way-answer")
@pytest.mark.parametrize("service", ["shop.Nobody", "shop.Gone", "shop.Dead"])
def test_one_way_failure(proxy: World, service: str) -> None:
    with DubboLink(proxy) as link:
        link.send(tagged(proxy, 1, service, one_way=True))
        if proxy.kind is ProxyKind.ENVOY:
            assert link.read().status == 80
        else:
            assert link.silent()


@case("Ids: all of their 64 bits come back")
@pytest.mark.parametrize("id", [0, 1, 2**31, 2**32, 2**63 - 1, 2**63 + 5, 2**64 - 1])
def test_ids(proxy: World, id: int) -> None:
    with DubboLink(proxy) as link:
        link.send(tagged(proxy, id))
        assert link.read().id == id


@case("Ids: two requests of the same one are both answered")
def test_same_id(proxy: World) -> None:
    with DubboLink(proxy) as link:
        link.send(tagged(proxy, 5) + tagged(proxy, 5))
        assert [link.read().id, link.read().id] == [5, 5]


@case("Many at once: several requests in one segment")
def test_one_segment(proxy: World) -> None:
    with DubboLink(proxy) as link:
        link.send(b"".join(tagged(proxy, id, "shop.Cart" if id % 2 else "shop.Order") for id in range(1, 31)))
        replies = sorted((link.raw.read() for _ in range(30)), key=lambda frame: frame.id)
    assert [frame.id for frame in replies] == list(range(1, 31))
    assert {(frame.id % 2, frame.value) for frame in replies} == {(1, "a"), (0, "b")}
    assert len(dubbo_upstream(proxy).frames) == 15


@case("Many at once: a request byte by byte")
def test_request_byte_by_byte(proxy: World) -> None:
    with DubboLink(proxy) as link:
        link.raw.send_slowly(tagged(proxy, 1) + tagged(proxy, 2)[:20])
        assert link.read().id == 1
        link.raw.send_slowly(tagged(proxy, 2)[20:])
        assert link.read().id == 2


@case("Many at once: answers come as they are ready")
def test_out_of_order(proxy: World) -> None:
    def by_method(exchange: FrameExchange) -> None:
        slow = dubbo_peer.parse(exchange.data).method == "slow"
        answer(delay_s=0.2 if slow and exchange.upstream.wait_frames(2) else 0.0)(exchange)

    dubbo_upstream(proxy).script(by_method, by_method)
    with DubboLink(proxy) as link:
        link.send(tagged(proxy, 1, method="slow") + tagged(proxy, 2, method="fast"))
        assert [link.read().id, link.read().id] == [2, 1]


@case("Many at once: connections")
def test_many_connections(proxy: World) -> None:
    links = [DubboLink(proxy) for _ in range(40)]
    for link in links:
        link.send(tagged(proxy, 1))
    assert {link.read().value for link in links} == {"a"}
    for link in links:
        link.raw.close()


@case("Sizes: a large request, a large response")
def test_large(proxy: World) -> None:
    data = hessian.binary(b"x" * 900_000)
    dubbo_upstream(proxy).script(answer(body=result(1, data)))
    with DubboLink(proxy) as link:
        link.send(tagged(proxy, 1, arguments=[("[B", data)]))
        assert link.raw.read().body == result(1, data)


@case("Sizes: more than a listener's buffer", difference="rpc-frame-size")
def test_larger(proxy: World) -> None:
    data = hessian.binary(b"x" * 3_000_000)
    with DubboLink(proxy) as link:
        if proxy.kind is ProxyKind.ENVOY:
            with pytest.raises(OSError):
                link.send(tagged(proxy, 1, arguments=[("[B", data)]))
                link.send(bytes(1 << 20))
                link.send(bytes(1 << 20))
        else:
            link.send(tagged(proxy, 1, arguments=[("[B", data)]))
            assert link.read().value == "a"


@case("The client: it closes while a request is under way", difference="rpc-client-gone")
@pytest.mark.parametrize("how", ["close", "half-close", "reset"])
def test_client_leaves(proxy: World, how: str) -> None:
    upstream = dubbo_upstream(proxy)
    upstream.script(hang)
    with DubboLink(proxy) as link:
        link.send(tagged(proxy, 1))
        assert upstream.wait_frames(1)
        if how == "half-close":
            link.raw.half_close()
            assert link.closes()
        elif how == "reset":
            link.raw.reset()
    logged = line(proxy)
    assert (logged.status, logged.flags) == ("-", "DC")
    assert logged.details == ("-" if proxy.kind is ProxyKind.ENVOY else "downstream_remote_disconnect")
    assert call(proxy).value == "a"


@case("Breakers: max_connections of one")
def test_one_connection(proxy: World) -> None:
    dubbo_upstream(proxy).script(answer("one", delay_s=0.15), answer("two"))
    with DubboLink(proxy) as link:
        link.send(tagged(proxy, 1, "shop.Single") + tagged(proxy, 2, "shop.Single"))
        assert {link.raw.read().id, link.raw.read().id} == {1, 2}
    connections = {seen.connection for seen in dubbo_upstream(proxy).frames}
    assert len(connections) == 1


@case("Statistics: what is counted")
def test_statistics(proxy: World) -> None:
    upstream = dubbo_upstream(proxy)
    upstream.script(
        answer(),
        answer(body=hessian.text("no"), status=70),
        answer(body=hessian.text("no"), status=70),
        answer(body=hessian.text("no"), status=100),
        answer(body=result(0, hessian.text("e"))),
        answer(body=result(3, hessian.text("e"), {})),
        GARBAGE,
        close,
        hang,
        hang,
        upstream.default,
    )
    with DubboLink(proxy, "counted") as link:
        for _ in range(8):
            link.call()
        for service in ("shop.Quick", "shop.Nobody", "shop.Unknown", "shop.Gone", "shop.Dead", "shop.Full"):
            link.call(service)
        link.send(dubbo_peer.heartbeat(1))
        link.read()
    with DubboLink(proxy, "counted") as link:
        link.send(tagged(proxy, 1))
        assert upstream.wait_frames(10)
    with DubboLink(proxy, "counted") as link:
        link.send(tagged(proxy, 1, one_way=True))
        assert upstream.wait_frames(11)
    with DubboLink(proxy, "counted") as link:
        link.send(b"garbage garbage garbage")
        assert link.closes()
    expected = {
        "total": 16,
        "error": 13,
        "local": 8,
        "reset": 1,
        "decoding_error": 1,
        "active": 0,
        "code.0": 2,
        "code.20": 3,
        "code.70": 2,
        "code.80": 8,
        "code.100": 1,
        **dict.fromkeys(("flag.DC", "flag.NC", "flag.NR", "flag.UC", "flag.UF", "flag.UH", "flag.UO"), 1),
        **dict.fromkeys(("flag.UPE", "flag.UT"), 1),
    }
    proxy.expect_stats({f"generic_proxy.counted.downstream_rq_{name}": value for name, value in expected.items()})


@case("Statistics: a request under way is active")
def test_active(proxy: World) -> None:
    dubbo_upstream(proxy).script(answer(delay_s=1.0))
    active = "generic_proxy.busy.downstream_rq_active"
    with DubboLink(proxy, "busy") as link:
        link.send(tagged(proxy, 1))
        proxy.expect_stats({active: 1})
        link.read()
    proxy.expect_stats({active: 0})
