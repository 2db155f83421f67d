"""How long a request may take, by route, by header, by grpc-timeout."""

import pytest

from mosn_xds.data.codec.head import RequestHead, Version
from mosn_xds.data.proxy.timeouts import TimeoutRules, format_grpc_timeout, parse_grpc_timeout, refresh_expected
from mosn_xds.spec.route import RetryPolicy, RouteAction

EXPECTED = b"x-envoy-expected-rq-timeout-ms"


def head(*fields: tuple[bytes, bytes]) -> RequestHead:
    return RequestHead(b"GET", b"http", b"a", b"/", Version.HTTP11, list(fields))


def apply(request: RequestHead, action: RouteAction, policy: RetryPolicy | None = None, *, grpc=False, respect=False):
    if grpc:
        request.fields.append((b"content-type", b"application/grpc"))
    index = dict(request.fields)
    return TimeoutRules(action, policy).apply(request, index, suppress=False, respect_expected=respect)


def test_the_route_decides_and_the_upstream_hears_it():
    request = head()
    assert apply(request, RouteAction(timeout_s=2.5)).whole_s == 2.5
    assert request.get(EXPECTED) == b"2500"


def test_no_limit_is_not_announced():
    request = head()
    assert apply(request, RouteAction(timeout_s=0)).whole_s == 0
    assert request.get(EXPECTED) is None


def test_a_try_as_long_as_the_whole_is_no_limit_of_its_own():
    assert apply(head(), RouteAction(timeout_s=1), RetryPolicy(per_try_timeout_s=1)).per_try_s == 0
    request = head()
    assert apply(request, RouteAction(timeout_s=1), RetryPolicy(per_try_timeout_s=0.25)).per_try_s == 0.25
    assert request.get(EXPECTED) == b"250"


def test_headers_go_before_the_route_and_are_consumed():
    request = head(
        (b"x-envoy-upstream-rq-timeout-ms", b"700"),
        (b"x-envoy-upstream-rq-per-try-timeout-ms", b"100"),
        (b"x-envoy-upstream-rq-timeout-alt-response", b"1"),
    )
    limits = apply(request, RouteAction())
    assert (limits.whole_s, limits.per_try_s, limits.alternative) == (0.7, 0.1, True)
    assert request.fields == [(EXPECTED, b"100")]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"1S", 1),
        (b"250m", 0.25),
        (b"2M", 120),
        (b"1H", 3600),
        (b"8u", 0.001),
        (b"1n", 0.001),
        (b"250000u", 0.25),
        (b"x", None),
        (b"123456789S", None),
    ],
)
def test_grpc_timeout_units(value, seconds):
    assert parse_grpc_timeout(value) == seconds


@pytest.mark.parametrize(
    ("most_s", "asked", "whole_s"),
    [(0.0, b"300m", 0.3), (0.2, b"300m", 0.2), (0.2, None, 0.2), (0.0, None, 0.0)],
)
def test_grpc_timeout_with_a_cap(most_s, asked, whole_s):
    fields = [(b"grpc-timeout", asked)] if asked else []
    action = RouteAction(timeout_s=9, grpc_timeout_max_s=most_s)
    assert apply(head(*fields), action, grpc=True).whole_s == whole_s


def test_a_retry_announces_what_is_left():
    request = head()
    limits = apply(request, RouteAction(timeout_s=1))
    refresh_expected(request, limits, 0.75)
    assert request.get(EXPECTED) == b"250"


@pytest.mark.parametrize(
    ("limit_s", "text"),
    [
        (0, b"0m"),
        (0.25, b"250m"),
        (99999, b"99999000m"),
        (100000, b"100000S"),
        (2e8, b"3333333M"),
        (1e13, b"99999999H"),
    ],
)
def test_grpc_timeouts_are_written_in_the_finest_unit_that_fits(limit_s, text):
    assert format_grpc_timeout(limit_s) == text


@pytest.mark.parametrize(
    ("offset_s", "asked", "whole_s", "told"),
    [(0.5, b"1S", 0.5, b"500m"), (0.5, b"300m", 0.3, b"300m"), (0.5, None, 3.0, b"3000m"), (0.0, b"1H", 3.0, b"3000m")],
)
def test_max_grpc_timeout_replaces_the_routes_and_is_told_upstream(offset_s, asked, whole_s, told):
    request = head(*([(b"grpc-timeout", asked)] if asked else []))
    action = RouteAction(timeout_s=9, grpc_timeout_max_s=3.0, grpc_timeout_offset_s=offset_s)
    limits = apply(request, action, grpc=True)
    assert (limits.whole_s, limits.stream_s) == (whole_s, None)
    assert request.get(b"grpc-timeout") == told


@pytest.mark.parametrize(
    ("asked", "stream_s", "told"),
    [(b"1S", 0.5, b"1000m"), (b"100S", 2.5, b"3000m"), (b"1n", 0.001, b"1m"), (b"x", 4.0, b"x"), (None, 4.0, None)],
)
def test_grpc_timeout_header_max_bounds_the_stream(asked, stream_s, told):
    request = head(*([(b"grpc-timeout", asked)] if asked else []))
    action = RouteAction(
        timeout_s=9, max_stream_duration_s=4.0, grpc_timeout_max_s=3.0, grpc_timeout_offset_s=0.5,
        grpc_timeout_caps_stream=True,
    )  # fmt: skip
    limits = apply(request, action, grpc=True)
    assert (limits.whole_s, limits.stream_s) == (0, stream_s)
    assert request.get(b"grpc-timeout") == told
