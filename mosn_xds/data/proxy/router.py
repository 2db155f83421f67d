"""The router: forwards one request to an upstream, again if need be, and brings the response back.

The sequence is Envoy's (source/common/router/router.cc): direct answer or redirect, cluster, maintenance, time-outs and
attempt headers, header operations and rewrites, host, pool, and then the upstream's events: each response head and each
reset is first shown to the retry state. A `Router` lives as long as its stream forwards; each try is an `Attempt`, which
is what a connection pool knows. What the client has sent so far is kept only while a retry or a mirror may need it, up to
the buffer limit.
"""

from typing import TYPE_CHECKING, Final

from mosn_xds.base.errors import ResetReason, ResponseFlag
from mosn_xds.data.codec.grpc import is_grpc
from mosn_xds.data.codec.head import Fields, RequestHead, ResponseHead, Version
from mosn_xds.data.filters.api import Reply
from mosn_xds.data.proxy.attempt import Attempt
from mosn_xds.data.proxy.deadlines import NEVER
from mosn_xds.data.proxy.kept_body import KeptBody
from mosn_xds.data.proxy.mirror import Mirrors
from mosn_xds.data.proxy.rewrite import rewrite_host
from mosn_xds.data.proxy.route_plan import RoutePlan, Target
from mosn_xds.data.proxy.timeouts import Timeouts, refresh_expected
from mosn_xds.data.proxy.upstream_failure import FLAG_OF_RESET, reset_details, reset_reply
from mosn_xds.data.upstream.api import LbContext, Stale
from mosn_xds.data.upstream.cluster import Cluster
from mosn_xds.data.upstream.host import Host
from mosn_xds.data.upstream.retry import RetryDecision, RetryRules, RetryState

if TYPE_CHECKING:
    from mosn_xds.data.proxy.stream import Stream

_UH: Final = int(ResponseFlag.UH)
_NC: Final = int(ResponseFlag.NC)
_UT: Final = int(ResponseFlag.UT)
_UMSDR: Final = int(ResponseFlag.UMSDR)

_FLAG_OF_DECISION: Final = {
    RetryDecision.NO: 0,
    RetryDecision.RETRY: 0,
    RetryDecision.LIMIT: int(ResponseFlag.URX),
    RetryDecision.OVERFLOW: int(ResponseFlag.UO),
}
_NO_HEALTHY: Final = Reply(503, b"no healthy upstream", details="no_healthy_upstream", flags=_UH)
_NO_LIMITS: Final = Timeouts(0.0, 0.0, 0.0, None, False)
_HTTP11: Final[Version] = Version.HTTP11
_IDEMPOTENT: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))
"""RFC 9110 section 9.2.2."""


