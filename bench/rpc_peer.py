"""Bolt and Dubbo peers for benches, as their own process: ``python -m bench.rpc_peer serve PORT`` or ``load PROTOCOL PORT ...``.

The server tells the protocols apart by a connection's first byte. The load keeps a window of calls under way on each
connection, sends what an answer has made room for in one write, and checks that each answer is a success.
"""

import argparse
import contextlib
import json
import select
import socket
import time

from tests.support.rpc_wires import BOLT, DUBBO, WIRES, answers


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
                    received[number], out = answers(received[number] + data)
                    connection.sendall(out)
            except OSError:
                data = b""
            if not data:
                poll.unregister(number)
                del connections[number], received[number]
                connection.close()


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
