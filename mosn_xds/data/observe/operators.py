"""What each format operator (``%NAME(argument)%``) says of a stream.

An operator compiles to a getter: a function from `StreamInfo` to a value, ``None`` for "not there". Text is bytes as on the
wire; numbers stay numbers, for JSON. What a value looks like in a line is the formatter's business. Meaning, arguments and
units are those of Envoy's substitution formatter, as Envoy 1.40 prints them; operators that have no value here are known all
the same and always ``None``.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from mosn_xds.base.errors import ConfigError, flag_names
from mosn_xds.data.match.headers import first_value
from mosn_xds.data.observe.address_operators import ADDRESS_OPERATORS
from mosn_xds.data.observe.clock_format import DEFAULT_FORMAT, DEFAULT_LOCAL_FORMAT, compile_time_format
from mosn_xds.data.observe.getters import Factory, FormatEnvironment, Getter, Value, nothing, plain, text_value
from mosn_xds.data.observe.header_operators import HEADER_OPERATORS
from mosn_xds.data.observe.info import StreamInfo
from mosn_xds.data.observe.names import GRPC_STATUS_NAMES, long_flag_names
from mosn_xds.data.observe.rpc_operators import RPC_OPERATORS
from mosn_xds.data.observe.tls_operators import TLS_OPERATORS
from mosn_xds.spec.common import FormatOperator
from mosn_xds.spec.format import INERT_OPERATORS


def compile_operator(operator: FormatOperator, environment: FormatEnvironment) -> Getter:
    """The getter of one operator. Raises ConfigError for an unknown name or an argument that it does not take."""
    factory = _FACTORIES.get(operator.name)
    if factory is not None:
        return factory(operator.arg, environment)
    if operator.name in INERT_OPERATORS:
        return nothing
    raise ConfigError(f"Not supported field in StreamInfo: {operator.name}")


# Time.


def _time_factory(default: str, *, local: bool, emitted: bool) -> Factory:
    def factory(arg: str | None, environment: FormatEnvironment) -> Getter:
        render = compile_time_format(arg or default, local=local)
        if emitted:
            wall = environment.clock.wall
            return lambda info: render(wall())
        return lambda info: render(info.start_wall_s)

    return factory


def _duration(arg: str | None, environment: FormatEnvironment) -> Getter:
    monotonic = environment.clock.monotonic

    def get(info: StreamInfo) -> Value:
        duration_s = info.duration_s
        return int((duration_s if duration_s is not None else monotonic() - info.start_s) * 1000)

    return get


_POINTS: Final[Mapping[str, Callable[[StreamInfo], float | None]]] = {
    "DS_RX_BEG": lambda info: 0.0,
    "DS_RX_END": lambda info: info.last_rx,
    "US_TX_BEG": lambda info: info.first_up_tx,
    "US_TX_END": lambda info: info.last_up_tx,
    "US_RX_BEG": lambda info: info.first_up_rx,
    "US_RX_END": lambda info: info.last_up_rx,
    "DS_TX_BEG": lambda info: info.first_tx,
    "DS_TX_END": lambda info: info.last_tx,
}
_PRECISIONS: Final = {"ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


def _between(begin: str, end: str, per_second: int = 1000) -> Getter:
    since, until = _POINTS.get(begin), _POINTS.get(end)
    if since is None or until is None:
        return nothing

    def get(info: StreamInfo) -> Value:
        start, stop = since(info), until(info)
        return int((stop - start) * per_second) if start is not None and stop is not None and stop >= start else None

    return get


def _common_duration(arg: str | None, environment: FormatEnvironment) -> Getter:
    parts = (arg or "").split(":")
    if len(parts) not in (2, 3):
        raise ConfigError(f"Invalid common duration configuration: {arg or ''}.")
    precision = parts[2] if len(parts) == 3 else "ms"
    if precision not in _PRECISIONS:
        raise ConfigError(f"Invalid common duration precision: {precision}.")
    return _between(parts[0], parts[1], _PRECISIONS[precision])


# Result.


def _details(arg: str | None, environment: FormatEnvironment) -> Getter:
    if arg == "ALLOW_WHITESPACES":
        return lambda info: text_value(info.details)
    return lambda info: text_value(info.details.replace(" ", "_"))


_GRPC_OF_HTTP: Final = {400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 502: 14, 503: 14, 504: 14}
_GRPC_UNKNOWN: Final = 2


def grpc_status_of_stream(info: StreamInfo) -> int | None:
    """The gRPC status from trailers, else headers, else as the HTTP status stands for; None when there is no response."""
    for fields in (info.response_trailers, info.response_head.fields if info.response_head is not None else None):
        for key, value in fields or ():
            if key == b"grpc-status":
                return int(value) if value.isdigit() and len(value) < 10 else _GRPC_UNKNOWN
    return _GRPC_OF_HTTP.get(info.response_code, _GRPC_UNKNOWN) if info.response_code else None


def _grpc_status(info: StreamInfo) -> int | None:
    head = info.request_head
    if head is None:
        return None
    kind = first_value(head, b"content-type") or b""
    if kind != b"application/grpc" and not kind.startswith(b"application/grpc+"):
        return None
    return grpc_status_of_stream(info)


def _grpc_factory(arg: str | None, environment: FormatEnvironment) -> Getter:
    match arg:
        case None | "" | "CAMEL_STRING":
            style = 0
        case "SNAKE_STRING":
            style = 1
        case "NUMBER":
            return _grpc_status
        case _:
            raise ConfigError(
                f"GrpcStatusFormatter only supports CAMEL_STRING, SNAKE_STRING or NUMBER, but it was {arg}"
            )

    def get(info: StreamInfo) -> Value:
        status = _grpc_status(info)
        if status is None:
            return None
        return GRPC_STATUS_NAMES[status][style] if status < len(GRPC_STATUS_NAMES) else b"%d" % status

    return get


def _termination_details(info: StreamInfo) -> Value:
    if info.connection_details:
        return info.connection_details.encode()
    return text_value(info.connection.close_reason)


# Data.


def _dynamic_metadata(arg: str | None, environment: FormatEnvironment) -> Getter:
    namespace, *keys = (arg or "").split(":")

    def get(info: StreamInfo) -> Value:
        value: Any = (info.metadata or {}).get(namespace)
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return value.encode() if isinstance(value, str) else value

    return get


def _unique_id(arg: str | None, environment: FormatEnvironment) -> Getter:
    draw = environment.random.getrandbits

    def get(info: StreamInfo) -> Value:
        text = b"%032x" % (draw(128) & ~(0xF << 76) & ~(0xC << 60) | 0x4 << 76 | 0x8 << 60)
        return b"-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))

    return get


def _hostname(arg: str | None, environment: FormatEnvironment) -> Getter:
    name = text_value(environment.hostname)
    return lambda info: name


_FACTORIES: Final[Mapping[str, Factory]] = {
    "START_TIME": _time_factory(DEFAULT_FORMAT, local=False, emitted=False),
    "START_TIME_LOCAL": _time_factory(DEFAULT_LOCAL_FORMAT, local=True, emitted=False),
    "EMIT_TIME": _time_factory(DEFAULT_FORMAT, local=False, emitted=True),
    "EMIT_TIME_LOCAL": _time_factory(DEFAULT_LOCAL_FORMAT, local=True, emitted=True),
    "DURATION": _duration,
    "COMMON_DURATION": _common_duration,
    "REQUEST_DURATION": plain(_between("DS_RX_BEG", "DS_RX_END")),
    "REQUEST_TX_DURATION": plain(_between("DS_RX_BEG", "US_TX_END")),
    "RESPONSE_DURATION": plain(_between("DS_RX_BEG", "US_RX_BEG")),
    "RESPONSE_TX_DURATION": plain(_between("US_RX_BEG", "DS_TX_END")),
    "ROUNDTRIP_DURATION": plain(nothing),
    "PROTOCOL": plain(lambda info: info.version.label.encode() if info.version is not None else None),
    "UPSTREAM_PROTOCOL": plain(
        lambda info: info.upstream_version.label.encode() if info.upstream_version is not None else None
    ),
    "RESPONSE_CODE": plain(lambda info: info.response_code),
    "RESPONSE_CODE_DETAILS": _details,
    "RESPONSE_FLAGS": plain(lambda info: flag_names(info.flags, retry_first=info.request_head is not None).encode()),
    "RESPONSE_FLAGS_LONG": plain(lambda info: long_flag_names(info.flags).encode()),
    "CONNECTION_TERMINATION_DETAILS": plain(_termination_details),
    "UPSTREAM_REQUEST_ATTEMPT_COUNT": plain(lambda info: info.attempts),
    "GRPC_STATUS": _grpc_factory,
    "GRPC_STATUS_NUMBER": plain(_grpc_status),
    "LOCAL_REPLY_BODY": plain(lambda info: info.local_reply_body),
    "BYTES_RECEIVED": plain(lambda info: info.bytes_received),
    "BYTES_SENT": plain(lambda info: info.bytes_sent),
    "ROUTE_NAME": plain(lambda info: text_value(info.route_name)),
    "FILTER_CHAIN_NAME": plain(lambda info: text_value(info.connection.chain_name)),
    "UPSTREAM_CLUSTER": plain(lambda info: text_value(info.cluster_stat_name or info.cluster_name)),
    "UPSTREAM_CLUSTER_RAW": plain(lambda info: text_value(info.cluster_name)),
    "UPSTREAM_TRANSPORT_FAILURE_REASON": plain(lambda info: text_value(info.transport_failure.replace(" ", "_"))),
    "CONNECTION_ID": plain(lambda info: info.connection.id),
    "UNIQUE_ID": _unique_id,
    "HOSTNAME": _hostname,
    "DYNAMIC_METADATA": _dynamic_metadata,
    "ACCESS_LOG_TYPE": plain(lambda info: info.access_log_type.encode()),
    **HEADER_OPERATORS,
    **ADDRESS_OPERATORS,
    **TLS_OPERATORS,
    **RPC_OPERATORS,
}
