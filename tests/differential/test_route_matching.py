"""Which route serves a request: virtual hosts by domain, then the first route whose match holds.

Most routes answer by themselves with their name, so that the body says which one was taken.
"""

import pytest

from tests.differential.bed import Bed, Config, cluster, config, http_listener, vhost
from tests.differential.pair import case
from tests.differential.world import World
from tests.support.upstream import Upstream


def answers(name: str, **match: object) -> Config:
    """A route that answers 200 with its name."""
    return {"name": name, "match": match, "direct_response": {"status": 200, "body": {"inline_string": name}}}


def header(name: str, header_name: str, **matcher: object) -> Config:
    """A route for requests to `/` whose header matches."""
    return answers(name, prefix="/", headers=[{"name": header_name, **matcher}])


DOMAINS = [
    vhost("exact", ["www.example.com", "with-port.example.com:8080"], [answers("exact", prefix="/")]),
    vhost("suffix", ["*.example.com"], [answers("suffix", prefix="/")]),
    vhost("longer-suffix", ["*.deep.example.com", "*-bar.example.com"], [answers("longer suffix", prefix="/")]),
    vhost("prefix", ["www.*"], [answers("prefix", prefix="/")]),
    vhost("longer-prefix", ["www.longer.*", "foo-*"], [answers("longer prefix", prefix="/")]),
]

PATHS = vhost(
    "paths",
    ["paths"],
    [
        answers("exact", path="/exact"),
        answers("exact any case", path="/Any/Case", case_sensitive=False),
        answers("separated", path_separated_prefix="/api"),
        answers("separated any case", path_separated_prefix="/Low", case_sensitive=False),
        answers("regex", safe_regex={"regex": "/re/[0-9]+"}),
        answers("never, as a prefix is held against the path alone", prefix="/query?x=1"),
        answers("prefix without query", prefix="/query"),
        answers("prefix", prefix="/prefix"),
        answers("prefix any case", prefix="/Loose", case_sensitive=False),
        answers("exact with parameters", path="/matrix"),
        answers("second", prefix="/order"),
        answers("never", prefix="/order/first"),
    ],
)

HEADERS = [
    vhost(name, [name], routes)
    for name, routes in {
        "h-exact": [header("yes", "x-h", string_match={"exact": "one"})],
        "h-exact-ignore-case": [header("yes", "x-h", string_match={"exact": "one", "ignore_case": True})],
        "h-prefix": [header("yes", "x-h", string_match={"prefix": "one"})],
        "h-suffix": [header("yes", "x-h", string_match={"suffix": "one"})],
        "h-contains": [header("yes", "x-h", string_match={"contains": "one"})],
        "h-contains-ignore-case": [header("yes", "x-h", string_match={"contains": "one", "ignore_case": True})],
        "h-regex": [header("yes", "x-h", string_match={"safe_regex": {"regex": "o.e"}})],
        "h-range": [header("yes", "x-h", range_match={"start": -5, "end": 10})],
        "h-present": [header("yes", "x-h", present_match=True)],
        "h-absent": [header("yes", "x-h", present_match=False)],
        "h-bare": [header("yes", "x-h")],
        "h-not-exact": [header("yes", "x-h", string_match={"exact": "one"}, invert_match=True)],
        "h-not-present": [header("yes", "x-h", present_match=True, invert_match=True)],
        "h-not-range": [header("yes", "x-h", range_match={"start": 1, "end": 2}, invert_match=True)],
        "h-missing-is-empty": [
            header("yes", "x-h", string_match={"exact": ""}, treat_missing_header_as_empty=True),
        ],
        "h-not-missing-is-empty": [
            header("yes", "x-h", string_match={"exact": "one"}, invert_match=True, treat_missing_header_as_empty=True),
        ],
        "h-and": [
            answers(
                "yes",
                prefix="/",
                headers=[{"name": "x-h", "present_match": True}, {"name": "x-i", "string_match": {"exact": "two"}}],
            )
        ],
        "h-method": [header("yes", ":method", string_match={"exact": "POST"})],
        "h-authority": [header("yes", ":authority", string_match={"prefix": "h-auth"})],
        "h-path": [header("yes", ":path", string_match={"exact": "/p?q=1"})],
        "h-scheme": [header("yes", ":scheme", string_match={"exact": "http"})],
    }.items()
]

