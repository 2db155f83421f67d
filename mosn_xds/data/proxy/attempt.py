"""One try of a request at one host (Envoy's UpstreamRequest): what goes there, what comes back, and the limits of a try.

An `Attempt` is the `StreamHandler` of one upstream stream. It keeps what is to be sent until there is a connection. Response
heads and resets are its router's to judge, which may try again; the rest of a response whose head was taken goes straight to
the client's stream. After `close` it tells nobody anything.
"""

from typing import TYPE_CHECKING, Final

from mosn_xds.base.errors import ResetReason
from mosn_xds.data.codec.head import Fields, ResponseHead, Version
from mosn_xds.data.proxy.timeouts import Timeouts
from mosn_xds.data.upstream.api import PendingStream, Stale, UpstreamStream
from mosn_xds.data.upstream.cluster import Cluster
from mosn_xds.data.upstream.host import Host

if TYPE_CHECKING:
    from mosn_xds.data.proxy.router import Router
    from mosn_xds.data.proxy.stream import Stream

_HTTP11: Final[Version] = Version.HTTP11


class Attempt:
    """One try at one host: between the pool's stream and the client's."""

    queue: list[bytes] | None = None
    queued_end = False
    queued_trailers: Fields | None = None
    _grpc = False  # its status, which the host is judged by, is still to come

    def __init__(self, router: "Router", client: "Stream", cluster: Cluster, host: Host) -> None:
        self.router: Router | None = router
        self.client = client
        self.cluster = cluster
        self.stream: UpstreamStream | None = None
        self.pending: PendingStream | None = None
        self.version = _HTTP11
        self.host = host
        self.started_s = client.owner.clock.now

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

    @property
    def queued_bytes(self) -> int:
        """What waits for a connection."""
        return sum(map(len, self.queue)) if self.queue else 0

    def close(self) -> None:
        """Give up: the pool calls no more."""
        self.router = None
        if self.pending is not None:
            self.pending.cancel()
            self.pending = None
        if self.stream is not None:
            self.stream.reset()
            self.stream = None

    # Limits of the try.

    def start_limits(self, limits: Timeouts) -> None:
        """The request is complete, and sent."""
        client = self.client
        now = client.owner.clock.now
        if limits.per_try_s:
            client.try_deadline = now + limits.per_try_s
            client.owner.watch(client.try_deadline)
        if limits.per_try_idle_s:
            self._touch(limits.per_try_idle_s)
        duration_s = self.cluster.spec.max_stream_duration_s
        if duration_s:
            client.upstream_deadline = now + duration_s
            client.owner.watch(client.upstream_deadline)

    def _touch(self, idle_s: float) -> None:
        client = self.client
        client.try_idle_deadline = client.owner.clock.now + idle_s
        client.owner.watch(client.try_idle_deadline)

    # What the cluster is told.

    def complete(self, since_s: float | None) -> None:
        """The response is complete, for a request that was complete at `since_s`, None if it is not."""
        client = self.client
        took_s = client.owner.clock.now - (since_s if since_s is not None else self.started_s)
        self.cluster.charge_complete(self.host, took_s * 1000)
        client.forget_try()

    def expect_grpc(self) -> None:
        """The response is gRPC's: its status comes behind it."""
        self._grpc = True

    def charge_grpc(self, fields: Fields) -> None:
        """The status has come, or the response has ended without one."""
        if self._grpc:
            self._grpc = False
            self.cluster.charge_grpc(self.host, fields)

    # The pool's calls; none comes after `close`.

    def on_upstream_ready(self, stream: UpstreamStream, host: Host) -> None:
        """A connection is there: send what there is."""
        router = self.router
        self.pending = None
        if router is None:
            stream.reset()
            return
        self.stream = stream
        self.version = stream.version
        self.host = host
        client = self.client
        client.upstream_host = host
        client.upstream_local = stream.local
        client.upstream_version = stream.version
        client.upstream_tls = stream.tls
        if router.upstream_paused:
            stream.pause_reading()
        queue, trailers = self.queue, self.queued_trailers
        self.queue = None
        whole = router.complete and not queue and trailers is None and router.trailers is None
        now = client.owner.clock.now - client.start_s
        if client.first_up_tx is None:
            client.first_up_tx = now
        stream.send_head(router.head, whole)
        if queue:
            last = len(queue) - 1
            for index, data in enumerate(queue):
                stream.send_data(data, self.queued_end and index == last)
        if trailers is not None:
            stream.send_trailers(trailers)
        if router.queue_paused:
            router.queue_paused = False
            client.resume_client()
        if router.complete:
            client.last_up_tx = now
            self.start_limits(router.limits)

    def on_upstream_failure(self, reason: ResetReason, detail: str, host: Host) -> None:
        self.pending = None
        self.host = host
        if self.router is not None:
            self.router.on_reset(self, reason, detail, stale=Stale.NO, connected=False)

    def on_informational(self, head: ResponseHead) -> None:
        if self.router is not None:
            self.client.send_informational(head)

    def on_response_head(self, head: ResponseHead, end: bool) -> None:
        if end:
            self.stream = None
        if self.router is not None:
            self.router.on_response_head(self, head, end)

    def on_response_data(self, data: bytes, end: bool) -> None:
        if end:
            self.stream = None
        router = self.router
        if router is None:
            return
        client = self.client
        if router.limits.per_try_idle_s:
            self._touch(router.limits.per_try_idle_s)
        if end:
            if client.upgraded and client.upstream_version is _HTTP11:
                # A tunnel over HTTP/1 has no half-close: its end is the end of the connection, as in Envoy.
                if data:
                    client.respond_data(data, False)
                if self.router is not None:
                    router.on_reset(self, ResetReason.CONNECTION_TERMINATION, "", stale=Stale.NO, connected=True)
                return
            client.last_up_rx = client.owner.clock.now - client.start_s
            self.complete(router.sent_at_s)
            self.charge_grpc([])
        client.respond_data(data, end)

    def on_response_trailers(self, fields: Fields) -> None:
        self.stream = None
        router = self.router
        if router is None:
            return
        client = self.client
        client.last_up_rx = client.owner.clock.now - client.start_s
        self.complete(router.sent_at_s)
        self.charge_grpc(fields)
        client.respond_trailers(fields)

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
