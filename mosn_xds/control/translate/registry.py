"""Which code translates which extension: by category and message type, ours from a table, others' by entry point.

Both are loaded at first use. An entry point of the group ``mosn_xds.translators`` is named after the full type name of the
configuration message (``acme.filters.v1.Greeter``) and leads to a `Translation`.
"""

import importlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from mosn_xds.base.errors import ConfigError
from mosn_xds.spec.extensions import PROTOCOLS, STREAM_FILTERS, Extensions

if TYPE_CHECKING:
    from mosn_xds.control.translate.context import Context
    from mosn_xds.control.translate.take import Take

ENTRY_POINT_GROUP = "mosn_xds.translators"

Translate = Callable[["Take", "Context", str], Any]
"""(the configuration, what is shared, the extension's name in the config) to the category's Spec. Raises ConfigError."""


class Category(Enum):
    """Where an extension stands; the value is Envoy's category name where it has one."""

    LISTENER_FILTER = "envoy.filters.listener"
    NETWORK_FILTER = "envoy.filters.network"
    HTTP_FILTER = "envoy.filters.http"
    ROUTE_CONFIG = "envoy.filters.http.route_config"
    """An HTTP filter's configuration in `typed_per_filter_config`."""
    UPSTREAM_FILTER = "envoy.filters.upstream_network"
    DOWNSTREAM_TRANSPORT = "envoy.transport_sockets.downstream"
    UPSTREAM_TRANSPORT = "envoy.transport_sockets.upstream"
    ACCESS_LOG = "envoy.access_loggers"
    UPSTREAM_OPTIONS = "envoy.upstream_options"
    LOAD_BALANCER = "envoy.load_balancing_policies"
    RETRY_HOST = "envoy.retry_host_predicates"
    REQUEST_ID = "envoy.request_id"
    HEADER_FORMATTER = "envoy.http.stateful_header_formatters"
    FORMATTER = "envoy.formatter"
    RPC_CODEC = "envoy.generic_proxy.codecs"
    RPC_FILTER = "envoy.filters.generic"
    RPC_INPUT = "envoy.matching.generic_proxy.input"
    RPC_MATCHER = "envoy.matching.generic_proxy.input_matchers"
    RPC_ACTION = "envoy.matching.action"


@dataclass(frozen=True, slots=True)
class Translation:
    """What an entry point leads to."""

    category: Category
    translate: Translate


_EXTENSIONS = "envoy.extensions"
_HERE = "mosn_xds.control.translate"

_HTTP = f"{_EXTENSIONS}.filters.http"
_NETWORK = f"{_EXTENSIONS}.filters.network"
_LISTENER = f"{_EXTENSIONS}.filters.listener"
_SOCKETS = f"{_EXTENSIONS}.transport_sockets"
_POLICIES = f"{_EXTENSIONS}.load_balancing_policies"
_OURS = "mosn_xds.extensions.rpc.v1"
_GENERIC = f"{_NETWORK}.generic_proxy"
_EXCHANGE = "envoy.tcp.metadataexchange.config.MetadataExchange"

