"""Header operations of a route: what request_headers_to_add and the like do at each level (Envoy's Router::HeaderParser).

The levels are applied one after the other: the picked weighted cluster, then route, virtual host and table, or these three
the other way round with `most_specific_wins` (the last to overwrite wins). Within a level headers are removed first; then
every value is formatted against the head as it is; then overwrites happen, then additions. A value that comes out empty
is left out unless `keep_empty`. An addition to a header that Envoy keeps in one piece is joined to it with a comma.
"""

from collections.abc import Sequence
from typing import Final

from mosn_xds.base.errors import ConfigError
from mosn_xds.data.codec.head import Fields, Head, one_line
from mosn_xds.data.observe.formatter import Formatter
from mosn_xds.data.observe.getters import FormatEnvironment
from mosn_xds.data.observe.info import StreamInfo
from mosn_xds.spec.common import AppendAction, HeaderOps, HeaderValue

_JOINED: Final = frozenset(
    name.encode()
    for name in (
        *("accept", "accept-encoding", "authorization", "cache-control", "content-encoding", "content-length"),
        *("content-type", "expect", "grpc-accept-encoding", "grpc-timeout", "if-match", "if-modified-since"),
        *("if-none-match", "if-range", "if-unmodified-since", "origin", "pragma", "proxy-status", "referer"),
        *("te", "user-agent", "via", "x-client-trace-id", "x-request-id"),
        *("access-control-request-headers", "access-control-request-method", "access-control-request-private-network"),
        *("x-forwarded-client-cert", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto"),
        *("x-envoy-attempt-count", "x-envoy-decorator-operation", "x-envoy-downstream-service-cluster"),
        *("x-envoy-downstream-service-node", "x-envoy-expected-rq-timeout-ms", "x-envoy-external-address"),
        *("x-envoy-is-timeout-retry", "x-envoy-original-host", "x-envoy-original-path"),
    )
)
_JOINED_IN_RESPONSES: Final = frozenset(
    name.encode()
    for name in (
        *("access-control-allow-credentials", "access-control-allow-headers", "access-control-allow-methods"),
        *("access-control-allow-origin", "access-control-expose-headers", "access-control-max-age", "age"),
        *("cache-control", "content-encoding", "content-length", "content-type", "date", "etag", "expires"),
        *("grpc-message", "grpc-status", "last-modified", "location", "proxy-status", "server", "vary", "via"),
        *("x-envoy-attempt-count", "x-envoy-decorator-operation", "x-envoy-degraded"),
        *("x-envoy-immediate-health-check-fail", "x-envoy-ratelimited", "x-envoy-upstream-canary"),
        *("x-envoy-upstream-healthchecked-cluster", "x-envoy-upstream-service-time", "x-request-id"),
    )
)


class _Addition:
    __slots__ = ("action", "constant", "formatter", "joined", "keep_empty", "name")

    def __init__(self, spec: HeaderValue, environment: FormatEnvironment, joined: frozenset[bytes]) -> None:
        self.name = _checked(spec.name, "modified")
        self.action = spec.action
        self.keep_empty = spec.keep_empty
        self.joined = self.name in joined
        self.formatter = Formatter(spec.value, environment, omit_empty=True)
        self.constant = self.formatter.constant

    @property
    def plain(self) -> bool:
        """Whether there is nothing to decide: a constant is appended."""
        if self.constant is None or self.joined or self.action is not AppendAction.APPEND_IF_EXISTS_OR_ADD:
            return False
        return one_line(self.constant) == self.constant and (self.constant != b"" or self.keep_empty)


class HeaderEdits:
    """The operations of one level on requests, or on responses."""

    __slots__ = ("_additions", "_plain_fields", "_removals")

    def __init__(
        self,
        add: Sequence[HeaderValue],
        remove: Sequence[str],
        environment: FormatEnvironment,
        joined: frozenset[bytes] = frozenset(),
    ) -> None:
        self._removals = tuple(_checked(name, "removed") for name in remove)
        self._additions = tuple(_Addition(value, environment, joined) for value in add)
        self._plain_fields: Fields | None = None
        if not self._removals and all(addition.plain for addition in self._additions):
            # The common case, only constants to append, costs one `extend`.
            self._plain_fields = [(addition.name, addition.constant or b"") for addition in self._additions]

    def __repr__(self) -> str:
        return f"<HeaderEdits -{len(self._removals)} +{len(self._additions)}>"

    def apply(self, head: Head, info: StreamInfo) -> None:
        """Edit `head`; formats read `info`."""
        if self._plain_fields is not None:
            head.fields.extend(self._plain_fields)
            return
        for name in self._removals:
            head.remove(name)
        additions: list[tuple[_Addition, bytes]] = []
        overwrites: list[tuple[_Addition, bytes]] = []
        for addition in self._additions:
            value = addition.constant
            if value is None:
                value = addition.formatter.render(info)
            if not value and not addition.keep_empty:
                continue
            action = addition.action
            if action is AppendAction.APPEND_IF_EXISTS_OR_ADD:
                additions.append((addition, value))
            elif action is AppendAction.ADD_IF_ABSENT:
                if not head.get_all(addition.name):
                    additions.append((addition, value))
            elif action is AppendAction.OVERWRITE_IF_EXISTS_OR_ADD or head.get_all(addition.name):
                overwrites.append((addition, value))
        for addition, value in overwrites:
            head.remove(addition.name)
            head.add(addition.name, value)
        for addition, value in additions:
            if addition.joined and (before := head.get(addition.name)) is not None:
                head.set(addition.name, before + b"," + value)
            else:
                head.add(addition.name, value)


class HeaderOperations:
    """The operations of all levels that concern one route, or one weighted cluster of it. Raises ConfigError."""

    __slots__ = ("request", "response")

    def __init__(
        self,
        environment: FormatEnvironment,
        *,
        route: HeaderOps,
        virtual_host: HeaderOps,
        table: HeaderOps,
        most_specific_wins: bool,
        cluster: HeaderOps | None = None,
    ) -> None:
        levels = [table, virtual_host, route] if most_specific_wins else [route, virtual_host, table]
        if cluster is not None:
            levels.insert(0, cluster)
        self.request = tuple(
            HeaderEdits(ops.request_add, ops.request_remove, environment, _JOINED)
            for ops in levels
            if ops.request_add or ops.request_remove
        )
        self.response = tuple(
            HeaderEdits(ops.response_add, ops.response_remove, environment, _JOINED_IN_RESPONSES)
            for ops in levels
            if ops.response_add or ops.response_remove
        )

    def __repr__(self) -> str:
        return f"<HeaderOperations request {list(self.request)} response {list(self.response)}>"

    def edit_request(self, head: Head, info: StreamInfo) -> None:
        """Apply the levels to a request's head."""
        for edits in self.request:
            edits.apply(head, info)

    def edit_response(self, head: Head, info: StreamInfo) -> None:
        """Apply the levels to a response's head."""
        for edits in self.response:
            edits.apply(head, info)


def _checked(name: str, verb: str) -> bytes:
    lower = name.lower()
    if lower[:1] == ":" or lower == "host":
        raise ConfigError(f":-prefixed or host headers may not be {verb}")
    return name.encode()
