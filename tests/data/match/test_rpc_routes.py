"""Route tables of RPC proxies: which route takes a request."""

import pytest

from mosn_xds.base.errors import ConfigError
from mosn_xds.data.codec.head import Version
from mosn_xds.data.codec.rpc.messages import RpcRequest
from mosn_xds.data.match.rpc_routes import RpcTable
from mosn_xds.spec import rpc as spec
from mosn_xds.spec.common import HeaderMatch, StringMatch, StringMatchKind
from mosn_xds.spec.filters import FaultFilter
from mosn_xds.spec.route import PathKind, Route, RouteAction, RouteMatch, WeightedCluster
from mosn_xds.spec.rpc import RpcInput, RpcInputKind, RpcMatcher, RpcMatchList, RpcMatchMap, RpcOnMatch, ValueTest

SERVICE, HOST, PATH, METHOD, PROPERTY = RpcInputKind
EXACT, PREFIX, SUFFIX, REGEX, CONTAINS = StringMatchKind
VERSION = Version("test")


def request(service="shop", method="buy", path=None, **properties):
    fields = [(name.encode(), value.encode()) for name, value in properties.items()]
    return RpcRequest.of(
        VERSION,
        b"",
        1,
        service=service.encode(),
        method=method.encode(),
        path=None if path is None else path.encode(),
        properties=fields,
    )


def to(name: str) -> RpcOnMatch:
    return RpcOnMatch(Route(RouteMatch(PathKind.PREFIX), RouteAction(name), name))


def then(matcher: RpcMatcher) -> RpcOnMatch:
    return RpcOnMatch(matcher=matcher)


def is_(kind: RpcInputKind, value: str, how: StringMatchKind = EXACT, name: str = "", **more: object) -> ValueTest:
    return ValueTest(RpcInput(kind, name), StringMatch(how, value, **more))


def listed(*entries, no_match=None) -> RpcMatcher:
    return RpcMatcher(RpcMatchList(tuple(spec.RpcMatchEntry(*entry) for entry in entries)), no_match)


def mapped(kind, ways, *, prefixes=False, name="", no_match=None) -> RpcMatcher:
    return RpcMatcher(RpcMatchMap(RpcInput(kind, name), tuple(ways.items()), prefixes), no_match)


def table(*hosts: spec.RpcVirtualHost) -> RpcTable:
    return RpcTable.build(spec.RpcRouteTable("table", hosts), lambda table, host, route: (table.name, host.name))


def one(matcher: RpcMatcher) -> RpcTable:
    return table(spec.RpcVirtualHost("all", ("*",), matcher))


def matched(built: RpcTable, head: RpcRequest) -> str | None:
    host = built.virtual_host(head)
    route = host.match(head, 0) if host is not None else None
    return None if route is None else route.name


@pytest.mark.parametrize(
    ("test", "yes", "no"),
    [
        (is_(SERVICE, "shop"), request(), request("shops")),
        (is_(HOST, "sh", PREFIX), request(), request("SHop")),
        (is_(HOST, "sh", PREFIX, ignore_case=True), request("SHop"), request("xshop")),
        (is_(PATH, "/a.*", REGEX), request(path="/ab"), request(path="b/a")),
        (is_(PATH, "shop"), request(), request(path="")),
        (is_(METHOD, "uy", SUFFIX), request(), request(method="buys")),
        (is_(PROPERTY, "b", CONTAINS, "group"), request(group="abc"), request(group="acc")),
        (is_(PROPERTY, "1", EXACT, "targetApp"), request(targetapp="1"), request()),
        (is_(PROPERTY, "", EXACT, "tag"), request(tag=""), request()),
    ],
)
def test_an_input_matches_its_value(test, yes, no):
    built = one(listed((test, to("found"))))
    assert matched(built, yes) == "found"
    assert matched(built, no) is None


def test_a_property_in_its_own_case_goes_before_others():
    built = one(mapped(PROPERTY, {"a": to("A"), "b": to("B")}, name="Tag"))
    assert matched(built, request(tag="a", Tag="b")) == "B"
    assert matched(built, request(TAG="a")) == "A"


def test_predicates_combine():
    a, b = is_(METHOD, "a", CONTAINS), is_(METHOD, "b", CONTAINS)
    built = one(
        listed(
            (spec.AllOf((a, b)), to("both")),
            (spec.AnyOf((a, b)), to("one")),
            (spec.Not(is_(PROPERTY, "x", EXACT, "tag")), to("not x")),
        )
    )
    assert [matched(built, request(method=method)) for method in ("ab", "b", "a", "c")] == [
        "both",
        "one",
        "one",
        "not x",
    ]
    assert matched(built, request(method="c", tag="x")) is None


def test_nothing_of_nothing_holds():
    assert matched(one(listed((spec.AllOf(()), to("all of none")))), request()) == "all of none"
    assert matched(one(listed((spec.AnyOf(()), to("any of none")))), request()) is None


@pytest.mark.parametrize(
    ("header", "yes", "no"),
    [
        (HeaderMatch("tenant", StringMatch(EXACT, "a")), request(Tenant="a"), request(Tenant="b")),
        (HeaderMatch("tenant", None, None, True), request(TENANT=""), request()),
        (HeaderMatch("tenant", None, None, True, True), request(), request(Tenant="a")),
        (HeaderMatch("n", None, (1, 5)), request(N="4"), request(N="5")),
        (HeaderMatch(":method", StringMatch(EXACT, "buy")), request(), request(method="sell")),
    ],
)
def test_a_header_matcher_sees_properties_in_any_case(header, yes, no):
    built = one(listed((spec.PropertyTest(header), to("found"))))
    assert (matched(built, yes), matched(built, no)) == ("found", None)


