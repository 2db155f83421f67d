"""One service of the RPC demo, run as a process of its own: says who it is, in Bolt and in Dubbo on the same port.

``python -m mosn_xds.cli.demo.rpc_service NAME PORT``
"""

import socketserver
import sys
import time

from mosn_xds.cli.demo.rpc_frames import BoltSpeech, DubboSpeech
from mosn_xds.data.codec.rpc import Framer, Kind, RpcRequest
from mosn_xds.data.codec.rpc.bolt import wire as bolt

_WORK_S = 0.001
_CHUNK_BYTES = 1 << 16


class _Service(socketserver.BaseRequestHandler):
    name = ""

    def handle(self) -> None:
        data = self.request.recv(_CHUNK_BYTES)
        speech = BoltSpeech() if data[:1] in (bytes((bolt.V1,)), bytes((bolt.V2,))) else DubboSpeech()
        framer = Framer(speech.protocol)
        while data:
            for frame in framer.receive(data):
                message = speech.protocol.from_client(frame)
                if isinstance(message, RpcRequest) and message.kind is Kind.HEARTBEAT:
                    self.request.sendall(speech.protocol.heartbeat_reply(message))
                elif isinstance(message, RpcRequest):
                    time.sleep(_WORK_S)  # so that there are calls under way when a host dies
                    self.request.sendall(speech.answer(message, self.name))
            data = self.request.recv(_CHUNK_BYTES)


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """The demo prints what happened; its upstreams do not."""


def main() -> None:
    """Serve until killed."""
    handler = type("Service", (_Service,), {"name": sys.argv[1]})
    _Server(("127.0.0.1", int(sys.argv[2])), handler).serve_forever()


if __name__ == "__main__":
    main()
