"""Two pods on a wire, a sidecar in each, and iptables REDIRECT before both: what a client says goes through either sidecar.

Each pod is a network namespace. In the client's, marked connections (SO_MARK) are the application's own and are captured;
others reach the wire as they are, like a caller's that has no sidecar. The server's pod has every other recorded address, all
that arrives is captured, and on each port one application answers with where it was reached.

A stock Envoy lacks Istio's filters. Where `istio.alpn` stands it gets a filter of its own that offers the same protocols, so
that a server picks the same chain; what peers tell each other of themselves is left out. Filters that ask others who may
come in are not what is compared here, and are left out for all; the decisions by mutual TLS's identities stay.
"""

import json
import subprocess
import time
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envoy.config.accesslog.v3 import accesslog_pb2
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.access_loggers.file.v3 import file_pb2
from envoy.extensions.filters.common.set_filter_state.v3 import value_pb2
from envoy.extensions.filters.http.set_filter_state.v3 import set_filter_state_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2

from mosn_xds.pilot import Change
from mosn_xds.pilot.resources import CLUSTER, LISTENER, SECRET
from tests.e2e.loop_world import UnsampledForm
from tests.support.any_secrets import secret_bytes
from tests.support.authority import Authority
from tests.support.http2_upstream import Http2Upstream
from tests.support.istio import Mesh, Session
from tests.support.namespace import Network
from tests.support.proxies import Proxy, ProxyKind
from tests.support.upstream import Exchange, Upstream, head

OUT = 1
"""The mark of what an application of the client's pod says."""

ADMIN_PORT = 15000
CHECKS = frozenset(("envoy.filters.http.jwt_authn", "envoy.filters.http.ext_authz", "envoy.filters.network.ext_authz"))
EXCHANGES = frozenset(("istio.metadata_exchange",))
ISTIO_ONLY = EXCHANGES | {"istio.stats"}
LOG_FIELDS = {
    "status": "RESPONSE_CODE",
    "flags": "RESPONSE_FLAGS",
    "details": "RESPONSE_CODE_DETAILS",
    "termination": "CONNECTION_TERMINATION_DETAILS",
    "request": "REQ(:METHOD)% %REQ(:AUTHORITY)%%REQ(:PATH)% %PROTOCOL",
    "cluster": "UPSTREAM_CLUSTER",
    "upstream": "UPSTREAM_HOST",
    "upstream local": "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT",
    "local": "DOWNSTREAM_LOCAL_ADDRESS",
    "remote": "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
    "server name": "REQUESTED_SERVER_NAME",
    "route": "ROUTE_NAME",
    "tls": "DOWNSTREAM_TLS_VERSION",
    "peer": "DOWNSTREAM_PEER_URI_SAN",
    "peer certificate": "DOWNSTREAM_PEER_FINGERPRINT_256",
    "own": "DOWNSTREAM_LOCAL_URI_SAN",
    "upstream peer": "UPSTREAM_PEER_URI_SAN",
    "xfcc": "REQ(X-FORWARDED-CLIENT-CERT)",
    "failure": "DOWNSTREAM_TRANSPORT_FAILURE_REASON",
}


@dataclass(frozen=True)
class Side:
    """One of the two: what it was sent, who it is, and where."""

    session: str
    account: str
    address: str


@dataclass(frozen=True)
class Scene:
    """Both sides, and the ports of the server's applications; those that speak HTTP/2 only, and the client's ports that
    lead to them. `twins` are addresses that a balancer chooses among as it likes, with the one that stands for them."""

    client: Side
    server: Side
    ports: tuple[int, ...]
    http2_ports: tuple[int, ...] = ()
    http2_listeners: tuple[int, ...] = ()
    twins: tuple[tuple[str, str], ...] = ()

    def plain(self, text: str) -> str:
        """With one address for all twins."""
        for twin, name in self.twins:
            text = text.replace(twin, name)
        return text


class Secrets:
    """What both sidecars have of one authority: made once, so that all worlds show the same certificates."""

    def __init__(self, authority: Authority, scene: Scene) -> None:
        roots = {"trusted_ca": {"inline_string": authority.root}}
        self._roots = secret_bytes("ROOTCA", validation_context=roots)
        self.issued = {side: authority.issue(side.account) for side in (scene.client, scene.server)}

    def of(self, side: Side) -> Change:
        own = secret_bytes("default", tls_certificate=self.issued[side].config())
        return Change(SECRET, "1", {"default": own, "ROOTCA": self._roots})


