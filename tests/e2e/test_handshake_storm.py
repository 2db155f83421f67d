"""A thousand clients shake hands at once, as after a restart: those who were there before are served all the while."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.differential.bed import Bed, extension, hcm, listener, vhost
from tests.differential.world import World
from tests.support.authority import Authority
from tests.support.ports import PortAllocator
from tests.support.proxies import ProxyKind
from tests.support.tls import TlsConnection, client_context

ROOT = Authority()
SERVER = ROOT.issue("srv.test")
CLIENT = ROOT.issue("spiffe://td/ns/shop/sa/client")
NEWCOMERS = 1000

STORM = """
import asyncio, ssl, sys

async def main(port, count, roots, chain, key):
    context = ssl.create_default_context(cafile=roots)
    context.check_hostname = False
    context.load_cert_chain(chain, key)
    done = 0

    async def one():
        nonlocal done
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, ssl_handshake_timeout=50)
        writer.write(b"GET / HTTP/1.1\\r\\nhost: x\\r\\nconnection: close\\r\\n\\r\\n")
        line = await reader.readline()
        done += line.startswith(b"HTTP/1.1 200")
        writer.close()

    await asyncio.gather(*(one() for _ in range(count)))
    print(done)

asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]))
"""


def secure_listener() -> dict[str, object]:
    tls = extension(
        "envoy.transport_sockets.tls",
        "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        require_client_certificate=True,
        common_tls_context={
            "tls_certificates": [SERVER.config()],
            "validation_context": {"trusted_ca": {"inline_string": ROOT.root}},
        },
    )
    routes = "- {match: {prefix: /}, direct_response: {status: 200, body: {inline_string: ok}}}"
    return listener("tls", chains=[{"filters": [hcm("tls", [vhost("all", ["*"], routes)])], "transport_socket": tls}])


@pytest.mark.alone
def test_established_connections_are_served_while_a_thousand_shake_hands(tmp_path: Path) -> None:
    world = World(ProxyKind.OURS, Bed([secure_listener()], []), tmp_path / "world", PortAllocator())
    world.start()
    roots = tmp_path / "roots.pem"
    roots.write_text(ROOT.root)
    try:
        port = world.listener_port("tls")
        with TlsConnection(port, client_context(ROOT.root, certificate=CLIENT)) as established:

            def ask() -> float:
                began = time.monotonic()
                established.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
                assert established.read_response().status == 200
                return time.monotonic() - began

            ask()
            arguments = [str(port), str(NEWCOMERS), str(roots), *CLIENT.write(tmp_path)]
            storm = subprocess.Popen([sys.executable, "-c", STORM, *arguments], stdout=subprocess.PIPE, text=True)
            latencies = []
            while storm.poll() is None:
                latencies.append(ask())
                time.sleep(0.002)
            out, _ = storm.communicate()
        assert out.strip() == str(NEWCOMERS)
        latencies.sort()
        assert len(latencies) > 100
        # A handshake takes a millisecond or two; a queue of them would be seconds.
        assert latencies[len(latencies) // 2] < 0.1
        assert latencies[-1] < 1.0
    finally:
        world.stop()
