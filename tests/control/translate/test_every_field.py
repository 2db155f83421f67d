"""Nothing is ignored in silence: each field of the main messages, set alone, is effective, refused or reported.

A baseline resource holds the message; one field is set in it; then either the outcome of the translation differs, or it
is refused, or the field's path is among the unread. Fields whose only effect is none by definition stand in `NO_EFFECT`.
"""

from collections.abc import Callable
from importlib.metadata import EntryPoint
from typing import Any

import pytest

from mosn_xds.base.errors import ConfigError
from mosn_xds.control.translate import NodeContext, Options, Translated, Translator
from mosn_xds.control.translate.generic_routes import GENERIC_ROUTES_URL
from mosn_xds.control.translate.hcm import ROUTES_URL
from mosn_xds.control.translate.registry import Registry
from mosn_xds.control.translate.translator import CLUSTERS_URL, ENDPOINTS_URL, LISTENERS_URL
from mosn_xds.spec.extensions import PROTOCOLS
from mosn_xds.spec.snapshot import encode
from tests.support.field_samples import message_fields, new, samples

ROUTE = "envoy.config.route.v3"
LISTENER = "envoy.config.listener.v3"
CLUSTER = "envoy.config.cluster.v3"
ENDPOINT = "envoy.config.endpoint.v3"
CORE = "envoy.config.core.v3"
MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3"
NETWORK = "envoy.extensions.filters.network"
GENERIC = f"{NETWORK}.generic_proxy"
OURS = "mosn_xds.extensions.rpc.v1"
HTTP = "envoy.extensions.filters.http"
UPSTREAM = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

Place = Callable[[], tuple[str, Any, Any, Callable[[], None]]]
"""Makes a resource: its type URL, the resource, the message to set a field of, and what packs it into the resource."""


def nothing() -> None:
    pass


def table() -> Any:
    message = new(f"{ROUTE}.RouteConfiguration")
    message.name = "table"
    host = message.virtual_hosts.add(name="host", domains=["host.test"])
    one = host.routes.add(name="one")
    one.match.prefix = "/"
    one.route.cluster = "there"
    answer = host.routes.add(name="answer")
    answer.match.prefix = "/answer"
    answer.direct_response.status = 200
    answer.direct_response.body.inline_string = "hello"
    return message


def in_table(find: Callable[[Any], Any]) -> Place:
    def make() -> tuple[str, Any, Any, Callable[[], None]]:
        message = table()
        return ROUTES_URL, message, find(message), nothing

    return make


def in_route(prepare: Callable[[Any], Any]) -> Place:
    return in_table(lambda message: prepare(message.virtual_hosts[0].routes[0]))


def in_action(prepare: Callable[[Any], Any]) -> Place:
    return in_route(lambda one: prepare(one.route))


def redirect(one: Any) -> Any:
    one.redirect.host_redirect = "there"
    return one.redirect


def direct(one: Any) -> Any:
    one.direct_response.status = 200
    return one.direct_response


def weighted(action: Any) -> Any:
    action.weighted_clusters.clusters.add(name="a").weight.value = 1
    action.weighted_clusters.clusters.add(name="b").weight.value = 1
    return action.weighted_clusters


def header_match(one: Any) -> Any:
    return one.match.headers.add(name="x-header")


def add_header(one: Any) -> Any:
    option = one.request_headers_to_add.add()
    option.header.key, option.header.value = "x-added", "y"
    return option


def decorated(one: Any) -> Any:
    one.decorator.operation = "op"
    return one.decorator


def hash_policy(action: Any, kind: str) -> Any:
    policy = action.hash_policy.add()
    match kind:
        case "cookie":
            policy.cookie.name = "c"
        case "header":
            policy.header.header_name = "h"
    return policy


def cluster(kind: int = 0) -> Any:
    message = new(f"{CLUSTER}.Cluster")
    message.name = "cluster"
    message.type = kind
    if kind == 3:
        message.eds_cluster_config.eds_config.ads.SetInParent()
    elif kind == 4:
        message.lb_policy = 6
    else:
        message.load_assignment.cluster_name = "cluster"
        endpoint = message.load_assignment.endpoints.add().lb_endpoints.add().endpoint
        endpoint.address.socket_address.address, endpoint.address.socket_address.port_value = "127.0.0.1", 80
    return message


