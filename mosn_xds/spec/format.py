"""The parser of substitution format strings (``%REQ(X?Y):Z%``, envoy's substitution_formatter).

Both halves need it: the agent refuses a format at load, the worker gets it parsed. What an operator means is the data
half's business (`mosn_xds.data.observe`), which operators exist is said here, for an unknown one must be refused at load.
"""

import re

from mosn_xds.base.errors import ConfigError
from mosn_xds.spec.common import Format, FormatOperator, FormatText


def _addresses(*subjects: str) -> set[str]:
    kinds = ("ADDRESS", "ADDRESS_WITHOUT_PORT", "PORT")
    return {f"{subject}_{kind}" for subject in subjects for kind in kinds}


OPERATORS: frozenset[str] = frozenset(
    {
        *("START_TIME", "START_TIME_LOCAL", "EMIT_TIME", "EMIT_TIME_LOCAL", "DURATION", "COMMON_DURATION"),
        *("REQUEST_DURATION", "REQUEST_TX_DURATION", "RESPONSE_DURATION", "RESPONSE_TX_DURATION", "ROUNDTRIP_DURATION"),
        *("REQUEST_HEADERS_BYTES", "RESPONSE_HEADERS_BYTES", "RESPONSE_TRAILERS_BYTES", "BYTES_RECEIVED", "BYTES_SENT"),
        *("PROTOCOL", "UPSTREAM_PROTOCOL", "RESPONSE_CODE", "RESPONSE_CODE_DETAILS", "RESPONSE_FLAGS"),
        *("RESPONSE_FLAGS_LONG", "CONNECTION_TERMINATION_DETAILS", "UPSTREAM_REQUEST_ATTEMPT_COUNT"),
        *("GRPC_STATUS", "GRPC_STATUS_NUMBER", "LOCAL_REPLY_BODY"),
        *("ROUTE_NAME", "FILTER_CHAIN_NAME", "UPSTREAM_CLUSTER", "UPSTREAM_CLUSTER_RAW"),
        *("UPSTREAM_HOST", "UPSTREAM_HOST_NAME", "UPSTREAM_HOST_NAME_WITHOUT_PORT"),
        *("UPSTREAM_TRANSPORT_FAILURE_REASON", "REQUESTED_SERVER_NAME"),
        *_addresses("UPSTREAM_LOCAL", "UPSTREAM_REMOTE"),
        *_addresses("DOWNSTREAM_REMOTE", "DOWNSTREAM_DIRECT_REMOTE", "DOWNSTREAM_LOCAL", "DOWNSTREAM_DIRECT_LOCAL"),
        *("CONNECTION_ID", "STREAM_ID", "UNIQUE_ID", "HOSTNAME"),
        *("REQUEST_HEADER", "REQ", "RESPONSE_HEADER", "RESP", "RESPONSE_TRAILER", "TRAILER", "REQ_WITHOUT_QUERY"),
        *(
            f"DOWNSTREAM_{side}_{kind}"
            for side in ("LOCAL", "PEER")
            for kind in ("URI_SAN", "DNS_SAN", "IP_SAN", "EMAIL_SAN", "OTHERNAME_SAN", "SUBJECT")
        ),
        *(
            f"DOWNSTREAM_PEER_{kind}"
            for kind in (
                *("ISSUER", "SERIAL", "FINGERPRINT_256", "FINGERPRINT_1", "CERT", "CERT_V_START", "CERT_V_END"),
                *("CHAIN_FINGERPRINTS_256", "CHAIN_FINGERPRINTS_1", "CHAIN_SERIALS"),
                *("ISSUER_FINGERPRINT_256", "ISSUER_SERIAL"),
            )
        ),
        *(f"{side}_TLS_{kind}" for side in ("UPSTREAM", "DOWNSTREAM") for kind in ("CIPHER", "VERSION", "GROUP")),
        *(f"UPSTREAM_PEER_{kind}" for kind in ("SUBJECT", "ISSUER", "CERT", "CERT_V_START", "CERT_V_END")),
        *(f"UPSTREAM_{side}_{kind}_SAN" for side in ("PEER", "LOCAL") for kind in ("URI", "DNS", "IP")),
        "DOWNSTREAM_TRANSPORT_FAILURE_REASON",
        *("DYNAMIC_METADATA", "QUERY_PARAM", "QUERY_PARAMS", "PATH", "ACCESS_LOG_TYPE"),
        *("METHOD", "HOST", "REQUEST_PROPERTY", "RESPONSE_PROPERTY", "GENERIC_RESPONSE_CODE"),
    }
)
"""What `mosn_xds.data.observe` gives a value to."""