QUERIES = vhost(
    "queries",
    ["queries"],
    [
        answers("exact", prefix="/exact", query_parameters=[{"name": "q", "string_match": {"exact": "one"}}]),
        answers(
            "regex", prefix="/regex", query_parameters=[{"name": "q", "string_match": {"safe_regex": {"regex": "o+"}}}]
        ),
        answers("prefix", prefix="/prefix", query_parameters=[{"name": "q", "string_match": {"prefix": "on"}}]),
        answers("present", prefix="/present", query_parameters=[{"name": "q", "present_match": True}]),
        answers("bare", prefix="/bare", query_parameters=[{"name": "q"}]),
        answers(
            "both",
            prefix="/both",
            query_parameters=[{"name": "q", "present_match": True}, {"name": "r", "string_match": {"exact": "2"}}],
        ),
    ],
)

GRPC = vhost("grpc", ["grpc"], [answers("grpc", prefix="/", grpc={}), answers("other", prefix="/")])

FRACTION = vhost(
    "fraction",
    ["fraction"],
    [
        answers("never", prefix="/", runtime_fraction={"default_value": {"numerator": 0, "denominator": "HUNDRED"}}),
        answers("always", prefix="/", runtime_fraction={"default_value": {"numerator": 100, "denominator": "HUNDRED"}}),
    ],
)

CLUSTERS = vhost(
    "clusters",
    ["clusters"],
    config("""
    - {name: plain, match: {path: /plain}, route: {cluster: a}}
    - name: all-to-b
      match: {path: /weighted}
      route: {weighted_clusters: {clusters: [{name: a, weight: 0}, {name: b, weight: 100}]}}
    - name: gone
      match: {path: /weighted-gone}
      route: {weighted_clusters: {clusters: [{name: a, weight: 0}, {name: not-there, weight: 1}]}}
    - {name: by-header, match: {path: /by-header}, route: {cluster_header: x-cluster}}
    - {name: gone, match: {path: /gone}, route: {cluster: not-there}}
    - {name: gone, match: {path: /gone-404}, route: {cluster: not-there, cluster_not_found_response_code: NOT_FOUND}}
    - name: gone
      match: {path: /gone-500}
      route: {cluster: not-there, cluster_not_found_response_code: INTERNAL_SERVER_ERROR}
    """),
)

BED = Bed(
    listeners=[
        http_listener(
            "http", *DOMAINS, PATHS, *HEADERS, QUERIES, GRPC, FRACTION, CLUSTERS, routes={"validate_clusters": False}
        ),
        http_listener("star", vhost("star", ["*"], [answers("star", prefix="/star")]), vhost("named", ["named"], [])),
        http_listener(
            "any-port",
            vhost("named", ["named.example"], [answers("named", prefix="/")]),
            routes={"ignore_port_in_host_matching": True},
        ),
        http_listener(
            "parameters",
            vhost("all", ["*"], [answers("exact", path="/matrix"), answers("rest", prefix="/")]),
            routes={"ignore_path_parameters_in_path_matching": True},
        ),
        http_listener(
            "strip-any", vhost("named", ["named.example"], [answers("named", prefix="/")]), strip_any_host_port=True
        ),
        http_listener(
            "strip-dot", vhost("named", ["named.example"], [answers("named", prefix="/")]), strip_trailing_host_dot=True
        ),
    ],
    clusters=[cluster("a"), cluster("b")],
    upstreams={"a": Upstream, "b": Upstream},
)


@case("Virtual host domains: exact, then longest suffix, then longest prefix, then none")
@pytest.mark.parametrize(
    ("host", "served_by"),
    [
        ("www.example.com", "exact"),
        ("WWW.Example.COM", "exact"),
        ("with-port.example.com:8080", "exact"),
        ("with-port.example.com:8081", None),
        ("with-port.example.com", "suffix"),
        ("api.example.com", "suffix"),
        (".example.com", None),
        ("x.deep.example.com", "longer suffix"),
        ("foo-bar.example.com", "longer suffix"),
        ("www.other.org", "prefix"),
        ("www.longer.org", "longer prefix"),
        ("foo-x.example.com", "suffix"),
        ("foo-x.org", "longer prefix"),
        ("www.", None),
        ("nobody.org", None),
    ],
)
def test_domain_choice(proxy: World, host: str, served_by: str | None) -> None:
    reply = proxy.get(host=host)
    if served_by is None:
        assert (reply.status, reply.body, reply.log.flags, reply.log.details) == (404, b"", "NR", "route_not_found")
    else:
        assert (reply.status, reply.text) == (200, served_by)


@case("Virtual host domains: the star takes what no other domain takes")
def test_star_domain(proxy: World) -> None:
    assert proxy.get("/star", host="whoever", listener="star").text == "star"
    assert proxy.get("/star", host="named", listener="star").status == 404


