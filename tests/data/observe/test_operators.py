"""What each format operator says, in text and typed; the tables hold what a real Envoy 1.40 logs."""

import json

import pytest

from mosn_xds.base.clock import ManualClock
from mosn_xds.base.errors import ConfigError, ResponseFlag
from mosn_xds.data.codec.head import Version
from mosn_xds.data.observe.formatter import Formatter, JsonFormatter
from mosn_xds.spec.access_log import JsonFormat, JsonObject, JsonText
from mosn_xds.spec.common import Address, FormatOperator
from mosn_xds.spec.format import INERT_OPERATORS, OPERATORS
from tests.support.heads import connection, environment, info, parsed, request, response

NEEDS_ARGUMENT = {
    "REQ": "x",
    "REQUEST_HEADER": "x",
    "RESP": "x",
    "RESPONSE_HEADER": "x",
    "TRAILER": "x",
    "RESPONSE_TRAILER": "x",
    "REQ_WITHOUT_QUERY": "x",
    "QUERY_PARAM": "x",
    "COMMON_DURATION": "DS_RX_BEG:DS_TX_END:ms",
}


class Upstream:
    """A host as formats see it."""

    def __init__(self, hostname: str = "") -> None:
        self.address = Address("127.0.0.1", 42181)
        self.text = str(self.address)
        self.hostname = hostname


def routed(**changes: object):
    """A request that was rewritten and forwarded."""
    head = request(
        "/new/x?q=%41b&q=2&z",
        ("x-a", "1"),
        ("x-a", "2"),
        ("x-long", "abcdef"),
        ("x-empty", ""),
        ("x-request-id", "418fe548-51d8-459b-b570-0410feca0956"),
        ("x-envoy-original-path", "/up/x?q=%41b&q=2&z"),
    )
    stream = info(
        head,
        version=Version.HTTP11,
        upstream_version=Version.HTTP11,
        response_head=response(200, ("x-resp", "a"), ("x-resp", "b")),
        response_code=200,
        details="via_upstream",
        route_name="named",
        cluster_name="up",
        upstream_host=Upstream(),
        upstream_local="127.0.0.1:47546",
        attempts=1,
        bytes_sent=2,
        start_wall_s=1795409851.44,
        duration_s=0.0019,
        last_rx=0.00008,
        first_up_tx=0.000805,
        last_up_tx=0.0009,
        first_up_rx=0.0012,
        last_up_rx=0.0013,
        first_tx=0.0013,
        last_tx=0.0014,
    )
    for name, value in changes.items():
        setattr(stream, name, value)
    return stream


def unrouted():
    """A request line that the codec could not make sense of."""
    return info(
        None, version=Version.HTTP11, response_code=400, details="http1.codec_error", flags=int(ResponseFlag.DPE)
    )


def both(text: str, stream) -> tuple[object, str]:
    """The typed value and the text of a format."""
    root = JsonObject((("v", JsonText(parsed(text))),))
    typed = json.loads(JsonFormatter(JsonFormat(root), environment()).render(stream))["v"]
    return typed, Formatter(parsed(text), environment()).render(stream).decode("latin-1")


