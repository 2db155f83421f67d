"""Stream filters on RPCs, in a whole proxy: those of HTTP and those of other packages do on Bolt what they do on HTTP."""

import os
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.authority import Authority
from tests.support.bolt_peer import BoltAnswer, BoltUpstream, call
from tests.support.frame_upstream import FrameUpstream
from tests.support.packages import install
from tests.support.ports import PortAllocator
from tests.support.proxies import Proxy, ProxyKind
from tests.support.thrift_peer import ThriftClient, ThriftUpstream
from tests.support.thrift_peer import call as thrift_call

_EXTENSIONS = "type.googleapis.com/envoy.extensions"
_GENERIC = f"{_EXTENSIONS}.filters.network.generic_proxy"
_FRONT, _GUEST = "spiffe://cluster.local/ns/shop/sa/front", "spiffe://cluster.local/ns/shop/sa/guest"
_SERVICE = (b"service", b"com.shop.Till:1.0")
_SELL = (b"sofa_head_method_name", b"sell")
_OK, _SERVER_EXCEPTION, _UNKNOWN, _BUSY, _NO_PROCESSOR = 0, 2, 3, 4, 6
_DELAY_S = 0.3

FILTERS = """
import trio

from mosn_xds.data.filters.api import PAUSE, FilterOptions, Reply, StreamFilter


class Tag(StreamFilter):
    class Options(FilterOptions, frozen=True):
        value: str

    def on_request(self, stream, end):
        if stream.request.get(b"mood") == b"bad":
            raise ValueError("mood")
        if stream.request.method == b"steal":
            return Reply(403, b"thief")
        if stream.request.method == b"redirect":
            stream.request.set(b"goal", b"elsewhere")
            stream.clear_route()
        stream.request.set(b"X-Tag", self.options.value.encode())
        stream.request.remove(b"secret")

    def on_response(self, stream, head, end):
        method = stream.request.method
        if method == b"spoil":
            return Reply(503, b"spoilt, overflow")
        if method == b"stumble":
            raise ValueError("stumbled")
        head.add(b"Tagged-By", self.options.value.encode())
        if method == b"linger":
            stream.arm(0.2, stream.resume)
            return PAUSE


class Wait(StreamFilter):
    async def on_request(self, stream, end):
        await trio.sleep(0.05)
        return Reply(429, b"slow down") if stream.request.get(b"hurry") else None
"""


