"""generic_proxy's routes: what of a Dubbo request its matchers see, and which of them decides."""

import itertools
from collections.abc import Iterable

from tests.differential.bed import Bed, cluster
from tests.differential.pair import case
from tests.differential.rpc_bed import (
    act,
    generic_host,
    generic_listener,
    rules,
    single,
    to,
    tree,
    whole_request,
)
from tests.differential.rpc_link import DubboLink, reason
from tests.differential.world import World
from tests.support import hessian
from tests.support.dubbo_peer import DubboUpstream
from tests.support.proxies import ProxyKind

CART = {"exact": "shop.Cart"}
HOSTS = [
    generic_host("exact", ["shop.Cart"], tree("Method", {"get": to("a")})),
    generic_host("suffix", ["*.Cart", "*Cart2"], tree("Method", {"get": to("a")}, otherwise=to("b"))),
    generic_host("longer", ["*.big.Cart"], tree("Method", {"get": to("b")})),
    generic_host("prefix", ["shop.*"], tree("Method", {"get": to("b")})),
]
TABLES = {
    "service": tree("Service", {"shop.Cart": to("a"), "shop.Order": to("b")}),
    "host": tree("Host", {"shop.Cart": to("a")}),
    "path": tree("Path", {"shop.Cart": to("a")}, otherwise=to("b")),
    "method": tree("Method", {"get": to("a")}, otherwise=to("b")),
    "property": tree("Property", {"x": to("a"), "": to("b")}, property_name="k"),
    "version": tree("Property", {"2.0.0": to("b")}, property_name="version", otherwise=to("a")),
    "prefix": tree("Service", {"shop": to("a"), "shop.C": to("b")}, prefix=True),
    "nested": tree("Service", {"shop.Cart": tree("Method", {"get": to("a")})}, otherwise=to("b")),
    "nested-prefix": tree(
        "Service",
        {"shop": tree("Method", {"get": to("a")}), "shop.C": tree("Method", {"put": to("b")})},
        prefix=True,
    ),
    "list": rules(
        (single("Service", {"suffix": "Cart"}), to("a")),
        (single("Method", {"safe_regex": {"google_re2": {}, "regex": "p.*"}}), to("b")),
    ),
    "whole": rules(
        (
            whole_request(
                host=CART, method={"prefix": "g"}, properties=[{"name": "k", "string_match": {"exact": "x"}}]
            ),
            to("a"),
        ),
        (whole_request(path={"contains": "ORDER", "ignore_case": True}), to("b")),
    ),
    "logic": rules(
        (
            {
                "and_matcher": {
                    "predicate": [single("Service", CART), {"not_matcher": single("Method", {"exact": "put"})}]
                }
            },
            to("a"),
        ),
        (
            {
                "or_matcher": {
                    "predicate": [
                        single("Method", {"exact": "put"}),
                        single("Property", {"exact": "z"}, property_name="k"),
                    ]
                }
            },
            to("b"),
        ),
    ),
    "passed-on": rules(
        (single("Service", {"prefix": "shop"}), tree("Method", {"get": to("a")})),
        (single("Service", {"prefix": "shop"}), to("b")),
    ),
    "weights": tree(
        "Service",
        {"shop.Cart": act(weighted_clusters={"clusters": [{"name": "a", "weight": 1}, {"name": "b", "weight": 3}]})},
    ),
}
BED = Bed(
    listeners=[
        *(generic_listener(name, routes) for name, routes in TABLES.items()),
        generic_listener("hosts", virtual_hosts=HOSTS),
        generic_listener("hosts-and-routes", tree("Method", {"get": to("b")}), virtual_hosts=HOSTS),
        generic_listener(
            "hosts-and-star",
            virtual_hosts=[*HOSTS, generic_host("star", ["*"], tree("Method", {"no": to("b")}, otherwise=to("a")))],
        ),
        generic_listener("without"),
    ],
    clusters=[cluster("a"), cluster("b")],
    upstreams={"a": DubboUpstream, "b": DubboUpstream},
)

SERVICES = ("shop.Cart", "shop.Order", "shoq", "shop.CartX", "", "SHOP.CART")
METHODS = ("get", "put", "pot", "Get", "")


def routed(proxy: World, listener: str, service: str, method: str = "get", k: str | None = None) -> str:
    """Who answered: an upstream, or nobody."""
    with DubboLink(proxy, listener) as link:
        reply = link.call(service, method, (), {} if k is None else {"k": k})
        return "-" if reason(reply) == "route_not_found" else reply.value