BUILT_IN: Mapping[tuple[Category, str], str] = {
    (Category.LISTENER_FILTER, f"{_LISTENER}.original_dst.v3.OriginalDst"): "listener_filters:original_dst",
    (Category.LISTENER_FILTER, f"{_LISTENER}.tls_inspector.v3.TlsInspector"): "listener_filters:tls_inspector",
    (Category.LISTENER_FILTER, f"{_LISTENER}.http_inspector.v3.HttpInspector"): "listener_filters:http_inspector",
    (Category.LISTENER_FILTER, f"{_LISTENER}.proxy_protocol.v3.ProxyProtocol"): "listener_filters:proxy_protocol",
    (Category.LISTENER_FILTER, f"{_LISTENER}.original_src.v3.OriginalSrc"): "listener_filters:original_src",
    (Category.LISTENER_FILTER, f"{_OURS}.ProtocolInspector"): "listener_filters:protocol_inspector",
    (Category.NETWORK_FILTER, f"{_NETWORK}.http_connection_manager.v3.HttpConnectionManager"): "hcm",
    (Category.NETWORK_FILTER, f"{_NETWORK}.tcp_proxy.v3.TcpProxy"): "tcp_proxy",
    (Category.NETWORK_FILTER, f"{_GENERIC}.v3.GenericProxy"): "generic_proxy",
    (Category.NETWORK_FILTER, f"{_NETWORK}.dubbo_proxy.v3.DubboProxy"): "dubbo_proxy",
    (Category.NETWORK_FILTER, f"{_NETWORK}.thrift_proxy.v3.ThriftProxy"): "thrift_proxy",
    (Category.RPC_CODEC, f"{_GENERIC}.codecs.dubbo.v3.DubboCodecConfig"): "rpc_codecs:dubbo",
    (Category.RPC_CODEC, f"{_OURS}.BoltCodecConfig"): "rpc_codecs:bolt",
    (Category.RPC_CODEC, f"{_OURS}.ProtocolCodecConfig"): "rpc_codecs:named",
    (Category.RPC_CODEC, f"{_OURS}.SniffingCodecConfig"): "rpc_codecs:sniffing",
    (Category.RPC_FILTER, f"{_GENERIC}.router.v3.Router"): "rpc_filters:generic_router",
    (Category.RPC_FILTER, f"{_NETWORK}.dubbo_proxy.router.v3.Router"): "rpc_filters:dubbo_router",
    (Category.RPC_FILTER, f"{_NETWORK}.thrift_proxy.router.v3.Router"): "rpc_filters:thrift_router",
    (Category.RPC_FILTER, f"{_HTTP}.fault.v3.HTTPFault"): "http.fault",
    (Category.RPC_FILTER, f"{_HTTP}.rbac.v3.RBAC"): "http.rbac",
    (Category.RPC_ACTION, f"{_GENERIC}.action.v3.RouteAction"): "generic_action:route_action",
    (Category.RPC_ACTION, f"{_OURS}.RouteAction"): "generic_action:rpc_route_action",
    (Category.RPC_INPUT, f"{_GENERIC}.matcher.v3.ServiceMatchInput"): "generic_matcher:service_input",
    (Category.RPC_INPUT, f"{_GENERIC}.matcher.v3.HostMatchInput"): "generic_matcher:host_input",
    (Category.RPC_INPUT, f"{_GENERIC}.matcher.v3.PathMatchInput"): "generic_matcher:path_input",
    (Category.RPC_INPUT, f"{_GENERIC}.matcher.v3.MethodMatchInput"): "generic_matcher:method_input",
    (Category.RPC_INPUT, f"{_GENERIC}.matcher.v3.PropertyMatchInput"): "generic_matcher:property_input",
    (Category.RPC_INPUT, f"{_GENERIC}.matcher.v3.RequestMatchInput"): "generic_matcher:request_input",
    (Category.RPC_MATCHER, f"{_GENERIC}.matcher.v3.RequestMatcher"): "generic_matcher:request_matcher",
    (Category.HTTP_FILTER, f"{_HTTP}.router.v3.Router"): "http.router",
    (Category.HTTP_FILTER, f"{_HTTP}.fault.v3.HTTPFault"): "http.fault",
    (Category.HTTP_FILTER, f"{_HTTP}.cors.v3.Cors"): "http.cors",
    (Category.HTTP_FILTER, f"{_HTTP}.rbac.v3.RBAC"): "http.rbac",
    (Category.HTTP_FILTER, f"{_HTTP}.grpc_stats.v3.FilterConfig"): "http.istio:grpc_stats",
    (Category.HTTP_FILTER, f"{_HTTP}.grpc_web.v3.GrpcWeb"): "http.istio:grpc_web",
    (Category.HTTP_FILTER, "io.istio.http.peer_metadata.Config"): "peer_metadata:peer_metadata",
    (Category.HTTP_FILTER, "istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig"): "http.istio:alpn",
    (Category.HTTP_FILTER, "stats.PluginConfig"): "http.istio:stats",
    (Category.ROUTE_CONFIG, f"{_HTTP}.fault.v3.HTTPFault"): "http.fault",
    (Category.ROUTE_CONFIG, f"{_HTTP}.cors.v3.CorsPolicy"): "http.cors:policy",
    (Category.ROUTE_CONFIG, f"{_HTTP}.rbac.v3.RBACPerRoute"): "http.rbac:per_route",
    (Category.NETWORK_FILTER, f"{_NETWORK}.rbac.v3.RBAC"): "network_extensions:rbac",
    (Category.NETWORK_FILTER, _EXCHANGE): "peer_metadata:metadata_exchange",
    (Category.NETWORK_FILTER, "stats.PluginConfig"): "network_extensions:istio_stats",
    (Category.UPSTREAM_FILTER, _EXCHANGE): "peer_metadata:metadata_exchange",
    (Category.FORMATTER, f"{_EXTENSIONS}.formatter.req_without_query.v3.ReqWithoutQuery"): "formats:req_without_query",
    (Category.DOWNSTREAM_TRANSPORT, f"{_SOCKETS}.raw_buffer.v3.RawBuffer"): "transport:raw_buffer",
    (Category.DOWNSTREAM_TRANSPORT, f"{_SOCKETS}.tls.v3.DownstreamTlsContext"): "transport:downstream_tls",
    (Category.UPSTREAM_TRANSPORT, f"{_SOCKETS}.raw_buffer.v3.RawBuffer"): "transport:raw_buffer",
    (Category.UPSTREAM_TRANSPORT, f"{_SOCKETS}.tls.v3.UpstreamTlsContext"): "transport:upstream_tls",
    (
        Category.UPSTREAM_TRANSPORT,
        f"{_SOCKETS}.proxy_protocol.v3.ProxyProtocolUpstreamTransport",
    ): "transport:upstream_proxy_protocol",
    (Category.UPSTREAM_OPTIONS, f"{_EXTENSIONS}.upstreams.http.v3.HttpProtocolOptions"): "upstream_options",
    (Category.ACCESS_LOG, f"{_EXTENSIONS}.access_loggers.file.v3.FileAccessLog"): "access_log:file_log",
    (Category.ACCESS_LOG, f"{_EXTENSIONS}.access_loggers.stream.v3.StdoutAccessLog"): "access_log:stdout_log",
    (Category.ACCESS_LOG, f"{_EXTENSIONS}.access_loggers.stream.v3.StderrAccessLog"): "access_log:stderr_log",
    (Category.LOAD_BALANCER, f"{_POLICIES}.round_robin.v3.RoundRobin"): "load_balancing:round_robin",
    (Category.LOAD_BALANCER, f"{_POLICIES}.least_request.v3.LeastRequest"): "load_balancing:least_request",
    (Category.LOAD_BALANCER, f"{_POLICIES}.random.v3.Random"): "load_balancing:random_choice",
    (Category.LOAD_BALANCER, f"{_POLICIES}.ring_hash.v3.RingHash"): "load_balancing:ring_hash",
    (Category.LOAD_BALANCER, f"{_POLICIES}.maglev.v3.Maglev"): "load_balancing:maglev",
    (Category.LOAD_BALANCER, f"{_POLICIES}.cluster_provided.v3.ClusterProvided"): "load_balancing:cluster_provided",
    (Category.RETRY_HOST, f"{_EXTENSIONS}.retry.host.previous_hosts.v3.PreviousHostsPredicate"): "retry:previous_hosts",
    (Category.REQUEST_ID, f"{_EXTENSIONS}.request_id.uuid.v3.UuidRequestIdConfig"): "request_id",
    (
        Category.HEADER_FORMATTER,
        f"{_EXTENSIONS}.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig",
    ): "http_options:preserve_case",
}
"""Module below this package that has the `translate`; ``module:function`` where a module has several."""

