"""When to ask a silent peer whether it is there: Envoy's `KeepaliveSettings`, for protocols that have a ping.

Who has the connection sends the ping and reports the answer; here is only time: each `interval` (with jitter, so that
connections opened together do not ask together) a ping, and each ping's answer within `timeout`. Whatever else comes while
an answer is awaited is a sign of life, too: the answer may stand in a queue behind it.
"""

from collections.abc import Callable

from mosn_xds.base.chance import Random
from mosn_xds.data.net.timers import Timer, TimerWheel


class Keepalive:
    """The pings of one connection. `send` sends one, `lost` is called once if its answer does not come in time."""

    __slots__ = ("_answer_due", "_interval_s", "_jitter", "_lost", "_next", "_random", "_send", "_timeout_s", "_timers")

    def __init__(
        self,
        timers: TimerWheel,
        random: Random,
        *,
        interval_s: float | None,
        timeout_s: float,
        jitter: float,
        send: Callable[[], None],
        lost: Callable[[], None],
    ) -> None:
        """`jitter` is the fraction of the interval that is added at most; without an interval pings are sent by `probe`."""
        self._timers = timers
        self._random = random
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._jitter = jitter
        self._send: Callable[[], None] | None = send
        self._lost: Callable[[], None] | None = lost
        self._next: Timer | None = None
        self._answer_due: Timer | None = None
        self._plan()

    def _plan(self) -> None:
        if self._interval_s is not None:
            delay_s = self._interval_s * (1 + self._jitter * self._random.random())
            self._next = self._timers.arm(delay_s, self.probe)

    def probe(self) -> None:
        """Ask now, unless an answer is awaited already."""
        if self._send is None or self._answer_due is not None:
            return
        if self._next is not None:
            self._next.cancel()
            self._next = None
        self._answer_due = self._timers.arm(self._timeout_s, self._on_timeout)
        self._send()

    def heard(self) -> None:
        """Something came from the peer."""
        if self._answer_due is not None:
            self._answer_due.cancel()
            self._answer_due = self._timers.arm(self._timeout_s, self._on_timeout)

    def answered(self) -> None:
        """The peer is there."""
        if self._answer_due is not None:
            self._answer_due.cancel()
            self._answer_due = None
            self._plan()

    def _on_timeout(self) -> None:
        self._answer_due = None
        lost = self._lost
        if lost is not None:
            lost()

    def close(self) -> None:
        """Ask no more."""
        self._send = self._lost = None
        for timer in (self._next, self._answer_due):
            if timer is not None:
                timer.cancel()
        self._next = self._answer_due = None

    def __repr__(self) -> str:
        return f"<Keepalive {'asked' if self._answer_due is not None else 'waiting'}>"