class Shop:
    """A proxy with one listener for each filter, before one upstream."""

    def __init__(self, folder: Path) -> None:
        ports = PortAllocator()
        self.authority = Authority("shop")
        self.folder = folder
        self.till = BoltUpstream("till")
        self.thrift = ThriftUpstream("thrift")
        self.ports = {name: ports.take() for name in ("abort", "delay", "rbac", "tag", "thrift", "wait")}
        fault = f"{_EXTENSIONS}.filters.http.fault.v3.HTTPFault"
        whole = {"numerator": 100}
        abort = {"abort": {"http_status": 503, "percentage": whole}, "headers": [exact("user", "unlucky")]}
        policy = {
            "permissions": [{"header": exact(":method", "sell")}],
            "principals": [{"authenticated": {"principal_name": {"exact": _FRONT}}}],
        }
        rules = {"action": "ALLOW", "policies": {"front": policy}}
        struct_ = "type.googleapis.com/xds.type.v3.TypedStruct"
        tag = {"@type": struct_, "type_url": "acme.Tag", "value": {"value": "t1"}}
        chains = {
            "abort": chain("abort", {"@type": fault, **abort}),
            "delay": chain("delay", {"@type": fault, "delay": {"fixed_delay": f"{_DELAY_S}s", "percentage": whole}}),
            "rbac": chain("rbac", {"@type": f"{_EXTENSIONS}.filters.http.rbac.v3.RBAC", "rules": rules}),
            "tag": chain("tag", tag),
            "thrift": chain("thrift", tag, protocol="thrift"),
            "wait": chain("wait", {"@type": struct_, "type_url": "acme.Wait", "value": {}}),
        }
        chains["rbac"]["transport_socket"] = self._demands_certificates()
        listeners = [
            {"name": name, "address": address(port), "filter_chains": [chains[name]]}
            for name, port in self.ports.items()
        ]
        bootstrap = {
            "node": {"id": "shop", "cluster": "shop"},
            "admin": {"address": address(ports.take())},
            "static_resources": {
                "listeners": listeners,
                "clusters": [cluster("bolt", self.till), cluster("thrift", self.thrift)],
            },
        }
        group = {"mosn_xds.stream_filters": {"acme.Tag": "acme_tag:Tag", "acme.Wait": "acme_tag:Wait"}}
        path = install(folder / "site", {"acme_tag.py": FILTERS}, group)
        self.proxy = Proxy.start(ProxyKind.OURS, bootstrap, folder / "run", environment={**os.environ, **path})

    def _demands_certificates(self) -> dict[str, Any]:
        tls = {
            "@type": f"{_EXTENSIONS}.transport_sockets.tls.v3.DownstreamTlsContext",
            "require_client_certificate": True,
            "common_tls_context": {
                "tls_certificates": [self.authority.issue("shop.test").config()],
                "validation_context": {"trusted_ca": {"inline_string": self.authority.root}},
            },
        }
        return {"name": "tls", "typed_config": tls}

    def identity(self, name: str) -> ssl.SSLContext:
        """For a client of this name."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(cadata=self.authority.root)
        context.load_cert_chain(*self.authority.issue(name).write(self.folder, name.rpartition("/")[2]))
        return context

    def call(self, listener: str, *headers: tuple[bytes, bytes], tls: ssl.SSLContext | None = None) -> BoltAnswer:
        """One call on a connection of its own; `sell`, unless the headers say otherwise."""
        given = dict([_SERVICE, _SELL, *headers])
        return call(self.ports[listener], *given.items(), tls=tls)

    def stop(self) -> None:
        self.proxy.stop()
        self.till.close()
        self.thrift.close()


def address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def exact(name: str, value: str) -> dict[str, Any]:
    return {"name": name, "string_match": {"exact": value}}


def cluster(name: str, upstream: FrameUpstream) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": address(upstream.port)}}
    return {"name": name, "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]}}


def chain(name: str, filter_config: dict[str, Any], *, protocol: str = "bolt") -> dict[str, Any]:
    """A filter chain whose generic_proxy has this filter before its router, and leads to the protocol's cluster."""
    goal = {
        "name": "goal",
        "typed_config": {"@type": f"{_GENERIC}.matcher.v3.PropertyMatchInput", "property_name": "goal"},
    }
    elsewhere = {"single_predicate": {"input": goal, "value_match": {"exact": "elsewhere"}}}
    action = {"@type": f"{_GENERIC}.action.v3.RouteAction", "cluster": protocol}
    to_all = {"action": {"name": "all", "typed_config": action}}
    routes = {"matcher_list": {"matchers": [{"predicate": {"not_matcher": elsewhere}, "on_match": to_all}]}}
    codec = {"@type": "type.googleapis.com/mosn_xds.extensions.rpc.v1.ProtocolCodecConfig", "name": protocol}
    config = {
        "@type": f"{_GENERIC}.v3.GenericProxy",
        "stat_prefix": name,
        "codec_config": {"name": protocol, "typed_config": codec},
        "filters": [
            {"name": "filter", "typed_config": filter_config},
            {"name": "router", "typed_config": {"@type": f"{_GENERIC}.router.v3.Router"}},
        ],
        "route_config": {"name": name, "routes": routes},
    }
    return {"filters": [{"name": "envoy.filters.network.generic_proxy", "typed_config": config}]}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    made = Shop(tmp_path_factory.mktemp("shop"))
    try:
        yield made
    finally:
        made.stop()