HARMLESS: frozenset[str] = frozenset(
    {
        f"{_HTTP}.compressor.v3.Compressor",
        f"{_HTTP}.compressor.v3.CompressorPerRoute",
        f"{_HTTP}.decompressor.v3.Decompressor",
        f"{_HTTP}.tap.v3.Tap",
        f"{_NETWORK}.mongo_proxy.v3.MongoProxy",
        f"{_NETWORK}.mysql_proxy.v3.MySQLProxy",
        f"{_NETWORK}.zookeeper_proxy.v3.ZooKeeperProxy",
    }
)
"""Types known to decide nothing: left out of their chain with a warning, where others would fail closed."""


def factory_name(type_url: str) -> str:
    """The name under which Envoy registers the extension of this configuration type, for its texts:
    ``envoy.extensions.filters.http.router.v3.Router`` is ``envoy.filters.http.router``."""
    package = type_url.rpartition("/")[2].rpartition(".")[0]
    return re.sub(r"\.v\d+(alpha\d*)?$", "", package).replace("envoy.extensions.", "envoy.", 1)


class Registry:
    """Finds translators, HTTP filters of other packages, and RPC protocols. `found`, `filters` and `protocols` are the entry
    points of each; None: those that are installed."""

    def __init__(
        self,
        found: Iterable[EntryPoint] | None = None,
        filters: Iterable[EntryPoint] | None = None,
        protocols: Iterable[EntryPoint] | None = None,
    ) -> None:
        self._entry_points: dict[str, list[EntryPoint]] = {}
        for entry in entry_points(group=ENTRY_POINT_GROUP) if found is None else found:
            self._entry_points.setdefault(entry.name, []).append(entry)
        self._loaded: dict[tuple[Category, str], Translate | None] = {}
        self.stream_filters = Extensions(STREAM_FILTERS, filters)
        self.protocols = Extensions(PROTOCOLS, protocols)

    def __repr__(self) -> str:
        others = f"{len(self._entry_points)} by entry point, {self.stream_filters!r}, {self.protocols!r}"
        return f"<Registry {len(BUILT_IN)} built in, {others}>"

    def find(self, category: Category, type_name: str) -> Translate | None:
        """The translator, None for a type that nobody knows there. Raises ConfigError for a broken entry point."""
        key = (category, type_name)
        if key not in self._loaded:
            self._loaded[key] = self._load(category, type_name)
        return self._loaded[key]

    def stream_filter(self, type_name: str, name: str) -> str | None:
        """The entry point of an HTTP filter of somebody else's: called like its configuration's type, or like the filter
        in the chain. Such filters need no translator, they get their configuration as JSON."""
        return next((known for known in (type_name, name) if known in self.stream_filters), None)

    def _load(self, category: Category, type_name: str) -> Translate | None:
        place = BUILT_IN.get((category, type_name))
        entries = self._entry_points.get(type_name, [])
        if place is not None:
            module, _, function = place.partition(":")
            found: Translate = getattr(importlib.import_module(f"{_HERE}.{module}"), function or "translate")
            return found
        for entry in entries:
            translation = self._open(entry)
            if translation.category is category:
                others = [other.value for other in entries if other is not entry]
                if any(self._open(other).category is category for other in entries if other is not entry):
                    raise ConfigError(
                        f"{ENTRY_POINT_GROUP}: {type_name} has several entry points: {entry.value}, {others}"
                    )
                return translation.translate
        return None

    def _open(self, entry: EntryPoint) -> Translation:
        try:
            found = entry.load()
        except (ImportError, AttributeError) as error:
            raise ConfigError(f"{ENTRY_POINT_GROUP}: {entry.name} = {entry.value} cannot be loaded: {error}") from None
        if not isinstance(found, Translation):
            raise ConfigError(f"{ENTRY_POINT_GROUP}: {entry.name} = {entry.value} is not a Translation")
        return found
