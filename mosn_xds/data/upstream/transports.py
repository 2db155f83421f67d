"""How connections to a cluster's hosts are secured: by the first transport socket match for the host, else by the cluster's
own transport socket (envoy.config.cluster.v3.Cluster.transport_socket_matches, by which Istio's auto-mTLS works).

What a request asks of its connection (`auto_sni`, `auto_san_validation`, the ALPN of ``istio.alpn``) becomes `TlsOptions`.
"""

from mosn_xds.base.errors import ConfigError
from mosn_xds.base.stats import StatRegistry
from mosn_xds.data.codec.head import RequestHead
from mosn_xds.data.net.secure_wire import Securing
from mosn_xds.data.tls.client import NO_OPTIONS, ClientTls, TlsOptions
from mosn_xds.data.tls.stats import SslStats
from mosn_xds.data.tls.store import TlsStore
from mosn_xds.data.upstream.host import Host
from mosn_xds.spec.cluster import Cluster
from mosn_xds.spec.tls import UpstreamTls

_HOST = ":authority"
_PLAINTEXT = "raw_buffer"


class Transports:
    """See the module. `per_request`: connections depend on requests. Raises ConfigError for what must be secure and is not
    told how."""

    __slots__ = ("_auto_san", "_auto_sni", "_header", "_matches", "_own", "per_request")

    def __init__(self, spec: Cluster, store: TlsStore, stats: StatRegistry, stat_prefix: str) -> None:
        def build(kind: str, tls: UpstreamTls | None) -> ClientTls | None:
            if tls is None:
                if kind != _PLAINTEXT:
                    raise ConfigError(f"transport socket {kind} without its configuration")
                return None
            return ClientTls(tls, store, stats.group(SslStats, f"{stat_prefix}ssl."), f"cluster {spec.name}")

        self._own = build(spec.transport, spec.tls)
        self._matches = tuple((one.match, build(one.transport, one.tls)) for one in spec.transport_matches)
        self._auto_sni = spec.auto_sni
        self._auto_san = spec.auto_san_validation
        header = spec.override_auto_sni_header.lower()
        self._header = b"" if header in ("", _HOST) else header.encode()
        secure = self._own is not None or any(tls is not None for _, tls in self._matches)
        self.per_request = secure and (self._auto_sni or self._auto_san)

    @property
    def secure(self) -> bool:
        """Whether any host may be connected to by TLS."""
        return self._own is not None or any(tls is not None for _, tls in self._matches)

    def tls(self, host: Host) -> ClientTls | None:
        """TLS for the host, None for plaintext."""
        for match, tls in self._matches:
            if all(pair in host.transport_metadata for pair in match):
                return tls
        return self._own

    def options(self, head: RequestHead, alpn: tuple[bytes, ...] = ()) -> TlsOptions:
        """What the connection of this request must be."""
        name = ""
        if self._auto_sni or self._auto_san:
            value = (head.get(self._header) if self._header else None) or head.authority or b""
            name = _without_port(value.decode("latin-1"))
        return TlsOptions(name if self._auto_sni else "", (name,) if self._auto_san and name else (), alpn)

    def __repr__(self) -> str:
        return f"<Transports {'TLS' if self._own is not None else 'plaintext'}, {len(self._matches)} matches>"


def securing(
    transports: Transports, host: Host, options: TlsOptions | None = None, fallback_alpn: tuple[bytes, ...] = ()
) -> Securing | None:
    """How to secure a connection to the host, None for plaintext. `fallback_alpn` is offered where nothing else is."""
    tls = transports.tls(host)
    if tls is None:
        return None
    return tls.securing(host.text, host.hostname, options or NO_OPTIONS, fallback_alpn)


def _without_port(authority: str) -> str:
    host, colon, port = authority.rpartition(":")
    if colon and port.isdigit() and (":" not in host or host.endswith("]")):
        authority = host
    return authority.strip("[]")
