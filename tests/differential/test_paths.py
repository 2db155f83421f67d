"""What becomes of a request's path before a route is chosen: normalisation, slashes, escapes, forms of the target."""

import pytest

from tests.differential.bed import Bed, cluster, http_listener, vhost
from tests.differential.pair import case
from tests.differential.world import World
from tests.support.upstream import Upstream

EVERYTHING = vhost("all", ["*"], "[{name: all, match: {prefix: /}, route: {cluster: a}}]")


BED = Bed(
    listeners=[
        http_listener("http", EVERYTHING),
        http_listener("normal", EVERYTHING, normalize_path=True),
        http_listener("merge", EVERYTHING, merge_slashes=True),
        http_listener("both", EVERYTHING, normalize_path=True, merge_slashes=True),
        http_listener("keep", EVERYTHING, path_with_escaped_slashes_action="KEEP_UNCHANGED"),
        http_listener("reject", EVERYTHING, path_with_escaped_slashes_action="REJECT_REQUEST"),
        http_listener("redirect", EVERYTHING, path_with_escaped_slashes_action="UNESCAPE_AND_REDIRECT"),
        http_listener("forward", EVERYTHING, path_with_escaped_slashes_action="UNESCAPE_AND_FORWARD"),
        http_listener(
            "unescape-normal",
            EVERYTHING,
            path_with_escaped_slashes_action="UNESCAPE_AND_FORWARD",
            normalize_path=True,
            merge_slashes=True,
        ),
        http_listener("no-absolute", EVERYTHING, http_protocol_options={"allow_absolute_url": False}),
    ],
    clusters=[cluster("a")],
    upstreams={"a": Upstream},
)


@case("Path normalisation: off by default")
def test_paths_are_left_alone_by_default(proxy: World) -> None:
    reply = proxy.get("/a/../b//c/./%7Ed%2fe\\f?x=/../y")
    assert reply.seen.path == "/a/../b//c/./%7Ed%2fe\\f?x=/../y"


@case("Path normalisation: normalize_path")
@pytest.mark.parametrize(
    ("path", "normal"),
    [
        ("/a/../b", "/b"),
        ("/a/./b", "/a/b"),
        ("/a/%2e%2E/b", "/b"),
        ("/a/b/..", "/a/"),
        ("/../../etc", "/etc"),
        ("/a\\b", "/a/b"),
        ("/a%5cb", "/a%5cb"),
        ("/%7Euser/%41", "/~user/A"),
        ("/a%2Fb%2fc", "/a%2Fb%2fc"),
        ("/a//b", "/a//b"),
        ("/a/../b?x=/../y", "/b?x=/../y"),
        ("/a%20b", "/a%20b"),
        ("/", "/"),
        ("/a/%zz", "/a/%zz"),
        ("/caf%C3%A9", "/caf%C3%A9"),
    ],
)
def test_dot_segments_and_escapes_are_normalised(proxy: World, path: str, normal: str) -> None:
    reply = proxy.get(path, listener="normal")
    assert (reply.status, reply.seen.path, reply.log.path) == (200, normal, normal)


@case("Path normalisation: a path that cannot be normalised is refused")
def test_an_escaped_nul_is_refused(proxy: World) -> None:
    reply = proxy.get("/a%00b", listener="normal")
    assert (reply.status, reply.log.details) == (400, "path_normalization_failed")


@case("Path normalisation: merge_slashes")
@pytest.mark.parametrize(
    ("path", "merged"),
    [
        ("//a///b", "/a/b"),
        ("/a//b//", "/a/b/"),
        ("/a/b?x=//", "/a/b?x=//"),
        ("///", "//"),
        ("/a/../b", "/a/../b"),
    ],
)
def test_slashes_are_merged(proxy: World, path: str, merged: str) -> None:
    assert proxy.get(path, listener="merge").seen.path == merged


