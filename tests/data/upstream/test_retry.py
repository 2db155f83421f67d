"""Retry decisions, by tables (Envoy's retry_state_impl.cc)."""

import random
from typing import Any

import pytest

from mosn_xds.base.clock import ManualClock
from mosn_xds.base.errors import ResetReason
from mosn_xds.base.limits import LimitProvider
from mosn_xds.data.codec.head import RequestHead, ResponseHead, Version, fields_of
from mosn_xds.data.upstream.breaker import Breaker
from mosn_xds.data.upstream.retry import RetryDecision, RetryRules, RetryState
from mosn_xds.data.upstream.stats import ClusterStats
from mosn_xds.spec.cluster import Breakers
from mosn_xds.spec.common import HeaderMatch, StringMatch, StringMatchKind
from mosn_xds.spec.route import RateLimitedBackOff, RetryBackOff, RetryPolicy

NO, RETRY, LIMIT, OVERFLOW = RetryDecision.NO, RetryDecision.RETRY, RetryDecision.LIMIT, RetryDecision.OVERFLOW


_ANY_NUMBER = Breakers(max_retries=None)


class FakeCluster:
    """What retries need of a cluster."""

    def __init__(self, breakers: Breakers = _ANY_NUMBER) -> None:
        self.stats = ClusterStats("cluster.svc.")
        self.clock = ManualClock(wall=1_000_000.0)
        limits = LimitProvider()
        self.breakers = (
            Breaker("svc", False, breakers, limits, self.stats),
            Breaker("svc", True, breakers, limits, self.stats),
        )


def head(headers: dict[str, str] | None = None) -> RequestHead:
    return RequestHead(b"GET", b"http", b"svc", b"/", Version.HTTP11, fields_of((headers or {}).items()))


def create(rules: RetryRules | None, request: RequestHead, cluster: Any, chance: Any) -> RetryState | None:
    """The state for a request, as the router makes it; None if nothing can lead to a retry."""
    effective = RetryRules.for_request(rules, request, dict(request.fields))
    return None if effective is None else RetryState(effective, cluster, chance)


def response(status: int, **headers: str) -> ResponseHead:
    return ResponseHead(status, fields_of((name.replace("_", "-"), value) for name, value in headers.items()))


def state(
    retry_on: str = "", *, headers: dict[str, str] | None = None, cluster: FakeCluster | None = None, **policy: Any
) -> RetryState:
    rules = RetryRules(RetryPolicy(retry_on=tuple(retry_on.split(",")) if retry_on else (), **policy))
    made = create(rules, head(headers), cluster or FakeCluster(), random.Random(1))
    assert made is not None
    return made


@pytest.mark.parametrize(
    ("retry_on", "answer", "expected"),
    [
        ("5xx", response(500), RETRY),
        ("5xx", response(599), RETRY),
        ("5xx", response(499), NO),
        ("5xx", response(200), NO),
        ("gateway-error", response(502), RETRY),
        ("gateway-error", response(503), RETRY),
        ("gateway-error", response(504), RETRY),
        ("gateway-error", response(500), NO),
        ("gateway-error", response(505), NO),
        ("retriable-4xx", response(409), RETRY),
        ("retriable-4xx", response(404), NO),
        ("connect-failure,refused-stream,reset", response(503), NO),
        ("unheard-of", response(500), None),
        ("unheard-of,5xx", response(500), RETRY),
        (" 5xx", response(500), RETRY),
        ("envoy-ratelimited", response(429, x_envoy_ratelimited="true"), RETRY),
        ("envoy-ratelimited", response(429), NO),
        ("5xx", response(503, x_envoy_ratelimited="true"), NO),
        ("5xx,envoy-ratelimited", response(503, x_envoy_ratelimited="true"), RETRY),
        ("cancelled", response(200, grpc_status="1"), RETRY),
        ("deadline-exceeded", response(200, grpc_status="4"), RETRY),
        ("resource-exhausted", response(200, grpc_status="8"), RETRY),
        ("internal", response(200, grpc_status="13"), RETRY),
        ("unavailable", response(200, grpc_status="14"), RETRY),
        ("unavailable", response(200, grpc_status="13"), NO),
        ("unavailable", response(200), NO),
        ("unavailable", response(503), NO),
    ],
)
def test_a_response_is_retried_if_the_policy_speaks_of_it(
    retry_on: str, answer: ResponseHead, expected: RetryDecision | None
) -> None:
    rules = RetryRules(RetryPolicy(retry_on=tuple(retry_on.split(","))))
    made = create(rules, head(), FakeCluster(), random.Random(1))
    assert (made.on_response(answer) if made is not None else None) is expected


REFUSED = ResetReason.REMOTE_CONNECTION_FAILURE
CONNECT = (ResetReason.LOCAL_CONNECTION_FAILURE, REFUSED, ResetReason.CONNECTION_TIMEOUT)


