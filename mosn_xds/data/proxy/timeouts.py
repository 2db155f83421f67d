"""How long a forwarded request may take (Envoy's `FilterUtility::finalTimeout`), and the headers that say so upstream.

Route, request headers (which the connection manager strips from external clients) and grpc-timeout have a say. A try may
take as long as `per_try`, if that is less than what the whole request may take. 0 is "no limit".

What becomes of grpc-timeout is Envoy's history: with the deprecated `max_grpc_timeout` it replaces the route's time-out
(FilterUtility), with `max_stream_duration.grpc_timeout_header_max` it bounds the stream, whatever the content type
(ActiveStream::refreshDurationTimeout). Either way a gRPC upstream hears of the limit that holds.
"""

from collections.abc import Mapping
from math import ceil
from typing import Final, NamedTuple

from mosn_xds.data.codec.grpc import is_grpc
from mosn_xds.data.codec.head import RequestHead
from mosn_xds.spec.route import RetryPolicy, RouteAction

_TIMEOUT: Final = b"x-envoy-upstream-rq-timeout-ms"
_TRY_TIMEOUT: Final = b"x-envoy-upstream-rq-per-try-timeout-ms"
_ALTERNATIVE: Final = b"x-envoy-upstream-rq-timeout-alt-response"
_EXPECTED: Final = b"x-envoy-expected-rq-timeout-ms"
_GRPC_TIMEOUT: Final = b"grpc-timeout"
_CONTENT_TYPE: Final = b"content-type"
_ASKED: Final = frozenset((_TIMEOUT, _TRY_TIMEOUT, _ALTERNATIVE, _EXPECTED))

_GRPC_UNITS_MS: Final = {0x48: 3_600_000, 0x4D: 60_000, 0x53: 1000, 0x6D: 1, 0x75: 1e-3, 0x6E: 1e-6}
_MOST_GRPC_DIGITS: Final = 99_999_999
_AT_ONCE_S: Final = 0.001
"""What is left of a grpc-timeout that has been used up."""


class Timeouts(NamedTuple):
    """Of one request; `alternative`: a time-out is answered with 204."""

    whole_s: float
    per_try_s: float
    per_try_idle_s: float
    stream_s: float | None
    """Bound on the whole stream from its start: 0 for none, None when the route says nothing of it."""
    alternative: bool


def parse_grpc_timeout(value: bytes) -> float | None:
    """Seconds, rounded up to milliseconds; None for what is no grpc-timeout (gRPC over HTTP/2: at most 8 digits and a unit)."""
    digits, unit = value[:-1], value[-1:]
    if not digits.isdigit() or len(digits) > 8 or unit[0] not in _GRPC_UNITS_MS:
        return None
    return ceil(int(digits) * _GRPC_UNITS_MS[unit[0]]) / 1000


def format_grpc_timeout(limit_s: float) -> bytes:
    """A grpc-timeout, in milliseconds where that takes at most 8 digits (Envoy's `Common::toGrpcTimeout`)."""
    count = round(limit_s * 1000)
    if count <= _MOST_GRPC_DIGITS:
        return b"%dm" % count
    count //= 1000
    for unit in (b"S", b"M"):
        if count <= _MOST_GRPC_DIGITS:
            return b"%d%s" % (count, unit)
        count //= 60
    return b"%dH" % min(count, _MOST_GRPC_DIGITS)


