"""TCP ports that a test may hand to a process which binds them a moment later.

Asking the kernel for port 0 and closing the socket is a race with every outgoing connection of the machine, which take
their local ports from the same range. These come from below that range, and none is given out twice while who took it
lives, whatever else is tested on the machine at the same time: a port is claimed by a lock on one byte of a file, which
the kernel releases with the process.
"""

import fcntl
import os
import random
import socket
import tempfile
from functools import cache

_PORTS = range(10_000, 32_000)


class PortAllocator:
    """Gives free ports of 127.0.0.1 (and of the wildcard address), none of them twice."""

    def __init__(self) -> None:
        self._claims = _claims()
        self._random = random.SystemRandom()

    def __repr__(self) -> str:
        return f"<PortAllocator {self._claims!r}>"

    def take(self) -> int:
        """A port that nobody listens on. Raises RuntimeError when a few thousand tries found none."""
        for _ in range(5000):
            port = self._random.choice(_PORTS)
            if _is_free(port) and self._claims.claim(port):
                return port
        raise RuntimeError(f"no free port between {_PORTS.start} and {_PORTS.stop}")


class _Claims:
    """The ports that this process has claimed. The file stays open for good: closing it would release them all."""

    def __init__(self) -> None:
        path = os.path.join(tempfile.gettempdir(), f"mosn-xds-test-ports.{os.getuid()}")
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._own: set[int] = set()

    def __repr__(self) -> str:
        return f"<{len(self._own)} ports claimed>"

    def claim(self, port: int) -> bool:
        """Whether it was nobody's; it is ours from now on."""
        if port in self._own:
            return False
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
        except BlockingIOError:
            return False
        self._own.add(port)
        return True


@cache
def _claims() -> _Claims:
    """One for the process: the kernel does not tell its owner of a lock from itself."""
    return _Claims()


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
        except OSError:
            return False
    return True
