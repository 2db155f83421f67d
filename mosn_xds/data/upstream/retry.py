"""Retries: whether a request is sent again, and after how long (Envoy's `RetryStateImpl`).

`RetryRules` is a route's policy, compiled once. A request that may be retried gets a `RetryState`, which merges in the
``x-envoy-*`` headers of the request and is asked about each response head and each reset. A yes passes two gates, in this
order: retries left (else URX), the cluster's breaker or budget (else UO).

The state makes decisions only: the caller waits for `RetryState.back_off_s`, sends the attempt, and says when the request
has ended. Envoy's order of the conditions is kept (source/common/router/retry_state_impl.cc).
"""

from collections.abc import Iterable, Mapping
from enum import Enum, IntEnum
from typing import Final

from mosn_xds.base.chance import Random
from mosn_xds.base.errors import ResetReason
from mosn_xds.data.codec.head import RequestHead, ResponseHead
from mosn_xds.data.match.headers import HeaderPredicate, compile_header
from mosn_xds.data.upstream.cluster import Cluster
from mosn_xds.spec.common import HeaderMatch
from mosn_xds.spec.route import RetryPolicy


class RetryOn(IntEnum):
    """The conditions of `retry_on` and `retry_grpc_on`, a bit each; unknown ones have no effect, as in Envoy.

    An IntFlag would say more, but each of its operators runs in Python.
    """

    SERVER_ERROR = 1 << 0
    GATEWAY_ERROR = 1 << 1
    CONNECT_FAILURE = 1 << 2
    ENVOY_RATELIMITED = 1 << 3
    RETRIABLE_4XX = 1 << 4
    REFUSED_STREAM = 1 << 5
    RETRIABLE_STATUS_CODES = 1 << 6
    RETRIABLE_HEADERS = 1 << 7
    RESET = 1 << 8
    RESET_BEFORE_REQUEST = 1 << 9
    GRPC_CANCELLED = 1 << 10
    GRPC_DEADLINE_EXCEEDED = 1 << 11
    GRPC_INTERNAL = 1 << 12
    GRPC_RESOURCE_EXHAUSTED = 1 << 13
    GRPC_UNAVAILABLE = 1 << 14


class RetryDecision(Enum):
    """What becomes of a request whose attempt has failed, or has a response."""

    NO = "no"
    """This is the answer; no policy speaks of it."""
    RETRY = "retry"
    LIMIT = "limit exceeded"
    """It would be retried, but has been often enough (URX)."""
    OVERFLOW = "overflow"
    """It would be retried, but too many are already (UO)."""


_ANY_GRPC: Final = int(
    RetryOn.GRPC_CANCELLED
    | RetryOn.GRPC_DEADLINE_EXCEEDED
    | RetryOn.GRPC_INTERNAL
    | RetryOn.GRPC_RESOURCE_EXHAUSTED
    | RetryOn.GRPC_UNAVAILABLE
)
# The decisions' own copies: an attribute of an enum costs three times as much as a global.
_CONNECT_FAILURE: Final = int(RetryOn.CONNECT_FAILURE)
_ENVOY_RATELIMITED: Final = int(RetryOn.ENVOY_RATELIMITED)
_GATEWAY_ERROR: Final = int(RetryOn.GATEWAY_ERROR)
_REFUSED_STREAM: Final = int(RetryOn.REFUSED_STREAM)
_RESET: Final = int(RetryOn.RESET)
_RESET_BEFORE_REQUEST: Final = int(RetryOn.RESET_BEFORE_REQUEST)
_RETRIABLE_4XX: Final = int(RetryOn.RETRIABLE_4XX)
_RETRIABLE_HEADERS: Final = int(RetryOn.RETRIABLE_HEADERS)
_RETRIABLE_STATUS_CODES: Final = int(RetryOn.RETRIABLE_STATUS_CODES)
_SERVER_ERROR: Final = int(RetryOn.SERVER_ERROR)