@pytest.mark.parametrize(
    ("text", "typed", "absent"),
    [
        ("%ACCESS_LOG_TYPE%", "DownstreamEnd", "DownstreamEnd"),
        ("%BYTES_RECEIVED%", 0, 0),
        ("%BYTES_SENT%", 2, 0),
        ("%COMMON_DURATION(DS_RX_BEG:DS_TX_END:ms)%", 1, None),
        ("%COMMON_DURATION(DS_RX_BEG:US_TX_BEG:us)%", 805, None),
        ("%COMMON_DURATION(DS_RX_BEG:DS_RX_END:ns)%", 80000, None),
        ("%COMMON_DURATION(US_CX_BEG:DS_RX_END)%", None, None),
        ("%CONNECTION_ID%", 7, 7),
        ("%CONNECTION_TERMINATION_DETAILS%", None, None),
        ("%DOWNSTREAM_DIRECT_LOCAL_ADDRESS%", "10.9.9.9:8080", "10.9.9.9:8080"),
        ("%DOWNSTREAM_LOCAL_ADDRESS%", "10.9.9.9:8080", "10.9.9.9:8080"),
        ("%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%", "10.9.9.9", "10.9.9.9"),
        ("%DOWNSTREAM_LOCAL_PORT%", 8080, 8080),
        ("%DOWNSTREAM_REMOTE_ADDRESS%", "10.1.2.3:40000", "10.1.2.3:40000"),
        ("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "10.1.2.3", "10.1.2.3"),
        ("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(16)%", "10.1.0.0/16", "10.1.0.0/16"),
        ("%DOWNSTREAM_REMOTE_PORT%", 40000, 40000),
        ("%DURATION%", 1, 0),
        ("%FILTER_CHAIN_NAME%", None, None),
        ("%GRPC_STATUS%", None, None),
        ("%HOSTNAME%", "node-1", "node-1"),
        ("%LOCAL_REPLY_BODY%", "", ""),
        ("%PATH(WQ)%", "/up/x?q=%41b&q=2&z", None),
        ("%PATH(NQ)%", "/up/x", None),
        ("%PATH(NQ:PATH)%", "/new/x", None),
        ("%PATH(WQ:ORIG)%", "/up/x?q=%41b&q=2&z", None),
        ("%PROTOCOL%", "HTTP/1.1", "HTTP/1.1"),
        ("%QUERY_PARAM(q)%", "Ab", None),
        ("%QUERY_PARAM(z)%", "", None),
        ("%QUERY_PARAMS%", "q=%41b&q=2&z", None),
        ("%QUERY_PARAMS(DECODED)%", "q=Ab&q=2&z", None),
        ("%REQ(X-A)%", "1", None),
        ("%REQ(X-MISSING)%", None, None),
        ("%REQ(X-MISSING?X-A)%", "1", None),
        ("%REQ(X-A?X-B)%", "1", None),
        ("%REQ(:PATH)%", "/new/x?q=%41b&q=2&z", None),
        ("%REQ(:METHOD)%", "GET", None),
        ("%REQ(:AUTHORITY)%", "h.com", None),
        ("%REQ(HOST)%", "h.com", None),
        ("%REQ(:SCHEME)%", "http", None),
        ("%REQ(X-EMPTY)%", "", None),
        ("%REQUESTED_SERVER_NAME%", None, None),
        ("%REQUESTED_SERVER_NAME(SNI_FIRST)%", "h.com", None),
        ("%REQUEST_DURATION%", 0, None),
        ("%REQUEST_HEADERS_BYTES%", 174, 0),
        ("%REQUEST_TX_DURATION%", 0, None),
        ("%REQ_WITHOUT_QUERY(X-ENVOY-ORIGINAL-PATH?:PATH)%", "/up/x", None),
        ("%RESP(X-RESP)%", "a", None),
        ("%RESP(:STATUS)%", "200", None),
        ("%RESPONSE_CODE%", 200, 400),
        ("%RESPONSE_CODE_DETAILS%", "via_upstream", "http1.codec_error"),
        ("%RESPONSE_DURATION%", 1, None),
        ("%RESPONSE_FLAGS%", "-", "DPE"),
        ("%RESPONSE_FLAGS_LONG%", "-", "DownstreamProtocolError"),
        ("%RESPONSE_HEADERS_BYTES%", 24, 0),
        ("%RESPONSE_TRAILERS_BYTES%", 0, 0),
        ("%RESPONSE_TX_DURATION%", 0, None),
        ("%ROUNDTRIP_DURATION%", None, None),
        ("%ROUTE_NAME%", "named", None),
        ("%START_TIME(%Y/%m/%d)%", "2026/11/23", "1970/01/01"),
        ("%STREAM_ID%", "418fe548-51d8-459b-b570-0410feca0956", None),
        ("%TRAILER(x)%", None, None),
        ("%UPSTREAM_CLUSTER%", "up", None),
        ("%UPSTREAM_CLUSTER_RAW%", "up", None),
        ("%UPSTREAM_HOST%", "127.0.0.1:42181", None),
        ("%UPSTREAM_HOST_NAME%", "127.0.0.1:42181", None),
        ("%UPSTREAM_HOST_NAME_WITHOUT_PORT%", "127.0.0.1", None),
        ("%UPSTREAM_LOCAL_ADDRESS%", "127.0.0.1:47546", None),
        ("%UPSTREAM_LOCAL_PORT%", 47546, None),
        ("%UPSTREAM_PROTOCOL%", "HTTP/1.1", None),
        ("%UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "127.0.0.1", None),
        ("%UPSTREAM_REMOTE_PORT%", 42181, None),
        ("%UPSTREAM_REQUEST_ATTEMPT_COUNT%", 1, 0),
        ("%UPSTREAM_TRANSPORT_FAILURE_REASON%", None, None),
        ("x%REQ(X-MISSING)%y", "x-y", "x-y"),
        ("x%RESPONSE_CODE%y", "x200y", "x400y"),
        ("%RESPONSE_CODE%%DURATION%", "2001", "4000"),
        ("%REQ(X-LONG):3%", "abc", None),
        ("100%%", "100%", "100%"),
    ],
)
def test_operators(text, typed, absent):
    """`typed` for a request that was forwarded, `absent` for one that could not be parsed."""
    for stream, expected in ((routed(), typed), (unrouted(), absent)):
        if "DURATION%" in text and stream.duration_s is None:
            stream.duration_s = 0.0
        assert both(text, stream) == (expected, "-" if expected is None else str(expected))


def test_every_known_operator_can_be_compiled_and_inert_ones_are_never_there():
    for name in OPERATORS | INERT_OPERATORS:
        operator = FormatOperator(name, NEEDS_ARGUMENT.get(name))
        text = Formatter((operator,), environment()).render(info())
        assert text == b"-" or name not in INERT_OPERATORS, name


@pytest.mark.parametrize(
    ("name", "argument", "reason"),
    [
        ("NONSENSE", None, "Not supported field in StreamInfo: NONSENSE"),
        ("REQ", None, "REQ requires parameters"),
        ("REQUESTED_SERVER_NAME", "ANY", "Invalid REQUESTED_SERVER_NAME option"),
        ("REQ", "a?b?c", "More than 1 alternative header specified in token"),
        ("PATH", "NQ:PATH_OR_ORIG", "only 'ORIG'/'PATH'/'ORIG_OR_PATH' are allowed"),
        ("GRPC_STATUS", "WORDS", "GrpcStatusFormatter only supports"),
        ("COMMON_DURATION", "DS_RX_BEG", "Invalid common duration configuration"),
        ("COMMON_DURATION", "DS_RX_BEG:DS_RX_END:days", "Invalid common duration precision"),
    ],
)
def test_what_an_operator_does_not_take_is_refused(name, argument, reason):
    with pytest.raises(ConfigError, match=reason.replace("/", ".")):
        Formatter((FormatOperator(name, argument),), environment())


def test_a_duration_runs_until_the_stream_ends():
    clock = ManualClock()
    stream = routed(start_s=clock.monotonic(), duration_s=None)
    duration = Formatter(parsed("%DURATION%"), environment(clock))
    clock.advance(0.25)
    assert duration.render(stream) == b"250"
    stream.duration_s = 0.3
    clock.advance(1)
    assert duration.render(stream) == b"300"


@pytest.mark.parametrize(
    ("trailers", "headers", "status", "number", "camel", "snake"),
    [
        ([(b"grpc-status", b"5")], [], 200, 5, "NotFound", "NOT_FOUND"),
        (None, [("grpc-status", "0")], 200, 0, "OK", "OK"),
        ([(b"grpc-status", b"1")], [("grpc-status", "0")], 200, 1, "Canceled", "CANCELLED"),
        (None, [], 503, 14, "Unavailable", "UNAVAILABLE"),
        (None, [], 404, 12, "Unimplemented", "UNIMPLEMENTED"),
        (None, [("grpc-status", "77")], 200, 77, "77", "77"),
    ],
)
def test_the_grpc_status_is_looked_for_in_trailers_headers_and_the_http_status(
    trailers, headers, status, number, camel, snake
):
    stream = info(
        request("/s/m", ("content-type", "application/grpc")),
        response_head=response(status, *headers),
        response_trailers=trailers,
        response_code=status,
    )
    assert both("%GRPC_STATUS_NUMBER%", stream)[0] == number
    assert both("%GRPC_STATUS%", stream)[0] == camel
    assert both("%GRPC_STATUS(SNAKE_STRING)%", stream)[0] == snake


def test_reasons_are_shown_without_spaces():
    stream = routed(transport_failure="delayed connect error: Connection refused", details="a b")
    assert both("%UPSTREAM_TRANSPORT_FAILURE_REASON%", stream)[1] == "delayed_connect_error:_Connection_refused"
    assert both("%RESPONSE_CODE_DETAILS%", stream)[1] == "a_b"
    assert both("%RESPONSE_CODE_DETAILS(ALLOW_WHITESPACES)%", stream)[1] == "a b"


def test_a_host_name_is_shown_with_and_without_its_port():
    stream = routed(upstream_host=Upstream("my.host:99"))
    assert both("%UPSTREAM_HOST_NAME%", stream)[1] == "my.host:99"
    assert both("%UPSTREAM_HOST_NAME_WITHOUT_PORT%", stream)[1] == "my.host"
    assert both("%UPSTREAM_HOST%", stream)[1] == "127.0.0.1:42181"


def test_the_trusted_client_address_is_not_the_peers():
    stream = routed(remote=Address("203.0.113.9"))
    assert both("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", stream)[1] == "203.0.113.9"
    assert both("%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%", stream)[1] == "10.1.2.3"


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("SNI_FIRST", "sni.com"),
        ("SNI_ONLY", "sni.com"),
        ("HOST_FIRST", "before.com"),
        ("HOST_FIRST:ORIG", "before.com"),
        ("HOST_FIRST:HOST", "h.com"),
        ("HOST_FIRST:ORIG_OR_HOST", "before.com"),
    ],
)
def test_the_requested_server_name_may_be_the_host(argument, expected):
    stream = info(request("/", ("x-envoy-original-host", "before.com")))
    stream.connection.sni = "sni.com"
    assert both(f"%REQUESTED_SERVER_NAME({argument})%", stream)[1] == expected