class World:
    """See the module. `variant` is that of both sessions, ``sotw`` or ``delta``."""

    def __init__(
        self, scene: Scene, variant: str, client: ProxyKind, server: ProxyKind, folder: Path, secrets: Secrets
    ) -> None:
        self.name = f"{client.value} to {server.value}"
        self.normal = UnsampledForm({})
        self.scene = scene
        self._variant = variant
        self._kinds = (client, server)
        self._folder = folder
        self._secrets = secrets
        self._stack = ExitStack()
        self.client, self.server = Network(), Network()
        for network in (self.client, self.server):
            self._stack.callback(network.close)
        self.apps: list[Upstream] = []

    def __repr__(self) -> str:
        return f"<World {self.name}>"

    def start(self) -> None:
        """Wire, applications and sidecars; the latter are ready."""
        scene = self.scene
        self._wire(scene.client.address, scene.server.address)
        with self.server.entered():
            for port in scene.ports:
                is_http2 = port in scene.http2_ports
                app = Http2Upstream(str(port), "::", port) if is_http2 else Upstream(str(port), "::", port, _where)
                self.apps.append(app)
                self._stack.callback(app.close)
            self._sidecar(scene.server, self._kinds[1], "server")
        with self.client.entered():
            self._sidecar(scene.client, self._kinds[0], "client")

    def close(self) -> None:
        self._stack.close()

    def _wire(self, client: str, server: str) -> None:
        with self.client.entered():
            _run(f"ip link add wire type veth peer name wire netns {self.server.path}")
            _run(f"ip addr add {client}/32 dev wire", "ip link set wire up", "ip route add default dev wire")
            _run(f"iptables -t nat -A OUTPUT -p tcp -m mark --mark {OUT} -j REDIRECT --to-ports 15001")
        with self.server.entered():
            _run(f"ip addr add {server}/32 dev wire", "ip link set wire up", f"ip route add {client}/32 dev wire")
            # Without a rule of its own the kernel looks into both tables as one, where nothing is behind a throw.
            _run(f"ip rule add to {client} lookup main", f"ip route add throw {client}/32 table local")
            _run("ip route add local 10.0.0.0/8 dev lo")
            _run("iptables -t nat -A PREROUTING -i wire -p tcp -j REDIRECT --to-ports 15006")

    def _sidecar(self, side: Side, kind: ProxyKind, name: str) -> None:
        exchanges = self._kinds == (ProxyKind.OURS, ProxyKind.OURS)

        def change(push: Change) -> Change:
            return _rewritten(push, kind is ProxyKind.ENVOY, exchanges, self.scene.http2_listeners)

        mesh = self._stack.enter_context(Mesh(Session.get(f"{side.session}-{self._variant}"), change))
        mesh.replay.advance()
        mesh.resources.apply([self._secrets.of(side)])
        options = ("--component-log-level", "misc:error")
        proxy: Proxy = mesh.start(kind, self._folder / name, ADMIN_PORT, options=options)
        self._stack.callback(proxy.kill)

    def seen(self) -> list[str]:
        """What the applications were sent, in an order of its own."""
        seen = [(app, request) for app in self.apps for request in list(app.requests)]
        return sorted(self.scene.plain(f"{app.name} saw {self.normal.request(request)}") for app, request in seen)

    def logged(self) -> list[str]:
        """The lines of both access logs so far, in an order of their own."""
        found = []
        for name in ("client", "server"):
            path = self._folder / name / "access.log"
            if path.exists():
                lines = path.read_text().splitlines()
                found += [self.scene.plain(f"{name} logged {_line(line)}") for line in lines]
        return sorted(found)


def agree(worlds: Iterable[World], timeout_s: float = 10.0) -> None:
    """Raises AssertionError unless what the worlds saw and logged is equal before long: what a connection is logged as
    is written when it ends."""
    first, *others = worlds
    deadline = time.monotonic() + timeout_s
    for other in others:
        while (a := first.seen() + first.logged()) != (b := other.seen() + other.logged()):
            if time.monotonic() > deadline:
                missing, more = [line for line in a if line not in b], [line for line in b if line not in a]
                lines = [f"only {first.name}:", *missing, f"only {other.name}:", *more]
                raise AssertionError("\n".join([f"{len(a)} lines and {len(b)}", *lines]))
            time.sleep(0.05)