def in_cluster(prepare: Callable[[Any], Any], kind: int = 0) -> Place:
    def make() -> tuple[str, Any, Any, Callable[[], None]]:
        message = cluster(kind)
        return CLUSTERS_URL, message, prepare(message), nothing

    return make


def balanced(policy: int, prepare: Callable[[Any], Any]) -> Place:
    def with_policy(message: Any) -> Any:
        message.lb_policy = policy
        found = prepare(message)
        found.SetInParent()
        return found

    return in_cluster(with_policy)


def refresh_rate(message: Any) -> Any:
    message.dns_failure_refresh_rate.base_interval.seconds = 1
    return message.dns_failure_refresh_rate


def thresholds(message: Any) -> Any:
    found = message.circuit_breakers.thresholds.add()
    found.max_connections.value = 5
    return found


def in_upstream(prepare: Callable[[Any], Any]) -> Place:
    def make() -> tuple[str, Any, Any, Callable[[], None]]:
        message = cluster()
        options = new(UPSTREAM)
        options.explicit_http_config.http_protocol_options.SetInParent()
        target = prepare(options)
        return CLUSTERS_URL, message, target, lambda: message.typed_extension_protocol_options[UPSTREAM].Pack(options)

    return make


def assignment() -> Any:
    message = new(f"{ENDPOINT}.ClusterLoadAssignment")
    message.cluster_name = "cluster"
    endpoint = message.endpoints.add().lb_endpoints.add().endpoint
    endpoint.address.socket_address.address, endpoint.address.socket_address.port_value = "127.0.0.1", 80
    return message


def in_assignment(prepare: Callable[[Any], Any]) -> Place:
    def make() -> tuple[str, Any, Any, Callable[[], None]]:
        message = assignment()
        return ENDPOINTS_URL, message, prepare(message), nothing

    return make


def manager() -> Any:
    message = new(f"{MANAGER}.HttpConnectionManager")
    message.stat_prefix = "in"
    message.route_config.CopyFrom(table())
    router = message.http_filters.add(name="router")
    router.typed_config.Pack(new(f"{HTTP}.router.v3.Router"))
    return message


def proxy() -> Any:
    message = new("envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy")
    message.stat_prefix, message.cluster = "tcp", "there"
    return message


def rpc_table() -> Any:
    message = new(f"{GENERIC}.v3.RouteConfiguration")
    message.name = "table"
    host = message.virtual_hosts.add(name="host", hosts=["shop"])
    entry = host.routes.matcher_list.matchers.add()
    single = entry.predicate.single_predicate
    single.input.name = "service"
    single.input.typed_config.Pack(new(f"{GENERIC}.matcher.v3.ServiceMatchInput"))
    single.value_match.exact = "shop"
    action = new(f"{GENERIC}.action.v3.RouteAction")
    action.cluster = "there"
    entry.on_match.action.name = "route"
    entry.on_match.action.typed_config.Pack(action)
    return message


def in_rpc_table(find: Callable[[Any], Any]) -> Place:
    def make() -> tuple[str, Any, Any, Callable[[], None]]:
        message = rpc_table()
        return GENERIC_ROUTES_URL, message, find(message), nothing

    return make


def in_rpc_action(prepare: Callable[[Any], Any]) -> Place:
    def make() -> tuple[str, Any, Any, Callable[[], None]]:
        message = rpc_table()
        action = new(f"{GENERIC}.action.v3.RouteAction")
        action.cluster = "there"
        target = prepare(action)
        config = message.virtual_hosts[0].routes.matcher_list.matchers[0].on_match.action.typed_config
        return GENERIC_ROUTES_URL, message, target, lambda: config.Pack(action)

    return make


def in_request_matcher(prepare: Callable[[Any], Any]) -> Place:
    def make() -> tuple[str, Any, Any, Callable[[], None]]:
        message = rpc_table()
        matcher = new(f"{GENERIC}.matcher.v3.RequestMatcher")
        target = prepare(matcher)
        single = message.virtual_hosts[0].routes.matcher_list.matchers[0].predicate.single_predicate
        single.input.typed_config.Pack(new(f"{GENERIC}.matcher.v3.RequestMatchInput"))
        single.custom_match.name = "request"
        return GENERIC_ROUTES_URL, message, target, lambda: single.custom_match.typed_config.Pack(matcher)

    return make


