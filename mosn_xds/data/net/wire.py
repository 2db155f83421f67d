"""Wire: one stream connection on the reactor. `mosn_xds.data.net.consumer` has the contract with who stands above it.

`write` only queues: at the end of the batch the wire sends what it has, small parts joined into one system call. What the
socket does not take is kept and sent when epoll says so (`Output`). Reading goes on until the socket is empty or the wire has
had its share of the batch; `pause_reading` counts, so that several reasons to stop can hold at once (`Input`). Here is the life
of the connection: how it opens, what epoll says, how it ends. A reset is seen while reading is stopped, too; a FIN is seen
behind the bytes before it, or at once with `early_close`.

Edge-triggered epoll needs care in one place: a short read means that the socket is empty, unless the peer has hung up, for
then no further event will announce what is behind. `_hung_up` says so, and such a wire reads until it is told the end.

In bulk mode (`set_bulk`) input goes through the reactor's scratch memory, and `write_through` hands it to the other socket
at once: only what that does not take is ever copied.

Wires know nothing of protocols, and of TLS only that a transport may need a handshake and have output of its own;
`mosn_xds.data.net.secure_wire` has the rest.
"""

import contextlib
import errno
import fcntl
import os
import socket
import struct
import termios
from array import array
from select import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP
from typing import Final

from mosn_xds.base.sockets import SocketAddress
from mosn_xds.data.net._input import Input
from mosn_xds.data.net._output import State
from mosn_xds.data.net.address import address_of
from mosn_xds.data.net.consumer import CloseReason, Nobody, WireConsumer
from mosn_xds.data.net.reactor import Reactor
from mosn_xds.data.net.timers import Timer
from mosn_xds.data.net.tls_facts import TlsFacts
from mosn_xds.data.net.transport import SecureTransport
from mosn_xds.spec.common import Address

_HANG_UP: Final = EPOLLRDHUP | EPOLLHUP | EPOLLERR
_INPUT: Final = EPOLLIN | _HANG_UP
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)

_OPEN: Final[State] = State.OPEN
_CLOSED: Final[State] = State.CLOSED
_NOBODY: Final = Nobody()


