"""One HTTP request with its response: what is HTTP's alone in a stream's life.

That is the treatment of heads before routing and behind filters, redirects to TLS, ``Expect: 100-continue``, upgrades, and the form
of answers that the proxy makes itself.
"""

from typing import TYPE_CHECKING, Final

from mosn_xds.base.errors import ResponseFlag
from mosn_xds.data.codec.grpc import is_grpc
from mosn_xds.data.codec.head import RequestHead, ResponseHead
from mosn_xds.data.filters.api import Reply
from mosn_xds.data.proxy.deadlines import NEVER
from mosn_xds.data.proxy.local_reply import reply_head
from mosn_xds.data.proxy.redirect import tls_redirect
from mosn_xds.data.proxy.stream import Stream

if TYPE_CHECKING:
    from mosn_xds.data.proxy.connection import ServerConnection
    from mosn_xds.data.proxy.hcm import HttpConnectionManager

_NR: Final = int(ResponseFlag.NR)
_EXPECT: Final = b"expect"
_CONNECT: Final = b"connect"
_FORWARDED_FOR: Final = b"x-forwarded-for"
_CONTINUE_HEAD: Final = ResponseHead(100, [])

_NO_ROUTE: Final = Reply(404, details="route_not_found", flags=_NR)
_NO_ROUTE_TABLE: Final = Reply(404, details="route_configuration_not_found", flags=_NR)
_UPGRADE_REFUSED: Final = Reply(403, details="upgrade_failed")


class HttpStream(Stream):
    """See the module's text."""

    def __init__(
        self, owner: "ServerConnection", hcm: "HttpConnectionManager", stream_id: int, head: RequestHead | None
    ) -> None:
        super().__init__(owner, stream_id, head)
        self.hcm = hcm

    def start(self, end: bool) -> None:
        hcm = self.hcm
        head = self.request
        self._begin(end)
        index = dict(head.fields)
        if _FORWARDED_FOR in index:
            self.remote = hcm.request_headers.client_address(head, self.connection)
        refused = hcm.request_headers.prepare(head, self.connection, index)
        if refused is not None:
            self.connection_closing = refused.status == 400 and not hcm.spec.stream_error_on_invalid_message
            self.reply(refused)
            return
        if not self.clear_route():
            return
        if _EXPECT in index:
            self._answer_expect(head)
        upgrade = head.upgrade
        if upgrade is None and not head.path and self.route is not None:
            upgrade = _CONNECT  # nothing else has no path
        if upgrade is not None and not self._upgrade_allowed(upgrade):
            self.hcm.stats.downstream_rq_ws_on_non_ws_route += 1
            self.reply(_UPGRADE_REFUSED)
            return
        if hcm.decorator is not None:
            hcm.decorator.decorate_request(self)
        if hcm.chain.on_request:
            self._run_request(0)
        else:
            self._forward()

    def clear_route(self) -> bool:
        """Choose the route (again). Returns False if that answered the request."""
        table = self.hcm.routes.current
        if table is None:
            self.route = None
            self.reply(_NO_ROUTE_TABLE)
            return False
        self.stable_random = self.hcm.random.getrandbits(62)
        head = self.request
        host = self.virtual_host = table.virtual_host(head)
        if host is None:
            self.route = None
            return True
        if host.require_tls:
            location = tls_redirect(head, host.require_tls)
            if location is not None:
                self.reply(Reply(301, details="direct_response", fields=[(b"location", location)]))
                return False
        route = self.route = host.match(head, self.stable_random, self.connection.tls)
        if route is None:
            self.target = None
            return True
        self.route_name = route.name
        internal_only = table.spec.internal_only_headers
        if internal_only and head.get(b"x-envoy-internal") is None:
            for name in internal_only:
                head.remove(name.lower().encode())
        self._choose_cluster(route)
        timeout_s = route.idle_timeout_s
        if timeout_s is not None:
            self.idle_timeout_s = timeout_s or NEVER
            self.touch()
            if timeout_s:
                self.owner.watch(self.idle_since + timeout_s)
        return True

    def _answer_expect(self, head: RequestHead) -> None:
        if self.hcm.proxy_100_continue or (head.get(_EXPECT) or b"").lower() != b"100-continue":
            return
        head.remove(_EXPECT)
        self.owner.send_informational(self, _CONTINUE_HEAD)

    def _upgrade_allowed(self, upgrade_type: bytes) -> bool:
        route = self.route
        if route is not None and route.upgrades and upgrade_type in route.upgrades:
            return route.upgrades[upgrade_type]
        return self.hcm.upgrades.get(upgrade_type, False)

    def _on_no_route(self) -> None:
        if self.request.method == b"CONNECT" or self.hcm.routes.current is not None:
            self.hcm.stats.no_route += 1
            self.reply(_NO_ROUTE)

    def reply(self, reply: Reply) -> None:
        """Answer from here. If a response has begun already, the stream can only be reset."""
        if self.ended:
            return
        self.flags |= reply.flags
        if self.response is not None:
            self.details = reply.details or self.details
            self.reset_downstream()
            return
        self._drop_router()
        if reply.details:
            self.details = reply.details
        grpc = is_grpc(self.request.get(b"content-type")) if self.request_head is not None else False
        body = reply.body
        content_type = b"text/plain"
        mapper = self.hcm.local_replies
        if mapper is not None:
            reply, body, content_type = mapper.apply(self, reply)
        head, body = reply_head(reply, grpc=grpc, body=body, content_type=content_type)
        if self.route is not None:
            self.route.plan.edit_answer(self, head)
        if self.request_head is not None and self.request.method == b"HEAD":
            body = b""
        self.local_reply_body = reply.body
        self.respond(head, not body)
        if body and not self.ended:
            self.respond_data(body, True)

    def send_informational(self, head: ResponseHead) -> None:
        if self.hcm.proxy_100_continue:
            self.owner.send_informational(self, head)

    def _send_head(self, head: ResponseHead) -> None:
        hcm = self.hcm
        owner = self.owner
        self.response_code = status = head.status
        hcm.response_headers.finalize(self, head)
        if hcm.decorator is not None:
            hcm.decorator.decorate_response(self, head)
        if status == 101 and self.upgraded:
            owner.begin_upgrade(self)
        end = self.response_complete
        owner.send_head(self, head, end and self._response_held is None)
        now = owner.clock.now
        self.first_tx = now - self.start_s
        if end and self._response_held is None:
            self._response_done()
