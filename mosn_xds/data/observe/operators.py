"""What each format operator (``%NAME(argument)%``) says of a stream.

An operator compiles to a getter: a function from `StreamInfo` to a value, ``None`` for "not there". Text is bytes as on the
wire; numbers stay numbers, for JSON. What a value looks like in a line is the formatter's business. Meaning, arguments and
units are those of Envoy's substitution formatter, as Envoy 1.40 prints them; operators that have no value here (TLS, say)
are known all the same and always ``None``.
"""

import ipaddress
from collections.abc import Callable, Mapping
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from mosn_xds.base.chance import Random
from mosn_xds.base.clock import Clock
from mosn_xds.base.errors import ConfigError, flag_names
from mosn_xds.data.match.head import HeadView
from mosn_xds.data.match.headers import first_value
from mosn_xds.data.observe.clock_format import DEFAULT_FORMAT, DEFAULT_LOCAL_FORMAT, compile_time_format
from mosn_xds.data.observe.info import StreamInfo
from mosn_xds.data.observe.names import GRPC_STATUS_NAMES, long_flag_names
from mosn_xds.spec.common import Address, FormatOperator
from mosn_xds.spec.format import INERT_OPERATORS

Value = bytes | int | float | bool | dict[str, "Value"] | list["Value"] | None
Getter = Callable[[StreamInfo], Value]


class FormatEnvironment(NamedTuple):
    """What formats need beside the stream: the time now, chance for ``%UNIQUE_ID%``, this machine's name."""

    clock: Clock
    random: Random
    hostname: str


_Factory = Callable[[str | None, FormatEnvironment], Getter]


def compile_operator(operator: FormatOperator, environment: FormatEnvironment) -> Getter:
    """The getter of one operator. Raises ConfigError for an unknown name or an argument that it does not take."""
    factory = _FACTORIES.get(operator.name)
    if factory is not None:
        return factory(operator.arg, environment)
    if operator.name in INERT_OPERATORS:
        return _nothing
    raise ConfigError(f"Not supported field in StreamInfo: {operator.name}")


def _nothing(info: StreamInfo) -> Value:
    return None


def _plain(getter: Getter) -> _Factory:
    """An operator without an argument."""
    return lambda arg, environment: getter


# Headers.


def _names(arg: str | None, operator: str) -> tuple[bytes, bytes | None]:
    if not arg:
        raise ConfigError(f"Invalid header configuration. Format string is empty in {operator}.")
    main, found, other = arg.partition("?")
    if "?" in other:
        raise ConfigError("More than 1 alternative header specified in token: " + arg)
    return main.lower().encode(), other.lower().encode() if found else None


def _either(first: Getter, second: Getter) -> Getter:
    def get(info: StreamInfo) -> Value:
        value = first(info)
        return value if value is not None else second(info)

    return get


def _request_header(name: bytes) -> Getter:
    match name:
        case b":path":
            return lambda info: info.request_head.path or None if info.request_head is not None else None
        case b":method":
            return lambda info: info.request_head.method if info.request_head is not None else None
        case b":authority" | b"host":
            return lambda info: info.request_head.authority if info.request_head is not None else None
        case b":scheme":
            return lambda info: info.request_head.scheme or None if info.request_head is not None else None

    def get(info: StreamInfo) -> Value:
        head = info.request_head
        if head is not None:
            for key, value in head.fields:
                if key == name:
                    return value
        return None

    return get


def _response_header(name: bytes) -> Getter:
    if name == b":status":
        return lambda info: b"%d" % info.response_head.status if info.response_head is not None else None

    def get(info: StreamInfo) -> Value:
        head = info.response_head
        if head is not None:
            for key, value in head.fields:
                if key == name:
                    return value
        return None

    return get


def _response_trailer(name: bytes) -> Getter:
    def get(info: StreamInfo) -> Value:
        for key, value in info.response_trailers or ():
            if key == name:
                return value
        return None

    return get


def _header_factory(operator: str, source: Callable[[bytes], Getter]) -> _Factory:
    def factory(arg: str | None, environment: FormatEnvironment) -> Getter:
        main, other = _names(arg, operator)
        return source(main) if other is None else _either(source(main), source(other))

    return factory


