"""Bolt's frames: what each means, under every version, type, status, flag and codec, and what the proxy makes of them."""

import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mosn_xds.data.codec.rpc import BadFrame, Kind, RpcRequest, RpcResponse, Sniff
from mosn_xds.data.codec.rpc.bolt.options import BoltOptions
from mosn_xds.data.codec.rpc.bolt.protocol import Bolt
from mosn_xds.data.codec.rpc.bolt.status import Status
from mosn_xds.data.codec.rpc.harness import Row, check_protocol
from tests.support.bolt import REQUEST_CLASS, block, request, response

GOLDEN = json.loads((Path(__file__).parent / "golden" / "bolt.json").read_text())
VERSIONS: tuple[dict[str, Any], ...] = (
    {"proto": 1},
    {"proto": 2},
    {"proto": 2, "ver1": 1, "switch": 1},  # as Java's clients do: the bit, and no CRC
    {"proto": 2, "ver1": 2, "switch": 0},
    {"proto": 2, "ver1": 2, "switch": 1},
    {"proto": 2, "ver1": 2, "switch": 0xFF},
)
HEADERS = [(b"service", b"com.x.Echo:1.0"), (b"sofa_head_method_name", b"echo"), (b"App", b"a")]
REPLIES = {400: 500, 401: 500, 403: 500, 404: 500, 408: 504, 429: 503, 500: 500, 502: 502, 503: 503, 504: 504}
HTTP = {0: 200, 4: 503, 7: 504, 16: 502}


@pytest.fixture
def bolt() -> Bolt:
    return Bolt(BoltOptions())


def client(bolt: Bolt, frame: bytes) -> RpcRequest:
    message = bolt.from_client(frame)
    assert isinstance(message, RpcRequest)
    return message


def server(bolt: Bolt, frame: bytes) -> RpcResponse:
    message = bolt.from_server(frame)
    assert isinstance(message, RpcResponse)
    return message


# Tables.


@pytest.mark.parametrize("version", VERSIONS, ids=str)
def test_everything_that_clients_say(bolt: Bolt, version: dict[str, Any]) -> None:
    empty: dict[str, Any] = {"name": b"", "timeout_ms": -1, **version}
    largest = [(b"k" * 27, b"v" * 65500)]
    rows = [
        Row(
            "a call", request(HEADERS, b"content", id=7, **version),
            id=7, service=b"com.x.Echo:1.0", path=b"com.x.Echo:1.0", method=b"echo", properties=HEADERS, timeout_s=3.0,
            get={b"App": b"a", b"app": b"a", b":class": REQUEST_CLASS, b"nothing": None},
        ),
        Row("a call without anything", request(id=0, **empty), id=0, service=b"", method=b"", properties=[], timeout_s=None),
        Row("the largest id", request(id=0xFFFFFFFF, **version), id=0xFFFFFFFF),
        Row("a one-way call", request(HEADERS, b"c", type_=2, **version), kind=Kind.ONEWAY, service=b"com.x.Echo:1.0"),
        Row("a heartbeat", request(command=0, id=9, **empty), kind=Kind.HEARTBEAT, id=9),
        Row("a one-way heartbeat", request(command=0, type_=2, **empty), kind=Kind.HEARTBEAT),
        Row("GOAWAY of a client", request(command=100, **empty), kind=Kind.GOAWAY),
        Row("the answer to a server's heartbeat", response(command=0, name=b"", **version), kind=Kind.HEARTBEAT_REPLY),
        Row("the answer to a server's call", response(**version), kind=Kind.RESPONSE, status=200),
        Row("no time-out, 0", request(timeout_ms=0, **version), timeout_s=None),
        Row("no time-out, less", request(timeout_ms=-1000, **version), timeout_s=None),
        Row("the longest time-out", request(timeout_ms=0x7FFFFFFF, **version), timeout_s=2147483.647),
        Row(
            "the target's name alone", request([(b"sofa_head_target_service", b"com.x.T:1.0")], **version),
            service=b"com.x.T:1.0",
        ),
        Row(
            "service goes before target", request([(b"sofa_head_target_service", b"t"), (b"service", b"s")], **version),
            service=b"s",
        ),
        Row("of doubles the last counts, as in a map", request([(b"service", b"1"), (b"service", b"2")], **version), service=b"2"),
        Row(
            "nulls are empty", request([(b"k", None), (None, b"v"), (None, None), (b"service", b"s")], **version),
            properties=[(b"k", b""), (b"", b"v"), (b"", b""), (b"service", b"s")], service=b"s",
        ),
        Row("the largest header block", request(largest, b"c", **version), properties=largest),
        Row("a large content", request(HEADERS, bytes(range(256)) * 2000, **version), service=b"com.x.Echo:1.0"),
        Row("a large class", request(HEADERS, name=b"x" * 65535, **version), get={b":class": b"x" * 65535}),
        *(Row(f"codec {codec}", request(HEADERS, codec=codec, **version)) for codec in (0, 1, 2, 11, 255)),
    ]  # fmt: skip
    check_protocol(bolt, client=rows, replies=REPLIES)


