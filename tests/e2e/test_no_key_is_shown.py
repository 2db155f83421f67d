"""Private keys stay private: no page, no log at any level, no error of a running proxy shows one, in any encoding."""

import base64
import os
import signal
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mosn_xds.cli.demo import secure_mesh
from tests.e2e.load_clients import Callers
from tests.e2e.load_tools import wait_until
from tests.e2e.secure_world import SecureWorld
from tests.support.any_secrets import secret_bytes
from tests.support.authority import Issued, key_pem

PAGES = (
    "/", "/help", "/certs", "/clusters", "/clusters?format=json", "/config_dump", "/config_dump?include_eds",
    "/config_dump?resource=dynamic_active_secrets", "/config_dump?resource=static_secrets", "/config_dump?resource=static_clusters",
    "/config_dump?resource=dynamic_listeners", "/config_dump?mask=secrets", "/init_dump", "/listeners",
    "/listeners?format=json", "/memory", "/runtime", "/server_info", "/stats", "/stats?format=json",
    "/stats/prometheus", "/xds",
)  # fmt: skip
TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"


def traces_of(issued: Issued) -> list[str]:
    """Pieces by which the key would be known: PEM, base64 of that or of the number wherever it begins, hexadecimal."""
    body = key_pem(issued.key).splitlines()[1:-1]
    number = issued.key.private_numbers().private_value  # type: ignore[union-attr]  # P-256, as issued here
    raw = number.to_bytes(32, "big")
    found = [body[0]]  # what follows ends with the public key, which is in the certificate
    for offset in range(3):
        found.append(base64.b64encode(("x" * offset + body[0]).encode()).decode()[4:80])
        found.append(base64.b64encode(b"x" * offset + raw).decode()[4:36])
    return [*found, raw.hex(), repr(raw)[2:40]]


def static_cluster(issued: Issued, name: str, as_struct: bool) -> dict[str, Any]:
    context = {"common_tls_context": {"tls_certificates": [issued.config()]}}
    typed: dict[str, Any] = {"@type": TLS, **context}
    if as_struct:
        typed = {"@type": "type.googleapis.com/xds.type.v3.TypedStruct", "type_url": TLS, "value": context}
    return {"name": name, "type": "STATIC", "transport_socket": {"name": "tls", "typed_config": typed}}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[SecureWorld]:
    with SecureWorld(tmp_path) as made:
        yield made


def test_no_page_and_no_log_shows_a_key(world: SecureWorld) -> None:
    issue = world.authority.issue
    inline, struct, own, encrypted = (issue(f"{name}.test") for name in ("inline", "struct", "own", "encrypted"))
    locked = {"inline_string": key_pem(encrypted.key, b"sesame-opens")}
    more = {
        "clusters": [static_cluster(inline, "inline", False), static_cluster(struct, "struct", True)],
        "secrets": [
            {"name": "own", "tls_certificate": own.config()},
            {
                "name": "encrypted",
                "tls_certificate": encrypted.config(private_key=locked, password={"inline_string": "sesame-opens"}),
            },
        ],
    }
    world.start("-l", "trace", more=more)
    with Callers(world.port, 2) as callers:
        wait_until(lambda: callers.answers > 20, 10)
        world.rotate()
        expired = world.rotate(end=timedelta(hours=-1))
        wait_until(lambda: len(world.secrets.nacks) >= 2, 10)
        other = issue(secure_mesh.FRONT)
        misfit = {**expired.config(), "certificate_chain": {"inline_string": other.chain}}
        world.say("default", secret_bytes("default", tls_certificate=misfit))
        wait_until(lambda: len(world.secrets.nacks) >= 4, 10)
        shown = [f"{nack}" for nack in world.secrets.nacks]
        for proxy in world.proxies.values():
            for page in PAGES:
                status, text = proxy.admin(page)
                assert status in (200, 400, 404), page
                shown.append(text)
    dump = "".join(shown)
    assert "BEGIN CERTIFICATE" in dump and "[redacted]" in dump  # these were the pages, and secrets are there
    for proxy in world.proxies.values():
        os.kill(proxy.process.pid, signal.SIGTERM)
        proxy.process.wait(30)
        shown.append(proxy.log_path.read_text(errors="replace"))
    assert "TRACE" in shown[-1].upper() or "DEBUG" in shown[-1].upper()
    whole = "\n".join(shown)
    assert "sesame-opens" not in whole
    for issued in [*world.issued, inline, struct, own, encrypted]:
        for trace in traces_of(issued):
            assert trace not in whole
    assert "PRIVATE KEY" not in whole
