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
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from google.protobuf import descriptor_pb2, json_format

from mosn_xds.base.errors import ConfigError
from mosn_xds.control.translate import Translator
from mosn_xds.control.translate.model import NodeContext, Options
from mosn_xds.control.translate.registry import Registry
from mosn_xds.control.translate.translator import LISTENERS_URL
from mosn_xds.data.filters.harness import FilterHarness, HarnessContext
from mosn_xds.spec.extensions import STREAM_FILTERS
from mosn_xds.spec.filters import ExtensionFilter, HttpFilter
from mosn_xds.xds.messages import message_class
from tests.support.client import Connection, Response, request_bytes
from tests.support.packages import install
from tests.support.ports import PortAllocator
from tests.support.proxies import Proxy, ProxyKind
from tests.support.served import Served, listener, message

PAGE = Path(__file__).parent.parent.parent / "docs" / "extending.md"


def files() -> dict[str, str]:
    """The page's blocks that begin with a file's name."""
    blocks = re.findall(r"^```\w+\n(?:#|//) (\S+\.\w+)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return dict(blocks)


def entry_points() -> dict[str, dict[str, str]]:
    """What the page registers, by group: in its project, and in the block about translators."""
    found: dict[str, dict[str, str]] = {}
    for block in re.findall(r"^```toml\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL):
        for group, entries in tomllib.loads(block)["project"]["entry-points"].items():
            found.setdefault(group, {}).update(entries)
    return found


def compiled(proto: str) -> str:
    """What protoc makes of the page's message, as far as it matters: a module that adds the file to the pool."""
    package = re.search(r"package (\S+);", proto)
    name = re.search(r"message (\w+)", proto)
    assert package and name
    file = descriptor_pb2.FileDescriptorProto(name="acme_greeter.proto", package=package[1], syntax="proto3")
    made = file.message_type.add(name=name[1])
    numbers = {
        "string": descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
        "uint32": descriptor_pb2.FieldDescriptorProto.TYPE_UINT32,
    }
    for kind, field, number in re.findall(r"^  (\w+) (\w+) = (\d+);$", proto, re.MULTILINE):
        made.field.add(name=field, number=int(number), type=numbers[kind], label=1)
    return (
        "from google.protobuf import descriptor_pool\n"
        f"DESCRIPTOR = descriptor_pool.Default().AddSerializedFile({file.SerializeToString()!r})\n"
    )


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder to be put on the path, where the page's package is as `pip install` would leave it."""
    found = files()
    project = tomllib.loads(found["pyproject.toml"])["project"]
    found["acme_greeter_pb2.py"] = compiled(found["acme_greeter.proto"])
    install(tmp_path, found, entry_points(), name=project["name"], version=project["version"])
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
    deadline = time.monotonic() + 10
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


def entries(group: str) -> list[EntryPoint]:
    return [PageEntry(name, place, group) for name, place in entry_points()[group].items()]


def translated(buffer: dict[str, Any]) -> tuple[HttpFilter, ...]:
    """The HTTP filters of a listener whose chain has Envoy's buffer filter, by the page's translator."""
    registry = Registry(entries("mosn_xds.translators"), entries(STREAM_FILTERS))
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


def get(port: int, **headers: str) -> Response:
    with Connection(port) as client:
        client.send(request_bytes("GET", "/", [("host", "test"), *headers.items()]))
        return client.read_response()


def test_the_pages_own_message_is_decoded_checked_and_served(installed: Path) -> None:
    port = PortAllocator().take()

    def pushed(raw: bytes) -> Any:
        found: Any = message(listener("web", port, {"name": "greeter"}))
        manager = found.filter_chains[0].filters[0].typed_config
        inside = HttpConnectionManager.FromString(manager.value)
        inside.http_filters[0].typed_config.type_url = "type.googleapis.com/acme.v1.Greeter"
        inside.http_filters[0].typed_config.value = raw
        manager.value = inside.SerializeToString()
        return found

    with Served(installed / "run", pushed(b"\x0a\x05hello\x10\xc9\x01"), environment=on_path(installed)) as served:
        answer = get(port)
        assert (answer.status, answer.body) == (201, b"hello")
        served.push(pushed(b"\x0a\x05hello\x10\x63"))
        place = "filter_chains[0].filters[0].typed_config.http_filters[0].typed_config"
        assert f"web: {place}.status: 99 ends no request (200 to 599)" in served.nack()
        served.push(pushed(b"\xff"))
        assert "web: " in served.nack(2) and "Unable to unpack as acme.v1.Greeter" in served.nack(2)
        assert get(port).status == 201
        typed = {"@type": "type.googleapis.com/acme.v1.Greeter", "greeting": "as a TypedStruct"}
        served.push(listener("web", port, {"name": "greeter", "typed_config": typed}))
        served.wait(lambda: get(port).body == b"as a TypedStruct")