@pytest.mark.parametrize("version", VERSIONS, ids=str)
def test_everything_that_servers_say(bolt: Bolt, version: dict[str, Any]) -> None:
    codes = (*Status, 10, 15, 19, 200, 0xFFFF)
    rows = [
        *(Row(f"status {code}", response([(b"k", b"v")], b"c", id=3, status=code, **version), id=3, code=int(code),
              status=HTTP.get(code, 500), properties=[(b"k", b"v")]) for code in codes),
        *(Row(f"codec {codec}", response(codec=codec, **version), status=200) for codec in (0, 1, 2, 11, 255)),
        Row("null", response([(None, None)], **version), properties=[(b"", b"")]),
        Row("a large content", response(content=b"c" * 100_000, **version)),
        Row("an answer to a heartbeat", response(command=0, name=b"", id=5, **version), kind=Kind.HEARTBEAT_REPLY, id=5),
        Row("a heartbeat", request(command=0, name=b"", **version), kind=Kind.HEARTBEAT),
        Row("GOAWAY", request(command=100, name=b"", **version), kind=Kind.GOAWAY),
        Row("a call to its client", request(HEADERS, **version), kind=Kind.PUSH, service=b"com.x.Echo:1.0"),
        Row("a word to its client", request(HEADERS, type_=2, **version), kind=Kind.PUSH),
    ]  # fmt: skip
    check_protocol(bolt, server=rows)


@pytest.mark.parametrize("version", VERSIONS, ids=str)
def test_what_is_no_bolt(bolt: Bolt, version: dict[str, Any]) -> None:
    right = block(HEADERS)
    blocks = [
        Row("odd", request(struct.pack(">I", 1) + b"k", **version), bad="header_block_odd"),
        Row("odd, null", request(b"\xff" * 4, **version), bad="header_block_odd"),
        Row("odd, large content", request(struct.pack(">I", 1) + b"k", b"\xff" * 8, **version), bad="header_block_odd"),
        Row("cut in a length", request(right + b"\0\0\0", **version), bad="header_block"),
        Row("cut in a name", request(right + b"\0\0\0\2k", **version), bad="header_block"),
        Row("cut in a value", request(right + block([(b"k", b"value")])[:-1], **version), bad="header_block"),
        Row("one too few", request(right[:-1], b"content", **version), bad="header_block"),
        Row("a huge length", request(b"\x7f\xff\xff\xff" + right, **version), bad="header_block"),
        Row("almost null", request(b"\xff\xff\xff\xfe" + right, **version), bad="header_block"),
    ]
    commands = [
        Row("command 2 from a client", request(command=2, **version), bad="unknown_command"),
        Row("command 3", request(command=3, **version), bad="unknown_command"),
        Row("command 256", request(command=256, **version), bad="unknown_command"),
        Row("type 3", request(type_=3, **version), bad="unknown_type"),
        Row("type 255", request(type_=255, **version), bad="unknown_type"),
    ]
    answers = [
        Row("odd", response(b"\xff" * 4, **version), bad="header_block_odd"),
        Row("command 1", response(command=1, **version), bad="unknown_command"),
        Row("GOAWAY as an answer", response(command=100, **version), bad="unknown_command"),
    ]
    check_protocol(bolt, client=[*blocks, *commands, *answers], server=[*blocks, *commands, *answers])


@pytest.mark.parametrize("first", [0, 3, 0x16, 0x47, 0x50, 0xDA, 0xFF])
def test_another_first_byte(bolt: Bolt, first: int) -> None:
    check_protocol(bolt, client=[Row("a call", bytes((first,)) + request()[1:], bad="unknown_protocol_byte")])
    assert bolt.sniff(bytes((first,))) is Sniff.NO


