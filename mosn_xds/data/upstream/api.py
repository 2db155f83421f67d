"""What the proxies (HTTP router, TCP proxy) and the connection pools say to each other.

One attempt of a request is a `StreamHandler` that asks a cluster for a stream to a chosen host. It is answered once, by
`on_upstream_ready` or by `on_upstream_failure`, maybe before `open_stream` returns. From `on_upstream_ready` on, the stream
ends exactly once: when request and response are both complete, with `on_upstream_reset`, or by the handler's own
`UpstreamStream.reset`, after which nothing more is called. The same vocabulary serves a ping-pong protocol (one stream at
a time on a connection) and a multiplexed one.

Nothing here knows how a connection is made or what its bytes look like.
"""

from enum import IntEnum
from typing import Protocol

from mosn_xds.base.errors import ResetReason
from mosn_xds.data.codec.head import Fields, RequestHead, ResponseHead, Version
from mosn_xds.data.net.tls_facts import TlsFacts
from mosn_xds.data.upstream.host import Host
from mosn_xds.spec.common import Address


class LbContext:
    """What a load balancer may look at for one pick. All of it is optional; `Cluster.choose_host(None)` is a plain pick.

    `hash` is the result of the route's hash policy. `should_skip` holds the hosts already tried (the retry policy's
    `previous_hosts`); up to `max_skip_attempts` further picks are made to avoid them. `original_dst` is where the
    downstream connection was going, `head` the request, both for ORIGINAL_DST clusters. `attempt` counts from 1.
    """

    __slots__ = ("attempt", "hash", "head", "max_skip_attempts", "original_dst", "should_skip")

    def __init__(
        self,
        hash: int | None = None,
        *,
        attempt: int = 1,
        should_skip: tuple[Host, ...] | None = None,
        max_skip_attempts: int = 0,
        original_dst: Address | None = None,
        head: RequestHead | None = None,
    ) -> None:
        self.hash = hash
        self.attempt = attempt
        self.should_skip = should_skip
        self.max_skip_attempts = max_skip_attempts
        self.original_dst = original_dst
        self.head = head

    def __repr__(self) -> str:
        return f"<LbContext hash={self.hash} attempt={self.attempt} should_skip={self.should_skip}>"


class Stale(IntEnum):
    """Whether a stream that ended without a byte of a response met a connection that its peer was just giving up.

    That happens to connections that are kept for the next request (RFC 9112 section 9.3.1), and is not the request's
    fault: it may be sent again without asking the retry policy, if all of it is still at hand.
    """

    NO = 0
    """The peer read the request, or the connection was made for it."""
    MAYBE = 1
    """The peer may have read it: only an idempotent request may be sent again (RFC 9110 section 9.2.2)."""
    UNREAD = 2
    """The peer cannot have read it: any request may be sent again."""


class UpstreamStream(Protocol):
    """A stream in use. Sending on a stream that has ended does nothing."""

    host: Host
    version: Version
    """The protocol that the upstream speaks."""
    tls: TlsFacts | None
    """What TLS knows of the connection; None in plaintext."""
    local: str
    """The connection's local address, ``ip:port``."""
    connection_id: int
    reused: bool
    """Whether the connection had carried an earlier stream."""
    bytes_sent: int
    """On the wire for this stream, heads and framing included (`%UPSTREAM_WIRE_BYTES_SENT%`)."""
    bytes_received: int

    def send_head(self, head: RequestHead, end: bool) -> None: ...

    def send_data(self, data: bytes, end: bool) -> None: ...

    def send_trailers(self, fields: Fields) -> None:
        """Ends the request."""
        ...

    def reset(self) -> None:
        """Give the stream up: the handler hears nothing more. Harmless on a stream that has ended."""
        ...

    def pause_reading(self) -> None:
        """Stop `on_response_data` soon: what was already received may still come."""
        ...

    def resume_reading(self) -> None: ...


class PendingStream(Protocol):
    """An attempt that waits for a connection."""

    def cancel(self) -> None:
        """Give the attempt up: the handler is not called. Harmless when it was answered already."""
        ...


class StreamHandler(Protocol):
    """One attempt, as its pool sees it."""

    def on_upstream_ready(self, stream: UpstreamStream, host: Host) -> None:
        """`stream` may be used, from within this call on."""
        ...

    def on_upstream_failure(self, reason: ResetReason, detail: str, host: Host) -> None:
        """No stream: overflow of a circuit breaker, or no connection. `detail` is the transport failure, or empty."""
        ...

    def on_informational(self, head: ResponseHead) -> None:
        """A 1xx response other than 101."""
        ...

    def on_response_head(self, head: ResponseHead, end: bool) -> None: ...

    def on_response_data(self, data: bytes, end: bool) -> None: ...

    def on_response_trailers(self, fields: Fields) -> None:
        """Ends the response."""
        ...

    def on_upstream_reset(self, reason: ResetReason, detail: str, stale: Stale) -> None:
        """The stream ended early."""
        ...

    def on_upstream_above_high_water(self) -> None:
        """The connection's send buffer is full: send no more until told."""
        ...

    def on_upstream_below_low_water(self) -> None: ...
