"""One request with its response, whatever its protocol: the life that the connection manager gives it.

A Stream is created by a server connection when a request head has come, runs the request phase of the filters, lets the
`Router` forward it (or answers itself), runs the response phase, and writes through the connection's codec. It ends
exactly once, in `_finish`, where counters, access logs and filters see it. It is its own `StreamInfo`: what access logs
print are attributes set on the way, with class-level defaults, so that what never happens costs nothing.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from mosn_xds.base.errors import ResponseFlag
from mosn_xds.data.codec.head import Fields, RequestHead, ResponseHead
from mosn_xds.data.filters.api import PAUSE, Reply
from mosn_xds.data.net.timers import Timer
from mosn_xds.data.proxy.deadlines import NEVER, Deadlines
from mosn_xds.data.proxy.local_reply import reply_head
from mosn_xds.data.proxy.router import Router
from mosn_xds.spec.filters import FilterDisabled, PerFilter

if TYPE_CHECKING:
    from mosn_xds.data.match.routes import Route, VirtualHost
    from mosn_xds.data.proxy.connection import ServerConnection
    from mosn_xds.data.proxy.route_plan import RoutePlan, Target
    from mosn_xds.data.upstream.cluster import Cluster
    from mosn_xds.data.upstream.rpc_binding import RpcBinding

_log = logging.getLogger("mosn_xds.http")

_DC: Final = int(ResponseFlag.DC)
_SI: Final = int(ResponseFlag.SI)
_DEADLINE_EXCEEDED: Final = 4


class Stream(Deadlines):
    """One request and its response. `reset` and `respond*` are called by the router, `on_*` by the connection."""

    request: RequestHead
    connection_closing = False
    response: ResponseHead | None = None
    route: "Route | None" = None
    virtual_host: "VirtualHost | None" = None
    router: Router | None = None
    request_complete = False
    response_complete = False
    ended = False
    upgraded = False
    operation: bytes | None = None
    """What the response says of the route's decorator."""
    cluster: "Cluster | None" = None
    _paused_at = -1
    _paused_response_at = -1
    _held: list[bytes] | None = None
    _held_bytes = 0
    _held_trailers: Fields | None = None
    _response_held: "list[tuple[bytes, bool]] | None" = None
    _response_trailers_held: Fields | None = None
    _timers: list[Timer] | None = None
    _task: Any = None
    _state: dict[Any, Any] | None = None
    target: "Target | None" = None
    """Where the route forwards this stream."""
    binding: "RpcBinding | None" = None
    """The upstream connection that is its client's alone; None for any."""
    _reading_stopped = 0
    _client_paused = False

    def __init__(self, owner: "ServerConnection", stream_id: int, head: RequestHead | None) -> None:
        super().__init__(owner.info)
        self.owner = owner
        self.manager = owner.manager
        self.stream_id = stream_id
        clock = owner.clock
        self.start_s = clock.now
        self.start_wall_s = clock.wall_now
        if head is not None:
            self.request = self.request_head = head
            self.version = head.version

    # What protocols do differently.

    def start(self, end: bool) -> None:
        """Take the head through checks, routing and filters to the router; `end`: the head is the whole request."""
        raise NotImplementedError

    def clear_route(self) -> bool:
        """Choose the route (again). Returns False if that answered the request."""
        raise NotImplementedError

    def reply(self, reply: Reply) -> None:
        """Answer from here. If a response has begun already, the stream can only be reset."""
        raise NotImplementedError

    def _on_no_route(self) -> None:
        """No route takes the request, and no filter has answered it."""
        raise NotImplementedError

    def send_informational(self, head: ResponseHead) -> None:
        """1xx from the upstream."""
        raise NotImplementedError

    def _send_head(self, head: ResponseHead) -> None:
        """The response's head is final: count it, and give it to the connection."""
        raise NotImplementedError

    # The request.

    def _begin(self, end: bool) -> None:
        manager = self.manager
        stats = manager.stats
        stats.downstream_rq_total += 1
        stats.downstream_rq_active += 1
        now = self.start_s
        deadline = NEVER
        if manager.stream_idle_timeout_s is not None:
            self.idle_timeout_s = manager.stream_idle_timeout_s
            self.idle_since = now
            deadline = now + manager.stream_idle_timeout_s
        if manager.request_timeout_s is not None and not end:
            self.request_deadline = now + manager.request_timeout_s
            deadline = min(deadline, self.request_deadline)
        if manager.max_stream_duration_s is not None:
            self.duration_deadline = now + manager.max_stream_duration_s
            deadline = min(deadline, self.duration_deadline)
        if end:
            self.request_complete = True
            self.last_rx = 0.0
        if deadline < self.owner.timer_due:
            self.owner.watch(deadline)

    def _run_request(self, at: int) -> None:
        """The request phase of the filters from number `at` on, then the router."""
        chain = self.manager.chain.on_request
        end = self.request_complete and self._held is None
        may_be_off = self._filters_may_be_off()
        for index in range(at, len(chain)):
            name, phase = chain[index]
            if may_be_off and self._filter_is_off(name):
                continue
            try:
                verdict = phase(self, end)
            except Exception:
                self._filter_failed(name)
                return
            if verdict is None:
                continue
            if verdict is PAUSE:
                self._paused_at = index + 1
                return
            if isinstance(verdict, Reply):
                self.reply(verdict)
                return
            self._paused_at = index + 1
            self._await(name, verdict)
            return
        self._forward()

    def _filters_may_be_off(self) -> bool:
        """Whether chain or route say anything of the kind: asked once per phase, it spares a question per filter (0.25 us)."""
        route = self.route
        configured = route is not None and (bool(route.per_filter) or route.plan.has_target_filters)
        return configured or bool(self.manager.disabled_filters)

    def _filter_is_off(self, name: str) -> bool:
        config = self.filter_config(name)
        return isinstance(config, FilterDisabled) or (config is None and name in self.manager.disabled_filters)

    def _filter_failed(self, name: str) -> None:
        # The border of extensions: what their code raises costs their stream, not the worker.
        _log.exception("filter %s failed", name)
        self.manager.stats.count("filter_exceptions")
        self.reply(Reply(500, details=f"filter_exception{{{name}}}"))

    def _await(self, name: str, verdict: Awaitable[Any]) -> None:
        async def run() -> None:
            try:
                result = await verdict
            except Exception:
                self.manager.clock.refresh()
                if not self.ended:
                    self._filter_failed(name)
                return
            self._task = None
            self.manager.clock.refresh()  # no batch of the reactor brought us here: its time is that of the last one
            if self.ended:
                return
            if isinstance(result, Reply):
                self.reply(result)
            else:
                self.resume()

        self._task = self.manager.spawn(run)

    def resume(self) -> None:
        """Go on after PAUSE."""
        if self.ended:
            return
        self.manager.clock.refresh()  # a filter's own task may have waited long
        if self._paused_at >= 0:
            at, self._paused_at = self._paused_at, -1
            self._run_request(at)
        elif self._paused_response_at >= 0:
            at, self._paused_response_at = self._paused_response_at, -1
            response = self.response
            if response is not None:
                self._run_response(response, at)

    def _forward(self) -> None:
        """The end of the request phase: the router takes over, with what was held back meanwhile."""
        route = self.route
        if route is None:
            self._on_no_route()
            return
        router = self.router = Router(self, route.plan)
        held = self._held
        complete = self.request_complete
        if held is None and self._held_trailers is None:
            router.start(complete)
            return
        router.start(False)
        self._held = None
        trailers, self._held_trailers = self._held_trailers, None
        self._release_reading()
        if held:
            last = len(held) - 1
            for index, data in enumerate(held):
                if self.ended:
                    return
                self._data_to_router(data, complete and trailers is None and index == last)
        elif complete and trailers is None:
            self._data_to_router(b"", True)
        if trailers is not None and not self.ended:
            router.on_trailers(trailers)

    def on_data(self, data: bytes, end: bool) -> None:
        """A part of the request body has come."""
        self.bytes_received += len(data)
        self.touch()
        if end:
            self._request_done()
        if self.ended:
            return
        if self.router is None:
            self._hold(data)
            return
        self._data_to_router(data, end)

    def _data_to_router(self, data: bytes, end: bool) -> None:
        for name, phase in self.manager.chain.on_request_data:
            try:
                verdict = phase(self, data, end)
            except Exception:
                self._filter_failed(name)
                return
            if verdict is None:
                continue
            if isinstance(verdict, Reply):
                self.reply(verdict)
                return
            data = verdict
        if self.router is not None:
            self.router.on_data(data, end)

    def on_trailers(self, fields: Fields) -> None:
        self._request_done()
        if self.ended:
            return
        if self.router is None:
            self._held_trailers = fields
            if self._held is None:
                self._held = []
        else:
            self.router.on_trailers(fields)

    def _request_done(self) -> None:
        self.request_complete = True
        self.request_deadline = NEVER
        self.last_rx = self.owner.clock.now - self.start_s

    def _hold(self, data: bytes) -> None:
        if self._held is None:
            self._held = []
        if data:
            self._held.append(data)
            self._held_bytes += len(data)
            if self._held_bytes > self.owner.buffer_limit_bytes and not self._client_paused:
                self._client_paused = True
                self.pause_client()

    def _release_reading(self) -> None:
        if self._client_paused:
            self._client_paused = False
            self._held_bytes = 0
            self.resume_client()

    def pause_client(self) -> None:
        """Stop reading the request (its reader is slow); calls nest."""
        self._reading_stopped += 1
        self.owner.pause_stream(self)

    def resume_client(self) -> None:
        if self._reading_stopped:
            self._reading_stopped -= 1
            self.owner.resume_stream(self)

    # The response.

    def respond(self, head: ResponseHead, end: bool) -> None:
        """The response head: filters, connection manager's headers, wire."""
        self.response = self.response_head = head
        self.idle_since = self.owner.clock.now
        if end:
            self.response_complete = True
        if self.manager.chain.on_response:
            self._run_response(head, 0)
        else:
            self._send_head(head)

    def _run_response(self, head: ResponseHead, at: int) -> None:
        chain = self.manager.chain.on_response
        may_be_off = self._filters_may_be_off()
        for index in range(at, len(chain)):
            name, phase = chain[index]
            if may_be_off and self._filter_is_off(name):
                continue
            try:
                verdict = phase(self, head, self.response_complete)
            except Exception:
                _log.exception("filter %s failed", name)
                self.manager.stats.count("filter_exceptions")
                self._fail_response(name)
                return
            if verdict is None:
                continue
            if verdict is PAUSE:
                self._paused_response_at = index + 1
                return
            if isinstance(verdict, Reply):
                replacement, body = reply_head(verdict, grpc=False, body=verdict.body)
                self.details = verdict.details or self.details
                self._drop_router()
                self.response = self.response_head = head = replacement
                self._response_held = [(body, True)]
                break
            self._paused_response_at = index + 1
            self._await(name, verdict)
            return
        self._send_head(head)
        held, self._response_held = self._response_held, None
        if held and not self.ended:
            for data, last in held:
                self._write_data(data, last)
        trailers, self._response_trailers_held = self._response_trailers_held, None
        if trailers is not None and not self.ended:
            self._write_trailers(trailers)

    def _fail_response(self, name: str) -> None:
        """A response filter failed before anything was written: its stream gets 500."""
        self._drop_router()
        self.details = f"filter_exception{{{name}}}"
        self.response = self.response_head = head = ResponseHead(500, [])
        self.response_complete = True
        self._response_held = self._response_trailers_held = None
        self._send_head(head)

    def respond_data(self, data: bytes, end: bool) -> None:
        """A part of the response body."""
        if self.ended:
            return
        self.idle_since = self.owner.clock.now
        if self._paused_response_at >= 0:
            if self._response_held is None:
                self._response_held = []
            self._response_held.append((data, end))
            return
        self._write_data(data, end)

    def _write_data(self, data: bytes, end: bool) -> None:
        for name, phase in self.manager.chain.on_response_data:
            try:
                replaced = phase(self, data, end)
            except Exception:
                _log.exception("filter %s failed", name)
                self.manager.stats.count("filter_exceptions")
                self.reset_downstream()
                return
            if replaced is not None:
                data = replaced
        self.bytes_sent += len(data)
        self.owner.send_data(self, data, end)
        if end:
            self.response_complete = True
            self._response_done()

    def respond_trailers(self, fields: Fields) -> None:
        """Response trailers; they end it."""
        if self.ended:
            return
        if self._paused_response_at >= 0:
            self._response_trailers_held = fields
        else:
            self._write_trailers(fields)

    def _write_trailers(self, fields: Fields) -> None:
        self.response_trailers = fields
        self.response_complete = True
        for name, phase in self.manager.chain.on_response_trailers:
            try:
                tail = phase(self, fields)
            except Exception:
                _log.exception("filter %s failed", name)
                self.manager.stats.count("filter_exceptions")
                self.reset_downstream()
                return
            if tail is not None:
                self.bytes_sent += len(tail)
                self.owner.send_data(self, tail, True)
                self._response_done()
                return
        self.owner.send_trailers(self, fields)
        self._response_done()

    def _response_done(self) -> None:
        self.last_tx = self.owner.clock.now - self.start_s
        if not self.request_complete:
            # The rest of the request has no reader: the upstream attempt, if one is still open, is reset.
            self._drop_router()
        self._finish()
        self.owner.stream_done(self)

    # Time.

    def on_deadline(self, now: float) -> None:
        """Some deadline of this stream has passed."""
        router = self.router
        if now >= self.try_deadline and router is not None:
            self.try_deadline = NEVER
            router.on_try_timeout()
        elif now >= self.try_idle_deadline and router is not None:
            self.try_idle_deadline = NEVER
            router.on_try_timeout(idle=True)
        elif now >= self.upstream_deadline and router is not None:
            self.upstream_deadline = NEVER
            router.on_upstream_duration()
        if self.ended:
            return
        if now >= self.route_deadline and router is not None:
            self.route_deadline = NEVER
            router.on_route_timeout()
        elif now >= self.duration_deadline:
            self.duration_deadline = NEVER
            self.manager.stats.downstream_rq_max_duration_reached += 1
            self._time_out("downstream duration timeout", "max_duration_timeout", 0, grpc_status=_DEADLINE_EXCEEDED)
        elif now >= self.request_deadline:
            self.request_deadline = NEVER
            self.manager.stats.downstream_rq_timeout += 1
            self._time_out("request timeout", "request_overall_timeout", 0)
        elif now >= self.idle_since + self.idle_timeout_s:
            self.idle_timeout_s = NEVER
            self.manager.stats.downstream_rq_idle_timeout += 1
            self._time_out("stream timeout", "stream_idle_timeout", _SI)

    def _time_out(self, body: str, details: str, flag: int, grpc_status: int | None = None) -> None:
        self.flags |= flag
        status = 504 if self.request_complete else 408
        if self.response is not None:
            self.details = details
            self.reset_downstream()
        else:
            self.reply(Reply(status, body.encode(), details=details, flags=flag, grpc_status=grpc_status))

    # The end.

    def reset_downstream(self) -> None:
        """The response cannot be completed: HTTP/1 can only cut the connection, HTTP/2 resets the stream."""
        if self.ended:
            return
        self.manager.stats.downstream_rq_tx_reset += 1
        self._drop_router()
        self._finish()
        self.owner.stream_reset(self)

    def on_downstream_gone(self, details: str, flags: int = _DC) -> None:
        """The client went away, or reset the stream."""
        if self.ended:
            return
        self.flags |= flags
        if not self.details or self.details == "via_upstream":
            self.details = details
        self.manager.stats.downstream_rq_rx_reset += 1
        self._drop_router()
        self._finish()

    def _drop_router(self) -> None:
        router, self.router = self.router, None
        if router is not None:
            router.close()
        self.forget_try()

    def _finish(self) -> None:
        """The one place where a stream ends."""
        self.ended = True
        owner = self.owner
        manager = self.manager
        self.duration_s = owner.clock.now - self.start_s
        if self._timers is not None:
            for timer in self._timers:
                timer.cancel()
            self._timers = None
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if self._reading_stopped:
            self._release_reading()
            while self._reading_stopped:
                self.resume_client()
        manager.request_ended(self)
        for name, phase in manager.chain.on_complete:
            try:
                phase(self)
            except Exception:
                _log.exception("filter %s failed", name)
                manager.stats.count("filter_exceptions")
        for log in manager.access_logs:
            log.log(self)
        router, self.router = self.router, None
        if router is not None:
            router.close()
        self._held = None
        self._state = None

    # What filters see beside the above.

    @property
    def state(self) -> dict[Any, Any]:
        if self._state is None:
            self._state = {}
        return self._state

    def filter_config(self, name: str) -> PerFilter | None:
        route = self.route
        if route is None:
            return None
        if route.plan.has_target_filters:
            target = self.target
            if target is not None and name in target.per_filter:
                return target.per_filter[name]
        return route.per_filter.get(name) if route.per_filter else None

    def _choose_cluster(self, route: "Route") -> None:
        """Envoy resolves the cluster with the route: filters and logs see it even if the router never runs."""
        plan: RoutePlan = route.plan
        target = self.target = plan.only_target or plan.target(self)
        self.cluster = None
        if target is not None:
            name = target.cluster or target.name_for(self.request)
            cluster = self.cluster = self.manager.clusters.get(name)
            if cluster is not None:
                self.cluster_name = name
                if cluster.spec.alt_stat_name:
                    self.cluster_stat_name = cluster.spec.alt_stat_name

    def arm(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        timer = self.owner.timers.arm(delay_s, callback)
        if self._timers is None:
            self._timers = []
        self._timers.append(timer)
        return timer

    def random_below(self, stop: int) -> int:
        return self.manager.random.randrange(stop)

    def set_metadata(self, namespace: str, key: str, value: object) -> None:
        if self.metadata is None:
            self.metadata = {}
        self.metadata.setdefault(namespace, {})[key] = value

    @property
    def clock(self) -> Any:
        return self.owner.clock

    def __repr__(self) -> str:
        head = self.request_head
        what = f"{head.method!r} {head.authority!r}{head.path!r}" if head is not None else "bad request"
        return f"<Stream {self.stream_id} {what} {self.response_code or ''}>"
