"""Dubbo: what frames of real peers mean, each flag, status, result and serialization, and what becomes of edits."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mosn_xds.base.errors import ConfigError
from mosn_xds.data.codec.rpc import BadFrame, Framer, Kind, RpcRequest, RpcResponse, Sniff
from mosn_xds.data.codec.rpc.dubbo import Dubbo, DubboOptions
from mosn_xds.data.codec.rpc.dubbo.hessian2 import write_string
from mosn_xds.data.codec.rpc.harness import Row, check_bytes, check_protocol
from mosn_xds.data.codec.rpc.protocol import PROTOCOLS
from mosn_xds.spec.extensions import Extensions

DUBBO = Dubbo(DubboOptions())
OPAQUE = Dubbo(DubboOptions(opaque_serializations=True))
GOLDEN = json.loads((Path(__file__).parent / "golden" / "dubbo.json").read_text())
SMALL = [row for row in GOLDEN if len(row["hex"]) < 600]
TWO_WAY, ONE_WAY, ANSWER = 0xC2, 0x82, 0x02


def strings(*values: str) -> bytes:
    return b"".join(write_string(value.encode()) for value in values)


def attachments(**values: str) -> bytes:
    return b"H" + b"".join(strings(name, value) for name, value in values.items()) + b"Z"


def frame(flag: int, body: bytes, *, status: int = 0, id: int = 7) -> bytes:
    return b"\xda\xbb" + bytes((flag, status)) + id.to_bytes(8, "big") + len(body).to_bytes(4, "big") + body


def call(
    *, types: str = "Ljava/lang/String;", arguments: bytes = b"\x02me", tail: bytes | None = None, flag: int = TWO_WAY,
    id: int = 7, version: str = "1.0", method: str = "hello",
) -> bytes:  # fmt: skip
    tail = attachments(group="blue", timeout="300") if tail is None else tail
    return frame(flag, strings("2.0.2", "com.x.Greeter", version, method, types) + arguments + tail, id=id)


def named(row: dict[str, object]) -> str:
    return f"{row['about']}, {row['client']} to {row['server']}, from {row['from']}"


def expected(row: dict) -> Row:
    """A recorded frame with what hessian.js found in it."""
    data, facts = bytes.fromhex(row["hex"]), row["fields"]
    id = facts["id"] % (1 << 64)
    values = facts.get("values", [])
    if facts["event"]:
        if facts["request"]:
            return Row(named(row), data, id=id, kind=Kind.GOAWAY if values == ["R"] else Kind.HEARTBEAT)
        return Row(named(row), data, id=id, kind=Kind.HEARTBEAT_REPLY)
    if facts["request"]:
        found = [(name.encode(), value.encode()) for name, value in facts["attachments"].items()]
        get = {b"version": facts["version"].encode(), b"dubbo": facts["dubbo_version"].encode()}
        path, method = facts["path"].encode(), facts["method"].encode()
        kind = Kind.REQUEST if facts["two_way"] else Kind.ONEWAY
        get[b"generic.method"] = b"echo" if method == b"$invoke" and b"echo" in data else get.get(b"generic.method")
        if method == b"$invoke" and get[b"generic.method"] is None:
            del get[b"generic.method"]
        return Row(
            named(row), data, id=id, kind=kind, service=path, path=path, method=method, get=get, properties=found
        )
    if facts["status"] != 20:
        return Row(named(row), data, id=id, code=facts["status"], properties=[], get={b"result": b"error"})
    found = [(name.encode(), value.encode()) for name, value in values[-1].items()] if values[0] >= 3 else []
    result = (b"exception", b"value", b"null")[values[0] % 3]
    return Row(named(row), data, id=id, status=200, code=20, properties=found, get={b"result": result})


@pytest.mark.parametrize("row", GOLDEN, ids=named)
def test_frames_of_real_peers(row: dict) -> None:
    check_protocol(DUBBO, **{row["from"]: [expected(row)]})


# What clients say.


def test_requests() -> None:
    full = [(b"group", b"blue"), (b"timeout", b"300")]
    wide = attachments(name="Grüße ☃ \U0001f600", **{"k" * 40: "v" * 70_000})
    rows = [
        Row("two-way", call(), id=7, service=b"com.x.Greeter", path=b"com.x.Greeter", method=b"hello", properties=full),
        Row("one-way", call(flag=ONE_WAY), kind=Kind.ONEWAY, method=b"hello", properties=full),
        Row("the first id", call(id=0), id=0),
        Row("the last id", call(id=2**64 - 1), id=2**64 - 1),
        Row("its version", call(version="2.1"), get={b"version": b"2.1", b"dubbo": b"2.0.2", b"none": None}),
        Row("any case", call(), get={b"Group": b"blue"}),
        Row("the version in front is meant", call(tail=attachments(version="9")), get={b"version": b"1.0"}),
        Row("no version", call(version=""), get={b"version": b""}),
        Row("no arguments", call(types="", arguments=b""), properties=full),
        Row(
            "each type of argument",
            call(
                types="ZBCSIJFD[I[[Ljava/lang/String;Ljava/util/Map;V",
                arguments=b"T\x91\x01a\x92\x93\xe1\x5b\x5cNN" + b"H\x01a\x91Z" + b"N",
            ),
            properties=full,
        ),
        Row("a number of arguments", call_with(b"\x92\x01a\x01b"), properties=full),
        Row("a number, large", call_with(b"I\0\0\0\x01\x01a"), properties=full),
        Row("a number, and a descriptor", call_with(b"\x8f\x02IJ\x91\xe1"), properties=full),
        Row("null for types", call_with(b"N"), properties=full),
        Row("an object", call(arguments=b"C\x03a.B\x92\x01x\x01y\x60\x91\x02me"), properties=full),
        Row("a class that arguments define", call(arguments=b"C\x03a.B\x91\x01x\x60\x91", tail=b"H\x01a\x60\x92\x01b\x01cZ"),
            properties=[(b"b", b"c")]),
        Row("text in many alphabets", call(tail=wide), properties=[
            (b"name", "Grüße ☃ \U0001f600".encode()), (b"k" * 40, b"v" * 70_000),
        ]),
        Row("entries that are no strings", call(tail=b"H\x01a\x91\x91\x01b\x01c\x01d\x01eNZ"), properties=[(b"c", b"d")]),
        Row("a map with a type", call(tail=b"M\x07HashMap\x01a\x01bZ"), properties=[(b"a", b"b")]),
        Row("a map whose type has a number", call(tail=b"M\x90\x01a\x01bZ"), properties=[(b"a", b"b")]),
        Row("an empty map", call(tail=b"HZ"), properties=[]),
        Row("no map", call(tail=b"N"), properties=[]),
        Row("nothing", call(tail=b""), properties=[]),
        Row("arguments end early", call(arguments=b"\x05me", tail=b""), properties=[]),
        Row("no descriptor", call(types="java.lang.String"), properties=[]),
        Row("a bomb of lists", call(arguments=b"\x79" * 2000, tail=b""), properties=[]),
        Row("too many attachments", call(tail=b"H" + b"\x01a\x01b" * 2000 + b"Z"), properties=[]),
        Row("a map without end", call(tail=b"H\x01a\x01b"), properties=[]),
        Row("method in chunks", frame(TWO_WAY, strings("2", "s", "1") + b"R\0\x02heS\0\x03llo" + b"\0" + b"HZ"), method=b"hello"),
        Row("a service beyond ASCII", frame(TWO_WAY, strings("2", "пример", "1", "m", "")), service="пример".encode()),
        Row("null for the service's version", frame(TWO_WAY, strings("2", "s") + b"N" + strings("m", "")), method=b"m"),
    ]  # fmt: skip
    check_protocol(DUBBO, client=rows)


def call_with(types_and_arguments: bytes) -> bytes:
    head = strings("2.0.2", "com.x.Greeter", "1.0", "hello")
    return frame(TWO_WAY, head + types_and_arguments + attachments(group="blue", timeout="300"))


def test_a_million_of_values_is_not_walked_through() -> None:
    assert request_of(call(arguments=b"W" + b"\x90" * 1_000_000 + b"Z")).fields == []


def test_generic_calls() -> None:
    types = "Ljava/lang/String;[Ljava/lang/String;[Ljava/lang/Object;"
    arguments = b"\x08sayHelloNN"
    row = Row(
        "generic", call(method="$invoke", types=types, arguments=arguments),
        method=b"$invoke", get={b"generic.method": b"sayHello", b"group": b"blue"},
    )  # fmt: skip
    later = Row("promised", call(method="$invokeAsync", types=types, arguments=arguments), get=row.get)
    odd = Row("no text", call(method="$invoke", types="I", arguments=b"\x91"), get={b"generic.method": None})
    check_protocol(DUBBO, client=[row, later, odd, Row("none", call(), get={b"generic.method": None})])


def test_arguments_that_are_strings() -> None:
    types = "ILjava/lang/String;Ljava/lang/Object;"
    get = {b":argument.0": None, b":argument.1": b"x", b":argument.2": None, b":argument.3": None, b":argument.": None}
    rows = [
        Row("some", call(types=types, arguments=b"\x95\x01xN"), get={**get, b"group": b"blue"}),
        Row("none", call(types="", arguments=b""), get={b":argument.0": None}),
        Row("unreadable", call(types=types, arguments=b"\x40"), get={b":argument.1": None}),
    ]
    check_protocol(DUBBO, client=rows)


@pytest.mark.parametrize("serialization", range(32))
def test_serializations(serialization: int) -> None:
    flag = 0xC0 | serialization
    if serialization == 2:
        check_protocol(DUBBO, client=[Row("known", call(flag=flag), service=b"com.x.Greeter")])
        return
    foreign = frame(flag, b"\x93whatever that is")
    answer = frame(serialization, b"\x93and that", status=20)
    bad = "dubbo_unknown_serialization"
    check_protocol(DUBBO, client=[Row("foreign", foreign, bad=bad)], server=[Row("foreign", answer, bad=bad)])
    assert DUBBO.sniff(foreign) is Sniff.NO
    opaque = [
        Row("two-way", foreign, id=7, service=b"", method=b"", properties=[]),
        Row("one-way", frame(0x80 | serialization, b""), kind=Kind.ONEWAY),
    ]
    answers = [
        Row("foreign", answer, id=7, status=200, code=20, properties=[]),
        Row("an error", frame(serialization, b"\x93", status=70), status=500, code=70),
    ]
    check_protocol(OPAQUE, client=opaque, server=answers)


def test_events() -> None:
    beats = [
        Row("heartbeat", frame(0xE2, b"N"), id=7, kind=Kind.HEARTBEAT),
        Row("heartbeat, one-way", frame(0xA2, b"N"), kind=Kind.HEARTBEAT),
        Row("heartbeat, empty", frame(0xE2, b""), kind=Kind.HEARTBEAT),
        Row("writable again", frame(0xA2, b"\x01W"), kind=Kind.HEARTBEAT),
        Row("read-only", frame(0xA2, b"\x01R"), kind=Kind.GOAWAY),
        Row("an answer", frame(0x22, b"N", status=20), id=7, kind=Kind.HEARTBEAT_REPLY),
    ]
    foreign = Row("heartbeat in another serialization", frame(0xE0 | 23, b"\xaf"), kind=Kind.HEARTBEAT)
    check_protocol(DUBBO, client=beats, server=[*beats, foreign])
    assert DUBBO.from_client(foreign.frame).kind is Kind.HEARTBEAT


def test_own_events_are_those_of_java() -> None:
    assert DUBBO.heartbeat(5) == bytes.fromhex("dabbe200 0000000000000005 00000001 4e")
    beat = DUBBO.from_client(frame(0xE2, b"N", id=2**63 + 5))
    assert isinstance(beat, RpcRequest)
    assert DUBBO.heartbeat_reply(beat) == bytes.fromhex("dabb2214 8000000000000005 00000001 4e")
    assert DUBBO.goaway() == bytes.fromhex("dabba200 0000000000000000 00000002 0152")


def test_what_clients_must_not_say() -> None:
    check_protocol(
        DUBBO,
        client=[
            Row("a response", frame(ANSWER, b"\x92", status=20), bad="dubbo_response_from_client"),
            Row("another protocol", b"GET / HTTP/1.1\r\n\r\n", bad="dubbo_bad_magic"),
            Row("half of the magic", b"\xda\xbc" + bytes(14), bad="dubbo_bad_magic"),
            Row("a negative length", call()[:12] + b"\xff\xff\xff\xff", bad="dubbo_negative_length"),
            Row("nothing", frame(TWO_WAY, b""), bad="hessian_truncated"),
            Row("no method", frame(TWO_WAY, strings("2.0.2", "s", "1")), bad="hessian_truncated"),
            Row("a method cut off", frame(TWO_WAY, strings("2.0.2", "s", "1") + b"\x05abc"), bad="hessian_truncated"),
            Row("a number for a name", frame(TWO_WAY, strings("2.0.2") + b"\x91"), bad="hessian_string_expected"),
            Row("no UTF-8", frame(TWO_WAY, b"\x02\xc3\xa4\xa4" + b"\x80" * 9), bad="hessian_bad_utf8"),
        ],
    )
    too_large = Framer(Dubbo(DubboOptions(max_frame_bytes=64)))
    assert too_large.receive(call()) == []
    assert too_large.bad == "frame_too_large"


# What servers say.


HTTP = {20: 200, 25: 500, 30: 504, 31: 504, 35: 503, 40: 400, 50: 502, 60: 404, 70: 500, 80: 500, 90: 400, 100: 503}


@pytest.mark.parametrize("status", [*sorted(HTTP), 0, 1, 21, 255])
def test_statuses(status: int) -> None:
    body = b"\x94\x02meHZ" if status == 20 else strings("some trouble")
    row = Row(
        "answer", frame(ANSWER, body, status=status), id=7, status=HTTP.get(status, 500), code=status, properties=[]
    )
    check_protocol(DUBBO, server=[row])


def test_results() -> None:
    tail = attachments(dubbo="2.0.2", trace="a")
    told = [(b"dubbo", b"2.0.2"), (b"trace", b"a")]
    error = b"C\x03a.E\x92\x01m\x01c\x60\x03badN"
    results = [
        ("exception", b"\x90" + error, b"exception", []),
        ("value", b"\x91\x02me", b"value", []),
        ("null", b"\x92", b"null", []),
        ("exception, attachments", b"\x93" + error + tail, b"exception", told),
        ("value, attachments", b"\x94\x02me" + tail, b"value", told),
        ("null, attachments", b"\x95" + tail, b"null", told),
        ("an int in two bytes", b"\xc8\x04\x02me" + tail, b"value", told),
        ("an int in five bytes", b"I\0\0\0\x01\x02me", b"value", []),
        ("a value cut off", b"\x94\x09me", b"value", []),
    ]
    rows = [
        Row(
            name,
            frame(ANSWER, body, status=20),
            status=200,
            code=20,
            properties=found,
            get={b"result": result, b"no": None},
        )
        for name, body, result, found in results
    ]
    wrong = [
        Row(f"type {body.hex()}", frame(ANSWER, body, status=20), bad=reason)
        for body, reason in (
            (b"\x96", "dubbo_unknown_result"), (b"\x8f", "dubbo_unknown_result"), (b"I\x7f\0\0\0", "dubbo_unknown_result"),
            (b"", "hessian_truncated"), (b"\xc8", "hessian_truncated"), (b"\x01a", "hessian_int_expected"),
        )
    ]  # fmt: skip
    check_protocol(DUBBO, server=[*rows, *wrong])


def test_callbacks_of_servers() -> None:
    check_protocol(DUBBO, server=[Row("a callback", call(), id=7, kind=Kind.PUSH)])


# What the proxy makes of it.


def request_of(data: bytes) -> RpcRequest:
    message = DUBBO.from_client(data)
    assert isinstance(message, RpcRequest)
    return message


def response_of(data: bytes) -> RpcResponse:
    message = DUBBO.from_server(data)
    assert isinstance(message, RpcResponse)
    return message


def test_edits_touch_what_was_edited() -> None:
    others = b"\x01a\x60\x92"
    arguments = b"C\x03a.B\x91\x01x\x60\x05\xe2\x98\x83\xed\xa0\xbd\xed\xb8\x80abN"
    tail = b"H" + strings("group", "blue") + others + b"R\0\x02tiS\0\x02me" + strings("300") + b"Z"
    request = request_of(call(types="La;I", arguments=arguments, tail=tail))
    request.set(b"group", "grün \U0001f600".encode())
    request.add(b"tint", b"1")
    head = strings("2.0.2", "com.x.Greeter", "1.0", "hello", "La;I")
    changed = (
        b"H" + strings("group") + b"\x07gr\xc3\xbcn \xed\xa0\xbd\xed\xb8\x80"
        + b"R\0\x02tiS\0\x02me" + strings("300", "tint", "1") + others + b"Z"
    )  # fmt: skip
    assert DUBBO.edit_request(request) == frame(TWO_WAY, head + arguments + changed)


def test_an_untouched_message_is_not_read() -> None:
    request, response = request_of(call()), response_of(frame(ANSWER, b"\x94\x02meHZ", status=20))
    assert (request.original, response.original) == (None, None)
    assert not request.edited
    assert not request.copy().edited
    assert not response.edited
    assert (request.original, response.original) == (None, None)
    assert request.get(b"group") == b"blue"
    assert not request.edited


def test_a_copy_has_properties_of_its_own() -> None:
    request = request_of(call())
    early = request.copy()
    request.set(b"group", b"green")
    late = request.copy()
    late.set(b"group", b"red")
    assert [head.get(b"group") for head in (early, request, late)] == [b"blue", b"green", b"red"]


@pytest.mark.parametrize(
    "broken",
    [call(types="nonsense"), call(tail=b"H\x01a"), call(arguments=b"\x05me", tail=b"")],
    ids=["types", "map", "value"],
)
def test_properties_cannot_be_changed_where_they_cannot_be_found(broken: bytes) -> None:
    request = request_of(broken)
    assert DUBBO.edit_request(request) == broken
    request.set(b"group", b"green")
    with pytest.raises(BadFrame):
        DUBBO.edit_request(request)


def test_errors_have_the_properties_that_proxies_give_them() -> None:
    said = DUBBO.reply(request_of(call()), 503, "no_healthy_upstream")
    response = response_of(said)
    assert response.fields == [(b"reason", b"no_healthy_upstream")]
    response.set(b"hop", b"1")
    changed = strings("no_healthy_upstream") + attachments(reason="no_healthy_upstream", hop="1")
    assert DUBBO.edit_response(response) == frame(ANSWER, changed, status=80)
    plain = response_of(frame(ANSWER, strings("trouble"), status=70))
    plain.set(b"hop", b"1")
    assert DUBBO.edit_response(plain) == frame(ANSWER, strings("trouble") + attachments(hop="1"), status=70)
    for body in (b"", b"\xff"):
        broken = response_of(frame(ANSWER, body, status=70))
        broken.set(b"hop", b"1")
        with pytest.raises(BadFrame):
            DUBBO.edit_response(broken)


def test_exceptions_are_errors() -> None:
    bodies = {b"\x90N": True, b"\x91N": False, b"\x92": False, b"\x93NHZ": True, b"\x94NHZ": False, b"\x95HZ": False}
    assert {body: response_of(frame(ANSWER, body, status=20)).failed for body in bodies} == bodies
    assert response_of(frame(ANSWER, strings("no"), status=70)).failed


def test_opaque_messages_have_no_properties() -> None:
    request, response = OPAQUE.from_client(frame(0xC3, b"x")), OPAQUE.from_server(frame(3, b"x", status=20))
    assert isinstance(request, RpcRequest)
    assert isinstance(response, RpcResponse)
    request.set(b"a", b"b")
    response.set(b"a", b"b")
    with pytest.raises(BadFrame):
        OPAQUE.edit_request(request)
    with pytest.raises(BadFrame):
        OPAQUE.edit_response(response)


@pytest.mark.parametrize(("status", "code"), [(400, 40), (404, 80), (503, 80), (504, 31), (429, 80)])
def test_replies_tell_why(status: int, code: int) -> None:
    reply = DUBBO.reply(request_of(call(id=2**63)), status, "no route: Ä\n")
    text = strings("no route: Ä\n")
    assert reply == frame(ANSWER, text + b"H" + strings("reason") + text + b"Z", status=code, id=2**63)


def test_no_route_may_be_no_service() -> None:
    dubbo = Dubbo(DubboOptions(no_route_status=60))
    assert dubbo.reply(request_of(call()), 404, "")[3] == 60
    with pytest.raises(ConfigError):
        Dubbo.decode_options(b'{"no_route_status": 20}')


def test_a_time_out_may_be_any_error_of_the_server() -> None:
    dubbo = Dubbo(DubboOptions(timeout_status=80))
    assert dubbo.reply(request_of(call()), 504, "")[3] == 80
    with pytest.raises(ConfigError):
        Dubbo.decode_options(b'{"timeout_status": 20}')


def test_sniffing() -> None:
    prefixes = {b"": Sniff.MORE, b"\xda": Sniff.MORE, b"\xda\xbb": Sniff.MORE, b"\xda\xbb\xc2": Sniff.YES}
    assert {prefix: DUBBO.sniff(prefix) for prefix in prefixes} == prefixes
    assert [DUBBO.sniff(prefix) for prefix in (b"\xbb", b"\xda\xda", b"\xda\xbb\xc3", b"GET")] == [Sniff.NO] * 4


def test_it_is_found_by_its_name() -> None:
    assert Extensions(PROTOCOLS).load("dubbo") is Dubbo


@given(data=st.data())
def test_any_change_of_a_real_frame_is_a_message_or_a_bad_frame(data: st.DataObject) -> None:
    real = bytearray.fromhex(data.draw(st.sampled_from(SMALL))["hex"])
    for at, byte in data.draw(st.lists(st.tuples(st.integers(0, len(real) - 1), st.integers(0, 255)), max_size=6)):
        real[at] = byte
    cut = data.draw(st.integers(0, len(real)))
    check_bytes(DUBBO, bytes(real))
    check_bytes(OPAQUE, bytes(real[:cut]) + data.draw(st.binary(max_size=30)) + bytes(real[cut:]))


@given(body=st.binary(max_size=200), flag=st.integers(0, 255), status=st.sampled_from([0, 20, 40, 80]))
def test_any_body_is_a_message_or_a_bad_frame(body: bytes, flag: int, status: int) -> None:
    check_bytes(DUBBO, frame(flag, body, status=status))
    check_bytes(DUBBO, frame(TWO_WAY, strings("2", "s", "1", "m", "La;I") + body))
    check_bytes(DUBBO, frame(ANSWER, b"\x94" + body, status=20))


@pytest.mark.parametrize(
    ("types", "tail"),
    [
        ("I" * 70_000, b""),
        ("", b"H" + (b"\x01a" + b"W" + b"N" * 5000 + b"Z") * 100 + strings("group", "blue") + b"Z"),
    ],
)
def test_who_makes_attachments_hard_to_find_has_none(types: str, tail: bytes) -> None:
    """What it takes to find them is bounded for a whole message; it goes on as it came."""
    sent = call(types=types, arguments=b"\x90" * len(types), tail=tail or attachments(group="blue"))
    request = DUBBO.from_client(sent)
    assert isinstance(request, RpcRequest)
    assert request.get(b"group") is None
    assert (request.service, request.edited, request.frame) == (b"com.x.Greeter", False, sent)
