"""Values for any field of any proto, for tests that set each field alone.

`samples(field)` yields functions that set the field in a message to one value or another. Messages are filled as far as
their validation rules ask, so that what is set is acceptable where that is possible without knowing what it means.
"""

from collections.abc import Callable, Iterator
from typing import Any

from google.protobuf import any_pb2, wrappers_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from validate import validate_pb2

from mosn_xds.xds.messages import message_class

Setter = Callable[[Any], None]

_TEXTS = ("x", "/tmp", "a.b.c", "7", "GET")
_NUMBERS = (1, 7, 200, 303, 1024, 65536, 100)
_MAX_DEPTH = 6


def new(full_name: str) -> Any:
    """An empty message."""
    found = message_class(full_name)
    assert found is not None, full_name
    return found()


def filled(full_name: str, depth: int = 0, variant: int = 0) -> Any:
    """A message with what its rules require; `variant` chooses among oneof members."""
    message = new(full_name)
    fill(message, depth, variant)
    return message


def fill(message: Any, depth: int = 0, variant: int = 0) -> None:
    special = _SPECIAL.get(message.DESCRIPTOR.full_name)
    if special is not None:
        special(message, variant)
        return
    if depth > _MAX_DEPTH:
        return
    for one_of in message.DESCRIPTOR.oneofs:
        members = list(one_of.fields)
        if len(members) == 1 and members[0].name.startswith("_"):
            continue
        if one_of.GetOptions().Extensions[validate_pb2.required] or (depth == 0 and variant):
            set_field(message, members[variant % len(members)], depth + 1, 0)
    for field in message.DESCRIPTOR.fields:
        if field.containing_oneof is None and _is_required(field):
            set_field(message, field, depth + 1, 0)


def _is_required(field: FieldDescriptor) -> bool:
    rules = field.GetOptions().Extensions[validate_pb2.rules]
    kind = rules.WhichOneof("type")
    if rules.message.required or (kind in ("duration", "any") and getattr(rules, kind).required):
        return True
    if kind == "string":
        return bool(rules.string.min_len or rules.string.min_bytes)
    if kind == "repeated":
        return bool(rules.repeated.min_items)
    if kind in ("uint32", "uint64", "int64", "double"):
        of_kind = getattr(rules, kind)
        return field.message_type is None and (of_kind.HasField("gt") or of_kind.gte > 0)
    return False