def test_the_first_byte_alone_tells_what_is_no_bolt(bolt: Bolt) -> None:
    with pytest.raises(BadFrame, match="unknown_protocol_byte"):
        bolt.frame_bytes(b"G", 0)
    assert bolt.frame_bytes(b"\x01", 0) == bolt.frame_bytes(b"G\x02\x01", 1) == 0


@pytest.mark.parametrize("version", VERSIONS, ids=str)
def test_what_is_read_without_having_been_cut_is_judged_all_the_same(bolt: Bolt, version: dict[str, Any]) -> None:
    wrong = [
        request(type_=3, **version),
        *(b"\x03" + frame[1:] for frame in (request(**version), response(**version))),
        *(frame + b"\0" for frame in (request(**version), response(**version))),
        b"",
        b"\x01",
        b"\x02\x01",
    ]
    for frame in wrong:
        for parse in (bolt.from_client, bolt.from_server):
            with pytest.raises(BadFrame):
                parse(frame)


def test_a_wrong_crc(bolt: Bolt) -> None:
    call = request(HEADERS, b"content", proto=2, ver1=2, switch=1)
    answer = response(HEADERS, b"content", proto=2, ver1=2, switch=1)
    for at in (6, 20, 40, len(call) - 5, len(call) - 1):
        wrong = call[:at] + bytes((call[at] ^ 0x10,)) + call[at + 1 :]
        with pytest.raises(BadFrame):
            bolt.from_client(wrong)
    check_protocol(
        bolt,
        client=[Row("a call", call[:-1] + bytes((call[-1] ^ 1,)), bad="wrong_crc")],
        server=[Row("an answer", answer[:-1] + bytes((answer[-1] ^ 1,)), bad="wrong_crc")],
    )


# What real peers say.


def golden_rows(side: str) -> Iterator[Row]:
    for entry in GOLDEN:
        if entry["from"] == side:
            yield golden_row(entry)


def golden_row(entry: dict[str, Any]) -> Row:
    fields = entry["fields"]
    name = f"{entry['about']}, {entry['from']}, {entry['client']} to {entry['server']}"
    properties = [(key.encode(), value.encode()) for key, value in fields["headers"].items()]
    facts: dict[str, Any] = {"id": fields["id"], "properties": properties}
    if fields["type"] == 0:
        kind = Kind.RESPONSE if fields["command"] == 2 else Kind.HEARTBEAT_REPLY
        facts |= {"code": fields["status"], "status": HTTP.get(fields["status"], 500)}
        return Row(name, bytes.fromhex(entry["hex"]), kind=kind, **facts)
    kind = {(1, 1): Kind.REQUEST, (2, 1): Kind.ONEWAY, (1, 0): Kind.HEARTBEAT}[fields["type"], fields["command"]]
    timeout_ms = fields["timeout_ms"]
    facts |= {"timeout_s": timeout_ms / 1000 if timeout_ms > 0 else None}
    if "service" in fields["headers"]:
        facts["service"] = fields["headers"]["service"].encode()
    return Row(name, bytes.fromhex(entry["hex"]), kind=kind, get={b":class": fields["class"].encode() or None}, **facts)


def test_what_real_peers_say(bolt: Bolt) -> None:
    clients, servers = list(golden_rows("client")), list(golden_rows("server"))
    assert len(clients) > 40
    assert len(servers) > 40
    check_protocol(bolt, client=clients, server=servers, replies=REPLIES)


# Changes.


@pytest.mark.parametrize("version", VERSIONS, ids=str)
def test_another_id_is_four_other_bytes_and_their_crc(bolt: Bolt, version: dict[str, Any]) -> None:
    for frame in (request(HEADERS, b"c" * 1000, **version), response(HEADERS, b"c", **version)):
        assert bolt.with_id(frame, 0xFEDCBA98) == (
            request(HEADERS, b"c" * 1000, id=0xFEDCBA98, **version)
            if len(frame) > 1000
            else response(HEADERS, b"c", id=0xFEDCBA98, **version)
        )


