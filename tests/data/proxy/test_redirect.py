"""Where redirects point, as a real Envoy 1.40 answers."""

import pytest

from mosn_xds.data.proxy.redirect import Redirect, tls_redirect
from mosn_xds.spec.common import RegexRewrite
from mosn_xds.spec.route import PathKind, RedirectAction, RouteMatch, TlsRequirement
from tests.support.heads import request

PREFIX, EXACT, REGEX, SEPARATED, _ = PathKind
ROOT, A = RouteMatch(PREFIX, "/"), RouteMatch(PREFIX, "/a")
HTTP = ("x-forwarded-proto", "http")


@pytest.mark.parametrize(
    ("match", "action", "host", "path", "location"),
    [
        (ROOT, RedirectAction(https=True), "c.com", "/a?q=1", "https://c.com/a?q=1"),
        (ROOT, RedirectAction(https=True), "c.com:80", "/", "https://c.com/"),
        (ROOT, RedirectAction(https=True), "c.com:443", "/", "https://c.com:443/"),
        (ROOT, RedirectAction(https=True), "c.com:8080", "/", "https://c.com:8080/"),
        (ROOT, RedirectAction(https=True), "[::1]:80", "/", "https://[::1]/"),
        (ROOT, RedirectAction(https=True), "[::1]", "/", "https://[::1]/"),
        (ROOT, RedirectAction(https=True, port=8443), "c.com:8080", "/", "https://c.com:8443/"),
        (ROOT, RedirectAction(scheme="ftp"), "c.com:80", "/x", "ftp://c.com/x"),
        (ROOT, RedirectAction(host="new.com"), "c.com:80", "/x?y", "http://new.com/x?y"),
        (ROOT, RedirectAction(host="new.com:99", port=80), "c.com", "/", "http://new.com:99:80/"),
        (ROOT, RedirectAction(port=81), "c.com", "/", "http://c.com:81/"),
        (ROOT, RedirectAction(), "c.com:80", "/", "http://c.com:80/"),
        (A, RedirectAction(path="/p"), "c.com", "/a/b?q", "http://c.com/p?q"),
        (A, RedirectAction(path="/p?z=1"), "c.com", "/a/b?q", "http://c.com/p?z=1"),
        (A, RedirectAction(path="/p?z=1", strip_query=True), "c.com", "/a?q", "http://c.com/p?z=1"),
        (A, RedirectAction(path="/p", strip_query=True), "c.com", "/a?q", "http://c.com/p"),
        (A, RedirectAction(path="nos"), "c.com", "/a?q", "http://c.com/nos?q"),
        (A, RedirectAction(prefix_rewrite="/pre"), "c.com", "/a/b?q", "http://c.com/pre/b?q"),
        (A, RedirectAction(prefix_rewrite="/pre", strip_query=True), "c.com", "/a/b?q", "http://c.com/pre/b"),
        (RouteMatch(EXACT, "/a"), RedirectAction(prefix_rewrite="/pre"), "c.com", "/a?q", "http://c.com/pre?q"),
        (RouteMatch(REGEX, "/a.*"), RedirectAction(prefix_rewrite="/pre"), "c.com", "/ab?q", "http://c.com/pre?q"),
        (
            ROOT,
            RedirectAction(regex_rewrite=RegexRewrite("/(a)(.*)", r"/\2/\1\0")),
            "c.com",
            "/ab?q",
            "http://c.com/b/a/ab?q",
        ),
        (ROOT, RedirectAction(regex_rewrite=RegexRewrite("/b*", "")), "c.com", "/bbab", "http://c.com/ab"),
        (ROOT, RedirectAction(regex_rewrite=RegexRewrite("/b*", "")), "c.com", "/bb", "http://c.com/bb"),
    ],
)
def test_location(match, action, host, path, location):
    assert Redirect(match, action).location(request(path, HTTP, host=host)) == location.encode()


def test_behind_a_tls_terminator_port_443_goes_when_the_scheme_changes():
    head = request("/", ("x-forwarded-proto", "https"), host="c.com:443")
    assert Redirect(ROOT, RedirectAction(scheme="http")).location(head) == b"http://c.com/"


def test_a_virtual_host_may_demand_tls():
    plain, secure = request("/x?y", HTTP, host="t.com:80"), request("/x", ("x-forwarded-proto", "https"))
    internal = request("/x", HTTP, ("x-envoy-internal", "true"))
    assert tls_redirect(plain, TlsRequirement.ALL) == b"https://t.com:80/x?y"
    assert tls_redirect(plain, TlsRequirement.EXTERNAL_ONLY) == b"https://t.com:80/x?y"
    assert tls_redirect(plain, TlsRequirement.NONE) is None
    assert tls_redirect(secure, TlsRequirement.ALL) is None
    assert tls_redirect(internal, TlsRequirement.EXTERNAL_ONLY) is None
    assert tls_redirect(internal, TlsRequirement.ALL) is not None
