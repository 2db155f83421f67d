"""Transport sockets: plaintext or TLS. What a TLS context says is checked here and has no effect yet."""

from mosn_xds.control.translate.context import Context
from mosn_xds.control.translate.registry import Category
from mosn_xds.control.translate.take import Take

RAW, TLS = "raw_buffer", "tls"


def take_transport(parent: Take, name: str, category: Category, context: Context) -> str:
    """The kind of transport in the field `name`, plaintext when absent. Raises ConfigError for an unknown one: neither
    plaintext nor a guess may stand in for it."""
    take = parent.child(name)
    if take is None:
        return RAW
    extension_name = take.text("name")
    found = context.extension(take, "typed_config", category, extension_name)
    if found.value is None:
        raise take.error(
            "typed_config",
            f"Didn't find a registered implementation for '{extension_name}' with type URL: '{found.type_name}'",
        )
    kind: str = found.value
    return kind


def raw_buffer(take: Take, context: Context, name: str) -> str:
    """envoy.transport_sockets.raw_buffer."""
    return RAW


def tls(take: Take, context: Context, name: str) -> str:
    """envoy.transport_sockets.tls, either side."""
    take.left.clear()
    take.ignore("", "TLS is not supported yet")
    return TLS