def table(proxy: World, listener: str, requests: Iterable[tuple[str, ...]]) -> dict[str, str]:
    """Who answered which request."""
    return {" ".join(request): routed(proxy, listener, *request) for request in requests}


@case("Matcher tree: the service, exact")
def test_service(proxy: World) -> None:
    found = table(proxy, "service", ((service,) for service in SERVICES))
    assert found == {"shop.Cart": "a", "shop.Order": "b", "shoq": "-", "shop.CartX": "-", "": "-", "SHOP.CART": "-"}


@case("Matcher tree: the host is the service")
def test_host(proxy: World) -> None:
    found = table(proxy, "host", ((service,) for service in SERVICES))
    assert [service for service, who in found.items() if who == "a"] == ["shop.Cart"]


@case("Matcher tree: the path is the service; on_no_match")
def test_path(proxy: World) -> None:
    found = table(proxy, "path", ((service,) for service in SERVICES))
    assert found.pop("shop.Cart") == "a"
    assert set(found.values()) == {"b"}


@case("Matcher tree: the method, with case; on_no_match")
def test_method(proxy: World) -> None:
    found = table(proxy, "method", (("shop.Cart", method) for method in METHODS))
    assert list(found.values()) == ["a", "b", "b", "b", "b"]


@case("Matcher tree: a property is an attachment; none is not the empty one")
def test_property(proxy: World) -> None:
    requests = [("s", "m"), ("s", "m", "x"), ("s", "m", "z"), ("s", "m", ""), ("s", "m", "X")]
    assert list(table(proxy, "property", requests).values()) == ["-", "a", "-", "b", "-"]


@case("Matcher tree: of properties whose names differ in case, the one that is named")
def test_property_case(proxy: World) -> None:
    with DubboLink(proxy, "property") as link:
        assert link.call(attachments={"K": "z", "k": "x"}).value == "a"


@case("Matcher tree: a property in another case", difference="rpc-property-case")
def test_property_in_another_case(proxy: World) -> None:
    with DubboLink(proxy, "property") as link:
        reply = link.call(attachments={"K": "x"})
        assert (reason(reply) or reply.value) == ("route_not_found" if proxy.kind is ProxyKind.ENVOY else "a")


@case("Matcher tree: the property `version` is the service's version")
def test_version(proxy: World) -> None:
    with DubboLink(proxy, "version") as link:
        assert link.call(version="2.0.0").value == "b"
        assert link.call(version="1.0.0").value == "a"
        assert link.call(version="", attachments={"version": "2.0.0"}).value == "a"


@case("Matcher tree: attachments stand behind arguments of any kind")
def test_behind_arguments(proxy: World) -> None:
    arguments = [
        ("Ljava/lang/String;", hessian.text("über" * 300)),
        ("I", hessian.integer(70_000)),
        ("J", hessian.long(-5)),
        ("D", hessian.double(0.5)),
        ("Z", hessian.TRUE),
        ("[B", hessian.binary(bytes(70_000))),
        ("Ljava/util/Map;", hessian.mapping({"k": "not this one"})),
        ("Ljava/util/List;", hessian.listing([hessian.text("one"), hessian.NULL])),
        ("Ljava/util/Map;", hessian.typed_map("java.util.TreeMap", {"a": "b"})),
        ("Ljava/lang/Object;", hessian.NULL),
    ]
    with DubboLink(proxy, "property") as link:
        assert link.call(arguments=arguments, attachments={"k": "x"}).value == "a"


@case("Matcher tree: arguments that cannot be read hide the attachments, and nothing else")
def test_unreadable_arguments(proxy: World) -> None:
    with DubboLink(proxy, "property") as link:
        for unreadable in (b"\xff", b"S\x7f\xff", b"I\0"):
            reply = link.call(arguments=[("Ljava/lang/String;", unreadable)], attachments={"k": "x"})
            assert reason(reply) == "route_not_found"
    with DubboLink(proxy, "service") as link:
        assert link.call(arguments=[("I", b"")], attachments={"k": "x"}).value == "a"


@case("Matcher tree: attachments that are no strings are passed over")
def test_odd_attachments(proxy: World) -> None:
    with DubboLink(proxy, "property") as link:
        assert link.call(attachments={"n": hessian.integer(3), "k": "x", "l": hessian.NULL}).value == "a"
        assert reason(link.call(attachments={"k": hessian.integer(3)})) == "route_not_found"


@case("Matcher tree: an attachment does not change the service")
def test_interface_attachment(proxy: World) -> None:
    with DubboLink(proxy, "service") as link:
        assert link.call("shop.Cart", attachments={"interface": "shop.Order", "path": "shop.Order"}).value == "a"


