"""Format operators over heads: headers, trailers, path, query, sizes (``%REQ(X?Y)%``, ``%PATH(NQ)%``, ...)."""

from collections.abc import Callable, Mapping
from urllib.parse import unquote_to_bytes

from mosn_xds.base.errors import ConfigError
from mosn_xds.data.match.head import HeadView
from mosn_xds.data.match.headers import first_value
from mosn_xds.data.observe.getters import Factory, FormatEnvironment, Getter, Value, either, plain, text_value
from mosn_xds.data.observe.info import StreamInfo


def _names(arg: str | None, operator: str) -> tuple[bytes, bytes | None]:
    if not arg:
        raise ConfigError(f"{operator} requires parameters")
    main, found, other = arg.partition("?")
    if "?" in other:
        raise ConfigError("More than 1 alternative header specified in token: " + arg)
    return main.lower().encode(), other.lower().encode() if found else None


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


def _header_factory(operator: str, source: Callable[[bytes], Getter]) -> Factory:
    def factory(arg: str | None, environment: FormatEnvironment) -> Getter:
        main, other = _names(arg, operator)
        return source(main) if other is None else either(source(main), source(other))

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
            source = either(original, current)
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


_ORIGINAL_HOST = b"x-envoy-original-host"


def _server_name(arg: str | None, environment: FormatEnvironment) -> Getter:
    which, _, host_source = (arg or "SNI_ONLY").partition(":")
    original, current = _request_header(_ORIGINAL_HOST), _request_header(b":authority")
    hosts = {
        "": either(original, current),
        "ORIG_OR_HOST": either(original, current),
        "ORIG": original,
        "HOST": current,
    }
    host = hosts.get(host_source)

    def sni(info: StreamInfo) -> Value:
        return text_value(info.connection.sni)

    if host is not None:
        match which:
            case "SNI_ONLY":
                return sni
            case "SNI_FIRST":
                return either(sni, host)
            case "HOST_FIRST":
                return either(host, sni)
    raise ConfigError(f"Invalid REQUESTED_SERVER_NAME option: '{arg}'")


HEADER_OPERATORS: Mapping[str, Factory] = {
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
    "REQUEST_HEADERS_BYTES": plain(_header_bytes(lambda info: info.request_head)),
    "RESPONSE_HEADERS_BYTES": plain(_header_bytes(lambda info: info.response_head)),
    "RESPONSE_TRAILERS_BYTES": plain(_trailer_bytes),
    "REQUESTED_SERVER_NAME": _server_name,
    "STREAM_ID": plain(_request_header(b"x-request-id")),
}