def _line(text: str) -> str:
    """A line in an order of its own, without what chance decides: how far the connection to the application got by the
    time that a handshake failed. Why it failed has every library its own words for."""
    line = json.loads(text)
    if line.pop("failure") is not None and line["tls"] is not None:
        line.update({"upstream": "whatever", "upstream local": "whatever"})
    return json.dumps(line, sort_keys=True)


def _run(*commands: str) -> None:
    for command in commands:
        subprocess.run(command.split(), check=True)


def _where(exchange: Exchange) -> bool:
    """Answers with the address at which the application was reached, and from where."""
    exchange.read_body()
    sock = exchange.stream.socket
    local, peer = (name[0].removeprefix("::ffff:") for name in (sock.getsockname(), sock.getpeername()))
    said = f"{local}:{exchange.upstream.port} from {peer}"
    exchange.send(head(200, [("content-length", str(len(said)))]) + said.encode())
    return True


def _rewritten(change: Change, stock: bool, exchanges: bool, http2: tuple[int, ...]) -> Change:
    """The push with access logs, for the kind of proxy; `exchanges`: with what peers tell each other of themselves."""
    drop = CHECKS | (ISTIO_ONLY if stock else frozenset() if exchanges else EXCHANGES)
    upserts = dict(change.upserts)
    for name, raw in upserts.items():
        if change.type_url == CLUSTER:
            cluster = cluster_pb2.Cluster.FromString(raw)
            _remove(cluster.filters, drop)
            upserts[name] = cluster.SerializeToString(deterministic=True)
        elif change.type_url == LISTENER:
            upserts[name] = _listener(raw, drop, stock, http2)
    return Change(change.type_url, change.version, upserts, change.removed)


def _listener(raw: bytes, drop: frozenset[str], stock: bool, http2: tuple[int, ...]) -> bytes:
    listener = listener_pb2.Listener.FromString(raw)
    is_http2 = listener.address.socket_address.port_value in http2
    protocols = "istio-h2,istio,h2" if is_http2 else "istio-http/1.1,istio,http/1.1"
    chains = list(listener.filter_chains)
    if listener.HasField("default_filter_chain"):
        chains.append(listener.default_filter_chain)
    for chain in chains:
        _remove(chain.filters, drop)
        for network_filter in chain.filters:
            manager = http_connection_manager_pb2.HttpConnectionManager()
            tcp = tcp_proxy_pb2.TcpProxy()
            if network_filter.typed_config.Unpack(manager):
                _remove(manager.http_filters, drop)
                for http_filter in manager.http_filters:
                    if stock and http_filter.name == "istio.alpn":
                        http_filter.typed_config.Pack(_offers(protocols))
                manager.access_log.append(_access_log())
                network_filter.typed_config.Pack(manager)
            elif network_filter.typed_config.Unpack(tcp):
                tcp.access_log.append(_access_log())
                network_filter.typed_config.Pack(tcp)
    unmatched = _access_log()
    unmatched.filter.response_flag_filter.flags.append("NR")
    listener.access_log.append(unmatched)
    return bytes(listener.SerializeToString(deterministic=True))


def _remove(filters: Any, names: frozenset[str]) -> None:
    for position in reversed(range(len(filters))):
        if filters[position].name in names:
            del filters[position]


def _offers(protocols: str) -> set_filter_state_pb2.Config:
    """A filter that has the upstream's TLS offer these protocols."""
    once = value_pb2.FilterStateValue.SharedWithUpstream.ONCE
    value = value_pb2.FilterStateValue(object_key="envoy.network.application_protocols", shared_with_upstream=once)
    value.format_string.text_format_source.inline_string = protocols
    return set_filter_state_pb2.Config(on_request_headers=[value])


def _access_log() -> accesslog_pb2.AccessLog:
    config = file_pb2.FileAccessLog(path="./access.log")
    config.log_format.json_format.update({name: f"%{field}%" for name, field in LOG_FIELDS.items()})
    log = accesslog_pb2.AccessLog(name="envoy.access_loggers.file")
    log.typed_config.Pack(config)
    return log
