"""The downstream side of a connection, whatever its protocol: what a wire, a codec and the streams have in common.

A `ServerConnection` stands between its wire and its streams; a class below it, for each protocol, adds the codec. Here is
the connection's time (idle, maximal duration, time-outs of its streams) with a single timer, its statistics, and its end.
Nothing here counts on one stream at a time.
"""

from typing import TYPE_CHECKING, Final

from mosn_xds.base.errors import ResponseFlag
from mosn_xds.data.codec.head import Fields, ResponseHead
from mosn_xds.data.net.consumer import CloseReason
from mosn_xds.data.net.timers import Timer
from mosn_xds.data.net.wire import Wire
from mosn_xds.data.observe.info import ConnectionInfo
from mosn_xds.data.proxy.deadlines import NEVER

if TYPE_CHECKING:
    from mosn_xds.data.proxy.downstream import Downstream
    from mosn_xds.data.proxy.manager import ConnectionManager
    from mosn_xds.data.proxy.stream import Stream


_BY_PEER: Final = (
    CloseReason.REMOTE_CLOSE,
    CloseReason.REMOTE_RESET,
    CloseReason.FINISHED,
    CloseReason.HANDSHAKE_FAILED,
)


class ServerConnection:
    """One downstream connection of a connection manager; the consumer of its wire."""

    __slots__ = (
        "_by_peer",
        "_closing",
        "_downstream",
        "_drain",
        "_head_deadline",
        "_idle_deadline",
        "_max_deadline",
        "_timer",
        "buffer_limit_bytes",
        "clock",
        "info",
        "manager",
        "requests",
        "stats",
        "streams",
        "timer_due",
        "timers",
        "wire",
    )

    def __init__(
        self, manager: "ConnectionManager", downstream: "Downstream", predecessor: "ServerConnection | None" = None
    ) -> None:
        """`predecessor` had the wire until its protocol was known; it must be forgotten afterwards."""
        self.manager = manager
        self._downstream = downstream
        self._drain = downstream.drain
        self.wire: Wire = downstream.wire
        self.wire.early_close = True  # a client that hangs up is gone, whatever it still had to say
        self.info: ConnectionInfo = downstream.info
        reactor = downstream.reactor
        self.clock = reactor.clock
        self.timers = reactor.timers
        self.buffer_limit_bytes = downstream.buffer_limit_bytes
        self.streams: dict[int, Stream] = {}
        self.requests = 0
        self._by_peer = False
        self._closing = False
        self._timer: Timer | None = None
        self.timer_due = NEVER
        """When the timer fires; who has no earlier deadline need not call `watch`."""
        self._head_deadline = NEVER
        self.stats = manager.stats
        if predecessor is None:
            now = self.clock.now
            self._idle_deadline = now + manager.idle_timeout_s
            self._max_deadline = now + manager.max_connection_duration_s
            self.stats.downstream_cx_total += 1
            self.stats.downstream_cx_active += 1
            if self.info.tls is not None:
                self.stats.downstream_cx_ssl_total += 1
                self.stats.downstream_cx_ssl_active += 1
        else:
            self._idle_deadline = predecessor._idle_deadline
            self._max_deadline = predecessor._max_deadline
            if predecessor._timer is not None:
                predecessor._timer.cancel()
        self.watch(min(self._idle_deadline, self._max_deadline))

    # What the protocols do differently.

    def on_data(self, data: bytes) -> None:
        raise NotImplementedError

    def on_eof(self) -> None:
        raise NotImplementedError

    def send_informational(self, stream: "Stream", head: ResponseHead) -> None:
        """1xx, but for 101."""
        raise NotImplementedError

    def send_head(self, stream: "Stream", head: ResponseHead, end: bool) -> None:
        raise NotImplementedError

    def send_data(self, stream: "Stream", data: bytes, end: bool) -> None:
        raise NotImplementedError

    def send_trailers(self, stream: "Stream", fields: Fields) -> None:
        raise NotImplementedError

    def begin_upgrade(self, stream: "Stream") -> None:
        """The stream's 101 goes out next; what follows is raw bytes in both directions."""
        raise NotImplementedError

    def pause_stream(self, stream: "Stream") -> None:
        """Let the client send no more of this request; calls nest."""
        raise NotImplementedError

    def resume_stream(self, stream: "Stream") -> None:
        raise NotImplementedError

    def stream_done(self, stream: "Stream") -> None:
        """The response is complete."""
        raise NotImplementedError

    def stream_reset(self, stream: "Stream") -> None:
        """The response cannot go on."""
        raise NotImplementedError

    def close_if_idle(self) -> bool:
        """The drain time is over: close now if no stream is active, else after the active ones. True if closed."""
        raise NotImplementedError

    def _release(self) -> None:
        """The connection is over: let go of the codec, and count."""
        raise NotImplementedError

    def _on_idle(self) -> bool:
        """No stream for the idle time. Returns whether that closed the connection."""
        raise NotImplementedError

    def _on_max_duration(self) -> bool:
        """The connection's time is over. Returns whether that closed it."""
        raise NotImplementedError

    def _on_head_timeout(self) -> None:
        """A request's head has taken too long."""

    # The wire's consumer.

    def on_connected(self) -> None:
        """Accepted sockets are connected from the start; a handshake needs nothing of us."""

    def on_closed(self, reason: CloseReason) -> None:
        if reason in _BY_PEER:
            self._by_peer = True
        self._lose("downstream_remote_disconnect")
        self._end()

    def on_above_high_water(self) -> None:
        for stream in list(self.streams.values()):
            if stream.router is not None:
                stream.router.pause_upstream()

    def on_below_low_water(self) -> None:
        for stream in list(self.streams.values()):
            if stream.router is not None:
                stream.router.resume_upstream()

    def on_failure(self, error: Exception) -> None:
        """A handler of this connection raised (logged by the reactor): its streams end, the others' do not."""
        del error
        self._lose("internal_error")

    def _lose(self, details: str, flags: int = int(ResponseFlag.DC)) -> None:
        streams = list(self.streams.values())
        self.streams.clear()
        if streams:
            stats = self.stats
            stats.downstream_cx_destroy_active_rq += 1
            stats.downstream_cx_destroy_remote_active_rq += 1
        for stream in streams:
            stream.on_downstream_gone(details, flags)

    def _end(self) -> None:
        """The wire is closed: let go of everything."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        stats = self.stats
        stats.downstream_cx_destroy += 1
        if self._by_peer:
            stats.downstream_cx_destroy_remote += 1
        else:
            stats.downstream_cx_destroy_local += 1
        stats.downstream_cx_active -= 1
        if self.info.tls is not None:
            stats.downstream_cx_ssl_active -= 1
        stats.downstream_cx_length_ms.record((self.clock.now - self.info.start_s) * 1000)
        self._release()
        self._downstream.done(self)

    # Drain and time.

    def _draining(self) -> bool:
        return self._drain.should_close(self.manager.random, self.clock.now)

    @property
    def idle(self) -> bool:
        return not self.streams

    def watch(self, deadline: float) -> None:
        """Make sure that `_on_time` runs at `deadline` at the latest."""
        if deadline < self.timer_due:
            if self._timer is not None:
                self._timer.cancel()
            self.timer_due = deadline
            self._timer = self.timers.arm(max(0.0, deadline - self.clock.now), self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        self.timer_due = NEVER
        now = self.clock.now
        for stream in list(self.streams.values()):
            if stream.next_deadline() <= now:
                stream.on_deadline(now)
        if self._closing:
            return
        if self._head_deadline <= now:
            self._head_deadline = NEVER
            self._on_head_timeout()
            return
        if not self.streams and self._idle_deadline <= now:
            self._idle_deadline = NEVER
            self.stats.downstream_cx_idle_timeout += 1
            if self._on_idle():
                return
        if self._max_deadline <= now:
            self._max_deadline = NEVER
            self.stats.downstream_cx_max_duration_reached += 1
            if self._on_max_duration():
                return
        deadline = min(self._head_deadline, self._max_deadline, NEVER if self.streams else self._idle_deadline)
        for stream in self.streams.values():
            deadline = min(deadline, stream.next_deadline())
        if self.streams and deadline == NEVER:
            # Look again when the connection may have become idle.
            deadline = now + self.manager.idle_timeout_s
        if deadline < NEVER:
            self.watch(deadline)

    def __repr__(self) -> str:
        name = type(self).__name__
        return f"<{name} {self.info.remote} {len(self.streams)} streams, {self.requests} requests>"
