"""What a Wire needs of whatever carries its bytes. A connected, non-blocking `socket.socket` is a Transport as it stands,
so plaintext pays nothing for this seam; TLS is another one.

Every operation moves what it can at once: it raises BlockingIOError when it can move nothing now, and another OSError when
the connection is lost (a TLS failure is an OSError, too).
"""

from collections.abc import Iterable
from typing import Final, Protocol

Bytes = bytes | bytearray | memoryview


class Transport(Protocol):
    """Bytes in and out of one connection."""

    def recv(self, size: int, /) -> bytes:
        """At most `size` bytes, ``b""`` once the peer has ended its side."""
        ...

    def recv_into(self, buffer: memoryview, /) -> int:
        """As `recv`, into `buffer`; 0 at the end."""
        ...

    def send(self, data: Bytes, /) -> int:
        """How many bytes of `data` were taken, from the front."""
        ...

    def sendmsg(self, buffers: Iterable[Bytes], /) -> int:
        """As `send`, of all `buffers` in order."""
        ...

    def shutdown(self, how: int, /) -> None:
        """`socket.SHUT_WR` ends our side; what was sent before still arrives."""
        ...


class SecureTransport(Transport, Protocol):
    """A Transport with a handshake before, and with output of its own between the caller's bytes and the socket's.

    `send` stops taking bytes when the socket stops taking what they have become, 64 KiB apart: what waits must wait where it
    is counted. What it has taken leaves with `drain` at the latest, which has to follow.
    """

    def handshake(self) -> bool:
        """Go on with the handshake as far as the socket allows; True once it is complete."""
        ...

    def drain(self) -> bool:
        """Send what is encrypted already; True when nothing of it is left."""
        ...

    def finish(self) -> None:
        """Say that nothing comes behind what was sent; this, too, leaves with `drain`. `shutdown` does so where it is left out."""
        ...


_JOIN_BYTES: Final = 65536
"""Up to here joining parts for one send is cheaper than sendmsg (31 parts: 11 us against 15), above the copy costs more."""
_IOV_MAX: Final = 1024


def send_parts(transport: Transport, parts: list[Bytes], size: int) -> int:
    """Send `parts`, `size` bytes together, until all are gone or `transport` takes no more; returns how much it took.

    `parts` keeps what is left. Raises OSError when the connection is lost.
    """
    left = size
    while left:
        offered = len(parts)
        try:
            if offered == 1:
                sent = transport.send(parts[0])
            elif left <= _JOIN_BYTES:
                sent = transport.send(b"".join(parts))
            else:
                offered = min(offered, _IOV_MAX)
                sent = transport.sendmsg(parts[:offered])
        except BlockingIOError:
            break
        if sent == left:
            parts.clear()
            return size
        left -= sent
        taken = 0
        for part in parts:
            if sent < len(part):
                break
            sent -= len(part)
            taken += 1
        if sent:
            parts[taken] = memoryview(parts[taken])[sent:]
        del parts[:taken]
        if taken < offered:
            break
    return size - left
