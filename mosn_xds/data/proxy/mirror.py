"""Request mirroring: a copy of a request goes to another cluster, and whatever comes back is dropped.

Envoy's shadowing (source/common/router/shadow_writer_impl.cc): the copy is sent when the request is complete, its
authority gets ``-shadow`` before the port, its time limit is the route's, and nothing of it reaches the client.
"""

from typing import TYPE_CHECKING

from mosn_xds.base.errors import ResetReason
from mosn_xds.data.codec.head import Fields, RequestHead, ResponseHead, Version
from mosn_xds.data.upstream.api import PendingStream, Stale, UpstreamStream
from mosn_xds.data.upstream.host import Host
from mosn_xds.spec.route import Mirror

if TYPE_CHECKING:
    from mosn_xds.data.proxy.context import WorkerContext
    from mosn_xds.data.proxy.stream import Stream

_DEFAULT_LIMIT_S = 15.0


class Mirrors:
    """The copies to be made of one request, chosen when it is forwarded."""

    __slots__ = ("_clusters", "_context", "_timeout_s")

    def __init__(self, clusters: list[tuple[str, bool]], context: "WorkerContext", timeout_s: float) -> None:
        self._clusters = clusters
        self._context = context
        self._timeout_s = timeout_s or _DEFAULT_LIMIT_S

    @classmethod
    def choose(
        cls, mirrors: tuple[Mirror, ...], stream: "Stream", head: RequestHead, timeout_s: float
    ) -> "Mirrors | None":
        """Which of `mirrors` this request goes to; None for none."""
        chosen: list[tuple[str, bool]] = []
        for mirror in mirrors:
            fraction = mirror.fraction
            if fraction is not None and stream.random_below(fraction.denominator) >= fraction.numerator:
                continue
            name = mirror.cluster
            if mirror.cluster_header:
                name = (head.get(mirror.cluster_header.lower().encode()) or b"").decode("latin-1")
            if name:
                chosen.append((name, mirror.append_shadow_suffix))
        return cls(chosen, stream.manager.context, timeout_s) if chosen else None

    def send(self, head: RequestHead, body: list[bytes] | None, trailers: Fields | None) -> None:
        """The request is complete: send the copies."""
        for name, suffix in self._clusters:
            cluster = self._context.clusters.get(name)
            if cluster is None:
                continue
            host = cluster.choose_host(None)
            if host is None:
                continue
            copy = head.copy()
            version = Version.HTTP11
            if copy.version.rpc is not None:
                version = copy.version  # and nothing in it says that it is a copy
            else:
                self._mark(copy, suffix)
            shadow = Shadow(copy, body, trailers)
            shadow.pending = cluster.open_stream(host, shadow, version, False)
            if not shadow.over:
                self._context.reactor.timers.arm(self._timeout_s, shadow.close)

    def _mark(self, copy: RequestHead, suffix: bool) -> None:
        """Say that it is a copy."""
        copy.set(b"x-envoy-internal", b"true")
        forwarded = copy.get(b"x-forwarded-for")
        local = self._context.local_ip.encode()
        copy.set(b"x-forwarded-for", local if forwarded is None else forwarded + b"," + local)
        if suffix:
            copy.authority = shadow_authority(copy.authority or b"")


class Shadow:
    """One copy under way; a `StreamHandler` that listens to nothing."""

    __slots__ = ("_body", "_head", "_stream", "_trailers", "over", "pending")

    def __init__(self, head: RequestHead, body: list[bytes] | None, trailers: Fields | None) -> None:
        self._head = head
        self._body = list(body) if body else []
        self._trailers = trailers
        self._stream: UpstreamStream | None = None
        self.pending: PendingStream | None = None
        self.over = False

    def close(self) -> None:
        """Enough waited."""
        if self.over:
            return
        self.over = True
        if self._stream is not None:
            self._stream.reset()
        elif self.pending is not None:
            self.pending.cancel()
        self._end()

    def _end(self) -> None:
        self.over = True
        self._stream = self.pending = None
        self._body = []

    def on_upstream_ready(self, stream: UpstreamStream, host: Host) -> None:
        del host
        self.pending = None
        self._stream = stream
        body, trailers = self._body, self._trailers
        stream.send_head(self._head, not body and trailers is None)
        last = len(body) - 1
        for index, data in enumerate(body):
            stream.send_data(data, index == last and trailers is None)
        if trailers is not None:
            stream.send_trailers(trailers)

    def on_upstream_failure(self, reason: ResetReason, detail: str, host: Host) -> None:
        self._end()

    def on_informational(self, head: ResponseHead) -> None:
        """Dropped."""

    def on_response_head(self, head: ResponseHead, end: bool) -> None:
        if end:
            self._end()

    def on_response_data(self, data: bytes, end: bool) -> None:
        if end:
            self._end()

    def on_response_trailers(self, fields: Fields) -> None:
        self._end()

    def on_upstream_reset(self, reason: ResetReason, detail: str, stale: Stale) -> None:
        self._end()

    def on_upstream_above_high_water(self) -> None:
        """The body is whole and bounded: it was written at once."""

    def on_upstream_below_low_water(self) -> None:
        """As above."""


def shadow_authority(authority: bytes) -> bytes:
    """``host:port`` to ``host-shadow:port``."""
    host, colon, port = authority.rpartition(b":")
    if colon and port.isdigit():
        return host + b"-shadow:" + port
    return authority + b"-shadow"
