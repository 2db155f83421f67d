"""envoy.extensions.upstreams.http.v3.HttpProtocolOptions, and the deprecated fields of Cluster that it replaced."""

from typing import Any

import msgspec

from mosn_xds.control.translate.context import Context
from mosn_xds.control.translate.http_options import (
    DEFAULT_HEADERS_COUNT,
    DEFAULT_IDLE_TIMEOUT_S,
    take_http1,
    take_http2,
    take_idle_timeout,
)
from mosn_xds.control.translate.registry import Category
from mosn_xds.control.translate.take import Take
from mosn_xds.spec.cluster import UpstreamProtocol
from mosn_xds.spec.listener import Http1Settings, Http2Settings

_KEY = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_KIB = 1024


class UpstreamOptions(msgspec.Struct, frozen=True):
    """How to speak HTTP to a cluster; names and defaults as in `mosn_xds.spec.cluster.Cluster`."""

    protocol: UpstreamProtocol = UpstreamProtocol.HTTP1
    http1: Http1Settings = Http1Settings()
    http2: Http2Settings = Http2Settings()
    idle_timeout_s: float | None = DEFAULT_IDLE_TIMEOUT_S
    max_connection_duration_s: float | None = None
    max_stream_duration_s: float | None = None
    max_requests_per_connection: int | None = None
    max_headers_count: int = DEFAULT_HEADERS_COUNT
    max_response_headers_bytes: int | None = None
    auto_sni: bool = False
    auto_san_validation: bool = False
    override_auto_sni_header: str = ""


def take_upstream_options(cluster: Take, context: Context) -> UpstreamOptions:
    """The options of a cluster, wherever they stand."""
    old_limit = cluster.wrapped_integer("max_requests_per_connection")
    typed = cluster.mapping("typed_extension_protocol_options")
    found = None
    for key in sorted(typed):
        path = f"typed_extension_protocol_options.{key}"
        extension = context.extension_of(cluster, path, typed[key], Category.UPSTREAM_OPTIONS, key)
        if extension.value is None:
            cluster.ignore(path, f"no options of type {extension.type_name} are known")
        elif key == _KEY:
            found = extension.value
    options: UpstreamOptions = _take_deprecated(cluster, context) if found is None else found
    names = cluster.child("upstream_http_protocol_options")
    if names is not None and found is None:
        options = msgspec.structs.replace(options, **_names(names))
    if options.max_requests_per_connection is None and old_limit:
        options = msgspec.structs.replace(options, max_requests_per_connection=old_limit)
    return options


def _take_deprecated(cluster: Take, context: Context) -> UpstreamOptions:
    selected = cluster.integer("protocol_selection") == 1
    http2 = cluster.child("http2_protocol_options")
    http1 = cluster.child("http_protocol_options")
    protocol = UpstreamProtocol.HTTP1
    if selected:
        protocol = UpstreamProtocol.USE_DOWNSTREAM
    elif http2 is not None:
        protocol = UpstreamProtocol.HTTP2
    return _options(protocol, cluster.child("common_http_protocol_options"), http1, http2, context)


def _options(
    protocol: UpstreamProtocol, common: Take | None, http1: Take | None, http2: Take | None, context: Context
) -> UpstreamOptions:
    limits: dict[str, Any] = {}
    if common is not None:
        count = common.wrapped_integer("max_headers_count")
        kib = common.wrapped_integer("max_response_headers_kb")
        limits = {
            "idle_timeout_s": take_idle_timeout(common),
            "max_connection_duration_s": common.duration("max_connection_duration") or None,
            "max_stream_duration_s": common.duration("max_stream_duration") or None,
            "max_requests_per_connection": common.wrapped_integer("max_requests_per_connection") or None,
            "max_headers_count": DEFAULT_HEADERS_COUNT if count is None else count,
            "max_response_headers_bytes": None if kib is None else kib * _KIB,
        }
    return UpstreamOptions(protocol, take_http1(http1, context), take_http2(http2), **limits)


def _names(take: Take) -> dict[str, Any]:
    """UpstreamHttpProtocolOptions: the server name of a connection, and its certificate's, are those of the request."""
    return {
        "auto_sni": take.flag("auto_sni"),
        "auto_san_validation": take.flag("auto_san_validation"),
        "override_auto_sni_header": take.text("override_auto_sni_header"),
    }


def translate(take: Take, context: Context, name: str) -> UpstreamOptions:
    """HttpProtocolOptions."""
    options = _take_protocol(take, context)
    names = take.child("upstream_http_protocol_options")
    return options if names is None else msgspec.structs.replace(options, **_names(names))


def _take_protocol(take: Take, context: Context) -> UpstreamOptions:
    common = take.child("common_http_protocol_options")
    explicit = take.child("explicit_http_config")
    if explicit is not None:
        if explicit.has("http3_protocol_options"):
            raise explicit.error("http3_protocol_options", "HTTP/3 is not supported")
        http2 = explicit.child("http2_protocol_options")
        protocol = UpstreamProtocol.HTTP1 if http2 is None else UpstreamProtocol.HTTP2
        return _options(protocol, common, explicit.child("http_protocol_options"), http2, context)
    mirrored = take.child("use_downstream_protocol_config")
    protocol = UpstreamProtocol.USE_DOWNSTREAM
    if mirrored is None:
        mirrored = take.child("auto_config")
        protocol = UpstreamProtocol.AUTO
    if mirrored is None:
        return _options(UpstreamProtocol.HTTP1, common, None, None, context)
    http1, http2 = mirrored.child("http_protocol_options"), mirrored.child("http2_protocol_options")
    return _options(protocol, common, http1, http2, context)
