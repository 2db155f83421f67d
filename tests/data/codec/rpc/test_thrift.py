"""Thrift: binary and compact messages in frames, how calls end, and what the proxy answers."""

import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mosn_xds.data.codec.rpc import BadFrame, Framer, Kind, PoolMode, RpcOptions, RpcRequest, RpcResponse, Sniff
from mosn_xds.data.codec.rpc.harness import Row, check_bytes, check_protocol
from mosn_xds.data.codec.rpc.protocol import PROTOCOLS
from mosn_xds.data.codec.rpc.thrift import Thrift
from mosn_xds.spec.extensions import Extensions

THRIFT = Thrift(RpcOptions())
GOLDEN = json.loads((Path(__file__).parent / "golden" / "thrift.json").read_text())
CALL, REPLY, EXCEPTION, ONEWAY = 1, 2, 3, 4
ARGUMENTS = b"\x0b\x00\x01\x00\x00\x00\x02me\x00"


def framed(message: bytes) -> bytes:
    return struct.pack(">I", len(message)) + message


def binary(kind: int, name: bytes, *, id: int = 7, body: bytes = ARGUMENTS) -> bytes:
    return framed(struct.pack(">HBBI", 0x8001, 0, kind, len(name)) + name + struct.pack(">I", id) + body)


def varint(number: int) -> bytes:
    groups = b""
    while number >= 0x80:
        groups += bytes((number & 0x7F | 0x80,))
        number >>= 7
    return groups + bytes((number,))


def compact(kind: int, name: bytes, *, id: int = 7, body: bytes = b"\x18\x02me\x00", version: int = 1) -> bytes:
    return framed(bytes((0x82, kind << 5 | version)) + varint(id) + varint(len(name)) + name + body)


def expected(row: dict) -> Row:
    """A recorded frame with what its peers were asked."""
    data = bytes.fromhex(row["hex"])
    name = next(
        name
        for name in (b"Echo:who", b"echo", b"fail", b"slow", b"note", b"who", b"nothing", b"none", b"")
        if name in data
    )
    about = f"{row['about']}, {row['client']}, from {row['from']}"
    if row["from"] == "server":
        return Row(about, data)
    service, _, method = name.rpartition(b":")
    kind = Kind.ONEWAY if "one-way" in row["about"] else Kind.REQUEST
    return Row(about, data, kind=kind, service=service, method=method or name, path=name, properties=[])


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: f"{row['about']}, {row['client']}, {row['from']}")
def test_frames_of_real_peers(row: dict) -> None:
    check_protocol(THRIFT, **{row["from"]: [expected(row)]})


@pytest.mark.parametrize("message", [binary, compact])
def test_calls(message) -> None:
    long = b"n" * 300
    check_protocol(
        THRIFT,
        client=[
            Row(
                "call",
                message(CALL, b"echo"),
                id=7,
                service=b"",
                method=b"echo",
                path=b"echo",
                properties=[],
                timeout_s=None,
            ),
            Row("one-way", message(ONEWAY, b"note"), kind=Kind.ONEWAY, method=b"note"),
            Row("of a service", message(CALL, b"Echo:who"), service=b"Echo", method=b"who", path=b"Echo:who"),
            Row("of a service, a colon more", message(CALL, b"a:b:c"), service=b"a", method=b"b:c"),
            Row("no name", message(CALL, b""), method=b""),
            Row("a long name", message(CALL, long), method=long),
            Row("no arguments", message(CALL, b"who", body=b"\0"), method=b"who"),
            *(
                Row(f"id {id}", message(CALL, b"echo", id=id), id=id)
                for id in (0, 1, 127, 128, 16384, 2**31, 2**32 - 1)
            ),
        ],
        replies={400: 400, 403: 500, 404: 404, 429: 500, 500: 500, 502: 500, 503: 500, 504: 500},
    )


@pytest.mark.parametrize("message", [binary, compact])
@pytest.mark.parametrize("kind", [0, 2, 3, 5, 6, 7])
def test_what_is_no_call(message, kind: int) -> None:
    check_protocol(THRIFT, client=[Row("no call", message(kind, b"echo"), bad="thrift_no_call")])


@pytest.mark.parametrize("message", [binary, compact])
@pytest.mark.parametrize("kind", [0, 1, 4, 5, 6, 7])
def test_what_is_no_reply(message, kind: int) -> None:
    check_protocol(THRIFT, server=[Row("no reply", message(kind, b"echo"), bad="thrift_no_reply")])