def test_ipv6_and_unix_addresses():
    stream = routed(connection=connection(remote="fd00::1"))
    assert both("%DOWNSTREAM_REMOTE_ADDRESS%", stream)[1] == "[fd00::1]:40000"
    assert both("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(32)%", stream)[1] == "fd00::/32"
    stream.connection.local = Address("/run/app.sock")
    assert both("%DOWNSTREAM_LOCAL_ADDRESS%", stream)[1] == "/run/app.sock"
    assert both("%DOWNSTREAM_LOCAL_PORT%", stream) == (None, "-")


def test_several_flags_are_joined():
    stream = routed(flags=int(ResponseFlag.UF | ResponseFlag.URX))
    assert both("%RESPONSE_FLAGS%", stream)[1] == "URX,UF"
    assert both("%RESPONSE_FLAGS_LONG%", stream)[1] == "UpstreamConnectionFailure,UpstreamRetryLimitExceeded"


def test_a_cluster_may_have_another_name_in_statistics():
    stream = routed(cluster_name="dead", cluster_stat_name="alt_dead")
    assert both("%UPSTREAM_CLUSTER%", stream)[1] == "alt_dead"
    assert both("%UPSTREAM_CLUSTER_RAW%", stream)[1] == "dead"


METADATA = {
    "ns": {"s": "str ing", "n": 5, "f": 1.5, "w": 2.0, "b": True, "o": {"z": [1, "x"], "a": 1}, "l": ["a", None]}
}


