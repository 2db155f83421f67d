"""What the operators of RPC proxies say: of a request with its answer, of one without, and of HTTP."""

import pytest

from mosn_xds.data.codec.head import Version
from mosn_xds.data.codec.rpc import Kind, RpcRequest, RpcResponse
from mosn_xds.data.observe.formatter import Formatter, JsonFormatter
from mosn_xds.spec.access_log import JsonFormat, JsonObject, JsonText
from tests.support.heads import environment, info, parsed, request, response

BOLT = Version("bolt")
CALL = RpcRequest.of(
    BOLT,
    b"frame",
    7,
    service=b"shop.Cart",
    method=b"get",
    properties=[(b"User", b"me"), (b"user", b"you"), (b"e", b"")],
)
ONEWAY = RpcRequest.of(BOLT, b"frame", 8, service=b"", method=b"put", kind=Kind.ONEWAY)
ANSWER = RpcResponse.of(BOLT, b"frame", 7, status=200, code=20, properties=[(b"From", b"v2")])


def answered():
    return info(CALL, response_head=ANSWER, response_code=200, rpc_code=20, version=BOLT)


@pytest.mark.parametrize(
    ("text", "expected", "without"),
    [
        ("%METHOD%", "get", "put"),
        ("%METHOD:2%", "ge", "pu"),
        ("%HOST%", "shop.Cart", ""),
        ("%PATH%", "shop.Cart", "-"),
        ("%PROTOCOL%", "bolt", "bolt"),
        ("%REQUEST_PROPERTY(user)%", "you", "-"),
        ("%REQUEST_PROPERTY(User)%", "me", "-"),
        ("%REQUEST_PROPERTY(USER)%", "me", "-"),
        ("%REQUEST_PROPERTY(e)%", "", "-"),
        ("%REQUEST_PROPERTY(absent)%", "-", "-"),
        ("%REQUEST_PROPERTY%", "-", "-"),
        ("%RESPONSE_PROPERTY(From)%", "v2", "-"),
        ("%RESPONSE_PROPERTY(absent)%", "-", "-"),
        ("%GENERIC_RESPONSE_CODE%", "20", "-"),
        ("%RESPONSE_CODE%", "200", "0"),
        ("%REQ(:AUTHORITY)% %REQ(:METHOD)%", "shop.Cart get", " put"),
    ],
)
def test_rpc_operators(text: str, expected: str, without: str) -> None:
    formatter = Formatter(parsed(text), environment())
    assert formatter.render(answered()).decode() == expected
    assert formatter.render(info(ONEWAY, version=BOLT)).decode() == without


def test_the_protocols_status_is_a_number_in_json() -> None:
    format = JsonFormat(JsonObject((("code", JsonText(parsed("%GENERIC_RESPONSE_CODE%"))),)))
    assert JsonFormatter(format, environment()).render(answered()) == b'{"code":20}'


def test_an_http_request_has_a_method_and_headers_but_no_status_of_a_protocol() -> None:
    stream = info(request("/x", ("a", "1")), response_head=response(200, ("b", "2")), response_code=200)
    text = "%METHOD% %HOST% %REQUEST_PROPERTY(a)% %RESPONSE_PROPERTY(b)% %GENERIC_RESPONSE_CODE%"
    assert Formatter(parsed(text), environment()).render(stream) == b"GET h.com 1 2 -"
