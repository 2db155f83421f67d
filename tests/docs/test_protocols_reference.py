"""The reference part of docs/protocols.md: its tables are the code's, and its example does all that it says."""

import re
import ssl
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from mosn_xds.base.errors import ConfigError
from mosn_xds.control.translate.model import NodeContext
from mosn_xds.control.translate.registry import Registry
from mosn_xds.control.translate.sniffed import TIMEOUT_KEY, sniffed_protocols
from mosn_xds.data.codec.rpc import Kind, PoolMode, RpcProtocol, RpcRequest, RpcResponse
from mosn_xds.data.codec.rpc.bolt.protocol import Bolt
from mosn_xds.data.codec.rpc.bolt.status import HTTP_OF
from mosn_xds.data.codec.rpc.dubbo.options import DubboOptions
from mosn_xds.data.codec.rpc.dubbo.protocol import HTTP_STATUSES, Dubbo
from mosn_xds.data.codec.rpc.options import RpcOptions
from mosn_xds.data.codec.rpc.thrift.protocol import Thrift
from mosn_xds.data.proxy.rpc.calls import MOST_METHODS
from mosn_xds.data.proxy.rpc.connection import MOST_BYTES, MOST_STREAMS
from mosn_xds.data.proxy.rpc.stats import MethodStats, RpcStats
from mosn_xds.data.upstream.rpc import RpcUpstreamStats
from mosn_xds.spec.common import StringMatch, StringMatchKind
from mosn_xds.spec.format import OPERATORS
from mosn_xds.spec.stats_matcher import StatsMatcher, StatsPatterns
from tests.support import bolt, dubbo_peer, thrift_peer
from tests.support.authority import Authority
from tests.support.bolt_peer import BoltUpstream, call
from tests.support.ports import PortAllocator
from tests.support.proxies import Proxy, ProxyKind

TEXT = (Path(__file__).parent.parent.parent / "docs" / "protocols.md").read_text()
PROTOCOLS: dict[str, type[RpcProtocol]] = {"bolt": Bolt, "dubbo": Dubbo, "thrift": Thrift}


def block(name: str) -> Any:
    """A YAML block that begins with this file's name."""
    found = re.search(rf"^```yaml\n# {re.escape(name)}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    assert found is not None
    return yaml.safe_load(found[1])


def table(section: str, number: int = 0) -> list[list[str]]:
    """The rows of a section's table, without its head."""
    begin = TEXT.index(f"## {section}\n")
    end = TEXT.find("\n## ", begin)
    tables = re.findall(r"(?:^\|.*\|\n)+", TEXT[begin:end], re.MULTILINE)
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in tables[number].splitlines()]
    return rows[2:]


def built(name: str) -> RpcProtocol:
    kind = PROTOCOLS[name]
    return kind(kind.Options())


def test_all_that_a_protocol_may_say() -> None:
    said = set(re.findall(r"`(\w+)", "".join(row[0] for row in table("All that a protocol may say"))))
    ours = {name for name in vars(RpcProtocol) if not name.startswith("_")} - {"GROUP"}
    assert said == ours
    assert set(Kind.__members__) - set(re.findall(r"\w+", TEXT)) == {"RESPONSE"}
    assert RpcProtocol.head_bytes == 64 and RpcProtocol.pool is PoolMode.MULTIPLEX


def test_statuses() -> None:
    said: dict[str, dict[int, int]] = {name: {} for name in PROTOCOLS}
    for protocol, statuses, http in table("Status"):
        for status in re.findall(r"\d+", statuses):
            said[protocol][int(status)] = int(http)
    assert said["bolt"] == HTTP_OF
    assert said["dubbo"] == {status: http for status, http in HTTP_STATUSES.items() if http != 500}
    thrift = built("thrift")
    for kind in range(12):
        read = thrift.from_server(
            thrift_peer.framed(thrift_peer.message(thrift_peer.EXCEPTION, "get", 1, {1: "why", 2: kind}))
        )
        assert isinstance(read, RpcResponse) and read.status == said["thrift"].get(kind, 500)


REASONS = {
    "no route": "route_not_found",
    "denied by RBAC": "RBAC: access denied",
    "the circuit breaker is open, too many retries": "upstream connect error or disconnect/reset before headers. "
    "reset reason: overflow",
    "no healthy host, connection refused or lost": "no healthy upstream",
    "time-out": "upstream request timeout",
}
CALLS = {
    "bolt": bolt.request([(b"service", b"Till")]),
    "dubbo": dubbo_peer.request(1, "Till", "sell"),
    "thrift": thrift_peer.call("sell", 1),
}