def in_our_action(prepare: Callable[[Any], Any]) -> Place:
    def make() -> tuple[str, Any, Any, Callable[[], None]]:
        message = rpc_table()
        action = new(f"{OURS}.RouteAction")
        action.route.cluster = "there"
        target = prepare(action)
        config = message.virtual_hosts[0].routes.matcher_list.matchers[0].on_match.action.typed_config
        return GENERIC_ROUTES_URL, message, target, lambda: config.Pack(action)

    return make


def in_codec(full_name: str, prepare: Callable[[Any], Any]) -> Place:
    def make() -> tuple[str, Any, Any, Callable[[], None]]:
        terminal = generic()
        config = new(full_name)
        target = prepare(config)
        message = listener(terminal)

        def pack() -> None:
            terminal.codec_config.typed_config.Pack(config)
            message.filter_chains[0].filters[0].typed_config.Pack(terminal)

        return LISTENERS_URL, message, target, pack

    return make


def inspector() -> tuple[str, Any, Any, Callable[[], None]]:
    """A listener filter that looks for protocols."""
    config = new(f"{OURS}.ProtocolInspector")
    config.protocols.add(name="bolt")
    message = listener(generic())
    placed = message.listener_filters.add(name="inspector")
    return LISTENERS_URL, message, config, lambda: placed.typed_config.Pack(config)


def property_hash(action: Any) -> Any:
    policy = action.hash_policy.add()
    policy.property_name = "tenant"
    return policy


def generic() -> Any:
    message = new(f"{GENERIC}.v3.GenericProxy")
    message.stat_prefix = "rpc"
    message.codec_config.name = "dubbo"
    message.codec_config.typed_config.Pack(new(f"{GENERIC}.codecs.dubbo.v3.DubboCodecConfig"))
    message.route_config.CopyFrom(rpc_table())
    message.filters.add(name="router").typed_config.Pack(new(f"{GENERIC}.router.v3.Router"))
    return message


def dubbo() -> Any:
    message = new(f"{NETWORK}.dubbo_proxy.v3.DubboProxy")
    message.stat_prefix = "dubbo"
    config = message.multiple_route_config.route_config.add(name="routes", interface="shop")
    route = config.routes.add()
    route.match.method.name.exact = "buy"
    route.route.cluster = "there"
    return message


def dubbo_route(config: Any) -> Any:
    return config.multiple_route_config.route_config[0].routes[0]


def thrift() -> Any:
    message = new(f"{NETWORK}.thrift_proxy.v3.ThriftProxy")
    message.stat_prefix = message.route_config.name = "thrift"
    route = message.route_config.routes.add()
    route.match.method_name = "add"
    route.route.cluster = "there"
    return message


def listener(config: Any) -> Any:
    message = new(f"{LISTENER}.Listener")
    message.name = "listener"
    message.address.socket_address.address, message.address.socket_address.port_value = "127.0.0.1", 8080
    message.filter_chains.add(name="chain").filters.add(name="terminal").typed_config.Pack(config)
    return message


def in_listener(prepare: Callable[[Any], Any]) -> Place:
    def make() -> tuple[str, Any, Any, Callable[[], None]]:
        message = listener(proxy())
        return LISTENERS_URL, message, prepare(message), nothing

    return make


def in_config(config: Callable[[], Any], prepare: Callable[[Any], Any]) -> Place:
    """Inside the configuration of the terminal filter."""

    def make() -> tuple[str, Any, Any, Callable[[], None]]:
        terminal = config()
        message = listener(terminal)
        target = prepare(terminal)
        packed = message.filter_chains[0].filters[0].typed_config
        return LISTENERS_URL, message, target, lambda: packed.Pack(terminal)

    return make


def in_manager(prepare: Callable[[Any], Any]) -> Place:
    return in_config(manager, prepare)


def in_http_filter(full_name: str, prepare: Callable[[Any], Any] = lambda config: config) -> Place:
    def make() -> tuple[str, Any, Any, Callable[[], None]]:
        terminal = manager()
        config = new(full_name)
        target = prepare(config)
        message = listener(terminal)
        packed = message.filter_chains[0].filters[0].typed_config

        def pack() -> None:
            if full_name.endswith("Router"):
                terminal.http_filters[0].typed_config.Pack(config)
            else:
                router = terminal.http_filters.pop()
                terminal.http_filters.add(name="under-test").typed_config.Pack(config)
                terminal.http_filters.append(router)
            packed.Pack(terminal)

        return LISTENERS_URL, message, target, pack

    return make


