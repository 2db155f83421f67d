"""Message classes by type URL, and what an Any holds.

This is the one border to xds-protos, which has no type information: everything behind it is a `Message`. Modules are
imported at the first use of a type URL, for a proxy meets 127 of the 637. The proto package is the Python package in all
of them, and in ours, so no table is needed; four messages that only Istio's own Envoy has are declared here by hand. Type
URLs come from the network: what is not a plain lower-case package of the four known roots is never imported.

An Any may also hold a TypedStruct (``udpa.type.v1`` or ``xds.type.v3``): JSON for a message named by its type URL, which
is how Istio sends extensions that its own build does not link.
"""

import importlib
import json
import pkgutil
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, duration_pb2, json_format, message_factory
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from mosn_xds.base.errors import ConfigError

TYPE_PREFIX = "type.googleapis.com/"

_ROOTS = ("envoy.", "xds.", "udpa.", "mosn_xds.extensions.")
_PACKAGE = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*")
_OF_FILTER = re.compile(r"envoy\.extensions\.filters\.\w+\.(\w+)\.")
_TYPED_STRUCTS = frozenset({"udpa.type.v1.TypedStruct", "xds.type.v3.TypedStruct"})

_STRING, _BOOL, _ENUM, _MESSAGE, _UINT32 = 9, 8, 14, 11, 13
_DURATION = ".google.protobuf.Duration"

# package -> message -> fields as (name, number, type, repeated, type name); a dot makes a nested message.
_Fields = tuple[tuple[str, int, int, bool, str], ...]
_DECLARED: dict[str, dict[str, _Fields]] = {
    "istio.envoy.config.filter.http.alpn.v2alpha1": {
        "FilterConfig": (("alpn_override", 1, _MESSAGE, True, "FilterConfig.AlpnOverride"),),
        "FilterConfig.AlpnOverride": (
            ("upstream_protocol", 1, _ENUM, False, "FilterConfig.Protocol"),
            ("alpn_override", 2, _STRING, True, ""),
        ),
    },
    "stats": {
        "PluginConfig": (
            ("disable_host_header_fallback", 6, _BOOL, False, ""),
            ("tcp_reporting_duration", 7, _MESSAGE, False, _DURATION),
            ("metrics", 8, _MESSAGE, True, "MetricConfig"),
            ("definitions", 9, _MESSAGE, True, "MetricDefinition"),
            ("reporter", 10, _ENUM, False, "Reporter"),
            ("rotation_interval", 11, _MESSAGE, False, _DURATION),
            ("graceful_deletion_interval", 12, _MESSAGE, False, _DURATION),
        ),
        "MetricConfig": (
            ("dimensions", 1, _MESSAGE, True, "MetricConfig.DimensionsEntry"),
            ("name", 2, _STRING, False, ""),
            ("tags_to_remove", 3, _STRING, True, ""),
            ("match", 4, _STRING, False, ""),
            ("drop", 5, _BOOL, False, ""),
        ),
        "MetricConfig.DimensionsEntry": (("key", 1, _STRING, False, ""), ("value", 2, _STRING, False, "")),
        "MetricDefinition": (
            ("name", 1, _STRING, False, ""),
            ("value", 2, _STRING, False, ""),
            ("type", 3, _ENUM, False, "MetricType"),
        ),
    },
    "envoy.tcp.metadataexchange.config": {
        "MetadataExchange": (
            ("protocol", 1, _STRING, False, ""),
            ("enable_discovery", 2, _BOOL, False, ""),
            ("additional_labels", 3, _STRING, True, ""),
        ),
    },
    "io.istio.http.peer_metadata": {
        "Config": (
            ("downstream_discovery", 1, _MESSAGE, True, "Config.DiscoveryMethod"),
            ("upstream_discovery", 2, _MESSAGE, True, "Config.DiscoveryMethod"),
            ("downstream_propagation", 3, _MESSAGE, True, "Config.PropagationMethod"),
            ("upstream_propagation", 4, _MESSAGE, True, "Config.PropagationMethod"),
            ("shared_with_upstream", 5, _BOOL, False, ""),
            ("additional_labels", 6, _STRING, True, ""),
        ),
        "Config.Baggage": (),
        "Config.WorkloadDiscovery": (),
        "Config.IstioHeaders": (("skip_external_clusters", 1, _BOOL, False, ""),),
        "Config.DiscoveryMethod": (
            ("baggage", 1, _MESSAGE, False, "Config.Baggage"),
            ("workload_discovery", 2, _MESSAGE, False, "Config.WorkloadDiscovery"),
            ("istio_headers", 3, _MESSAGE, False, "Config.IstioHeaders"),
        ),
        "Config.PropagationMethod": (("istio_headers", 1, _MESSAGE, False, "Config.IstioHeaders"),),
    },
}
_DECLARED_ENUMS: dict[str, dict[str, tuple[str, ...]]] = {
    "istio.envoy.config.filter.http.alpn.v2alpha1": {"FilterConfig.Protocol": ("HTTP10", "HTTP11", "HTTP2")},
    "stats": {"Reporter": ("UNSPECIFIED", "SERVER_GATEWAY"), "MetricType": ("COUNTER", "GAUGE", "HISTOGRAM")},
}


