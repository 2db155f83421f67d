"""The harness for RPC protocols passes what is right, and names what is wrong: row, check, difference."""

import json
from collections.abc import Callable
from random import Random
from typing import Any, NoReturn

import pytest

from mosn_xds.data.codec.rpc import (
    MORE,
    BadFrame,
    Framer,
    Kind,
    RpcMessage,
    RpcOptions,
    RpcProtocol,
    RpcRequest,
    RpcResponse,
)
from mosn_xds.data.codec.rpc import Sniff as Verdict
from mosn_xds.data.codec.rpc.harness import Row, check_bytes, check_protocol

KINDS = {kind.name.lower(): kind for kind in Kind}


class Parcel(RpcProtocol):
    """``#``, 3 bytes of length, 4 of id, JSON: all that a protocol can have, in few lines."""

    name = "parcel"
    head_bytes = 8
    edits = True

    def sniff(self, prefix: bytes) -> Verdict:
        return Verdict.MORE if not prefix else Verdict.YES if prefix[:1] == b"#" else Verdict.NO

    def frame_bytes(self, data: bytes, at: int) -> int:
        if len(data) > at and data[at] != ord("#"):
            raise BadFrame("no_parcel")
        return MORE if len(data) < at + 8 else 8 + int.from_bytes(data[at + 1 : at + 4], "big")

    def read(self, frame: bytes) -> tuple[int, dict[str, Any], list[tuple[bytes, bytes]]]:
        if self.frame_bytes(frame, 0) != len(frame):
            raise BadFrame("cut")
        try:
            said = json.loads(frame[8:])
            fields = [(name.encode(), value.encode()) for name, value in said["with"]]
        except (ValueError, TypeError, KeyError, AttributeError):
            raise BadFrame("no_json") from None
        return int.from_bytes(frame[4:8], "big"), said, fields

    def request(self, frame: bytes, kind: Kind) -> RpcRequest:
        id, said, fields = self.read(frame)
        service, method = said.get("to"), said.get("do")
        wait_s = said.get("wait")
        if not isinstance(service, str) or not isinstance(method, str) or not isinstance(wait_s, float | None):
            raise BadFrame("no_address")
        return RpcRequest.of(
            self.version, frame, id, service=service.encode(errors="replace"), method=method.encode(errors="replace"),
            properties=fields, kind=kind, timeout_s=wait_s,
        )  # fmt: skip

    def response(self, frame: bytes, kind: Kind) -> RpcResponse:
        id, said, fields = self.read(frame)
        status = said.get("status")
        if not isinstance(status, int) or not 200 <= status < 600:
            raise BadFrame("no_status")
        return RpcResponse.of(self.version, frame, id, status=status, properties=fields, kind=kind)

    def message(self, frame: bytes, default: Kind) -> RpcMessage:
        name = self.read(frame)[1].get("kind")
        kind = KINDS.get(name, default) if isinstance(name, str) else default
        if kind in (Kind.RESPONSE, Kind.HEARTBEAT_REPLY):
            return self.response(frame, kind)
        return self.request(frame, kind)

    def from_client(self, frame: bytes) -> RpcMessage:
        return self.message(frame, Kind.REQUEST)

    def from_server(self, frame: bytes) -> RpcMessage:
        return self.message(frame, Kind.RESPONSE)

    def with_id(self, frame: bytes, id: int) -> bytes:
        return frame[:4] + id.to_bytes(4, "big") + frame[8:]

    def edit(self, message: RpcMessage) -> bytes:
        id, said, fields = self.read(message.frame)
        if fields == message.fields:
            return message.frame
        try:
            said["with"] = [(name.decode(), value.decode()) for name, value in message.fields]
        except UnicodeDecodeError:
            raise BadFrame("no_text") from None
        return parcel(id, **said)

    def edit_request(self, request: RpcRequest) -> bytes:
        return self.edit(request)

    def edit_response(self, response: RpcResponse) -> bytes:
        return self.edit(response)

    def with_timeout(self, frame: bytes, timeout_s: float) -> bytes:
        id, said, _ = self.read(frame)
        said["wait"] = min(timeout_s, said.get("wait") or timeout_s)
        return parcel(id, **said)

    def reply(self, request: RpcRequest, status: int, reason: str) -> bytes:
        return parcel(request.id, status=status, why=reason)

    def heartbeat(self, id: int) -> bytes:
        return parcel(id, kind="heartbeat", to="", do="")

    def heartbeat_reply(self, request: RpcRequest) -> bytes:
        return parcel(request.id, kind="heartbeat_reply", status=200)

    def goaway(self) -> bytes:
        return parcel(0, kind="goaway", to="", do="")


