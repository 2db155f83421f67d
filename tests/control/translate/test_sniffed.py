"""MOSN_XDS_PROTOCOLS: what TCP chains look for in their connections' first bytes."""

import json
from typing import Any

import pytest

from mosn_xds.control.bootstrap import load_bootstrap
from mosn_xds.control.translate import NodeContext, Options, Translator
from mosn_xds.control.translate.translator import LISTENERS_URL
from mosn_xds.spec.listener import Listener, TcpProxy
from mosn_xds.spec.rpc import ProtocolUse
from tests.control.translate.test_every_field import registry
from tests.control.translate.test_translation import translate, typed

LISTENER = {
    "name": "listener",
    "address": {"socket_address": {"address": "127.0.0.1", "port_value": 80}},
    "filter_chains": [
        {"filters": [{"name": "tcp", "typed_config": typed("filters.network.tcp_proxy.v3.TcpProxy", stat_prefix="t", cluster="c")}]}
    ],
}  # fmt: skip


def proxy_of(metadata: dict[str, Any]) -> TcpProxy:
    translator = Translator(NodeContext(metadata=metadata), Options(), registry())
    found = translate(LISTENERS_URL, LISTENER, translator=translator).spec
    assert isinstance(found, Listener)
    proxy = found.chains[0].filters[0]
    assert isinstance(proxy, TcpProxy)
    return proxy


def looked_for(metadata: dict[str, Any]) -> tuple[ProtocolUse, ...]:
    return proxy_of(metadata).protocols


@pytest.mark.parametrize("given", ["dubbo, bolt", ["dubbo", "bolt"], "dubbo,bolt,dubbo,", "dubbo,acme,bolt"])
def test_tcp_chains_look_for_what_the_node_says_in_its_order(given: Any) -> None:
    assert looked_for({"MOSN_XDS_PROTOCOLS": given}) == (ProtocolUse("dubbo", "dubbo"), ProtocolUse("bolt", "bolt"))


def test_tcp_chains_look_for_nothing_unless_told() -> None:
    assert looked_for({}) == ()


@pytest.mark.parametrize(("given", "timeout_s"), [("500ms", 0.5), ("2s", 2.0), ("1.5s", 1.5), ("0s", 0.0), (None, 1.0)])
def test_how_long_a_silent_client_waits_for_its_upstream(given: str | None, timeout_s: float) -> None:
    metadata = {"MOSN_XDS_PROTOCOLS": "bolt"} | ({"MOSN_XDS_PROTOCOL_DETECTION_TIMEOUT": given} if given else {})
    assert proxy_of(metadata).detection_timeout_s == timeout_s


def test_a_time_out_that_is_none_is_said_at_the_start() -> None:
    metadata = {"MOSN_XDS_PROTOCOLS": "bolt", "MOSN_XDS_PROTOCOL_DETECTION_TIMEOUT": "soon"}
    found = load_bootstrap(
        None, json.dumps({"node": {"id": "n", "cluster": "c", "metadata": metadata}}), registry=registry()
    )
    assert found.warnings == (
        "node.metadata.MOSN_XDS_PROTOCOL_DETECTION_TIMEOUT: soon is no duration, such as 500ms or 2s; it is 1s",
    )
    assert proxy_of(metadata).detection_timeout_s == 1.0


def test_an_unknown_protocol_is_said_at_the_start() -> None:
    bootstrap = {"node": {"id": "n", "cluster": "c", "metadata": {"MOSN_XDS_PROTOCOLS": "bolt,acme"}}}
    found = load_bootstrap(None, json.dumps(bootstrap), registry=registry())
    assert found.warnings == (
        "node.metadata.MOSN_XDS_PROTOCOLS: acme is not looked for: mosn_xds.protocols: no entry point acme "
        "(installed: bolt, dubbo, thrift; any package that has an entry point mosn_xds.protocols: acme brings it)",
    )
