"""Dubbo: what frames of real peers mean, each flag, status, result and serialization, and what becomes of edits."""

import json
from pathlib import Path

import pytest

from mosn_xds.data.codec.rpc import Kind
from mosn_xds.data.codec.rpc.dubbo import Dubbo, DubboOptions
from mosn_xds.data.codec.rpc.dubbo.hessian2 import write_string
from mosn_xds.data.codec.rpc.harness import Row, check_protocol

DUBBO = Dubbo(DubboOptions())
OPAQUE = Dubbo(DubboOptions(opaque_serializations=True))
GOLDEN = json.loads((Path(__file__).parent / "golden" / "dubbo.json").read_text())
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
        return Row(named(row), data, id=id, code=facts["status"], properties=[], edits=False)
    found = [(name.encode(), value.encode()) for name, value in values[-1].items()] if values[0] >= 3 else []
    result = (b"exception", b"value", b"null")[values[0] % 3]
    return Row(named(row), data, id=id, status=200, code=20, properties=found, get={b"result": result})


@pytest.mark.parametrize("row", GOLDEN, ids=named)
def test_frames_of_real_peers(row: dict) -> None:
    rows = [expected(row)]
    if row["from"] == "client":
        check_protocol(DUBBO, client=rows)
    else:
        rows[0].edits = rows[0].edits and row["fields"]["values"][0] in (3, 4, 5)
        check_protocol(DUBBO, server=rows)