def parcel(id: int, **said: Any) -> bytes:
    body = json.dumps({"with": [], **said}).encode()
    return b"#" + len(body).to_bytes(3, "big") + id.to_bytes(4, "big") + body


CLIENT = [
    Row(
        "a call", parcel(7, to="greeter", do="hello", wait=3.0, **{"with": [("Who", "you"), ("x", "y")]}),
        id=7, service=b"greeter", path=b"greeter", method=b"hello", timeout_s=3.0,
        properties=[(b"Who", b"you"), (b"x", b"y")], get={b"who": b"you", b"no": None},
    ),
    Row("another call", parcel(9, to="a", do="b"), id=9, service=b"a"),
    Row("a word", parcel(1, kind="oneway", to="s", do="m"), kind=Kind.ONEWAY, timeout_s=None),
    Row("a beat", parcel(2, kind="heartbeat", to="", do=""), kind=Kind.HEARTBEAT, id=2),
    Row("to nobody", parcel(1, do="m"), bad="no_address"),
    Row("somebody else's", b"GET / HTTP/1.1\r\n\r\n", bad="no_parcel"),
]  # fmt: skip
SERVER = [
    Row("an answer", parcel(7, status=200, **{"with": [("a", "b")]}), id=7, status=200, properties=[(b"a", b"b")]),
    Row("an error", parcel(7, status=503), id=7, status=503),
    Row("farewell", parcel(0, kind="goaway", to="", do=""), kind=Kind.GOAWAY),
]


def test_a_right_protocol_passes() -> None:
    check_protocol(Parcel(RpcOptions()), client=CLIENT, server=SERVER, replies={503: 503, 504: 504})
    check_protocol(Parcel(RpcOptions()), client=CLIENT, chance=Random(5))


class LeastParcel(RpcProtocol):
    """What a protocol must have."""

    name = "least"
    frame_bytes = Parcel.frame_bytes
    from_client = Parcel.from_client
    from_server = Parcel.from_server
    with_id = Parcel.with_id
    reply = Parcel.reply
    read, message, request, response = Parcel.read, Parcel.message, Parcel.request, Parcel.response


def test_what_a_protocol_need_not_have_is_not_asked_for() -> None:
    check_protocol(LeastParcel(RpcOptions()), client=CLIENT, server=SERVER)


def changed(**methods: Any) -> Parcel:
    return type("Changed", (Parcel,), methods)(RpcOptions())


def crash(*_: object) -> NoReturn:
    raise KeyError("oops")


def short_length(self: Parcel, data: bytes, at: int) -> int:
    size = Parcel.frame_bytes(self, data, at)
    return size and size - 1


def hasty_length(self: Parcel, data: bytes, at: int) -> int:
    return 8 if at < len(data) < at + 8 and data[at] == 35 else Parcel.frame_bytes(self, data, at)


def length_from_the_start(self: Parcel, data: bytes, at: int) -> int:
    return Parcel.frame_bytes(self, data, 0)


def length_when_all_is_there(self: Parcel, data: bytes, at: int) -> int:
    size = Parcel.frame_bytes(self, data, at)
    return size if size <= len(data) - at else MORE


def crash_on_bad_json(self: Parcel, frame: bytes) -> RpcMessage:
    json.loads(frame[8:])
    return Parcel.from_client(self, frame)


