"""Real peers on both sides of proxies: what tests/e2e/test_rpc_peers.py stands on.

A family is a kind of server and the clients that can talk to it. A world has two servers of each of its families, behind one
proxy or behind two (a caller's and a callee's, as sidecars stand, with mutual TLS between them or without), and a client
of each kind, started when it is first asked for. The services lead to different ends: `Echo` to both servers, `First` to
the first one, `Hurried` has a short time-out, `Nobody` leads to a cluster without endpoints, `Dead` to a port that nobody
listens on; everything else has no route.
"""

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from tests.differential.bed import Config, address, extension, listener
from tests.differential.rpc_bed import generic_filter, thrift_proxy, to, tree
from tests.support.authority import Authority
from tests.support.ports import PortAllocator
from tests.support.proxies import Proxy, ProxyKind
from tests.support.rpc_peers import Calling, PeerClient, PeerFailed, PeerServer, Serving

_TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3"
_CODECS = "envoy.extensions.filters.network.generic_proxy.codecs"
_PREVIOUS_HOSTS = "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
_HOST = "rpc.test"
PACKAGE = "org.mosnxds.peers"
HURRIED_TIMEOUT_S = 0.5
SERVERS = ("one", "two")


class Protocol(Enum):
    """A protocol's codec, as generic_proxy is configured with it."""

    BOLT = "bolt"
    DUBBO = "dubbo"
    THRIFT = "thrift"

    def codec(self, options: Config | None = None) -> Config:
        """With options, which Envoy does not have, as EnvoyFilter would carry them."""
        if options is not None or self is Protocol.THRIFT:
            struct = "type.googleapis.com/xds.type.v3.TypedStruct"
            return {
                "name": self.value,
                "typed_config": {"@type": struct, "type_url": self.value, "value": options or {}},
            }
        if self is Protocol.BOLT:
            return extension("bolt", "mosn_xds.extensions.rpc.v1.BoltCodecConfig")
        return extension("envoy.generic_proxy.codecs.dubbo", f"{_CODECS}.dubbo.v3.DubboCodecConfig")


class Family(Enum):
    """A kind of server, its protocol, and who can call it. Each runtime's Bolt puts something else into a frame's content,
    so that those families cannot be mixed; Dubbo's can."""

    BOLT_NODE = (
        Protocol.BOLT,
        Serving.BOLT_NODE,
        (Calling.BOLT_NODE, Calling.BOLT2_NODE, Calling.BOLT2_CRC_NODE),
    )
    BOLT_PYTHON = (Protocol.BOLT, Serving.BOLT_PYTHON, (Calling.BOLT_PYTHON,))
    BOLT_JAVA = (
        Protocol.BOLT,
        Serving.BOLT_JAVA,
        (Calling.BOLT_JAVA, Calling.BOLT2_JAVA, Calling.BOLT2_CRC_JAVA),
    )
    DUBBO_NODE = (
        Protocol.DUBBO,
        Serving.DUBBO_NODE,
        (Calling.DUBBO_NODE, Calling.DUBBO2_JS, Calling.DUBBO_PYTHON),
    )
    DUBBO_JAVA = (
        Protocol.DUBBO,
        Serving.DUBBO_JAVA,
        (
            Calling.DUBBO_JAVA,
            Calling.DUBBO_JAVA_GENERIC,
            Calling.DUBBO_NODE,
            Calling.DUBBO2_JS,
            Calling.DUBBO_PYTHON,
        ),
    )

    THRIFT_BINARY = (Protocol.THRIFT, Serving.THRIFT_BINARY, (Calling.THRIFT_BINARY,))
    THRIFT_COMPACT = (Protocol.THRIFT, Serving.THRIFT_COMPACT, (Calling.THRIFT_COMPACT,))

    @property
    def has_its_own_proxy(self) -> bool:
        """Whether Envoy's thrift_proxy serves it, which has neither time-outs nor retries; else generic_proxy does."""
        return self is Family.THRIFT_BINARY

    @property
    def protocol(self) -> Protocol:
        return self.value[0]

    @property
    def serving(self) -> Serving:
        return self.value[1]

    @property
    def callers(self) -> tuple[Calling, ...]:
        return self.value[2]


JAVA = os.environ.get("MOSN_XDS_PEERS") == "java"
FAMILIES = (
    (Family.BOLT_JAVA, Family.DUBBO_JAVA)
    if JAVA
    else (Family.BOLT_NODE, Family.BOLT_PYTHON, Family.DUBBO_NODE, Family.THRIFT_BINARY, Family.THRIFT_COMPACT)
)
"""Those that are tested: Node's and Python's; with MOSN_XDS_PEERS=java, Java's."""


def skip_without_runtimes() -> None:
    """Skip where the families' peers cannot run. Installs Node's packages, if need be."""
    missing = {reason for family in FAMILIES if (reason := family.serving.value[0].missing()) is not None}
    if missing:
        pytest.skip("; ".join(sorted(missing)))


