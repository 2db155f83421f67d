"""dubbo_proxy: its route form, its answers, and what passes."""

import pytest

from tests.differential.bed import Bed, cluster, endpoint
from tests.differential.pair import case
from tests.differential.rpc_bed import dubbo_listener, interface
from tests.differential.rpc_link import DubboLink, call, dubbo_upstream, reason
from tests.differential.world import World
from tests.support import dubbo_peer, hessian
from tests.support.dubbo_peer import DubboFrame, DubboUpstream, answer, frame, heartbeat, invocation, request, result
from tests.support.frame_upstream import FrameExchange, hang, say
from tests.support.proxies import ProxyKind
from tests.support.server import DeafUpstream

ANY = "method: {name: {safe_regex: {regex: '.*'}}}"
ALL_TO_A = f"[{{match: {{{ANY}}}, route: {{cluster: a}}}}]"
ALL_TO_B = f"[{{match: {{{ANY}}}, route: {{cluster: b}}}}]"
TABLES = [
    interface(
        "shop.Cart",
        """
        - {match: {method: {name: {exact: get}}}, route: {cluster: a}}
        - {match: {method: {name: {prefix: add}}}, route: {cluster: b}}
        - {match: {method: {name: {suffix: Slowly}}}, route: {cluster: b}}
        - {match: {method: {name: {exact: param}, params_match: {0: {exact_match: x}}}}, route: {cluster: a}}
        - match: {method: {name: {exact: param}, params_match: {0: {range_match: {start: 10, end: 20}}}}}
          route: {cluster: b}
        - match: {method: {name: {exact: both}, params_match: {0: {exact_match: x}, 1: {exact_match: "z"}}}}
          route: {cluster: a}
        - match: {method: {name: {exact: head}}, headers: [{name: k, string_match: {exact: x}}]}
          route: {cluster: a}
        - {match: {method: {name: {exact: head}}, headers: [{name: k, present_match: true}]}, route: {cluster: b}}
        - match: {method: {name: {exact: weight}}}
          route: {weighted_clusters: {clusters: [{name: a, weight: 1}, {name: b, weight: 3}]}}
        """,
    ),
    interface("shop.Cart", "[{match: {method: {name: {exact: second}}}, route: {cluster: b}}]"),
    interface("shop.Star*", ALL_TO_A),
    interface("*.End", ALL_TO_B),
    interface("shop.Versioned", ALL_TO_A, version="2.0.0"),
    interface("shop.Versioned", ALL_TO_B, version="3.0.0", group="g"),
    interface("shop.Grouped", ALL_TO_B, group="g"),
    *(
        interface(f"shop.{name}", f"[{{match: {{{ANY}}}, route: {{cluster: {name.lower()}}}}}]")
        for name in ("Gone", "Dead", "Deaf", "Unknown", "Full")
    ),
]
BED = Bed(
    listeners=[
        dubbo_listener("dubbo", *TABLES),
        dubbo_listener("counted", *TABLES),
        dubbo_listener("all", interface("*", ALL_TO_A)),
        dubbo_listener("old", route_config=[interface("shop.Cart", ALL_TO_A)]),
    ],
    clusters=[
        cluster("a"),
        cluster("b"),
        cluster("dead", endpoint("closed-port")),
        cluster("deaf", connect_timeout="0.3s"),
        {**cluster("gone"), "load_assignment": {"cluster_name": "gone", "endpoints": []}},
        cluster("full", "a", circuit_breakers={"thresholds": [{"max_connections": 1, "max_pending_requests": 0}]}),
    ],
    upstreams={"a": DubboUpstream, "b": DubboUpstream, "deaf": DeafUpstream},
)

STRING = "Ljava/lang/String;"


def routed(reply: DubboFrame) -> str:
    """Who answered: an upstream, or nobody."""
    return reply.value if reply.status == dubbo_peer.OK else "-"


@case(
    "dubbo_proxy: Routes: a method by its name",
    normalise=lambda journal: [line for line in journal if "reply" not in line],
)
def test_method(proxy: World) -> None:
    with DubboLink(proxy) as link:
        methods = ("get", "add", "addAll", "goSlowly", "put", "Get", "second", "")
        assert [routed(link.call("shop.Cart", method)) for method in methods] == [
            "a",
            "b",
            "b",
            "b",
            "-",
            "-",
            "b",
            "-",
        ]


@case(
    "dubbo_proxy: Routes: an interface by its name, prefix or suffix",
    normalise=lambda journal: [line for line in journal if "reply" not in line],
)
def test_interface(proxy: World) -> None:
    services = ("shop.Star", "shop.StarX", "x.End", ".End", "shop.Other", "SHOP.CART")
    with DubboLink(proxy) as link:
        assert [routed(link.call(service)) for service in services] == ["-", "a", "b", "-", "-", "-"]
    assert routed(call(proxy, "any.thing", "at all", listener="all")) == "a"


