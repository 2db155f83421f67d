"""Looking at heads and changing them."""

import pytest

from mosn_xds.data.codec.head import RequestHead, ResponseHead, Version, fields_of


def request() -> RequestHead:
    fields = [(b"a", b"1"), (b"b", b"2"), (b"a", b"3")]
    return RequestHead(b"GET", b"http", b"host", b"/p", Version.HTTP11, fields)


def test_repeated_fields_are_joined_and_told_apart() -> None:
    head = request()
    assert head.get(b"a") == b"1,3"
    assert head.get_all(b"a") == [b"1", b"3"]
    assert head.get(b"c") is None
    assert head.get_all(b"c") == []


@pytest.mark.parametrize(
    ("name", "value"),
    [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"host"), (b"host", b"host"), (b":path", b"/p")],
)
def test_pseudo_headers_are_answered_and_set(name: bytes, value: bytes) -> None:
    head = request()
    assert head.get(name) == value
    assert head.get_all(name) == [value]
    head.set(name, b"new")
    assert head.get(name) == b"new"
    head.add(name, b"newer")
    assert head.get(name) == b"newer"
    assert len(head.fields) == 3


def test_set_keeps_the_place_of_the_first() -> None:
    head = request()
    head.set(b"a", b"9")
    head.set(b"c", b"8")
    assert head.fields == [(b"a", b"9"), (b"b", b"2"), (b"c", b"8")]


def test_replace_and_remove_say_whether_there_was_one() -> None:
    head = request()
    assert not head.replace(b"c", b"1")
    assert head.replace(b"b", b"4")
    assert head.remove(b"a")
    assert not head.remove(b"a")
    assert head.fields == [(b"b", b"4")]


def test_value_cannot_end_its_line() -> None:
    head = request()
    head.add(b"c", b"x\r\ny: z\0")
    head.set(b"b", b"\n")
    assert head.get(b"c") == b"x  y: z "
    assert head.get(b"b") == b" "


def test_copy_is_independent_and_equal() -> None:
    head = request()
    copy = head.copy()
    assert copy == head
    copy.add(b"c", b"1")
    assert copy != head


def test_status_is_a_pseudo_header() -> None:
    head = ResponseHead(200, [])
    assert head.get(b":status") == b"200"
    head.set(b":status", b"404")
    assert head.status == 404
    assert head.copy() == head


def test_repr_shows_what_an_operator_wants() -> None:
    assert repr(request()) == "<RequestHead GET host/p HTTP/1.1, 3 fields>"
    assert repr(ResponseHead(503, [], Version.HTTP2)) == "<ResponseHead 503 HTTP/2, 0 fields>"


def test_fields_of_text() -> None:
    assert fields_of([("X-Foo", "bär")]) == [(b"x-foo", "bär".encode())]
