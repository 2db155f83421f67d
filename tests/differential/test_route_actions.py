"""What a route does to a request: redirect it, answer it, rewrite its path and host."""

import pytest

from tests.differential.bed import Bed, cluster, config, http_listener, vhost
from tests.differential.pair import case
from tests.differential.world import World
from tests.support.upstream import Upstream

REDIRECTS = vhost(
    "redirects",
    ["redirects", "redirects:80", "redirects:81", "redirects:443", "redirects:8443", "[::1]:81"],
    """
    - {match: {path: /host}, redirect: {host_redirect: other.example}}
    - {match: {path: /host-port}, redirect: {host_redirect: other.example, port_redirect: 8080}}
    - {match: {path: /port}, redirect: {port_redirect: 9090}}
    - {match: {path: /path}, redirect: {path_redirect: /new}}
    - {match: {path: /path-query}, redirect: {path_redirect: "/new?fixed=1"}}
    - {match: {path: /strip}, redirect: {path_redirect: /new, strip_query: true}}
    - {match: {prefix: /prefix}, redirect: {prefix_rewrite: /fresh}}
    - match: {prefix: /regex}
      redirect: {regex_rewrite: {pattern: {regex: "^/regex/(.*)/x"}, substitution: "/out/\\\\1"}}
    - {match: {path: /https}, redirect: {https_redirect: true}}
    - {match: {path: /to-http}, redirect: {scheme_redirect: http}}
    - {match: {path: /scheme}, redirect: {scheme_redirect: ftp}}
    - {match: {path: /https-port}, redirect: {https_redirect: true, port_redirect: 8443}}
    - {match: {path: /301}, redirect: {path_redirect: /}}
    - {match: {path: /302}, redirect: {path_redirect: /, response_code: FOUND}}
    - {match: {path: /303}, redirect: {path_redirect: /, response_code: SEE_OTHER}}
    - {match: {path: /307}, redirect: {path_redirect: /, response_code: TEMPORARY_REDIRECT}}
    - {match: {path: /308}, redirect: {path_redirect: /, response_code: PERMANENT_REDIRECT}}
    - match: {path: /with-headers}
      redirect: {path_redirect: /}
      response_headers_to_add: [{header: {key: x-added, value: here}}]
    """,
)

DIRECT = vhost(
    "direct",
    ["direct"],
    """
    - {match: {path: /text}, direct_response: {status: 200, body: {inline_string: "hello\\n"}}}
    - {match: {path: /bytes}, direct_response: {status: 201, body: {inline_bytes: "AAEC/w=="}}}
    - {match: {path: /empty}, direct_response: {status: 503}}
    - match: {path: /type}
      direct_response: {status: 418, body: {inline_string: "{}"}}
      response_headers_to_add:
      - {header: {key: content-type, value: application/json}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}
    """,
)

REWRITES = vhost(
    "rewrites",
    ["rewrites", "rewrites:81"],
    """
    - {match: {prefix: /prefix/}, route: {cluster: a, prefix_rewrite: /}}
    - {match: {prefix: /bare}, route: {cluster: a, prefix_rewrite: /other}}
    - {match: {path: /exact}, route: {cluster: a, prefix_rewrite: /exactly}}
    - {match: {path_separated_prefix: /sep}, route: {cluster: a, prefix_rewrite: /new}}
    - {match: {safe_regex: {regex: "/whole/.*"}}, route: {cluster: a, prefix_rewrite: /replaced}}
    - match: {prefix: /regex}
      route: {cluster: a, regex_rewrite: {pattern: {regex: "/([^/]+)/v([0-9])"}, substitution: "/\\\\2/\\\\1"}}
    - match: {prefix: /none}
      route: {cluster: a, regex_rewrite: {pattern: {regex: "nothing-like-it"}, substitution: "x"}}
    - {match: {path: /host}, route: {cluster: a, host_rewrite_literal: new.example}}
    - {match: {path: /host-xfh}, route: {cluster: a, host_rewrite_literal: new.example, append_x_forwarded_host: true}}
    - {match: {path: /host-header}, route: {cluster: a, host_rewrite_header: x-new-host}}
    - match: {prefix: /host-regex/}
      route:
        cluster: a
        host_rewrite_path_regex: {pattern: {regex: "^/host-regex/([a-z]+)/.*$"}, substitution: "\\\\1.example"}
    - {match: {path: /auto}, route: {cluster: named, auto_host_rewrite: true}}
    """,
)

