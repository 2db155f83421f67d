"""A real gRPC server and its client, without generated code: messages are bytes, and each method does what its name says.

The methods are those of gRPC's interoperability suite in small. `SERVICE` is what the proxy routes by.
"""

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent import futures
from typing import Any

import grpc

SERVICE = "mosn.test.Interop"
METADATA_ECHO = "x-echo-initial"
METADATA_ECHO_BINARY = "x-echo-trailing-bin"


def _unary_echo(request: bytes, context: grpc.ServicerContext) -> bytes:
    given = dict(context.invocation_metadata())
    if METADATA_ECHO in given:
        context.send_initial_metadata(((METADATA_ECHO, given[METADATA_ECHO]),))
    if METADATA_ECHO_BINARY in given:
        context.set_trailing_metadata(((METADATA_ECHO_BINARY, given[METADATA_ECHO_BINARY]),))
    return request


def _unary_sized(request: bytes, context: grpc.ServicerContext) -> bytes:
    return b"r" * int.from_bytes(request[:4], "big")


def _unary_fail(request: bytes, context: grpc.ServicerContext) -> bytes:
    code, _, message = request.decode().partition(" ")
    context.abort(next(one for one in grpc.StatusCode if one.value[0] == int(code)), message)
    raise AssertionError("abort raises")


def _unary_remaining(request: bytes, context: grpc.ServicerContext) -> bytes:
    left_s = context.time_remaining()
    return b"none" if left_s is None or left_s > 1e6 else b"%d" % int(left_s * 1000)


def _collect(requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
    return b"%d" % sum(len(request) for request in requests)


def _count(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
    sizes = [int(part) for part in request.split(b",") if part]
    for size in sizes:
        yield b"s" * size


def _ping_pong(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
    for request in requests:
        yield b"pong " + request


def _half_duplex(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
    yield from list(requests)


class InteropServer:
    """The server. `cancelled` is set when a call of ``Hang`` or ``Flood`` was given up; `flooded` is how many bytes the
    transport has taken of ``Flood``'s answers."""

    def __init__(
        self, options: Sequence[tuple[str, Any]] = (), credentials: grpc.ServerCredentials | None = None, port: int = 0
    ) -> None:
        self.cancelled = threading.Event()
        self.begun = threading.Event()
        self.flooded = 0
        self.calls = 0
        methods = {
            "Echo": grpc.unary_unary_rpc_method_handler(self._counted_echo),
            "Sized": grpc.unary_unary_rpc_method_handler(_unary_sized),
            "Fail": grpc.unary_unary_rpc_method_handler(_unary_fail),
            "Remaining": grpc.unary_unary_rpc_method_handler(_unary_remaining),
            "Hang": grpc.unary_stream_rpc_method_handler(self._hang),
            "Flood": grpc.unary_stream_rpc_method_handler(self._flood),
            "Collect": grpc.stream_unary_rpc_method_handler(_collect),
            "Count": grpc.unary_stream_rpc_method_handler(_count),
            "PingPong": grpc.stream_stream_rpc_method_handler(_ping_pong),
            "Unread": grpc.stream_stream_rpc_method_handler(self._unread),
            "HalfDuplex": grpc.stream_stream_rpc_method_handler(_half_duplex),
        }
        pool = futures.ThreadPoolExecutor(max_workers=24)
        self._server = grpc.server(pool, options=[("grpc.so_reuseport", 0), *options])
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
        address = f"127.0.0.1:{port}"
        if credentials is None:
            self.port = self._server.add_insecure_port(address)
        else:
            self.port = self._server.add_secure_port(address, credentials)
        self._server.start()

    def __repr__(self) -> str:
        return f"<InteropServer 127.0.0.1:{self.port} {self.calls} calls>"

    def stop(self, grace_s: float = 0.0) -> threading.Event:
        """Say GOAWAY, and end what is left after `grace_s`."""
        stopped: threading.Event = self._server.stop(grace_s)
        return stopped

    def _counted_echo(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        self.calls += 1
        return _unary_echo(request, context)

    def _hang(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        context.add_callback(self.cancelled.set)
        self.begun.set()
        if request:
            yield request
        while context.is_active():
            time.sleep(0.005)

    def _unread(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        while context.is_active():
            time.sleep(0.005)
        yield b""

    def _flood(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        context.add_callback(self.cancelled.set)
        self.flooded = 0
        chunk = b"f" * 65536
        for _ in range(int(request) // len(chunk)):
            if not context.is_active():
                return
            yield chunk
            self.flooded += len(chunk)


class Interop:
    """The client's side of every method, on one channel."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel = channel

    def unary(self, method: str, request: bytes = b"", **options: Any) -> Any:
        """A call and its answer. Raises grpc.RpcError."""
        return self.channel.unary_unary(f"/{SERVICE}/{method}")(request, **{"timeout": 10, **options})

    def with_call(self, method: str, request: bytes = b"", **options: Any) -> Any:
        """Answer and call, for metadata and status."""
        return self.channel.unary_unary(f"/{SERVICE}/{method}").with_call(request, **{"timeout": 10, **options})

    def collect(self, requests: Iterable[bytes], **options: Any) -> Any:
        return self.channel.stream_unary(f"/{SERVICE}/Collect")(iter(requests), **{"timeout": 10, **options})

    def stream(self, method: str, request: bytes = b"", **options: Any) -> Any:
        """The answers to one request."""
        return self.channel.unary_stream(f"/{SERVICE}/{method}")(request, **{"timeout": 10, **options})

    def both(self, method: str, requests: Iterable[bytes], **options: Any) -> Any:
        """The answers to many."""
        return self.channel.stream_stream(f"/{SERVICE}/{method}")(iter(requests), **{"timeout": 10, **options})