class Router:
    """The forwarding of one stream; see the module's text."""

    # Defaults on the class: what a request does not need is not set for it (24 attributes in slots took 0.7 us of 36).
    attempts = 0
    _attempt: Attempt | None = None
    _client_paused = False
    _cluster: Cluster | None = None
    complete = False
    _context: LbContext | None = None
    _kept: KeptBody | None = None
    _cookies: list[bytes] | None = None
    _mirrors: Mirrors | None = None
    queue_paused = False
    _responding = False
    _retry: RetryState | None = None
    _rules: RetryRules | None = None
    sent_at_s: float | None = None
    _stale_resends = 0
    _target: Target | None = None
    _grpc = False
    trailers: Fields | None = None
    _tried: list[Host] | None = None
    upstream_paused = False

    def __init__(self, stream: "Stream", plan: RoutePlan) -> None:
        self._stream: Stream | None = stream
        self.head: RequestHead = stream.request
        self._plan = plan
        self.limits = _NO_LIMITS

    # The request.

    def start(self, end: bool) -> None:
        """The request head is final as far as filters go; `end`: it is the whole request."""
        stream = self._stream
        if stream is None:
            return
        manager = stream.manager
        manager.stats.rq_total += 1
        plan = self._plan
        answer = plan.answer(stream) if plan.answers else None
        if answer is not None:
            manager.stats.rq_direct_response += 1  # Envoy counts redirects here, too
            stream.reply(answer)
            return
        head = self.head
        target = self._target = stream.target
        cluster = stream.cluster
        if target is None or cluster is None:
            manager.stats.no_cluster += 1
            stream.reply(Reply(plan.cluster_not_found_status, details="cluster_not_found", flags=_NC))
            return
        self._cluster = cluster
        self.complete = end
        settings = manager.router
        suppress = settings.suppress_envoy_headers
        # Other protocols' properties steer nothing here, and are not read before somebody asks for one.
        index = dict(head.fields) if head.version.rpc is None else {}
        limits = self.limits = plan.timeouts.apply(
            head, index, suppress=suppress, respect_expected=settings.respect_expected_rq_timeout
        )
        if limits.stream_s is not None:
            stream.limit_duration(limits.stream_s)
        kind = index.get(b"content-type")
        if kind is not None and kind.startswith(b"application/grpc"):
            self._grpc = is_grpc(kind)
        self._rules = RetryRules.for_request(plan.retry, head, index)
        if plan.include_attempt_count:
            head.set(b"x-envoy-attempt-count", b"1")
        target.finalize_request(stream, head, suppress=suppress)
        if plan.hashes:
            hash_value, self._cookies = plan.hash(stream, head)
        else:
            hash_value = None
        if cluster.needs_context or plan.hashes:
            self._context = LbContext(hash_value, original_dst=stream.connection.restored_local, head=head)
        if plan.mirrors:
            self._mirrors = Mirrors.choose(plan.mirrors, stream, head, limits.whole_s)
        if not end and (self._rules is not None or self._mirrors is not None or cluster.multiplexes):
            self._kept = KeptBody(self._limit(stream))
        if end:
            self._request_complete(stream)
        self._try()

    def on_data(self, data: bytes, end: bool) -> None:
        stream = self._stream
        if stream is None:
            return
        if end:
            self.complete = True
        kept = self._kept
        if kept is not None and data:
            kept.keep(data)
            if kept.too_big and self._attempt is not None:
                self._give_up_retries()
                kept = None
        attempt = self._attempt
        if attempt is not None:
            if data or end:
                attempt.send_data(data, end)
            if attempt.stream is None and not self.queue_paused and attempt.queued_bytes > self._limit(stream):
                self.queue_paused = True
                stream.pause_client()
        elif kept is not None and kept.too_big:
            stream.reply(
                Reply(
                    507,
                    b"exceeded request buffer limit while retrying upstream",
                    details="request_payload_exceeded_retry_buffer_limit",
                )
            )
            return
        if end and self._stream is not None:
            self._request_complete(stream)

    def on_trailers(self, fields: Fields) -> None:
        stream = self._stream
        if stream is None:
            return
        self.complete = True
        self.trailers = fields
        if self._attempt is not None:
            self._attempt.send_trailers(fields)
        self._request_complete(stream)

    def _give_up_retries(self) -> None:
        """There is more than a retry may keep: go on without one."""
        if self._cluster is not None and (self._rules is not None or self._mirrors is not None):
            self._cluster.stats.retry_or_shadow_abandoned += 1
        self._kept = None
        self._retry = self._rules = None
        self._mirrors = None

    def _limit(self, stream: "Stream") -> int:
        plan = self._plan
        if plan.body_buffer_limit_bytes is not None:
            return plan.body_buffer_limit_bytes
        return stream.owner.buffer_limit_bytes

    def _request_complete(self, stream: "Stream") -> None:
        """Everything has come from the client: the route's time-out starts here."""
        now = stream.owner.clock.now
        self.sent_at_s = now
        if self.limits.whole_s:
            stream.route_deadline = deadline = now + self.limits.whole_s
            if deadline < stream.owner.timer_due:
                stream.owner.watch(deadline)
        attempt = self._attempt
        if attempt is not None and attempt.stream is not None:
            attempt.start_limits(self.limits)
        if self._mirrors is not None:
            self._mirrors.send(self.head, self._kept.parts if self._kept is not None else None, self.trailers)
            self._mirrors = None

    # Tries.

    def _try(self) -> None:
        stream = self._stream
        cluster = self._cluster
        plan = self._plan
        if stream is None or cluster is None:
            return
        self.attempts += 1
        stream.attempts = self.attempts
        if self.attempts > 1:
            self._look_back(stream)
        binding = stream.binding
        host = cluster.choose_host(self._context) if binding is None else binding.choose_host(cluster, self._context)
        if host is None:
            cluster.stats.upstream_cx_none_healthy += 1
            cluster.charge_failure(None, ResetReason.OVERFLOW, internal=self._is_internal(stream))
            stream.reply(_NO_HEALTHY)
            return
        stream.upstream_host = host
        if plan.previous_hosts:
            if self._tried is None:
                self._tried = []
            self._tried.append(host)
        if plan.auto_host_rewrite and host.hostname and self.attempts == 1:
            rewrite_host(
                self.head,
                host.hostname.encode(),
                append_forwarded=plan.append_forwarded_host,
                keep_original=not stream.manager.router.suppress_envoy_headers,
            )
        attempt = self._attempt = Attempt(self, stream, cluster, host)
        if self.attempts > 1:
            attempt.queue = list(self._kept.parts) if self._kept is not None else None
            attempt.queued_end = self.complete and self.trailers is None
            attempt.queued_trailers = self.trailers
        options = None
        transports = cluster.transports
        if transports.asks_requests or (transports.obeys_alpn and stream.manager.alpn_overrides):
            options = transports.options(host, self.head, stream.connection, stream.manager.alpn_overrides)
        version = self.head.version
        if binding is None or version.rpc is None:
            handle = cluster.open_stream(host, attempt, version, plan.high_priority, options)
        else:
            handle = binding.open_stream(cluster, host, attempt, version.rpc, plan.high_priority, options)
        if attempt.stream is None and attempt.router is not None:
            attempt.pending = handle

    def _look_back(self, stream: "Stream") -> None:
        """Tell the balancer of the tries there were."""
        plan = self._plan
        context = self._context
        if context is None and plan.previous_hosts:
            context = self._context = LbContext(original_dst=stream.connection.restored_local, head=self.head)
        if context is not None:
            context.attempt = self.attempts
            if plan.previous_hosts and self._tried:
                context.should_skip = tuple(self._tried)
                context.max_skip_attempts = plan.host_selection_max_attempts

    def _retry_after(self, delay_s: float) -> None:
        stream = self._stream
        if stream is None:
            return
        self._drop_attempt()
        stream.try_deadline = stream.try_idle_deadline = stream.upstream_deadline = NEVER
        stream.arm(delay_s, self._try_again)

    def _try_again(self) -> None:
        stream, cluster = self._stream, self._cluster
        if stream is None or cluster is None:
            return
        # The cluster is looked up live: it may have been replaced while this request waited.
        current = stream.manager.clusters.get(cluster.name)
        if current is None:
            stream.manager.stats.no_cluster += 1
            stream.reply(Reply(503, details="cluster_not_found", flags=_NC))
            return
        self._cluster = stream.cluster = current
        if self._plan.include_attempt_count:
            self.head.set(b"x-envoy-attempt-count", b"%d" % (self.attempts + 1))
        if self.sent_at_s is not None:
            refresh_expected(self.head, self.limits, stream.owner.clock.now - self.sent_at_s)
        self._try()

    def _drop_attempt(self) -> None:
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            attempt.close()

    # The upstream's events.

    def on_response_head(self, attempt: Attempt, head: ResponseHead, end: bool) -> None:
        stream, cluster, plan, target = self._stream, self._cluster, self._plan, self._target
        if stream is None or cluster is None or target is None:
            return
        now = stream.owner.clock.now
        stream.first_up_rx = now - stream.start_s
        if end:
            stream.last_up_rx = stream.first_up_rx
        rules = self._rules
        if rules is not None and (self._retry is not None or rules.wants_response(head)) and self._can_resend():
            retry = self._retries(rules, stream, cluster)
            decision = retry.on_response(head)
            if decision is RetryDecision.RETRY:
                cluster.charge_response(attempt.host, head, retried=True)
                if end:
                    attempt.stream = None
                self._retry_after(retry.back_off_s(head))
                return
            stream.flags |= _FLAG_OF_DECISION[decision]
        self._responding = True
        cluster.charge_response(attempt.host, head, retried=False, internal=self._is_internal(stream), grpc=self._grpc)
        if self._grpc and head.status < 500:
            attempt.expect_grpc()
            if end:
                attempt.charge_grpc(head.fields)
        if rules is not None:
            self._forget_retries()
        self._kept = None
        if not stream.details:
            stream.details = "via_upstream"
        if head.status == 101 and self.head.upgrade is not None:
            stream.upgraded = True
            stream.route_deadline = NEVER
        elif self.head.upgrade is not None and attempt.version is _HTTP11:
            # No tunnel, then: the answer goes without its body, and the connection with it.
            stream.details = "websocket_handshake_unsuccessful"
            stream.connection_closing = True
            self._drop_attempt()
            head.remove(b"content-length")
            end = True
        elapsed_ms = (now - self.sent_at_s) * 1000 if self.sent_at_s is not None else None
        stream.response_code = head.status
        stream.response_head = head
        plan.finalize_response(
            stream,
            target,
            head,
            elapsed_ms=elapsed_ms,
            attempts=self.attempts,
            suppress=stream.manager.router.suppress_envoy_headers,
            cookies=self._cookies,
        )
        if end:
            attempt.complete(self.sent_at_s)
        stream.respond(head, end)

    def on_reset(self, attempt: Attempt, reason: ResetReason, detail: str, *, stale: Stale, connected: bool) -> None:
        """The attempt failed: again, or an answer."""
        stream, cluster = self._stream, self._cluster
        if stream is None or cluster is None:
            return
        if detail:
            stream.transport_failure = detail
        self._attempt = None
        if self._responding:
            attempt.charge_grpc([])
            stream.flags |= FLAG_OF_RESET[reason]
            stream.details = reset_details(reason, detail, started=True)
            stream.manager.stats.rq_reset_after_downstream_response_started += 1
            stream.reset_downstream()
            return
        if stale is not Stale.NO and self._may_resend(stale):
            # Not a retry: the connection was at fault. There is an end to it, as each uses up a kept connection.
            self._stale_resends += 1
            self._retry_after(0.0)
            return
        if self._rules is not None and self._can_resend():
            retry = self._retries(self._rules, stream, cluster)
            decision = retry.on_reset(reason, sent=connected)
            if decision is RetryDecision.RETRY:
                attempt.host.rq_error += 1
                self._retry_after(retry.back_off_s(None))
                return
            stream.flags |= _FLAG_OF_DECISION[decision]
        cluster.charge_failure(attempt.host, reason, internal=self._is_internal(stream))
        stream.reply(reset_reply(reason, detail, retried=self.attempts - self._stale_resends > 1))

    def _may_resend(self, stale: Stale) -> bool:
        return (stale is Stale.UNREAD or self.head.method in _IDEMPOTENT) and self._can_resend()

    def _is_internal(self, stream: "Stream") -> bool:
        """Whether statistics count the request as one from inside the mesh."""
        return stream.manager.knows_internal and self.head.get(b"x-envoy-internal") is not None

    def _retries(self, rules: RetryRules, stream: "Stream", cluster: Cluster) -> RetryState:
        """The state of this request's retries, which few requests need."""
        retry = self._retry
        if retry is None:
            random, priority = stream.manager.random, self._plan.high_priority
            retry = self._retry = RetryState(rules, cluster, random, high_priority=priority)
        return retry

    def _forget_retries(self) -> None:
        retry, self._retry = self._retry, None
        self._rules = None
        if retry is not None:
            retry.close()

    def _can_resend(self) -> bool:
        """Whether all that was sent is still at hand."""
        stream = self._stream
        return self._kept is not None or (self.complete and stream is not None and not stream.bytes_received)

    # Time.

    def on_route_timeout(self) -> None:
        stream, cluster = self._stream, self._cluster
        if stream is None or cluster is None:
            return
        cluster.stats.upstream_rq_timeout += 1
        self._timed_out(stream, "response_timeout", b"upstream request timeout")

    def on_try_timeout(self, *, idle: bool = False) -> None:
        """The attempt took too long: its stream is reset, and the request tried again if it may."""
        stream, cluster, attempt = self._stream, self._cluster, self._attempt
        if stream is None or cluster is None or attempt is None:
            return
        if self._responding and not idle:
            return
        if idle:
            cluster.stats.upstream_rq_per_try_idle_timeout += 1
        else:
            cluster.stats.upstream_rq_per_try_timeout += 1
        self._drop_attempt()
        if self._rules is not None and not self._responding and self._can_resend():
            retry = self._retries(self._rules, stream, cluster)
            decision = retry.on_timeout()
            if decision is RetryDecision.RETRY:
                attempt.host.rq_timeout += 1
                attempt.host.rq_error += 1
                self._retry_after(retry.back_off_s(None))
                return
            stream.flags |= _FLAG_OF_DECISION[decision]
        details = "upstream_per_try_idle_timeout" if idle else "upstream_per_try_timeout"
        self._timed_out(stream, details, b"upstream request timeout")

    def on_upstream_duration(self) -> None:
        """The cluster's `max_stream_duration` is over."""
        stream, cluster = self._stream, self._cluster
        if stream is None or cluster is None:
            return
        cluster.stats.upstream_rq_max_duration_reached += 1
        self._drop_attempt()
        details = "upstream_max_stream_duration_reached"
        if self._responding:
            stream.flags |= _UMSDR
            stream.details = details
            stream.reset_downstream()
            return
        status = 504 if self.complete else 408
        stream.reply(Reply(status, b"upstream max stream duration reached", details=details, flags=_UMSDR))

    def _timed_out(self, stream: "Stream", details: str, body: bytes) -> None:
        cluster, attempt = self._cluster, self._attempt
        if cluster is not None:
            cluster.charge_timeout(attempt.host if attempt is not None else None, internal=self._is_internal(stream))
        self._drop_attempt()
        if self._responding:
            stream.flags |= _UT
            stream.details = details
            stream.reset_downstream()
            return
        alternative = self.limits.alternative
        stream.reply(Reply(204 if alternative else 504, b"" if alternative else body, details=details, flags=_UT))

    # Back-pressure.

    def pause_upstream(self) -> None:
        self.upstream_paused = True
        attempt = self._attempt
        if attempt is not None and attempt.stream is not None:
            attempt.stream.pause_reading()

    def resume_upstream(self) -> None:
        self.upstream_paused = False
        attempt = self._attempt
        if attempt is not None and attempt.stream is not None:
            attempt.stream.resume_reading()

    def pause_client(self) -> None:
        stream = self._stream
        if stream is not None and not self._client_paused:
            self._client_paused = True
            stream.pause_client()

    def resume_client(self) -> None:
        stream = self._stream
        if stream is not None and self._client_paused:
            self._client_paused = False
            stream.resume_client()

    def close(self) -> None:
        """The stream forwards no more: let go of everything; an open attempt is reset."""
        if self._rules is not None:
            self._forget_retries()
        if self._attempt is not None:
            self._drop_attempt()
        self._stream = None
        self._context = None
        self._mirrors = None

    def __repr__(self) -> str:
        return f"<Router {self._cluster!r} attempt {self.attempts}>"
