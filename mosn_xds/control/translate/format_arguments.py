"""What a format operator may be given in parentheses and behind the colon, refused as Envoy refuses it.

What each operator means is the data half's business; that it can make sense of what it is given is settled here, for the
agent decides every refusal.
"""

import re
from collections.abc import Callable, Mapping

from mosn_xds.base.errors import ConfigError
from mosn_xds.spec.common import FormatOperator

_HEADERS = frozenset(
    {"REQ", "REQUEST_HEADER", "RESP", "RESPONSE_HEADER", "TRAILER", "RESPONSE_TRAILER", "REQ_WITHOUT_QUERY"}
)
_RPC = frozenset({"METHOD", "HOST", "REQUEST_PROPERTY", "RESPONSE_PROPERTY", "GENERIC_RESPONSE_CODE"})
"""generic_proxy takes whatever it is given."""
_REQUIRED = _HEADERS | {
    "CLUSTER_METADATA",
    "COALESCE",
    "COMMON_DURATION",
    "DYNAMIC_METADATA",
    "ENVIRONMENT",
    "METADATA",
    "QUERY_PARAM",
    "UPSTREAM_METADATA",
}
_WITH_LENGTH = (
    _HEADERS
    | _RPC
    | {
        "CEL",
        "DYNAMIC_METADATA",
        "ENVIRONMENT",
        "FILTER_STATE",
        "PATH",
        "QUERY_PARAM",
        "QUERY_PARAMS",
        "TYPED_CEL",
        "UPSTREAM_FILTER_STATE",
    }
)
_OPTIONAL = _REQUIRED | _WITH_LENGTH | {
    "DOWNSTREAM_PEER_CERT_V_END",
    "DOWNSTREAM_PEER_CERT_V_START",
    "EMIT_TIME",
    "EMIT_TIME_LOCAL",
    "FILE_CONTENT",
    "GRPC_STATUS",
    "REQUESTED_SERVER_NAME",
    "RESPONSE_CODE_DETAILS",
    "SECRET",
    "START_TIME",
    "START_TIME_LOCAL",
    "UPSTREAM_PEER_CERT_V_END",
    "UPSTREAM_PEER_CERT_V_START",
}  # fmt: skip
_WITHOUT_PORT = "_ADDRESS_WITHOUT_PORT"
_HEADER_NAMES = re.compile(r":?[0-9A-Za-z!#$%&'*+\-.^_`|~]+(\?:?[0-9A-Za-z!#$%&'*+\-.^_`|~]+)?")


def check_operator(operator: FormatOperator) -> None:
    """Raises ConfigError for an argument or a length that the operator does not take, or lacks."""
    name, given = operator.name, operator.arg
    may_take = name in _OPTIONAL or name.endswith(_WITHOUT_PORT)
    if not may_take and (given is not None or operator.max_length is not None):
        raise ConfigError(f"{name} does not take any parameters or length")
    if operator.max_length is not None and name not in _WITH_LENGTH:
        raise ConfigError(f"{name} does not allow length to be specified.")
    if not given:
        if name in _REQUIRED:
            raise ConfigError(f"{name} requires parameters")
        return
    if name in _HEADERS:
        _check_headers(given)
    elif name.endswith(_WITHOUT_PORT):
        if not given.isdigit():
            raise ConfigError(f"Invalid mask length: {given}")
    elif (check := _CHECKS.get(name)) is not None:
        check(given)


def _check_headers(given: str) -> None:
    if given.count("?") > 1:
        raise ConfigError(f"More than 1 alternative header specified in token: {given}")
    if _HEADER_NAMES.fullmatch(given) is None:
        raise ConfigError("Invalid header configuration. Format string contains invalid characters.")


def _check_grpc_status(given: str) -> None:
    if given not in ("CAMEL_STRING", "SNAKE_STRING", "NUMBER"):
        raise ConfigError(f"GrpcStatusFormatter only supports CAMEL_STRING, SNAKE_STRING or NUMBER. Got: {given}")


def _check_path(given: str) -> None:
    query, _, which = given.partition(":")
    if query not in ("", "WQ", "NQ"):
        raise ConfigError(f"Invalid PATH option: '{query}', only 'WQ'/'NQ' are allowed")
    if which not in ("", "ORIG", "PATH", "ORIG_OR_PATH"):
        raise ConfigError(f"Invalid PATH option: '{which}', only 'ORIG'/'PATH'/'ORIG_OR_PATH' are allowed")


def _check_query(given: str) -> None:
    if given not in ("ORIG", "DECODED"):
        raise ConfigError(f"Invalid QUERY_PARAMS option: '{given}', only 'ORIG'/'DECODED' are allowed")


def _check_server_name(given: str) -> None:
    which, _, host = given.partition(":")
    if which not in ("SNI_ONLY", "SNI_FIRST", "HOST_FIRST"):
        raise ConfigError(
            f"Invalid REQUESTED_SERVER_NAME option: '{which}', only 'SNI_ONLY'/'SNI_FIRST'/'HOST_FIRST' are allowed"
        )
    if host not in ("", "ORIG", "HOST", "ORIG_OR_HOST"):
        raise ConfigError(
            f"Invalid REQUESTED_SERVER_NAME option: '{host}', only 'ORIG'/'HOST'/'ORIG_OR_HOST' are allowed"
        )


def _check_duration(given: str) -> None:
    parts = given.split(":")
    if len(parts) not in (2, 3):
        raise ConfigError(f"Invalid common duration configuration: {given}.")
    if len(parts) == 3 and parts[2] not in ("ms", "us", "ns"):
        raise ConfigError(f"Invalid common duration precision: {parts[2]}.")


_CHECKS: Mapping[str, Callable[[str], None]] = {
    "GRPC_STATUS": _check_grpc_status,
    "PATH": _check_path,
    "QUERY_PARAMS": _check_query,
    "REQUESTED_SERVER_NAME": _check_server_name,
    "COMMON_DURATION": _check_duration,
}
