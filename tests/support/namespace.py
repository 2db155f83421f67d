"""A network of one's own: while it lasts, this thread and what it starts are alone with a fresh loopback.

Recorded listeners bind fixed ports, 15001 and 15006 among them; in a namespace of its own a test finds them all free and
disturbs nobody. Needs root (CAP_SYS_ADMIN) and Linux. Sockets that are open keep the network they were made in.
"""

import contextlib
import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Iterator

_CLONE_NEWNET = 0x40000000
_SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x8913, 0x8914
_IFF_UP = 1


def is_possible() -> bool:
    """Whether this process may make a network namespace: tried in a child, so that nothing here changes."""
    pid = os.fork()
    if pid == 0:
        os._exit(0 if _libc().unshare(_CLONE_NEWNET) == 0 else 1)
    return os.waitpid(pid, 0)[1] == 0


@contextlib.contextmanager
def own_network() -> Iterator[None]:
    """Until the end, this thread and the threads and processes that it starts are in a new network namespace.

    Raises OSError without the privilege.
    """
    libc = _libc()
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.unshare(_CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "cannot make a network namespace")
        try:
            _raise_loopback()
            yield
        finally:
            if libc.setns(before, _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "cannot go back to the network namespace")
    finally:
        os.close(before)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("16sh14x", b"lo", 0)
        (flags,) = struct.unpack_from("h", fcntl.ioctl(probe, _SIOCGIFFLAGS, request), 16)
        fcntl.ioctl(probe, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | _IFF_UP))