def in_per_route(full_name: str) -> Place:
    def make() -> tuple[str, Any, Any, Callable[[], None]]:
        message = table()
        config = new(full_name)
        configs = message.virtual_hosts[0].routes[0].typed_per_filter_config
        return ROUTES_URL, message, config, lambda: configs["filter"].Pack(config)

    return make


def in_network_filter(full_name: str, prepare: Callable[[Any], Any]) -> Place:
    def make() -> tuple[str, Any, Any, Callable[[], None]]:
        message = listener(proxy())
        config = new(full_name)
        target = prepare(config)

        def pack() -> None:
            last = message.filter_chains[0].filters.pop()
            message.filter_chains[0].filters.add(name="under-test").typed_config.Pack(config)
            message.filter_chains[0].filters.append(last)

        return LISTENERS_URL, message, target, pack

    return make


def in_access_log(prepare: Callable[[Any], Any]) -> Place:
    def make() -> tuple[str, Any, Any, Callable[[], None]]:
        message = listener(proxy())
        log = new("envoy.extensions.access_loggers.file.v3.FileAccessLog")
        log.path = "/dev/stdout"
        target = prepare(log)
        message.access_log.add(name="file")
        return LISTENERS_URL, message, target, lambda: message.access_log[0].typed_config.Pack(log)

    return make


def additional(message: Any) -> Any:
    found = message.additional_addresses.add()
    found.address.socket_address.address, found.address.socket_address.port_value = "127.0.0.2", 8080
    return found


def keepalive(config: Any) -> Any:
    found = config.http2_protocol_options.connection_keepalive
    found.interval.seconds = found.timeout.seconds = 5
    return found


def runtime_filter(message: Any) -> Any:
    found = log_filter(message, "runtime_filter")
    found.runtime_key = "key"
    return found


def header_filter(message: Any) -> Any:
    log_filter(message, "header_filter").header.name = "h"
    return message.access_log[0].filter


def log_filter(message: Any, kind: str) -> Any:
    log = new("envoy.extensions.access_loggers.file.v3.FileAccessLog")
    log.path = "/dev/stdout"
    message.access_log.add(name="file").typed_config.Pack(log)
    return getattr(message.access_log[0].filter, kind)


def touched(message: Any) -> Any:
    message.SetInParent()
    return message


def rbac_rules(config: Any) -> Any:
    policy = config.rules.policies["p"]
    policy.permissions.add().destination_port = 1
    policy.principals.add().direct_remote_ip.address_prefix = "10.0.0.0"
    return config.rules


def fault_delay(config: Any) -> Any:
    config.delay.fixed_delay.seconds = 1
    return config.delay


def fault_abort(config: Any) -> Any:
    config.abort.http_status = 400
    return config.abort


def text_format(log: Any) -> Any:
    log.log_format.text_format_source.inline_string = "%PROTOCOL%"
    return log.log_format


def json_format(log: Any) -> Any:
    log.log_format.json_format.update({"protocol": "%PROTOCOL%"})
    return log.log_format


def reply_mapper(config: Any) -> Any:
    mapper = config.local_reply_config.mappers.add()
    mapper.filter.response_flag_filter.flags.append("NR")
    return mapper


