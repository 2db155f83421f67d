"""Bolt under any bytes, any cuts, any headers."""

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mosn_xds.data.codec.rpc import BadFrame, Framer, RpcRequest
from mosn_xds.data.codec.rpc.bolt.options import BoltOptions
from mosn_xds.data.codec.rpc.bolt.protocol import Bolt
from mosn_xds.data.codec.rpc.harness import check_bytes
from tests.support.bolt import request, response

BOLT = Bolt(BoltOptions())
FORMS: list[dict[str, Any]] = [{"proto": 1}, {"proto": 2, "switch": 1}, {"proto": 2, "ver1": 2, "switch": 1}]

form = st.sampled_from(FORMS)
text = st.binary(max_size=20)
headers = st.lists(st.tuples(text, text), max_size=8)
nullable = st.lists(st.tuples(st.none() | text, st.none() | text), max_size=8)
ids = st.integers(0, 2**32 - 1)


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """Any right frame."""
    shared: dict[str, Any] = {"id": draw(ids), "codec": draw(st.integers(0, 255)), **draw(form)}
    if draw(st.booleans()):
        shared["type_"] = draw(st.sampled_from((1, 2)))
        shared["command"] = draw(st.sampled_from((0, 1, 100)))
        shared["timeout_ms"] = draw(st.integers(-(2**31), 2**31 - 1))
        return request(draw(nullable), draw(text), **shared)
    shared["command"] = draw(st.sampled_from((0, 2)))
    return response(draw(nullable), draw(text), status=draw(st.integers(0, 0xFFFF)), **shared)


@given(st.lists(frames(), max_size=6), st.lists(st.integers(0, 2000), max_size=10))
def test_frames_are_found_however_they_are_cut(sent: list[bytes], cuts: list[int]) -> None:
    whole = b"".join(sent)
    ends = sorted(min(cut, len(whole)) for cut in cuts)
    framer = Framer(BOLT)
    found = [
        frame
        for begin, end in zip([0, *ends], [*ends, len(whole)], strict=True)
        for frame in framer.receive(whole[begin:end])
    ]
    assert (found, framer.bad, framer.pending_bytes) == (sent, "", 0)


@given(frames())
def test_a_right_frame_is_a_message_and_can_be_changed(frame: bytes) -> None:
    BOLT.from_client(frame)
    check_bytes(BOLT, frame)


@given(st.binary(max_size=100))
def test_any_bytes(data: bytes) -> None:
    check_bytes(BOLT, data)


@given(form, st.binary(max_size=60), st.binary(max_size=10), st.sampled_from((0, 1, 2, 100)), st.integers(0, 3))
def test_any_header_block(version: dict[str, Any], block: bytes, content: bytes, command: int, type_: int) -> None:
    check_bytes(BOLT, request(block, content, command=command, type_=type_, **version))
    check_bytes(BOLT, response(block, content, command=command, **version))


@given(frames(), st.data())
def test_a_frame_with_another_byte_in_it(frame: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(frame) - 1))
    check_bytes(BOLT, frame[:at] + bytes((data.draw(st.integers(0, 255)),)) + frame[at + 1 :])


@given(frames(), st.data())
def test_a_frame_that_is_too_short_or_too_long_is_none(frame: bytes, data: st.DataObject) -> None:
    for wrong in (
        frame[: data.draw(st.integers(0, len(frame) - 1))],
        frame + data.draw(st.binary(min_size=1, max_size=9)),
    ):
        for parse in (BOLT.from_client, BOLT.from_server):
            with pytest.raises(BadFrame):
                parse(wrong)


@given(form, nullable, headers, text, ids)
def test_headers_are_what_they_were_made(
    version: dict[str, Any], before: Any, after: Any, content: bytes, id: int
) -> None:
    call = BOLT.from_client(request(before, content, id=id, **version))
    assert isinstance(call, RpcRequest)
    assert call.fields == [(name or b"", value or b"") for name, value in before]
    assert BOLT.edit_request(call) == call.frame
    call.fields = after
    edited = BOLT.edit_request(call)
    again = BOLT.from_client(edited)
    assert again.fields == after
    if not any(name is None or value is None for name, value in before):
        assert edited == request(after, content, id=id, **version)


@given(form, nullable, ids, ids)
def test_ids_come_and_go(version: dict[str, Any], fields: Any, id: int, other: int) -> None:
    for make in (request, response):
        assert BOLT.with_id(make(fields, b"c", id=id, **version), other) == make(fields, b"c", id=other, **version)


@settings(max_examples=30)
@given(form, st.integers(0, 0xFFFF), st.integers(0, 0xFFFF), st.integers(0, 2**32 - 1))
def test_a_length_is_the_sum_of_what_the_head_says(
    version: dict[str, Any], name: int, block: int, content: int
) -> None:
    crc = 4 if version.get("ver1") == 2 else 0
    for frame, fixed in (
        (request(name=b"", **version), 22 if version["proto"] == 1 else 24),
        (response(name=b"", **version), 20 if version["proto"] == 1 else 22),
    ):
        head = frame[: fixed - 8] + struct.pack(">HHI", name, block, content)
        assert BOLT.frame_bytes(head, 0) == fixed + name + block + content + crc
        assert BOLT.frame_bytes(b"\xff" + head, 1) == fixed + name + block + content + crc
