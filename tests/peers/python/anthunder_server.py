"""anthunder_server.py PORT NAME: anthunder serves the Echo service over Bolt v1. Contents are UTF-8 text, no hessian; an
empty result is no answer at all in this library, so there is no `nothing`."""

import logging
import sys
import threading
import time
from typing import Any

from anthunder.listener.aio_listener import AioListener
from anthunder.listener.base_listener import BaseService
from commands import SERVICES, VERSION, announce


class Echo(BaseService):
    """The methods; one object per call, so what is remembered is the class's."""

    name = ""
    notes = 0
    sleeping = 0
    lock = threading.Lock()

    def echo(self, body: bytes) -> bytes:
        return body

    def who(self, body: bytes) -> bytes:
        return self.name.encode()

    def slow(self, body: bytes) -> bytes:
        with self.lock:
            Echo.sleeping += 1
        time.sleep(int(body) / 1000)
        with self.lock:
            Echo.sleeping -= 1
        return self.name.encode()

    def busy(self, body: bytes) -> bytes:
        return str(self.sleeping).encode()

    def big(self, body: bytes) -> bytes:
        return b"x" * int(body)

    def crash(self, body: bytes) -> bytes:
        raise ValueError(body.decode())

    def note(self, body: bytes) -> bytes:
        with self.lock:
            Echo.notes += 1
        return b"noted"

    def noted(self, body: bytes) -> bytes:
        return str(self.notes).encode()


def main(port: int, name: str) -> None:
    logging.disable(logging.ERROR)
    Echo.name = name
    listener: Any = AioListener(("127.0.0.1", port), "peers")
    for service in SERVICES:
        listener.handler.register_interface(f"{service}:{VERSION}", Echo)
    threading.Thread(target=listener.run_forever, daemon=True).start()
    while not (listener._server and listener._server.sockets):
        time.sleep(0.005)
    announce(port, name)
    threading.Event().wait()


main(int(sys.argv[1]), sys.argv[2])
