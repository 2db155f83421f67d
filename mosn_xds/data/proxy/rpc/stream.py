"""One RPC with its answer: a `Stream` whose messages are whole, each a frame, and whose errors its client's protocol words.

Everything that a request goes through is the HTTP stream's: filters, route, retries, time-outs, statistics, access log. What
is missing here is what only HTTP has: bodies apart from heads, upgrades, informational responses, headers of its own.
"""

from typing import TYPE_CHECKING, Final

from mosn_xds.base.errors import ResponseFlag
from mosn_xds.data.codec.head import ResponseHead
from mosn_xds.data.codec.rpc import Kind, RpcRequest, RpcResponse
from mosn_xds.data.filters.api import Reply
from mosn_xds.data.proxy.stream import Stream

if TYPE_CHECKING:
    from mosn_xds.data.proxy.rpc.connection import RpcServerConnection
    from mosn_xds.data.proxy.rpc.manager import RpcManager

_NR = int(ResponseFlag.NR)
_REASONS: Final = {
    int(ResponseFlag.NC): "cluster_not_found",
    int(ResponseFlag.UH): "no_healthy_upstream",
    int(ResponseFlag.UF): "connection_failure",
    int(ResponseFlag.UC): "connection_termination",
    int(ResponseFlag.UR): "connection_termination",
    int(ResponseFlag.LR): "local_reset",
    int(ResponseFlag.UO): "overflow",
    int(ResponseFlag.UPE): "protocol_error",
    int(ResponseFlag.UT): "timeout",
}
"""What Envoy's generic_proxy says of the router's failures, to its client and in the log."""
_NO_ROUTE = Reply(404, details="route_not_found", flags=_NR)


class RpcStream(Stream):
    """See the module's text."""

    def __init__(
        self, owner: "RpcServerConnection", manager: "RpcManager", stream_id: int, request: RpcRequest
    ) -> None:
        super().__init__(owner, stream_id, request)
        self.rpc = request
        if owner.binding is not None:
            self.binding = owner.binding
        self.rpc_manager = manager
        manager.live += 1
        self.failed = False
        """Whether what its client gets is an error."""

    def start(self, end: bool) -> None:
        self._begin(end)
        if not self.clear_route():
            return
        if self.manager.chain.on_request:
            self._run_request(0)
        else:
            self._forward()

    def clear_route(self) -> bool:
        table = self.rpc_manager.table.current
        self.route = self.target = None
        if table is None:
            self.reply(Reply(404, details="route_configuration_not_found", flags=_NR))
            return False
        self.stable_random = self.manager.random.getrandbits(62)
        host = table.virtual_host(self.rpc)
        route = host.match(self.rpc, self.stable_random, self.connection.tls) if host is not None else None
        if route is not None:
            self.route = route
            self.route_name = route.name
            self._choose_cluster(route)
        return True

    def _on_no_route(self) -> None:
        self.manager.stats.no_route += 1
        self.reply(_NO_ROUTE)

    def reply(self, reply: Reply) -> None:
        if self.ended:
            return
        self.flags |= reply.flags
        why = _REASONS.get(reply.flags)
        self.details = why or reply.details or self.details
        if self.response is not None:
            self.reset_downstream()
            return
        self._drop_router()
        self.local_reply_body = reply.body if why is None else why.encode()
        self.rpc_manager.rpc_stats.downstream_rq_local += 1
        self.respond(RpcResponse.of(self.rpc.version, b"", self.rpc.id, status=reply.status), True)

    def send_informational(self, head: ResponseHead) -> None:
        """Other protocols have that."""

    def _send_head(self, head: ResponseHead) -> None:
        self.response_code = head.status
        self.failed = head.failed if isinstance(head, RpcResponse) else head.status >= 400
        if self.rpc.kind is Kind.ONEWAY and self.details == "via_upstream":
            self.details = ""  # it was taken, that is all
        self.owner.send_head(self, head, True)
        self.first_tx = self.owner.clock.now - self.start_s
        self._response_done()

    def _finish(self) -> None:
        # Not before: what was received beside the head would be missed by a retry.
        self.bytes_received = len(self.rpc.frame)
        protocol = self.rpc.version.rpc
        if protocol is not None and not protocol.edits and self._was_edited():
            self.rpc_manager.rpc_stats.downstream_rq_edit_ignored += 1
        super()._finish()
        self.rpc_manager.stream_ended()

    def _was_edited(self) -> bool:
        """Whether anybody has changed properties, of the call or of its answer."""
        response = self.response
        return self.rpc.fields != self.rpc.original or (isinstance(response, RpcResponse) and response.edited)

    def __repr__(self) -> str:
        return f"<RpcStream {self.stream_id} {self.rpc!r} {self.response_code or ''}>"
