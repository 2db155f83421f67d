"""Nothing in a bootstrap is ignored in silence: each field of its messages, set alone, is effective, refused or reported."""

import json
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.message import Message

from mosn_xds.base.errors import ConfigError
from mosn_xds.control.bootstrap import Bootstrap, load_bootstrap
from tests.support.field_samples import message_fields, new, samples

BOOTSTRAP = "envoy.config.bootstrap.v3"
CORE = "envoy.config.core.v3"
METRICS = "envoy.config.metrics.v3"

NO_EFFECT = {
    (f"{BOOTSTRAP}.RuntimeLayer", "name"): "for people",
    (f"{CORE}.ApiConfigSource", "transport_api_version"): "one is refused, the other is there already",
    (f"{CORE}.ConfigSource", "resource_api_version"): "one is refused, the other is the default",
    (f"{CORE}.ConfigSource", "ads"): "there already",
    (f"{CORE}.ConfigSource", "self"): "means ADS",
    (f"{CORE}.GrpcService.EnvoyGrpc", "cluster_name"): "others are refused",
    (
        f"{CORE}.GrpcService.GoogleGrpc",
        "channel_credentials",
    ): "local ones ask for nothing; others are told by their files",
    (f"{CORE}.GrpcService.GoogleGrpc", "call_credentials"): "told by their files",
    (f"{CORE}.GrpcService.GoogleGrpc", "stat_prefix"): "of statistics that there are not",
    (f"{METRICS}.StatsMatcher", "reject_all"): "there already",
}


def baseline() -> Any:
    message = new(f"{BOOTSTRAP}.Bootstrap")
    message.node.id, message.node.cluster = "a", "b"
    address = message.admin.address.socket_address
    address.address, address.port_value = "127.0.0.1", 1
    cluster = message.static_resources.clusters.add(name="x")
    cluster.type = 0
    cluster.load_assignment.cluster_name = "x"
    endpoint = cluster.load_assignment.endpoints.add().lb_endpoints.add().endpoint.address.socket_address
    endpoint.address, endpoint.port_value = "127.0.0.1", 2
    ads = message.dynamic_resources.ads_config
    ads.api_type = ads.transport_api_version = 2
    ads.grpc_services.add().envoy_grpc.cluster_name = "x"
    message.dynamic_resources.lds_config.ads.SetInParent()
    message.dynamic_resources.cds_config.ads.SetInParent()
    message.stats_config.SetInParent()
    message.layered_runtime.layers.add(name="l").static_layer.update({"k": 1})
    return message


def service(message: Any) -> Any:
    return message.dynamic_resources.ads_config.grpc_services[0]


def google(message: Any) -> Any:
    found = service(message).google_grpc
    found.target_uri, found.stat_prefix = "x:1", "p"
    return found


def bucket_settings(message: Any) -> Any:
    found = message.stats_config.histogram_bucket_settings.add()
    found.match.prefix = "a"
    found.buckets.append(3)
    return found


def stats_matcher(message: Any) -> Any:
    message.stats_config.stats_matcher.reject_all = True
    return message.stats_config.stats_matcher


PLACES: list[tuple[str, Callable[[Any], Any]]] = [
    (f"{BOOTSTRAP}.Bootstrap", lambda message: message),
    (f"{BOOTSTRAP}.Bootstrap.StaticResources", lambda message: message.static_resources),
    (f"{BOOTSTRAP}.Bootstrap.DynamicResources", lambda message: message.dynamic_resources),
    (f"{BOOTSTRAP}.Admin", lambda message: message.admin),
    (f"{BOOTSTRAP}.LayeredRuntime", lambda message: message.layered_runtime),
    (f"{BOOTSTRAP}.RuntimeLayer", lambda message: message.layered_runtime.layers[0]),
    (f"{METRICS}.StatsConfig", lambda message: message.stats_config),
    (f"{METRICS}.TagSpecifier", lambda message: message.stats_config.stats_tags.add(tag_name="t", regex="(a)")),
    (f"{METRICS}.HistogramBucketSettings", bucket_settings),
    (f"{METRICS}.StatsMatcher", stats_matcher),
    (f"{CORE}.ApiConfigSource", lambda message: message.dynamic_resources.ads_config),
    (f"{CORE}.ConfigSource", lambda message: message.dynamic_resources.lds_config),
    (f"{CORE}.GrpcService", service),
    (f"{CORE}.GrpcService.EnvoyGrpc", lambda message: service(message).envoy_grpc),
    (f"{CORE}.GrpcService.GoogleGrpc", google),
]


def plain(value: Any) -> Any:
    """A value to compare by, whatever its repr leaves out."""
    if isinstance(value, Message):
        return value.SerializeToString(deterministic=True)
    if is_dataclass(value) and not isinstance(value, type):
        return [plain(getattr(value, field.name)) for field in fields(value)]
    if isinstance(value, Mapping):
        return sorted((key, plain(item)) for key, item in value.items())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return repr(value)


def effect(bootstrap: Bootstrap) -> list[Any]:
    """What follows from it: all but the message itself, and what was reported."""
    names = [field.name for field in fields(bootstrap) if field.name not in ("message", "unread")]
    return [plain(getattr(bootstrap, name)) for name in names]


def load(message: Any) -> Bootstrap:
    return load_bootstrap(None, json.dumps(json_format.MessageToDict(message, preserving_proto_field_name=True)))


def is_told(find: Callable[[Any], Any], field: Any, before: list[Any]) -> bool:
    silent = False
    for setter in samples(field):
        message = baseline()
        setter(find(message))
        try:
            found = load(message)
        except ConfigError:
            continue
        if effect(found) != before or any(field.name in path for path in found.unread):
            return True
        silent = True
    return not silent


@pytest.mark.parametrize(("full_name", "find"), PLACES, ids=[name.rpartition(".")[2] for name, _ in PLACES])
def test_a_field_of_the_bootstrap_has_an_effect_or_is_named(
    full_name: str, find: Callable[[Any], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # samples of paths are opened
    message = baseline()
    find(message)
    before = effect(load(message))
    silent = {field.name for field in message_fields(full_name) if not is_told(find, field, before)}
    assert {name for name in silent if (full_name, name) not in NO_EFFECT} == set()
