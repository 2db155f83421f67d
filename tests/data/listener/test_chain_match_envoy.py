"""Filter chain match against a real Envoy: random chains, random connections, the same choice.

The PROXY protocol lets a client on loopback claim any address and port at both ends; each chain leads to an upstream that
says the chain's position.
"""

import random
import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from mosn_xds.base.errors import ConfigError
from mosn_xds.control.translate.chain_match import refuse_overlap
from mosn_xds.data.listener.chain_match import ChainMatcher
from mosn_xds.spec.common import Address, CidrRange
from mosn_xds.spec.listener import ChainMatch, FilterChain, SourceType
from tests.data.listener.hellos import client_hello
from tests.support.ports import PortAllocator
from tests.support.proxies import Proxy, ProxyKind

LISTENERS = 40
CONNECTIONS = 25
CHAINS = 6

PORTS = (80, 443, 8080)
RANGES = ("10.1.2.3/32", "10.1.2.0/24", "10.1.0.0/16", "10.0.0.0/8", "127.0.0.1/32", "192.0.2.0/24")
HOSTS = ("10.1.2.3", "10.1.2.4", "10.1.3.1", "10.9.9.9", "127.0.0.1", "192.0.2.5", "203.0.113.1")
SERVER_NAMES = ("a.b.com", "*.b.com", "*.com", "x.org")
SNIS = ("", "a.b.com", "c.b.com", "d.c.b.com", "b.com", "com", "x.org", "y.x.org")
PROTOCOLS = ("h2", "http/1.1", "istio")
SOURCE_PORTS = (1000, 2000)


def random_match(rng: random.Random) -> ChainMatch | None:
    """Few criteria at a time, so that chains compete."""

    def some(values: tuple[str, ...] | tuple[int, ...]) -> Any:
        return tuple(rng.sample(values, rng.randint(1, 2))) if rng.random() < 0.3 else ()

    def ranges() -> tuple[CidrRange, ...]:
        return tuple(CidrRange(text.split("/")[0], int(text.split("/")[1])) for text in some(RANGES))

    return ChainMatch(
        destination_port=rng.choice(PORTS) if rng.random() < 0.3 else None,
        prefix_ranges=ranges(),
        server_names=some(SERVER_NAMES),
        transport_protocol=rng.choice(("tls", "raw_buffer")) if rng.random() < 0.3 else "",
        application_protocols=some(PROTOCOLS),
        direct_source_ranges=ranges(),
        source_type=rng.choice(list(SourceType)),
        source_ranges=ranges(),
        source_ports=some(SOURCE_PORTS),
    )


def random_matches(rng: random.Random) -> list[ChainMatch | None]:
    """What Envoy accepts as one listener; with a few criteria dropped everywhere, so that all levels get their turn."""
    while True:
        dropped = rng.sample(list(ChainMatch.__struct_fields__), 4)
        blank = ChainMatch()
        matches: list[ChainMatch | None] = []
        for _ in range(rng.randint(2, CHAINS)):
            match = random_match(rng)
            fields = {name: getattr(blank if name in dropped else match, name) for name in ChainMatch.__struct_fields__}
            matches.append(ChainMatch(**fields))
        try:
            refuse_overlap(tuple(FilterChain(b"", "", match, ()) for match in matches), "test")
        except ConfigError:
            continue
        return matches


def as_envoy(match: ChainMatch | None) -> dict[str, Any]:
    def prefixes(ranges: tuple[CidrRange, ...]) -> list[dict[str, Any]]:
        return [{"address_prefix": cidr.prefix, "prefix_len": cidr.length} for cidr in ranges]

    if match is None:
        return {}
    fields = {
        "destination_port": match.destination_port,
        "prefix_ranges": prefixes(match.prefix_ranges),
        "server_names": list(match.server_names),
        "transport_protocol": match.transport_protocol,
        "application_protocols": list(match.application_protocols),
        "direct_source_prefix_ranges": prefixes(match.direct_source_ranges),
        "source_type": match.source_type.name if match.source_type else None,
        "source_prefix_ranges": prefixes(match.source_ranges),
        "source_ports": list(match.source_ports),
    }
    return {name: value for name, value in fields.items() if value}


def extension(name: str, type_url: str, **fields: Any) -> dict[str, Any]:
    return {
        "name": name,
        "typed_config": {"@type": f"type.googleapis.com/envoy.extensions.filters.{type_url}", **fields},
    }