@case("Virtual host domains: ignore_port_in_host_matching")
def test_port_is_ignored_in_the_host_where_asked(proxy: World) -> None:
    assert proxy.get(host="named.example:1234", listener="any-port").text == "named"


@case("Host rewriting at the listener: strip_any_host_port")
def test_any_port_is_stripped_from_the_host(proxy: World) -> None:
    assert proxy.get(host="named.example:1234", listener="strip-any").text == "named"


@case("Host rewriting at the listener: strip_trailing_host_dot")
def test_the_trailing_dot_is_stripped_from_the_host(proxy: World) -> None:
    assert proxy.get(host="named.example.", listener="strip-dot").text == "named"


@case("Path matching: exact, prefix, safe_regex and path_separated_prefix")
@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/exact", "exact"),
        ("/exact?q", "exact"),
        ("/exact/", None),
        ("/EXACT", None),
        ("/any/case", "exact any case"),
        ("/api", "separated"),
        ("/api/v1", "separated"),
        ("/api?x", "separated"),
        ("/apiv1", None),
        ("/low/x", "separated any case"),
        ("/re/123", "regex"),
        ("/re/123?q=1", "regex"),
        ("/re/123x", None),
        ("/x/re/123", None),
        ("/prefix", "prefix"),
        ("/prefixed/more", "prefix"),
        ("/Prefix", None),
        ("/loose/x", "prefix any case"),
        ("/query?x=1", "prefix without query"),
        ("/prefi?x=/prefix", None),
        ("/matrix;v=1", None),
        ("/order/first", "second"),
    ],
)
def test_path_matchers(proxy: World, path: str, route: str | None) -> None:
    reply = proxy.get(path, host="paths")
    assert reply.status == (200 if route else 404)
    assert reply.text == (route or "")
    assert reply.log.route == (route or "-")


@case("Path matching: ignore_path_parameters_in_path_matching")
def test_path_parameters_are_ignored_where_asked(proxy: World) -> None:
    assert proxy.get("/matrix;v=1?q=2", host="any", listener="parameters").text == "exact"


@case("Header matching: string_match, range_match, present_match, invert_match, treat_missing_header_as_empty")
@pytest.mark.parametrize(
    ("host", "value", "matches"),
    [
        ("h-exact", "one", True),
        ("h-exact", "One", False),
        ("h-exact", None, False),
        ("h-exact-ignore-case", "ONE", True),
        ("h-exact-ignore-case", "ONEX", False),
        ("h-prefix", "one-more", True),
        ("h-prefix", "no-one", False),
        ("h-suffix", "no-one", True),
        ("h-suffix", "one-more", False),
        ("h-contains", "is one here", True),
        ("h-contains", "none ", True),
        ("h-contains", "nothing", False),
        ("h-contains-ignore-case", "is ONE here", True),
        ("h-contains-ignore-case", "is TWO here", False),
        ("h-regex", "ode", True),
        ("h-regex", "oder", False),
        ("h-range", "-5", True),
        ("h-range", "9", True),
        ("h-range", "10", False),
        ("h-range", "-6", False),
        ("h-range", "9.5", False),
        ("h-range", "", False),
        ("h-range", None, False),
        ("h-present", "", True),
        ("h-present", None, False),
        ("h-absent", "x", False),
        ("h-absent", None, True),
        ("h-bare", "x", True),
        ("h-bare", None, False),
        ("h-not-exact", "two", True),
        ("h-not-exact", "one", False),
        ("h-not-exact", None, False),
        ("h-not-present", "x", False),
        ("h-not-present", None, True),
        ("h-not-range", "2", True),
        ("h-not-range", "1", False),
        ("h-not-range", "x", True),
        ("h-not-range", None, False),
        ("h-missing-is-empty", None, True),
        ("h-missing-is-empty", "x", False),
        ("h-not-missing-is-empty", None, True),
        ("h-not-missing-is-empty", "one", False),
    ],
)
def test_header_matchers(proxy: World, host: str, value: str | None, matches: bool) -> None:
    reply = proxy.get(headers={} if value is None else {"x-h": value}, host=host)
    assert reply.status == (200 if matches else 404)


@case("Header matching: values of a repeated header are matched one by one")
def test_a_repeated_header_matches_by_any_value(proxy: World) -> None:
    assert proxy.get(headers=[("x-h", "zero"), ("x-h", "one")], host="h-exact").status == 200
    assert proxy.get(headers=[("x-h", "one"), ("x-h", "two")], host="h-not-exact").status == 404