def test_the_first_entry_wins():
    built = one(listed((is_(METHOD, "b", PREFIX), to("first")), (is_(METHOD, "buy"), to("second"))))
    assert matched(built, request()) == "first"


def test_an_entry_that_leads_nowhere_is_passed_by():
    nowhere = then(listed((is_(METHOD, "sell"), to("inner"))))
    built = one(listed((is_(SERVICE, "shop"), nowhere), (is_(SERVICE, "shop"), to("outer")), no_match=to("none")))
    assert matched(built, request()) == "outer"
    assert matched(built, request(method="sell")) == "inner"
    assert matched(built, request("other")) == "none"


def test_the_no_match_of_an_inner_tree_is_a_match_of_the_outer():
    inner = then(mapped(METHOD, {"sell": to("sell")}, no_match=to("inner rest")))
    built = one(listed((is_(SERVICE, "shop"), inner), no_match=to("outer rest")))
    assert [matched(built, request(service, method)) for service, method in (("shop", "sell"), ("shop", "x"))] == [
        "sell",
        "inner rest",
    ]
    assert matched(built, request("x")) == "outer rest"


def test_an_exact_map_takes_the_whole_value():
    built = one(mapped(METHOD, {"buy": to("buy"), "b": to("b")}, no_match=to("rest")))
    assert [matched(built, request(method=method)) for method in ("buy", "b", "bu", "")] == ["buy", "b", "rest", "rest"]


def test_a_prefix_map_takes_the_longest_that_leads_somewhere():
    inner = then(mapped(PROPERTY, {"x": to("inner")}, name="tag"))
    ways = {"a": to("a"), "a.b": to("a.b"), "a.b.c": inner}
    built = one(mapped(PATH, ways, prefixes=True, no_match=to("rest")))
    assert [matched(built, request(path=path)) for path in ("a.b.x", "a", "b", "a.b.c")] == ["a.b", "a", "rest", "a.b"]
    assert matched(built, request(path="a.b.c", tag="x")) == "inner"


def test_a_map_over_a_missing_property_goes_to_no_match():
    for prefixes in (False, True):
        built = one(mapped(PROPERTY, {"": to("empty")}, prefixes=prefixes, name="tag", no_match=to("rest")))
        assert (matched(built, request()), matched(built, request(tag=""))) == ("rest", "empty")


def test_an_empty_matcher_matches_nothing():
    assert matched(one(RpcMatcher()), request()) is None
    assert matched(one(RpcMatcher(no_match=to("rest"))), request()) == "rest"


def test_virtual_hosts_are_found_by_host():
    hosts = {"exact": ("shop.v1",), "suffix": ("*.v1", "other"), "prefix": ("shop*",), "rest": ("*",)}
    built = table(
        *(spec.RpcVirtualHost(name, domains, RpcMatcher(no_match=to(name))) for name, domains in hosts.items())
    )
    services = ("shop.v1", "SHOP.v1", "x.v1", "other", "shop.v2", "", "SHOP")
    assert [matched(built, request(service)) for service in services] == [
        "exact",
        "suffix",
        "suffix",
        "suffix",
        "prefix",
        "rest",
        "rest",
    ]


def test_no_virtual_host_is_no_route():
    built = table(spec.RpcVirtualHost("only", ("shop",), RpcMatcher(no_match=to("found"))))
    assert built.virtual_host(request("other")) is None
    assert matched(built, request("shop")) == "found"


def test_a_route_has_its_plan_its_weights_and_its_filters():
    action = RouteAction(weighted=(WeightedCluster("a", 1), WeightedCluster("b", 3)))
    leaf = Route(RouteMatch(PathKind.PREFIX), action, "w", per_filter=(("fault", FaultFilter()),))
    built = one(RpcMatcher(no_match=RpcOnMatch(leaf)))
    host = built.virtual_host(request())
    assert host is not None and not host.require_tls
    route = host.match(request(), 7)
    assert route is not None and route.weights is not None
    assert (route.plan, route.per_filter) == (("table", "all"), {"fault": FaultFilter()})
    assert [route.weights.pick(request(), number) for number in range(4)] == [0, 1, 1, 1]
    assert host.routes == [route]
    assert built.spec.internal_only_headers == ()


def test_what_has_not_changed_is_taken_over():
    planned: list[str] = []

    def build(previous: RpcTable | None, **ways: str) -> RpcTable:
        def planner(table, host, route):
            planned.append(route.name)
            return object()

        hosts = [
            spec.RpcVirtualHost("same", ("a",), RpcMatcher(no_match=to("same"))),
            spec.RpcVirtualHost("rest", ("*",), mapped(METHOD, {key: to(name) for key, name in ways.items()})),
        ]
        return RpcTable.build(spec.RpcRouteTable("table", tuple(hosts)), planner, previous)

    first = build(None, buy="x", sell="y")
    assert planned == ["same", "x", "y"]
    second = build(first, buy="z", sell="y")
    assert planned == ["same", "x", "y", "z"]
    assert second.virtual_hosts[0] is first.virtual_hosts[0]
    assert second.virtual_hosts[1].routes[1] is first.virtual_hosts[1].routes[1]
    assert [matched(second, request(method=method)) for method in ("buy", "sell")] == ["z", "y"]
    assert [matched(first, request(method=method)) for method in ("buy", "sell")] == ["x", "y"]


def test_a_bad_expression_is_refused_with_its_place():
    good = spec.RpcVirtualHost("good", ("a",))
    bad = spec.RpcVirtualHost("bad", ("b",), listed((is_(METHOD, "(", REGEX), to("x"))))
    with pytest.raises(ConfigError) as caught:
        table(good, bad)
    assert caught.value.path == "virtual_hosts[1]"
