"""What there is to know of a connection and of a stream, for those who tell: access logs, header formats, local replies.

Whoever serves a connection or a stream fills these in as things happen; formatters only read. A `StreamInfo` is the base of
the HTTP `Stream` and is what a TCP session fills for its log line: nearly every attribute has a default on the class, so what never
happens costs nothing and is still there to be read. Times of a stream are seconds since its start.
"""

from typing import Any, Protocol

from mosn_xds.data.match.head import HeadView, RequestView
from mosn_xds.data.net.tls_facts import TlsFacts
from mosn_xds.spec.common import Address


class StatusView(HeadView, Protocol):
    """A response's head."""

    @property
    def status(self) -> int: ...


class VersionView(Protocol):
    """A protocol version; `label` is ``HTTP/1.1`` and the like."""

    @property
    def label(self) -> str: ...


class HostView(Protocol):
    """The upstream host of a stream."""

    @property
    def address(self) -> Address: ...

    @property
    def text(self) -> str:
        """``ip:port``, or the path of a unix socket."""
        ...

    @property
    def hostname(self) -> str: ...


class ConnectionInfo:
    """A downstream connection.

    `remote` and `local` are what policies go by: listener filters (PROXY protocol, original destination) may have changed
    them. `direct_remote` is the socket's peer, `direct_local` its own address, `restored_local` the destination that a listener
    filter restored, None if none did. `metadata` and `proxy_tlvs` are from a PROXY header. `close_reason` says why this side
    gave the connection up. `start_s` is monotonic. `alpn` is the protocol that a TLS handshake has chosen, empty without one.
    """

    __slots__ = (
        "alpn",
        "chain_name",
        "close_reason",
        "direct_local",
        "direct_remote",
        "id",
        "listener_name",
        "local",
        "metadata",
        "proxy_tlvs",
        "remote",
        "restored_local",
        "sni",
        "start_s",
        "start_wall_s",
        "tls",
    )

    def __init__(
        self,
        *,
        id: int,
        remote: Address,
        local: Address,
        start_s: float,
        start_wall_s: float,
        listener_name: str = "",
        chain_name: str = "",
    ) -> None:
        self.id = id
        self.remote = self.direct_remote = remote
        self.local = self.direct_local = local
        self.start_s = start_s
        self.start_wall_s = start_wall_s
        self.listener_name = listener_name
        self.chain_name = chain_name
        self.sni = ""
        self.alpn = ""
        self.tls: TlsFacts | None = None
        self.metadata: dict[str, dict[str, Any]] | None = None
        self.proxy_tlvs: tuple[tuple[int, bytes], ...] = ()
        self.restored_local: Address | None = None
        self.close_reason = ""

    def __repr__(self) -> str:
        return f"<ConnectionInfo {self.id} {self.remote} -> {self.local} at {self.listener_name}>"


class StreamInfo:
    """One stream: an HTTP request with its response, an RPC, or a TCP session (which has no heads).

    `remote` is the trusted client address where it is not the connection's (x-forwarded-for). `details` and
    `connection_details` are Envoy's texts, empty for none; `flags` are `ResponseFlag` bits. `duration_s` is None until the
    end. Of the times in seconds since the start, `rx` is received, `tx` sent, `up` upstream: `last_rx` is when the whole
    request was here, `first_tx` when the first byte of the response was handed to the client's connection.
    """

    remote: Address | None = None
    start_s: float = 0.0
    start_wall_s: float = 0.0
    duration_s: float | None = None

    request_head: RequestView | None = None
    response_head: StatusView | None = None
    response_trailers: list[tuple[bytes, bytes]] | None = None
    grpc_call: object | None = None
    """Kept by the filter that counts gRPC calls."""
    version: "VersionView | None" = None
    stable_random: int = 0
    """64 bits that stay the same for the stream's life: sampling, weighted picks, runtime fractions."""

    response_code: int = 0
    """0 as long as there is no response."""
    rpc_code: int | None = None
    """What an RPC protocol's own response says of its success; None without a response, and for HTTP."""
    details: str = ""
    connection_details: str = ""
    flags: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0
    local_reply_body: bytes = b""

    access_log_type: str = "DownstreamEnd"
    route_name: str = ""
    cluster_name: str = ""
    """Empty when the route's cluster does not exist."""
    cluster_stat_name: str = ""
    """`alt_stat_name` of the cluster, where it has one."""
    upstream_local: str = ""
    """``ip:port`` of our side of the upstream connection."""
    upstream_tls: TlsFacts | None = None
    transport_failure: str = ""
    attempts: int = 0

    last_rx: float | None = None
    first_up_tx: float | None = None
    last_up_tx: float | None = None
    first_up_rx: float | None = None
    last_up_rx: float | None = None
    first_tx: float | None = None
    last_tx: float | None = None

    metadata: dict[str, dict[str, Any]] | None = None
    """Dynamic metadata: namespace, then key."""

    def __init__(self, connection: ConnectionInfo) -> None:
        self.connection = connection
        # Here and not on the class: a compiled class has no default for an attribute whose type is a protocol.
        self.request_head: RequestView | None = None
        self.response_head: StatusView | None = None
        self.version: VersionView | None = None
        self.upstream_host: HostView | None = None
        self.upstream_version: VersionView | None = None
