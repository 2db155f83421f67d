"""envoy.extensions.filters.http.cors.v3: the filter, and its policy for routes."""

from mosn_xds.control.translate.common import take_runtime_percent
from mosn_xds.control.translate.context import Context
from mosn_xds.control.translate.matchers import take_string_match
from mosn_xds.control.translate.take import Take
from mosn_xds.spec.filters import CorsFilter, CorsPolicy


def translate(take: Take, context: Context, name: str) -> CorsFilter:
    """Cors: empty."""
    return CorsFilter()


def policy(take: Take, context: Context, name: str) -> CorsPolicy:
    """CorsPolicy."""
    return CorsPolicy(
        tuple([take_string_match(one, context) for one in take.children("allow_origin_string_match")]),
        take.text("allow_methods"),
        take.text("allow_headers"),
        take.text("expose_headers"),
        take.text("max_age"),
        take.wrapped_flag("allow_credentials"),
        take.wrapped_flag("allow_private_network_access"),
        take_runtime_percent(take.child("filter_enabled"), context),
        take_runtime_percent(take.child("shadow_enabled"), context),
        take.wrapped_flag("forward_not_matching_preflights") is not False,
    )
