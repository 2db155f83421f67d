"""Which streams an access log (or a local-reply mapper) is about: envoy.config.accesslog.v3.AccessLogFilter, compiled."""

import operator
from collections.abc import Callable, Mapping

from mosn_xds.base.errors import ConfigError, ResponseFlag
from mosn_xds.data.match.headers import compile_header, first_value
from mosn_xds.data.observe.getters import FormatEnvironment
from mosn_xds.data.observe.info import StreamInfo
from mosn_xds.data.observe.operators import grpc_status_of_stream
from mosn_xds.spec.access_log import Comparison, LogFilter

LogPredicate = Callable[[StreamInfo], bool]

_COMPARE: Mapping[Comparison, Callable[[int, int], bool]] = {
    Comparison.EQ: operator.eq,
    Comparison.GE: operator.ge,
    Comparison.LE: operator.le,
    Comparison.NE: operator.ne,
}
_GRPC_UNKNOWN = 2
_TRACE_REASON_AT = 14
"""Where a request id's UUID says why it is traced (Envoy's UUID request id extension)."""


def compile_log_filter(spec: LogFilter, environment: FormatEnvironment) -> LogPredicate:
    """A predicate over a stream that has ended. Raises ConfigError for a kind that does not exist or a bad expression."""
    compile_kind = _KINDS.get(spec.kind)
    if compile_kind is None:
        raise ConfigError(f"unknown access log filter {spec.kind!r}")
    return compile_kind(spec, environment)


def _status(spec: LogFilter, environment: FormatEnvironment) -> LogPredicate:
    compare, value = _COMPARE[spec.op], spec.value
    return lambda info: compare(info.response_code, value)


def _duration(spec: LogFilter, environment: FormatEnvironment) -> LogPredicate:
    compare, value = _COMPARE[spec.op], spec.value
    return lambda info: info.duration_s is not None and compare(int(info.duration_s * 1000), value)


def _always(spec: LogFilter, environment: FormatEnvironment) -> LogPredicate:
    return lambda info: True


def _never(spec: LogFilter, environment: FormatEnvironment) -> LogPredicate:
    return lambda info: False


def _request_id(info: StreamInfo) -> bytes:
    head = info.request_head
    return (first_value(head, b"x-request-id") or b"") if head is not None else b""


def _traceable(spec: LogFilter, environment: FormatEnvironment) -> LogPredicate:
    return lambda info: _request_id(info)[_TRACE_REASON_AT : _TRACE_REASON_AT + 1] == b"a"


def _runtime(spec: LogFilter, environment: FormatEnvironment) -> LogPredicate:
    fraction = spec.fraction
    if fraction is None:
        raise ConfigError("runtime filter without a fraction")
    draw = environment.random.randrange

    def sampled(info: StreamInfo) -> bool:
        try:
            # The same request is sampled, or not, at every hop that its id passes.
            number = int(_request_id(info)[:8], 16)
        except ValueError:
            number = draw(fraction.denominator)
        return number % fraction.denominator < fraction.numerator

    return sampled


def _all_of(spec: LogFilter, environment: FormatEnvironment) -> LogPredicate:
    children = [compile_log_filter(child, environment) for child in spec.children]
    return lambda info: all([child(info) for child in children])


def _any_of(spec: LogFilter, environment: FormatEnvironment) -> LogPredicate:
    children = [compile_log_filter(child, environment) for child in spec.children]
    return lambda info: any([child(info) for child in children])


def _header(spec: LogFilter, environment: FormatEnvironment) -> LogPredicate:
    if spec.header is None:
        raise ConfigError("header filter without a header")
    matches = compile_header(spec.header)
    return lambda info: info.request_head is not None and matches(info.request_head)


def _response_flag(spec: LogFilter, environment: FormatEnvironment) -> LogPredicate:
    if not spec.flags:
        return lambda info: info.flags != 0
    mask = 0
    for name in spec.flags:
        if name not in ResponseFlag.__members__:
            raise ConfigError(f"unknown response flag {name}")
        mask |= ResponseFlag[name]
    bits = int(mask)
    return lambda info: bool(info.flags & bits)


def _grpc_status(spec: LogFilter, environment: FormatEnvironment) -> LogPredicate:
    values, exclude = frozenset(spec.values), spec.exclude

    def holds(info: StreamInfo) -> bool:
        status = grpc_status_of_stream(info)
        return ((_GRPC_UNKNOWN if status is None else status) in values) != exclude

    return holds


_KINDS: Mapping[str, Callable[[LogFilter, FormatEnvironment], LogPredicate]] = {
    "status": _status,
    "duration": _duration,
    "not_health_check": _always,
    "traceable": _traceable,
    "runtime": _runtime,
    "and": _all_of,
    "or": _any_of,
    "header": _header,
    "response_flag": _response_flag,
    "grpc_status": _grpc_status,
    "never": _never,
}
