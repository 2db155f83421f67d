"""Message classes by type URL, and what an Any holds."""

import pytest
from google.protobuf import any_pb2, wrappers_pb2

from mosn_xds.base.errors import ConfigError
from mosn_xds.xds.messages import config_json, message_class, parse_json, type_label, unpack
from tests.support.field_samples import new

FAULT = "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault"


def typed_struct(package: str, type_url: str, value: dict[str, object]) -> any_pb2.Any:
    struct = new(f"{package}.TypedStruct")
    struct.type_url = type_url
    struct.value.update(value)
    packed = any_pb2.Any()
    packed.Pack(struct)
    return packed


@pytest.mark.parametrize(
    "name",
    [
        "envoy.config.cluster.v3.Cluster",
        "envoy.config.cluster.v3.Cluster.LbSubsetConfig",
        "xds.type.v3.TypedStruct",
        "istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig",
        "stats.PluginConfig",
        "io.istio.http.peer_metadata.Config",
    ],
)
def test_a_known_type_has_a_class(name: str) -> None:
    found = message_class(f"type.googleapis.com/{name}")
    assert found is not None and found.DESCRIPTOR.full_name == name


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("config.cluster.v3.Cluster", "Cluster"),
        ("config.route.v3.RouteConfiguration", "RouteConfiguration"),
        ("extensions.transport_sockets.tls.v3.Secret", "Secret"),
        ("extensions.filters.network.generic_proxy.v3.RouteConfiguration", "generic_proxy.RouteConfiguration"),
        ("extensions.filters.network.thrift_proxy.v3.RouteConfiguration", "thrift_proxy.RouteConfiguration"),
        (
            "extensions.filters.network.dubbo_proxy.v3.MultipleRouteConfiguration",
            "dubbo_proxy.MultipleRouteConfiguration",
        ),
    ],
)
def test_a_filters_own_types_are_told_apart_from_others_of_their_name(name: str, label: str) -> None:
    assert type_label(f"type.googleapis.com/envoy.{name}") == label


@pytest.mark.parametrize(
    "name",
    ["acme.Unheard", "envoy.__main__.Main", "envoy.config.nowhere.v3.X", "envoy", "", "os.path.join", "envoy..X"],
)
def test_an_unknown_type_has_none(name: str) -> None:
    assert message_class(name) is None


def test_the_alpn_config_of_istio_reads_its_wire_form() -> None:
    config = new("istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig")
    raw = bytes.fromhex("0a060802120268 32".replace(" ", ""))  # alpn_override {upstream_protocol: HTTP2, "h2"}
    config.ParseFromString(raw)
    assert config.alpn_override[0].upstream_protocol == 2
    assert list(config.alpn_override[0].alpn_override) == ["h2"]


@pytest.mark.parametrize("package", ["udpa.type.v1", "xds.type.v3"])
def test_a_typed_struct_becomes_the_message_it_stands_for(package: str) -> None:
    found = unpack(typed_struct(package, FAULT, {"abort": {"http_status": 503.0, "percentage": {"numerator": 7}}}))
    assert found.type_name == "envoy.extensions.filters.http.fault.v3.HTTPFault"
    assert found.message is not None
    assert found.message.abort.http_status == 503  # type: ignore[attr-defined]
    assert found.unknown_keys == ()


def test_unknown_keys_of_a_typed_struct_are_left_out_and_named() -> None:
    found = unpack(
        typed_struct(
            "udpa.type.v1", FAULT, {"abort": {"http_status": 503, "zz": 1}, "headers": [{"name": "a", "y": 2}]}
        )
    )
    assert found.unknown_keys == ("abort.zz", "headers[0].y")
    assert found.message is not None
    assert found.message.headers[0].name == "a"  # type: ignore[attr-defined]


def test_a_value_that_does_not_fit_is_refused_with_its_path() -> None:
    with pytest.raises(ConfigError) as caught:
        unpack(typed_struct("udpa.type.v1", FAULT, {"abort": {"http_status": "x"}}))
    assert caught.value.path == "abort.http_status"
    assert caught.value.reason.startswith(
        "Unable to parse JSON as proto (INVALID_ARGUMENT: invalid JSON in envoy.extensions.filters.http.fault.v3.HTTPFault @ "
        "abort.http_status: "
    )


def test_an_any_without_its_value_is_refused() -> None:
    found = message_class("envoy.config.core.v3.TypedExtensionConfig")
    assert found is not None
    with pytest.raises(ConfigError) as caught:
        parse_json(found, {"typed_config": {"@type": "type.googleapis.com/google.protobuf.Struct"}})
    assert "an Any with a type that is JSON itself has no 'value'" in caught.value.reason


def test_a_type_that_nobody_knows_is_kept_as_unknown() -> None:
    found = unpack(typed_struct("udpa.type.v1", "type.googleapis.com/acme.Unheard", {"a": 1}))
    assert found.message is None and found.type_name == "acme.Unheard"


def test_bytes_that_are_not_the_message_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"Unable to unpack as envoy\.extensions.filters\.http\.fault\.v3\.HTTPFault"):
        unpack(any_pb2.Any(type_url=FAULT, value=b"\xff\xff"))


def test_a_config_is_json_for_those_who_want_it_so() -> None:
    assert config_json(typed_struct("xds.type.v3", "acme.Unheard", {"greeting": "hello"})) == b'{"greeting": "hello"}'
    assert config_json(any_pb2.Any(type_url="type.googleapis.com/acme.Unheard", value=b"x")) is None
    packed = any_pb2.Any()
    packed.Pack(wrappers_pb2.StringValue(value="x"))
    assert config_json(packed) == b'"x"'


def test_unknown_keys_inside_an_any_are_found() -> None:
    bootstrap = message_class("envoy.config.bootstrap.v3.Bootstrap")
    assert bootstrap is not None
    message_class(FAULT)
    _, unknown = parse_json(
        bootstrap, {"bootstrap_extensions": [{"name": "x", "typed_config": {"@type": FAULT, "zz": 1}}]}
    )
    assert unknown == ("bootstrap_extensions[0].typed_config.zz",)