@pytest.mark.parametrize("version", VERSIONS, ids=str)
def test_edited_headers_leave_the_rest_as_it_is(bolt: Bolt, version: dict[str, Any]) -> None:
    call = client(bolt, request(HEADERS, b"content", codec=11, **version))
    call.set(b"App", b"another")
    call.add(b"x", b"y")
    call.remove(b"sofa_head_method_name")
    edited = [(b"service", b"com.x.Echo:1.0"), (b"App", b"another"), (b"x", b"y")]
    assert call.edited
    assert bolt.edit_request(call) == request(edited, b"content", codec=11, **version)
    answer = server(bolt, response([(b"a", b"b")], b"content", status=6, **version))
    answer.fields.clear()
    assert bolt.edit_response(answer) == response([], b"content", status=6, **version)


def test_nulls_that_nobody_touched_stay_null(bolt: Bolt) -> None:
    call = client(bolt, request([(b"k", None), (None, b"v"), (b"k", None), (b"k", b""), (b"gone", None)]))
    call.remove(b"gone")
    call.add(b"new", b"")
    assert bolt.edit_request(call) == request([(b"k", None), (None, b"v"), (b"k", None), (b"k", b""), (b"new", b"")])


def test_headers_that_fit_no_block_are_refused(bolt: Bolt) -> None:
    call = client(bolt, request(HEADERS))
    call.fields[:] = [(b"k", b"v" * (65535 - 9))]
    assert len(bolt.edit_request(call)) == len(request([])) + 65535
    call.add(b"", b"")
    with pytest.raises(BadFrame, match="header_block_too_large"):
        bolt.edit_request(call)


def test_the_class_can_be_asked_for_and_is_no_header(bolt: Bolt) -> None:
    call = client(bolt, request(HEADERS))
    call.set(b":class", b"java.lang.Runtime")
    assert call.copy().get(b":class") == REQUEST_CLASS
    assert call.get_all(b":class") == [REQUEST_CLASS]
    assert (call.edited, bolt.edit_request(call)) == (False, call.frame)
    assert call.get(b":authority") == b"com.x.Echo:1.0"


def test_a_copy_is_edited_alone(bolt: Bolt) -> None:
    call = client(bolt, request(HEADERS))
    twin = call.copy()
    twin.set(b"App", b"b")
    assert (call.edited, call.get(b"App"), twin.edited) == (False, b"a", True)


@pytest.mark.parametrize("version", VERSIONS, ids=str)
@pytest.mark.parametrize(
    ("before_ms", "timeout_s", "after_ms"),
    [
        (3000, 1.5, 1500),
        (3000, 3, 3000),
        (3000, 60, 3000),
        (-1, 60, 60000),
        (0, 0.5, 500),
        (3000, 0, 1),
        (-1, 1e9, 2**31 - 1),
    ],
)
def test_the_servers_time_out_is_never_longer_than_the_clients(
    bolt: Bolt, version: dict[str, Any], before_ms: int, timeout_s: float, after_ms: int
) -> None:
    frame = request(HEADERS, b"c", timeout_ms=before_ms, **version)
    assert bolt.with_timeout(frame, timeout_s) == request(HEADERS, b"c", timeout_ms=after_ms, **version)


# What the proxy says.


@pytest.mark.parametrize("version", VERSIONS, ids=str)
@pytest.mark.parametrize(
    ("status", "reason", "code"),
    [
        (200, "", Status.SUCCESS),
        (400, "bad", Status.CODEC_EXCEPTION),
        (401, "no token", Status.SERVER_EXCEPTION),
        (403, "rbac_access_denied", Status.SERVER_EXCEPTION),
        (404, "route_not_found", Status.NO_PROCESSOR),
        (408, "", Status.TIMEOUT),
        (429, "local_rate_limited", Status.SERVER_THREADPOOL_BUSY),
        (500, "", Status.UNKNOWN),
        (502, "", Status.CONNECTION_CLOSED),
        (503, "overload", Status.SERVER_THREADPOOL_BUSY),
        (503, "upstream_reset_before_response_started{overflow}", Status.SERVER_THREADPOOL_BUSY),
        (503, "no healthy upstream", Status.CONNECTION_CLOSED),
        (503, "upstream connect error or disconnect/reset before headers. reset reason: connection failure",
         Status.CONNECTION_CLOSED),
        (503, "overflow", Status.SERVER_THREADPOOL_BUSY),
        (503, "no_healthy_upstream", Status.CONNECTION_CLOSED),
        (503, "connection_failure", Status.CONNECTION_CLOSED),
        (503, "connection_termination", Status.CONNECTION_CLOSED),
        (503, "local_reset", Status.CONNECTION_CLOSED),
        (503, "cluster_not_found", Status.NO_PROCESSOR),
        (504, "upstream request timeout", Status.TIMEOUT),
        (999, "", Status.UNKNOWN),
    ],
)  # fmt: skip
def test_an_error_is_in_the_words_of_its_client(
    bolt: Bolt, version: dict[str, Any], status: int, reason: str, code: int
) -> None:
    call = client(bolt, request(HEADERS, b"content", id=77, codec=11, **version))
    assert bolt.reply(call, status, reason) == response(id=77, codec=11, status=code, name=b"", **version)


