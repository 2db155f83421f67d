"""Dubbo calls that a proxy gives up: a time-out to Java's clients where our own codec is configured or found, Envoy's answer
where Envoy's codec is."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.differential.rpc_bed import act
from tests.e2e.rpc_world import JAVA, skip_without_runtimes
from tests.support.dubbo_peer import SERVER_ERROR, DubboClient, DubboUpstream, request
from tests.support.frame_upstream import hang
from tests.support.ports import PortAllocator
from tests.support.proxies import Proxy, ProxyKind
from tests.support.rpc_peers import Calling, PeerClient

_TYPES = "type.googleapis.com"
_GENERIC = f"{_TYPES}/envoy.extensions.filters.network.generic_proxy"
_OURS = f"{_TYPES}/mosn_xds.extensions.rpc.v1"
_SERVER_TIMEOUT = 31
_CODECS = {
    "named": {"@type": f"{_OURS}.ProtocolCodecConfig", "name": "dubbo"},
    "found": {"@type": f"{_OURS}.SniffingCodecConfig", "protocols": [{"name": "bolt"}, {"name": "dubbo"}]},
    "told": {"@type": f"{_OURS}.ProtocolCodecConfig", "name": "dubbo", "options": {"timeout_status": 30}},
    "Envoy's": {"@type": f"{_GENERIC}.codecs.dubbo.v3.DubboCodecConfig"},
}


def address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


class World:
    """A server that answers nothing, and a listener for each codec in front of it, which waits for 0.2 s."""

    def __init__(self, folder: Path) -> None:
        ports = PortAllocator()
        self.upstream = DubboUpstream("silent")
        self.upstream.script(*[hang] * 20)
        self.ports = {name: ports.take() for name in _CODECS}
        host = {"endpoint": {"address": address(self.upstream.port)}}
        cluster = {
            "name": "silent",
            "load_assignment": {"cluster_name": "silent", "endpoints": [{"lb_endpoints": [host]}]},
        }
        bootstrap = {
            "node": {"id": "shop", "cluster": "shop"},
            "admin": {"address": address(ports.take())},
            "static_resources": {"listeners": [self._listener(name) for name in _CODECS], "clusters": [cluster]},
        }
        self.proxy = Proxy.start(ProxyKind.OURS, bootstrap, folder)

    def _listener(self, name: str) -> dict[str, Any]:
        proxy = {
            "@type": f"{_GENERIC}.v3.GenericProxy",
            "stat_prefix": name,
            "codec_config": {"name": "codec", "typed_config": _CODECS[name]},
            "filters": [{"name": "router", "typed_config": {"@type": f"{_GENERIC}.router.v3.Router"}}],
            "route_config": {"name": "all", "routes": {"on_no_match": act(cluster="silent", timeout="0.2s")}},
        }
        chain = {"filters": [{"name": "generic", "typed_config": proxy}]}
        return {"name": name, "address": address(self.ports[name]), "filter_chains": [chain]}

    def close(self) -> None:
        self.proxy.kill()
        self.upstream.close()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    found = World(tmp_path_factory.mktemp("dubbo-timeouts"))
    yield found
    found.close()


@pytest.mark.parametrize(
    ("codec", "status"),
    [("named", _SERVER_TIMEOUT), ("found", _SERVER_TIMEOUT), ("told", 30), ("Envoy's", SERVER_ERROR)],
)
def test_the_status_of_a_call_that_is_given_up(world: World, codec: str, status: int) -> None:
    with DubboClient(world.ports[codec]) as client:
        client.send(request(7))
        answer = client.read()
    assert (answer.id, answer.status, answer.text) == (7, status, "timeout")


@pytest.mark.skipif(not JAVA, reason="of `make peers-java`")
@pytest.mark.parametrize(
    ("codec", "told"), [("named", "Invoke remote method timeout"), ("Envoy's", "Failed to invoke")]
)
def test_javas_client_knows_a_time_out(world: World, codec: str, told: str, tmp_path: Path) -> None:
    skip_without_runtimes()
    with PeerClient(Calling.DUBBO_JAVA, world.ports[codec], tmp_path) as client:
        report = client.finish(client.start("who", sync=True))
    (text,) = report.errors
    assert f"Last error is: {told}" in text
