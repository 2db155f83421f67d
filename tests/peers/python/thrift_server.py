"""thrift_server.py binary|compact PORT NAME: thriftpy2 serves the Echo service, framed."""

import logging
import sys
import threading
import time
from pathlib import Path
from typing import Any

import thriftpy2
from commands import announce
from thriftpy2.protocol import TBinaryProtocolFactory, TCompactProtocolFactory
from thriftpy2.server import TThreadedServer
from thriftpy2.thrift import TProcessor
from thriftpy2.transport import TFramedTransportFactory, TServerSocket


def main(protocol: str, port: int, name: str) -> None:
    logging.disable(logging.CRITICAL)
    idl: Any = thriftpy2.load(str(Path(__file__).with_name("echo.thrift")), module_name="echo_thrift")
    lock = threading.Lock()

    class Handler:
        notes = 0

        def echo(self, text: str) -> str:
            return text

        def who(self) -> str:
            return name

        def slow(self, milliseconds: int) -> str:
            time.sleep(milliseconds / 1000)
            return name

        def big(self, size: int) -> str:
            return "x" * size

        def fail(self, text: str) -> str:
            raise idl.Failure(message=text)

        def crash(self, text: str) -> str:
            raise ValueError(text)

        def note(self) -> None:
            with lock:
                self.notes += 1

        def noted(self) -> int:
            return self.notes

    factories = {"binary": TBinaryProtocolFactory, "compact": TCompactProtocolFactory}
    socket = TServerSocket("127.0.0.1", port)
    socket.listen()
    announce(port, name)
    server = TThreadedServer(
        TProcessor(idl.Echo, Handler()),
        socket,
        iprot_factory=factories[protocol](),
        itrans_factory=TFramedTransportFactory(),
        daemon=True,
    )
    server.serve()


main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