@case("Header matching: all matchers of a route must hold")
def test_header_matchers_are_joined_by_and(proxy: World) -> None:
    assert proxy.get(headers={"x-h": "1", "x-i": "two"}, host="h-and").status == 200
    assert proxy.get(headers={"x-h": "1"}, host="h-and").status == 404
    assert proxy.get(headers={"x-i": "two"}, host="h-and").status == 404


@case("Header matching: pseudo-headers :method, :authority, :path, :scheme")
def test_pseudo_headers_are_matched(proxy: World) -> None:
    assert proxy.request("POST", host="h-method").status == 200
    assert proxy.request("GET", host="h-method").status == 404
    assert proxy.get(host="h-authority").status == 200
    assert proxy.get("/p?q=1", host="h-path").status == 200
    assert proxy.get("/p", host="h-path").status == 404
    assert proxy.get(host="h-scheme").status == 200
    assert proxy.get(headers={"x-forwarded-proto": "https"}, host="h-scheme").status == 404


@case("Query parameter matching: exact, regex, prefix, present, and of several")
@pytest.mark.parametrize(
    ("path", "matches"),
    [
        ("/exact?q=one", True),
        ("/exact?q=two", False),
        ("/exact", False),
        ("/exact?q=two&q=one", False),
        ("/exact?Q=one", False),
        ("/exact?q=o%6Ee", False),
        ("/exact?a=b&q=one", True),
        ("/regex?q=ooo", True),
        ("/regex?q=oox", False),
        ("/prefix?q=once", True),
        ("/prefix?q=no", False),
        ("/present?q", True),
        ("/present?q=", True),
        ("/present?qq=1", False),
        ("/bare?q=1", True),
        ("/bare?r=1", False),
        ("/both?q&r=2", True),
        ("/both?r=2", False),
    ],
)
def test_query_matchers(proxy: World, path: str, matches: bool) -> None:
    assert proxy.get(path, host="queries").status == (200 if matches else 404)


@case("Route matching: grpc")
@pytest.mark.parametrize(
    ("content_type", "route"),
    [
        ("application/grpc", "grpc"),
        ("application/grpc+proto", "grpc"),
        ("application/grpc-web", "other"),
        ("text/plain", "other"),
    ],
)
def test_grpc_requests_are_told_by_their_content_type(proxy: World, content_type: str, route: str) -> None:
    reply = proxy.request("POST", headers={"content-type": content_type}, host="grpc")
    assert reply.log.route == route


@case("Route matching: runtime_fraction")
def test_a_runtime_fraction_of_nothing_skips_the_route(proxy: World) -> None:
    assert proxy.get(host="fraction").text == "always"


@case("Weighted clusters: nothing goes to weight 0")
def test_weighted_clusters_keep_to_their_weights(proxy: World) -> None:
    with proxy.connect() as link:
        for _ in range(20):
            reply = link.request(path="/weighted", host="clusters")
            assert (reply.text, reply.log.cluster) == ("b\n", "b")


@case("Weighted clusters: a pick that is not there is no cluster")
def test_a_weighted_pick_may_be_missing(proxy: World) -> None:
    reply = proxy.get("/weighted-gone", host="clusters")
    assert (reply.status, reply.log.flags, reply.log.details) == (503, "NC", "cluster_not_found")


@case("Cluster by header: cluster_header")
def test_the_cluster_is_named_by_a_header(proxy: World) -> None:
    assert proxy.get("/by-header", {"x-cluster": "b"}, host="clusters").text == "b\n"
    missing = proxy.get("/by-header", {"x-cluster": "c"}, host="clusters")
    assert (missing.status, missing.log.flags) == (503, "NC")
    unnamed = proxy.get("/by-header", host="clusters")
    assert unnamed.status == 503


@case("Cluster not found: cluster_not_found_response_code")
@pytest.mark.parametrize(("path", "status"), [("/gone", 503), ("/gone-404", 404), ("/gone-500", 500)])
def test_a_missing_cluster_answers_as_configured(proxy: World, path: str, status: int) -> None:
    reply = proxy.get(path, host="clusters")
    assert (reply.status, reply.body) == (status, b"")
    assert (reply.log.flags, reply.log.details, reply.log.route) == ("NC", "cluster_not_found", "gone")


@case("Routing: a served request keeps its path, and names route and cluster in the log")
def test_a_routed_request_reaches_its_cluster(proxy: World) -> None:
    reply = proxy.get("/plain?q=1", host="clusters")
    assert (reply.status, reply.text, reply.seen.path) == (200, "a\n", "/plain?q=1")
    assert (reply.log.route, reply.log.cluster, reply.log.details) == ("plain", "a", "via_upstream")
