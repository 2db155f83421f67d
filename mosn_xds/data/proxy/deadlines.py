"""The time limits of a stream, as numbers.

A stream owns no timers for the common time-outs. It keeps its deadlines here and tells its connection the next one
(`ServerConnection.watch`), which has one timer for all of its streams and re-arms it only when it fires: a limit that is
not reached, as nearly all are, costs a comparison.
"""

from typing import TYPE_CHECKING, Final

from mosn_xds.data.observe.info import StreamInfo

if TYPE_CHECKING:
    from mosn_xds.data.proxy.connection import ServerConnection

NEVER: Final = float("inf")


class Deadlines(StreamInfo):
    """Monotonic seconds, `NEVER` for "no limit"; the idle limit is kept as what it is counted from."""

    owner: "ServerConnection"
    idle_timeout_s: float = NEVER
    idle_since = 0.0
    request_deadline = NEVER
    duration_deadline = NEVER
    route_deadline = NEVER
    try_deadline = NEVER
    try_idle_deadline = NEVER
    upstream_deadline = NEVER

    def touch(self) -> None:
        """Something moved: the idle time starts again."""
        self.idle_since = self.owner.clock.now

    def next_deadline(self) -> float:
        """When to look at this stream again."""
        return min(
            self.idle_since + self.idle_timeout_s,
            self.request_deadline,
            self.duration_deadline,
            self.route_deadline,
            self.try_deadline,
            self.try_idle_deadline,
            self.upstream_deadline,
        )

    def limit_duration(self, limit_s: float) -> None:
        """The route bounds the whole stream, instead of the connection manager; 0: it has no bound."""
        if limit_s:
            self.duration_deadline = deadline = self.start_s + limit_s
            self.owner.watch(deadline)
        else:
            self.duration_deadline = NEVER

    def forget_try(self) -> None:
        """The attempt is over, and its time limits with it."""
        self.route_deadline = self.try_deadline = self.try_idle_deadline = self.upstream_deadline = NEVER
