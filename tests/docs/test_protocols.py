"""docs/protocols.md does what it says: its protocol, as it stands in the page, is tested, served, and sent by a Pilot."""

import os
import re
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.packages import install
from tests.support.ports import PortAllocator
from tests.support.proxies import Proxy, ProxyKind
from tests.support.served import Served

PAGE = Path(__file__).parent.parent.parent / "docs" / "protocols.md"
TEXT = PAGE.read_text()


def files() -> dict[str, str]:
    """The page's blocks that begin with a file's name."""
    return dict(re.findall(r"^```\w+\n# (\S+\.\w+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL))


def said() -> list[tuple[list[str], str]]:
    """The page's calls, each with what it prints."""
    found = re.findall(r"^\$ python (acme_call\.py .+)\n(.+)$", TEXT, re.MULTILINE)
    return [(command.split(), answer) for command, answer in found]


@pytest.fixture
def installed(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A folder with the page's files, as `pip install` would leave its package, and the environment that finds it."""
    found = files()
    project = tomllib.loads(found["pyproject.toml"])["project"]
    folder = tmp_path / "package"
    path = install(folder, found, project["entry-points"], name=project["name"], version=project["version"])
    return folder, {**os.environ, **path}


@contextmanager
def servers(folder: Path, environment: dict[str, str], *names: str) -> Iterator[list[int]]:
    """The page's server, once for each name."""
    ports = PortAllocator()
    taken = [ports.take() for _ in names]
    commands = [[sys.executable, "acme_server.py", str(port), name] for port, name in zip(taken, names, strict=True)]
    running = [subprocess.Popen(command, cwd=folder, env=environment) for command in commands]
    try:
        for port in taken:
            until(lambda port=port: listens(port))
        yield taken
    finally:
        for one in running:
            one.kill()
            one.wait()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def call(folder: Path, environment: dict[str, str], *arguments: str) -> str:
    """What the page's client prints."""
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=True
    ).stdout.strip()


def until(condition: Callable[[], bool]) -> None:
    """Lines are flushed and counts reported after a while."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_protocol_has_forty_lines() -> None:
    lines = [line for line in files()["acme_json.py"].splitlines() if line.strip()]
    assert len(lines) <= 40


def test_the_pages_test_passes(installed: tuple[Path, dict[str, str]]) -> None:
    folder, environment = installed
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_acme_json.py"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_the_pages_calls_get_the_pages_answers(installed: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    folder, environment = installed
    ports = PortAllocator()
    shop, admin = ports.take(), ports.take()
    with servers(folder, environment, "v1", "v2") as (v1, v2):
        text = files()["proxy.yaml"]
        for written, port in ((9901, admin), (8080, shop), (9001, v1), (9002, v2)):
            text = text.replace(f"port_value: {written}}}", f"port_value: {port}}}")
        proxy = Proxy.start(ProxyKind.OURS, yaml.safe_load(text), tmp_path / "run", environment=environment)
        try:
            assert len(said()) == 3
            for (script, _, *arguments), answer in said():
                assert call(folder, environment, script, str(shop), *arguments) == answer
            lines = re.findall(r"^acme (?:cart|till)\..+$", TEXT, re.MULTILINE)
            assert len(lines) == 3
            until(lambda: all(line in proxy.log_tail() for line in lines))
            counted = re.search(r"`(generic_proxy\.shop\.rpc\.\S+): (\d+)`", TEXT)
            assert counted is not None
            until(lambda: proxy.stats("rpc").get(counted[1]) == int(counted[2]))
            labels = 'mosn_xds_rpc_protocol="acme",mosn_xds_rpc_service="cart",mosn_xds_rpc_method="get"'
            assert f"envoy_generic_proxy_shop_rq_total{{{labels}}} 2\n" in proxy.admin("/stats/prometheus")[1]
        finally:
            proxy.stop()


def test_the_pages_envoy_filter_is_served_as_istiod_sends_it(
    installed: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    folder, environment = installed
    patch = yaml.safe_load(files()["envoy-filter.yaml"])["spec"]["configPatches"][0]["patch"]
    shop = PortAllocator().take()
    with servers(folder, environment, "v1") as (v1,):
        resources = [
            {
                "@type": "type.googleapis.com/envoy.config.listener.v3.Listener",
                "name": "shop",
                "address": address(shop),
                "filter_chains": [{"filters": [patch["value"]]}],
            },
            {
                "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
                "name": "outbound|9000||cart.shop.svc.cluster.local",
                "load_assignment": {
                    "cluster_name": "cart",
                    "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(v1)}}]}],
                },
            },
        ]
        with Served(tmp_path / "run", *resources, environment=environment):
            assert call(folder, environment, "acme_call.py", str(shop), "cart", "get") == '{"value":"get [1] by v1"}'


def address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
