"""Route tables: which route takes a request, and what an update keeps."""

import gc
import random
import weakref

import msgspec
import pytest

from mosn_xds.base.errors import ConfigError
from mosn_xds.data.match.routes import RouteTable
from mosn_xds.spec import route as spec
from mosn_xds.spec.common import Fraction, HeaderMatch, QueryMatch, StringMatch, StringMatchKind
from mosn_xds.spec.filters import FilterDisabled, FilterEnabled
from mosn_xds.spec.route import PathKind, RouteMatch, TlsRequirement, UpgradePolicy
from tests.support.heads import request

PREFIX, EXACT, REGEX, SEPARATED, CONNECT = PathKind


def route(match: RouteMatch, name: str = "", **more: object) -> spec.Route:
    return spec.Route(match, more.pop("action", spec.RouteAction("c")), name=name, **more)


def virtual_host(*routes: spec.Route, name: str = "v", domains=("*",), **more: object) -> spec.VirtualHost:
    return spec.VirtualHost(name, domains, routes, **more)


def table(*hosts: spec.VirtualHost, **options: object) -> spec.RouteTable:
    references = []
    for host in hosts:
        raw = msgspec.msgpack.encode(host)
        references.append(spec.VirtualHostRef(raw, host.domains, msgspec.Raw(raw)))
    return spec.RouteTable("table", tuple(references), **options)


def build(spec_table: spec.RouteTable, previous: RouteTable | None = None) -> RouteTable:
    return RouteTable.build(spec_table, lambda table, host, route: f"plan of {route.name}", previous)


def matched(built: RouteTable, *args: object, number: int = 0, **more: object) -> str | None:
    found = built.match(request(*args, **more), number)
    return found[1].name if found is not None and found[1] is not None else None


@pytest.mark.parametrize(
    ("match", "yes", "no"),
    [
        (RouteMatch(PREFIX, "/"), ["/", "/a?b"], []),
        (RouteMatch(PREFIX, "/a"), ["/a", "/ab", "/a/b", "/a?x"], ["/", "/b", "/A"]),
        (RouteMatch(PREFIX, "/a?b"), [], ["/a?b=1", "/a"]),
        (RouteMatch(PREFIX, "/Ab", case_sensitive=False), ["/aB/c"], ["/b"]),
        (RouteMatch(EXACT, "/a"), ["/a", "/a?b=1"], ["/a/", "/a;x", "/"]),
        (RouteMatch(EXACT, "/Ab", case_sensitive=False), ["/aB?c"], ["/abc"]),
        (RouteMatch(REGEX, "/a.*z"), ["/abcz?q", "/az"], ["/azb", "/x/az"]),
        (RouteMatch(REGEX, "/Ab", case_sensitive=False), ["/Ab?x"], ["/aB"]),
        (RouteMatch(SEPARATED, "/a"), ["/a", "/a/b", "/a?b", "/a/"], ["/ab", "/"]),
        (RouteMatch(SEPARATED, "/Ab", case_sensitive=False), ["/aB?c", "/ab/x"], ["/abx"]),
        (RouteMatch(EXACT, "/a b"), [], ["/a%20b"]),
        (RouteMatch(PREFIX, "/", grpc_only=True), [], ["/"]),
    ],
)
def test_path_matches(match, yes, no):
    built = build(table(virtual_host(route(match, "r"))))
    assert [path for path in [*yes, *no] if matched(built, path) == "r"] == yes


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("application/grpc", True),
        ("application/grpc+proto", True),
        ("application/grpc+", True),
        ("application/grpc-web", False),
        ("application/grpc;x", False),
        ("Application/grpc", False),
        ("application/grpcx", False),
    ],
)
def test_grpc_only_goes_by_the_content_type(content_type, expected):
    built = build(table(virtual_host(route(RouteMatch(PREFIX, "/", grpc_only=True), "r"))))
    assert (matched(built, "/", ("content-type", content_type)) == "r") is expected