TLS_ONLY = vhost(
    "tls-only", ["tls-only", "tls-only:80"], "[{match: {prefix: /}, route: {cluster: a}}]", require_tls="ALL"
)


BED = Bed(
    listeners=[
        http_listener("http", REDIRECTS, DIRECT, REWRITES, TLS_ONLY),
        http_listener(
            "suppressed",
            vhost("all", ["*"], "[{match: {prefix: /p}, route: {cluster: a, prefix_rewrite: /q}}]"),
            http_filters=config(
                """
                - name: envoy.filters.http.router
                  typed_config:
                    "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
                    suppress_envoy_headers: true
                """
            ),
        ),
    ],
    clusters=[
        cluster("a"),
        {
            "name": "named",
            "type": "STRICT_DNS",
            "dns_lookup_family": "V4_ONLY",
            "connect_timeout": "1s",
            "load_assignment": {
                "cluster_name": "named",
                "endpoints": [
                    {
                        "lb_endpoints": [
                            {
                                "endpoint": {
                                    "hostname": "host.name.example",
                                    "address": {"socket_address": {"address": "localhost", "port_value": "a"}},
                                }
                            }
                        ]
                    }
                ],
            },
        },
    ],
    upstreams={"a": Upstream},
)


@case("Redirect: host, port, path, prefix, regex, scheme, query")
@pytest.mark.parametrize(
    ("host", "path", "location"),
    [
        ("redirects", "/host?q=1", "http://other.example/host?q=1"),
        ("redirects:81", "/host", "http://other.example/host"),
        ("redirects:81", "/host-port", "http://other.example:8080/host-port"),
        ("redirects", "/port", "http://redirects:9090/port"),
        ("redirects:81", "/port", "http://redirects:9090/port"),
        ("[::1]:81", "/port", "http://[::1]:9090/port"),
        ("redirects", "/path?q=1", "http://redirects/new?q=1"),
        ("redirects", "/path-query?q=1", "http://redirects/new?fixed=1"),
        ("redirects", "/strip?q=1", "http://redirects/new"),
        ("redirects", "/prefix/x?q=1", "http://redirects/fresh/x?q=1"),
        ("redirects", "/regex/abc/x/y?q=1", "http://redirects/out/abc/y?q=1"),
        ("redirects", "/https?q=1", "https://redirects/https?q=1"),
        ("redirects:81", "/https", "https://redirects:81/https"),
        ("redirects", "/scheme", "ftp://redirects/scheme"),
        ("redirects:81", "/https-port", "https://redirects:8443/https-port"),
    ],
)
def test_redirect_location(proxy: World, host: str, path: str, location: str) -> None:
    reply = proxy.get(path, host=host)
    assert (reply.status, reply.get("location"), reply.body) == (301, location, b"")


@case("Redirect: default ports go when the scheme changes")
@pytest.mark.parametrize(
    ("path", "host", "proto", "location"),
    [
        ("/https", "redirects:80", "http", "https://redirects/https"),
        ("/https", "redirects:443", "https", "https://redirects:443/https"),
        ("/to-http", "redirects:443", "https", "http://redirects/to-http"),
        ("/to-http", "redirects:80", "http", "http://redirects:80/to-http"),
    ],
)
def test_the_default_port_is_dropped_with_its_scheme(
    proxy: World, path: str, host: str, proto: str, location: str
) -> None:
    reply = proxy.get(path, {"x-forwarded-proto": proto}, host=host)
    assert reply.get("location") == location


@case("Redirect: response codes")
@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirect_code(proxy: World, code: int) -> None:
    reply = proxy.get(f"/{code}", host="redirects")
    assert (reply.status, reply.log.details, reply.log.flags) == (code, "direct_response", "-")


@case("Redirect: response headers of the route are added")
def test_a_redirect_carries_the_routes_headers(proxy: World) -> None:
    assert proxy.get("/with-headers", host="redirects").get("x-added") == "here"