PLACES: list[tuple[str, Place]] = [
    (f"{ROUTE}.RouteConfiguration", in_table(lambda message: message)),
    (f"{ROUTE}.VirtualHost", in_table(lambda message: message.virtual_hosts[0])),
    (f"{ROUTE}.Route", in_route(lambda one: one)),
    (f"{ROUTE}.RouteMatch", in_route(lambda one: one.match)),
    (f"{ROUTE}.RouteMatch.TlsContextMatchOptions", in_route(lambda one: touched(one.match.tls_context))),
    (f"{ROUTE}.HeaderMatcher", in_route(header_match)),
    (f"{ROUTE}.QueryParameterMatcher", in_route(lambda one: one.match.query_parameters.add(name="q"))),
    (f"{ROUTE}.RouteAction", in_action(lambda action: action)),
    (f"{ROUTE}.RouteAction.MaxStreamDuration", in_action(lambda action: touched(action.max_stream_duration))),
    (f"{ROUTE}.RouteAction.HashPolicy", in_action(lambda action: hash_policy(action, "header"))),
    (f"{ROUTE}.RouteAction.HashPolicy.Header", in_action(lambda action: hash_policy(action, "header").header)),
    (f"{ROUTE}.RouteAction.HashPolicy.Cookie", in_action(lambda action: hash_policy(action, "cookie").cookie)),
    (
        f"{ROUTE}.RouteAction.RequestMirrorPolicy",
        in_action(lambda action: action.request_mirror_policies.add(cluster="mirror")),
    ),
    (f"{ROUTE}.RouteAction.UpgradeConfig", in_action(lambda action: action.upgrade_configs.add(upgrade_type="a"))),
    (f"{ROUTE}.WeightedCluster", in_action(weighted)),
    (f"{ROUTE}.WeightedCluster.ClusterWeight", in_action(lambda action: weighted(action).clusters[0])),
    (f"{ROUTE}.RetryPolicy", in_action(lambda action: touched(action.retry_policy))),
    (f"{ROUTE}.RedirectAction", in_route(redirect)),
    (f"{ROUTE}.DirectResponseAction", in_route(direct)),
    (f"{ROUTE}.Decorator", in_route(decorated)),
    (f"{CORE}.HeaderValueOption", in_route(add_header)),
    (f"{CORE}.HeaderValue", in_route(lambda one: add_header(one).header)),
    (f"{CLUSTER}.Cluster", in_cluster(lambda message: message)),
    (f"{CLUSTER}.Cluster", in_cluster(lambda message: message, 1)),
    (f"{CLUSTER}.Cluster", in_cluster(lambda message: message, 3)),
    (f"{CLUSTER}.Cluster", in_cluster(lambda message: message, 4)),
    (f"{CLUSTER}.Cluster.EdsClusterConfig", in_cluster(lambda message: message.eds_cluster_config, 3)),
    (f"{CORE}.ConfigSource", in_cluster(lambda message: message.eds_cluster_config.eds_config, 3)),
    (f"{CLUSTER}.Cluster.OriginalDstLbConfig", in_cluster(lambda message: touched(message.original_dst_lb_config), 4)),
    (f"{CLUSTER}.Cluster.RefreshRate", in_cluster(refresh_rate, 1)),
    (f"{CLUSTER}.Cluster.CommonLbConfig", in_cluster(lambda message: touched(message.common_lb_config))),
    (f"{CLUSTER}.Cluster.RoundRobinLbConfig", balanced(0, lambda message: message.round_robin_lb_config)),
    (f"{CLUSTER}.Cluster.LeastRequestLbConfig", balanced(1, lambda message: message.least_request_lb_config)),
    (f"{CLUSTER}.Cluster.RingHashLbConfig", balanced(2, lambda message: message.ring_hash_lb_config)),
    (f"{CLUSTER}.Cluster.MaglevLbConfig", balanced(5, lambda message: message.maglev_lb_config)),
    (
        f"{CLUSTER}.Cluster.SlowStartConfig",
        balanced(0, lambda message: message.round_robin_lb_config.slow_start_config),
    ),
    (
        f"{CLUSTER}.Cluster.CommonLbConfig.ConsistentHashingLbConfig",
        balanced(2, lambda message: message.common_lb_config.consistent_hashing_lb_config),
    ),
    (f"{CLUSTER}.CircuitBreakers", in_cluster(lambda message: touched(message.circuit_breakers))),
    (f"{CLUSTER}.CircuitBreakers.Thresholds", in_cluster(thresholds)),
    (
        f"{CLUSTER}.CircuitBreakers.Thresholds.RetryBudget",
        in_cluster(lambda message: touched(message.circuit_breakers.thresholds.add().retry_budget)),
    ),
    (f"{CLUSTER}.UpstreamConnectionOptions", in_cluster(lambda message: touched(message.upstream_connection_options))),
    (f"{CORE}.TcpKeepalive", in_cluster(lambda message: touched(message.upstream_connection_options.tcp_keepalive))),
    (f"{CORE}.BindConfig", in_cluster(lambda message: touched(message.upstream_bind_config))),
    (UPSTREAM, in_upstream(lambda options: options)),
    (f"{CORE}.HttpProtocolOptions", in_upstream(lambda options: touched(options.common_http_protocol_options))),
    (
        f"{CORE}.Http1ProtocolOptions",
        in_upstream(lambda options: options.explicit_http_config.http_protocol_options),
    ),
    (
        f"{CORE}.Http2ProtocolOptions",
        in_upstream(lambda options: touched(options.explicit_http_config.http2_protocol_options)),
    ),
    (f"{ENDPOINT}.ClusterLoadAssignment", in_assignment(lambda message: message)),
    (f"{ENDPOINT}.ClusterLoadAssignment.Policy", in_assignment(lambda message: touched(message.policy))),
    (f"{ENDPOINT}.LocalityLbEndpoints", in_assignment(lambda message: message.endpoints[0])),
    (f"{CORE}.Locality", in_assignment(lambda message: touched(message.endpoints[0].locality))),
    (f"{ENDPOINT}.LbEndpoint", in_assignment(lambda message: message.endpoints[0].lb_endpoints[0])),
    (f"{ENDPOINT}.Endpoint", in_assignment(lambda message: message.endpoints[0].lb_endpoints[0].endpoint)),
    (
        f"{CORE}.SocketAddress",
        in_assignment(lambda message: message.endpoints[0].lb_endpoints[0].endpoint.address.socket_address),
    ),
    (f"{LISTENER}.Listener", in_listener(lambda message: message)),
    (f"{LISTENER}.AdditionalAddress", in_listener(additional)),
    (f"{CORE}.SocketAddress", in_listener(lambda message: message.address.socket_address)),
    (f"{CORE}.SocketOption", in_listener(lambda message: message.socket_options.add(level=1, name=2, int_value=3))),
    (f"{LISTENER}.FilterChain", in_listener(lambda message: message.filter_chains[0])),
    (f"{LISTENER}.FilterChainMatch", in_listener(lambda message: touched(message.filter_chains[0].filter_chain_match))),
    (f"{LISTENER}.Filter", in_listener(lambda message: message.filter_chains[0].filters[0])),
    (
        "envoy.config.accesslog.v3.AccessLog",
        in_listener(lambda message: log_filter(message, "and_filter") and message.access_log[0]),
    ),
    (
        "envoy.config.accesslog.v3.AccessLogFilter",
        in_listener(header_filter),
    ),
    (
        "envoy.config.accesslog.v3.RuntimeFilter",
        in_listener(runtime_filter),
    ),
    (
        "envoy.config.accesslog.v3.GrpcStatusFilter",
        in_listener(lambda message: touched(log_filter(message, "grpc_status_filter"))),
    ),
    ("envoy.extensions.access_loggers.file.v3.FileAccessLog", in_access_log(lambda log: log)),
    (f"{CORE}.SubstitutionFormatString", in_access_log(text_format)),
    (f"{CORE}.SubstitutionFormatString", in_access_log(json_format)),
    (f"{MANAGER}.HttpConnectionManager", in_manager(lambda config: config)),
    (f"{CORE}.HttpProtocolOptions", in_manager(lambda config: touched(config.common_http_protocol_options))),
    (f"{CORE}.Http1ProtocolOptions", in_manager(lambda config: touched(config.http_protocol_options))),
    (f"{CORE}.Http2ProtocolOptions", in_manager(lambda config: touched(config.http2_protocol_options))),
    (
        f"{CORE}.KeepaliveSettings",
        in_manager(keepalive),
    ),
    (f"{CORE}.SchemeHeaderTransformation", in_manager(lambda config: touched(config.scheme_header_transformation))),
    (
        f"{MANAGER}.HttpConnectionManager.InternalAddressConfig",
        in_manager(lambda config: touched(config.internal_address_config)),
    ),
    (
        f"{MANAGER}.HttpConnectionManager.UpgradeConfig",
        in_manager(lambda config: config.upgrade_configs.add(upgrade_type="a")),
    ),
    (f"{MANAGER}.HttpFilter", in_manager(lambda config: config.http_filters[0])),
    (f"{MANAGER}.LocalReplyConfig", in_manager(lambda config: touched(config.local_reply_config))),
    (f"{MANAGER}.ResponseMapper", in_manager(reply_mapper)),
    ("envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", in_config(proxy, lambda config: config)),
    (f"{GENERIC}.v3.GenericProxy", in_config(generic, lambda config: config)),
    (f"{GENERIC}.v3.RouteConfiguration", in_rpc_table(lambda message: message)),
    (f"{GENERIC}.v3.VirtualHost", in_rpc_table(lambda message: message.virtual_hosts[0])),
    ("xds.type.matcher.v3.Matcher", in_rpc_table(lambda message: message.virtual_hosts[0].routes)),
    (
        "xds.type.matcher.v3.Matcher.OnMatch",
        in_rpc_table(lambda message: message.virtual_hosts[0].routes.matcher_list.matchers[0].on_match),
    ),
    (
        "xds.type.matcher.v3.Matcher.MatcherList.Predicate",
        in_rpc_table(lambda message: message.virtual_hosts[0].routes.matcher_list.matchers[0].predicate),
    ),
    (f"{GENERIC}.action.v3.RouteAction", in_rpc_action(lambda action: action)),
    (f"{CORE}.RetryPolicy", in_rpc_action(lambda action: touched(action.retry_policy))),
    (f"{GENERIC}.matcher.v3.RequestMatcher", in_request_matcher(lambda matcher: matcher)),
    (f"{OURS}.BoltCodecConfig", in_codec(f"{OURS}.BoltCodecConfig", lambda config: config)),
    (
        f"{OURS}.ProtocolCodecConfig",
        in_codec(f"{OURS}.ProtocolCodecConfig", lambda config: setattr(config, "name", "dubbo") or config),
    ),
    (
        f"{OURS}.SniffingCodecConfig",
        in_codec(f"{OURS}.SniffingCodecConfig", lambda config: config.protocols.add(name="bolt") and config),
    ),
    (f"{OURS}.ProtocolInspector", inspector),
    (f"{OURS}.RouteAction", in_our_action(lambda action: action)),
    (f"{OURS}.HashPolicy", in_our_action(property_hash)),
    (f"{NETWORK}.dubbo_proxy.v3.DubboProxy", in_config(dubbo, lambda config: config)),
    (f"{NETWORK}.dubbo_proxy.v3.RouteMatch", in_config(dubbo, lambda config: dubbo_route(config).match)),
    (f"{NETWORK}.dubbo_proxy.v3.MethodMatch", in_config(dubbo, lambda config: dubbo_route(config).match.method)),
    (f"{NETWORK}.dubbo_proxy.v3.RouteAction", in_config(dubbo, lambda config: dubbo_route(config).route)),
    (
        f"{NETWORK}.dubbo_proxy.v3.RouteConfiguration",
        in_config(dubbo, lambda config: config.multiple_route_config.route_config[0]),
    ),
    (
        f"{NETWORK}.dubbo_proxy.v3.MultipleRouteConfiguration",
        in_config(dubbo, lambda config: config.multiple_route_config),
    ),
    (f"{NETWORK}.thrift_proxy.v3.ThriftProxy", in_config(thrift, lambda config: config)),
    (f"{NETWORK}.thrift_proxy.v3.RouteConfiguration", in_config(thrift, lambda config: config.route_config)),
    (f"{NETWORK}.thrift_proxy.v3.RouteMatch", in_config(thrift, lambda config: config.route_config.routes[0].match)),
    (f"{NETWORK}.thrift_proxy.v3.RouteAction", in_config(thrift, lambda config: config.route_config.routes[0].route)),
    (f"{HTTP}.router.v3.Router", in_http_filter(f"{HTTP}.router.v3.Router")),
    (f"{HTTP}.fault.v3.HTTPFault", in_http_filter(f"{HTTP}.fault.v3.HTTPFault")),
    (f"{HTTP}.fault.v3.FaultAbort", in_http_filter(f"{HTTP}.fault.v3.HTTPFault", fault_abort)),
    ("envoy.extensions.filters.common.fault.v3.FaultDelay", in_http_filter(f"{HTTP}.fault.v3.HTTPFault", fault_delay)),
    (f"{HTTP}.grpc_stats.v3.FilterConfig", in_http_filter(f"{HTTP}.grpc_stats.v3.FilterConfig")),
    (f"{HTTP}.rbac.v3.RBAC", in_http_filter(f"{HTTP}.rbac.v3.RBAC")),
    ("envoy.config.rbac.v3.RBAC", in_http_filter(f"{HTTP}.rbac.v3.RBAC", rbac_rules)),
    (
        "envoy.config.rbac.v3.Policy",
        in_http_filter(f"{HTTP}.rbac.v3.RBAC", lambda config: rbac_rules(config).policies["p"]),
    ),
    (
        "envoy.config.rbac.v3.Permission",
        in_http_filter(f"{HTTP}.rbac.v3.RBAC", lambda config: rbac_rules(config).policies["p"].permissions[0]),
    ),
    (
        "envoy.config.rbac.v3.Principal",
        in_http_filter(f"{HTTP}.rbac.v3.RBAC", lambda config: rbac_rules(config).policies["p"].principals[0]),
    ),
    (f"{HTTP}.cors.v3.CorsPolicy", in_per_route(f"{HTTP}.cors.v3.CorsPolicy")),
    (f"{HTTP}.fault.v3.HTTPFault", in_per_route(f"{HTTP}.fault.v3.HTTPFault")),
    (
        "envoy.extensions.filters.network.rbac.v3.RBAC",
        in_network_filter(
            "envoy.extensions.filters.network.rbac.v3.RBAC",
            lambda config: setattr(config, "stat_prefix", "x") or config,
        ),
    ),
]