@case(
    "dubbo_proxy: Routes: version and group",
    normalise=lambda journal: [line for line in journal if "reply" not in line],
)
def test_version_and_group(proxy: World) -> None:
    with DubboLink(proxy) as link:
        assert routed(link.call("shop.Versioned", version="2.0.0")) == "a"
        assert routed(link.call("shop.Versioned", version="1.0.0")) == "-"
        assert routed(link.call("shop.Versioned", version="3.0.0")) == "-"
        assert routed(link.call("shop.Versioned", version="3.0.0", attachments={"group": "g"})) == "b"
        assert routed(link.call("shop.Grouped", attachments={"group": "g"})) == "b"
        assert routed(link.call("shop.Grouped", attachments={"group": "other"})) == "-"


@case(
    "dubbo_proxy: Routes: attachments as headers",
    normalise=lambda journal: [line for line in journal if "reply" not in line],
)
def test_headers(proxy: World) -> None:
    with DubboLink(proxy) as link:
        found = [routed(link.call("shop.Cart", "head", (), at)) for at in ({"k": "x"}, {"k": "z"}, {"K": "x"}, {})]
        assert found == ["a", "b", "a", "-"]


@case("dubbo_proxy: Routes: parameters", normalise=lambda journal: [line for line in journal if "reply" not in line])
def test_parameters(proxy: World) -> None:
    texts = ("x", "y", "10", "15", "20", "-5", "1e1")
    with DubboLink(proxy) as link:
        found = [routed(link.call("shop.Cart", "param", [(STRING, hessian.text(text))])) for text in texts]
        assert found == ["a", "-", "b", "b", "-", "-", "-"]
        assert routed(link.call("shop.Cart", "param")) == "-"
        second = [(STRING, hessian.text("x")), (STRING, hessian.text("z"))]
        assert routed(link.call("shop.Cart", "both", second)) == "a"
        assert routed(link.call("shop.Cart", "both", second[:1])) == "-"
        assert routed(link.call("shop.Cart", "both", second[::-1])) == "-"


@case("dubbo_proxy: Routes: weighted clusters", normalise=lambda journal: [])
def test_weighted(proxy: World) -> None:
    with DubboLink(proxy) as link:
        found = [routed(link.call("shop.Cart", "weight")) for _ in range(60)]
    assert set(found) == {"a", "b"}
    assert found.count("b") > 30


@case("dubbo_proxy: Routes: the older field")
def test_route_config(proxy: World) -> None:
    assert routed(call(proxy, listener="old")) == "a"


@case("dubbo_proxy: Answers of the proxy's own", difference="dubbo-proxy-errors")
@pytest.mark.parametrize(
    ("service", "status", "text", "ours"),
    [
        ("shop.Other", 60, "dubbo router: no route for interface 'shop.Other'", "route_not_found"),
        ("shop.Unknown", 80, "dubbo router: unknown cluster 'unknown'", "cluster_not_found"),
        ("shop.Gone", 80, "dubbo router: no healthy upstream for 'gone'", "no_healthy_upstream"),
        ("shop.Full", 80, "dubbo upstream request: too many connections", "overflow"),
        ("shop.Dead", 80, "dubbo upstream request: remote connection failure '127.0.0.1:", "connection_failure"),
        ("shop.Deaf", 80, "dubbo upstream request: connection failure '127.0.0.1:", "connection_failure"),
    ],
)
def test_failures(proxy: World, service: str, status: int, text: str, ours: str) -> None:
    with DubboLink(proxy) as link:
        reply = link.call(service)
        if proxy.kind is ProxyKind.ENVOY:
            assert reply.status == status
            assert hessian.read_text(reply.body, 1)[0].startswith(text)  # behind the number 0
        else:
            assert (reply.status, reason(reply), reply.text) == (status, ours, ours)
        assert routed(link.call()) == "a"  # the connection goes on


@case("dubbo_proxy: Answers of the proxy's own: a response that is none", difference="dubbo-proxy-errors")
@pytest.mark.parametrize(
    "said", [b"garbage garbage garbage", frame(2, 20, 1, b""), frame(2, 20, 1, hessian.integer(6))], ids=len
)
def test_bad_response(proxy: World, said: bytes) -> None:
    dubbo_upstream(proxy).script(say(said) if said[:1] == b"g" else _under_its_id(said))
    with DubboLink(proxy) as link:
        assert link.call().status == (50 if proxy.kind is ProxyKind.ENVOY else 80)
        assert routed(link.call()) == "a"