def message_class(type_url: str) -> type[Message] | None:
    """The class for a type URL (with or without its host part); None if nobody knows it.

    Messages of other packages are known once their modules have been imported.
    """
    try:
        return _find_class(type_url)
    except KeyError:  # not remembered: it may be there the next time
        return None


@lru_cache(maxsize=4096)
def _find_class(type_url: str) -> type[Message]:
    pool = descriptor_pool.Default()
    name = short_type(type_url)
    package = name.rpartition(".")[0]
    for declared in _DECLARED:
        if name.startswith(f"{declared}."):
            pool.AddSerializedFile(_declared_file(declared))
            break
    else:
        if name.startswith(_ROOTS) and _PACKAGE.match(package):
            _import_package(package)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


def short_type(type_url: str) -> str:
    """``type.googleapis.com/a.B`` is ``a.B``."""
    return type_url.rpartition("/")[2]


def type_label(type_url: str) -> str:
    """What a type is called in pages and messages: ``Cluster``, and ``thrift_proxy.RouteConfiguration`` for what belongs to a
    filter, of which several have a message of that name."""
    package, _, name = short_type(type_url).rpartition(".")
    filter_ = _OF_FILTER.match(package)
    return name if filter_ is None else f"{filter_[1]}.{name}"


@lru_cache(maxsize=4096)
def _import_package(package: str) -> None:
    while package:  # a nested message: go up to what is a package
        if _PACKAGE.fullmatch(package):
            try:
                found = importlib.import_module(package)
            except ImportError:
                package = package.rpartition(".")[0]
                continue
            for module in pkgutil.iter_modules(found.__path__):
                if module.name.endswith("_pb2"):
                    importlib.import_module(f"{package}.{module.name}")
            return
        package = package.rpartition(".")[0]