class Wire(Input):
    """One connection.

    `bytes_received`, `bytes_sent`, `pending_bytes` (written, but not taken by the socket yet) and `error` (what the system
    said about a lost connection) hold after the end, too. With `early_close` the peer's FIN ends the connection even while
    reading is stopped, unread bytes or not. `consumer` may be replaced at any time. `tls` is what TLS knows of the connection,
    None in plaintext; it holds after the end, too.
    """

    __slots__ = (
        "_delay_s", "_fin_sent", "_local", "_reason", "_remote", "_sent_before", "_sock", "_timer", "early_close", "tls",
    )  # fmt: skip

    def __init__(
        self,
        reactor: Reactor,
        sock: socket.socket,
        consumer: WireConsumer,
        *,
        buffer_limit_bytes: int = 1 << 20,
        remote_address: Address | None = None,
        secure: SecureTransport | None = None,
    ) -> None:
        """`sock` is non-blocking and belongs to the wire from now on. Call `start` if it is connected, else `connect`."""
        super().__init__(reactor, sock if secure is None else secure, consumer, secure, buffer_limit_bytes)
        self.early_close = False
        self.tls: TlsFacts | None = None
        self._sock = sock
        self._fin_sent = False
        self._reason = CloseReason.LOCAL
        self._timer: Timer | None = None
        self._delay_s = 0.0
        self._sent_before = 0
        self._remote = remote_address
        self._local: Address | None = None

    # Beginning.

    def start(self, *, handshake_timeout_s: float | None = None) -> None:
        """Serve a connected socket; with a secure transport after its handshake, which `on_connected` reports.

        Does nothing if the wire has been closed already.
        """
        if self._state is _CLOSED:
            return
        if self._secure is not None:
            self._state = State.HANDSHAKING
            self._blocked = True
            if handshake_timeout_s is not None:
                self._timer = self.reactor.timers.arm(handshake_timeout_s, self._on_connect_timeout)
        self.reactor.register(self._sock.fileno(), self)

    def connect(self, address: SocketAddress, timeout_s: float | None) -> None:
        """Connect the socket; `on_connected` or `on_closed` tells how it went, never before this returns.

        `timeout_s` includes the transport's handshake. What is written meanwhile is sent when there is a connection.
        """
        self._state = State.CONNECTING
        self._blocked = True
        number = self._sock.connect_ex(address)
        if number not in (0, errno.EINPROGRESS):
            self.fail_to_connect(OSError(number, os.strerror(number)))
            return
        if timeout_s is not None:
            self._timer = self.reactor.timers.arm(timeout_s, self._on_connect_timeout)
        self.reactor.register(self._sock.fileno(), self)

    def fail_to_connect(self, error: OSError) -> None:
        """Report CONNECT_FAILED at the end of the batch."""
        self.error = error.with_traceback(None)  # whose frames hold this wire: a cycle
        self._end_later(CloseReason.CONNECT_FAILED)

    # Ending our side.

    def _finish_output(self) -> None:
        if self._state is State.CLOSING and (self._eof or not self._delay_s):
            self._end(CloseReason.LOCAL)
        elif not self._fin_sent:
            self._fin_sent = True
            try:
                self._transport.shutdown(socket.SHUT_WR)
            except OSError as error:  # the peer has reset the connection meanwhile
                self._lose(error)
                return
            if self._eof:
                self._end(CloseReason.FINISHED)

    # Input.

    def on_ready(self, events: int) -> None:
        """For the reactor."""
        if self._state is not _OPEN:
            self._on_ready_unopened(events)
            return
        if events & _HANG_UP:
            self._hung_up = True
            if (self._paused or self._eof) and self._ends_unread(events):
                return
        if events & EPOLLOUT and self._blocked:
            self._blocked = False
            self.flush()
        if events & _INPUT:
            if self._paused:
                self._readable = True
            elif not self._eof and self._state is _OPEN:
                if self._sink is None:
                    self._read()
                else:
                    self._read_bulk(self._sink)

    def _end_input(self) -> None:
        self._eof = True
        self.consumer.on_eof()
        if self._fin_sent and self._state is _OPEN:
            self._end(CloseReason.FINISHED)

    def _ends_unread(self, events: int) -> bool:
        """The peer has hung up while nobody reads: end the connection if that means it."""
        if events & EPOLLERR:
            number = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or errno.ECONNRESET
            self._lose(OSError(number, os.strerror(number)))
        elif self.early_close and not self._eof:
            self._end(CloseReason.REMOTE_CLOSE)
        return self._state is _CLOSED

    # Other states than open.

    def _on_ready_unopened(self, events: int) -> None:
        if self._state is State.CLOSING:
            self._on_ready_closing(events)
            return
        if self._state is State.CONNECTING:
            number = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if number:
                self.error = OSError(number, os.strerror(number))
                self._end(CloseReason.CONNECT_FAILED)
                return
            if not events & EPOLLOUT:
                return
            if self._secure is not None:
                self._state = State.HANDSHAKING
        if self._state is State.HANDSHAKING:
            try:
                if not self._handshake():
                    return
            except BlockingIOError:
                return
            except OSError as error:
                self.error = error.with_traceback(None)  # whose frames hold this wire: a cycle
                self._end(CloseReason.HANDSHAKE_FAILED)
                return
            events |= EPOLLIN  # the transport may hold input already
        if self._state is _CLOSED:
            return
        self._cancel_timer()
        self._state = _OPEN
        self._blocked = False
        self.consumer.on_connected()
        if self._out or self._ended:
            self._mark_dirty()
        self.on_ready(events)

    def _handshake(self) -> bool:
        return self._secure is None or self._secure.handshake()

    def _on_ready_closing(self, events: int) -> None:
        if events & EPOLLERR:
            self._end(CloseReason.LOCAL)
            return
        if events & _HANG_UP:
            self._hung_up = True
        if events & EPOLLOUT and self._blocked:
            self._blocked = False
            self.flush()
        if not events & _INPUT or self._state is _CLOSED or self._eof:
            return
        scratch = self.reactor.scratch
        try:
            size = self._transport.recv_into(scratch)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(error)
            return
        if not size:
            self._eof = True
            if self._fin_sent:
                self._end(CloseReason.LOCAL)
        elif size == len(scratch) or self._hung_up or self._secure is not None:
            self.reactor.again(self)

    def _on_connect_timeout(self) -> None:
        self._end(CloseReason.CONNECT_TIMEOUT)

    def _on_delay_over(self) -> None:
        """As in Envoy the delay starts again while the peer still takes output."""
        if self.bytes_sent > self._sent_before:
            self._sent_before = self.bytes_sent
            self._timer = self.reactor.timers.arm(self._delay_s, self._on_delay_over)
        else:
            self._end(CloseReason.DELAYED_CLOSE_TIMEOUT)

    # The end.

    def close(self, *, flush: bool = True, delay_s: float = 0.0) -> None:
        """End the connection; no more input is delivered, and `on_closed` follows.

        With `flush` what is pending is sent first, and then our FIN; the peer's is awaited for `delay_s` (0: not at all),
        lest unread input turn our FIN into a reset that destroys what the peer has not read. Input is dropped meanwhile.
        A peer that takes no output for `delay_s` is given up; with 0 nothing limits that.
        """
        if self._state is _CLOSED:
            return
        if not flush or self._broken or self._state in (State.CONNECTING, State.HANDSHAKING):
            self._end_later(CloseReason.LOCAL)
            return
        if self._state is _OPEN:
            self._ended = True
            self._state = State.CLOSING
            self._delay_s = delay_s
            if delay_s:
                self._sent_before = self.bytes_sent
                self._timer = self.reactor.timers.arm(delay_s, self._on_delay_over)
                self.reactor.again(self)  # to drop the input that waits already
            self._mark_dirty()

    def abort(self) -> None:
        """End the connection with a reset, dropping what is pending; `on_closed` follows."""
        if self._state is not _CLOSED:
            self._reset_on_close()
            self._end_later(CloseReason.LOCAL)

    def detach(self) -> tuple[int, bytes]:
        """Give up the connection as it is: its descriptor, open and unregistered, and the input that was `unread`.

        Nobody is told. Raises RuntimeError if there is pending output, or a transport whose state would be lost.
        """
        if self._state is not _OPEN or self.pending_bytes or self._secure is not None:
            raise RuntimeError(f"{self!r} cannot be detached")
        unread = self._unread
        fd = self._sock.fileno()
        self.reactor.unregister(fd)
        self._sock.detach()
        self._release()
        self.consumer = _NOBODY
        return fd, unread

    def on_failure(self, error: Exception) -> None:
        """For the reactor: a handler failed, so nothing that this connection carries can be trusted."""
        if self._state is not _CLOSED:
            self._reset_on_close()
            self._end(CloseReason.HANDLER_FAILED)

    def _lose(self, error: OSError) -> None:
        self.error = error.with_traceback(None)  # whose frames hold this wire: a cycle
        self._end(CloseReason.LOCAL if self._state is State.CLOSING else CloseReason.REMOTE_RESET)

    def _end(self, reason: CloseReason) -> None:
        """End at once: only where no consumer is on the stack."""
        if self._state is not _CLOSED:
            self._reason = reason
            self._release()
            self._report_end()

    def _end_later(self, reason: CloseReason) -> None:
        self._reason = reason
        self._release()
        self.reactor.defer(self._report_end)

    def _report_end(self) -> None:
        consumer, self.consumer = self.consumer, _NOBODY
        consumer.on_closed(self._reason)

    def _release(self) -> None:
        self._state = _CLOSED
        self._ended = True
        self._out.clear()
        self.pending_bytes = 0
        self._unread = b""
        self._sink = None
        self._secure = None
        self._transport = self._sock
        self._recv = self._sock.recv
        self._cancel_timer()
        fd = self._sock.detach()
        if fd >= 0:
            self.reactor.close_fd(fd)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _reset_on_close(self) -> None:
        with contextlib.suppress(OSError):  # gone already
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)

    # Looking.

    @property
    def alpn(self) -> bytes | None:
        """The protocol that both sides agreed on during a TLS handshake; None for none, and in plaintext."""
        return None

    @property
    def is_open(self) -> bool:
        """Connected, and not closed or being closed by us."""
        return self._state is _OPEN

    @property
    def is_closed(self) -> bool:
        return self._state is _CLOSED

    @property
    def unacknowledged_bytes(self) -> int:
        """How much of what was sent the peer's system has not taken (SIOCOUTQ); 0 once the connection is closed.

        Together with the peer's FIN it says what the peer cannot have read: its FIN acknowledges all that came before.
        """
        count = array("i", [0])
        try:
            fcntl.ioctl(self._sock.fileno(), termios.TIOCOUTQ, count)
        except (OSError, ValueError):  # no such question for this socket, or no socket any more
            return 0
        return count[0]

    @property
    def local_address(self) -> Address | None:
        """Asked of the kernel when first needed; None if that is too late."""
        if self._local is None:
            with contextlib.suppress(OSError):
                self._local = address_of(self._sock.getsockname())
        return self._local

    @property
    def remote_address(self) -> Address | None:
        """As `local_address`."""
        if self._remote is None:
            with contextlib.suppress(OSError):
                self._remote = address_of(self._sock.getpeername())
        return self._remote

    def __repr__(self) -> str:
        return f"<Wire {self.local_address} - {self.remote_address} {self._state.value}, {self.pending_bytes} pending>"
