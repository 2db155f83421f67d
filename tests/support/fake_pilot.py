"""A real gRPC server that says what a test tells it to and remembers what it heard."""

import queue
import threading
from collections.abc import Iterator
from concurrent import futures

import grpc


class PilotStream:
    """One stream as the server sees it."""

    def __init__(self, metadata: dict[str, str]) -> None:
        self.metadata = metadata
        self.heard: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.to_say: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.written = 0

    def say(self, message: bytes) -> None:
        self.to_say.put(message)

    def end(self) -> None:
        """Half-close with OK."""
        self.to_say.put(None)

    def hear(self, timeout_s: float = 10.0) -> bytes:
        message = self.heard.get(timeout=timeout_s)
        assert message is not None, "the client ended the stream"
        return message


class FakePilot:
    """Serves every method as a bidirectional stream of bytes."""

    def __init__(self, address: str, credentials: grpc.ServerCredentials | None = None, **options: int) -> None:
        self.streams: queue.SimpleQueue[PilotStream] = queue.SimpleQueue()
        self._server = grpc.server(
            futures.ThreadPoolExecutor(max_workers=16),
            options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1)]
            + [(f"grpc.{name}", value) for name, value in options.items()],
        )
        self._server.add_generic_rpc_handlers((_Handler(self),))
        if credentials is None:
            self.port = self._server.add_insecure_port(address)
        else:
            self.port = self._server.add_secure_port(address, credentials)
        self._server.start()

    def accept(self, timeout_s: float = 10.0) -> PilotStream:
        return self.streams.get(timeout=timeout_s)

    def kill(self) -> None:
        """Every stream and connection goes at once."""
        self._server.stop(0).wait()

    def serve(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        stream = PilotStream({key: str(value) for key, value in context.invocation_metadata()})
        context.add_callback(lambda: stream.to_say.put(None))

        def read() -> None:
            try:
                for message in requests:
                    stream.heard.put(message)
            except Exception:  # how grpcio says that the peer is gone
                pass
            stream.heard.put(None)

        threading.Thread(target=read, daemon=True, name="fake-pilot").start()
        self.streams.put(stream)
        while (message := stream.to_say.get()) is not None:
            yield message
            stream.written += 1


class _Handler(grpc.GenericRpcHandler):
    def __init__(self, pilot: FakePilot) -> None:
        self._pilot = pilot

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        return grpc.stream_stream_rpc_method_handler(self._pilot.serve)
