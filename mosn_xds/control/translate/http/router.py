"""envoy.extensions.filters.http.router.v3.Router."""

from mosn_xds.control.translate.context import Context
from mosn_xds.control.translate.take import Take
from mosn_xds.spec.filters import RouterFilter


def translate(take: Take, context: Context, name: str) -> RouterFilter:
    take.ignore_given(
        upstream_http_filters="there are no upstream filters",
        strict_check_headers="x-envoy-* headers that make no sense are passed over",
    )
    return RouterFilter(take.flag("suppress_envoy_headers"), take.flag("respect_expected_rq_timeout"))
