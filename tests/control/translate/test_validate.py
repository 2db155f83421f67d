"""The validation rules of the protos, in Envoy's words. (What Envoy itself says is compared in test_envoy_texts.)"""

from typing import Any

import pytest

from mosn_xds.base.errors import ConfigError
from mosn_xds.control.translate.validate import Validator
from tests.support.field_samples import new


@pytest.fixture(scope="module")
def validator() -> Validator:
    return Validator()


def complaint(validator: Validator, message: Any) -> tuple[str, str]:
    with pytest.raises(ConfigError) as caught:
        validator.validate(message)
    return caught.value.path, caught.value.reason


def test_the_first_failure_is_told_with_its_way_down(validator: Validator) -> None:
    table = new("envoy.config.route.v3.RouteConfiguration")
    host = table.virtual_hosts.add(name="h", domains=["a"])
    host.routes.add().match.prefix = "/"
    assert complaint(validator, table) == (
        "virtual_hosts[0].routes[0]",
        "Proto constraint validation failed (RouteConfigurationValidationError.VirtualHosts[0]: embedded message failed "
        "validation | caused by VirtualHostValidationError.Routes[0]: embedded message failed validation | caused by field: "
        '"action", reason: is required)',
    )


def test_a_part_is_told_as_if_it_were_checked_in_its_whole(validator: Validator) -> None:
    host = new("envoy.config.route.v3.VirtualHost")
    host.name = "h"
    with pytest.raises(ConfigError) as caught:
        validator.validate(host, above="RouteConfigurationValidationError.VirtualHosts[7]")
    assert caught.value.reason == (
        "Proto constraint validation failed (RouteConfigurationValidationError.VirtualHosts[7]: embedded message failed "
        "validation | caused by VirtualHostValidationError.Domains: value must contain at least 1 item(s))"
    )


def test_parts_are_passed_by(validator: Validator) -> None:
    table = new("envoy.config.route.v3.RouteConfiguration")
    table.virtual_hosts.add()
    validator.validate(table, without=frozenset({2}))


@pytest.mark.parametrize(
    ("full_name", "fields", "said"),
    [
        (
            "envoy.config.core.v3.SocketAddress",
            {"port_value": 1},
            "Address: value length must be at least 1 characters",
        ),
        ("envoy.config.core.v3.HeaderValue", {"key": "a\nb"}, "Key: value does not match regex pattern"),
        ("envoy.type.v3.Percent", {"value": 101.0}, "Value: value must be inside range [0, 100]"),
        (
            "envoy.config.route.v3.RouteMatch",
            {"prefix": "/", "headers": [{}]},
            "Name: value length must be at least 1 characters",
        ),
        (
            "envoy.config.cluster.v3.Cluster",
            {"name": "a", "lb_policy": 99},
            "LbPolicy: value must be one of the defined enum values",
        ),
        ("envoy.config.core.v3.HealthCheck", {}, "Timeout: value is required"),
    ],
)
def test_rules_have_their_words(validator: Validator, full_name: str, fields: dict[str, Any], said: str) -> None:
    message = type(new(full_name))(**fields)
    assert said in complaint(validator, message)[1]


def test_empty_values_that_may_be_empty_pass(validator: Validator) -> None:
    message = new("envoy.config.route.v3.RouteAction.RequestMirrorPolicy")
    message.cluster = "a"
    validator.validate(message)  # cluster_header has a pattern, and is empty


def test_messages_without_rules_are_not_walked(validator: Validator) -> None:
    message = new("google.protobuf.Struct")
    message.update({"a": 1})
    validator.validate(message)