def _request_without_query(arg: str | None, environment: FormatEnvironment) -> Getter:
    whole = _header_factory("REQ_WITHOUT_QUERY", _request_header)(arg, environment)

    def get(info: StreamInfo) -> Value:
        value = whole(info)
        return value.partition(b"?")[0] if isinstance(value, bytes) else None

    return get


def _path(arg: str | None, environment: FormatEnvironment) -> Getter:
    query, _, which = (arg or "").partition(":")
    original, current = _request_header(b"x-envoy-original-path"), _request_header(b":path")
    match which:
        case "" | "ORIG_OR_PATH":
            source = _either(original, current)
        case "ORIG":
            source = original
        case "PATH":
            source = current
        case _:
            raise ConfigError(f"Invalid PATH option: '{which}', only 'ORIG'/'PATH'/'ORIG_OR_PATH' are allowed")
    if query in ("", "WQ"):
        return source
    if query != "NQ":
        raise ConfigError(f"Invalid PATH option: '{query}', only 'WQ'/'NQ' are allowed")

    def get(info: StreamInfo) -> Value:
        value = source(info)
        return value.partition(b"?")[0] if isinstance(value, bytes) else None

    return get


def _query(info: StreamInfo) -> bytes | None:
    head = info.request_head
    if head is None:
        return None
    path = first_value(head, b"x-envoy-original-path") or head.path
    _, mark, query = path.partition(b"?")
    return query if mark else None


def _query_param(arg: str | None, environment: FormatEnvironment) -> Getter:
    if not arg:
        raise ConfigError("QUERY_PARAM requires parameters")
    name = arg.encode()

    def get(info: StreamInfo) -> Value:
        for pair in (_query(info) or b"").split(b"&"):
            key, _, value = pair.partition(b"=")
            if key == name:
                return unquote_to_bytes(value)
        return None

    return get


def _query_params(arg: str | None, environment: FormatEnvironment) -> Getter:
    if arg not in (None, "", "ORIG", "DECODED"):
        raise ConfigError(f"Invalid QUERY_PARAMS option: '{arg}', only 'ORIG'/'DECODED' are allowed")
    if arg != "DECODED":
        return _query

    def get(info: StreamInfo) -> Value:
        query = _query(info)
        return unquote_to_bytes(query) if query is not None else None

    return get


def _header_bytes(source: Callable[[StreamInfo], HeadView | None]) -> Getter:
    def get(info: StreamInfo) -> Value:
        head = source(info)
        if head is None:
            return 0
        size = sum(len(name) + len(value) for name, value in head.fields)
        for name in (b":method", b":path", b":scheme", b":authority", b":status"):
            size += sum(len(name) + len(value) for value in head.get_all(name))
        return size

    return get


def _trailer_bytes(info: StreamInfo) -> Value:
    return sum(len(name) + len(value) for name, value in info.response_trailers or ())


# Time.


def _time_factory(default: str, *, local: bool, emitted: bool) -> _Factory:
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