def _declared_file(package: str) -> bytes:
    file = descriptor_pb2.FileDescriptorProto(
        name=f"mosn_xds/{package}.proto",
        package=package,
        syntax="proto3",
        dependency=[duration_pb2.DESCRIPTOR.name],
    )
    found: dict[str, descriptor_pb2.DescriptorProto] = {}
    for path, fields in _DECLARED[package].items():
        outer, _, name = path.rpartition(".")
        message = (found[outer].nested_type if outer else file.message_type).add(name=name)
        found[path] = message
        message.options.map_entry = name.endswith("Entry")
        for field, number, kind, repeated, type_name in fields:
            full_name = type_name if not type_name or type_name.startswith(".") else f".{package}.{type_name}"
            message.field.add(
                name=field,
                number=number,
                type=kind,
                label=3 if repeated else 1,
                type_name=full_name or None,
            )
    for path, values in _DECLARED_ENUMS.get(package, {}).items():
        outer, _, name = path.rpartition(".")
        enum = (found[outer].enum_type if outer else file.enum_type).add(name=name)
        for number, value in enumerate(values):
            enum.value.add(name=value, number=number)
    return file.SerializeToString(deterministic=True)


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What an Any held. `message` is None for a type that nobody knows; `unknown_keys` are a TypedStruct's paths that
    its message does not have."""

    type_url: str
    message: Message | None
    unknown_keys: tuple[str, ...] = ()

    @property
    def type_name(self) -> str:
        return short_type(self.type_url)


def unpack(any_message: Any) -> Unpacked:
    """Decode a google.protobuf.Any, through TypedStructs.

    Raises `ConfigError` for bytes that are not the named message, in Envoy's words.
    """
    type_url = any_message.type_url
    found = message_class(type_url)
    if found is None:
        return Unpacked(type_url, None)
    message = decode(found, any_message.value)
    if short_type(type_url) not in _TYPED_STRUCTS:
        return Unpacked(type_url, message)
    return _from_struct(message)


def named_type(any_message: Any) -> str:
    """The type of what an Any holds, without its host part; a TypedStruct's is that which it stands for.

    Asked before `unpack` by who can make the type known. Raises `ConfigError` for a malformed TypedStruct.
    """
    name = short_type(any_message.type_url)
    found = message_class(name) if name in _TYPED_STRUCTS else None
    if found is None:
        return name
    typed_struct: Any = decode(found, any_message.value)
    return short_type(typed_struct.type_url)


def config_json(any_message: Any) -> bytes | None:
    """What an Any says as JSON, for code that takes it so: a TypedStruct's value, or the message's proto JSON. None for
    the bytes of a type that nobody knows. Raises `ConfigError` for malformed ones."""
    found = message_class(any_message.type_url)
    if found is None:
        return None
    message: Any = decode(found, any_message.value)
    if short_type(any_message.type_url) in _TYPED_STRUCTS:
        fields = _with_integers(json_format.MessageToDict(message.value))
    else:
        fields = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return json.dumps(fields, sort_keys=True).encode()  # maps have no order, and equal configuration is to be equal


def _with_integers(value: Any) -> Any:
    """A Struct knows no integers, and who wrote ``5`` meant one."""
    if isinstance(value, dict):
        return {key: _with_integers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_integers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def decode(message_type: type[Message], raw: bytes) -> Message:
    """Raises `ConfigError` where `raw` is not a `message_type`."""
    try:
        return message_type.FromString(raw)
    except DecodeError:
        raise ConfigError(f"Unable to unpack as {message_type.DESCRIPTOR.full_name}: malformed bytes") from None


def _from_struct(typed_struct: Any) -> Unpacked:
    type_url = typed_struct.type_url
    found = message_class(type_url)
    if found is None:
        return Unpacked(type_url, None)
    fields = json_format.MessageToDict(typed_struct.value)
    return Unpacked(type_url, *parse_json(found, fields))


def parse_json(message_type: type[Message], fields: dict[str, Any]) -> tuple[Message, tuple[str, ...]]:
    """The message that proto JSON stands for, and the paths of keys that it does not have (Envoy tolerates those too).

    Raises `ConfigError` for anything else that does not fit.
    """
    try:
        return _parsed(fields, message_type()), ()
    except json_format.ParseError:
        pass  # most often an unknown key: leave those out by hand, and say so
    unknown: list[str] = []
    pruned = _prune(message_type.DESCRIPTOR, fields, "", unknown)
    try:
        return _parsed(pruned, message_type()), tuple(sorted(unknown))  # maps have no order
    except json_format.ParseError as error:
        path, reason = _split_parse_error(str(error))
        name = message_type.DESCRIPTOR.full_name
        raise ConfigError(
            f"Unable to parse JSON as proto (INVALID_ARGUMENT: invalid JSON in {name} @ {path}: {reason})",
            path=path,
            hint="a string is expected: quote it" if "got 'int'" in reason or "got 'float'" in reason else "",
        ) from None


def _parsed(fields: dict[str, Any], message: Message) -> Message:
    """Raises ParseError, also for a well-known type in an Any without its ``value``."""
    try:
        return json_format.ParseDict(fields, message)
    except KeyError as error:
        raise json_format.ParseError(f"an Any with a type that is JSON itself has no {error}") from None


_IN_FIELD = re.compile(r"Failed to parse (\S+) field: ")
_AT_FIELD = re.compile(r" at (?:\w+)\.([\w.\[\]]+?)\.?\.?$")


def _split_parse_error(text: str) -> tuple[str, str]:
    """json_format says where in two ways, and adds dots."""
    at = _AT_FIELD.search(text)
    reason = _IN_FIELD.sub("", text)
    if at is not None:
        return at.group(1), _AT_FIELD.sub("", reason)
    return ".".join(_IN_FIELD.findall(text)), reason.rstrip(".")


def _prune(descriptor: Any, value: Any, path: str, unknown: list[str]) -> Any:
    if not isinstance(value, dict):
        return value
    if descriptor.full_name == "google.protobuf.Any":
        inner_type = message_class(str(value.get("@type", "")))
        if inner_type is None:
            return value
        descriptor = inner_type.DESCRIPTOR
        inside = {key: inner for key, inner in value.items() if key != "@type"}
        return {"@type": value["@type"], **_prune(descriptor, inside, path, unknown)}
    if descriptor.full_name.startswith("google.protobuf.") or descriptor.full_name in _TYPED_STRUCTS:
        return value
    fields = descriptor.fields_by_name
    by_json_name = {field.json_name: field for field in descriptor.fields}
    kept = {}
    for key, inner in value.items():
        field = fields.get(key) or by_json_name.get(key)
        at = f"{path}.{key}" if path else key
        if field is None:
            unknown.append(at)
        else:
            kept[key] = _prune_field(field, inner, at, unknown)
    return kept


def _prune_field(field: FieldDescriptor, value: Any, path: str, unknown: list[str]) -> Any:
    inner = field.message_type
    if inner is None:
        return value
    if inner.GetOptions().map_entry:
        of_value = inner.fields_by_name["value"]
        if not isinstance(value, dict) or of_value.message_type is None:
            return value
        return {key: _prune(of_value.message_type, item, f"{path}.{key}", unknown) for key, item in value.items()}
    if isinstance(value, list):
        return [_prune(inner, item, f"{path}[{number}]", unknown) for number, item in enumerate(value)]
    return _prune(inner, value, path, unknown)