@pytest.mark.parametrize(
    ("retry_on", "reasons", "sent", "expected"),
    [
        ("connect-failure", CONNECT, False, RETRY),
        ("connect-failure", (ResetReason.CONNECTION_TERMINATION, ResetReason.REMOTE_RESET), True, NO),
        ("reset", (*CONNECT, ResetReason.CONNECTION_TERMINATION, ResetReason.LOCAL_RESET), True, RETRY),
        ("5xx", (*CONNECT, ResetReason.CONNECTION_TERMINATION, ResetReason.PROTOCOL_ERROR), True, RETRY),
        ("gateway-error", (*CONNECT, ResetReason.REMOTE_RESET), True, RETRY),
        ("reset-before-request", CONNECT, False, RETRY),
        ("reset-before-request", (ResetReason.CONNECTION_TERMINATION,), False, RETRY),
        ("reset-before-request", (ResetReason.CONNECTION_TERMINATION,), True, NO),
        ("refused-stream", (ResetReason.REMOTE_REFUSED,), True, RETRY),
        ("refused-stream", (ResetReason.REMOTE_RESET, REFUSED), True, NO),
        ("retriable-4xx,retriable-status-codes", (REFUSED,), False, NO),
        ("5xx,reset,connect-failure,gateway-error", (ResetReason.OVERFLOW,), False, NO),
    ],
)
def test_a_reset_is_retried_if_the_policy_speaks_of_it(
    retry_on: str, reasons: tuple[ResetReason, ...], sent: bool, expected: RetryDecision
) -> None:
    assert {state(retry_on).on_reset(reason, sent=sent) for reason in reasons} == {expected}


@pytest.mark.parametrize(("retry_on", "expected"), [("5xx", RETRY), ("reset", RETRY), ("connect-failure", NO)])
def test_a_try_that_took_too_long_counts_as_a_reset(retry_on: str, expected: RetryDecision) -> None:
    assert state(retry_on).on_timeout() is expected


def test_status_codes_and_headers_of_the_policy() -> None:
    codes = state("retriable-status-codes", retriable_status_codes=(503, 418), num_retries=9)
    assert codes.on_response(response(418)) is RETRY
    assert codes.on_response(response(500)) is NO
    matches = (HeaderMatch("x-retry", StringMatch(StringMatchKind.EXACT, "yes")),)
    by_header = state("retriable-headers", retriable_headers=matches, num_retries=9)
    assert by_header.on_response(response(200, x_retry="yes")) is RETRY
    assert by_header.on_response(response(200, x_retry="no")) is NO
    assert state("5xx", retriable_status_codes=(418,)).on_response(response(418)) is NO


def test_only_requests_with_a_listed_header_are_retried() -> None:
    policy = {"retriable_request_headers": (HeaderMatch("x-idempotent"),), "num_retries": 9}
    assert state("5xx", headers={"x-idempotent": "1"}, **policy).on_response(response(500)) is RETRY
    rules = RetryRules(RetryPolicy(retry_on=("5xx",), **policy))
    for headers in ({}, {"x-envoy-retry-on": "5xx"}):
        assert create(rules, head(headers), FakeCluster(), random.Random(1)) is None


@pytest.mark.parametrize(
    ("headers", "answer", "expected"),
    [
        ({"x-envoy-retry-on": "5xx"}, response(500), RETRY),
        ({"x-envoy-retry-on": "retriable-4xx, 5xx"}, response(500), RETRY),
        ({"x-envoy-retry-grpc-on": "internal"}, response(200, grpc_status="13"), RETRY),
        ({"x-envoy-retry-on": "5xx", "x-envoy-max-retries": "0"}, response(500), LIMIT),
        ({"x-envoy-retry-on": "5xx", "x-envoy-max-retries": "many"}, response(500), RETRY),
        ({"x-envoy-retry-on": "retriable-status-codes", "x-envoy-retriable-status-codes": "418, 9,x"}, response(418), RETRY),
        ({"x-envoy-retry-on": "retriable-headers", "x-envoy-retriable-header-names": "X-A, x-b"}, response(200, x_a="1"), RETRY),
        ({"x-envoy-retry-on": "retriable-headers", "x-envoy-retriable-header-names": "x-a"}, response(200), NO),
        ({"x-envoy-retriable-status-codes": "418"}, response(418), None),
        ({"x-envoy-retry-on": "unavailable"}, response(200, grpc_status="14"), None),
        ({"x-envoy-retry-grpc-on": "5xx"}, response(500), None),
    ],
)  # fmt: skip
def test_a_request_may_ask_for_retries_itself(
    headers: dict[str, str], answer: ResponseHead, expected: RetryDecision | None
) -> None:
    request = head({**headers, "x-envoy-hedge-on-per-try-timeout": "true", "x-other": "1"})
    made = create(None, request, FakeCluster(), random.Random(1))
    assert (made.on_response(answer) if made is not None else None) is expected
    assert request.fields == [(b"x-other", b"1")]


