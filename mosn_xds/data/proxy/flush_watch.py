"""Answers that a client lets wait: HTTP/2 streams that have ended for the proxy and whose last bytes cannot leave.

A client may ask and then open no window, or read nothing: the answers stay in the codec, and no stream is there any more
whose time-outs would end it. As in Envoy such a stream has the idle time-out of streams, anew whenever some of it has left,
and is reset then (``http2.tx_flush_timeout``).

What it costs where nobody does so is one comparison per flush, by the connection (`Http2Codec.unfinished`).
"""

from collections.abc import Callable, Collection

from mosn_xds.base.clock import Clock
from mosn_xds.data.codec.http2 import Http2ServerCodec
from mosn_xds.data.net.timers import Timer, TimerWheel


class FlushWatch:
    """Of one connection; `served` are the streams that have not ended, `give_up` is called after some were reset."""

    __slots__ = ("_clock", "_codec", "_give_up", "_seen", "_served", "_timeout_s", "_timer", "_timers")

    def __init__(
        self,
        codec: Http2ServerCodec,
        served: Collection[int],
        timers: TimerWheel,
        clock: Clock,
        timeout_s: float,
        give_up: Callable[[], None],
    ) -> None:
        self._codec = codec
        self._served = served
        self._timers = timers
        self._clock = clock
        self._timeout_s = timeout_s
        self._give_up = give_up
        self._seen: dict[int, tuple[float, int]] = {}  # when that many bytes were found waiting
        self._timer: Timer | None = None

    def look(self) -> None:
        """There are streams in the codec that are not served any more."""
        if self._timer is None:
            self._look()

    def close(self) -> None:
        """The connection is over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._seen.clear()
        self._give_up = _nobody

    def _look(self) -> None:
        codec, now = self._codec, self._clock.monotonic()
        waiting = codec.unfinished_streams().difference(self._served)
        before, self._seen = self._seen, {}
        expired = False
        for stream_id in waiting:
            size = codec.queued_bytes(stream_id)
            since, known = before.get(stream_id, (now, size))
            if size < known:
                since = now
            if now - since >= self._timeout_s:
                codec.give_up(stream_id)
                expired = True
            else:
                self._seen[stream_id] = since, size
        if self._seen:
            next_at = min(since for since, _ in self._seen.values()) + self._timeout_s
            self._timer = self._timers.arm(max(0.0, next_at - now), self._on_time)
        if expired:
            self._give_up()

    def _on_time(self) -> None:
        self._timer = None
        self._look()

    def __repr__(self) -> str:
        return f"<FlushWatch {len(self._seen)} streams>"


def _nobody() -> None:
    """Who hears of a connection that is over."""
