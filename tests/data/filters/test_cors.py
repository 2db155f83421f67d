"""The CORS filter; the answers are those of Envoy 1.40 to the same requests."""

import pytest

from mosn_xds.data.codec.head import Fields
from mosn_xds.data.filters.cors import CorsFilter, CorsStats
from mosn_xds.data.filters.harness import FilterHarness
from mosn_xds.spec.common import Fraction, StringMatch, StringMatchKind
from mosn_xds.spec.filters import CorsPolicy

ORIGINS = (StringMatch(StringMatchKind.PREFIX, "http://ok"),)
FULL = CorsPolicy(ORIGINS, "GET,PUT", "x-a", "x-b", "10", allow_credentials=True, allow_private_network=True)
OK: Fields = [(b"origin", b"http://ok.x")]
BAD: Fields = [(b"origin", b"http://bad.x")]
ASKS: Fields = [(b"access-control-request-method", b"PUT")]
PRIVATE: Fields = [(b"access-control-request-private-network", b"true")]
NEVER = Fraction(0)


class Bench:
    def __init__(self, policy: CorsPolicy | None) -> None:
        self.stats = CorsStats("http.test.cors.")
        cors = CorsFilter(self.stats)
        cors.name = "cors"
        self.harness = FilterHarness(cors, per_filter={} if policy is None else {"cors": policy})


def test_preflight_is_answered() -> None:
    stream = Bench(FULL).harness.request(b"OPTIONS", fields=OK + ASKS + PRIVATE)
    assert stream.answer is not None
    assert stream.answer.details == "cors_response"
    head, body = stream.respond()
    assert (head.status, body) == (200, b"")
    assert head.fields == [
        (b"access-control-allow-origin", b"http://ok.x"),
        (b"access-control-allow-credentials", b"true"),
        (b"access-control-allow-methods", b"GET,PUT"),
        (b"access-control-allow-headers", b"x-a"),
        (b"access-control-max-age", b"10"),
        (b"access-control-allow-private-network", b"true"),
        (b"access-control-expose-headers", b"x-b"),
    ]


def test_response_to_an_allowed_origin_is_marked() -> None:
    stream = Bench(FULL).harness.request(fields=OK)
    assert stream.forwarded
    head, _ = stream.respond(fields=[(b"access-control-allow-origin", b"upstream says"), (b"a", b"b")])
    assert head.fields == [
        (b"access-control-allow-origin", b"http://ok.x"),
        (b"a", b"b"),
        (b"access-control-allow-credentials", b"true"),
        (b"access-control-expose-headers", b"x-b"),
    ]


@pytest.mark.parametrize(
    ("method", "fields"),
    [(b"GET", BAD), (b"OPTIONS", BAD + ASKS), (b"GET", []), (b"GET", [(b"origin", b"")])],
)
def test_others_pass_unmarked(method: bytes, fields: Fields) -> None:
    stream = Bench(FULL).harness.request(method, fields=fields)
    assert stream.forwarded
    assert stream.respond()[0].fields == []


def test_options_without_a_method_to_ask_for_is_no_preflight() -> None:
    stream = Bench(FULL).harness.request(b"OPTIONS", fields=OK)
    assert stream.forwarded
    assert stream.respond()[0].get(b"access-control-allow-origin") == b"http://ok.x"


def test_preflight_of_a_wrong_origin_may_be_kept_from_the_upstream() -> None:
    policy = CorsPolicy(ORIGINS, "GET", forward_not_matching_preflights=False)
    stream = Bench(policy).harness.request(b"OPTIONS", fields=BAD + ASKS)
    assert not stream.forwarded
    head, _ = stream.respond()
    assert (head.status, head.fields) == (200, [(b"access-control-allow-methods", b"GET")])
    assert Bench(policy).harness.request(fields=BAD).forwarded


def test_star_allows_everybody() -> None:
    policy = CorsPolicy((StringMatch(StringMatchKind.EXACT, "*"),))
    assert Bench(policy).harness.request(b"OPTIONS", fields=BAD + ASKS).answer is not None


def test_without_a_policy_nothing_happens() -> None:
    bench = Bench(None)
    stream = bench.harness.request(b"OPTIONS", fields=OK + ASKS)
    assert stream.forwarded
    assert stream.respond()[0].fields == []


@pytest.mark.parametrize(
    ("policy", "valid", "invalid"),
    [
        (FULL, 1, 1),
        (CorsPolicy(ORIGINS, filter_enabled=NEVER), 0, 0),
        (CorsPolicy(ORIGINS, filter_enabled=NEVER, shadow_enabled=Fraction(100)), 1, 1),
    ],
)
def test_origins_are_counted_in_shadow_mode_too(policy: CorsPolicy, valid: int, invalid: int) -> None:
    bench = Bench(policy)
    marked = bench.harness.request(fields=OK).respond()[0].fields
    bench.harness.request(fields=BAD)
    assert (bench.stats.origin_valid, bench.stats.origin_invalid) == (valid, invalid)
    assert bool(marked) == (policy.filter_enabled is None)


def test_enabled_for_a_share() -> None:
    bench = Bench(CorsPolicy(ORIGINS, filter_enabled=Fraction(50)))
    assert bench.harness.request(b"OPTIONS", fields=OK + ASKS, draws=[49]).answer is not None
    assert bench.harness.request(b"OPTIONS", fields=OK + ASKS, draws=[50]).forwarded
