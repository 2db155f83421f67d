"""The HTTP filters of Istio's own proxy, and grpc_stats: in every chain that istiod builds."""

from mosn_xds.control.translate.context import Context
from mosn_xds.control.translate.take import Take
from mosn_xds.spec.filters import AlpnFilter, AlpnOverride, GrpcStatsFilter, GrpcWebFilter, IstioStatsFilter

_SERVER_GATEWAY = 1


def grpc_stats(take: Take, context: Context, name: str) -> GrpcStatsFilter:
    """envoy.extensions.filters.http.grpc_stats.v3.FilterConfig."""
    if take.flag("emit_filter_state"):
        take.ignore("emit_filter_state", "there is no filter state")
    listed = take.child("individual_method_stats_allowlist")
    methods = (
        ()
        if listed is None
        else tuple((one.text("name"), one.texts("method_names")) for one in listed.children("services"))
    )
    return GrpcStatsFilter(
        bool(take.wrapped_flag("stats_for_all_methods")),
        methods,
        take.flag("enable_upstream_stats"),
        take.flag("replace_dots_in_grpc_service_name"),
    )


def grpc_web(take: Take, context: Context, name: str) -> GrpcWebFilter:
    """envoy.extensions.filters.http.grpc_web.v3.GrpcWeb: empty."""
    return GrpcWebFilter()


def alpn(take: Take, context: Context, name: str) -> AlpnFilter:
    """istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig."""
    overrides = tuple(
        [
            AlpnOverride(one.integer("upstream_protocol"), one.texts("alpn_override"))
            for one in take.children("alpn_override")
        ]
    )
    return AlpnFilter(overrides)


def stats(take: Take, context: Context, name: str) -> IstioStatsFilter:
    """stats.PluginConfig."""
    gateway = take.integer("reporter") == _SERVER_GATEWAY
    take.left.clear()
    take.ignore("", "Istio's metrics are not produced yet")
    return IstioStatsFilter(gateway)
