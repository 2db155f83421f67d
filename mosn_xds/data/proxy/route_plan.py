"""What the router needs of a route, compiled when the route table is built and kept in the route's `plan`.

A plan answers redirects and direct responses, chooses the cluster, knows the time-outs, and holds the `Target` of each
possible cluster: header operations and rewrites, which differ between weighted clusters. All of it is shared by all
streams of the route; nothing here changes after it is built.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from mosn_xds.data.codec.head import RequestHead, ResponseHead
from mosn_xds.data.filters.api import Reply
from mosn_xds.data.match.routes import Planner
from mosn_xds.data.observe.getters import FormatEnvironment
from mosn_xds.data.proxy.hash_policy import HashPolicies
from mosn_xds.data.proxy.header_ops import HeaderOperations
from mosn_xds.data.proxy.redirect import Redirect
from mosn_xds.data.proxy.rewrite import HostRewrite, compile_path_rewrite, rewrite_path
from mosn_xds.data.proxy.timeouts import TimeoutRules
from mosn_xds.data.upstream.retry import RetryRules
from mosn_xds.spec import route as spec
from mosn_xds.spec.filters import PerFilter

if TYPE_CHECKING:
    from mosn_xds.data.proxy.stream import Stream

_SERVICE_TIME = b"x-envoy-upstream-service-time"
_ATTEMPT_COUNT = b"x-envoy-attempt-count"
_DIRECT = "direct_response"

_Operations = Callable[[spec.WeightedCluster | None], HeaderOperations]


class Target:
    """One cluster that a route may forward to, and what is done to the messages that go there."""

    __slots__ = ("_host_rewrite", "_path_rewrite", "cluster", "cluster_header", "operations", "per_filter")

    def __init__(
        self,
        cluster: str,
        cluster_header: str,
        operations: HeaderOperations,
        action: spec.RouteAction,
        match: spec.RouteMatch,
        per_filter: dict[str, PerFilter],
        host_rewrite: HostRewrite | None,
    ) -> None:
        self.cluster = cluster
        self.cluster_header = cluster_header.lower().encode()
        self.per_filter = per_filter
        self.operations = operations
        self._host_rewrite = host_rewrite
        self._path_rewrite = compile_path_rewrite(match, action.prefix_rewrite, action.regex_rewrite)

    def __repr__(self) -> str:
        return f"<Target {self.cluster or self.cluster_header!r}>"

    def name_for(self, head: RequestHead) -> str:
        """The cluster's name for this request; empty when the header that should say is not there."""
        if self.cluster_header:
            return (head.get(self.cluster_header) or b"").decode("latin-1")
        return self.cluster

    def finalize_request(self, stream: "Stream", head: RequestHead, *, suppress: bool) -> None:
        """Header operations, host and path, in Envoy's order (`finalizeRequestHeaders`)."""
        if self.operations.request:
            self.operations.edit_request(head, stream)
        if self._host_rewrite is not None:
            self._host_rewrite.apply(head, keep_original=not suppress)
        if self._path_rewrite is not None:
            rewrite_path(head, self._path_rewrite, keep_original=not suppress)


