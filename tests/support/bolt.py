"""Bolt's frames by their fields, written without the codec that is under test."""

import struct
import zlib
from collections.abc import Sequence

REQUEST_CLASS = b"com.alipay.sofa.rpc.core.request.SofaRequest"
RESPONSE_CLASS = b"com.alipay.sofa.rpc.core.response.SofaResponse"

Header = tuple[bytes | None, bytes | None]


def block(headers: Sequence[Header]) -> bytes:
    """A header block; None is null."""
    return b"".join(
        b"\xff\xff\xff\xff" if text is None else struct.pack(">I", len(text)) + text
        for pair in headers
        for text in pair
    )


def request(
    headers: Sequence[Header] | bytes = (), content: bytes = b"", *, id: int = 1, type_: int = 1, command: int = 1,
    proto: int = 1, ver1: int = 1, switch: int = 0, codec: int = 1, timeout_ms: int = 3000, name: bytes = REQUEST_CLASS,
) -> bytes:  # fmt: skip
    """A request, one-way call (`type_` 2), heartbeat (`command` 0) or GOAWAY (100)."""
    packed = headers if isinstance(headers, bytes) else block(headers)
    tail = struct.pack(">iHHI", timeout_ms, len(name), len(packed), len(content)) + name + packed + content
    return _framed(proto, ver1, switch, type_, command, id, codec, tail)


def response(
    headers: Sequence[Header] | bytes = (), content: bytes = b"", *, id: int = 1, command: int = 2, status: int = 0,
    proto: int = 1, ver1: int = 1, switch: int = 0, codec: int = 1, name: bytes = RESPONSE_CLASS,
) -> bytes:  # fmt: skip
    """A response, or the answer to a heartbeat (`command` 0)."""
    packed = headers if isinstance(headers, bytes) else block(headers)
    tail = struct.pack(">HHHI", status, len(name), len(packed), len(content)) + name + packed + content
    return _framed(proto, ver1, switch, 0, command, id, codec, tail)


def _framed(proto: int, ver1: int, switch: int, type_: int, command: int, id: int, codec: int, tail: bytes) -> bytes:
    if proto == 1:
        return struct.pack(">BBHBIB", 1, type_, command, 1, id, codec) + tail
    frame = struct.pack(">BBBHBIBB", proto, ver1, type_, command, 1, id, codec, switch) + tail
    return frame + struct.pack(">I", zlib.crc32(frame)) if ver1 == 2 and switch & 1 else frame