_TOKENS: Final = {
    b"5xx": RetryOn.SERVER_ERROR,
    b"gateway-error": RetryOn.GATEWAY_ERROR,
    b"connect-failure": RetryOn.CONNECT_FAILURE,
    b"envoy-ratelimited": RetryOn.ENVOY_RATELIMITED,
    b"retriable-4xx": RetryOn.RETRIABLE_4XX,
    b"refused-stream": RetryOn.REFUSED_STREAM,
    b"retriable-status-codes": RetryOn.RETRIABLE_STATUS_CODES,
    b"retriable-headers": RetryOn.RETRIABLE_HEADERS,
    b"reset": RetryOn.RESET,
    b"reset-before-request": RetryOn.RESET_BEFORE_REQUEST,
}
_GRPC_TOKENS: Final = {
    b"cancelled": RetryOn.GRPC_CANCELLED,
    b"deadline-exceeded": RetryOn.GRPC_DEADLINE_EXCEEDED,
    b"internal": RetryOn.GRPC_INTERNAL,
    b"resource-exhausted": RetryOn.GRPC_RESOURCE_EXHAUSTED,
    b"unavailable": RetryOn.GRPC_UNAVAILABLE,
}
_GRPC_STATUSES: Final = {
    b"1": RetryOn.GRPC_CANCELLED,
    b"4": RetryOn.GRPC_DEADLINE_EXCEEDED,
    b"13": RetryOn.GRPC_INTERNAL,
    b"8": RetryOn.GRPC_RESOURCE_EXHAUSTED,
    b"14": RetryOn.GRPC_UNAVAILABLE,
}

_RETRY_ON_HEADER: Final = b"x-envoy-retry-on"
_GRPC_ON_HEADER: Final = b"x-envoy-retry-grpc-on"
_MAX_RETRIES_HEADER: Final = b"x-envoy-max-retries"
_STATUS_CODES_HEADER: Final = b"x-envoy-retriable-status-codes"
_HEADER_NAMES_HEADER: Final = b"x-envoy-retriable-header-names"

RETRY_HEADERS: Final = frozenset(
    (
        _RETRY_ON_HEADER,
        _GRPC_ON_HEADER,
        _MAX_RETRIES_HEADER,
        _STATUS_CODES_HEADER,
        _HEADER_NAMES_HEADER,
        b"x-envoy-hedge-on-per-try-timeout",
        b"x-envoy-upstream-rq-per-try-timeout-ms",
    )
)
"""What a request may say about its retries; never forwarded."""

_CONNECT_FAILURES: Final = frozenset(
    (
        ResetReason.LOCAL_CONNECTION_FAILURE,
        ResetReason.REMOTE_CONNECTION_FAILURE,
        ResetReason.CONNECTION_TIMEOUT,
    )
)
_BACK_OFF_GROWTH: Final = 10
_LEAST_BASE_S: Final = 0.001


def _bits(tokens: Iterable[bytes], known: Mapping[bytes, int]) -> int:
    bits = 0
    for token in tokens:
        bits |= known.get(token.strip(), 0)
    return int(bits)


