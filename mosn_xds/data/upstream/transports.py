"""How connections to a cluster's hosts are secured: by the first transport socket match for the host, else by the cluster's
own transport socket (envoy.config.cluster.v3.Cluster.transport_socket_matches, by which Istio's auto-mTLS works).

A PROXY header may go ahead. What a request asks of its connection (its client's address in that header, `auto_sni`,
`auto_san_validation`, the ALPN of ``istio.alpn``) becomes `TlsOptions`.
"""

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from mosn_xds.base.errors import ConfigError
from mosn_xds.base.stats import StatRegistry
from mosn_xds.data.codec.head import RequestHead, Version
from mosn_xds.data.net.dial import Preamble
from mosn_xds.data.net.secure_wire import Securing
from mosn_xds.data.observe.info import ConnectionInfo
from mosn_xds.data.tls.client import NO_OPTIONS, ClientTls, TlsOptions
from mosn_xds.data.tls.stats import SslStats
from mosn_xds.data.tls.store import TlsStore
from mosn_xds.data.upstream.host import Host
from mosn_xds.data.upstream.proxy_header import proxy_header
from mosn_xds.spec.cluster import Cluster, UpstreamProtocol, UpstreamProxyProtocol
from mosn_xds.spec.tls import UpstreamTls

_HOST = ":authority"
_PLAINTEXT = "raw_buffer"
_NO_OVERRIDES: Mapping[int, tuple[bytes, ...]] = MappingProxyType({})


class Transports:
    """See the module. `secure`: any host may be connected to by TLS; `asks_requests`: then a connection must be as its
    request demands; `obeys_alpn`: ``istio.alpn`` may say what is offered. Raises ConfigError for what must be secure and is
    not told how."""

    __slots__ = (
        "_alpn_options", "_auto_san", "_auto_sni", "_header", "_matches", "_own", "_own_proxy", "_protocol", "asks_requests",
        "obeys_alpn", "secure",
    )  # fmt: skip

    def __init__(self, spec: Cluster, store: TlsStore, stats: StatRegistry, stat_prefix: str) -> None:
        def build(kind: str, tls: UpstreamTls | None) -> ClientTls | None:
            if tls is None:
                if kind != _PLAINTEXT:
                    raise ConfigError(f"transport socket {kind} without its configuration")
                return None
            return ClientTls(tls, store, stats.group(SslStats, f"{stat_prefix}ssl."), f"cluster {spec.name}")

        self._own = build(spec.transport, spec.tls)
        self._own_proxy = spec.proxy_protocol
        self._matches = tuple(
            (one.match, build(one.transport, one.tls), one.proxy_protocol) for one in spec.transport_matches
        )
        self._auto_sni = spec.auto_sni
        self._auto_san = spec.auto_san_validation
        header = spec.override_auto_sni_header.lower()
        self._header = b"" if header in ("", _HOST) else header.encode()
        self.secure = self._own is not None or any(tls is not None for _, tls, _ in self._matches)
        proxied = spec.proxy_protocol is not None or any(proxy is not None for _, _, proxy in self._matches)
        self.asks_requests = proxied or (self.secure and (self._auto_sni or self._auto_san))
        self.obeys_alpn = self.secure and not _refuses_alpn(spec.metadata)
        self._protocol = spec.protocol
        self._alpn_options: dict[tuple[bytes, ...], TlsOptions] = {}

    def tls(self, host: Host) -> ClientTls | None:
        """TLS for the host, None for plaintext."""
        return self._pick(host)[0]

    def _pick(self, host: Host) -> tuple[ClientTls | None, UpstreamProxyProtocol | None]:
        for match, tls, proxy in self._matches:
            if all(pair in host.transport_metadata for pair in match):
                return tls, proxy
        return self._own, self._own_proxy

    def securing(
        self, host: Host, options: TlsOptions | None = None, fallback_alpn: tuple[bytes, ...] = ()
    ) -> Securing | Preamble | None:
        """How to begin a connection to the host, None for plaintext and nothing else. `fallback_alpn` is offered where
        nothing else is."""
        options = options or NO_OPTIONS
        tls, proxy = self._pick(host)
        secure = None if tls is None else tls.securing(host.text, host.hostname, options, fallback_alpn)
        if proxy is None:
            return secure
        return Preamble(options.header or proxy_header(proxy, None), secure)

    def tcp_options(self, host: Host, connection: ConnectionInfo) -> TlsOptions | None:
        """What the upstream connection of a TCP session must be, None for nothing special."""
        proxy = self._pick(host)[1]
        return None if proxy is None else TlsOptions(header=proxy_header(proxy, connection))

    def options(
        self,
        host: Host,
        head: RequestHead,
        connection: ConnectionInfo,
        overrides: Mapping[int, tuple[bytes, ...]] = _NO_OVERRIDES,
    ) -> TlsOptions | None:
        """What the connection of this request must be, None if one is as good as another. `overrides` are those of
        ``istio.alpn``, by protocol."""
        alpn: tuple[bytes, ...] = ()
        if overrides and self.obeys_alpn:
            alpn = overrides.get(self._alpn_key(head.version), ())
        if not self.asks_requests:
            if not alpn:
                return None
            found = self._alpn_options.get(alpn)
            if found is None:
                found = self._alpn_options[alpn] = TlsOptions(alpn=alpn)
            return found
        name = ""
        if self._auto_sni or self._auto_san:
            value = (head.get(self._header) if self._header else None) or head.authority or b""
            name = _without_port(value.decode("latin-1"))
        proxy = self._pick(host)[1]
        header = b"" if proxy is None else proxy_header(proxy, connection)
        sans = (name,) if self._auto_san and name else ()
        return TlsOptions(name if self._auto_sni else "", sans, alpn, header)

    def _alpn_key(self, version: Version) -> int:
        """The upstream's protocol, as numbered in AlpnOverride: 0 HTTP/1.0, 1 HTTP/1.1, 2 HTTP/2."""
        protocol = self._protocol
        if protocol is UpstreamProtocol.USE_DOWNSTREAM:
            return 2 if version is Version.HTTP2 else int(version is not Version.HTTP10)
        return 1 if protocol is UpstreamProtocol.HTTP1 else 2

    def __repr__(self) -> str:
        return f"<Transports {'TLS' if self._own is not None else 'plaintext'}, {len(self._matches)} matches>"


def _refuses_alpn(metadata: bytes) -> bool:
    """Istio's clusters say so where the peer is outside of the mesh: filter metadata ``istio``, ``alpn_override: "false"``."""
    if not metadata:
        return False
    said = msgspec.json.decode(metadata)
    return isinstance(said, dict) and said.get("istio", {}).get("alpn_override") == "false"


def _without_port(authority: str) -> str:
    host, colon, port = authority.rpartition(":")
    if colon and port.isdigit() and (":" not in host or host.endswith("]")):
        authority = host
    return authority.strip("[]")