@pytest.mark.parametrize("version", VERSIONS, ids=str)
def test_a_heartbeat_is_answered_in_its_version(bolt: Bolt, version: dict[str, Any]) -> None:
    beat = client(bolt, request(command=0, id=8, name=b"", timeout_ms=-1, **version))
    assert bolt.heartbeat_reply(beat) == response(command=0, id=8, name=b"", **version)


@pytest.mark.parametrize("version", VERSIONS, ids=str)
@pytest.mark.parametrize("other", VERSIONS, ids=str)
def test_an_answer_is_in_its_requests_version_whatever_a_connections_first_request_was(
    bolt: Bolt, version: dict[str, Any], other: dict[str, Any]
) -> None:
    call = client(bolt, request(HEADERS, b"content", id=77, **version))
    answer = response([(b"k", None)], b"c" * 50, id=5, status=4, codec=11, **other)
    form = version if version["proto"] != other["proto"] else other
    assert bolt.answer(answer, call) == response([(b"k", None)], b"c" * 50, id=77, status=4, codec=11, **form)


def test_heartbeat_is_javas(bolt: Bolt) -> None:
    java = next(entry for entry in GOLDEN if entry["about"] == "a heartbeat" and entry["client"] == "BOLT_JAVA")
    assert bolt.heartbeat(java["fields"]["id"]).hex() == java["hex"]


def test_goaway_is_sent_to_who_is_said_to_know_it() -> None:
    quiet, other = Bolt(BoltOptions()), Bolt(BoltOptions(goaway=True))
    assert quiet.goaway() == b""
    assert other.goaway() == request(command=100, id=0, timeout_ms=0, name=b"")
    assert quiet.from_server(other.goaway()).kind is Kind.GOAWAY
    assert quiet.key != other.key
    check_protocol(other)


# Sniffing and sizes.


@pytest.mark.parametrize(
    ("prefix", "verdict"),
    [
        (b"", Sniff.MORE),
        (b"\x01", Sniff.MORE),
        (b"\x01\x01\0\x01", Sniff.MORE),
        (b"\x01\x01\0\x01\x01", Sniff.YES),
        (b"\x01\x02\0\x64\x01 anything", Sniff.YES),
        (b"\x01\0", Sniff.NO),  # no client begins with an answer
        (b"\x01\x01\0\x02", Sniff.NO),
        (b"\x01\x01\0\x01\x02", Sniff.NO),
        (b"\x01\x01\x01", Sniff.NO),
        (b"\x02\x01", Sniff.MORE),
        (b"\x02\x03", Sniff.NO),
        (b"\x02\x02\x01\0\0", Sniff.MORE),
        (b"\x02\x02\x01\0\0\x01", Sniff.YES),
        (b"\x02\x01\x03", Sniff.NO),
    ],
)
def test_sniffing_looks_at_more_than_one_byte(bolt: Bolt, prefix: bytes, verdict: Sniff) -> None:
    assert bolt.sniff(prefix) is verdict


def test_sizes_beyond_the_bound_are_seen_in_the_head() -> None:
    bolt = Bolt(BoltOptions(max_frame_bytes=1000))
    frame = request(HEADERS, b"x" * 2000)
    check_protocol(bolt, client=[Row("too large", frame, bad="frame_too_large")])
    head = request()[:18] + b"\xff\xff\xff\xff"
    check_protocol(bolt, client=[Row("4 GiB announced", head, bad="frame_too_large")])


def test_crc_is_that_of_zlib_over_all_that_stands_before_it(bolt: Bolt) -> None:
    frame = bolt.with_id(request(HEADERS, b"content", proto=2, ver1=2, switch=1), 5)
    assert frame[-4:] == struct.pack(">I", zlib.crc32(frame[:-4]))
