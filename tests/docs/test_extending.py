"""docs/extending.md does what it says: its files, as they stand in the page, are installed, tested and served."""

import os
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import trio
import yaml
from google.protobuf import json_format

from mosn_xds.base.errors import ConfigError
from mosn_xds.control.translate import Translator
from mosn_xds.control.translate.model import NodeContext, Options
from mosn_xds.control.translate.registry import Registry
from mosn_xds.control.translate.translator import LISTENERS_URL
from mosn_xds.data.filters.harness import FilterHarness, HarnessContext
from mosn_xds.spec.filters import ExtensionFilter, HttpFilter
from mosn_xds.xds.messages import message_class
from tests.support.client import Connection, request_bytes
from tests.support.ports import PortAllocator
from tests.support.proxies import Proxy, ProxyKind

PAGE = Path(__file__).parent.parent.parent / "docs" / "extending.md"


def files() -> dict[str, str]:
    """The page's blocks that begin with a file's name."""
    blocks = re.findall(r"^```\w+\n# (\S+\.\w+)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return dict(blocks)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder to be put on the path, where the page's package is as `pip install` would leave it."""
    for name, text in files().items():
        (tmp_path / name).write_text(text)
    project = tomllib.loads((tmp_path / "pyproject.toml").read_text())["project"]
    about = tmp_path / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = []
    for group, entries in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {place}" for name, place in entries.items())]
    (about / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


def load(name: str) -> ModuleType:
    """One of the page's modules."""
    module = ModuleType(name)
    exec(compile(files()[f"{name}.py"], f"{PAGE}:{name}", "exec"), module.__dict__)
    return module


def on_path(folder: Path) -> dict[str, str]:
    return {"PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)}


def test_the_pages_test_passes(installed: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_acme_filters.py"],
        cwd=installed,
        env={**os.environ, **on_path(installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def until(condition: Callable[[], bool]) -> None:
    """Lines are flushed and counts reported after a while."""
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_pages_filter_serves_in_the_pages_proxy(installed: Path) -> None:
    ports = PortAllocator()
    web, admin = ports.take(), ports.take()
    bootstrap: dict[str, Any] = yaml.safe_load((installed / "proxy.yaml").read_text())
    bootstrap["admin"]["address"]["socket_address"]["port_value"] = admin
    bootstrap["static_resources"]["listeners"][0]["address"]["socket_address"]["port_value"] = web
    proxy = Proxy.start(ProxyKind.OURS, bootstrap, installed / "run", environment=on_path(installed))
    try:
        answers = []
        with Connection(web) as client:
            for path, headers in (("/", []), ("/", [("x-token", "t")]), ("/health", [])):
                client.send(request_bytes("GET", path, [("host", "test"), *headers]))
                response = client.read_response()
                answers.append((response.status, response.body))
        assert answers == [(401, b"who are you?\n"), (200, b"hello\n"), (200, b"fine\n")]
        until(lambda: "/ 401 no_token" in proxy.log_tail())
        until(lambda: proxy.stats("need_token") == {"http.web.need_token.refused": 1})
    finally:
        proxy.stop()


@pytest.mark.parametrize(("answer", "status"), [(b"yes", None), (b"no", 403)])
def test_a_filter_that_asks_somebody_waits_for_the_answer(tmp_path: Path, answer: bytes, status: int | None) -> None:
    kind = load("acme_policy").AskPolicy
    address = str(tmp_path / "policy")
    asked: list[bytes] = []

    async def main() -> object:
        async def serve(stream: trio.SocketStream) -> None:
            asked.append(await stream.receive_some())
            await stream.send_all(answer)

        listening = trio.socket.socket(trio.socket.AF_UNIX)
        await listening.bind(address)
        listening.listen()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, serve, [trio.SocketListener(listening)])
            stream = FilterHarness(kind(kind.Options(socket=address), HarnessContext())).request(path=b"/books")
            assert stream.paused
            assert stream.pending is not None
            verdict = await stream.pending
            nursery.cancel_scope.cancel()
        return verdict

    verdict = trio.run(main)
    assert asked == [b"/books\n"]
    assert getattr(verdict, "status", None) == status


def test_a_routes_configuration_wins_over_the_chains() -> None:
    kind = load("acme_per_route").NeedHeader
    filter_ = kind(kind.Options(header="x-chain"), HarnessContext())
    filter_.name = "need"
    route = FilterHarness(filter_, per_filter={"need": ExtensionFilter("acme.NeedHeader", b'{"header": "x-route"}')})
    assert route.request(fields=[(b"x-route", b"1")]).forwarded
    assert not route.request(fields=[(b"x-chain", b"1")]).forwarded
    assert FilterHarness(filter_).request(fields=[(b"x-chain", b"1")]).forwarded


class PageEntry(EntryPoint):
    """An entry point that leads into the page."""

    def load(self) -> Any:
        return load(self.module).__dict__[self.attr]


def translated(buffer: dict[str, Any]) -> tuple[HttpFilter, ...]:
    """The HTTP filters of a listener whose chain has Envoy's buffer filter, by the page's translator."""
    block = re.search(r'^\[project.entry-points."mosn_xds.translators"\]\n.*?^(?=```)', PAGE.read_text(), re.M | re.S)
    assert block
    ((group, entries),) = tomllib.loads(block[0])["project"]["entry-points"].items()
    registry = Registry([PageEntry(name, place, group) for name, place in entries.items()], frozenset())
    filters = "type.googleapis.com/envoy.extensions.filters"
    manager = {
        "@type": f"{filters}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "web",
        "route_config": {"virtual_hosts": [{"name": "v", "domains": ["*"]}]},
        "http_filters": [
            {"name": "buffer", "typed_config": {"@type": f"{filters}.http.buffer.v3.Buffer", **buffer}},
            {"name": "router", "typed_config": {"@type": f"{filters}.http.router.v3.Router"}},
        ],
    }
    listener = {
        "name": "web",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 80}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    kind = message_class(LISTENERS_URL)
    assert kind is not None
    for inner in (
        "network.http_connection_manager.v3.HttpConnectionManager",
        "http.router.v3.Router",
        "http.buffer.v3.Buffer",
    ):
        message_class(f"{filters}.{inner}")  # JSON can be read only of types that are loaded
    message = json_format.ParseDict(listener, kind())
    spec: Any = Translator(NodeContext(), Options(), registry).translate_message(LISTENERS_URL, message).spec
    chain: tuple[HttpFilter, ...] = spec.chains[0].filters[-1].filters
    return chain


def test_the_pages_translator_gives_its_filter_what_it_needs() -> None:
    assert translated({"max_request_bytes": 7})[0].config == ExtensionFilter("acme.Buffer", b'{"limit_bytes": 7}')


def test_the_pages_translator_refuses_with_the_fields_path() -> None:
    with pytest.raises(ConfigError, match="more than 1 MiB") as caught:
        translated({"max_request_bytes": 2 << 20})
    assert str(caught.value.path).endswith("http_filters[0].typed_config.max_request_bytes")
