"""thrift_server.py binary|compact PORT NAME: thriftpy2 serves the Echo service, framed, under its names and under none."""

import logging
import sys
import threading
import time
from pathlib import Path
from typing import Any

import thriftpy2
from commands import SERVICES, announce
from thriftpy2.protocol import TBinaryProtocolFactory, TCompactProtocolFactory
from thriftpy2.server import TThreadedServer
from thriftpy2.thrift import TMultiplexedProcessor, TProcessor
from thriftpy2.transport import TFramedTransportFactory, TServerSocket


def main(protocol: str, port: int, name: str) -> None:
    logging.disable(logging.CRITICAL)
    idl: Any = thriftpy2.load(str(Path(__file__).with_name("echo.thrift")), module_name="echo_thrift")
    lock = threading.Lock()

    class Begun:
        """A protocol whose message has been begun to read."""

        def __init__(self, iprot: Any) -> None:
            self.begin = iprot.read_message_begin()
            self._iprot = iprot

        def read_message_begin(self) -> Any:
            return self.begin

        def __getattr__(self, name: str) -> Any:
            return getattr(self._iprot, name)

    class Named(TProcessor):
        """A call that names a service goes to `services`."""

        def process_in(self, iprot: Any) -> Any:
            begun = Begun(iprot)
            return services.process_in(begun) if ":" in begun.begin[0] else super().process_in(begun)

    class Handler:
        notes = 0
        sleeping = 0

        def echo(self, text: str) -> str:
            return text

        def who(self) -> str:
            return name

        def slow(self, milliseconds: int) -> str:
            with lock:
                self.sleeping += 1
            time.sleep(milliseconds / 1000)
            with lock:
                self.sleeping -= 1
            return name

        def busy(self) -> str:
            return str(self.sleeping)

        def big(self, size: int) -> str:
            return "x" * size

        def fail(self, text: str) -> str:
            raise idl.Failure(message=text)

        def crash(self, text: str) -> str:
            raise ValueError(text)

        def note(self) -> None:
            with lock:
                self.notes += 1

        def noted(self) -> str:
            return str(self.notes)

    factories = {"binary": TBinaryProtocolFactory, "compact": TCompactProtocolFactory}

    class Socket(TServerSocket):
        def listen(self) -> None:
            super().listen()
            announce(port, name)

    handler = Handler()
    services = TMultiplexedProcessor()
    for service in SERVICES:
        services.register_processor(service, TProcessor(idl.Echo, handler))
    server = TThreadedServer(
        Named(idl.Echo, handler),
        Socket("127.0.0.1", port),
        iprot_factory=factories[protocol](),
        itrans_factory=TFramedTransportFactory(),
        daemon=True,
    )
    server.serve()


main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