def eventually(
    client: PeerClient, method: str, wanted: Callable[[str], bool], *, may_fail: bool = False, **options: object
) -> None:
    """Call until the answer is right. Raises PeerFailed for a call without one, unless it `may_fail`."""
    deadline = time.monotonic() + 15
    while True:
        report = client.call(method, **options)
        if not (may_fail and report.failed) and wanted(report.value):
            return
        assert time.monotonic() < deadline, f"{method} is {report}"


@dataclass(frozen=True)
class Way:
    """What is between the peers."""

    proxies: int
    secure: bool = False
    kind: ProxyKind = ProxyKind.OURS

    @property
    def id(self) -> str:
        return f"{self.kind.value}-{self.proxies}{'-mtls' if self.secure else ''}"


class Servers:
    """Two servers of each family, started side by side."""

    def __init__(self, families: Sequence[Family], folder: Path) -> None:
        self.folder = folder
        self.of: dict[Family, list[PeerServer]] = {}
        self._stack = ExitStack()
        wanted = [(family, name) for family in families for name in SERVERS]
        with ThreadPoolExecutor(len(wanted)) as pool:
            starting = [pool.submit(PeerServer, family.serving, name, folder) for family, name in wanted]
        try:
            for (family, _), one in zip(wanted, starting, strict=True):
                self.of.setdefault(family, []).append(self._stack.enter_context(one.result()))
        except BaseException:
            for one in starting:
                if one.exception() is None:
                    one.result().kill()
            raise

    def __repr__(self) -> str:
        return f"<Servers {' '.join(family.name for family in self.of)}>"

    def __enter__(self) -> "Servers":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def restart(self, family: Family, index: int) -> None:
        """See `RpcWorld.restart`."""
        old = self.of[family][index]
        made = PeerServer(family.serving, old.name, self.folder, port=old.port)
        self.of[family][index] = self._stack.enter_context(made)


