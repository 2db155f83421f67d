"""The table of built-in extensions leads to code."""

import pytest

from mosn_xds.control.translate.registry import BUILT_IN, HARMLESS, Category, Registry, factory_name
from mosn_xds.xds.messages import message_class


@pytest.mark.parametrize(("category", "type_name"), BUILT_IN, ids=lambda value: getattr(value, "name", value))
def test_a_built_in_extension_has_its_message_and_its_translator(category: Category, type_name: str) -> None:
    assert message_class(type_name) is not None
    assert callable(Registry([], frozenset()).find(category, type_name))


@pytest.mark.parametrize(
    "type_name", sorted(name for name in HARMLESS if "mysql" not in name)
)  # contrib, in no package
def test_what_decides_nothing_exists(type_name: str) -> None:
    assert message_class(type_name) is not None


def test_envoys_names_of_extensions() -> None:
    assert (
        factory_name("type.googleapis.com/envoy.extensions.filters.http.router.v3.Router")
        == "envoy.filters.http.router"
    )
    assert factory_name("stats.PluginConfig") == "stats"
