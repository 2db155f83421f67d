"""Small messages of envoy.config.core.v3 and envoy.type.v3 that many translators meet."""

import socket
from typing import Any

import msgspec
from google.protobuf.message import Message

from mosn_xds.control.translate.context import Context
from mosn_xds.control.translate.model import ADS, DEFAULT_FETCH_TIMEOUT_S, Source, SourceKind
from mosn_xds.control.translate.take import Take
from mosn_xds.spec.common import Address, CidrRange, Fraction, SocketOption, TcpKeepalive

_DENOMINATORS = (100, 10_000, 1_000_000)
_UDP = 1
_UNIX_PATH_LIMIT_BYTES = 107


def literal_ip(text: str) -> str | None:
    """The canonical form of a literal IP address; None for anything else."""
    try:
        if ":" not in text:
            socket.inet_pton(socket.AF_INET, text)
            return text
        return socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, text))
    except (OSError, ValueError):  # ValueError: a NUL inside
        return None


def take_address(parent: Take, name: str, hint: str = "") -> Address:
    """core.Address in the field `name`, which must be a literal IP with a port, or a pipe.

    Raises ConfigError, with `hint` added to what Envoy says about a name that is no IP.
    """
    take = parent.child(name)
    if take is None:
        raise parent.error(name, "address is necessary")
    return read_address(take, hint)


def read_address(take: Take, hint: str = "") -> Address:
    pipe = take.child("pipe")
    if pipe is not None:
        path = pipe.text("path")
        if len(path.encode()) > _UNIX_PATH_LIMIT_BYTES:
            raise pipe.error("path", f'Path "{path}" exceeds maximum UNIX domain socket path size of 108.')
        if pipe.has("mode"):
            pipe.ignore("mode", "the mode of the directory decides")
        return Address(path if path.startswith(("/", "@", ".")) else f"./{path}")
    sock = take.child("socket_address")
    if sock is None:
        kind = take.one_of("envoy_internal_address")
        raise take.error(kind or "", "internal addresses are not supported", "only socket_address and pipe are")
    return read_socket_address(sock, hint)


def read_socket_address(sock: Take, hint: str = "") -> Address:
    text = sock.text("address")
    if sock.integer("protocol") == _UDP:
        raise sock.error("protocol", "UDP is not supported")
    if sock.has("named_port"):
        raise sock.error("named_port", "IP resolver can't handle port specifier type 4", "give port_value")
    host = literal_ip(text)
    if host is None:
        raise sock.error("address", f"malformed IP address: {text}{hint}")
    return Address(host, sock.integer("port_value"))


def take_cidr(take: Take) -> CidrRange:
    """core.CidrRange; a length beyond the address's bits means all of them. Raises ConfigError for what is no IP."""
    text = take.text("address_prefix")
    prefix = literal_ip(text)
    if prefix is None:
        raise take.error("address_prefix", f"malformed IP address: {text}")
    return CidrRange(prefix, min(take.wrapped_integer("prefix_len") or 0, 128 if ":" in prefix else 32))


def take_percent(take: Take | None) -> Fraction | None:
    """type.FractionalPercent; None when absent."""
    if take is None:
        return None
    numerator = take.integer("numerator")
    return Fraction(numerator, take.choice("denominator", _DENOMINATORS))


def take_runtime_percent(take: Take | None, context: Context) -> Fraction | None:
    """core.RuntimeFractionalPercent: what the static runtime says, else the default; None when absent."""
    if take is None:
        return None
    default = take_percent(take.child("default_value"))
    override = context.options.runtime.get(take.text("runtime_key"))
    if isinstance(override, int | float) and not isinstance(override, bool):
        return Fraction(int(override))
    if isinstance(override, dict):
        denominator = {"HUNDRED": 100, "TEN_THOUSAND": 10_000, "MILLION": 1_000_000}.get(
            str(override.get("denominator", "HUNDRED")), 100
        )
        return Fraction(int(override.get("numerator", 0)), denominator)
    return default


def take_runtime_number(take: Take | None, context: Context) -> float | None:
    """core.RuntimeDouble, RuntimeUInt32 or RuntimePercent; None when absent."""
    if take is None:
        return None
    override = context.options.runtime.get(take.text("runtime_key"))
    default = take.left.pop("default_value", 0)
    if isinstance(override, int | float) and not isinstance(override, bool):
        return override
    number: float = getattr(default, "value", default)
    return number