class RpcWorld:
    """See the module. `servers`, if they are given, are others' to end; `retries` is how often a failed call is tried again,
    `options` are the codec's, `routes` makes others of a family's key (generic_proxy's only), and `shared` are those of one
    more port, on which protocols are told by their first bytes."""

    def __init__(
        self,
        way: Way,
        families: Sequence[Family],
        folder: Path,
        *,
        servers: "Servers | None" = None,
        retries: int = 0,
        options: Config | None = None,
        routes: Callable[[str], Config] | None = None,
        shared: Config | None = None,
    ) -> None:
        self.way = way
        self.folder = folder
        self.families = tuple(families)
        self.retries = retries
        self.options = options
        self.routes = routes
        self.shared = shared
        self._ports = PortAllocator()
        self._stack = ExitStack()
        self._authority = Authority()
        self._dead = self._ports.take()
        self.shared_port = self._ports.take()
        self._front = {family: self._ports.take() for family in families}
        self._middle = {family: self._ports.take() for family in families}
        self._clients: dict[tuple[Family, Calling], PeerClient] = {}
        self.proxies: list[Proxy] = []
        try:
            self._servers = servers or self._stack.enter_context(Servers(families, folder))
            self._start()
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"<RpcWorld {self.way.id} {' '.join(family.name for family in self.families)}>"

    def __enter__(self) -> "RpcWorld":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End everything."""
        self._stack.close()

    def client(self, family: Family, calling: Calling) -> PeerClient:
        """The client of that kind; it lives as long as the world."""
        if (family, calling) not in self._clients:
            made = PeerClient(calling, self._front[family], self.folder)
            self._clients[family, calling] = self._stack.enter_context(made)
        return self._clients[family, calling]

    def port(self, family: Family) -> int:
        """Where the family's clients connect to."""
        return self._front[family]

    def new_client(
        self, family: Family, calling: Calling, options: Sequence[str] = (), port: int | None = None
    ) -> PeerClient:
        """A client of its own, with options for its runtime, of the family's port or another one."""
        made = PeerClient(calling, port or self._front[family], self.folder, options=options)
        return self._stack.enter_context(made)

    def servers(self, family: Family) -> list[PeerServer]:
        """The family's."""
        return self._servers.of[family]

    def restart(self, family: Family, index: int) -> None:
        """A new server on the port of one that has ended."""
        self._servers.restart(family, index)

    def stat(self, name: str) -> int:
        """A statistic of the proxy that the clients talk to; 0 if it has none of that name."""
        return self.proxies[-1].stats(f"^{name}$".replace(".", "[.]")).get(name, 0)

    def await_stat(self, name: str, least: int, timeout_s: float = 10.0) -> None:
        """Wait until it is at least that. Raises PeerFailed when it never is."""
        deadline = time.monotonic() + timeout_s
        while (value := self.stat(name)) < least:
            if time.monotonic() > deadline:
                raise PeerFailed(f"{name} is {value}, not {least}")
            time.sleep(0.05)

    def _start(self) -> None:
        behind = {family: [server.port for server in self.servers(family)] for family in self.families}
        if self.way.proxies == 2:
            self._proxy("callee", self._middle, behind, secure_front=self.way.secure, secure_back=False, plain=True)
            middle = {family: [port] for family, port in self._middle.items()}
            self._proxy("caller", self._front, middle, secure_front=False, secure_back=self.way.secure, plain=False)
        else:
            self._proxy("only", self._front, behind, secure_front=False, secure_back=False, plain=False)

    def _proxy(
        self,
        name: str,
        ports: dict[Family, int],
        behind: dict[Family, list[int]],
        *,
        secure_front: bool,
        secure_back: bool,
        plain: bool,
    ) -> None:
        """Start a proxy. A `plain` one has no time-out of its own and no ends that fail: those are its caller's."""
        listeners, clusters = [], []
        for family in self.families:
            key = family.name.lower()
            if family.has_its_own_proxy:
                filter_ = thrift_proxy(key, self._thrift_routes(key))
            else:
                filter_ = generic_filter(
                    key, self._routes(key, plain), codec=family.protocol.codec(self.options), access_log=[]
                )
            front = listener(key, filter_)
            front["address"] = address(ports[family])
            if secure_front:
                front["filter_chains"][0]["transport_socket"] = self._tls("Downstream")
            listeners.append(front)
            first_only = behind[family][:1]
            for cluster, targets in (
                (f"{key}-all", behind[family]),
                (f"{key}-first", first_only),
                (f"{key}-nobody", []),
                (f"{key}-dead", [self._dead]),
            ):
                clusters.append(self._cluster(cluster, targets, secure_back))
        if self.shared is not None:
            names = [{"name": protocol.value} for protocol in Protocol]
            codec = extension("any", "mosn_xds.extensions.rpc.v1.SniffingCodecConfig", protocols=names)
            front = listener("shared", generic_filter("shared", self.shared, codec=codec, access_log=[]))
            front["address"] = address(self.shared_port)
            listeners.append(front)
        bootstrap = {
            "node": {"id": name, "cluster": "rpc"},
            "admin": {"address": address(self._ports.take())},
            "static_resources": {"listeners": listeners, "clusters": clusters},
        }
        proxy = Proxy.start(self.way.kind, bootstrap, self.folder / name)
        self._stack.callback(proxy.stop)
        self.proxies.append(proxy)

    def _routes(self, key: str, plain: bool) -> Config:
        if self.routes is not None:
            return self.routes(key)
        slow: Config = {"timeout": "60s"}
        if self.retries and plain is (self.way.proxies == 2):
            slow["retry_policy"] = {
                "num_retries": self.retries,
                "retry_host_predicate": [extension("envoy.retry_host_predicates.previous_hosts", _PREVIOUS_HOSTS)],
                "host_selection_retry_max_attempts": 5,
            }
        hurried = slow if plain else {"timeout": f"{HURRIED_TIMEOUT_S}s"}
        return tree(
            "Service",
            {
                f"{PACKAGE}.Echo": to(f"{key}-all", **slow),
                f"{PACKAGE}.First": to(f"{key}-first", **slow),
                f"{PACKAGE}.Hurried": to(f"{key}-all", **hurried),
                f"{PACKAGE}.Nobody": to(f"{key}-nobody", **slow),
                f"{PACKAGE}.Dead": to(f"{key}-dead", **slow),
            },
            prefix=True,
        )

    @staticmethod
    def _thrift_routes(key: str) -> list[Config]:
        ends = {"Echo": "all", "First": "first", "Hurried": "all", "Nobody": "nobody", "Dead": "dead"}
        return [
            {"match": {"service_name": f"{PACKAGE}.{service}"}, "route": {"cluster": f"{key}-{end}"}}
            for service, end in ends.items()
        ]

    def _cluster(self, name: str, ports: Sequence[int], secure: bool) -> Config:
        endpoints: list[Any] = [{"endpoint": {"address": address(port)}} for port in ports]
        cluster: Config = {
            "name": name,
            "type": "STATIC",
            "connect_timeout": "10s",  # a hundred clients may shake hands at once
            "circuit_breakers": {"thresholds": [{"max_retries": 1000}]},  # three at a time by default
            "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
        }
        if secure:
            cluster["transport_socket"] = self._tls("Upstream", sni=_HOST)
        return cluster

    def _tls(self, side: str, **fields: Any) -> Config:
        required = {"require_client_certificate": True} if side == "Downstream" else {}
        return {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": f"{_TLS}.{side}TlsContext",
                "common_tls_context": {
                    "tls_certificates": [self._authority.issue(_HOST).config()],
                    "validation_context": {"trusted_ca": {"inline_string": self._authority.root}},
                },
                **required,
                **fields,
            },
        }
