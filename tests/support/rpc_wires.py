"""Bolt and Dubbo as a load speaks them: one call and one answer of each, with content of 1 KiB, under any id.

Frames have the protocols' real form, with what real clients put around the content. Only ids are patched, which is cheap enough
for a load; frames that say something else are in dubbo_peer.py and bolt's own tests.
"""

import struct
from dataclasses import dataclass

_CONTENT_BYTES = 1024
BOLT, DUBBO = 0x01, 0xDA


def _short(text: bytes) -> bytes:
    """A hessian2 string of less than 32 characters."""
    return bytes([len(text)]) + text


def _long(text: bytes) -> bytes:
    """A hessian2 string of less than 65,536 characters."""
    return b"S" + struct.pack(">H", len(text)) + text


def _pair(text: bytes) -> bytes:
    return struct.pack(">I", len(text)) + text


_HEADERS = {
    b"service": b"com.example.Echo:1.0",
    b"sofa_head_target_service": b"com.example.Echo:1.0",
    b"sofa_head_method_name": b"echo",
    b"sofa_head_target_app": b"echo-server",
    b"rpc_trace_context.sofaTraceId": b"0a0fe8ad1606878990116100162513",
    b"rpc_trace_context.sofaRpcId": b"0",
}


def bolt_request() -> bytes:
    name = b"com.alipay.sofa.rpc.core.request.SofaRequest"
    block = b"".join(_pair(key) + _pair(value) for key, value in _HEADERS.items())
    sizes = (len(name), len(block), _CONTENT_BYTES)
    return struct.pack(">BBHBIBiHHI", 1, 1, 1, 1, 0, 1, 3000, *sizes) + name + block + b"x" * _CONTENT_BYTES


def bolt_response() -> bytes:
    name = b"com.alipay.sofa.rpc.core.response.SofaResponse"
    fixed = struct.pack(">BBHBIBHHHI", 1, 0, 2, 1, 0, 1, 0, len(name), 0, _CONTENT_BYTES)
    return fixed + name + b"y" * _CONTENT_BYTES


def dubbo_request() -> bytes:
    called = _short(b"2.0.2") + _short(b"com.example.Echo") + _short(b"1.0.0") + _short(b"echo")
    attachments = {b"path": b"com.example.Echo", b"interface": b"com.example.Echo", b"version": b"1.0.0"}
    block = b"H" + b"".join(_short(key) + _short(value) for key, value in attachments.items()) + b"Z"
    body = called + _short(b"Ljava/lang/String;") + _long(b"x" * _CONTENT_BYTES) + block
    return struct.pack(">HBBQI", 0xDABB, 0xC2, 0, 0, len(body)) + body


def dubbo_response() -> bytes:
    body = b"\x91" + _long(b"y" * _CONTENT_BYTES)
    return struct.pack(">HBBQI", 0xDABB, 0x02, 20, 0, len(body)) + body


@dataclass(frozen=True)
class Wire:
    """Where a protocol has its ids, how long frames are, what a success looks like."""

    request: bytes
    response: bytes
    id: struct.Struct
    id_at: int
    ok_at: int

    def with_id(self, frame: bytes, id: int) -> bytes:
        return frame[: self.id_at] + self.id.pack(id) + frame[self.id_at + self.id.size :]

    def id_of(self, frame: bytes) -> int:
        found: int = self.id.unpack_from(frame, self.id_at)[0]
        return found

    def is_ok(self, frame: bytes) -> bool:
        return frame[self.ok_at : self.ok_at + 2] == self.response[self.ok_at : self.ok_at + 2]


WIRES = {
    BOLT: Wire(bolt_request(), bolt_response(), struct.Struct(">I"), 5, 10),
    DUBBO: Wire(dubbo_request(), dubbo_response(), struct.Struct(">Q"), 4, 2),
}


def answers(data: bytes) -> tuple[bytes, bytes]:
    """The responses to all whole calls of a connection's `data`, and what is left of it. Calls are all of one length."""
    if not data:
        return b"", b""
    wire = WIRES[data[0]]
    size = len(wire.request)
    at, out = 0, []
    while len(data) - at >= size:
        out.append(wire.with_id(wire.response, wire.id_of(data[at : at + size])))
        at += size
    return data[at:], b"".join(out)
