"""CPU of one request through a cluster without the network and without the proxy: ``python -m bench.upstream_pool``.

Picks a host, opens a stream on an idle HTTP/1 connection, sends a request, takes a response. What the codec costs by itself
is taken off in the last column: that is the price of balancer, pool, breakers and counters together.
"""

import random
import time
import timeit
from collections.abc import Callable
from functools import partial
from unittest import mock

import msgspec

from mosn_xds.base.clock import CachedClock
from mosn_xds.base.errors import ResetReason
from mosn_xds.base.limits import LimitProvider, LimitTable
from mosn_xds.base.stats import StatRegistry
from mosn_xds.data.codec.head import RequestHead, ResponseHead, Version
from mosn_xds.data.codec.http1 import Http1ClientCodec
from mosn_xds.data.net.reactor import Reactor
from mosn_xds.data.upstream.api import Stale, UpstreamStream
from mosn_xds.data.upstream.breaker import limit_keys
from mosn_xds.data.upstream.cluster import Cluster
from mosn_xds.data.upstream.host import Host
from mosn_xds.data.upstream.http1 import Http1Connection, Http1Stream, http1_options
from mosn_xds.data.upstream.manager import ClusterManager
from mosn_xds.spec.cluster import (
    Balancing,
    Breakers,
    Discovery,
    Endpoint,
    Endpoints,
    LeastRequest,
    Locality,
    RingHash,
    RoundRobin,
)
from mosn_xds.spec.cluster import Cluster as ClusterSpec
from mosn_xds.spec.common import Address

HEAD = RequestHead(
    b"GET",
    b"http",
    b"svc",
    b"/",
    Version.HTTP11,
    [(b"user-agent", b"wrk"), (b"accept", b"*/*"), (b"x-request-id", b"1")],
)
RESPONSE = (
    b"HTTP/1.1 200 OK\r\nserver: nginx\r\ndate: Mon, 23 Nov 2026 04:47:29 GMT\r\ncontent-type: text/plain\r\n"
    b"content-length: 2\r\n\r\nok"
)
UNLIMITED = Breakers(max_connections=None, max_pending_requests=None, max_requests=None, max_retries=None)


class NoWire:
    """Takes everything, tells nothing."""

    bytes_received = bytes_sent = 0
    local_address = Address("127.0.0.1", 1)
    error = tls = None

    def write(self, data: bytes) -> None:
        self.bytes_sent += len(data)


class Handler:
    """A handler that listens to nothing."""

    stream: Http1Stream

    def on_upstream_ready(self, stream: UpstreamStream, host: Host) -> None:
        self.stream = stream  # type: ignore[assignment]

    def on_upstream_failure(self, reason: ResetReason, detail: str, host: Host) -> None: ...

    def on_informational(self, head: ResponseHead) -> None: ...

    def on_response_head(self, head: ResponseHead, end: bool) -> None: ...

    def on_response_data(self, data: bytes, end: bool) -> None: ...

    def on_response_trailers(self, fields: object) -> None: ...

    def on_upstream_reset(self, reason: ResetReason, detail: str, stale: Stale) -> None: ...

    def on_upstream_above_high_water(self) -> None: ...

    def on_upstream_below_low_water(self) -> None: ...


def connected_cluster(balancing: Balancing, hosts: int, breakers: Breakers) -> Cluster:
    """A cluster with one idle connection to each of its hosts."""
    spec = ClusterSpec("svc", Discovery.EDS, balancing=balancing, breakers=breakers)
    limits = LimitProvider(LimitTable.create(16, 2), 0)
    limits.set_rows({key: row for row, key in enumerate(limit_keys(spec))})
    manager = ClusterManager(Reactor(CachedClock()), StatRegistry(), limits, random.Random(1))
    manager.put_cluster(spec)
    raw = msgspec.msgpack.encode(tuple(Endpoint(Address("127.0.0.1", port)) for port in range(1, hosts + 1)))
    manager.put_endpoints(Endpoints("svc", (Locality(uid=raw, endpoints=msgspec.Raw(raw)),)))
    cluster = manager.get("svc")
    assert cluster is not None
    connections: list[Http1Connection] = []
    with mock.patch(
        "mosn_xds.data.upstream.connection.dial", lambda _, __, connection, *___: _dial(connections, connection)
    ):
        for host in cluster.hosts:
            handler = Handler()
            cluster.open_stream(host, handler, Version.HTTP11)
            connections[-1].on_connected()
            exchange(handler)
    return cluster


def _dial(connections: list[Http1Connection], connection: Http1Connection) -> NoWire:
    connections.append(connection)
    return NoWire()


def exchange(handler: Handler) -> None:
    """Send the request and take the response on the stream that was opened."""
    stream = handler.stream
    connection = stream.connection
    assert connection is not None
    stream.send_head(HEAD, True)
    connection.on_data(RESPONSE)


def microseconds(run: Callable[[], object], number: int = 2000) -> float:
    """The best of many short runs, of this process's own time: other work on the machine does not count."""
    return min(timeit.repeat(run, number=number, repeat=100, timer=time.process_time)) / number * 1e6


def main() -> None:
    print(f"{'cluster':34}{'pick':>8}{'request':>10}{'without codec':>15}   (us)")
    for name, balancing, hosts, breakers in (
        ("least request, 1 host", LeastRequest(), 1, UNLIMITED),
        ("least request, 3 hosts", LeastRequest(), 3, UNLIMITED),
        ("round robin, 3 hosts", RoundRobin(), 3, UNLIMITED),
        ("round robin, 3 hosts, shared limits", RoundRobin(), 3, Breakers()),
        ("ring hash, 3 hosts", RingHash(), 3, UNLIMITED),
    ):
        cluster = connected_cluster(balancing, hosts, breakers)
        handler = Handler()
        codec = Http1ClientCodec(http1_options(cluster.spec))

        def request(cluster: Cluster = cluster, handler: Handler = handler) -> None:
            host = cluster.choose_host(None)
            assert host is not None
            cluster.open_stream(host, handler, Version.HTTP11)
            exchange(handler)

        def bare(codec: Http1ClientCodec = codec) -> None:
            codec.send_head(1, HEAD, True)
            codec.receive(RESPONSE)

        whole = microseconds(request)
        pick = microseconds(partial(cluster.choose_host, None))
        print(f"{name:34}{pick:8.2f}{whole:10.2f}{whole - microseconds(bare):15.2f}")


if __name__ == "__main__":
    main()
