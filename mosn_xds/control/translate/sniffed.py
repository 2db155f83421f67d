"""The protocols that TCP chains look for in their connections' first bytes, as the node's metadata says.

``MOSN_XDS_PROTOCOLS`` is a list of entry points of ``mosn_xds.protocols``, in the order in which they are looked for; a
string with commas, or a list.
"""

from typing import NamedTuple

from mosn_xds.base.errors import ConfigError
from mosn_xds.control.translate.model import NodeContext
from mosn_xds.control.translate.registry import Registry
from mosn_xds.spec.rpc import ProtocolUse

PROTOCOLS_KEY = "MOSN_XDS_PROTOCOLS"


class Sniffed(NamedTuple):
    """`complaints` are about names that lead to no protocol, which are passed by."""

    protocols: tuple[ProtocolUse, ...]
    complaints: tuple[str, ...]


def sniffed_protocols(node: NodeContext, registry: Registry) -> Sniffed:
    """What the node asks for. A protocol's module is loaded only if it is asked for."""
    found: dict[str, ProtocolUse] = {}
    complaints = []
    for name in node_list(node, PROTOCOLS_KEY):
        try:
            registry.protocols.load(name).decode_options(b"")
        except ConfigError as error:
            complaints.append(f"node.metadata.{PROTOCOLS_KEY}: {name} is not looked for: {error}")
            continue
        found[name] = ProtocolUse(name, name)
    return Sniffed(tuple(found.values()), tuple(complaints))


def node_list(node: NodeContext, key: str) -> tuple[str, ...]:
    """The names in one of the node's metadata, which is a string with commas, or a list."""
    given = node.metadata.get(key, "")
    names = given if isinstance(given, list) else str(given).split(",")
    return tuple(dict.fromkeys(text for name in names if (text := str(name).strip())))
