"""Stream filters that every mesh chain holds: fault, cors, rbac; and filters switched off per route."""

import time

import pytest

from tests.differential.bed import (
    Bed,
    Config,
    cluster,
    extension,
    hcm,
    http_listener,
    listener,
    tcp_proxy,
    vhost,
)
from tests.differential.pair import case
from tests.differential.world import World
from tests.support.tcp_upstream import TcpUpstream, echo
from tests.support.upstream import Upstream

_HTTP = "envoy.extensions.filters.http"
ALL = "[{name: all, match: {prefix: /}, route: {cluster: a}}]"


def percent(numerator: int) -> Config:
    """A FractionalPercent of hundred."""
    return {"numerator": numerator, "denominator": "HUNDRED"}


def fault(**fields: object) -> Config:
    """The fault filter."""
    return extension("envoy.filters.http.fault", f"{_HTTP}.fault.v3.HTTPFault", **fields)


def per_route_fault(**fields: object) -> Config:
    """The fault filter's configuration of one route."""
    return {"envoy.filters.http.fault": {"@type": f"type.googleapis.com/{_HTTP}.fault.v3.HTTPFault", **fields}}


def rbac(rules: Config | None = None, **fields: object) -> Config:
    """The HTTP rbac filter."""
    return extension(
        "envoy.filters.http.rbac", f"{_HTTP}.rbac.v3.RBAC", **({"rules": rules} if rules else {}), **fields
    )


def policy(permissions: list[Config], principals: list[Config]) -> Config:
    """An rbac policy."""
    return {"permissions": permissions, "principals": principals}


def uri_template(text: str) -> Config:
    """A path matcher as Istio writes it."""
    type_name = "envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig"
    return extension("uri-template", type_name, path_template=text)


def echo_server(name: str) -> TcpUpstream:
    """An upstream that does not speak first: the network filter decides on the client's first byte."""
    return TcpUpstream(name, behaviour=echo)


ANY: list[Config] = [{"any": True}]

FAULTS = vhost(
    "all",
    ["*"],
    [
        {
            "name": "abort",
            "match": {"path": "/abort"},
            "route": {"cluster": "a"},
            "typed_per_filter_config": per_route_fault(abort={"http_status": 418, "percentage": percent(100)}),
        },
        {
            "name": "never",
            "match": {"path": "/never"},
            "route": {"cluster": "a"},
            "typed_per_filter_config": per_route_fault(abort={"http_status": 418, "percentage": percent(0)}),
        },
        {
            "name": "delay",
            "match": {"path": "/delay"},
            "route": {"cluster": "a"},
            "typed_per_filter_config": per_route_fault(delay={"fixed_delay": "0.3s", "percentage": percent(100)}),
        },
        {
            "name": "both",
            "match": {"path": "/both"},
            "route": {"cluster": "a"},
            "typed_per_filter_config": per_route_fault(
                delay={"fixed_delay": "0.2s", "percentage": percent(100)},
                abort={"http_status": 503, "percentage": percent(100)},
            ),
        },
        {
            "name": "gated",
            "match": {"path": "/gated"},
            "route": {"cluster": "a"},
            "typed_per_filter_config": per_route_fault(
                abort={"http_status": 418, "percentage": percent(100)},
                headers=[{"name": "x-fault", "string_match": {"exact": "yes"}}],
            ),
        },
        {
            "name": "grpc",
            "match": {"path": "/grpc"},
            "route": {"cluster": "a"},
            "typed_per_filter_config": per_route_fault(abort={"grpc_status": 5, "percentage": percent(100)}),
        },
        {
            "name": "by-header",
            "match": {"path": "/by-header"},
            "route": {"cluster": "a"},
            "typed_per_filter_config": per_route_fault(
                abort={"header_abort": {}, "percentage": percent(100)},
                delay={"header_delay": {}, "percentage": percent(100)},
            ),
        },
        {
            "name": "other-cluster",
            "match": {"path": "/other-cluster"},
            "route": {"cluster": "a"},
            "typed_per_filter_config": per_route_fault(
                abort={"http_status": 418, "percentage": percent(100)}, upstream_cluster="b"
            ),
        },
        {"name": "plain", "match": {"prefix": "/"}, "route": {"cluster": "a"}},
    ],
)

CORS_POLICY = {
    "@type": f"type.googleapis.com/{_HTTP}.cors.v3.CorsPolicy",
    "allow_origin_string_match": [{"exact": "http://good.example"}, {"safe_regex": {"regex": ".*\\.good\\.example"}}],
    "allow_methods": "GET, PUT",
    "allow_headers": "x-one, x-two",
    "expose_headers": "x-three",
    "max_age": "600",
    "allow_credentials": True,
}