def lower_case(self: Parcel, frame: bytes) -> RpcMessage:
    message = Parcel.from_client(self, frame)
    message.fields = [(name.lower(), value) for name, value in message.fields]
    return message


def copies(self: Parcel, frame: bytes) -> RpcMessage:
    message = Parcel.from_client(self, frame)
    message.frame = b""
    return message


def id_of_16_bits(self: Parcel, frame: bytes, id: int) -> bytes:
    return Parcel.with_id(self, frame, id & 0xFFFF)


def id_and_a_space(self: Parcel, frame: bytes, id: int) -> bytes:
    _, said, _ = self.read(frame)
    return parcel(id, **{**said, "more": 1})


def edit_that_drops_the_call(self: Parcel, message: RpcRequest) -> bytes:
    if not message.edited:
        return message.frame
    return parcel(message.id, to="", do="", **{"with": [(n.decode(), v.decode()) for n, v in message.fields]})


def edit_that_writes_anew(self: Parcel, message: RpcRequest) -> bytes:
    id, said, _ = self.read(message.frame)
    return parcel(id, **{**said, "again": True})


def edit_that_is_cut(self: Parcel, message: RpcRequest) -> bytes:
    frame = self.edit(message)
    return frame[:-1] if message.edited else frame


def edit_that_does_not(self: Parcel, message: RpcRequest) -> bytes:
    return message.frame


def longer_time_out(self: Parcel, frame: bytes, timeout_s: float) -> bytes:
    id, said, _ = self.read(frame)
    said["wait"] = timeout_s
    return parcel(id, **said)


WRONG: list[tuple[str, dict[str, Callable[..., Any]], str]] = [
    ("length one too small", {"frame_bytes": short_length}, "a call: length of the whole frame: "),
    ("length guessed", {"frame_bytes": hasty_length}, "a call: length by 1 bytes: 8, expected MORE or"),
    ("length of another frame", {"frame_bytes": length_from_the_start}, "a call: length, other bytes before it: "),
    ("length known late", {"frame_bytes": length_when_all_is_there}, "a call: length by `head_bytes` bytes: 0, expected "),
    ("framing raises", {"frame_bytes": crash}, "a call: length of the whole frame: KeyError: 'oops', expected no exception"),
    ("parsing raises", {"from_client": crash}, "a call: parse: KeyError: 'oops', expected no exception"),
    ("parsing of garbage raises", {"from_client": crash_on_bad_json}, "JSONDecodeError"),
    ("names in lower case", {"from_client": lower_case}, "a call: properties: [(b'who', b'you')"),
    ("the frame is lost", {"from_client": copies}, "a call: frame: b''"),
    ("ids cut", {"with_id": id_of_16_bits}, "a call: with_id(16909060): 772, expected 16909060"),
    ("another id is another frame", {"with_id": id_and_a_space}, "a call: with_id(1) and back: "),
    ("edits lose the call", {"edit_request": edit_that_drops_the_call}, "a call: a property more: timeout_s: None, expected 3.0"),
    ("no edit is one", {"edit_request": edit_that_writes_anew}, "a call: edited without a change: "),
    ("an edit that is cut", {"edit_request": edit_that_is_cut}, "a call: a property more: its length: "),
    ("an edit that raises", {"edit_request": crash}, "a call: edited without a change: KeyError"),
    ("an edit is none", {"edit_request": edit_that_does_not}, "a call: a property more: [(b'Who', b'you')"),
    ("an edit of an answer is none", {"edit_response": edit_that_does_not}, "an answer: a property more: [(b'a', b'b')]"),
    ("a longer time-out", {"with_timeout": longer_time_out}, "a call: with_timeout(86400.0): 86400.0, expected 3.0"),
    ("never its own", {"sniff": lambda *_: Verdict.NO}, "a call: sniff: <Sniff.NO: 'no'>"),
    ("its own, then not", {"sniff": lambda _, prefix: Verdict.YES if len(prefix) != 3 else Verdict.MORE}, "sniff by 3 bytes"),
    ("an answer under no id", {"reply": lambda *_: parcel(0, status=500)}, "a call: reply(400): (<Kind.RESPONSE: 2>, 0)"),
    ("an answer that is none", {"reply": lambda *_: b"sorry"}, "a call: reply(400): its length: BadFrame: no_parcel"),
    ("an error that is none", {"reply": lambda _, asked, *__: parcel(asked.id, status=200)}, "reply(400) is read as: 200"),
    ("503 is 500", {"reply": lambda _, asked, *__: parcel(asked.id, status=500)}, "reply(503) is read as: 500, expected 503"),
    ("an answer that raises", {"reply": crash}, "a call: reply(400): KeyError"),
    ("passed on under another id", {"answer": lambda _, frame, __: frame}, "an answer: answer: id: 7, expected 9"),
    ("passed on without its status", {"answer": lambda _, __, asked: parcel(asked.id, status=200)}, "answer: "),
    ("a beat that is a call", {"heartbeat": lambda _, id: parcel(id, to="", do="")}, "own frames: heartbeat: "),
    ("a beat without an answer", {"heartbeat_reply": lambda *_: parcel(1, status=200)}, "a beat: heartbeat_reply: "),
    ("a farewell that is a call", {"goaway": lambda _: parcel(0, to="", do="", status=200)}, "own frames: goaway: "),
]  # fmt: skip