def take_runtime_flag(take: Take | None, context: Context) -> bool | None:
    """core.RuntimeFeatureFlag; None when absent."""
    if take is None:
        return None
    override = context.options.runtime.get(take.text("runtime_key"))
    default = bool(take.wrapped_flag("default_value"))
    return override if isinstance(override, bool) else default


def take_keepalive(take: Take | None) -> TcpKeepalive | None:
    """core.TcpKeepalive: present but empty means the kernel's values."""
    if take is None:
        return None
    return TcpKeepalive(
        take.wrapped_integer("keepalive_probes"),
        take.wrapped_integer("keepalive_time"),
        take.wrapped_integer("keepalive_interval"),
    )


_LISTENING = 2


def take_socket_options(parent: Take, name: str) -> tuple[SocketOption, ...]:
    """Repeated core.SocketOption, of those states that a socket passes before it works."""
    found = []
    for take in parent.children(name):
        take.skip("description")
        if take.integer("state") == _LISTENING:
            take.ignore("state", "options are set before the bind")
        if take.has("type"):
            take.ignore("type")
        value: int | bytes = take.raw("buf_value") if take.has("buf_value") else take.integer("int_value")
        found.append(SocketOption(take.integer("level"), take.integer("name"), value))
    return tuple(found)


def take_source(take: Take | None) -> tuple[Source, float]:
    """core.ConfigSource, and its initial_fetch_timeout in seconds."""
    if take is None:
        return ADS, DEFAULT_FETCH_TIMEOUT_S
    timeout_s = take.duration("initial_fetch_timeout")
    refuse_version_2(take, "resource_api_version")
    return _source(take), DEFAULT_FETCH_TIMEOUT_S if timeout_s is None else timeout_s


_API_V2 = 1


def refuse_version_2(take: Take, name: str) -> None:
    """core.ApiVersion. Raises ConfigError for the one that nobody speaks any more."""
    if take.integer(name) == _API_V2:
        raise take.error(name, "the xDS API version 2 is gone", "use V3")


_API_TYPES = {2: SourceKind.GRPC, 3: SourceKind.DELTA_GRPC, 5: SourceKind.ADS, 6: SourceKind.ADS}


def _source(take: Take) -> Source:
    if take.has("ads") or take.has("self"):
        take.skip("ads", "self")
        return ADS
    path = take.text("path")
    files = take.child("path_config_source")
    if files is not None:
        path = files.text("path")
    if path:
        return Source(SourceKind.PATH, path=path)
    api = take.child("api_config_source")
    if api is None:
        raise take.error("", "a config source is required", "ads, api_config_source or path_config_source")
    kind = _API_TYPES.get(api.integer("api_type"))
    if kind is None:
        raise api.error("api_type", "only GRPC and DELTA_GRPC are supported")
    refuse_version_2(api, "transport_api_version")
    services = api.children("grpc_services")
    if len(services) != 1:
        raise api.error("grpc_services", "exactly one gRPC service is needed")
    target = services[0].child("envoy_grpc")
    if target is None:
        raise services[0].error("", "only envoy_grpc is supported")
    return Source(kind, target.text("cluster_name"), "", api.flag("set_node_on_first_message_only"))


def struct_value(value: Any) -> Any:
    """A google.protobuf.Value as plain Python; integral numbers are ints."""
    match value.WhichOneof("kind"):
        case "string_value":
            return value.string_value
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() else number
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return struct_dict(value.struct_value)
        case "list_value":
            return [struct_value(item) for item in value.list_value.values]
        case _:
            return None


def struct_dict(struct: Any) -> dict[str, Any]:
    """A google.protobuf.Struct as plain Python, keys sorted."""
    fields = struct.fields
    return {key: struct_value(fields[key]) for key in sorted(fields)}


def take_metadata(take: Take | None) -> bytes:
    """core.Metadata's filter_metadata as JSON, empty for none."""
    if take is None:
        return b""
    fields = take.mapping("filter_metadata")
    if not fields:
        return b""
    return msgspec.json.encode({key: struct_dict(fields[key]) for key in sorted(fields)})


def raw_of(message: Message) -> bytes:
    """Bytes that stand for the message in digests."""
    return message.SerializeToString(deterministic=True)
