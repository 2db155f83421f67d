"""Request id extensions of the connection manager."""

from dataclasses import dataclass

from mosn_xds.control.translate.context import Context
from mosn_xds.control.translate.take import Take


@dataclass(frozen=True, slots=True)
class UuidRequestId:
    """`pack_trace_reason`: the trace decision is written into the UUID."""

    pack_trace_reason: bool


def translate(take: Take, context: Context, name: str) -> UuidRequestId:
    """envoy.request_id.uuid."""
    if take.has("use_request_id_for_trace_sampling"):
        take.ignore("use_request_id_for_trace_sampling", "there is no tracing yet")
    return UuidRequestId(take.wrapped_flag("pack_trace_reason") is not False)
