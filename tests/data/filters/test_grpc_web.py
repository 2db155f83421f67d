"""grpc_web: bodies in text however they are cut, and trailers as the end of the body."""

import base64
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mosn_xds.data.codec.head import RequestHead, ResponseHead, Version
from mosn_xds.data.filters.api import Reply
from mosn_xds.data.filters.grpc_web import GrpcWebFilter
from mosn_xds.data.filters.harness import FilterHarness

TEXT = b"application/grpc-web-text"


def begin(kind: bytes, *fields: tuple[bytes, bytes]) -> tuple[GrpcWebFilter, Any]:
    found = GrpcWebFilter()
    head = RequestHead(b"POST", b"http", b"a", b"/s/m", Version.HTTP11, [(b"content-type", kind), *fields])
    stream = SimpleNamespace(request=head, state={})
    found.on_request(stream, False)
    return found, stream


def cut(data: bytes, at: list[int]) -> list[bytes]:
    places = sorted(one % (len(data) + 1) for one in at)
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


@given(st.binary(max_size=60), st.lists(st.integers(0, 200), max_size=5))
def test_text_of_requests_is_read_however_it_is_cut(body: bytes, at: list[int]) -> None:
    found, stream = begin(TEXT)
    pieces = cut(base64.b64encode(body), at)
    read = [found.on_request_data(stream, piece, index == len(pieces) - 1) for index, piece in enumerate(pieces)]
    assert b"".join(read) == body  # type: ignore[arg-type]


@given(st.binary(min_size=1, max_size=60), st.lists(st.integers(0, 200), max_size=5))
def test_text_of_responses_is_base64_of_everything(body: bytes, at: list[int]) -> None:
    found, stream = begin(TEXT, (b"accept", TEXT))
    found.on_response(stream, ResponseHead(200, [(b"content-type", b"application/grpc")]), False)
    sent = b"".join(found.on_response_data(stream, piece, False) or b"" for piece in cut(body, at))
    sent += found.on_response_trailers(stream, [(b"grpc-status", b"0")]) or b""
    assert base64.b64decode(sent, validate=True) == body + b"\x80\x00\x00\x00\x0fgrpc-status:0\r\n"


def test_what_is_no_text_is_refused() -> None:
    found, stream = begin(TEXT)
    assert isinstance(found.on_request_data(stream, b"!!!!", False), Reply)
    found, stream = begin(TEXT)
    assert isinstance(found.on_request_data(stream, b"AAAAA", True), Reply)


def test_other_requests_are_left_alone() -> None:
    found, stream = begin(b"application/grpc")
    assert stream.request.fields == [(b"content-type", b"application/grpc")]
    assert found.on_request_data(stream, b"x", True) is None
    assert found.on_response_data(stream, b"x", True) is None
    assert found.on_response_trailers(stream, [(b"grpc-status", b"0")]) is None


def test_a_call_through_a_chain() -> None:
    harness = FilterHarness(GrpcWebFilter())
    kind = (b"content-type", b"application/grpc-web")
    stream = harness.request(b"POST", b"/s/m", [kind], b"\x00\x00\x00\x00\x00")
    head, body = stream.respond(200, [(b"content-type", b"application/grpc")], b"abc", [(b"grpc-status", b"0")])
    assert head.get(b"content-type") == b"application/grpc-web+proto"
    assert body == b"abc\x80\x00\x00\x00\x0fgrpc-status:0\r\n"
