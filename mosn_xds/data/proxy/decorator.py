"""A route's decorator on the wire: the operation's name that one side of a call tells the other.

What leaves the workload (Envoy's egress, an outbound listener) carries the route's operation in its request, for the
receiver's span; what comes in answers with its own, unless the request said one. Neither gets past the workload. Envoy does
so wherever tracing is configured, spans or not (conn_manager_impl.cc, `traceRequest` and `encodeHeaders`).
"""

from typing import TYPE_CHECKING

from mosn_xds.data.codec.head import ResponseHead

if TYPE_CHECKING:
    from mosn_xds.data.proxy.stream import Stream

_OPERATION = b"x-envoy-decorator-operation"


class Decorator:
    """One connection manager's side of it. `egress`: what it takes leaves the workload."""

    __slots__ = ("_egress",)

    def __init__(self, egress: bool) -> None:
        self._egress = egress

    def __repr__(self) -> str:
        return f"<Decorator {'egress' if self._egress else 'ingress'}>"

    def decorate_request(self, stream: "Stream") -> None:
        """Once the route is known, before the filters."""
        route = stream.route
        operation = route.plan.operation if route is not None else None
        head = stream.request
        if self._egress:
            if operation is not None:
                head.set(_OPERATION, operation)
            return
        given = head.get(_OPERATION)
        if given is not None:
            head.remove(_OPERATION)
        if not given:
            stream.operation = operation

    def decorate_response(self, stream: "Stream", head: ResponseHead) -> None:
        """Any response, our own included."""
        if self._egress:
            head.remove(_OPERATION)
        elif stream.operation is not None:
            head.set(_OPERATION, stream.operation)
