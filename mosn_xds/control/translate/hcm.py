"""envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager."""

from mosn_xds.control.translate.access_log import take_access_logs
from mosn_xds.control.translate.common import take_cidr, take_source
from mosn_xds.control.translate.context import Context
from mosn_xds.control.translate.http_filters import take_http_filters
from mosn_xds.control.translate.http_options import (
    DEFAULT_HEADERS_COUNT,
    take_http1,
    take_http2,
    take_idle_timeout,
)
from mosn_xds.control.translate.local_reply import take_local_reply
from mosn_xds.control.translate.model import Need
from mosn_xds.control.translate.registry import Category
from mosn_xds.control.translate.route import take_route_table
from mosn_xds.control.translate.take import Take
from mosn_xds.spec.common import CidrRange
from mosn_xds.spec.listener import (
    ClientCertDetail,
    CodecType,
    EscapedSlashes,
    ForwardClientCert,
    HttpConnectionManager,
    ServerHeader,
    UnderscoresAction,
    Upgrade,
)
from mosn_xds.spec.route import RouteTable
from mosn_xds.xds.messages import TYPE_PREFIX

ROUTES_URL = f"{TYPE_PREFIX}envoy.config.route.v3.RouteConfiguration"

_HTTP3 = 3
_KIB = 1024
_ESCAPED_SLASHES = (
    EscapedSlashes.KEEP_UNCHANGED,
    EscapedSlashes.KEEP_UNCHANGED,
    EscapedSlashes.REJECT_REQUEST,
    EscapedSlashes.UNESCAPE_AND_REDIRECT,
    EscapedSlashes.UNESCAPE_AND_FORWARD,
)


def translate(take: Take, context: Context, name: str) -> HttpConnectionManager:
    """The RouteConfiguration that it asks for is in the report's needs."""
    if take.has("strip_matching_host_port") and take.has("strip_any_host_port"):
        raise take.error(
            "strip_any_host_port",
            "Error: Only one of `strip_matching_host_port` or `strip_any_host_port` can be set.",
        )
    if take.integer_of("codec_type") == _HTTP3:
        raise take.error("codec_type", "HTTP/3 codec configured on non-QUIC listener.")
    rds, routes = _take_routes(take, context)
    common = take.child("common_http_protocol_options")
    http1 = take.child("http_protocol_options")
    count = None if common is None else common.wrapped_integer("max_headers_count")
    kib = take.wrapped_integer("max_request_headers_kb")
    stream_idle_s = take.duration("stream_idle_timeout")
    drain_s = take.duration("drain_timeout")
    delayed_close_s = take.duration("delayed_close_timeout")
    cidrs, unix_sockets = _take_internal(take)
    normalize = take.wrapped_flag("normalize_path")
    scheme = take.child("scheme_header_transformation")
    mappers, body_format = take_local_reply(take, context)
    strict = take.wrapped_flag("stream_error_on_invalid_http_message")
    override = None if http1 is None else http1.wrapped_flag("override_stream_error_on_invalid_http_message")
    _take_request_id(take, context)
    return HttpConnectionManager(
        stat_prefix=take.text("stat_prefix"),
        filters=take_http_filters(take, context),
        rds=rds,
        routes=routes,
        codec=take.enum("codec_type", CodecType),
        access_logs=take_access_logs(take, context),
        http1=take_http1(http1, context),
        http2=take_http2(take.child("http2_protocol_options"), strict),
        server_name=take.text("server_name") or "envoy",
        server_header=take.enum("server_header_transformation", ServerHeader),
        max_request_headers_bytes=(60 if kib is None else kib) * _KIB,
        max_headers_count=DEFAULT_HEADERS_COUNT if count is None else count,
        underscores=UnderscoresAction.ALLOW
        if common is None
        else common.enum("headers_with_underscores_action", UnderscoresAction),
        idle_timeout_s=take_idle_timeout(common),
        max_connection_duration_s=None if common is None else common.duration("max_connection_duration") or None,
        max_requests_per_connection=None
        if common is None
        else common.wrapped_integer("max_requests_per_connection") or None,
        stream_idle_timeout_s=300.0 if stream_idle_s is None else stream_idle_s or None,
        request_timeout_s=take.duration("request_timeout") or None,
        request_headers_timeout_s=take.duration("request_headers_timeout") or None,
        max_stream_duration_s=None if common is None else common.duration("max_stream_duration") or None,
        drain_timeout_s=5.0 if drain_s is None else drain_s,
        delayed_close_timeout_s=1.0 if delayed_close_s is None else delayed_close_s,
        use_remote_address=bool(take.wrapped_flag("use_remote_address")),
        skip_xff_append=take.flag("skip_xff_append"),
        xff_num_trusted_hops=take.integer("xff_num_trusted_hops"),
        internal_cidrs=cidrs,
        internal_unix_sockets=unix_sockets,
        generate_request_id=take.wrapped_flag("generate_request_id") is not False,
        preserve_external_request_id=take.flag("preserve_external_request_id"),
        always_set_request_id_in_response=take.flag("always_set_request_id_in_response"),
        add_user_agent=bool(take.wrapped_flag("add_user_agent")),
        via=take.text("via"),
        forward_client_cert=take.enum("forward_client_cert_details", ForwardClientCert),
        client_cert_details=_take_client_cert_details(take.child("set_current_client_cert_details")),
        proxy_100_continue=take.flag("proxy_100_continue"),
        normalize_path=bool(context.options.runtime.get("http_connection_manager.normalize_path", False))
        if normalize is None
        else normalize,
        merge_slashes=take.flag("merge_slashes"),
        escaped_slashes=take.choice("path_with_escaped_slashes_action", _ESCAPED_SLASHES),
        strip_matching_host_port=take.flag("strip_matching_host_port"),
        strip_any_host_port=take.flag("strip_any_host_port"),
        strip_trailing_host_dot=take.flag("strip_trailing_host_dot"),
        append_x_forwarded_port=take.flag("append_x_forwarded_port"),
        upgrades=_take_upgrades(take),
        stream_error_on_invalid_message=bool(strict) if override is None else override,
        scheme_to_overwrite="" if scheme is None else scheme.text("scheme_to_overwrite"),
        local_reply_mappers=mappers,
        local_reply_format=body_format,
        traced=_take_tracing(take),
    )


