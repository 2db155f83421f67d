"""The protocols that TCP chains look for in their connections' first bytes, as the node's metadata says.

``MOSN_XDS_PROTOCOLS`` is a list of entry points of ``mosn_xds.protocols``, in the order in which they are looked for; a
string with commas, or a list. ``MOSN_XDS_PROTOCOL_DETECTION_TIMEOUT`` (``500ms``, ``2s``) is how long a client may be
silent before it gets an upstream, which may be the one to speak first.
"""

import re
from typing import NamedTuple

from mosn_xds.base.errors import ConfigError
from mosn_xds.control.translate.model import NodeContext
from mosn_xds.control.translate.registry import Registry
from mosn_xds.spec.rpc import ProtocolUse

PROTOCOLS_KEY = "MOSN_XDS_PROTOCOLS"
TIMEOUT_KEY = "MOSN_XDS_PROTOCOL_DETECTION_TIMEOUT"

_TIMEOUT_S = 1.0
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s)")


class Sniffed(NamedTuple):
    """`complaints` are about names that lead to no protocol, which are passed by, and a time-out that is none."""

    protocols: tuple[ProtocolUse, ...]
    timeout_s: float
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
    timeout_s = _TIMEOUT_S
    given = str(node.metadata.get(TIMEOUT_KEY, ""))
    if (duration := _DURATION.fullmatch(given)) is not None:
        timeout_s = float(duration[1]) * (0.001 if duration[2] == "ms" else 1.0)
    elif given:
        complaints.append(
            f"node.metadata.{TIMEOUT_KEY}: {given} is no duration, such as 500ms or 2s; it is {_TIMEOUT_S:g}s"
        )
    return Sniffed(tuple(found.values()), timeout_s, tuple(complaints))


def node_list(node: NodeContext, key: str) -> tuple[str, ...]:
    """The names in one of the node's metadata, which is a string with commas, or a list."""
    given = node.metadata.get(key, "")
    names = given if isinstance(given, list) else str(given).split(",")
    return tuple(dict.fromkeys(text for name in names if (text := str(name).strip())))
