"""How long a forwarded request may take (Envoy's `FilterUtility::finalTimeout`), and the header that says so upstream.

Route, request headers (which the connection manager strips from external clients) and grpc-timeout have a say. A try may
take as long as `per_try`, if that is less than what the whole request may take. 0 is "no limit".
"""

from collections.abc import Mapping
from typing import NamedTuple

from mosn_xds.data.codec.head import RequestHead
from mosn_xds.data.proxy.local_reply import is_grpc
from mosn_xds.spec.route import RetryPolicy, RouteAction

_TIMEOUT = b"x-envoy-upstream-rq-timeout-ms"
_TRY_TIMEOUT = b"x-envoy-upstream-rq-per-try-timeout-ms"
_ALTERNATIVE = b"x-envoy-upstream-rq-timeout-alt-response"
_EXPECTED = b"x-envoy-expected-rq-timeout-ms"
_GRPC_TIMEOUT = b"grpc-timeout"
_ASKED = frozenset((_TIMEOUT, _TRY_TIMEOUT, _ALTERNATIVE, _EXPECTED))

_GRPC_UNITS_S = {0x48: 3600.0, 0x4D: 60.0, 0x53: 1.0, 0x6D: 1e-3, 0x75: 1e-6, 0x6E: 1e-9}


class Timeouts(NamedTuple):
    """Of one request; `alternative`: a time-out is answered with 204."""

    whole_s: float
    per_try_s: float
    per_try_idle_s: float
    stream_s: float | None
    """Bound on the whole stream from its start, None when nothing sets one."""
    alternative: bool


def parse_grpc_timeout(value: bytes) -> float | None:
    """Seconds; None for what is no grpc-timeout (gRPC over HTTP/2: at most 8 digits and a unit)."""
    digits, unit = value[:-1], value[-1:]
    if not digits.isdigit() or len(digits) > 8 or unit[0] not in _GRPC_UNITS_S:
        return None
    return int(digits) * _GRPC_UNITS_S[unit[0]]


class TimeoutRules:
    """A route's share of it."""

    __slots__ = ("_action", "_heeds_grpc", "_plain", "_plain_expected", "_try_idle_s", "_try_s", "_whole_s")

    def __init__(self, action: RouteAction, policy: RetryPolicy | None) -> None:
        self._action = action
        self._heeds_grpc = action.grpc_timeout_max_s is not None
        # With max_stream_duration on the route, Envoy leaves the route's own time-out out (`usingNewTimeouts`).
        bounded = action.max_stream_duration_s is not None or action.grpc_timeout_caps_stream
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
        grpc = self._heeds_grpc and is_grpc(index.get(b"content-type"))
        if not grpc and _ASKED.isdisjoint(index):
            expected = self._plain_expected
            if expected and not suppress:
                head.fields.append((_EXPECTED, expected))
            return self._plain
        action = self._action
        whole_s, stream_s = self._whole_s, action.max_stream_duration_s
        if grpc and action.grpc_timeout_max_s is not None:
            asked_s = self._grpc_limit(index.get(_GRPC_TIMEOUT), action.grpc_timeout_max_s)
            if action.grpc_timeout_caps_stream:
                stream_s = asked_s if asked_s is not None else stream_s
            else:
                whole_s = asked_s or 0.0
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
        if expected_s and not suppress:
            head.add(_EXPECTED, b"%d" % round(expected_s * 1000))
        return limits

    def _grpc_limit(self, value: bytes | None, most_s: float) -> float | None:
        asked_s = parse_grpc_timeout(value) if value else None
        if asked_s is None:
            return most_s or None
        asked_s = max(0.0, asked_s - self._action.grpc_timeout_offset_s) if asked_s else asked_s
        if most_s and (not asked_s or asked_s > most_s):
            return most_s
        return asked_s


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