CORS = vhost(
    "all",
    ["*"],
    [
        {
            "name": "cors",
            "match": {"prefix": "/cors"},
            "route": {"cluster": "a"},
            "typed_per_filter_config": {"envoy.filters.http.cors": CORS_POLICY},
        },
        {
            "name": "strict",
            "match": {"prefix": "/strict"},
            "route": {"cluster": "a"},
            "typed_per_filter_config": {
                "envoy.filters.http.cors": {**CORS_POLICY, "forward_not_matching_preflights": False}
            },
        },
        {
            "name": "off",
            "match": {"prefix": "/off"},
            "route": {"cluster": "a"},
            "typed_per_filter_config": {
                "envoy.filters.http.cors": {**CORS_POLICY, "filter_enabled": {"default_value": percent(0)}}
            },
        },
        {"name": "plain", "match": {"prefix": "/"}, "route": {"cluster": "a"}},
    ],
)

RBAC_LISTENERS = {
    "allow-paths": {"action": "ALLOW", "policies": {"p": policy([{"url_path": {"path": {"prefix": "/open"}}}], ANY)}},
    "template": {
        "action": "ALLOW",
        "policies": {
            "p": policy(
                [{"uri_template": uri_template(text)} for text in ("/u/*/profile", "/all/**", "/{a}/{b=x/*}.css")], ANY
            )
        },
    },
    "deny-paths": {"action": "DENY", "policies": {"p": policy([{"url_path": {"path": {"exact": "/shut"}}}], ANY)}},
    "method": {
        "action": "ALLOW",
        "policies": {"p": policy([{"header": {"name": ":method", "string_match": {"exact": "GET"}}}], ANY)},
    },
    "header": {
        "action": "ALLOW",
        "policies": {"p": policy(ANY, [{"header": {"name": "x-user", "string_match": {"exact": "me"}}}])},
    },
    "source": {
        "action": "ALLOW",
        "policies": {"p": policy(ANY, [{"direct_remote_ip": {"address_prefix": "127.0.0.8", "prefix_len": 30}}])},
    },
    "remote": {
        "action": "ALLOW",
        "policies": {"p": policy(ANY, [{"remote_ip": {"address_prefix": "10.0.0.0", "prefix_len": 8}}])},
    },
    "port": {"action": "DENY", "policies": {"p": policy([{"destination_port": 1}], ANY)}},
    "not": {
        "action": "ALLOW",
        "policies": {
            "p": policy(
                [{"not_rule": {"url_path": {"path": {"prefix": "/shut"}}}}],
                [{"not_id": {"header": {"name": "x-bad", "present_match": True}}}],
            )
        },
    },
    "and-or": {
        "action": "ALLOW",
        "policies": {
            "p": policy(
                [
                    {
                        "and_rules": {
                            "rules": [
                                {"url_path": {"path": {"prefix": "/a"}}},
                                {
                                    "or_rules": {
                                        "rules": [
                                            {"header": {"name": "x-1", "present_match": True}},
                                            {"header": {"name": "x-2", "present_match": True}},
                                        ]
                                    }
                                },
                            ]
                        }
                    }
                ],
                [
                    {
                        "or_ids": {
                            "ids": [{"header": {"name": "x-user", "present_match": True}}, {"and_ids": {"ids": ANY}}]
                        }
                    }
                ],
            )
        },
    },
    "authenticated": {"action": "ALLOW", "policies": {"p": policy(ANY, [{"authenticated": {}}])}},
    "empty-allow": {"action": "ALLOW", "policies": {}},
    "empty-deny": {"action": "DENY", "policies": {}},
    "two": {
        "action": "ALLOW",
        "policies": {
            "b": policy([{"url_path": {"path": {"prefix": "/b"}}}], ANY),
            "a": policy([{"url_path": {"path": {"prefix": "/a"}}}], ANY),
        },
    },
    "query-aside": {"action": "DENY", "policies": {"p": policy([{"url_path": {"path": {"exact": "/shut"}}}], ANY)}},
}

NETWORK_RBAC = extension(
    "envoy.filters.network.rbac",
    "envoy.extensions.filters.network.rbac.v3.RBAC",
    stat_prefix="net",
    rules={
        "action": "DENY",
        "policies": {"p": policy(ANY, [{"direct_remote_ip": {"address_prefix": "127.0.0.8", "prefix_len": 30}}])},
    },
)