NO_EFFECT = {
    (f"{CORE}.ConfigSource", "ads"): "the baseline has it",
    (f"{CORE}.ConfigSource", "self"): "means the stream that it came on, which is ADS",
    (f"{CORE}.SocketOption", "description"): "for people",
    (f"{CORE}.SubstitutionFormatString", "json_format_options"): "asks for sorted keys, which they always are",
    ("envoy.config.accesslog.v3.AccessLog", "name"): "for people",
    (f"{NETWORK}.dubbo_proxy.v3.DubboProxy", "protocol_type"): "has one value",
    (f"{NETWORK}.dubbo_proxy.v3.DubboProxy", "serialization_type"): "has one value",
    (f"{NETWORK}.dubbo_proxy.v3.RouteConfiguration", "name"): "for people",
    (f"{NETWORK}.thrift_proxy.v3.ThriftProxy", "payload_passthrough"): "bodies always are",
    (f"{NETWORK}.thrift_proxy.v3.ThriftProxy", "header_keys_preserve_case"): "they always are",
}

RUNTIME = {"x": 3, "x.a": 9, "sample.fraction": 9}
OPTIONS = Options(runtime=RUNTIME)
RPC_PROTOCOLS = [
    EntryPoint(name.lower(), f"mosn_xds.data.codec.rpc.{name.lower()}.protocol:{name}", PROTOCOLS)
    for name in ("Bolt", "Dubbo", "Thrift")
]


