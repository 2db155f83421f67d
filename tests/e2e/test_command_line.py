"""Flags that change what is served, on a real Envoy and on ours."""

import subprocess
from pathlib import Path

import pytest

from tests.support.client import Connection, request_bytes
from tests.support.ports import PortAllocator
from tests.support.proxies import Proxy, ProxyKind
from tests.support.served import listener

KINDS = [pytest.param(ProxyKind.ENVOY, marks=pytest.mark.envoy), ProxyKind.OURS]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.value)
def kind(request: pytest.FixtureRequest) -> ProxyKind:
    found: ProxyKind = request.param
    if found.binary() is None:
        pytest.skip(f"{found.value} is not installed")
    return found


def start(kind: ProxyKind, folder: Path, port: int, *options: str) -> Proxy:
    """A proxy that answers with the x-forwarded-for that it would send on."""
    resource = listener("web", port)
    del resource["@type"]
    manager = resource["filter_chains"][0]["filters"][0]["typed_config"]
    manager["use_remote_address"] = True
    manager["route_config"]["response_headers_to_add"] = [
        {"header": {"key": "x-seen", "value": "%REQ(x-forwarded-for)%"}}
    ]
    address = {"address": "127.0.0.1", "port_value": PortAllocator().take()}
    bootstrap = {
        "admin": {"address": {"socket_address": address}},
        "static_resources": {"listeners": [resource]},
    }
    return Proxy.start(kind, bootstrap, folder, options=options)


def seen(port: int) -> str | None:
    with Connection(port) as client:
        client.send(request_bytes("GET", "/", [("host", "test")]))
        return client.read_response().get("x-seen")


def test_the_address_that_stands_in_for_loopback_is_of_the_version_asked_for(tmp_path: Path) -> None:
    port = PortAllocator().take()
    found: dict[tuple[ProxyKind, str], str | None] = {}
    for version in ("v4", "v6"):
        for kind in (kind for kind in ProxyKind if kind.binary() is not None):
            folder = tmp_path / f"{kind.value}-{version}"
            proxy = start(kind, folder, port, "--local-address-ip-version", version)
            try:
                found[kind, version] = seen(port)
            finally:
                proxy.kill()
        assert len({value for (_, one), value in found.items() if one == version}) == 1, found
    assert ":" in str(found[ProxyKind.OURS, "v6"])
    assert ":" not in str(found[ProxyKind.OURS, "v4"])


def test_tags_of_the_command_line_are_on_every_statistic(kind: ProxyKind, tmp_path: Path) -> None:
    port = PortAllocator().take()
    tags = ("--stats-tag", "mesh:m1", "--stats-tag", "zone:a b", "--stats-tag", "mesh:m2")
    proxy = start(kind, tmp_path, port, *tags)
    try:
        _, text = proxy.admin("/stats/prometheus?filter=%5Eserver.live%24%7C%5Ecluster_manager.cluster_added%24")
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        assert sorted(lines) == [
            'envoy_cluster_manager_cluster_added{mesh="m1",zone="a b"} 0',
            'envoy_server_live{mesh="m1",zone="a b"} 1',
        ]
    finally:
        proxy.kill()


@pytest.mark.parametrize("tag", ["mesh", "mesh:a.b", "me-sh:a"])
def test_a_malformed_tag_ends_the_start(kind: ProxyKind, tmp_path: Path, tag: str) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("{}")
    done = subprocess.run(
        [str(kind.binary()), "-c", str(config), "--mode", "validate", "--stats-tag", tag],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert f"error: misformatted stats-tag '{tag}'" in done.stderr