BED = Bed(
    listeners=[
        http_listener("faults", FAULTS, filters=[fault()]),
        http_listener(
            "fault-everywhere",
            vhost("all", ["*"], ALL),
            filters=[fault(abort={"http_status": 500, "percentage": percent(100)})],
        ),
        http_listener("cors", CORS, filters=[extension("envoy.filters.http.cors", f"{_HTTP}.cors.v3.Cors")]),
        *(
            http_listener(f"rbac-{name}", vhost("all", ["*"], ALL), filters=[rbac(rules)])
            for name, rules in RBAC_LISTENERS.items()
        ),
        http_listener(
            "rbac-shadow",
            vhost("all", ["*"], ALL),
            filters=[rbac(shadow_rules=RBAC_LISTENERS["allow-paths"], shadow_rules_stat_prefix="dry_")],
        ),
        http_listener("rbac-none", vhost("all", ["*"], ALL), filters=[rbac()]),
        http_listener(
            "rbac-route",
            vhost(
                "all",
                ["*"],
                [
                    {
                        "name": "own",
                        "match": {"path": "/own"},
                        "route": {"cluster": "a"},
                        "typed_per_filter_config": {
                            "envoy.filters.http.rbac": {
                                "@type": f"type.googleapis.com/{_HTTP}.rbac.v3.RBACPerRoute",
                                "rbac": {"rules": RBAC_LISTENERS["empty-allow"]},
                            }
                        },
                    },
                    {
                        "name": "free",
                        "match": {"path": "/free"},
                        "route": {"cluster": "a"},
                        "typed_per_filter_config": {
                            "envoy.filters.http.rbac": {"@type": f"type.googleapis.com/{_HTTP}.rbac.v3.RBACPerRoute"}
                        },
                    },
                    {
                        "name": "disabled",
                        "match": {"path": "/disabled"},
                        "route": {"cluster": "a"},
                        "typed_per_filter_config": {
                            "envoy.filters.http.rbac": {
                                "@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig",
                                "disabled": True,
                            }
                        },
                    },
                    {"name": "rest", "match": {"prefix": "/"}, "route": {"cluster": "a"}},
                ],
            ),
            filters=[rbac(RBAC_LISTENERS["allow-paths"])],
        ),
        listener("net-tcp", NETWORK_RBAC, tcp_proxy("net-tcp", "t")),
        listener("net-http", NETWORK_RBAC, hcm("net-http", [vhost("all", ["*"], ALL)])),
    ],
    clusters=[cluster("a"), cluster("b", "a"), cluster("t")],
    upstreams={"a": Upstream, "t": echo_server},
)


@case("Fault: abort with an HTTP status, for its share of requests")
@pytest.mark.parametrize(
    ("path", "aborted"), [("/abort", True), ("/never", False), ("/plain", False), ("/other-cluster", False)]
)
def test_abort(proxy: World, path: str, aborted: bool) -> None:
    reply = proxy.get(path, listener="faults")
    if aborted:
        assert (reply.status, reply.text, reply.log.flags, reply.log.details) == (
            418,
            "fault filter abort",
            "FI",
            "fault_filter_abort",
        )
        assert proxy.upstream("a").requests == []
    else:
        assert (reply.status, reply.log.flags) == (200, "-")


@case("Fault: of the listener's filter where no route has its own")
def test_the_listeners_own_fault(proxy: World) -> None:
    assert proxy.get(listener="fault-everywhere").status == 500


@case("Fault: only requests whose headers match")
def test_a_fault_behind_a_header(proxy: World) -> None:
    assert proxy.get("/gated", {"x-fault": "yes"}, listener="faults").status == 418
    assert proxy.get("/gated", {"x-fault": "no"}, listener="faults").status == 200


@case("Fault: fixed delay")
def test_delay(proxy: World) -> None:
    began = time.monotonic()
    reply = proxy.get("/delay", listener="faults")
    assert 0.28 < time.monotonic() - began < 3
    assert (reply.status, reply.log.flags, reply.log.details) == (200, "DI", "via_upstream")


@case("Fault: delay, then abort")
def test_delay_then_abort(proxy: World) -> None:
    began = time.monotonic()
    reply = proxy.get("/both", listener="faults")
    assert 0.18 < time.monotonic() - began < 3
    assert (reply.status, set(reply.log.flags.split(","))) == (503, {"DI", "FI"})


@case("Fault: a delay holds the body back, not only the head")
def test_a_delayed_request_with_a_body(proxy: World) -> None:
    began = time.monotonic()
    reply = proxy.request("POST", "/delay", body=b"x" * 50_000, listener="faults")
    assert time.monotonic() - began > 0.28
    assert (reply.status, reply.seen.body) == (200, b"x" * 50_000)