def test_replies() -> None:
    ends = [
        ("a value", binary, b"\x0b\x00\x00\x00\x00\x00\x02me\x00", b"value"),
        ("nothing", binary, b"\x00", b"void"),
        ("an exception", binary, b"\x0c\x00\x01\x00\x00", b"exception"),
        ("the 300th exception", binary, b"\x0c\x01\x2c\x00\x00", b"exception"),
        ("a value", compact, b"\x08\x00\x02me\x00", b"value"),
        ("nothing", compact, b"\x00", b"void"),
        ("an exception", compact, b"\x1c\x00\x00", b"exception"),
        ("the 300th exception", compact, b"\x0c\xd8\x04\x00\x00", b"exception"),
    ]
    rows = [
        Row(
            name,
            message(REPLY, b"echo", body=body),
            id=7,
            status=200,
            code=2,
            properties=[],
            get={b"result": result, b"no": None},
        )
        for name, message, body, result in ends
    ]
    cut_off = [
        Row("no struct", message(REPLY, b"echo", body=b""), bad="thrift_truncated") for message in (binary, compact)
    ]
    check_protocol(THRIFT, server=[*rows, *cut_off])


STATUSES = {
    0: 500,
    1: 404,
    2: 400,
    3: 400,
    4: 400,
    5: 500,
    6: 500,
    7: 400,
    8: 400,
    9: 400,
    10: 400,
    11: 500,
    2**31: 500,
}


@pytest.mark.parametrize("number", STATUSES)
def test_application_exceptions(number: int) -> None:
    text, kind = b"\x0b\x00\x01\x00\x00\x00\x03why", b"\x08\x00\x02" + struct.pack(">I", number)
    compact_kind = varint(number << 1 & 0xFFFFFFFF)
    bodies = [
        ("text and type", binary(EXCEPTION, b"echo", body=text + kind + b"\0")),
        ("type and text", binary(EXCEPTION, b"echo", body=kind + text + b"\0")),
        ("type", binary(EXCEPTION, b"echo", body=kind + b"\0")),
        ("text and type", compact(EXCEPTION, b"echo", body=b"\x18\x03why\x15" + compact_kind + b"\0")),
        ("type", compact(EXCEPTION, b"echo", body=b"\x25" + compact_kind + b"\0")),
    ]
    status = STATUSES[number]
    if number == 2**31:
        bodies = bodies[:3]
    check_protocol(
        THRIFT,
        server=[Row(name, data, id=7, status=status, code=3, get={b"result": b"exception"}) for name, data in bodies],
    )


@pytest.mark.parametrize("body", [b"", b"\0", b"\x0b\x00\x01\x7f\xff\xff\xff", b"\x02\x00\x05\x01\0"])
def test_an_exception_that_does_not_say_more(body: bytes) -> None:
    rows = [
        Row("nothing said", message(EXCEPTION, b"echo", body=body), status=500, code=3) for message in (binary, compact)
    ]
    check_protocol(THRIFT, server=rows)


@pytest.mark.parametrize(("message", "text"), [(binary, b"\x0b\x00\x01\0\0\0\0"), (compact, b"\x18\0")])
def test_an_exception_of_endless_texts_is_not_searched_through(message: Callable[..., bytes], text: bytes) -> None:
    kind = b"\x08\x00\x02\0\0\0\1\0" if message is binary else b"\x25\2\0"
    for texts, status in ((1, 404), (1000, 500)):
        body = text * texts + (kind if message is binary or texts > 1 else b"\x15\2\0")
        check_protocol(THRIFT, server=[Row(f"{texts} texts", message(EXCEPTION, b"echo", body=body), status=status)])


def test_bad_frames() -> None:
    name_too_long = framed(struct.pack(">HBBI", 0x8001, 0, CALL, 2**31) + b"echo" + bytes(20))
    bad = [
        ("nothing", b"\0\0\0\0", "thrift_bad_length"),
        ("a negative length", b"\x80\0\0\0", "thrift_bad_length"),
        ("another protocol", framed(b"GET / HTTP/1.1"), "thrift_unknown_protocol"),
        ("the header transport", framed(b"\x0f\xff" + bytes(20)), "thrift_unknown_protocol"),
        ("an old binary protocol", framed(b"\0\0\0\x04echo\x01\0\0\0\x07\0"), "thrift_unknown_protocol"),
        ("compact, another version", compact(CALL, b"echo", version=2), "thrift_unknown_protocol"),
        ("binary, too short", framed(b"\x80\x01\x00\x01\x00\x00\x00\x04ech"), "thrift_truncated"),
        (
            "binary, no id",
            binary(CALL, b"echo", body=b"")[:3] + b"\x0e" + binary(CALL, b"echo", body=b"")[4:18],
            "thrift_truncated",
        ),
        ("binary, a name that is too long", name_too_long, "thrift_truncated"),
        ("one byte", framed(b"\x80"), "thrift_unknown_protocol"),
        ("one byte, compact", framed(b"\x82"), "thrift_truncated"),
        ("compact, too short", framed(b"\x82\x21\x07\x04ech"), "thrift_truncated"),
        ("compact, an id without end", framed(b"\x82\x21" + b"\x80" * 20), "thrift_bad_varint"),
        ("compact, an id of 35 bits", framed(b"\x82\x21\xff\xff\xff\xff\x7f\x04echo\0"), "thrift_bad_varint"),
        ("compact, an id with a group too much", framed(b"\x82\x21\x81\x00\x04echo\0"), "thrift_bad_varint"),
    ]
    check_protocol(
        THRIFT,
        client=[Row(name, data, bad=reason) for name, data, reason in bad],
        server=[Row(name, data, bad=reason) for name, data, reason in bad],
    )
    framer = Framer(THRIFT)
    assert framer.receive(b"GET / HTTP/1.1\r\n\r\n") == []
    assert framer.bad == "frame_too_large"