class RoutePlan:
    """One route, compiled; see the module's text. Raises ConfigError for what cannot be compiled."""

    __slots__ = (
        "_hash",
        "_operations",
        "_reply",
        "_targets",
        "answers",
        "append_forwarded_host",
        "auto_host_rewrite",
        "body_buffer_limit_bytes",
        "cluster_not_found_status",
        "has_target_filters",
        "hashes",
        "high_priority",
        "host_selection_max_attempts",
        "include_attempt_count",
        "include_attempt_count_in_response",
        "mirrors",
        "only_target",
        "operation",
        "previous_hosts",
        "redirect",
        "retry",
        "timeouts",
    )

    def __init__(
        self, environment: FormatEnvironment, table: spec.RouteTable, host: spec.VirtualHost, route: spec.Route
    ) -> None:
        action = route.action

        def operations(cluster: spec.WeightedCluster | None) -> HeaderOperations:
            return HeaderOperations(
                environment,
                route=route.headers,
                virtual_host=host.headers,
                table=table.headers,
                most_specific_wins=table.most_specific_wins,
                cluster=cluster.headers if cluster is not None else None,
            )

        self._operations = operations(None)
        self._reply: Reply | None = None
        self.redirect: Redirect | None = None
        self._targets: tuple[Target, ...] = ()
        if isinstance(action, spec.DirectAction):
            self._reply = Reply(action.status, action.body, details=_DIRECT)
        elif isinstance(action, spec.RedirectAction):
            self.redirect = Redirect(route.match, action)
        elif isinstance(action, spec.NonForwardingAction):
            self._reply = Reply(404, details="route_not_found")
        self.answers = not isinstance(action, spec.RouteAction)
        """Whether `answer` has one."""
        forward = action if isinstance(action, spec.RouteAction) else spec.RouteAction()
        if isinstance(action, spec.RouteAction):
            self._targets = self._make_targets(action, route.match, operations)
        self.only_target = self._targets[0] if len(self._targets) == 1 else None
        """Where the route forwards every stream, if it has no choice."""
        decorates = bool(route.decorator) and route.decorator_propagate
        self.operation = route.decorator.encode() if decorates else None
        self.has_target_filters = any(target.per_filter for target in self._targets)
        policy = forward.retry or host.retry
        self.retry = RetryRules(policy) if policy is not None else None
        self.previous_hosts = policy is not None and policy.previous_hosts
        self.host_selection_max_attempts = policy.host_selection_max_attempts if policy is not None else 1
        self.timeouts = TimeoutRules(forward, policy)
        hash_policy = forward.hash_policy or host.hash_policy
        self._hash = HashPolicies(hash_policy) if hash_policy else None
        self.hashes = bool(hash_policy)
        """Whether the route has a hash policy."""
        self.mirrors = forward.mirrors or host.mirrors or table.mirrors
        self.auto_host_rewrite = forward.auto_host_rewrite
        self.append_forwarded_host = forward.append_x_forwarded_host
        self.high_priority = forward.high_priority
        self.cluster_not_found_status = forward.cluster_not_found_status
        self.include_attempt_count = host.include_attempt_count
        self.include_attempt_count_in_response = host.include_attempt_count_in_response
        self.body_buffer_limit_bytes = (
            route.body_buffer_limit_bytes if route.body_buffer_limit_bytes is not None else host.body_buffer_limit_bytes
        )

    def _make_targets(
        self, action: spec.RouteAction, match: spec.RouteMatch, operations: _Operations
    ) -> tuple[Target, ...]:
        own_rewrite = HostRewrite.of(action)
        if not action.weighted:
            return (Target(action.cluster, action.cluster_header, self._operations, action, match, {}, own_rewrite),)
        targets = []
        for entry in action.weighted:
            rewrite = HostRewrite.literal(entry.host_rewrite, action) if entry.host_rewrite else own_rewrite
            targets.append(
                Target(
                    entry.name, entry.cluster_header, operations(entry), action, match, dict(entry.per_filter), rewrite
                )
            )
        return tuple(targets)

    def __repr__(self) -> str:
        if self._targets:
            return f"<RoutePlan {' '.join(map(repr, self._targets))}>"
        return f"<RoutePlan {self.redirect or self._reply!r}>"

    def answer(self, stream: "Stream") -> Reply | None:
        """What this route answers without an upstream; None when it forwards."""
        reply = self._reply
        if self.redirect is not None:
            location = self.redirect.location(stream.request)
            stream.request.path = self.redirect.rewritten(stream.request.path)
            return Reply(self.redirect.status, details=_DIRECT, fields=[(b"location", location)])
        if reply is not None and (reply.status == 201 or 300 <= reply.status < 400):
            head = stream.request
            location = b"%b://%b%b" % (head.scheme, head.authority or b"", head.path)
            return Reply(reply.status, reply.body, details=reply.details, fields=[(b"location", location)])
        return reply

    def edit_answer(self, stream: "Stream", head: ResponseHead) -> None:
        """The route's response header operations on an answer of its own."""
        if self._operations.response:
            stream.response_code = head.status
            stream.response_head = head
            self._operations.edit_response(head, stream)

    def target(self, stream: "Stream") -> Target | None:
        """Which of its clusters this route forwards the stream to; None when all weights are 0."""
        weights = stream.route.weights if stream.route is not None else None
        if weights is None:
            return self.only_target
        position = weights.pick(stream.request, stream.stable_random)
        return self._targets[position] if position >= 0 else None

    def hash(self, stream: "Stream", head: RequestHead) -> tuple[int | None, list[bytes]]:
        """The load-balancing hash, and cookies that the response is to set for it."""
        cookies: list[bytes] = []
        if self._hash is None:
            return None, cookies
        return self._hash.compute(head, stream.connection, cookies), cookies

    def finalize_response(
        self,
        stream: "Stream",
        target: Target,
        head: ResponseHead,
        *,
        elapsed_ms: float | None,
        attempts: int,
        suppress: bool,
        cookies: list[bytes] | None,
    ) -> None:
        """What the router adds to an upstream's response."""
        if not suppress:
            if elapsed_ms is not None:
                head.set(_SERVICE_TIME, b"%d" % elapsed_ms)
            if self.include_attempt_count_in_response:
                head.set(_ATTEMPT_COUNT, b"%d" % attempts)
        if target.operations.response:
            target.operations.edit_response(head, stream)
        if cookies:
            for cookie in cookies:
                head.add(b"set-cookie", cookie)


def planner(environment: FormatEnvironment) -> Planner:
    """The compiler that route tables are built with."""

    def plan(table: spec.RouteTable, host: spec.VirtualHost, route: spec.Route) -> RoutePlan:
        return RoutePlan(environment, table, host, route)

    return plan
