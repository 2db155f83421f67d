"""The RPC demo's clients: a connection on which one call follows the other."""

import socket
import ssl
from collections.abc import Mapping

from mosn_xds.cli.demo.rpc_frames import Speech
from mosn_xds.cli.demo.traffic import Tally
from mosn_xds.data.codec.rpc import Framer, Kind, RpcMessage, RpcResponse

_CHUNK_BYTES = 1 << 16


class Caller:
    """Calls one method. `tls`: a context to begin the connection with."""

    def __init__(
        self, speech: Speech, port: int, service: str, method: str, properties: Mapping[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:  # fmt: skip
        self._speech = speech
        self._port = port
        self._target = service, method, properties or {}
        self._tls = tls
        self._sock: socket.socket | None = None
        self._framer = Framer(speech.protocol)
        self._last_id = 0

    def ask(self) -> tuple[int, str]:
        """One call: HTTP's status for what came, and who answered, empty if nobody did. Raises OSError."""
        response = self.call()
        return response.status, self._speech.text(response) if response.status == 200 else ""

    def call(self) -> RpcResponse:
        """The answer to one call. Raises OSError."""
        if self._sock is None:
            self._sock = socket.create_connection(("127.0.0.1", self._port), timeout=5)
            if self._tls is not None:
                self._sock = self._tls.wrap_socket(self._sock)
            self._framer = Framer(self._speech.protocol)
        self._last_id += 1
        self._sock.sendall(self._speech.call(self._last_id, *self._target))
        while True:
            message = self._read(self._sock)
            if isinstance(message, RpcResponse) and (message.kind, message.id) == (Kind.RESPONSE, self._last_id):
                return message

    def _read(self, sock: socket.socket) -> RpcMessage:
        while True:
            data = sock.recv(_CHUNK_BYTES)
            if not data:
                raise ConnectionResetError("closed without an answer")
            frames = self._framer.receive(data)
            if frames:
                return self._speech.protocol.from_server(frames[0])

    def close(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def burst(self, count: int) -> Tally:
        """`count` calls, and the end of the connection."""
        tally = Tally()
        for _ in range(count):
            try:
                tally.answers[self.ask()] += 1
            except OSError as error:
                tally.failures[type(error).__name__] += 1
                self.close()
        self.close()
        return tally