def registry() -> Registry:
    """What we have, and nothing of other packages."""
    return Registry([], [], RPC_PROTOCOLS)


def outcome(translated: Translated) -> bytes:
    needs = [repr(need) for need in translated.needs]
    return encode((translated.spec, translated.extra, repr(translated.dns), needs, translated.warnings))


@pytest.fixture(scope="module")
def translator() -> Translator:
    return Translator(NodeContext(), OPTIONS, registry())


def translate(translator: Translator, place: Place, setter: Callable[[Any], None] | None) -> Translated:
    type_url, resource, target, pack = place()
    if setter is not None:
        setter(target)
    pack()
    return translator.translate(type_url, None, resource.SerializeToString())


def judge(translator: Translator, place: Place, baseline: Translated, name: str, setter: Callable[[Any], None]) -> str:
    try:
        found = translate(translator, place, setter)
    except ConfigError:
        return "refused"
    if outcome(found) != outcome(baseline):
        return "effective"
    new_reports = [path for path in found.unread if path not in baseline.unread]
    return "reported" if any(name in path for path in new_reports) else "silent"


CASES = [(full_name, place, field) for full_name, place in PLACES for field in message_fields(full_name)]


@pytest.mark.usefixtures("checked_names")
@pytest.mark.parametrize(
    ("full_name", "place", "field"),
    CASES,
    ids=[f"{full_name.rpartition('.')[2]}.{field.name}" for full_name, _, field in CASES],
)
def test_a_field_that_is_set_has_an_effect_or_is_named(
    translator: Translator, full_name: str, place: Place, field: Any
) -> None:
    if (full_name, field.name) in NO_EFFECT:
        pytest.skip(NO_EFFECT[full_name, field.name])
    baseline = translate(translator, place, None)
    verdicts = {judge(translator, place, baseline, field.name, setter) for setter in samples(field)}
    assert verdicts != {"silent"}, f"{full_name}.{field.name} changes nothing, and nobody says so"