class RetryRules:
    """A `RetryPolicy`, compiled. Raises ConfigError for a header matcher that cannot be."""

    __slots__ = (
        "_policy",
        "base_s",
        "max_s",
        "num_retries",
        "request_headers",
        "reset_headers",
        "reset_max_s",
        "response_headers",
        "retry_on",
        "status_codes",
    )

    @classmethod
    def for_request(
        cls, rules: "RetryRules | None", head: RequestHead, index: Mapping[bytes, bytes]
    ) -> "RetryRules | None":
        """What applies to a request on a route with `rules`, None if nothing can lead to a retry; takes the `RETRY_HEADERS`
        out of `head`. `index` is a mapping of its fields, by name. Read the time-outs in those headers before.
        """
        if not RETRY_HEADERS.isdisjoint(index):
            rules = (rules or cls(RetryPolicy())).merged(head)
            head.fields[:] = [field for field in head.fields if field[0] not in RETRY_HEADERS]
        return rules if rules is not None and rules.retry_on and rules.admit(head) else None

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        tokens = [token.encode() for token in policy.retry_on]
        self.retry_on = _bits(tokens, _TOKENS) | _bits(tokens, _GRPC_TOKENS)
        self.num_retries = policy.num_retries
        self.base_s = max(policy.back_off.base_s, _LEAST_BASE_S)
        self.max_s = policy.back_off.max_s if policy.back_off.max_s is not None else self.base_s * _BACK_OFF_GROWTH
        self.status_codes = frozenset(policy.retriable_status_codes)
        self.request_headers = tuple(compile_header(match) for match in policy.retriable_request_headers)
        self.response_headers = tuple(compile_header(match) for match in policy.retriable_headers)
        limited = policy.rate_limited_back_off
        self.reset_headers = (
            tuple((name.lower().encode(), unix) for name, unix in limited.reset_headers) if limited else ()
        )
        self.reset_max_s = limited.max_s if limited else 0.0

    def merged(self, head: RequestHead) -> "RetryRules":
        """These rules with what the request's own headers ask for."""
        rules = RetryRules(self._policy)
        rules.retry_on |= _bits((head.get(_RETRY_ON_HEADER) or b"").split(b","), _TOKENS)
        rules.retry_on |= _bits((head.get(_GRPC_ON_HEADER) or b"").split(b","), _GRPC_TOKENS)
        if (count := _number(head.get(_MAX_RETRIES_HEADER))) is not None:
            rules.num_retries = count
        if codes := head.get(_STATUS_CODES_HEADER):
            rules.status_codes |= {code for item in codes.split(b",") if (code := _number(item)) is not None}
        if names := head.get(_HEADER_NAMES_HEADER):
            rules.response_headers += tuple(_present(name) for name in names.split(b",") if name.strip())
        return rules

    def admit(self, head: RequestHead) -> bool:
        """Whether requests like this one may be retried at all."""
        return not self.request_headers or any(matches(head) for matches in self.request_headers)

    def wants_response(self, head: ResponseHead) -> bool:
        """Whether a response is one to retry after."""
        # A response of an Envoy that limits rates is retried by ENVOY_RATELIMITED alone. This is asked last, as it is a
        # search of the head that hardly any response needs.
        by_rate_limit = bool(self.retry_on & _ENVOY_RATELIMITED)
        wanted = self._matches_response(head)
        if (wanted or by_rate_limit) and head.get(b"x-envoy-ratelimited") is not None:
            return by_rate_limit
        return wanted

    def _matches_response(self, head: ResponseHead) -> bool:
        retry_on = self.retry_on
        status = head.status
        if retry_on & _SERVER_ERROR and 500 <= status < 600:
            return True
        if retry_on & _GATEWAY_ERROR and 502 <= status <= 504:
            return True
        if retry_on & _RETRIABLE_4XX and status == 409:
            return True
        if retry_on & _RETRIABLE_STATUS_CODES and status in self.status_codes:
            return True
        if retry_on & _RETRIABLE_HEADERS and any(matches(head) for matches in self.response_headers):
            return True
        if retry_on & _ANY_GRPC:
            return bool(retry_on & _GRPC_STATUSES.get(head.get(b"grpc-status") or b"", 0))
        return False

    def __repr__(self) -> str:
        return f"<RetryRules {_names(self.retry_on)} x{self.num_retries}>"


