"""The PROXY header that we send is one that can be read, whatever the client's own had in it."""

from mosn_xds.data.listener.proxy_header import parse_proxy_header
from mosn_xds.data.upstream.proxy_header import proxy_header
from mosn_xds.spec.cluster import UpstreamProxyProtocol
from tests.support.heads import connection


def test_tlvs_that_do_not_fit_are_left_out() -> None:
    served = connection("2001:db8::1", "2001:db8::2")
    served.proxy_tlvs = ((0xE0, bytes(40000)), (0xE1, bytes(30000)), (0xE2, b"small"))
    header = proxy_header(UpstreamProxyProtocol(2, ((0xE3, b"added"),), True, ()), served)
    parsed = parse_proxy_header(header)
    assert parsed is not None
    assert parsed.source == served.remote
    assert [kind for kind, _ in parsed.tlvs] == [0xE3, 0xE0, 0xE2]
