"""Messages as Envoy's admin pages print them: proto JSON with the proto's own field names, indented by one.

Not quite json_format: whole doubles print as integers, an Any of a type that nobody knows prints its bytes instead of
spoiling the page, and what is secret prints ``[redacted]``.
"""

import base64
from typing import Any

import msgspec
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from mosn_xds.xds.messages import message_class

_REDACTED_BYTES = base64.b64encode(b"[redacted]").decode()
_SECRET_FIELDS = frozenset(
    ("private_key", "password", "pkcs12", "private_key_provider", "session_ticket_keys", "generic_secret", "inline_jwt")
)
_STRUCT_KEYS = frozenset(name.replace("_", "").lower() for name in _SECRET_FIELDS)
_STRUCTS = frozenset(("google.protobuf.Struct", "google.protobuf.Value", "google.protobuf.ListValue"))
_WELL_KNOWN = "google.protobuf."


def dump(value: Any) -> bytes:
    """A page: indented by one, as Envoy does."""
    return msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n"


def to_dict(message: Message) -> dict[str, Any]:
    """`message` as JSON values."""
    fields: dict[str, Any] = {}
    for field, value in message.ListFields():
        fields[field.name] = _field(field, value)
    return fields


def any_to_dict(type_url: str, raw: bytes) -> dict[str, Any]:
    """What an Any holds, with ``@type`` in front."""
    found = message_class(type_url)
    if found is None:
        return {"@type": type_url, "value": base64.b64encode(raw).decode()}
    try:
        message = found.FromString(raw)
    except DecodeError:  # nobody can say where in it a secret stands
        return {"@type": type_url, "value": f"[{len(raw)} bytes that are no {found.DESCRIPTOR.full_name}]"}
    if message.DESCRIPTOR.full_name.startswith(_WELL_KNOWN):
        return {"@type": type_url, "value": _well_known(message)}
    return {"@type": type_url, **to_dict(message)}


def _field(field: FieldDescriptor, value: Any) -> Any:
    if field.name in _SECRET_FIELDS:
        return _redact(value)
    message_type = field.message_type
    if message_type is not None and message_type.GetOptions().map_entry:
        of_value = message_type.fields_by_name["value"]
        return {str(key): _one(of_value, value[key]) for key in value}
    if field.is_repeated:
        return [_one(field, item) for item in value]
    return _one(field, value)


def _one(field: FieldDescriptor, value: Any) -> Any:
    if field.message_type is not None:
        return _message(value)
    if field.type in (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE):
        return _number(value)
    if field.type in (
        FieldDescriptor.TYPE_INT64,
        FieldDescriptor.TYPE_UINT64,
        FieldDescriptor.TYPE_SINT64,
        FieldDescriptor.TYPE_FIXED64,
        FieldDescriptor.TYPE_SFIXED64,
    ):
        return str(value)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return base64.b64encode(value).decode()
    if field.enum_type is not None:
        found = field.enum_type.values_by_number.get(value)
        return found.name if found is not None else value
    return value


def _message(value: Any) -> Any:
    name = value.DESCRIPTOR.full_name
    if name == "google.protobuf.Any":
        return any_to_dict(value.type_url, value.value)
    if name.startswith(_WELL_KNOWN):
        return _whole(_well_known(value))
    return to_dict(value)


def _well_known(message: Any) -> Any:
    found = json_format.MessageToDict(message)
    return _redact_struct(found) if message.DESCRIPTOR.full_name in _STRUCTS else found


def _redact_struct(value: Any) -> Any:
    """A message may travel as a Struct (TypedStruct), its fields in either spelling."""
    if isinstance(value, dict):
        return {
            key: "[redacted]" if key.replace("_", "").lower() in _STRUCT_KEYS else _redact_struct(inner)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [_redact_struct(inner) for inner in value]
    return value


def _number(value: float) -> Any:
    return int(value) if value == int(value) else value


def _whole(value: Any) -> Any:
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, dict):
        return {key: _whole(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_whole(inner) for inner in value]
    return value


def _redact(value: Any) -> Any:
    """A DataSource keeps the name of its file; what it holds is gone."""
    if not isinstance(value, Message):
        return "[redacted]"
    fields: dict[str, Any] = {}
    for field, inner in value.ListFields():
        if field.name in ("inline_bytes",):
            fields[field.name] = _REDACTED_BYTES
        elif field.name in ("inline_string",):
            fields[field.name] = "[redacted]"
        elif field.message_type is not None and not field.is_repeated:
            fields[field.name] = _redact(inner)
        elif field.name in ("filename", "environment_variable"):
            fields[field.name] = inner
    return fields