def set_field(message: Any, field: FieldDescriptor, depth: int = 0, variant: int = 0) -> None:
    """Set one field to its sample number `variant`."""
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        of_value = field.message_type.fields_by_name["value"]
        key = _scalar(field.message_type.fields_by_name["key"], 0)
        if of_value.message_type is not None:
            fill(getattr(message, field.name)[key], depth, variant)
        else:
            getattr(message, field.name)[key] = _scalar(of_value, variant)
    elif field.message_type is not None:
        inner = getattr(message, field.name)
        inner = inner.add() if field.is_repeated else inner
        if not field.is_repeated:
            inner.SetInParent()
        if field.message_type.full_name.startswith("google.protobuf.") and "Value" in field.message_type.name:
            _fill_wrapper(inner, field, variant)
        elif field.message_type.full_name == "google.protobuf.Duration":
            inner.seconds, inner.nanos = (7, 0) if variant % 2 == 0 else (0, 300_000_000)
        else:
            before = inner.SerializeToString(deterministic=True)
            fill(inner, depth, variant)
            unchanged = inner.SerializeToString(deterministic=True) == before
            if unchanged and inner.DESCRIPTOR.fields and depth < _MAX_DEPTH:
                below = inner.DESCRIPTOR.fields
                set_field(inner, below[variant % len(below)], depth + 1, variant // len(below))
    elif field.is_repeated:
        getattr(message, field.name).append(_scalar(field, variant))
    else:
        setattr(message, field.name, _scalar(field, variant))


def _fill_wrapper(inner: Any, field: FieldDescriptor, variant: int) -> None:
    if isinstance(inner, wrappers_pb2.BoolValue):
        inner.value = variant % 2 == 0
    elif isinstance(inner, wrappers_pb2.StringValue):
        inner.value = _TEXTS[variant % len(_TEXTS)]
    elif hasattr(inner, "value"):
        inner.value = _NUMBERS[variant % len(_NUMBERS)]
    else:
        inner.string_value = "x"


def _scalar(field: FieldDescriptor, variant: int) -> Any:
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_BOOL:
            return True
        case FieldDescriptor.CPPTYPE_ENUM:
            assert field.enum_type is not None
            numbers = [value.number for value in field.enum_type.values if value.number] or [0]
            return numbers[variant % len(numbers)]
        case FieldDescriptor.CPPTYPE_STRING:
            rules = field.GetOptions().Extensions[validate_pb2.rules].string
            allowed = [*getattr(rules, "in")]
            texts = allowed or _TEXTS
            text = texts[variant % len(texts)]
            return text.encode() if field.type == FieldDescriptor.TYPE_BYTES else text
        case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
            return float(_NUMBERS[variant % len(_NUMBERS)])
        case _:
            return _NUMBERS[variant % len(_NUMBERS)]


def samples(field: FieldDescriptor) -> Iterator[Setter]:
    """Different ways to set `field`."""
    for variant in range(8):

        def setter(message: Any, variant: int = variant) -> None:
            set_field(message, field, 0, variant)

        yield setter


# --- messages that mean something ------------------------------------------------------------------------------------


def _address(message: Any, variant: int) -> None:
    message.socket_address.address = "127.0.0.9"
    message.socket_address.port_value = 9


def _socket_address(message: Any, variant: int) -> None:
    message.address = "127.0.0.9"
    message.port_value = 9


def _cidr(message: Any, variant: int) -> None:
    message.address_prefix = "10.9.0.0"
    message.prefix_len.value = 16


def _any(message: Any, variant: int) -> None:
    packed = any_pb2.Any()
    packed.Pack(wrappers_pb2.StringValue(value="x"))
    message.CopyFrom(packed)


def _regex_match_and_substitute(message: Any, variant: int) -> None:
    message.pattern.regex = "a+"
    message.substitution = "b"


def _string_matcher(message: Any, variant: int) -> None:
    if variant % 3 == 0:
        message.exact = "x"
    elif variant % 3 == 1:
        message.prefix = "x"
    else:
        message.safe_regex.regex = "x+"


def _regex(message: Any, variant: int) -> None:
    message.regex = "x+"


def _data_source(message: Any, variant: int) -> None:
    message.inline_string = "text"


def _config_source(message: Any, variant: int) -> None:
    message.ads.SetInParent()
    message.initial_fetch_timeout.seconds = 3


def _metadata(message: Any, variant: int) -> None:
    message.filter_metadata["x"].update({"key": "value"})


def _struct(message: Any, variant: int) -> None:
    message.update({"key": "value"})


def _format(message: Any, variant: int) -> None:
    message.text_format_source.inline_string = "%PROTOCOL%"


def _header_value_option(message: Any, variant: int) -> None:
    message.header.key = "x-sample"
    message.header.value = "y"


def _access_log(message: Any, variant: int) -> None:
    message.name = "file"
    log = new("envoy.extensions.access_loggers.file.v3.FileAccessLog")
    log.path = "/dev/stdout"
    message.typed_config.Pack(log)


def _log_filter(message: Any, variant: int) -> None:
    message.response_flag_filter.flags.append("NR")


def _fractional(message: Any, variant: int) -> None:
    message.numerator = 7


def _runtime_fraction(message: Any, variant: int) -> None:
    message.default_value.numerator = 7
    if variant % 2:
        message.runtime_key = "sample.fraction"


def _route(message: Any, variant: int) -> None:
    message.match.prefix = "/sample"
    message.direct_response.status = 204


def _virtual_host(message: Any, variant: int) -> None:
    message.name = "sample"
    message.domains.append("sample.test")


def _weighted(message: Any, variant: int) -> None:
    one = message.clusters.add(name="sample")
    one.weight.value = 3


def _cluster_weight(message: Any, variant: int) -> None:
    message.name = "sample"
    message.weight.value = 3


def _lb_endpoint(message: Any, variant: int) -> None:
    _address(message.endpoint.address, 0)


def _locality_endpoints(message: Any, variant: int) -> None:
    _lb_endpoint(message.lb_endpoints.add(), 0)


def _assignment(message: Any, variant: int) -> None:
    message.cluster_name = "sample"
    _locality_endpoints(message.endpoints.add(), 0)


def _mirror(message: Any, variant: int) -> None:
    message.cluster = "sample"


def _http_filter(message: Any, variant: int) -> None:
    message.name = "fault"
    message.typed_config.Pack(new("envoy.extensions.filters.http.fault.v3.HTTPFault"))


def _typed_extension(message: Any, variant: int) -> None:
    message.name = "sample"
    _any(message.typed_config, 0)


_SPECIAL: dict[str, Callable[[Any, int], None]] = {
    "envoy.config.core.v3.Address": _address,
    "envoy.config.core.v3.SocketAddress": _socket_address,
    "envoy.config.core.v3.CidrRange": _cidr,
    "google.protobuf.Any": _any,
    "google.protobuf.Struct": _struct,
    "envoy.type.matcher.v3.RegexMatchAndSubstitute": _regex_match_and_substitute,
    "envoy.type.matcher.v3.StringMatcher": _string_matcher,
    "envoy.type.matcher.v3.RegexMatcher": _regex,
    "envoy.config.core.v3.DataSource": _data_source,
    "envoy.config.core.v3.ConfigSource": _config_source,
    "envoy.config.core.v3.Metadata": _metadata,
    "envoy.config.core.v3.SubstitutionFormatString": _format,
    "envoy.config.core.v3.HeaderValueOption": _header_value_option,
    "envoy.config.accesslog.v3.AccessLog": _access_log,
    "envoy.config.accesslog.v3.AccessLogFilter": _log_filter,
    "envoy.type.v3.FractionalPercent": _fractional,
    "envoy.config.core.v3.RuntimeFractionalPercent": _runtime_fraction,
    "envoy.config.route.v3.Route": _route,
    "envoy.config.route.v3.VirtualHost": _virtual_host,
    "envoy.config.route.v3.WeightedCluster": _weighted,
    "envoy.config.route.v3.WeightedCluster.ClusterWeight": _cluster_weight,
    "envoy.config.endpoint.v3.LbEndpoint": _lb_endpoint,
    "envoy.config.endpoint.v3.LocalityLbEndpoints": _locality_endpoints,
    "envoy.config.endpoint.v3.ClusterLoadAssignment": _assignment,
    "envoy.config.route.v3.RouteAction.RequestMirrorPolicy": _mirror,
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter": _http_filter,
    "envoy.config.core.v3.TypedExtensionConfig": _typed_extension,
}


def message_fields(full_name: str) -> list[FieldDescriptor]:
    found = message_class(full_name)
    assert found is not None, full_name
    return list(found.DESCRIPTOR.fields)


def copy_of(message: Message) -> Any:
    copied = type(message)()
    copied.CopyFrom(message)
    return copied
