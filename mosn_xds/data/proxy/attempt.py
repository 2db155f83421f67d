"""One try of a request at one host: what a connection pool knows of the router.

An `Attempt` is the `StreamHandler` of one upstream stream. It keeps what is to be sent until there is a connection, passes
the upstream's events on to its router, and after `close` to nobody.
"""

from typing import TYPE_CHECKING

from mosn_xds.base.errors import ResetReason
from mosn_xds.data.codec.head import Fields, ResponseHead, Version
from mosn_xds.data.upstream.api import PendingStream, Stale, UpstreamStream
from mosn_xds.data.upstream.host import Host

if TYPE_CHECKING:
    from mosn_xds.data.proxy.router import Router


class Attempt:
    """One try at one host: between the pool's stream and the router."""

    queue: list[bytes] | None = None
    queued_end = False
    queued_trailers: Fields | None = None

    def __init__(self, router: "Router", host: Host, started_s: float) -> None:
        self.router: Router | None = router
        self.stream: UpstreamStream | None = None
        self.pending: PendingStream | None = None
        self.version = Version.HTTP11
        self.host = host
        self.started_s = started_s

    def send_data(self, data: bytes, end: bool) -> None:
        if self.stream is not None:
            self.stream.send_data(data, end)
            return
        if self.queue is None:
            self.queue = []
        self.queue.append(data)
        self.queued_end = end

    def send_trailers(self, fields: Fields) -> None:
        if self.stream is not None:
            self.stream.send_trailers(fields)
        else:
            self.queued_trailers = fields

    def close(self) -> None:
        """Give up: the pool calls no more."""
        self.router = None
        if self.pending is not None:
            self.pending.cancel()
            self.pending = None
        if self.stream is not None:
            self.stream.reset()
            self.stream = None

    # The pool's calls; none comes after `close`.

    def on_upstream_ready(self, stream: UpstreamStream, host: Host) -> None:
        router = self.router
        self.pending = None
        if router is None:
            stream.reset()
            return
        self.stream = stream
        self.version = stream.version
        self.host = host
        router.on_ready(self, stream)

    def on_upstream_failure(self, reason: ResetReason, detail: str, host: Host) -> None:
        self.pending = None
        self.host = host
        if self.router is not None:
            self.router.on_reset(self, reason, detail, stale=Stale.NO, connected=False)

    def on_informational(self, head: ResponseHead) -> None:
        if self.router is not None:
            self.router.on_informational(head)

    def on_response_head(self, head: ResponseHead, end: bool) -> None:
        if end:
            self.stream = None
        if self.router is not None:
            self.router.on_response_head(self, head, end)

    def on_response_data(self, data: bytes, end: bool) -> None:
        if end:
            self.stream = None
        if self.router is not None:
            self.router.on_response_data(data, end)

    def on_response_trailers(self, fields: Fields) -> None:
        self.stream = None
        if self.router is not None:
            self.router.on_response_trailers(fields)

    def on_upstream_reset(self, reason: ResetReason, detail: str, stale: Stale) -> None:
        self.stream = None
        if self.router is not None:
            self.router.on_reset(self, reason, detail, stale=stale, connected=True)

    def on_upstream_above_high_water(self) -> None:
        if self.router is not None:
            self.router.pause_client()

    def on_upstream_below_low_water(self) -> None:
        if self.router is not None:
            self.router.resume_client()
