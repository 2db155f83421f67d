"""envoy.extensions.filters.network.generic_proxy.v3.GenericProxy."""

from mosn_xds.control.translate.access_log import take_access_logs
from mosn_xds.control.translate.context import Context
from mosn_xds.control.translate.generic_routes import GENERIC_ROUTES_URL, take_generic_route_table, take_rds
from mosn_xds.control.translate.rpc_codecs import take_codec
from mosn_xds.control.translate.rpc_filters import take_rpc_filters
from mosn_xds.control.translate.take import Take
from mosn_xds.spec.rpc import RpcProxy


def translate(take: Take, context: Context, name: str) -> RpcProxy:
    """The route table that it asks for is in the report's needs."""
    prefix = take.text("stat_prefix")
    codec = take.child("codec_config")
    if codec is None:
        raise take.error("codec_config", "a codec is required")
    protocols = take_codec(codec, context)
    rds = take.child("generic_rds")
    inline = take.child("route_config")
    filters = take_rpc_filters(take, context)
    proxy = RpcProxy(
        stat_prefix=f"generic_proxy.{prefix}.",
        protocols=protocols,
        routes=None if inline is None else take_generic_route_table(inline, context),
        rds="" if rds is None else take_rds(rds, GENERIC_ROUTES_URL),
        filters=filters.filters,
        access_logs=take_access_logs(take, context),
        bind_upstream=filters.router.bind_upstream,
    )
    take.ignore_given(tracing="there are no spans yet")
    return proxy