@pytest.mark.parametrize(
    ("text", "typed", "line"),
    [
        ("%DYNAMIC_METADATA(ns:s)%", "str ing", "str ing"),
        ("%DYNAMIC_METADATA(ns:n)%", 5, "5"),
        ("%DYNAMIC_METADATA(ns:f)%", 1.5, "1.5"),
        ("%DYNAMIC_METADATA(ns:w)%", 2, "2"),
        ("%DYNAMIC_METADATA(ns:b)%", True, "true"),
        ("%DYNAMIC_METADATA(ns:o)%", {"a": 1, "z": [1, "x"]}, '{"a":1,"z":[1,"x"]}'),
        ("%DYNAMIC_METADATA(ns:o:a)%", 1, "1"),
        ("%DYNAMIC_METADATA(ns:l)%", ["a", None], '["a",null]'),
        ("%DYNAMIC_METADATA(ns:zz)%", None, "-"),
        ("%DYNAMIC_METADATA(other)%", None, "-"),
        ("%DYNAMIC_METADATA(ns:s):3%", "str", "str"),
        ("%DYNAMIC_METADATA(ns:o):5%", {"a": 1, "z": [1, "x"]}, '{"a":'),
        ("x%DYNAMIC_METADATA(ns:n)%y", "x5y", "x5y"),
    ],
)
def test_dynamic_metadata_keeps_its_types(text, typed, line):
    assert both(text, routed(metadata=METADATA)) == (typed, line)


def test_unique_ids_are_random_uuids():
    unique = Formatter(parsed("%UNIQUE_ID%"), environment())
    first, second = unique.render(routed()).decode(), unique.render(routed()).decode()
    assert first != second
    assert len(first) == 36
    assert (first[14], first[19] in "89ab") == ("4", True)
