"""Which protocol an RPC proxy speaks: from `codec_config` to an entry point of ``mosn_xds.protocols`` and its options.

A protocol is found by the type of its configuration where that has a translator, or is called like the entry point; else
by the name that the configuration is given. Its options are judged here, by the protocol's own class, so that a wrong one is
a NACK, and so is a protocol that is not installed.
"""

import msgspec

from mosn_xds.base.errors import ConfigError
from mosn_xds.control.translate.common import struct_dict
from mosn_xds.control.translate.context import Context
from mosn_xds.control.translate.registry import Category
from mosn_xds.control.translate.take import Take
from mosn_xds.spec.rpc import ProtocolUse
from mosn_xds.xds.messages import config_json

_AS_ENVOY = b'{"timeout_status": 80}'  # SERVER_ERROR


def take_codec(take: Take, context: Context) -> tuple[ProtocolUse, ...]:
    """core.TypedExtensionConfig of a codec; several protocols are looked for in a connection's first bytes, in this order.
    Raises ConfigError for a codec that nobody knows, and for options that a protocol does not take."""
    name = take.text("name")
    config = take.message_of("typed_config")
    if config is None:
        raise take.error("typed_config", "a codec needs its configuration")
    found = context.extension_of(take, "typed_config", config, Category.RPC_CODEC, name)
    if found.value:
        uses: tuple[ProtocolUse, ...] = found.value
        return uses
    known = context.registry.protocols
    entry = next((entry for entry in (found.type_name, name) if entry in known), None)
    if entry is None:
        reason = f"Didn't find a registered implementation for '{name}' with type URL: '{found.type_name}'"
        raise take.error("", reason, f"protocols that are {known.how_to_get(name)}")
    options = config_json(config)
    if options is None:
        raise take.error(
            "typed_config", f"no message {found.type_name} is known", "send it as a xds.type.v3.TypedStruct"
        )
    return (checked_use(take, "typed_config", context, ProtocolUse(name, entry, options)),)


def checked_use(take: Take, key: str, context: Context, use: ProtocolUse) -> ProtocolUse:
    """`use`, which was configured at `key` of `take`. Raises ConfigError for options that the protocol does not take, and
    where there is no such protocol."""
    try:
        context.registry.protocols.load(use.entry).decode_options(use.options)
    except ConfigError as error:
        raise error.under(take.path(key)) from None
    return use


def dubbo(take: Take, context: Context, name: str) -> tuple[ProtocolUse, ...]:
    """generic_proxy.codecs.dubbo.v3.DubboCodecConfig, which has no fields: what answers say is what Envoy's say."""
    return (checked_use(take, "", context, ProtocolUse(name, "dubbo", _AS_ENVOY)),)


def bolt(take: Take, context: Context, name: str) -> tuple[ProtocolUse, ...]:
    """mosn_xds.extensions.rpc.v1.BoltCodecConfig"""
    given = {
        "max_frame_bytes": take.wrapped_integer("max_frame_bytes"),
        "max_unread_bytes": take.wrapped_integer("max_unread_bytes"),
        "heartbeat_interval_s": take.duration("heartbeat_interval"),
        "heartbeat_timeout_s": take.duration("heartbeat_timeout"),
        "goaway": take.flag("goaway") or None,
    }
    options = {key: value for key, value in given.items() if value is not None}
    return (checked_use(take, "", context, ProtocolUse(name, "bolt", msgspec.json.encode(options))),)


def named(take: Take, context: Context, name: str) -> tuple[ProtocolUse, ...]:
    """mosn_xds.extensions.rpc.v1.ProtocolCodecConfig"""
    entry = take.text("name")
    options = take.message_of("options")
    known = context.registry.protocols
    if entry not in known:
        raise take.error("name", f"no protocol {entry} is installed", known.how_to_get(entry))
    config = b"" if options is None else msgspec.json.encode(struct_dict(options))
    return (checked_use(take, "options", context, ProtocolUse(name, entry, config)),)


def sniffing(take: Take, context: Context, name: str) -> tuple[ProtocolUse, ...]:
    """mosn_xds.extensions.rpc.v1.SniffingCodecConfig"""
    return tuple([use for one in take.children("protocols") for use in named(one, context, name)])