@case("TLS requirement of a virtual host: require_tls ALL redirects by x-forwarded-proto")
def test_plaintext_is_redirected_where_tls_is_required(proxy: World) -> None:
    reply = proxy.get("/x?y", host="tls-only")
    assert (reply.status, reply.get("location")) == (301, "https://tls-only/x?y")
    assert proxy.get("/x", host="tls-only:80").get("location") == "https://tls-only:80/x"
    assert proxy.get("/x", {"x-forwarded-proto": "https"}, host="tls-only").status == 200


@case("Direct response: status, body, content type")
@pytest.mark.parametrize(
    ("path", "status", "body", "content_type"),
    [
        ("/text", 200, b"hello\n", "text/plain"),
        ("/bytes", 201, b"\0\1\2\xff", "text/plain"),
        ("/empty", 503, b"", None),
        ("/type", 418, b"{}", "application/json"),
    ],
)
def test_direct_response(proxy: World, path: str, status: int, body: bytes, content_type: str | None) -> None:
    reply = proxy.get(path, host="direct")
    assert (reply.status, reply.body, reply.get("content-type")) == (status, body, content_type)
    assert (reply.log.details, reply.log.flags) == ("direct_response", "-")


@case("Direct response: HEAD gets the length without the body")
def test_direct_response_to_head(proxy: World) -> None:
    reply = proxy.request("HEAD", "/text", host="direct")
    assert (reply.status, reply.get("content-length"), reply.body) == (200, "6", b"")


@case("Path rewrite: prefix_rewrite and regex_rewrite, with x-envoy-original-path")
@pytest.mark.parametrize(
    ("path", "rewritten"),
    [
        ("/prefix/x?q=1", "/x?q=1"),
        ("/prefix/", "/"),
        ("/bare", "/other"),
        ("/barely", "/otherly"),
        ("/exact?q=1", "/exactly?q=1"),
        ("/sep/x", "/new/x"),
        ("/sep", "/new"),
        ("/whole/path/here?q=1", "/replaced?q=1"),
        ("/regex/v1/b/v2?a/v3", "/1/regex/2/b?a/v3"),
    ],
)
def test_path_rewrite(proxy: World, path: str, rewritten: str) -> None:
    reply = proxy.get(path, host="rewrites")
    assert (reply.seen.path, reply.seen.get("x-envoy-original-path")) == (rewritten, path)


@case("Path rewrite: a regex_rewrite that finds nothing leaves the path")
def test_a_regex_that_does_not_match_rewrites_nothing(proxy: World) -> None:
    reply = proxy.get("/none/x", host="rewrites")
    assert reply.seen.path == "/none/x"


@case("Host rewrite: host_rewrite_literal, host_rewrite_header, host_rewrite_path_regex, auto_host_rewrite")
@pytest.mark.parametrize(
    ("path", "headers", "host"),
    [
        ("/host", {}, "new.example"),
        ("/host-header", {"x-new-host": "from.header"}, "from.header"),
        ("/host-header", {}, "rewrites:81"),
        ("/host-regex/shop/x?q=1", {}, "shop.example"),
        ("/auto", {}, "host.name.example"),
    ],
)
def test_host_rewrite(proxy: World, path: str, headers: dict[str, str], host: str) -> None:
    reply = proxy.get(path, headers, host="rewrites:81")
    assert reply.seen.get("host") == host


@case("Host rewrite: append_x_forwarded_host")
def test_the_old_host_is_appended_where_asked(proxy: World) -> None:
    assert proxy.get("/host", host="rewrites").seen.get("x-forwarded-host") is None
    assert proxy.get("/host-xfh", host="rewrites").seen.get("x-forwarded-host") == "rewrites"
    reply = proxy.get("/host-xfh", {"x-forwarded-host": "first"}, host="rewrites")
    assert reply.seen.get("x-forwarded-host") == "first,rewrites"


@case("Router: suppress_envoy_headers")
def test_envoy_headers_are_suppressed_where_asked(proxy: World) -> None:
    reply = proxy.get("/p", listener="suppressed")
    assert reply.seen.path == "/q"
    assert not [name for name, _ in reply.seen.headers if name.startswith("x-envoy-")]
    assert not [name for name, _ in reply.response.headers if name.startswith("x-envoy-")]
