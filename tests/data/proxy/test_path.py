"""Canonical paths. Every pair here is what a real Envoy 1.40 makes of the path."""

import pytest

from mosn_xds.data.proxy.path import PathPolicy, merge_slashes, normalize_path, unescape_slashes
from mosn_xds.spec.listener import EscapedSlashes, HttpConnectionManager
from tests.support.heads import request

UNRESERVED = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
ESCAPED_WHEN_RAW = '"<>^`{|}'


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/xyz", "/xyz"),
        ("/x/y/z", "/x/y/z"),
        ("/a/b/../c", "/a/c"),
        ("/a/b/./c", "/a/b/c"),
        ("a/b/../c", "/a/c"),
        ("..", "/"),
        ("/a/b/../../../../c", "/c"),
        ("/a/..\\c", "/c"),
        ("/%c0%af", "/%c0%af"),
        ("/%5c%25", "/%5c%25"),
        ("/a/b/%2E%2E/c", "/a/c"),
        ("/a/b/%2e./c", "/a/c"),
        ("/a/b/%2E/c", "/a/b/c"),
        ("/../a/b", "/a/b"),
        ("/A/B/C", "/A/B/C"),
        ("/a/%2F%2f/c", "/a/%2F%2f/c"),
        ("/.", "/"),
        ("/..", "/"),
        ("/a/.", "/a/"),
        ("/a/..", "/"),
        ("/a/../", "/"),
        ("/..a", "/..a"),
        ("/...", "/..."),
        ("/a.", "/a."),
        ("/.a", "/.a"),
        ("/a\\b", "/a/b"),
        ("//a", "//a"),
        ("/a//../b", "/a/b"),
        ("/a/.//b", "/a//b"),
        ("/a/..;/b", "/b"),
        ("/a/..;x=1/b", "/b"),
        ("/.;%7e%2E%2e", "/"),
        ("/%2E;%7e", "/.;~"),
        ("/a;/../b", "/b"),
        ("/%", "/%"),
        ("/%2", "/%2"),
        ("/%g1", "/%g1"),
        ("/%%41", "/%A"),
        ("/%a%41a", "/%25aAa"),
        ("/%252e", "/%252e"),
        ("/%7e%7E%2d", "/~~-"),
        ("/[a]", "/[a]"),
        ("/%00", None),
        ("/xyz/AAAAA%%0000/abc", None),
        ("/xyz/.%00../abc", None),
        ("/\0", None),
    ],
)
def test_normalisation(path, expected):
    assert normalize_path(path.encode()) == (expected.encode() if expected is not None else None)


def test_escapes_of_unreserved_characters_only_are_decoded():
    for code in range(1, 256):
        escape = f"/a%{code:02x}b"
        character = chr(code)
        expected = f"/a{character}b" if character in UNRESERVED else escape
        assert normalize_path(escape.encode()) == expected.encode(), escape


def test_what_a_path_must_not_hold_is_escaped():
    for character in ESCAPED_WHEN_RAW:
        assert normalize_path(f"/a{character}b".encode()) == b"/a%%%02Xb" % ord(character)


@pytest.mark.parametrize("path", ["/a/b/../c", "/%41%2e/..;x/%zz", "/a\\%5c//x", '/"|^', "/%25%2541"])
def test_a_normal_path_stays_as_it_is(path):
    once = normalize_path(path.encode())
    assert once is not None
    assert normalize_path(once) == once


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("", ""),
        ("a//b/c", "a/b/c"),
        ("/a//b/c/", "/a/b/c/"),
        ("/a", "/a"),
        ("//a/b/c", "/a/b/c"),
        ("/a/b/c//", "/a/b/c/"),
        ("/a///b/c", "/a/b/c"),
        ("/", "/"),
        ("//", "//"),
        ("////", "//"),
    ],
)
def test_runs_of_slashes_are_merged(path, expected):
    assert merge_slashes(path.encode()) == expected.encode()


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/a%2Fb", "/a/b"), ("/a%2fb%5C%5c", "/a/b\\\\"), ("/a%2", "/a%2"), ("/%252F", "/%252F"), ("/a", "/a")],
)
def test_escaped_slashes_are_decoded(path, expected):
    assert unescape_slashes(path.encode()) == expected.encode()


def outcome(path: str, *headers: tuple[str, str], **options: object):
    head = request(path, *headers)
    reply = PathPolicy(HttpConnectionManager(stat_prefix="x", **options)).apply(head)
    return (head.path.decode(), None) if reply is None else (head.path.decode(), reply.status)


def test_without_options_only_a_fragment_is_refused():
    assert outcome("/a/../b//c%2f?x=../y") == ("/a/../b//c%2f?x=../y", None)
    assert outcome("/a#b") == ("/a#b", 400)
    assert outcome("/a?b#c") == ("/a?b#c", 400)


def test_the_query_is_left_alone():
    options = {"normalize_path": True, "merge_slashes": True, "escaped_slashes": EscapedSlashes.UNESCAPE_AND_FORWARD}
    assert outcome("/a//b/../c%2Fd?x=/../%2F//", **options) == ("/a/c/d?x=/../%2F//", None)


def test_a_nul_is_refused():
    assert outcome("/a%00", normalize_path=True)[1] == 400


def test_slashes_are_merged_after_normalisation():
    assert outcome("/a/..//b", normalize_path=True, merge_slashes=True) == ("/b", None)
    assert outcome("/a/..//b", normalize_path=True) == ("//b", None)


def test_escaped_slashes_can_be_rejected_redirected_or_forwarded():
    reject, redirect, forward = (
        EscapedSlashes.REJECT_REQUEST,
        EscapedSlashes.UNESCAPE_AND_REDIRECT,
        EscapedSlashes.UNESCAPE_AND_FORWARD,
    )
    assert outcome("/a%2Fb", escaped_slashes=reject)[1] == 400
    assert outcome("/ab?c=%2F", escaped_slashes=reject) == ("/ab?c=%2F", None)
    assert outcome("/a%2Fb", escaped_slashes=redirect) == ("/a/b", 307)
    assert outcome("/a%2Fb", ("content-type", "application/grpc"), escaped_slashes=redirect)[1] == 400
    assert outcome("/a%5Cb", escaped_slashes=forward) == ("/a\\b", None)


def test_a_redirect_names_the_new_path_with_its_query():
    policy = PathPolicy(HttpConnectionManager(stat_prefix="x", escaped_slashes=EscapedSlashes.UNESCAPE_AND_REDIRECT))
    reply = policy.apply(request("/a%2Fb?c=d"))
    assert reply is not None
    assert reply.fields == [(b"location", b"/a/b?c=d")]
    assert reply.details == "path_normalization_failed"