class RetryState:
    """The retries of one request, made when there is something to decide. `remaining` is how many are left."""

    __slots__ = ("_back_off_s", "_breaker", "_cluster", "_holds_retry", "_random", "_rules", "remaining")

    def __init__(self, rules: RetryRules, cluster: Cluster, random: Random, *, high_priority: bool = False) -> None:
        self._rules = rules
        self._cluster = cluster
        self._breaker = cluster.breakers[high_priority]
        self._random = random
        self._back_off_s = rules.base_s
        self._holds_retry = False
        self.remaining = rules.num_retries

    def on_response(self, head: ResponseHead) -> RetryDecision:
        """What to do with this response (its head; a status in trailers is not seen)."""
        wanted = self._rules.wants_response(head)
        return self._decide(wanted) if wanted or self._holds_retry else RetryDecision.NO

    def on_reset(self, reason: ResetReason, *, sent: bool) -> RetryDecision:
        """What to do about an attempt that ended without a response. `sent`: its request was sent, or begun."""
        return self._decide(self._wants_reset(reason, sent))

    def on_timeout(self) -> RetryDecision:
        """What to do about an attempt that has taken too long and was given up."""
        return self._decide(self._wants_reset(ResetReason.LOCAL_RESET, True))

    def back_off_s(self, head: ResponseHead | None) -> float:
        """How long to wait after a decision to retry; `head` is the response that is not wanted, if there was one.

        Exponential and fully jittered: anything below 25 ms, then 50, 100 ... (of the policy); or, if the response says
        when to come back and the policy reads that, one to one and a half times as long.
        """
        interval_s = self._reset_interval_s(head) if head is not None and self._rules.reset_headers else None
        chance = self._random.random()
        if interval_s is not None:
            self._cluster.stats.upstream_rq_retry_backoff_ratelimited += 1
            return interval_s * (1.0 + chance / 2.0)
        self._cluster.stats.upstream_rq_retry_backoff_exponential += 1
        delay_s = self._back_off_s * chance
        self._back_off_s = min(self._back_off_s * 2.0, self._rules.max_s)
        return delay_s

    def close(self) -> None:
        """The request has ended: its retry no longer counts as active."""
        if self._holds_retry:
            self._holds_retry = False
            if self._breaker.retries is not None:
                self._breaker.retries.add(-1)

    def _wants_reset(self, reason: ResetReason, sent: bool) -> bool:
        retry_on = self._rules.retry_on
        if reason is ResetReason.OVERFLOW:
            return False
        if reason in _CONNECT_FAILURES and retry_on & _CONNECT_FAILURE:
            return True
        if retry_on & _RESET_BEFORE_REQUEST and not sent:
            return True
        if retry_on & (_RESET | _SERVER_ERROR | _GATEWAY_ERROR):
            return True
        return bool(retry_on & _REFUSED_STREAM) and reason is ResetReason.REMOTE_REFUSED

    def _decide(self, wanted: bool) -> RetryDecision:
        stats = self._cluster.stats
        if self._holds_retry:
            if not wanted:
                stats.upstream_rq_retry_success += 1
            self.close()
        if not wanted:
            return RetryDecision.NO
        if self.remaining <= 0:
            stats.upstream_rq_retry_limit_exceeded += 1
            return RetryDecision.LIMIT
        self.remaining -= 1
        limit = self._breaker.retries
        if limit is not None:
            if limit.is_open():
                stats.upstream_rq_retry_overflow += 1
                return RetryDecision.OVERFLOW
            limit.add(1)
        self._holds_retry = True
        stats.upstream_rq_retry += 1
        return RetryDecision.RETRY

    def _reset_interval_s(self, head: ResponseHead) -> float | None:
        """When the peer says it will serve again, by the first of the reset headers that says so sensibly."""
        for name, is_unix_timestamp in self._rules.reset_headers:
            values = head.get_all(name)
            number = _number(values[0]) if values else None
            if number is None:
                continue
            interval_s = number - int(self._cluster.clock.wall()) if is_unix_timestamp else number
            if 0 < interval_s <= self._rules.reset_max_s:
                return float(interval_s)
        return None

    def __repr__(self) -> str:
        return f"<RetryState {_names(self._rules.retry_on)}, {self.remaining} left>"


def _names(retry_on: int) -> str:
    return ",".join(condition.name.lower() for condition in RetryOn if retry_on & condition)


def _number(value: bytes | None) -> int | None:
    value = value.strip() if value is not None else b""
    return int(value) if value.isdigit() else None


def _present(name: bytes) -> HeaderPredicate:
    return compile_header(HeaderMatch(name.strip().decode("latin-1")))
