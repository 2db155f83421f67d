"""What the connection manager does to request heads, as Envoy's documents and Envoy itself have it."""

import random
import re

import pytest

from mosn_xds.data.codec.head import RequestHead, Version
from mosn_xds.data.observe.info import ConnectionInfo
from mosn_xds.data.proxy.request_headers import EXTERNAL_FORBIDDEN, RequestHeaders
from mosn_xds.spec.common import Address, CidrRange
from mosn_xds.spec.listener import HttpConnectionManager

PEER = "50.0.0.1"
UUID4 = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def head(*fields: tuple[bytes, bytes], method=b"GET", path=b"/", authority=b"example.com", upgrade=None) -> RequestHead:
    return RequestHead(method, b"", authority, path, Version.HTTP11, list(fields), upgrade)


def connection(peer: str = PEER) -> ConnectionInfo:
    return ConnectionInfo(id=1, remote=Address(peer, 5000), local=Address("10.0.0.9", 8080), start_s=0, start_wall_s=0)


def prepare(request: RequestHead, peer: str = PEER, **options: object):
    spec = HttpConnectionManager(stat_prefix="t", **options)
    treatment = RequestHeaders(
        spec, node_id="node-1", service_cluster="shop", local_ip="192.168.7.7", random=random.Random(1)
    )
    return treatment.prepare(request, connection(peer), dict(request.fields))


INTERNAL = {"internal_cidrs": (CidrRange("10.0.0.0", 8), CidrRange("50.0.0.0", 8))}


def test_a_plain_request_gets_proto_and_a_request_id():
    request = head((b"accept", b"*/*"))
    assert prepare(request) is None
    assert request.get(b"x-forwarded-proto") == b"http"
    assert request.scheme == b"http"
    assert UUID4.fullmatch(request.get(b"x-request-id"))


@pytest.mark.parametrize(
    ("request_head", "status", "details"),
    [
        (head(authority=None), 400, "missing_host_header"),
        (head(path=b""), 404, "missing_path_rejected"),
        (head(path=b"*", method=b"OPTIONS"), 404, "absolute_path_rejected"),
        (head(path=b"/a#b"), 400, "path_normalization_failed"),
    ],
)
def test_what_cannot_be_routed_is_answered(request_head, status, details):
    reply = prepare(request_head)
    assert (reply.status, reply.details) == (status, details)


def test_hop_by_hop_headers_stay_behind():
    request = head((b"keep-alive", b"5"), (b"proxy-connection", b"x"), (b"te", b"gzip"), (b"connection", b"close"))
    prepare(request)
    for name in (b"keep-alive", b"proxy-connection", b"te", b"connection"):
        assert request.get(name) is None


def test_te_trailers_passes():
    request = head((b"te", b"trailers"))
    prepare(request)
    assert request.get(b"te") == b"trailers"


def test_an_upgrade_keeps_its_connection_headers():
    request = head((b"connection", b"Upgrade"), (b"upgrade", b"websocket"), upgrade=b"websocket")
    prepare(request)
    assert request.get(b"connection") == b"Upgrade"
    assert request.get(b"upgrade") == b"websocket"


def test_external_clients_may_not_steer_the_router():
    request = head(*((name, b"1") for name in EXTERNAL_FORBIDDEN))
    prepare(request)
    assert not [name for name, _ in request.fields if name in EXTERNAL_FORBIDDEN]


def test_internal_clients_may():
    request = head((b"x-envoy-retry-on", b"5xx"))
    prepare(request, use_remote_address=True, **INTERNAL)
    assert request.get(b"x-envoy-retry-on") == b"5xx"
    assert request.get(b"x-envoy-internal") == b"true"


def test_without_use_remote_address_one_forwarded_address_can_be_internal():
    request = head((b"x-forwarded-for", b"10.1.1.1"), (b"x-envoy-max-retries", b"3"))
    prepare(request, **INTERNAL)
    assert request.get(b"x-envoy-max-retries") == b"3"
    assert request.get(b"x-forwarded-for") == b"10.1.1.1"


def test_two_forwarded_addresses_are_external():
    request = head((b"x-forwarded-for", b"10.1.1.1, 10.1.1.2"), (b"x-envoy-max-retries", b"3"))
    prepare(request, **INTERNAL)
    assert request.get(b"x-envoy-max-retries") is None


@pytest.mark.parametrize(
    ("peer", "before", "options", "after"),
    [
        (PEER, None, {}, b"50.0.0.1"),
        (PEER, b"1.1.1.1", {}, b"1.1.1.1,50.0.0.1"),
        ("127.0.0.1", None, {}, b"192.168.7.7"),
        (PEER, b"1.1.1.1", {"skip_xff_append": True}, b"1.1.1.1"),
    ],
)
def test_an_edge_appends_its_peer(peer, before, options, after):
    request = head(*([(b"x-forwarded-for", before)] if before else []))
    prepare(request, peer, use_remote_address=True, **options)
    assert request.get(b"x-forwarded-for") == after


def test_an_edge_says_who_the_external_client_is_and_replaces_its_request_id():
    request = head((b"x-request-id", b"mine"), (b"x-forwarded-proto", b"https"))
    prepare(request, use_remote_address=True)
    assert request.get(b"x-envoy-external-address") == b"50.0.0.1"
    assert UUID4.fullmatch(request.get(b"x-request-id"))
    assert request.get(b"x-forwarded-proto") == b"http"


def test_inside_the_mesh_the_request_id_is_kept():
    request = head((b"x-request-id", b"mine"))
    prepare(request)
    assert request.get(b"x-request-id") == b"mine"


@pytest.mark.parametrize(
    ("options", "authority", "after"),
    [
        ({"strip_matching_host_port": True}, b"a.com:8080", b"a.com"),
        ({"strip_matching_host_port": True}, b"a.com:99", b"a.com:99"),
        ({"strip_any_host_port": True}, b"a.com:99", b"a.com"),
        ({"strip_any_host_port": True}, b"[::1]:99", b"[::1]"),
        ({"strip_trailing_host_dot": True}, b"a.com.:99", b"a.com:99"),
    ],
)
def test_ports_and_dots_of_the_host(options, authority, after):
    request = head(authority=authority)
    prepare(request, **options)
    assert request.authority == after


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (b"http://a/b", True),
        (b"/local", True),
        (b"http://a/b#c", False),
        (b"http://u:p@a/", False),
        (b"nonsense", False),
    ],
)
def test_a_referer_that_says_too_much_is_dropped(value, kept):
    request = head((b"referer", value))
    prepare(request)
    assert (request.get(b"referer") is not None) is kept


def test_via_and_user_agent():
    request = head((b"via", b"1.0 a"))
    prepare(request, via="1.1 mesh", add_user_agent=True)
    assert request.get(b"via") == b"1.0 a, 1.1 mesh"
    assert request.get(b"user-agent") == b"shop"
    assert request.get(b"x-envoy-downstream-service-cluster") == b"shop"
    assert request.get(b"x-envoy-downstream-service-node") == b"node-1"
