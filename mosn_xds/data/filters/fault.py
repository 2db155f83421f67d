"""envoy.filters.http.fault: requests are delayed, aborted, or both, by chance or by what their headers ask for.

A delay comes first and an abort may follow it. One stream counts as one active fault however many it suffers; above
`max_active_faults` (over all workers) no further stream is hurt. Envoy: source/extensions/filters/http/fault.
"""

from mosn_xds.base.errors import ResponseFlag
from mosn_xds.base.limits import LimitCell
from mosn_xds.base.stats import StatGroup
from mosn_xds.data.codec.head import RequestHead
from mosn_xds.data.filters.api import PAUSE, FilterStream, Reply, StreamFilter, Verdict
from mosn_xds.data.filters.per_route import PerRoute
from mosn_xds.data.match.headers import compile_header
from mosn_xds.spec.common import Fraction
from mosn_xds.spec.filters import FaultAbort, FaultDelay
from mosn_xds.spec.filters import FaultFilter as FaultSpec

_DI = int(ResponseFlag.DI)
_FI = int(ResponseFlag.FI)
_BODY = b"fault filter abort"
_DETAILS = "fault_filter_abort"

_CLUSTER = b"x-envoy-downstream-service-cluster"
_NODE = b"x-envoy-downstream-service-node"
_DELAY = b"x-envoy-fault-delay-request"
_DELAY_PERCENTAGE = b"x-envoy-fault-delay-request-percentage"
_ABORT = b"x-envoy-fault-abort-request"
_ABORT_GRPC = b"x-envoy-fault-abort-grpc-request"
_ABORT_PERCENTAGE = b"x-envoy-fault-abort-request-percentage"


class FaultStats(StatGroup):
    """``http.PREFIX.fault.``; `DOWNSTREAM_CLUSTER.aborts_injected` and the like are its extra counters."""

    __slots__ = ("aborts_injected", "active_faults", "delays_injected", "faults_overflow", "response_rl_injected")
    COUNTERS = ("aborts_injected", "delays_injected", "faults_overflow", "response_rl_injected")
    GAUGES = ("active_faults",)

    aborts_injected: int
    delays_injected: int
    faults_overflow: int
    response_rl_injected: int
    active_faults: int


class _Settings:
    """One configuration, compiled: of the chain, or of a route. Raises ConfigError."""

    __slots__ = ("abort", "delay", "headers", "max_active", "nodes", "upstream_cluster")

    def __init__(self, spec: FaultSpec) -> None:
        self.delay = spec.delay
        self.abort = spec.abort
        self.upstream_cluster = spec.upstream_cluster
        self.nodes = frozenset(node.encode() for node in spec.downstream_nodes)
        self.headers = tuple(map(compile_header, spec.headers))
        self.max_active = spec.max_active_faults

    def applies(self, stream: FilterStream, cluster_name: str) -> bool:
        head = stream.request
        if self.upstream_cluster and cluster_name != self.upstream_cluster:
            return False
        if self.nodes and head.get(_NODE) not in self.nodes:
            return False
        return all(matches(head) for matches in self.headers)


class FaultFilter(StreamFilter):
    """One fault filter of a chain. Raises ConfigError for a bad expression."""

    def __init__(self, spec: FaultSpec, stats: FaultStats, active: LimitCell) -> None:
        self._settings = _Settings(spec)
        self._per_route: PerRoute[FaultSpec, _Settings] = PerRoute(_Settings)
        self._stats = stats
        self._active = active
        self._idle = spec.delay is None and spec.abort is None

    def on_request(self, stream: FilterStream, end: bool) -> Verdict:
        route = stream.filter_config(self.name)
        if isinstance(route, FaultSpec):
            settings = self._per_route.of(route)
        elif self._idle:  # Istio puts an empty one into each chain, for routes to fill
            return None
        else:
            settings = self._settings
        if not settings.applies(stream, stream.cluster_name):
            return None
        delay_s = _delay_s(settings.delay, stream)
        if delay_s and self._take(stream, settings):
            self._count(stream.request, "delays_injected")
            self._stats.delays_injected += 1
            stream.flags |= _DI
            stream.arm(delay_s, lambda: self._after_delay(stream, settings))
            return PAUSE
        return self._abort(stream, settings)

    def _after_delay(self, stream: FilterStream, settings: _Settings) -> None:
        reply = self._abort(stream, settings)
        if reply is None:
            stream.resume()
        else:
            stream.reply(reply)

    def _abort(self, stream: FilterStream, settings: _Settings) -> Reply | None:
        status = _abort_status(settings.abort, stream)
        if status is None or not self._take(stream, settings):
            return None
        self._count(stream.request, "aborts_injected")
        self._stats.aborts_injected += 1
        http, grpc = status
        return Reply(http, _BODY, details=_DETAILS, flags=_FI, grpc_status=grpc)

    def _take(self, stream: FilterStream, settings: _Settings) -> bool:
        """Make the stream an active fault, if there is room."""
        if self in stream.state:
            return True
        if settings.max_active is not None and self._active.in_use() >= settings.max_active:
            self._stats.faults_overflow += 1
            return False
        stream.state[self] = True
        self._active.add(1)
        self._stats.active_faults += 1
        return True

    def on_complete(self, stream: FilterStream) -> None:
        if self._stats.active_faults and stream.state.pop(self, False):
            self._active.add(-1)
            self._stats.active_faults -= 1

    def _count(self, head: RequestHead, name: str) -> None:
        cluster = head.get(_CLUSTER)
        if cluster:
            self._stats.count(f"{cluster.decode('latin-1')}.{name}")

    def __repr__(self) -> str:
        return f"<FaultFilter {self.name} {self._stats.active_faults} active>"


def _delay_s(delay: FaultDelay | None, stream: FilterStream) -> float:
    """How long to hold the stream; 0 for not at all."""
    if delay is None:
        return 0.0
    if delay.fixed_s is not None:
        return delay.fixed_s if _hits(stream, delay.percentage) else 0.0
    asked_ms = _number(stream.request, _DELAY)
    if not asked_ms or not _hits(stream, _lowered(delay.percentage, stream.request, _DELAY_PERCENTAGE)):
        return 0.0
    return asked_ms / 1000


def _abort_status(abort: FaultAbort | None, stream: FilterStream) -> tuple[int, int | None] | None:
    """HTTP and gRPC status to answer with; None for no abort."""
    if abort is None:
        return None
    by_header = abort.http_status is None and abort.grpc_status is None
    percentage = _lowered(abort.percentage, stream.request, _ABORT_PERCENTAGE) if by_header else abort.percentage
    if not _hits(stream, percentage):
        return None
    http, grpc = abort.http_status, abort.grpc_status
    if by_header:
        http = _number(stream.request, _ABORT)
        if http is not None and not 200 <= http < 600:
            http = None
        grpc = _number(stream.request, _ABORT_GRPC)
    if http is not None:
        return http, None
    return None if grpc is None else (200, grpc)


def _lowered(percentage: Fraction, head: RequestHead, name: bytes) -> Fraction:
    """A header can lower the configured share, in the same unit; never raise it."""
    asked = _number(head, name)
    if asked is None or asked >= percentage.numerator:
        return percentage
    return Fraction(asked, percentage.denominator)


def _hits(stream: FilterStream, share: Fraction) -> bool:
    if share.numerator <= 0:
        return False
    return share.numerator >= share.denominator or stream.random_below(share.denominator) < share.numerator


def _number(head: RequestHead, name: bytes) -> int | None:
    value = head.get(name)
    return int(value) if value is not None and value.isdigit() and len(value) < 16 else None
