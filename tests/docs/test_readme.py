"""README.md does what it says: its bootstraps, and its mesh, served by the embedded Pilot."""

import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.client import Connection, request_bytes
from tests.support.ports import PortAllocator
from tests.support.proxies import Proxy, ProxyKind

PAGE = Path(__file__).parent.parent.parent / "README.md"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with the page's files."""
    blocks = re.findall(r"^```\w+\n# (\S+\.\w+)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    for name, text in blocks:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def at_ports(value: Any, ports: dict[int, int]) -> Any:
    """The same with other ports than the page's, which may be taken."""
    if isinstance(value, dict):
        return {key: at_ports(one, ports) for key, one in value.items()}
    if isinstance(value, list):
        return [at_ports(one, ports) for one in value]
    if isinstance(value, str):
        return re.sub(r"(?<=^127.0.0.1:)\d+$", lambda found: str(ports[int(found[0])]), value)
    return ports.get(value, value) if isinstance(value, int) else value


def hello(port: int) -> bytes:
    with Connection(port) as client:
        client.send(request_bytes("GET", "/hello", [("host", "test")]))
        return client.read_response().body


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def ports_of_the_page() -> dict[int, int]:
    allocator = PortAllocator()
    return {port: allocator.take() for port in (8000, 8080, 15000, 15010)}


def test_the_pages_file_serves_and_is_validated_as_printed(files: Path) -> None:
    command = [sys.executable, "-m", "mosn_xds.cli.main", "validate", "static.yaml"]
    done = subprocess.run(command, cwd=files, capture_output=True, text=True, check=True)
    assert f"$ mosn-xds validate static.yaml\n{done.stdout}" in PAGE.read_text()
    ports = ports_of_the_page()
    bootstrap = at_ports(yaml.safe_load((files / "static.yaml").read_text()), ports)
    proxy = Proxy.start(ProxyKind.OURS, bootstrap, files / "run")
    try:
        assert hello(ports[8080]) == b"hello\n"
        until(lambda: '"GET /hello HTTP/1.1" 200' in proxy.log_tail())
    finally:
        proxy.stop()


def test_the_pages_mesh_is_served_by_the_pilot_and_follows_its_files(files: Path) -> None:
    ports = ports_of_the_page()
    web = files / "mesh" / "web.yaml"
    web.write_text(yaml.safe_dump(at_ports(yaml.safe_load(web.read_text()), ports)))
    command = [sys.executable, "-m", "mosn_xds.cli.main", "pilot", "mesh", "--listen", f"127.0.0.1:{ports[15010]}"]
    pilot = subprocess.Popen(command, cwd=files, stdout=subprocess.DEVNULL)
    try:
        proxy = Proxy.start(ProxyKind.OURS, at_ports(yaml.safe_load((files / "ads.yaml").read_text()), ports), files)
        try:
            assert hello(ports[8080]) == b"hello\n"
            routes = files / "mesh" / "routes.yaml"
            routes.write_text(routes.read_text().replace("hello\\n", "goodbye\\n"))
            until(lambda: hello(ports[8080]) == b"goodbye\n")
        finally:
            proxy.stop()
    finally:
        pilot.terminate()
        pilot.wait()