@case("Fault: abort with a gRPC status")
def test_grpc_abort(proxy: World) -> None:
    reply = proxy.request("POST", "/grpc", {"content-type": "application/grpc"}, listener="faults")
    assert (reply.status, reply.get("grpc-status")) == (200, "5")


@case("Fault: asked for by request headers")
def test_faults_by_header(proxy: World) -> None:
    assert proxy.get("/by-header", {"x-envoy-fault-abort-request": "409"}, listener="faults").status == 409
    began = time.monotonic()
    assert proxy.get("/by-header", {"x-envoy-fault-delay-request": "250"}, listener="faults").status == 200
    assert time.monotonic() - began > 0.23
    headers = {"x-envoy-fault-abort-request": "409", "x-envoy-fault-abort-request-percentage": "0"}
    assert proxy.get("/by-header", headers, listener="faults").status == 200


PREFLIGHT = {"origin": "http://good.example", "access-control-request-method": "PUT"}


@case("CORS: a preflight from an allowed origin is answered by the proxy")
@pytest.mark.parametrize("origin", ["http://good.example", "http://shop.good.example"])
def test_a_preflight(proxy: World, origin: str) -> None:
    reply = proxy.request("OPTIONS", "/cors", {**PREFLIGHT, "origin": origin}, listener="cors")
    assert (reply.status, reply.body, proxy.upstream("a").requests) == (200, b"", [])
    assert reply.get("access-control-allow-origin") == origin
    assert reply.get("access-control-allow-methods") == "GET, PUT"
    assert reply.get("access-control-allow-headers") == "x-one, x-two"
    assert reply.get("access-control-max-age") == "600"
    assert reply.get("access-control-allow-credentials") == "true"


@case("CORS: a preflight from another origin is forwarded, unless told not to")
@pytest.mark.parametrize(("path", "forwarded"), [("/cors", True), ("/strict", False)])
def test_a_preflight_from_elsewhere(proxy: World, path: str, forwarded: bool) -> None:
    reply = proxy.request("OPTIONS", path, {**PREFLIGHT, "origin": "http://bad.example"}, listener="cors")
    assert (reply.status, len(proxy.upstream("a").requests)) == (200, int(forwarded))
    assert reply.get("access-control-allow-origin") is None


@case("CORS: OPTIONS without what makes a preflight is a request like any other")
@pytest.mark.parametrize("missing", ["origin", "access-control-request-method"])
def test_options_that_is_no_preflight(proxy: World, missing: str) -> None:
    headers = {name: value for name, value in PREFLIGHT.items() if name != missing}
    assert proxy.request("OPTIONS", "/cors", headers, listener="cors").text == "a\n"


@case("CORS: answers to an allowed origin carry the headers, others do not")
def test_answers_carry_cors_headers(proxy: World) -> None:
    reply = proxy.get("/cors", {"origin": "http://good.example"}, listener="cors")
    assert reply.get("access-control-allow-origin") == "http://good.example"
    assert reply.get("access-control-expose-headers") == "x-three"
    assert reply.get("access-control-allow-credentials") == "true"
    reply = proxy.get("/cors", {"origin": "http://bad.example"}, listener="cors")
    assert reply.get("access-control-allow-origin") is None


@case("CORS: off where no policy is, or filter_enabled is nothing")
@pytest.mark.parametrize("path", ["/plain", "/off"])
def test_cors_is_off(proxy: World, path: str) -> None:
    assert proxy.request("OPTIONS", path, PREFLIGHT, listener="cors").text == "a\n"