class TimeoutRules:
    """A route's share of it."""

    __slots__ = (
        "_action", "_heeds_grpc", "_plain", "_plain_expected", "_replaces", "_try_idle_s", "_try_s", "_whole_s",
    )  # fmt: skip

    def __init__(self, action: RouteAction, policy: RetryPolicy | None) -> None:
        self._action = action
        # With max_stream_duration on the route, Envoy leaves the route's own time-out out (`usingNewTimeouts`).
        bounded = action.max_stream_duration_s is not None or action.grpc_timeout_caps_stream
        self._heeds_grpc = bounded or action.grpc_timeout_max_s is not None
        self._replaces = action.grpc_timeout_max_s is not None and not bounded
        self._whole_s = 0.0 if bounded else action.timeout_s
        self._try_s = (policy.per_try_timeout_s or 0.0) if policy is not None else 0.0
        self._try_idle_s = (policy.per_try_idle_timeout_s or 0.0) if policy is not None else 0.0
        self._plain = self._limit(self._whole_s, self._try_s, action.max_stream_duration_s, alternative=False)
        expected_s = self._plain.per_try_s or self._plain.whole_s
        self._plain_expected = b"%d" % round(expected_s * 1000) if expected_s else b""

    def __repr__(self) -> str:
        return f"<TimeoutRules {self._plain.whole_s} s, try {self._plain.per_try_s} s>"

    def _limit(self, whole_s: float, try_s: float, stream_s: float | None, *, alternative: bool) -> Timeouts:
        if whole_s and try_s >= whole_s:
            try_s = 0.0
        return Timeouts(whole_s, try_s, self._try_idle_s, stream_s, alternative)

    def apply(
        self, head: RequestHead, index: Mapping[bytes, bytes], *, suppress: bool, respect_expected: bool
    ) -> Timeouts:
        """The time-outs of a request; edits the headers that carry them. `index` is a mapping of its fields, by name."""
        heeds_grpc = self._heeds_grpc and (_GRPC_TIMEOUT in index or is_grpc(index.get(_CONTENT_TYPE)))
        if not heeds_grpc and _ASKED.isdisjoint(index):
            expected = self._plain_expected
            if expected and not suppress:
                head.fields.append((_EXPECTED, expected))
            return self._plain
        whole_s, stream_s = self._whole_s, self._action.max_stream_duration_s
        grpc = heeds_grpc and is_grpc(index.get(_CONTENT_TYPE))
        if self._replaces and grpc:
            whole_s = self._grpc_limit(index.get(_GRPC_TIMEOUT))
        elif heeds_grpc and not self._replaces:
            stream_s = self._limit_stream(head, index.get(_GRPC_TIMEOUT), stream_s, announce=grpc)
        asked = _milliseconds(index.get(_TIMEOUT))
        if asked is None and respect_expected:
            asked = _milliseconds(index.get(_EXPECTED))
        if asked is not None:
            whole_s = asked
        try_asked = _milliseconds(index.get(_TRY_TIMEOUT))
        limits = self._limit(
            whole_s, self._try_s if try_asked is None else try_asked, stream_s, alternative=_ALTERNATIVE in index
        )
        head.fields[:] = [field for field in head.fields if field[0] not in _ASKED]
        expected_s = limits.per_try_s or limits.whole_s
        if expected_s:
            if not suppress:
                head.add(_EXPECTED, b"%d" % round(expected_s * 1000))
            if self._replaces and grpc:
                head.set(_GRPC_TIMEOUT, format_grpc_timeout(expected_s))
        return limits

    def _grpc_limit(self, value: bytes | None) -> float:
        """By the deprecated fields: what the client asks for, less the offset where that leaves something."""
        action = self._action
        asked_s = (parse_grpc_timeout(value) if value else None) or 0.0
        if action.grpc_timeout_offset_s < asked_s:
            asked_s -= action.grpc_timeout_offset_s
        most_s = action.grpc_timeout_max_s
        if most_s and (not asked_s or asked_s > most_s):
            return most_s
        return asked_s

    def _limit_stream(
        self, head: RequestHead, value: bytes | None, stream_s: float | None, *, announce: bool
    ) -> float | None:
        """By `max_stream_duration`: what the client asks for goes before the route's own limit."""
        action = self._action
        asked_s = parse_grpc_timeout(value) if value else None
        if asked_s is None or action.grpc_timeout_max_s is None:
            return stream_s
        if action.grpc_timeout_max_s:
            asked_s = min(asked_s, action.grpc_timeout_max_s)
        if announce:
            head.set(_GRPC_TIMEOUT, format_grpc_timeout(asked_s))
        return max(_AT_ONCE_S, asked_s - action.grpc_timeout_offset_s)


def refresh_expected(head: RequestHead, limits: Timeouts, elapsed_s: float) -> None:
    """A retry has less time left than the first try had; say so in the header where it is."""
    if head.get(_EXPECTED) is None:
        return
    expected_s = limits.per_try_s or limits.whole_s
    if limits.whole_s:
        expected_s = min(expected_s, max(0.0, limits.whole_s - elapsed_s))
    head.set(_EXPECTED, b"%d" % round(expected_s * 1000))


def _milliseconds(value: bytes | None) -> float | None:
    return int(value) / 1000 if value is not None and value.isdigit() else None