@pytest.mark.parametrize("row", table("Status", 1), ids=lambda row: row[0])
def test_answers_of_the_proxy(row: list[str]) -> None:
    why, http, *codes = row
    for (name, frame), code in zip(CALLS.items(), codes, strict=True):
        protocol = built(name)
        request = protocol.from_client(frame)
        assert isinstance(request, RpcRequest)
        reply = protocol.reply(request, int(http), REASONS[why])
        if name == "thrift":
            kind = int.from_bytes(thrift_peer.parse(reply).body[-5:-1], "big")  # the struct's last field
            assert f"type {kind}" == code
        else:
            said = protocol.from_server(reply)
            assert isinstance(said, RpcResponse) and str(said.code) == code


def test_properties_of_the_built_in_protocols() -> None:
    rows = {row[0]: row[1:] for row in table("The built-in protocols")}
    for name, pool, beats in zip(PROTOCOLS, rows["upstream connections"], rows["signs of life"], strict=True):
        protocol = built(name)
        assert (protocol.pool is PoolMode.MULTIPLEX) is (pool == "many calls at once")
        assert bool(protocol.heartbeat(1)) is (beats != "none")
        options = protocol.Options()
        assert isinstance(options, RpcOptions)
        assert (options.max_frame_bytes, options.max_unread_bytes) == (16 << 20, 64 << 20)
        assert (options.heartbeat_interval_s, options.heartbeat_timeout_s) == (15, 5)
    assert {"opaque_serializations", "no_route_status", "timeout_status"} <= set(DubboOptions.__struct_fields__)
    assert (MOST_STREAMS, MOST_BYTES, MOST_METHODS) == (4096, 64 << 20, 500)


def test_the_operators_and_statistics_are_there() -> None:
    operators = re.findall(r"%([A-Z_]+)(?:\(NAME\))?%", "".join(row[0] for row in table("Access logs")))
    assert len(operators) > 10 and set(operators) <= OPERATORS
    names = re.findall(r"`(\w+)`", "".join(row[0] for row in table("Statistics")))
    known = {*RpcStats.COUNTERS, *RpcStats.GAUGES, *RpcStats.HISTOGRAMS, *MethodStats.COUNTERS, *MethodStats.HISTOGRAMS}
    assert len(names) > 8 and set(names) <= known
    for name in RpcUpstreamStats.COUNTERS:
        assert f"`{name}`" in TEXT


def test_istios_matcher_lets_the_figures_of_methods_through() -> None:
    pattern = re.search(r"`inclusionRegexps: \['(.+)'\]`", TEXT)
    assert pattern is not None
    matcher = StatsMatcher(StatsPatterns(True, (StringMatch(StringMatchKind.REGEX, pattern[1]),)))
    assert matcher.allows("generic_proxy.till.rpc.bolt.com.shop.Till:1.0.sell.rq_total")
    assert not matcher.allows("generic_proxy.till.downstream_rq_total")


def test_zero_configuration() -> None:
    annotation = re.search(r"^metadata:\n.*?(?=^```$)", TEXT, re.MULTILINE | re.DOTALL)
    assert annotation is not None
    config = yaml.safe_load(annotation[0])["metadata"]["annotations"]["proxy.istio.io/config"]
    metadata = {
        key.removeprefix("ISTIO_META_"): value for key, value in yaml.safe_load(config)["proxyMetadata"].items()
    }
    found = sniffed_protocols(NodeContext(metadata=metadata), Registry())
    assert [use.entry for use in found.protocols] == ["bolt", "dubbo"]
    default = re.search(rf"`{TIMEOUT_KEY}` \((\d+)s\)", TEXT)
    assert default is not None and found.timeout_s == float(default[1])


SERVICE, SELL = (b"service", b"com.shop.Till:1.0"), (b"sofa_head_method_name", b"sell")
FRONT, GUEST = "spiffe://cluster.local/ns/shop/sa/front", "spiffe://cluster.local/ns/shop/sa/guest"


