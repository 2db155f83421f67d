"""Whole formats: Envoy's and Istio's default lines, and JSON byte for byte as a real Envoy 1.40 writes it."""

import json

import pytest

from mosn_xds.data.codec.head import Version
from mosn_xds.data.observe.formatter import Formatter, JsonFormatter, json_string
from mosn_xds.spec.access_log import JsonConstant, JsonFormat, JsonList, JsonNode, JsonObject, JsonText
from mosn_xds.spec.common import Address
from tests.support.heads import environment, info, parsed, request, response

ENVOY = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% '
    '%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" '
    '"%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%"\n'
)
ISTIO = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% '
    '%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% '
    '%BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" '
    '"%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% '
    "%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n"
)


class Upstream:
    address = Address("127.0.0.1", 39183)
    text = "127.0.0.1:39183"
    hostname = ""


def forwarded():
    return info(
        request("/up", ("x-request-id", "270fa844-36c1-48fe-8ba5-2f8b91974e3c")),
        version=Version.HTTP11,
        response_head=response(200, ("x-envoy-upstream-service-time", "0")),
        response_code=200,
        details="via_upstream",
        cluster_name="up",
        route_name="default",
        upstream_host=Upstream(),
        upstream_local="127.0.0.1:47546",
        start_wall_s=1795409964.751,
        duration_s=0.0002,
        bytes_sent=7,
    )


def test_envoys_default_line():
    assert Formatter(parsed(ENVOY), environment()).render(forwarded()) == (
        b'[2026-11-23T04:59:24.751Z] "GET /up HTTP/1.1" 200 - 0 7 0 0 "-" "-" "270fa844-36c1-48fe-8ba5-2f8b91974e3c" '
        b'"h.com" "127.0.0.1:39183"\n'
    )


def test_istios_default_line():
    assert Formatter(parsed(ISTIO), environment()).render(forwarded()) == (
        b'[2026-11-23T04:59:24.751Z] "GET /up HTTP/1.1" 200 - via_upstream - "-" 0 7 0 0 "-" "-" '
        b'"270fa844-36c1-48fe-8ba5-2f8b91974e3c" "h.com" "127.0.0.1:39183" up 127.0.0.1:47546 10.9.9.9:8080 '
        b"10.1.2.3:40000 - default\n"
    )


def test_a_tcp_session_has_a_line_of_dashes_and_sizes():
    session = info(
        None, start_wall_s=1795409964.751, duration_s=1.25, bytes_received=10, bytes_sent=20, cluster_name="tcp"
    )
    assert Formatter(parsed(ISTIO), environment()).render(session) == (
        b'[2026-11-23T04:59:24.751Z] "- - -" 0 - - - "-" 10 20 1250 - "-" "-" "-" "-" "-" tcp - 10.9.9.9:8080 '
        b"10.1.2.3:40000 - -\n"
    )


def test_a_format_that_omits_empty_values_shows_nothing_for_them():
    text = Formatter(parsed("[%REQ(X)%|x%REQ(NO)%y|%RESPONSE_CODE%]"), environment(), omit_empty=True)
    assert text.render(forwarded()) == b"[|xy|200]"


def test_bytes_are_logged_as_they_came():
    stream = info(request("/", ("x", "é\xff")))
    assert Formatter(parsed("<%REQ(X)%>"), environment()).render(stream) == b"<\xe9\xff>"


def text(value: str) -> JsonText:
    return JsonText(parsed(value))


def obj(**fields: JsonNode) -> JsonObject:
    return JsonObject(tuple(fields.items()))


ROOT = JsonObject(
    (
        ("zeta", text("%REQ(X)%")),
        (
            "alpha",
            obj(
                b=text("%REQ(NO)%"),
                a=JsonConstant(1.0),
                c=JsonConstant(1.5),
                t=JsonConstant(True),
                n=JsonConstant(None),
                l=JsonList((text("%REQ(NO)%"), text("%RESPONSE_CODE%"), obj(x=text("y%%")), JsonConstant(2.0))),
                e=obj(),
                el=JsonList(()),
            ),
        ),
        ('"q"', text('a"b')),
        ("e2", obj(only=text("%REQ(NO)%"))),
        ("txt", text("é<\u2028")),
        ("empty", text("")),
        ("neg", JsonConstant(-0.5)),
        ("mix", text("%REQ(X)%-%REQ(NO)%")),
    )
)


def rendered(*, omit: bool) -> str:
    stream = info(request("/", ("x", "plain")), response_code=200)
    return JsonFormatter(JsonFormat(ROOT, omit), environment()).render(stream).decode()


def test_json_keys_are_sorted_types_kept_and_missing_values_null():
    assert rendered(omit=False) == (
        '{"\\"q\\"":"a\\"b","alpha":{"a":1,"b":null,"c":1.5,"e":{},"el":[],"l":[null,200,{"x":"y%"},2],"n":null,"t":true},'
        '"e2":{"only":null},"empty":"","mix":"plain--","neg":-0.5,"txt":"é<\u2028","zeta":"plain"}'
    )


def test_json_can_leave_out_what_is_empty():
    assert rendered(omit=True) == (
        '{"\\"q\\"":"a\\"b","alpha":{"a":1,"c":1.5,"el":[],"l":[200,{"x":"y%"},2],"t":true},'
        '"empty":"","mix":"plain-","neg":-0.5,"txt":"é<\u2028","zeta":"plain"}'
    )


def test_an_object_whose_every_value_is_missing_is_an_empty_object():
    fields = obj(a=text("%REQ(NO)%"))
    assert JsonFormatter(JsonFormat(fields, omit_empty_values=True), environment()).render(info(request())) == b"{}"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"plain", b'"plain"'),
        (b"q\"\\/<>&'", b'"q\\"\\\\/<>&\'"'),
        ("é😀\u2028".encode(), '"é😀\u2028"'.encode()),
        (b"\xff", b'"\\u00ff"'),
        (b"\xc3", b'"\\u00c3"'),
        (b'\xc3\xa9\xff"', b'"\\u00c3\\u00a9\\u00ff\\u0022"'),
        (b"a\tb", b'"a\\tb"'),
    ],
)
def test_json_strings(value, expected):
    assert json_string(value) == expected
    assert json.loads(json_string(value)) is not None


def test_a_header_that_is_not_utf8_does_not_break_the_line():
    root = obj(bin=text("%REQ(BIN)%"), mix=text("<%REQ(BIN)%>"), list=JsonList((text("%REQ(BIN)%"),)))
    line = JsonFormatter(JsonFormat(root), environment()).render(info(request("/", ("bin", "\xff"))))
    assert line == b'{"bin":"\\u00ff","list":["\\u00ff"],"mix":"<\\u00ff>"}'
