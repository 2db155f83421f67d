"""HTTP/2 keep-alive of one upstream connection: a PING now and then, and the end if nothing at all comes back.

The rules are Envoy's `connection_keepalive` (envoy.config.core.v3.KeepaliveSettings): intervals are stretched by up to 15 %
of chance, and whatever the peer sends while its answer is awaited counts as a sign of life, for an answer may stand in a
queue behind it.
"""

from collections.abc import Callable

from mosn_xds.base.chance import Random
from mosn_xds.data.net.reactor import Reactor
from mosn_xds.data.net.timers import Timer
from mosn_xds.spec.listener import Http2Settings

_JITTER = 0.15


class Keepalive:
    """See the module. `ping` sends, `give_up` ends the connection; neither is called after `close`."""

    __slots__ = ("_give_up", "_heard_s", "_interval_s", "_ping", "_random", "_reactor", "_timeout_s", "_timer")

    def __init__(
        self,
        reactor: Reactor,
        settings: Http2Settings,
        random: Random,
        ping: Callable[[], None],
        give_up: Callable[[], None],
    ) -> None:
        self._reactor = reactor
        self._interval_s = settings.keepalive_interval_s or 0.0
        self._timeout_s = settings.keepalive_timeout_s or 0.0
        self._random = random
        self._ping: Callable[[], None] | None = ping
        self._give_up: Callable[[], None] | None = give_up
        self._heard_s = 0.0
        self._timer: Timer | None = None
        self._wait()

    def heard(self) -> None:
        """Something came."""
        self._heard_s = self._reactor.clock.now

    def answered(self) -> None:
        """The answer to our PING came."""
        if self._timer is not None:
            self._timer.cancel()
        self._wait()

    def close(self) -> None:
        """The connection is over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._ping = self._give_up = None

    def _wait(self) -> None:
        interval_s = self._interval_s * (1.0 + _JITTER * self._random.random())
        self._timer = self._reactor.timers.arm(interval_s, self._send)

    def _send(self) -> None:
        if self._ping is not None:
            self._heard_s = self._reactor.clock.now
            self._timer = self._reactor.timers.arm(self._timeout_s, self._on_timeout)
            self._ping()

    def _on_timeout(self) -> None:
        self._timer = None
        silent_s = self._reactor.clock.now - self._heard_s
        if silent_s < self._timeout_s:
            self._timer = self._reactor.timers.arm(self._timeout_s - silent_s, self._on_timeout)
        elif self._give_up is not None:
            self._give_up()

    def __repr__(self) -> str:
        return f"<Keepalive every {self._interval_s} s, {self._timeout_s} s to answer>"