_POINTS: Mapping[str, Callable[[StreamInfo], float | None]] = {
    "DS_RX_BEG": lambda info: 0.0,
    "DS_RX_END": lambda info: info.last_rx,
    "US_TX_BEG": lambda info: info.first_up_tx,
    "US_TX_END": lambda info: info.last_up_tx,
    "US_RX_BEG": lambda info: info.first_up_rx,
    "US_RX_END": lambda info: info.last_up_rx,
    "DS_TX_BEG": lambda info: info.first_tx,
    "DS_TX_END": lambda info: info.last_tx,
}
_PRECISIONS = {"ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


def _between(begin: str, end: str, per_second: int = 1000) -> Getter:
    since, until = _POINTS.get(begin), _POINTS.get(end)
    if since is None or until is None:
        return _nothing

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


def _text(value: str) -> bytes | None:
    return value.encode() if value else None


def _details(arg: str | None, environment: FormatEnvironment) -> Getter:
    if arg == "ALLOW_WHITESPACES":
        return lambda info: _text(info.details)
    return lambda info: _text(info.details.replace(" ", "_"))


_GRPC_OF_HTTP = {400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 502: 14, 503: 14, 504: 14}
_GRPC_UNKNOWN = 2


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
    connection = info.connection
    return _text(connection.close_reason) if connection is not None else None


# Addresses.


def _address_text(address: Address) -> bytes:
    return str(address).encode()


def _masked(host: str, length: int) -> bytes | None:
    try:
        return str(ipaddress.ip_network((host, length), strict=False)).encode()
    except ValueError:
        return None


def _address_factories(prefix: str, source: Callable[[StreamInfo], Address | None]) -> dict[str, _Factory]:
    def whole(info: StreamInfo) -> Value:
        address = source(info)
        return _address_text(address) if address is not None else None

    def port(info: StreamInfo) -> Value:
        address = source(info)
        return address.port if address is not None and not address.is_pipe else None

    def without_port(arg: str | None, environment: FormatEnvironment) -> Getter:
        def host(info: StreamInfo) -> Value:
            address = source(info)
            return address.host.encode() if address is not None else None

        if not arg:
            return host
        if not arg.isdigit():
            raise ConfigError(f"Invalid mask length: {arg}")
        length = int(arg)

        def masked(info: StreamInfo) -> Value:
            address = source(info)
            return _masked(address.host, length) if address is not None else None

        return masked

    return {
        f"{prefix}_ADDRESS": _plain(whole),
        f"{prefix}_ADDRESS_WITHOUT_PORT": without_port,
        f"{prefix}_PORT": _plain(port),
    }


def _remote(info: StreamInfo) -> Address | None:
    if info.remote is not None:
        return info.remote
    return info.connection.remote if info.connection is not None else None


def _upstream_local(info: StreamInfo) -> Address | None:
    host, _, port = info.upstream_local.rpartition(":")
    if not port.isdigit():
        return Address(info.upstream_local) if info.upstream_local else None
    return Address(host.strip("[]"), int(port))


def _upstream_name(info: StreamInfo) -> bytes | None:
    host = info.upstream_host
    return (host.hostname or host.text).encode() if host is not None else None


def _upstream_name_without_port(info: StreamInfo) -> Value:
    host = info.upstream_host
    if host is None:
        return None
    return host.hostname.partition(":")[0].encode() if host.hostname else host.address.host.encode()


def _server_name(arg: str | None, environment: FormatEnvironment) -> Getter:
    which, _, host_source = (arg or "SNI_ONLY").partition(":")
    sources = {"": b":authority", "ORIG": b"x-envoy-original-host", "HOST": b":authority"}
    if which not in ("SNI_ONLY", "SNI_FIRST", "HOST_FIRST") or (
        host_source not in sources and host_source != "ORIG_OR_HOST"
    ):
        raise ConfigError(f"Invalid REQUESTED_SERVER_NAME option: '{arg}'")

    def sni(info: StreamInfo) -> Value:
        return _text(info.connection.sni) if info.connection is not None else None

    if host_source == "ORIG_OR_HOST":
        host = _either(_request_header(b"x-envoy-original-host"), _request_header(b":authority"))
    else:
        host = _request_header(sources[host_source])
    match which:
        case "SNI_ONLY":
            return sni
        case "SNI_FIRST":
            return _either(sni, host)
        case _:
            return _either(host, sni)


# Data.


def _dynamic_metadata(arg: str | None, environment: FormatEnvironment) -> Getter:
    namespace, *keys = (arg or "").split(":")

    def get(info: StreamInfo) -> Value:
        value: Value = (info.metadata or {}).get(namespace)
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
    name = _text(environment.hostname)
    return lambda info: name


_FACTORIES: Mapping[str, _Factory] = {
    "REQ": _header_factory("REQ", _request_header),
    "REQUEST_HEADER": _header_factory("REQUEST_HEADER", _request_header),
    "RESP": _header_factory("RESP", _response_header),
    "RESPONSE_HEADER": _header_factory("RESPONSE_HEADER", _response_header),
    "TRAILER": _header_factory("TRAILER", _response_trailer),
    "RESPONSE_TRAILER": _header_factory("RESPONSE_TRAILER", _response_trailer),
    "REQ_WITHOUT_QUERY": _request_without_query,
    "PATH": _path,
    "QUERY_PARAM": _query_param,
    "QUERY_PARAMS": _query_params,
    "REQUEST_HEADERS_BYTES": _plain(_header_bytes(lambda info: info.request_head)),
    "RESPONSE_HEADERS_BYTES": _plain(_header_bytes(lambda info: info.response_head)),
    "RESPONSE_TRAILERS_BYTES": _plain(_trailer_bytes),
    "START_TIME": _time_factory(DEFAULT_FORMAT, local=False, emitted=False),
    "START_TIME_LOCAL": _time_factory(DEFAULT_LOCAL_FORMAT, local=True, emitted=False),
    "EMIT_TIME": _time_factory(DEFAULT_FORMAT, local=False, emitted=True),
    "EMIT_TIME_LOCAL": _time_factory(DEFAULT_LOCAL_FORMAT, local=True, emitted=True),
    "DURATION": _duration,
    "COMMON_DURATION": _common_duration,
    "REQUEST_DURATION": _plain(_between("DS_RX_BEG", "DS_RX_END")),
    "REQUEST_TX_DURATION": _plain(_between("DS_RX_BEG", "US_TX_END")),
    "RESPONSE_DURATION": _plain(_between("DS_RX_BEG", "US_RX_BEG")),
    "RESPONSE_TX_DURATION": _plain(_between("US_RX_BEG", "DS_TX_END")),
    "ROUNDTRIP_DURATION": _plain(_nothing),
    "PROTOCOL": _plain(lambda info: info.version.label.encode() if info.version is not None else None),
    "UPSTREAM_PROTOCOL": _plain(
        lambda info: info.upstream_version.label.encode() if info.upstream_version is not None else None
    ),
    "RESPONSE_CODE": _plain(lambda info: info.response_code),
    "RESPONSE_CODE_DETAILS": _details,
    "RESPONSE_FLAGS": _plain(lambda info: flag_names(info.flags).encode()),
    "RESPONSE_FLAGS_LONG": _plain(lambda info: long_flag_names(info.flags).encode()),
    "CONNECTION_TERMINATION_DETAILS": _plain(_termination_details),
    "UPSTREAM_REQUEST_ATTEMPT_COUNT": _plain(lambda info: info.attempts),
    "GRPC_STATUS": _grpc_factory,
    "GRPC_STATUS_NUMBER": _plain(_grpc_status),
    "LOCAL_REPLY_BODY": _plain(lambda info: info.local_reply_body),
    "BYTES_RECEIVED": _plain(lambda info: info.bytes_received),
    "BYTES_SENT": _plain(lambda info: info.bytes_sent),
    "ROUTE_NAME": _plain(lambda info: _text(info.route_name)),
    "FILTER_CHAIN_NAME": _plain(
        lambda info: _text(info.connection.chain_name) if info.connection is not None else None
    ),
    "UPSTREAM_CLUSTER": _plain(lambda info: _text(info.cluster_stat_name or info.cluster_name)),
    "UPSTREAM_CLUSTER_RAW": _plain(lambda info: _text(info.cluster_name)),
    "UPSTREAM_HOST": _plain(lambda info: info.upstream_host.text.encode() if info.upstream_host is not None else None),
    "UPSTREAM_HOST_NAME": _plain(_upstream_name),
    "UPSTREAM_HOST_NAME_WITHOUT_PORT": _plain(_upstream_name_without_port),
    "UPSTREAM_TRANSPORT_FAILURE_REASON": _plain(lambda info: _text(info.transport_failure.replace(" ", "_"))),
    "REQUESTED_SERVER_NAME": _server_name,
    "CONNECTION_ID": _plain(lambda info: info.connection.id if info.connection is not None else None),
    "STREAM_ID": _plain(_request_header(b"x-request-id")),
    "UNIQUE_ID": _unique_id,
    "HOSTNAME": _hostname,
    "DYNAMIC_METADATA": _dynamic_metadata,
    "ACCESS_LOG_TYPE": _plain(lambda info: info.access_log_type.encode()),
    **_address_factories("DOWNSTREAM_REMOTE", _remote),
    **_address_factories(
        "DOWNSTREAM_DIRECT_REMOTE", lambda info: info.connection.direct_remote if info.connection is not None else None
    ),
    **_address_factories(
        "DOWNSTREAM_LOCAL", lambda info: info.connection.local if info.connection is not None else None
    ),
    **_address_factories(
        "DOWNSTREAM_DIRECT_LOCAL", lambda info: info.connection.direct_local if info.connection is not None else None
    ),
    **_address_factories("UPSTREAM_LOCAL", _upstream_local),
    **_address_factories(
        "UPSTREAM_REMOTE", lambda info: info.upstream_host.address if info.upstream_host is not None else None
    ),
}
