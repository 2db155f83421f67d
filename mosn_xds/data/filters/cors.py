"""envoy.filters.http.cors: answers preflight requests and marks responses to requests of allowed origins.

The policy is the route's; without one the filter does nothing. Fetch standard, CORS protocol; Envoy:
source/extensions/filters/http/cors.
"""

from typing import Final

from mosn_xds.base.stats import StatGroup
from mosn_xds.data.codec.head import Fields, ResponseHead
from mosn_xds.data.filters.api import FilterStream, Reply, StreamFilter
from mosn_xds.data.filters.per_route import PerRoute
from mosn_xds.data.match.strings import compile_string
from mosn_xds.spec.common import Fraction
from mosn_xds.spec.filters import CorsPolicy

_ORIGIN: Final = b"origin"
_REQUEST_METHOD: Final = b"access-control-request-method"
_REQUEST_PRIVATE_NETWORK: Final = b"access-control-request-private-network"
_ALLOW_ORIGIN: Final = b"access-control-allow-origin"
_ALLOW_CREDENTIALS: Final = b"access-control-allow-credentials"
_EXPOSE_HEADERS: Final = b"access-control-expose-headers"
_DETAILS: Final = "cors_response"


class CorsStats(StatGroup):
    """``http.PREFIX.cors.``"""

    COUNTERS = ("origin_invalid", "origin_valid")
    __slots__ = COUNTERS

    origin_invalid: int
    origin_valid: int


class _Policy:
    """A route's policy, compiled. Raises ConfigError."""

    __slots__ = ("_origins", "on_preflight", "on_response", "spec")

    def __init__(self, spec: CorsPolicy) -> None:
        self.spec = spec
        self._origins = tuple(map(compile_string, spec.allow_origins))
        credentials = [(_ALLOW_CREDENTIALS, b"true")] if spec.allow_credentials else []
        self.on_preflight: Fields = [
            *credentials,
            *_given(b"access-control-allow-methods", spec.allow_methods),
            *_given(b"access-control-allow-headers", spec.allow_headers),
            *_given(b"access-control-max-age", spec.max_age),
        ]
        self.on_response: Fields = [*credentials, *_given(_EXPOSE_HEADERS, spec.expose_headers)]

    def allows(self, origin: bytes) -> bool:
        return any(matches(b"*") or matches(origin) for matches in self._origins)


class CorsFilter(StreamFilter):
    """One CORS filter of a chain."""

    def __init__(self, stats: CorsStats) -> None:
        self._stats = stats
        self._per_route: PerRoute[CorsPolicy, _Policy] = PerRoute(_Policy)

    def on_request(self, stream: FilterStream, end: bool) -> Reply | None:
        spec = stream.filter_config(self.name)
        if not isinstance(spec, CorsPolicy):
            return None
        head = stream.request
        origin = head.get(_ORIGIN)
        if not origin:
            return None
        enabled = spec.filter_enabled is None or _hits(stream, spec.filter_enabled)
        if not enabled and not (spec.shadow_enabled is not None and _hits(stream, spec.shadow_enabled)):
            return None
        policy = self._per_route.of(spec)
        allowed = policy.allows(origin)
        if allowed:
            self._stats.origin_valid += 1
        else:
            self._stats.origin_invalid += 1
        if not enabled:
            return None
        if allowed:
            stream.state[self] = (origin, policy)
        elif spec.forward_not_matching_preflights:
            return None
        if head.method != b"OPTIONS" or not head.get(_REQUEST_METHOD):
            return None
        fields = [(_ALLOW_ORIGIN, origin), *policy.on_preflight] if allowed else list(policy.on_preflight)
        if spec.allow_private_network and head.get(_REQUEST_PRIVATE_NETWORK) == b"true":
            fields.append((b"access-control-allow-private-network", b"true"))
        return Reply(200, details=_DETAILS, fields=fields)

    def on_response(self, stream: FilterStream, head: ResponseHead, end: bool) -> None:
        noted = stream.state.get(self)
        if noted is None:
            return
        origin, policy = noted
        head.set(_ALLOW_ORIGIN, origin)
        for name, value in policy.on_response:
            head.set(name, value)

    def __repr__(self) -> str:
        return f"<CorsFilter {self.name}>"


def _given(name: bytes, value: str) -> Fields:
    return [(name, value.encode())] if value else []


def _hits(stream: FilterStream, share: Fraction) -> bool:
    return share.numerator >= share.denominator or stream.random_below(share.denominator) < share.numerator
