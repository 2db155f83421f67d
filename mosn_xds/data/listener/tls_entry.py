"""An accepted connection on its way through the TLS handshake to the filters of its chain.

The network filters that refuse connections (RBAC) may ask who the peer is, so on a TLS chain they are asked when the
handshake is complete. Until then the terminal filter has the connection, but nothing has been read from it.
"""

from mosn_xds.data.listener.chain import Chain
from mosn_xds.data.listener.stats import ListenerStats
from mosn_xds.data.net.wire import Wire
from mosn_xds.data.observe.info import ConnectionInfo
from mosn_xds.data.tls.handshake import TIMED_OUT


class TlsEntry:
    """One connection; the `HandshakeObserver` of its handshake."""

    __slots__ = ("_chain", "_info", "_stats", "wire")

    def __init__(self, chain: Chain, info: ConnectionInfo, stats: ListenerStats) -> None:
        self._chain = chain
        self._info = info
        self._stats = stats
        self.wire: Wire | None = None

    def complete(self) -> None:
        info = self._info
        if info.tls is not None:
            info.alpn = info.tls.alpn
        for guard in self._chain.guards:
            denied = guard.refuse(info)
            if denied is not None:
                info.close_reason = denied
                if self.wire is not None:
                    self.wire.close(flush=False)
                return

    def timed_out(self) -> None:
        self._stats.downstream_cx_transport_socket_connect_timeout += 1
        self._info.close_reason = TIMED_OUT

    def __repr__(self) -> str:
        return f"<TlsEntry {self._info!r}>"