@case("Path normalisation: dot segments first, then slashes")
def test_normalisation_comes_before_merging(proxy: World) -> None:
    assert proxy.get("/a//../b", listener="both").seen.path == "/a/b"


@case("Escaped slashes: KEEP_UNCHANGED")
def test_escaped_slashes_are_kept(proxy: World) -> None:
    assert proxy.get("/a%2Fb%5Cc", listener="keep").seen.path == "/a%2Fb%5Cc"


@case("Escaped slashes: REJECT_REQUEST")
@pytest.mark.parametrize("path", ["/a%2Fb", "/a%2fb", "/a%5Cb", "/a%5cb"])
def test_escaped_slashes_are_refused(proxy: World, path: str) -> None:
    reply = proxy.get(path, listener="reject")
    assert (reply.status, reply.log.details) == (400, "path_normalization_failed")


@case("Escaped slashes: REJECT_REQUEST looks at the path alone")
def test_escaped_slashes_in_the_query_are_not_refused(proxy: World) -> None:
    assert proxy.get("/a?b=%2F", listener="reject").status == 200


@case("Escaped slashes: UNESCAPE_AND_REDIRECT")
def test_escaped_slashes_are_redirected(proxy: World) -> None:
    reply = proxy.get("/a%2Fb%5Cc?q=%2F", listener="redirect", host="shop:81")
    assert (reply.status, reply.get("location")) == (307, "/a/b\\c?q=%2F")
    assert reply.log.details == "path_normalization_failed"


@case("Escaped slashes: gRPC is refused where others are redirected")
def test_escaped_slashes_of_grpc_are_refused(proxy: World) -> None:
    reply = proxy.request("POST", "/a%2Fb", {"content-type": "application/grpc"}, listener="redirect")
    assert (reply.status, reply.get("grpc-status")) == (200, "13")


@case("Escaped slashes: UNESCAPE_AND_FORWARD")
def test_escaped_slashes_are_unescaped(proxy: World) -> None:
    assert proxy.get("/a%2Fb%5cc?q=%2F", listener="forward").seen.path == "/a/b\\c?q=%2F"


@case("Escaped slashes: unescaping comes before normalisation and merging")
def test_unescaped_slashes_are_normalised(proxy: World) -> None:
    assert proxy.get("/a%2F..%2f%2Fb%5Cc", listener="unescape-normal").seen.path == "/b/c"


@case("Request target: a fragment in the path is refused")
def test_a_fragment_is_refused(proxy: World) -> None:
    reply = proxy.get("/a#b")
    assert (reply.status, reply.closed, reply.log.details) == (400, True, "path_normalization_failed")


@case("Request target: absolute form sets the host and leaves the path")
def test_absolute_form_is_taken_apart(proxy: World) -> None:
    reply = proxy.get("http://other.example:81/p?q=1", host="ignored.example")
    assert (reply.seen.path, reply.seen.get("host")) == ("/p?q=1", "other.example:81")


@case("Request target: absolute form without a path means the root")
def test_absolute_form_without_a_path(proxy: World) -> None:
    assert proxy.get("http://other.example").seen.path == "/"


@case("Request target: allow_absolute_url off")
def test_absolute_form_is_refused_where_switched_off(proxy: World) -> None:
    reply = proxy.get("http://other.example/p", listener="no-absolute")
    assert (reply.status, reply.log.details) == (404, "absolute_path_rejected")


@case("Request target: a target without a leading slash")
@pytest.mark.parametrize(
    ("target", "status", "closed", "details"),
    [("*", 404, False, "absolute_path_rejected"), ("a/b", 400, True, "http1.codec_error")],
)
def test_a_target_without_a_slash_finds_nothing(
    proxy: World, target: str, status: int, closed: bool, details: str
) -> None:
    reply = proxy.request("OPTIONS", target)
    assert (reply.status, reply.closed, proxy.logs()[0].details) == (status, closed, details)
