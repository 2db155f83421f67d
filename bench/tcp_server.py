"""A TCP upstream for benches, as its own process: ``python -m bench.tcp_server echo|source|sink PORT``."""

import contextlib
import select
import socket
import sys
import threading

_CHUNK = 256 * 1024


def echo(listener: socket.socket) -> None:
    """Send back what comes: one epoll for all connections, as ping-pong has many and each exchange is small."""
    poll = select.epoll()
    listener.setblocking(False)
    poll.register(listener, select.EPOLLIN)
    connections: dict[int, socket.socket] = {}
    while True:
        for number, _ in poll.poll():
            if number == listener.fileno():
                connection, _ = listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connections[connection.fileno()] = connection
                poll.register(connection, select.EPOLLIN)
                continue
            connection = connections[number]
            try:
                data = connection.recv(65536)
                if data:
                    connection.sendall(data)
            except OSError:
                data = b""
            if not data:
                poll.unregister(number)
                del connections[number]
                connection.close()


def source(connection: socket.socket) -> None:
    """Send until the peer is gone."""
    data = bytes(_CHUNK)
    with contextlib.suppress(OSError):
        while True:
            connection.sendall(data)


def sink(connection: socket.socket) -> None:
    """Read until the peer is gone."""
    buffer = bytearray(_CHUNK)
    with contextlib.suppress(OSError):
        while connection.recv_into(buffer):
            pass


def main() -> None:
    mode, port = sys.argv[1], int(sys.argv[2])
    listener = socket.create_server(("127.0.0.1", port), backlog=512)
    if mode == "echo":
        echo(listener)
    work = {"source": source, "sink": sink}[mode]
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=work, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main()
