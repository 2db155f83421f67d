"""TCP ports that a test may hand to a process which binds them a moment later.

Asking the kernel for port 0 and closing the socket is a race with every outgoing connection of the machine, which take
their local ports from the same range. These come from below that range and are given out once per process; processes of
tests that run side by side (pytest-xdist) each have a part of the range for themselves.
"""

import os
import random
import socket

_FIRST, _LAST = 10_000, 32_000


class PortAllocator:
    """Gives free ports of 127.0.0.1 (and of the wildcard address), none of them twice."""

    def __init__(self) -> None:
        self._range = _own_range()
        self._given: set[int] = set()
        self._random = random.SystemRandom()

    def __repr__(self) -> str:
        return f"<PortAllocator {len(self._given)} given>"

    def take(self) -> int:
        """A port that nobody listens on. Raises RuntimeError when a few thousand tries found none."""
        for _ in range(5000):
            port = self._random.choice(self._range)
            if port not in self._given and _is_free(port):
                self._given.add(port)
                return port
        raise RuntimeError(f"no free port between {self._range.start} and {self._range.stop}")


def _own_range() -> range:
    """This process's part of the ports, as pytest-xdist numbers its workers."""
    worker, workers = os.environ.get("PYTEST_XDIST_WORKER"), int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    size = (_LAST - _FIRST) // workers
    first = _FIRST + size * (int(worker.removeprefix("gw")) if worker else 0)
    return range(first, first + size)


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
        except OSError:
            return False
    return True
