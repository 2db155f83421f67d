"""The pools of one cluster: made for a host when it is first needed, in the protocol that is spoken there."""

from collections.abc import Sequence

from mosn_xds.data.codec.head import Version
from mosn_xds.data.codec.http2 import Http2Stats
from mosn_xds.data.codec.rpc import RpcProtocol
from mosn_xds.data.tls.client import TlsOptions
from mosn_xds.data.upstream.auto import auto_pool
from mosn_xds.data.upstream.host import Host
from mosn_xds.data.upstream.http1 import http1_options, http1_pool
from mosn_xds.data.upstream.http2 import http2_pool
from mosn_xds.data.upstream.http2_parts import Http2Parts, http2_options
from mosn_xds.data.upstream.parts import UpstreamParts
from mosn_xds.data.upstream.pool import ConnectionPool, Pool, PoolSettings
from mosn_xds.data.upstream.rpc import RpcParts, RpcUpstreamStats, rpc_pool
from mosn_xds.data.upstream.rpc_binding import BoundConnection, RpcBinding
from mosn_xds.data.upstream.transports import Transports
from mosn_xds.spec.cluster import Cluster, UpstreamProtocol

_H1, _H2 = (b"http/1.1",), (b"h2",)
"""What is offered by ALPN where the cluster does not say."""


class PoolMaker:
    """See the module. `settings` are those of pools of either priority, `prefix` is that of the cluster's statistics."""

    __slots__ = ("_http1", "_http2", "_parts", "_prefix", "_settings", "_spec", "_transports")

    def __init__(
        self, spec: Cluster, parts: UpstreamParts, settings: Sequence[PoolSettings], transports: Transports, prefix: str
    ) -> None:
        self._spec = spec
        self._parts = parts
        self._settings = settings
        self._transports = transports
        self._prefix = prefix
        self._http1 = parts.same(http1_options(spec))
        self._http2: Http2Parts | None = None

    def __repr__(self) -> str:
        return f"<PoolMaker of {self._spec.name}>"

    def http(self, host: Host, version: Version, high_priority: bool, options: TlsOptions | None = None) -> Pool:
        """A pool of what the cluster says that its hosts speak; `version` is the downstream's, where that decides."""
        self._parts.report.note_used(self._spec.name, host)
        protocol = self._spec.protocol
        settings, ids = self._settings[high_priority], self._parts.connection_ids
        if protocol is UpstreamProtocol.AUTO:
            pool = auto_pool(host, settings, self._http1, self._http2_parts(), ids)
            pool.secure = self._transports.securing(host, options, _H2 + _H1)
        elif protocol is UpstreamProtocol.HTTP2 or (
            protocol is UpstreamProtocol.USE_DOWNSTREAM and version is Version.HTTP2
        ):
            pool = http2_pool(host, settings, self._http2_parts(), ids)
            pool.secure = self._transports.securing(host, options, _H2)
        else:
            pool = http1_pool(host, settings, self._http1, ids)
            pool.secure = self._transports.securing(host, options, _H1)
        return pool

    def rpc(self, host: Host, protocol: RpcProtocol, high_priority: bool, options: TlsOptions | None) -> Pool:
        """The pool of the protocol; clusters do not say which ones their hosts speak, requests do."""
        key = (high_priority, protocol.key, options)
        pool = host.other_pools.get(key)
        if pool is None:
            parts = self._parts
            parts.report.note_used(self._spec.name, host)
            made = rpc_pool(host, self._settings[high_priority], self._rpc_parts(protocol), parts.connection_ids)
            made.secure = self._transports.securing(host, options)
            host.add_other_pool(key, made)
            pool = made
        return pool

    def bound(
        self, binding: RpcBinding, host: Host, protocol: RpcProtocol, high_priority: bool, options: TlsOptions | None
    ) -> Pool:
        """A pool for one client's connection to `host`."""
        parts, rpc_parts = self._parts, self._rpc_parts(protocol)
        parts.report.note_used(self._spec.name, host)
        pool = ConnectionPool(
            host,
            self._settings[high_priority],
            lambda pool: BoundConnection(pool, rpc_parts, next(parts.connection_ids), binding),
        )
        pool.secure = self._transports.securing(host, options)
        host.add_other_pool(binding, pool)
        return pool

    def _rpc_parts(self, protocol: RpcProtocol) -> RpcParts:
        stats = self._parts.stats.group(RpcUpstreamStats, f"{self._prefix}{protocol.name}.")
        return RpcParts(protocol, stats, self._parts.random)

    def _http2_parts(self) -> Http2Parts:
        found = self._http2
        if found is None:
            parts = self._parts
            found = self._http2 = Http2Parts(
                options=parts.same(http2_options(self._spec)),
                stats=parts.stats.group(Http2Stats, f"{self._prefix}http2."),
                engines=parts.http2_engine,
                random=parts.random,
            )
        return found