@pytest.mark.parametrize(("methods", "complaint"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
def test_what_is_wrong_is_named(methods: dict[str, Callable[..., Any]], complaint: str) -> None:
    with pytest.raises(AssertionError) as raised:
        check_protocol(changed(**methods), client=CLIENT, server=SERVER, replies={503: 503})
    assert complaint in str(raised.value)


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        (Row("r", CLIENT[0].frame, id=8), "parcel, r: id: 7, expected 8"),
        (Row("r", CLIENT[0].frame, kind=Kind.ONEWAY), "r: kind: <Kind.REQUEST: 0>, expected <Kind.ONEWAY: 1>"),
        (Row("r", CLIENT[0].frame, status=200), "r: status: no such fact of a response or request"),
        (Row("r", CLIENT[0].frame, get={b"x": b"z"}), "r: get(b'x'): b'y', expected b'z'"),
        (Row("r", CLIENT[0].frame, bad="no_address"), "r: in one piece: <RpcRequest"),
        (Row("r", CLIENT[4].frame), "r: parse: BadFrame: no_address, expected no exception"),
        (Row("r", CLIENT[4].frame, bad="no_json"), "r: in one piece, reason: no_address, expected 'no_json'"),
        (Row("r", CLIENT[0].frame[:-1], bad="cut"), "r: in one piece, reason: , expected 'cut'"),
    ],
)  # fmt: skip
def test_a_wrong_row_is_named(row: Row, complaint: str) -> None:
    with pytest.raises(AssertionError) as raised:
        check_protocol(Parcel(RpcOptions()), client=[row])
    assert complaint in str(raised.value)


def test_an_unknown_fact_is_no_fact() -> None:
    with pytest.raises(TypeError, match="row 'r': servic: the facts are code, id, method"):
        Row("r", b"", servic=b"greeter")


@pytest.mark.parametrize("row", [*CLIENT, *SERVER], ids=lambda row: row.name)
def test_any_bytes_are_messages_or_a_bad_frame(row: Row) -> None:
    check_bytes(Parcel(RpcOptions()), row.frame * 2)
    with pytest.raises(AssertionError, match=r"bytes 23.*: no frame: KeyError"):
        check_bytes(changed(from_server=crash), b"#abc")


def test_a_frame_above_the_limit_is_not_handed_on() -> None:
    framer = Framer(Parcel(RpcOptions(max_frame_bytes=64)))
    small = parcel(1, to="a", do="b")
    assert framer.receive(small + parcel(2, to="a" * 64, do="b") + small) == [small]
    assert (framer.bad, framer.receive(small)) == ("frame_too_large", [])
