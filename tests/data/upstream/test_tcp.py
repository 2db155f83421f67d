"""Raw connections for the TCP proxy."""

from typing import Any

from mosn_xds.base.errors import ResetReason
from mosn_xds.data.net.consumer import CloseReason
from mosn_xds.data.upstream.cluster import Cluster
from mosn_xds.data.upstream.host import Host
from mosn_xds.data.upstream.tcp import TcpConnection
from mosn_xds.spec.cluster import Breakers
from tests.data.upstream.harness import Upstream, World, run, settled
from tests.support.wires import Recorder


class Proxy(Recorder):
    """Takes a connection over and writes down what comes."""

    def __init__(self) -> None:
        super().__init__()
        self.connection: TcpConnection | None = None
        self.handle: TcpConnection | None = None

    def on_upstream_ready(self, connection: TcpConnection, host: Host) -> None:
        self.connection = connection
        self.wire = connection.wire
        self.wire.consumer = self
        self._record("ready")

    def on_upstream_failure(self, reason: ResetReason, detail: str, host: Host) -> None:
        self._record((reason, detail))

    def on_closed(self, reason: CloseReason) -> None:
        assert self.connection is not None
        self.connection.closed(reason)
        super().on_closed(reason)


def connect(cluster: Cluster) -> Proxy:
    proxy = Proxy()
    host = cluster.choose_host(None)
    assert host is not None
    proxy.handle = cluster.open_tcp(host, proxy)
    return proxy


def failed(proxy: Any) -> bool:
    return isinstance(proxy.events[-1], tuple) if proxy.events else False


def test_bytes_go_both_ways_and_everything_is_counted() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        cluster = world.cluster(upstream.port)
        proxy = connect(cluster)
        peer = await upstream.accept()
        await proxy.until("ready")
        assert proxy.connection is not None
        assert proxy.connection.local == f"127.0.0.1:{peer.stream.socket.getpeername()[1]}"
        proxy.wire.write(b"ping")
        assert await peer.stream.receive_some() == b"ping"
        await peer.stream.send_all(b"pong!")
        await proxy.until("data")
        host = cluster.hosts[0]
        assert (host.active_requests, host.rq_total, host.cx_active) == (1, 1, 1)
        assert world.figures()["upstream_rq_active"] == 1
        await peer.stream.send_eof()
        await proxy.until("eof")
        proxy.wire.shutdown_write()
        await proxy.until(lambda p: p.closed)
        figures = world.figures()
        gauges = ("upstream_rq_active", "upstream_cx_active", "upstream_rq_pending_active")
        assert not any(name in figures for name in gauges)
        assert figures["upstream_cx_total"] == figures["upstream_rq_total"] == figures["upstream_cx_destroy"] == 1
        assert (figures["upstream_cx_tx_bytes_total"], figures["upstream_cx_rx_bytes_total"]) == (4, 5)
        assert "upstream_cx_http1_total" not in figures
        assert (host.active_requests, host.cx_active) == (0, 0)

    run(story)


def test_a_refused_connection_is_a_failure_in_envoys_words() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        upstream.close()
        cluster = world.cluster(upstream.port)
        proxy = connect(cluster)
        await proxy.until(failed)
        assert proxy.events == [(ResetReason.REMOTE_CONNECTION_FAILURE, "delayed connect error: Connection refused")]
        figures = world.figures()
        assert figures["upstream_cx_connect_fail"] == figures["upstream_rq_pending_failure_eject"] == 1
        assert cluster.hosts[0].cx_connect_fail == 1

    run(story)


def test_a_downstream_that_goes_cancels_the_attempt() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        proxy = connect(world.cluster(upstream.port))
        assert proxy.handle is not None
        proxy.handle.cancel()
        proxy.handle.cancel()
        await settled(world)
        assert proxy.events == []
        figures = world.figures()
        assert figures["upstream_rq_cancelled"] == 1
        assert "upstream_cx_active" not in figures

    run(story)


def test_limits_hold_for_raw_connections() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        cluster = world.cluster(
            upstream.port,
            breakers=Breakers(max_connections=2, max_pending_requests=1, max_requests=None, max_retries=None),
        )
        first = connect(cluster)
        waiting = connect(cluster)
        assert waiting.events == [(ResetReason.OVERFLOW, "")]
        assert world.figures()["upstream_rq_pending_overflow"] == 1
        peers = [await upstream.accept()]
        await first.until("ready")
        second = connect(cluster)
        peers.append(await upstream.accept())
        await second.until("ready")
        third = connect(cluster)
        assert third.events == [(ResetReason.OVERFLOW, "")]
        assert third.handle is None
        assert world.figures()["upstream_cx_overflow"] == 1
        await peers[0].close()
        await first.until("eof")
        first.wire.close()
        await first.until(lambda p: p.closed)
        fourth = connect(cluster)
        peers.append(await upstream.accept())
        await fourth.until("ready")

    run(story)
