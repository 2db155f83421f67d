"""Networks of one's own: a thread that is in one, and what it starts, is alone with a fresh loopback.

Recorded listeners bind fixed ports, 15001 and 15006 among them, and recorded endpoints have fixed addresses. In a namespace
of its own a test finds them all free and disturbs nobody, and two proxies serve the same addresses side by side. Needs root
(CAP_SYS_ADMIN) and Linux. Sockets and processes stay in the network that they were made in, whoever uses them.
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
    """Whether this process may make network namespaces."""
    try:
        Network().close()
    except OSError:
        return False
    return True


class Network:
    """A network namespace with its loopback up. Raises OSError without the privilege to make one."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        before = _current()
        try:
            if self._libc.unshare(_CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "cannot make a network namespace")
            self._fd = _current()
            try:
                _raise_loopback()
            finally:
                self._enter(before)
        finally:
            os.close(before)

    def __repr__(self) -> str:
        return f"<Network {os.readlink(f'/proc/self/fd/{self._fd}')}>"

    @property
    def path(self) -> str:
        """By which other tools (`ip`) find it."""
        return f"/proc/{os.getpid()}/fd/{self._fd}"

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """This thread, and the threads and processes that it starts, are in this network until the end."""
        before = _current()
        try:
            self._enter(self._fd)
            try:
                yield
            finally:
                self._enter(before)
        finally:
            os.close(before)

    def close(self) -> None:
        """Give it up; it lasts as long as somebody is in it."""
        os.close(self._fd)

    def _enter(self, fd: int) -> None:
        if self._libc.setns(fd, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "cannot change the network namespace")


def _current() -> int:
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("16sh14x", b"lo", 0)
        (flags,) = struct.unpack_from("h", fcntl.ioctl(probe, _SIOCGIFFLAGS, request), 16)
        fcntl.ioctl(probe, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | _IFF_UP))
