"""Load of our own, as its own process: ``python -m bench.generator MODE PORT CONNECTIONS SECONDS``.

Closed loop: each connection has one exchange under way. One epoll, blocking sends (messages are small), no framework: the
generator is the same for every proxy, and what it costs is not counted. Prints one JSON object, the fields of peers.Load.
"""

import argparse
import contextlib
import json
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable

_CHUNK = 256 * 1024


def exchange(
    port: int, connections: int, seconds: float, message: bytes, size_of: Callable[[bytes], int | None]
) -> dict[str, object]:
    """Send `message`, wait for the whole answer, again. `size_of` gives an answer's size once its start tells."""
    poll = select.epoll()
    sockets: dict[int, socket.socket] = {}
    received: dict[int, bytes] = {}
    started: dict[int, float] = {}
    latencies: list[float] = []
    errors = 0
    for _ in range(connections):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sockets[sock.fileno()] = sock
        poll.register(sock, select.EPOLLIN)
    began = time.perf_counter()
    end = began + seconds
    for number, sock in sockets.items():
        received[number], started[number] = b"", time.perf_counter()
        sock.sendall(message)
    while (now := time.perf_counter()) < end and sockets:
        for number, _ in poll.poll(0.1):
            sock = sockets[number]
            data = sock.recv(65536)
            if not data:
                errors += 1
                poll.unregister(number)
                del sockets[number]
                continue
            data = received[number] + data
            size = size_of(data)
            if size is None or len(data) < size:
                received[number] = data
                continue
            now = time.perf_counter()
            latencies.append(now - started[number])
            received[number], started[number] = b"", now
            sock.sendall(message)
    latencies.sort()
    count = len(latencies)
    return {
        "units": count,
        "seconds": now - began,
        "p50_ms": latencies[count // 2] * 1e3 if count else None,
        "p99_ms": latencies[count * 99 // 100] * 1e3 if count else None,
        "errors": errors,
    }


def bulk(port: int, connections: int, seconds: float, upload: bool) -> dict[str, object]:
    """Move bytes one way as fast as they go; `units` are bytes."""
    counts = [0] * connections
    stop = threading.Event()

    def run(number: int) -> None:
        sock = socket.create_connection(("127.0.0.1", port))
        buffer = bytearray(_CHUNK)
        with contextlib.suppress(OSError):
            while not stop.is_set():
                if upload:
                    sock.sendall(buffer)
                    counts[number] += len(buffer)
                else:
                    counts[number] += sock.recv_into(buffer)
        sock.close()

    began = time.perf_counter()
    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(connections)]
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    stop.set()
    for thread in threads:
        thread.join(5)
    return {"units": sum(counts), "seconds": time.perf_counter() - began, "p50_ms": None, "p99_ms": None, "errors": 0}


def handshakes(port: int, connections: int, seconds: float, certificate: str, key: str) -> dict[str, object]:
    """A connection, a mutual handshake, one request and its answer, again, so many at once; `units` are handshakes."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(certificate, key)
    latencies: list[float] = []
    errors: list[OSError] = []
    began = time.perf_counter()

    def run() -> None:
        while (start := time.perf_counter()) < began + seconds:
            with contextlib.closing(socket.create_connection(("127.0.0.1", port))) as sock:
                # As clients do: else the request would wait for the acknowledgement of the handshake's end, 40 ms.
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                try:
                    tls = context.wrap_socket(sock)
                    tls.sendall(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
                    while tls.recv(65536):
                        pass
                    tls.close()
                except OSError as error:
                    errors.append(error)
                else:
                    latencies.append(time.perf_counter() - start)

    threads = [threading.Thread(target=run) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    latencies.sort()
    count = len(latencies)
    return {
        "units": count,
        "seconds": time.perf_counter() - began,
        "p50_ms": latencies[count // 2] * 1e3 if count else None,
        "p99_ms": latencies[count * 99 // 100] * 1e3 if count else None,
        "errors": len(errors),
    }


def http_size(data: bytes) -> int | None:
    """The size of a response with a Content-Length, once its head is there."""
    head, end, _ = data.partition(b"\r\n\r\n")
    if not end:
        return None
    _, _, rest = head.lower().partition(b"\r\ncontent-length:")
    return len(head) + 4 + int(rest.partition(b"\r\n")[0])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", choices=("pingpong", "http", "download", "upload", "handshakes"))
    parser.add_argument("port", type=int)
    parser.add_argument("connections", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--host", default="test")
    parser.add_argument("--path", default="/")
    parser.add_argument("--bytes", type=int, default=64)
    parser.add_argument("--certificate", default="")
    parser.add_argument("--key", default="")
    given = parser.parse_args()
    common = (given.port, given.connections, given.seconds)
    if given.mode == "pingpong":
        result = exchange(*common, bytes(given.bytes), lambda _: given.bytes)
    elif given.mode == "http":
        request = f"GET {given.path} HTTP/1.1\r\nHost: {given.host}\r\n\r\n".encode()
        result = exchange(*common, request, http_size)
    elif given.mode == "handshakes":
        result = handshakes(*common, given.certificate, given.key)
    else:
        result = bulk(*common, given.mode == "upload")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