def test_a_fault_answers_in_the_words_of_the_protocol(shop: Shop) -> None:
    assert shop.call("abort", (b"user", b"unlucky")).status == _BUSY
    lucky = shop.call("abort", (b"user", b"lucky"))
    assert (lucky.status, lucky.content) == (_OK, b"till")


def test_a_fault_delays(shop: Shop) -> None:
    started = time.monotonic()
    assert shop.call("delay").status == _OK
    assert time.monotonic() - started >= _DELAY_S


def test_who_may_call_is_decided_by_certificate_and_method(shop: Shop) -> None:
    front, guest = shop.identity(_FRONT), shop.identity(_GUEST)
    assert shop.call("rbac", tls=front).status == _OK
    assert shop.call("rbac", (b"sofa_head_method_name", b"buy"), tls=front).status == _SERVER_EXCEPTION
    assert shop.call("rbac", tls=guest).status == _SERVER_EXCEPTION


def test_a_filter_of_another_package_changes_properties_and_nothing_else(shop: Shop) -> None:
    answer = shop.call("tag", (b"secret", b"1234"), (b"Other", b"stays"))
    assert shop.till.last == {_SERVICE[0]: _SERVICE[1], _SELL[0]: _SELL[1], b"Other": b"stays", b"X-Tag": b"t1"}
    assert shop.till.frames[-1].data.endswith(b"arguments")
    assert (answer.properties, answer.content) == ({b"from": b"till", b"Tagged-By": b"t1"}, b"till")


def test_a_filter_of_another_package_answers_itself(shop: Shop) -> None:
    before = len(shop.till.frames)
    assert shop.call("tag", (b"sofa_head_method_name", b"steal")).status == _SERVER_EXCEPTION
    assert len(shop.till.frames) == before


def test_a_filter_that_raises_costs_its_call_only(shop: Shop) -> None:
    assert shop.call("tag", (b"mood", b"bad")).status == _UNKNOWN
    assert shop.call("tag").status == _OK


def test_what_a_filter_changes_is_without_effect_where_a_protocol_has_no_properties(shop: Shop) -> None:
    with ThriftClient(shop.ports["thrift"]) as client:
        for number in (1, 2):
            sent = thrift_call("sell", number)
            client.send(sent)
            assert client.read().value == "thrift"
            assert shop.thrift.frames[-1].data[-10:] == sent[-10:]
    deadline = time.monotonic() + 5
    while (found := shop.proxy.stats("edit_ignored")).get("generic_proxy.thrift.downstream_rq_edit_ignored") != 2:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    assert not found.get("generic_proxy.tag.downstream_rq_edit_ignored")


@pytest.mark.parametrize(("method", "status"), [(b"spoil", _BUSY), (b"stumble", _UNKNOWN)])
def test_a_filter_may_spoil_a_servers_answer(shop: Shop, method: bytes, status: int) -> None:
    before = len(shop.till.frames)
    answer = shop.call("tag", (b"sofa_head_method_name", method))
    assert (answer.status, answer.content) == (status, b"")
    assert len(shop.till.frames) == before + 1


def test_a_filter_may_hold_an_answer_back(shop: Shop) -> None:
    started = time.monotonic()
    assert shop.call("tag", (b"sofa_head_method_name", b"linger")).properties[b"Tagged-By"] == b"t1"
    assert time.monotonic() - started >= 0.2


def test_a_filter_may_wait_in_a_task(shop: Shop) -> None:
    assert shop.call("wait").content == b"till"
    assert shop.call("wait", (b"hurry", b"1")).status == _BUSY


def test_a_filter_may_choose_another_route(shop: Shop) -> None:
    answer = shop.call("tag", (b"sofa_head_method_name", b"redirect"))
    assert answer.status == _NO_PROCESSOR
