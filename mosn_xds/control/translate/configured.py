"""A filter's entry in a chain: its name, where its configuration comes from, and what that was translated to.

The part that HTTP and network filters share, in which nothing is decided about what is not known.
"""

from dataclasses import dataclass
from typing import Any

from mosn_xds.control.translate.context import Context
from mosn_xds.control.translate.registry import HARMLESS, Category
from mosn_xds.control.translate.take import Take


@dataclass(frozen=True, slots=True)
class Configured:
    """`value` is None for a type that nobody knows; `any_message` is its configuration as given, if any, at `key`.

    `shown` names the filter in messages: ``acme of type acme.v1.Greeter``.
    """

    name: str
    type_name: str
    value: Any
    any_message: Any
    key: str
    shown: str


def take_configured(take: Take, context: Context, category: Category, name: str) -> Configured:
    """Read `typed_config`, or the default that comes with `config_discovery`."""
    discovery = take.child("config_discovery")
    holder, field = (take, "typed_config") if discovery is None else (discovery, "default_config")
    config = holder.message_of(field)
    if config is None:
        missing = "without a configuration" if discovery is None else "that comes by extension discovery"
        return Configured(name, "", None, None, "", f"{name} {missing}")
    found = context.extension_of(holder, field, config, category, name)
    key = field if discovery is None else f"config_discovery.{field}"
    return Configured(name, found.type_name, found.value, config, key, f"{name} of type {found.type_name}")


def is_skipped(take: Take, context: Context, name: str) -> bool:
    """Does the operator want this filter left out of its chain?"""
    if name not in context.skip_filters:
        return False
    take.left.clear()
    take.warn("", f"{name} is left out, as the node's metadata asks")
    return True


def is_left_out(take: Take, filter_: Configured, *, optional: bool = False) -> bool:
    """May an unknown filter be left out: because it says so, or because its type is known to decide nothing?"""
    if not optional and filter_.type_name not in HARMLESS:
        return False
    take.warn("", f"{filter_.shown} is not known, and left out")
    take.ignore("", "left out")
    return True