def _under_its_id(said: bytes):  # type: ignore[no-untyped-def]
    return lambda exchange: exchange.send(said[:4] + exchange.data[4:12] + said[12:])


@case("dubbo_proxy: A response's status passes")
@pytest.mark.parametrize("status", [30, 31, 40, 50, 60, 70, 80, 90, 100])
def test_statuses(proxy: World, status: int) -> None:
    dubbo_upstream(proxy).script(answer(body=hessian.text("no"), status=status))
    reply = call(proxy)
    assert (reply.status, reply.text) == (status, "no")


@case("dubbo_proxy: Results of all kinds pass")
@pytest.mark.parametrize("kind", range(6))
def test_results(proxy: World, kind: int) -> None:
    body = result(kind, b"" if kind in (2, 5) else hessian.text("v"), {"m": "n"} if kind > 2 else None)
    dubbo_upstream(proxy).script(answer(body=body))
    assert call(proxy).body == body


@case("dubbo_proxy: Requests pass as they are")
def test_request(proxy: World) -> None:
    arguments = [(STRING, hessian.text("x")), ("I", hessian.integer(70_000))]
    with DubboLink(proxy) as link:
        link.send(request(2**63 + 5, "shop.Cart", "get", arguments, {"path": "shop.Cart"}, version="1.2.3"))
        assert link.read().id == 2**63 + 5
    seen = dubbo_upstream(proxy).requests[0]
    assert seen.body == invocation("shop.Cart", "get", arguments, {"path": "shop.Cart"}, version="1.2.3")


@case("dubbo_proxy: Heartbeats are answered at once")
@pytest.mark.parametrize("two_way", [True, False])
def test_heartbeat(proxy: World, two_way: bool) -> None:
    with DubboLink(proxy) as link:
        link.send(heartbeat(7, two_way=two_way))
        reply = link.read()
        assert (reply.flag, reply.status, reply.id, reply.body) == (0x22, 20, 7, b"N")
    assert not dubbo_upstream(proxy).frames


@case("dubbo_proxy: One-way: nothing comes back")
def test_one_way(proxy: World) -> None:
    with DubboLink(proxy) as link:
        link.send(request(1, one_way=True))
        assert link.silent()
        assert routed(link.call()) == "a"
    assert [frame.flag for frame in dubbo_upstream(proxy).requests] == [0x82, 0xC2]


@case("dubbo_proxy: Many at once: answers come as they are ready")
def test_out_of_order(proxy: World) -> None:
    def by_id(exchange: FrameExchange) -> None:
        slow = hessian.text("slow") in exchange.data
        answer(delay_s=0.2 if slow and exchange.upstream.wait_frames(2) else 0.0)(exchange)

    dubbo_upstream(proxy).script(by_id, by_id)
    with DubboLink(proxy) as link:
        link.send(request(1, arguments=[(STRING, hessian.text("slow"))]) + request(2))
        assert [link.read().id, link.read().id] == [2, 1]


@case("dubbo_proxy: Frames that are none end the connection")
@pytest.mark.parametrize(
    "data",
    [
        b"x" * 16,
        frame(0xC2, 0, 1, b""),
        frame(0xC3, 0, 1, invocation()),
        frame(0xC2, 0, 1, invocation(), size=-1),
        frame(0xC2, 0, 1, invocation(), size=(16 << 20) + 1),
        frame(0xC2, 0, 1, invocation(), size=20),
    ],
    ids=["garbage", "empty", "serialization", "negative", "huge", "short"],
)
def test_bad_frames(proxy: World, data: bytes) -> None:
    with DubboLink(proxy) as link:
        link.send(data)
        assert link.closes()


@case("dubbo_proxy: Statistics", difference="rpc-proxy-figures")
def test_statistics(proxy: World) -> None:
    with DubboLink(proxy, "counted") as link:
        for _ in range(3):
            link.call()
        link.call("shop.Other")
    if proxy.kind is ProxyKind.ENVOY:
        names = {"request": 4, "request_twoway": 3, "response_success": 3, "local_response_business_exception": 1}
    else:
        names = {
            "downstream_rq_total": 4,
            "downstream_rq_code.20": 3,
            "downstream_rq_error": 1,
            "downstream_rq_local": 1,
        }
    proxy.expect_stats({f"dubbo.counted.{name}": value for name, value in names.items()})


@case("dubbo_proxy: The client closes while a request is under way")
def test_client_leaves(proxy: World) -> None:
    upstream = dubbo_upstream(proxy)
    upstream.script(hang)
    with DubboLink(proxy) as link:
        link.send(request(1))
        assert upstream.wait_frames(1)
        link.raw.half_close()
        assert link.closes()
    assert routed(call(proxy)) == "a"