def _take_routes(take: Take, context: Context) -> tuple[str, RouteTable | None]:
    inline = take.child("route_config")
    if inline is not None:
        return "", take_route_table(inline, context)
    rds = take.child("rds")
    if rds is None:
        raise take.error(
            take.one_of("scoped_routes") or "", "scoped routes are not supported", "rds and route_config are"
        )
    name = rds.text("route_config_name")
    source, timeout_s = take_source(rds.child("config_source"))
    take.report.needs[Need(ROUTES_URL, name, source, timeout_s)] = None
    return name, None


def _take_internal(take: Take) -> tuple[tuple[CidrRange, ...], bool]:
    internal = take.child("internal_address_config")
    if internal is None:
        return (), False
    return tuple([take_cidr(one) for one in internal.children("cidr_ranges")]), internal.flag("unix_sockets")


def _take_tracing(take: Take) -> bool:
    given = take.has("tracing")
    if given:
        take.ignore("tracing", "there are no spans yet, decorators apart")
    return given


def _take_request_id(take: Take, context: Context) -> None:
    """There is one way to make ids; another one is refused."""
    extension = take.child("request_id_extension")
    if extension is None or not extension.has("typed_config"):
        return
    found = context.extension(extension, "typed_config", Category.REQUEST_ID, "")
    if found.value is None:
        raise extension.error("typed_config", f"Didn't find a registered implementation for type: '{found.type_name}'")


def _take_upgrades(take: Take) -> tuple[Upgrade, ...]:
    found: list[Upgrade] = []
    for one in take.children("upgrade_configs"):
        given = one.text("upgrade_type")
        kind = given.lower()
        if any(known.upgrade_type == kind for known in found):
            raise one.error("upgrade_type", f"Error: multiple upgrade configs with the same name: '{given}'")
        if one.has("filters"):
            one.ignore("filters", "upgrades pass the chain's own filters")
        found.append(Upgrade(kind, one.wrapped_flag("enabled") is not False))
    return tuple(found)


def _take_client_cert_details(take: Take | None) -> tuple[ClientCertDetail, ...]:
    if take is None:
        return ()
    given = {
        ClientCertDetail.CERT: take.flag("cert"),
        ClientCertDetail.CHAIN: take.flag("chain"),
        ClientCertDetail.SUBJECT: bool(take.wrapped_flag("subject")),
        ClientCertDetail.URI: take.flag("uri"),
        ClientCertDetail.DNS: take.flag("dns"),
    }
    return tuple([detail for detail, wanted in given.items() if wanted])