def test_the_first_route_whose_every_condition_holds_takes_the_request():
    jason = HeaderMatch("end-user", string=StringMatch(StringMatchKind.EXACT, "jason"))
    built = build(
        table(
            virtual_host(
                route(RouteMatch(PREFIX, "/", headers=(jason,), query=(QueryMatch("v", present=True),)), "both"),
                route(RouteMatch(PREFIX, "/", headers=(jason,)), "jason"),
                route(RouteMatch(PREFIX, "/"), "rest"),
                route(RouteMatch(EXACT, "/never"), "shadowed"),
            )
        )
    )
    assert matched(built, "/x?v=1", ("end-user", "jason")) == "both"
    assert matched(built, "/x", ("end-user", "jason")) == "jason"
    assert matched(built, "/x?v=1", ("end-user", "ann")) == "rest"
    assert matched(built, "/never") == "rest"


def test_a_runtime_fraction_goes_by_the_streams_number():
    half = route(RouteMatch(PREFIX, "/", runtime_fraction=Fraction(30, 100)), "some")
    built = build(table(virtual_host(half, route(RouteMatch(PREFIX, "/"), "rest"))))
    assert [matched(built, "/", number=number) for number in (0, 29, 30, 99, 129)] == [
        "some",
        "some",
        "rest",
        "rest",
        "some",
    ]


def test_connect_goes_to_connect_routes_only():
    built = build(table(virtual_host(route(RouteMatch(PREFIX, "/"), "path"), route(RouteMatch(CONNECT), "tunnel"))))
    assert matched(built, "", method="CONNECT") == "tunnel"
    assert matched(built, "/", method="GET") == "path"
    assert matched(build(table(virtual_host(route(RouteMatch(CONNECT), "tunnel")))), "/") is None


def test_path_parameters_can_be_ignored():
    hosts = virtual_host(route(RouteMatch(EXACT, "/a"), "r"))
    assert matched(build(table(hosts)), "/a;v=1") is None
    assert matched(build(table(hosts, ignore_path_parameters=True)), "/a;v=1?q") == "r"


def test_a_long_route_list_matches_as_a_short_one_does():
    draw = random.Random(5)
    kinds = [PREFIX, EXACT, SEPARATED]
    paths = [
        "/" + "/".join(draw.choice("abc") * draw.randint(1, 2) for _ in range(draw.randint(1, 4))) for _ in range(80)
    ]
    routes = [route(RouteMatch(draw.choice(kinds), path), str(number)) for number, path in enumerate(paths)]
    routes.insert(40, route(RouteMatch(REGEX, "/a.*"), "regex"))
    routes.insert(60, route(RouteMatch(PREFIX, "/B", case_sensitive=False), "insensitive"))
    whole = build(table(virtual_host(*routes)))
    alone = [build(table(virtual_host(one))) for one in routes]
    for path in [*paths, *(path + "x" for path in paths), *(path + "/y?z" for path in paths), "/", "/d"]:
        expected = next((one.name for one, built in zip(routes, alone, strict=True) if matched(built, path)), None)
        assert matched(whole, path) == expected, path


def test_a_match_can_be_explained():
    jason = HeaderMatch("end-user", string=StringMatch(StringMatchKind.EXACT, "jason"))
    built = build(
        table(
            virtual_host(
                route(RouteMatch(EXACT, "/other"), "other"),
                route(RouteMatch(CONNECT), "tunnel"),
                route(RouteMatch(PREFIX, "/", headers=(jason,)), "jason"),
                route(RouteMatch(PREFIX, "/", query=(QueryMatch("v"),)), "query"),
                route(RouteMatch(PREFIX, "/", grpc_only=True), "grpc"),
                route(RouteMatch(PREFIX, "/", runtime_fraction=Fraction(1)), "some"),
                route(RouteMatch(PREFIX, "/"), "rest"),
                route(RouteMatch(PREFIX, "/"), "never looked at"),
            )
        )
    )
    told = built.virtual_hosts[0].explain(request("/x", ("end-user", "ann")), 50)
    assert [(tried.name, refusal) for tried, refusal in told] == [
        ("other", "path"),
        ("tunnel", "connect_matcher"),
        ("jason", "header end-user"),
        ("query", "query parameter v"),
        ("grpc", "grpc"),
        ("some", "runtime_fraction"),
        ("rest", None),
    ]
    assert built.virtual_hosts[0].explain(request("", method="CONNECT"), 0)[-1] == (told[1][0], None)


def test_the_virtual_host_is_known_even_when_none_of_its_routes_takes_the_request():
    built = build(table(virtual_host(name="secure", require_tls=TlsRequirement.ALL)))
    found = built.match(request("/"), 0)
    assert found is not None
    assert found[0].require_tls is TlsRequirement.ALL
    assert found[1] is None
    assert build(table(virtual_host(domains=("a",)))).match(request("/", host="b"), 0) is None