def listener(port: int, matches: list[ChainMatch | None]) -> dict[str, Any]:
    return {
        "name": f"listener-{port}",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "listener_filters": [
            extension("proxy", "listener.proxy_protocol.v3.ProxyProtocol"),
            extension("tls", "listener.tls_inspector.v3.TlsInspector"),
            extension("http", "listener.http_inspector.v3.HttpInspector"),
        ],
        "filter_chains": [
            {
                "name": str(position),
                "filter_chain_match": as_envoy(match),
                "filters": [
                    extension("tcp", "network.tcp_proxy.v3.TcpProxy", stat_prefix="tcp", cluster=f"says-{position}")
                ],
            }
            for position, match in enumerate(matches)
        ],
    }


class Oracle:
    """Upstreams that greet with their number, for as long as the test lasts."""

    def __init__(self) -> None:
        self.sockets = []
        for position in range(CHAINS):
            sock = socket.create_server(("127.0.0.1", 0))
            self.sockets.append(sock)
            threading.Thread(target=self._greet, args=(sock, str(position).encode()), daemon=True).start()

    @staticmethod
    def _greet(sock: socket.socket, greeting: bytes) -> None:
        with suppress(OSError):
            while True:
                connection, _ = sock.accept()
                with connection:
                    connection.sendall(greeting)
                    connection.settimeout(5)
                    with suppress(OSError):
                        while connection.recv(4096):
                            pass

    def close(self) -> None:
        for sock in self.sockets:
            sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def clusters(self) -> list[dict[str, Any]]:
        return [
            {
                "name": f"says-{position}",
                "type": "STATIC",
                "load_assignment": {
                    "cluster_name": f"says-{position}",
                    "endpoints": [{"lb_endpoints": [{"endpoint": {"address": self._address(sock)}}]}],
                },
            }
            for position, sock in enumerate(self.sockets)
        ]

    @staticmethod
    def _address(sock: socket.socket) -> dict[str, Any]:
        return {"socket_address": {"address": "127.0.0.1", "port_value": sock.getsockname()[1]}}


def ask(port: int, line: bytes, first_bytes: bytes) -> int | None:
    """The position that the upstream says; None if Envoy closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        client.sendall(line + first_bytes)
        try:
            said = client.recv(10)
        except ConnectionResetError:
            return None
        return int(said) if said else None


@pytest.mark.envoy
def test_random_chains_are_chosen_as_envoy_chooses_them(tmp_path: Path) -> None:
    rng = random.Random(20240607)
    ports = PortAllocator()
    oracle = Oracle()
    admin = ports.take()
    listeners = {ports.take(): random_matches(rng) for _ in range(LISTENERS)}
    bootstrap = {
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin}}},
        "static_resources": {
            "listeners": [listener(port, matches) for port, matches in listeners.items()],
            "clusters": oracle.clusters(),
        },
    }
    proxy = Proxy.start(ProxyKind.ENVOY, bootstrap, tmp_path, concurrency=1)
    chosen: dict[int | None, int] = {}
    try:
        for port, matches in listeners.items():
            matcher = ChainMatcher(matches)
            for _ in range(CONNECTIONS):
                source = Address(rng.choice(HOSTS), rng.choice((*SOURCE_PORTS, 3000)))
                destination = Address(rng.choice(HOSTS), rng.choice((*PORTS, 9000)))
                tls = rng.random() < 0.5
                sni = rng.choice(SNIS) if tls else ""
                alpns = tuple(rng.sample(PROTOCOLS, rng.randint(0, 2))) if tls else ("http/1.1",)
                ours = matcher.find(
                    destination=destination,
                    sni=sni,
                    transport="tls" if tls else "raw_buffer",
                    alpns=alpns,
                    direct_source=Address("127.0.0.1", 1),
                    source=source,
                )
                line = f"PROXY TCP4 {source.host} {destination.host} {source.port} {destination.port}\r\n".encode()
                theirs = ask(port, line, client_hello(sni or None, alpns) if tls else b"GET / HTTP/1.1\r\n\r\n")
                assert ours == theirs, (matches, source, destination, sni, tls, alpns)
                chosen[ours] = chosen.get(ours, 0) + 1
    finally:
        proxy.stop()
        oracle.close()
    assert set(chosen) >= {None, 0, 1, 2, 3}
