"""Private material never leaves the bootstrap: a copy of a message in which it is replaced by ``[redacted]``."""

from typing import Any

from google.protobuf.message import DecodeError, Message

from mosn_xds.xds.messages import message_class

REDACTED = "[redacted]"
_SENSITIVE_FIELDS = frozenset(
    {"private_key", "password", "pkcs12", "inline_jwt", "access_token", "google_refresh_token", "keys"}
)
_STRUCT_KEYS = frozenset(name.replace("_", "") for name in _SENSITIVE_FIELDS)


def redact(message: Message) -> Message:
    """A copy of `message` without the values of its secrets; a key in a file keeps its file name."""
    copy = type(message)()
    copy.CopyFrom(message)
    _redact(copy)
    return copy


def _redact(message: Any) -> None:
    name = message.DESCRIPTOR.full_name
    if name == "google.protobuf.Any":
        _redact_any(message)
        return
    if name == "google.protobuf.Struct":
        _redact_struct(message)
        return
    for field, value in message.ListFields():
        if field.name in _SENSITIVE_FIELDS:
            _hide(message, field.name, value)
        elif field.message_type is None:
            continue
        elif field.message_type.GetOptions().map_entry:
            if field.message_type.fields_by_name["value"].message_type is not None:
                for item in value.values():
                    _redact(item)
        elif field.is_repeated:
            for item in value:
                _redact(item)
        elif field.message_type.full_name == "envoy.extensions.transport_sockets.tls.v3.GenericSecret":
            _hide_sources(value)
        else:
            _redact(value)


def _redact_any(packed: Any) -> None:
    found = message_class(packed.type_url)
    if found is None:
        return
    try:
        message = found.FromString(packed.value)
    except DecodeError:
        packed.value = b""
        return
    _redact(message)
    packed.value = message.SerializeToString()


def _redact_struct(struct: Any) -> None:
    """A message that travels as JSON: its fields in either spelling."""
    for key, value in struct.fields.items():
        if key.replace("_", "").lower() in _STRUCT_KEYS:
            value.string_value = REDACTED
        elif value.WhichOneof("kind") == "struct_value":
            _redact_struct(value.struct_value)
        elif value.WhichOneof("kind") == "list_value":
            for one in value.list_value.values:
                if one.WhichOneof("kind") == "struct_value":
                    _redact_struct(one.struct_value)


def _hide(message: Any, name: str, value: Any) -> None:
    if isinstance(value, str):
        setattr(message, name, REDACTED)
    elif isinstance(value, Message):
        _hide_source(value)
    else:
        for item in value:
            if isinstance(item, Message):
                _hide_source(item)


def _hide_sources(secret: Any) -> None:
    _hide_source(secret.secret)
    for source in secret.secrets.values():
        _hide_source(source)


def _hide_source(source: Any) -> None:
    if source.DESCRIPTOR.name != "DataSource":
        _redact(source)
    elif source.WhichOneof("specifier") == "inline_bytes":
        source.inline_bytes = REDACTED.encode()
    elif source.WhichOneof("specifier") == "inline_string":
        source.inline_string = REDACTED