def test_the_port_of_the_host_can_be_ignored():
    hosts = virtual_host(route(RouteMatch(PREFIX, "/"), "r"), domains=("a.com",))
    assert matched(build(table(hosts)), "/", host="a.com:80") is None
    assert matched(build(table(hosts, ignore_port_in_host=True)), "/", host="A.com:80") == "r"


def test_a_header_can_take_the_place_of_the_host():
    built = build(
        table(virtual_host(route(RouteMatch(PREFIX, "/"), "r"), domains=("tenant",)), vhost_header="X-Tenant")
    )
    assert matched(built, "/", ("x-tenant", "Tenant"), host="other") == "r"
    assert matched(built, "/", host="tenant") is None


def test_the_most_specific_filter_configuration_is_at_hand():
    on, off = FilterEnabled(), FilterDisabled()
    built = build(
        table(
            virtual_host(
                route(RouteMatch(PREFIX, "/"), "r", per_filter=(("a", on),)), per_filter=(("a", off), ("b", on))
            ),
            per_filter=(("b", off), ("c", off)),
        )
    )
    assert built.virtual_hosts[0].routes[0].per_filter == {"a": on, "b": on, "c": off}


def test_upgrades_idle_timeout_and_plan_are_at_hand():
    action = spec.RouteAction("c", idle_timeout_s=3.0, upgrades=(UpgradePolicy("WebSocket", enabled=False),))
    built = build(table(virtual_host(route(RouteMatch(PREFIX, "/"), "r", action=action))))
    compiled = built.virtual_hosts[0].routes[0]
    assert (compiled.idle_timeout_s, compiled.upgrades, compiled.plan) == (3.0, {b"websocket": False}, "plan of r")


def test_an_update_keeps_the_virtual_hosts_that_did_not_change():
    kept = virtual_host(route(RouteMatch(PREFIX, "/"), "kept"), name="kept", domains=("kept",))
    before = virtual_host(route(RouteMatch(PREFIX, "/"), "before"), name="other", domains=("other",))
    after = virtual_host(route(RouteMatch(PREFIX, "/"), "after"), name="other", domains=("other",))
    old = build(table(kept, before))
    new = build(table(kept, after), old)
    assert new.virtual_hosts[0] is old.virtual_hosts[0]
    assert matched(new, "/", host="other") == "after"
    assert matched(old, "/", host="other") == "before"


def test_virtual_hosts_that_swap_their_domains_are_found_by_the_new_ones():
    one, two = (virtual_host(route(RouteMatch(PREFIX, "/"), name), name=name, domains=(name,)) for name in ("a", "b"))
    old = build(table(one, two))
    swapped = build(
        table(
            msgspec.structs.replace(one, domains=("b",)),
            msgspec.structs.replace(two, domains=("a",)),
        ),
        old,
    )
    assert matched(swapped, "/", host="a") == "b"
    assert matched(swapped, "/", host="b") == "a"


def test_an_option_of_the_table_rebuilds_every_virtual_host():
    host = virtual_host(route(RouteMatch(EXACT, "/a"), "r"))
    old = build(table(host))
    new = build(table(host, ignore_path_parameters=True), old)
    assert matched(new, "/a;x") == "r"
    assert matched(old, "/a;x") is None


def test_a_table_that_is_swapped_out_is_freed_without_the_collector():
    class Plan:
        """Something a weak reference can watch."""

    gc.disable()
    try:
        plans: list[weakref.ref[Plan]] = []

        def planner(table: object, host: object, route: object) -> Plan:
            plan = Plan()
            plans.append(weakref.ref(plan))
            return plan

        built = RouteTable.build(table(virtual_host(route(RouteMatch(REGEX, "/a[0-9]"), "r"))), planner)
        assert plans[0]() is not None
        del built
        assert plans[0]() is None
    finally:
        gc.enable()


def test_what_cannot_be_compiled_is_refused_with_its_place():
    bad = virtual_host(route(RouteMatch(PREFIX, "/")), route(RouteMatch(REGEX, "(")))
    with pytest.raises(ConfigError) as refused:
        build(table(virtual_host(name="fine", domains=("x",)), bad))
    assert refused.value.path == "virtual_hosts[1].routes[1].match.safe_regex"
    assert refused.value.reason == "missing ): ("