class Till:
    """The page's example, with servers behind it."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        ports = PortAllocator()
        self.servers = {name: BoltUpstream(name) for name in ("v1-a", "v1-b", "v2", "shadow")}
        for server in self.servers.values():
            stack.callback(server.close)
        self.port, admin = ports.take(), ports.take()
        written = {9901: admin, 8080: self.port}
        written |= {9001 + number: server.port for number, server in enumerate(self.servers.values())}
        bootstrap = block("till.yaml")
        for place in places(bootstrap):
            place["port_value"] = written[place["port_value"]]
        listener = bootstrap["static_resources"]["listeners"][0]
        self.policed = ports.take()
        bootstrap["static_resources"]["listeners"].append(self._policed(listener))
        self.folder = folder
        self.proxy = Proxy.start(ProxyKind.OURS, bootstrap, folder / "run")
        stack.callback(self.proxy.stop)

    def _policed(self, listener: Any) -> Any:
        """The same behind mutual TLS, with the page's RBAC filter."""
        self.authority = Authority("till")
        made = yaml.safe_load(yaml.safe_dump(listener))
        made |= {"name": "policed", "address": {"socket_address": {"address": "127.0.0.1", "port_value": self.policed}}}
        chain = made["filter_chains"][0]
        chain["filters"][0]["typed_config"]["filters"].insert(0, block("rbac.yaml"))
        common = {
            "tls_certificates": [self.authority.issue("till.test").config()],
            "validation_context": {"trusted_ca": {"inline_string": self.authority.root}},
        }
        kind = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
        tls = {"@type": kind, "require_client_certificate": True, "common_tls_context": common}
        chain["transport_socket"] = {"name": "tls", "typed_config": tls}
        return made

    def identity(self, name: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(cadata=self.authority.root)
        context.load_cert_chain(*self.authority.issue(name).write(self.folder, name.rpartition("/")[2]))
        return context


def places(config: Any) -> Iterator[dict[str, Any]]:
    """Everything that has a port."""
    if isinstance(config, dict):
        if "port_value" in config:
            yield config
        config = list(config.values())
    if isinstance(config, list):
        for one in config:
            yield from places(one)


@pytest.fixture(scope="module")
def till(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Till]:
    with ExitStack() as stack:
        yield Till(tmp_path_factory.mktemp("till"), stack)


def test_the_example_splits_and_has_a_canary(till: Till) -> None:
    seen = Counter(call(till.port, SERVICE, SELL).content for _ in range(150))
    assert set(seen) == {b"v1-a", b"v1-b", b"v2"} and seen[b"v2"] < 40
    assert all(call(till.port, SERVICE, SELL, (b"x-canary", b"yes")).content == b"v2" for _ in range(5))


def test_the_example_has_no_route_for_others_and_no_luck_for_one(till: Till) -> None:
    assert call(till.port, (b"service", b"com.shop.Safe"), SELL).status == 6
    assert call(till.port, SERVICE, SELL, (b"user", b"unlucky")).status == 4


def test_the_example_keeps_a_user_on_a_host_and_mirrors(till: Till) -> None:
    shadow = till.servers["shadow"]
    shadow.forget()
    history = (b"sofa_head_method_name", b"historyOf")
    users = [b"user-%d" % number for number in range(16)]
    hosts = [
        {call(till.port, SERVICE, history, (b"user", user), (b"secret", b"1")).content for _ in range(3)}
        for user in users
    ]
    assert all(len(found) == 1 for found in hosts)
    assert set.union(*hosts) == {b"v1-a", b"v1-b"}
    assert shadow.wait_frames(3 * len(users))
    assert shadow.last == dict([SERVICE, history, (b"user", users[-1]), (b"X-Client", b"127.0.0.1")])


def test_the_example_tries_again_on_another_host(till: Till) -> None:
    first = till.servers["v1-a"]
    first.script(*[lambda exchange: exchange.reset()] * 20)
    try:
        assert {call(till.port, SERVICE, SELL).status for _ in range(40)} == {0}
    finally:
        first.forget()


def test_only_the_front_sells(till: Till) -> None:
    front, guest = till.identity(FRONT), till.identity(GUEST)
    assert call(till.policed, SERVICE, SELL, tls=front).status == 0
    assert call(till.policed, SERVICE, (b"sofa_head_method_name", b"refund"), tls=front).status == 2
    assert call(till.policed, SERVICE, SELL, tls=guest).status == 2


def test_options_that_nobody_has_are_refused() -> None:
    with pytest.raises(ConfigError, match="unknown field"):
        Bolt.decode_options(b'{"max_frame_byte": 1}')
