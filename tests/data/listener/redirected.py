"""Runs inside a network namespace of its own: a proxy behind iptables REDIRECT, as in a sidecar, and what clients see.

Usage: python -m tests.data.listener.redirected KIND FOLDER. The redirected client runs under another user, as an
application does, so that the proxy's own connections are not redirected.
"""

import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from tests.support.proxies import Proxy, ProxyKind

APP_UID = 65534
SERVICE, OTHER = "10.11.12.13", "10.11.12.14"

FILTERS = "type.googleapis.com/envoy.extensions.filters"


def run(command: str) -> None:
    subprocess.run(command.split(), check=True)


def extension(name: str, type_url: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "typed_config": {"@type": f"{FILTERS}.{type_url}", **fields}}


def listener(name: str, host: str, port: int, filters: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    address = {"socket_address": {"address": host, "port_value": port}}
    return {"name": name, "address": address, "filter_chains": [{"filters": filters}], **fields}


def http(answer: str) -> dict[str, Any]:
    route = {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": answer}}}
    return extension(
        "hcm",
        "network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="hcm",
        route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        http_filters=[extension("router", "http.router.v3.Router")],
    )


def bootstrap() -> dict[str, Any]:
    passthrough = extension("tcp", "network.tcp_proxy.v3.TcpProxy", stat_prefix="out", cluster="passthrough")
    original_dst = extension("envoy.filters.listener.original_dst", "listener.original_dst.v3.OriginalDst")
    by_port = {"filter_chain_match": {"destination_port": 8080}, "filters": [http("inbound 8080")]}
    inbound = listener("virtualInbound", "0.0.0.0", 15006, [http("inbound other")], listener_filters=[original_dst])
    inbound["filter_chains"].insert(0, by_port)
    return {
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 15000}}},
        "static_resources": {
            "listeners": [
                listener("virtualOutbound", "0.0.0.0", 15001, [passthrough], use_original_dst=True),
                listener("service", SERVICE, 80, [http("service")], bind_to_port=False),
                listener("port", "0.0.0.0", 81, [http("any address, port 81")], bind_to_port=False),
                inbound,
            ],
            "clusters": [{"name": "passthrough", "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED"}],
        },
    }


def serve(host: str, port: int, greeting: bytes) -> None:
    """A server that the proxy must reach without being asked for it."""
    sock = socket.create_server((host, port))

    def loop() -> None:
        while True:
            connection, _ = sock.accept()
            connection.sendall(greeting)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):  # closed with unread input it would be reset, and the greeting lost
                pass
            connection.close()

    threading.Thread(target=loop, daemon=True).start()


CLIENT = """
import encodings.idna, os, socket  # before the user changes, who may not be able to read them
os.setuid({uid})
with socket.create_connection(({host!r}, {port}), timeout=5) as client:
    client.sendall(b"GET / HTTP/1.1\\r\\nhost: x\\r\\nconnection: close\\r\\n\\r\\n")
    data = b""
    try:
        while chunk := client.recv(4096):
            data += chunk
    except ConnectionResetError:
        pass
print(data.rpartition(b"\\r\\n")[2].decode())
"""


def ask(host: str, port: int) -> str:
    code = CLIENT.format(uid=APP_UID, host=host, port=port)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=True)
    return done.stdout.strip()


def main(kind: ProxyKind, folder: Path) -> None:
    run("ip link set lo up")
    for host in (SERVICE, OTHER):
        run(f"ip addr add {host}/32 dev lo")
    for ports, target in (("80,81,82", 15001), ("8080,8081", 15006)):
        owner = f"-m owner --uid-owner {APP_UID}"
        run(f"iptables -t nat -A OUTPUT -p tcp -m multiport --dports {ports} {owner} -j REDIRECT --to-ports {target}")
    serve(OTHER, 82, b"passed through to 82")
    serve(OTHER, 80, b"passed through to 80")
    proxy = Proxy.start(kind, bootstrap(), folder)
    try:
        for host, port in (
            (SERVICE, 80),
            (SERVICE, 81),
            (OTHER, 81),
            (OTHER, 82),
            (OTHER, 80),
            (OTHER, 8080),
            (OTHER, 8081),
        ):
            print(f"{host}:{port}: {ask(host, port)}")
    finally:
        proxy.stop()


if __name__ == "__main__":
    main(ProxyKind(sys.argv[1]), Path(sys.argv[2]))