INERT_OPERATORS: frozenset[str] = frozenset(
    {
        *("DOWNSTREAM_HANDSHAKE_DURATION", "UPSTREAM_CONNECTION_POOL_READY_DURATION"),
        *("BYTES_RETRANSMITTED", "PACKETS_RETRANSMITTED"),
        *(
            f"{side}_{kind}_BYTES_{way}"
            for side in ("UPSTREAM", "DOWNSTREAM")
            for kind in ("WIRE", "HEADER", "DECOMPRESSED_HEADER")
            for way in ("SENT", "RECEIVED")
        ),
        *("CUSTOM_FLAGS", "VIRTUAL_CLUSTER_NAME", "UPSTREAM_HOSTS_ATTEMPTED", "UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT"),
        *("UPSTREAM_HOST_NAMES_ATTEMPTED", "UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT"),
        *("UPSTREAM_CONNECTION_IDS_ATTEMPTED", "UPSTREAM_CONNECTION_ID", "UPSTREAM_REMOTE_ADDRESS_ENDPOINT_ID"),
        *("UPSTREAM_SERVER_NAME", "UPSTREAM_DETECTED_CLOSE_TYPE", "UPSTREAM_LOCAL_CLOSE_REASON"),
        *("DOWNSTREAM_LOCAL_ADDRESS_ENDPOINT_ID", "DOWNSTREAM_DIRECT_LOCAL_ADDRESS_ENDPOINT_ID"),
        *("DOWNSTREAM_REMOTE_ADDRESS_ENDPOINT_ID", "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_ENDPOINT_ID"),
        *("DOWNSTREAM_LOCAL_CLOSE_REASON", "DOWNSTREAM_DETECTED_CLOSE_TYPE"),
        *("TLS_JA3_FINGERPRINT", "TLS_JA4_FINGERPRINT", "DOWNSTREAM_TLS_SESSION_ID", "UPSTREAM_TLS_SESSION_ID"),
        *("CLUSTER_METADATA", "UPSTREAM_METADATA", "METADATA", "FILTER_STATE", "UPSTREAM_FILTER_STATE"),
        *("ENVIRONMENT", "COALESCE", "CEL", "TYPED_CEL", "TRACE_ID", "SPAN_ID", "FILE_CONTENT", "SECRET"),
    }
)
"""What Envoy knows and this proxy never has a value for (yet): ``-`` in text, and reported where it is used."""

_TOKEN = re.compile(r"%(?:%|([A-Z][A-Z0-9_]*)(?:\(([^()]*(?:\([^()]*\)[^()]*)*)\))?(?::(\d+))?%)")


def parse_format(text: str, operators: frozenset[str]) -> Format:
    """Split `text` into literals and operators; ``%%`` is a percent sign.

    Raises `ConfigError` for a lone ``%`` and for an operator that is not in `operators`.
    """
    parts: list[FormatText | FormatOperator] = []
    literal = ""
    at = 0
    while at < len(text):
        percent = text.find("%", at)
        if percent < 0:
            literal += text[at:]
            break
        literal += text[at:percent]
        token = _TOKEN.match(text, percent)
        if token is None:
            raise ConfigError(
                f"Incorrect configuration: {text}. Couldn't find valid command at position {percent}",
                hint="a literal percent sign is written %%",
            )
        at = token.end()
        name = token.group(1)
        if name is None:
            literal += "%"
            continue
        if name not in operators:
            raise ConfigError(
                f"Not supported field in StreamInfo: {name}", hint="see the access log operators in docs/"
            )
        if literal:
            parts.append(FormatText(literal))
            literal = ""
        length = token.group(3)
        parts.append(FormatOperator(name, token.group(2), int(length) if length else None))
    if literal:
        parts.append(FormatText(literal))
    return tuple(parts)