@case("Matcher tree: of the prefixes, the longest")
def test_prefix(proxy: World) -> None:
    found = table(proxy, "prefix", ((service,) for service in SERVICES))
    assert list(found.values()) == ["b", "a", "-", "b", "-", "-"]


@case("Matcher tree: a matcher inside that finds nothing leaves it to on_no_match")
def test_nested(proxy: World) -> None:
    found = table(proxy, "nested", itertools.product(SERVICES, ("get", "put")))
    assert found.pop("shop.Cart get") == "a"
    assert set(found.values()) == {"b"}


@case("Matcher tree: a matcher inside that finds nothing leaves it to the shorter prefix")
def test_nested_prefix(proxy: World) -> None:
    requests = [("shop.Cart", "get"), ("shop.Cart", "put"), ("shop.Order", "put"), ("shop.Cart", "pot"), ("x", "get")]
    assert list(table(proxy, "nested-prefix", requests).values()) == ["a", "b", "-", "-", "-"]


@case("Matcher list: the first predicate that holds")
def test_list(proxy: World) -> None:
    requests = [("shop.Cart", "get"), ("shop.Cart", "put"), ("shop.Order", "put"), ("shop.Order", "get"), ("x", "xp")]
    assert list(table(proxy, "list", requests).values()) == ["a", "a", "b", "-", "-"]


@case("Matcher list: a matcher inside that finds nothing leaves it to the next predicate")
def test_passed_on(proxy: World) -> None:
    requests = [("shop.Cart", "get"), ("shop.Cart", "put"), ("x", "get")]
    assert list(table(proxy, "passed-on", requests).values()) == ["a", "b", "-"]


@case("Matcher list: a predicate over the whole request")
def test_whole_request(proxy: World) -> None:
    found = table(proxy, "whole", itertools.product(("shop.Cart", "Shop.oRdEr", "x"), ("get", "put"), ("x", "z", "")))
    assert {request for request, who in found.items() if who == "a"} == {"shop.Cart get x"}
    assert {request.split()[0] for request, who in found.items() if who == "b"} == {"Shop.oRdEr"}


@case("Matcher list: and, or, not")
def test_logic(proxy: World) -> None:
    requests = [
        ("shop.Cart", "get"),
        ("shop.Cart", "put"),
        ("x", "put"),
        ("x", "get", "z"),
        ("x", "get"),
        ("x", "get", "x"),
    ]
    assert list(table(proxy, "logic", requests).values()) == ["a", "b", "b", "b", "-", "-"]


@case("Virtual hosts: exact, then the longest suffix, then the longest prefix; what is found is final")
def test_virtual_hosts(proxy: World) -> None:
    services = ("shop.Cart", "x.Cart", "x.big.Cart", "Cart", ".Cart", "xCart2", "shop.Order", "shop.", "", "SHOP.CART")
    found = table(proxy, "hosts", itertools.product(services, ("get", "put")))
    assert {request for request, who in found.items() if who == "a"} == {"shop.Cart get", "x.Cart get", "xCart2 get"}
    assert {request for request, who in found.items() if who == "b"} == {
        "x.Cart put", "xCart2 put", "x.big.Cart get", "shop.Order get"
    }  # fmt: skip


@case("Virtual hosts: `routes` are for services that no host takes")
def test_hosts_and_routes(proxy: World) -> None:
    found = table(proxy, "hosts-and-routes", itertools.product(("shop.Cart", "other", ""), ("get", "put")))
    assert {request for request, who in found.items() if who == "a"} == {"shop.Cart get"}
    assert {request for request, who in found.items() if who == "b"} == {"other get", " get"}


@case("Virtual hosts: `*` is for services that no other host takes")
def test_hosts_and_star(proxy: World) -> None:
    found = table(proxy, "hosts-and-star", itertools.product(("shop.Cart", "other", ""), ("get", "put")))
    assert [request for request, who in found.items() if who == "-"] == ["shop.Cart put"]


@case("Routes: without any, there is no route")
def test_without_routes(proxy: World) -> None:
    assert routed(proxy, "without", "shop.Cart") == "-"


@case("Routes: weighted clusters", difference="rpc-weighted-clusters")
def test_weighted_clusters(proxy: World) -> None:
    with DubboLink(proxy, "weights") as link:
        replies = [link.call() for _ in range(60)]
    if proxy.kind is ProxyKind.ENVOY:
        assert {reason(reply) for reply in replies} == {"cluster_not_found"}
    else:
        count = sum(reply.value == "b" for reply in replies)
        assert 30 < count < 59, count
