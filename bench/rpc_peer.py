"""Bolt and Dubbo peers for benches, as their own process: ``python -m bench.rpc_peer serve PORT`` or ``load PROTOCOL PORT ...``.

Frames are templates of the protocols' real form with content of 1 KiB; only ids are patched. The server tells the protocols
apart by a connection's first byte. The load keeps a window of calls under way on each connection, sends what an answer has
made room for in one write, and checks that each answer is a success.
"""

import argparse
import contextlib
import json
import select
import socket
import struct
import time
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


def serve(port: int) -> None:
    """Answer every call with the protocol's response."""
    listener = socket.create_server(("127.0.0.1", port), backlog=512)
    poll = select.epoll()
    listener.setblocking(False)
    poll.register(listener, select.EPOLLIN)
    connections: dict[int, socket.socket] = {}
    received: dict[int, bytes] = {}
    while True:
        for number, _ in poll.poll():
            if number == listener.fileno():
                connection, _ = listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connections[connection.fileno()] = connection
                received[connection.fileno()] = b""
                poll.register(connection, select.EPOLLIN)
                continue
            connection = connections[number]
            try:
                data = connection.recv(1 << 18)
                if data:
                    received[number], out = _answer(received[number] + data)
                    connection.sendall(out)
            except OSError:
                data = b""
            if not data:
                poll.unregister(number)
                del connections[number], received[number]
                connection.close()


def _answer(data: bytes) -> tuple[bytes, bytes]:
    """The responses to all whole calls, and the rest. All calls of a connection are as long as the first."""
    wire = WIRES[data[0]]
    size = len(wire.request)
    at, out = 0, []
    while len(data) - at >= size:
        out.append(wire.with_id(wire.response, wire.id_of(data[at : at + size])))
        at += size
    return data[at:], b"".join(out)


def load(protocol: int, port: int, connections: int, window: int, seconds: float) -> dict[str, object]:
    """`window` calls under way on each connection."""
    wire = WIRES[protocol]
    size = len(wire.response)
    poll = select.epoll()
    sockets: dict[int, socket.socket] = {}
    received: dict[int, bytes] = {}
    sent_at: dict[int, float] = {}
    next_id, errors = 1, 0
    latencies: list[float] = []

    def send(sock: socket.socket, count: int) -> None:
        nonlocal next_id
        now = time.perf_counter()
        frames = []
        for _ in range(count):
            sent_at[next_id] = now
            frames.append(wire.with_id(wire.request, next_id))
            next_id += 1
        sock.sendall(b"".join(frames))

    began = time.perf_counter()
    for _ in range(connections):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sockets[sock.fileno()] = sock
        received[sock.fileno()] = b""
        poll.register(sock, select.EPOLLIN)
        send(sock, window)
    while (now := time.perf_counter()) < began + seconds and sockets:
        for number, _ in poll.poll(0.1):
            data = sockets[number].recv(1 << 18)
            if not data:
                errors += window
                poll.unregister(number)
                del sockets[number]
                continue
            data = received[number] + data
            now = time.perf_counter()
            count = len(data) // size
            for at in range(0, count * size, size):
                frame = data[at : at + size]
                errors += not wire.is_ok(frame)
                latencies.append(now - sent_at.pop(wire.id_of(frame)))
            received[number] = data[count * size :]
            if count:
                send(sockets[number], count)
    latencies.sort()
    count = len(latencies)
    return {
        "units": count,
        "seconds": now - began,
        "p50_ms": latencies[count // 2] * 1e3 if count else None,
        "p99_ms": latencies[count * 99 // 100] * 1e3 if count else None,
        "errors": errors,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    modes = parser.add_subparsers(dest="mode", required=True)
    modes.add_parser("serve").add_argument("port", type=int)
    client = modes.add_parser("load")
    client.add_argument("protocol", choices=("bolt", "dubbo"))
    client.add_argument("port", type=int)
    client.add_argument("connections", type=int)
    client.add_argument("window", type=int)
    client.add_argument("seconds", type=float)
    given = parser.parse_args()
    if given.mode == "serve":
        with contextlib.suppress(KeyboardInterrupt):
            serve(given.port)
    else:
        protocol = BOLT if given.protocol == "bolt" else DUBBO
        print(json.dumps(load(protocol, given.port, given.connections, given.window, given.seconds)))


if __name__ == "__main__":
    main()
