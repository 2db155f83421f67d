"""Path and host rewrites, as the upstream of a real Envoy 1.40 sees them."""

import pytest

from mosn_xds.base.errors import ConfigError
from mosn_xds.data.proxy.rewrite import HostRewrite, compile_path_rewrite, rewrite_host, rewrite_path
from mosn_xds.spec.common import RegexRewrite
from mosn_xds.spec.route import PathKind, RouteAction, RouteMatch
from tests.support.heads import request

PREFIX, EXACT, REGEX, SEPARATED, _ = PathKind


@pytest.mark.parametrize(
    ("match", "prefix", "regex", "path", "expected"),
    [
        (RouteMatch(PREFIX, "/a"), "/pre", None, "/a/b?q=1", "/pre/b?q=1"),
        (RouteMatch(PREFIX, "/a"), "/pre", None, "/aa", "/prea"),
        (RouteMatch(PREFIX, "/a/"), "/", None, "/a/b", "/b"),
        (RouteMatch(PREFIX, "/a"), "nos", None, "/a/b", "nos/b"),
        (RouteMatch(EXACT, "/a"), "/pre", None, "/a?q", "/pre?q"),
        (RouteMatch(SEPARATED, "/a"), "/pre", None, "/a/b?q", "/pre/b?q"),
        (RouteMatch(REGEX, "/a.*"), "/pre", None, "/abc?q", "/pre?q"),
        (RouteMatch(PREFIX, "/"), "", RegexRewrite("/([^/]+)/(.*)", r"/\2/\1"), "/one/two?/x/", "/two/one?/x/"),
        (RouteMatch(PREFIX, "/"), "", RegexRewrite("/b*", ""), "/b/a?x", "a?x"),
    ],
)
def test_a_rewritten_path_keeps_its_query_and_tells_the_old_one(match, prefix, regex, path, expected):
    rewrite = compile_path_rewrite(match, prefix, regex)
    assert rewrite is not None
    head = request(path)
    rewrite_path(head, rewrite, keep_original=True)
    assert head.path == expected.encode()
    assert head.get(b"x-envoy-original-path") == path.encode()


def test_a_regex_that_matches_nothing_still_counts_as_a_rewrite():
    rewrite = compile_path_rewrite(RouteMatch(PREFIX, "/"), "", RegexRewrite("zzz", "y"))
    assert rewrite is not None
    head = request("/nz")
    rewrite_path(head, rewrite, keep_original=True)
    assert (head.path, head.get(b"x-envoy-original-path")) == (b"/nz", b"/nz")


def test_a_regex_that_leaves_nothing_rewrites_nothing():
    rewrite = compile_path_rewrite(RouteMatch(PREFIX, "/"), "", RegexRewrite("/b*", ""))
    assert rewrite is not None
    head = request("/bbb?x")
    rewrite_path(head, rewrite, keep_original=True)
    assert (head.path, head.get(b"x-envoy-original-path")) == (b"/bbb?x", None)


def test_the_old_path_is_not_told_when_envoys_headers_are_suppressed():
    rewrite = compile_path_rewrite(RouteMatch(PREFIX, "/a"), "/b", None)
    assert rewrite is not None
    head = request("/a")
    rewrite_path(head, rewrite, keep_original=False)
    assert (head.path, head.fields) == (b"/b", [])


def test_a_route_without_a_rewrite_has_none():
    assert compile_path_rewrite(RouteMatch(PREFIX, "/a"), "", None) is None
    assert HostRewrite.of(RouteAction("c")) is None


@pytest.mark.parametrize(
    ("action", "headers", "host", "forwarded"),
    [
        (RouteAction("c", host_rewrite="lit.com"), [], "lit.com", None),
        (RouteAction("c", host_rewrite="lit.com", append_x_forwarded_host=True), [], "lit.com", "h.com"),
        (
            RouteAction("c", host_rewrite="lit.com", append_x_forwarded_host=True),
            [("x-forwarded-host", "o.com")],
            "lit.com",
            "o.com,h.com",
        ),
        (
            RouteAction("c", host_rewrite="lit.com", append_x_forwarded_host=True),
            [("x-forwarded-host", "o.com,h.com")],
            "lit.com",
            "o.com,h.com",
        ),
        (RouteAction("c", host_rewrite_header="X-H"), [("x-h", "by.header")], "by.header", None),
        (RouteAction("c", host_rewrite_header="x-h"), [], "h.com", None),
        (RouteAction("c", host_rewrite_path_regex=RegexRewrite("^/(.+)/.*$", r"\1")), [], "one", None),
    ],
)
def test_host_rewrites(action, headers, host, forwarded):
    head = request("/one/two?x", *headers)
    rewrite = HostRewrite.of(action)
    assert rewrite is not None
    rewrite.apply(head, keep_original=True)
    assert head.authority == host.encode()
    assert head.get(b"x-forwarded-host") == (forwarded.encode() if forwarded else None)
    assert head.get(b"x-envoy-original-host") == (b"h.com" if host != "h.com" else None)


def test_the_host_of_the_chosen_endpoint_can_be_put_in():
    head = request()
    rewrite_host(head, b"pod.local", append_forwarded=False, keep_original=False)
    assert (head.authority, head.fields) == (b"pod.local", [])


def test_a_bad_expression_is_refused():
    with pytest.raises(ConfigError, match="missing"):
        HostRewrite.of(RouteAction("c", host_rewrite_path_regex=RegexRewrite("(", "")))
