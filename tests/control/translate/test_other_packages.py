"""Extensions of other packages in the agent: what they are configured with is judged before Pilot hears anything."""

from importlib.metadata import EntryPoint
from typing import Any

import pytest
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from google.protobuf import struct_pb2

from mosn_xds.base.errors import ConfigError
from mosn_xds.control.translate import NodeContext, Options, Translator
from mosn_xds.control.translate.context import Context
from mosn_xds.control.translate.hcm import ROUTES_URL
from mosn_xds.control.translate.http_filters import take_http_filters
from mosn_xds.control.translate.registry import Category, Registry, Translation
from mosn_xds.control.translate.take import Report, Take
from mosn_xds.data.filters.api import FilterOptions, StreamFilter
from mosn_xds.spec.extensions import STREAM_FILTERS
from mosn_xds.spec.filters import ExtensionFilter, HttpFilter
from tests.control.translate.test_translation import UNHEARD, http_filters, translate, typed


class Greeter(StreamFilter):
    """A filter of another package."""

    class Options(FilterOptions, frozen=True):
        greeting: str
        times: int = 1

        def __post_init__(self) -> None:
            if self.times > 3:
                raise ValueError("three times is enough")


class GreeterPerRoute(Greeter):
    class RouteOptions(FilterOptions, frozen=True):
        times: int


def with_greeter(kind: str = "Greeter") -> Translator:
    entry = EntryPoint("acme.Unheard", f"{__name__}:{kind}", STREAM_FILTERS)
    return Translator(NodeContext(), Options(), Registry([], [entry]))


def unheard(**value: Any) -> dict[str, Any]:
    return {**UNHEARD, "value": value}


def test_a_filter_of_another_package_gets_its_configuration_as_json() -> None:
    config = unheard(greeting="hello", times=2)
    found, translated = http_filters({"name": "greeter", "typed_config": config}, translator=with_greeter())
    assert found[0] == HttpFilter("greeter", ExtensionFilter("acme.Unheard", b'{"greeting": "hello", "times": 2}'))
    assert translated.warnings == ()


@pytest.mark.parametrize(
    ("value", "path", "reason"),
    [
        ({"greeting": 7}, ".greeting", "Expected `str`, got `int` (the options of Greeter: greeting, times)"),
        ({"greeting": "x", "colour": 1}, ".colour", "Object contains unknown field `colour` (the options of Greeter"),
        ({}, "", "Object missing required field `greeting` (the options of Greeter: greeting, times)"),
        ({"greeting": "x", "times": 1.5}, ".times", "Expected `int`, got `float`"),
        ({"greeting": "x", "times": 4}, "", "three times is enough"),
    ],
)
def test_wrong_options_of_another_packages_filter_refuse_the_listener(
    value: dict[str, Any], path: str, reason: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        http_filters({"name": "greeter", "typed_config": unheard(**value)}, translator=with_greeter())
    place = f"filter_chains[0].filters[0].typed_config.http_filters[0].typed_config{path}"
    assert str(caught.value).startswith(f"{place}: {reason}")


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [("Greeter", {"greeting": "route"}, {"times": 2}), ("GreeterPerRoute", {"times": 2}, {"greeting": "route"})],
)
def test_a_routes_options_for_another_packages_filter_are_checked_too(
    kind: str, good: dict[str, Any], bad: dict[str, Any]
) -> None:
    def table(value: dict[str, Any]) -> dict[str, Any]:
        hosts = [{"name": "v", "domains": ["*"], "typed_per_filter_config": {"greeter": unheard(**value)}}]
        return {"name": "t", "virtual_hosts": hosts}

    translate(ROUTES_URL, table(good), translator=with_greeter(kind))
    with pytest.raises(ConfigError) as caught:
        translate(ROUTES_URL, table(bad), translator=with_greeter(kind))
    assert str(caught.value.path).startswith("virtual_hosts[0].typed_per_filter_config.greeter")


def test_another_packages_filter_that_cannot_be_loaded_refuses_the_listener() -> None:
    with pytest.raises(
        ConfigError, match=r"http_filters\[0\]\.typed_config: .*:Missing cannot be loaded: AttributeError"
    ):
        http_filters({"name": "greeter", "typed_config": UNHEARD}, translator=with_greeter("Missing"))


def test_bytes_that_nobody_can_read_for_another_packages_filter_refuse_the_listener() -> None:
    opaque = http_connection_manager_pb2.HttpFilter(name="acme.Unheard")
    opaque.typed_config.Pack(struct_pb2.Struct())
    opaque.typed_config.type_url = "type.googleapis.com/acme.Opaque"
    parent = http_connection_manager_pb2.HttpConnectionManager(http_filters=[opaque])
    registry = Registry([], [EntryPoint("acme.Unheard", f"{__name__}:Greeter", STREAM_FILTERS)])
    with pytest.raises(ConfigError, match=r"no message acme\.Opaque is known .send it as a xds\.type\.v3\.TypedStruct"):
        take_http_filters(Take(parent, Report()), Context(NodeContext(), Options(), registry))


class FakeEntryPoint:
    """An entry point that leads to `found`."""

    def __init__(self, name: str, found: object) -> None:
        self.name = name
        self.value = "acme:translation"
        self.found = found

    def load(self) -> object:
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


BRIDGE = "envoy.extensions.filters.http.grpc_http1_bridge.v3.Config"


def test_a_translator_of_another_package_is_found_by_its_type() -> None:
    mine = Translation(Category.HTTP_FILTER, lambda take, context, name: ExtensionFilter("web", b'{"greeting": "x"}'))
    entry = EntryPoint("web", f"{__name__}:Greeter", STREAM_FILTERS)
    registry = Registry([FakeEntryPoint(BRIDGE, mine)], [entry])  # type: ignore[list-item]
    found, _ = http_filters(
        {"name": "web", "typed_config": typed("filters.http.grpc_http1_bridge.v3.Config")},
        translator=Translator(NodeContext(), Options(), registry),
    )
    assert found[0].config == ExtensionFilter("web", b'{"greeting": "x"}')


@pytest.mark.parametrize(
    ("entries", "text"),
    [
        ([ImportError("no acme")], "cannot be loaded: no acme"),
        (["not a translation"], "is not a Translation"),
        ([Translation(Category.HTTP_FILTER, lambda *_: None)] * 2, "has several entry points"),
    ],
)
def test_a_broken_entry_point_is_one_clear_error(entries: list[object], text: str) -> None:
    registry = Registry([FakeEntryPoint(BRIDGE, entry) for entry in entries], frozenset())  # type: ignore[misc]
    with pytest.raises(ConfigError, match=text):
        registry.find(Category.HTTP_FILTER, BRIDGE)
