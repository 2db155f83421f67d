"""Request id extensions of the connection manager."""

from mosn_xds.control.translate.context import Context
from mosn_xds.control.translate.take import Take


def translate(take: Take, context: Context, name: str) -> bool:
    """envoy.request_id.uuid: True, for its settings are about tracing."""
    why = "there is no tracing yet"
    take.ignore_given(pack_trace_reason=why, use_request_id_for_trace_sampling=why)
    return True