@case("RBAC: permissions and principals of every kind")
@pytest.mark.parametrize(
    ("name", "path", "headers", "allowed"),
    [
        ("allow-paths", "/open/x", {}, True),
        ("allow-paths", "/open?q", {}, True),
        ("allow-paths", "/other", {}, False),
        ("deny-paths", "/shut", {}, False),
        ("deny-paths", "/other", {}, True),
        ("query-aside", "/shut?q=1", {}, False),
        ("method", "/", {}, True),
        ("header", "/", {"x-user": "me"}, True),
        ("header", "/", {"x-user": "you"}, False),
        ("header", "/", {}, False),
        ("remote", "/", {"x-forwarded-for": "10.1.1.1"}, True),
        ("remote", "/", {"x-forwarded-for": "11.1.1.1"}, False),
        ("template", "/u/me/profile", {}, True),
        ("template", "/u/me/profile?q=1", {}, True),
        ("template", "/u/a.b-c=d/profile", {}, True),
        ("template", "/u//profile", {}, False),
        ("template", "/u/a/b/profile", {}, False),
        ("template", "/u/*/profile", {}, True),
        ("template", "/u/a|b/profile", {}, False),
        ("template", "/all/", {}, True),
        ("template", "/all/a/b", {}, True),
        ("template", "/all", {}, False),
        ("template", "/any/x/one.css", {}, True),
        ("template", "/any/x/onexcss", {}, False),
        ("port", "/", {}, True),
        ("not", "/open", {}, True),
        ("not", "/shut", {}, False),
        ("not", "/open", {"x-bad": "1"}, False),
        ("and-or", "/a", {"x-1": ""}, True),
        ("and-or", "/a", {"x-2": ""}, True),
        ("and-or", "/a", {}, False),
        ("and-or", "/b", {"x-1": ""}, False),
        ("authenticated", "/", {}, False),
        ("empty-allow", "/", {}, False),
        ("empty-deny", "/", {}, True),
        ("two", "/a", {}, True),
        ("two", "/b", {}, True),
        ("two", "/c", {}, False),
    ],
)
def test_rbac(proxy: World, name: str, path: str, headers: dict[str, str], allowed: bool) -> None:
    reply = proxy.get(path, headers, listener=f"rbac-{name}")
    if allowed:
        assert (reply.status, reply.log.details) == (200, "via_upstream")
    else:
        assert (reply.status, reply.text, reply.log.flags) == (403, "RBAC: access denied", "-")
        assert reply.log.details.startswith("rbac_access_denied_matched_policy[")
        assert proxy.upstream("a").requests == []


@case("RBAC: the details name the policy that denied")
def test_the_denying_policy_is_named(proxy: World) -> None:
    assert proxy.get("/shut", listener="rbac-deny-paths").log.details == "rbac_access_denied_matched_policy[p]"
    assert proxy.get("/x", listener="rbac-allow-paths").log.details == "rbac_access_denied_matched_policy[none]"


@case("RBAC: other methods")
def test_rbac_on_the_method(proxy: World) -> None:
    assert proxy.request("POST", listener="rbac-method").status == 403


@case("RBAC: the peer's address")
@pytest.mark.parametrize(("source", "allowed"), [("127.0.0.9", True), ("127.0.0.1", False)])
def test_rbac_on_the_peer(proxy: World, source: str, allowed: bool) -> None:
    assert proxy.request(source=source, listener="rbac-source").status == (200 if allowed else 403)


@case("RBAC: shadow rules deny nothing and are counted")
def test_shadow_rules_are_counted(proxy: World) -> None:
    assert proxy.get("/other", listener="rbac-shadow").status == 200
    assert proxy.get("/open", listener="rbac-shadow").status == 200
    proxy.expect_stats({"http.rbac-shadow.rbac.dry_.shadow_denied": 1, "http.rbac-shadow.rbac.dry_.shadow_allowed": 1})


@case("RBAC: enforced rules are counted")
def test_enforced_rules_are_counted(proxy: World) -> None:
    before = proxy.proxy.stats(r"^http\.rbac-authenticated\.rbac\.(allowed|denied)$")
    assert proxy.get(listener="rbac-authenticated").status == 403
    denied = before.get("http.rbac-authenticated.rbac.denied", 0) + 1
    proxy.expect_stats({"http.rbac-authenticated.rbac.denied": denied, "http.rbac-authenticated.rbac.allowed": 0})


@case("RBAC: without rules everything passes")
def test_no_rules(proxy: World) -> None:
    assert proxy.get(listener="rbac-none").status == 200


@case("Per-route filter configuration: replaces the listener's, switches the filter off")
@pytest.mark.parametrize(
    ("path", "status"), [("/own", 403), ("/free", 200), ("/disabled", 200), ("/open", 200), ("/rest", 403)]
)
def test_per_route_rbac(proxy: World, path: str, status: int) -> None:
    assert proxy.get(path, listener="rbac-route").status == status


@case("Network RBAC: a denied connection is closed")
@pytest.mark.parametrize(("source", "allowed"), [("127.0.0.9", False), ("127.0.0.1", True)])
def test_network_rbac_before_tcp_proxy(proxy: World, source: str, allowed: bool) -> None:
    with proxy.connect("net-tcp", source=source) as link:
        link.send(b"hello")
        if allowed:
            assert link.raw.read_exactly(5) == b"hello"
        else:
            assert link.closes()


@case("Network RBAC: in front of an HTTP connection manager")
def test_network_rbac_before_http(proxy: World) -> None:
    assert proxy.request(listener="net-http", source="127.0.0.1").status == 200
    with proxy.connect("net-http", source="127.0.0.9") as link:
        link.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        assert link.closes()