def test_the_headers_add_to_the_policy_and_their_count_wins() -> None:
    asked = state("connect-failure", headers={"x-envoy-retry-on": "5xx", "x-envoy-max-retries": "5"}, num_retries=1)
    assert asked.remaining == 5
    assert asked.on_reset(REFUSED, sent=False) is RETRY
    assert asked.on_response(response(500)) is RETRY


def test_no_policy_and_no_headers_is_no_state() -> None:
    cluster: Any = FakeCluster()
    assert create(None, head(), cluster, random.Random(1)) is None
    assert create(RetryRules(RetryPolicy()), head(), cluster, random.Random(1)) is None


def test_a_request_is_retried_so_often_and_the_outcome_is_counted() -> None:
    cluster = FakeCluster()
    tried = state("5xx", cluster=cluster, num_retries=2)
    assert [tried.on_response(response(500)) for _ in range(3)] == [RETRY, RETRY, LIMIT]
    assert cluster.stats.upstream_rq_retry == 2
    assert cluster.stats.upstream_rq_retry_limit_exceeded == 1
    assert cluster.stats.upstream_rq_retry_success == 0
    lucky = state("5xx", cluster=cluster)
    assert [lucky.on_response(response(500)), lucky.on_response(response(200))] == [RETRY, NO]
    assert cluster.stats.upstream_rq_retry_success == 1
    assert state("5xx", cluster=cluster).on_response(response(200)) is NO
    assert cluster.stats.upstream_rq_retry_success == 1


def test_so_many_retries_may_be_active_at_once() -> None:
    cluster = FakeCluster(Breakers(max_retries=1))
    first, second = state("5xx", cluster=cluster, num_retries=3), state("5xx", cluster=cluster, num_retries=3)
    assert first.on_response(response(500)) is RETRY
    assert second.on_response(response(500)) is OVERFLOW
    assert cluster.stats.upstream_rq_retry_overflow == 1
    assert second.remaining == 2
    assert first.on_response(response(500)) is RETRY  # its own place
    first.close()
    first.close()
    assert second.on_response(response(500)) is RETRY


def test_a_budget_is_a_share_of_what_is_active_but_never_below_its_minimum() -> None:
    cluster = FakeCluster(Breakers(max_requests=None, retry_budget_percent=20.0, retry_budget_min=1))
    breaker = cluster.breakers[0]
    states = [state("5xx", cluster=cluster) for _ in range(4)]
    assert breaker.requests is not None
    assert states[0].on_response(response(500)) is RETRY
    assert states[1].on_response(response(500)) is OVERFLOW
    breaker.requests.add(15)
    assert breaker.pending is not None
    assert states[2].on_response(response(500)) is RETRY
    assert breaker.pending.is_open() is False


def test_the_back_off_doubles_up_to_ten_times_its_base() -> None:
    class Always:
        def random(self) -> float:
            return 0.5

    cluster = FakeCluster()
    rules = RetryRules(RetryPolicy(retry_on=("5xx",)))
    tried = create(rules, head(), cluster, Always())
    assert tried is not None
    delays = [round(tried.back_off_s(None) * 2000) for _ in range(6)]
    assert delays == [25, 50, 100, 200, 250, 250]
    assert cluster.stats.upstream_rq_retry_backoff_exponential == 6
    capped = RetryRules(RetryPolicy(retry_on=("5xx",), back_off=RetryBackOff(0.1, 0.15)))
    tried = create(capped, head(), cluster, Always())
    assert tried is not None
    assert [round(tried.back_off_s(None) * 2000) for _ in range(3)] == [100, 150, 150]


@pytest.mark.parametrize(
    ("headers", "at_least_s", "at_most_s"),
    [
        ({"retry-after": "2"}, 2, 3),
        ({"x-reset": "1000010"}, 10, 15),
        ({"retry-after": "soon", "x-reset": "1000010"}, 10, 15),
        ({"retry-after": "31", "x-reset": "1000010"}, 10, 15),
        ({"retry-after": "31"}, 0, 0.025),
        ({"x-reset": "999999"}, 0, 0.025),
        ({}, 0, 0.025),
    ],
)
def test_a_peer_may_say_when_to_come_back(headers: dict[str, str], at_least_s: float, at_most_s: float) -> None:
    limited = RateLimitedBackOff((("Retry-After", False), ("x-reset", True)), max_s=30)
    for seed in range(20):
        rules = RetryRules(RetryPolicy(retry_on=("5xx",), rate_limited_back_off=limited))
        cluster = FakeCluster()
        made = create(rules, head(), cluster, random.Random(seed))
        assert made is not None
        answer = ResponseHead(503, fields_of(headers.items()))
        assert made.on_response(answer) is RETRY
        assert at_least_s <= made.back_off_s(answer) <= at_most_s
        assert cluster.stats.upstream_rq_retry_backoff_ratelimited == (at_least_s > 0)
