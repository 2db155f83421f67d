"""envoy.extensions.filters.http.fault.v3.HTTPFault, for the chain and for routes."""

from mosn_xds.control.translate.common import take_percent
from mosn_xds.control.translate.context import Context
from mosn_xds.control.translate.matchers import take_header_matches
from mosn_xds.control.translate.take import Take
from mosn_xds.spec.common import Fraction
from mosn_xds.spec.filters import FaultAbort, FaultDelay, FaultFilter

_NEVER = Fraction(0)


def translate(take: Take, context: Context, name: str) -> FaultFilter:
    return FaultFilter(
        _take_delay(take.child("delay")),
        _take_abort(take.child("abort")),
        take.text("upstream_cluster"),
        take.texts("downstream_nodes"),
        take_header_matches(take, "headers", context),
        take.wrapped_integer("max_active_faults"),
    )


def _take_delay(take: Take | None) -> FaultDelay | None:
    if take is None:
        return None
    percentage = take_percent(take.child("percentage")) or _NEVER
    take.skip("header_delay")
    return FaultDelay(percentage, take.duration("fixed_delay"))


def _take_abort(take: Take | None) -> FaultAbort | None:
    if take is None:
        return None
    percentage = take_percent(take.child("percentage")) or _NEVER
    take.skip("header_abort")
    http = take.integer("http_status") if take.has("http_status") else None
    grpc = take.integer("grpc_status") if take.has("grpc_status") else None
    return FaultAbort(percentage, http, grpc)