def request_of(data: bytes) -> RpcRequest:
    message = THRIFT.from_client(data)
    assert isinstance(message, RpcRequest)
    return message


def response_of(data: bytes) -> RpcResponse:
    message = THRIFT.from_server(data)
    assert isinstance(message, RpcResponse)
    return message


@pytest.mark.parametrize(("status", "number"), [(404, 1), (400, 7), (503, 6), (504, 6), (403, 6)])
def test_own_answers_are_application_exceptions(status: int, number: int) -> None:
    text = "no route: Ä".encode()
    answer = THRIFT.reply(request_of(binary(CALL, b"Echo:who", id=2**31 + 1)), status, text.decode())
    body = b"\x0b\x00\x01" + struct.pack(">I", len(text)) + text + b"\x08\x00\x02" + struct.pack(">I", number) + b"\0"
    assert answer == binary(EXCEPTION, b"Echo:who", id=2**31 + 1, body=body)
    answer = THRIFT.reply(request_of(compact(CALL, b"Echo:who", id=300)), status, text.decode())
    body = b"\x18" + varint(len(text)) + text + b"\x15" + varint(number << 1) + b"\0"
    assert answer == compact(EXCEPTION, b"Echo:who", id=300, body=body)


def test_sniffing() -> None:
    for whole in (binary(CALL, b"echo"), binary(ONEWAY, b"echo"), compact(CALL, b"e"), compact(ONEWAY, b"e")):
        assert THRIFT.sniff(whole) is Sniff.YES
        assert {THRIFT.sniff(whole[:cut]) for cut in range(8)} == {Sniff.MORE}
    others = [
        b"GET / HTT", b"\x16\x03\x01\x02\x00\x01\x00\x01", b"\0\0\0\0\x80\x01\0\x01", binary(REPLY, b"echo"),
        compact(REPLY, b"echo"), b"\0\0\0\x20\x81", b"\0\0\0\x20\x80\x02", b"\0\0\0\x20\x82\x22", b"\xff", b"\x02",
        framed(b"\x80\x01\x01\x01\0\0\0\0"), b"\x01\x00\x00\x01\x80\x01\x00\x01",
    ]  # fmt: skip
    assert {bytes(other): THRIFT.sniff(other) for other in others} == dict.fromkeys(others, Sniff.NO)


@pytest.mark.parametrize("message", [binary, compact])
@pytest.mark.parametrize("name", [b"get", b"", b"x" * 300, b"a:b:c"])
def test_a_call_under_another_name(message, name: bytes) -> None:
    request = THRIFT.from_client(message(CALL, b"shop:get", id=300))
    assert isinstance(request, RpcRequest)
    assert not request.edited
    twin = request.copy()
    twin.path = name
    assert (twin.edited, request.edited) == (True, False)
    assert THRIFT.edit_request(twin) == message(CALL, name, id=300)


def test_one_call_at_a_time() -> None:
    assert THRIFT.pool is PoolMode.PING_PONG


def test_it_is_found_by_its_name() -> None:
    assert Extensions(PROTOCOLS).load("thrift") is Thrift


@given(data=st.data())
def test_any_change_of_a_real_frame_is_a_message_or_a_bad_frame(data: st.DataObject) -> None:
    real = bytearray.fromhex(data.draw(st.sampled_from(GOLDEN))["hex"])
    for at, byte in data.draw(st.lists(st.tuples(st.integers(0, len(real) - 1), st.integers(0, 255)), max_size=6)):
        real[at] = byte
    cut = data.draw(st.integers(0, len(real)))
    check_bytes(THRIFT, bytes(real))
    check_bytes(THRIFT, bytes(real[:cut]) + data.draw(st.binary(max_size=30)) + bytes(real[cut:]))


@given(st.binary(max_size=80))
def test_any_bytes_are_messages_or_a_bad_frame(data: bytes) -> None:
    for head in (b"", b"\x80\x01\0\x01", b"\x80\x01\0\x03", b"\x82\x21", b"\x82\x41", b"\x82\x61"):
        check_bytes(THRIFT, framed(head + data))
    try:
        THRIFT.from_client(data)
    except BadFrame:
        pass
